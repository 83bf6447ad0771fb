/*-------------------------------------------------------------------------
 *
 * count.c
 *	  The batches of a run, counted.
 *
 * Each batch is looked at once, while the table is read: it adds to the sums, to a bucket
 * of each axis, to the percentiles, and may be one of the slowest.  All of that has a fixed
 * size, and is there before the reading begins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/sketch.h"
#include "report/count.h"

/* Into so many pieces the time of the run is divided. */
#define PIECES		20

const double count_percentiles[EVALUATION_PERCENTILES] = {0.5, 0.9, 0.95, 0.99, 1};

static const double durations[] = {
	0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
	1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000
};

static const double sizes[] = {
	1, 2, 5, 1e1, 2e1, 5e1, 1e2, 2e2, 5e2, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5,
	1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8
};

/* What is counted, and the percentiles while it is. */
typedef struct Counter
{
	Evaluation *e;
	Sketch	   *seconds;
	Sketch	   *rows;
} Counter;

static void
set_scale(Scale *scale, const double *bounds, int n)
{
	scale->n = n;
	scale->bounds = bounds;
	scale->buckets = palloc0(sizeof(Bucket) * (n + 1));
}

/* The bounds of the buckets, those of time as long as the run has taken. */
void
count_prepare(Evaluation *e)
{
	double	   *pieces = palloc(sizeof(double) * PIECES);

	for (int i = 0; i < PIECES; i++)
		pieces[i] = e->elapsed * i / PIECES;
	set_scale(&e->scales[AXIS_DURATION], durations, lengthof(durations));
	set_scale(&e->scales[AXIS_ROWS], sizes, lengthof(sizes));
	set_scale(&e->scales[AXIS_TIME], pieces, PIECES);
}

/* Add the batch to the bucket with the last bound that the value reaches. */
static void
fill(Scale *scale, double value, const FiguresBatch *batch)
{
	Bucket	   *bucket;
	int			i = scale->n;

	while (i > 0 && value < scale->bounds[i - 1])
		i--;
	bucket = &scale->buckets[i];
	bucket->batches++;
	bucket->rows += batch->rows;
	bucket->seconds += batch->seconds;
}

/* Whether a batch stands before another one among the slowest. */
static bool
is_slower(const FiguresBatch *a, const FiguresBatch *b)
{
	if (a->seconds != b->seconds)
		return a->seconds > b->seconds;
	if (a->walk_id != b->walk_id)
		return a->walk_id > b->walk_id;
	return a->number != b->number ? a->number < b->number : a->part < b->part;
}

/* Keep the batch if it is one of the slowest so far. */
static void
keep_slowest(Evaluation *e, const FiguresBatch *batch)
{
	int			place = e->nslowest;

	if (place == EVALUATION_SLOWEST && !is_slower(batch, &e->slowest[--place].batch))
		return;
	for (; place > 0 && is_slower(batch, &e->slowest[place - 1].batch); place--)
		e->slowest[place] = e->slowest[place - 1];
	e->slowest[place].batch = *batch;
	e->nslowest = Min(e->nslowest + 1, EVALUATION_SLOWEST);
}

static void
add_up(BatchTotals *sums, const FiguresBatch *batch)
{
	sums->n++;
	sums->repeated += batch->attempt > 1;
	sums->attempts += Max(batch->attempt - 1, 0);
	sums->by_clients += batch->by_client;
	sums->rows += batch->rows;
	sums->seconds += batch->seconds;
	sums->cpu_seconds += Max(batch->cpu_seconds, 0);
	sums->lock_seconds += batch->lock_seconds;
	sums->blocks_read += batch->blocks_read;
	sums->full_pages += batch->full_pages;
	sums->updated += batch->updated;
	sums->hot_updated += batch->hot_updated;
}

/* One batch; for figures_each_batch. */
static void
count(const FiguresBatch *batch, void *arg)
{
	Counter    *counter = (Counter *) arg;
	Evaluation *e = counter->e;

	add_up(&e->batches, batch);
	fill(&e->scales[AXIS_DURATION], batch->seconds, batch);
	fill(&e->scales[AXIS_ROWS], batch->rows, batch);

	/* what was finished before the beginning, by a clock that was set, counts with the first */
	fill(&e->scales[AXIS_TIME], Max((batch->finished_at - e->run->started_at) / (double) USECS_PER_SEC, 0), batch);
	sketch_add(counter->seconds, batch->seconds);
	sketch_add(counter->rows, batch->rows);
	keep_slowest(e, batch);
}

/* Within a store session: count them.  Everything was prepared before that. */
void
count_batches(StoreSession *session, Evaluation *e)
{
	Counter		counter = {e, palloc0(sizeof(Sketch)), palloc0(sizeof(Sketch))};

	figures_each_batch(session, e->run->id, count, &counter);
	for (int i = 0; i < EVALUATION_PERCENTILES; i++)
	{
		e->batches.seconds_at[i] = sketch_at(counter.seconds, count_percentiles[i]);
		e->batches.rows_at[i] = sketch_at(counter.rows, count_percentiles[i]);
	}
	for (int i = 0; i < e->nslowest; i++)
		e->slowest[i].details = figures_details(session, &e->slowest[i].batch);
}
