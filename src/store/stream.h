/*-------------------------------------------------------------------------
 *
 * stream.h
 *	  The rows of streams.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_STREAM_H
#define BACKFILL_STORE_STREAM_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "store/batch.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

/* The word in the place of a query or of names: each partition is a stream. */
#define STREAM_PARTITIONS	"partitions"

/* A row of backfill.stream. */
typedef struct StreamInfo
{
	int64		id;				/* negative */
	int64		run_id;
	int			position;		/* from 1, in the order in which they are begun */
	char	   *name;
	Oid			target;			/* partition, or InvalidOid for the table of the run */
	RunStatus	status;			/* never RUN_ENQUEUED */
	bool		claimed;		/* every range has been */
	double		weight;			/* 0 if none is known */
	Jsonb	   *bounds;			/* NULL for none */
	ArrayType  *key_types;		/* NULL until the ends are known */
	ArrayType  *start_key;		/* likewise */
	ArrayType  *end_key;		/* likewise */
	Jsonb	   *cursor;			/* token of the next page, NULL for the first */
	int64		rollup_number;
	TimestampTz since;			/* DT_NOBEGIN if null */
	TimestampTz until;			/* likewise */
	TimestampTz started_at;		/* likewise */
	char	   *wait_reason;
} StreamInfo;

/* The batch that brought down most of the workers that are gone. */
typedef struct BatchCulprit
{
	int64		number;
	int			crashes;
	char	   *stream;			/* NULL in a run without */
} BatchCulprit;

/* How many streams of a run stand how. */
typedef struct StreamCounts
{
	int64		pending;
	int64		running;
	int64		unclaimed;		/* of those that run: with ranges that nobody has claimed */
	int64		paused;
	int64		failed;
	int64		stopped;
	int64		completed;
} StreamCounts;

extern int64 stream_insert(StoreSession *session, const StreamInfo *stream);
extern int	stream_last_position(StoreSession *session, int64 run_id);
extern StreamInfo *stream_load(StoreSession *session, int64 id);
extern StreamInfo *stream_find(StoreSession *session, int64 run_id, const char *name,
							   bool for_update);
extern StreamInfo *stream_next(StoreSession *session, int64 run_id, int after);
extern List *stream_running(StoreSession *session, int64 run_id);
extern List *stream_completed(StoreSession *session, int64 run_id);
extern List *stream_paused(StoreSession *session, int64 run_id);
extern List *stream_targets(StoreSession *session, int64 run_id);
extern bool stream_begin(StoreSession *session, int64 id, TimestampTz now);
extern void stream_set_ends(StoreSession *session, int64 id, ArrayType *key_types,
							ArrayType *start_key, ArrayType *end_key, double rows);
extern void stream_set_claimed(StoreSession *session, int64 id);
extern void stream_set_status(StoreSession *session, int64 id, RunStatus status);
extern void stream_set_error(StoreSession *session, int64 id, const RunError *error);
extern int	stream_recover(StoreSession *session, const RunInfo *run,
						   const BatchClaimants *claimants, BatchCulprit *worst);
extern void stream_count(StoreSession *session, int64 run_id, StreamCounts *counts);
extern int	stream_sqlstate(StoreSession *session, int64 run_id);
extern char *stream_names(StoreSession *session, int64 run_id, RunStatus status, int most);
extern int64 *stream_walked(StoreSession *session, int64 run_id, int *n);
extern void stream_rollup_run(StoreSession *session, const RunInfo *run);
extern int64 stream_reopen(StoreSession *session, int64 id);
extern void stream_reopen_run(StoreSession *session, const RunInfo *run, bool ended);
extern int64 stream_reopen_skipped(StoreSession *session, const RunInfo *run);
extern void stream_delete(int64 run_id);

#endif							/* BACKFILL_STORE_STREAM_H */
