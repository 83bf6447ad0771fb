/*-------------------------------------------------------------------------
 *
 * followers.c
 *	  What follows a run, as a definition declares it.
 *
 * A definition may name others in "followers": when a run of it is completed, runs of
 * those are started.  Here the declaration is checked; what starts them is
 * run/follow.c.  A definition cannot lead to itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/limit.h"
#include "base/locks.h"
#include "definition/followers.h"
#include "definition/names.h"
#include "settings/settings.h"
#include "store/definition.h"
#include "store/store.h"

compat_noreturn static void
bad_followers(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid \"followers\" of a backfill definition"),
			 errdetail_internal("%s", detail),
			 errhint("Write for example '[{\"name\": \"second\", \"parameters\": {\"department\": {\"from\": \"params.department\"}}}]'.")));
}

/* A member of the object, or NULL. */
JsonbValue *
followers_member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

bool
followers_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* Raises an error unless the value is the name of a role. */
static void
check_owner(const JsonbValue *value)
{
	if (value->type != jbvString)
		bad_followers("\"owner\" must be the name of a role.");
	(void) get_role_oid(pnstrdup(value->val.string.val, value->val.string.len), false);
}

/* Whether the follower is to walk the table that the run has walked. */
bool
followers_is_same_target(const JsonbValue *value)
{
	JsonbValue *from = followers_is_object(value) ?
		followers_member(value->val.binary.data, "from") : NULL;

	return from && from->type == jbvString && from->val.string.len == strlen("run.target") &&
		strncmp(from->val.string.val, "run.target", from->val.string.len) == 0 &&
		JsonContainerSize(value->val.binary.data) == 1;
}

/* Raises an error unless the value stands for a table. */
static void
check_target(const JsonbValue *value)
{
	if (followers_is_same_target(value))
		return;
	if (value->type != jbvString)
		bad_followers("\"target\" must be the name of a table, or {\"from\": \"run.target\"}.");
	(void) names_table(pnstrdup(value->val.string.val, value->val.string.len));
}

/* Whether a run of the follower is to be started for each stream of the run. */
bool
followers_is_for_each(JsonbContainer *follower)
{
	return followers_member(follower, "each") != NULL;
}

/* Raises an error unless the value has a run started for each stream. */
static void
check_each(const JsonbValue *value, bool has_streams)
{
	if (value->type != jbvString || value->val.string.len != strlen("stream") ||
		strncmp(value->val.string.val, "stream", value->val.string.len) != 0)
		bad_followers("\"each\" can only be \"stream\".");
	if (!has_streams)
		bad_followers("The definition has no \"streams\" for each of which a run could be started.");
}

/* Check one follower: its name, and the forms of what it is given. */
static void
check_follower(JsonbValue *follower, bool has_streams)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	JsonbValue *name;
	char	   *key = NULL;

	if (!followers_is_object(follower))
		bad_followers("Each element must be an object.");
	name = followers_member(follower->val.binary.data, "name");
	if (name == NULL || name->type != jbvString)
		bad_followers("Each element must have a \"name\", that of a definition.");
	it = JsonbIteratorInit(follower->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			key = pnstrdup(v.val.string.val, v.val.string.len);
			if (strcmp(key, "name") != 0 && strcmp(key, "parameters") != 0 &&
				strcmp(key, "settings") != 0 && strcmp(key, "owner") != 0 &&
				strcmp(key, "target") != 0 && strcmp(key, "each") != 0)
				bad_followers(psprintf("There is no property \"%s\"; the properties are \"name\", \"each\", \"owner\", \"parameters\", \"settings\" and \"target\".",
								  key));
		}
		else if (token == WJB_VALUE && strcmp(key, "owner") == 0)
			check_owner(&v);
		else if (token == WJB_VALUE && strcmp(key, "target") == 0)
			check_target(&v);
		else if (token == WJB_VALUE && strcmp(key, "each") == 0)
			check_each(&v, has_streams);
		else if (token == WJB_VALUE && strcmp(key, "name") != 0)
		{
			if (!followers_is_object(&v))
				bad_followers(psprintf("\"%s\" must be an object.", key));
			if (strcmp(key, "settings") == 0)
				settings_check(JsonbValueToJsonb(&v));
		}
	}
}

/*
 * Whose definition the follower means when that is not written: the owner of the one
 * that is there, if it can be used at all, or else whoever declares it.
 */
static Oid
find_owner(const DefinitionInfo *def, const char *name)
{
	StoreSession session;
	DefinitionInfo *follower;

	store_begin(&session);
	follower = store_load_definition(&session, name);
	store_end(&session);
	return follower && has_privs_of_role(def->owner, follower->owner) ?
		follower->owner : def->owner;
}

/*
 * The declaration with the schema in each "target", and an "owner" in each element: who takes the name of a
 * definition later, or again, is not given what was meant for another.
 */
static Jsonb *
bind_owners(const DefinitionInfo *def)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it = JsonbIteratorInit(&def->followers->root);
	JsonbIteratorToken token;
	JsonbValue	v;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		JsonbValue *name;
		JsonbValue *target;
		Jsonb	   *follower;

		if (token != WJB_ELEM)
			continue;
		name = followers_member(v.val.binary.data, "name");
		target = followers_member(v.val.binary.data, "target");
		follower = JsonbValueToJsonb(&v);
		if (target && target->type == jbvString)
			follower = settings_with(follower, "target",
									 names_of_table(names_table(pnstrdup(target->val.string.val,
																		 target->val.string.len))));
		if (followers_member(v.val.binary.data, "owner") == NULL)
		{
			Oid			owner = find_owner(def, pnstrdup(name->val.string.val, name->val.string.len));

			follower = settings_with(follower, "owner", GetUserNameFromId(owner, false));
		}
		JsonbToJsonbValue(follower, &v);
		pushJsonbValue(&state, WJB_ELEM, &v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

/*
 * Raises an error unless "followers" of the definition, which is not stored yet, is
 * sound and does not lead back to it.  Returns what is to be stored.  Of one owner's
 * definitions, those that lead to others are made one at a time, until the end of
 * the transaction: two that are made at the same moment would not see each other.
 */
Jsonb *
followers_check(const DefinitionInfo *def)
{
	LOCKTAG		tag = locks_tag(LOCK_CLASS_DEFINE, def->owner);
	StoreSession session;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (!JB_ROOT_IS_ARRAY(def->followers) || JB_ROOT_IS_SCALAR(def->followers))
		bad_followers("It must be an array.");
	limit_check_number("definitions in \"followers\" of a backfill", JB_ROOT_COUNT(def->followers), LIMIT_FOLLOWERS);
	it = JsonbIteratorInit(&def->followers->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			check_follower(&v, def->streams != NULL);
	}
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	store_begin(&session);
	if (store_followers_reach(&session, def->followers, def->name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"followers\" of backfill definition \"%s\" leads back to it", def->name),
				 errdetail("Its runs would start each other for ever.")));
	store_end(&session);
	return bind_owners(def);
}
