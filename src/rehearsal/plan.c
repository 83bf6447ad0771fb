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
#include "jit/jit.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "tcop/dest.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "rehearsal/plan.h"
#include "rehearsal/shorten.h"
#include "rehearsal/tally.h"
#include "walk/statement.h"

/* What goes along with the plans of one statement. */
typedef struct Trial
{
	StringInfo	out;			/* EXPLAIN's text, or NULL */
	int			lines;			/* at most so many, of each plan */
	PlanFacts  *facts;			/* or NULL */
	List	   *counts;			/* TallyCount */
} Trial;

/* ---- text ---- */

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
print_plan(QueryDesc *desc, const Trial *trial, bool analyze)
{
	ExplainState *es = make_explain_state(trial->out, analyze);
	int			from = trial->out->len;

	ExplainBeginOutput(es);
	ExplainPrintPlan(es, desc);
	shorten_plan(trial->out, from, trial->lines);
	if (analyze)
		ExplainPrintTriggers(es, desc);
	ExplainEndOutput(es);
}

/* ---- what a plan tells ---- */

static PlanScan *
find_scan(PlanFacts *facts, Oid relid)
{
	PlanScan   *scan;
	ListCell   *lc;

	foreach(lc, facts->scans)
	{
		scan = lfirst(lc);
		if (scan->relid == relid)
			return scan;
	}
	scan = palloc0(sizeof(PlanScan));
	scan->relid = relid;
	facts->scans = lappend(facts->scans, scan);
	return scan;
}

/* Note the table of a part of a plan, if it is that of a scan. */
static void
note_scan(PlanFacts *facts, PlanState *node)
{
	PlanScan   *scan;
	Oid			relid;

	switch (nodeTag(node))
	{
		case T_SeqScanState:
		case T_SampleScanState:
		case T_IndexScanState:
		case T_IndexOnlyScanState:
		case T_BitmapHeapScanState:
		case T_TidScanState:
		case T_TidRangeScanState:
		case T_ForeignScanState:
			break;
		default:
			return;
	}
	if (((ScanState *) node)->ss_currentRelation == NULL)
		return;
	relid = RelationGetRelid(((ScanState *) node)->ss_currentRelation);
	facts->relids = list_append_unique_oid(facts->relids, relid);
	if (!IsA(node, SeqScanState))
		return;
	scan = find_scan(facts, relid);
	/* what the first batch has no row for, others may have: once at least */
	scan->times = Max(scan->times, node->instrument ? Max(node->instrument->nloops, 1) : 1);
}

static bool
collect_scans(PlanState *node, void *context)
{
	note_scan((PlanFacts *) context, node);
	return planstate_tree_walker(node, collect_scans, context);
}

static void
collect_facts(QueryDesc *desc, PlanFacts *facts)
{
	PlannedStmt *plan = desc->plannedstmt;

	(void) collect_scans(desc->planstate, facts);
	facts->is_compiled = facts->is_compiled || (plan->jitFlags & PGJIT_PERFORM) != 0;
	facts->cost = Max(facts->cost, plan->planTree->total_cost);
}

/* ---- plans ---- */

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
	print_plan(desc, trial, false);
	collect_facts(desc, trial->facts);
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
	desc = make_desc(plan, text, params, trial->facts ? INSTRUMENT_ALL : INSTRUMENT_ROWS);
	ExecutorStart(desc, 0);
	compat_executor_run(desc);
	ExecutorFinish(desc);
	if (trial->facts)
	{
		print_plan(desc, trial, true);
		collect_facts(desc, trial->facts);
	}
	trial->counts = tally_plan(desc->planstate, trial->counts);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
}

/* What the plans of the statement tell, each in so many lines at most. */
PlanFacts *
plan_explain(Statement *statement, ParamListInfo params, int lines)
{
	PlanFacts  *facts = palloc0(sizeof(PlanFacts));
	StringInfoData out;
	Trial		trial = {.out = &out, .lines = lines, .facts = facts};

	initStringInfo(&out);
	statement_each_plan(statement, params, explain_plan, &trial);
	facts->text = out.data;
	return facts;
}

/*
 * Run the statement, and look closely at it, with what was measured, unless facts
 * is NULL.  Returns how many rows the statement itself has written into which table,
 * as TallyCount.
 */
List *
plan_execute(Statement *statement, ParamListInfo params, int lines, PlanFacts **facts)
{
	StringInfoData out;
	Trial		trial = {.out = &out, .lines = lines};

	initStringInfo(&out);
	if (facts)
		trial.facts = palloc0(sizeof(PlanFacts));
	statement_each_plan(statement, params, run_plan, &trial);
	if (facts)
	{
		trial.facts->text = out.data;
		*facts = trial.facts;
	}
	return trial.counts;
}
