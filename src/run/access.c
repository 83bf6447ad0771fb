/*-------------------------------------------------------------------------
 *
 * access.c
 *	  Who may control a run, and who can have workers.
 *
 * A run is controlled by whoever has the rights of its owner.  Workers connect as the
 * owner: whether that role may log in and connect is asked here, and nowhere else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "run/access.h"
#include "store/run.h"
#include "store/store.h"

/* What keeps the workers of a role from connecting. */
typedef enum Obstacle
{
	OBSTACLE_NONE,
	OBSTACLE_NO_ROLE,			/* it was dropped */
	OBSTACLE_NO_LOGIN,			/* which is needed before 17 */
	OBSTACLE_NO_CONNECT			/* to this database */
} Obstacle;

/* Whether the role, which may have been dropped, has the attribute LOGIN. */
static bool
may_log_in(Oid role, bool *exists)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		result;

	*exists = HeapTupleIsValid(tuple);
	if (!*exists)
		return false;
	result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	return result;
}

/* Whether nobody may connect to the database: those who are connected stay. */
bool
access_is_closed(void)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return true;
	result = !((Form_pg_database) GETSTRUCT(tuple))->datallowconn;
	ReleaseSysCache(tuple);
	return result;
}

/* Whether anybody may log in as the role. */
bool
access_may_log_in(Oid role)
{
	bool		exists;

	return may_log_in(role, &exists);
}

static Obstacle
find_obstacle(Oid role)
{
	bool		exists;
	bool		may_login = may_log_in(role, &exists);

	if (!exists)
		return OBSTACLE_NO_ROLE;
	if (COMPAT_OWNER_NEEDS_LOGIN && !may_login)
		return OBSTACLE_NO_LOGIN;
	return compat_may_connect(MyDatabaseId, role) ? OBSTACLE_NONE : OBSTACLE_NO_CONNECT;
}

/* Raises an error unless workers can connect as the role. */
void
access_check_owner(Oid owner)
{
	switch (find_obstacle(owner))
	{
		case OBSTACLE_NONE:
			break;
		case OBSTACLE_NO_ROLE:
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("role with OID %u does not exist", owner),
					 errhint("Define the backfill again.")));
			break;
		case OBSTACLE_NO_LOGIN:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("role \"%s\" cannot run a backfill because it is not permitted to log in",
							GetUserNameFromId(owner, false)),
					 errhint("Define the backfill as a role with the attribute LOGIN; from PostgreSQL 17 on it is not needed.")));
			break;
		case OBSTACLE_NO_CONNECT:
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("role \"%s\" cannot run a backfill because it may not connect to the database",
							GetUserNameFromId(owner, false)),
					 errhint("Grant CONNECT on the database to the role.")));
	}
}

/* The role's name, or its number when it is gone. */
char *
access_role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? name : psprintf("%u", role);
}

/* Why the owner of a run cannot have workers, or NULL. */
const char *
access_problem(Oid owner, const char **hint)
{
	*hint = NULL;
	switch (find_obstacle(owner))
	{
		case OBSTACLE_NONE:
			break;
		case OBSTACLE_NO_ROLE:
			return psprintf("the owner of the run, role %u, was dropped", owner);
		case OBSTACLE_NO_LOGIN:
			*hint = "Before PostgreSQL 17 the owner of a run needs the attribute LOGIN.";
			return psprintf("role \"%s\" is not permitted to log in", access_role_name(owner));
		case OBSTACLE_NO_CONNECT:
			*hint = "Grant CONNECT on the database to the role.";
			return psprintf("role \"%s\" may not connect to the database", access_role_name(owner));
	}
	return NULL;
}

/* Does not tell a run that is not there from one that is somebody else's. */
compat_noreturn static void
no_such_run(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("backfill run " INT64_FORMAT " does not exist", id),
			 errdetail("There is no such run, or it belongs to a role whose rights you do not have."),
			 errhint("The view backfill_runs shows the runs you may control.")));
}

/* Raises an error unless the caller may control all of these runs. */
void
access_check_runs(StoreSession *session, ArrayType *ids, Oid caller)
{
	uint64		n;
	RunOwner   *runs = store_run_owners(session, ids, &n);

	for (uint64 i = 0; i < n; i++)
	{
		if (!OidIsValid(runs[i].owner) || !has_privs_of_role(caller, runs[i].owner))
			no_such_run(runs[i].id);
	}
}

/* Raises an error unless there is the run, by its owner, and the caller may control it. */
void
access_check_run(int64 id, Oid owner, Oid caller)
{
	if (!OidIsValid(owner) || !has_privs_of_role(caller, owner))
		no_such_run(id);
}

/* The run, locked on demand, which the caller may control, or an error. */
RunInfo *
access_find_run(StoreSession *session, int64 id, Oid caller, bool for_update)
{
	RunInfo    *run = store_load_run(session, id, false);

	/* nobody locks a run that is not his */
	if (run && for_update && has_privs_of_role(caller, run->owner))
		run = store_load_run(session, id, true);
	if (run == NULL || !has_privs_of_role(caller, run->owner))
		no_such_run(id);
	return run;
}
