/*-------------------------------------------------------------------------
 *
 * writers.c
 *	  The transactions that write to a table.
 *
 * What they write is seen when they have ended.  Who is to see all that was being written
 * at some moment finds them then, waits for them, as CREATE INDEX CONCURRENTLY does, and
 * looks afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/writers.h"

/* So long, in milliseconds, a transaction may have begun before anybody can see it. */
#define MARGIN_MS			100

/* The transactions that hold a lock for writing on the target or a child. */
List *
writers_find(Oid target)
{
	List	   *writers = NIL;
	List	   *relations = find_all_inheritors(target, NoLock, NULL);
	ListCell   *lc;

	foreach(lc, relations)
	{
		LOCKTAG		tag;
		VirtualTransactionId *vxids;
		int			n;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(lc));
		vxids = GetLockConflicts(&tag, ShareLock, &n);
		for (int i = 0; i < n; i++)
		{
			VirtualTransactionId *vxid;

			/* a vacuum writes no rows, and may take hours */
			if (compat_vxid_in_vacuum(vxids[i]))
				continue;
			vxid = palloc(sizeof(VirtualTransactionId));
			*vxid = vxids[i];
			writers = lappend(writers, vxid);
		}
	}
	return writers;
}

/* Take those out of the list whose session can be asked when they began: they are not prepared. */
List *
writers_prepared(List *all)
{
	ListCell   *lc;

	foreach(lc, all)
	{
		VirtualTransactionId *vxid = lfirst(lc);

		if (compat_vxid_pid(*vxid) == 0)
			continue;
		all = foreach_delete_current(all, lc);
		pfree(vxid);
	}
	return all;
}

/* Take those that have ended out of the list. */
List *
writers_still(List *all)
{
	ListCell   *lc;

	foreach(lc, all)
	{
		VirtualTransactionId *vxid = lfirst(lc);

		if (!VirtualXactLock(*vxid, false))
			continue;
		all = foreach_delete_current(all, lc);
		pfree(vxid);
	}
	return all;
}

/* Wait until all of them have ended, as long as it takes.  Can be interrupted. */
void
writers_wait(List *all)
{
	ListCell   *lc;

	foreach(lc, all)
		(void) VirtualXactLock(*(VirtualTransactionId *) lfirst(lc), true);
}

/*
 * The time before which no transaction in this database has begun that may still write: what
 * has a time from before it is committed, if it was taken when its transaction began.
 * Transactions of prepared and replicated ones begin anywhere; of what hides what it does,
 * the begin of the session counts.  A transaction is not seen in the instant in which it
 * begins: that is what the margin is for.  A time that is equal is committed, too, so that
 * a window may include either of its ends.
 */
TimestampTz
writers_watermark(void)
{
	TimestampTz watermark = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -MARGIN_MS);
	int			n;

	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *local = compat_local_backend(i);
		const PgBackendStatus *backend = local ? &local->backendStatus : NULL;
		TimestampTz began;

		if (backend == NULL || backend->st_databaseid != MyDatabaseId ||
			backend->st_procpid == MyProcPid ||
			(backend->st_backendType != B_BACKEND && backend->st_backendType != B_BG_WORKER))
			continue;
		began = backend->st_state == STATE_DISABLED ? backend->st_proc_start_timestamp :
			backend->st_xact_start_timestamp;
		if (began != 0)
			watermark = Min(watermark, began - 1);
	}
	return watermark;
}

/* What a run says that waits for them, who wrote when "what" began. */
char *
writers_reason(const List *writers, const char *what)
{
	StringInfoData buf;
	int			shown = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "waits for %d transaction%s that wrote to the table when the %s began",
					 list_length(writers), list_length(writers) == 1 ? "" : "s", what);
	foreach(lc, writers)
	{
		int			pid = compat_vxid_pid(*(VirtualTransactionId *) lfirst(lc));

		if (shown++ >= 5)
			break;
		appendStringInfoString(&buf, shown == 1 ? ": " : ", ");
		if (pid != 0)
			appendStringInfo(&buf, "process %d", pid);
		else
			appendStringInfoString(&buf, "a prepared transaction");
	}
	return buf.data;
}
