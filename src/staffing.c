/*-------------------------------------------------------------------------
 *
 * staffing.c
 *	  The workers that a run should have.
 *
 * How many they are follows from the settings and from what is left to do;
 * whether it can have any, from its owner.  Called by the scheduler, within a
 * catalog session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "compat.h"
#include "shared.h"
#include "staffing.h"

/* The role's name, or its number when it is gone. */
static char *
role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? name : psprintf("%u", role);
}

/* Why the owner cannot have workers, or NULL. */
const char *
staffing_problem(RunInfo *run, const char **hint)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(run->owner));
	bool		may_login;

	*hint = NULL;
	if (!HeapTupleIsValid(tuple))
		return psprintf("the owner of the run, role %u, was dropped", run->owner);
	may_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	if (COMPAT_OWNER_NEEDS_LOGIN && !may_login)
	{
		*hint = "Before PostgreSQL 17 the owner of a run needs the attribute LOGIN.";
		return psprintf("role \"%s\" is not permitted to log in", role_name(run->owner));
	}
	if (!compat_may_connect(MyDatabaseId, run->owner))
	{
		*hint = "Grant CONNECT on the database to the role.";
		return psprintf("role \"%s\" may not connect to the database", role_name(run->owner));
	}
	return NULL;
}

/* Whether every range of the walk has been claimed. */
bool
staffing_walk_is_claimed(CatalogSession *session, RunInfo *run)
{
	int64		number;
	ArrayType  *end_key;

	if (run->end_key == NULL)
		return false;
	if (ArrayGetNItems(ARR_NDIM(run->end_key), ARR_DIMS(run->end_key)) == 0)
		return true;
	return catalog_last_batch(session, run->id, &number, &end_key) &&
		batch_is_last_key(end_key, run->end_key);
}

/* The number of workers that the run should have, of so many at most. */
int
staffing_wanted(CatalogSession *session, RunInfo *run, int living, int most)
{
	int			changes;
	TimestampTz pending_from;
	int64		open;
	int64		due;

	if (most == 0)
		return 0;
	if (run->end_key == NULL)
		return 1;

	/* hooks are called by one worker, not by each that comes */
	if (run->status == RUN_ENQUEUED &&
		catalog_has_hook(session, run->name, run->owner, RUN_RUNNING))
		return 1;
	if (staffing_walk_is_claimed(session, run))
	{
		/* what is left is at most what somebody let go of */
		if (living > 0 &&
			(!shared_run_has_pending(MyDatabaseId, run->id, &changes, &pending_from) ||
			 pending_from > GetCurrentTimestamp()))
			return living;

		/* for those that wait to be tried again one is enough */
		open = catalog_open_batches(session, run->id, &due);
		open = Min(most, due > 0 ? due : Min(open, 1));

		/* only a worker makes the run running, also where nothing but its end is left */
		return run->status == RUN_ENQUEUED ? Max(open, 1) : open;
	}
	return most;
}
