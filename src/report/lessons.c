/*-------------------------------------------------------------------------
 *
 * lessons.c
 *	  What to change next time.
 *
 * Each lesson rests on what is kept of the run, and has the numbers that it rests on: how
 * much of the time a setting has cost, how much of the work was for nothing.  What cost
 * little is not worth a word.  Codes are for programs, and stay.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/quantity.h"
#include "rehearsal/warning.h"
#include "rehearsal/words.h"
#include "report/lessons.h"
#include "report/replan.h"
#include "report/wording.h"

/* A part of the time that is worth a word. */
#define NOTABLE_PART	0.1
/* Runs that take less need no lesson about time. */
#define SHORT_RUN		1.0
/* Less is no growth worth a word, in bytes, nor WAL. */
#define LITTLE_GROWTH	(1024.0 * 1024)
#define LITTLE_WAL		(16.0 * 1024 * 1024)

/* What can be done about what throttled a run. */
static const char *
remedy(const char *what)
{
	static const struct
	{
		const char *what;
		const char *hint;
	}			remedies[] = {
		{"window", "It may work in its \"windows\" alone: longer ones end it sooner."},
		{"rate_limit", "It was as fast as that allows: raise it, if the server can bear more."},
		{"wal_rate_limit", "It was as fast as that allows: raise it, or have less WAL for each row: fewer indexes on what is changed, \"wal_compression\"."},
		{"backfill.rate_limit", "All runs together have reached it: raise it, or have fewer runs at a time."},
		{"backfill.wal_rate_limit", "All runs together have reached it: raise it, or have fewer runs at a time."},
		{"batch cost", "A batch cost much whatever its size: an index for what the statement looks up in other tables helps most."},
		{"foreground", "Sessions waited for rows of its batches: an hour with fewer of them ends it sooner."},
		{"probe", "The probe has held it: backfill_events says when, and with which words."},
		{"max_growth", "The target had grown as far as that allows: have vacuum come more often, or raise it."}
	};

	for (int i = 0; i < lengthof(remedies); i++)
	{
		if (strcmp(remedies[i].what, what) == 0)
			return remedies[i].hint;
	}
	return "Look at what it is a limit of first, backfill_events says who; then at the limit.";
}

/* What throttled the run, and what held it, the longest first. */
static void
learn_limits(Evaluation *e)
{
	ListCell   *lc;

	foreach(lc, e->throttled)
	{
		const FiguresTime *time = lfirst(lc);

		if (time->seconds < Max(NOTABLE_PART * e->running, SHORT_RUN))
			continue;
		warning_add(&e->lessons, "throttled", InvalidOid, "%s held it or slowed it down for %s, %.0f %% of the time",
					time->name, wording_time(time->seconds),
					Min(100 * time->seconds / Max(e->running, 1e-6), 100));
		warning_hint(e->lessons, remedy(time->name));
	}
}

/* What workers did when they were not at work, by the setting that is to blame. */
static void
learn_states(Evaluation *e)
{
	ListCell   *lc;

	foreach(lc, e->states)
	{
		const FiguresTime *time = lfirst(lc);
		double		part = time->seconds / Max(e->worked, 1e-6);

		if (part < NOTABLE_PART || time->seconds < SHORT_RUN)
			continue;
		if (strcmp(time->name, "sleeping") == 0)
		{
			warning_add(&e->lessons, "sleep", InvalidOid, "its workers have slept between batches for %s, %.0f %% of their time",
						wording_time(time->seconds), 100 * part);
			warning_hint(e->lessons, psprintf("That was \"sleep\", %s, and \"nice\", %.2g, at the end: shorter pauses, or larger batches, end it sooner.",
											  quantity_duration_text(e->settings.sleep), e->settings.nice / 1000000.0));
		}
		if (strcmp(time->name, "retrying") == 0)
		{
			warning_add(&e->lessons, "retry_delay", InvalidOid, "its workers have waited to try batches again for %s, %.0f %% of their time",
						wording_time(time->seconds), 100 * part);
			warning_hint(e->lessons, "The errors that made them do so are worth more than a shorter \"retry_delay\".");
		}
	}
}

static void
learn_queue(Evaluation *e)
{
	ListCell   *lc;

	foreach(lc, e->statuses)
	{
		const FiguresTime *time = lfirst(lc);

		if (strcmp(time->name, "enqueued") != 0 || time->seconds < Max(NOTABLE_PART * e->running, 10))
			continue;
		warning_add(&e->lessons, "queue", InvalidOid, "it has waited for a worker for %s", wording_time(time->seconds));
		warning_hint(e->lessons, "Raise \"backfill.max_workers\", or give the runs beside it fewer \"workers\".");
	}
}

static void
learn_locks(Evaluation *e)
{
	const BatchTotals *b = &e->batches;

	if (b->lock_seconds < Max(NOTABLE_PART * b->seconds, SHORT_RUN))
		return;
	warning_add(&e->lessons, "locks", InvalidOid, "its statements have waited for locks for %s, %.0f %% of their time",
				wording_time(b->lock_seconds), 100 * b->lock_seconds / b->seconds);
	warning_hint(e->lessons, "Others held its rows: another hour, smaller batches, or a shorter \"lock_timeout\", with which a batch is put aside instead.");
}

/* Neither on a processor nor waiting for a lock; of clients nothing of that is known. */
static void
learn_elsewhere(Evaluation *e)
{
	const BatchTotals *b = &e->batches;
	double		elsewhere = b->seconds - b->lock_seconds - b->cpu_seconds;

	if (b->by_clients > 0 || b->cpu_seconds <= 0 || elsewhere < Max(0.5 * b->seconds, SHORT_RUN))
		return;
	warning_add(&e->lessons, "waits", InvalidOid, "its statements have waited for the disk, or for a processor, for %s, %.0f %% of their time",
				wording_time(elsewhere), 100 * elsewhere / b->seconds);
	warning_hint(e->lessons, "More \"workers\" make that worse: another hour, larger shared buffers, or a faster disk.");
}

/* Batches that could not be as large, or as small, as their time would have them. */
static void
learn_batch_size(Evaluation *e)
{
	const BatchTotals *b = &e->batches;
	double		target = e->settings.target_batch_time / 1000.0;

	if (b->n < 10 || b->by_clients > 0 || target <= 0)
		return;
	if (b->seconds_at[0] > 2 * target && b->rows_at[0] <= e->settings.min_batch_size)
	{
		warning_add(&e->lessons, "min_batch_size", InvalidOid, "half of its batches took %s or more, twice \"target_batch_time\", with no more than \"min_batch_size\" rows",
					wording_time(b->seconds_at[0]));
		warning_hint(e->lessons, "Make \"min_batch_size\" smaller, or find out what takes so long with a row.");
	}
	if (b->seconds_at[0] < target / 2 && b->rows_at[0] >= e->settings.max_batch_size)
	{
		warning_add(&e->lessons, "max_batch_size", InvalidOid, "half of its batches had \"max_batch_size\" rows, and took less than half of \"target_batch_time\"");
		warning_hint(e->lessons, "A larger \"max_batch_size\" makes fewer batches of it.");
	}
}

static void
learn_scope(Evaluation *e)
{
	const FiguresRun *run = e->run;

	if (run->scope == NULL || run->rows_scanned < 10000 || run->rows_affected > 0.05 * run->rows_scanned)
		return;
	warning_add(&e->lessons, "sparse_scope", run->target, "of %.0f rows that it walked it has processed %.0f",
				run->rows_scanned, run->rows_affected);
	warning_hint(e->lessons, "Name an index in \"key\" that has a WHERE which the scope implies: it holds those rows alone. The setting \"prepare\" can create it, \"finish\" drop it.");
}

static void
learn_hot(Evaluation *e)
{
	const BatchTotals *b = &e->batches;

	if (b->updated < 1000 || b->hot_updated >= 0.5 * b->updated)
		return;
	warning_add(&e->lessons, "low_hot", e->run->target, "%.0f %% of the updates were HOT: all others have made new entries in every index",
				100 * b->hot_updated / b->updated);
	warning_hint(e->lessons, "Either an index has a column that is changed, which backfill_explain names and which may be dropped meanwhile, or pages have no room: a lower fillfactor gives it to them.");
}

/* Whole pages may be compressed, or have a hole: they are a bound of what they take. */
static void
learn_checkpoints(Evaluation *e)
{
	double		most = e->batches.full_pages * BLCKSZ;

	if (e->run->wal_bytes < LITTLE_WAL || most < 0.5 * e->run->wal_bytes)
		return;
	warning_add(&e->lessons, "full_pages", InvalidOid, "up to %.0f %% of its WAL are images of whole pages, %.0f of them: they come with the first change of a page after a checkpoint",
				Min(100 * most / e->run->wal_bytes, 100), e->batches.full_pages);
	warning_hint(e->lessons, "Raise \"max_wal_size\" and \"checkpoint_timeout\" for the time of the run; \"wal_compression\" makes them smaller.");
}

static void
learn_growth(Evaluation *e)
{
	const FiguresRun *run = e->run;

	if (run->table_size <= 0 || run->table_growth < Max(0.2 * run->table_size, LITTLE_GROWTH))
		return;
	warning_add(&e->lessons, "growth", run->target, "the table has grown by %s, %.0f %%",
				words_size(run->table_growth), 100 * run->table_growth / run->table_size);
	warning_hint(e->lessons, run->space_kept_by ?
				 psprintf("The space that batches left could not be used again: %s.", run->space_kept_by) :
				 !e->settings.reuse_space ? "With \"reuse_space\" the space that batches leave is used by the next ones." :
				 "Old snapshots keep what batches leave from being used again, and so do batches that are a large part of the table.");
}

static void
learn_attempts(Evaluation *e)
{
	const BatchTotals *b = &e->batches;
	const FiguresRetry *most = e->retries != NIL ? linitial(e->retries) : NULL;

	if (b->attempts < Max(0.05 * b->n, 3))
		return;
	warning_add(&e->lessons, "retries", InvalidOid, INT64_FORMAT " attempts at its " INT64_FORMAT " batches led to nothing%s",
				b->attempts, b->n, most ? psprintf(", most of them with SQLSTATE %s: %s", most->sqlstate, most->example) : "");
	warning_hint(e->lessons, "Smaller batches lose less with each; another hour, or another key, may not meet them.");
}

static void
learn_errors(Evaluation *e)
{
	const FiguresError *most = e->errors != NIL ? linitial(e->errors) : NULL;

	if (e->run->errors == 0 || most == NULL)
		return;
	warning_add(&e->lessons, "errors", InvalidOid, INT64_FORMAT " row%s left out, most with SQLSTATE %s: %s",
				e->run->errors, e->run->errors == 1 ? " was" : "s were", most->sqlstate, most->example);
	warning_hint(e->lessons, "The view backfill_errors shows them; the setting \"repair\" mends such rows as they come, and backfill_retry tries them again.");
}

/*
 * Add what is to be learned from the run, a list of Warning, in the current memory
 * context, that about time first.  The caller may see the run.
 */
void
lessons_draw(Evaluation *e, Oid caller)
{
	learn_limits(e);
	learn_states(e);
	learn_queue(e);
	if (e->batches.n > 0)
	{
		replan_learn(e, caller);
		learn_locks(e);
		learn_elsewhere(e);
		learn_batch_size(e);
		learn_scope(e);
		learn_hot(e);
		learn_checkpoints(e);
		learn_growth(e);
		learn_attempts(e);
	}
	learn_errors(e);
}
