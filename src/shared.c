/*-------------------------------------------------------------------------
 *
 * shared.c
 *	  Shared memory: who is at work, and how to wake them.
 *
 * One fixed segment under one lightweight lock: a slot for each scheduler, for
 * each worker, and for each run that has workers, and the requests of sessions
 * to the launcher.  Only plain data and pointers into the main segment stand
 * here, nothing that dies with a process.  What is here is a cache or a hint:
 * after a crash it starts empty, and everything is found again in the tables.
 *
 * The lock is held for a few assignments at a time, never across anything that
 * can wait or raise an error.
 *
 * A latch pointer is set by its owner and cleared by its owner's exit callback
 * under the lock, so whoever holds the lock may set the latch.  The callbacks
 * are registered before the process connects to its database.  They therefore
 * run after the transaction is rolled back and its locks are released.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "signal.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "backfill.h"
#include "compat.h"
#include "shared.h"

#define SCHEDULER_SLOTS		64
#define REQUESTS			64

/* Share of the newest second in the rate that is shown. */
#define RATE_WEIGHT			0.3

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
	Latch	   *launcher;
	bool		rescan;			/* more requests than fit: look everywhere */
	int			nrequests;
	Oid			requests[REQUESTS];
	SchedulerSlot schedulers[SCHEDULER_SLOTS];
	int			nworkers;
	int			nruns;
	/* nworkers worker slots follow, then nruns run slots */
} SharedState;

static SharedState *shared = NULL;
static WorkerSlot *workers = NULL;
static RunSlot *runs = NULL;

static int	my_scheduler = -1;
static int	my_worker = -1;
static bool wake_at_commit = false;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
lock_shared(LWLockMode mode)
{
	LWLockAcquire(shared->lock, mode);
}

static void
unlock_shared(void)
{
	LWLockRelease(shared->lock);
}

static Size
workers_offset(void)
{
	return MAXALIGN(sizeof(SharedState));
}

static Size
runs_offset(void)
{
	return add_size(workers_offset(),
					MAXALIGN(mul_size(backfill_max_workers, sizeof(WorkerSlot))));
}

static Size
shared_size(void)
{
	return add_size(runs_offset(),
					mul_size(backfill_max_workers, sizeof(RunSlot)));
}

static void
request_hook(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche(BACKFILL_LIBRARY, 1);
}

static void
startup_hook(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(BACKFILL_LIBRARY, shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, shared_size());
		shared->lock = &(GetNamedLWLockTranche(BACKFILL_LIBRARY))->lock;
		shared->nworkers = backfill_max_workers;
		shared->nruns = backfill_max_workers;
	}
	workers = (WorkerSlot *) ((char *) shared + workers_offset());
	runs = (RunSlot *) ((char *) shared + runs_offset());
	LWLockRelease(AddinShmemInitLock);
}

/* At preload: ask for the memory. */
void
shared_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_hook;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_hook;
}

/* Whether the library was preloaded. */
bool
shared_available(void)
{
	return shared != NULL;
}

/* Raises an error unless the library was preloaded. */
void
shared_require(void)
{
	if (shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill must be loaded via \"shared_preload_libraries\""),
				 errhint("Add 'backfill' to \"shared_preload_libraries\" and restart the server.")));
}

/* ---- launcher ---- */

static void
launcher_exit(int code, Datum arg)
{
	lock_shared(LW_EXCLUSIVE);
	if (shared->launcher == MyLatch)
		shared->launcher = NULL;
	unlock_shared();
}

/* The launcher makes itself known; it gives the name up when it exits. */
void
shared_launcher_attach(void)
{
	before_shmem_exit(launcher_exit, (Datum) 0);
	lock_shared(LW_EXCLUSIVE);
	shared->launcher = MyLatch;
	unlock_shared();
}

/*
 * Take the databases that sessions have asked a scheduler for: appended to
 * the list, in the current memory context.  Returns true when there were more
 * than the list can hold, so that every database has to be looked at.
 */
bool
shared_launcher_take_requests(List **databases)
{
	Oid			taken[REQUESTS];
	int			n;
	bool		rescan;

	lock_shared(LW_EXCLUSIVE);
	n = shared->nrequests;
	memcpy(taken, shared->requests, n * sizeof(Oid));
	shared->nrequests = 0;
	rescan = shared->rescan;
	shared->rescan = false;
	unlock_shared();

	for (int i = 0; i < n; i++)
		*databases = list_append_unique_oid(*databases, taken[i]);
	return rescan;
}

/*
 * Reserve a slot to start a scheduler for the database.  Returns -1 if there
 * is one already (it is woken, *alive is set) or if all slots are taken.
 */
int
shared_scheduler_reserve(Oid database, bool *alive)
{
	int			slot = -1;

	*alive = false;
	lock_shared(LW_EXCLUSIVE);
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		SchedulerSlot *s = &shared->schedulers[i];

		if (s->state == SCHEDULER_FREE)
		{
			if (slot < 0)
				slot = i;
		}
		else if (s->database == database)
		{
			if (s->state == SCHEDULER_STARTING || s->state == SCHEDULER_RUNNING)
			{
				*alive = true;
				s->wake = true;
				if (s->latch)
					SetLatch(s->latch);
			}
			slot = -1;
			break;
		}
	}
	if (slot >= 0)
	{
		SchedulerSlot *s = &shared->schedulers[slot];

		memset(s, 0, sizeof(SchedulerSlot));
		s->state = SCHEDULER_STARTING;
		s->database = database;
		s->launched_at = GetCurrentTimestamp();
		s->next_due = DT_NOEND;
	}
	unlock_shared();
	return slot;
}

/* Give back a slot whose process was never started. */
void
shared_scheduler_release(int slot)
{
	lock_shared(LW_EXCLUSIVE);
	if (shared->schedulers[slot].state == SCHEDULER_STARTING)
		shared->schedulers[slot].state = SCHEDULER_FREE;
	unlock_shared();
}

/*
 * Collect one scheduler that has gone: its database, when it wants to be
 * started again, and whether it died.  Returns false when there is none.  A
 * scheduler that was registered but did not attach within a minute is dead.
 */
bool
shared_scheduler_reap(Oid *database, TimestampTz *next_due, bool *failed)
{
	bool		found = false;
	TimestampTz now = GetCurrentTimestamp();

	lock_shared(LW_EXCLUSIVE);
	for (int i = 0; i < SCHEDULER_SLOTS && !found; i++)
	{
		SchedulerSlot *s = &shared->schedulers[i];
		bool		lost = s->state == SCHEDULER_STARTING &&
			TimestampDifferenceExceeds(s->launched_at, now, 60000);

		if (s->state != SCHEDULER_DONE && !lost)
			continue;
		*database = s->database;
		*next_due = s->next_due;
		*failed = s->failed || lost;
		s->state = SCHEDULER_FREE;
		found = true;
	}
	unlock_shared();
	return found;
}

/* ---- scheduler ---- */

static void
scheduler_exit(int code, Datum arg)
{
	SchedulerSlot *s;

	if (my_scheduler < 0)
		return;
	s = &shared->schedulers[my_scheduler];
	my_scheduler = -1;
	lock_shared(LW_EXCLUSIVE);
	s->failed = s->state != SCHEDULER_FINISHING;
	s->state = SCHEDULER_DONE;
	s->latch = NULL;
	if (shared->launcher)
		SetLatch(shared->launcher);
	unlock_shared();
}

/*
 * The scheduler takes the slot it was started for.  Returns false when the
 * slot is not its own any more: it must exit.
 */
bool
shared_scheduler_attach(int slot, Oid *database)
{
	bool		ok = false;

	if (shared == NULL || slot < 0 || slot >= SCHEDULER_SLOTS)
		return false;
	lock_shared(LW_EXCLUSIVE);
	if (shared->schedulers[slot].state == SCHEDULER_STARTING)
	{
		SchedulerSlot *s = &shared->schedulers[slot];

		s->state = SCHEDULER_RUNNING;
		s->latch = MyLatch;
		*database = s->database;
		ok = true;
	}
	unlock_shared();
	if (ok)
	{
		my_scheduler = slot;
		before_shmem_exit(scheduler_exit, (Datum) 0);
	}
	return ok;
}

/*
 * The scheduler has nothing to do before next_due.  Returns false when it was
 * woken in the meantime and must look again; after true it must exit.
 */
bool
shared_scheduler_finish(TimestampTz next_due)
{
	SchedulerSlot *s = &shared->schedulers[my_scheduler];
	bool		ok;

	lock_shared(LW_EXCLUSIVE);
	ok = !s->wake;
	if (ok)
	{
		s->state = SCHEDULER_FINISHING;
		s->next_due = next_due;
	}
	unlock_shared();
	return ok;
}

/* Whether the scheduler was woken since it last asked. */
bool
shared_scheduler_take_wake(void)
{
	SchedulerSlot *s = &shared->schedulers[my_scheduler];
	bool		woken;

	lock_shared(LW_EXCLUSIVE);
	woken = s->wake;
	s->wake = false;
	unlock_shared();
	return woken;
}

/* Reserve a slot for a worker of the run; -1 when all are taken. */
int
shared_worker_reserve(Oid database, Oid owner, int64 run_id)
{
	int			slot = -1;
	uint64		token;

	do
	{
		if (!pg_strong_random(&token, sizeof(token)))
			elog(ERROR, "could not generate a random token");
		token &= PG_INT64_MAX;
	} while (token == 0);

	lock_shared(LW_EXCLUSIVE);
	for (int i = 0; i < shared->nworkers; i++)
	{
		WorkerSlot *w = &workers[i];

		if (w->in_use)
			continue;
		memset(w, 0, sizeof(WorkerSlot));
		w->in_use = true;
		w->database = database;
		w->owner = owner;
		w->run_id = run_id;
		w->token = (int64) token;
		w->launched_at = w->state_since = GetCurrentTimestamp();
		w->state = WORKER_STARTING;
		slot = i;
		break;
	}
	unlock_shared();
	return slot;
}

/* Give back the slot of a worker that did not come to life. */
void
shared_worker_release(int slot, int64 token)
{
	lock_shared(LW_EXCLUSIVE);
	if (workers[slot].in_use && workers[slot].token == token)
		workers[slot].in_use = false;
	unlock_shared();
}

/*
 * Whether the worker with that token has attached to the slot.  *alive says
 * whether it still has the slot.
 */
bool
shared_worker_attached(int slot, int64 token, bool *alive)
{
	bool		attached;

	lock_shared(LW_SHARED);
	*alive = workers[slot].in_use && workers[slot].token == token;
	attached = *alive && workers[slot].attached;
	unlock_shared();
	return attached;
}

/* The token of the worker the slot is reserved for. */
int64
shared_worker_token(int slot)
{
	int64		token;

	lock_shared(LW_SHARED);
	token = workers[slot].token;
	unlock_shared();
	return token;
}

/*
 * The number of workers of the run, those not yet attached included.  Their
 * tokens go to *tokens, in the current memory context, if that is not NULL.
 */
int
shared_run_workers(Oid database, int64 run_id, int64 **tokens)
{
	int			n = 0;

	if (tokens)
		*tokens = palloc(sizeof(int64) * shared->nworkers);
	lock_shared(LW_SHARED);
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (!workers[i].in_use || workers[i].database != database ||
			workers[i].run_id != run_id)
			continue;
		if (tokens)
			(*tokens)[n] = workers[i].token;
		n++;
	}
	unlock_shared();
	return n;
}

/* Cancel what the workers of the run are executing. */
void
shared_run_cancel(Oid database, int64 run_id)
{
	lock_shared(LW_SHARED);
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (workers[i].in_use && workers[i].attached &&
			workers[i].database == database && workers[i].run_id == run_id)
			kill(workers[i].pid, SIGINT);
	}
	unlock_shared();
}

/* The slot of the run, or NULL.  The caller holds the lock. */
static RunSlot *
find_run(Oid database, int64 run_id)
{
	for (int i = 0; i < shared->nruns; i++)
	{
		if (runs[i].in_use && runs[i].database == database &&
			runs[i].run_id == run_id)
			return &runs[i];
	}
	return NULL;
}

/* Before the first worker of a run is started: give the run a slot. */
void
shared_run_open(Oid database, int64 run_id)
{
	lock_shared(LW_EXCLUSIVE);
	if (find_run(database, run_id) == NULL)
	{
		for (int i = 0; i < shared->nruns; i++)
		{
			if (runs[i].in_use)
				continue;
			memset(&runs[i], 0, sizeof(RunSlot));
			runs[i].in_use = true;
			runs[i].database = database;
			runs[i].run_id = run_id;
			runs[i].pending = true;
			runs[i].rate = -1;
			runs[i].sampled_at = GetCurrentTimestamp();
			break;
		}
	}
	unlock_shared();
}

/* After the last worker of a run has gone. */
void
shared_run_close(Oid database, int64 run_id)
{
	RunSlot    *run;

	lock_shared(LW_EXCLUSIVE);
	run = find_run(database, run_id);
	if (run)
		run->in_use = false;
	unlock_shared();
}

/* How many workers of the run ever got as far as claiming batches. */
int
shared_run_ready(Oid database, int64 run_id)
{
	RunSlot    *run;
	int			ready;

	lock_shared(LW_SHARED);
	run = find_run(database, run_id);
	ready = run ? run->ready : 0;
	unlock_shared();
	return ready;
}

/* About once a second: bring the rates of the database's runs up to date. */
void
shared_run_sample(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();

	lock_shared(LW_EXCLUSIVE);
	for (int i = 0; i < shared->nruns; i++)
	{
		RunSlot    *r = &runs[i];
		double		seconds = (now - r->sampled_at) / 1000000.0;
		double		rate;

		if (!r->in_use || r->database != database || seconds < 0.9)
			continue;
		rate = (r->rows_scanned - r->sampled_rows) / seconds;
		r->rate = r->rate < 0 ? rate :
			RATE_WEIGHT * rate + (1 - RATE_WEIGHT) * r->rate;
		r->sampled_rows = r->rows_scanned;
		r->sampled_at = now;
	}
	unlock_shared();
}

/* Batches of the run have become pending: workers must look for them. */
void
shared_run_set_pending(Oid database, int64 run_id)
{
	RunSlot    *run;

	lock_shared(LW_EXCLUSIVE);
	run = find_run(database, run_id);
	if (run)
	{
		run->pending = true;
		run->pending_changes++;
	}
	unlock_shared();
}

/*
 * Whether there may be pending batches.  *changes is what has to be given to
 * shared_run_clear_pending after looking in vain.
 */
bool
shared_run_has_pending(Oid database, int64 run_id, int *changes)
{
	RunSlot    *run;
	bool		pending = true;

	*changes = 0;
	lock_shared(LW_SHARED);
	run = find_run(database, run_id);
	if (run)
	{
		pending = run->pending;
		*changes = run->pending_changes;
	}
	unlock_shared();
	return pending;
}

/* There was no pending batch, unless one came since changes was read. */
void
shared_run_clear_pending(Oid database, int64 run_id, int changes)
{
	RunSlot    *run;

	lock_shared(LW_EXCLUSIVE);
	run = find_run(database, run_id);
	if (run && run->pending_changes == changes)
		run->pending = false;
	unlock_shared();
}

/* ---- worker ---- */

/* Set the latch of the scheduler of the database.  Caller holds the lock. */
static bool
wake_scheduler(Oid database)
{
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		SchedulerSlot *s = &shared->schedulers[i];

		if (s->database != database ||
			(s->state != SCHEDULER_RUNNING && s->state != SCHEDULER_STARTING))
			continue;
		s->wake = true;
		if (s->latch)
			SetLatch(s->latch);
		return true;
	}
	return false;
}

static void
worker_exit(int code, Datum arg)
{
	WorkerSlot *w;

	if (my_worker < 0)
		return;
	w = &workers[my_worker];
	my_worker = -1;
	lock_shared(LW_EXCLUSIVE);
	w->in_use = false;
	w->latch = NULL;

	/* the slot may be what other runs, of any database, are waiting for */
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		if (shared->schedulers[i].latch)
		{
			shared->schedulers[i].wake = true;
			SetLatch(shared->schedulers[i].latch);
		}
	}
	unlock_shared();
}

/*
 * The worker takes the slot it was started for and gets a copy of it.
 * Returns false when the slot is not its own any more: it must exit.
 */
bool
shared_worker_attach(int slot, WorkerSlot *copy)
{
	bool		ok = false;

	if (shared == NULL || slot < 0 || slot >= shared->nworkers)
		return false;
	lock_shared(LW_EXCLUSIVE);
	if (workers[slot].in_use && !workers[slot].attached)
	{
		WorkerSlot *w = &workers[slot];

		w->attached = true;
		w->pid = MyProcPid;
		w->latch = MyLatch;
		w->started_at = w->state_since = GetCurrentTimestamp();
		w->state = WORKER_PREPARING;
		*copy = *w;
		ok = true;
	}
	unlock_shared();
	if (ok)
	{
		my_worker = slot;
		before_shmem_exit(worker_exit, (Datum) 0);
	}
	return ok;
}

/* Whether the row of the run has changed since the worker last read it. */
bool
shared_worker_noticed(void)
{
	bool		notified;

	lock_shared(LW_SHARED);
	notified = workers[my_worker].notified;
	unlock_shared();
	return notified;
}

/* The worker is about to read the row of the run. */
void
shared_worker_take_notice(void)
{
	lock_shared(LW_EXCLUSIVE);
	workers[my_worker].notified = false;
	unlock_shared();
}

/* How many workers of the same run have an earlier slot. */
int
shared_worker_rank(void)
{
	int			rank = 0;
	WorkerSlot *me = &workers[my_worker];

	lock_shared(LW_SHARED);
	for (int i = 0; i < my_worker; i++)
	{
		if (workers[i].in_use && workers[i].database == me->database &&
			workers[i].run_id == me->run_id)
			rank++;
	}
	unlock_shared();
	return rank;
}

/* The worker got as far as claiming batches. */
void
shared_worker_ready(void)
{
	RunSlot    *run;

	lock_shared(LW_EXCLUSIVE);
	run = find_run(workers[my_worker].database, workers[my_worker].run_id);
	if (run)
		run->ready++;
	unlock_shared();
}

/* Show what the worker does. */
void
shared_worker_state(WorkerState state, int64 batch, int attempt)
{
	WorkerSlot *w = &workers[my_worker];

	lock_shared(LW_EXCLUSIVE);
	w->state = state;
	w->state_since = GetCurrentTimestamp();
	w->batch = batch;
	w->attempt = attempt;
	unlock_shared();
}

/* A batch is committed: count it. */
void
shared_worker_done(int64 rows_scanned, int64 rows_affected)
{
	WorkerSlot *w = &workers[my_worker];
	RunSlot    *run;

	lock_shared(LW_EXCLUSIVE);
	w->batches++;
	w->rows_scanned += rows_scanned;
	w->rows_affected += rows_affected;
	run = find_run(w->database, w->run_id);
	if (run)
		run->rows_scanned += rows_scanned;
	unlock_shared();
}

/* ---- sessions ---- */

/*
 * Something has changed in the runs of the database: have its workers read
 * their run again, wake its scheduler, or ask the launcher for one.
 */
void
shared_wake_database(Oid database)
{
	lock_shared(LW_EXCLUSIVE);
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (!workers[i].in_use || workers[i].database != database)
			continue;
		workers[i].notified = true;
		if (workers[i].latch)
			SetLatch(workers[i].latch);
	}
	if (!wake_scheduler(database))
	{
		bool		known = false;

		for (int i = 0; i < shared->nrequests; i++)
			known = known || shared->requests[i] == database;
		if (!known && shared->nrequests < REQUESTS)
			shared->requests[shared->nrequests++] = database;
		else if (!known)
			shared->rescan = true;
		if (shared->launcher)
			SetLatch(shared->launcher);
	}
	unlock_shared();
}

static void
wake_callback(XactEvent event, void *arg)
{
	if (!wake_at_commit)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			wake_at_commit = false;
			shared_wake_database(MyDatabaseId);
			break;
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			wake_at_commit = false;
			break;
		default:
			break;
	}
}

/* Wake the current database when, and only if, this transaction commits. */
void
shared_wake_at_commit(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(wake_callback, NULL);
		registered = true;
	}
	wake_at_commit = true;
}

/* ---- views ---- */

/* Copies of all slots of the database's workers, in the current context. */
int
shared_copy_workers(Oid database, WorkerSlot **copies, int **numbers)
{
	int			n = 0;

	*copies = palloc(sizeof(WorkerSlot) * shared->nworkers);
	*numbers = palloc(sizeof(int) * shared->nworkers);
	lock_shared(LW_SHARED);
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (!workers[i].in_use || workers[i].database != database)
			continue;
		(*numbers)[n] = i + 1;
		(*copies)[n++] = workers[i];
	}
	unlock_shared();
	return n;
}

/* The same for runs. */
int
shared_copy_runs(Oid database, RunSlot **copies)
{
	int			n = 0;

	*copies = palloc(sizeof(RunSlot) * shared->nruns);
	lock_shared(LW_SHARED);
	for (int i = 0; i < shared->nruns; i++)
	{
		if (runs[i].in_use && runs[i].database == database)
			(*copies)[n++] = runs[i];
	}
	unlock_shared();
	return n;
}
