/*-------------------------------------------------------------------------
 *
 * shared.h
 *	  Shared memory: who is at work, and how to wake them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_H
#define BACKFILL_SHARED_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"

#include "pace.h"

/* What a worker is doing, for backfill_workers. */
typedef enum WorkerState
{
	WORKER_STARTING,			/* registered, not there yet */
	WORKER_PREPARING,			/* parses the statement, finds the bounds */
	WORKER_WAITING,				/* for writers, or for another batch to end */
	WORKER_RUNNING,				/* in a batch */
	WORKER_SLEEPING,			/* between two batches */
	WORKER_THROTTLED,			/* waits until it may begin a batch */
	WORKER_RETRYING,			/* waits to try a batch again */
	WORKER_CHANGING,			/* changes the status of the run, with its hooks */
	WORKER_VERIFYING,			/* counts the rows still in scope */
	WORKER_FINISHING,			/* runs the last step */
	WORKER_LEAVING				/* lets go of its batch */
} WorkerState;

/*
 * One worker.  The lock of the shared state protects all of it.  The slot is
 * filled by the scheduler, attached by the worker, and freed by the worker
 * when it exits, or by the scheduler if the worker never came to life.
 */
typedef struct WorkerSlot
{
	int			number;			/* of the slot, from 1 */
	bool		in_use;
	bool		attached;
	bool		notified;		/* the row of the run has changed: read it */
	Oid			database;
	Oid			owner;
	int64		run_id;
	int64		token;			/* never used twice, written into batches */
	pid_t		pid;
	Latch	   *latch;
	TimestampTz launched_at;
	TimestampTz started_at;

	/* for the views */
	WorkerState state;
	TimestampTz state_since;
	int64		batch;			/* number of the batch in hand, or 0 */
	int			attempt;
	int64		batches;
	int64		rows_scanned;
	int64		rows_affected;

	/* for the pace */
	int64		reserved;		/* rows of the batch in hand */
	int64		reserved_next;	/* rows of the one that is being claimed */
	bool		measured;		/* the WAL of the batch in hand is in the ledgers */
	pid_t		yield_to;		/* process that the batch was cancelled for, or 0 */
	int64		yield_after;	/* of the run, milliseconds; in copies only */
} WorkerSlot;

/* One run that has workers, or had them a moment ago.  Same lock. */
typedef struct RunSlot
{
	bool		in_use;
	Oid			database;
	int64		run_id;
	bool		pending;		/* there may be batches to take up again */
	TimestampTz pending_due;	/* none of them before this time */
	int			pending_changes;	/* counts the times pending was set */
	int			ready;			/* workers that got as far as claiming */
	int64		rows_scanned;	/* by all workers since the slot was taken */
	double		rate;			/* rows per second, or -1 while unknown */
	int64		sampled_rows;
	TimestampTz sampled_at;

	RunPace		pace;
} RunSlot;

extern void shared_init(void);
extern bool shared_available(void);
extern void shared_require(void);
extern int64 shared_boot(bool *clean_start);

/* launcher */
extern void shared_launcher_attach(void);
extern bool shared_launcher_take_requests(List **databases);
extern int	shared_scheduler_reserve(Oid database, bool *alive);
extern void shared_scheduler_release(int slot);
extern bool shared_scheduler_reap(Oid *database, TimestampTz *next_due, bool *failed);

/* scheduler */
extern bool shared_scheduler_attach(int slot, Oid *database);
extern bool shared_scheduler_finish(TimestampTz next_due);
extern bool shared_scheduler_take_wake(void);
extern int	shared_worker_reserve(Oid database, Oid owner, int64 run_id);
extern void shared_worker_release(int slot, int64 token);
extern bool shared_worker_attached(int slot, int64 token, bool *alive);
extern int64 shared_worker_token(int slot);
extern void shared_release_lost_workers(Oid database);
extern int	shared_run_workers(Oid database, int64 run_id, int64 **tokens);
extern void shared_run_cancel(Oid database, int64 run_id);
extern void shared_run_open(Oid database, int64 run_id, const Pace *pace,
							int64 batch_size);
extern void shared_close_idle_runs(Oid database);
extern void shared_forget_database(Oid database);
extern void shared_recall_workers(Oid database);
extern int	shared_run_ready(Oid database, int64 run_id);
extern void shared_run_sample(Oid database);
extern double shared_run_rate(Oid database, int64 run_id);
extern int	shared_long_batches(Oid database, WorkerSlot **copies, long *next);
extern void shared_worker_yield(int slot, int64 token, int64 batch, pid_t to);
extern void shared_run_set_pending(Oid database, int64 run_id, TimestampTz due);
extern bool shared_run_has_pending(Oid database, int64 run_id, int *changes,
								   TimestampTz *due);
extern void shared_run_clear_pending(Oid database, int64 run_id, int changes,
									 TimestampTz due);

/* worker */
extern bool shared_worker_attach(int slot, int64 token, WorkerSlot *copy);
extern bool shared_is_cautious(void);
extern bool shared_worker_noticed(void);
extern void shared_worker_take_notice(void);
extern int	shared_worker_rank(void);
extern void shared_worker_ready(void);
extern void shared_worker_state(WorkerState state, int64 batch, int attempt);
extern void shared_worker_done(int64 rows_scanned, int64 rows_affected);
extern pid_t shared_worker_take_yield(void);

/* views */
extern int	shared_copy_workers(Oid database, WorkerSlot **copies);
extern int	shared_copy_runs(Oid database, RunSlot **copies);

/* sessions */
extern void shared_wake_scheduler(Oid database);
extern void shared_wake_database(Oid database);
extern void shared_wake_at_commit(void);

#endif							/* BACKFILL_SHARED_H */
