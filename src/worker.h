/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The process that runs batches of one run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WORKER_H
#define BACKFILL_WORKER_H

#include "bounds.h"
#include "catalog.h"
#include "settings.h"
#include "shared.h"
#include "statement.h"
#include "walk.h"

/* Everything a worker knows.  All of it is private to the process. */
typedef struct Worker
{
	WorkerSlot	slot;			/* as it was when the worker attached */
	Oid			userid;			/* of the session */
	MemoryContext context;		/* lives as long as the process */
	MemoryContext loop_context; /* reset before each batch */
	MemoryContext run_context;	/* holds run and settings */
	MemoryContext batch_context;	/* holds batch */

	RunInfo    *run;
	RunSettings settings;
	Pace		pace;			/* as the scheduler has set it */
	char	   *lock_timeout;	/* of the settings, as a parameter; in run_context */
	MemoryContext walk_context; /* holds walk and what is prepared for it */
	bool		prepared;		/* what follows is complete */
	bool		in_trouble;		/* the last batches had to be tried again */
	int			prepared_again; /* so often since a batch was completed */
	Walk	   *walk;
	Parameters *parameters;
	Statement  *statements[2];	/* by start_inclusive */
	Bounds	   *bounds;
	Statement  *rows_in_scope[2];	/* for divide.c; NULL until needed */
	Datum		last_key[INDEX_MAX_KEYS];	/* of the walk */

	BatchInfo  *batch;			/* in hand, or NULL */
	BatchResult result;			/* of the batch that has just run */
	ErrorData  *error;			/* for divide_batch, divide_skip and batch_put_aside */
	int			parts;			/* likewise: how many to make */
	int64		fitting;		/* likewise, without an error: rows of the first */
	int64		processed;		/* rows, by the statement that failed; -1 if unknown */
	bool		divided;		/* what they have to say: it was divided, */
	bool		too_many_errors;	/* or the run has to fail */
	int			tries;			/* to claim a batch */
	List	   *hooks;			/* HookInfo, for runs of this definition; in run_context */
	bool		in_hook;		/* a hook is being called, or has raised an error */
	uint32		saved_holdoff;	/* of cancellations, while a hook is called */
	bool		hooks_off;		/* make a change without its hooks */
	TimestampTz next_due;		/* when a batch is to be tried again, or 0 */
	TimestampTz throttled_until;	/* when a batch may be claimed, or 0 */
	uint64		wal_before;		/* WAL of the session before the batch in hand, or 0 */
	int64		lock_wait;		/* of the statement, microseconds */
	bool		indivisible;	/* the batch in hand goes beyond the limit all the same */
	bool		over_limit;		/* the batch in hand was more than a rate limit leaves */
	int			pinned;			/* the batch size has reached a limit: -1 or 1 */
	char	   *last_skipped;	/* SQLSTATE of the row left out last; in context */
	bool		in_quarantine;	/* holds the lock for suspect batches */
	bool		pending_elsewhere;	/* a suspect batch may be waiting */
} Worker;

/* Returns NULL, or the error of the function, rolled back. */
extern ErrorData *worker_try(Worker *worker, void (*function) (Worker *));
extern ErrorData *worker_try_uncancelled(Worker *worker, void (*function) (Worker *));
extern bool worker_nap(int64 ms);
extern void worker_prepare(Worker *worker);
extern void worker_begin(Worker *worker);
extern void worker_commit(Worker *worker);
extern bool worker_reload(Worker *worker);
extern int	worker_enter_user_code(Worker *worker);
extern void worker_user_parameters(Worker *worker, bool on);

#endif							/* BACKFILL_WORKER_H */
