/*-------------------------------------------------------------------------
 *
 * run_slot.c
 *	  The slots of runs that have workers.
 *
 * A run has one from the moment its first worker is started until it has none.  The
 * segment, its lock and the rules are those of segment.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "shared/ledger.h"
#include "shared/lease.h"
#include "shared/run_slot.h"
#include "shared/segment.h"
#include "shared/size.h"

/* Share of the newest second in the rate that is shown. */
#define RATE_WEIGHT			0.3

/* Whether the run of the slot has a worker.  The caller holds the lock. */
static bool
run_is_at_work(const RunSlot *run)
{
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (segment_works_for(&segment_workers[i], run->database, run->run_id))
			return true;
	}
	return false;
}

/* The extension is gone from the database: recall its workers, forget its runs. */
void
run_slot_forget_database(Oid database)
{
	segment_lock(LW_EXCLUSIVE);
	segment_notify_workers(database);
	for (int i = 0; i < segment->nruns; i++)
	{
		if (segment_runs[i].database == database)
			segment_runs[i].in_use = false;
	}
	segment_unlock();
}

/*
 * Before a worker of a run is started, whose slot is reserved: give the run a
 * slot, with that pace and batch size.  There are as many as workers, so that
 * one without a worker is free.
 */
void
run_slot_open(Oid database, int64 run_id, const Pace *pace, int64 batch_size)
{
	int64		rows;

	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < segment->nruns && segment_find_run(database, run_id) == NULL; i++)
	{
		if (segment_runs[i].in_use && run_is_at_work(&segment_runs[i]))
			continue;
		memset(&segment_runs[i], 0, sizeof(RunSlot));
		segment_runs[i].in_use = true;
		segment_runs[i].database = database;
		segment_runs[i].run_id = run_id;
		segment_runs[i].pending = true;
		segment_runs[i].pending_due = DT_NOBEGIN;
		segment_runs[i].rate = -1;
		segment_runs[i].sampled_at = GetCurrentTimestamp();
		segment_runs[i].pace.pace = *pace;
		segment_runs[i].pace.fan_out = 1;

		/* workers of a run that had the number before, and lost its slot, may live */
		for (int j = 0; j < segment->nworkers; j++)
		{
			if (segment_works_for(&segment_workers[j], database, run_id))
				segment_runs[i].pace.rows.reserved += segment_workers[j].reserved + segment_workers[j].reserved_next;
		}
		lease_count(database, run_id, &segment_runs[i].stock.out, &rows);
		segment_runs[i].pace.rows.reserved += rows;
		segment_runs[i].pace.set_at = segment_runs[i].pace.opened_at = GetCurrentTimestamp();
		size_aim(&segment_runs[i].pace.size, &pace->aim, batch_size);
		ledger_open(&segment_runs[i].pace.wal, &pace->wal);
		ledger_open(&segment_runs[i].pace.all_rows, &segment->budgets.rows);
		ledger_open(&segment_runs[i].pace.all_wal, &segment->budgets.wal);
	}
	segment_unlock();
}

/*
 * Free the slots of runs of the database that have no worker, and had none at that time:
 * what the last one has left in the slot was to be seen since.
 */
void
run_slot_close_idle(Oid database, TimestampTz since)
{
	TimestampTz now = GetCurrentTimestamp();

	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < segment->nruns; i++)
	{
		RunSlot    *run = &segment_runs[i];

		if (run->in_use && run->database == database && !run_is_at_work(run) &&
			(run->left_at < since || run->left_at > now))
			run->in_use = false;
	}
	segment_unlock();
}

/*
 * What workers of the run have done with their time, in microseconds by state, since this
 * was last asked.  Whoever asks stores it: it is forgotten here.  Returns false if there
 * is nothing.
 */
bool
run_slot_take_times(Oid database, int64 run_id, int64 *times)
{
	RunSlot    *run;
	bool		any = false;

	memset(times, 0, sizeof(int64) * WORKER_STATES);
	if (!segment_available())
		return false;
	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (segment_works_for(&segment_workers[i], database, run_id))
			segment_count_time(&segment_workers[i]);
	}
	run = segment_find_run(database, run_id);
	for (int i = 0; run && i < WORKER_STATES; i++)
	{
		times[i] = run->spent[i];
		run->spent[i] = 0;
		any = any || times[i] > 0;
	}
	segment_unlock();
	return any;
}

/* The token of the last worker of the run that got as far as claiming batches; 0 if none has lately. */
int64
run_slot_ready(Oid database, int64 run_id)
{
	RunSlot    *run;
	int64		ready;

	segment_lock(LW_SHARED);
	run = segment_find_run(database, run_id);
	ready = run ? run->ready : 0;
	segment_unlock();
	return ready;
}

/* About once a second: bring the rates of the database's runs up to date. */
void
run_slot_sample(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();

	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < segment->nruns; i++)
	{
		RunSlot    *r = &segment_runs[i];
		double		seconds = (now - r->sampled_at) / 1000000.0;
		double		rate;

		if (!r->in_use || r->database != database || (seconds >= 0 && seconds < 0.9))
			continue;
		if (seconds < 0)
		{
			/* the clock was set back: measured from now on */
			r->sampled_rows = r->rows_scanned;
			r->sampled_at = now;
			continue;
		}
		rate = (r->rows_scanned - r->sampled_rows) / seconds;
		r->rate = r->rate < 0 ? rate :
			RATE_WEIGHT * rate + (1 - RATE_WEIGHT) * r->rate;
		r->sampled_rows = r->rows_scanned;
		r->sampled_at = now;
	}
	segment_unlock();
}

/*
 * Batches of the run have become pending: workers must look for them, from that
 * time on; DT_NOBEGIN for at once.
 */
void
run_slot_set_pending(Oid database, int64 run_id, TimestampTz due)
{
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	if (run)
	{
		run->pending_due = run->pending ? Min(run->pending_due, due) : due;
		run->pending = true;
		run->pending_changes++;
	}
	segment_unlock();
}

/*
 * The caller has cut batches, which are pending: workers may take them.  It has looked for
 * pending ones when "known" were the changes; returns what is to be known now, so that it
 * does not look for its own.
 */
int
run_slot_note_cut(Oid database, int64 run_id, int known)
{
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	if (run)
	{
		if (run->pending_changes++ == known)
			known = run->pending_changes;
		run->pending = true;
		run->pending_due = DT_NOBEGIN;
	}
	segment_unlock();
	return known;
}

/*
 * Whether there may be pending batches, and from when on.  *changes is what has
 * to be given to run_slot_clear_pending after looking in vain.
 */
bool
run_slot_has_pending(Oid database, int64 run_id, int *changes, TimestampTz *due)
{
	RunSlot    *run;
	bool		pending = true;

	*changes = 0;
	*due = DT_NOBEGIN;
	segment_lock(LW_SHARED);
	run = segment_find_run(database, run_id);
	if (run)
	{
		pending = run->pending;
		*changes = run->pending_changes;
		*due = run->pending_due;
	}
	segment_unlock();
	return pending;
}

/*
 * There was no pending batch that is due before that time, DT_NOEND if there
 * was none at all, unless one came since changes was read.
 */
void
run_slot_clear_pending(Oid database, int64 run_id, int changes, TimestampTz due)
{
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	if (run && run->pending_changes == changes)
	{
		run->pending = due != DT_NOEND;
		run->pending_due = due;
	}
	segment_unlock();
}

/*
 * The worker has made so many bytes free, and what a batch of its left cannot be freed
 * since kept_since; 0 if there is no such.  So many rows are a small part of the table in hand; 0 if nothing new is
 * known of that, SIZE_NO_PART if it may grow.
 */
void
run_slot_note_space(int64 freed, TimestampTz kept_since, int64 part)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	w->kept_since = kept_since;
	run = segment_find_run(w->database, w->run_id);
	if (run)
	{
		run->freed += freed;
		if (part != 0)
			size_set_part(&run->pace.size, part);
	}
	segment_unlock();
}

/* Since when something that batches of the run have left cannot be freed; 0 for nothing. */
TimestampTz
run_slot_kept_since(Oid database, int64 run_id)
{
	TimestampTz since = 0;

	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nworkers; i++)
	{
		const WorkerSlot *w = &segment_workers[i];

		if (segment_works_for(w, database, run_id) && w->kept_since != 0 &&
			(since == 0 || w->kept_since < since))
			since = w->kept_since;
	}
	segment_unlock();
	return since;
}

/* Copies of the slots of the database's runs, palloc'd.  Returns how many there are. */
int
run_slot_copy(Oid database, RunSlot **copies)
{
	int			n = 0;

	*copies = palloc(sizeof(RunSlot) * segment->nruns);
	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nruns; i++)
	{
		if (segment_runs[i].in_use && segment_runs[i].database == database)
			(*copies)[n++] = segment_runs[i];
	}
	segment_unlock();
	return n;
}
