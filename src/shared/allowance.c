/*-------------------------------------------------------------------------
 *
 * allowance.c
 *	  What a worker may begin, by the limits on rows and WAL.
 *
 * A worker reserves the rows of a batch before it begins, and settles for what
 * the batch really used after its commit.  If it dies in between, what it had
 * reserved counts as used.  What WAL a batch will write is guessed from those
 * before it, and counted when it has written it, whatever becomes of it.
 *
 * A slot that is taken anew, after a restart or a pause, does not know what the
 * run used a moment ago: until the scheduler has read that from the table of
 * batches, nothing may be reserved.
 *
 * The budgets of all runs are divided fairly: while another run waits that has
 * used less than its equal part, a run can have no more than its own part;
 * what no other run wants, it can have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "shared/allowance.h"
#include "shared/ledger.h"
#include "shared/segment.h"
#include "shared/size.h"

/* What remains of a window is not worth a batch below this part of the limit. */
#define CRUMB			64
/* A batch of less than this part of the limit is not divided, but waits. */
#define SMALL_PART		8
/* Weight of the newest batch in what a row costs in WAL, and becomes. */
#define WEIGHT			0.2
/* How often to ask again when nothing is known to expire, or when it may come sooner. */
#define ASK_AGAIN_MS	100
#define LOOK_AGAIN_MS	1000

/*
 * Whether the run waits for its part of a budget.  One that is held, or asleep,
 * does not ask any more.
 */
static bool
is_short(const RunPace *p, bool wal, TimestampTz now)
{
	return (wal ? p->short_of_wal : p->short_of_rows) &&
		!TimestampDifferenceExceeds(p->limited_until, now, LOOK_AGAIN_MS);
}

/* What the run uses of a budget. */
static int64
used_of(RunPace *p, bool wal, TimestampTz now)
{
	RateLedger *ledger = wal ? &p->all_wal : &p->all_rows;

	return ledger->window == 0 ? 0 : -ledger_left(ledger, 0, now);
}

/*
 * What the run may have of the budget of all, of which so much is left.  Another
 * run that waits and has not had its equal part comes first.
 */
static int64
fair_part(RunSlot *me, int64 amount, int64 left, bool wal, TimestampTz now)
{
	int			wanting = 1;
	int64		part;

	for (int i = 0; i < segment->nruns; i++)
	{
		if (&segment_runs[i] != me && segment_runs[i].in_use &&
			(is_short(&segment_runs[i].pace, wal, now) || used_of(&segment_runs[i].pace, wal, now) > 0))
			wanting++;
	}
	part = amount / wanting;
	for (int i = 0; i < segment->nruns; i++)
	{
		if (&segment_runs[i] != me && segment_runs[i].in_use && is_short(&segment_runs[i].pace, wal, now) &&
			used_of(&segment_runs[i].pace, wal, now) < part)
			return Min(left, part - used_of(&me->pace, wal, now));
	}
	return left;
}

/* What one of the limits leaves. */
typedef struct Allowance
{
	int64		rows;
	PaceLimit	limit;			/* that leaves the least */
	TimestampTz retry_at;		/* when it may leave more */
} Allowance;

static void
allow(Allowance *allowance, int64 rows, PaceLimit limit, TimestampTz retry_at)
{
	if (rows >= allowance->rows)
		return;
	allowance->rows = rows;
	allowance->limit = limit;
	allowance->retry_at = retry_at;
}

/*
 * When more may be left: something expires.  Before that a batch may give back
 * what it has reserved, or another run what it has not used.
 */
static TimestampTz
when_more(RateLedger *ledger, TimestampTz now)
{
	TimestampTz expiry = ledger_next_expiry(ledger, now);

	if (expiry == DT_NOEND)
		return TimestampTzPlusMilliseconds(now, ASK_AGAIN_MS);
	return Min(expiry, TimestampTzPlusMilliseconds(now, LOOK_AGAIN_MS));
}

/*
 * A limit on rows: crumbs are left lying until they are worth a batch, unless
 * nothing else is coming.
 */
static void
allow_rows(Allowance *allowance, RateLedger *ledger, int64 amount, int64 left,
		   PaceLimit limit, TimestampTz now)
{
	if (left < Min(allowance->rows, Max(amount / CRUMB, 1)))
		left = 0;
	allow(allowance, Max(left, 0), limit, when_more(ledger, now));
}

static void
allow_wal(Allowance *allowance, RateLedger *ledger, int64 amount, int64 left,
		  int64 reserved, double per_row, PaceLimit limit, TimestampTz now)
{
	TimestampTz expiry = when_more(ledger, now);

	left -= (int64) Min(reserved * per_row, (double) PG_INT64_MAX / 4);
	if (left <= amount / CRUMB)
		allow(allowance, 0, limit, expiry);
	else if (per_row > 0)
		allow(allowance, Max((int64) Min(left / per_row, (double) allowance->rows), 1), limit,
			  expiry);
}

/*
 * The rows that are reserved and whose WAL is not in the ledgers, by workers and clients
 * of the run, or of all if it is NULL.
 */
static int64
unwritten(const RunSlot *run)
{
	int64		rows = run ? run->pace.rows.reserved : segment->budgets.used_rows.reserved;

	for (int i = 0; i < segment->nworkers; i++)
	{
		const WorkerSlot *w = &segment_workers[i];

		if (w->measured && (run ? segment_works_for(w, run->database, run->run_id) : w->in_use))
			rows -= w->reserved;
	}
	return Max(rows, 0);
}

/* How many of so many rows may be begun now.  The caller holds the lock. */
static Allowance
get_allowance(RunSlot *run, int64 rows)
{
	RunPace    *p = &run->pace;
	Budgets    *budgets = &segment->budgets;
	TimestampTz now = GetCurrentTimestamp();
	Allowance	a = {rows, PACE_NO_LIMIT, now};

	if (!p->rows_known && (p->pace.rows.amount > 0 || budgets->rows.amount > 0))
	{
		allow(&a, 0, p->pace.rows.amount > 0 ? PACE_ROWS : PACE_ALL_ROWS,
			  now + ASK_AGAIN_MS * 1000);
		return a;
	}
	if (p->pace.rows.amount > 0 && p->rows.window > 0)
		allow_rows(&a, &p->rows, p->pace.rows.amount,
				   ledger_left(&p->rows, p->pace.rows.amount, now), PACE_ROWS, now);
	if (p->pace.wal.amount > 0 && p->wal.window > 0)
		allow_wal(&a, &p->wal, p->pace.wal.amount,
				  ledger_left(&p->wal, p->pace.wal.amount, now),
				  unwritten(run), p->wal_per_row, PACE_WAL, now);
	if (budgets->rows.amount > 0 && p->all_rows.window > 0)
		allow_rows(&a, &budgets->used_rows, budgets->rows.amount,
				   fair_part(run, budgets->rows.amount,
							 ledger_left(&budgets->used_rows, budgets->rows.amount, now),
							 false, now),
				   PACE_ALL_ROWS, now);
	if (budgets->wal.amount > 0 && p->all_wal.window > 0)
		allow_wal(&a, &budgets->used_wal, budgets->wal.amount,
				  fair_part(run, budgets->wal.amount,
							ledger_left(&budgets->used_wal, budgets->wal.amount, now),
							true, now),
				  unwritten(NULL), p->wal_per_row, PACE_ALL_WAL, now);
	p->short_of_rows = a.rows == 0 && a.limit == PACE_ALL_ROWS;
	p->short_of_wal = a.rows == 0 && a.limit == PACE_ALL_WAL;
	return a;
}

/*
 * Count what is reserved, or no longer so; p is NULL for a run that has lost its
 * slot.  The caller holds the lock.
 */
static void
reserve(RunPace *p, int64 rows)
{
	if (p)
		p->rows.reserved += rows;
	segment->budgets.used_rows.reserved += rows;
}

/* What so many rows of a range are when they are processed, as far as known. */
static int64
processed(const RunPace *p, int64 rows)
{
	return (int64) Max(rows * p->fan_out, rows);
}

/* How many rows of a range become so many. */
static int64
unprocessed(const RunPace *p, int64 rows)
{
	return rows > 0 ? Max((int64) (rows / Max(p->fan_out, 1)), 1) : 0;
}

/* Remember that a worker has to wait. */
static void
note_limited(RunPace *p, const Allowance *a)
{
	p->limited_by = a->limit;
	p->limited_until = a->retry_at;
}

/* A batch that is claimed and waits for its rows to come together goes first. */
static void
leave_for_waiting(const RunPace *p, Allowance *a)
{
	TimestampTz now = GetCurrentTimestamp();

	if (p->waiting_until <= now || a->limit == PACE_NO_LIMIT)
		return;
	a->rows = Max(a->rows - p->waiting_rows, 0);
	a->retry_at = Max(a->retry_at, TimestampTzPlusMilliseconds(now, ASK_AGAIN_MS));
}

/*
 * How many rows the next batch is to have.  Returns 0 when none may be begun
 * before *retry_at.  Otherwise so many are reserved, until allowance_keep says how
 * many there really are.  *stride is how far to look for so many rows in scope, 0
 * if no farther than that.
 */
int64
allowance_ask(bool has_scope, int64 *stride, TimestampTz *retry_at)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run;
	Allowance	a = {1};

	*stride = 0;
	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(w->database, w->run_id);
	if (run)
	{
		RunPace    *p = &run->pace;

		a = get_allowance(run, processed(p, p->size.size));
		leave_for_waiting(p, &a);
		w->reserved_next = a.rows;
		reserve(p, a.rows);
		a.rows = Min(unprocessed(p, a.rows), p->size.size);
		if (a.rows == 0)
			note_limited(p, &a);
		else if (has_scope && p->size.stride > a.rows)
			*stride = p->size.stride;
		*retry_at = a.retry_at;
	}
	segment_unlock();
	return a.rows;
}

/* The batch that is being claimed has so many rows. */
void
allowance_keep(int64 rows)
{
	WorkerSlot *w = segment_my_worker();
	RunPace    *p;

	segment_lock(LW_EXCLUSIVE);
	p = segment_my_pace();
	if (p)
		rows = processed(p, rows);
	reserve(p, rows - w->reserved_next);
	w->reserved_next = rows;
	segment_unlock();
}

/* The claim came to nothing. */
void
allowance_drop_next(void)
{
	if (segment_my_worker()->reserved_next != 0)
		allowance_keep(0);
}

/* The batch that was being claimed is the one in hand now. */
void
allowance_advance(void)
{
	WorkerSlot *w = segment_my_worker();

	segment_lock(LW_EXCLUSIVE);
	w->reserved = w->reserved_next;
	w->reserved_next = 0;
	w->measured = false;
	segment_unlock();
}

/* The rows that may be processed in a window, or PG_INT64_MAX. */
static int64
window_rows(const RunPace *p)
{
	int64		rows = PG_INT64_MAX;

	if (p->pace.rows.amount > 0)
		rows = p->pace.rows.amount;
	if (segment->budgets.rows.amount > 0)
		rows = Min(rows, segment->budgets.rows.amount);
	return rows;
}

static bool
has_limits(const RunPace *p)
{
	return window_rows(p) != PG_INT64_MAX || p->pace.wal.amount > 0 ||
		segment->budgets.wal.amount > 0;
}

/*
 * What to do with a batch in hand of so many rows, some of which may be begun:
 * returns how many go into a part of their own.  Few of them wait until they can
 * go together.
 */
static int64
part_of(RunPace *p, int64 rows, const Allowance *a)
{
	if (processed(p, rows) <= window_rows(p) / SMALL_PART)
	{
		p->waiting_rows = processed(p, rows);
		p->waiting_until = TimestampTzPlusMilliseconds(a->retry_at, LOOK_AGAIN_MS);
		return 0;
	}
	return Min(unprocessed(p, a->rows), rows - 1);
}

/*
 * Reserve all the rows of the batch in hand, if they are not.  Returns false
 * when it may not begin as it is: *fitting is how many of its rows may, or 0 if
 * none may before *retry_at.  What is one row, or cannot be divided, needs no more
 * than a whole window, whatever becomes of it.
 */
bool
allowance_reserve(int64 rows, bool indivisible, int64 *fitting, TimestampTz *retry_at)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run;
	bool		granted = true;

	*fitting = 0;
	segment_lock(LW_EXCLUSIVE);
	w->measured = false;
	run = segment_find_run(w->database, w->run_id);

	/* a limit may have come, or come down, since the rows were reserved */
	if (run && (w->reserved < rows || has_limits(&run->pace)))
	{
		RunPace    *p = &run->pace;
		int64		needed = processed(p, rows);
		Allowance	a;

		if (rows <= 1 || indivisible)
			needed = Min(needed, window_rows(p));
		reserve(p, -w->reserved);
		w->reserved = 0;
		a = get_allowance(run, needed);
		*retry_at = a.retry_at;

		/* what WAL it will write is a guess: begin when any may be written */
		granted = a.rows >= needed ||
			(a.rows > 0 && (a.limit == PACE_WAL || a.limit == PACE_ALL_WAL));
		if (granted)
		{
			w->reserved = needed;
			reserve(p, needed);
			p->waiting_until = 0;
		}
		else
		{
			if (a.rows > 0 && rows > 1 && !indivisible)
				*fitting = part_of(p, rows, &a);
			note_limited(p, &a);
		}
	}
	segment_unlock();
	return granted;
}

/*
 * The statement of the batch in hand has processed so many rows, and is not yet
 * committed: more, maybe, than were reserved, because rows were added to its
 * range, or because each one becomes several.  Returns false when the limits do
 * not leave so many; the batch has to be rolled back then, unless it is one row.
 */
bool
allowance_cover(int64 rows_scanned, int64 rows)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run;
	bool		covered = true;

	if (rows <= w->reserved)
		return true;
	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(w->database, w->run_id);
	if (run)
	{
		RunPace    *p = &run->pace;
		double		ratio = (double) rows / Max(rows_scanned, 1);

		p->fan_out = Max(p->fan_out, ratio);
		covered = get_allowance(run, rows - w->reserved).rows >= rows - w->reserved ||
			(p->pace.rows.amount == 0 && segment->budgets.rows.amount == 0);
		if (covered)
		{
			reserve(p, rows - w->reserved);
			w->reserved = rows;
		}
	}
	segment_unlock();
	return covered;
}

/* The worker lets go of its batch. */
void
allowance_release(void)
{
	WorkerSlot *w = segment_my_worker();

	if (w->reserved == 0)
		return;
	segment_lock(LW_EXCLUSIVE);
	reserve(segment_my_pace(), -w->reserved);
	w->reserved = 0;
	segment_unlock();
}

/*
 * The worker goes, and with it what became of its batch: what it had reserved
 * counts as used, if the batch had begun.
 */
static void
worker_exit(int code, Datum arg)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run;
	TimestampTz now;

	if (w == NULL)
		return;
	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(w->database, w->run_id);
	now = GetCurrentTimestamp();
	reserve(run ? &run->pace : NULL, -w->reserved - w->reserved_next);
	if (w->state == WORKER_RUNNING || w->state == WORKER_FETCHING)
	{
		if (run)
		{
			ledger_add(&run->pace.rows, now, w->reserved, now);
			ledger_add(&run->pace.all_rows, now, w->reserved, now);
		}
		ledger_add(&segment->budgets.used_rows, now, w->reserved, now);
	}
	w->reserved = w->reserved_next = 0;
	segment_unlock();
}

/*
 * The worker, which has attached to its slot, is going to reserve: what it has
 * in hand when it exits is settled before its slot is given back, since the
 * callback that is registered last runs first.
 */
void
allowance_attach(void)
{
	before_shmem_exit(worker_exit, (Datum) 0);
}

/* So much WAL was written.  The caller holds the lock. */
static void
add_wal(RunPace *p, int64 bytes, TimestampTz now)
{
	ledger_add(&segment->budgets.used_wal, now, bytes, now);
	if (p)
	{
		ledger_add(&p->wal, now, bytes, now);
		ledger_add(&p->all_wal, now, bytes, now);
	}
}

/* A batch that was rolled back has written so much WAL. */
void
allowance_wrote(int64 wal_bytes)
{
	segment_lock(LW_EXCLUSIVE);
	add_wal(segment_my_pace(), wal_bytes, GetCurrentTimestamp());
	segment_unlock();
}

/*
 * What the statement of the batch in hand took, whatever becomes of it.  To be called
 * before the next batch is claimed, which is to have the size that follows from that.
 * Returns -1 or 1 when the batch size is newly pinned at its lower or upper limit.
 */
int
allowance_measure(const BatchCost *cost, bool has_scope)
{
	WorkerSlot *w = segment_my_worker();
	int64		rows_scanned = cost->rows_scanned;
	int64		rows_affected = cost->rows_affected;
	int64		wal_bytes = cost->wal_bytes;
	RunPace    *p;
	TimestampTz now;
	int			pinned = 0;

	segment_lock(LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
	p = segment_my_pace();
	add_wal(p, wal_bytes, now);
	w->measured = true;
	w->finished_at = cost->finished_at;
	w->counted = false;
	if (p)
	{
		p->fan_out = Max((1 - WEIGHT) * p->fan_out +
						 WEIGHT * rows_affected / Max(rows_scanned, 1), 1);
		if (rows_affected > 0)
		{
			double		per_row = (double) wal_bytes / Max(rows_scanned, 1);

			p->wal_per_row = p->wal_per_row == 0 ? per_row :
				WEIGHT * per_row + (1 - WEIGHT) * p->wal_per_row;
		}
		size_ease(&p->size, cost->waited, p->crowd > 0, (double) (now - p->eased_at) / USECS_PER_SEC);
		p->eased_at = now;
		if (rows_affected == 0 && has_scope)
			size_note_empty(&p->size, rows_scanned, cost->duration);
		else
			pinned = size_note(&p->size, rows_scanned, cost->duration);
	}
	segment_unlock();
	return pinned;
}

/* The batch in hand is committed: it used so many rows. */
void
allowance_settle(int64 rows_affected)
{
	WorkerSlot *w = segment_my_worker();
	RunPace    *p;
	TimestampTz now;

	segment_lock(LW_EXCLUSIVE);
	now = GetCurrentTimestamp();

	/* nobody waits for this batch any more */
	segment_count_time(w);
	w->state = WORKER_WAITING;
	w->state_since = now;
	w->yield_to = 0;
	p = segment_my_pace();
	reserve(p, -w->reserved);
	w->reserved = 0;
	ledger_add(&segment->budgets.used_rows, now, rows_affected, now);
	if (p)
	{
		/* unless the scheduler has just read it from the table of batches */
		if (!w->counted)
			ledger_add(&p->rows, now, rows_affected, now);
		ledger_add(&p->all_rows, now, rows_affected, now);
	}
	w->counted = true;
	segment_unlock();
}

/*
 * A call for which a unit was reserved, or none, has ended, with whatever result: so many are
 * used.  It was put down when it began, so that who reads the table meanwhile counts it, too:
 * twice rather than not at all.
 */
void
allowance_called(int64 calls)
{
	WorkerSlot *w = segment_my_worker();
	RunPace    *p;
	TimestampTz now;

	segment_lock(LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
	w->state = WORKER_WAITING;
	w->state_since = now;
	p = segment_my_pace();
	reserve(p, -w->reserved);
	w->reserved = 0;
	ledger_add(&segment->budgets.used_rows, now, calls, now);
	if (p)
	{
		ledger_add(&p->rows, now, calls, now);
		ledger_add(&p->all_rows, now, calls, now);
	}
	segment_unlock();
}

/* ---- clients ---- */

/*
 * When a client is to ask again that finds too little for so many rows: in its turn, and
 * else as everybody else.
 */
static TimestampTz
turn_of(RunPace *p, int64 rows, TimestampTz otherwise)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz turn = ledger_promise(&p->rows, rows, ledger_left(&p->rows, p->pace.rows.amount, now), now);

	if (turn == DT_NOEND)
		return otherwise;
	return Min(turn, TimestampTzPlusMilliseconds(now, LOOK_AGAIN_MS));
}

/*
 * Reserve so many rows for a client, which are not divided any more: they need no more
 * than a whole window.  *reserved is how many that are; or returns false, and *retry_at
 * is when to ask again.  The caller holds the lock, here and below.
 */
bool
allowance_grant(RunSlot *run, int64 rows, int64 *reserved, TimestampTz *retry_at)
{
	RunPace    *p = &run->pace;
	Allowance	a;

	*reserved = Min(processed(p, rows), window_rows(p));
	a = get_allowance(run, *reserved);
	if (a.rows < *reserved && !(a.rows > 0 && (a.limit == PACE_WAL || a.limit == PACE_ALL_WAL)))
	{
		note_limited(p, &a);
		*retry_at = a.limit == PACE_ROWS && p->rows.window > 0 && p->rows_known ?
			turn_of(p, *reserved, a.retry_at) : a.retry_at;
		return false;
	}
	reserve(p, *reserved);
	return true;
}

/* So many rows are not reserved any more; run is NULL if it has lost its slot. */
void
allowance_return(RunSlot *run, int64 reserved)
{
	reserve(run ? &run->pace : NULL, -reserved);
}

/* A client has used so many rows, for which others were reserved, and has written WAL. */
void
allowance_use(RunSlot *run, int64 reserved, int64 rows, int64 wal_bytes)
{
	RunPace    *p = run ? &run->pace : NULL;
	TimestampTz now = GetCurrentTimestamp();

	reserve(p, -reserved);
	ledger_add(&segment->budgets.used_rows, now, rows, now);
	if (p)
	{
		ledger_add(&p->rows, now, rows, now);
		ledger_add(&p->all_rows, now, rows, now);
		if (rows > 0 && wal_bytes > 0)
		{
			double		per_row = (double) wal_bytes / rows;

			p->wal_per_row = p->wal_per_row == 0 ? per_row :
				WEIGHT * per_row + (1 - WEIGHT) * p->wal_per_row;
		}
	}
	add_wal(p, wal_bytes, now);
}
