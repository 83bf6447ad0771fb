/*-------------------------------------------------------------------------
 *
 * control.c
 *	  The SQL functions that start, stop and change runs.
 *
 * A function checks that the caller has the rights of the run's owner, changes
 * the row of the run as the owner of the extension, and wakes whoever has to
 * know when its transaction commits.
 *
 * A run that workers may be busy with is not changed behind their backs: the
 * new status is requested, the workers let go, and the scheduler sets it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "control.h"
#include "definition.h"
#include "depend.h"
#include "settings.h"
#include "shared.h"
#include "transition.h"

/* Held while a run on a table is started. */
#define LOCK_CLASS_START	81
/* How often, and how many milliseconds apart, to look whether it is free. */
#define START_LOOKS			20
#define START_LOOK_MS		10

PG_FUNCTION_INFO_V1(backfill_start);
PG_FUNCTION_INFO_V1(backfill_pause);
PG_FUNCTION_INFO_V1(backfill_resume);
PG_FUNCTION_INFO_V1(backfill_stop);
PG_FUNCTION_INFO_V1(backfill_stop_all);
PG_FUNCTION_INFO_V1(backfill_alter);
PG_FUNCTION_INFO_V1(backfill_delete);
PG_FUNCTION_INFO_V1(backfill_retry);
PG_FUNCTION_INFO_V1(backfill_is_local);

/* Raises an error unless workers can connect as the role. */
static void
check_owner(Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	bool		may_login;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", owner),
				 errhint("Define the backfill again.")));
	may_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	if (COMPAT_OWNER_NEEDS_LOGIN && !may_login)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" cannot run a backfill because it is not permitted to log in",
						GetUserNameFromId(owner, false)),
				 errhint("Define the backfill as a role with the attribute LOGIN; from PostgreSQL 17 on it is not needed.")));
	if (!compat_may_connect(MyDatabaseId, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" cannot run a backfill because it may not connect to the database",
						GetUserNameFromId(owner, false)),
				 errhint("Grant CONNECT on the database to the role.")));
}

/*
 * The run, locked on demand, which the caller may control.  Raises an error
 * that does not tell a run that is not there from one that is somebody else's.
 */
RunInfo *
control_find_run(CatalogSession *session, int64 id, Oid caller, bool for_update)
{
	RunInfo    *run = catalog_load_run(session, id, false);

	/* nobody locks a run that is not his */
	if (run && for_update && has_privs_of_role(caller, run->owner))
		run = catalog_load_run(session, id, true);
	if (run == NULL || !has_privs_of_role(caller, run->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill run " INT64_FORMAT " does not exist", id),
				 errdetail("There is no such run, or it belongs to a role whose rights you do not have."),
				 errhint("The view backfill_runs shows the runs you may control.")));
	return run;
}

static RunInfo *
get_run(CatalogSession *session, int64 id, Oid caller)
{
	return control_find_run(session, id, caller, true);
}

/*
 * The active run, if any, beside which this one must not run: one of the same
 * definition with equal parameters, or one on its table without leave.  "except"
 * is the run itself, 0 if it is new.  It does not meet those that it waits for.
 * Runs of one definition, and runs on one table, are started one at a time, so
 * that two that are started at the same moment see each other.
 */
static bool
find_rival(CatalogSession *session, const char *name, Oid owner, Oid target,
		   Jsonb *parameters, Jsonb *given, ArrayType *after, int64 except, Rival *rival)
{
	LOCKTAG		tag;
	RunSettings settings;
	int64		id;
	bool		is_free;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, owner,
						 hash_bytes((const unsigned char *) name, strlen(name)),
						 LOCK_CLASS_START);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	rival->is_equal = true;
	while ((id = catalog_find_equal_run(session, name, owner, parameters, after, except)) != 0)
	{
		/* one that was deleted in this moment is none */
		rival->run = catalog_load_run(session, id, false);
		if (rival->run)
			return true;
	}
	settings_resolve(given, &settings);
	if (settings.share_target)
		return false;

	/* this one a stranger may hold, and nobody waits for strangers for long */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, target, LOCK_CLASS_START);
	is_free = LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;

	/* who has just ended his transaction may still hold the lock for an instant */
	for (int i = 0; i < START_LOOKS && !is_free; i++)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 START_LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		is_free = LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
	}
	rival->is_equal = false;
	while ((id = catalog_find_target_run(session, target, after, except)) != 0)
	{
		rival->run = catalog_load_run(session, id, false);
		if (rival->run)
			return true;
	}
	if (!is_free)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("another session is starting a run on the same table"),
				 errhint("Try again in a moment, or give the setting \"share_target\".")));
	return false;
}

/* Raises an error if there is such a run. */
static void
check_alone(CatalogSession *session, const char *name, Oid owner, Oid target,
			Jsonb *parameters, Jsonb *given, ArrayType *after, int64 except)
{
	Rival		rival;

	if (!find_rival(session, name, owner, target, parameters, given, after, except, &rival))
		return;
	if (rival.is_equal)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("run " INT64_FORMAT " of backfill \"%s\" is active with the same parameters",
						rival.run->id, name),
				 errhint("Wait until it has ended, or stop it: SELECT backfill_stop(" INT64_FORMAT ").",
						 rival.run->id)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("run " INT64_FORMAT " is active on the same table", rival.run->id),
			 errdetail("Two runs on one table may wait for each other's rows."),
			 errhint("Wait until it has ended, or give the setting \"share_target\" to run beside it, whoever's it is.")));
}

/* What a session asks of a run: the caller, and the function that was called. */
static const char *
caller_name(Oid caller)
{
	return GetUserNameFromId(caller, false);
}

/*
 * Raises an error unless those are runs that the caller may control.  Returns
 * NULL for none.
 */
static ArrayType *
check_after(CatalogSession *session, ArrayType *after, Oid caller)
{
	Datum	   *ids;
	bool	   *nulls;
	int			n;

	if (after == NULL || ArrayGetNItems(ARR_NDIM(after), ARR_DIMS(after)) == 0)
		return NULL;
	deconstruct_array(after, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &ids, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a run in \"after\" cannot be null")));
		(void) control_find_run(session, DatumGetInt64(ids[i]), caller, false);
	}
	return after;
}

/*
 * The definition, of which the current user may start a run with these
 * parameters and settings.  *parameters becomes the values of the run, with
 * their types in *types, and *settings those in force.  Raises an error if the
 * run would fail at once in a worker.
 */
DefinitionInfo *
control_check_start(const char *name, Jsonb **parameters, Jsonb **settings, Jsonb **types)
{
	CatalogSession session;
	DefinitionInfo *def;

	catalog_begin(&session);
	def = definition_get(&session, name);
	catalog_end(&session);
	definition_check_role(def->owner, "definition", quote_identifier(name));
	check_owner(def->owner);
	if (*settings)
		settings_check(*settings);
	*settings = settings_merge(def->settings, *settings);
	*parameters = definition_bind(def, *settings, *parameters, types);
	return def;
}

/*
 * Start a run of the definition, with the rights of the current user, and
 * return its id.  A run whose first statuses have hooks waits for a worker to
 * call them.  "reason" goes into the event.  If another run is in the way, this
 * raises an error; unless "rival" is given, which is filled in then, and 0 is
 * returned.
 */
int64
control_start(const char *name, Jsonb *parameters, Jsonb *settings,
			  TimestampTz start_at, ArrayType *after, const char *reason, Rival *rival)
{
	Oid			caller = GetUserId();
	CatalogSession session;
	Jsonb	   *types;
	DefinitionInfo *def = control_check_start(name, &parameters, &settings, &types);
	RunStatus	status;
	bool		hooked;
	bool		begins_hooked;
	RunInfo    *run;
	int64		id;

	catalog_begin(&session);
	after = check_after(&session, after, caller);
	if (rival == NULL)
		check_alone(&session, def->name, def->owner, def->target, parameters, settings,
					after, 0);
	else if (find_rival(&session, def->name, def->owner, def->target, parameters, settings,
						after, 0, rival))
	{
		catalog_end(&session);
		return 0;
	}
	status = start_at > GetCurrentTimestamp() || depend_wait_reason(&session, after) ?
		RUN_PENDING : RUN_ENQUEUED;
	begins_hooked = catalog_has_hook(&session, def->name, def->owner, RUN_PENDING);
	hooked = begins_hooked ||
		(status == RUN_ENQUEUED && catalog_has_hook(&session, def->name, def->owner,
													RUN_ENQUEUED));
	id = catalog_insert_run(&session, def, caller, parameters, types, settings,
							hooked ? RUN_PENDING : status, start_at, after);
	run = catalog_load_run(&session, id, true);
	if (!begins_hooked)
		transition_begin(&session, run, caller_name(caller), reason);
	if (hooked)
		transition_request(&session, run, begins_hooked ? RUN_PENDING : RUN_ENQUEUED,
						   false, caller_name(caller), reason);
	catalog_end(&session);
	shared_wake_at_commit();
	return id;
}

/* backfill_start(name, parameters, settings, start_at, after) */
Datum
backfill_start(PG_FUNCTION_ARGS)
{
	char	   *name = definition_name_arg(fcinfo);
	TimestampTz start_at = PG_ARGISNULL(3) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(3);

	PreventCommandDuringRecovery("backfill_start()");
	shared_require();
	if (start_at == DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_at cannot be infinity")));
	PG_RETURN_INT64(control_start(name,
								  PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1),
								  PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
								  start_at,
								  PG_ARGISNULL(4) ? NULL : PG_GETARG_ARRAYTYPE_P(4),
								  "backfill_start", NULL));
}

/*
 * Change the status of the run, now, or have a worker do it if something of
 * the owner's has to run with it.
 */
static void
change_run(CatalogSession *session, RunInfo *run, RunStatus status, bool immediate,
		   Oid caller, const char *reason)
{
	/* without shared memory nobody can be at work */
	if (shared_available() && run->is_local &&
		transition_needs_worker(session, run, status))
		transition_request(session, run, status, immediate, caller_name(caller), reason);
	else
		transition_make(session, run, status, caller_name(caller), reason);
}

/*
 * Bring the run to paused or stopped, now or when its workers have let go.  One
 * that is enqueued may have a worker that calls its hooks.
 */
static void
halt_run(CatalogSession *session, RunInfo *run, RunStatus status, bool immediate,
		 Oid caller, const char *reason)
{
	status_check_change(run->id, run->status, status);
	if (shared_available() && run->is_local &&
		(run->status == RUN_RUNNING ||
		 (run->status == RUN_ENQUEUED &&
		  shared_run_workers(MyDatabaseId, run->id, NULL) > 0)))
	{
		if (!run->is_requested || run->requested != RUN_FAILED)
			transition_request(session, run, status, immediate, caller_name(caller), reason);
	}
	else
		change_run(session, run, status, immediate, caller, reason);
}

/* backfill_pause(id) */
Datum
backfill_pause(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	Oid			caller = GetUserId();

	PreventCommandDuringRecovery("backfill_pause()");
	catalog_begin(&session);
	halt_run(&session, get_run(&session, PG_GETARG_INT64(0), caller), RUN_PAUSED, false,
			 caller, "backfill_pause");
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_VOID();
}

static const char *
stop_reason(bool immediate)
{
	return immediate ? "backfill_stop, immediate" : "backfill_stop";
}

/* backfill_stop(id, immediate) */
Datum
backfill_stop(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	Oid			caller = GetUserId();

	PreventCommandDuringRecovery("backfill_stop()");
	catalog_begin(&session);
	halt_run(&session, get_run(&session, PG_GETARG_INT64(0), caller), RUN_STOPPED,
			 PG_GETARG_BOOL(1), caller, stop_reason(PG_GETARG_BOOL(1)));
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_VOID();
}

/* backfill_stop_all(immediate) */
Datum
backfill_stop_all(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	Oid			caller = GetUserId();
	List	   *runs;
	ListCell   *lc;
	int			n = 0;

	PreventCommandDuringRecovery("backfill_stop_all()");
	catalog_begin(&session);
	runs = catalog_control_runs(&session);
	foreach(lc, runs)
	{
		RunInfo    *run = lfirst(lc);

		if (!has_privs_of_role(caller, run->owner))
			continue;
		run = catalog_load_run(&session, run->id, true);
		if (run == NULL || status_has_ended(run->status))
			continue;
		halt_run(&session, run, RUN_STOPPED, PG_GETARG_BOOL(0), caller,
				 stop_reason(PG_GETARG_BOOL(0)));
		n++;
	}
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_INT32(n);
}

/* Whether the run, resumed, has to wait for its time or for other runs. */
static bool
is_to_wait(CatalogSession *session, const RunInfo *run)
{
	if (run->status == RUN_PAUSED && TIMESTAMP_IS_NOBEGIN(run->started_at) &&
		run->start_at > GetCurrentTimestamp())
		return true;
	return (run->status == RUN_PAUSED || run->status == RUN_STOPPED) &&
		run->end_key == NULL && depend_wait_reason(session, run->after) != NULL;
}

/* backfill_resume(id) */
Datum
backfill_resume(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	Oid			caller = GetUserId();
	RunInfo    *run;

	PreventCommandDuringRecovery("backfill_resume()");
	shared_require();
	catalog_begin(&session);
	run = get_run(&session, PG_GETARG_INT64(0), caller);
	if (run->is_local && run->is_requested &&
		(run->requested == RUN_PAUSED || run->requested == RUN_STOPPED))
	{
		EventInfo	event = {
			.kind = "request",
			.role = caller_name(caller),
			.reason = "backfill_resume calls the request off"
		};

		/* somebody may have left already, and given back what he had in hand */
		catalog_cancel_request(&session, run->id);
		catalog_reopen_batches(&session, run->id);
		catalog_add_event(&session, run, &event);
	}
	else
	{
		RunStatus	status = is_to_wait(&session, run) ? RUN_PENDING : RUN_ENQUEUED;

		/* only the scheduler brings a pending run to enqueued */
		if (run->is_local && run->status == RUN_PENDING)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot resume run " INT64_FORMAT ", which is \"%s\"",
							run->id, status_name(run->status)),
					 errhint("It starts by itself when its time has come.")));
		if (run->status == RUN_COMPLETED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot change run " INT64_FORMAT " from \"%s\" to \"%s\"",
							run->id, status_name(run->status), status_name(status)),
					 errhint("backfill_retry runs again what was skipped; backfill_start begins anew.")));
		if (run->is_local || status_has_ended(run->status) || run->status == RUN_PAUSED)
			status_check_change(run->id, run->status, status);
		else
		{
			/* a copy of an active run: its workers are elsewhere */
			int64		worst;
			int			crashes;

			catalog_recover_batches(&session, run->id, NULL, 0, 0, true,
									&worst, &crashes);
		}
		check_owner(run->owner);
		check_alone(&session, run->name, run->owner, run->target, run->parameters,
					run->settings, run->after, run->id);
		if (!run->is_local)
			catalog_adopt_run(&session, run->id);
		run->is_local = true;
		catalog_reopen_batches(&session, run->id);
		catalog_mark_resumed(&session, run->id);
		change_run(&session, run, status, false, caller, "backfill_resume");
	}
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_VOID();
}

/*
 * backfill_retry(id)
 *
 * Only for a run that has ended: an active one would be changed behind the
 * backs of its workers.  One that was not completed goes on as well.
 */
Datum
backfill_retry(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	Oid			caller = GetUserId();
	RunInfo    *run;
	int64		n;

	PreventCommandDuringRecovery("backfill_retry()");
	shared_require();
	catalog_begin(&session);
	run = get_run(&session, PG_GETARG_INT64(0), caller);
	if (!status_has_ended(run->status) || !run->is_local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot retry run " INT64_FORMAT ", which is \"%s\"",
						run->id, status_name(run->status)),
				 errhint("Wait until it has ended, or stop it.")));
	check_owner(run->owner);
	n = catalog_reopen_skipped(&session, run->id);

	/* and what a hook has kept from being retried */
	if (run->status == RUN_COMPLETED)
		n = catalog_open_batches(&session, run->id, NULL);
	if (n > 0)
	{
		check_alone(&session, run->name, run->owner, run->target, run->parameters,
					run->settings, run->after, run->id);
		catalog_reopen_batches(&session, run->id);
		catalog_mark_resumed(&session, run->id);
		change_run(&session, run, RUN_ENQUEUED, false, caller, "backfill_retry");
	}
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_INT64(n);
}

/* backfill_alter(id, settings) */
Datum
backfill_alter(PG_FUNCTION_ARGS)
{
	Jsonb	   *settings = PG_GETARG_JSONB_P(1);
	Oid			caller = GetUserId();
	CatalogSession session;
	RunInfo    *run;
	EventInfo	event = {.kind = "settings"};

	shared_require();
	settings_check_alterable(settings);
	PreventCommandDuringRecovery("backfill_alter()");
	catalog_begin(&session);
	run = get_run(&session, PG_GETARG_INT64(0), caller);
	if (run->status == RUN_COMPLETED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change the settings of run " INT64_FORMAT ", which is \"%s\"",
						run->id, status_name(run->status)),
				 errhint("Start another run with the settings.")));
	event.role = caller_name(caller);
	event.reason = JsonbToCString(NULL, &settings->root, VARSIZE(settings));
	settings = settings_merge(run->settings, settings);
	settings_check_together(settings, run->scope);
	catalog_set_settings(&session, run->id, settings);
	catalog_add_event(&session, run, &event);
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_VOID();
}

/* backfill_delete(id) */
Datum
backfill_delete(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	Oid			caller = GetUserId();
	RunInfo    *run;
	int64		dependent;
	EventInfo	event = {.kind = "delete", .role = caller_name(caller)};

	PreventCommandDuringRecovery("backfill_delete()");
	catalog_begin(&session);
	run = get_run(&session, PG_GETARG_INT64(0), caller);
	if (!status_has_ended(run->status) && run->is_local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot delete run " INT64_FORMAT ", which is \"%s\"",
						run->id, status_name(run->status)),
				 errhint("Stop the run first: SELECT backfill_stop(" INT64_FORMAT ").", run->id)));
	dependent = catalog_find_dependent(&session, run->id);
	if (dependent != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot delete run " INT64_FORMAT ": run " INT64_FORMAT " waits for it",
						run->id, dependent),
				 errhint("Stop that run first: SELECT backfill_stop(" INT64_FORMAT ").", dependent)));
	catalog_delete_run(&session, run->id);
	catalog_add_event(&session, run, &event);
	catalog_end(&session);
	PG_RETURN_VOID();
}

/* backfill.is_local(database, system_identifier) */
Datum
backfill_is_local(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_OID(0) == MyDatabaseId &&
				   (uint64) PG_GETARG_INT64(1) == GetSystemIdentifier());
}
