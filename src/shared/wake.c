/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking whoever has to know, at once or at commit.
 *
 * Something has changed in the tables: the workers of the run read it again, the
 * scheduler of the database looks again, or the launcher is asked for one.  Nobody
 * is woken for the runs of others, or any role could keep all of them busy.
 *
 * What a transaction has changed is known by subtransaction: a change that was
 * rolled back to a savepoint wakes nobody, and keeps nobody from PREPARE
 * TRANSACTION.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "shared/segment.h"
#include "shared/wake.h"
#include "shared/worker_slot.h"

/* The runs that the end of a transaction is to wake. */
typedef struct Wake
{
	WakeTarget	target;
	int			level;			/* of the subtransaction that has changed them */
	int64		cancelled;		/* stream whose batches are to be cancelled, or 0 */
} Wake;

#define WAKES_MAX			32

static Wake wakes[WAKES_MAX];
static int	nwakes = 0;

/* Set the latch of the scheduler of the database.  Caller holds the lock. */
static bool
set_scheduler_latch(Oid database)
{
	for (int i = 0; i < SCHEDULER_SLOTS; i++)
	{
		SchedulerSlot *s = &segment->schedulers[i];

		if (s->database != database ||
			(s->state != SCHEDULER_RUNNING && s->state != SCHEDULER_STARTING))
			continue;
		s->wake = true;
		if (s->latch)
			SetLatch(s->latch);
		return true;
	}
	return false;
}

/* Have the scheduler of the database, if there is one, look again. */
void
wake_scheduler(Oid database)
{
	segment_lock(LW_EXCLUSIVE);
	(void) set_scheduler_latch(database);
	segment_unlock();
}

/* Whether a run, whose owner may be unknown, is among those. */
static bool
is_target(const WakeTarget *target, Oid owner, int64 run_id)
{
	return (!OidIsValid(target->owner) || !OidIsValid(owner) || target->owner == owner) &&
		(target->run_id == 0 || target->run_id == run_id);
}

/* Ask the launcher for a scheduler of the database.  Caller holds the lock. */
static void
ask_launcher(Oid database)
{
	bool		known = false;

	for (int i = 0; i < segment->nrequests; i++)
		known = known || segment->requests[i] == database;
	if (!known && segment->nrequests < REQUESTS)
		segment->requests[segment->nrequests++] = database;
	else if (!known)
		segment->rescan = true;
	if (segment->launcher)
		SetLatch(segment->launcher);
}

/*
 * Something has changed in those runs of the database: have their workers read
 * them again, wake its scheduler, or ask the launcher for one.
 */
void
wake_runs(Oid database, WakeTarget target)
{
	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < segment->nworkers; i++)
	{
		WorkerSlot *w = &segment_workers[i];

		if (!w->in_use || w->database != database || !is_target(&target, w->owner, w->run_id))
			continue;
		w->notified = true;
		if (w->latch)
			SetLatch(w->latch);
	}
	for (int i = 0; i < SLOT_WAITERS; i++)
	{
		/* what has changed may be how long it sleeps */
		if (segment->rests[i].database == database &&
			is_target(&target, InvalidOid, segment->rests[i].run_id))
			segment->rests[i].run_id = 0;
	}
	for (int i = 0; i < segment->nruns; i++)
	{
		/* what has changed may be that batches are pending again */
		if (!segment_runs[i].in_use || segment_runs[i].database != database ||
			!is_target(&target, InvalidOid, segment_runs[i].run_id))
			continue;
		segment_note_pending(&segment_runs[i]);
	}
	if (!set_scheduler_latch(database))
		ask_launcher(database);
	segment_unlock();
}

static void
wake_callback(XactEvent event, void *arg)
{
	if (nwakes == 0)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			for (int i = 0; i < nwakes; i++)
			{
				wake_runs(MyDatabaseId, wakes[i].target);
				if (wakes[i].cancelled != 0)
					worker_slot_cancel(MyDatabaseId, wakes[i].target.run_id, wakes[i].cancelled);
			}
			nwakes = 0;
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has changed a backfill run")));
			break;
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			nwakes = 0;
			break;
		default:
			break;
	}
}

/* A subtransaction ends: its changes are its parent's, or never were. */
static void
wake_subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
					  void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	int			n = 0;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = 0; i < nwakes; i++)
	{
		if (wakes[i].level >= level && event == SUBXACT_EVENT_ABORT_SUB)
			continue;
		wakes[n] = wakes[i];
		wakes[n].level = Min(wakes[n].level, level - (event == SUBXACT_EVENT_COMMIT_SUB));
		n++;
	}
	nwakes = n;
}

/*
 * Wake those runs when, and only if, what has changed them now commits; with a stream, have
 * what is at work on it cancelled then.  Not before: who is cancelled looks whether his stream
 * is his any more.
 */
static void
note_wake(WakeTarget target, int64 cancelled)
{
	static bool registered = false;
	int			level = GetCurrentTransactionNestLevel();

	if (segment == NULL)
		return;
	if (!registered)
	{
		RegisterXactCallback(wake_callback, NULL);
		RegisterSubXactCallback(wake_subxact_callback, NULL);
		registered = true;
	}
	for (int i = 0; i < nwakes; i++)
	{
		if (wakes[i].level <= level && wakes[i].target.owner == target.owner &&
			wakes[i].target.run_id == target.run_id && wakes[i].cancelled == cancelled)
			return;
	}

	/* too many to be told apart: wake them all, whatever becomes of the last */
	if (nwakes == WAKES_MAX)
	{
		Wake	   *last = &wakes[nwakes - 1];

		*last = (Wake) {{InvalidOid, 0}, Min(last->level, level)};
		return;
	}
	wakes[nwakes++] = (Wake) {target, level, cancelled};
}

/* Wake those runs when, and only if, what has changed them now commits. */
void
wake_at_commit(WakeTarget target)
{
	note_wake(target, 0);
}

/* The same, and have what is at work on a stream of the run cancelled. */
void
wake_cancel_at_commit(WakeTarget target, int64 stream)
{
	note_wake(target, stream);
}

/* Runs of the database are gone: their workers are to see it, too. */
void
wake_workers(Oid database)
{
	segment_lock(LW_EXCLUSIVE);
	segment_notify_workers(database);
	segment_unlock();
}
