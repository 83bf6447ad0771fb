/*-------------------------------------------------------------------------
 *
 * alter.c
 *	  The SQL function that changes a run which is there.
 *
 * Its settings hold from the next batch of each worker.  Its last step, "finish", can
 * be replaced as long as nobody is at it; it begins anew then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/compat.h"
#include "base/limit.h"
#include "base/localcommit.h"
#include "definition/definition.h"
#include "run/find.h"
#include "run/title.h"
#include "settings/settings.h"
#include "shared/segment.h"
#include "shared/wake.h"
#include "store/copy.h"
#include "store/event.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

/* So many bytes of a value are shown. */
#define SHOWN_VALUE			60

PG_FUNCTION_INFO_V1(backfill_alter);

/* What backfill_alter was asked for; NULL where it was not. */
typedef struct Change
{
	FindKey		key;
	Jsonb	   *settings;
	char	   *finish;
} Change;

/* ---- what is said of it ---- */

/* The value of a setting as it is shown, NULL if the object has none. */
static char *
shown_value(Jsonb *object, const char *name)
{
	JsonbValue	value;
	StringInfoData text;
	int			shown;

	if (getKeyJsonValueFromContainer(&object->root, name, strlen(name), &value) == NULL)
		return NULL;
	initStringInfo(&text);
	if (value.type == jbvString)
		appendBinaryStringInfo(&text, value.val.string.val, value.val.string.len);
	else
	{
		Jsonb	   *json = JsonbValueToJsonb(&value);

		(void) JsonbToCString(&text, &json->root, VARSIZE(json));
	}
	shown = pg_mbcliplen(text.data, text.len, SHOWN_VALUE);
	if (shown == text.len)
		return text.data;
	return psprintf("%.*s...", shown, text.data);
}

/* Say which settings are others now, in the order in which jsonb keeps them. */
static void
say_settings(StringInfo line, Jsonb *given, Jsonb *before, Jsonb *after)
{
	JsonbIterator *it = JsonbIteratorInit(&given->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	int			n = 0;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *name;
		char	   *from;
		char	   *to;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(v.val.string.val, v.val.string.len);
		from = shown_value(before, name);
		to = shown_value(after, name);
		if (from == to || (from && to && strcmp(from, to) == 0))
			continue;
		appendStringInfo(line, "%s%s %s -> %s", n++ == 0 ? ": settings changed: " : ", ", name,
						 from ? from : "default", to ? to : "default");
	}
	if (n == 0)
		appendStringInfoString(line, ": settings are as they were");
}

/* ---- the function ---- */

/* Raises an error unless the run can be changed in that way. */
static void
check_status(const RunInfo *run, const Change *change)
{
	if (run->status == RUN_COMPLETED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change %s of run " INT64_FORMAT ", which is \"%s\"",
						change->settings ? "the settings" : "\"finish\"",
						run->id, status_name(run->status)),
				 errhint("Start another run with %s.",
						 change->settings ? "the settings" : "a definition that has it")));

	/* a statement in hand would be counted as one of the new ones */
	if (change->finish && run->is_local && run->status == RUN_RUNNING &&
		((run->is_requested && run->requested == RUN_COMPLETED) ||
		 (run->closings > 0 && !store_stage_is_left(run, STAGE_PREPARE))))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot replace \"finish\" of run " INT64_FORMAT ", which is finishing",
						run->id),
				 errhint("Stop the run first: SELECT backfill_stop(" INT64_FORMAT ").", run->id)));
}

/* Change the settings of the run, and put it down. */
static void
change_settings(StoreSession *session, RunInfo *run, Jsonb *given, Jsonb *merged, Oid caller)
{
	EventInfo	event = {
		.kind = "settings",
		.role = GetUserNameFromId(caller, false),
		.reason = JsonbToCString(NULL, &given->root, VARSIZE(given))
	};

	store_set_settings(session, run->id, merged);
	store_add_event(session, run, &event);
}

/* Replace the last step of the run, and put it down. */
static void
change_finish(StoreSession *session, RunInfo *run, const char *finish, Oid caller)
{
	EventInfo	event = {
		.kind = "finish",
		.role = GetUserNameFromId(caller, false),
		.reason = finish ? "replaced by backfill_alter" : "left out by backfill_alter"
	};

	store_set_finish(session, run->id, finish);
	store_add_event(session, run, &event);
}

static Change
read_arguments(FunctionCallInfo fcinfo)
{
	Change		change = {{0}};

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the id of a backfill run cannot be null")));
	change.key = find_key_arg(fcinfo);
	if (!PG_ARGISNULL(1))
		change.settings = PG_GETARG_JSONB_P(1);
	if (!PG_ARGISNULL(2))
	{
		text	   *finish = PG_GETARG_TEXT_PP(2);

		limit_check_bytes("\"finish\" of a backfill", VARSIZE_ANY_EXHDR(finish), LIMIT_TEXT);
		change.finish = text_to_cstring(finish);
	}
	if (change.settings == NULL && change.finish == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("neither settings nor \"finish\" of a backfill run are given"),
				 errhint("Write for example backfill_alter(1, '{\"sleep\": 0}').")));
	if (change.settings)
		settings_check_alterable(change.settings);
	return change;
}

/* backfill_alter(run, settings, finish) */
Datum
backfill_alter(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	Change		change;
	StoreSession session;
	bool		ours;
	RunInfo    *run;
	Jsonb	   *merged = NULL;
	bool		has_statements = false;
	StringInfoData line;

	segment_require();
	change = read_arguments(fcinfo);
	PreventCommandDuringRecovery("backfill_alter()");

	/* what is the owner's is looked at as the owner, and before anything is locked */
	store_begin(&session);
	run = find_run(&session, &change.key, FIND_TO_CONTROL, caller, false);
	store_end(&session);
	check_status(run, &change);
	change.key = (FindKey) {.id = run->id};
	has_statements = definition_check_change(run->owner, run->search_path, change.settings,
											 change.finish);
	definition_check_repair(run, change.settings);

	ours = localcommit_begin();
	store_begin(&session);
	run = find_run(&session, &change.key, FIND_TO_CONTROL, caller, true);
	check_status(run, &change);
	if (change.settings)
	{
		MemoryContext old = MemoryContextSwitchTo(session.caller);

		merged = settings_merge(run->settings, change.settings);
		settings_check_together(merged, run->scope);
		MemoryContextSwitchTo(old);
		change_settings(&session, run, change.settings, merged, caller);
	}
	if (change.finish)
		change_finish(&session, run, has_statements ? change.finish : NULL, caller);
	store_end(&session);
	localcommit_end(ours);
	wake_at_commit((WakeTarget) {run->owner, run->id});

	initStringInfo(&line);
	appendStringInfoString(&line, title_run(run->id, run->name, run->target));
	if (change.settings)
		say_settings(&line, change.settings, run->settings, merged);
	if (change.finish)
		appendStringInfo(&line, "%s finish is %s", change.settings ? ";" : ":",
						 has_statements ? "replaced, and begins at its first statement" : "left out");
	PG_RETURN_TEXT_P(cstring_to_text(line.data));
}
