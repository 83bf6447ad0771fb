/*-------------------------------------------------------------------------
 *
 * share.c
 *	  The slots of workers, shared among those who want them.
 *
 * One owner alone may have all slots.  When a run of another waits for one, an
 * owner that has at least two more is asked for one back, so that all come to have
 * equally many; and a free slot goes to who has the fewest, and of those to who has
 * waited longest.  Where that helps nobody, a run without a worker is given the slot
 * of a worker that has been asleep for some seconds; the run that it is taken from
 * gets no other before the time until which the worker would have slept.
 *
 * A worker that is asked lets go of its batch at the next chance, as if the run had
 * one worker too many.  The segment, its lock and the rules are those of segment.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "shared/segment.h"
#include "shared/share.h"

/* Who has not asked again for so long does not wait any more. */
#define WAITER_LOST_MS		5000
/* Who sleeps for so long may be asked for his slot. */
#define ASLEEP_MS			5000
/* So long his run rests at least. */
#define REST_MS				5000

/* The slots that the owner has, and keeps.  The caller holds the lock, here and below. */
static int
slots_of(Oid owner)
{
	int			n = 0;

	for (int i = 0; i < segment->nworkers; i++)
	{
		if (segment_workers[i].in_use && !segment_workers[i].recalled &&
			segment_workers[i].owner == owner)
			n++;
	}
	return n;
}

/* The slots that are free, or about to be if "soon". */
static int
free_slots(bool soon)
{
	int			n = 0;

	for (int i = 0; i < segment->nworkers; i++)
	{
		if (!segment_workers[i].in_use || (soon && segment_workers[i].recalled))
			n++;
	}
	return n;
}

static bool
has_worker(Oid database, int64 run_id)
{
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (segment_works_for(&segment_workers[i], database, run_id))
			return true;
	}
	return false;
}

static bool
is_waiting(const SlotWaiter *waiter, TimestampTz now)
{
	return waiter->run_id != 0 &&
		!TimestampDifferenceExceeds(waiter->asked_at, now, WAITER_LOST_MS);
}

/* The entry of the run, or a free one for it, or NULL when too many wait. */
static SlotWaiter *
find_waiter(Oid database, Oid owner, int64 run_id, TimestampTz now)
{
	SlotWaiter *result = NULL;

	for (int i = 0; i < SLOT_WAITERS; i++)
	{
		SlotWaiter *waiter = &segment->waiters[i];

		if (!is_waiting(waiter, now))
			result = result ? result : waiter;
		else if (waiter->database == database && waiter->run_id == run_id)
			return waiter;
	}
	if (result)
		*result = (SlotWaiter) {database, owner, run_id, now, now};
	return result;
}

/* The runs that wait and whose turn comes before that one's. */
static int
waiters_ahead(const SlotWaiter *me, TimestampTz now)
{
	int			mine = slots_of(me->owner);
	int			n = 0;

	for (int i = 0; i < SLOT_WAITERS; i++)
	{
		const SlotWaiter *waiter = &segment->waiters[i];
		int			theirs;

		if (waiter == me || !is_waiting(waiter, now))
			continue;
		theirs = slots_of(waiter->owner);
		if (theirs < mine || (theirs == mine && waiter->since < me->since))
			n++;
	}
	return n;
}

static bool
is_asleep(const WorkerSlot *w, TimestampTz now)
{
	return (w->state == WORKER_SLEEPING || w->state == WORKER_THROTTLED ||
			w->state == WORKER_RETRYING || w->state == WORKER_WAITING) &&
		TimestampDifferenceExceeds(w->state_since, now, ASLEEP_MS);
}

/* Whether the worker could give its slot to the waiter; how well goes to *merit. */
static bool
may_be_recalled(const WorkerSlot *w, const SlotWaiter *waiter, TimestampTz now, int *merit)
{
	bool		is_rich = slots_of(w->owner) > slots_of(waiter->owner) + 1;
	bool		asleep = is_asleep(w, now);

	/* what is done once for a run is not done in between */
	if (!w->in_use || !w->attached || w->recalled || w->state == WORKER_CHANGING ||
		w->state == WORKER_VERIFYING || w->state == WORKER_FINISHING)
		return false;
	*merit = is_rich ? slots_of(w->owner) * 2 + asleep : 0;
	return is_rich ||
		(asleep && !segment_works_for(w, waiter->database, waiter->run_id) &&
		 !has_worker(waiter->database, waiter->run_id));
}

/* Ask a worker for its slot, for that waiter. */
static void
recall_one(const SlotWaiter *waiter, TimestampTz now)
{
	WorkerSlot *best = NULL;
	int			best_merit = -1;

	for (int i = 0; i < segment->nworkers; i++)
	{
		int			merit;

		if (!may_be_recalled(&segment_workers[i], waiter, now, &merit) || merit <= best_merit)
			continue;
		best = &segment_workers[i];
		best_merit = merit;
	}
	if (best == NULL)
		return;
	best->recalled = best->notified = true;
	if (best->latch)
		SetLatch(best->latch);
}

/*
 * Whether the run may take a slot now.  If not, it waits for one, as long as this
 * is called again and again, and somebody may be asked for his.
 */
bool
share_may_take(Oid database, Oid owner, int64 run_id)
{
	TimestampTz now = GetCurrentTimestamp();
	SlotWaiter *me = find_waiter(database, owner, run_id, now);
	int			ahead;

	/* so many wait that nobody can be told whose turn it is */
	if (me == NULL)
		return free_slots(false) > 0;
	me->asked_at = now;
	ahead = waiters_ahead(me, now);
	if (free_slots(false) > ahead)
	{
		me->run_id = 0;
		return true;
	}
	if (free_slots(true) <= ahead)
		recall_one(me, now);
	return false;
}

/* This worker sleeps until then, if it is not woken. */
void
share_sleep_until(TimestampTz until)
{
	segment_lock(LW_EXCLUSIVE);
	segment_my_worker()->asleep_until = until;
	segment_unlock();
}

/* Whether this worker is to give its slot to somebody else. */
bool
share_is_recalled(void)
{
	bool		recalled;

	segment_lock(LW_SHARED);
	recalled = segment_my_worker()->recalled;
	segment_unlock();
	return recalled;
}

/* A worker leaves its slot: if it was asked to, its run rests. */
void
share_note_exit(void)
{
	WorkerSlot *me = segment_my_worker();
	TimestampTz now = GetCurrentTimestamp();

	if (!me->recalled)
		return;
	for (int i = 0; i < SLOT_WAITERS; i++)
	{
		SlotRest   *rest = &segment->rests[i];

		if (rest->run_id != 0 && rest->until > now)
			continue;
		*rest = (SlotRest) {me->database, me->run_id,
			Max(me->asleep_until, TimestampTzPlusMilliseconds(now, REST_MS))};
		return;
	}
}

/* Whether the run is to have no further worker now. */
bool
share_is_resting(Oid database, int64 run_id)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		resting = false;

	segment_lock(LW_SHARED);
	for (int i = 0; i < SLOT_WAITERS && !resting; i++)
	{
		const SlotRest *rest = &segment->rests[i];

		resting = rest->run_id == run_id && rest->database == database && rest->until > now;
	}
	segment_unlock();
	return resting;
}
