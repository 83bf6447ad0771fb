/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  One execution of the statement that is looked at closely, and plans.
 *
 * The plans are those that a batch would use.  They are shown as EXPLAIN shows
 * them, by the server's own code; or executed with instruments, which tell how
 * many rows went into which table, and what each trigger cost.
 *
 * All of it runs with the rights of the current user, the owner of the
 * definition; called in a rehearsal only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "executor/instrument.h"
#include "nodes/nodeFuncs.h"
#include "tcop/dest.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "rehearsal/plan.h"
#include "rehearsal/tally.h"
#include "walk/statement.h"

/* What goes along with the plans of one statement. */
typedef struct Trial
{
	StringInfo	out;			/* EXPLAIN's text, or NULL */
	List	   *counts;			/* TallyCount */
	List	   *scanned;		/* OIDs of tables that are read in full */
} Trial;

static ExplainState *
make_explain_state(StringInfo out, bool analyze)
{
	ExplainState *es = NewExplainState();

	es->analyze = es->timing = es->buffers = es->wal = analyze;
	es->costs = true;
	es->format = EXPLAIN_FORMAT_TEXT;
	pfree(es->str->data);
	pfree(es->str);
	es->str = out;
	return es;
}

static void
print_plan(QueryDesc *desc, StringInfo out, bool analyze)
{
	ExplainState *es = make_explain_state(out, analyze);

	ExplainBeginOutput(es);
	ExplainPrintPlan(es, desc);
	if (analyze)
		ExplainPrintTriggers(es, desc);
	ExplainEndOutput(es);
}

/* Collect the tables that a plan reads sequentially. */
static bool
collect_scanned(PlanState *node, void *context)
{
	Trial	   *trial = (Trial *) context;

	if (IsA(node, SeqScanState))
		trial->scanned = list_append_unique_oid(trial->scanned,
												RelationGetRelid(((ScanState *) node)->ss_currentRelation));
	return planstate_tree_walker(node, collect_scanned, context);
}

static QueryDesc *
make_desc(PlannedStmt *plan, const char *text, ParamListInfo params, int instruments)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	return CreateQueryDesc(plan, text, GetActiveSnapshot(), InvalidSnapshot,
						   None_Receiver, params, NULL, instruments);
}

static void
explain_plan(PlannedStmt *plan, const char *text, ParamListInfo params, void *arg)
{
	Trial	   *trial = (Trial *) arg;
	QueryDesc  *desc;

	if (plan->commandType == CMD_UTILITY)
		return;
	desc = make_desc(plan, text, params, 0);
	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	print_plan(desc, trial->out, false);
	(void) collect_scanned(desc->planstate, trial);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
}

static void
run_plan(PlannedStmt *plan, const char *text, ParamListInfo params, void *arg)
{
	Trial	   *trial = (Trial *) arg;
	QueryDesc  *desc;

	/* what a rule may have made of it: NOTIFY, which nobody will hear */
	if (plan->commandType == CMD_UTILITY)
		return;
	desc = make_desc(plan, text, params, trial->out ? INSTRUMENT_ALL : INSTRUMENT_ROWS);
	ExecutorStart(desc, 0);
	compat_executor_run(desc);
	ExecutorFinish(desc);
	if (trial->out)
		print_plan(desc, trial->out, true);
	trial->counts = tally_plan(desc->planstate, trial->counts);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
}

/*
 * Append the plans of the statement, and add the tables that they read in full
 * to the list if there is one.
 */
void
plan_explain(Statement *statement, ParamListInfo params, StringInfo out, List **scanned)
{
	Trial		trial = {.out = out};

	statement_each_plan(statement, params, explain_plan, &trial);
	if (scanned)
		*scanned = list_concat_unique_oid(*scanned, trial.scanned);
}

/*
 * Run the statement, and append its plans with what was measured, if out is not
 * NULL.  Returns how many rows the statement itself has written into which table,
 * as TallyCount.
 */
List *
plan_execute(Statement *statement, ParamListInfo params, StringInfo out)
{
	Trial		trial = {.out = out};

	statement_each_plan(statement, params, run_plan, &trial);
	return trial.counts;
}
