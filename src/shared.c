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
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
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
#include "shared_state.h"

SharedState *shared = NULL;
WorkerSlot *workers = NULL;
RunSlot    *runs = NULL;

static int	my_scheduler = -1;
static bool wake_at_commit = false;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

void
shared_lock(LWLockMode mode)
{
	LWLockAcquire(shared->lock, mode);
}

void
shared_unlock(void)
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

/*
 * A number for this life of the shared memory.  Tokens of workers begin with
 * it, so that one can tell in which life a worker died.
 */
static int64
make_boot_id(void)
{
	uint32		id;

	if (!pg_strong_random(&id, sizeof(id)))
		elog(ERROR, "could not generate a random number");
	return id & PG_INT32_MAX;
}

/* Whether the server comes up after a shutdown in good order, not a crash. */
static bool
was_shut_down(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	bool		result = crc_ok && control->state == DB_SHUTDOWNED;

	pfree(control);
	return result;
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
		shared->boot = make_boot_id();
		shared->clean_start = was_shut_down();
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

/* The number of this life; *clean_start is whether no crash preceded it. */
int64
shared_boot(bool *clean_start)
{
	*clean_start = shared->clean_start;
	return shared->boot;
}

/* ---- launcher ---- */

static void
launcher_exit(int code, Datum arg)
{
	shared_lock(LW_EXCLUSIVE);
	if (shared->launcher == MyLatch)
		shared->launcher = NULL;
	shared_unlock();
}

/* The launcher makes itself known; it gives the name up when it exits. */
void
shared_launcher_attach(void)
{
	before_shmem_exit(launcher_exit, (Datum) 0);
	shared_lock(LW_EXCLUSIVE);
	shared->launcher = MyLatch;
	if (shared->made_at == 0)
		shared->made_at = GetCurrentTimestamp();
	shared_unlock();
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

	shared_lock(LW_EXCLUSIVE);
	n = shared->nrequests;
	memcpy(taken, shared->requests, n * sizeof(Oid));
	shared->nrequests = 0;
	rescan = shared->rescan;
	shared->rescan = false;
	shared_unlock();

	for (int i = 0; i < n; i++)
		*databases = list_append_unique_oid(*databases, taken[i]);
	return rescan;
}

/*
 * Reserve a slot to start a scheduler for the database.  Returns -1 if there
 * is one already (it is woken, *alive is set), if all slots are taken, or if
 * enough are starting: they need worker slots that others may want.
 */
int
shared_scheduler_reserve(Oid database, bool *alive)
{
	int			slot = -1;
	int			starting = 0;

	*alive = false;
	shared_lock(LW_EXCLUSIVE);
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		SchedulerSlot *s = &shared->schedulers[i];

		if (s->state == SCHEDULER_STARTING)
			starting++;
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
	if (starting >= STARTING_AT_ONCE)
		slot = -1;
	if (slot >= 0)
	{
		SchedulerSlot *s = &shared->schedulers[slot];

		memset(s, 0, sizeof(SchedulerSlot));
		s->state = SCHEDULER_STARTING;
		s->database = database;
		s->launched_at = GetCurrentTimestamp();
		s->next_due = DT_NOEND;
	}
	shared_unlock();
	return slot;
}

/* Give back a slot whose process was never started. */
void
shared_scheduler_release(int slot)
{
	shared_lock(LW_EXCLUSIVE);
	if (shared->schedulers[slot].state == SCHEDULER_STARTING)
		shared->schedulers[slot].state = SCHEDULER_FREE;
	shared_unlock();
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

	shared_lock(LW_EXCLUSIVE);
	for (int i = 0; i < SCHEDULER_SLOTS && !found; i++)
	{
		SchedulerSlot *s = &shared->schedulers[i];
		bool		lost = s->state == SCHEDULER_STARTING &&
			TimestampDifferenceExceeds(s->launched_at, now, LOST_AFTER_MS);

		if (s->state != SCHEDULER_DONE && !lost)
			continue;
		*database = s->database;
		*next_due = s->next_due;
		*failed = s->failed || lost;
		s->state = SCHEDULER_FREE;
		found = true;
	}
	shared_unlock();
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
	shared_lock(LW_EXCLUSIVE);
	s->failed = s->state != SCHEDULER_FINISHING;
	s->state = SCHEDULER_DONE;
	s->latch = NULL;
	if (shared->launcher)
		SetLatch(shared->launcher);
	shared_unlock();
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
	shared_lock(LW_EXCLUSIVE);
	if (shared->schedulers[slot].state == SCHEDULER_STARTING)
	{
		SchedulerSlot *s = &shared->schedulers[slot];

		s->state = SCHEDULER_RUNNING;
		s->latch = MyLatch;
		*database = s->database;
		if (shared->launcher)
			SetLatch(shared->launcher);
		ok = true;
	}
	shared_unlock();
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

	shared_lock(LW_EXCLUSIVE);
	ok = !s->wake;
	if (ok)
	{
		s->state = SCHEDULER_FINISHING;
		s->next_due = next_due;
	}
	shared_unlock();
	return ok;
}

/* Whether the scheduler was woken since it last asked. */
bool
shared_scheduler_take_wake(void)
{
	SchedulerSlot *s = &shared->schedulers[my_scheduler];
	bool		woken;

	shared_lock(LW_EXCLUSIVE);
	woken = s->wake;
	s->wake = false;
	shared_unlock();
	return woken;
}

/* Wake every scheduler.  The caller holds the lock. */
void
shared_wake_schedulers(void)
{
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		SchedulerSlot *s = &shared->schedulers[i];

		if (s->latch == NULL)
			continue;
		s->wake = true;
		SetLatch(s->latch);
	}
}

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

/* Have the scheduler of the database, if there is one, look again. */
void
shared_wake_scheduler(Oid database)
{
	shared_lock(LW_EXCLUSIVE);
	(void) wake_scheduler(database);
	shared_unlock();
}

/* ---- sessions ---- */

/*
 * Something has changed in the runs of the database: have its workers read
 * their run again, wake its scheduler, or ask the launcher for one.
 */
void
shared_wake_database(Oid database)
{
	shared_lock(LW_EXCLUSIVE);
	shared_notify_workers(database);
	for (int i = 0; i < shared->nruns; i++)
	{
		/* what has changed may be that batches are pending again */
		if (!runs[i].in_use || runs[i].database != database)
			continue;
		runs[i].pending = true;
		runs[i].pending_due = DT_NOBEGIN;
		runs[i].pending_changes++;
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
	shared_unlock();
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
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has changed a backfill run")));
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

	if (shared == NULL)
		return;
	if (!registered)
	{
		RegisterXactCallback(wake_callback, NULL);
		registered = true;
	}
	wake_at_commit = true;
}
