/*-------------------------------------------------------------------------
 *
 * hook.c
 *	  Lifecycle hooks.
 *
 * A hook is a function of the user's that is called when a run or a batch
 * changes its status.  Hooks run in worker sessions only, which are
 * authenticated as the run's owner: whoever stops a run lends his rights to
 * nobody.  A hook for one definition may be added by whoever may replace the
 * definition; one for all runs, which would run as every owner, by a superuser.
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
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/typcache.h"

#include "batch.h"
#include "compat.h"
#include "definition.h"
#include "hook.h"
#include "shared.h"

PG_FUNCTION_INFO_V1(backfill_on);
PG_FUNCTION_INFO_V1(backfill_off);
PG_FUNCTION_INFO_V1(backfill_yield);

#define EVENT_COLUMNS 11

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
	Worker	   *worker;
	const HookEvent *event;
	List	   *hooks;
	void		(*change) (Worker *);
} Chain;

static Frame *frame = NULL;		/* the innermost hook that has not yielded */

/* ---- calling one hook ---- */

/* The event as a value of the type that the hook takes. */
static Datum
make_event(Worker *worker, const HookInfo *hook, const HookEvent *event, Oid type)
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
	values[4] = Int64GetDatum(worker->run->id);
	values[5] = CStringGetTextDatum(worker->run->name);
	nulls[6] = nulls[7] = event->batch == NULL;
	if (event->batch)
	{
		values[6] = Int64GetDatum(event->batch->number);
		values[7] = CStringGetTextDatum(batch_range_text(event->batch));
	}
	values[8] = Int64GetDatum(event->rows);
	nulls[9] = event->error == NULL;
	if (!nulls[9])
		values[9] = CStringGetTextDatum(event->error);
	values[10] = JsonbPGetDatum(worker->run->parameters);
	tuple = heap_form_tuple(desc, values, nulls);
	result = heap_copy_tuple_as_datum(tuple, desc);
	ReleaseTupleDesc(desc);
	return result;
}

/* The type of the argument of the hook; raises an error if it was dropped. */
static Oid
hook_argument(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			type;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("a hook of the backfill was dropped"),
				 errdetail("There is no function with OID %u.", function),
				 errhint("Remove it with backfill_off; the view backfill_hooks shows it.")));
	type = ((Form_pg_proc) GETSTRUCT(tuple))->pronargs == 1 ?
		((Form_pg_proc) GETSTRUCT(tuple))->proargtypes.values[0] : InvalidOid;
	ReleaseSysCache(tuple);
	return type;
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
call_hook(Worker *worker, const HookInfo *hook, const HookEvent *event)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	function;
	ErrorContextCallback callback;

	callback.callback = hook_error_callback;
	callback.arg = unconstify(HookInfo *, hook);
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	PushActiveSnapshot(GetTransactionSnapshot());
	InitFunctionCallInfoData(*fcinfo, &function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = make_event(worker, hook, event, hook_argument(hook->function));
	fcinfo->args[0].isnull = false;
	if (!compat_may_execute(hook->function, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(hook->function));
	fmgr_info(hook->function, &function);
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
hook_wanted(Worker *worker, const char *object, const char *status)
{
	HookEvent	event = {.object = object, .status = status};
	ListCell   *lc;

	foreach(lc, worker->hooks)
	{
		if (matches(lfirst(lc), NULL, &event))
			return true;
	}
	return false;
}

/* The hooks of one phase, in their order. */
static List *
select_hooks(Worker *worker, const char *phase, const HookEvent *event)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, worker->hooks)
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
	Worker	   *worker = chain->worker;
	int			nest = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	QueryCancelHoldoffCount = worker->saved_holdoff;
	worker->in_hook = false;
	chain->change(worker);
	worker->in_hook = true;
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
	call_hook(chain->worker, list_nth(chain->hooks, index), chain->event);
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
enter_hooks(Worker *worker)
{
	int			nest = worker_enter_user_code(worker);

	/* what is called may be cancelled, also where our bookkeeping may not */
	worker->saved_holdoff = QueryCancelHoldoffCount;
	QueryCancelHoldoffCount = 0;
	worker->in_hook = true;
	if (worker->settings.statement_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, (int) worker->settings.statement_timeout);
	return nest;
}

static void
leave_hooks(Worker *worker, int nest)
{
	if (worker->settings.statement_timeout > 0)
		disable_timeout(STATEMENT_TIMEOUT, false);
	AtEOXact_GUC(false, nest);
	QueryCancelHoldoffCount = worker->saved_holdoff;
	worker->in_hook = false;
	if (GetUserId() != worker->userid)
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
hook_change(Worker *worker, const HookEvent *event, void (*change) (Worker *))
{
	Chain		chain = {
		.worker = worker,
		.event = event,
		.change = change
	};
	ListCell   *lc;
	int			nest;

	if (worker->hooks_off || !hook_wanted(worker, event->object, event->status))
	{
		change(worker);
		return;
	}
	nest = enter_hooks(worker);
	foreach(lc, select_hooks(worker, "before", event))
		call_hook(worker, lfirst(lc), event);
	chain.hooks = select_hooks(worker, "around", event);
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
	leave_hooks(worker, nest);
}

/* What call_one_after has to call. */
static const HookInfo *after_hook = NULL;
static const HookEvent *after_event = NULL;

static void
call_one_after(Worker *worker)
{
	int			nest;

	worker_begin(worker);
	nest = enter_hooks(worker);
	call_hook(worker, after_hook, after_event);
	AfterTriggerFireDeferred();
	leave_hooks(worker, nest);
	worker_commit(worker);
}

/* Call the "after" hooks for the event, which is committed. */
void
hook_after(Worker *worker, const HookEvent *event)
{
	ListCell   *lc;

	if (worker->hooks == NIL)
		return;
	foreach(lc, select_hooks(worker, "after", event))
	{
		ErrorData  *error;

		after_hook = lfirst(lc);
		after_event = event;
		error = worker_try(worker, call_one_after);
		worker->in_hook = false;
		if (error)
			hook_record_error(worker, event->batch,
							  psprintf("hook \"after %s %s\"", event->object, event->status),
							  error);
	}
}

/* What put_down_error has to put down. */
static EventInfo error_event;

static void
put_down_error(Worker *worker)
{
	CatalogSession session;

	worker_begin(worker);
	catalog_begin(&session);
	catalog_add_event(&session, worker->run, &error_event);
	catalog_end(&session);
	worker_commit(worker);
}

/* In a transaction of its own: put the error of a hook down as an event. */
void
hook_record_error(Worker *worker, const BatchInfo *batch, const char *what,
				  const ErrorData *error)
{
	error_event = (EventInfo) {
		.kind = "hook",
		.batch = batch,
		.sqlstate = unpack_sql_state(error->sqlerrcode),
		.reason = psprintf("%s: %s", what, error->message)
	};
	(void) worker_try_uncancelled(worker, put_down_error);
}

/*
 * As worker_try_uncancelled, for a function that makes a change which no hook
 * can prevent: if one fails, that is put down, and the change is made without
 * them.
 */
ErrorData *
hook_try(Worker *worker, void (*function) (Worker *))
{
	ErrorData  *error = worker_try_uncancelled(worker, function);

	if (error == NULL || !worker->in_hook)
		return error;
	worker->in_hook = false;
	hook_record_error(worker, worker->batch, "a hook was overruled", error);
	worker->hooks_off = true;
	error = worker_try_uncancelled(worker, function);
	worker->hooks_off = false;
	return error;
}

/* ---- the batch that begins ---- */

static void
no_change(Worker *worker)
{
}

/*
 * The event of the batch in hand changing to the status.  It outlives the batch
 * in the worker's loop context.
 */
HookEvent
hook_batch_event(Worker *worker, const char *status, const char *error)
{
	HookEvent	event = {
		.object = "batch",
		.status = status,
		.previous_status = strcmp(status, "running") == 0 ? "pending" : "running",
		.rows = worker->batch->rows_scanned,
		.error = error
	};
	BatchInfo  *batch;
	MemoryContext old;

	if (worker->hooks == NIL)
		return event;
	old = MemoryContextSwitchTo(worker->loop_context);
	batch = palloc(sizeof(BatchInfo));
	*batch = *worker->batch;
	batch->start_key = DatumGetArrayTypePCopy(PointerGetDatum(batch->start_key));
	batch->end_key = DatumGetArrayTypePCopy(PointerGetDatum(batch->end_key));
	event.batch = batch;
	MemoryContextSwitchTo(old);
	return event;
}

/* In a transaction of its own: the hooks that may prevent the batch in hand. */
static void
announce_batch(Worker *worker)
{
	HookEvent	event = hook_batch_event(worker, "running", NULL);

	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	hook_change(worker, &event, no_change);
	worker_commit(worker);
	worker->batch->announced = true;
}

/*
 * The batch in hand has been claimed and is about to run: call its hooks.
 * Returns the error that prevents it, or NULL.
 */
ErrorData *
hook_announce_batch(Worker *worker)
{
	HookEvent	event = hook_batch_event(worker, "running", NULL);
	ErrorData  *error;

	worker->processed = -1;
	error = worker_try(worker, announce_batch);

	if (error == NULL)
		hook_after(worker, &event);
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
	if (userid != mine->chain->worker->userid || sec_context != 0)
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

/* The words of an event, such as "after run completed". */
static void
parse_event(const char *text, HookInfo *hook)
{
	static const char *const phases[] = {"before", "around", "after"};
	static const char *const run_statuses[] = {
		"pending", "enqueued", "running", "paused", "completed", "failed", "stopped", NULL
	};
	static const char *const batch_statuses[] = {
		"pending", "running", "completed", "failed", "stopped", NULL
	};
	char	   *words[4] = {NULL};
	int			n = 0;
	bool		ok = false;
	char	   *copy = pstrdup(text);
	const char *const *statuses;

	for (char *word = strtok(copy, " _\t\n"); word && n < 4; word = strtok(NULL, " _\t\n"))
		words[n++] = asc_tolower(word, strlen(word));
	if (n == 3)
	{
		for (int i = 0; i < lengthof(phases); i++)
			ok = ok || strcmp(words[0], phases[i]) == 0;
		ok = ok && (strcmp(words[1], "run") == 0 || strcmp(words[1], "batch") == 0);
	}
	if (ok)
	{
		statuses = strcmp(words[1], "run") == 0 ? run_statuses : batch_statuses;
		ok = false;
		for (; *statuses; statuses++)
			ok = ok || strcmp(words[2], *statuses) == 0;
	}
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized backfill event \"%s\"", text),
				 errdetail("An event is \"before\", \"around\" or \"after\", then \"run\" or \"batch\", then the status that it changes to. A batch is never \"enqueued\" or \"paused\"."),
				 errhint("Write for example \"after run completed\".")));
	hook->phase = words[0];
	hook->object = words[1];
	hook->status = words[2];
}

/* Raises an error unless the function can be a hook. */
static void
check_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	Oid			type;
	bool		ok;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	type = form->pronargs == 1 ? form->proargtypes.values[0] : InvalidOid;
	ok = form->prokind == PROKIND_FUNCTION && !form->proretset && OidIsValid(type) &&
		get_typtype(type) == TYPTYPE_COMPOSITE &&
		getExtensionOfObject(TypeRelationId, type) == get_extension_oid("backfill", true) &&
		strcmp(get_rel_name(get_typ_typrelid(type)), "backfill_event") == 0;
	ReleaseSysCache(tuple);
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s cannot be a hook", format_procedure(function)),
				 errdetail("A hook is a function of one argument of the type backfill_event that returns no set.")));
	if (!compat_may_execute(function, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
}

/* Raises an error unless the caller may add hooks there. */
static void
check_right(const char *name)
{
	CatalogSession session;
	DefinitionInfo *def;

	if (name == NULL)
	{
		if (!superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for hooks of all backfills"),
					 errdetail("They are run by the owners of all runs, with their rights: only superusers may have them."),
					 errhint("Name the definition that the hook is for.")));
		return;
	}
	catalog_begin(&session);
	def = definition_get(&session, name);
	catalog_end(&session);
	definition_check_replace(def);
}

/* The arguments of backfill_on and backfill_off, checked but for the function. */
static char *
read_arguments(FunctionCallInfo fcinfo, HookInfo *hook)
{
	char	   *name = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the event and the hook cannot be null")));
	parse_event(text_to_cstring(PG_GETARG_TEXT_PP(0)), hook);
	hook->function = PG_GETARG_OID(1);
	check_right(name);
	return name;
}

/* backfill_on(event, hook, name) */
Datum
backfill_on(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	HookInfo	hook;
	char	   *name;
	Oid			caller = GetUserId();

	PreventCommandDuringRecovery("backfill_on()");
	name = read_arguments(fcinfo, &hook);
	check_function(hook.function);
	catalog_begin(&session);
	if (name && !catalog_lock_definition(&session, name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill definition \"%s\" does not exist", name)));
	if (!catalog_add_hook(&session, &hook, name, caller))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("function %s is a hook for that event already",
						format_procedure(hook.function))));
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_VOID();
}

/* backfill_off(event, hook, name) */
Datum
backfill_off(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	HookInfo	hook;
	char	   *name;

	PreventCommandDuringRecovery("backfill_off()");
	name = read_arguments(fcinfo, &hook);
	catalog_begin(&session);
	if (!catalog_delete_hook(&session, &hook, name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no such hook of a backfill"),
				 errhint("The view backfill_hooks shows the hooks.")));
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_VOID();
}
