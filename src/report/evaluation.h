/*-------------------------------------------------------------------------
 *
 * evaluation.h
 *	  What backfill_report has to say, before it is written down.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_EVALUATION_H
#define BACKFILL_REPORT_EVALUATION_H

#include "settings/setting.h"
#include "store/figures.h"

/* At most so many of whatever there are any number of. */
#define EVALUATION_SLOWEST	10
#define EVALUATION_KINDS	10

/* The percentiles that are looked at, the longest or largest included. */
#define EVALUATION_PERCENTILES	5

/* All completed batches that took any time. */
typedef struct BatchTotals
{
	int64		n;
	int64		repeated;		/* begun more than once */
	int64		attempts;		/* that led to nothing */
	int64		by_clients;
	double		rows;
	double		seconds;
	double		cpu_seconds;	/* 0 if only clients have done the work */
	double		lock_seconds;
	double		blocks_read;
	double		full_pages;
	double		updated;
	double		hot_updated;
	double		seconds_at[EVALUATION_PERCENTILES];
	double		rows_at[EVALUATION_PERCENTILES];
} BatchTotals;

/* By what batches are counted in buckets. */
typedef enum Axis
{
	AXIS_DURATION,
	AXIS_ROWS,
	AXIS_TIME
} Axis;

#define AXES	(AXIS_TIME + 1)

/* The batches from one bound, the bucket's of its axis, to the next. */
typedef struct Bucket
{
	int64		batches;
	double		rows;
	double		seconds;
} Bucket;

/* Buckets along an axis: the first is for what is below the first bound. */
typedef struct Scale
{
	int			n;				/* of bounds */
	const double *bounds;		/* seconds, rows, or seconds since the run began */
	Bucket	   *buckets;		/* n + 1 */
} Scale;

/* A batch that took long, and why, as far as what is kept of it tells. */
typedef struct SlowBatch
{
	FiguresBatch batch;
	FiguresDetails *details;
	char	   *why;
} SlowBatch;

/* Times in seconds. */
typedef struct Evaluation
{
	FiguresRun *run;
	char	   *title;			/* "run 2 of fill on orders" */
	RunSettings settings;		/* as they are at the end */
	TimestampTz end;			/* of the run, or now */
	double		elapsed;		/* since the first worker began; 0 if none has */
	double		running;		/* of those with the status running, as far as known */
	double		worked;			/* of all workers together, as far as it was added up */
	BatchTotals batches;
	Scale		scales[AXES];
	List	   *throttled;		/* FiguresTime */
	List	   *states;			/* FiguresTime, of workers */
	List	   *statuses;		/* FiguresTime */
	int			nslowest;
	SlowBatch	slowest[EVALUATION_SLOWEST];	/* the slowest first */
	List	   *errors;			/* FiguresError */
	int64		error_kinds;	/* there may be more than those */
	List	   *retries;		/* FiguresRetry */
	List	   *lessons;		/* Warning */
} Evaluation;

#endif							/* BACKFILL_REPORT_EVALUATION_H */
