/*-------------------------------------------------------------------------
 *
 * require.c
 *	  The SQL procedure that later migrations call: a backfill has to be done.
 *
 * It raises an error of its own SQLSTATE unless such a run has completed: one of the
 * definition, with these parameters, that has done what the definition says now.
 * Where it is to do the rest, it starts a run, has one go on, or finds one at work,
 * and waits for it, as backfill_wait does.  A check neither commits nor writes, and
 * is at home in a transaction; for the rest it has to commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "api/control.h"
#include "api/started.h"
#include "api/wait.h"
#include "base/compat.h"
#include "definition/definition.h"
#include "run/find.h"
#include "run/start.h"
#include "shared/segment.h"
#include "store/find.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_require);

#define ERRCODE_REQUIRED		MAKE_SQLSTATE('U', 'B', '0', '0', '5')

/* So many bytes of the parameters are shown. */
#define SHOWN_PARAMETERS		100

/* What is required. */
typedef struct Requirement
{
	DefinitionInfo *def;		/* bound to its target and names, if it is generic */
	Oid			target;			/* that it is given then, or InvalidOid */
	Jsonb	   *parameters;		/* as they were given, or NULL */
	Jsonb	   *values;			/* that a run has then */
	Waiting		waiting;		/* without the run, which is found later */
} Requirement;

/* ---- how it stands ---- */

static RunKin
find_kin(const Requirement *required)
{
	StoreSession session;
	RunKin		kin;

	store_begin(&session);
	kin = store_find_kin(&session, required->def, required->values);
	store_end(&session);
	return kin;
}

static bool
is_fulfilled(const RunKin *kin)
{
	return kin->id != 0 && kin->status == RUN_COMPLETED && !kin->is_requested && kin->is_like;
}

/* Whether the run is not over, or is to begin again. */
static bool
is_under_way(const RunKin *kin)
{
	return kin->id != 0 && (!status_has_ended(kin->status) || kin->is_requested);
}

/* What has become of it so far, as a sentence. */
static char *
say_state(const Requirement *required, const RunKin *kin)
{
	StringInfoData buf;
	RunProgress *p;

	if (kin->id == 0)
		return pstrdup("It has had no run with these parameters.");
	p = wait_progress(kin->id, required->waiting.caller);
	initStringInfo(&buf);
	if (p->status == RUN_COMPLETED && !kin->is_requested)
		appendStringInfo(&buf, "Run " INT64_FORMAT " has completed", kin->id);
	else
		appendStringInfo(&buf, "The last run with these parameters, run " INT64_FORMAT ", is \"%s\", at %s %%",
						 kin->id, status_name(p->status), p->progress);
	if (!kin->is_like)
		appendStringInfoString(&buf, ", but its table, statement, scope or bounds are not those that the definition has now");
	if (p->status == RUN_FAILED && p->error)
		appendStringInfo(&buf, ": %s", p->error);
	else if (p->wait_reason)
		appendStringInfo(&buf, ": %s", p->wait_reason);
	if (buf.data[buf.len - 1] != '.')
		appendStringInfoChar(&buf, '.');
	return buf.data;
}

/* " with the parameters {...}", or nothing if there are none. */
static char *
say_parameters(const Requirement *required)
{
	char	   *text;
	int			length;
	int			shown;

	if (JB_ROOT_COUNT(required->values) == 0)
		return pstrdup("");
	text = JsonbToCString(NULL, &required->values->root, VARSIZE(required->values));
	length = strlen(text);
	shown = pg_mbcliplen(text, length, SHOWN_PARAMETERS);
	return psprintf(" with the parameters %.*s%s", shown, text, shown < length ? "..." : "");
}

/* Raises an error: it is not done, and nothing is to be done about it. */
compat_noreturn static void
refuse(const Requirement *required, const RunKin *kin)
{
	ereport(ERROR,
			(errcode(ERRCODE_REQUIRED),
			 errmsg("backfill \"%s\" has not completed%s", required->def->name,
					say_parameters(required)),
			 errdetail_internal("%s", say_state(required, kin)),
			 is_under_way(kin) && kin->status != RUN_PAUSED ?
			 errhint("CALL backfill_wait(" INT64_FORMAT ") waits for it.", kin->id) :
			 errhint("Outside of a transaction block, CALL backfill_require(..., finish => true) does the rest.")));
}

/* ---- doing the rest ---- */

/*
 * A run of other making is active, with the same parameters: another one cannot be
 * started, and waiting for it would be of no use.
 */
compat_noreturn static void
refuse_unlike(const Requirement *required, const RunKin *kin)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("run " INT64_FORMAT " of backfill \"%s\" is active with another table, statement, scope or other bounds",
					kin->id, required->def->name),
			 errdetail("The definition was replaced, or the run was given bounds of its own."),
			 errhint("backfill_replace(" INT64_FORMAT ") has it go on with the definition as it is now; or stop it.",
					 kin->id)));
}

/* Whether the run does not go on by itself. */
static bool
is_held(const RunInfo *run)
{
	if (run->is_requested)
		return run->requested == RUN_PAUSED || run->requested == RUN_STOPPED;
	return !run->is_local || run->status == RUN_PAUSED || run->status == RUN_FAILED ||
		run->status == RUN_STOPPED;
}

/* Have the run go on.  Returns its id. */
static int64
resume(const Requirement *required, const RunKin *kin)
{
	Oid			caller = required->waiting.caller;
	FindKey		key = {.id = kin->id};
	StoreSession session;
	RunInfo    *run;

	store_begin(&session);
	run = find_run(&session, &key, FIND_TO_RESUME, caller, true);

	/* unless somebody else has done so in the meantime */
	if (is_held(run))
		(void) control_resume(&session, run, caller, "backfill_require");
	store_end(&session);
	return kin->id;
}

/* Start a run.  Returns its id, or 0 if somebody else has done so in the meantime. */
static int64
start(const Requirement *required)
{
	StartOptions options = {.start_at = DT_NOBEGIN};
	Rival		rival;
	int64		id = start_run(required->def->name, NULL, required->target, required->parameters, NULL, &options,
							   "backfill_require", &rival);

	if (id == 0 && !rival.is_equal)
		start_refuse(required->def->name, &rival);
	if (id != 0)
		started_note(id);
	return id;
}

/* See to it that a run is under way.  Returns its id, or 0 to look again. */
static int64
set_going(const Requirement *required, const RunKin *kin)
{
	if (is_under_way(kin) && !kin->is_like)
		refuse_unlike(required, kin);
	if (is_under_way(kin) ||
		(kin->id != 0 && kin->is_like && kin->status != RUN_COMPLETED))
		return resume(required, kin);
	return start(required);
}

/* Do the rest.  Commits. */
static void
finish(Requirement *required)
{
	int64		id = 0;

	segment_require();
	while (id == 0)
	{
		RunKin		kin;

		/* a commit has let go of the last one */
		EnsurePortalSnapshotExists();
		kin = find_kin(required);
		if (is_fulfilled(&kin))
			return;
		id = set_going(required, &kin);
		SPI_commit();
	}
	required->waiting.key = (FindKey) {.id = id};
	wait_for_run(&required->waiting);
}

/* ---- the procedure ---- */

/* Read the definition and bind the parameters.  Raises an error if the caller may not. */
static Requirement
read_requirement(FunctionCallInfo fcinfo)
{
	Requirement required = {.waiting = wait_arguments(fcinfo, 3)};
	char	   *name = definition_name_arg(fcinfo);
	StoreSession session;

	store_begin(&session);
	required.def = definition_get(&session, name);
	store_end(&session);
	definition_check_role(required.def->owner, "definition", quote_identifier(name));
	required.parameters = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P_COPY(1);
	required.target = PG_ARGISNULL(5) ? InvalidOid : PG_GETARG_OID(5);
	definition_take_target(required.def, required.target);

	/* nothing is checked: the column that was copied may be gone since it was done */
	required.values = definition_values(required.def, required.parameters);
	return required;
}

/* CALL backfill_require(name, parameters, finish, timeout, every, target) */
Datum
backfill_require(PG_FUNCTION_ARGS)
{
	bool		is_to_finish = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	Requirement required;
	RunKin		kin;

	required = read_requirement(fcinfo);
	kin = find_kin(&required);
	if (is_fulfilled(&kin))
		wait_warn(kin.id, wait_progress(kin.id, required.waiting.caller));
	else if (!is_to_finish)
		refuse(&required, &kin);
	else
	{
		PreventCommandDuringRecovery("backfill_require()");
		if (!wait_may_commit(fcinfo))
			ereport(ERROR,
					(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
					 errmsg("backfill_require cannot do the rest inside a transaction block or a function"),
					 errdetail_internal("%s", say_state(&required, &kin)),
					 errhint("Call it outside of a transaction block, or without \"finish\", to check only.")));
		SPI_connect_ext(SPI_OPT_NONATOMIC);
		finish(&required);
		SPI_finish();
	}
	PG_RETURN_VOID();
}
