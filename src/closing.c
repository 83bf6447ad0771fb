/*-------------------------------------------------------------------------
 *
 * closing.c
 *	  Changes of a run that are made by a worker.
 *
 * Most changes of a run's status are made by the scheduler or by the session
 * that asks for them.  Those with hooks are made by a worker, in a session of
 * the owner's, as is the end of a run with a verification or a last step.  The
 * scheduler starts one worker for that when no other is left.
 *
 * A hook that raises an error prevents the change.  What then happens depends
 * on who asked: a pause or a stop is called off and the run goes on; where the
 * run cannot go on without the change, it fails.  Failing cannot be prevented,
 * nor can a stop that is to be immediate.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "batch.h"
#include "closing.h"
#include "compat.h"
#include "depend.h"
#include "failure.h"
#include "finish.h"
#include "hook.h"
#include "transition.h"
#include "verify.h"

/* Held while a run changes by the hands of a worker. */
#define LOCK_CLASS_CHANGE	80

/* ---- one change ---- */

/* The status that make_change makes of which. */
static RunStatus change_from;
static RunStatus change_to;
static bool change_requested;
static bool changed;

/* Whether the change is still to be made. */
static bool
is_still_wanted(const RunInfo *run)
{
	if (run == NULL || !run->is_local || run->status != change_from)
		return false;
	return change_requested ? run->is_requested && run->requested == change_to :
		!run->is_requested;
}

/* The change itself, within its hooks. */
static void
set_status(Worker *worker)
{
	CatalogSession session;
	RunInfo    *run;

	catalog_begin(&session);
	run = catalog_load_run(&session, worker->slot.run_id, true);
	if (!is_still_wanted(run))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("backfill run " INT64_FORMAT " has changed in the meantime",
						worker->slot.run_id)));
	if (change_to == RUN_COMPLETED)
		catalog_rollup(&session, run->id);
	transition_carry_out(&session, run, change_to);
	catalog_end(&session);
	if (change_to == RUN_COMPLETED)
		depend_start_followers(worker);
}

static HookEvent
change_event(Worker *worker, int64 rows)
{
	return (HookEvent) {
		.object = "run",
		.status = status_name(change_to),
		.previous_status = transition_previous(change_from, change_to),
		.rows = rows,
		.error = change_to == RUN_FAILED ? worker->run->error : NULL
	};
}

static int64 change_rows;

/* Make the change with its hooks, in a transaction of its own. */
static void
make_change(Worker *worker)
{
	CatalogSession session;
	RunInfo    *run;
	HookEvent	event;
	LOCKTAG		tag;

	changed = false;
	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (worker->slot.run_id >> 32),
						 (uint32) worker->slot.run_id, LOCK_CLASS_CHANGE);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	catalog_begin(&session);
	run = catalog_load_run(&session, worker->slot.run_id, false);
	change_rows = worker->hooks == NIL ? 0 :
		catalog_run_rows(&session, worker->slot.run_id);
	catalog_end(&session);
	if (is_still_wanted(run))
	{
		event = change_event(worker, change_rows);
		hook_change(worker, &event, set_status);

		/* what a hook has told the world must not be forgotten in a crash */
		if (worker->hooks != NIL)
			ForceSyncCommit();
		changed = true;
	}
	worker_commit(worker);
}

/* ---- what brings down the server ---- */

/* How often a worker began to close the run and was never heard of again. */
static int	attempts;

/*
 * Note that the owner's code is about to run, or, with 0 attempts, that this
 * worker is done with it.
 */
static void
note_attempt(Worker *worker)
{
	CatalogSession session;
	bool		clean_start;
	int64		boot = shared_boot(&clean_start);

	worker_begin(worker);
	catalog_begin(&session);
	attempts = catalog_note_closing(&session, worker->slot.run_id, attempts > 0, boot,
									clean_start);
	catalog_end(&session);

	/* it must outlive what may come now */
	ForceSyncCommit();
	worker_commit(worker);
}

/* Fail the run without calling anything of the owner's. */
static void
fail_silently(Worker *worker)
{
	CatalogSession session;
	RunInfo    *run;
	RunError	error = {
		.sqlstate = unpack_sql_state(ERRCODE_CRASH_SHUTDOWN),
		.message = psprintf("the end of the run, or a hook, brought down its worker or the server %d times",
							attempts - 1),
		.hint = "Look into the server log, mend what is called, and call backfill_resume."
	};
	EventInfo	event = {.kind = "hook", .sqlstate = error.sqlstate, .reason = error.message};

	worker_begin(worker);
	catalog_begin(&session);
	run = catalog_load_run(&session, worker->slot.run_id, true);
	if (run && run->is_requested && run->requested == RUN_FAILED)
	{
		/* what made it fail says more than what came of the hooks */
		catalog_add_event(&session, run, &event);
		transition_make(&session, run, RUN_FAILED, NULL, run->error);
	}
	else if (run && (status_is_active(run->status) || run->is_requested))
	{
		catalog_set_error(&session, run->id, &error);
		run->sqlstate = pstrdup(error.sqlstate);
		transition_make(&session, run, RUN_FAILED, NULL, error.message);
	}
	catalog_end(&session);
	worker_commit(worker);
}

/*
 * The owner's code is about to run.  Fails the run and ends the process if too
 * many workers have died of it.
 */
static void
count_attempt(Worker *worker)
{
	ErrorData  *error;

	attempts = 1;
	error = worker_try_uncancelled(worker, note_attempt);
	if (error == NULL && attempts > BATCH_CRASHES_FATAL)
	{
		error = worker_try_uncancelled(worker, fail_silently);
		if (error == NULL)
			proc_exit(0);
	}
	if (error)
		ReThrowError(error);
}

/* Leave in good order. */
compat_noreturn static void
leave(Worker *worker)
{
	attempts = 0;
	(void) worker_try_uncancelled(worker, note_attempt);
	proc_exit(0);
}

/* Why the change is not made. */
static ErrorData *veto;

/* The change was prevented: call it off, or ask for the run to fail. */
static void
accept_veto(Worker *worker)
{
	CatalogSession session;
	RunInfo    *run;
	RunError	error = {
		.sqlstate = unpack_sql_state(veto->sqlerrcode),
		.message = veto->message,
		.detail = veto->detail,
		.hint = veto->hint,
		.context = veto->context
	};

	worker_begin(worker);
	catalog_begin(&session);
	run = catalog_load_run(&session, worker->slot.run_id, true);
	if (is_still_wanted(run))
	{
		if (status_is_active(run->status) &&
			change_to != RUN_PAUSED && change_to != RUN_STOPPED)
		{
			catalog_set_error(&session, run->id, &error);
			transition_request(&session, run, RUN_FAILED, false, NULL, error.message);
		}
		else
		{
			catalog_cancel_request(&session, run->id);

			/* the run goes on, and with it what was given back for the stop */
			if (status_is_active(run->status))
				catalog_reopen_batches(&session, run->id);
		}
	}
	catalog_end(&session);
	shared_wake_at_commit();
	worker_commit(worker);
}

/* Try to make the change; what the hooks have to say depends on which it is. */
static ErrorData *
try_change(Worker *worker)
{
	ErrorData  *error;

	/* a stop that is to be immediate waits for no hook */
	if (change_to == RUN_STOPPED && worker->run->immediate)
	{
		worker->hooks_off = true;
		error = worker_try_uncancelled(worker, make_change);
		worker->hooks_off = false;
		return error;
	}
	if (change_to == RUN_FAILED)
		return hook_try(worker, make_change);
	return worker_try(worker, make_change);
}

/*
 * Make the change from the present status, with its hooks.  Returns whether it
 * was made.
 */
static bool
change_run(Worker *worker, RunStatus to)
{
	ErrorData  *error;
	int			tries = 0;

	change_from = worker->run->status;
	change_to = to;
	change_requested = worker->run->is_requested;
	while ((error = try_change(worker)) != NULL)
	{
		worker->in_hook = false;
		if (!failure_is_retryable(error) || ++tries >= worker->settings.max_attempts)
		{
			hook_record_error(worker, NULL, psprintf("the change to \"%s\" was prevented",
											   status_name(to)), error);
			veto = error;
			error = worker_try_uncancelled(worker, accept_veto);
			if (error)
				ReThrowError(error);
			return false;
		}
		shared_worker_state(WORKER_RETRYING, 0, 0);
		if (!worker_nap(failure_retry_delay(worker, tries)))
			return false;
		shared_worker_state(WORKER_CHANGING, 0, 0);
	}
	if (changed)
	{
		HookEvent	event = change_event(worker, change_rows);

		hook_after(worker, &event);
	}
	return changed;
}

/*
 * The first worker of a run makes it running.  Returns whether the run is to be
 * read again; otherwise the worker has nothing to do.
 */
bool
closing_begin_run(Worker *worker)
{
	RunInfo    *run = worker->run;

	if (run == NULL || run->status != RUN_ENQUEUED || run->is_requested ||
		!run->is_local || run->owner != worker->slot.owner)
		return false;
	shared_worker_state(WORKER_CHANGING, 0, 0);
	if (hook_wanted(worker, "run", status_name(RUN_RUNNING)))
		count_attempt(worker);

	/* if another one has made it running, so much the better */
	return change_run(worker, RUN_RUNNING) || !changed;
}

/* ---- the end of a run ---- */

/* Read the run again.  Returns whether it is still to be completed. */
static bool
closing_is_wanted(Worker *worker)
{
	(void) worker_reload(worker);
	return worker->run && worker->run->is_local && worker->run->is_requested &&
		worker->run->requested == RUN_COMPLETED &&
		worker->run->owner == worker->slot.owner;
}

static Verification *verification;

static void
begin_verification(Worker *worker)
{
	int			nest;

	worker_begin(worker);
	MemoryContextSwitchTo(worker->walk_context);
	nest = worker_enter_user_code(worker);
	verification = verify_begin(worker->run, worker->walk, worker->bounds,
								worker->parameters);
	AtEOXact_GUC(false, nest);
	worker_commit(worker);
}

static void
continue_verification(Worker *worker)
{
	int			nest;

	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	nest = worker_enter_user_code(worker);
	verify_step(verification);
	AtEOXact_GUC(false, nest);
	worker_commit(worker);
}

/* Put down what was counted; raises an error if it is more than none. */
static void
end_verification(Worker *worker)
{
	CatalogSession session;
	int64		skipped;
	EventInfo	event = {
		.kind = "verify",
		.reason = psprintf("rows remaining: " INT64_FORMAT, verification->rows)
	};

	worker_begin(worker);
	catalog_begin(&session);
	catalog_set_remaining(&session, worker->run->id, verification->rows,
						  verification->rows == 0);
	catalog_add_event(&session, worker->run, &event);
	skipped = catalog_run_errors(&session, worker->run->id);
	catalog_end(&session);
	worker_commit(worker);
	if (verification->rows > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION),
				 errmsg(INT64_FORMAT " row%s still in scope", verification->rows,
						verification->rows == 1 ? " is" : "s are"),
				 errdetail("They were counted by the setting \"verify\" when every batch was done. Of the rows of the run, " INT64_FORMAT " were skipped because of errors.",
						   skipped),
				 errhint("Look at the rows that are left, then call backfill_resume, which counts again.")));
}

/*
 * Do the function until it succeeds.  An error that may go away by itself is
 * tried again; any other fails the run.  Leaves when the request has changed.
 */
static void
insist(Worker *worker, void (*function) (Worker *), WorkerState state)
{
	ErrorData  *error;
	int			tries = 0;

	shared_worker_state(state, 0, 0);

	while ((error = worker_try(worker, function)) != NULL)
	{
		worker_user_parameters(worker, false);
		if (shared_worker_noticed() && !closing_is_wanted(worker))
			leave(worker);
		if (!failure_is_retryable(error) || ++tries >= worker->settings.max_attempts ||
			(function == finish_next && !finish_may_repeat(worker)))
			failure_fail_run(worker, error);
		failure_note_retry(worker, error);
		shared_worker_state(WORKER_RETRYING, 0, 0);
		if (!worker_nap(failure_retry_delay(worker, tries)) && !closing_is_wanted(worker))
			leave(worker);
		shared_worker_state(state, 0, 0);
	}
	if (shared_worker_noticed() && !closing_is_wanted(worker))
		leave(worker);
}

/* Count the rows still in scope, if the settings ask for it. */
static void
verify(Worker *worker)
{
	if (!worker->settings.verify || worker->run->verified)
		return;
	failure_insist(worker, worker_prepare);
	insist(worker, begin_verification, WORKER_VERIFYING);
	while (!verification->done)
	{
		insist(worker, continue_verification, WORKER_VERIFYING);
		MemoryContextReset(worker->loop_context);
		if (worker->settings.sleep > 0 && !worker_nap(worker->settings.sleep) &&
			!closing_is_wanted(worker))
			leave(worker);
	}
	insist(worker, end_verification, WORKER_VERIFYING);
	verify_end(verification);
}

/* Run what is left of the last step. */
static void
finish(Worker *worker)
{
	while (worker->run->finish && worker->run->finish_step != FINISH_DONE)
	{
		insist(worker, finish_next, WORKER_FINISHING);
		if (!closing_is_wanted(worker))
			leave(worker);
		MemoryContextReset(worker->loop_context);
	}
}

/*
 * Carry out what was requested of the run, which has no other worker.  Ends
 * the process.
 */
void
closing_carry_out(Worker *worker)
{
	RunStatus	to = worker->run->requested;

	shared_worker_ready();
	count_attempt(worker);
	if (to == RUN_COMPLETED)
	{
		verify(worker);
		finish(worker);
	}
	shared_worker_state(WORKER_CHANGING, 0, 0);
	(void) change_run(worker, to);
	leave(worker);
}
