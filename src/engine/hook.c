/*-------------------------------------------------------------------------
 *
 * hook.c
 *	  Lifecycle hooks.
 *
 * A hook is a function of the user's that is called when a run or a batch
 * changes its status.  Hooks run in worker sessions only, which are
 * authenticated as the run's owner: whoever stops a run lends his rights to
 * nobody.
 *
 * "before" and "around" run in the transaction of the change, and may prevent
 * it by an error; "around" makes the change itself by calling backfill_yield.
 * "after" runs when the change is committed, in a transaction of its own; its
 * error is put down as an event.  The hooks of a definition go before, and
 * around, those for all runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "definition/hookname.h"
#include "engine/hook.h"
#include "engine/session.h"
#include "run/access.h"
#include "store/batch.h"
#include "store/event.h"
#include "walk/key.h"

PG_FUNCTION_INFO_V1(backfill_yield);

#define EVENT_COLUMNS 12

/* An "around" hook that is being called. */
typedef struct Frame
{
	struct Chain *chain;
	int			index;			/* of the hook in the chain */
	bool		yielded;
	int			level;			/* of the transaction, when it was called */
	struct Frame *outer;
} Frame;

/* The hooks around one change. */
typedef struct Chain
{
	Session    *session;
	const HookEvent *event;
	List	   *hooks;
	SessionFunction change;
	void	   *arg;
} Chain;

static Frame *frame = NULL;		/* the innermost hook that has not yielded */

/* ---- calling one hook ---- */

/* The event as a value of the type that the hook takes. */
static Datum
make_event(Session *session, const HookInfo *hook, const HookEvent *event, Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	Datum		values[EVENT_COLUMNS];
	bool		nulls[EVENT_COLUMNS] = {false};
	HeapTuple	tuple;
	Datum		result;

	if (desc->natts != EVENT_COLUMNS)
		elog(ERROR, "type %u is not \"backfill_event\"", type);
	values[0] = CStringGetTextDatum(hook->phase);
	values[1] = CStringGetTextDatum(event->object);
	values[2] = CStringGetTextDatum(event->status);
	nulls[3] = event->previous_status == NULL;
	if (!nulls[3])
		values[3] = CStringGetTextDatum(event->previous_status);
	values[4] = Int64GetDatum(session->run->id);
	values[5] = CStringGetTextDatum(session->run->name);
	nulls[6] = nulls[7] = event->batch == NULL;
	if (event->batch)
	{
		values[6] = Int64GetDatum(event->batch->number);
		values[7] = CStringGetTextDatum(key_range_text(event->batch->start_key,
														   event->batch->start_inclusive,
														   event->batch->end_key));
	}
	values[8] = Int64GetDatum(event->rows);
	nulls[9] = event->error == NULL;
	if (!nulls[9])
		values[9] = CStringGetTextDatum(event->error);
	values[10] = JsonbPGetDatum(session->run->parameters);
	nulls[11] = session->run->stream == NULL;
	if (!nulls[11])
		values[11] = CStringGetTextDatum(session->run->stream);
	tuple = heap_form_tuple(desc, values, nulls);
	result = heap_copy_tuple_as_datum(tuple, desc);
	ReleaseTupleDesc(desc);
	return result;
}

/* The type of the argument of the hook. */
static Oid
hook_argument(Oid function)
{
	Oid		   *types;
	int			n;

	(void) get_func_signature(function, &types, &n);
	return n == 1 ? types[0] : InvalidOid;
}

/*
 * Raises an error unless whoever added the hook could add it today: a role that
 * was a member of the owner's may have kept its function.
 */
static void
check_creator(Session *session, const HookInfo *hook)
{
	if (hook->is_for_all ? superuser_arg(hook->created_by) :
		has_privs_of_role(hook->created_by, session->userid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("a hook of the backfill was added by role \"%s\", which may not add it any more",
					access_role_name(hook->created_by)),
			 errhint("Remove it with backfill_off; if it is wanted, add it again with backfill_on.")));
}

/* Name the hook in the context of an error. */
static void
hook_error_callback(void *arg)
{
	const HookInfo *hook = (const HookInfo *) arg;

	errcontext("hook \"%s %s %s\" of the backfill", hook->phase, hook->object, hook->status);
}

/* Call the hook, as the session's user.  Raises what it raises. */
static void
call_hook(Session *session, HookInfo *hook, const HookEvent *event)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	function;
	ErrorContextCallback callback;

	callback.callback = hook_error_callback;
	callback.arg = hook;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	check_creator(session, hook);
	(void) hookname_resolve(hook, session->userid);
	PushActiveSnapshot(GetTransactionSnapshot());
	InitFunctionCallInfoData(*fcinfo, &function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = make_event(session, hook, event, hook_argument(hook->callee.function));
	fcinfo->args[0].isnull = false;
	if (!compat_may_execute(hook->callee.function, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(hook->callee.function));
	fmgr_info(hook->callee.function, &function);
	(void) FunctionCallInvoke(fcinfo);
	PopActiveSnapshot();
	CommandCounterIncrement();

	error_context_stack = callback.previous;
}

/* ---- a change and its hooks ---- */

static bool
matches(const HookInfo *hook, const char *phase, const HookEvent *event)
{
	return (phase == NULL || strcmp(hook->phase, phase) == 0) &&
		strcmp(hook->object, event->object) == 0 &&
		strcmp(hook->status, event->status) == 0;
}

/* Whether the change has a hook. */
bool
hook_wanted(Session *session, const char *object, const char *status)
{
	HookEvent	event = {.object = object, .status = status};
	ListCell   *lc;

	foreach(lc, session->hooks)
	{
		if (matches(lfirst(lc), NULL, &event))
			return true;
	}
	return false;
}

/* The hooks of one phase, in their order. */
static List *
select_hooks(Session *session, const char *phase, const HookEvent *event)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, session->hooks)
	{
		if (matches(lfirst(lc), phase, event))
			result = lappend(result, lfirst(lc));
	}
	return result;
}

/*
 * The change itself, which is ours: what holds for the owner's code does not hold
 * for it, and its errors are not those of a hook.
 */
static void
make_change(Chain *chain)
{
	Session    *session = chain->session;
	int			nest = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	QueryCancelHoldoffCount = session->saved_holdoff;
	session->in_hook = false;
	chain->change(session, chain->arg);
	session->in_hook = true;
	QueryCancelHoldoffCount = 0;
	AtEOXact_GUC(false, nest);
}

/* The hooks of the chain from that index on, and within them the change. */
static void
run_chain(Chain *chain, int index)
{
	Frame		mine = {
		.chain = chain,
		.index = index,
		.level = GetCurrentTransactionNestLevel(),
		.outer = frame
	};

	if (index == list_length(chain->hooks))
	{
		make_change(chain);
		return;
	}
	frame = &mine;
	call_hook(chain->session, list_nth(chain->hooks, index), chain->event);
	frame = mine.outer;
	if (!mine.yielded)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("an \"around\" hook did not call backfill_yield()"),
				 errdetail("The change of the %s to \"%s\" was not made.",
						   chain->event->object, chain->event->status),
				 errhint("Call backfill_yield() exactly once, or use a \"before\" hook to prevent a change.")));
}

/* Start of the owner's code in a hook; returns the level for leave_hooks. */
static int
enter_hooks(Session *session)
{
	int			nest;

	session_carry_changes(session);
	nest = session_enter_user_code(session);

	/* what is called may be cancelled, also where our bookkeeping may not */
	session->saved_holdoff = QueryCancelHoldoffCount;
	QueryCancelHoldoffCount = 0;
	session->in_hook = true;
	if (session->settings.statement_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, (int) session->settings.statement_timeout);
	return nest;
}

static void
leave_hooks(Session *session, int nest)
{
	if (session->settings.statement_timeout > 0)
		disable_timeout(STATEMENT_TIMEOUT, false);
	AtEOXact_GUC(false, nest);
	QueryCancelHoldoffCount = session->saved_holdoff;
	session->in_hook = false;
	if (GetUserId() != session->userid)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a hook of the backfill changed the current user")));
}

/*
 * Make the change, which is some bookkeeping of ours, in the current
 * transaction, with the "before" and "around" hooks for the event.  Raises what
 * they raise: the transaction must then be rolled back.
 */
void
hook_change(Session *session, const HookEvent *event, SessionFunction change, void *arg)
{
	Chain		chain = {
		.session = session,
		.event = event,
		.change = change,
		.arg = arg
	};
	ListCell   *lc;
	int			nest;

	if (session->hooks_off || !hook_wanted(session, event->object, event->status))
	{
		change(session, arg);
		return;
	}
	nest = enter_hooks(session);
	foreach(lc, select_hooks(session, "before", event))
		call_hook(session, lfirst(lc), event);
	chain.hooks = select_hooks(session, "around", event);
	PG_TRY();
	{
		run_chain(&chain, 0);
	}
	PG_FINALLY();
	{
		frame = NULL;
	}
	PG_END_TRY();
	AfterTriggerFireDeferred();
	leave_hooks(session, nest);
}

/* One hook, and what it is called for. */
typedef struct AfterCall
{
	HookInfo   *hook;
	const HookEvent *event;
} AfterCall;

static void
call_one_after(Session *session, void *arg)
{
	const AfterCall *call = (const AfterCall *) arg;
	int			nest;

	session_begin(session);
	nest = enter_hooks(session);
	call_hook(session, call->hook, call->event);
	AfterTriggerFireDeferred();
	leave_hooks(session, nest);
	session_commit(session);
}

/* Call the "after" hooks for the event, which is committed. */
void
hook_after(Session *session, const HookEvent *event)
{
	ListCell   *lc;

	if (session->hooks == NIL)
		return;
	foreach(lc, select_hooks(session, "after", event))
	{
		AfterCall	call = {lfirst(lc), event};
		ErrorData  *error = session_try(session, call_one_after, &call);

		session->in_hook = false;
		if (error)
			hook_record_error(session, event->batch,
							  psprintf("hook \"after %s %s\"", event->object, event->status),
							  error);
	}
}

/* In a transaction of its own: put the error of a hook down as an event. */
void
hook_record_error(Session *session, const BatchInfo *batch, const char *what,
				  const ErrorData *error)
{
	EventInfo	event = {
		.kind = "hook",
		.batch = batch,
		.sqlstate = unpack_sql_state(error->sqlerrcode),
		.reason = psprintf("%s: %s", what, error->message)
	};

	session_note_event(session, &event);
}

/*
 * As session_try_uncancelled, for a function that makes a change which no hook
 * can prevent: if one fails, that is put down, with the batch if it is about one,
 * and the change is made without them.
 */
ErrorData *
hook_try(Session *session, SessionFunction function, void *arg, const BatchInfo *batch)
{
	ErrorData  *error = session_try_uncancelled(session, function, arg);

	if (error == NULL || !session->in_hook)
		return error;
	session->in_hook = false;
	hook_record_error(session, batch, "a hook was overruled", error);
	session->hooks_off = true;
	error = session_try_uncancelled(session, function, arg);
	session->hooks_off = false;
	return error;
}

/* ---- SQL ---- */

/* backfill_yield() */
Datum
backfill_yield(PG_FUNCTION_ARGS)
{
	Frame	   *mine = frame;
	Oid			userid;
	int			sec_context;

	if (mine == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill_yield() can only be called by an \"around\" hook"),
				 errhint("backfill_on adds hooks.")));
	if (mine->yielded)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("an \"around\" hook called backfill_yield() twice")));
	if (GetCurrentTransactionNestLevel() != mine->level)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill_yield() cannot be called in a subtransaction"),
				 errhint("Call it outside of a block with an EXCEPTION clause.")));
	GetUserIdAndSecContext(&userid, &sec_context);
	if (userid != mine->chain->session->userid || sec_context != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("backfill_yield() cannot be called with the rights of another role"),
				 errhint("Call it in a function that is not SECURITY DEFINER.")));
	mine->yielded = true;
	frame = NULL;
	run_chain(mine->chain, mine->index + 1);
	frame = mine;
	PG_RETURN_VOID();
}
