/*-------------------------------------------------------------------------
 *
 * claim.h
 *	  A batch comes into hand.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_CLAIM_H
#define BACKFILL_ENGINE_CLAIM_H

#include "engine/hook.h"
#include "engine/reclaim.h"
#include "engine/session.h"
#include "engine/work.h"
#include "store/batch.h"

/* What a worker has in hand. */
typedef struct Hand
{
	MemoryContext context;		/* holds batch */
	BatchInfo  *batch;			/* or NULL */
	BatchResult result;			/* of the batch that has just run */
	int64		processed;		/* rows, by the statement that failed; -1 if unknown */
	int64		lock_wait;		/* of the statement, microseconds */
	uint64		wal_before;		/* WAL of the session before the batch, or 0 */
	bool		indivisible;	/* the batch goes beyond the limit all the same */
	bool		over_limit;		/* the batch was more than a rate limit leaves */
	int			pinned;			/* the batch size has reached a limit: -1 or 1 */
	bool		in_quarantine;	/* what it takes up may be a suspect */
	TimestampTz kept_since;		/* it waits for another suspect, or 0 */
	bool		in_trouble;		/* the last batches had to be tried again */
	int			prepared_again; /* so often since a batch was completed */
	char		last_skipped[6];	/* SQLSTATE of the row left out last, or empty */
	ErrorData  *repair;			/* of the batch, a row, to be repaired before it runs; or NULL */
	ArrayType  *repair_key;		/* of that row, while it is repaired */
	char		last_repaired[6];	/* SQLSTATE of the row repaired last, or empty */
	bool		is_reported;	/* a client had the batch, and has reported its error */
	bool		is_retryable;	/* which may go away by itself */
	bool		is_named;		/* processed is of the row that the client has named */
} Hand;

/* A worker of a run: the session, what it has prepared, what it has in hand. */
typedef struct Worker
{
	Session		session;
	Work		work;
	Hand		hand;
	Reclaim		reclaim;

	/* in a run with streams */
	int			stream_position;	/* of the one taken last */
	bool		has_claimed;	/* a batch of one */
	bool		streams_seen;	/* it has looked for one that nobody has any more */

	/* for clients, and where batches are cut ahead */
	struct Shares *shares;		/* of share.c; NULL until they are read */
	bool		shares_found;	/* all values are in the table */
	int64		stride;			/* rows of a range to be cut */
	int			pending_changes;	/* as of the last look for pending batches; -1 for none */
	int			reported_changes;	/* the same for those with which clients have failed */
	TimestampTz pending_due;	/* when one is due that was not then; DT_NOEND if there was none */
	int			refusals;		/* of claims, since there was a batch in hand */
} Worker;

/* Who claims a batch, as it is written into the row of the batch. */
typedef struct Claimant
{
	int64		token;			/* never used twice */
	int			number;			/* of the worker */
} Claimant;

/* Why there is no batch to be had; all zero: the walk has come to its end. */
typedef struct ClaimRefusal
{
	TimestampTz throttled_until;	/* when a batch may be claimed, or 0 */
	TimestampTz next_due;		/* when one is to be tried again, or 0 */
	bool		pending_elsewhere;	/* a suspect batch may be waiting */
	bool		pending_soon;	/* ranges are cut by one worker, in turn */
	bool		busy;			/* pages come one at a time, and others are at it */
	char	   *reason;			/* why the next one waits, or NULL for an error that it met */
} ClaimRefusal;

extern Claimant claim_claimant(const Worker *worker);
extern void claim_batch(Worker *worker, ClaimRefusal *refusal);
extern BatchInfo *claim_next_batch(Worker *worker);
extern bool claim_find_start(const Session *session, BatchInfo *batch);
extern void claim_find_end(Worker *worker, BatchInfo *batch, ArrayType *last_key, int64 size,
						   int64 stride);
extern void claim_take_in_hand(Worker *worker, const BatchInfo *claimed);
extern void claim_forget(Worker *worker);
extern void claim_lock(Worker *worker);
extern void claim_leave_quarantine(Hand *hand);
extern HookEvent claim_event(Worker *worker, const char *status, const char *error);
extern ErrorData *claim_announce(Worker *worker);

#endif							/* BACKFILL_ENGINE_CLAIM_H */
