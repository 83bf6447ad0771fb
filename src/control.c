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

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "definition.h"
#include "settings.h"
#include "shared.h"

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
 * The run, locked, which the current user may control.  Raises an error that
 * does not tell a run that is not there from one that is somebody else's.
 */
static RunInfo *
get_run(CatalogSession *session, int64 id, Oid caller)
{
	RunInfo    *run = catalog_load_run(session, id, false);

	/* nobody locks a run that is not his */
	if (run && has_privs_of_role(caller, run->owner))
		run = catalog_load_run(session, id, true);
	if (run == NULL || !has_privs_of_role(caller, run->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill run " INT64_FORMAT " does not exist", id),
				 errdetail("There is no such run, or it belongs to a role whose rights you do not have."),
				 errhint("The view backfill_runs shows the runs you may control.")));
	return run;
}

/*
 * backfill_start(name, parameters, settings, start_at)
 */
Datum
backfill_start(PG_FUNCTION_ARGS)
{
	char	   *name;
	Jsonb	   *parameters = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	Jsonb	   *types;
	Jsonb	   *settings = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	TimestampTz start_at = PG_ARGISNULL(3) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(3);
	Oid			caller = GetUserId();
	CatalogSession session;
	DefinitionInfo *def;
	int64		id;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of a backfill definition cannot be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PreventCommandDuringRecovery("backfill_start()");
	shared_require();
	if (start_at == DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_at cannot be infinity")));

	catalog_begin(&session);
	def = definition_get(&session, name);
	catalog_end(&session);
	definition_check_role(def->owner, "definition", quote_identifier(name));
	check_owner(def->owner);
	if (settings)
		settings_check(settings);
	settings = settings_merge(def->settings, settings);

	/* what would fail at once in a worker fails here */
	parameters = definition_bind(def, settings, parameters, &types);

	catalog_begin(&session);
	id = catalog_insert_run(&session, def, caller, parameters, types, settings,
							start_at > GetCurrentTimestamp() ? RUN_PENDING : RUN_ENQUEUED,
							start_at);
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_INT64(id);
}

/* Bring the run to paused or stopped, now or when its workers have let go. */
static void
halt_run(CatalogSession *session, RunInfo *run, RunStatus status, bool immediate)
{
	status_check_change(run->id, run->status, status);

	/* without shared memory nobody can be at work */
	if (shared_available() && run->is_local && run->status == RUN_RUNNING)
	{
		if (!run->is_requested || run->requested != RUN_FAILED)
			catalog_request(session, run->id, status, immediate);
	}
	else
		catalog_set_status(session, run->id, status);
}

/* backfill_pause(id) */
Datum
backfill_pause(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	Oid			caller = GetUserId();

	PreventCommandDuringRecovery("backfill_pause()");
	catalog_begin(&session);
	halt_run(&session, get_run(&session, PG_GETARG_INT64(0), caller), RUN_PAUSED, false);
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_VOID();
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
			 PG_GETARG_BOOL(1));
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
		halt_run(&session, run, RUN_STOPPED, PG_GETARG_BOOL(0));
		n++;
	}
	catalog_end(&session);
	shared_wake_at_commit();
	PG_RETURN_INT32(n);
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
	if (run->is_local && run->is_requested && run->requested != RUN_FAILED)
	{
		/* somebody may have left already, and given back what he had in hand */
		catalog_cancel_request(&session, run->id);
		catalog_reopen_batches(&session, run->id);
	}
	else
	{
		RunStatus	status = run->start_at > GetCurrentTimestamp() &&
			run->status == RUN_PAUSED ? RUN_PENDING : RUN_ENQUEUED;

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
		if (!run->is_local)
			catalog_adopt_run(&session, run->id);
		catalog_reopen_batches(&session, run->id);
		catalog_mark_resumed(&session, run->id);
		catalog_set_status(&session, run->id, status);
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
	if (n > 0)
	{
		catalog_reopen_batches(&session, run->id);
		catalog_mark_resumed(&session, run->id);
		catalog_set_status(&session, run->id, RUN_ENQUEUED);
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
	catalog_set_settings(&session, run->id, settings_merge(run->settings, settings));
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

	PreventCommandDuringRecovery("backfill_delete()");
	catalog_begin(&session);
	run = get_run(&session, PG_GETARG_INT64(0), caller);
	if (!status_has_ended(run->status) && run->is_local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot delete run " INT64_FORMAT ", which is \"%s\"",
						run->id, status_name(run->status)),
				 errhint("Stop the run first: SELECT backfill_stop(" INT64_FORMAT ").", run->id)));
	catalog_delete_run(&session, run->id);
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
