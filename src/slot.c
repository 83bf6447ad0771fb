/*-------------------------------------------------------------------------
 *
 * slot.c
 *	  The slots of workers and runs in shared memory.
 *
 * The segment, its lock and the rules are those of shared.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "signal.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "shared_state.h"

/* Share of the newest second in the rate that is shown. */
#define RATE_WEIGHT			0.3
/* How often to look who waits for a batch that takes long. */
#define YIELD_LOOK_MS		50
#define YIELD_LOOK_MIN_MS	10

static int	my_worker = -1;

/* Reserve a slot for a worker of the run; -1 when all are taken. */
int
shared_worker_reserve(Oid database, Oid owner, int64 run_id)
{
	int			slot = -1;
	uint32		token;

	if (!pg_strong_random(&token, sizeof(token)))
		elog(ERROR, "could not generate a random number");

	shared_lock(LW_EXCLUSIVE);
	for (int i = 0; i < shared->nworkers; i++)
	{
		WorkerSlot *w = &workers[i];

		if (w->in_use)
			continue;
		memset(w, 0, sizeof(WorkerSlot));
		w->number = i + 1;
		w->in_use = true;
		w->database = database;
		w->owner = owner;
		w->run_id = run_id;
		w->token = shared->boot << 32 | token;
		w->launched_at = w->state_since = GetCurrentTimestamp();
		w->state = WORKER_STARTING;
		slot = i;
		break;
	}
	shared_unlock();
	return slot;
}

/* Give back the slot of a worker that did not come to life. */
void
shared_worker_release(int slot, int64 token)
{
	shared_lock(LW_EXCLUSIVE);
	if (workers[slot].in_use && workers[slot].token == token)
		workers[slot].in_use = false;
	shared_unlock();
}

/*
 * Whether the worker with that token has attached to the slot.  *alive says
 * whether it still has the slot.
 */
bool
shared_worker_attached(int slot, int64 token, bool *alive)
{
	bool		attached;

	shared_lock(LW_SHARED);
	*alive = workers[slot].in_use && workers[slot].token == token;
	attached = *alive && workers[slot].attached;
	shared_unlock();
	return attached;
}

/*
 * Free the slots of workers of the database that were registered long ago and
 * never came: whoever registered them may be gone, too.
 */
void
shared_release_lost_workers(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();

	shared_lock(LW_EXCLUSIVE);
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (workers[i].in_use && !workers[i].attached &&
			workers[i].database == database &&
			TimestampDifferenceExceeds(workers[i].launched_at, now, LOST_AFTER_MS))
			workers[i].in_use = false;
	}
	shared_unlock();
}

/* The token of the worker the slot is reserved for. */
int64
shared_worker_token(int slot)
{
	int64		token;

	shared_lock(LW_SHARED);
	token = workers[slot].token;
	shared_unlock();
	return token;
}

/* Whether the slot is that of a worker of the run.  The caller holds the lock. */
static bool
works_for(const WorkerSlot *w, Oid database, int64 run_id)
{
	return w->in_use && w->database == database && w->run_id == run_id;
}

/*
 * The number of workers of the run, those not yet attached included.  Their
 * tokens go to *tokens, in the current memory context, if that is not NULL.
 */
int
shared_run_workers(Oid database, int64 run_id, int64 **tokens)
{
	int			n = 0;

	if (tokens)
		*tokens = palloc(sizeof(int64) * shared->nworkers);
	shared_lock(LW_SHARED);
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (!works_for(&workers[i], database, run_id))
			continue;
		if (tokens)
			(*tokens)[n] = workers[i].token;
		n++;
	}
	shared_unlock();
	return n;
}

/* Cancel what the workers of the run are executing, but not their leaving. */
void
shared_run_cancel(Oid database, int64 run_id)
{
	shared_lock(LW_SHARED);
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (works_for(&workers[i], database, run_id) && workers[i].attached &&
			workers[i].state != WORKER_LEAVING)
			kill(workers[i].pid, SIGINT);
	}
	shared_unlock();
}

/* The slot of the run, or NULL.  The caller holds the lock. */
RunSlot *
shared_find_run(Oid database, int64 run_id)
{
	for (int i = 0; i < shared->nruns; i++)
	{
		if (runs[i].in_use && runs[i].database == database &&
			runs[i].run_id == run_id)
			return &runs[i];
	}
	return NULL;
}

/* Whether the run of the slot has a worker.  The caller holds the lock. */
static bool
run_is_at_work(const RunSlot *run)
{
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (works_for(&workers[i], run->database, run->run_id))
			return true;
	}
	return false;
}

/*
 * Have the workers of the database read their runs again, also those that
 * sleep for hours.  The caller holds the lock.
 */
void
shared_notify_workers(Oid database)
{
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (!workers[i].in_use || workers[i].database != database)
			continue;
		workers[i].notified = true;
		if (workers[i].latch)
			SetLatch(workers[i].latch);
	}
}

/* The same for the workers of one run.  The caller holds the lock. */
void
shared_notify_run(Oid database, int64 run_id)
{
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (!works_for(&workers[i], database, run_id))
			continue;
		workers[i].notified = true;
		if (workers[i].latch)
			SetLatch(workers[i].latch);
	}
}

/* Runs of the database are gone: their workers are to see it, too. */
void
shared_recall_workers(Oid database)
{
	shared_lock(LW_EXCLUSIVE);
	shared_notify_workers(database);
	shared_unlock();
}

/* The extension is gone from the database: recall its workers, forget its runs. */
void
shared_forget_database(Oid database)
{
	shared_lock(LW_EXCLUSIVE);
	shared_notify_workers(database);
	for (int i = 0; i < shared->nruns; i++)
	{
		if (runs[i].database == database)
			runs[i].in_use = false;
	}
	shared_unlock();
}

/*
 * Before a worker of a run is started, whose slot is reserved: give the run a
 * slot, with that pace and batch size.  There are as many as workers, so that
 * one without a worker is free.
 */
void
shared_run_open(Oid database, int64 run_id, const Pace *pace, int64 batch_size)
{
	shared_lock(LW_EXCLUSIVE);
	for (int i = 0; i < shared->nruns && shared_find_run(database, run_id) == NULL; i++)
	{
		if (runs[i].in_use && run_is_at_work(&runs[i]))
			continue;
		memset(&runs[i], 0, sizeof(RunSlot));
		runs[i].in_use = true;
		runs[i].database = database;
		runs[i].run_id = run_id;
		runs[i].pending = true;
		runs[i].pending_due = DT_NOBEGIN;
		runs[i].rate = -1;
		runs[i].sampled_at = GetCurrentTimestamp();
		runs[i].pace.pace = *pace;
		runs[i].pace.fan_out = 1;

		/* workers of a run that had the number before, and lost its slot, may live */
		for (int j = 0; j < shared->nworkers; j++)
		{
			if (works_for(&workers[j], database, run_id))
				runs[i].pace.rows.reserved += workers[j].reserved + workers[j].reserved_next;
		}
		runs[i].pace.set_at = runs[i].pace.opened_at = GetCurrentTimestamp();
		size_aim(&runs[i].pace.size, &pace->aim, batch_size);
		ledger_open(&runs[i].pace.wal, &pace->wal);
		ledger_open(&runs[i].pace.all_rows, &shared->budgets.rows);
		ledger_open(&runs[i].pace.all_wal, &shared->budgets.wal);
	}
	shared_unlock();
}

/* Free the slots of runs of the database that have no worker. */
void
shared_close_idle_runs(Oid database)
{
	shared_lock(LW_EXCLUSIVE);
	for (int i = 0; i < shared->nruns; i++)
	{
		if (runs[i].in_use && runs[i].database == database && !run_is_at_work(&runs[i]))
			runs[i].in_use = false;
	}
	shared_unlock();
}

/* How many workers of the run ever got as far as claiming batches. */
int
shared_run_ready(Oid database, int64 run_id)
{
	RunSlot    *run;
	int			ready;

	shared_lock(LW_SHARED);
	run = shared_find_run(database, run_id);
	ready = run ? run->ready : 0;
	shared_unlock();
	return ready;
}

/* About once a second: bring the rates of the database's runs up to date. */
void
shared_run_sample(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();

	shared_lock(LW_EXCLUSIVE);
	for (int i = 0; i < shared->nruns; i++)
	{
		RunSlot    *r = &runs[i];
		double		seconds = (now - r->sampled_at) / 1000000.0;
		double		rate;

		if (!r->in_use || r->database != database || seconds < 0.9)
			continue;
		rate = (r->rows_scanned - r->sampled_rows) / seconds;
		r->rate = r->rate < 0 ? rate :
			RATE_WEIGHT * rate + (1 - RATE_WEIGHT) * r->rate;
		r->sampled_rows = r->rows_scanned;
		r->sampled_at = now;
	}
	shared_unlock();
}

/*
 * Batches of the run have become pending: workers must look for them, from that
 * time on; DT_NOBEGIN for at once.
 */
void
shared_run_set_pending(Oid database, int64 run_id, TimestampTz due)
{
	RunSlot    *run;

	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(database, run_id);
	if (run)
	{
		run->pending_due = run->pending ? Min(run->pending_due, due) : due;
		run->pending = true;
		run->pending_changes++;
	}
	shared_unlock();
}

/*
 * Whether there may be pending batches, and from when on.  *changes is what has
 * to be given to shared_run_clear_pending after looking in vain.
 */
bool
shared_run_has_pending(Oid database, int64 run_id, int *changes, TimestampTz *due)
{
	RunSlot    *run;
	bool		pending = true;

	*changes = 0;
	*due = DT_NOBEGIN;
	shared_lock(LW_SHARED);
	run = shared_find_run(database, run_id);
	if (run)
	{
		pending = run->pending;
		*changes = run->pending_changes;
		*due = run->pending_due;
	}
	shared_unlock();
	return pending;
}

/*
 * There was no pending batch that is due before that time, DT_NOEND if there
 * was none at all, unless one came since changes was read.
 */
void
shared_run_clear_pending(Oid database, int64 run_id, int changes, TimestampTz due)
{
	RunSlot    *run;

	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(database, run_id);
	if (run && run->pending_changes == changes)
	{
		run->pending = due != DT_NOEND;
		run->pending_due = due;
	}
	shared_unlock();
}

static void
worker_exit(int code, Datum arg)
{
	WorkerSlot *w;

	if (my_worker < 0)
		return;
	w = &workers[my_worker];
	my_worker = -1;
	shared_lock(LW_EXCLUSIVE);
	pace_worker_gone(w);
	w->in_use = false;
	w->latch = NULL;

	/* the slot may be what other runs, of any database, are waiting for */
	shared_wake_schedulers();
	shared_unlock();
}

/*
 * The worker takes the slot it was started for and gets a copy of it.
 * Returns false when the slot is not its own any more: it must exit.
 */
bool
shared_worker_attach(int slot, int64 token, WorkerSlot *copy)
{
	bool		ok = false;

	if (shared == NULL || slot < 0 || slot >= shared->nworkers)
		return false;
	shared_lock(LW_EXCLUSIVE);
	if (workers[slot].in_use && !workers[slot].attached && workers[slot].token == token)
	{
		WorkerSlot *w = &workers[slot];

		w->attached = true;
		if (shared->first_worker_at == 0)
			shared->first_worker_at = GetCurrentTimestamp();
		w->pid = MyProcPid;
		w->latch = MyLatch;
		w->started_at = w->state_since = GetCurrentTimestamp();
		w->state = WORKER_PREPARING;
		*copy = *w;
		ok = true;
	}
	shared_unlock();
	if (ok)
	{
		my_worker = slot;
		before_shmem_exit(worker_exit, (Datum) 0);
	}
	return ok;
}

/*
 * Whether the server came up after a crash a moment ago.  What brought it down
 * may be a batch that nobody suspects yet.
 */
bool
shared_is_cautious(void)
{
	bool		cautious;

	shared_lock(LW_SHARED);
	cautious = !shared->clean_start &&
		!TimestampDifferenceExceeds(shared->first_worker_at, GetCurrentTimestamp(),
									CAUTION_MS);
	shared_unlock();
	return cautious;
}

/* Whether the row of the run has changed since the worker last read it. */
bool
shared_worker_noticed(void)
{
	bool		notified;

	shared_lock(LW_SHARED);
	notified = workers[my_worker].notified;
	shared_unlock();
	return notified;
}

/* The worker is about to read the row of the run. */
void
shared_worker_take_notice(void)
{
	shared_lock(LW_EXCLUSIVE);
	workers[my_worker].notified = false;
	shared_unlock();
}

/* How many workers of the same run have an earlier slot. */
int
shared_worker_rank(void)
{
	int			rank = 0;
	WorkerSlot *me = &workers[my_worker];

	shared_lock(LW_SHARED);
	for (int i = 0; i < my_worker; i++)
	{
		if (works_for(&workers[i], me->database, me->run_id))
			rank++;
	}
	shared_unlock();
	return rank;
}

/* The worker got as far as claiming batches. */
void
shared_worker_ready(void)
{
	RunSlot    *run;

	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(workers[my_worker].database, workers[my_worker].run_id);
	if (run)
		run->ready++;
	shared_unlock();
}

/* Show what the worker does. */
void
shared_worker_state(WorkerState state, int64 batch, int attempt)
{
	WorkerSlot *w = &workers[my_worker];

	shared_lock(LW_EXCLUSIVE);
	w->state = state;
	w->state_since = GetCurrentTimestamp();
	w->batch = batch;
	w->attempt = attempt;
	shared_unlock();
}

/* The slot of this worker, whose own part of it only this worker writes. */
WorkerSlot *
shared_my_worker(void)
{
	return &workers[my_worker];
}

/*
 * Cancel the batch that the worker had in hand when its slot was copied, because
 * another process waits for it.
 */
void
shared_worker_yield(int slot, int64 token, int64 batch, pid_t to)
{
	WorkerSlot *w = &workers[slot];

	shared_lock(LW_EXCLUSIVE);
	if (w->in_use && w->token == token && w->state == WORKER_RUNNING && w->batch == batch &&
		w->yield_to == 0)
	{
		w->yield_to = to;
		kill(w->pid, SIGINT);
	}
	shared_unlock();
}

/*
 * Copies, in the current memory context, of the slots of workers that have been
 * in their batch for longer than the yield_after of their run.  Returns their
 * number.  *next is the number of milliseconds after which there may be more, or
 * after which to look again for who waits for these; -1 without workers.
 */
int
shared_long_batches(Oid database, WorkerSlot **copies, long *next)
{
	TimestampTz now = GetCurrentTimestamp();
	int			n = 0;

	*copies = palloc(sizeof(WorkerSlot) * shared->nworkers);
	*next = -1;
	shared_lock(LW_SHARED);
	for (int i = 0; i < shared->nworkers; i++)
	{
		WorkerSlot *w = &workers[i];
		RunSlot    *run;
		int64		yield_after;
		int64		left;

		if (!w->in_use || w->database != database)
			continue;
		run = shared_find_run(w->database, w->run_id);
		yield_after = run ? run->pace.pace.yield_after : 0;
		if (yield_after == 0)
			continue;

		/* what begins now cannot have taken long before that time */
		left = w->state != WORKER_RUNNING ? yield_after :
			yield_after - (now - w->state_since) / 1000;
		if (left <= 0)
		{
			(*copies)[n] = *w;
			(*copies)[n++].yield_after = yield_after;
			left = Max(Min(yield_after / 2, YIELD_LOOK_MS), YIELD_LOOK_MIN_MS);
		}
		*next = *next < 0 ? (long) left : Min(*next, (long) left);
	}
	shared_unlock();
	return n;
}

/* The process that the batch in hand was cancelled for, or 0. */
pid_t
shared_worker_take_yield(void)
{
	pid_t		to;

	/* every batch asks, and hardly ever has one to give way */
	if (workers[my_worker].yield_to == 0)
		return 0;
	shared_lock(LW_EXCLUSIVE);
	to = workers[my_worker].yield_to;
	workers[my_worker].yield_to = 0;
	shared_unlock();
	return to;
}

/* The rate of the run over the last seconds, or -1 while it is unknown. */
double
shared_run_rate(Oid database, int64 run_id)
{
	RunSlot    *run;
	double		rate;

	shared_lock(LW_SHARED);
	run = shared_find_run(database, run_id);
	rate = run ? run->rate : -1;
	shared_unlock();
	return rate;
}

/* A batch is committed: count it. */
void
shared_worker_done(int64 rows_scanned, int64 rows_affected)
{
	WorkerSlot *w = &workers[my_worker];
	RunSlot    *run;

	shared_lock(LW_EXCLUSIVE);
	w->batches++;
	w->rows_scanned += rows_scanned;
	w->rows_affected += rows_affected;
	run = shared_find_run(w->database, w->run_id);
	if (run)
		run->rows_scanned += rows_scanned;
	shared_unlock();
}

/* Copies of all slots of the database's workers, in the current context. */
int
shared_copy_workers(Oid database, WorkerSlot **copies)
{
	int			n = 0;

	*copies = palloc(sizeof(WorkerSlot) * shared->nworkers);
	shared_lock(LW_SHARED);
	for (int i = 0; i < shared->nworkers; i++)
	{
		if (!workers[i].in_use || workers[i].database != database)
			continue;
		(*copies)[n++] = workers[i];
	}
	shared_unlock();
	return n;
}

/* The same for runs. */
int
shared_copy_runs(Oid database, RunSlot **copies)
{
	int			n = 0;

	*copies = palloc(sizeof(RunSlot) * shared->nruns);
	shared_lock(LW_SHARED);
	for (int i = 0; i < shared->nruns; i++)
	{
		if (runs[i].in_use && runs[i].database == database)
			(*copies)[n++] = runs[i];
	}
	shared_unlock();
	return n;
}
