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
#include "report/count.h"
#include "report/lessons.h"
#include "report/slow.h"
#include "run/title.h"
#include "settings/settings.h"
#include "store/store.h"

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

/* Read everything else that is kept. */
static void
read_figures(Evaluation *e)
{
	int64		id = e->run->id;
	StoreSession session;

	store_begin(&session);
	e->throttled = figures_throttled(&session, id);
	e->states = figures_worked(&session, id);
	e->statuses = figures_statuses(&session, id);
	e->errors = figures_errors(&session, id, EVALUATION_KINDS, &e->error_kinds);
	e->retries = figures_retries(&session, id, EVALUATION_KINDS);
	if (e->run->started_at != DT_NOBEGIN)
		count_batches(&session, e);
	store_end(&session);
}

/*
 * Evaluate the run, in the current memory context.  Raises an error if the caller may not
 * see it.
 */
Evaluation *
collect_evaluation(int64 run_id, Oid caller)
{
	Evaluation *e = palloc0(sizeof(Evaluation));

	e->run = find_run_figures(run_id, caller);
	e->title = title_run(run_id, e->run->name, e->run->target);
	settings_resolve(e->run->settings, &e->settings);
	find_end(e);
	count_prepare(e);
	read_figures(e);

	/* events may be gone, or may not have been written at all */
	e->running = time_of(e->statuses, "running");
	if (e->running <= 0 || e->running > e->elapsed)
		e->running = e->elapsed;
	e->worked = time_of_all(e->states);
	for (int i = 0; i < e->nslowest; i++)
		e->slowest[i].why = slow_reason(&e->slowest[i], &e->batches);
	lessons_draw(e, caller);
	return e;
}
