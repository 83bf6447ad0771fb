/*-------------------------------------------------------------------------
 *
 * worker_slot.c
 *	  The slots of workers.
 *
 * The scheduler reserves a slot, the worker attaches to it, and gives it back when
 * it exits.  The segment, its lock and the rules are those of segment.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "signal.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "shared/segment.h"
#include "shared/share.h"
#include "shared/worker_slot.h"

/* How often to look who waits for a batch that takes long. */
#define YIELD_LOOK_MS		50
#define YIELD_LOOK_MIN_MS	10

/* Reserve a slot for a worker of the run; -1 when it has to wait for one. */
int
worker_slot_reserve(Oid database, Oid owner, int64 run_id)
{
	int			slot = -1;
	bool		may_take;
	uint32		token;

	if (!pg_strong_random(&token, sizeof(token)))
		elog(ERROR, "could not generate a random number");

	segment_lock(LW_EXCLUSIVE);
	may_take = share_may_take(database, owner, run_id);
	for (int i = 0; i < segment->nworkers && may_take; i++)
	{
		WorkerSlot *w = &segment_workers[i];

		if (w->in_use)
			continue;
		memset(w, 0, sizeof(WorkerSlot));
		w->number = i + 1;
		w->in_use = true;
		w->database = database;
		w->owner = owner;
		w->run_id = run_id;
		w->token = segment->boot << 32 | token;
		w->launched_at = w->state_since = w->counted_to = GetCurrentTimestamp();
		w->state = WORKER_STARTING;
		slot = i;
		break;
	}
	segment_unlock();
	return slot;
}

/* Give back the slot of a worker that did not come to life. */
void
worker_slot_release(int slot, int64 token)
{
	segment_lock(LW_EXCLUSIVE);
	if (segment_workers[slot].in_use && segment_workers[slot].token == token)
		segment_workers[slot].in_use = false;
	segment_unlock();
}

/*
 * Whether the worker with that token has attached to the slot.  *alive says
 * whether it still has the slot.
 */
bool
worker_slot_is_attached(int slot, int64 token, bool *alive)
{
	bool		attached;

	segment_lock(LW_SHARED);
	*alive = segment_workers[slot].in_use && segment_workers[slot].token == token;
	attached = *alive && segment_workers[slot].attached;
	segment_unlock();
	return attached;
}

/*
 * Free the slots of workers of the database that were registered long ago and
 * never came: whoever registered them may be gone, too.
 */
void
worker_slot_release_lost(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();

	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (segment_workers[i].in_use && !segment_workers[i].attached &&
			segment_workers[i].database == database &&
			TimestampDifferenceExceeds(segment_workers[i].launched_at, now, LOST_AFTER_MS))
			segment_workers[i].in_use = false;
	}
	segment_unlock();
}

/* The token of the worker the slot is reserved for. */
int64
worker_slot_token(int slot)
{
	int64		token;

	segment_lock(LW_SHARED);
	token = segment_workers[slot].token;
	segment_unlock();
	return token;
}

/*
 * The number of workers of the run, those not yet attached included.  Their
 * tokens go to *tokens, in the current memory context, if that is not NULL.
 */
int
worker_slot_count(Oid database, int64 run_id, int64 **tokens)
{
	int			n = 0;

	if (tokens)
		*tokens = palloc(sizeof(int64) * segment->nworkers);
	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (!segment_works_for(&segment_workers[i], database, run_id))
			continue;
		if (tokens)
			(*tokens)[n] = segment_workers[i].token;
		n++;
	}
	segment_unlock();
	return n;
}

/*
 * Cancel what the workers of the run are executing, but not their leaving; with a stream, only
 * those that have it in hand.
 */
void
worker_slot_cancel(Oid database, int64 run_id, int64 stream)
{
	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (segment_works_for(&segment_workers[i], database, run_id) && segment_workers[i].attached &&
			segment_workers[i].state != WORKER_LEAVING &&
			(stream == 0 || segment_workers[i].stream == stream))
			kill(segment_workers[i].pid, SIGINT);
	}
	segment_unlock();
}

/* Whether a worker of the run waits for a synchronous standby. */
bool
worker_slot_in_sync_rep(Oid database, int64 run_id)
{
	bool		found = false;

	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nworkers && !found; i++)
	{
		PGPROC	   *proc;

		if (!segment_works_for(&segment_workers[i], database, run_id) || !segment_workers[i].attached)
			continue;
		proc = BackendPidGetProc(segment_workers[i].pid);
		found = proc && proc->wait_event_info == WAIT_EVENT_SYNC_REP;
	}
	segment_unlock();
	return found;
}

/*
 * The worker is about to end because something of ours could not be done, not
 * because of the batch that it may have in hand.
 */
void
worker_slot_pardon(void)
{
	WorkerSlot *w = segment_my_worker();

	if (w == NULL)
		return;
	segment_lock(LW_EXCLUSIVE);
	segment->pardoned[segment->npardoned++ % PARDONS] = w->token;
	segment_unlock();
}

/* The tokens of such workers, in the current memory context.  Returns their number. */
int
worker_slot_pardoned(int64 **tokens)
{
	int			n;

	*tokens = palloc(sizeof(segment->pardoned));
	segment_lock(LW_SHARED);
	n = Min(segment->npardoned, PARDONS);
	memcpy(*tokens, segment->pardoned, sizeof(segment->pardoned));
	segment_unlock();
	return n;
}

static void
worker_exit(int code, Datum arg)
{
	WorkerSlot *w;
	RunSlot    *run;

	w = segment_my_worker();
	if (w == NULL)
		return;
	segment_lock(LW_EXCLUSIVE);
	share_note_exit();
	segment_count_time(w);
	run = segment_find_run(w->database, w->run_id);
	if (run)
		run->left_at = GetCurrentTimestamp();
	segment_set_my_worker(-1);
	w->in_use = false;
	w->latch = NULL;

	/* the slot may be what other runs, of any database, are waiting for */
	segment_wake_schedulers();
	segment_unlock();
}

/*
 * The worker takes the slot it was started for and gets a copy of it.
 * Returns false when the slot is not its own any more: it must exit.
 */
bool
worker_slot_attach(int slot, int64 token, WorkerSlot *copy)
{
	bool		ok = false;

	if (segment == NULL || slot < 0 || slot >= segment->nworkers)
		return false;
	segment_lock(LW_EXCLUSIVE);
	if (segment_workers[slot].in_use && !segment_workers[slot].attached && segment_workers[slot].token == token)
	{
		WorkerSlot *w = &segment_workers[slot];

		segment_count_time(w);
		w->attached = true;
		if (segment->first_worker_at == 0)
			segment->first_worker_at = GetCurrentTimestamp();
		w->pid = MyProcPid;
		w->latch = MyLatch;
		w->started_at = w->state_since = GetCurrentTimestamp();
		w->state = WORKER_PREPARING;
		*copy = *w;
		ok = true;
	}
	segment_unlock();
	if (ok)
	{
		segment_set_my_worker(slot);
		before_shmem_exit(worker_exit, (Datum) 0);
	}
	return ok;
}

/*
 * Whether the server came up after a crash a moment ago.  What brought it down
 * may be a batch that nobody suspects yet.
 */
bool
worker_slot_is_cautious(void)
{
	bool		cautious;

	segment_lock(LW_SHARED);
	cautious = !segment->clean_start &&
		!clock_has_passed(segment->first_worker_at, GetCurrentTimestamp(), CAUTION_MS);
	segment_unlock();
	return cautious;
}

/* Whether the row of the run has changed since the worker last read it. */
bool
worker_slot_noticed(void)
{
	bool		notified;

	segment_lock(LW_SHARED);
	notified = segment_my_worker()->notified;
	segment_unlock();
	return notified;
}

/* The worker is about to read the row of the run. */
void
worker_slot_take_notice(void)
{
	segment_lock(LW_EXCLUSIVE);
	segment_my_worker()->notified = false;
	segment_unlock();
}

/* How many workers of the same run have an earlier slot. */
int
worker_slot_rank(void)
{
	int			rank = 0;
	WorkerSlot *me = segment_my_worker();

	segment_lock(LW_SHARED);
	for (WorkerSlot *w = segment_workers; w < me; w++)
	{
		if (segment_works_for(w, me->database, me->run_id))
			rank++;
	}
	segment_unlock();
	return rank;
}

/* The worker got as far as claiming batches. */
void
worker_slot_ready(void)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(w->database, w->run_id);
	if (run)
		run->ready = w->token;
	segment_unlock();
}

/* What a worker is doing, in a word. */
const char *
worker_slot_state_name(WorkerState state)
{
	static const char *const names[WORKER_STATES] = {
		[WORKER_STARTING] = "starting",
		[WORKER_PREPARING] = "preparing",
		[WORKER_WAITING] = "waiting",
		[WORKER_FETCHING] = "fetching",
		[WORKER_RUNNING] = "running",
		[WORKER_SLEEPING] = "sleeping",
		[WORKER_THROTTLED] = "throttled",
		[WORKER_RETRYING] = "retrying",
		[WORKER_CHANGING] = "changing",
		[WORKER_VERIFYING] = "verifying",
		[WORKER_FINISHING] = "finishing",
		[WORKER_LEAVING] = "leaving"
	};

	return names[state];
}

/* The worker takes the stream in hand, or, with 0, has none any more. */
void
worker_slot_take_stream(int64 stream)
{
	WorkerSlot *w = segment_my_worker();

	segment_lock(LW_EXCLUSIVE);
	w->stream = stream;
	w->stream_since = GetCurrentTimestamp();
	w->stream_rows = 0;
	segment_unlock();
}

/*
 * The streams that the other workers of the run have in hand, one for each, in the current
 * memory context.  Returns their number.
 */
int
worker_slot_streams(Oid database, int64 run_id, int64 **streams)
{
	WorkerSlot *me = segment_my_worker();
	int			n = 0;

	*streams = palloc(sizeof(int64) * segment->nworkers);
	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nworkers; i++)
	{
		WorkerSlot *w = &segment_workers[i];

		if (w != me && w->stream != 0 && segment_works_for(w, database, run_id))
			(*streams)[n++] = w->stream;
	}
	segment_unlock();
	return n;
}

/* Show what the worker does. */
void
worker_slot_show(WorkerState state, int64 batch, int attempt)
{
	WorkerSlot *w = segment_my_worker();

	segment_lock(LW_EXCLUSIVE);
	segment_count_time(w);
	w->state = state;
	w->state_since = GetCurrentTimestamp();
	w->batch = batch;
	w->attempt = attempt;
	segment_unlock();
}

/* Cancel the batch that the worker has in hand.  The caller holds the lock. */
static void
cancel_batch(WorkerSlot *w, pid_t to)
{
	if (w->state != WORKER_RUNNING || w->yield_to != 0)
		return;
	w->yield_to = to;
	kill(w->pid, SIGINT);
}

/*
 * Cancel the batch that the worker had in hand when its slot was copied, because
 * another process waits for it.
 */
void
worker_slot_yield(int slot, int64 token, int64 batch, pid_t to)
{
	WorkerSlot *w = &segment_workers[slot];

	segment_lock(LW_EXCLUSIVE);
	if (w->in_use && w->token == token && w->batch == batch)
		cancel_batch(w, to);
	segment_unlock();
}

/*
 * Cancel the batches of the run that have been at work for longer than so many milliseconds,
 * because sessions wait for what they use.  The caller holds the lock.
 */
void
worker_slot_yield_to_all(Oid database, int64 run_id, int64 longer)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < segment->nworkers; i++)
	{
		WorkerSlot *w = &segment_workers[i];

		if (segment_works_for(w, database, run_id) && (now - w->state_since) / 1000 > longer)
			cancel_batch(w, YIELD_TO_ALL);
	}
}

/*
 * Copies, in the current memory context, of the slots of workers that have been
 * in their batch for longer than the yield_after of their run.  Returns their
 * number.  *next is the number of milliseconds after which there may be more, or
 * after which to look again for who waits for these; -1 without workers.
 */
int
worker_slot_long_batches(Oid database, WorkerSlot **copies, long *next)
{
	TimestampTz now = GetCurrentTimestamp();
	int			n = 0;

	*copies = palloc(sizeof(WorkerSlot) * segment->nworkers);
	*next = -1;
	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nworkers; i++)
	{
		WorkerSlot *w = &segment_workers[i];
		RunSlot    *run;
		int64		yield_after;
		int64		left;

		if (!w->in_use || w->database != database)
			continue;
		run = segment_find_run(w->database, w->run_id);
		yield_after = run ? run->pace.pace.yield_after : 0;
		if (yield_after == 0)
			continue;

		/* what begins now cannot have taken long before that time */
		left = w->state != WORKER_RUNNING ? yield_after :
			yield_after - Max(now - w->state_since, 0) / 1000;
		if (left <= 0)
		{
			(*copies)[n] = *w;
			(*copies)[n++].yield_after = yield_after;
			left = Max(Min(yield_after / 2, YIELD_LOOK_MS), YIELD_LOOK_MIN_MS);
		}
		*next = *next < 0 ? (long) left : Min(*next, (long) left);
	}
	segment_unlock();
	return n;
}

/* The process that the batch in hand was cancelled for, or 0. */
pid_t
worker_slot_take_yield(void)
{
	WorkerSlot *w = segment_my_worker();
	pid_t		to;

	/* every batch asks, and hardly ever has one to give way */
	if (w->yield_to == 0)
		return 0;
	segment_lock(LW_EXCLUSIVE);
	to = w->yield_to;
	w->yield_to = 0;
	segment_unlock();
	return to;
}

/* A batch is committed: count it. */
void
worker_slot_done(int64 rows_scanned, int64 rows_affected)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	w->batches++;
	w->rows_scanned += rows_scanned;
	w->stream_rows += rows_scanned;
	w->rows_affected += rows_affected;
	run = segment_find_run(w->database, w->run_id);
	if (run)
		run->rows_scanned += rows_scanned;
	segment_unlock();
}

/* Copies of all slots of the database's workers, in the current context. */
int
worker_slot_copy(Oid database, WorkerSlot **copies)
{
	int			n = 0;

	*copies = palloc(sizeof(WorkerSlot) * segment->nworkers);
	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (!segment_workers[i].in_use ||
			(OidIsValid(database) && segment_workers[i].database != database))
			continue;
		(*copies)[n++] = segment_workers[i];
	}
	segment_unlock();
	return n;
}

/* Whether the process belongs to a worker among those copies. */
bool
worker_slot_is_among(pid_t pid, const WorkerSlot *copies, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (copies[i].pid == pid)
			return true;
	}
	return false;
}
