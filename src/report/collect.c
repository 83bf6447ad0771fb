/*-------------------------------------------------------------------------
 *
 * collect.c
 *	  Everything that a report has to say, collected.
 *
 * All of it is read from the tables, and bounded: whatever
 * there may be any number of is counted in buckets, or cut off.  Nothing is formatted here
 * for one way of writing it down or the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "report/collect.h"
#include "report/lessons.h"
#include "report/slow.h"
#include "run/title.h"
#include "settings/settings.h"
#include "store/store.h"

/* Into so many pieces the time of the run is divided. */
#define PIECES		20

static const double durations[] = {
	0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
	1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000
};

static const double sizes[] = {
	1, 2, 5, 1e1, 2e1, 5e1, 1e2, 2e2, 5e2, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5,
	1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8
};

static void
set_scale(FiguresScale *scale, const double *bounds, int n)
{
	scale->n = n;
	scale->bounds = bounds;
	scale->buckets = palloc0(sizeof(FiguresBucket) * (n + 1));
}

/* The bounds of the buckets, those of time as long as the run has taken. */
static void
set_scales(Evaluation *e)
{
	double	   *pieces = palloc(sizeof(double) * PIECES);

	for (int i = 0; i < PIECES; i++)
		pieces[i] = e->elapsed * i / PIECES;
	set_scale(&e->scales[FIGURES_BY_DURATION], durations, lengthof(durations));
	set_scale(&e->scales[FIGURES_BY_ROWS], sizes, lengthof(sizes));
	set_scale(&e->scales[FIGURES_BY_TIME], pieces, PIECES);
}

/* How long it was, by that name, or 0. */
static double
time_of(List *times, const char *name)
{
	ListCell   *lc;

	foreach(lc, times)
	{
		const FiguresTime *time = lfirst(lc);

		if (strcmp(time->name, name) == 0)
			return time->seconds;
	}
	return 0;
}

static double
time_of_all(List *times)
{
	double		sum = 0;
	ListCell   *lc;

	foreach(lc, times)
		sum += ((const FiguresTime *) lfirst(lc))->seconds;
	return sum;
}

/* How long the run has taken so far. */
static void
find_end(Evaluation *e)
{
	const FiguresRun *run = e->run;

	e->end = run->finished_at != DT_NOBEGIN ? run->finished_at : GetCurrentTimestamp();
	if (run->started_at != DT_NOBEGIN)
		e->elapsed = Max(e->end - run->started_at, 0) / 1000000.0;
}

/* The run.  Raises an error if the caller may not see it. */
static FiguresRun *
find_run_figures(int64 run_id, Oid caller)
{
	StoreSession session;
	FiguresRun *run;

	store_begin(&session);
	run = figures_run(&session, run_id);
	store_end(&session);
	if (run == NULL || (!has_privs_of_role(caller, run->owner) &&
						!has_privs_of_role(caller, ROLE_PG_MONITOR)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill run " INT64_FORMAT " does not exist", run_id),
				 errhint("The view backfill_runs shows the runs you may see.")));
	return run;
}

/* Read everything else that is kept.  Returns the slowest batches. */
static List *
read_figures(Evaluation *e)
{
	int64		id = e->run->id;
	List	   *slowest;
	StoreSession session;

	store_begin(&session);
	e->throttled = figures_throttled(&session, id);
	e->states = figures_worked(&session, id);
	e->statuses = figures_statuses(&session, id);
	e->errors = figures_errors(&session, id, EVALUATION_KINDS, &e->error_kinds);
	e->retries = figures_retries(&session, id, EVALUATION_KINDS);
	figures_batches(&session, id, &e->batches);
	if (e->batches.n > 0)
		figures_buckets(&session, id, e->run->started_at, e->scales);
	slowest = figures_slowest(&session, id, EVALUATION_SLOWEST);
	store_end(&session);
	return slowest;
}

static List *
explain_slowest(const Evaluation *e, List *batches)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, batches)
	{
		SlowBatch  *slow = palloc(sizeof(SlowBatch));

		slow->batch = lfirst(lc);
		slow->why = slow_reason(slow->batch, &e->batches);
		result = lappend(result, slow);
	}
	return result;
}

/*
 * Evaluate the run, in the current memory context.  Raises an error if the caller may not
 * see it.
 */
Evaluation *
collect_evaluation(int64 run_id, Oid caller)
{
	Evaluation *e = palloc0(sizeof(Evaluation));
	List	   *slowest;

	e->run = find_run_figures(run_id, caller);
	e->title = title_run(run_id, e->run->name, e->run->target);
	settings_resolve(e->run->settings, &e->settings);
	find_end(e);
	set_scales(e);
	slowest = read_figures(e);

	/* events may be gone, or may not have been written at all */
	e->running = time_of(e->statuses, "running");
	if (e->running <= 0 || e->running > e->elapsed)
		e->running = e->elapsed;
	e->worked = time_of_all(e->states);
	e->slowest = explain_slowest(e, slowest);
	lessons_draw(e, caller);
	return e;
}
