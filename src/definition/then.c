/*-------------------------------------------------------------------------
 *
 * then.c
 *	  What follows a run, as a definition declares it.
 *
 * A definition may name others in "then": when a run of it is completed, runs of
 * those are started.  Here the declaration is checked; what starts them is
 * run/follow.c.  A definition cannot lead to itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/limit.h"
#include "definition/then.h"
#include "settings/settings.h"
#include "store/definition.h"
#include "store/store.h"

compat_noreturn static void
bad_then(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid \"then\" of a backfill definition"),
			 errdetail_internal("%s", detail),
			 errhint("Write for example '[{\"name\": \"second\", \"parameters\": {\"department\": {\"from\": \"params.department\"}}}]'.")));
}

/* A member of the object, or NULL. */
JsonbValue *
then_member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

bool
then_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* Check one follower: its name, and the forms of what it is given. */
static void
check_follower(JsonbValue *follower)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	JsonbValue *name;
	char	   *key = NULL;

	if (!then_is_object(follower))
		bad_then("Each element must be an object.");
	name = then_member(follower->val.binary.data, "name");
	if (name == NULL || name->type != jbvString)
		bad_then("Each element must have a \"name\", that of a definition.");
	it = JsonbIteratorInit(follower->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			key = pnstrdup(v.val.string.val, v.val.string.len);
			if (strcmp(key, "name") != 0 && strcmp(key, "parameters") != 0 &&
				strcmp(key, "settings") != 0)
				bad_then(psprintf("There is no property \"%s\"; the properties are \"name\", \"parameters\" and \"settings\".",
								  key));
		}
		else if (token == WJB_VALUE && strcmp(key, "name") != 0)
		{
			if (!then_is_object(&v))
				bad_then(psprintf("\"%s\" must be an object.", key));
			if (strcmp(key, "settings") == 0)
				settings_check(JsonbValueToJsonb(&v));
		}
	}
}

/*
 * Raises an error unless "then" of the definition with that name is sound and
 * does not lead back to it.
 */
void
then_check(Jsonb *then, const char *name)
{
	StoreSession session;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (!JB_ROOT_IS_ARRAY(then) || JB_ROOT_IS_SCALAR(then))
		bad_then("It must be an array.");
	limit_check_number("definitions in \"then\" of a backfill", JB_ROOT_COUNT(then), LIMIT_FOLLOWERS);
	it = JsonbIteratorInit(&then->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			check_follower(&v);
	}
	store_begin(&session);
	if (store_then_reaches(&session, then, name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"then\" of backfill definition \"%s\" leads back to it", name),
				 errdetail("Its runs would start each other for ever.")));
	store_end(&session);
}
