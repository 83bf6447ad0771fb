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

/* A batch that was completed, in seconds and bytes.  What is not known of it is below 0. */
typedef struct FiguresBatch
{
	int64		walk_id;		/* the run, or the stream that it belongs to */
	int64		number;
	int			part;
	int			attempt;
	bool		by_client;
	double		rows;
	double		seconds;
	double		cpu_seconds;
	double		lock_seconds;
	double		blocks_read;
	double		full_pages;
	double		updated;
	double		hot_updated;
	TimestampTz finished_at;
} FiguresBatch;

/* What is done with each. */
typedef void (*FiguresFunction) (const FiguresBatch *batch, void *arg);

/* More about one of them. */
typedef struct FiguresDetails
{
	char	   *key_range;		/* not all of it, if it is long */
	double		rows_affected;
	double		wal_bytes;
	char	   *error;			/* of an earlier attempt, or NULL */
	char	   *client;			/* or NULL */
	char	   *stream;			/* or NULL */
	TimestampTz started_at;
} FiguresDetails;

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
extern void figures_each_batch(StoreSession *session, int64 id, FiguresFunction function,
							   void *arg);
extern FiguresDetails *figures_details(StoreSession *session, const FiguresBatch *batch);
extern List *figures_errors(StoreSession *session, int64 id, int most, int64 *kinds);
extern List *figures_retries(StoreSession *session, int64 id, int most);

#endif							/* BACKFILL_STORE_FIGURES_H */
