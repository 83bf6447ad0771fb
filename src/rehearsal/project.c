/*-------------------------------------------------------------------------
 *
 * project.c
 *	  What follows for a whole run from some batches that were measured.
 *
 * If the other batches are like those: what is fixed of a batch comes again with
 * each, and the rest with each row.  The batches of the run need not have the size
 * of the measured ones.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "base/fixedcost.h"
#include "rehearsal/project.h"
#include "settings/guc.h"
#include "settings/setting.h"

/*
 * What a worker does for a batch beside running the statement and searching
 * for the end of the next: claim, record, commit.
 */
#define BATCH_OVERHEAD_MS	0.05
/* What each further worker adds to the first, who shares WAL and disk with it. */
#define WORKER_GAIN			0.8
/* A row costs that share of the whole at least, however much is fixed. */
#define LEAST_ROWS_SHARE	0.01
/*
 * With reuse_space a table grows by what the batches of each worker write before
 * the first of it is free, and by what does not fit into the gaps that are left.
 */
#define BATCHES_BEFORE_REUSE	2
#define SHARE_IN_GAPS			0.08

/* What a row takes in the statement of a batch, beside what is fixed, in ms. */
static double
row_ms(const Measurement *m)
{
	double		rest = m->statement_ms - m->batches * m->fixed_ms;

	return Max(rest, LEAST_ROWS_SHARE * m->statement_ms) / Max(m->rows, 1);
}

/* What the statement of a batch of so many rows takes. */
double
project_batch_ms(const Measurement *m, double size)
{
	return m->fixed_ms + size * row_ms(m);
}

/*
 * How many rows a batch has, if they follow its time and what is fixed of it, as a
 * worker has it.
 */
static double
project_size(const Rehearsal *rehearsal, const Measurement *m)
{
	const RunSettings *settings = &rehearsal->settings;
	double		fixed = m->fixed_ms;
	double		row = row_ms(m);
	double		size;

	/* clients take the time that they take */
	if (settings->target_batch_time == 0 || row <= 0 || rehearsal->def->statement == NULL)
		return settings->batch_size;
	size = fixedcost_rows_time(settings->target_batch_time * 1000.0, fixed * 1000) / 1000 / row;
	if (settings->max_batch_time > 0)
		size = Min(size, Max(settings->max_batch_time - fixed, 0) / row);
	return Max(Min(floor(size), settings->max_batch_size), settings->min_batch_size);
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
 * Which part of the new versions finds no line pointer on a page that was cleared: a page has so many, and
 * one stays with each row that was removed, until VACUUM.
 */
static double
share_without_pointer(double rows_page)
{
	return rows_page > 0 ? Max(2 - MaxHeapTuplesPerPage / rows_page, 0) : 0;
}

/* Which part of the growth of a rewritten table is left with reuse_space. */
static double
share_not_reused(const Estimates *estimates, const Measurement *m, const Projection *p)
{
	if (m->updated == 0)
		return 1;
	return Min(BATCHES_BEFORE_REUSE * p->workers / p->batches +
			   Max(SHARE_IN_GAPS, share_without_pointer(estimates->rows_page)), 1);
}

/*
 * The whole run.  Workers sleep side by side, but at work they hinder each other a
 * little.
 */
Projection *
project_run(Rehearsal *rehearsal, const Estimates *estimates, const Measurement *m)
{
	Projection *p = palloc0(sizeof(Projection));
	RunSettings *settings = &rehearsal->settings;
	double		share = rehearsal->rows_total / Max(m->rows, 1);
	double		work;
	double		sleep;
	double		busy;

	p->batch_size = project_size(rehearsal, m);
	p->batches = Max(ceil(rehearsal->rows_total / p->batch_size), 1);
	p->workers = Min(Max(Min(settings->workers, guc_max_workers), 1), p->batches);
	work = p->batches * (m->fixed_ms + BATCH_OVERHEAD_MS) + rehearsal->rows_total * row_ms(m) +
		share * m->search_ms;
	sleep = Max(p->batches * settings->sleep, work * settings->nice / 1000000) / p->workers;
	busy = work / (1 + WORKER_GAIN * (p->workers - 1));
	sleep = Max(sleep, least_duration(rehearsal, estimates, m) - busy);
	p->seconds = (busy + sleep) / 1000;
	p->sleep_seconds = sleep / 1000;
	p->wal_bytes = share * m->wal_bytes;
	p->growth_without_reuse_bytes = share * (Max(m->table_growth, 0) + Max(m->index_growth, 0));
	p->growth_bytes = !settings->reuse_space ? p->growth_without_reuse_bytes :
		share * (share_not_reused(estimates, m, p) * Max(m->table_growth, 0) + Max(m->index_growth, 0));
	return p;
}
