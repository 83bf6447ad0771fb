/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  The pace of a run, in shared memory.
 *
 * The scheduler says what the pace is to be; the workers ask how many rows the
 * next batch may have, and report what a batch took.  Everything here is under
 * the lock of the shared state, and takes a few hundred instructions at most.
 *
 * Which limits there are stands here, what they allow in allowance.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "shared_state.h"

/* A scheduler that watches the server is heard more often than this. */
#define UNHEARD_MS		15000
/* A limit that was reached is said to throttle the run for a window, within these. */
#define LIMITED_LEAST_MS	1500
#define LIMITED_MOST_MS		10000
/* That a probe has not answered is said after so long. */
#define SILENT_MS		2000

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
			p->rows_known = false;
		ledger_refit(&p->wal, &pace->wal, GetCurrentTimestamp());

		/* a worker that still has to wait says so again */
		if (!same_limit(&p->pace.rows, &pace->rows) || !same_limit(&p->pace.wal, &pace->wal))
			p->limited_by = PACE_NO_LIMIT;
		size_aim(&p->size, &pace->aim, batch_size);
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
	TimestampTz now;
	Budgets    *budgets = &shared->budgets;
	bool		changed;

	shared_lock(LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
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
 * is used from now on.  What was completed from *since on is to be entered by the
 * caller, who then closes it.  Returns false when that is not needed.
 */
bool
pace_open_ledger(Oid database, int64 run_id, TimestampTz *since)
{
	RunSlot    *run;
	bool		needed = false;

	shared_lock(LW_EXCLUSIVE);
	run = shared_find_run(database, run_id);
	if (run && !run->pace.rows_known)
	{
		RunPace    *p = &run->pace;
		int64		window = Max(p->pace.rows.amount == 0 ? 0 : p->pace.rows.window,
								 p->pace.wal.amount == 0 ? 0 : p->pace.wal.window);

		if (shared->budgets.rows.amount > 0)
			window = Max(window, shared->budgets.rows.window);
		ledger_open(&p->rows, &p->pace.rows);
		p->rows_known = window == 0;
		needed = window > 0;
		*since = GetCurrentTimestamp() - window * 1000;
	}
	shared_unlock();
	return needed;
}

/*
 * Whether the budget of rows does not know what the runs of the database did
 * before this server was started or promoted: from *since to *until.  Answers so
 * once, to the first that asks while there is a budget.
 */
bool
pace_open_budget(Oid database, TimestampTz *since, TimestampTz *until)
{
	Budgets    *budgets = &shared->budgets;
	bool		known = false;

	shared_lock(LW_EXCLUSIVE);
	for (int i = 0; i < budgets->nknown; i++)
		known = known || budgets->known[i] == database;
	known = known || budgets->rows.amount == 0 || budgets->nknown == KNOWN_DATABASES;
	if (!known)
		budgets->known[budgets->nknown++] = database;
	*until = shared->made_at;
	*since = *until - budgets->rows.window * 1000;
	shared_unlock();
	return !known;
}

/* Some run completed the batch before this server began. */
void
pace_enter_budget(const RecentBatch *batch)
{
	shared_lock(LW_EXCLUSIVE);
	ledger_add(&shared->budgets.used_rows, batch->at, batch->rows, GetCurrentTimestamp());
	shared_unlock();
}

/* The run completed the batch. */
void
pace_enter(Oid database, int64 run_id, const RecentBatch *batch)
{
	RunSlot    *run;
	TimestampTz now;

	shared_lock(LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
	run = shared_find_run(database, run_id);
	if (run)
	{
		ledger_add(&run->pace.rows, batch->at, batch->rows, now);
		if (batch->at < run->pace.opened_at && !run->pace.entered)
		{
			ledger_add(&run->pace.all_rows, batch->at, batch->rows, now);
			ledger_add(&run->pace.wal, batch->at, batch->wal_bytes, now);
		}
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
		run->pace.entered = true;
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
	if (run)
		by = run->pace.limited_by;
	if (by == PACE_ROWS)
		*limit = run->pace.pace.rows;
	else if (by == PACE_WAL)
		*limit = run->pace.pace.wal;
	else
		*limit = by == PACE_ALL_ROWS ? shared->budgets.rows : shared->budgets.wal;

	/* one that is reached in each window is what counts, also between two waits */
	if (run && TimestampDifferenceExceeds(run->pace.limited_until, now,
										  Max(LIMITED_LEAST_MS, Min(limit->window, LIMITED_MOST_MS))))
		by = PACE_NO_LIMIT;
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
		if (verdict == PROBE_UNKNOWN &&
			TimestampDifferenceExceeds(run->pace.opened_at, GetCurrentTimestamp(), SILENT_MS))
		{
			verdict = PROBE_WAIT;
			strlcpy(reason, "has not answered yet", PACE_REASON_SIZE);
		}
	}
	shared_unlock();
	return verdict;
}

/* ---- the worker's side ---- */

/* The pace of the worker's run; the caller holds the lock. */
RunPace *
pace_mine(void)
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
	p = pace_mine();
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
	p = pace_mine();
	held = p && (p->pace.hold || (p->pace.probed && p->probe != PROBE_GO) ||
				 (p->pace.watched &&
				  TimestampDifferenceExceeds(p->set_at, GetCurrentTimestamp(), UNHEARD_MS)));
	shared_unlock();
	return held;
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
	p = pace_mine();
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
	p = pace_mine();
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
