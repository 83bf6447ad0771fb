/*-------------------------------------------------------------------------
 *
 * trail.c
 *	  The pages on which a statement leaves old versions of rows behind.
 *
 * An UPDATE or DELETE hands each row that it is about to change from its plan to the
 * node that changes it, with the row's place.  That hand is watched: what runs the plan
 * node is put behind a function of ours, which notes the page.  It costs a comparison
 * for each row, where reading the rows a second time would cost as much as the scan.
 *
 * What is noted is a hint: a row may not be changed in the end, or be changed by
 * somebody else.  What triggers and functions change is not seen.
 *
 * One statement at a time is watched in a process, the user's own of a batch.  After an
 * error nothing of it runs any more, and trail_end forgets it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "storage/itemptr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "walk/trail.h"

/* Pages of one table that a batch may note: 2 GB of it. */
#define MOST_PAGES	262144

/* A plan node whose rows are noted. */
typedef struct Tap
{
	PlanState  *plan;
	ExecProcNodeMtd run;		/* what runs it really */
	ModifyTableState *change;	/* what takes its rows */
	TrailPages *pages;			/* of the last row */
} Tap;

/* Whose taps are open, or NULL. */
static Trail *followed = NULL;

/* Start an empty trail, in the context, which is to be reset with it. */
void
trail_begin(Trail *trail, MemoryContext context)
{
	trail->context = context;
	trail->pages = NIL;
	trail->taps = NIL;
}

static TrailPages *
pages_of(Trail *trail, Oid relid)
{
	ListCell   *lc;
	TrailPages *pages;
	MemoryContext old;

	foreach(lc, trail->pages)
	{
		if (((TrailPages *) lfirst(lc))->relid == relid)
			return lfirst(lc);
	}
	old = MemoryContextSwitchTo(trail->context);
	pages = palloc0(sizeof(TrailPages));
	pages->relid = relid;
	pages->size = 64;
	pages->blocks = palloc(sizeof(BlockNumber) * pages->size);
	trail->pages = lappend(trail->pages, pages);
	MemoryContextSwitchTo(old);
	return pages;
}

static void
note_block(TrailPages *pages, BlockNumber block)
{
	if (pages->n > 0 && pages->blocks[pages->n - 1] == block)
		return;
	if (pages->n == pages->size)
	{
		if (pages->size >= MOST_PAGES)
			return;
		pages->size *= 2;
		pages->blocks = repalloc(pages->blocks, sizeof(BlockNumber) * pages->size);
	}
	pages->blocks[pages->n++] = block;
}

/* Note where the row that is in the slot lies. */
static void
note_row(Tap *tap, TupleTableSlot *slot)
{
	ModifyTableState *change = tap->change;
	ResultRelInfo *rel = change->resultRelInfo;
	Oid			relid = RelationGetRelid(rel->ri_RelationDesc);
	Datum		datum;
	bool		isnull;

	if (rel->ri_RelationDesc->rd_rel->relkind != RELKIND_RELATION ||
		!AttributeNumberIsValid(rel->ri_RowIdAttNo))
		return;
	if (AttributeNumberIsValid(change->mt_resultOidAttno))
	{
		datum = ExecGetJunkAttribute(slot, change->mt_resultOidAttno, &isnull);
		if (isnull)
			return;
		relid = DatumGetObjectId(datum);
	}
	datum = ExecGetJunkAttribute(slot, rel->ri_RowIdAttNo, &isnull);
	if (isnull)
		return;
	if (tap->pages == NULL || tap->pages->relid != relid)
		tap->pages = pages_of(followed, relid);
	note_block(tap->pages, ItemPointerGetBlockNumber((ItemPointer) DatumGetPointer(datum)));
}

/* Run a plan node that is tapped. */
static TupleTableSlot *
run_tapped(PlanState *plan)
{
	ListCell   *lc;

	foreach(lc, followed->taps)
	{
		Tap		   *tap = lfirst(lc);

		if (tap->plan == plan)
		{
			TupleTableSlot *slot = tap->run(plan);

			if (!TupIsNull(slot))
				note_row(tap, slot);
			return slot;
		}
	}
	elog(ERROR, "plan node is not tapped");
}

static bool
tap_changes(PlanState *plan, void *arg)
{
	Trail	   *trail = (Trail *) arg;
	PlanState  *source;

	/* of a sub-select that the planner has done without */
	if (plan == NULL)
		return false;
	source = outerPlanState(plan);
	if (IsA(plan, ModifyTableState) && source &&
		((ModifyTableState *) plan)->operation != CMD_INSERT &&
		source->ExecProcNodeReal != run_tapped)
	{
		MemoryContext old = MemoryContextSwitchTo(trail->context);
		Tap		   *tap = palloc0(sizeof(Tap));

		tap->plan = source;
		tap->run = source->ExecProcNodeReal;
		tap->change = (ModifyTableState *) plan;
		trail->taps = lappend(trail->taps, tap);
		MemoryContextSwitchTo(old);
		source->ExecProcNodeReal = run_tapped;
	}
	return planstate_tree_walker(plan, tap_changes, arg);
}

/* The query has been started, and not run: note what it changes. */
void
trail_follow(Trail *trail, QueryDesc *desc)
{
	ListCell   *lc;

	if (desc->planstate == NULL)
		return;
	trail->taps = NIL;
	followed = trail;
	(void) tap_changes(desc->planstate, trail);

	/* what stands in WITH */
	foreach(lc, desc->estate->es_subplanstates)
		(void) tap_changes((PlanState *) lfirst(lc), trail);
}

/* Nothing is followed any more. */
void
trail_end(void)
{
	if (followed)
		followed->taps = NIL;
	followed = NULL;
}

static int
compare_blocks(const void *a, const void *b)
{
	BlockNumber x = *(const BlockNumber *) a;
	BlockNumber y = *(const BlockNumber *) b;

	return x < y ? -1 : x > y;
}

/* Bring the pages of each table into their order, each once. */
void
trail_sort(Trail *trail)
{
	ListCell   *lc;

	foreach(lc, trail->pages)
	{
		TrailPages *pages = lfirst(lc);
		int			n = 0;

		qsort(pages->blocks, pages->n, sizeof(BlockNumber), compare_blocks);
		for (int i = 0; i < pages->n; i++)
		{
			if (n == 0 || pages->blocks[n - 1] != pages->blocks[i])
				pages->blocks[n++] = pages->blocks[i];
		}
		pages->n = n;
	}
}
