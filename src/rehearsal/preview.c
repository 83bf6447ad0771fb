/*-------------------------------------------------------------------------
 *
 * preview.c
 *	  The SQL function that shows what a definition would do to some rows.
 *
 * The first rows in scope are read, the statement is run for exactly the range
 * that ends at the last of them, and each row is looked up again by its key.
 * All of that in a rehearsal, which is undone.
 *
 * Rows are compared as jsonb, column by column; whether a row was written at
 * all shows in where it stands.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "definition/definition.h"
#include "rehearsal/advice.h"
#include "rehearsal/effects.h"
#include "rehearsal/frame.h"
#include "rehearsal/plan.h"
#include "rehearsal/tally.h"
#include "walk/bounds.h"
#include "walk/place.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

PG_FUNCTION_INFO_V1(backfill_preview);

#define MAX_ROWS 1000

/* A row of the target, before or after. */
typedef struct Row
{
	Datum		key[INDEX_MAX_KEYS];
	Oid			relid;
	ItemPointerData ctid;
	Jsonb	   *content;
} Row;

/* A row of the result. */
typedef struct Change
{
	ArrayType  *key;
	const char *action;
	Jsonb	   *before;
	Jsonb	   *after;			/* NULL if the row is gone */
	Jsonb	   *changed;		/* likewise */
} Change;

typedef struct Preview
{
	int			limit;
	List	   *changes;		/* in memory of the caller */
	List	   *notices;		/* likewise */
} Preview;

/* For reading rows. */
typedef struct Reader
{
	Walk	   *walk;
	MemoryContext context;
	List	   *rows;
} Reader;

/* ---- rows ---- */

static void
keep_row(TupleTableSlot *slot, void *arg)
{
	Reader	   *reader = (Reader *) arg;
	MemoryContext old = MemoryContextSwitchTo(reader->context);
	Row		   *row = palloc(sizeof(Row));
	int			n = reader->walk->nkeys;

	for (int i = 0; i < n; i++)
		row->key[i] = datumCopy(slot->tts_values[i], reader->walk->columns[i].typbyval,
								reader->walk->columns[i].typlen);
	row->relid = DatumGetObjectId(slot->tts_values[n]);
	row->ctid = *(ItemPointer) DatumGetPointer(slot->tts_values[n + 1]);
	row->content = (Jsonb *) PG_DETOAST_DATUM_COPY(slot->tts_values[n + 2]);
	reader->rows = lappend(reader->rows, row);
	MemoryContextSwitchTo(old);
}

static Statement *
prepare_rows_query(Rehearsal *rehearsal, const char *scope)
{
	WalkRange	range = walk_range(rehearsal->walk, RANGE_FROM);

	return bounds_prepare_query(rehearsal->walk, &range, scope, rehearsal->parameters,
								", batch.tableoid, batch.ctid, pg_catalog.to_jsonb(batch.*)",
								rehearsal->walk->descending, " LIMIT $1");
}

/* Up to so many rows from start to end, as Row. */
static List *
read_rows(Rehearsal *rehearsal, Statement *query, const Datum *start,
		  const Datum *end, int limit, Snapshot snapshot)
{
	Reader		reader = {rehearsal->walk, rehearsal->context, NIL};
	ParamListInfo params = frame_params(rehearsal, start, end);

	walk_set_number(rehearsal->walk, params, limit);
	statement_each_row(query, params, snapshot, keep_row, &reader);
	return reader.rows;
}

/*
 * What has become of the row, or NULL.  Where its key does not tell it from others, its place
 * does; a walk by pages knows nothing else.
 */
static Row *
find_again(Rehearsal *rehearsal, Statement *query, const Row *row, Snapshot snapshot)
{
	const Walk *walk = rehearsal->walk;
	bool		shared = walk->may_repeat || walk->distinct;
	ItemPointerData place = row->ctid;
	Datum		key = PointerGetDatum(&place);
	List	   *rows;
	ListCell   *lc;

	if (shared || walk->by_page)
		place = place_follow(row->relid, place, snapshot);
	rows = read_rows(rehearsal, query, walk->by_page ? &key : row->key,
					 walk->by_page ? &key : row->key, shared ? PG_INT32_MAX : 1, snapshot);
	foreach(lc, rows)
	{
		Row		   *candidate = lfirst(lc);

		if (!shared ||
			(candidate->relid == row->relid && ItemPointerEquals(&candidate->ctid, &place)))
			return candidate;
	}
	return NULL;
}

/* ---- changes ---- */

static bool
is_equal(JsonbValue *a, JsonbValue *b)
{
	return compareJsonbContainers(&JsonbValueToJsonb(a)->root,
								  &JsonbValueToJsonb(b)->root) == 0;
}

/* The columns of "after" that are not the same in "before", as an object. */
static Jsonb *
changed_columns(Jsonb *before, Jsonb *after)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it = JsonbIteratorInit(&after->root);
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	value;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		JsonbValue *was;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		was = findJsonbValueFromContainer(&before->root, JB_FOBJECT, &name);
		if (was && is_equal(was, &value))
			continue;
		pushJsonbValue(&state, WJB_KEY, &name);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static Jsonb *
copy_jsonb(Jsonb *jsonb)
{
	return (Jsonb *) DatumGetPointer(datumCopy(JsonbPGetDatum(jsonb), false, -1));
}

/* What became of the row, in the caller's memory. */
static Change *
make_change(Rehearsal *rehearsal, const Row *before, const Row *after)
{
	ArrayType  *key = key_to_text(rehearsal->walk, before->key);
	Jsonb	   *changed = after ? changed_columns(before->content, after->content) : NULL;
	MemoryContext old = MemoryContextSwitchTo(rehearsal->caller);
	Change	   *change = palloc0(sizeof(Change));

	change->key = DatumGetArrayTypePCopy(PointerGetDatum(key));
	change->before = copy_jsonb(before->content);
	if (after == NULL)
		change->action = "delete";
	else
	{
		change->action = before->relid == after->relid &&
			ItemPointerEquals(unconstify(ItemPointerData *, &before->ctid),
							  unconstify(ItemPointerData *, &after->ctid)) ?
			"unchanged" : "update";
		change->after = copy_jsonb(after->content);
		change->changed = copy_jsonb(changed);
	}
	MemoryContextSwitchTo(old);
	return change;
}

/* Say what the statement wrote into tables, or rows, that are not shown. */
static void
note_counts(Rehearsal *rehearsal, Preview *preview, List *counts)
{
	List	   *family = find_all_inheritors(rehearsal->walk->target, NoLock, NULL);
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, counts)
	{
		TallyCount *count = lfirst(lc);
		char	   *table;
		char	   *rows;

		if (count->operation != CMD_INSERT && list_member_oid(family, count->relid))
			continue;
		table = DatumGetCString(DirectFunctionCall1(regclassout,
													ObjectIdGetDatum(count->relid)));
		rows = psprintf("%.0f row%s", count->rows, count->rows == 1 ? "" : "s");
		old = MemoryContextSwitchTo(rehearsal->caller);
		preview->notices = lappend(preview->notices,
								   count->operation == CMD_INSERT ? psprintf("the statement also inserted %s into %s", rows, table) :
								   count->operation == CMD_UPDATE ? psprintf("the statement also updated %s of %s", rows, table) :
								   psprintf("the statement also deleted %s from %s", rows, table));
		MemoryContextSwitchTo(old);
	}
}

/* Say what triggers, foreign keys and functions have written, and where. */
static void
note_elsewhere(Rehearsal *rehearsal, Preview *preview, List *counts)
{
	Effects    *changes = effects_collect(statement_queries(rehearsal->statement));
	ListCell   *lc;

	foreach(lc, counts)
	{
		char	   *text = psprintf("also %s", advice_elsewhere(changes, lfirst(lc)));
		MemoryContext old = MemoryContextSwitchTo(rehearsal->caller);

		preview->notices = lappend(preview->notices, pstrdup(text));
		MemoryContextSwitchTo(old);
	}
}

/* One execution of the statement. */
typedef struct Execution
{
	Statement  *statement;
	ParamListInfo params;
	List	   *counts;			/* result: TallyCount of its own */
} Execution;

static void
execute(void *arg)
{
	Execution  *execution = (Execution *) arg;

	execution->counts = plan_execute(execution->statement, execution->params, 0, NULL);
}

/* Run the statement from the start of the walk to the key, and count. */
static void
run_counted(Rehearsal *rehearsal, Preview *preview, const Datum *end)
{
	Execution	execution = {rehearsal->statement, frame_params(rehearsal, rehearsal->start, end)};
	List	   *elsewhere = tally_elsewhere(statement_text(rehearsal->statement), execute,
											&execution, NIL);

	note_counts(rehearsal, preview, execution.counts);
	note_elsewhere(rehearsal, preview, elsewhere);
}

/* Rows with a null in the key, which come last, are not shown, where there would be room for them. */
static void
note_nulls(Rehearsal *rehearsal, Preview *preview, int shown)
{
	MemoryContext old = MemoryContextSwitchTo(rehearsal->caller);

	if (rehearsal->has_nulls && shown < preview->limit)
		preview->notices = lappend(preview->notices,
								   pstrdup("rows with a null in the key are not shown"));
	MemoryContextSwitchTo(old);
}

/* In the rehearsal: read, run, read again. */
static void
preview(Rehearsal *rehearsal, void *arg)
{
	Preview    *preview = (Preview *) arg;
	Statement  *query;
	Snapshot	snapshot;
	List	   *rows;
	Row		   *last;
	ListCell   *lc;

	if (!rehearsal->has_rows)
	{
		note_nulls(rehearsal, preview, 0);
		return;
	}
	frame_limit_time(rehearsal);
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	rows = read_rows(rehearsal, prepare_rows_query(rehearsal, rehearsal->def->scope),
					 rehearsal->start, rehearsal->end, preview->limit, snapshot);
	note_nulls(rehearsal, preview, list_length(rows));
	if (rows == NIL)
		return;
	last = llast(rows);
	run_counted(rehearsal, preview, last->key);

	/* the same snapshot, so that nobody else's changes pass for ours */
	PushCopiedSnapshot(snapshot);
	UpdateActiveSnapshotCommandId();
	query = prepare_rows_query(rehearsal, NULL);
	foreach(lc, rows)
	{
		Row		   *row = lfirst(lc);
		Change	   *change = make_change(rehearsal, row,
										 find_again(rehearsal, query, row,
													GetActiveSnapshot()));
		MemoryContext old = MemoryContextSwitchTo(rehearsal->caller);

		preview->changes = lappend(preview->changes, change);
		MemoryContextSwitchTo(old);
	}
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	frame_free_time(rehearsal);
}

/* backfill_preview(name, parameters, rows, target) */
Datum
backfill_preview(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Preview		result = {0};
	char	   *name = definition_name_arg(fcinfo);
	ListCell   *lc;

	result.limit = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2);
	if (result.limit < 1 || result.limit > MAX_ROWS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of rows to preview must be between 1 and %d", MAX_ROWS)));
	InitMaterializedSRF(fcinfo, 0);
	frame_rehearse("backfill_preview()", name, PG_ARGISNULL(3) ? InvalidOid : PG_GETARG_OID(3),
			 PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), preview, &result);

	foreach(lc, result.notices)
		ereport(NOTICE, (errmsg_internal("%s", (char *) lfirst(lc))));
	foreach(lc, result.changes)
	{
		Change	   *change = lfirst(lc);
		Datum		values[5] = {
			PointerGetDatum(change->key), CStringGetTextDatum(change->action),
			PointerGetDatum(change->before), PointerGetDatum(change->after),
			PointerGetDatum(change->changed)
		};
		bool		nulls[5] = {false, false, false, change->after == NULL,
		change->changed == NULL};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
