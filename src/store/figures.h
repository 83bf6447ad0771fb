/*-------------------------------------------------------------------------
 *
 * figures.h
 *	  What is kept of a run, added up for an evaluation.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_FIGURES_H
#define BACKFILL_STORE_FIGURES_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "store/status.h"
#include "store/store.h"

/* The run itself.  Sizes in bytes. */
typedef struct FiguresRun
{
	int64		id;
	char	   *name;
	Oid			owner;
	Oid			target;
	RunStatus	status;
	char	   *started_by;		/* role, or its number if it is gone */
	TimestampTz created_at;
	TimestampTz started_at;		/* DT_NOBEGIN if no worker has begun */
	TimestampTz finished_at;	/* DT_NOBEGIN if it has not ended */
	double		rows_scanned;
	double		rows_total;		/* below 0 while unknown */
	double		rows_affected;
	double		batches;
	int64		errors;			/* rows left out */
	int64		repaired;
	double		rows_remaining; /* below 0 if they were not counted */
	double		wal_bytes;
	double		table_size;		/* when it began; below 0 if not known */
	double		table_growth;	/* below 0 if it has shrunk */
	double		index_size;
	double		index_growth;
	double		space_freed;
	char	   *space_kept_by;
	int64		yields;
	int64		batch_size;		/* as target_batch_time has led to, or 0 */
	char	   *throttled_by;
	char	   *wait_reason;
	char	   *sqlstate;
	char	   *error;
	char	   *statement;		/* NULL if clients do the work */
	char	   *scope;
	bool		generic;
	Jsonb	   *settings;
	Jsonb	   *parameters;
} FiguresRun;

/* Time that went by under a name. */
typedef struct FiguresTime
{
	char	   *name;
	double		seconds;
} FiguresTime;

/* The percentiles that are looked at, and the longest or largest. */
#define FIGURES_PERCENTILES		5
extern const double figures_percentiles[FIGURES_PERCENTILES];

/* All completed batches, those that nobody had in hand left out. */
typedef struct FiguresBatches
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
	double		seconds_at[FIGURES_PERCENTILES];
	double		rows_at[FIGURES_PERCENTILES];
} FiguresBatches;

/* By what batches are counted in buckets. */
typedef enum FiguresAxis
{
	FIGURES_BY_DURATION,
	FIGURES_BY_ROWS,
	FIGURES_BY_TIME
} FiguresAxis;

/* The batches from one bound, the bucket's of its axis, to the next. */
typedef struct FiguresBucket
{
	int64		batches;
	double		rows;
	double		seconds;
} FiguresBucket;

/* Bounds of the buckets of the axes, and room for one more bucket below the first. */
typedef struct FiguresScale
{
	int			n;
	const double *bounds;		/* seconds, rows, or seconds since the run began */
	FiguresBucket *buckets;		/* n + 1 */
} FiguresScale;

/* One batch. */
typedef struct FiguresBatch
{
	int64		number;
	int			part;
	char	   *key_range;		/* not all of it, if it is long */
	double		rows;
	double		rows_affected;
	double		seconds;
	double		cpu_seconds;	/* below 0 if it is not known */
	double		lock_seconds;
	double		blocks_read;
	double		full_pages;
	double		wal_bytes;
	int			attempt;
	char	   *error;			/* of an earlier attempt, or NULL */
	char	   *client;			/* or NULL */
	TimestampTz started_at;
} FiguresBatch;

/* Rows left out, or repaired, with an SQLSTATE. */
typedef struct FiguresError
{
	char	   *sqlstate;
	int64		left;			/* out, and not resolved since */
	int64		resolved;
	int64		repaired;		/* of those, in the transaction of their repair */
	char	   *example;
} FiguresError;

/* Batches that were put aside because of an SQLSTATE. */
typedef struct FiguresRetry
{
	char	   *sqlstate;
	int64		n;
	char	   *example;
} FiguresRetry;

extern FiguresRun *figures_run(StoreSession *session, int64 id);
extern List *figures_throttled(StoreSession *session, int64 id);
extern List *figures_worked(StoreSession *session, int64 id);
extern List *figures_statuses(StoreSession *session, int64 id);
extern void figures_batches(StoreSession *session, int64 id, FiguresBatches *batches);
extern void figures_buckets(StoreSession *session, int64 id, TimestampTz began,
							FiguresScale *scales);
extern List *figures_slowest(StoreSession *session, int64 id, int most);
extern List *figures_errors(StoreSession *session, int64 id, int most, int64 *kinds);
extern List *figures_retries(StoreSession *session, int64 id, int most);

#endif							/* BACKFILL_STORE_FIGURES_H */
