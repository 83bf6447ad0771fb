/*-------------------------------------------------------------------------
 *
 * finish.c
 *	  The last step of a run.
 *
 * A definition may carry SQL that is run once when every batch is done and
 * verified: VALIDATE CONSTRAINT, SET NOT NULL, CREATE INDEX CONCURRENTLY.  It
 * runs in a worker, as the owner.  Each statement is one of its own at the top
 * level, as if typed into psql, so that those work which cannot run inside a
 * transaction block.  How many are done is kept with the run: in the same
 * transaction where that is possible, and right after the statement otherwise.
 * So a run that is resumed repeats only what failed.  What a statement sets
 * lasts for those that follow in the same process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
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

#include "compat.h"
#include "finish.h"
#include "graft.h"

/*
 * The statements of the text, as raw trees.  Raises an error, which points into
 * the text, if it cannot be parsed or would control transactions.
 */
List *
finish_parse(const char *text)
{
	TextContext context = {"finish", text};
	ErrorContextCallback callback;
	List	   *raws;
	ListCell   *lc;

	callback.callback = graft_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	raws = raw_parser(text, RAW_PARSE_DEFAULT);
	foreach(lc, raws)
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		if (IsA(raw->stmt, TransactionStmt))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("\"finish\" of a backfill cannot control transactions"),
					 errdetail("Each statement is a transaction of its own."),
					 errposition(pg_mbstrlen_with_len(text, Max(raw->stmt_location, 0)) + 1)));
		if (IsA(raw->stmt, CopyStmt) && ((CopyStmt *) raw->stmt)->filename == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("\"finish\" of a backfill cannot copy to or from a client"),
					 errposition(pg_mbstrlen_with_len(text, Max(raw->stmt_location, 0)) + 1)));
	}
	error_context_stack = callback.previous;
	return raws;
}

/* Name the statement in the context of an error. */
static void
finish_error_callback(void *arg)
{
	Worker	   *worker = (Worker *) arg;

	errcontext("\"finish\" of backfill run " INT64_FORMAT " \"%s\", statement %d",
			   worker->run->id, worker->run->name, worker->run->finish_step + 1);
}

/* Note that one more statement is done; the last one is the end of it. */
static void
note_step(Worker *worker, bool last)
{
	CatalogSession session;
	EventInfo	event = {
		.kind = "finish",
		.reason = psprintf("statement %d is done", worker->run->finish_step + 1)
	};

	catalog_begin(&session);
	catalog_set_finish_step(&session, worker->run->id,
							last ? FINISH_DONE : worker->run->finish_step + 1);
	catalog_add_event(&session, worker->run, &event);
	catalog_end(&session);
	ForceSyncCommit();
}

/* Whether the option CONCURRENTLY is among those of a statement. */
static bool
has_concurrently(List *options)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "concurrently") == 0)
			return defGetBoolean(option);
	}
	return false;
}

/* Whether the statement ends transactions itself, and may leave half of it done. */
static bool
ends_transactions(Node *stmt)
{
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_IndexStmt:
			return ((IndexStmt *) stmt)->concurrent;
		case T_DropStmt:
			return ((DropStmt *) stmt)->concurrent;
		case T_ReindexStmt:
			return has_concurrently(((ReindexStmt *) stmt)->params);
		case T_AlterTableStmt:
			foreach(lc, ((AlterTableStmt *) stmt)->cmds)
			{
				AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

				if (cmd->subtype == AT_DetachPartition &&
					castNode(PartitionCmd, cmd->def)->concurrent)
					return true;
			}
			return false;
		case T_VacuumStmt:
		case T_CallStmt:
		case T_DoStmt:
			return true;
		default:
			return false;
	}
}

/*
 * Whether the next statement may be tried again when it has failed: nothing of
 * it is left then.
 */
bool
finish_may_repeat(Worker *worker)
{
	List	   *raws = raw_parser(worker->run->finish, RAW_PARSE_DEFAULT);

	return worker->run->finish_step >= list_length(raws) ||
		!ends_transactions(list_nth_node(RawStmt, raws, worker->run->finish_step)->stmt);
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
run_step(Worker *worker, List *raws)
{
	RawStmt    *raw = list_nth_node(RawStmt, raws, worker->run->finish_step);
	bool		last = worker->run->finish_step + 1 == list_length(raws);

	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	worker_user_parameters(worker, true);
	check_left_index(raw->stmt);

	/* it waits for others without being in their way, and should not give up */
	if (ends_transactions(raw->stmt) && !IsA(raw->stmt, CallStmt) && !IsA(raw->stmt, DoStmt))
		SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	run_statement(raw, worker->run->finish);
	AfterTriggerFireDeferred();
	worker_user_parameters(worker, false);
	if (GetUserId() != worker->userid)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("\"finish\" of the backfill changed the current user")));

	/* a statement that ends transactions itself has ended its own by now */
	if (!catalog_lock_extension())
		proc_exit(0);
	MemoryContextSwitchTo(worker->loop_context);
	note_step(worker, last);
	worker_commit(worker);
}

/* Run the first statement that is not done.  Raises what it raises. */
void
finish_next(Worker *worker)
{
	ErrorContextCallback callback;
	List	   *raws;

	debug_query_string = worker->run->finish;
	pgstat_report_activity(STATE_RUNNING, debug_query_string);

	callback.callback = finish_error_callback;
	callback.arg = worker;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	raws = finish_parse(worker->run->finish);
	if (worker->run->finish_step < list_length(raws))
		run_step(worker, raws);
	else
	{
		worker_begin(worker);
		note_step(worker, true);
		worker_commit(worker);
	}
	error_context_stack = callback.previous;
}
