/*-------------------------------------------------------------------------
 *
 * estimate.c
 *	  How many rows a run will meet, and whether that is more than a guess.
 *
 * The planner always has a number, also where it knows nothing: of a column that
 * was just added, of a table that was never analyzed, or of one that has changed
 * a lot since.  Then it is not shown as if it were known, and what is known
 * instead is that there are no more rows in scope than in the range, or what
 * real batches have met.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "rehearsal/estimate.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* Statistics are stale when so many rows have changed, and such a share of all. */
#define STALE_ROWS			100000.0
#define STALE_SHARE			0.2

/* ---- what the planner says ---- */

static void
take_rows(PlannedStmt *plan, const char *text, ParamListInfo params, void *arg)
{
	*(double *) arg = plan->planTree->plan_rows;
}

/* A query for all rows of the target, in scope if one is given. */
static Statement *
prepare_query(Rehearsal *rehearsal, const char *scope)
{
	Walk	   *walk = rehearsal->walk;
	WalkRange	everything = {.everything = true};

	return statement_prepare_own(psprintf("SELECT FROM %s AS batch WHERE %s",
										  walk->target_name, STATEMENT_RANGE),
								 walk, &everything, scope, rehearsal->parameters);
}

/* The planner's estimate of the rows of the table, in scope if one is given. */
static double
estimate_rows(Rehearsal *rehearsal, const char *scope)
{
	double		rows = 0;

	statement_each_plan(prepare_query(rehearsal, scope), frame_params(rehearsal, NULL, NULL),
						take_rows, &rows);
	return rows;
}

/*
 * The columns of the target that the scope is about, which there is: attribute
 * numbers, offset as those of pull_varattnos.
 */
Bitmapset *
estimate_scope_columns(Rehearsal *rehearsal)
{
	Query	   *parsed = linitial_node(Query,
									   statement_queries(prepare_query(rehearsal, rehearsal->def->scope)));
	Bitmapset  *columns = NULL;
	ListCell   *lc;

	/* which pull_varattnos itself cannot find where there are sub-selects */
	foreach(lc, pull_vars_of_level(parsed->jointree->quals, 0))
	{
		Var		   *var = lfirst_node(Var, lc);

		if (var->varno == 1)
			columns = bms_add_member(columns, var->varattno - FirstLowInvalidHeapAttributeNumber);
	}
	return columns;
}

/* ---- what it knows ---- */

static bool
has_statistics(Oid relid, AttrNumber attno)
{
	return SearchSysCacheExists3(STATRELATTINH, ObjectIdGetDatum(relid), Int16GetDatum(attno),
								 BoolGetDatum(false));
}

/* Whether any column of the table has statistics. */
static bool
is_analyzed(Relation rel)
{
	for (int i = 1; i <= RelationGetNumberOfAttributes(rel); i++)
	{
		if (has_statistics(RelationGetRelid(rel), i))
			return true;
	}
	return false;
}

/* A column of the scope that has no statistics in the table, or NULL. */
static const char *
unknown_column(Relation rel, Oid target, const Bitmapset *columns)
{
	int			member = -1;

	while ((member = bms_next_member(columns, member)) >= 0)
	{
		AttrNumber	attno = member + FirstLowInvalidHeapAttributeNumber;
		const char *name;

		/* of a virtual column the planner looks at what it is computed from */
		if (attno <= 0 || get_attgenerated(target, attno) == 'v')
			continue;
		name = get_attname(target, attno, false);
		if (!has_statistics(RelationGetRelid(rel), get_attnum(RelationGetRelid(rel), name)))
			return name;
	}
	return NULL;
}

/* Whether so much of the table has changed since it was analyzed. */
static bool
is_stale(Relation rel, double *changed)
{
	*changed = DatumGetInt64(DirectFunctionCall1(pg_stat_get_mod_since_analyze,
												 ObjectIdGetDatum(RelationGetRelid(rel))));
	return *changed >= STALE_ROWS && *changed >= STALE_SHARE * Max(rel->rd_rel->reltuples, 0);
}

/*
 * Why the planner can only guess how many rows of one table with rows in it are in
 * scope, or NULL if it need not.  Without a scope nothing depends on columns.
 */
static const char *
find_guess(Relation rel, Rehearsal *rehearsal, const Bitmapset *columns)
{
	Oid			target = rehearsal->walk->target;
	const char *name = DatumGetCString(DirectFunctionCall1(regclassout,
														   ObjectIdGetDatum(RelationGetRelid(rel))));
	const char *column;
	double		changed;

	if (!is_analyzed(rel))
		return psprintf("table %s has never been analyzed", name);
	if (rehearsal->def->scope == NULL)
		return NULL;
	column = unknown_column(rel, target, columns);
	if (column)
		return psprintf("column %s of table %s has no statistics", quote_identifier(column), name);
	if (is_stale(rel, &changed))
		return psprintf("about %.0f rows of table %s have been changed since it was analyzed",
						changed, name);
	return NULL;
}

/* Look at the target, and at its children, which the planner estimates each. */
static void
judge(Rehearsal *rehearsal, Estimates *estimates)
{
	Oid			target = rehearsal->walk->target;
	Bitmapset  *columns = rehearsal->def->scope ? estimate_scope_columns(rehearsal) : NULL;
	double		rows = 0;
	double		pages = 0;
	ListCell   *lc;

	foreach(lc, find_all_inheritors(target, NoLock, NULL))
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);
		bool		has_rows = RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind);

		if (estimates->guess == NULL && has_rows && RelationGetNumberOfBlocks(rel) > 0)
			estimates->guess = find_guess(rel, rehearsal, columns);
		if (has_rows && rel->rd_rel->reltuples > 0)
		{
			rows += rel->rd_rel->reltuples;
			pages += rel->rd_rel->relpages;
		}
		table_close(rel, AccessShareLock);
	}
	estimates->rows_page = pages > 0 ? rows / pages : 0;
	if (estimates->guess)
		estimates->remedy = psprintf("Run ANALYZE %s, so that the planner knows.",
									 rehearsal->walk->target_name);
}

/* ---- all of it ---- */

/* What the planner expects, and whether it knows.  Memory is the current context's. */
void
estimate_make(Rehearsal *rehearsal, Estimates *estimates)
{
	double		in_scope;

	estimates->batch_size = rehearsal->settings.batch_size;
	estimates->rows_table = estimate_rows(rehearsal, NULL);
	if (!rehearsal->has_rows || estimates->rows_table < 1)
		return;
	judge(rehearsal, estimates);
	in_scope = rehearsal->def->scope && estimates->guess == NULL ?
		estimate_rows(rehearsal, rehearsal->def->scope) : estimates->rows_table;
	estimates->rows_in_scope = rehearsal->rows_total *
		Min(in_scope / estimates->rows_table, 1);
	estimates->batches = ceil(rehearsal->rows_total / estimates->batch_size);
}

/*
 * Real batches have met so many rows in their ranges, and so many in scope: the
 * others will be alike.  None in scope tells nothing of where there are some, such
 * as behind the last batch, which the planner may know.
 */
void
estimate_correct_scope(Rehearsal *rehearsal, Estimates *estimates, double rows, double in_scope)
{
	if (rehearsal->def->scope == NULL || rows < 1 ||
		(in_scope == 0 && estimates->guess == NULL))
		return;
	estimates->rows_in_scope = rehearsal->rows_total * Min(in_scope / rows, 1);
	estimates->is_measured = true;
}

/* So many rows, but not more than the table has, as far as that is known. */
double
estimate_at_most(Oid relid, double rows)
{
	Relation	rel = table_open(relid, AccessShareLock);
	double		all = rel->rd_rel->reltuples;

	table_close(rel, AccessShareLock);
	return all > 0 ? Min(rows, all) : rows;
}
