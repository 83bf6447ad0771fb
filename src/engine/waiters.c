/*-------------------------------------------------------------------------
 *
 * waiters.c
 *	  Who waits for the rows of the batch in hand.
 *
 * A batch holds the locks of its rows until it commits.  So a session that has met one
 * of them at any time still waits for the batch's transaction when its statement ends,
 * and whoever suffers from a batch is seen by one look at that moment.
 *
 * The look takes no lock: an entry may change under it, and what it says is a hint.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "engine/waiters.h"
#include "shared/worker_slot.h"

/*
 * How long, in microseconds, sessions of others have waited for the present
 * transaction: the longest of them; 0 if none does.  Workers of ours do not count.
 * Leaves memory in the current context.
 */
int64
waiters_longest(void)
{
	TransactionId xid = GetTopTransactionIdIfAny();
	TimestampTz now = GetCurrentTimestamp();
	WorkerSlot *workers = NULL;
	int			nworkers = 0;
	int64		longest = 0;

	if (!TransactionIdIsValid(xid))
		return 0;
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		LOCK	   *lock = proc->waitLock;
		TimestampTz start = (TimestampTz) pg_atomic_read_u64(&proc->waitStart);

		if (lock == NULL || start == 0 || proc->pid == 0 ||
			lock->tag.locktag_type != LOCKTAG_TRANSACTION ||
			lock->tag.locktag_field1 != xid)
			continue;
		if (workers == NULL)
			nworkers = worker_slot_copy(MyDatabaseId, &workers);
		if (!worker_slot_is_among(proc->pid, workers, nworkers))
			longest = Max(longest, now - start);
	}
	return longest;
}
