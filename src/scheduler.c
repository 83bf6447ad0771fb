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

#include "backfill.h"
#include "batch.h"
#include "catalog.h"
#include "compat.h"
#include "depend.h"
#include "governor.h"
#include "shared.h"
#include "staffing.h"
#include "transition.h"
#include "yield.h"

#define LOCK_CLASS_SCHEDULER	79

#define ROUND_MS			1000
#define ROUND_SOON_MS		50
#define ROLLUP_MS			5000
/* What ended a worker may be about to end us, too. */
#define SETTLE_MS			100
#define PRUNE_MS			3600000
/* Starts of workers of one run that came to nothing, before the run fails. */
#define FUTILE_STARTS		8

/* What the scheduler remembers of a run from round to round. */
typedef struct Watch
{
	int64		run_id;
	bool		seen;			/* still active in this round */
	int64		tokens;			/* sum over the living workers */
	TimestampTz rolled_up_at;
	TimestampTz next_start;		/* not before this time */
	TimestampTz settles_at;		/* likewise, because a worker has just ended */
	int			starts;			/* since a worker was last ready */
	int			ready;			/* count in shared memory then */
	int			wanted;			/* workers to start in this round */
	int			living;
	bool		blocked;		/* waits for other runs */
	bool		pending;		/* its workers have to look for pending batches */
	Oid			owner;
	Governor	governor;
} Watch;

/* A worker that was registered and has not been seen at work. */
typedef struct Start
{
	int			slot;
	int64		token;
	BackgroundWorkerHandle *handle;
} Start;

static MemoryContext scheduler_context;
static MemoryContext round_context;
static List *watches = NIL;
static List *starts = NIL;
static bool round_soon;			/* look again shortly */

static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!catalog_lock_extension())
	{
		AbortCurrentTransaction();
		shared_forget_database(MyDatabaseId);
		(void) shared_scheduler_finish(DT_NOEND);
		proc_exit(0);
	}
	MemoryContextSwitchTo(round_context);
}

static void
commit(void)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(round_context);
	pgstat_report_stat(false);
}

static Watch *
get_watch(int64 run_id)
{
	Watch	   *watch;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, watches)
	{
		watch = lfirst(lc);
		if (watch->run_id == run_id)
			return watch;
	}
	old = MemoryContextSwitchTo(scheduler_context);
	watch = palloc0(sizeof(Watch));
	watch->run_id = run_id;
	watch->tokens = -1;
	watches = lappend(watches, watch);
	MemoryContextSwitchTo(old);
	return watch;
}

/* ---- one run ---- */

/*
 * Fail a run from here: nobody is at work on it, or there are workers living, or
 * to come, which will see the request.
 */
static void
fail_run(CatalogSession *session, RunInfo *run, int living, int sqlstate,
		 const char *message, const char *hint)
{
	RunError	error = {
		.sqlstate = unpack_sql_state(sqlstate),
		.message = message,
		.hint = hint
	};

	ereport(LOG,
			(errmsg("backfill run " INT64_FORMAT " failed: %s", run->id, message),
			 hint ? errhint("%s", hint) : 0));
	catalog_set_error(session, run->id, &error);
	run->error = pstrdup(message);
	run->sqlstate = pstrdup(error.sqlstate);
	if (living > 0)
		transition_request(session, run, RUN_FAILED, false, NULL, message);
	else
		transition_make(session, run, RUN_FAILED, NULL, message);
}

/*
 * Take back the batches of workers that are not among the living.  Returns
 * false when one of them has brought down too many.
 */
static bool
recover(CatalogSession *session, RunInfo *run, Watch *watch,
		int64 *tokens, int living)
{
	int64		sum = 0;
	int64		worst;
	int			crashes;
	int			n;
	EventInfo	event = {.kind = "takeover"};
	bool		clean_start;
	int64		boot = shared_boot(&clean_start);

	for (int i = 0; i < living; i++)
		sum = (int64) ((uint64) sum + (uint64) tokens[i]);
	if (watch->tokens == sum && living > 0)
		return true;
	watch->tokens = sum;
	n = catalog_recover_batches(session, run->id, tokens, living, boot, clean_start,
								&worst, &crashes);
	if (n == 0)
		return true;
	event.reason = psprintf("%d batch%s of workers that are gone", n, n == 1 ? "" : "es");
	catalog_add_event(session, run, &event);

	/* how often a batch did harm must outlive the next harm it does */
	ForceSyncCommit();
	watch->pending = true;
	if (crashes < BATCH_CRASHES_FATAL)
		return true;
	if (transition_needs_worker(session, run, RUN_FAILED))
		living = Max(living, 1);
	fail_run(session, run, living, ERRCODE_CRASH_SHUTDOWN,
			 psprintf("batch " INT64_FORMAT " brought down its worker or the server %d times",
					  worst, crashes),
			 "Look into the server log, mend the data or what the statement calls, and call backfill_resume.");
	return false;
}

/*
 * Carry out what was requested, or have a worker do it, when no worker is
 * left.
 */
static void
carry_out(CatalogSession *session, RunInfo *run, Watch *watch, int living)
{
	if (living > 0)
	{
		if (run->immediate)
			shared_run_cancel(MyDatabaseId, run->id);
		round_soon = true;
		return;
	}
	catalog_rollup(session, run->id);
	governor_save_size(session, run);
	if (transition_needs_worker(session, run, run->requested))
		watch->wanted = 1;
	else
		transition_carry_out(session, run, run->requested);
}

/* The run is to change: do it, or have a worker do it. */
static void
change_run(CatalogSession *session, RunInfo *run, Watch *watch, RunStatus to)
{
	if (transition_needs_worker(session, run, to))
	{
		transition_request(session, run, to, false, NULL, NULL);
		watch->wanted = 1;
	}
	else
		transition_make(session, run, to, NULL, NULL);
}

/*
 * Carry out what was requested, complete what is done.  Returns whether the
 * run goes on; otherwise watch->wanted is the number of workers it needs.
 */
static bool
advance(CatalogSession *session, RunInfo *run, Watch *watch, int living)
{
	TimestampTz now = GetCurrentTimestamp();

	if (run->is_requested)
	{
		carry_out(session, run, watch, living);
		return false;
	}
	if (run->status == RUN_PENDING && run->start_at <= now)
	{
		char	   *reason = depend_wait_reason(session, run->after);

		watch->blocked = reason != NULL;
		if (watch->blocked)
		{
			catalog_set_wait_reason(session, run->id, reason);
			return false;
		}
		change_run(session, run, watch, RUN_ENQUEUED);
		if (run->is_requested)
			return false;
	}
	if (run->status == RUN_RUNNING && living == 0 &&
		staffing_walk_is_claimed(session, run) &&
		catalog_open_batches(session, run->id, NULL) == 0)
	{
		/* the verification and the last step wait for their hour, too */
		governor_set_pace(session, run, &watch->governor, living);
		if (watch->governor.pace.hold)
			return false;
		catalog_rollup(session, run->id);
		change_run(session, run, watch, RUN_COMPLETED);
		return false;
	}
	if (run->status == RUN_RUNNING &&
		TimestampDifferenceExceeds(watch->rolled_up_at, now, ROLLUP_MS))
	{
		catalog_rollup(session, run->id);
		governor_save_size(session, run);
		watch->rolled_up_at = now;
	}
	return run->status != RUN_PENDING;
}

/*
 * Carry out what was requested although no worker can call the hooks.  A run
 * that cannot be verified or finished fails.
 */
static void
force_request(CatalogSession *session, RunInfo *run, const char *why)
{
	EventInfo	event = {
		.kind = "hook",
		.reason = psprintf("no hook was called: %s", why)
	};

	catalog_add_event(session, run, &event);
	if (run->requested == RUN_COMPLETED)
		fail_run(session, run, 0, ERRCODE_CONNECTION_FAILURE, why, NULL);
	else
		transition_carry_out(session, run, run->requested);
}

/* One look at one run, in a transaction of its own. */
static void
look_after(Watch *watch)
{
	CatalogSession session;
	RunInfo    *run;
	int64	   *tokens;
	int			living;
	const char *problem;
	const char *hint;

	begin();
	catalog_begin(&session);
	watch->wanted = 0;
	run = catalog_try_run(&session, watch->run_id);
	if (run == NULL)
		round_soon = true;		/* a session is at it: later */

	/* count the workers when no session can change the run any more */
	living = shared_run_workers(MyDatabaseId, watch->run_id, &tokens);
	if (living < watch->living)
		watch->settles_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SETTLE_MS);
	watch->living = living;
	if (run && (status_is_active(run->status) || run->is_requested) && run->is_local &&
		(run->status != RUN_RUNNING || recover(&session, run, watch, tokens, living)))
	{
		watch->owner = run->owner;
		if (advance(&session, run, watch, living))
		{
			governor_set_pace(&session, run, &watch->governor, living);
			watch->wanted = staffing_wanted(&session, run, living,
											(int) watch->governor.pace.workers);

			/* the first worker looks for batches that were let go of, by whomever */
			if (living == 0)
				watch->pending = true;
		}
		problem = watch->wanted > living ? staffing_problem(run, &hint) : NULL;
		if (problem && run->is_requested)
			force_request(&session, run, problem);
		else if (problem)
		{
			fail_run(&session, run, living, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
					 problem, hint);
		}
		if (problem)
			watch->wanted = 0;
	}
	catalog_end(&session);
	commit();

	/* not before the workers can see the rows */
	if (watch->pending)
		shared_run_set_pending(MyDatabaseId, watch->run_id, DT_NOBEGIN);
	watch->pending = false;
}

/* Whether the next round may do better, so that the run need not fail. */
static bool
is_transient(ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES;
}

/* An error about one run, recorded; any other error ends the process. */
static void
look_after_safely(Watch *watch)
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		look_after(watch);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(round_context);
		error = CopyErrorData();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(round_context);
	if (error)
	{
		CatalogSession session;
		RunInfo    *run;

		watch->wanted = 0;
		if (is_transient(error))
			return;
		begin();
		catalog_begin(&session);
		run = catalog_try_run(&session, watch->run_id);
		if (run && status_is_active(run->status))
			fail_run(&session, run, watch->living, error->sqlerrcode,
					 error->message, NULL);
		catalog_end(&session);
		commit();
	}
}

/* ---- starting workers ---- */

/* Say why the run has no worker, if it has none. */
static void
set_wait_reason(Watch *watch, const char *reason)
{
	CatalogSession session;

	if (watch->living > 0)
		return;
	begin();
	catalog_begin(&session);
	if (catalog_try_run(&session, watch->run_id))
		catalog_set_wait_reason(&session, watch->run_id, reason);
	catalog_end(&session);
	commit();
}

static bool
register_worker(Watch *watch, int slot, BackgroundWorkerHandle **handle)
{
	int64		token = shared_worker_token(slot);
	BackgroundWorker worker;
	bool		ok;
	MemoryContext old;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, BACKFILL_LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "backfill_worker_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "backfill worker for run " INT64_FORMAT, watch->run_id);
	strlcpy(worker.bgw_type, "backfill worker", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(slot);
	memcpy(worker.bgw_extra, &token, sizeof(token));
	worker.bgw_notify_pid = MyProcPid;

	old = MemoryContextSwitchTo(scheduler_context);
	ok = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old);
	return ok;
}

/*
 * Start one worker of the run.  Returns false when there is no place for it;
 * the run then says so, and the log does once.
 */
static bool
start_worker(Watch *watch)
{
	static bool said = false;
	BackgroundWorkerHandle *handle;
	Start	   *start;
	MemoryContext old;
	int			slot = shared_worker_reserve(MyDatabaseId, watch->owner, watch->run_id);

	if (slot < 0)
	{
		set_wait_reason(watch, psprintf("waits for a worker: all %d of \"backfill.max_workers\" are at work",
										backfill_max_workers));
		return false;
	}
	shared_run_open(MyDatabaseId, watch->run_id, &watch->governor.pace,
					watch->governor.batch_size);
	round_soon = round_soon || governor_has_ledgers(&watch->governor);
	if (!register_worker(watch, slot, &handle))
	{
		shared_worker_release(slot, shared_worker_token(slot));
		set_wait_reason(watch, "waits for a worker: all of \"max_worker_processes\" are in use");
		if (!said)
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("backfill could not start a worker: out of background worker slots"),
					 errhint("You might need to increase \"max_worker_processes\".")));
		said = true;
		return false;
	}
	said = false;
	old = MemoryContextSwitchTo(scheduler_context);
	start = palloc(sizeof(Start));
	start->slot = slot;
	start->token = shared_worker_token(slot);
	start->handle = handle;
	starts = lappend(starts, start);
	MemoryContextSwitchTo(old);
	watch->living++;
	return true;
}

/* Give back the slots of workers that died before they attached. */
static void
check_starts(void)
{
	ListCell   *lc;

	foreach(lc, starts)
	{
		Start	   *start = lfirst(lc);
		bool		alive;
		pid_t		pid;

		if (!shared_worker_attached(start->slot, start->token, &alive) && alive)
		{
			if (GetBackgroundWorkerPid(start->handle, &pid) != BGWH_STOPPED)
				continue;
			shared_worker_release(start->slot, start->token);
		}
		pfree(start->handle);
		pfree(start);
		starts = foreach_delete_current(starts, lc);
	}
}

/*
 * Workers that die before they can work are started ever more slowly, and
 * after some of them the run fails.  Returns whether one may be started now.
 */
static bool
may_start(Watch *watch)
{
	int			ready = shared_run_ready(MyDatabaseId, watch->run_id);
	TimestampTz now = GetCurrentTimestamp();

	if (ready != watch->ready)
	{
		watch->ready = ready;
		watch->starts = 0;
		watch->next_start = 0;
	}
	if (now < watch->next_start || now < watch->settles_at)
	{
		round_soon = true;
		return false;
	}
	return true;
}

static void
note_start(Watch *watch)
{
	watch->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													watch->starts == 0 ? 0 :
													50 << Min(watch->starts, 6));
	watch->starts++;
}

/* Workers of the run have come and gone without doing anything. */
static void
give_up(Watch *watch)
{
	CatalogSession session;
	RunInfo    *run;

	begin();
	catalog_begin(&session);
	run = catalog_try_run(&session, watch->run_id);
	if (run && run->is_requested)
		force_request(&session, run,
					  psprintf("%d workers ended before they could begin", watch->starts));
	else if (run && status_is_active(run->status))
		fail_run(&session, run, watch->living, ERRCODE_CONNECTION_FAILURE,
				 psprintf("%d workers ended before they could begin", watch->starts),
				 "The server log says why.");
	catalog_end(&session);
	commit();
	watch->starts = 0;
}

/*
 * Start what is missing: first one worker for each run that has none, then
 * more for those that want more.
 */
static void
start_workers(void)
{
	ListCell   *lc;

	for (int pass = 0; pass < 2; pass++)
	{
		foreach(lc, watches)
		{
			Watch	   *watch = lfirst(lc);

			while (watch->living < (pass == 0 ? Min(watch->wanted, 1) : watch->wanted))
			{
				if (watch->living == 0 && watch->starts >= FUTILE_STARTS &&
					shared_run_ready(MyDatabaseId, watch->run_id) == watch->ready)
				{
					give_up(watch);
					break;
				}
				if (!may_start(watch) || !start_worker(watch))
					break;
				if (watch->living == 1)
					note_start(watch);
			}
		}
	}
}

/* ---- the process ---- */

/*
 * Look at every active run.  Returns whether there is any that needs us;
 * *next_due is when the next pending one is due.
 */
static bool
look_at_runs(TimestampTz *next_due)
{
	CatalogSession session;
	List	   *runs;
	ListCell   *lc;
	bool		needed = false;

	begin();
	catalog_begin(&session);
	governor_open_budget(&session);
	runs = catalog_active_runs(&session);
	catalog_end(&session);
	commit();

	*next_due = DT_NOEND;
	foreach(lc, watches)
		((Watch *) lfirst(lc))->seen = false;
	foreach(lc, runs)
	{
		RunInfo    *run = lfirst(lc);
		Watch	   *watch = get_watch(run->id);

		watch->seen = true;
		if (run->status == RUN_PENDING && !run->is_requested &&
			run->start_at > GetCurrentTimestamp())
		{
			*next_due = Min(*next_due, run->start_at);
			watch->wanted = 0;
			continue;
		}
		watch->blocked = false;
		look_after_safely(watch);

		/* the runs that it waits for bring us back */
		needed = needed || !watch->blocked;
	}
	shared_close_idle_runs(MyDatabaseId);
	foreach(lc, watches)
	{
		Watch	   *watch = lfirst(lc);

		if (watch->seen)
			continue;
		if (shared_run_workers(MyDatabaseId, watch->run_id, NULL) > 0)
		{
			/* it may have been deleted while they sleep */
			shared_recall_workers(MyDatabaseId);
			needed = true;
			continue;
		}
		watches = foreach_delete_current(watches, lc);
		pfree(watch);
	}
	return needed;
}

/* Now and then: forget what happened long ago. */
static void
prune(void)
{
	static TimestampTz pruned_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	CatalogSession session;

	if (backfill_event_retention < 0 ||
		!TimestampDifferenceExceeds(pruned_at, now, PRUNE_MS))
		return;
	pruned_at = now;
	begin();
	catalog_begin(&session);
	catalog_prune(&session, now - backfill_event_retention * USECS_PER_MINUTE);
	catalog_end(&session);
	commit();
}

static void
become_the_only_one(void)
{
	LOCKTAG		tag;
	LockAcquireResult result;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, LOCK_CLASS_SCHEDULER);
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
wait_for_round(void)
{
	static uint32 wait_event = 0;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													round_soon ? ROUND_SOON_MS : ROUND_MS);

	if (wait_event == 0)
		wait_event = compat_wait_event("BackfillSchedulerMain");
	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		long		next = yield_look();

		/* much later than it can be: the clock was set back */
		if (left <= 0 || left > ROUND_MS)
			return;
		if (next >= 0)
			left = Min(left, next);
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  left, wait_event) & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			return;
		}
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(round_context);
	}
}

void
backfill_scheduler_main(Datum arg)
{
	Oid			database;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, PG_SIG_IGN);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	if (!shared_scheduler_attach(DatumGetInt32(arg), &database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("application_name", "backfill scheduler", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);

	/* no run waits for another's standby */
	SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
	if (COMPAT_HAS_TRANSACTION_TIMEOUT)
		SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	become_the_only_one();

	scheduler_context = AllocSetContextCreate(TopMemoryContext, "backfill scheduler",
											  ALLOCSET_DEFAULT_SIZES);
	round_context = AllocSetContextCreate(scheduler_context, "backfill round",
										  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(round_context);

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
		MemoryContextReset(round_context);
		(void) shared_scheduler_take_wake();
		round_soon = false;
		check_starts();
		shared_release_lost_workers(MyDatabaseId);
		shared_run_sample(MyDatabaseId);
		governor_round();
		needed = look_at_runs(&next_due);
		start_workers();
		prune();
		if (!needed && shared_scheduler_finish(next_due))
			proc_exit(0);
		if (!needed)
			continue;
		pgstat_report_activity(STATE_IDLE, NULL);
		wait_for_round();
	}
}
