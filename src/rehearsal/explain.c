/*-------------------------------------------------------------------------
 *
 * explain.c
 *	  The SQL function that shows how a definition would run.
 *
 * As EXPLAIN it returns lines of text: what the statement becomes, the plans
 * that a worker would use, estimates and warnings; on demand what some real
 * batches have cost, and what follows for the whole run.  All of that is put
 * together in a rehearsal, which is undone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/quantity.h"
#include "definition/definition.h"
#include "rehearsal/advice.h"
#include "rehearsal/effects.h"
#include "rehearsal/estimate.h"
#include "rehearsal/frame.h"
#include "rehearsal/measure.h"
#include "rehearsal/plan.h"
#include "rehearsal/tally.h"
#include "settings/guc.h"
#include "settings/parameters.h"
#include "settings/setting.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

PG_FUNCTION_INFO_V1(backfill_explain);

/*
 * What a worker does for a batch beside running the statement and searching
 * for the end of the next: claim, record, commit.
 */
#define BATCH_OVERHEAD_MS	0.05
/* What each further worker adds to the first, who shares WAL and disk with it. */
#define WORKER_GAIN			0.8

typedef struct Explain
{
	bool		measure;
	List	   *locks;			/* of the caller's transaction, from before */
	StringInfoData out;			/* in the caller's memory */
} Explain;

/* ---- words ---- */

static char *
size_text(double bytes)
{
	return TextDatumGetCString(DirectFunctionCall1(pg_size_pretty,
												   Int64GetDatum((int64) bytes)));
}

/* Two units at most: nobody plans a night by the second. */
static char *
elapsed_text(double seconds)
{
	int64		s = (int64) (seconds + 0.5);

	if (seconds < 10)
		return psprintf("%.1f s", seconds);
	if (s < 60)
		return psprintf(INT64_FORMAT " s", s);
	if (s < 3600)
		return psprintf(INT64_FORMAT " min " INT64_FORMAT " s", s / 60, s % 60);
	if (s < 86400)
		return psprintf(INT64_FORMAT " h " INT64_FORMAT " min", s / 3600, s / 60 % 60);
	return psprintf(INT64_FORMAT " d " INT64_FORMAT " h", s / 86400, s / 3600 % 24);
}

/* The mode as LOCK TABLE has it. */
static const char *
lock_mode_text(LOCKMODE mode)
{
	static const char *const words[] = {
		"no lock", "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE",
		"SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE",
		"ACCESS EXCLUSIVE"
	};

	return words[mode];
}

/* A key, as an array if it has several columns. */
static char *
key_text(Walk *walk, const Datum *key)
{
	ArrayType  *array = key_to_text(walk, key);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	if (walk->nkeys > 1)
		return OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(array));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	return TextDatumGetCString(elements[0]);
}

/* Append a text of several lines, each with an indent of two. */
static void
append_indented(StringInfo out, const char *text)
{
	while (*text)
	{
		int			length = strcspn(text, "\n");

		if (length > 0)
			appendStringInfo(out, "  %.*s\n", length, text);
		text += length;
		if (*text == '\n')
			text++;
	}
}

/* ---- what will be done ---- */

static void
append_head(Rehearsal *rehearsal, const Estimates *estimates, StringInfo out)
{
	Walk	   *walk = rehearsal->walk;
	RunSettings *settings = &rehearsal->settings;

	appendStringInfo(out, "Backfill %s of table %s\n",
					 quote_identifier(rehearsal->def->name), walk->target_name);
	appendStringInfo(out, "  Key: %s, %s\n", quote_identifier(get_rel_name(walk->index)),
					 walk->descending ? "descending" : "ascending");
	if (!rehearsal->has_rows)
	{
		appendStringInfoString(out, "  Range: there is no row in it\n");
		return;
	}
	appendStringInfo(out, "  Range: from %s to %s\n", key_text(walk, rehearsal->start),
					 key_text(walk, rehearsal->end));
	appendStringInfo(out, "  Rows: about %.0f in the table, %.0f in the range", estimates->rows_table,
					 rehearsal->rows_total);
	if (estimates->guess && rehearsal->def->scope && !estimates->is_measured)
		appendStringInfoString(out, "; how many of them are in scope is not known\n");
	else
		appendStringInfo(out, ", %.0f of them in scope%s\n", estimates->rows_in_scope,
						 estimates->is_measured ? ", as measured" : "");
	appendStringInfo(out, "  Batches: about %.0f of " INT64_FORMAT " rows\n",
					 estimates->batches, settings->batch_size);
}

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

/* Say which of the numbers are parameters of the run. */
static void
append_param_names(Rehearsal *rehearsal, List *queries, StringInfo out)
{
	Parameters *parameters = rehearsal->parameters;
	int			first = 2 * rehearsal->walk->nkeys + 2;
	Bitmapset  *used = NULL;
	bool		some = false;
	ListCell   *lc;

	foreach(lc, queries)
		(void) collect_params((Node *) lfirst(lc), &used);
	for (int i = 0; i < parameters->n; i++)
	{
		if (!bms_is_member(first + i, used))
			continue;
		appendStringInfo(out, "%s$%d is %s.%s", some ? ", " : "  Parameters: ", first + i,
						 parameters->items[i].relation,
						 quote_identifier(parameters->items[i].name));
		some = true;
	}
	if (some)
		appendStringInfoChar(out, '\n');
}

static void
append_statement(Rehearsal *rehearsal, StringInfo out)
{
	List	   *queries = statement_queries(rehearsal->statement);
	int			n = rehearsal->walk->nkeys;
	ListCell   *lc;

	appendStringInfo(out, "Statement of a batch, from key %s to %s:\n",
					 n == 1 ? "$1" : psprintf("$1 ... $%d", n),
					 n == 1 ? "$2" : psprintf("$%d ... $%d", n + 1, 2 * n));
	foreach(lc, queries)
	{
		Query	   *query = lfirst_node(Query, lc);

		if (query->commandType != CMD_UTILITY)
			append_indented(out, psprintf("%s;", pg_get_querydef(query, true)));
	}
	append_param_names(rehearsal, queries, out);
}

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
append_plans(Rehearsal *rehearsal, Estimates *estimates, const Measurement *m,
			 StringInfo out)
{
	ParamListInfo params = first_batch(rehearsal);
	StringInfoData plan;

	initStringInfo(&plan);
	plan_explain(rehearsal->statement, params, &plan, &estimates->scanned);
	appendStringInfoString(out, m ? "Plan of a batch, as it ran:\n" : "Plan of a batch:\n");
	append_indented(out, m ? m->plan.data : plan.data);

	/* the search goes to the end of the walk */
	if (rehearsal->has_rows)
		walk_set_end(rehearsal->walk, params, rehearsal->end);
	resetStringInfo(&plan);
	plan_explain(bounds_end_query(frame_bounds(rehearsal), true), params, &plan, NULL);
	appendStringInfoString(out, "Plan of the search for the end of a batch:\n");
	append_indented(out, plan.data);
}

/* ---- what was measured ---- */

static void
append_locks(const Measurement *m, StringInfo out)
{
	ListCell   *lc;

	foreach(lc, m->locks)
	{
		HeldLock   *lock = lfirst(lc);

		appendStringInfo(out, "%s%s on %s", lc == list_head(m->locks) ? "  Locks: " : ", ",
						 lock_mode_text(lock->mode),
						 DatumGetCString(DirectFunctionCall1(regclassout,
															 ObjectIdGetDatum(lock->relid))));
	}
	if (m->locks != NIL)
		appendStringInfoChar(out, '\n');
}

/* What triggers, foreign keys and functions have written into which tables. */
static void
append_elsewhere(Rehearsal *rehearsal, Effects *changes, const Measurement *m, StringInfo out)
{
	ListCell   *lc;

	foreach(lc, m->elsewhere)
	{
		TallyCount *count = lfirst(lc);
		double		rows = rehearsal->rows_total * count->rows / Max(m->rows, 1);

		/* batches that are rolled back may each have deleted the same ones */
		if (count->operation == CMD_DELETE)
			rows = estimate_at_most(count->relid, rows);
		appendStringInfo(out, "  Also %s; in the whole run about %.0f\n",
						 advice_elsewhere(changes, count), rows);
	}
}

static void
append_measurement(Rehearsal *rehearsal, Effects *changes, const Measurement *m, StringInfo out)
{
	double		rows = Max(m->rows, 1);
	double		seconds = Max((m->statement_ms + m->search_ms) / 1000, 1e-6);

	appendStringInfo(out, "Measured in %d batches %s, all rolled back:\n", m->batches,
					 m->is_spread ? "spread across the range" : "at the start of the range");
	if (!m->is_spread)
		appendStringInfoString(out, "  Hint: ANALYZE the table, so that batches from everywhere can be measured.\n");
	appendStringInfo(out, "  Rows: %.0f in their ranges, %.0f processed\n", m->rows, m->affected);
	append_elsewhere(rehearsal, changes, m, out);
	appendStringInfo(out, "  Rate: %.0f rows/s\n", rows / seconds);
	appendStringInfo(out, "  WAL: %.0f bytes per row\n", m->wal_bytes / rows);
	appendStringInfo(out, "  Buffers per 1000 rows: %.0f hit, %.0f read, %.0f dirtied, %.0f written\n",
					 1000 * m->hit / rows, 1000 * m->read / rows,
					 1000 * m->dirtied / rows, 1000 * m->written / rows);
	if (m->updated > 0)
		appendStringInfo(out, "  HOT: %.0f %% of the updates\n", 100 * m->hot / m->updated);
	append_locks(m, out);
	appendStringInfo(out, "  Longest statement: %.1f ms\n", m->longest_ms);
}

/* How many batches the whole run has, if their size follows their time. */
static double
project_batches(const Rehearsal *rehearsal, const Estimates *estimates, const Measurement *m)
{
	const RunSettings *settings = &rehearsal->settings;
	double		size;

	if (settings->target_batch_time == 0 || m->statement_ms <= 0)
		return Max(estimates->batches, 1);
	size = settings->target_batch_time * Max(m->rows, 1) / m->statement_ms;
	size = Max(Min(size, settings->max_batch_size), settings->min_batch_size);
	return Max(ceil(rehearsal->rows_total / size), 1);
}

/* The time that the limits on the rate leave for the whole run at least, in ms. */
static double
least_duration(const Rehearsal *rehearsal, const Estimates *estimates, const Measurement *m)
{
	const RateLimit *rows = &rehearsal->settings.rate_limit;
	const RateLimit *wal = &rehearsal->settings.wal_rate_limit;
	double		wal_bytes = rehearsal->rows_total * m->wal_bytes / Max(m->rows, 1);
	double		ms = 0;

	if (rows->amount > 0)
		ms = Max(ms, (estimates->rows_in_scope / rows->amount - 1) * rows->window);
	if (wal->amount > 0)
		ms = Max(ms, (wal_bytes / wal->amount - 1) * wal->window);
	return ms;
}

/*
 * What follows for the whole run, if the other batches are like these.  Workers
 * sleep side by side, but at work they hinder each other a little.
 */
static void
append_projection(Rehearsal *rehearsal, const Estimates *estimates,
				  const Measurement *m, StringInfo out)
{
	RunSettings *settings = &rehearsal->settings;
	double		rows = Max(m->rows, 1);
	double		batches = project_batches(rehearsal, estimates, m);
	double		workers = Min(Max(Min(settings->workers, guc_max_workers), 1), batches);
	double		work = rehearsal->rows_total * (m->statement_ms + m->search_ms) / rows +
		batches * BATCH_OVERHEAD_MS;
	double		sleep = Max(batches * settings->sleep, work * settings->nice / 1000000) / workers;
	double		busy = work / (1 + WORKER_GAIN * (workers - 1));

	sleep = Max(sleep, least_duration(rehearsal, estimates, m) - busy);
	appendStringInfo(out, "Projected for the whole run, with %.0f %s:\n", workers,
					 workers > 1 ? "workers on as many idle cores" : "worker");
	appendStringInfo(out, "  Duration: %s, of which sleep: %s\n",
					 elapsed_text((busy + sleep) / 1000),
					 elapsed_text(sleep / 1000));
	appendStringInfo(out, "  WAL: %s\n", size_text(rehearsal->rows_total * m->wal_bytes / rows));
	appendStringInfo(out, "  Growth of tables and indexes: %s if no vacuum comes meanwhile\n",
					 size_text(rehearsal->rows_total * Max(m->growth, 0) / rows));
}

/* In the rehearsal: put the text together. */
static void
explain(Rehearsal *rehearsal, void *arg)
{
	Explain    *explain = (Explain *) arg;
	Estimates	estimates = {0};
	Measurement *m = NULL;
	StringInfo	out = &explain->out;
	Effects    *changes;

	changes = effects_collect(statement_queries(rehearsal->statement));
	estimate_make(rehearsal, &estimates);
	if (explain->measure && rehearsal->has_rows)
	{
		m = measure_batches(rehearsal, explain->locks,
							estimates.guess && rehearsal->def->scope);
		estimate_correct(rehearsal, &estimates, m->rows, m->in_scope);
	}
	append_head(rehearsal, &estimates, out);
	append_statement(rehearsal, out);
	append_plans(rehearsal, &estimates, m, out);
	if (rehearsal->def->finish)
	{
		appendStringInfoString(out, "Last step, once, when all batches are done:\n");
		append_indented(out, rehearsal->def->finish);
	}
	advice_append(out, rehearsal, changes, &estimates);
	if (m)
	{
		append_measurement(rehearsal, changes, m, out);
		append_projection(rehearsal, &estimates, m, out);
	}
}

/* backfill_explain(name, parameters, measure) */
Datum
backfill_explain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Explain		result = {0};
	char	   *name = definition_name_arg(fcinfo);
	char	   *line;

	result.measure = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	initStringInfo(&result.out);
	if (result.measure)
		result.locks = measure_held_locks();
	frame_rehearse("backfill_explain()", name,
			 PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), explain, &result);

	for (char *rest = result.out.data; (line = strsep(&rest, "\n")) != NULL;)
	{
		Datum		value;
		bool		isnull = false;

		if (line[0] == '\0')
			continue;
		value = CStringGetTextDatum(line);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
