/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  Definitions of backfills: create, replace, drop.
 *
 * A definition is checked as a whole before anything of it is stored: the key,
 * the settings, the statement and the scope are parsed, analysed and planned,
 * and the executor is asked whether the owner has the rights, so that mistakes
 * show where the user made them and not at night in a worker.
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

#include "catalog.h"
#include "compat.h"
#include "definition.h"
#include "depend.h"
#include "finish.h"
#include "owner.h"
#include "parameters.h"
#include "settings.h"
#include "statement.h"
#include "walk.h"

PG_FUNCTION_INFO_V1(backfill_define);
PG_FUNCTION_INFO_V1(backfill_drop);

/* Raises an error unless the current user has the rights of the owner. */
void
definition_check_role(Oid owner, const char *kind, const char *name)
{
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for backfill %s %s", kind, name),
				 errdetail("Only roles that have the rights of its owner may use it.")));
}

/* Raises an error unless the current user may have the owner run his code. */
void
definition_check_replace(const DefinitionInfo *def)
{
	definition_check_role(def->owner, "definition", quote_identifier(def->name));
	if (!compat_may_act_as(GetUserId(), def->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to replace backfill definition %s",
						quote_identifier(def->name)),
				 errdetail("Only roles that may SET ROLE to its owner may replace it.")));
}

/*
 * The definition with that name, which the current user may use.  Raises an
 * error otherwise.  The caller is within a catalog session.
 */
DefinitionInfo *
definition_get(CatalogSession *session, const char *name)
{
	DefinitionInfo *def = catalog_load_definition(session, name);

	if (def == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill definition \"%s\" does not exist", name),
				 errhint("The view backfill_definitions shows the definitions you may use.")));
	return def;
}

/* The first argument of an SQL function, the name of a definition. */
char *
definition_name_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of a backfill definition cannot be null")));
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
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

/* The walk of the definition's target under the settings, checked. */
static Walk *
check_walk(const DefinitionInfo *def, Jsonb *given)
{
	RunSettings settings;
	Walk	   *walk;

	settings_resolve(given, &settings);
	settings_check_together(given, def->scope);
	walk = walk_open(def->target, def->key, settings.direction == WALK_DESCENDING);
	walk_check_bounds(walk, &settings);
	return walk;
}

/*
 * Check everything of the definition: the walk, the parameters, the statement,
 * which is parsed, analysed and planned; all as the owner, whoever calls.  What
 * is made is in the memory of the function call and goes away with it.
 */
void
definition_check(const DefinitionInfo *def)
{
	OwnerSession session;
	Walk	   *walk;
	Parameters *parameters;

	owner_begin(&session, def->owner, def->search_path);
	walk = check_walk(def, def->settings);
	parameters_check(def->parameters);
	parameters = parameters_load(def->parameters, NULL, NULL);
	statement_check(statement_prepare(def->statement, walk, def->scope, parameters, false));
	if (def->finish)
		(void) finish_parse(def->finish);
	owner_end(&session);
}

/*
 * For a run of the definition under the settings: check what would fail at
 * once in a worker, and return the values of the parameters, checked; their
 * types go to *types.  As the owner, whoever calls.
 */
Jsonb *
definition_bind(const DefinitionInfo *def, Jsonb *settings, Jsonb *parameters,
				Jsonb **types)
{
	OwnerSession session;
	Jsonb	   *values;

	owner_begin(&session, def->owner, def->search_path);
	(void) check_walk(def, settings);
	values = parameters_bind(def->parameters, parameters);
	*types = parameters_types(def->parameters);
	owner_end(&session);
	return values;
}

/*
 * backfill_define(name, target, statement, scope, key, direction, parameters,
 *				   settings, description, finish, then)
 *
 * A definition that exists keeps its owner, as CREATE OR REPLACE does.
 */
Datum
backfill_define(PG_FUNCTION_ARGS)
{
	DefinitionInfo def = {0};
	DefinitionInfo *existing;
	CatalogSession session;

	def.name = text_arg(fcinfo, 0);
	check_name(def.name);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the target of a backfill cannot be null")));
	def.target = PG_GETARG_OID(1);
	def.statement = text_arg(fcinfo, 2);
	if (def.statement == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the statement of a backfill cannot be null")));
	def.scope = text_arg(fcinfo, 3);
	def.key = text_arg(fcinfo, 4);
	def.parameters = PG_ARGISNULL(6) ? settings_merge(NULL, NULL) : PG_GETARG_JSONB_P(6);
	def.settings = collect_settings(PG_ARGISNULL(7) ? NULL : PG_GETARG_JSONB_P(7),
									text_arg(fcinfo, 5));
	def.description = text_arg(fcinfo, 8);
	def.finish = text_arg(fcinfo, 9);
	def.then = PG_ARGISNULL(10) ? NULL : PG_GETARG_JSONB_P(10);
	def.search_path = pstrdup(namespace_search_path);
	def.owner = GetUserId();

	PreventCommandDuringRecovery("backfill_define()");
	catalog_begin(&session);
	existing = catalog_load_definition(&session, def.name);
	catalog_end(&session);
	if (existing)
	{
		definition_check_replace(existing);
		def.owner = existing->owner;
	}

	definition_check(&def);
	if (def.then)
		depend_check_then(def.then, def.name);

	catalog_begin(&session);
	catalog_store_definition(&session, &def);
	catalog_end(&session);
	PG_RETURN_VOID();
}

/* backfill_drop(name) */
Datum
backfill_drop(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CatalogSession session;
	DefinitionInfo *def;
	int64		active;

	PreventCommandDuringRecovery("backfill_drop()");
	catalog_begin(&session);
	def = definition_get(&session, name);
	catalog_end(&session);
	definition_check_role(def->owner, "definition", quote_identifier(name));

	catalog_begin(&session);
	active = catalog_find_active_run(&session, name);
	if (active != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot drop backfill definition \"%s\": run " INT64_FORMAT " is active",
						name, active),
				 errhint("Stop the run first: SELECT backfill_stop(" INT64_FORMAT ").", active)));
	catalog_delete_definition(&session, name);
	catalog_end(&session);
	PG_RETURN_VOID();
}
