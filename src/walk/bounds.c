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

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "catalog/pg_operator.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "settings/parameters.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* The queries for the next bound, kept for the life of a worker. */
struct Bounds
{
	Statement  *end[2];			/* by start_inclusive: the key at an offset */
	Statement  *count[2];		/* the rows of a range */
};

/* Append the columns of the key, comma-separated, as "batch.name". */
static void
append_key_list(StringInfo buf, Walk *walk)
{
	for (int i = 0; i < walk->nkeys; i++)
		appendStringInfo(buf, "%sbatch.%s", i > 0 ? ", " : "",
						 quote_identifier(walk->columns[i].name));
}

/* Append an ORDER BY along the index, ascending or descending. */
static void
append_order(StringInfo buf, Walk *walk, bool descending)
{
	for (int i = 0; i < walk->nkeys; i++)
	{
		WalkColumn *column = &walk->columns[i];
		Oid			opno = get_opfamily_member(column->opfamily, column->opcintype,
											   column->opcintype,
											   descending ? BTGreaterStrategyNumber :
											   BTLessStrategyNumber);
		HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(opno));
		Form_pg_operator op;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for operator %u", opno);
		op = (Form_pg_operator) GETSTRUCT(tuple);
		appendStringInfo(buf, "%sbatch.%s", i > 0 ? ", " : " ORDER BY ",
						 quote_identifier(column->name));
		if (OidIsValid(column->collation) && column->collation != column->column_collation)
			appendStringInfo(buf, " COLLATE %s", generate_collation_name(column->collation));
		appendStringInfo(buf, " USING OPERATOR(%s.%s) NULLS %s",
						 quote_identifier(get_namespace_name(op->oprnamespace)),
						 NameStr(op->oprname),
						 column->nulls_first != descending ? "FIRST" : "LAST");
		ReleaseSysCache(tuple);
	}
}

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
	append_key_list(&buf, walk);
	appendStringInfo(&buf, "%s FROM %s AS batch WHERE %s", others, walk->target_name,
					 STATEMENT_RANGE);
	append_order(&buf, walk, descending);
	appendStringInfoString(&buf, limit);
	return statement_prepare_own(buf.data, walk, range, scope, parameters);
}

/* A query for the key at an offset in the range, in the order given. */
static Statement *
prepare_key_query(Walk *walk, const WalkRange *range, const char *scope,
				  const Parameters *parameters, bool descending)
{
	return bounds_prepare_query(walk, range, scope, parameters, "", descending,
								" OFFSET $1 LIMIT 1");
}

/* A query for the key of a row in a range and in scope, at an offset. */
Statement *
bounds_prepare_row(Walk *walk, bool start_inclusive, const char *scope,
				   const Parameters *parameters)
{
	WalkRange	range = {walk->nkeys, start_inclusive, walk->nkeys};

	return prepare_key_query(walk, &range, scope, parameters, walk->descending);
}

/* A query for the number of rows in a range, and in scope if one is given. */
Statement *
bounds_prepare_count(Walk *walk, bool start_inclusive, const char *scope,
					 const Parameters *parameters)
{
	WalkRange	range = {walk->nkeys, start_inclusive, walk->nkeys};

	return statement_prepare_own(psprintf("SELECT pg_catalog.count(*) FROM %s AS batch WHERE %s",
										  walk->target_name, STATEMENT_RANGE),
								 walk, &range, scope, parameters);
}

/*
 * The first and the last key of the walk, within the bounds from and to, lists of
 * char * or NIL, and with at most so many rows in scope, 0 for all; and the planner's estimate of the rows between them.  Returns false
 * when there is no row.  The keys are in the current memory context.
 */
bool
bounds_find_ends(Walk *walk, List *from, List *to, int64 limit, const char *scope,
				 const Parameters *parameters, Datum *start, Datum *end, double *rows_total)
{
	ParamListInfo params = statement_params(walk, parameters);
	Datum		low[INDEX_MAX_KEYS],
				high[INDEX_MAX_KEYS];
	int			nlow = key_read_bound(walk, "from", from, low);
	int			nhigh = key_read_bound(walk, "to", to, high);
	WalkRange	range;

	/* from and to are in the order of the index, a range in the walk's */
	range.start_inclusive = true;
	range.nstart = walk->descending ? nhigh : nlow;
	range.nend = walk->descending ? nlow : nhigh;
	walk_set_columns(walk, params, 0, walk->descending ? high : low, range.nstart);
	walk_set_columns(walk, params, walk->nkeys, walk->descending ? low : high, range.nend);
	walk_set_number(walk, params, 0);

	if (!statement_fetch(prepare_key_query(walk, &range, NULL, NULL, walk->descending),
						 params, NULL, walk->nkeys, start))
		return false;
	if (!statement_fetch(prepare_key_query(walk, &range, NULL, NULL, !walk->descending),
						 params, NULL, walk->nkeys, end))
		return false;
	if (limit > 0)
	{
		Datum		last[INDEX_MAX_KEYS];

		walk_set_number(walk, params, limit - 1);
		if (statement_fetch(prepare_key_query(walk, &range, scope, parameters, walk->descending),
							params, NULL, walk->nkeys, last))
			memcpy(end, last, sizeof(Datum) * walk->nkeys);
	}

	/* of the whole table the planner knows more than of its whole range */
	range.nstart = range.nend = from == NIL && to == NIL && limit == 0 ? 0 : walk->nkeys;
	walk_set_start(walk, params, start);
	walk_set_end(walk, params, end);
	*rows_total = statement_estimate(psprintf("SELECT FROM %s AS batch WHERE %s",
											  walk->target_name, STATEMENT_RANGE),
									 walk, &range, params);
	return true;
}

/* ---- the next range ---- */

/* Prepare the queries for bounds_next_end.  They live until the process ends. */
Bounds *
bounds_prepare(Walk *walk)
{
	Bounds	   *bounds = palloc(sizeof(Bounds));

	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		WalkRange	range = {walk->nkeys, inclusive != 0, walk->nkeys};

		bounds->end[inclusive] = prepare_key_query(walk, &range, NULL, NULL, walk->descending);
		bounds->count[inclusive] = bounds_prepare_count(walk, inclusive != 0, NULL, NULL);
		statement_keep(bounds->end[inclusive]);
		statement_keep(bounds->count[inclusive]);
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
		statement_drop(bounds->count[inclusive]);
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
bounds_count(Walk *walk, Bounds *bounds, const Datum *start, bool start_inclusive,
			 const Datum *end, Snapshot snapshot)
{
	ParamListInfo params = walk_make_params(walk, 0);
	Datum		count;

	walk_set_start(walk, params, start);
	walk_set_end(walk, params, end);
	if (!statement_fetch(bounds->count[start_inclusive], params, snapshot, 1, &count))
		return 0;
	return DatumGetInt64(count);
}

/*
 * The range of the next batch: from start to the key of its size-th row, or to
 * the last key of the walk if there are fewer rows.  The bare key is searched,
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

	walk_set_start(walk, params, start);
	walk_set_end(walk, params, last);
	walk_set_number(walk, params, size - 1);

	*at_end = !statement_fetch(bounds->end[start_inclusive], params, snapshot,
							   walk->nkeys, end);
	if (!*at_end && !walk->may_repeat)
		return size;
	for (int i = 0; i < walk->nkeys && *at_end; i++)
		end[i] = datumCopy(last[i], walk->columns[i].typbyval, walk->columns[i].typlen);
	return bounds_count(walk, bounds, start, start_inclusive, end, snapshot);
}
