/*-------------------------------------------------------------------------
 *
 * segment.c
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

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "settings/guc.h"
#include "shared/segment.h"

Segment    *segment = NULL;
WorkerSlot *segment_workers = NULL;
RunSlot    *segment_runs = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

void
segment_lock(LWLockMode mode)
{
	LWLockAcquire(segment->lock, mode);
}

void
segment_unlock(void)
{
	LWLockRelease(segment->lock);
}

static Size
workers_offset(void)
{
	return MAXALIGN(sizeof(Segment));
}

static Size
runs_offset(void)
{
	return add_size(workers_offset(),
					MAXALIGN(mul_size(guc_max_workers, sizeof(WorkerSlot))));
}

static Size
whole_size(void)
{
	return add_size(runs_offset(),
					mul_size(guc_max_workers, sizeof(RunSlot)));
}

static void
request_hook(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(whole_size());
	RequestNamedLWLockTranche(GUC_LIBRARY, 1);
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
	segment = ShmemInitStruct(GUC_LIBRARY, whole_size(), &found);
	if (!found)
	{
		memset(segment, 0, whole_size());
		segment->lock = &(GetNamedLWLockTranche(GUC_LIBRARY))->lock;
		ConditionVariableInit(&segment->stocked);
		segment->boot = make_boot_id();
		segment->clean_start = was_shut_down();
		segment->nworkers = guc_max_workers;
		segment->nruns = guc_max_workers;
	}
	segment_workers = (WorkerSlot *) ((char *) segment + workers_offset());
	segment_runs = (RunSlot *) ((char *) segment + runs_offset());
	LWLockRelease(AddinShmemInitLock);
}

/* At preload: ask for the memory. */
void
segment_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_hook;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_hook;
}

/* Whether the library was preloaded. */
bool
segment_available(void)
{
	return segment != NULL;
}

/* Raises an error unless the library was preloaded. */
void
segment_require(void)
{
	if (segment == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill must be loaded via \"shared_preload_libraries\""),
				 errhint("Add 'backfill' to \"shared_preload_libraries\" and restart the server.")));
}

/* The number of this life; *clean_start is whether no crash preceded it. */
int64
segment_boot(bool *clean_start)
{
	*clean_start = segment->clean_start;
	return segment->boot;
}

/* ---- finding ---- */

/* The slot of this process, if it is a worker that has attached. */
static int	my_worker = -1;

/* This worker has the slot from now on, or, with -1, gives it up. */
void
segment_set_my_worker(int slot)
{
	my_worker = slot;
}

/*
 * The slot of this worker, whose own part of it only this worker writes; NULL in
 * a process that is none.
 */
WorkerSlot *
segment_my_worker(void)
{
	return my_worker < 0 ? NULL : &segment_workers[my_worker];
}

/* Whether the slot is that of a worker of the run.  The caller holds the lock. */
bool
segment_works_for(const WorkerSlot *w, Oid database, int64 run_id)
{
	return w->in_use && w->database == database && w->run_id == run_id;
}

/* The slot of the run, or NULL.  The caller holds the lock. */
RunSlot *
segment_find_run(Oid database, int64 run_id)
{
	for (int i = 0; i < segment->nruns; i++)
	{
		if (segment_runs[i].in_use && segment_runs[i].database == database &&
			segment_runs[i].run_id == run_id)
			return &segment_runs[i];
	}
	return NULL;
}

/* The pace of the worker's run; the caller holds the lock. */
RunPace *
segment_my_pace(void)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run = segment_find_run(w->database, w->run_id);

	return run ? &run->pace : NULL;
}

/*
 * Add the time that the worker has been in its state, as far as it is not counted yet, to
 * what the slot of its run knows of it.  The caller holds the lock.
 */
void
segment_count_time(WorkerSlot *w)
{
	TimestampTz now = GetCurrentTimestamp();
	RunSlot    *run = segment_find_run(w->database, w->run_id);

	/* the clock may have been set back */
	if (run)
		run->spent[w->state] += Max(now - w->counted_to, 0);
	w->counted_to = now;
}

/* Batches of the run may be pending, to be looked for at once.  The caller holds the lock. */
void
segment_note_pending(RunSlot *run)
{
	run->pending = true;
	run->pending_due = DT_NOBEGIN;
	run->pending_changes++;
}

/* ---- waking ---- */

/*
 * Have the workers of the database read their runs again, also those that
 * sleep for hours.  The caller holds the lock.
 */
void
segment_notify_workers(Oid database)
{
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (!segment_workers[i].in_use || segment_workers[i].database != database)
			continue;
		segment_workers[i].notified = true;
		if (segment_workers[i].latch)
			SetLatch(segment_workers[i].latch);
	}
}

/* The same for the workers of one run.  The caller holds the lock. */
void
segment_notify_run(Oid database, int64 run_id)
{
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (!segment_works_for(&segment_workers[i], database, run_id))
			continue;
		segment_workers[i].notified = true;
		if (segment_workers[i].latch)
			SetLatch(segment_workers[i].latch);
	}
}

/* Wake every scheduler.  The caller holds the lock. */
void
segment_wake_schedulers(void)
{
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		SchedulerSlot *s = &segment->schedulers[i];

		if (s->latch == NULL)
			continue;
		s->wake = true;
		SetLatch(s->latch);
	}
}
