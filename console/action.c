/*-------------------------------------------------------------------------
 *
 * action.c
 *	  What a visitor can have done: one function of the extension each.
 *
 * Each text takes the fields of the form as one JSON object, @, and returns one
 * row with one column, JSON.  The functions decide who may, and their errors are
 * shown as they are.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "action.h"

/* An empty field is one that was not filled in. */
#define FIELD(name) "nullif(@->>'" name "', '')"
#define ID "(" FIELD("id") ")::bigint"

/* Why it is done goes into the events, see backfill.note; the condition is always true. */
#define NOTED " WHERE set_config('backfill.note', left(coalesce(@->>'note', ''), 500), true) IS NOT NULL"

#define ONE_RUN(function) \
static const char * \
sql_##function(const DatabaseFacts *facts) \
{ \
	(void) facts; \
	return "SELECT to_jsonb(backfill_" #function "(" ID "))" NOTED; \
}

#define OTHER(name, text) \
static const char * \
sql_##name(const DatabaseFacts *facts) \
{ \
	(void) facts; \
	return text; \
}

ONE_RUN(pause)
ONE_RUN(resume)
ONE_RUN(stop)
ONE_RUN(retry)
ONE_RUN(verify)
ONE_RUN(replace)
ONE_RUN(delete)

OTHER(stop_now, "SELECT to_jsonb(backfill_stop(" ID ", immediate => true))" NOTED)

OTHER(stop_all, "SELECT coalesce(jsonb_agg(s), '[]') FROM "
	  "backfill_stop_all(coalesce((" FIELD("immediate") ")::boolean, false)) s")

OTHER(alter, "SELECT to_jsonb(backfill_alter(" ID ", settings => (" FIELD("settings") ")::jsonb))")

OTHER(start, "SELECT to_jsonb(backfill_start(" FIELD("name") ", "
	  "parameters => (" FIELD("parameters") ")::jsonb, settings => (" FIELD("settings") ")::jsonb, "
	  "start_at => (" FIELD("start_at") ")::timestamptz, target => (" FIELD("target") ")::regclass, "
	  "paused => coalesce((" FIELD("paused") ")::boolean, false)))" NOTED)

/* The settings that the run does not have from its definition go along. */
OTHER(clone, "SELECT to_jsonb(backfill_start(r.name, parameters => r.parameters, "
	  "settings => (SELECT jsonb_object_agg(s.key, s.value) FROM jsonb_each(r.settings) s "
	  "WHERE d.settings->s.key IS DISTINCT FROM s.value), "
	  "target => CASE WHEN d.generic THEN r.target END)) "
	  "FROM backfill_runs r JOIN backfill_definitions d ON d.name = r.name WHERE r.id = " ID)

OTHER(schedule, "SELECT to_jsonb(backfill_schedule(" FIELD("name") ", " FIELD("cron") ", "
	  "parameters => (" FIELD("parameters") ")::jsonb, settings => (" FIELD("settings") ")::jsonb, "
	  "target => (" FIELD("target") ")::regclass))")

OTHER(unschedule, "SELECT to_jsonb(backfill_unschedule(" FIELD("name") ", target => " FIELD("target") "))")

OTHER(preview, "SELECT jsonb_build_object('rows', coalesce(jsonb_agg(to_jsonb(p)), '[]')) FROM backfill_preview(" FIELD("name") ", "
	  "parameters => (" FIELD("parameters") ")::jsonb, "
	  "rows => least(coalesce((" FIELD("rows") ")::integer, 5), 100), target => (" FIELD("target") ")::regclass) p")

static const Action actions[] = {
	{"pause", "id", true, sql_pause},
	{"resume", "id", true, sql_resume},
	{"stop", "id", true, sql_stop},
	{"stop_now", "id", true, sql_stop_now},
	{"retry", "id", true, sql_retry},
	{"verify", "id", true, sql_verify},
	{"replace", "id", true, sql_replace},
	{"delete", "id", true, sql_delete},
	{"stop_all", NULL, true, sql_stop_all},
	{"alter", "id", true, sql_alter},
	{"start", "name", true, sql_start},
	{"clone", "id", true, sql_clone},
	{"schedule", "name", true, sql_schedule},
	{"unschedule", "name", true, sql_unschedule}
};

static const Action preview = {"preview", "name", false, sql_preview};

/* The action of that name, or NULL. */
const Action *
action_find(const char *name)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
	{
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	}
	return NULL;
}

/* The preview, which runs code and leaves nothing behind. */
const Action *
action_preview(void)
{
	return &preview;
}
