/*-------------------------------------------------------------------------
 *
 * heldlocks.c
 *	  The locks on tables that this transaction holds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/lsyscache.h"

#include "rehearsal/heldlocks.h"

static HeldLock *
find_lock(List *locks, Oid relid)
{
	ListCell   *lc;

	foreach(lc, locks)
	{
		HeldLock   *lock = lfirst(lc);

		if (lock->relid == relid)
			return lock;
	}
	return NULL;
}

/* Whether locks on the relation are of interest: a user's table. */
static bool
is_table(Oid relid)
{
	char		kind = relid < FirstNormalObjectId ? '\0' : get_rel_relkind(relid);
	char	   *schema;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
		kind != RELKIND_SEQUENCE && kind != RELKIND_FOREIGN_TABLE)
		return false;
	schema = get_namespace_name(get_rel_namespace(relid));
	return schema && strcmp(schema, "backfill") != 0;
}

static int
compare_locks(const ListCell *a, const ListCell *b)
{
	Oid			first = ((HeldLock *) lfirst(a))->relid;
	Oid			second = ((HeldLock *) lfirst(b))->relid;

	return first < second ? -1 : first > second ? 1 : 0;
}

/* The strongest lock that this transaction has on each table. */
List *
heldlocks_now(void)
{
	LockData   *data = GetLockStatusData();
	List	   *locks = NIL;

	for (int i = 0; i < data->nelements; i++)
	{
		LockInstanceData *instance = &data->locks[i];
		HeldLock   *lock;

		if (instance->pid != MyProcPid || instance->locktag.locktag_type != LOCKTAG_RELATION ||
			instance->locktag.locktag_field1 != MyDatabaseId ||
			!is_table(instance->locktag.locktag_field2))
			continue;
		lock = find_lock(locks, instance->locktag.locktag_field2);
		if (lock == NULL)
		{
			lock = palloc0(sizeof(HeldLock));
			lock->relid = instance->locktag.locktag_field2;
			locks = lappend(locks, lock);
		}
		for (LOCKMODE mode = 1; mode <= MaxLockMode; mode++)
		{
			if (instance->holdMask & LOCKBIT_ON(mode))
				lock->mode = Max(lock->mode, mode);
		}
	}
	list_sort(locks, compare_locks);
	return locks;
}

/* Those that are new, or on the target. */
List *
heldlocks_new(List *before, Oid target)
{
	List	   *locks = heldlocks_now();
	ListCell   *lc;

	foreach(lc, locks)
	{
		HeldLock   *lock = lfirst(lc);
		HeldLock   *known = find_lock(before, lock->relid);

		if (known && known->mode >= lock->mode && lock->relid != target)
			locks = foreach_delete_current(locks, lc);
	}
	return locks;
}
