/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  The rows of batches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_BATCH_H
#define BACKFILL_STORE_BATCH_H

#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "store/store.h"

/* No batch that is put aside waits for longer, in milliseconds. */
#define STORE_RETRY_MAX_MS	60000

/*
 * Whether a batch need not wait to be tried again.  Nothing is put aside for longer
 * than that: what seems to be, was before the clock was set back.
 */
#define STORE_DUE_AT(now) \
	"(retry_at IS NULL OR retry_at <= " now " OR retry_at > " now " + interval '1 min')"

/* A batch in hand. */
typedef struct BatchInfo
{
	int64		number;
	int			part;
	ArrayType  *start_key;
	ArrayType  *end_key;
	bool		start_inclusive;
	int			attempt;
	int			crashes;
	bool		had_error;		/* it may stand in backfill_errors */
	bool		announced;		/* the hooks for "running" were called */
	int			tries;			/* that met an error that may go away */
	int64		rows_scanned;
	int64		rows_in_scope;	/* at most, as far as is known; kept only if cut for clients */
	ArrayType  *keys;			/* of those, with a ledger; or NULL */
	int			share;			/* number of the value of share_by, or 0 */
	bool		is_fetched;		/* page of a source: it is there, and to be applied */
	Jsonb	   *source_token;	/* of that page, NULL for the first one */
	char	   *report;			/* that a client has given it up with, or NULL */
	char	   *report_state;	/* SQLSTATE of that, or NULL */
} BatchInfo;

/* A batch that brought its worker down so often fails the run. */
#define BATCH_CRASHES_FATAL		3
/* One that did so often is only run while no other such batch is. */
#define BATCH_CRASHES_SUSPECT	1

/* What is known of those who have batches in hand, by their tokens. */
typedef struct BatchClaimants
{
	const int64 *living;
	int			nliving;
	const int64 *pardoned;		/* ended, but not because of their batch */
	int			npardoned;
	int64		boot;			/* the present life of the server, */
	bool		clean_start;	/* which began in good order */
} BatchClaimants;

/* What a completed batch did. */
typedef struct BatchResult
{
	int64		rows_affected;
	int64		wal_bytes;
	TimestampTz started_at;
	TimestampTz finished_at;
	int64		pages_pruned;	/* by its worker, since the batch before it */
	int64		space_freed;	/* bytes of them */
	int64		cpu_time;		/* microseconds on a processor */
	int64		lock_wait;		/* microseconds for which the statement waited for locks */
	int64		blocks_read;	/* that were not in shared buffers */
	int64		full_pages;		/* whole pages in its WAL */
	int64		updated;		/* rows of the target, as the server's statistics have it */
	int64		hot_updated;	/* of those without new index entries */
} BatchResult;

extern bool store_last_batch(StoreSession *session, int64 run_id, int64 after, int64 *number,
							 ArrayType **end_key);
extern bool store_find_start(StoreSession *session, int64 run_id, int64 pass_after,
							 int64 rollup_number, BatchInfo *batch);
extern void store_insert_batch(StoreSession *session, int64 run_id,
							   const BatchInfo *batch, int64 token, int worker);
extern BatchInfo *store_take_pending(StoreSession *session, int64 run_id, int64 token,
									 int worker, int crashes_below);
extern TimestampTz store_pending_due(StoreSession *session, int64 run_id,
									 int crashes_below);
extern bool store_complete_batch(StoreSession *session, int64 run_id,
								 const BatchInfo *batch, int64 token,
								 const BatchResult *result);
extern bool store_give_back_batch(StoreSession *session, int64 run_id,
								  const BatchInfo *batch, int64 token,
								  const char *status, const char *error);
extern void store_retry_batch(StoreSession *session, int64 run_id,
							  const BatchInfo *batch, int64 token, TimestampTz retry_at,
							  const char *error);
extern int	store_recover_batches(StoreSession *session, int64 run_id,
								  const BatchClaimants *claimants,
								  int64 *worst, int *crashes);
extern int64 store_reopen_batches(StoreSession *session, int64 run_id);
extern int64 store_open_batches(StoreSession *session, int64 run_id, int64 *due);
extern bool store_shrink_batch(StoreSession *session, int64 run_id,
							   const BatchInfo *batch, int64 token, ArrayType *start,
							   int64 rows, const char *error);
extern void store_insert_part(StoreSession *session, int64 run_id,
							  const BatchInfo *part, const char *error);
extern bool store_skip_batch(StoreSession *session, int64 run_id,
							 const BatchInfo *batch, ArrayType *key, int64 token,
							 const ErrorData *error, const char *repair_error);
extern void store_repair_batch(StoreSession *session, int64 run_id,
							   const BatchInfo *batch, ArrayType *key,
							   const ErrorData *error);
extern void store_resolve_error(StoreSession *session, int64 run_id,
								const BatchInfo *batch);
extern void store_error_counts(StoreSession *session, int64 run_id, int64 *errors,
							   int64 *rows);
extern void store_mark_resumed(StoreSession *session, int64 run_id);
extern int64 store_reopen_skipped(StoreSession *session, int64 run_id);

#endif							/* BACKFILL_STORE_BATCH_H */
