/*-------------------------------------------------------------------------
 *
 * facts.c
 *	  What backfill_explain has to say, before it is written down.
 *
 * What the statement becomes, the plans that a worker would use, estimates and
 * warnings; on demand what some real batches have cost, and what follows for the
 * whole run.  Where batches are measured, that beats what was estimated.
 *
 * Called in a rehearsal, as the owner of the definition.  Nothing is formatted
 * here for one way of writing it down or the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/ruleutils.h"

#include "rehearsal/advice.h"
#include "rehearsal/effects.h"
#include "rehearsal/facts.h"
#include "rehearsal/tally.h"
#include "settings/parameters.h"
#include "settings/setting.h"
#include "store/definition.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* Plans that did not run are shown in so many lines. */
#define PLAN_LINES			40
#define SEARCH_LINES		12

/* ---- the statement ---- */

/* Collect the numbers of the parameters that are used. */
static bool
collect_params(Node *node, void *context)
{
	Bitmapset **numbers = (Bitmapset **) context;

	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
		*numbers = bms_add_member(*numbers, ((Param *) node)->paramid);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, collect_params, context, 0);
	return expression_tree_walker(node, collect_params, context);
}

/* Which of the numbers in the queries are parameters of the run: UsedParameter. */
static List *
used_parameters(Rehearsal *rehearsal, List *queries)
{
	Parameters *parameters = rehearsal->parameters;
	int			first = 2 * rehearsal->walk->nkeys + 2;
	Bitmapset  *used = NULL;
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, queries)
		(void) collect_params((Node *) lfirst(lc), &used);
	for (int i = 0; i < parameters->n; i++)
	{
		UsedParameter *parameter;

		if (!bms_is_member(first + i, used))
			continue;
		parameter = palloc(sizeof(UsedParameter));
		parameter->number = first + i;
		parameter->name = psprintf("%s.%s", parameters->items[i].relation,
								   quote_identifier(parameters->items[i].name));
		result = lappend(result, parameter);
	}
	return result;
}

static void
collect_statements(Facts *facts)
{
	List	   *queries = statement_queries(facts->rehearsal->statement);
	ListCell   *lc;

	foreach(lc, queries)
	{
		Query	   *query = lfirst_node(Query, lc);

		if (query->commandType != CMD_UTILITY)
			facts->statements = lappend(facts->statements, pg_get_querydef(query, true));
	}
	facts->parameters = used_parameters(facts->rehearsal, queries);
}

/* ---- the plans ---- */

/* The parameters of the first batch; all null when there are no rows. */
static ParamListInfo
first_batch(Rehearsal *rehearsal)
{
	Datum	   *end = palloc(sizeof(Datum) * INDEX_MAX_KEYS);
	ParamListInfo params;
	bool		at_end;

	if (!rehearsal->has_rows)
		return frame_params(rehearsal, NULL, NULL);
	(void) bounds_next_end(rehearsal->walk, frame_bounds(rehearsal), rehearsal->start,
						   true, rehearsal->end, rehearsal->settings.batch_size, NULL,
						   end, &at_end);
	params = frame_params(rehearsal, rehearsal->start, end);
	walk_set_number(rehearsal->walk, params, rehearsal->settings.batch_size - 1);
	return params;
}

static void
collect_plans(Facts *facts)
{
	Rehearsal  *rehearsal = facts->rehearsal;
	ParamListInfo params = first_batch(rehearsal);

	facts->plan_ran = facts->m && facts->m->plan;
	facts->plan = facts->plan_ran ? facts->m->plan :
		plan_explain(rehearsal->statement, params, PLAN_LINES);
	facts->pruning = costs_pruning(rehearsal, facts->plan);

	/* the search goes to the end of the walk */
	if (rehearsal->has_rows)
		walk_set_end(rehearsal->walk, params, rehearsal->end);
	facts->search = plan_explain(bounds_end_query(frame_bounds(rehearsal), true), params,
								 SEARCH_LINES);
}

/* ---- what was measured ---- */

/* What triggers, foreign keys and functions have written into which tables. */
static void
collect_elsewhere(Facts *facts, Effects *changes)
{
	const Measurement *m = facts->m;
	ListCell   *lc;

	foreach(lc, m->elsewhere)
	{
		TallyCount *count = lfirst(lc);
		AlsoChanged *also = palloc0(sizeof(AlsoChanged));

		also->relid = count->relid;
		also->operation = count->operation;
		also->rows = count->rows;
		also->projected = facts->rehearsal->rows_total * count->rows / Max(m->rows, 1);
		/* batches that are rolled back may each have deleted the same ones */
		if (count->operation == CMD_DELETE)
			also->projected = estimate_at_most(count->relid, also->projected);
		also->cause = effects_cause(changes, count->relid, count->operation);
		also->text = advice_elsewhere(changes, count);
		facts->also = lappend(facts->also, also);
	}
}

/* Measure, and let what was measured take the place of what was estimated. */
static void
collect_measurement(Facts *facts, Effects *changes, List *locks_before)
{
	Rehearsal  *rehearsal = facts->rehearsal;
	Estimates  *estimates = &facts->estimates;
	Measurement *m = measure_batches(rehearsal, locks_before);

	facts->m = m;
	if (m->batches == 0)
		return;
	if (m->is_spread || estimates->guess)
		estimate_correct_scope(rehearsal, estimates, m->rows, m->in_scope);
	collect_elsewhere(facts, changes);
	facts->projection = project_run(rehearsal, estimates, m);
	estimates->batches = facts->projection->batches;
	estimates->batch_size = facts->projection->batch_size;
}

/* ---- all of it ---- */

/*
 * Collect everything, with batches that are measured if that is asked for.  The
 * locks are those that the caller's transaction had before.
 */
Facts *
facts_collect(Rehearsal *rehearsal, bool measure, List *locks_before)
{
	Facts	   *facts = palloc0(sizeof(Facts));
	Effects    *changes = effects_collect(statement_queries(rehearsal->statement));

	facts->rehearsal = rehearsal;
	if (rehearsal->has_rows)
	{
		facts->from = key_to_text(rehearsal->walk, rehearsal->start);
		facts->to = key_to_text(rehearsal->walk, rehearsal->end);
	}
	estimate_make(rehearsal, &facts->estimates);
	if (measure && rehearsal->has_rows)
		collect_measurement(facts, changes, locks_before);
	keykind_find(rehearsal, facts->estimates.rows_table, &facts->kind);
	collect_statements(facts);
	collect_plans(facts);
	keykind_advise(&facts->warnings, rehearsal, &facts->kind, facts->estimates.batch_size);
	advice_scope(&facts->warnings, rehearsal, &facts->estimates);
	costs_advise(&facts->warnings, rehearsal, &facts->estimates, facts->plan, facts->m);
	advice_changes(&facts->warnings, rehearsal, changes, &facts->estimates);
	return facts;
}
