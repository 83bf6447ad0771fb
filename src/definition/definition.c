/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  Definitions of backfills: found, checked, bound.
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

#include "base/compat.h"
#include "base/owner.h"
#include "definition/definition.h"
#include "definition/finish.h"
#include "settings/parameters.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "store/definition.h"
#include "store/store.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

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
 * error otherwise.  The caller is within a store session.
 */
DefinitionInfo *
definition_get(StoreSession *session, const char *name)
{
	DefinitionInfo *def = store_load_definition(session, name);

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

/* The walk of the definition's target under the settings, checked. */
static Walk *
check_walk(const DefinitionInfo *def, Jsonb *given)
{
	RunSettings settings;
	Walk	   *walk;

	settings_resolve(given, &settings);
	settings_check_together(given, def->scope);
	walk = walk_open(def->target, def->key, settings.direction == WALK_DESCENDING);
	key_check_bounds(walk, settings.from, settings.to);
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
