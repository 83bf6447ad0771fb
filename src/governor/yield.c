/*-------------------------------------------------------------------------
 *
 * yield.c
 *	  Batches give way to sessions that wait for their locks.
 *
 * The scheduler looks, every few ten milliseconds while a batch of its database
 * is at work for longer than yield_after, whether any process waits for a lock.
 * That costs a look at each process entry, without a lock.  Only for those that
 * have waited for long enough it asks the lock manager who is in their way, and
 * cancels the batches that are.  The worker then rolls back and divides the
 * batch: engine/failure.c.
 *
 * Our own processes are no foreground, and an autovacuum gives way to others by
 * itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "governor/yield.h"
#include "shared/segment.h"
#include "shared/worker_slot.h"

/*
 * Whether the process only stands before the other in the queue for the same
 * lock: somebody else holds it.
 */
static bool
waits_itself(pid_t pid, const PGPROC *waiter)
{
	PGPROC	   *proc = BackendPidGetProc(pid);

	return proc == NULL || (proc->waitLock != NULL && proc->waitLock == waiter->waitLock);
}

/* Cancel the batches that the process has waited for too long. */
static void
clear_the_way(const PGPROC *waiter, pid_t pid, int64 waited, const WorkerSlot *busy,
			  int nbusy)
{
	ArrayType  *blockers = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids,
																  Int32GetDatum(pid)));
	int32	   *pids = (int32 *) ARR_DATA_PTR(blockers);
	int			n = ArrayGetNItems(ARR_NDIM(blockers), ARR_DIMS(blockers));

	for (int i = 0; i < n; i++)
	{
		for (int j = 0; j < nbusy; j++)
		{
			if (busy[j].pid == pids[i] && waited >= busy[j].yield_after &&
				!waits_itself(pids[i], waiter))
				worker_slot_yield(busy[j].number - 1, busy[j].token, busy[j].batch, pid);
		}
	}
}

/*
 * Look whether sessions wait for batches of this database.  Returns the
 * milliseconds after which to look again, or -1 if there is no worker.
 * Memory is left in the current context.
 */
long
yield_look(void)
{
	WorkerSlot *busy;
	WorkerSlot *all;
	long		next;
	int			nbusy = worker_slot_long_batches(MyDatabaseId, &busy, &next);
	int			nall;
	int64		shortest = PG_INT64_MAX;
	TimestampTz earliest = DT_NOEND;
	TimestampTz now = GetCurrentTimestamp();

	if (nbusy == 0)
		return next;
	for (int i = 0; i < nbusy; i++)
	{
		shortest = Min(shortest, busy[i].yield_after);
		earliest = Min(earliest, busy[i].state_since);
	}
	nall = worker_slot_copy(MyDatabaseId, &all);
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		int			pid = proc->pid;
		TimestampTz start;
		int64		waited;

		if (proc->waitLock == NULL || pid == 0 || pid == MyProcPid ||
			(proc->statusFlags & PROC_IS_AUTOVACUUM) != 0 || worker_slot_is_among(pid, all, nall))
			continue;

		/* zero: it has only just begun; older than the batches: it waits for others */
		start = (TimestampTz) pg_atomic_read_u64(&proc->waitStart);
		if (start == 0 || start < earliest)
			continue;
		waited = (now - start) / 1000;
		if (waited >= shortest)
			clear_the_way(proc, pid, waited, busy, nbusy);
	}
	return next;
}
