/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  The pace of a run, in shared memory.
 *
 * The scheduler says what the pace is to be; the workers ask how many rows the
 * next batch may have, and report what a batch took.  Everything here is under
 * the lock of the shared state, and takes a few hundred instructions at most.
 *
 * A worker reserves the rows of a batch before it begins, and settles for what
 * the batch really used after its commit.  If it dies in between, what it had
 * reserved counts as used.  A slot that is taken anew, after a restart or a
 * pause, does not know what the run used a moment ago: until the scheduler has
 * read that from the table of batches, nothing may be reserved.
 *
 * The budgets of all runs are divided fairly: while another run waits that has
 * used less than its equal part, a run can have no more than its own part;
 * what no other run wants, it can have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "shared_state.h"

/* What remains of a window is not worth a batch below this part of the limit. */
#define CRUMB			64
/* Weight of the newest batch in what a row costs in WAL, and becomes. */
#define WEIGHT			0.2
/* How often to ask again when nothing is known to expire, or when it may come sooner. */
#define ASK_AGAIN_MS	100
#define LOOK_AGAIN_MS	1000
/* A scheduler that watches the server is heard more often than this. */
#define UNHEARD_MS		15000

/* ---- the scheduler's side ---- */

static bool
same_limit(const RateLimit *a, const RateLimit *b)
{
	return a->amount == b->amount && a->window == b->window;
}

/* Whether two paces are the same for the workers. */
static bool
same_pace(const Pace *a, const Pace *b)
{
	return a->workers == b->workers && memcmp(&a->aim, &b->aim, sizeof(SizeAim)) == 0 &&
		a->sleep == b->sleep && a->nice == b->nice && a->duty == b->duty &&
		a->hold == b->hold && a->probed == b->probed && a->watched == b->watched &&
		a->yield_after == b->yield_after &&
		same_limit(&a->rows, &b->rows) && same_limit(&a->wal, &b->wal);
}

/*
 * Set the pace of a run.  Its workers are woken if it has changed.  A new slot
 * begins with that batch size.  Does nothing for a run that has no slot.
 */
void
pace_set(Oid database, int64 run_id, const Pace *pace, int64 batch_size)
{
	RunSlot    *run;

	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(database, run_id);
	if (run)
	{
		RunPace    *p = &run->pace;
		bool		changed = !same_pace(&p->pace, pace);

		if (p->pace.rows.window != pace->rows.window ||
			(p->pace.rows.amount == 0) != (pace->rows.amount == 0))
		{
			p->rows_known = false;
			p->rows_since = 0;
		}
		ledger_refit(&p->wal, &pace->wal, GetCurrentTimestamp());

		/* a worker that still has to wait says so again */
		if (!same_limit(&p->pace.rows, &pace->rows) || !same_limit(&p->pace.wal, &pace->wal))
			p->limited_by = PACE_NO_LIMIT;
		size_aim(&p->size, &pace->aim, batch_size > 0 ? batch_size : pace->aim.start);
		p->pace = *pace;
		p->set_at = GetCurrentTimestamp();
		if (changed)
			shared_notify_run(database, run_id);
	}
	shared_unlock();
}

/* Set the budgets of all runs.  If they change, all workers ask again. */
void
pace_set_budgets(const RateLimit *rows, const RateLimit *wal)
{
	TimestampTz now = GetCurrentTimestamp();
	Budgets    *budgets = &shared->budgets;
	bool		changed;

	shared_lock(LW_EXCLUSIVE);
	changed = !same_limit(&budgets->rows, rows) || !same_limit(&budgets->wal, wal);
	ledger_refit(&budgets->used_rows, rows, now);
	ledger_refit(&budgets->used_wal, wal, now);
	for (int i = 0; i < shared->nruns; i++)
	{
		if (!runs[i].in_use)
			continue;
		ledger_refit(&runs[i].pace.all_rows, rows, now);
		ledger_refit(&runs[i].pace.all_wal, wal, now);
		if (!changed)
			continue;
		runs[i].pace.limited_by = PACE_NO_LIMIT;
		shared_notify_run(runs[i].database, runs[i].run_id);
	}
	budgets->rows = *rows;
	budgets->wal = *wal;
	shared_unlock();
}

/*
 * If the ledger of the run does not know what was used before: have it see what
 * is used from *until on.  What was completed from *since to *until is to be
 * entered by the caller, who then closes it.  Returns false when that is not
 * needed.
 */
bool
pace_open_ledger(Oid database, int64 run_id, TimestampTz *since, TimestampTz *until)
{
	RunSlot    *run;
	bool		needed = false;

	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(database, run_id);
	if (run && !run->pace.rows_known)
	{
		RunPace    *p = &run->pace;
		int64		window = p->pace.rows.amount == 0 ? 0 : p->pace.rows.window;

		if (shared->budgets.rows.amount > 0)
			window = Max(window, shared->budgets.rows.window);
		ledger_open(&p->rows, &p->pace.rows);
		p->rows_known = window == 0;
		needed = window > 0;
		*until = p->rows_since = GetCurrentTimestamp();
		*since = *until - window * 1000;
	}
	shared_unlock();
	return needed;
}

/*
 * The run completed so many rows at that time.  In the budgets of all runs it
 * is missing only if that was before this life of the shared memory.
 */
void
pace_enter(Oid database, int64 run_id, TimestampTz at, int64 rows)
{
	RunSlot    *run;
	TimestampTz now = GetCurrentTimestamp();

	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(database, run_id);
	if (run)
	{
		ledger_add(&run->pace.rows, at, rows, now);
		if (at < run->pace.opened_at)
			ledger_add(&run->pace.all_rows, at, rows, now);
		if (at < shared->made_at)
			ledger_add(&shared->budgets.used_rows, at, rows, now);
	}
	shared_unlock();
}

/* Everything was entered. */
void
pace_close_ledger(Oid database, int64 run_id)
{
	RunSlot    *run;

	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(database, run_id);
	if (run)
	{
		run->pace.rows_known = true;
		shared_notify_run(database, run_id);
	}
	shared_unlock();
}

/* The present batch size of the run, or 0. */
int64
pace_size(Oid database, int64 run_id)
{
	RunSlot    *run;
	int64		size;

	shared_lock(LW_SHARED);
	run = shared_find_run(database, run_id);
	size = run ? run->pace.size.size : 0;
	shared_unlock();
	return size;
}

/* The limit that the workers of the run wait for, or did a moment ago. */
PaceLimit
pace_limited_by(Oid database, int64 run_id, RateLimit *limit)
{
	RunSlot    *run;
	PaceLimit	by = PACE_NO_LIMIT;
	TimestampTz now = GetCurrentTimestamp();

	shared_lock(LW_SHARED);
	run = shared_find_run(database, run_id);
	if (run && run->pace.limited_by != PACE_NO_LIMIT &&
		!TimestampDifferenceExceeds(run->pace.limited_until, now, 1500))
		by = run->pace.limited_by;
	if (by == PACE_ROWS)
		*limit = run->pace.pace.rows;
	else if (by == PACE_WAL)
		*limit = run->pace.pace.wal;
	else
		*limit = by == PACE_ALL_ROWS ? shared->budgets.rows : shared->budgets.wal;
	shared_unlock();
	return by;
}

/* What the probe of the run has said, and its reason, of PACE_REASON_SIZE. */
ProbeVerdict
pace_probe_verdict(Oid database, int64 run_id, char *reason)
{
	RunSlot    *run;
	ProbeVerdict verdict = PROBE_UNKNOWN;

	reason[0] = '\0';
	shared_lock(LW_SHARED);
	run = shared_find_run(database, run_id);
	if (run)
	{
		verdict = run->pace.probe;
		strlcpy(reason, run->pace.probe_reason, PACE_REASON_SIZE);
	}
	shared_unlock();
	return verdict;
}

/* ---- the worker's side ---- */

/* The pace of the worker's run; the caller holds the lock. */
static RunPace *
my_pace(void)
{
	WorkerSlot *w = shared_my_worker();
	RunSlot    *run = shared_find_run(w->database, w->run_id);

	return run ? &run->pace : NULL;
}

/* A copy of the pace of the worker's run. */
void
pace_get(Pace *pace)
{
	RunPace    *p;

	memset(pace, 0, sizeof(Pace));
	shared_lock(LW_SHARED);
	p = my_pace();
	if (p)
		*pace = p->pace;
	shared_unlock();
}

/*
 * Whether no batch may begin, by the scheduler's word or the probe's.  A
 * scheduler that is to watch the server and is not heard counts as one that
 * cannot read how it is.
 */
bool
pace_is_held(void)
{
	RunPace    *p;
	bool		held;

	shared_lock(LW_SHARED);
	p = my_pace();
	held = p && (p->pace.hold || (p->pace.probed && p->probe != PROBE_GO) ||
				 (p->pace.watched &&
				  TimestampDifferenceExceeds(p->set_at, GetCurrentTimestamp(), UNHEARD_MS)));
	shared_unlock();
	return held;
}

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

/*
 * What the run may have of the budget of all, of which so much is left.  Another
 * run that waits and has not had its equal part comes first.
 */
static int64
fair_part(const RunSlot *me, int64 amount, int64 left, bool wal, TimestampTz now)
{
	int			wanting = 1;
	bool		others = false;
	int64		part;
	RunSlot    *run = unconstify(RunSlot *, me);

	for (int i = 0; i < shared->nruns; i++)
	{
		if (&runs[i] == me || !runs[i].in_use)
			continue;
		if (is_short(&runs[i].pace, wal, now))
			wanting++;
		else
		{
			RateLedger *used = wal ? &runs[i].pace.all_wal : &runs[i].pace.all_rows;

			if (used->window != 0 && ledger_left(used, 0, now) < 0)
				wanting++;
		}
	}
	part = amount / wanting;
	for (int i = 0; i < shared->nruns; i++)
	{
		RunPace    *p = &runs[i].pace;

		if (&runs[i] != me && runs[i].in_use && is_short(p, wal, now) &&
			-ledger_left(wal ? &p->all_wal : &p->all_rows, 0, now) < part)
			others = true;
	}
	if (!others)
		return left;
	return Min(left, ledger_left(wal ? &run->pace.all_wal : &run->pace.all_rows, part, now));
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

	left -= (int64) (reserved * per_row);
	if (left <= amount / CRUMB)
		allow(allowance, 0, limit, expiry);
	else if (per_row > 0)
		allow(allowance, Max((int64) (left / per_row), 1), limit, expiry);
}

/*
 * The rows that are reserved and whose WAL is not in the ledgers, by workers of
 * the run, or of all if it is NULL.
 */
static int64
unwritten(const RunSlot *run)
{
	int64		rows = 0;

	for (int i = 0; i < shared->nworkers; i++)
	{
		const WorkerSlot *w = &workers[i];

		if (w->in_use &&
			(run == NULL || (w->database == run->database && w->run_id == run->run_id)))
			rows += (w->measured ? 0 : w->reserved) + w->reserved_next;
	}
	return rows;
}

/* How many of so many rows may be begun now.  The caller holds the lock. */
static Allowance
get_allowance(RunSlot *run, int64 rows)
{
	RunPace    *p = &run->pace;
	Budgets    *budgets = &shared->budgets;
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
	shared->budgets.used_rows.reserved += rows;
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

/*
 * How many rows the next batch is to have.  Returns 0 when none may be begun
 * before *retry_at.  Otherwise so many are reserved, until pace_keep says how
 * many there really are.  *stride is how far to look for rows in scope, 0 if no
 * farther than that.
 */
int64
pace_ask(bool has_scope, int64 *stride, TimestampTz *retry_at)
{
	WorkerSlot *w = shared_my_worker();
	RunSlot    *run;
	Allowance	a = {1};

	*stride = 0;
	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(w->database, w->run_id);
	if (run)
	{
		RunPace    *p = &run->pace;

		a = get_allowance(run, processed(p, p->size.size));
		w->reserved_next = a.rows;
		reserve(p, a.rows);
		a.rows = Min(unprocessed(p, a.rows), p->size.size);
		if (a.rows == 0)
			note_limited(p, &a);
		else if (has_scope && p->size.stride > p->size.size && a.limit == PACE_NO_LIMIT)
			*stride = p->size.stride;
		*retry_at = a.retry_at;
	}
	shared_unlock();
	return a.rows;
}

/* The batch that is being claimed has so many rows. */
void
pace_keep(int64 rows)
{
	WorkerSlot *w = shared_my_worker();
	RunPace    *p;

	shared_lock(LW_EXCLUSIVE);
	p = my_pace();
	if (p)
		rows = processed(p, rows);
	reserve(p, rows - w->reserved_next);
	w->reserved_next = rows;
	shared_unlock();
}

/* The claim came to nothing. */
void
pace_drop_next(void)
{
	if (shared_my_worker()->reserved_next != 0)
		pace_keep(0);
}

/* The batch that was being claimed is the one in hand now. */
void
pace_advance(void)
{
	WorkerSlot *w = shared_my_worker();

	shared_lock(LW_EXCLUSIVE);
	w->reserved = w->reserved_next;
	w->reserved_next = 0;
	w->measured = false;
	shared_unlock();
}

static bool
has_limits(const RunPace *p)
{
	return p->pace.rows.amount > 0 || p->pace.wal.amount > 0 ||
		shared->budgets.rows.amount > 0 || shared->budgets.wal.amount > 0;
}

/*
 * Reserve all the rows of the batch in hand, if they are not.  Returns false
 * when it may not begin as it is: *fitting is how many of its rows may, or 0 if
 * none may before *retry_at.
 */
bool
pace_reserve(int64 rows, int64 *fitting, TimestampTz *retry_at)
{
	WorkerSlot *w = shared_my_worker();
	RunSlot    *run;
	bool		granted = true;

	*fitting = 0;
	shared_lock(LW_EXCLUSIVE);
	w->measured = false;
	run = shared_find_run(w->database, w->run_id);

	/* a limit may have come, or come down, since the rows were reserved */
	if (run && (w->reserved < rows || has_limits(&run->pace)))
	{
		RunPace    *p = &run->pace;
		Allowance	a;

		rows = processed(p, rows);
		reserve(p, -w->reserved);
		w->reserved = 0;
		a = get_allowance(run, rows);
		*retry_at = a.retry_at;

		/* what WAL it will write is a guess: begin when any may be written */
		granted = a.rows >= rows ||
			(a.rows > 0 && (a.limit == PACE_WAL || a.limit == PACE_ALL_WAL));
		if (granted)
		{
			w->reserved = rows;
			reserve(p, rows);
		}
		else
		{
			*fitting = unprocessed(p, a.rows);
			note_limited(p, &a);
		}
	}
	shared_unlock();
	return granted;
}

/*
 * The statement of the batch in hand has processed so many rows, and is not yet
 * committed: more, maybe, than were reserved, because rows were added to its
 * range, or because each one becomes several.  Returns false when the limits do
 * not leave so many; the batch has to be rolled back then, unless it is one row.
 */
bool
pace_cover(int64 rows_scanned, int64 rows)
{
	WorkerSlot *w = shared_my_worker();
	RunSlot    *run;
	bool		covered = true;

	if (rows <= w->reserved)
		return true;
	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(w->database, w->run_id);
	if (run)
	{
		RunPace    *p = &run->pace;
		double		ratio = (double) rows / Max(rows_scanned, 1);

		p->fan_out = Max(p->fan_out, ratio);
		covered = get_allowance(run, rows - w->reserved).rows >= rows - w->reserved ||
			(p->pace.rows.amount == 0 && shared->budgets.rows.amount == 0);
		if (covered)
		{
			reserve(p, rows - w->reserved);
			w->reserved = rows;
		}
	}
	shared_unlock();
	return covered;
}

/* The worker lets go of its batch. */
void
pace_release(void)
{
	WorkerSlot *w = shared_my_worker();

	if (w->reserved == 0)
		return;
	shared_lock(LW_EXCLUSIVE);
	reserve(my_pace(), -w->reserved);
	w->reserved = 0;
	shared_unlock();
}

/*
 * A worker is gone, and with it what became of its batch: what it had reserved
 * counts as used.  The caller holds the lock.
 */
void
pace_worker_gone(WorkerSlot *w)
{
	RunSlot    *run = shared_find_run(w->database, w->run_id);
	TimestampTz now = GetCurrentTimestamp();

	reserve(run ? &run->pace : NULL, -w->reserved - w->reserved_next);
	if (run)
	{
		ledger_add(&run->pace.rows, now, w->reserved, now);
		ledger_add(&run->pace.all_rows, now, w->reserved, now);
	}
	ledger_add(&shared->budgets.used_rows, now, w->reserved, now);
	w->reserved = w->reserved_next = 0;
}

/* So much WAL was written.  The caller holds the lock. */
static void
add_wal(RunPace *p, int64 bytes, TimestampTz now)
{
	ledger_add(&shared->budgets.used_wal, now, bytes, now);
	if (p)
	{
		ledger_add(&p->wal, now, bytes, now);
		ledger_add(&p->all_wal, now, bytes, now);
	}
}

/* A batch that was rolled back has written so much WAL. */
void
pace_wrote(int64 wal_bytes)
{
	shared_lock(LW_EXCLUSIVE);
	add_wal(my_pace(), wal_bytes, GetCurrentTimestamp());
	shared_unlock();
}

/*
 * The statement of the batch in hand took so many microseconds, and wrote so much
 * WAL, whatever becomes of it.  To be called before the next batch is claimed,
 * which is to have the size that follows from that.  Returns -1 or 1 when the batch size is newly pinned at its lower or upper
 * limit.
 */
int
pace_measure(int64 rows_scanned, int64 rows_affected, int64 wal_bytes,
			 int64 duration, bool has_scope)
{
	RunPace    *p;
	int			pinned = 0;

	shared_lock(LW_EXCLUSIVE);
	p = my_pace();
	add_wal(p, wal_bytes, GetCurrentTimestamp());
	shared_my_worker()->measured = true;
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
		if (rows_affected == 0 && has_scope)
			size_note_empty(&p->size, rows_scanned, duration);
		else
			pinned = size_note(&p->size, rows_scanned, duration);
	}
	shared_unlock();
	return pinned;
}

/* The batch in hand is committed: it used so many rows. */
void
pace_settle(int64 rows_affected)
{
	WorkerSlot *w = shared_my_worker();
	RunPace    *p;
	TimestampTz now = GetCurrentTimestamp();

	shared_lock(LW_EXCLUSIVE);

	/* nobody waits for this batch any more */
	w->state = WORKER_WAITING;
	w->state_since = now;
	w->yield_to = 0;
	p = my_pace();
	reserve(p, -w->reserved);
	w->reserved = 0;
	ledger_add(&shared->budgets.used_rows, now, rows_affected, now);
	if (p)
	{
		ledger_add(&p->rows, now, rows_affected, now);
		ledger_add(&p->all_rows, now, rows_affected, now);
	}
	shared_unlock();
}

/*
 * Whether this worker is to run the probe now, because the last one ended so
 * many milliseconds ago.  Otherwise *due is when one is to be run.
 */
bool
pace_take_probe(int64 interval, TimestampTz *due)
{
	RunPace    *p;
	TimestampTz now = GetCurrentTimestamp();
	bool		mine = false;

	*due = now;
	shared_lock(LW_EXCLUSIVE);
	p = my_pace();
	if (p)
	{
		*due = TimestampTzPlusMilliseconds(p->probed_at, interval);
		mine = p->pace.probed && *due <= now;
		if (mine)
			p->probed_at = now;
	}
	shared_unlock();
	return mine;
}

/* The probe has spoken.  Returns whether that is news. */
bool
pace_probe_said(ProbeVerdict verdict, const char *reason)
{
	WorkerSlot *w = shared_my_worker();
	RunPace    *p;
	bool		news = false;
	int			length = pg_mbcliplen(reason, strlen(reason), PACE_REASON_SIZE - 1);

	shared_lock(LW_EXCLUSIVE);
	p = my_pace();
	if (p)
	{
		bool		turned = p->probe != verdict;

		news = turned || strncmp(p->probe_reason, reason, length) != 0 ||
			p->probe_reason[length] != '\0';
		p->probe = verdict;

		/* however long it took, batches come before the next one */
		p->probed_at = GetCurrentTimestamp();
		memcpy(p->probe_reason, reason, length);
		p->probe_reason[length] = '\0';
		if (turned)
			shared_notify_run(w->database, w->run_id);
	}
	shared_unlock();
	return news;
}
