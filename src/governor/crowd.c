/*-------------------------------------------------------------------------
 *
 * crowd.c
 *	  Whether sessions suffer from what batches write.
 *
 * A batch shares the WAL, the pages of its tables and the locks for extending them with all
 * sessions.  Those that wait for one of these are counted, in a look at each process entry every few
 * ten milliseconds while a worker of the database is there.  It takes no lock: what an entry says
 * is a hint.
 *
 * A session that commits waits for the WAL in any case, and longer with a batch beside it.  How
 * much longer cannot be seen, but that there are such sessions can, and those are who a run
 * with nothing set must not harm: as long as they are there, its batches are short.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "governor/crowd.h"
#include "shared/pace.h"
#include "shared/worker_slot.h"

/* How often to look, and for how long to add up what is seen. */
#define LOOK_MS			20
#define SAMPLE_MS		500
/*
 * So many sessions that wait, on the average, are a crowd, and below so many there is none any
 * more, once that has lasted so long.
 */
#define CROWD			0.05
#define NO_CROWD		0.02
#define CALM_MS			5000

/* Whether a process with that wait event waits for what batches use, too. */
static bool
waits_for_shared(uint32 event)
{
	switch (event)
	{
		case WAIT_EVENT_WAL_SYNC:
		case WAIT_EVENT_WAL_WRITE:
		case WAIT_EVENT_DATA_FILE_EXTEND:
		case WAIT_EVENT_SYNC_REP:
		case PG_WAIT_LWLOCK | LWTRANCHE_WAL_INSERT:
		case PG_WAIT_LOCK | LOCKTAG_RELATION_EXTEND:
			return true;
		default:
			return event == (PG_WAIT_LWLOCK | WALWriteLock->tranche) || compat_waits_for_content(event);
	}
}

/* How many sessions of others wait at this moment. */
static int
count_waiting(void)
{
	WorkerSlot *workers = NULL;
	int			nworkers = 0;
	int			n = 0;

	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		int			pid = proc->pid;

		if (!waits_for_shared(*(volatile uint32 *) &proc->wait_event_info) || pid == 0 || pid == MyProcPid ||
			!OidIsValid(proc->databaseId) || (proc->statusFlags & PROC_IS_AUTOVACUUM) != 0)
			continue;
		if (workers == NULL)
			nworkers = worker_slot_copy(InvalidOid, &workers);
		if (!worker_slot_is_among(pid, workers, nworkers))
			n++;
	}
	return n;
}

/* The sample is complete: what it says. */
static void
judge(Crowd *crowd, TimestampTz now)
{
	double		waiting = (double) crowd->waiting / crowd->looks;

	if (waiting >= CROWD || (crowd->is_crowded && waiting >= NO_CROWD))
	{
		crowd->is_crowded = true;
		crowd->crowded_at = now;
	}
	else if (TimestampDifferenceExceeds(crowd->crowded_at, now, CALM_MS))
		crowd->is_crowded = false;
	crowd->level = (crowd->level + waiting) / 2;
	pace_set_crowd(MyDatabaseId, crowd->is_crowded ? Max(crowd->level, NO_CROWD) : 0);
	crowd->looks = crowd->waiting = 0;
	crowd->since = now;
}

/*
 * Look, if it is time for that.  Returns the milliseconds after which to look again, or -1 if
 * there is no worker whose batches it could make shorter.  Memory is left in the current context.
 */
long
crowd_look(Crowd *crowd)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!pace_heeds_crowd(MyDatabaseId))
	{
		*crowd = (Crowd) {0};
		return -1;
	}
	if (crowd->looks > 0 && !TimestampDifferenceExceeds(crowd->looked_at, now, LOOK_MS))
		return LOOK_MS;

	/* the scheduler has been busy, or the clock was set */
	if (crowd->looks == 0 || now < crowd->since || TimestampDifferenceExceeds(crowd->since, now, 2 * SAMPLE_MS))
	{
		crowd->looks = crowd->waiting = 0;
		crowd->since = now;
	}
	crowd->looked_at = now;
	crowd->looks++;
	crowd->waiting += count_waiting();

	/* what is enough for a crowd need not be waited for */
	if ((!crowd->is_crowded && crowd->waiting >= CROWD * (SAMPLE_MS / LOOK_MS)) ||
		TimestampDifferenceExceeds(crowd->since, now, SAMPLE_MS))
		judge(crowd, now);
	return LOOK_MS;
}
