/*-------------------------------------------------------------------------
 *
 * stage.c
 *	  What is run once in a run, before and after its batches, as it is run.
 *
 * Each statement of "prepare" and of "finish" is one of its own at the top level, as if typed into psql,
 * so that those work which cannot run inside a transaction block.  How many are
 * done is kept with the run: in the same transaction where that is possible, and
 * right after the statement otherwise.  So a run that is resumed repeats only
 * what failed.  What a statement sets lasts for those that follow in the same
 * process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "definition/stage.h"
#include "engine/session.h"
#include "engine/stage.h"
#include "store/copy.h"
#include "store/event.h"
#include "store/run.h"
#include "store/store.h"

/* A stage of the session's run. */
typedef struct Place
{
	const RunInfo *run;
	Stage		stage;
} Place;

/* Name the statement in the context of an error. */
static void
stage_error_callback(void *arg)
{
	const Place *place = (const Place *) arg;

	errcontext("\"%s\" of backfill run " INT64_FORMAT " \"%s\", statement %d",
			   stage_name(place->stage), place->run->id, place->run->name,
			   place->run->stages[place->stage].step + 1);
}

/*
 * Note that one more statement is done; the last one is the end of it.  Raises an
 * error if the run has not been where this worker thinks it is.
 */
static void
note_step(Session *session, Stage stage, bool last)
{
	const StageInfo *info = &session->run->stages[stage];
	StoreSession store;
	EventInfo	event = {.reason = psprintf("statement %d is done", info->step + 1)};

	if (stage == STAGE_PREPARE)
		event.kind = "prepare";
	else
		event.kind = "finish";
	store_begin(&store);
	if (!store_advance_stage(&store, session->run->id, stage, info,
							 last ? STAGE_DONE : info->step + 1))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("\"%s\" of backfill run " INT64_FORMAT " has changed in the meantime",
						stage_name(stage), session->run->id)));
	store_set_wait_reason(&store, session->run->id, NULL);
	store_add_event(&store, session->run, &event);
	store_end(&store);
	ForceSyncCommit();
}

/*
 * CREATE INDEX CONCURRENTLY IF NOT EXISTS is content with an index that an
 * earlier attempt has left invalid.  We are not.
 */
static void
check_left_index(Node *stmt)
{
	IndexStmt  *create = (IndexStmt *) stmt;
	Oid			table;
	Oid			index;

	if (!IsA(stmt, IndexStmt) || !create->concurrent || create->idxname == NULL)
		return;
	table = RangeVarGetRelid(create->relation, NoLock, true);
	index = OidIsValid(table) ? get_relname_relid(create->idxname, get_rel_namespace(table)) :
		InvalidOid;
	if (OidIsValid(index) && get_rel_relkind(index) == RELKIND_INDEX &&
		!get_index_isvalid(index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is not valid", create->idxname),
				 errdetail("An earlier attempt to build it was cut short."),
				 errhint("Drop it with DROP INDEX CONCURRENTLY, then call backfill_resume.")));
}

/* Run one statement at the top level. */
static void
run_statement(RawStmt *raw, const char *text)
{
	List	   *queries;
	List	   *plans;
	Portal		portal;
	QueryCompletion qc;
	bool		snapshot = analyze_requires_snapshot(raw);

	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(raw, text, NULL, 0, NULL);
	plans = pg_plan_queries(queries, text, CURSOR_OPT_PARALLEL_OK, NULL);
	if (snapshot)
		PopActiveSnapshot();

	CHECK_FOR_INTERRUPTS();
	portal = CreateNewPortal();
	portal->visible = false;
	PortalDefineQuery(portal, NULL, text, CreateCommandTag(raw->stmt), plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	InitializeQueryCompletion(&qc);
	compat_portal_run(portal, None_Receiver, &qc);
	PortalDrop(portal, false);
}

/*
 * Run the next statement.  Starts and ends its own transactions, as the
 * statement itself may.  Raises an error if it would have become somebody else.
 */
static void
run_step(Session *session, Stage stage, List *raws)
{
	const StageInfo *info = &session->run->stages[stage];
	RawStmt    *raw = list_nth_node(RawStmt, raws, info->step);
	bool		last = info->step + 1 == list_length(raws);

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	session_user_parameters(session, true);
	check_left_index(raw->stmt);

	/* it waits for others without being in their way, and should not give up */
	if (stage_ends_transactions(raw->stmt) && !IsA(raw->stmt, CallStmt) && !IsA(raw->stmt, DoStmt))
		SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	run_statement(raw, info->text);
	AfterTriggerFireDeferred();
	session_user_parameters(session, false);
	session_carry_changes(session);
	if (GetUserId() != session->userid)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("\"%s\" of the backfill changed the current user", stage_name(stage))));

	/* a statement that ends transactions itself has ended its own by now */
	XactReadOnly = false;
	if (!store_lock_extension())
		proc_exit(0);
	MemoryContextSwitchTo(session->loop_context);
	note_step(session, stage, last);
	session_commit(session);
}

/*
 * Run the first statement of the stage, which the argument points to, that is not
 * done.  Raises what it raises.
 */
void
stage_next(Session *session, void *arg)
{
	Place		place = {session->run, *(const Stage *) arg};
	const StageInfo *info = &session->run->stages[place.stage];
	ErrorContextCallback callback;
	List	   *raws;

	debug_query_string = info->text;
	pgstat_report_activity(STATE_RUNNING, debug_query_string);

	callback.callback = stage_error_callback;
	callback.arg = &place;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	raws = stage_parse(place.stage, info->text);
	if (info->step < list_length(raws))
		run_step(session, place.stage, raws);
	else
	{
		session_begin(session);
		note_step(session, place.stage, true);
		session_commit(session);
	}
	error_context_stack = callback.previous;
}
