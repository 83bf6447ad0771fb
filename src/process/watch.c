/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  One look at one run, by the scheduler.
 *
 * In a transaction of its own: take back the batches of workers that died, carry
 * out what was requested when no worker is left, complete what is done, set the
 * pace, and say how many workers are wanted.  An error about one run fails that run
 * and no other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "governor/governor.h"
#include "process/staffing.h"
#include "process/watch.h"
#include "run/access.h"
#include "run/account.h"
#include "run/bound.h"
#include "run/lapse.h"
#include "run/transition.h"
#include "shared/run_slot.h"
#include "shared/scheduler_slot.h"
#include "shared/segment.h"
#include "shared/stock.h"
#include "shared/wake.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/event.h"
#include "store/pagelease.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"
#include "store/stream.h"

/* So many streams are named in a message. */
#define STREAMS_NAMED		5

#define ROLLUP_MS			5000
/* What ended a worker may be about to end us, too. */
#define SETTLE_MS			100
/* A commit that has waited so long for a standby is worth mentioning. */
#define STANDBY_MS			900

/* Start a transaction of the scheduler's.  Ends the process when the extension is gone. */
void
watch_begin(Scheduler *scheduler)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!store_lock_extension())
	{
		AbortCurrentTransaction();
		run_slot_forget_database(MyDatabaseId);
		stock_forget(MyDatabaseId, 0);
		(void) scheduler_slot_finish(DT_NOEND);
		proc_exit(0);
	}
	MemoryContextSwitchTo(scheduler->round_context);
}

/* Commit it.  Ends in the context of the round. */
void
watch_commit(Scheduler *scheduler)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(scheduler->round_context);
	pgstat_report_stat(false);
}

/*
 * Commit a transaction that was about one run.  That it failed is logged when it
 * has been recorded.
 */
void
watch_commit_run(Scheduler *scheduler, Watch *watch)
{
	watch_commit(scheduler);
	if (watch->failure)
		ereport(LOG,
				(errmsg("backfill run " INT64_FORMAT " failed: %s", watch->run_id, watch->failure),
				 watch->failure_hint ? errhint("%s", watch->failure_hint) : 0));
	watch->failure = NULL;
}

/* What is remembered of the run, new if nothing is. */
Watch *
watch_get(Scheduler *scheduler, int64 run_id)
{
	Watch	   *watch;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, scheduler->watches)
	{
		watch = lfirst(lc);
		if (watch->run_id == run_id)
			return watch;
	}
	old = MemoryContextSwitchTo(scheduler->context);
	watch = palloc0(sizeof(Watch));
	watch->run_id = run_id;
	watch->tokens = -1;
	scheduler->watches = lappend(scheduler->watches, watch);
	MemoryContextSwitchTo(old);
	return watch;
}

/* ---- one run ---- */

/*
 * Fail a run from here: nobody is at work on it, or there are workers living, or
 * to come, which will see the request.  What clients have out may be completed, and is
 * taken back when it is not: of a run that has failed nobody would.
 */
void
watch_fail_run(StoreSession *session, RunInfo *run, Watch *watch, int living, int sqlstate,
			   const char *message, const char *hint)
{
	RunError	error = {
		.sqlstate = unpack_sql_state(sqlstate),
		.message = message,
		.hint = hint
	};

	watch->failure = MemoryContextStrdup(session->caller, message);
	watch->failure_hint = hint;
	store_set_error(session, run->id, &error);
	run->error = pstrdup(message);
	run->sqlstate = pstrdup(error.sqlstate);
	if (living > 0 || stock_out(MyDatabaseId, run->id) > 0)
		transition_request(session, run, RUN_FAILED, false, NULL, message);
	else
		transition_make(session, run, RUN_FAILED, NULL, message);
}

/*
 * Take back the batches of workers that are not among the living.  Returns
 * false when one of them has brought down too many.
 */
static bool
recover(StoreSession *session, RunInfo *run, Watch *watch,
		int64 *tokens, int living)
{
	int64		sum = 0;
	BatchCulprit worst;
	int			n;
	EventInfo	event = {.kind = "takeover"};
	BatchClaimants claimants = {.living = tokens, .nliving = living};
	int64	   *pardoned;

	for (int i = 0; i < living; i++)
		sum = (int64) ((uint64) sum + (uint64) tokens[i]);
	if (watch->tokens == sum && living > 0)
		return true;
	watch->tokens = sum;
	claimants.boot = segment_boot(&claimants.clean_start);
	claimants.npardoned = worker_slot_pardoned(&pardoned);
	claimants.pardoned = pardoned;
	n = stream_recover(session, run, &claimants, &worst);
	if (n == 0)
		return true;
	event.reason = psprintf("%d batch%s of workers that are gone", n, n == 1 ? "" : "es");
	store_add_event(session, run, &event);

	/* how often a batch did harm must outlive the next harm it does */
	ForceSyncCommit();
	watch->pending = true;
	if (worst.crashes < BATCH_CRASHES_FATAL)
		return true;
	if (transition_needs_worker(session, run, RUN_FAILED))
		living = Max(living, 1);
	watch_fail_run(session, run, watch, living, ERRCODE_CRASH_SHUTDOWN,
			 psprintf("batch " INT64_FORMAT "%s brought down its worker or the server %d times",
					  worst.number, worst.stream ? psprintf(" of stream \"%s\"", worst.stream) : "",
					  worst.crashes),
			 "Look into the server log, mend the data or what the statement calls, and call backfill_resume.");
	return false;
}

/*
 * Carry out what was requested, or have a worker do it, when no worker is
 * left.
 */
static void
carry_out(Scheduler *scheduler, StoreSession *session, RunInfo *run, Watch *watch, int living)
{
	if (living > 0)
	{
		if (run->immediate)
			worker_slot_cancel(MyDatabaseId, run->id, 0);
		scheduler->round_soon = true;
		return;
	}
	account_roll_up(session, run);
	governor_note_end(session, run, &watch->governor);
	if (transition_needs_worker(session, run, run->requested))
		watch->wanted = 1;
	else
		transition_carry_out(session, run, run->requested);
}

/* The run is to change: do it, or have a worker do it. */
static void
change_run(StoreSession *session, RunInfo *run, Watch *watch, RunStatus to)
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
 * Everything is done that can be: complete the run, unless there are streams that failed, or
 * that somebody holds or has stopped.
 */
static void
end_run(StoreSession *session, RunInfo *run, Watch *watch)
{
	StreamCounts counts = {0};

	if (run->has_streams)
		stream_count(session, run->id, &counts);
	if (counts.failed > 0)
	{
		int			sqlstate;
		char	   *names = stream_names(session, run->id, RUN_FAILED, STREAMS_NAMED);

		sqlstate = stream_sqlstate(session, run->id);
		watch_fail_run(session, run, watch, 0, sqlstate,
					   psprintf(INT64_FORMAT " of " INT64_FORMAT " streams failed: %s%s",
								counts.failed, counts.failed + counts.paused + counts.stopped + counts.completed,
								names, counts.failed > STREAMS_NAMED ? ", ..." : ""),
					   "The view backfill_streams has their errors; backfill_resume takes up those that failed.");
	}
	else if (counts.paused > 0)
		store_set_wait_reason(session, run->id,
							  psprintf("streams are paused: %s%s",
									   stream_names(session, run->id, RUN_PAUSED, STREAMS_NAMED),
									   counts.paused > STREAMS_NAMED ? ", ..." : ""));
	else
		change_run(session, run, watch, counts.stopped > 0 ? RUN_STOPPED : RUN_COMPLETED);
}

/*
 * Carry out what was requested, complete what is done.  Returns whether the
 * run goes on; otherwise watch->wanted is the number of workers it needs.
 */
static bool
advance(Scheduler *scheduler, StoreSession *session, RunInfo *run, Watch *watch, int living)
{
	TimestampTz now = GetCurrentTimestamp();
	char	   *bound;

	if (run->is_requested)
	{
		/* what clients have out may be completed, unless it was taken from them */
		if (living == 0 && stock_out(MyDatabaseId, run->id) > 0)
			return false;
		carry_out(scheduler, session, run, watch, living);
		return false;
	}
	if (run->status == RUN_PENDING && run->start_at <= now)
	{
		char	   *reason = transition_wait_reason(session, run->after);

		watch->blocked = reason != NULL;
		if (watch->blocked)
		{
			store_set_wait_reason(session, run->id, reason);
			return false;
		}
		change_run(session, run, watch, RUN_ENQUEUED);

		/* how things stand for it at this hour is looked at in the next round */
		scheduler->round_soon = true;
		return false;
	}
	if (run->status == RUN_RUNNING && living == 0 && staffing_is_done(session, run))
	{
		/* the verification and the last step wait for their hour, too */
		governor_set_pace(session, run, &watch->governor, living);
		if (watch->governor.pace.hold)
			return false;
		account_roll_up(session, run);
		governor_note_end(session, run, &watch->governor);
		end_run(session, run, watch);
		return false;
	}
	bound = run->status == RUN_RUNNING ? bound_reached(session, run, living) : NULL;
	if (bound)
	{
		/* carried out when the workers have let go, as if somebody had asked for it */
		transition_request(session, run, RUN_PAUSED, false, NULL, bound);
		wake_at_commit((WakeTarget) {run->owner, run->id});
		scheduler->round_soon = true;
		return false;
	}
	if (run->status == RUN_RUNNING &&
		clock_has_passed(watch->rolled_up_at, now, ROLLUP_MS))
	{
		account_roll_up(session, run);
		governor_save_size(session, run);
		watch->rolled_up_at = now;
	}
	return run->status != RUN_PENDING;
}

/*
 * Carry out what was requested although no worker can call the hooks.  A run
 * that cannot be verified or finished fails.
 */
void
watch_force_request(StoreSession *session, RunInfo *run, Watch *watch, const char *why)
{
	EventInfo	event = {
		.kind = "hook",
		.reason = psprintf("no hook was called: %s", why)
	};

	store_add_event(session, run, &event);
	if (run->requested == RUN_COMPLETED)
		watch_fail_run(session, run, watch, 0, ERRCODE_CONNECTION_FAILURE, why, NULL);
	else
		transition_carry_out(session, run, run->requested);
}

/*
 * Whether there is something to be done about the run, which is locked: batches
 * are taken back first, which may fail it.
 */
static bool
is_to_be_advanced(StoreSession *session, RunInfo *run, Watch *watch, int64 *tokens, int living)
{
	return (status_is_active(run->status) || run->is_requested) && run->is_local &&
		(run->status != RUN_RUNNING || recover(session, run, watch, tokens, living));
}

/* Bring the run on, and say how many workers it needs. */
static void
advance_and_staff(Scheduler *scheduler, StoreSession *session, RunInfo *run, Watch *watch,
				  int living)
{
	const char *problem;
	const char *hint;

	watch->owner = run->owner;
	if (advance(scheduler, session, run, watch, living))
	{
		governor_set_pace(session, run, &watch->governor, living);
		watch->wanted = staffing_wanted(session, run, living,
										(int) watch->governor.pace.workers);

		/* the first worker looks for batches that were let go of, by whomever */
		if (living == 0)
			watch->pending = true;
	}
	if (watch->wanted > living && access_is_closed())
	{
		/* that may change without notice; who is connected goes on */
		if (living == 0)
			store_set_wait_reason(session, run->id, ACCESS_CLOSED_REASON);
		watch->closed = living == 0;
		watch->wanted = 0;
		return;
	}
	problem = watch->wanted > living ? access_problem(run->owner, &hint) : NULL;
	if (problem == NULL)
		return;
	if (run->is_requested)
		watch_force_request(session, run, watch, problem);
	else
		watch_fail_run(session, run, watch, living, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
					   problem, hint);
	watch->wanted = 0;
}

/*
 * Say that workers of the run, which is locked, have been waiting for a synchronous
 * standby, or that they do not any more.
 */
static void
note_standby(StoreSession *session, const RunInfo *run, Watch *watch)
{
	static const char reason[] =
		"waits for a synchronous standby to confirm a commit; see \"synchronous_standby_names\" and the setting \"synchronous_commit\"";
	bool		said = run->wait_reason && strcmp(run->wait_reason, reason) == 0;
	TimestampTz now = GetCurrentTimestamp();

	if (run->status != RUN_RUNNING || !worker_slot_in_sync_rep(MyDatabaseId, run->id))
	{
		watch->standby_since = 0;
		if (said)
			store_set_wait_reason(session, run->id, NULL);
		return;
	}
	if (watch->standby_since == 0)
		watch->standby_since = now;
	else if (!said && TimestampDifferenceExceeds(watch->standby_since, now, STANDBY_MS))
		store_set_wait_reason(session, run->id, reason);
}

/* One look at one run, in a transaction of its own. */
static void
look_after(Scheduler *scheduler, Watch *watch)
{
	StoreSession session;
	RunInfo    *run;
	int64	   *tokens;
	int			living;
	bool		goes_on;
	List	   *over = NIL;

	watch_begin(scheduler);
	store_begin(&session);
	watch->wanted = 0;
	run = store_try_run(&session, watch->run_id);
	if (run == NULL)
		scheduler->round_soon = true;	/* a session is at it: later */

	/* count the workers when no session can change the run any more */
	living = worker_slot_count(MyDatabaseId, watch->run_id, &tokens);
	if (living < watch->living)
		watch->settles_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SETTLE_MS);
	watch->living = living;
	if (run && run->is_local && (run->status == RUN_RUNNING || run->is_requested))
	{
		/* what clients have of a source, its row says */
		if (source_is_client(&run->source))
			(void) pagelease_lapse(&session, run, run->is_requested && run->immediate);
		else
			over = lapse_review(&session, run, !watch->leases_known);
	}
	goes_on = run && is_to_be_advanced(&session, run, watch, tokens, living);
	store_end(&session);
	if (run && run->is_local)
	{
		store_begin(&session);
		note_standby(&session, run, watch);
		store_end(&session);
	}
	if (goes_on)
	{
		/* a request is carried out whatever the hour, and however the server is */
		if (!run->is_requested && run->status != RUN_PENDING)
			governor_judge(run, &watch->governor);
		store_begin(&session);
		advance_and_staff(scheduler, &session, run, watch, living);
		store_end(&session);
	}
	watch_commit_run(scheduler, watch);
	watch->trouble = 0;
	watch->leases_known = watch->leases_known || (run && run->status == RUN_RUNNING);
	if (lapse_done(over))
		watch->pending = true;

	/* not before the workers can see the rows */
	if (watch->pending)
		run_slot_set_pending(MyDatabaseId, watch->run_id, DT_NOBEGIN);
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

/*
 * One look at one run.  An error about it fails the run, and is logged; one in
 * recording that ends the process.
 */
void
watch_look_after(Scheduler *scheduler, Watch *watch)
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		look_after(scheduler, watch);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(scheduler->round_context);
		error = CopyErrorData();

		/* once for all rounds in a row that meet the same */
		if (watch->trouble != error->sqlerrcode)
			EmitErrorReport();
		watch->trouble = error->sqlerrcode;
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scheduler->round_context);
	if (error)
	{
		StoreSession session;
		RunInfo    *run;

		watch->wanted = 0;
		watch->failure = NULL;
		if (is_transient(error))
			return;
		watch_begin(scheduler);
		store_begin(&session);
		run = store_try_run(&session, watch->run_id);
		if (run && status_is_active(run->status))
			watch_fail_run(&session, run, watch, watch->living, error->sqlerrcode,
						   error->message, NULL);
		store_end(&session);
		watch_commit_run(scheduler, watch);
	}
}
