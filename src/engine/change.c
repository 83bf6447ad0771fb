/*-------------------------------------------------------------------------
 *
 * change.c
 *	  Changes of a run that are made by a worker: its beginning and its end.
 *
 * Most changes of a run's status are made by the scheduler or by the session
 * that asks for them.  Those with hooks are made by a worker, in a session of
 * the owner's, as is the end of a run with a verification or a last step.  The
 * scheduler starts one worker for that when no other is left.  The first worker of
 * a run, which is the only one then, runs what is to be run before the first batch.
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
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/locks.h"
#include "base/rowerror.h"
#include "definition/stage.h"
#include "engine/change.h"
#include "engine/claim.h"
#include "engine/failure.h"
#include "engine/hook.h"
#include "engine/pass.h"
#include "engine/session.h"
#include "engine/stage.h"
#include "engine/streams.h"
#include "engine/work.h"
#include "run/follow.h"
#include "run/transition.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "settings/window.h"
#include "shared/segment.h"
#include "shared/share.h"
#include "shared/wake.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/copy.h"
#include "store/event.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"
#include "store/stream.h"
#include "walk/count.h"
#include "walk/key.h"

/* ---- one change ---- */

/* The change of a run from one status to another. */
typedef struct Change
{
	RunStatus	from;
	RunStatus	to;
	bool		requested;		/* it was, and still has to be */
	int64		rows;			/* of the run, for its hooks */
	bool		made;			/* result */
} Change;

/* Whether the change is still to be made. */
static bool
is_still_wanted(const Change *change, const RunInfo *run)
{
	if (run == NULL || !run->is_local || run->status != change->from)
		return false;
	return change->requested ? run->is_requested && run->requested == change->to :
		!run->is_requested;
}

/* The change itself, within its hooks. */
static void
set_status(Session *session, void *arg)
{
	const Change *change = (const Change *) arg;
	StoreSession store;
	RunInfo    *run;

	store_begin(&store);
	run = store_load_run(&store, session->slot.run_id, true);
	if (!is_still_wanted(change, run))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("backfill run " INT64_FORMAT " has changed in the meantime",
						session->slot.run_id)));
	if (change->to == RUN_COMPLETED)
		stream_rollup_run(&store, run);
	transition_carry_out(&store, run, change->to);
	store_end(&store);
	if (change->to == RUN_COMPLETED)
		follow_start(session->run);
}

static HookEvent
change_event(const Session *session, const Change *change)
{
	return (HookEvent) {
		.object = "run",
		.status = status_name(change->to),
		.previous_status = transition_previous(change->from, change->to),
		.rows = change->rows,
		.error = change->to == RUN_FAILED ? session->run->error : NULL
	};
}

/* Make the change with its hooks, in a transaction of its own. */
static void
make_change(Session *session, void *arg)
{
	Change	   *change = (Change *) arg;
	LOCKTAG		tag = locks_tag(LOCK_CLASS_CHANGE, session->slot.run_id);
	StoreSession store;
	RunInfo    *run;
	bool		wanted;

	change->made = false;
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	store_begin(&store);
	run = store_load_run(&store, session->slot.run_id, false);
	change->rows = session->hooks == NIL ? 0 : store_run_rows(&store, session->slot.run_id);
	store_end(&store);
	wanted = is_still_wanted(change, run);
	if (wanted)
	{
		HookEvent	event = change_event(session, change);

		hook_change(session, &event, set_status, change);

		/* what a hook has told the world must not be forgotten in a crash */
		if (session->hooks != NIL)
			ForceSyncCommit();
	}
	session_commit(session);
	change->made = wanted;
}

/* ---- what brings down the server ---- */

/*
 * Note that the owner's code is about to run, or, with 0 attempts, that this
 * worker is done with it.  The argument, an int, becomes how often a worker began
 * to close the run and was never heard of again.
 */
static void
note_attempt(Session *session, void *arg)
{
	int		   *attempts = (int *) arg;
	StoreSession store;
	bool		clean_start;
	int64		boot = segment_boot(&clean_start);

	session_begin(session);
	store_begin(&store);
	*attempts = store_note_closing(&store, session->slot.run_id, *attempts > 0, boot,
								   clean_start);
	store_end(&store);

	/* it must outlive what may come now */
	ForceSyncCommit();
	session_commit(session);
}

/* Fail the run without calling anything of the owner's; the argument as above. */
static void
fail_silently(Session *session, void *arg)
{
	int			attempts = *(int *) arg;
	StoreSession store;
	RunInfo    *run;
	RunError	error = {
		.sqlstate = unpack_sql_state(ERRCODE_CRASH_SHUTDOWN),
		.message = psprintf("\"prepare\", the end of the run, or a hook, brought down its worker or the server %d times",
							attempts - 1),
		.hint = "Look into the server log, mend what is called, and call backfill_resume."
	};
	EventInfo	event = {.kind = "hook", .sqlstate = error.sqlstate, .reason = error.message};

	session_begin(session);
	store_begin(&store);
	run = store_load_run(&store, session->slot.run_id, true);
	if (run && run->is_requested && run->requested == RUN_FAILED)
	{
		/* what made it fail says more than what came of the hooks */
		store_add_event(&store, run, &event);
		transition_make(&store, run, RUN_FAILED, NULL, run->error);
	}
	else if (run && (status_is_active(run->status) || run->is_requested))
	{
		store_set_error(&store, run->id, &error);
		run->sqlstate = pstrdup(error.sqlstate);
		transition_make(&store, run, RUN_FAILED, NULL, error.message);
	}
	store_end(&store);
	session_commit(session);
}

/*
 * The owner's code is about to run.  Fails the run and ends the process if too
 * many workers have died of it.
 */
static void
count_attempt(Session *session)
{
	int			attempts = 1;
	ErrorData  *error = session_try_uncancelled(session, note_attempt, &attempts);

	if (error == NULL && attempts > BATCH_CRASHES_FATAL)
	{
		error = session_try_uncancelled(session, fail_silently, &attempts);
		if (error == NULL)
			proc_exit(0);
	}
	if (error)
		ReThrowError(error);
}

/* The owner's code has run, and this worker is still there. */
static void
end_attempt(Session *session)
{
	int			attempts = 0;

	(void) session_try_uncancelled(session, note_attempt, &attempts);
}

/* Leave in good order. */
compat_noreturn static void
leave(Session *session)
{
	end_attempt(session);
	proc_exit(0);
}

/* ---- vetoes ---- */

/* A change, and the error that prevents it. */
typedef struct Veto
{
	const Change *change;
	const ErrorData *error;
} Veto;

/* The change was prevented: call it off, or ask for the run to fail. */
static void
accept_veto(Session *session, void *arg)
{
	const Veto *veto = (const Veto *) arg;
	RunStatus	to = veto->change->to;
	StoreSession store;
	RunInfo    *run;
	RunError	error = {
		.sqlstate = unpack_sql_state(veto->error->sqlerrcode),
		.message = veto->error->message,
		.detail = veto->error->detail,
		.hint = veto->error->hint,
		.context = veto->error->context
	};

	session_begin(session);
	store_begin(&store);
	run = store_load_run(&store, session->slot.run_id, true);
	if (is_still_wanted(veto->change, run))
	{
		if (status_is_active(run->status) && to != RUN_PAUSED && to != RUN_STOPPED)
		{
			store_set_error(&store, run->id, &error);
			transition_request(&store, run, RUN_FAILED, false, NULL, error.message);
		}
		else
		{
			store_cancel_request(&store, run->id);

			/* the run goes on, and with it what was given back for the stop */
			if (status_is_active(run->status))
				stream_reopen_run(&store, run, false);
		}
	}
	store_end(&store);
	wake_at_commit((WakeTarget) {session->slot.owner, session->slot.run_id});
	session_commit(session);
}

/* Try to make the change; what the hooks have to say depends on which it is. */
static ErrorData *
try_change(Session *session, Change *change)
{
	ErrorData  *error;

	/* a stop that is to be immediate waits for no hook */
	if (change->to == RUN_STOPPED && session->run->immediate)
	{
		session->hooks_off = true;
		error = session_try_uncancelled(session, make_change, change);
		session->hooks_off = false;
		return error;
	}
	if (change->to == RUN_FAILED)
		return hook_try(session, make_change, change, NULL);
	return session_try(session, make_change, change);
}

/*
 * Wait before the change is tried again.  Returns whether it is still to be made:
 * that something else about the run has changed is no reason to leave it.
 */
static bool
wait_to_change(Session *session, const Change *change, int tries)
{
	worker_slot_show(WORKER_RETRYING, 0, 0);
	if (!session_nap(session_retry_delay(session, tries)))
	{
		(void) session_reload(session);
		if (!is_still_wanted(change, session->run) || share_is_recalled())
			return false;
	}
	worker_slot_show(WORKER_CHANGING, 0, 0);
	return true;
}

/*
 * Make the change from the present status, with its hooks, unless somebody has
 * made it, or called it off, in the meantime, or a hook prevents it.  Returns
 * whether it was made here.
 */
static bool
change_run(Session *session, RunStatus to)
{
	Change		change = {session->run->status, to, session->run->is_requested};
	ErrorData  *error;
	int			tries = 0;

	while ((error = try_change(session, &change)) != NULL)
	{
		session->in_hook = false;
		if (!rowerror_is_retryable(error) || ++tries >= session->settings.max_attempts)
		{
			Veto		veto = {&change, error};

			hook_record_error(session, NULL, psprintf("the change to \"%s\" was prevented",
													  status_name(to)), error);
			error = session_try_uncancelled(session, accept_veto, &veto);
			if (error)
				ReThrowError(error);
			return false;
		}
		if (!wait_to_change(session, &change, tries))
			return false;
	}
	if (change.made)
	{
		HookEvent	event = change_event(session, &change);

		hook_after(session, &event);
	}
	return change.made;
}

/*
 * The first worker of a run makes it running.  Returns whether the run is to be
 * read again; otherwise the worker has nothing to do.
 */
bool
change_begin_run(Worker *worker)
{
	Session    *session = &worker->session;
	RunInfo    *run = session->run;
	bool		hooked;

	if (run == NULL || run->status != RUN_ENQUEUED || run->is_requested ||
		!run->is_local || run->owner != session->slot.owner)
		return false;
	worker_slot_show(WORKER_CHANGING, 0, 0);
	hooked = hook_wanted(session, "run", status_name(RUN_RUNNING));
	if (hooked)
	{
		worker_slot_ready();
		count_attempt(session);
	}

	/* whether it is running, by us or another, is seen when it is read again */
	if (!change_run(session, RUN_RUNNING) && hooked)
		end_attempt(session);
	return true;
}

/* ---- what is done once ---- */

/*
 * Read the run again.  Returns whether it is still to be completed, or, before the
 * ends of its walk are known, to begin.
 */
static bool
is_wanted(Session *session)
{
	bool		goes_on = session_reload(session);

	if (session->run == NULL || session->run->end_key == NULL)
		return goes_on;
	return session->run->is_local && session->run->is_requested &&
		session->run->requested == RUN_COMPLETED &&
		session->run->owner == session->slot.owner;
}

/* Whether the function is a step that must not be repeated. */
static bool
is_for_once(const Session *session, SessionFunction function, const void *arg)
{
	const StageInfo *info;

	if (function != stage_next)
		return false;
	info = &session->run->stages[*(const Stage *) arg];
	return !stage_may_repeat(info->text, info->step);
}

/*
 * Do the function until it succeeds.  An error that may go away by itself is
 * tried again, unless the function is a step that must not be repeated; any other
 * fails the run.  Leaves when the request has changed.
 */
static void
insist(Worker *worker, SessionFunction function, void *arg, WorkerState state)
{
	Session    *session = &worker->session;
	ErrorData  *error;
	int			tries = 0;

	worker_slot_show(state, 0, 0);

	while ((error = session_try(session, function, arg)) != NULL)
	{
		session_user_parameters(session, false);
		if (worker_slot_noticed() && !is_wanted(session))
			leave(session);
		if (!rowerror_is_retryable(error) || ++tries >= session->settings.max_attempts ||
			is_for_once(session, function, arg))
			failure_fail_run(worker, error);
		failure_note_retry(session, error);
		worker_slot_show(WORKER_RETRYING, 0, 0);
		if (!session_nap(session_retry_delay(session, tries)) &&
			(!is_wanted(session) || share_is_recalled()))
			leave(session);
		worker_slot_show(state, 0, 0);
	}
	if (worker_slot_noticed() && !is_wanted(session))
		leave(session);
}

/* Say which statement of the stage, which the argument points to, comes next. */
static void
note_step(Session *session, void *arg)
{
	Stage		stage = *(const Stage *) arg;
	const StageInfo *info = &session->run->stages[stage];

	session_note_waiting(session, stage_step_text(stage, info->text, info->step));
}

/* Run the next statement of the stage. */
static void
run_step(Worker *worker, Stage stage, WorkerState state)
{
	Session    *session = &worker->session;

	insist(worker, note_step, &stage, state);
	insist(worker, stage_next, &stage, state);
	if (!is_wanted(session))
		leave(session);
	MemoryContextReset(session->loop_context);
}

/*
 * Run the next statement that is to be run before the first batch.  Leaves when the
 * run is not to go on, or fails it.
 */
void
change_prepare_run(Worker *worker)
{
	worker_slot_ready();
	count_attempt(&worker->session);
	run_step(worker, STAGE_PREPARE, WORKER_PREPARING);
	end_attempt(&worker->session);
}

/* ---- the end of a run ---- */

/* A verification under way. */
typedef struct Verification
{
	Work	   *work;
	Count	   *count;
} Verification;

static void
begin_verification(Session *session, void *arg)
{
	Verification *verification = (Verification *) arg;
	Work	   *work = verification->work;
	RunInfo    *run = session->run;
	int			nest;

	session_begin(session);
	MemoryContextSwitchTo(work->context);
	nest = session_enter_statement(session);
	verification->count = count_begin(work->walk, work->bounds, run->start_key, run->end_key,
									  run->scope, work->parameters);
	AtEOXact_GUC(false, nest);
	session_commit(session);
}

static void
continue_verification(Session *session, void *arg)
{
	int			nest;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	nest = session_enter_statement(session);
	count_step(((Verification *) arg)->count);
	AtEOXact_GUC(false, nest);
	session_commit(session);
}

/* Put down what was counted, which the argument is; raises an error if it is more than none. */
static void
end_verification(Session *session, void *arg)
{
	int64		rows = *(int64 *) arg;
	StoreSession store;
	int64		skipped;
	EventInfo	event = {
		.kind = "verify",
		.reason = psprintf("rows remaining: " INT64_FORMAT, rows)
	};

	session_begin(session);
	store_begin(&store);
	store_set_remaining(&store, session->slot.run_id, rows, rows == 0);
	store_add_event(&store, session->run, &event);
	skipped = store_run_errors(&store, session->slot.run_id);
	store_end(&store);
	session_commit(session);
	if (rows > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION),
				 errmsg(INT64_FORMAT " row%s still in scope", rows, rows == 1 ? " is" : "s are"),
				 errdetail("They were counted by the setting \"verify\" when every batch was done. Of the rows of the run, " INT64_FORMAT " were skipped because of errors.",
						   skipped),
				 errhint("Look at the rows that are left, then call backfill_resume, which counts again.")));
}

/* The streams of a run that have walked: their numbers, in the session's context. */
typedef struct StreamList
{
	int			n;
	int64	   *ids;
} StreamList;

static void
list_streams(Session *session, void *arg)
{
	StreamList *list = (StreamList *) arg;
	StoreSession store;

	session_begin(session);
	MemoryContextSwitchTo(session->context);
	store_begin(&store);
	list->ids = stream_walked(&store, session->slot.run_id, &list->n);
	store_end(&store);
	session_commit(session);
}

/* The pause between two stretches, in milliseconds, as the windows have it now. */
static int64
pause_between(const Session *session)
{
	RunSettings settings;
	WindowMatch match;

	settings_resolve_at(session->run->settings, GetCurrentTimestamp(), &settings, &match);
	return settings.sleep;
}

/* Count the rows still in scope of the walk, or of that of the stream in hand. */
static int64
count_walk(Worker *worker)
{
	Session    *session = &worker->session;
	Verification verification = {&worker->work};
	int64		rows;

	if (!work_serves(session, &worker->work))
		failure_prepare(worker);
	insist(worker, begin_verification, &verification, WORKER_VERIFYING);
	while (!verification.count->done)
	{
		int64		pause = pause_between(session);

		insist(worker, continue_verification, &verification, WORKER_VERIFYING);
		MemoryContextReset(session->loop_context);
		if (pause > 0 && !session_nap(pause) && !is_wanted(session))
			leave(session);
	}
	rows = verification.count->rows;
	count_end(verification.count);
	return rows;
}

/* The same of all streams. */
static int64
count_streams(Worker *worker)
{
	Session    *session = &worker->session;
	StreamList	list = {0};
	int64		rows = 0;

	insist(worker, list_streams, &list, WORKER_VERIFYING);
	for (int i = 0; i < list.n; i++)
	{
		if (streams_show(worker, list.ids[i]) && !key_is_empty(session->run->end_key))
			rows += count_walk(worker);
		MemoryContextReset(session->loop_context);
	}
	(void) streams_show(worker, 0);
	return rows;
}

/* Count the rows still in scope, if the settings ask for it. */
static void
verify(Worker *worker)
{
	Session    *session = &worker->session;
	int64		rows;

	if (!session->settings.verify || session->run->verified)
		return;
	MemoryContextSwitchTo(session->loop_context);
	insist(worker, session_note_waiting, pstrdup("verifying: counts the rows that are still in scope"),
		   WORKER_VERIFYING);
	rows = session->run->has_streams ? count_streams(worker) : count_walk(worker);
	insist(worker, end_verification, &rows, WORKER_VERIFYING);
}

/* Whether the walk, which has come to its end, begins again. */
static bool
begins_again(Worker *worker)
{
	Session    *session = &worker->session;
	PassEnd		end = {&worker->work};

	if (!transition_may_begin_again(session->run))
		return false;
	failure_prepare(worker);
	if (!worker->work.walk->comes_again)
		return false;
	insist(worker, session_note_waiting, pstrdup("counts the rows that are still in scope after this pass"),
		   WORKER_VERIFYING);
	insist(worker, pass_end, &end, WORKER_VERIFYING);
	return end.again;
}

/* Run what is left of the last step. */
static void
finish(Worker *worker)
{
	while (store_stage_is_left(worker->session.run, STAGE_FINISH))
		run_step(worker, STAGE_FINISH, WORKER_FINISHING);
}

/*
 * Carry out what was requested of the run, which has no other worker.  Ends
 * the process.
 */
compat_noreturn void
change_carry_out(Worker *worker)
{
	Session    *session = &worker->session;
	RunStatus	to = session->run->requested;

	worker_slot_ready();
	count_attempt(session);
	if (to == RUN_COMPLETED)
	{
		if (begins_again(worker))
			leave(session);
		verify(worker);
		finish(worker);
		if (session->settings.verify || session->run->stages[STAGE_FINISH].is_given)
			insist(worker, session_note_waiting, NULL, WORKER_CHANGING);
	}
	worker_slot_show(WORKER_CHANGING, 0, 0);
	(void) change_run(session, to);
	leave(session);
}
