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

#define EVALUATION_AXES		(FIGURES_BY_TIME + 1)

/* At most so many of whatever there are any number of. */
#define EVALUATION_SLOWEST	10
#define EVALUATION_KINDS	10

/* A batch that took long, and why, as far as what is kept of it tells. */
typedef struct SlowBatch
{
	const FiguresBatch *batch;
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
	FiguresBatches batches;
	FiguresScale scales[EVALUATION_AXES];
	List	   *throttled;		/* FiguresTime */
	List	   *states;			/* FiguresTime, of workers */
	List	   *statuses;		/* FiguresTime */
	List	   *slowest;		/* SlowBatch */
	List	   *errors;			/* FiguresError */
	int64		error_kinds;	/* there may be more than those */
	List	   *retries;		/* FiguresRetry */
	List	   *lessons;		/* Warning */
} Evaluation;

#endif							/* BACKFILL_REPORT_EVALUATION_H */
