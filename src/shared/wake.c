/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking whoever has to know, at once or at commit.
 *
 * Something has changed in the tables: the workers of the database read their runs
 * again, its scheduler looks again, or the launcher is asked for one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "shared/segment.h"
#include "shared/wake.h"

/* Whether the end of the current transaction is to wake its database. */
static bool is_wanted = false;

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

/*
 * Something has changed in the runs of the database: have its workers read
 * their run again, wake its scheduler, or ask the launcher for one.
 */
void
wake_database(Oid database)
{
	segment_lock(LW_EXCLUSIVE);
	segment_notify_workers(database);
	for (int i = 0; i < segment->nruns; i++)
	{
		/* what has changed may be that batches are pending again */
		if (!segment_runs[i].in_use || segment_runs[i].database != database)
			continue;
		segment_runs[i].pending = true;
		segment_runs[i].pending_due = DT_NOBEGIN;
		segment_runs[i].pending_changes++;
	}
	if (!set_scheduler_latch(database))
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
	segment_unlock();
}

static void
wake_callback(XactEvent event, void *arg)
{
	if (!is_wanted)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			is_wanted = false;
			wake_database(MyDatabaseId);
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has changed a backfill run")));
			break;
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			is_wanted = false;
			break;
		default:
			break;
	}
}

/* Wake the current database when, and only if, this transaction commits. */
void
wake_at_commit(void)
{
	static bool registered = false;

	if (segment == NULL)
		return;
	if (!registered)
	{
		RegisterXactCallback(wake_callback, NULL);
		registered = true;
	}
	is_wanted = true;
}

/* Runs of the database are gone: their workers are to see it, too. */
void
wake_workers(Oid database)
{
	segment_lock(LW_EXCLUSIVE);
	segment_notify_workers(database);
	segment_unlock();
}
