/*-------------------------------------------------------------------------
 *
 * tally.c
 *	  How many rows are written into which table: by the statement, and elsewhere.
 *
 * What the statement itself writes, the instruments of its plans have counted.
 * What triggers, foreign keys and functions write in their turn are queries of
 * their own, nested in the statement: a hook of the executor gives these
 * instruments, too, and another reads them when they end.  A query is the
 * statement's own if it has the statement's text, the very same one in memory.
 *
 * The server's statistics know it as well, but they are not transactional: what
 * is rolled back, also after an error, would stay counted.
 *
 * What a subtransaction has written that was rolled back in the meantime, as by
 * a function that catches an error, is not counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "rehearsal/tally.h"

/* What is watched. */
typedef struct Tally
{
	const char *text;			/* of the statement */
	MemoryContext context;		/* of the counts */
	List	   *counts;			/* TallyCount */
} Tally;

/* What is watched at the moment, or NULL; set by tally_elsewhere alone. */
static Tally *watched = NULL;

static ExecutorStart_hook_type next_executor_start = NULL;
static ExecutorEnd_hook_type next_executor_end = NULL;

/* ---- counting ---- */

/* Add rows to the count for the operation on the table. */
static void
add_count(List **counts, CmdType operation, Oid relid, double rows, SubTransactionId subid)
{
	TallyCount *count;
	ListCell   *lc;

	if (rows <= 0)
		return;
	foreach(lc, *counts)
	{
		count = lfirst(lc);
		if (count->operation == operation && count->relid == relid && count->subid == subid)
		{
			count->rows += rows;
			return;
		}
	}
	count = palloc(sizeof(TallyCount));
	count->operation = operation;
	count->relid = relid;
	count->rows = rows;
	count->subid = subid;
	*counts = lappend(*counts, count);
}

/* Collect what each part of a plan that has been executed has written. */
static bool
collect_counts(PlanState *node, void *context)
{
	List	  **counts = (List **) context;

	if (IsA(node, ModifyTableState))
	{
		ModifyTableState *modify = (ModifyTableState *) node;
		ResultRelInfo *target = modify->rootResultRelInfo ?
			modify->rootResultRelInfo : modify->resultRelInfo;
		Oid			relid = RelationGetRelid(target->ri_RelationDesc);
		SubTransactionId subid = GetCurrentSubTransactionId();
		CompatNodeInstrumentation *source = outerPlanState(node)->instrument;

		InstrEndLoop(source);
		if (modify->operation == CMD_MERGE)
		{
			add_count(counts, CMD_INSERT, relid, modify->mt_merge_inserted, subid);
			add_count(counts, CMD_UPDATE, relid, modify->mt_merge_updated, subid);
			add_count(counts, CMD_DELETE, relid, modify->mt_merge_deleted, subid);
		}
		else
		{
			/* rows that met another one ON CONFLICT are told apart */
			double		conflicts = modify->operation == CMD_INSERT && node->instrument ?
				node->instrument->ntuples2 : 0;

			add_count(counts, modify->operation, relid, source->ntuples - conflicts, subid);
			if (((ModifyTable *) node->plan)->onConflictAction == ONCONFLICT_UPDATE)
				add_count(counts, CMD_UPDATE, relid, conflicts, subid);
		}
	}
	return planstate_tree_walker(node, collect_counts, context);
}

/*
 * Add what a plan that has been executed with instruments has written to the
 * counts, TallyCount, in the current memory context.
 */
List *
tally_plan(PlanState *plan, List *counts)
{
	(void) collect_counts(plan, &counts);
	return counts;
}

/* ---- what is nested ---- */

/* Whether the query is nested in what is watched, and writes. */
static bool
is_elsewhere(QueryDesc *desc)
{
	return watched && desc->sourceText != watched->text &&
		(desc->operation != CMD_SELECT || desc->plannedstmt->hasModifyingCTE);
}

static void
give_instruments(QueryDesc *desc, int eflags)
{
	if (is_elsewhere(desc) && !(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		desc->instrument_options |= INSTRUMENT_ROWS;
	if (next_executor_start)
		next_executor_start(desc, eflags);
	else
		standard_ExecutorStart(desc, eflags);
}

static void
read_instruments(QueryDesc *desc)
{
	if (is_elsewhere(desc) && (desc->instrument_options & INSTRUMENT_ROWS) && desc->planstate)
	{
		MemoryContext old = MemoryContextSwitchTo(watched->context);

		watched->counts = tally_plan(desc->planstate, watched->counts);
		MemoryContextSwitchTo(old);
	}
	if (next_executor_end)
		next_executor_end(desc);
	else
		standard_ExecutorEnd(desc);
}

/* A subtransaction has ended: its counts go to the one above, or are void. */
static void
end_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
				   void *arg)
{
	ListCell   *lc;

	if (watched == NULL || (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	foreach(lc, watched->counts)
	{
		TallyCount *count = lfirst(lc);

		if (count->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			count->subid = parent;
		else
			count->rows = 0;
	}
}

/* Have the executor tell us of queries, from now on, in this process. */
static void
install_hooks(void)
{
	static bool installed = false;

	if (installed)
		return;
	next_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = give_instruments;
	next_executor_end = ExecutorEnd_hook;
	ExecutorEnd_hook = read_instruments;
	RegisterSubXactCallback(end_subtransaction, NULL);
	installed = true;
}

/*
 * Call the function, which runs the statement with that text, and add to the
 * counts, TallyCount, what is written meanwhile by others than the statement.
 * They are in the current memory context, which outlives the function's.
 */
List *
tally_elsewhere(const char *text, TallyFunction function, void *arg, List *counts)
{
	Tally		tally = {.text = text, .context = CurrentMemoryContext};
	Tally	   *outer = watched;
	ListCell   *lc;

	install_hooks();
	watched = &tally;
	PG_TRY();
	{
		function(arg);
	}
	PG_FINALLY();
	{
		watched = outer;
	}
	PG_END_TRY();

	/* which subtransaction it was does not matter any more */
	MemoryContextSwitchTo(tally.context);
	foreach(lc, tally.counts)
	{
		TallyCount *count = lfirst(lc);

		add_count(&counts, count->operation, count->relid, count->rows, InvalidSubTransactionId);
	}
	return counts;
}
