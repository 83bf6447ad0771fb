/*-------------------------------------------------------------------------
 *
 * report_text.c
 *	  What backfill_report says, as lines of text.
 *
 * In the manner of EXPLAIN, for people.  Charts are 80 columns wide at most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/bar.h"
#include "rehearsal/warning.h"
#include "rehearsal/words.h"
#include "report/count.h"
#include "report/report_text.h"
#include "report/wording.h"

/* Of bars, so that a line with its label and its number has less than 80 columns. */
#define BAR_WIDTH		36

/* The bar at the end of a line, and that end. */
static void
append_bar(StringInfo out, double share, int width)
{
	if (share > 0)
		appendStringInfoString(out, "  ");
	bar_append(out, share, width, '\0');
	appendStringInfoChar(out, '\n');
}

/* ---- what was done ---- */

static void
append_dates(StringInfo out, const Evaluation *e)
{
	const FiguresRun *run = e->run;

	appendStringInfo(out, "  Status: %s%s\n", status_name(run->status),
					 run->wait_reason ? psprintf(", %s", run->wait_reason) :
					 run->throttled_by && !status_has_ended(run->status) ?
					 psprintf(", throttled by %s", run->throttled_by) : "");
	if (run->error)
		appendStringInfo(out, "  Error: %s: %s\n", run->sqlstate ? run->sqlstate : "XX000", run->error);
	appendStringInfo(out, "  Made: %s, by %s\n", wording_date(run->created_at), run->started_by);
	if (run->started_at == DT_NOBEGIN)
		return;
	appendStringInfo(out, "  Began: %s\n", wording_date(run->started_at));
	appendStringInfo(out, "  %s: %s, %s after that\n",
					 run->finished_at != DT_NOBEGIN ? "Ended" : "Now",
					 wording_date(e->end), wording_time(e->elapsed));
}

static void
append_rows(StringInfo out, const Evaluation *e)
{
	const FiguresRun *run = e->run;

	appendStringInfo(out, "  Rows: %.0f walked", run->rows_scanned);
	if (run->rows_total >= 0 && run->status != RUN_COMPLETED)
		appendStringInfo(out, " of about %.0f", run->rows_total);
	appendStringInfo(out, ", %.0f processed", run->rows_affected);
	if (run->errors > 0)
		appendStringInfo(out, ", " INT64_FORMAT " left out", run->errors);
	if (run->repaired > 0)
		appendStringInfo(out, ", " INT64_FORMAT " repaired", run->repaired);
	if (run->rows_remaining >= 0)
		appendStringInfo(out, ", %.0f in scope when they were last counted", run->rows_remaining);
	appendStringInfoChar(out, '\n');
	appendStringInfo(out, "  Batches: %.0f", run->batches);
	if (e->batches.by_clients > 0)
		appendStringInfo(out, ", " INT64_FORMAT " of them by clients", e->batches.by_clients);
	appendStringInfoChar(out, '\n');
	if (e->running > 0)
		appendStringInfo(out, "  Rate: %.0f rows/s while it was running\n", run->rows_scanned / e->running);
}

/* ---- where the time went ---- */

/* A line of a list of times, as a part of all of it. */
static void
append_part(StringInfo out, const char *name, double seconds, double all)
{
	double		share = all > 0 ? Min(seconds / all, 1) : 0;

	appendStringInfo(out, "    %-22s %12s %5.1f %%", name, wording_time(seconds), 100 * share);
	append_bar(out, share, BAR_WIDTH - 8);
}

static void
append_times(StringInfo out, const char *title, List *times, double all)
{
	ListCell   *lc;

	if (times == NIL)
		return;
	appendStringInfo(out, "  %s:\n", title);
	foreach(lc, times)
	{
		const FiguresTime *time = lfirst(lc);

		append_part(out, time->name, time->seconds, all);
	}
}

static void
append_time(StringInfo out, const Evaluation *e)
{
	const BatchTotals *b = &e->batches;
	ListCell   *lc;
	double		known = 0;

	if (e->statuses == NIL && e->states == NIL && e->throttled == NIL && b->n == 0)
		return;
	foreach(lc, e->statuses)
		known += ((const FiguresTime *) lfirst(lc))->seconds;
	appendStringInfoString(out, "Time:\n");
	append_times(out, "The run was", e->statuses, known);
	append_times(out, e->running > 0 ?
				 psprintf("Its workers, %.1f on average, were", e->worked / e->running) : "Its workers were",
				 e->states, e->worked);
	if (b->n > 0)
	{
		appendStringInfo(out, "  Its statements took %s", wording_time(b->seconds));
		if (b->by_clients > 0)
			appendStringInfoString(out, ", with the time that batches were in the hands of clients");
		appendStringInfo(out, ", of which they waited for locks: %s", wording_time(b->lock_seconds));
		if (b->cpu_seconds > 0)
			appendStringInfo(out, ", and were on a processor: %s", wording_time(b->cpu_seconds));
		appendStringInfoChar(out, '\n');
	}
	append_times(out, "It was held or slowed down by", e->throttled, e->running);
}

/* ---- charts ---- */

/* The buckets from the first to the last that is not empty; false if all are. */
static bool
find_filled(const Scale *scale, int *first, int *last)
{
	*first = 0;
	*last = scale->n;
	while (*first <= scale->n && scale->buckets[*first].batches == 0)
		(*first)++;
	while (*last >= 0 && scale->buckets[*last].batches == 0)
		(*last)--;
	return *first <= *last;
}

/* How many batches there were in each bucket, with the label of its lower bound. */
static void
append_histogram(StringInfo out, const Scale *scale, char *(*label) (double), const char *unit)
{
	int64		most = 1;
	int			first;
	int			last;

	if (!find_filled(scale, &first, &last))
		return;
	for (int i = first; i <= last; i++)
		most = Max(most, scale->buckets[i].batches);
	for (int i = first; i <= last; i++)
	{
		appendStringInfo(out, "    from %9s%s %10s",
						 label(i == 0 ? 0 : scale->bounds[i - 1]), unit,
						 psprintf(INT64_FORMAT, scale->buckets[i].batches));
		append_bar(out, (double) scale->buckets[i].batches / most, BAR_WIDTH);
	}
}

static void
append_percentiles(StringInfo out, const char *title, const double *values, char *(*word) (double))
{
	appendStringInfo(out, "%s: ", title);
	for (int i = 0; i < EVALUATION_PERCENTILES; i++)
	{
		if (count_percentiles[i] < 1)
			appendStringInfo(out, "%.0f %% up to %s, ", 100 * count_percentiles[i], word(values[i]));
		else
			appendStringInfo(out, "most %s\n", word(values[i]));
	}
}

static char *
whole_number(double number)
{
	return psprintf("%.0f", number);
}

static void
append_batches(StringInfo out, const Evaluation *e)
{
	append_percentiles(out, "Batch time", e->batches.seconds_at, wording_time);
	append_histogram(out, &e->scales[AXIS_DURATION], wording_time, "");
	append_percentiles(out, "Batch size", e->batches.rows_at, whole_number);
	append_histogram(out, &e->scales[AXIS_ROWS], wording_number, " rows");
}

/* The rows of the batches that were finished in each piece of the time. */
static void
append_rate(StringInfo out, const Evaluation *e)
{
	const Scale *scale = &e->scales[AXIS_TIME];
	double		piece = e->elapsed / scale->n;
	double		most = 0;

	if (piece <= 0)
		return;
	for (int i = 1; i <= scale->n; i++)
		most = Max(most, scale->buckets[i].rows);
	appendStringInfo(out, "Rate over time, in pieces of %s:\n", wording_time(piece));
	for (int i = 1; i <= scale->n; i++)
	{
		appendStringInfo(out, "    after %12s %10.0f rows/s", wording_time(scale->bounds[i - 1]),
						 scale->buckets[i].rows / piece);
		append_bar(out, most > 0 ? scale->buckets[i].rows / most : 0, BAR_WIDTH);
	}
}

/* ---- what it took ---- */

static void
append_size(StringInfo out, const char *what, double before, double growth)
{
	if (before < 0)
		return;
	appendStringInfo(out, "  Size of %s: %s when it began, %s%s since", what, words_size(before),
					 growth < 0 ? "-" : "+", words_size(growth < 0 ? -growth : growth));
	if (before > 0)
		appendStringInfo(out, ", %+.0f %%", 100 * growth / before);
	appendStringInfoChar(out, '\n');
}

static void
append_server(StringInfo out, const Evaluation *e)
{
	const FiguresRun *run = e->run;
	const BatchTotals *b = &e->batches;

	appendStringInfoString(out, "What it took:\n");
	appendStringInfo(out, "  WAL: %s, %.0f bytes per row that it walked, with %.0f images of whole pages\n",
					 words_size(run->wal_bytes), run->wal_bytes / Max(run->rows_scanned, 1), b->full_pages);
	appendStringInfo(out, "  Blocks read by its statements: %.0f, not found in shared buffers\n", b->blocks_read);
	if (b->updated > 0)
		appendStringInfo(out, "  HOT: %.0f %% of %.0f updates\n", 100 * b->hot_updated / b->updated, b->updated);
	append_size(out, "the table", run->table_size, run->table_growth);
	append_size(out, "its indexes", run->index_size, run->index_growth);
	if (run->space_freed > 0)
		appendStringInfo(out, "  Space that it has made free for later batches: %s\n", words_size(run->space_freed));
	if (run->space_kept_by)
		appendStringInfo(out, "  Space is kept by: %s\n", run->space_kept_by);
}

static void
append_trouble(StringInfo out, const Evaluation *e)
{
	ListCell   *lc;

	if (e->batches.repeated == 0 && e->run->yields == 0 && e->retries == NIL && e->errors == NIL)
		return;
	appendStringInfoString(out, "Trouble:\n");
	appendStringInfo(out, "  Begun more than once: " INT64_FORMAT " batch%s, " INT64_FORMAT " attempt%s for nothing\n",
					 e->batches.repeated, e->batches.repeated == 1 ? "" : "es",
					 e->batches.attempts, e->batches.attempts == 1 ? "" : "s");
	appendStringInfo(out, "  Gave way to other sessions: " INT64_FORMAT " time%s\n", e->run->yields,
					 e->run->yields == 1 ? "" : "s");
	foreach(lc, e->retries)
	{
		const FiguresRetry *retry = lfirst(lc);

		appendStringInfo(out, "  Put aside with SQLSTATE %s: " INT64_FORMAT " time%s, such as: %s\n",
						 retry->sqlstate, retry->n, retry->n == 1 ? "" : "s", retry->example);
	}
	foreach(lc, e->errors)
	{
		const FiguresError *error = lfirst(lc);

		appendStringInfo(out, "  Rows with SQLSTATE %s: " INT64_FORMAT " left out, " INT64_FORMAT " resolved, " INT64_FORMAT " of them repaired, such as: %s\n",
						 error->sqlstate, error->left, error->resolved, error->repaired,
						 error->example ? error->example : "");
	}
	if (e->error_kinds > list_length(e->errors))
		appendStringInfo(out, "  ... and rows with " INT64_FORMAT " more SQLSTATEs\n",
						 e->error_kinds - list_length(e->errors));
}

static void
append_slowest(StringInfo out, const Evaluation *e)
{
	appendStringInfoString(out, "Slowest batches:\n");
	for (int i = 0; i < e->nslowest; i++)
	{
		const SlowBatch *slow = &e->slowest[i];
		const FiguresBatch *batch = &slow->batch;

		appendStringInfo(out, "  %s: %.0f rows, batch " INT64_FORMAT "%s%s%s: %s\n",
						 wording_time(batch->seconds), batch->rows, batch->number,
						 batch->part > 0 ? psprintf(" part %d", batch->part) : "",
						 slow->details && slow->details->stream ? psprintf(" of stream %s ", slow->details->stream) :
						 slow->details ? " " : "", slow->details ? slow->details->key_range : "",
						 slow->why);
	}
}

static void
append_lessons(StringInfo out, const Evaluation *e)
{
	ListCell   *lc;

	if (e->lessons == NIL)
		appendStringInfoString(out, "Next time: nothing that is kept of it stands out\n");
	foreach(lc, e->lessons)
	{
		const Warning *lesson = lfirst(lc);

		appendStringInfo(out, "Next time: %s\n", lesson->message);
		if (lesson->hint)
			appendStringInfo(out, "  Hint: %s\n", lesson->hint);
	}
}

/* ---- all of it ---- */

void
report_text_append(StringInfo out, const Evaluation *e)
{
	appendStringInfo(out, "Report of %s\n", e->title);
	append_dates(out, e);
	append_rows(out, e);
	append_time(out, e);
	if (e->batches.n > 0)
	{
		append_rate(out, e);
		append_batches(out, e);
		append_server(out, e);
	}
	append_trouble(out, e);
	if (e->nslowest > 0)
		append_slowest(out, e);
	append_lessons(out, e);
}
