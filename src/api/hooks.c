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

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "definition/definition.h"
#include "shared/wake.h"
#include "store/definition.h"
#include "store/event.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_on);
PG_FUNCTION_INFO_V1(backfill_off);

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

/* Raises an error unless the function can be a hook. */
static void
check_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	Oid			type;
	bool		ok;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	type = form->pronargs == 1 ? form->proargtypes.values[0] : InvalidOid;
	ok = form->prokind == PROKIND_FUNCTION && !form->proretset && OidIsValid(type) &&
		get_typtype(type) == TYPTYPE_COMPOSITE &&
		getExtensionOfObject(TypeRelationId, type) == get_extension_oid("backfill", true) &&
		strcmp(get_rel_name(get_typ_typrelid(type)), "backfill_event") == 0;
	ReleaseSysCache(tuple);
	if (!ok)
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
	hook->function = PG_GETARG_OID(1);
	*owner = check_right(name);
	return name;
}

/* backfill_on(event, hook, name) */
Datum
backfill_on(PG_FUNCTION_ARGS)
{
	StoreSession session;
	HookInfo	hook;
	char	   *name;
	Oid			caller = GetUserId();
	Oid			owner;

	PreventCommandDuringRecovery("backfill_on()");
	name = read_arguments(fcinfo, &hook, &owner);
	check_function(hook.function);
	store_begin(&session);
	if (name && !store_lock_definition(&session, name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill definition \"%s\" does not exist", name)));
	if (!store_add_hook(&session, &hook, name, caller))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("function %s is a hook for that event already",
						format_procedure(hook.function))));
	store_end(&session);
	wake_at_commit((WakeTarget) {owner, 0});
	PG_RETURN_VOID();
}

/* backfill_off(event, hook, name) */
Datum
backfill_off(PG_FUNCTION_ARGS)
{
	StoreSession session;
	HookInfo	hook;
	char	   *name;
	Oid			owner;

	PreventCommandDuringRecovery("backfill_off()");
	name = read_arguments(fcinfo, &hook, &owner);
	store_begin(&session);
	if (!store_delete_hook(&session, &hook, name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no such hook of a backfill"),
				 errhint("The view backfill_hooks shows the hooks.")));
	store_end(&session);
	wake_at_commit((WakeTarget) {owner, 0});
	PG_RETURN_VOID();
}
