/*-------------------------------------------------------------------------
 *
 * starts.c
 *	  Starting workers.
 *
 * A worker that is registered may never come to life, or die at once: its slot is
 * given back, it is started ever more slowly, and after some tries its run fails.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "governor/governor.h"
#include "process/starts.h"
#include "process/watch.h"
#include "settings/guc.h"
#include "shared/run_slot.h"
#include "shared/share.h"
#include "shared/worker_slot.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

/* Starts of workers of one run that came to nothing, before the run fails. */
#define FUTILE_STARTS		8
/* The wait between two of them, which doubles so many times. */
#define START_DELAY_MS		50
#define START_DOUBLINGS		6
#define START_DELAY_MAX_MS	(START_DELAY_MS << START_DOUBLINGS)

/* A worker that was registered and has not been seen at work. */
typedef struct Start
{
	int			slot;
	int64		token;
	BackgroundWorkerHandle *handle;
} Start;

/* Say why the run has no worker, if it has none. */
static void
set_wait_reason(Scheduler *scheduler, Watch *watch, const char *reason)
{
	StoreSession session;

	if (watch->living > 0)
		return;
	watch_begin(scheduler);
	store_begin(&session);
	if (store_try_run(&session, watch->run_id))
		store_set_wait_reason(&session, watch->run_id, reason);
	store_end(&session);
	watch_commit(scheduler);
}

static bool
register_worker(Scheduler *scheduler, Watch *watch, int slot,
				BackgroundWorkerHandle **handle)
{
	int64		token = worker_slot_token(slot);
	BackgroundWorker worker;
	bool		ok;
	MemoryContext old;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION |
		COMPAT_INTERRUPTIBLE;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, GUC_LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "backfill_worker_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "backfill worker for run " INT64_FORMAT, watch->run_id);
	strlcpy(worker.bgw_type, "backfill worker", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(slot);
	memcpy(worker.bgw_extra, &token, sizeof(token));
	worker.bgw_notify_pid = MyProcPid;

	old = MemoryContextSwitchTo(scheduler->context);
	ok = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old);
	return ok;
}

/*
 * Start one worker of the run.  Returns false when there is no place for it;
 * the run then says so, and the log does once.
 */
static bool
start_worker(Scheduler *scheduler, Watch *watch)
{
	BackgroundWorkerHandle *handle;
	Start	   *start;
	MemoryContext old;
	int			slot = worker_slot_reserve(MyDatabaseId, watch->owner, watch->run_id);

	if (slot < 0)
	{
		set_wait_reason(scheduler, watch, psprintf("waits for a worker: all %d of \"backfill.max_workers\" are at work",
										guc_max_workers));
		return false;
	}
	run_slot_open(MyDatabaseId, watch->run_id, &watch->governor.pace,
					watch->governor.batch_size);
	scheduler->round_soon = scheduler->round_soon ||
		governor_has_ledgers(&watch->governor);
	if (!register_worker(scheduler, watch, slot, &handle))
	{
		worker_slot_release(slot, worker_slot_token(slot));
		set_wait_reason(scheduler, watch, "waits for a worker: all of \"max_worker_processes\" are in use");
		if (!scheduler->said)
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("backfill could not start a worker: out of background worker slots"),
					 errhint("You might need to increase \"max_worker_processes\".")));
		scheduler->said = true;
		return false;
	}
	scheduler->said = false;
	old = MemoryContextSwitchTo(scheduler->context);
	start = palloc(sizeof(Start));
	start->slot = slot;
	start->token = worker_slot_token(slot);
	start->handle = handle;
	scheduler->starts = lappend(scheduler->starts, start);
	MemoryContextSwitchTo(old);
	watch->living++;
	return true;
}

/* Whether a worker of the run has got as far as claiming batches since this was asked last. */
static void
note_ready(Watch *watch)
{
	int64		ready = run_slot_ready(MyDatabaseId, watch->run_id);

	if (ready == 0 || ready == watch->ready)
		return;
	watch->ready = ready;
	watch->starts = 0;
	watch->next_start = 0;
}

/*
 * Give back the slots of workers that died before they attached, and note which runs had one that
 * did not, before the slots of those are closed that have none any more.
 */
void
starts_check(Scheduler *scheduler)
{
	ListCell   *lc;

	foreach(lc, scheduler->watches)
		note_ready((Watch *) lfirst(lc));
	foreach(lc, scheduler->starts)
	{
		Start	   *start = lfirst(lc);
		bool		alive;
		pid_t		pid;

		if (!worker_slot_is_attached(start->slot, start->token, &alive) && alive)
		{
			if (GetBackgroundWorkerPid(start->handle, &pid) != BGWH_STOPPED)
				continue;
			worker_slot_release(start->slot, start->token);
		}
		pfree(start->handle);
		pfree(start);
		scheduler->starts = foreach_delete_current(scheduler->starts, lc);
	}
}

/*
 * Workers that die before they can work are started ever more slowly, and
 * after some of them the run fails.  Returns whether one may be started now.
 */
static bool
may_start(Scheduler *scheduler, Watch *watch)
{
	TimestampTz now = GetCurrentTimestamp();

	/* a request cancels the rest, as every change of the run's does */
	if (share_is_resting(MyDatabaseId, watch->run_id))
	{
		/* its last worker left because it was asked to */
		watch->starts = 0;
		set_wait_reason(scheduler, watch, "sleeps, and has given its worker's place to others meanwhile");
		return false;
	}
	if (clock_is_ahead(watch->next_start, now, START_DELAY_MAX_MS) ||
		clock_is_ahead(watch->settles_at, now, START_DELAY_MAX_MS))
	{
		scheduler->round_soon = true;
		return false;
	}
	return true;
}

static void
note_start(Watch *watch)
{
	watch->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													watch->starts == 0 ? 0 :
													START_DELAY_MS << Min(watch->starts, START_DOUBLINGS));
	watch->starts++;
}

/* Workers of the run have come and gone without doing anything. */
static void
give_up(Scheduler *scheduler, Watch *watch)
{
	StoreSession session;
	RunInfo    *run;

	watch_begin(scheduler);
	store_begin(&session);
	run = store_try_run(&session, watch->run_id);
	if (run && run->is_requested)
		watch_force_request(&session, run, watch,
					  psprintf("%d workers ended before they could begin", watch->starts));
	else if (run && status_is_active(run->status))
		watch_fail_run(&session, run, watch, watch->living, ERRCODE_CONNECTION_FAILURE,
				 psprintf("%d workers ended before they could begin", watch->starts),
				 "The server log says why.");
	store_end(&session);
	watch_commit_run(scheduler, watch);
	watch->starts = 0;
}

/*
 * Start what is missing: first one worker for each run that has none, then
 * more for those that want more.
 */
void
starts_begin(Scheduler *scheduler)
{
	ListCell   *lc;

	for (int pass = 0; pass < 2; pass++)
	{
		foreach(lc, scheduler->watches)
		{
			Watch	   *watch = lfirst(lc);

			while (watch->living < (pass == 0 ? Min(watch->wanted, 1) : watch->wanted))
			{
				note_ready(watch);
				if (watch->living == 0 && watch->starts >= FUTILE_STARTS)
				{
					give_up(scheduler, watch);
					break;
				}
				if (!may_start(scheduler, watch) || !start_worker(scheduler, watch))
					break;
				if (watch->living == 1)
					note_start(watch);
			}
		}
	}
}
