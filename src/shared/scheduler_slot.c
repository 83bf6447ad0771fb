/*-------------------------------------------------------------------------
 *
 * scheduler_slot.c
 *	  The slots of schedulers, and what the launcher knows.
 *
 * A session asks the launcher for a scheduler, the launcher reserves a slot and
 * starts one, the scheduler attaches to it, and says when it goes away when it is
 * next needed.  The segment, its lock and the rules are those of segment.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "shared/scheduler_slot.h"
#include "shared/segment.h"

static int	my_scheduler = -1;

/* ---- launcher ---- */

static void
launcher_exit(int code, Datum arg)
{
	segment_lock(LW_EXCLUSIVE);
	if (segment->launcher == MyLatch)
		segment->launcher = NULL;
	segment_unlock();
}

/* The launcher makes itself known; it gives the name up when it exits. */
void
scheduler_slot_attach_launcher(void)
{
	before_shmem_exit(launcher_exit, (Datum) 0);
	segment_lock(LW_EXCLUSIVE);
	segment->launcher = MyLatch;
	if (segment->made_at == 0)
		segment->made_at = GetCurrentTimestamp();
	segment_unlock();
}

/*
 * Take the databases that sessions have asked a scheduler for: appended to
 * the list, in the current memory context.  Returns true when there were more
 * than the list can hold, so that every database has to be looked at.
 */
bool
scheduler_slot_take_requests(List **databases)
{
	Oid			taken[REQUESTS];
	int			n;
	bool		rescan;

	segment_lock(LW_EXCLUSIVE);
	n = segment->nrequests;
	memcpy(taken, segment->requests, n * sizeof(Oid));
	segment->nrequests = 0;
	rescan = segment->rescan;
	segment->rescan = false;
	segment_unlock();

	for (int i = 0; i < n; i++)
		*databases = list_append_unique_oid(*databases, taken[i]);
	return rescan;
}

/*
 * Reserve a slot to start a scheduler for the database.  Returns -1 if there
 * is one already (it is woken, *alive is set), if all slots are taken, or if
 * enough are starting: they need worker slots that others may want.
 */
int
scheduler_slot_reserve(Oid database, bool *alive)
{
	int			slot = -1;
	int			starting = 0;

	*alive = false;
	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		SchedulerSlot *s = &segment->schedulers[i];

		if (s->state == SCHEDULER_STARTING)
			starting++;
		if (s->state == SCHEDULER_FREE)
		{
			if (slot < 0)
				slot = i;
		}
		else if (s->database == database)
		{
			if (s->state == SCHEDULER_STARTING || s->state == SCHEDULER_RUNNING)
			{
				*alive = true;
				s->wake = true;
				if (s->latch)
					SetLatch(s->latch);
			}
			slot = -1;
			break;
		}
	}
	if (starting >= STARTING_AT_ONCE)
		slot = -1;
	if (slot >= 0)
	{
		SchedulerSlot *s = &segment->schedulers[slot];

		memset(s, 0, sizeof(SchedulerSlot));
		s->state = SCHEDULER_STARTING;
		s->database = database;
		s->launched_at = GetCurrentTimestamp();
		s->next_due = DT_NOEND;
	}
	segment_unlock();
	return slot;
}

/* Give back a slot whose process was never started. */
void
scheduler_slot_release(int slot)
{
	segment_lock(LW_EXCLUSIVE);
	if (segment->schedulers[slot].state == SCHEDULER_STARTING)
		segment->schedulers[slot].state = SCHEDULER_FREE;
	segment_unlock();
}

/* Whether there was a place for the last scheduler that was to be started. */
void
scheduler_slot_note_room(bool room)
{
	segment_lock(LW_EXCLUSIVE);
	segment->out_of_workers = !room;
	segment_unlock();
}

/* Whether the database has a scheduler, or is about to. */
bool
scheduler_slot_is_alive(Oid database)
{
	bool		alive = false;

	segment_lock(LW_SHARED);
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		SchedulerSlot *s = &segment->schedulers[i];

		alive = alive || (s->database == database &&
						  (s->state == SCHEDULER_STARTING || s->state == SCHEDULER_RUNNING));
	}
	segment_unlock();
	return alive;
}

/* Why a database without a scheduler cannot have one at present, or NULL. */
const char *
scheduler_slot_obstacle(void)
{
	const char *reason = NULL;
	int			taken = 0;

	segment_lock(LW_SHARED);
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
		taken += segment->schedulers[i].state != SCHEDULER_FREE;
	if (segment->launcher == NULL)
		reason = "waits for a scheduler: the launcher is not at work; the server log says why";
	else if (segment->out_of_workers)
		reason = "waits for a scheduler: all of \"max_worker_processes\" are in use";
	else if (taken == SCHEDULER_SLOTS)
		reason = "waits for a scheduler: too many databases have one";
	segment_unlock();
	return reason;
}

/*
 * Collect one scheduler that has gone: its database, when it wants to be
 * started again, and whether it died.  Returns false when there is none.  A
 * scheduler that was registered but did not attach within a minute is dead.
 */
bool
scheduler_slot_reap(Oid *database, TimestampTz *next_due, bool *failed)
{
	bool		found = false;
	TimestampTz now = GetCurrentTimestamp();

	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < SCHEDULER_SLOTS && !found; i++)
	{
		SchedulerSlot *s = &segment->schedulers[i];
		bool		lost = s->state == SCHEDULER_STARTING &&
			TimestampDifferenceExceeds(s->launched_at, now, LOST_AFTER_MS);

		if (s->state != SCHEDULER_DONE && !lost)
			continue;
		*database = s->database;
		*next_due = s->next_due;
		*failed = s->failed || lost;
		s->state = SCHEDULER_FREE;
		found = true;
	}
	segment_unlock();
	return found;
}

/* ---- scheduler ---- */

static void
scheduler_exit(int code, Datum arg)
{
	SchedulerSlot *s;

	if (my_scheduler < 0)
		return;
	s = &segment->schedulers[my_scheduler];
	my_scheduler = -1;
	segment_lock(LW_EXCLUSIVE);
	s->failed = s->state != SCHEDULER_FINISHING;
	s->state = SCHEDULER_DONE;
	s->latch = NULL;
	if (segment->launcher)
		SetLatch(segment->launcher);
	segment_unlock();
}

/*
 * The scheduler takes the slot it was started for.  Returns false when the
 * slot is not its own any more: it must exit.
 */
bool
scheduler_slot_attach(int slot, Oid *database)
{
	bool		ok = false;

	if (segment == NULL || slot < 0 || slot >= SCHEDULER_SLOTS)
		return false;
	segment_lock(LW_EXCLUSIVE);
	if (segment->schedulers[slot].state == SCHEDULER_STARTING)
	{
		SchedulerSlot *s = &segment->schedulers[slot];

		s->state = SCHEDULER_RUNNING;
		s->latch = MyLatch;
		*database = s->database;
		if (segment->launcher)
			SetLatch(segment->launcher);
		ok = true;
	}
	segment_unlock();
	if (ok)
	{
		my_scheduler = slot;
		before_shmem_exit(scheduler_exit, (Datum) 0);
	}
	return ok;
}

/*
 * The scheduler has nothing to do before next_due.  Returns false when it was
 * woken in the meantime and must look again; after true it must exit.
 */
bool
scheduler_slot_finish(TimestampTz next_due)
{
	SchedulerSlot *s = &segment->schedulers[my_scheduler];
	bool		ok;

	segment_lock(LW_EXCLUSIVE);
	ok = !s->wake;
	if (ok)
	{
		s->state = SCHEDULER_FINISHING;
		s->next_due = next_due;
	}
	segment_unlock();
	return ok;
}

/* Whether the scheduler was woken since it last asked. */
bool
scheduler_slot_take_wake(void)
{
	SchedulerSlot *s = &segment->schedulers[my_scheduler];
	bool		woken;

	segment_lock(LW_EXCLUSIVE);
	woken = s->wake;
	s->wake = false;
	segment_unlock();
	return woken;
}
