/*-------------------------------------------------------------------------
 *
 * bounds.c
 *	  Searches along the key: the ends of a walk, the next range.
 *
 * All of it reads the target with the rights of the session's user, the owner
 * of the run, and follows the index of the walk.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "settings/parameters.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/loose.h"
#include "walk/order.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* The queries for the next bound, kept for the life of a worker. */
struct Bounds
{
	Statement  *end[2];			/* by start_inclusive: the key at an offset */
	Statement  *before[2];		/* likewise: the last key before the end; only where keys repeat */
	Statement  *count[RANGE_SHAPES];	/* the rows of a range */
};

/*
 * A query about the rows of the range, in scope if one is given, in the order
 * of the walk or against it: the columns of the key, then others.
 */
Statement *
bounds_prepare_query(Walk *walk, const WalkRange *range, const char *scope,
					 const Parameters *parameters, const char *others,
					 bool descending, const char *limit)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "SELECT ");
	order_append_keys(&buf, walk, "batch");
	appendStringInfo(&buf, "%s FROM %s AS batch WHERE %s", others, walk->target_name,
					 STATEMENT_RANGE);
	order_append(&buf, walk, "batch", descending);
	appendStringInfoString(&buf, limit);
	return statement_prepare_own(buf.data, walk, range, scope, parameters);
}

/* A query for the key at an offset in the range, in the order given. */
static Statement *
prepare_key_query(Walk *walk, const WalkRange *range, const char *scope,
				  const Parameters *parameters, bool descending)
{
	const char *limit = " OFFSET $1 LIMIT 1";
	StringInfoData buf;

	if (!walk->distinct)
		return bounds_prepare_query(walk, range, scope, parameters, "", descending, limit);
	initStringInfo(&buf);
	loose_append(&buf, walk, descending);
	appendStringInfoString(&buf, limit);
	return statement_prepare_own(buf.data, walk, range, scope, parameters);
}

/* A query for the key of a row in a range and in scope, at an offset. */
Statement *
bounds_prepare_row(Walk *walk, bool start_inclusive, const char *scope,
				   const Parameters *parameters)
{
	WalkRange	range = walk_range(walk, start_inclusive ? RANGE_FROM : RANGE_AFTER);

	return prepare_key_query(walk, &range, scope, parameters, walk->descending);
}

/* A query for the number of rows in a range, and in scope if one is given. */
Statement *
bounds_prepare_count(Walk *walk, RangeShape shape, const char *scope,
					 const Parameters *parameters)
{
	WalkRange	range = walk_range(walk, shape);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "SELECT pg_catalog.count(*) FROM ");
	if (walk->distinct)
	{
		appendStringInfoChar(&buf, '(');
		loose_append_batch(&buf, walk, &range);
		appendStringInfoString(&buf, ") AS batch");
	}
	else
		appendStringInfo(&buf, "%s AS batch WHERE %s", walk->target_name, STATEMENT_RANGE);
	return statement_prepare_own(buf.data, walk, &range, scope, parameters);
}

/*
 * Whether there is any row with a null in the key; read with the rights of the session's user,
 * in the current transaction.
 */
static bool
find_nulls(Walk *walk, ParamListInfo params)
{
	WalkRange	range = walk_range(walk, RANGE_NULLS);
	Datum		found;

	return walk->has_nulls &&
		statement_fetch(statement_prepare_own(psprintf("SELECT true FROM %s AS batch WHERE %s LIMIT 1",
													   walk->target_name, STATEMENT_RANGE),
											  walk, &range, NULL, NULL),
						params, NULL, 1, &found);
}

/*
 * The planner's estimate of the rows in the range, or of the values that they have if those are
 * what is walked.
 */
static double
estimate(Walk *walk, const WalkRange *range, ParamListInfo params)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, walk->distinct ? "SELECT DISTINCT " : "SELECT ");
	if (walk->distinct)
		order_append_keys(&buf, walk, "batch");
	appendStringInfo(&buf, " FROM %s AS batch WHERE %s", walk->target_name, STATEMENT_RANGE);
	return statement_estimate(buf.data, walk, range, params);
}

/* The first and the last place in the table, as far as it has pages.  False if it has none. */
static bool
find_pages(Walk *walk, Datum *start, Datum *end)
{
	Relation	rel = table_open(walk->target, AccessShareLock);
	BlockNumber pages = RelationGetNumberOfBlocks(rel);
	ItemPointer places = palloc(2 * sizeof(ItemPointerData));

	table_close(rel, NoLock);
	ItemPointerSet(&places[0], 0, 1);
	ItemPointerSet(&places[1], pages > 0 ? pages - 1 : 0, PG_UINT16_MAX);
	*start = PointerGetDatum(&places[0]);
	*end = PointerGetDatum(&places[1]);
	return pages > 0;
}

/* The first and the last key in the range.  False if it has no row. */
static bool
find_values(Walk *walk, const WalkRange *range, ParamListInfo params, Datum *start, Datum *end)
{
	if (walk->by_page && range->nstart == 0 && range->nend == 0)
		return find_pages(walk, start, end);
	walk_set_number(walk, params, 0);
	if (!statement_fetch(prepare_key_query(walk, range, NULL, NULL, walk->descending),
						 params, NULL, walk->nkeys, start))
		return false;

	/* places are read in one direction only */
	if (walk->by_page && range->nend == 0)
	{
		Datum		first;

		return find_pages(walk, &first, end);
	}
	if (walk->by_page)
	{
		*end = params->params[walk->nkeys].value;
		return true;
	}
	return statement_fetch(prepare_key_query(walk, range, NULL, NULL, !walk->descending),
						   params, NULL, walk->nkeys, end);
}

/*
 * The ends of the walk, within the bounds from and to, lists of char * or NIL, and with at
 * most so many rows in scope, 0 for all; and the planner's estimate of the rows between them.
 * Rows with a null in the key are within no bounds, and come after those of a limit.  Returns false when
 * there is no row.  The keys are in the current memory context.
 */
bool
bounds_find_ends(Walk *walk, List *from, List *to, int64 limit, const char *scope,
				 const Parameters *parameters, WalkEnds *ends)
{
	ParamListInfo params = statement_params(walk, parameters);
	Datum		low[INDEX_MAX_KEYS],
				high[INDEX_MAX_KEYS];
	int			nlow = key_read_bound(walk, "from", from, low);
	int			nhigh = key_read_bound(walk, "to", to, high);
	bool		whole = from == NIL && to == NIL && limit == 0;
	WalkRange	range = {.start_inclusive = true};

	/* from and to are in the order of the index, a range in the walk's */
	range.nstart = walk->descending ? nhigh : nlow;
	range.nend = walk->descending ? nlow : nhigh;
	walk_set_columns(walk, params, 0, walk->descending ? high : low, range.nstart);
	walk_set_columns(walk, params, walk->nkeys, walk->descending ? low : high, range.nend);

	memset(ends, 0, sizeof(WalkEnds));
	ends->values = find_values(walk, &range, params, ends->start, ends->end);
	ends->nulls = whole && find_nulls(walk, params);
	if (!ends->values)
		return ends->nulls;
	if (limit > 0)
	{
		Datum		last[INDEX_MAX_KEYS];

		/* without an end, pages are read in any order */
		if (walk->by_page)
		{
			range.nstart = range.nend = walk->nkeys;
			walk_set_start(walk, params, ends->start);
			walk_set_end(walk, params, ends->end);
		}
		walk_set_number(walk, params, limit - 1);
		if (statement_fetch(prepare_key_query(walk, &range, scope, parameters, walk->descending),
							params, NULL, walk->nkeys, last))
			memcpy(ends->end, last, sizeof(Datum) * walk->nkeys);
	}

	/* of the whole table the planner knows more than of its whole range */
	range.nstart = range.nend = whole ? 0 : walk->nkeys;
	walk_set_start(walk, params, ends->start);
	walk_set_end(walk, params, ends->end);
	ends->rows = estimate(walk, &range, params);
	if (ends->nulls)
	{
		range = walk_range(walk, RANGE_NULLS);
		ends->rows += estimate(walk, &range, params);
	}
	return true;
}

/*
 * The same within what the settings say, as texts.  Under the server parameters of the
 * statement, and in the current transaction and memory context.
 */
void
bounds_find_texts(Walk *walk, const RunSettings *settings, const char *scope,
				  const Parameters *parameters, WalkTexts *texts)
{
	WalkEnds	ends;

	(void) bounds_find_ends(walk, settings->from, settings->to, settings->limit, scope,
							parameters, &ends);
	texts->rows = ends.rows;
	texts->start = texts->end = construct_empty_array(TEXTOID);
	if (ends.values)
	{
		texts->start = key_to_text(walk, ends.start);
		texts->end = key_to_text(walk, ends.end);
	}
	if (ends.nulls)
	{
		texts->end = key_with_nulls(walk, ends.values ? texts->end : NULL);
		texts->start = ends.values ? texts->start : texts->end;
	}
}

/*
 * The rows of the table that are in scope, read with the snapshot, all of them at once; and how many of
 * them stand elsewhere than in the places given, as the text of an array.
 */
int64
bounds_count_whole(Walk *walk, const char *scope, const Parameters *parameters,
				   const char *places, Snapshot snapshot, int64 *elsewhere)
{
	WalkRange	range = {.everything = true};
	Datum		counts[2] = {Int64GetDatum(0), Int64GetDatum(0)};
	char	   *text = psprintf("SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE "
								"batch.ctid OPERATOR(pg_catalog.<>) ALL (%s::pg_catalog.tid[])) "
								"FROM %s AS batch WHERE %s",
								quote_literal_cstr(places), walk->target_name, STATEMENT_RANGE);

	(void) statement_fetch(statement_prepare_own(text, walk, &range, scope, parameters),
						   statement_params(walk, parameters), snapshot, 2, counts);
	*elsewhere = DatumGetInt64(counts[1]);
	return DatumGetInt64(counts[0]);
}

/*
 * Whether the row at that place was written by the transaction with that id, and is in scope; read with
 * the active snapshot, in a walk by pages.
 */
bool
bounds_is_written(Walk *walk, const char *scope, const Parameters *parameters, Datum place,
				  TransactionId xid)
{
	ParamListInfo params = statement_params(walk, parameters);
	WalkRange	range = walk_range(walk, RANGE_FROM);
	Datum		found;

	walk_set_start(walk, params, &place);
	walk_set_end(walk, params, &place);
	walk_set_number(walk, params, (int64) xid);
	return statement_fetch(statement_prepare_own(psprintf("SELECT true FROM %s AS batch WHERE %s AND "
														  "batch.xmin::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text",
														  walk->target_name, STATEMENT_RANGE),
												 walk, &range, scope, parameters),
						   params, GetActiveSnapshot(), 1, &found);
}

/* ---- the next range ---- */

/* A range that has so many times the rows that it should have ends in a large group. */
#define MUCH_LARGER		2

/* Prepare the queries for bounds_next_end.  They live until the process ends. */
Bounds *
bounds_prepare(Walk *walk)
{
	Bounds	   *bounds = palloc0(sizeof(Bounds));
	WalkRange	range;

	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		bounds->end[inclusive] = bounds_prepare_row(walk, inclusive != 0, NULL, NULL);
		statement_keep(bounds->end[inclusive]);
		if (!walk->may_repeat)
			continue;
		range = walk_range(walk, inclusive ? RANGE_FROM : RANGE_AFTER);
		range.end_exclusive = true;
		bounds->before[inclusive] = prepare_key_query(walk, &range, NULL, NULL, !walk->descending);
		statement_keep(bounds->before[inclusive]);
	}
	for (int shape = 0; shape < WALK_SHAPES(walk); shape++)
	{
		bounds->count[shape] = bounds_prepare_count(walk, shape, NULL, NULL);
		statement_keep(bounds->count[shape]);
	}
	return bounds;
}

/* The queries are not needed any more. */
void
bounds_drop(Bounds *bounds)
{
	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		statement_drop(bounds->end[inclusive]);
		if (bounds->before[inclusive])
			statement_drop(bounds->before[inclusive]);
	}
	for (int shape = 0; shape < RANGE_SHAPES; shape++)
	{
		if (bounds->count[shape])
			statement_drop(bounds->count[shape]);
	}
}

/* The query for the end of a range, for those who want to see its plan. */
Statement *
bounds_end_query(Bounds *bounds, bool start_inclusive)
{
	return bounds->end[start_inclusive];
}

/* The number of rows in the range, read with the snapshot. */
int64
bounds_count(Walk *walk, Bounds *bounds, const Datum *start, RangeShape shape,
			 const Datum *end, Snapshot snapshot)
{
	ParamListInfo params = walk_make_params(walk, 0);
	Datum		count;

	walk_set_start(walk, params, start);
	walk_set_end(walk, params, end);
	/* none are null any more, if the columns cannot be */
	if (bounds->count[shape] == NULL ||
		!statement_fetch(bounds->count[shape], params, snapshot, 1, &count))
		return 0;
	return DatumGetInt64(count);
}

/*
 * The range of the next batch: from start to the key of its size-th row, or to
 * the last key of the walk if there are fewer rows.  A group of rows with one key is not cut; one
 * that would make the range much larger than asked for is a range of its own.  The bare key is searched,
 * without the scope, so that the search costs the same everywhere.
 *
 * Reads with the snapshot given.  Puts the end into the current memory context
 * and returns the number of rows in the range; *at_end says whether it is the
 * last range of the walk.
 */
int64
bounds_next_end(Walk *walk, Bounds *bounds, const Datum *start, bool start_inclusive,
			  const Datum *last, int64 size, Snapshot snapshot,
			  Datum *end, bool *at_end)
{
	ParamListInfo params = walk_make_params(walk, 0);
	RangeShape	shape = start_inclusive ? RANGE_FROM : RANGE_AFTER;
	int64		rows;

	walk_set_start(walk, params, start);
	walk_set_end(walk, params, last);
	walk_set_number(walk, params, size - 1);

	*at_end = !statement_fetch(bounds->end[start_inclusive], params, snapshot,
							   walk->nkeys, end);
	if (!*at_end && !walk->may_repeat)
		return size;
	for (int i = 0; i < walk->nkeys && *at_end; i++)
		end[i] = datumCopy(last[i], walk->columns[i].typbyval, walk->columns[i].typlen);
	rows = bounds_count(walk, bounds, start, shape, end, snapshot);
	if (!walk->may_repeat || rows <= size * MUCH_LARGER)
		return rows;

	/* a large group comes alone, if others are before it */
	walk_set_end(walk, params, end);
	walk_set_number(walk, params, 0);
	if (!statement_fetch(bounds->before[start_inclusive], params, snapshot, walk->nkeys, end))
		return rows;
	*at_end = false;
	return bounds_count(walk, bounds, start, shape, end, snapshot);
}

/*
 * The range of the next batch, as bounds_next_end, with keys as texts.  Behind the last value come
 * the rows with a null in the key, if they belong to the walk.  *end_key is last_key
 * itself when the range is the last of the walk.
 */
int64
bounds_next_range(Walk *walk, Bounds *bounds, ArrayType *start_key, bool start_inclusive,
				  ArrayType *last_key, int64 size, Snapshot snapshot, ArrayType **end_key)
{
	ArrayType  *last_value = key_without_nulls(last_key);
	Datum		start[INDEX_MAX_KEYS];
	Datum		last[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	bool		at_end;
	int64		rows;

	key_from_text(walk, start_key, start);
	key_from_text(walk, last_key, last);
	if (last_value == NULL ||
		(last_value != last_key && !start_inclusive && key_is_last(start_key, last_value)))
	{
		*end_key = last_key;
		return bounds_count(walk, bounds, start, RANGE_NULLS, last, snapshot);
	}
	rows = bounds_next_end(walk, bounds, start, start_inclusive, last, size, snapshot, end,
						   &at_end);
	*end_key = at_end ? last_value : key_to_text(walk, end);
	return rows;
}
