/*-------------------------------------------------------------------------
 *
 * define.c
 *	  The SQL functions that create, replace and drop definitions.
 *
 * They read and check the arguments; what makes a definition sound is
 * definition/definition.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/limit.h"
#include "definition/definition.h"
#include "definition/followers.h"
#include "definition/source.h"
#include "run/title.h"
#include "settings/settings.h"
#include "store/definition.h"
#include "store/find.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_define);
PG_FUNCTION_INFO_V1(backfill_drop);

/* A text argument, within the limit; "what" names it in the error. */
static char *
text_arg(FunctionCallInfo fcinfo, int n, const char *what)
{
	text	   *value;

	if (PG_ARGISNULL(n))
		return NULL;
	value = PG_GETARG_TEXT_PP(n);
	limit_check_bytes(what, VARSIZE_ANY_EXHDR(value), LIMIT_TEXT);
	return text_to_cstring(value);
}

/* A jsonb argument, likewise. */
static Jsonb *
jsonb_arg(FunctionCallInfo fcinfo, int n, const char *what)
{
	Jsonb	   *value;

	if (PG_ARGISNULL(n))
		return NULL;
	value = PG_GETARG_JSONB_P(n);
	limit_check_bytes(what, VARSIZE(value), LIMIT_TEXT);
	return value;
}

/* The target: none of a generic definition, and a table of any other. */
static Oid
target_arg(FunctionCallInfo fcinfo, bool generic)
{
	if (generic && !PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a generic backfill cannot have a target of its own"),
				 errdetail("Each run is given one."),
				 errhint("Define it with the target null.")));
	if (!generic && PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the target of a backfill cannot be null"),
				 errhint("Unless it is \"generic\": then each run is given one.")));
	return generic ? InvalidOid : PG_GETARG_OID(1);
}

static void
check_name(const char *name)
{
	if (name == NULL || name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("the name of a backfill definition cannot be empty"),
				 errhint("Give the definition a name to start it by.")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of a backfill definition is too long"),
				 errdetail("The limit is %d bytes.", NAMEDATALEN - 1),
				 errhint("Choose a shorter name and put the rest into the description.")));
}

/* The settings given, with the argument direction among them. */
static Jsonb *
collect_settings(Jsonb *given, const char *direction)
{
	Jsonb	   *settings;
	char	   *inner;

	if (given)
		settings_check(given);
	settings = settings_merge(NULL, given);
	if (direction == NULL)
		return settings;
	inner = settings_text(settings, "direction");
	if (inner && pg_strcasecmp(inner, direction) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("direction is given twice: \"%s\" and \"%s\"", direction, inner),
				 errhint("Give it as an argument or as a setting.")));
	settings = settings_with(settings, "direction", direction);
	settings_check(settings);
	return settings;
}

/*
 * Say what becomes of a definition that is replaced: a name that was taken for
 * something else may have been a mistake.
 */
static void
say_replaced(const DefinitionInfo *before, const DefinitionInfo *now)
{
	const char *given = "the table that a run is given";

	if (before->owner != GetUserId())
		ereport(NOTICE,
				(errmsg("definition \"%s\" replaces the one of role %s", now->name,
						quote_identifier(GetUserNameFromId(before->owner, false))),
				 errdetail("It stays that role's, and runs with its rights.")));
	if (before->target != now->target)
		ereport(NOTICE,
				(errmsg("definition \"%s\" now walks %s%s instead of %s", now->name,
						now->generic ? "" : "table ", now->generic ? given : title_table(now->target),
						before->generic ? given : title_table(before->target)),
				 errdetail("Runs that are there go on as they began.")));
}

/* The source and its check, looked up as the caller; what goes with them is checked later. */
static void
read_source(FunctionCallInfo fcinfo, DefinitionInfo *def)
{
	char	   *source = text_arg(fcinfo, 14, "the source of a backfill");
	char	   *check = text_arg(fcinfo, 15, "the source check of a backfill");

	if (source)
		source_find(&def->source, source, check, get_func_namespace(fcinfo->flinfo->fn_oid));
	else
		def->source.check = check;
}

/*
 * backfill_define(name, target, statement, scope, key, direction, parameters,
 *				   settings, description, finish, followers, prepare, generic, streams,
 *				   source, source_check, check_now)
 *
 * A definition that exists keeps its owner, as CREATE OR REPLACE does.
 */
Datum
backfill_define(PG_FUNCTION_ARGS)
{
	DefinitionInfo def = {0};
	DefinitionInfo *existing;
	StoreSession session;

	def.name = text_arg(fcinfo, 0, "the name of a backfill definition");
	check_name(def.name);
	def.generic = !PG_ARGISNULL(12) && PG_GETARG_BOOL(12);
	def.target = target_arg(fcinfo, def.generic);
	def.statement = text_arg(fcinfo, 2, "the statement of a backfill");
	def.scope = text_arg(fcinfo, 3, "the scope of a backfill");
	def.key = text_arg(fcinfo, 4, "the key of a backfill");
	def.parameters = jsonb_arg(fcinfo, 6, "the declaration of parameters of a backfill");
	if (def.parameters == NULL)
		def.parameters = settings_merge(NULL, NULL);
	def.settings = collect_settings(PG_ARGISNULL(7) ? NULL : PG_GETARG_JSONB_P(7),
									text_arg(fcinfo, 5, "the direction of a backfill"));
	def.description = text_arg(fcinfo, 8, "the description of a backfill");
	def.stages[STAGE_FINISH] = text_arg(fcinfo, 9, "\"finish\" of a backfill");
	def.followers = jsonb_arg(fcinfo, 10, "\"followers\" of a backfill");
	def.stages[STAGE_PREPARE] = text_arg(fcinfo, 11, "\"prepare\" of a backfill");
	def.streams = text_arg(fcinfo, 13, "\"streams\" of a backfill");
	read_source(fcinfo, &def);
	def.search_path = pstrdup(namespace_search_path);
	limit_check_bytes("the search_path of a backfill", strlen(def.search_path), LIMIT_TEXT);
	def.owner = GetUserId();

	PreventCommandDuringRecovery("backfill_define()");
	store_begin(&session);
	existing = store_load_definition(&session, def.name);
	store_end(&session);
	if (existing)
	{
		definition_check_replace(existing);
		def.owner = existing->owner;
	}

	definition_check(&def);
	if (!PG_ARGISNULL(16) && PG_GETARG_BOOL(16))
		definition_check_source(&def);
	if (def.followers)
		def.followers = followers_check(&def);

	store_begin(&session);
	store_put_definition(&session, &def);
	store_end(&session);
	if (existing)
		say_replaced(existing, &def);
	PG_RETURN_VOID();
}

/* backfill_drop(name) */
Datum
backfill_drop(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	StoreSession session;
	DefinitionInfo *def;
	int64		active;

	PreventCommandDuringRecovery("backfill_drop()");
	store_begin(&session);
	def = definition_get(&session, name);
	store_end(&session);
	definition_check_role(def->owner, "definition", quote_identifier(name));

	store_begin(&session);
	active = store_find_active_run(&session, name);
	if (active != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot drop backfill definition \"%s\": run " INT64_FORMAT " is active",
						name, active),
				 errhint("Stop the run first: SELECT backfill_stop(" INT64_FORMAT ").", active)));
	store_delete_definition(&session, name);
	store_end(&session);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("definition \"%s\" is dropped", name)));
}
