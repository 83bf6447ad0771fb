/*-------------------------------------------------------------------------
 *
 * segment.h
 *	  Shared memory: who is at work, and how to wake them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_SEGMENT_H
#define BACKFILL_SHARED_SEGMENT_H

#include "datatype/timestamp.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "base/quantity.h"
#include "shared/ledger.h"
#include "shared/size.h"

/* What a worker is doing, for backfill_workers. */
typedef enum WorkerState
{
	WORKER_STARTING,			/* registered, not there yet */
	WORKER_PREPARING,			/* parses the statement, finds the bounds */
	WORKER_WAITING,				/* for writers, or for another batch to end */
	WORKER_FETCHING,			/* in a call of the source */
	WORKER_RUNNING,				/* in a batch */
	WORKER_SLEEPING,			/* between two batches */
	WORKER_THROTTLED,			/* waits until it may begin a batch */
	WORKER_RETRYING,			/* waits to try a batch again */
	WORKER_CHANGING,			/* changes the status of the run, with its hooks */
	WORKER_VERIFYING,			/* counts the rows still in scope */
	WORKER_FINISHING,			/* runs the last step */
	WORKER_LEAVING				/* lets go of its batch */
} WorkerState;

#define WORKER_STATES	(WORKER_LEAVING + 1)

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

	bool		recalled;		/* it is to give the slot to somebody else */
	TimestampTz asleep_until;	/* of the last pause */
	TimestampTz quarantined_at; /* when its suspect batch was let in, or 0 */

	int64		stream;			/* that it has in hand, or 0 */
	TimestampTz stream_since;
	int64		stream_rows;	/* scanned since then */

	/* for the views */
	WorkerState state;
	TimestampTz state_since;
	TimestampTz counted_to;		/* the time in its states is in the run's slot up to then */
	int64		batch;			/* number of the batch in hand, or 0 */
	int			attempt;
	int64		batches;
	int64		rows_scanned;
	int64		rows_affected;

	/* for the pace */
	int64		reserved;		/* rows of the batch in hand */
	int64		reserved_next;	/* rows of the one that is being claimed */
	bool		measured;		/* the WAL of the batch in hand is in the ledgers */
	TimestampTz kept_since;		/* what a batch has left cannot be freed since; or 0 */
	TimestampTz finished_at;	/* of the last statement, as its batch's row has it */
	bool		counted;		/* that batch is in the run's ledger of rows */
	pid_t		yield_to;		/* process that the batch was cancelled for, YIELD_TO_ALL, or 0 */
	int64		yield_after;	/* of the run, milliseconds; in copies only */
} WorkerSlot;

/* What the scheduler asks of the workers of a run.  Times in milliseconds. */
typedef struct Pace
{
	int64		workers;		/* so many of them may be at work */
	SizeAim		aim;			/* of the batch size */
	int64		sleep;
	int64		nice;			/* millionths of a batch's duration */
	double		duty;			/* share of the time it may be at work, above 0 */
	bool		hold;			/* no batch may begin */
	bool		probed;			/* nor before the probe allows it */
	bool		watched;		/* nor when the scheduler has not been heard for long */
	int64		yield_after;	/* 0 is off */
	RateLimit	rows;
	RateLimit	wal;
} Pace;

/* What the probe of a run has said. */
typedef enum ProbeVerdict
{
	PROBE_UNKNOWN,				/* it has not been heard yet */
	PROBE_GO,
	PROBE_WAIT
} ProbeVerdict;

#define PACE_REASON_SIZE 256

/* Which of the limits made a worker wait. */
typedef enum PaceLimit
{
	PACE_NO_LIMIT,
	PACE_ROWS,
	PACE_WAL,
	PACE_ALL_ROWS,				/* of all runs together */
	PACE_ALL_WAL
} PaceLimit;

/* The part of a run's slot that this is about. */
typedef struct RunPace
{
	Pace		pace;
	TimestampTz set_at;
	TimestampTz opened_at;		/* when the run took this slot */
	SizeControl size;
	TimestampTz eased_at;		/* when it was last asked who waits */
	double		crowd;			/* sessions that wait for what its batches use, too, on the average, or 0 */

	/* ledgers: the run's own, and its part of what all runs use */
	bool		rows_known;		/* what was used before this slot was taken */
	bool		entered;		/* that is in all_rows, too */
	RateLedger	rows;
	RateLedger	wal;
	RateLedger	all_rows;
	RateLedger	all_wal;
	double		wal_per_row;	/* bytes, of the recent batches */
	double		fan_out;		/* rows that a row of a range becomes, at least 1 */
	PaceLimit	limited_by;		/* what a worker waited for last */
	TimestampTz limited_until;	/* and how long */
	int64		waiting_rows;	/* of a batch that is claimed and waits for them */
	TimestampTz waiting_until;	/* it does not, after this time */
	bool		short_of_rows;	/* waits for its part of the budget of all */
	bool		short_of_wal;

	ProbeVerdict probe;
	TimestampTz probed_at;		/* when the last probe began or ended */
	char		probe_reason[PACE_REASON_SIZE];
} RunPace;

/* A batch that was cut for clients, and is there to be claimed. */
typedef struct StockEntry
{
	int64		number;
	int			part;
	int64		rows;			/* in scope */
} StockEntry;

#define STOCK_SIZE		1024
#define STOCK_LEAST		16

/* The batches of a run that clients may claim, and how many they have. */
typedef struct Stock
{
	bool		open;			/* clients take part in the run */
	bool		ended;			/* there is no range any more that may be cut */
	int			first;			/* in the ring */
	int			n;
	int			aim;			/* so many are to be in it */
	bool		looked;			/* a client has found it empty since it was filled */
	int64		out;			/* batches in the hands of clients */
	int64		max_out;		/* may be, or 0 */
	StockEntry	ring[STOCK_SIZE];
} Stock;

/* One run that has workers, or had them a moment ago.  Same lock. */
typedef struct RunSlot
{
	bool		in_use;
	Oid			database;
	int64		run_id;
	bool		pending;		/* there may be batches to take up again */
	TimestampTz pending_due;	/* none of them before this time */
	int			pending_changes;	/* counts the times pending was set */
	int64		ready;			/* token of the last worker that got as far as claiming */
	int64		rows_scanned;	/* by all workers since the slot was taken */
	double		rate;			/* rows per second, or -1 while unknown */
	int64		sampled_rows;
	TimestampTz sampled_at;
	int64		freed;			/* bytes that workers have made free since the slot was taken */
	TimestampTz left_at;		/* when a worker left last, or 0 */
	int64		spent[WORKER_STATES];	/* microseconds of workers by state, not stored yet */

	RunPace		pace;
	Stock		stock;
} RunSlot;

#define KNOWN_DATABASES 64

/* What all runs together may use, and have used. */
typedef struct Budgets
{
	RateLimit	rows;
	RateLimit	wal;
	RateLedger	used_rows;
	RateLedger	used_wal;
	int			nknown;			/* databases whose past is in used_rows */
	Oid			known[KNOWN_DATABASES];
} Budgets;

#define SCHEDULER_SLOTS		64
#define REQUESTS			64

#define PARDONS				64

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

#define SLOT_WAITERS		128

/* A run that would have another worker; of no run if run_id is 0. */
typedef struct SlotWaiter
{
	Oid			database;
	Oid			owner;
	int64		run_id;
	TimestampTz since;
	TimestampTz asked_at;
} SlotWaiter;

/* A run that has given a slot to others, and takes none before that time. */
typedef struct SlotRest
{
	Oid			database;
	int64		run_id;
	TimestampTz until;
} SlotRest;

typedef struct Segment
{
	LWLock	   *lock;
	int64		boot;			/* of this life of the shared memory, random */
	bool		clean_start;	/* the server had been shut down in good order */
	TimestampTz first_worker_at;	/* when a worker attached first, or 0 */
	Latch	   *launcher;
	bool		out_of_workers; /* the launcher found no place for a scheduler */
	bool		rescan;			/* more requests than fit: look everywhere */
	int			nrequests;
	Oid			requests[REQUESTS];
	SchedulerSlot schedulers[SCHEDULER_SLOTS];
	TimestampTz made_at;		/* when this server was started or promoted */
	ConditionVariable stocked;	/* batches have been added to some stock */
	Budgets		budgets;		/* of all runs together */
	SlotWaiter	waiters[SLOT_WAITERS];
	SlotRest	rests[SLOT_WAITERS];
	int			nworkers;
	int			nruns;
	/* workers that ended, with a batch in hand, through no fault of the batch */
	int			npardoned;		/* so many ever */
	int64		pardoned[PARDONS];	/* their tokens, the last ones */

	/* nworkers worker slots follow, then nruns run slots */
} Segment;

extern Segment *segment;
extern WorkerSlot *segment_workers;
extern RunSlot *segment_runs;

extern void segment_lock(LWLockMode mode);
extern void segment_unlock(void);
extern void segment_init(void);
extern bool segment_available(void);
extern void segment_require(void);
extern int64 segment_boot(bool *clean_start);
extern void segment_set_my_worker(int slot);
extern WorkerSlot *segment_my_worker(void);
extern bool segment_works_for(const WorkerSlot *w, Oid database, int64 run_id);
extern RunSlot *segment_find_run(Oid database, int64 run_id);
extern RunPace *segment_my_pace(void);
extern void segment_count_time(WorkerSlot *w);
extern void segment_note_pending(RunSlot *run);
extern void segment_notify_workers(Oid database);
extern void segment_notify_run(Oid database, int64 run_id);
extern void segment_wake_schedulers(void);

#endif							/* BACKFILL_SHARED_SEGMENT_H */
