/*-------------------------------------------------------------------------
 *
 * replace.c
 *	  The SQL function that has a run go on with its definition as it is now.
 *
 * The run stays the run it is: its batches, the place where it has got to and what it
 * has skipped are its own, so that no row is done twice or left out, whichever version
 * was at it.  What is exchanged is the copy of the definition in its row, and only
 * that: the table, the key, the direction and the settings stay.  Workers that are busy
 * with the old copy let go after the batch in hand, as for a stop; when none is left,
 * the run is enqueued again.  What was there before goes into an event.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

#include "api/control.h"
#include "base/compat.h"
#include "definition/definition.h"
#include "definition/stage.h"
#include "run/find.h"
#include "run/start.h"
#include "run/title.h"
#include "run/transition.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "shared/segment.h"
#include "shared/wake.h"
#include "store/batch.h"
#include "store/copy.h"
#include "store/event.h"
#include "store/page.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_replace);

/* ---- may it be? ---- */

static bool
is_same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static int64
direction(Jsonb *given)
{
	RunSettings settings;

	settings_resolve(given, &settings);
	return settings.direction;
}

/* Raises an error unless the definition goes the way that the run goes. */
static void
check_way(const RunInfo *run, const DefinitionInfo *def)
{
	const char *detail = NULL;

	if (def->generic != run->generic)
		detail = "One of them is generic.";
	else if (def->owner != run->owner)
		detail = "They belong to different roles.";
	else if (def->target != run->target)
		detail = psprintf("The run walks table %s, and the definition now walks %s.",
						  title_table(run->target), title_table(def->target));
	else if (!is_same_text(def->key, run->key))
		detail = psprintf("The run walks along %s, and the definition now along %s.",
						  run->key ? quote_identifier(run->key) : "the primary key",
						  def->key ? quote_identifier(def->key) : "the primary key");
	else if ((def->source.function == NULL) != (run->source.function == NULL) ||
			 source_is_client(&def->source) != source_is_client(&run->source))
		detail = "One of them reads pages of a source, and the other does not, or from others.";
	else if (!is_same_text(def->streams, run->streams))
		detail = "They are divided into other streams.";
	else if (direction(def->settings) != direction(run->settings))
		detail = "They walk in opposite directions.";
	if (detail)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run " INT64_FORMAT " cannot go on with definition %s as it is now",
						run->id, quote_identifier(def->name)),
				 errdetail_internal("%s", detail),
				 errhint("Stop the run, and start another one.")));
}

/* Whether a worker may have a statement of a stage in hand, or be through with all batches. */
static bool
is_at_a_stage(const RunInfo *run)
{
	if (run->status != RUN_RUNNING)
		return false;
	if (run->is_requested && run->requested == RUN_COMPLETED)
		return true;
	return run->closings > 0 && run->end_key == NULL;
}

/* Raises an error unless the run, as it stands, may be given another definition. */
static void
check_status(const RunInfo *run)
{
	if (run->status == RUN_COMPLETED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot replace the definition of run " INT64_FORMAT ", which is \"%s\"",
						run->id, status_name(run->status)),
				 errhint("backfill_start starts another one.")));
	if (!run->is_local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot replace the definition of run " INT64_FORMAT ", which belongs to another database or server",
						run->id),
				 errhint("backfill_resume adopts it.")));
	if (is_at_a_stage(run))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot replace the definition of run " INT64_FORMAT ", which is %s",
						run->id, run->end_key ? "finishing" : "preparing"),
				 errhint("Stop the run first: SELECT backfill_stop(" INT64_FORMAT ").", run->id)));
	if (run->is_requested && run->requested == RUN_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot replace the definition of run " INT64_FORMAT ", which is about to fail",
						run->id),
				 errhint("Try again when its last worker has left.")));
}

/* ---- what is said of it ---- */

/* Add the name of a part that is another one now. */
static void
add_part(StringInfo parts, bool is_other, const char *name)
{
	if (is_other)
		appendStringInfo(parts, "%s%s", parts->len > 0 ? ", " : "", name);
}

/* The parts that are others in the definition than in the run; an empty text for none. */
static char *
changed_parts(const RunInfo *run, const DefinitionInfo *def, Jsonb *values)
{
	StringInfoData parts;

	initStringInfo(&parts);
	add_part(&parts, !is_same_text(run->statement, def->statement), "statement");
	add_part(&parts, !is_same_text(run->scope, def->scope), "scope");
	add_part(&parts, compareJsonbContainers(&run->parameters->root, &values->root) != 0, "parameters");
	add_part(&parts, strcmp(run->search_path, def->search_path) != 0, "search_path");
	for (int i = 0; i < STAGES; i++)
		add_part(&parts, (i != STAGE_PREPARE || run->end_key == NULL) &&
				 !is_same_text(run->stages[i].text, def->stages[i]), stage_name((Stage) i));
	add_part(&parts, (run->followers == NULL) != (def->followers == NULL) ||
			 (run->followers && compareJsonbContainers(&run->followers->root,
													   &def->followers->root) != 0), "followers");
	return parts.data;
}

/* Put down what is another one, and what it was. */
static void
note_replaced(StoreSession *session, const RunInfo *run, const DefinitionInfo *def,
			  const char *parts, Oid caller)
{
	StringInfoData reason;
	BatchInfo	batch = {0};
	ArrayType  *end_key;
	EventInfo	event = {.kind = "replace", .role = GetUserNameFromId(caller, false)};

	initStringInfo(&reason);
	appendStringInfo(&reason, "other than before: %s", parts);
	if (!is_same_text(run->statement, def->statement))
		appendStringInfo(&reason, "\nstatement was: %s", run->statement ? run->statement : "none");
	if (!is_same_text(run->scope, def->scope))
		appendStringInfo(&reason, "\nscope was: %s", run->scope ? run->scope : "none");
	event.reason = reason.data;
	if (store_last_batch(session, run->id, 0, &batch.number, &end_key))
		event.batch = &batch;
	store_add_event(session, run, &event);
}

/* ---- the function ---- */

/*
 * The run, which is locked, has another copy now: see to it that it goes on with that,
 * or stays held.  Returns what comes of it.
 */
static const char *
go_on(StoreSession *session, RunInfo *run, Oid caller)
{
	if (run->status == RUN_FAILED || run->status == RUN_STOPPED)
		return control_resume(session, run, caller, "backfill_replace");
	if (run->status == RUN_PAUSED)
		return ": is paused, and will go on";
	if (run->status != RUN_RUNNING)
		return ": will begin";
	if (!run->is_requested)
		transition_request(session, run, RUN_ENQUEUED, false, GetUserNameFromId(caller, false),
						   "backfill_replace");
	return run->requested == RUN_ENQUEUED ? ": goes on after the batch in hand" :
		psprintf(": will be %s after the batch in hand, and then go on", status_name(run->requested));
}

/* Exchange the copy of the run, which is locked, and put it down.  Returns what comes of it. */
static const char *
exchange(StoreSession *session, RunInfo *run, const DefinitionInfo *def, Jsonb *values,
		 Jsonb *types, const char *parts, Oid caller)
{
	/* with other values it may be the like of another run */
	if (compareJsonbContainers(&run->parameters->root, &values->root) != 0)
		start_check_alone(session, run->name, run->owner, run->target, run->generic, values, run->settings,
						  run->after, run->id);
	note_replaced(session, run, def, parts, caller);
	store_replace_copy(session, run->id, def, values, types);
	page_set_source(session, run->id, &def->source);
	run->parameters = values;
	return go_on(session, run, caller);
}

/* backfill_replace(run) */
Datum
backfill_replace(PG_FUNCTION_ARGS)
{
	FindKey		key = find_key_arg(fcinfo);
	Oid			caller = GetUserId();
	StoreSession session;
	RunInfo    *run;
	DefinitionInfo *def;
	Jsonb	   *values;
	Jsonb	   *types;
	char	   *parts;
	const char *what;

	PreventCommandDuringRecovery("backfill_replace()");
	segment_require();

	/* what is the owner's is looked at as the owner, and before anything is locked */
	store_begin(&session);
	run = find_run(&session, &key, FIND_TO_CONTROL, caller, false);
	def = definition_get(&session, run->name);
	store_end(&session);
	definition_check_role(def->owner, "definition", quote_identifier(def->name));
	check_status(run);
	if (def->generic && run->generic)
		definition_take_target(def, run->target);
	else
		check_way(run, def);
	values = definition_bind(def, run->settings, run->parameters,
							 run->end_key && run->stages[STAGE_PREPARE].is_given, &types);

	/* the names of a generic one are known now */
	if (def->generic)
		check_way(run, def);

	key = (FindKey) {.id = run->id};
	store_begin(&session);
	run = find_run(&session, &key, FIND_TO_CONTROL, caller, true);
	check_status(run);
	parts = changed_parts(run, def, values);
	what = parts[0] == '\0' ? ": has the definition as it is now already" :
		psprintf("%s with another %s",
				 exchange(&session, run, def, values, types, parts, caller), parts);
	what = MemoryContextStrdup(session.caller, what);
	store_end(&session);
	wake_at_commit((WakeTarget) {run->owner, run->id});
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s%s", title_run(run->id, run->name, run->target),
											  what)));
}
