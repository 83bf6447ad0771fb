/*-------------------------------------------------------------------------
 *
 * room.c
 *	  Whether the server has room for the workers.
 *
 * All background workers share max_worker_processes: ours, those of other
 * extensions, of logical replication and of parallel queries.  What can never fit
 * is said where somebody reads it; what does not fit at the moment is the wait
 * reason of a run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/proc.h"

#include "shared/room.h"

/* Our own that are needed beside the workers. */
#define LAUNCHERS	1
#define SCHEDULERS	1

/* The background workers of others that are there now, those of queries aside. */
static int
count_others(void)
{
	int			n = 0;

	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		int			pid = ProcGlobal->allProcs[i].pid;
		const char *type = pid == 0 ? NULL : GetBackgroundWorkerTypeByPid(pid);

		if (type && strcmp(type, "parallel worker") != 0 &&
			strncmp(type, "backfill ", strlen("backfill ")) != 0)
			n++;
	}
	return n;
}

/* A warning, with the arithmetic, if so many workers can never be there at once. */
void
room_check(int workers, const char *whose)
{
	int			others = count_others();
	int			needed = LAUNCHERS + SCHEDULERS + workers + others;

	if (needed <= max_worker_processes)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("\"max_worker_processes\" has no room for %s", whose),
			 errdetail("It is %d. A launcher, a scheduler, %d worker%s, and %d background worker%s of others, make %d; parallel queries take more.",
					   max_worker_processes, workers, workers == 1 ? "" : "s",
					   others, others == 1 ? "" : "s", needed),
			 errhint("Set \"max_worker_processes\" to %d or more, which leaves %d for parallel queries, and restart the server.",
					 needed + max_parallel_workers, max_parallel_workers)));
}
