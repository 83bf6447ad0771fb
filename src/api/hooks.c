/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  The SQL functions that add and remove hooks.
 *
 * A hook for one definition may be added by whoever may replace the definition; one
 * for all runs, which would run as every owner, by a superuser.  What calls them is
 * engine/hook.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/limit.h"
#include "definition/definition.h"
#include "definition/hookname.h"
#include "shared/wake.h"
#include "store/definition.h"
#include "store/event.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_on);
PG_FUNCTION_INFO_V1(backfill_off);
PG_FUNCTION_INFO_V1(backfill_off_by_name);

/* The words of an event, such as "after run completed". */
static void
parse_event(const char *text, HookInfo *hook)
{
	static const char *const phases[] = {"before", "around", "after"};
	static const char *const run_statuses[] = {
		"pending", "enqueued", "running", "paused", "completed", "failed", "stopped", NULL
	};
	static const char *const batch_statuses[] = {
		"pending", "running", "completed", "failed", "stopped", NULL
	};
	char	   *words[4] = {NULL};
	int			n = 0;
	bool		ok = false;
	char	   *copy = pstrdup(text);
	const char *const *statuses;

	for (char *word = strtok(copy, " _\t\n"); word && n < 4; word = strtok(NULL, " _\t\n"))
		words[n++] = asc_tolower(word, strlen(word));
	if (n == 3)
	{
		for (int i = 0; i < lengthof(phases); i++)
			ok = ok || strcmp(words[0], phases[i]) == 0;
		ok = ok && (strcmp(words[1], "run") == 0 || strcmp(words[1], "batch") == 0);
	}
	if (ok)
	{
		statuses = strcmp(words[1], "run") == 0 ? run_statuses : batch_statuses;
		ok = false;
		for (; *statuses; statuses++)
			ok = ok || strcmp(words[2], *statuses) == 0;
	}
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized backfill event \"%s\"", text),
				 errdetail("An event is \"before\", \"around\" or \"after\", then \"run\" or \"batch\", then the status that it changes to. A batch is never \"enqueued\" or \"paused\"."),
				 errhint("Write for example \"after run completed\".")));
	hook->phase = words[0];
	hook->object = words[1];
	hook->status = words[2];
}

/* Raises an error unless the function can be a hook, and the caller may call it. */
static void
check_function(HookInfo *hook, Oid function)
{
	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	if (!hookname_read(hook, function))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s cannot be a hook", format_procedure(function)),
				 errdetail("A hook is a function of one argument of the type backfill_event that returns no set.")));
	if (!compat_may_execute(function, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
}

/*
 * Raises an error unless the caller may add hooks there.  Returns the owner of the
 * runs that they are for, InvalidOid for all.
 */
static Oid
check_right(const char *name)
{
	StoreSession session;
	DefinitionInfo *def;

	if (name == NULL)
	{
		if (!superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for hooks of all backfills"),
					 errdetail("They are run by the owners of all runs, with their rights: only superusers may have them."),
					 errhint("Name the definition that the hook is for.")));
		return InvalidOid;
	}
	store_begin(&session);
	def = definition_get(&session, name);
	store_end(&session);
	definition_check_replace(def);
	return def->owner;
}

/*
 * The arguments of backfill_on and backfill_off, checked but for the function;
 * *owner as above.
 */
static char *
read_arguments(FunctionCallInfo fcinfo, HookInfo *hook, Oid *owner)
{
	char	   *name = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the event and the hook cannot be null")));
	parse_event(text_to_cstring(PG_GETARG_TEXT_PP(0)), hook);
	*owner = check_right(name);
	return name;
}

/* backfill_on(event, hook, name) */
Datum
backfill_on(PG_FUNCTION_ARGS)
{
	StoreSession session;
	HookInfo	hook = {0};
	char	   *name;
	Oid			caller = GetUserId();
	Oid			owner;

	PreventCommandDuringRecovery("backfill_on()");
	name = read_arguments(fcinfo, &hook, &owner);
	check_function(&hook, PG_GETARG_OID(1));
	store_begin(&session);
	if (name && !store_lock_definition(&session, name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill definition \"%s\" does not exist", name)));
	if (!store_add_hook(&session, &hook, name, caller))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("function %s is a hook for that event already",
						format_procedure(hook.callee.function))));
	limit_check_number(name ? "hooks of a backfill definition" : "hooks of all backfills",
					   store_count_hooks(&session, name), LIMIT_HOOKS);
	store_end(&session);
	wake_at_commit((WakeTarget) {owner, 0});
	PG_RETURN_VOID();
}

/*
 * Delete the hook whose function is in the first of these schemas that has one.
 * The function itself need not be there any more.
 */
static void
delete_hook(HookInfo *hook, const char *name, Oid owner, List *schemas)
{
	StoreSession session;
	ListCell   *lc;
	bool		done = false;

	store_begin(&session);
	foreach(lc, schemas)
	{
		hook->callee.schema = lfirst(lc);
		done = done || store_delete_hook(&session, hook, name);
	}
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no such hook of a backfill"),
				 errhint("The view backfill_hooks shows the hooks.")));
	store_end(&session);
	wake_at_commit((WakeTarget) {owner, 0});
}

/* backfill_off(event, hook regproc, name) */
Datum
backfill_off(PG_FUNCTION_ARGS)
{
	HookInfo	hook = {0};
	char	   *name;
	Oid			owner;
	List	   *schemas = NIL;

	PreventCommandDuringRecovery("backfill_off()");
	name = read_arguments(fcinfo, &hook, &owner);
	if (hookname_read(&hook, PG_GETARG_OID(1)))
		schemas = list_make1(hook.callee.schema);
	delete_hook(&hook, name, owner, schemas);
	PG_RETURN_VOID();
}

/* backfill_off(event, hook text, name): the name as the view backfill_hooks has it */
Datum
backfill_off_by_name(PG_FUNCTION_ARGS)
{
	HookInfo	hook = {0};
	char	   *name;
	Oid			owner;
	char	   *schema;
	List	   *schemas = NIL;
	ListCell   *lc;

	PreventCommandDuringRecovery("backfill_off()");
	name = read_arguments(fcinfo, &hook, &owner);
	DeconstructQualifiedName(textToQualifiedNameList(PG_GETARG_TEXT_PP(1)), &schema,
							 &hook.callee.name);
	if (schema)
		schemas = list_make1(schema);
	else
	{
		foreach(lc, fetch_search_path(true))
		{
			schema = get_namespace_name(lfirst_oid(lc));
			if (schema)
				schemas = lappend(schemas, schema);
		}
	}
	delete_hook(&hook, name, owner, schemas);
	PG_RETURN_VOID();
}
