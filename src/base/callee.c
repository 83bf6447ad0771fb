/*-------------------------------------------------------------------------
 *
 * callee.c
 *	  A function of the user's, kept by its name.
 *
 * A function that is to be called later is kept by its schema and its name, not
 * by its OID: pg_upgrade gives functions new ones.  Its arguments need no keeping:
 * one of them is always a type of ours, and no schema has two such functions of one
 * name.  So it is lost when it is renamed or moved.
 *
 * With a name comes the question whose function it is today: where the function
 * was dropped, or its schema renamed, somebody else may have made another one, and
 * the run's owner would call it.  Therefore the owner of the function is kept, too,
 * and one that belongs to anybody else is refused, unless that role could act as
 * the run's owner anyway.
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

#include "base/callee.h"
#include "base/compat.h"

/* Whether the type is the composite type of that name that the extension has made. */
bool
callee_is_event(Oid type, const char *name)
{
	return OidIsValid(type) && get_typtype(type) == TYPTYPE_COMPOSITE &&
		getExtensionOfObject(TypeRelationId, type) == get_extension_oid("backfill", true) &&
		strcmp(get_rel_name(get_typ_typrelid(type)), name) == 0;
}

/*
 * Put the name and the owner of the function into *callee.  Returns false if it cannot
 * be of the kind, or if there is none with that OID.
 */
bool
callee_read(Callee *callee, Oid function, const CalleeKind *kind)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		ok = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

		callee->schema = get_namespace_name(form->pronamespace);
		callee->name = pstrdup(NameStr(form->proname));
		callee->owner = form->proowner;
		callee->function = function;
		ok = callee->schema != NULL && kind->fit(form);
		ReleaseSysCache(tuple);
	}
	return ok;
}

/*
 * The owner of the function that was found the last time, or InvalidOid if it is
 * not the one of that name any more.
 */
static Oid
owner_of_found(const Callee *callee, Oid schema)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(callee->function));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

		if (form->pronamespace == schema &&
			strcmp(NameStr(form->proname), callee->name) == 0)
			owner = form->proowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/* Look for the function of that name.  Returns its owner, or InvalidOid. */
static Oid
find(Callee *callee, Oid schema, const CalleeKind *kind)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP,
										   CStringGetDatum(callee->name));
	Oid			owner = InvalidOid;

	callee->function = InvalidOid;
	for (int i = 0; i < list->n_members && !OidIsValid(owner); i++)
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (form->pronamespace == schema && kind->fit(form))
		{
			callee->function = form->oid;
			owner = form->proowner;
		}
	}
	ReleaseCatCacheList(list);
	return owner;
}

/*
 * The function, which is to be of that kind.  Raises an error if there is none, or if it is
 * another one than was meant.  What is found is remembered in *callee, and looked at
 * again each time.
 */
Oid
callee_resolve(Callee *callee, Oid run_owner, const CalleeKind *kind)
{
	Oid			schema;
	char	   *name = quote_qualified_identifier(callee->schema, callee->name);
	Oid			owner = InvalidOid;

	/* a batch may have taken long: what was dropped meanwhile is not called */
	AcceptInvalidationMessages();
	schema = get_namespace_oid(callee->schema, true);
	if (OidIsValid(schema) && OidIsValid(callee->function))
		owner = owner_of_found(callee, schema);
	if (OidIsValid(schema) && !OidIsValid(owner))
		owner = find(callee, schema, kind);
	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("a %s of the backfill does not exist: function %s", kind->what, name),
				 errdetail("There is no function of that name with %s.  One that was renamed or moved is not followed.",
						   kind->takes),
				 errhint("%s", kind->gone_hint)));
	if (owner != callee->owner && !compat_may_act_as(owner, run_owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a %s of the backfill has another owner: function %s", kind->what, name),
				 errdetail("It belongs to role \"%s\", and not to the role it belonged to when it became a %s.",
						   GetUserNameFromId(owner, true), kind->what),
				 errhint("%s", kind->owner_hint)));
	pfree(name);
	return callee->function;
}
