/*-------------------------------------------------------------------------
 *
 * quarantine.c
 *	  Batches that are suspected of bringing down the server run one at a time.
 *
 * So the guilty one is told from those that happened to run beside it.  What
 * brings down a server does so soon: a suspect that is at work for longer than
 * that keeps nobody waiting any more, or one that sleeps would keep all others
 * from their work.  Suspects of one database wait longer for each other than for
 * those of others, whose runs are none of their business.
 *
 * That a worker is in quarantine stands in its slot, so that it ends with the
 * worker at the latest, and nothing that the owner's code does can undo it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "shared/quarantine.h"
#include "shared/segment.h"

/* So long a suspect keeps others waiting: those of its database, and of others. */
#define ALONE_MS			15000
#define ALONE_ELSEWHERE_MS	3000

/* Whether others have to wait for the worker.  The caller holds the lock. */
static bool
is_in_the_way(const WorkerSlot *other, const WorkerSlot *me, TimestampTz now)
{
	return other != me && other->in_use && other->quarantined_at != 0 &&
		!TimestampDifferenceExceeds(other->quarantined_at, now,
									other->database == me->database ? ALONE_MS :
									ALONE_ELSEWHERE_MS);
}

/*
 * This worker is about to run a suspect batch.  Returns false when it has to wait
 * for another one.  Each suspect has its own time: to enter again is to begin anew.
 */
bool
quarantine_enter(void)
{
	WorkerSlot *me = segment_my_worker();
	TimestampTz now = GetCurrentTimestamp();
	bool		free = true;

	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < segment->nworkers && free; i++)
		free = !is_in_the_way(&segment_workers[i], me, now);
	if (free)
		me->quarantined_at = now;
	segment_unlock();
	return free;
}

/* No batch of this worker is a suspect any more. */
void
quarantine_leave(void)
{
	segment_lock(LW_EXCLUSIVE);
	segment_my_worker()->quarantined_at = 0;
	segment_unlock();
}
