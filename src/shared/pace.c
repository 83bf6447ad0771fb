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

#include "base/clock.h"
#include "base/quantity.h"
#include "shared/ledger.h"
#include "shared/pace.h"
#include "shared/segment.h"
#include "shared/size.h"
#include "shared/worker_slot.h"

/* A scheduler that watches the server is heard more often than this. */
#define UNHEARD_MS		15000
/* A limit that was reached is said to throttle the run for a window, within these. */
#define LIMITED_LEAST_MS	1500
#define LIMITED_MOST_MS		10000
/* A batch that has been at work for so long is too long for sessions that are waiting. */
#define TOO_LONG_MS		20
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

/* The ledger of rows begins anew: what its workers did last is not in it. */
static void
forget_counted(const RunSlot *run)
{
	for (int i = 0; i < segment->nworkers; i++)
	{
		WorkerSlot *w = &segment_workers[i];

		if (segment_works_for(w, run->database, run->run_id))
			w->counted = false;
	}
}

/*
 * Whether a batch that finished then is in the ledger of rows, because its worker has
 * settled for it since that was opened.  From now on it is: who is yet to settle
 * for it does not count it again.
 */
static bool
is_counted(const RunSlot *run, TimestampTz finished_at)
{
	for (int i = 0; i < segment->nworkers; i++)
	{
		WorkerSlot *w = &segment_workers[i];
		bool		counted = w->counted;

		if (!segment_works_for(w, run->database, run->run_id) || w->finished_at != finished_at)
			continue;
		w->counted = true;
		return counted;
	}
	return false;
}

/* From when on the ledgers of the run have to know what it used, or DT_NOEND. */
static TimestampTz
open_ledger(RunSlot *run)
{
	RunPace    *p = &run->pace;
	int64		window = Max(p->pace.rows.amount == 0 ? 0 : p->pace.rows.window,
							 p->pace.wal.amount == 0 ? 0 : p->pace.wal.window);

	if (p->rows_known)
		return DT_NOEND;
	if (segment->budgets.rows.amount > 0)
		window = Max(window, segment->budgets.rows.window);

	/* what is used from now on is seen from now on */
	ledger_open(&p->rows, &p->pace.rows);
	forget_counted(run);
	p->rows_known = window == 0;
	return window > 0 ? GetCurrentTimestamp() - window * 1000 : DT_NOEND;
}

/*
 * Set the pace of a run.  Its workers are woken if it has changed.  A new slot
 * begins with that batch size.  Returns false for a run that has no slot, or
 * whose ledgers know what was used before; otherwise what was completed from
 * *since on is to be entered with pace_enter.
 */
bool
pace_set(Oid database, int64 run_id, const Pace *pace, int64 batch_size, TimestampTz *since)
{
	RunSlot    *run;

	*since = DT_NOEND;
	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
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
			segment_notify_run(database, run_id);
		*since = open_ledger(run);
	}
	segment_unlock();
	return *since != DT_NOEND;
}

/* Set the budgets of all runs.  If they change, all workers ask again. */
void
pace_set_budgets(const RateLimit *rows, const RateLimit *wal)
{
	TimestampTz now;
	Budgets    *budgets = &segment->budgets;
	bool		changed;

	segment_lock(LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
	changed = !same_limit(&budgets->rows, rows) || !same_limit(&budgets->wal, wal);
	ledger_refit(&budgets->used_rows, rows, now);
	ledger_refit(&budgets->used_wal, wal, now);
	for (int i = 0; i < segment->nruns; i++)
	{
		if (!segment_runs[i].in_use)
			continue;
		ledger_refit(&segment_runs[i].pace.all_rows, rows, now);
		ledger_refit(&segment_runs[i].pace.all_wal, wal, now);
		if (!changed)
			continue;
		segment_runs[i].pace.limited_by = PACE_NO_LIMIT;
		segment_notify_run(segment_runs[i].database, segment_runs[i].run_id);
	}
	budgets->rows = *rows;
	budgets->wal = *wal;
	segment_unlock();
}

/*
 * Whether the budget of rows does not know what the runs of the database did
 * before this server was started or promoted: from *since to *until.  Answers so
 * once, to the first that asks while there is a budget.
 */
bool
pace_open_budget(Oid database, TimestampTz *since, TimestampTz *until)
{
	Budgets    *budgets = &segment->budgets;
	bool		known = false;

	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < budgets->nknown; i++)
		known = known || budgets->known[i] == database;
	known = known || budgets->rows.amount == 0 || budgets->nknown == KNOWN_DATABASES;
	if (!known)
		budgets->known[budgets->nknown++] = database;
	*until = segment->made_at;
	*since = *until - budgets->rows.window * 1000;
	segment_unlock();
	return !known;
}

/* What runs completed before this server began. */
void
pace_enter_budget(const Usage *usages, int n)
{
	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
		ledger_add(&segment->budgets.used_rows, usages[i].at, usages[i].rows,
				   GetCurrentTimestamp());
	segment_unlock();
}

/* What the run used before its ledgers were opened: they know it all now. */
void
pace_enter(Oid database, int64 run_id, const Usage *usages, int n)
{
	RunSlot    *run;
	TimestampTz now;

	segment_lock(LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
	run = segment_find_run(database, run_id);
	if (run)
	{
		RunPace    *p = &run->pace;

		for (int i = 0; i < n; i++)
		{
			if (!is_counted(run, usages[i].at))
				ledger_add(&p->rows, usages[i].at, usages[i].rows, now);
			if (usages[i].at >= p->opened_at || p->entered)
				continue;
			ledger_add(&p->all_rows, usages[i].at, usages[i].rows, now);
			ledger_add(&p->wal, usages[i].at, usages[i].wal_bytes, now);
		}
		p->rows_known = true;
		p->entered = true;
		segment_notify_run(database, run_id);
	}
	segment_unlock();
}

/* The present batch size of the run, or 0. */
int64
pace_size(Oid database, int64 run_id)
{
	RunSlot    *run;
	int64		size;

	segment_lock(LW_SHARED);
	run = segment_find_run(database, run_id);
	size = run ? run->pace.size.size : 0;
	segment_unlock();
	return size;
}

/* The limit that the workers of the run wait for, or did a moment ago. */
static PaceLimit
limited_by(const RunPace *p, RateLimit *limit)
{
	if (p->limited_by == PACE_ROWS)
		*limit = p->pace.rows;
	else if (p->limited_by == PACE_WAL)
		*limit = p->pace.wal;
	else
		*limit = p->limited_by == PACE_ALL_ROWS ? segment->budgets.rows : segment->budgets.wal;

	/* one that is reached in each window is what counts, also between two waits */
	return TimestampDifferenceExceeds(p->limited_until, GetCurrentTimestamp(),
									  Max(LIMITED_LEAST_MS, Min(limit->window, LIMITED_MOST_MS))) ?
		PACE_NO_LIMIT : p->limited_by;
}

/*
 * Whether a worker of the database is there whose batches would be shorter if sessions
 * waited for what they use.
 */
bool
pace_heeds_crowd(Oid database)
{
	bool		heeds = false;

	segment_lock(LW_SHARED);
	for (int i = 0; i < segment->nworkers && !heeds; i++)
	{
		const WorkerSlot *w = &segment_workers[i];
		const RunSlot *run = w->in_use && w->database == database ?
			segment_find_run(database, w->run_id) : NULL;

		heeds = run && run->pace.pace.yield_after > 0 && !run->pace.pace.hold &&
			size_heeds_crowd(&run->pace.pace.aim);
	}
	segment_unlock();
	return heeds;
}

/*
 * So many sessions wait, on the average, for what the batches of the runs of the database use, or none
 * does.  Workers are woken if it is news that some do, or none.  Batches are short from then on, and one that was begun before and is
 * long is cancelled, if it is its rows that make it so.
 */
void
pace_set_crowd(Oid database, double crowd)
{
	segment_lock(LW_EXCLUSIVE);
	for (int i = 0; i < segment->nruns; i++)
	{
		RunSlot    *run = &segment_runs[i];
		bool		before = run->pace.crowd > 0;

		if (!run->in_use || run->database != database)
			continue;
		run->pace.crowd = run->pace.pace.yield_after > 0 ? crowd : 0;
		if ((run->pace.crowd > 0) == before)
			continue;
		segment_notify_run(database, run->run_id);
		if (before)
			continue;
		if (size_is_too_large(&run->pace.size))
			worker_slot_yield_to_all(database, run->run_id, TOO_LONG_MS);
		size_ease(&run->pace.size, 0, true, 0);
	}
	segment_unlock();
}

/* How the run goes, as its workers have made it known. */
void
pace_look(Oid database, int64 run_id, PaceView *view)
{
	RunSlot    *run;

	memset(view, 0, sizeof(PaceView));
	view->rate = -1;
	segment_lock(LW_SHARED);
	run = segment_find_run(database, run_id);
	if (run)
	{
		RunPace    *p = &run->pace;

		view->rate = run->rate;
		view->freed = run->freed;
		view->size = p->size.size;
		view->fixed = p->size.fixed_rules ? p->size.fixed : 0;
		view->eased = size_is_eased(&p->size) ? p->size.target : 0;
		view->crowded = p->crowd > 0;
		view->limited_by = limited_by(p, &view->limit);
		view->probe = p->probe;
		strlcpy(view->probe_reason, p->probe_reason, PACE_REASON_SIZE);
		if (view->probe == PROBE_UNKNOWN &&
			TimestampDifferenceExceeds(p->opened_at, GetCurrentTimestamp(), SILENT_MS))
		{
			view->probe = PROBE_WAIT;
			strlcpy(view->probe_reason, "has not answered yet", PACE_REASON_SIZE);
		}
	}
	segment_unlock();
}

/* ---- the worker's side ---- */

/* A copy of the pace of the worker's run. */
void
pace_get(Pace *pace)
{
	RunPace    *p;

	memset(pace, 0, sizeof(Pace));
	segment_lock(LW_SHARED);
	p = segment_my_pace();
	if (p)
		*pace = p->pace;
	segment_unlock();
}

/* How many sessions wait for what the batches of the worker's run use, too, on the average; 0 if that is no matter. */
double
pace_crowd(void)
{
	RunPace    *p;
	double		crowd;

	segment_lock(LW_SHARED);
	p = segment_my_pace();
	crowd = p ? p->crowd : 0;
	segment_unlock();
	return crowd;
}

/*
 * Whether no batch may begin, by the scheduler's word or the probe's.  A
 * scheduler that is to watch the server and is not heard counts as one that
 * cannot read how it is.  The caller holds the lock.
 */
bool
pace_holds(const RunPace *p)
{
	return p->pace.hold || (p->pace.probed && p->probe != PROBE_GO) ||
		(p->pace.watched &&
		 TimestampDifferenceExceeds(p->set_at, GetCurrentTimestamp(), UNHEARD_MS));
}

/* The same for the worker's run. */
bool
pace_is_held(void)
{
	RunPace    *p;
	bool		held;

	segment_lock(LW_SHARED);
	p = segment_my_pace();
	held = p && pace_holds(p);
	segment_unlock();
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
	segment_lock(LW_EXCLUSIVE);
	p = segment_my_pace();
	if (p)
	{
		*due = TimestampTzPlusMilliseconds(p->probed_at, interval);
		mine = p->pace.probed && !clock_is_ahead(*due, now, interval);
		if (mine)
			p->probed_at = now;
	}
	segment_unlock();
	return mine;
}

/* The probe has spoken.  Returns whether that is news. */
bool
pace_probe_said(ProbeVerdict verdict, const char *reason)
{
	WorkerSlot *w = segment_my_worker();
	RunPace    *p;
	bool		news = false;
	int			length = pg_mbcliplen(reason, strlen(reason), PACE_REASON_SIZE - 1);

	segment_lock(LW_EXCLUSIVE);
	p = segment_my_pace();
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
			segment_notify_run(w->database, w->run_id);
	}
	segment_unlock();
	return news;
}
