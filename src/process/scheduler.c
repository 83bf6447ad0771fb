/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *	  The process that looks after the runs of one database.
 *
 * It is started by the launcher when a session, a due time or the start of the
 * server asks for it, and leaves as soon as no run is active, so that an idle
 * database has no connection of ours.  It runs the extension's own SQL only,
 * never anything of a user's.
 *
 * In each round it looks at every active run in a transaction of its own: it
 * takes back the batches of workers that died, carries out what was requested
 * when no worker is left, completes what is done, and then starts the workers
 * that are missing.  An error about one run fails that run and no other.
 *
 * A session-level lock makes it the only one in its database, also against a
 * predecessor that is slow to leave.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/locks.h"
#include "governor/crowd.h"
#include "governor/governor.h"
#include "governor/yield.h"
#include "process/scheduler.h"
#include "process/starts.h"
#include "process/watch.h"
#include "settings/guc.h"
#include "shared/run_slot.h"
#include "shared/scheduler_slot.h"
#include "shared/wake.h"
#include "shared/worker_slot.h"
#include "store/event.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

#define ROUND_MS			1000
#define ROUND_SOON_MS		50
#define PRUNE_MS			3600000

/* ---- the process ---- */

/*
 * Look at every active run.  Returns whether there is any that needs us;
 * *next_due is when the next pending one is due.
 */
static bool
look_at_runs(Scheduler *scheduler, TimestampTz *next_due)
{
	StoreSession session;
	List	   *runs;
	ListCell   *lc;
	bool		needed = false;
	TimestampTz began = GetCurrentTimestamp();

	watch_begin(scheduler);
	MemoryContextReset(scheduler->list_context);
	MemoryContextSwitchTo(scheduler->list_context);
	store_begin(&session);
	governor_open_budget(&session);
	runs = store_active_runs(&session);
	store_end(&session);
	watch_commit(scheduler);

	*next_due = DT_NOEND;
	foreach(lc, scheduler->watches)
		((Watch *) lfirst(lc))->seen = false;
	foreach(lc, runs)
	{
		const RunDue *due = lfirst(lc);
		Watch	   *watch;

		CHECK_FOR_INTERRUPTS();
		if (due->status == RUN_PENDING && !due->is_requested &&
			due->start_at > GetCurrentTimestamp())
		{
			*next_due = Min(*next_due, due->start_at);
			continue;
		}
		watch = watch_get(scheduler, due->id);
		watch->seen = true;
		watch->blocked = watch->closed = false;
		watch_look_after(scheduler, watch);
		MemoryContextReset(scheduler->round_context);

		/* the launcher looks whether the database is still closed */
		if (watch->closed)
			*next_due = DT_NOBEGIN;

		/* the runs that it waits for bring us back */
		needed = needed || !(watch->blocked || watch->closed);
	}
	run_slot_close_idle(MyDatabaseId, began);
	foreach(lc, scheduler->watches)
	{
		Watch	   *watch = lfirst(lc);

		if (watch->seen)
			continue;
		if (worker_slot_count(MyDatabaseId, watch->run_id, NULL) > 0)
		{
			/* it may have been deleted while they sleep */
			wake_workers(MyDatabaseId);
			needed = true;
			continue;
		}
		scheduler->watches = foreach_delete_current(scheduler->watches, lc);
		governor_forget(&watch->governor);
		pfree(watch);
	}
	return needed;
}

/* Now and then: forget what happened long ago. */
static void
prune(Scheduler *scheduler)
{
	TimestampTz now = GetCurrentTimestamp();
	StoreSession session;

	if (guc_event_retention < 0 ||
		!clock_has_passed(scheduler->pruned_at, now, PRUNE_MS))
		return;
	scheduler->pruned_at = now;
	watch_begin(scheduler);
	store_begin(&session);
	store_prune(&session, now - guc_event_retention * USECS_PER_MINUTE);
	store_end(&session);
	watch_commit(scheduler);
}

static void
become_the_only_one(void)
{
	LOCKTAG		tag = locks_tag(LOCK_CLASS_SCHEDULER, 0);
	LockAcquireResult result;

	StartTransactionCommand();
	result = LockAcquire(&tag, ExclusiveLock, true, true);
	CommitTransactionCommand();
	if (result == LOCKACQUIRE_NOT_AVAIL)
		proc_exit(1);			/* the launcher tries again */
}

/*
 * Sleep until the next round is due, or something has happened.  Meanwhile look
 * who waits for batches.
 */
static void
wait_for_round(Scheduler *scheduler)
{
	static uint32 wait_event = 0;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													scheduler->round_soon ? ROUND_SOON_MS : ROUND_MS);

	if (wait_event == 0)
		wait_event = compat_wait_event("BackfillSchedulerMain");
	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		long		next = yield_look();
		long		look = crowd_look(&scheduler->crowd);

		/* much later than it can be: the clock was set back */
		if (left <= 0 || left > ROUND_MS)
			return;
		if (next >= 0)
			left = Min(left, next);
		if (look >= 0)
			left = Min(left, look);
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  left, wait_event) & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			return;
		}
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(scheduler->round_context);
	}
}

void
backfill_scheduler_main(Datum arg)
{
	Oid			database;
	Scheduler	scheduler = {0};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, PG_SIG_IGN);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	if (!scheduler_slot_attach(DatumGetInt32(arg), &database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("application_name", "backfill scheduler", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_deferrable", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);

	/* no run waits for another's standby */
	SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
	if (COMPAT_HAS_TRANSACTION_TIMEOUT)
		SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	become_the_only_one();

	scheduler.context = AllocSetContextCreate(TopMemoryContext, "backfill scheduler",
											  ALLOCSET_DEFAULT_SIZES);
	scheduler.list_context = AllocSetContextCreate(scheduler.context, "backfill runs",
												   ALLOCSET_DEFAULT_SIZES);
	scheduler.round_context = AllocSetContextCreate(scheduler.context, "backfill round",
													ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scheduler.round_context);

	for (;;)
	{
		TimestampTz next_due;
		bool		needed;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(scheduler.round_context);
		(void) scheduler_slot_take_wake();
		scheduler.round_soon = false;
		starts_check(&scheduler);
		worker_slot_release_lost(MyDatabaseId);
		run_slot_sample(MyDatabaseId);
		governor_round();
		needed = look_at_runs(&scheduler, &next_due);
		starts_begin(&scheduler);
		prune(&scheduler);
		if (!needed && scheduler_slot_finish(next_due))
			proc_exit(0);
		if (!needed)
			continue;
		pgstat_report_activity(STATE_IDLE, NULL);
		wait_for_round(&scheduler);
	}
}
