/*-------------------------------------------------------------------------
 *
 * shared_state.h
 *	  The segment in shared memory; for shared.c and slot.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_STATE_H
#define BACKFILL_SHARED_STATE_H

#include "storage/lwlock.h"

#include "shared.h"

#define SCHEDULER_SLOTS		64
#define REQUESTS			64
/* A process that was registered but did not attach in this time is lost. */
#define LOST_AFTER_MS		60000
/* So long after a crash, from the first worker on, batches run one at a time. */
#define CAUTION_MS			3000
/* Schedulers that may be starting at one time. */
#define STARTING_AT_ONCE	2

typedef enum SchedulerState
{
	SCHEDULER_FREE,
	SCHEDULER_STARTING,			/* reserved by the launcher */
	SCHEDULER_RUNNING,			/* attached by the process */
	SCHEDULER_FINISHING,		/* has nothing more to do; refuses wake-ups */
	SCHEDULER_DONE				/* gone, to be reaped by the launcher */
} SchedulerState;

typedef struct SchedulerSlot
{
	SchedulerState state;
	Oid			database;
	Latch	   *latch;
	bool		wake;
	bool		failed;			/* went away without saying so */
	TimestampTz next_due;		/* when it is needed again, DT_NOEND if not */
	TimestampTz launched_at;
} SchedulerSlot;

typedef struct SharedState
{
	LWLock	   *lock;
	int64		boot;			/* of this life of the shared memory, random */
	bool		clean_start;	/* the server had been shut down in good order */
	TimestampTz first_worker_at;	/* when a worker attached first, or 0 */
	Latch	   *launcher;
	bool		rescan;			/* more requests than fit: look everywhere */
	int			nrequests;
	Oid			requests[REQUESTS];
	SchedulerSlot schedulers[SCHEDULER_SLOTS];
	TimestampTz made_at;		/* when this server was started or promoted */
	Budgets		budgets;		/* of all runs together */
	int			nworkers;
	int			nruns;
	/* nworkers worker slots follow, then nruns run slots */
} SharedState;

extern SharedState *shared;
extern WorkerSlot *workers;
extern RunSlot *runs;

extern void shared_lock(LWLockMode mode);
extern void shared_unlock(void);
extern void shared_wake_schedulers(void);
extern void shared_notify_workers(Oid database);
extern void shared_notify_run(Oid database, int64 run_id);
extern RunSlot *shared_find_run(Oid database, int64 run_id);
extern WorkerSlot *shared_my_worker(void);
extern RunPace *pace_mine(void);
extern void pace_worker_gone(WorkerSlot *w);

#endif							/* BACKFILL_SHARED_STATE_H */
