/*-------------------------------------------------------------------------
 *
 * watch.h
 *	  One look at one run, by the scheduler.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PROCESS_WATCH_H
#define BACKFILL_PROCESS_WATCH_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "governor/crowd.h"
#include "governor/governor.h"
#include "store/run.h"
#include "store/store.h"

/* What the scheduler knows.  All of it is private to the process. */
typedef struct Scheduler
{
	MemoryContext context;		/* lives as long as the process */
	MemoryContext list_context; /* reset before each round */
	MemoryContext round_context;	/* reset before each look at a run */
	List	   *watches;		/* Watch *, in context */
	List	   *starts;			/* of starts.c, in context */
	bool		round_soon;		/* look again shortly */
	bool		said;			/* that worker slots are out, since they are */
	TimestampTz pruned_at;
	Crowd		crowd;			/* who suffers from what batches write */
} Scheduler;

/* What the scheduler remembers of a run from round to round. */
typedef struct Watch
{
	int64		run_id;
	bool		seen;			/* still active in this round */
	int64		tokens;			/* sum over the living workers */
	TimestampTz rolled_up_at;
	TimestampTz next_start;		/* not before this time */
	TimestampTz standby_since;	/* workers wait for one, or 0 */
	TimestampTz settles_at;		/* likewise, because a worker has just ended */
	int			starts;			/* since a worker was last ready */
	int64		ready;			/* which that was, by shared memory */
	int			wanted;			/* workers to start in this round */
	int			living;
	bool		blocked;		/* waits for other runs */
	bool		closed;			/* waits until the database can be connected to */
	bool		leases_known;	/* those of clients are in shared memory, as far as rows say */
	bool		pending;		/* its workers have to look for pending batches */
	Oid			owner;
	char	   *failure;		/* why it fails in this transaction, or NULL */
	const char *failure_hint;
	int			trouble;		/* SQLSTATE of the error that the last look met, or 0 */
	Governor	governor;
} Watch;

extern void watch_begin(Scheduler *scheduler);
extern void watch_commit(Scheduler *scheduler);
extern Watch *watch_get(Scheduler *scheduler, int64 run_id);
extern void watch_commit_run(Scheduler *scheduler, Watch *watch);
extern void watch_fail_run(StoreSession *session, RunInfo *run, Watch *watch, int living,
						   int sqlstate, const char *message, const char *hint);
extern void watch_force_request(StoreSession *session, RunInfo *run, Watch *watch,
								const char *why);
extern void watch_look_after(Scheduler *scheduler, Watch *watch);

#endif							/* BACKFILL_PROCESS_WATCH_H */
