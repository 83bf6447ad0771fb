/*-------------------------------------------------------------------------
 *
 * hookname.c
 *	  The name of a hook's function, and the function of that name.
 *
 * A hook is kept by the schema and the name of its function, not by its OID:
 * pg_upgrade gives functions new ones.  The argument needs no keeping, it is
 * always our type backfill_event, and no schema has two such functions of one
 * name.  So a hook is lost when its function is renamed or moved.
 *
 * With a name comes the question whose function it is today: where the function
 * was dropped, or its schema renamed, somebody else may have made another one, and
 * the run's owner would call it.  Therefore the owner of the function is kept, too,
 * and one that belongs to anybody else is refused, unless that role could act as
 * the run's owner anyway.
 *
 * api/hooks.c adds hooks, engine/hook.c calls them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "definition/hookname.h"

/* Whether the function takes one argument of our type backfill_event. */
static bool
takes_event(Form_pg_proc form)
{
	Oid			type = form->pronargs == 1 ? form->proargtypes.values[0] : InvalidOid;

	return OidIsValid(type) && get_typtype(type) == TYPTYPE_COMPOSITE &&
		getExtensionOfObject(TypeRelationId, type) == get_extension_oid("backfill", true) &&
		strcmp(get_rel_name(get_typ_typrelid(type)), "backfill_event") == 0;
}

/* Whether the function can be a hook. */
static bool
is_fit(Form_pg_proc form)
{
	return form->prokind == PROKIND_FUNCTION && !form->proretset && takes_event(form);
}

/*
 * Put the name and the owner of the function into *hook.  Returns false if it can
 * be no hook, or if there is none with that OID.
 */
bool
hookname_read(HookInfo *hook, Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		ok = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

		hook->function_schema = get_namespace_name(form->pronamespace);
		hook->function_name = pstrdup(NameStr(form->proname));
		hook->function_owner = form->proowner;
		hook->function = function;
		ok = hook->function_schema != NULL && is_fit(form);
		ReleaseSysCache(tuple);
	}
	return ok;
}

/*
 * The owner of the function that was found the last time, or InvalidOid if it is
 * not the one of that name any more.
 */
static Oid
owner_of_found(const HookInfo *hook, Oid schema)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(hook->function));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

		if (form->pronamespace == schema &&
			strcmp(NameStr(form->proname), hook->function_name) == 0)
			owner = form->proowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/* Look for the function of that name.  Returns its owner, or InvalidOid. */
static Oid
find(HookInfo *hook, Oid schema)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP,
										   CStringGetDatum(hook->function_name));
	Oid			owner = InvalidOid;

	hook->function = InvalidOid;
	for (int i = 0; i < list->n_members && !OidIsValid(owner); i++)
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (form->pronamespace == schema && is_fit(form))
		{
			hook->function = form->oid;
			owner = form->proowner;
		}
	}
	ReleaseCatCacheList(list);
	return owner;
}

/*
 * The function that the hook is.  Raises an error if there is none, or if it is
 * another one than was meant.  What is found is remembered in *hook, and looked at
 * again each time.
 */
Oid
hookname_resolve(HookInfo *hook, Oid run_owner)
{
	Oid			schema;
	char	   *name = quote_qualified_identifier(hook->function_schema, hook->function_name);
	Oid			owner = InvalidOid;

	/* a batch may have taken long: what was dropped meanwhile is not called */
	AcceptInvalidationMessages();
	schema = get_namespace_oid(hook->function_schema, true);
	if (OidIsValid(schema) && OidIsValid(hook->function))
		owner = owner_of_found(hook, schema);
	if (OidIsValid(schema) && !OidIsValid(owner))
		owner = find(hook, schema);
	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("a hook of the backfill does not exist: function %s", name),
				 errdetail("There is no function of that name with an argument of the type backfill_event.  One that was renamed or moved is not followed."),
				 errhint("Remove the hook with backfill_off, and add what is called now with backfill_on; the view backfill_hooks shows it.")));
	if (owner != hook->function_owner && !compat_may_act_as(owner, run_owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a hook of the backfill has another owner: function %s", name),
				 errdetail("It belongs to role \"%s\", and not to the role it belonged to when it became a hook.",
						   GetUserNameFromId(owner, true)),
				 errhint("If it is the right one, call backfill_off and backfill_on again.")));
	pfree(name);
	return hook->function;
}
