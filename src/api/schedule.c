/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  Recurring runs, by the extension pg_cron.
 *
 * The clock is pg_cron's: a schedule is one of its jobs, which belongs to the
 * role that made it and runs as that role.  Nothing of a schedule is kept here,
 * so that there is one truth about it, and every tool for pg_cron shows it.
 *
 * pg_cron is called with the rights of the caller and no others.  Its functions
 * are known by their exact arguments and by being members of the extension; who
 * may create objects in its schema cannot put others in their place.
 *
 * An occurrence that meets another run is skipped.  Whether it does is looked
 * up under the locks that backfill_start takes; no error is caught to find out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "definition/definition.h"
#include "definition/names.h"
#include "run/access.h"
#include "run/start.h"
#include "shared/segment.h"
#include "store/event.h"
#include "store/store.h"

/* pg_cron has its objects there and nowhere else. */
#define CRON_SCHEMA		"cron"

PG_FUNCTION_INFO_V1(backfill_schedule);
PG_FUNCTION_INFO_V1(backfill_start_scheduled);
PG_FUNCTION_INFO_V1(backfill_unschedule);

/* ---- pg_cron ---- */

/*
 * The name of the job that starts the runs of the definition, on the table if that is
 * not NULL.
 */
static char *
job_name(const char *name, const char *table)
{
	return table ? psprintf("backfill %s on %s", name, table) : psprintf("backfill %s", name);
}

/*
 * Whether the server, which has one database with jobs, looks for them here.  As
 * long as nobody has loaded pg_cron, its parameter is no more than a name.
 */
static bool
is_cron_database(void)
{
	const char *database = GetConfigOption("cron.database_name", true, false);

	return database != NULL &&
		(GetConfigOptionFlags("cron.database_name", false) & GUC_CUSTOM_PLACEHOLDER) == 0 &&
		get_database_oid(database, true) == MyDatabaseId;
}

/* Raises an error unless pg_cron is there and looks for jobs in this database. */
static Oid
require_pg_cron(void)
{
	Oid			extension = get_extension_oid("pg_cron", true);

	if (!OidIsValid(extension) || !is_cron_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a backfill cannot be scheduled in this database without pg_cron"),
				 OidIsValid(extension) ?
				 errdetail("The extension is installed, but the server does not look for jobs here.") :
				 errdetail("The extension pg_cron is not installed in this database."),
				 errhint("Add pg_cron to \"shared_preload_libraries\", set \"cron.database_name\" to the name of this database, restart the server, and run CREATE EXTENSION pg_cron.")));
	return extension;
}

/*
 * Raises an error unless pg_cron has that function.  Who may not use the schema
 * of pg_cron gets the server's own error.
 */
static void
require_function(Oid extension, const char *name, int nargs, const Oid *types)
{
	Oid			function = LookupFuncName(list_make2(makeString(CRON_SCHEMA),
													 makeString(pstrdup(name))),
										  nargs, types, true);

	if (!OidIsValid(function) ||
		getExtensionOfObject(ProcedureRelationId, function) != extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension pg_cron has no function %s.%s that could be used",
						CRON_SCHEMA, name),
				 errhint("Bring it up to date: ALTER EXTENSION pg_cron UPDATE.")));
}

/* The type of the names of jobs: name before version 1.5 of pg_cron, then text. */
static Oid
job_name_type(void)
{
	Oid			jobs = get_relname_relid("job", get_namespace_oid(CRON_SCHEMA, false));

	return get_atttype(jobs, get_attnum(jobs, "jobname"));
}

/*
 * Run one of the texts below, as the caller, with texts as arguments.  Returns
 * the number of rows; the value of the first one goes to *result.
 */
static uint64
cron_sql(const char *sql, int nargs, char **args, Datum *result)
{
	Oid			types[3];
	Datum		values[3];
	int			nest = NewGUCNestLevel();
	uint64		n;
	int			rc;
	bool		isnull;

	Assert(nargs <= lengthof(types));
	for (int i = 0; i < nargs; i++)
	{
		types[i] = TEXTOID;
		values[i] = CStringGetTextDatum(args[i]);
	}
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	rc = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(rc));
	n = SPI_processed;
	if (n > 0)
	{
		/* a bigint or a boolean, which may be passed by reference */
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										  1, &isnull);
		Oid			type = SPI_gettypeid(SPI_tuptable->tupdesc, 1);

		if (isnull)
			elog(ERROR, "unexpected null from \"%s\"", sql);
		*result = SPI_datumTransfer(value, get_typbyval(type), get_typlen(type));
	}
	SPI_finish();
	AtEOXact_GUC(false, nest);
	return n;
}

/* ---- schedules ---- */

/* Raises an error unless pg_cron can connect as the current user. */
static void
check_login(void)
{
	Oid			role = GetUserId();

	if (!access_may_log_in(role))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" cannot schedule a backfill because it is not permitted to log in",
						GetUserNameFromId(role, false)),
				 errdetail("pg_cron connects as the role that has scheduled a job."),
				 errhint("Call the function as a role that may log in and has the rights of the definition's owner.")));
}

/* Raises an error if the name of the job would be cut off, and meet another one. */
static void
check_job_name(const char *job)
{
	if (job_name_type() == NAMEOID && strlen(job) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of job \"%s\" is too long for this version of pg_cron", job),
				 errdetail("The limit is %d bytes.", NAMEDATALEN - 1),
				 errhint("Define the backfill under a shorter name, or update pg_cron to version 1.5 or later.")));
}

/* A constant of SQL with the value, which may be NULL. */
static char *
jsonb_literal(Jsonb *value)
{
	return value == NULL ? "NULL" :
		quote_literal_cstr(JsonbToCString(NULL, &value->root, VARSIZE(value)));
}

/*
 * What the job runs.  The types are written out, so that no other function of
 * the name can be meant; and the owner of the definition, so that who takes its name
 * later does not get the parameters.  A target is named, and not numbered: in a copy of
 * the database the number may be that of another table.
 */
static char *
job_command(Oid schema, const DefinitionInfo *def, Jsonb *parameters, Jsonb *settings,
			const char *table)
{
	return psprintf("SELECT %s(%s::pg_catalog.text, %s::pg_catalog.jsonb, %s::pg_catalog.jsonb, %s::pg_catalog.text%s)",
					quote_qualified_identifier(get_namespace_name(schema),
											   "backfill_start_scheduled"),
					quote_literal_cstr(def->name), jsonb_literal(parameters),
					jsonb_literal(settings),
					quote_literal_cstr(GetUserNameFromId(def->owner, false)),
					table ? psprintf(", %s::pg_catalog.regclass", quote_literal_cstr(table)) : "");
}

/*
 * backfill_schedule(name, cron, parameters, settings, target)
 *
 * Parameters and settings are checked as backfill_start would, and stored as
 * they are given: each occurrence puts them on top of what the definition then
 * says.
 */
Datum
backfill_schedule(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID};
	char	   *name = definition_name_arg(fcinfo);
	Jsonb	   *parameters = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	Jsonb	   *settings = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	Jsonb	   *values = parameters;
	Jsonb	   *in_force = settings;
	Jsonb	   *value_types;
	Oid			target = PG_ARGISNULL(4) ? InvalidOid : PG_GETARG_OID(4);
	char	   *table;
	DefinitionInfo *def;
	char	   *args[3];
	Datum		result = (Datum) 0;

	PreventCommandDuringRecovery("backfill_schedule()");
	segment_require();
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the times of a schedule cannot be null")));
	def = start_check(name, target, &values, &in_force, &value_types);
	check_login();
	table = def->generic ? names_of_table(target) : NULL;

	require_function(require_pg_cron(), "schedule", lengthof(types), types);
	args[0] = job_name(name, table);
	check_job_name(args[0]);
	args[1] = text_to_cstring(PG_GETARG_TEXT_PP(1));
	args[2] = job_command(get_func_namespace(fcinfo->flinfo->fn_oid), def, parameters,
						  settings, table);
	if (cron_sql("SELECT cron.schedule($1, $2, $3)", 3, args, &result) != 1)
		elog(ERROR, "pg_cron has returned no job");
	PG_RETURN_DATUM(result);
}

/*
 * backfill_unschedule(name, target)
 *
 * The definition may be gone, and so may the table, if its schema is named.  The job is the caller's own, so that there is
 * nothing else to check; where there is no pg_cron there is no job.
 */
Datum
backfill_unschedule(PG_FUNCTION_ARGS)
{
	char	   *args[1];
	Oid			extension = get_extension_oid("pg_cron", true);
	Oid			type;
	Datum		result = BoolGetDatum(false);

	PreventCommandDuringRecovery("backfill_unschedule()");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (!OidIsValid(extension))
		PG_RETURN_BOOL(false);
	args[0] = job_name(text_to_cstring(PG_GETARG_TEXT_PP(0)),
					   PG_ARGISNULL(1) ? NULL : names_as_written(text_to_cstring(PG_GETARG_TEXT_PP(1))));
	type = job_name_type();
	require_function(extension, "unschedule", 1, &type);
	(void) cron_sql("SELECT cron.unschedule(jobname) FROM cron.job "
					" WHERE jobname::text = $1 AND username = current_user",
					1, args, &result);
	PG_RETURN_DATUM(result);
}

/* ---- occurrences ---- */

/* Put down, among the events of the run that is in the way, what it was in the way of. */
static void
note_skipped(const char *name, const Rival *rival)
{
	StoreSession session;
	EventInfo	event = {
		.kind = "schedule",
		.role = GetUserNameFromId(GetUserId(), false),
		.reason = rival->is_equal ?
			"an occurrence of the schedule was skipped: the run is active" :
			psprintf("an occurrence of the schedule of \"%s\" was skipped: the run is active on its table",
					 name)
	};

	store_begin(&session);
	store_add_event(&session, rival->run, &event);
	store_end(&session);
}

/*
 * backfill_start_scheduled(name, parameters, settings, owner, target)
 *
 * As backfill_start, but if another run is in the way it is put down that the
 * occurrence was skipped, and null is returned.
 */
Datum
backfill_start_scheduled(PG_FUNCTION_ARGS)
{
	char	   *name = definition_name_arg(fcinfo);
	StartOptions options = {.start_at = DT_NOBEGIN};
	Rival		rival;
	int64		id;

	PreventCommandDuringRecovery("backfill_start_scheduled()");
	segment_require();
	id = start_run(name,
					   PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)),
					   PG_ARGISNULL(4) ? InvalidOid : PG_GETARG_OID(4),
					   PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1),
					   PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
					   &options, "backfill_start_scheduled", &rival);
	if (id != 0)
		PG_RETURN_INT64(id);
	note_skipped(name, &rival);
	PG_RETURN_NULL();
}
