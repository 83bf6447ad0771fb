/*-------------------------------------------------------------------------
 *
 * control.c
 *	  The SQL functions that start, stop and delete runs.
 *
 * A run is named by its id or by the name of its definition: run/find.c.  What a
 * function has done is what it returns, as one line about the run.
 *
 * A function checks that the caller has the rights of the run's owner, changes
 * the row of the run as the owner of the extension, and wakes whoever has to
 * know when its transaction commits.
 *
 * A run that workers may be busy with is not changed behind their backs: the
 * new status is requested, the workers let go, and the scheduler sets it.  What
 * holds a run up, or changes its settings, waits for no standby: base/localcommit.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#include "api/control.h"
#include "api/onestream.h"
#include "api/started.h"
#include "api/unloaded.h"
#include "base/compat.h"
#include "base/localcommit.h"
#include "definition/definition.h"
#include "run/access.h"
#include "run/find.h"
#include "run/lapse.h"
#include "run/start.h"
#include "run/title.h"
#include "run/transition.h"
#include "settings/settings.h"
#include "shared/segment.h"
#include "shared/stock.h"
#include "shared/wake.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/copy.h"
#include "store/event.h"
#include "store/find.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"
#include "store/stream.h"

/* How often, and how many milliseconds apart, to try to lock the row of a run. */
#define STOP_LOOKS			50
#define STOP_LOOK_MS		20

PG_FUNCTION_INFO_V1(backfill_start);
PG_FUNCTION_INFO_V1(backfill_pause);
PG_FUNCTION_INFO_V1(backfill_resume);
PG_FUNCTION_INFO_V1(backfill_stop);
PG_FUNCTION_INFO_V1(backfill_stop_all);
PG_FUNCTION_INFO_V1(backfill_delete);
PG_FUNCTION_INFO_V1(backfill_retry);
PG_FUNCTION_INFO_V1(backfill_wake);

/* The answer of a function: which run, and what comes of it. */
static Datum
answer(const RunInfo *run, const char *what)
{
	return CStringGetTextDatum(psprintf("%s%s", title_run(run->id, run->name, run->target), what));
}

/* Without shared memory only clients can work on a run: raises an error unless they can on this one. */
static void
check_unloaded(int64 id)
{
	StoreSession session;

	store_begin(&session);
	unloaded_check(&session, store_load_run(&session, id, false));
	store_end(&session);
}

/* backfill_start(name, parameters, settings, start_at, after, target, paused) */
Datum
backfill_start(PG_FUNCTION_ARGS)
{
	char	   *name = definition_name_arg(fcinfo);
	StartOptions options = {
		.start_at = PG_ARGISNULL(3) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(3),
		.after = PG_ARGISNULL(4) ? NULL : PG_GETARG_ARRAYTYPE_P(4),
		.paused = !PG_ARGISNULL(6) && PG_GETARG_BOOL(6)
	};
	int64		id;

	PreventCommandDuringRecovery("backfill_start()");
	if (!segment_available())
		unloaded_check_definition(name);
	if (options.start_at == DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_at cannot be infinity")));
	id = start_run(name, NULL, PG_ARGISNULL(5) ? InvalidOid : PG_GETARG_OID(5),
				   PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1),
				   PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
				   &options,
				   options.paused ? "backfill_start, paused" : "backfill_start", NULL);
	if (!segment_available())
		check_unloaded(id);
	started_note(id);
	PG_RETURN_INT64(id);
}

/*
 * Change the status of the run, now, or have a worker do it if something of
 * the owner's has to run with it.  Returns whether it is done.
 */
static bool
change_run(StoreSession *session, RunInfo *run, RunStatus status, bool immediate,
		   Oid caller, const char *reason)
{
	/* without shared memory nobody can be at work */
	if (segment_available() && run->is_local &&
		transition_needs_worker(session, run, status))
	{
		transition_request(session, run, status, immediate, GetUserNameFromId(caller, false), reason);
		return false;
	}
	transition_make(session, run, status, GetUserNameFromId(caller, false), reason);
	return true;
}

/* What is to be said of a run that workers have to let go of before it changes. */
static const char *
say_requested(const RunInfo *run, RunStatus status, bool immediate)
{
	const char *word = status == RUN_PAUSED ? "pauses" : "stops";

	if (run->status != RUN_RUNNING)
		return psprintf(": %s in a moment", word);
	if (immediate)
		return psprintf(": %s now, what is in hand is cancelled", word);
	if ((run->is_requested && run->requested == RUN_COMPLETED) ||
		store_stage_is_left(run, STAGE_PREPARE))
		return psprintf(": %s after the statement in hand", word);
	return psprintf(": %s after the batch in hand", word);
}

/*
 * Bring the run to paused or stopped, now or when its workers have let go.  One
 * that is enqueued may have a worker that calls its hooks.  Returns what comes of it.
 */
static const char *
halt_run(StoreSession *session, RunInfo *run, RunStatus status, bool immediate,
		 Oid caller, const char *reason)
{
	const char *what;

	if (run->status == status && !run->is_requested)
		return MemoryContextStrdup(session->caller, psprintf(" is %s already", status_name(status)));
	status_check_change(run->id, run->status, status);
	if (segment_available() && run->is_local &&
		(run->status == RUN_RUNNING ||
		 (run->status == RUN_ENQUEUED &&
		  worker_slot_count(MyDatabaseId, run->id, NULL) > 0)))
	{
		if (run->is_requested && run->requested == RUN_FAILED)
			what = " has failed, and waits for its last worker to leave";
		else
		{
			what = say_requested(run, status, immediate);
			transition_request(session, run, status, immediate, GetUserNameFromId(caller, false), reason);
		}
	}
	else
		what = change_run(session, run, status, immediate, caller, reason) ?
			psprintf(" is %s", status_name(status)) :
			psprintf(" is %s when its hooks have been called", status_name(status));
	if (immediate && !segment_available())
		lapse_rows(session, run, true);
	wake_at_commit((WakeTarget) {run->owner, run->id});
	return MemoryContextStrdup(session->caller, what);
}

/* The argument, a name of a stream, or NULL for the whole run. */
static char *
stream_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/*
 * The same for the run that the first argument of an SQL function means, or for one of its
 * streams.
 */
static Datum
halt(FunctionCallInfo fcinfo, RunStatus status, bool immediate, const char *stream,
	 const char *reason)
{
	FindKey		key = find_key_arg(fcinfo);
	StoreSession session;
	bool		ours;
	Oid			caller = GetUserId();
	RunInfo    *run;
	const char *what;

	ours = localcommit_begin();
	store_begin(&session);
	run = find_run(&session, &key, FIND_TO_CONTROL, caller, true);
	what = stream ? onestream_halt(&session, run, stream, status, immediate, caller, reason) :
		halt_run(&session, run, status, immediate, caller, reason);
	store_end(&session);
	localcommit_end(ours);
	return answer(run, what);
}

/* backfill_pause(run, stream) */
Datum
backfill_pause(PG_FUNCTION_ARGS)
{
	PreventCommandDuringRecovery("backfill_pause()");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	return halt(fcinfo, RUN_PAUSED, false, stream_arg(fcinfo, 1), "backfill_pause");
}

static const char *
stop_reason(bool immediate)
{
	return immediate ? "backfill_stop, immediate" : "backfill_stop";
}

/* backfill_stop(run, immediate, stream) */
Datum
backfill_stop(PG_FUNCTION_ARGS)
{
	bool		immediate;

	PreventCommandDuringRecovery("backfill_stop()");
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	immediate = PG_GETARG_BOOL(1);
	return halt(fcinfo, RUN_STOPPED, immediate, stream_arg(fcinfo, 2), stop_reason(immediate));
}

/* Whether the run is there, and not over. */
static bool
is_to_be_stopped(StoreSession *session, int64 id)
{
	RunInfo    *run = store_load_run(session, id, false);

	return run != NULL && !status_has_ended(run->status);
}

/* A run that was stopped, and what came of it. */
typedef struct Stopped
{
	RunInfo    *run;
	const char *what;
} Stopped;

/*
 * Stop the runs of the list, as the caller, but for those whose rows somebody has
 * locked: they stay in the list.  Those that were stopped are added to *done.
 */
static void
stop_those_free(StoreSession *session, List **runs, bool immediate, Oid caller, List **done)
{
	ListCell   *lc;

	foreach(lc, *runs)
	{
		int64		id = ((RunOwner *) lfirst(lc))->id;
		RunInfo    *run = store_try_run(session, id);
		const char *what;
		Stopped    *stopped;
		MemoryContext old;

		if (run == NULL && is_to_be_stopped(session, id))
			continue;
		*runs = foreach_delete_current(*runs, lc);
		if (run == NULL || status_has_ended(run->status))
			continue;
		what = halt_run(session, run, RUN_STOPPED, immediate, caller, stop_reason(immediate));
		old = MemoryContextSwitchTo(session->caller);
		stopped = palloc(sizeof(Stopped));
		*stopped = (Stopped) {run, what};
		*done = lappend(*done, stopped);
		MemoryContextSwitchTo(old);
	}
}

/* The runs that the caller may control and that are not over. */
static List *
runs_of_caller(StoreSession *session, Oid caller)
{
	uint64		n;
	RunOwner   *runs = store_control_runs(session, &n);
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(session->caller);

	for (uint64 i = 0; i < n; i++)
	{
		if (has_privs_of_role(caller, runs[i].owner))
			result = lappend(result, &runs[i]);
	}
	MemoryContextSwitchTo(old);
	return result;
}

/*
 * backfill_stop_all(immediate): a line for each run
 *
 * Backfill itself locks the row of a run for an instant at a time; a session that
 * has one for longer is not waited for.
 */
Datum
backfill_stop_all(PG_FUNCTION_ARGS)
{
	StoreSession session;
	bool		ours;
	Oid			caller = GetUserId();
	List	   *runs;
	List	   *done = NIL;
	ListCell   *lc;
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	PreventCommandDuringRecovery("backfill_stop_all()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	ours = localcommit_begin();
	store_begin(&session);
	runs = runs_of_caller(&session, caller);
	for (int i = 0; i < STOP_LOOKS && runs != NIL; i++)
	{
		if (i > 0)
		{
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 STOP_LOOK_MS, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		stop_those_free(&session, &runs, PG_GETARG_BOOL(0), caller, &done);
	}
	store_end(&session);
	localcommit_end(ours);
	if (runs != NIL)
		ereport(WARNING,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("%d run%s not stopped, because other sessions are changing %s",
						list_length(runs), list_length(runs) == 1 ? " was" : "s were",
						list_length(runs) == 1 ? "it" : "them"),
				 errdetail("The first of them is run " INT64_FORMAT ".",
						   ((RunOwner *) linitial(runs))->id),
				 errhint("Call backfill_stop_all again when they have ended their transactions.")));
	foreach(lc, done)
	{
		Stopped    *stopped = lfirst(lc);
		Datum		line = answer(stopped->run, stopped->what);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &line, &isnull);
	}
	return (Datum) 0;
}

/* Whether the run, resumed, has to wait for its time, for other runs, or for its hooks. */
static bool
is_to_wait(StoreSession *session, const RunInfo *run)
{
	bool		adopted = run->status == RUN_PENDING && !run->is_local;

	/* one that was started paused begins as any other does */
	if (run->is_dormant &&
		store_has_hook(session, run->name, run->owner, RUN_PENDING))
		return true;
	if ((run->status == RUN_PAUSED || adopted) && TIMESTAMP_IS_NOBEGIN(run->started_at) &&
		run->start_at > GetCurrentTimestamp())
		return true;
	return (run->status == RUN_PAUSED || run->status == RUN_STOPPED || adopted) &&
		run->end_key == NULL && transition_wait_reason(session, run->after) != NULL;
}

/* Have the run, which is asked to pause or to stop, go on without. */
static void
call_off(StoreSession *session, RunInfo *run, Oid caller, const char *reason)
{
	EventInfo	event = {
		.kind = "request",
		.role = GetUserNameFromId(caller, false),
		.reason = psprintf("%s calls the request off", reason)
	};

	/* somebody may have left already, and given back what he had in hand */
	store_cancel_request(session, run->id);
	stream_reopen_run(session, run, false);

	/* one that is about to pause itself would ask again */
	if (run->requested_by == NULL)
		store_mark_resumed(session, run->id);
	store_add_event(session, run, &event);
}

/* Raises an error unless the run may be resumed, in which it takes the status. */
static void
check_resume(const RunInfo *run, RunStatus status)
{
	/* only the scheduler brings a pending run to enqueued */
	if (run->is_local && run->status == RUN_PENDING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot resume run " INT64_FORMAT ", which is \"%s\"",
						run->id, status_name(run->status)),
				 errhint("It starts by itself when its time has come.")));

	/* these begin again for others: backfill_replace, backfill_retry */
	if ((run->is_local && run->status == RUN_RUNNING) || run->status == RUN_COMPLETED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change run " INT64_FORMAT " from \"%s\" to \"%s\"",
						run->id, status_name(run->status), status_name(status)),
				 run->status == RUN_RUNNING ? errhint("The run is at work.") :
				 errhint("backfill_retry runs again what was skipped; backfill_start begins anew.")));
	if (run->is_local || status_has_ended(run->status) || run->status == RUN_PAUSED)
		status_check_change(run->id, run->status, status);
}

/* The same, but for what is to be done again. */
static const char *
begin_run_again(StoreSession *session, RunInfo *run, RunStatus status, Oid caller,
				const char *reason)
{
	start_check_alone(session, run->name, run->owner, run->target, run->generic,
					  run->parameters, run->settings, run->after, run->id);
	if (!run->is_local)
		store_adopt_run(session, run->id);
	run->is_local = true;
	store_mark_resumed(session, run->id);
	if (!change_run(session, run, status, false, caller, reason))
		return ": goes on when its hooks have been called";
	return status == RUN_PENDING ? ": waits again for its time, or for other runs" : ": goes on";
}

/* Have a run that is held, or is over, begin again.  Returns what comes of it. */
static const char *
begin_again(StoreSession *session, RunInfo *run, RunStatus status, Oid caller,
			const char *reason)
{
	stream_reopen_run(session, run, true);
	return begin_run_again(session, run, status, caller, reason);
}

/*
 * Have one stream of the run go on, and the run, if that is over, with it.  Returns what
 * comes of it.
 */
static const char *
resume_stream(StoreSession *session, RunInfo *run, const char *name, Oid caller,
			  const char *reason)
{
	onestream_resume(session, run, name, caller, reason);
	wake_at_commit((WakeTarget) {run->owner, run->id});
	if (run->is_local && status_has_ended(run->status))
	{
		access_check_owner(run->owner);
		status_check_change(run->id, run->status, RUN_ENQUEUED);
		(void) begin_run_again(session, run, RUN_ENQUEUED, caller, reason);
	}
	return MemoryContextStrdup(session->caller, psprintf(": stream \"%s\" goes on", name));
}

/*
 * Have the run, which is locked and which the caller may control, go on, when the
 * transaction commits.  Returns what comes of it.  Raises an error if it cannot.
 */
const char *
control_resume(StoreSession *session, RunInfo *run, Oid caller, const char *reason)
{
	const char *what = ": goes on";

	wake_at_commit((WakeTarget) {run->owner, run->id});
	if (run->is_local && run->status == RUN_RUNNING && !run->is_requested && run->has_streams &&
		onestream_resume_paused(session, run, caller, reason))
		return ": its streams go on";
	if (run->is_local && run->is_requested &&
		(run->requested == RUN_PAUSED || run->requested == RUN_STOPPED))
	{
		call_off(session, run, caller, reason);
		if (run->status == RUN_PAUSED)
			what = " stays paused";
	}
	else
	{
		RunStatus	status = is_to_wait(session, run) ? RUN_PENDING : RUN_ENQUEUED;

		check_resume(run, status);
		if (!run->is_local && !status_has_ended(run->status) && run->status != RUN_PAUSED)
		{
			/* a copy of an active run: its workers are elsewhere */
			BatchClaimants nobody = {.clean_start = true};
			BatchCulprit worst;

			(void) stream_recover(session, run, &nobody, &worst);
		}
		access_check_owner(run->owner);
		what = begin_again(session, run, status, caller, reason);
	}
	return what;
}

/* backfill_resume(run, stream) */
Datum
backfill_resume(PG_FUNCTION_ARGS)
{
	FindKey		key;
	StoreSession session;
	Oid			caller = GetUserId();
	RunInfo    *run;
	const char *what;
	char	   *stream;

	PreventCommandDuringRecovery("backfill_resume()");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	key = find_key_arg(fcinfo);
	stream = stream_arg(fcinfo, 1);
	store_begin(&session);
	run = find_run(&session, &key, FIND_TO_RESUME, caller, true);
	if (!segment_available())
		unloaded_check(&session, run);
	what = stream ? resume_stream(&session, run, stream, caller, "backfill_resume") :
		control_resume(&session, run, caller, "backfill_resume");
	store_end(&session);
	return answer(run, what);
}

/*
 * backfill_retry(run)
 *
 * Only for a run that has ended: an active one would be changed behind the
 * backs of its workers.  One that was not completed goes on as well.
 */
Datum
backfill_retry(PG_FUNCTION_ARGS)
{
	FindKey		key = find_key_arg(fcinfo);
	StoreSession session;
	Oid			caller = GetUserId();
	RunInfo    *run;
	int64		n;

	PreventCommandDuringRecovery("backfill_retry()");
	segment_require();
	store_begin(&session);
	run = find_run(&session, &key, FIND_TO_CONTROL, caller, true);
	if (!status_has_ended(run->status) || !run->is_local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot retry run " INT64_FORMAT ", which is \"%s\"",
						run->id, status_name(run->status)),
				 errhint("Wait until it has ended, or stop it.")));
	access_check_owner(run->owner);
	n = stream_reopen_skipped(&session, run);

	/* and what a hook has kept from being retried */
	if (run->status == RUN_COMPLETED && !run->has_streams)
		n = store_open_batches(&session, run->id, NULL);
	if (n > 0)
		(void) begin_again(&session, run, RUN_ENQUEUED, caller, "backfill_retry");
	store_end(&session);
	wake_at_commit((WakeTarget) {run->owner, run->id});
	return answer(run, n == 0 ? ": there is no skipped row to try again" :
				  n == 1 ? ": 1 skipped row is tried again" :
				  psprintf(": " INT64_FORMAT " skipped rows are tried again", n));
}

/* backfill_delete(run) */
Datum
backfill_delete(PG_FUNCTION_ARGS)
{
	FindKey		key = find_key_arg(fcinfo);
	StoreSession session;
	Oid			caller = GetUserId();
	RunInfo    *run;
	int64		dependent;
	EventInfo	event = {.kind = "delete", .role = GetUserNameFromId(caller, false)};

	PreventCommandDuringRecovery("backfill_delete()");
	store_begin(&session);
	run = find_run(&session, &key, FIND_TO_CONTROL, caller, true);
	if (!status_has_ended(run->status) && run->is_local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot delete run " INT64_FORMAT ", which is \"%s\"",
						run->id, status_name(run->status)),
				 errhint("Stop the run first: SELECT backfill_stop(" INT64_FORMAT ").", run->id)));
	dependent = store_find_dependent(&session, run->id);
	if (dependent != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot delete run " INT64_FORMAT ": run " INT64_FORMAT " waits for it",
						run->id, dependent),
				 errhint("Stop that run first: SELECT backfill_stop(" INT64_FORMAT ").", dependent)));
	store_delete_run(&session, run->id);
	if (segment_available())
		stock_forget(MyDatabaseId, run->id);
	store_add_event(&session, run, &event);
	store_end(&session);
	return answer(run, " is deleted");
}

/* backfill.wake(): processes of ours left when the SQL objects were older than the library */
Datum
backfill_wake(PG_FUNCTION_ARGS)
{
	wake_at_commit((WakeTarget) {0});
	PG_RETURN_VOID();
}
