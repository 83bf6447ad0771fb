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
 * Where values are stored out of line, in a TOAST table, and are deleted or replaced, the row
 * is read for the numbers of the old ones; where their pieces lie is a matter for whoever
 * uses the trail.
 *
 * The plan of an INSERT knows no places.  Where it has an ON CONFLICT DO UPDATE, what makes the
 * new version of a row that was met is put behind such a function, too: it is handed the old one.
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

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/toast_internals.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "walk/trail.h"

/* Pages of one table that a batch may note: 2 GB of it.  Values likewise. */
#define MOST_PAGES	262144

/* A table whose rows are changed, within a tap. */
typedef struct TapTable
{
	Oid			relid;
	Relation	rel;
	AttrNumber	place;			/* column of the plan that says where a row lies */
	TrailPages *pages;			/* NULL for what is no plain table */
	TrailPages *values;			/* that rows lose, or NULL if they lose none */
	Bitmapset  *columns;		/* that may hold them */
	TupleTableSlot *row;		/* to read the row into */
} TapTable;

/* A plan node whose rows are noted. */
typedef struct Tap
{
	PlanState  *plan;
	ExecProcNodeMtd run;		/* what runs it really */
	ModifyTableState *change;	/* what takes its rows */
	List	   *tables;			/* TapTable *, those that had rows */
	TapTable   *table;			/* of the last row */
	List	   *updates;		/* ConflictUpdate *, of an INSERT */
	int			nrouted;		/* tables that rows were routed to, when that was last looked at */
} Tap;

/* What makes new versions of rows that an INSERT met. */
typedef struct ConflictUpdate
{
	ExprState  *expression;
	ExprStateEvalFunc run;		/* what runs it really */
	Tap		   *tap;			/* whose it is */
} ConflictUpdate;

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

/* The entry of a table, new if it has none.  In the trail's context. */
static TrailPages *
pages_of(Trail *trail, Oid relid, bool toast)
{
	ListCell   *lc;
	TrailPages *pages;

	foreach(lc, trail->pages)
	{
		if (((TrailPages *) lfirst(lc))->relid == relid)
			return lfirst(lc);
	}
	pages = palloc0(sizeof(TrailPages));
	pages->relid = relid;
	pages->size = 64;
	pages->blocks = palloc(sizeof(BlockNumber) * pages->size);
	if (toast)
	{
		pages->values_size = 64;
		pages->values = palloc(sizeof(Oid) * pages->values_size);
	}
	trail->pages = lappend(trail->pages, pages);
	return pages;
}

void
trail_note_block(TrailPages *pages, BlockNumber block)
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

static void
note_value(TrailPages *pages, Oid value)
{
	if (pages->nvalues == pages->values_size)
	{
		if (pages->values_size >= MOST_PAGES)
			return;
		pages->values_size *= 2;
		pages->values = repalloc(pages->values, sizeof(Oid) * pages->values_size);
	}
	pages->values[pages->nvalues++] = value;
}

/* Whether a change of these columns may move rows to another partition, which deletes them here. */
static bool
may_move_rows(Relation rel, const Bitmapset *updated)
{
	Bitmapset  *bound = NULL;

	if (!rel->rd_rel->relispartition)
		return false;
	pull_varattnos((Node *) RelationGetPartitionQual(rel), 1, &bound);
	return bms_overlap(bound, updated);
}

/*
 * The columns in which a change may lose values that are stored out of line.  How a column is
 * to be stored says nothing of the values that are there, and the server moves those out that
 * are to stay in, when a row does not fit otherwise.
 */
static Bitmapset *
lossy_columns(ModifyTableState *change, ResultRelInfo *rel)
{
	TupleDesc	desc = RelationGetDescr(rel->ri_RelationDesc);
	bool		known = change->operation == CMD_UPDATE || change->operation == CMD_INSERT;
	Bitmapset  *updated = known ? ExecGetUpdatedCols(rel, change->ps.state) : NULL;
	bool		all = !known || may_move_rows(rel->ri_RelationDesc, updated);
	Bitmapset  *columns = NULL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || attribute->attlen != -1)
			continue;
		if (all || attribute->attgenerated != '\0' ||
			bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, updated))
			columns = bms_add_member(columns, i);
	}
	return columns;
}

/* Whether nothing has ever been stored in the TOAST table: as for most tables with narrow rows. */
static bool
is_unused(Oid toast)
{
	Relation	rel = table_open(toast, AccessShareLock);
	bool		unused = RelationGetNumberOfBlocks(rel) == 0;

	table_close(rel, AccessShareLock);
	return unused;
}

/* What the node knows of the table of that OID, one of those that it changes or routes rows to; or NULL. */
static ResultRelInfo *
changed_table(const ModifyTableState *change, Oid relid)
{
	ListCell   *lc;

	for (int i = 0; i < change->mt_nrels; i++)
	{
		if (RelationGetRelid(change->resultRelInfo[i].ri_RelationDesc) == relid)
			return &change->resultRelInfo[i];
	}
	foreach(lc, change->ps.state->es_tuple_routing_result_relations)
	{
		ResultRelInfo *rel = lfirst(lc);

		if (rel->ri_RootResultRelInfo == change->rootResultRelInfo &&
			RelationGetRelid(rel->ri_RelationDesc) == relid)
			return rel;
	}
	return NULL;
}

/*
 * A new entry for the table of that OID, one of those that the node changes; without pages if
 * it is no plain table.  The slot lives as long as the query.
 */
static TapTable *
open_table(Tap *tap, Oid relid)
{
	ModifyTableState *change = tap->change;
	ResultRelInfo *rel = changed_table(change, relid);
	TapTable   *table;
	Oid			toast;
	MemoryContext old = MemoryContextSwitchTo(followed->context);

	table = palloc0(sizeof(TapTable));
	table->relid = relid;
	tap->tables = lappend(tap->tables, table);
	if (rel && rel->ri_RelationDesc->rd_rel->relkind == RELKIND_RELATION &&
		(change->operation == CMD_INSERT || AttributeNumberIsValid(rel->ri_RowIdAttNo)))
	{
		table->place = rel->ri_RowIdAttNo;
		table->rel = rel->ri_RelationDesc;
		table->pages = pages_of(followed, relid, false);
		toast = table->rel->rd_rel->reltoastrelid;
		table->columns = OidIsValid(toast) ? lossy_columns(change, rel) : NULL;
		if (table->columns && !is_unused(toast))
		{
			EState	   *estate = change->ps.state;

			table->values = pages_of(followed, toast, true);
			MemoryContextSwitchTo(estate->es_query_cxt);
			table->row = ExecInitExtraTupleSlot(estate, RelationGetDescr(table->rel),
												table_slot_callbacks(table->rel));
		}
	}
	MemoryContextSwitchTo(old);
	return table;
}

static TapTable *
table_of(Tap *tap, Oid relid)
{
	ListCell   *lc;

	if (tap->table && tap->table->relid == relid)
		return tap->table;
	foreach(lc, tap->tables)
	{
		if (((TapTable *) lfirst(lc))->relid == relid)
			return tap->table = lfirst(lc);
	}
	return tap->table = open_table(tap, relid);
}

/* Whether any of the row's values is stored out of line, as far as its header tells. */
static bool
may_have_values(TupleTableSlot *row)
{
	return !TTS_IS_BUFFERTUPLE(row) ||
		HeapTupleHasExternal(((BufferHeapTupleTableSlot *) row)->base.tuple);
}

/* Note which values the row may lose. */
static void
note_values(TapTable *table, TupleTableSlot *row)
{
	int			column = -1;

	if (!may_have_values(row))
		return;
	while ((column = bms_next_member(table->columns, column)) >= 0)
	{
		bool		isnull;
		Datum		value = slot_getattr(row, column + 1, &isnull);
		struct varatt_external pointer;

		if (isnull || !VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value)))
			continue;
		VARATT_EXTERNAL_GET_POINTER(pointer, (struct varlena *) DatumGetPointer(value));
		if (pointer.va_toastrelid == table->values->relid)
			note_value(table->values, pointer.va_valueid);
	}
}

/* Note where the row that is in the slot lies. */
static void
note_row(Tap *tap, TupleTableSlot *slot)
{
	ModifyTableState *change = tap->change;
	TapTable   *table;
	Oid			relid = RelationGetRelid(change->resultRelInfo->ri_RelationDesc);
	ItemPointer place;
	Datum		datum;
	bool		isnull;

	if (AttributeNumberIsValid(change->mt_resultOidAttno))
	{
		datum = ExecGetJunkAttribute(slot, change->mt_resultOidAttno, &isnull);
		if (isnull)
			return;
		relid = DatumGetObjectId(datum);
	}
	table = table_of(tap, relid);
	if (table->pages == NULL)
		return;
	datum = ExecGetJunkAttribute(slot, table->place, &isnull);
	if (isnull)
		return;
	place = (ItemPointer) DatumGetPointer(datum);
	trail_note_block(table->pages, ItemPointerGetBlockNumber(place));
	if (change->operation == CMD_DELETE)
		table->pages->deleted++;
	else
		table->pages->updated++;
	if (table->values && table_tuple_fetch_row_version(table->rel, place, SnapshotAny, table->row))
	{
		note_values(table, table->row);
		ExecClearTuple(table->row);
	}
}

/* Note where a row lies that an INSERT has met and is about to replace. */
static void
note_met_row(Tap *tap, TupleTableSlot *row)
{
	TapTable   *table = table_of(tap, row->tts_tableOid);

	if (table->pages == NULL || !ItemPointerIsValid(&row->tts_tid))
		return;
	trail_note_block(table->pages, ItemPointerGetBlockNumber(&row->tts_tid));
	table->pages->updated++;
	if (table->values)
		note_values(table, row);
}

/* The update of rows that were met, which is tapped. */
static ConflictUpdate *
find_update(const ExprState *expression)
{
	ListCell   *lc;
	ListCell   *uc;

	foreach(lc, followed->taps)
	{
		foreach(uc, ((Tap *) lfirst(lc))->updates)
		{
			if (((ConflictUpdate *) lfirst(uc))->expression == expression)
				return lfirst(uc);
		}
	}
	elog(ERROR, "expression is not tapped");
}

/* Make the new version of a row that was met.  What does so for the first time puts something faster in its place. */
static Datum
update_tapped(ExprState *expression, ExprContext *context, bool *isnull)
{
	ConflictUpdate *update = find_update(expression);
	Datum		result;

	note_met_row(update->tap, context->ecxt_scantuple);
	expression->evalfunc = update->run;
	result = update->run(expression, context, isnull);
	update->run = expression->evalfunc;
	expression->evalfunc = update_tapped;
	return result;
}

/* Tap what an INSERT does to the rows of a table that it meets.  Partitions with the columns of their parent share it. */
static void
tap_update(Tap *tap, const ResultRelInfo *rel)
{
	ProjectionInfo *projection = rel->ri_onConflict ? rel->ri_onConflict->oc_ProjInfo : NULL;
	ConflictUpdate *update;
	MemoryContext old;

	if (projection == NULL || projection->pi_state.evalfunc == update_tapped)
		return;
	old = MemoryContextSwitchTo(followed->context);
	update = palloc0(sizeof(ConflictUpdate));
	update->expression = &projection->pi_state;
	update->run = projection->pi_state.evalfunc;
	update->tap = tap;
	tap->updates = lappend(tap->updates, update);
	MemoryContextSwitchTo(old);
	projection->pi_state.evalfunc = update_tapped;
}

/*
 * A row is about to be inserted: tap the updates of partitions that earlier ones were the first
 * to go to.  The first itself is not noted, if its partition's columns are in an order of their own.
 */
static void
tap_routed(Tap *tap)
{
	List	   *routed = tap->change->ps.state->es_tuple_routing_result_relations;

	for (; tap->nrouted < list_length(routed); tap->nrouted++)
	{
		const ResultRelInfo *rel = list_nth(routed, tap->nrouted);

		if (rel->ri_RootResultRelInfo == tap->change->rootResultRelInfo)
			tap_update(tap, rel);
	}
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

			if (TupIsNull(slot))
				return slot;
			if (tap->change->operation == CMD_INSERT)
				tap_routed(tap);
			else
				note_row(tap, slot);
			return slot;
		}
	}
	elog(ERROR, "plan node is not tapped");
}

/* Whether the node leaves old versions of rows behind. */
static bool
replaces_rows(const ModifyTableState *change)
{
	return change->operation != CMD_INSERT ||
		((ModifyTable *) change->ps.plan)->onConflictAction == ONCONFLICT_UPDATE;
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
	if (IsA(plan, ModifyTableState) && source && replaces_rows((ModifyTableState *) plan) &&
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
		if (tap->change->operation == CMD_INSERT)
			tap_update(tap, tap->change->resultRelInfo);
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

/* Bring the pages of a table into their order, each once. */
void
trail_sort(TrailPages *pages)
{
	int			n = 0;

	qsort(pages->blocks, pages->n, sizeof(BlockNumber), compare_blocks);
	for (int i = 0; i < pages->n; i++)
	{
		if (n == 0 || pages->blocks[n - 1] != pages->blocks[i])
			pages->blocks[n++] = pages->blocks[i];
	}
	pages->n = n;
}
