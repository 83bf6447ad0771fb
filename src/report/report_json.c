/*-------------------------------------------------------------------------
 *
 * report_json.c
 *	  What backfill_report says, as JSON.
 *
 * For programs.  The keys are documented, and stay.  What is not known is null; no key
 * is ever missing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "rehearsal/document.h"
#include "rehearsal/warning.h"
#include "rehearsal/words.h"
#include "report/count.h"
#include "report/report_json.h"
#include "run/title.h"

/* A number that is below 0 where it is not known. */
static void
write_known(Document *document, const char *key, double value, int decimals)
{
	if (value < 0)
		document_null(document, key);
	else
		document_number(document, key, value, decimals);
}

/* A number that nothing is known of where there is nothing to divide by. */
static void
write_quotient(Document *document, const char *key, double value, double by, int decimals)
{
	if (by > 0)
		document_number(document, key, value / by, decimals);
	else
		document_null(document, key);
}

/* A time as JSON has it; null if there is none. */
static void
write_date(Document *document, const char *key, TimestampTz time)
{
	char		buf[MAXDATELEN + 1];

	document_text(document, key, time == DT_NOBEGIN ? NULL :
				  JsonEncodeDateTime(buf, TimestampTzGetDatum(time), TIMESTAMPTZOID, NULL));
}

static void
write_run(Document *document, const Evaluation *e)
{
	const FiguresRun *run = e->run;

	document_number(document, "run", run->id, 0);
	document_text(document, "definition", run->name);
	document_text(document, "target", title_table(run->target));
	document_text(document, "status", status_name(run->status));
	document_bool(document, "ended", run->finished_at != DT_NOBEGIN);
	document_text(document, "wait_reason", run->wait_reason);
	document_text(document, "throttled_by", run->throttled_by);
	document_text(document, "sqlstate", run->sqlstate);
	document_text(document, "error", run->error);
	document_text(document, "started_by", run->started_by);
	write_date(document, "created_at", run->created_at);
	write_date(document, "started_at", run->started_at);
	write_date(document, "finished_at", run->finished_at);
	document_number(document, "seconds", e->elapsed, 3);
	document_number(document, "running_seconds", e->running, 3);
	document_open(document, "rows", '{');
	document_number(document, "walked", run->rows_scanned, 0);
	write_known(document, "total", run->rows_total, 0);
	document_number(document, "processed", run->rows_affected, 0);
	document_number(document, "left_out", run->errors, 0);
	document_number(document, "repaired", run->repaired, 0);
	write_known(document, "remaining", run->rows_remaining, 0);
	write_quotient(document, "per_second", run->rows_scanned, e->running, 1);
	document_close(document, '}');
}

static void
write_times(Document *document, const char *key, List *times)
{
	ListCell   *lc;

	document_open(document, key, '{');
	foreach(lc, times)
	{
		const FiguresTime *time = lfirst(lc);

		document_number(document, time->name, time->seconds, 3);
	}
	document_close(document, '}');
}

static void
write_time(Document *document, const Evaluation *e)
{
	document_open(document, "time", '{');
	write_times(document, "statuses", e->statuses);
	write_times(document, "workers", e->states);
	write_times(document, "throttled", e->throttled);
	document_number(document, "statements", e->batches.seconds, 3);
	document_number(document, "locks", e->batches.lock_seconds, 3);
	document_number(document, "processor", e->batches.cpu_seconds, 3);
	document_close(document, '}');
}

/* The buckets that are not empty, each with its bounds; the last has no upper one. */
static void
write_buckets(Document *document, const char *key, const Scale *scale, double end)
{
	document_open(document, key, '[');
	for (int i = 0; i <= scale->n; i++)
	{
		const Bucket *bucket = &scale->buckets[i];

		if (bucket->batches == 0)
			continue;
		document_open(document, NULL, '{');
		document_number(document, "from", i == 0 ? 0 : scale->bounds[i - 1], 4);
		write_known(document, "to", i == scale->n ? end : scale->bounds[i], 4);
		document_number(document, "batches", bucket->batches, 0);
		document_number(document, "rows", bucket->rows, 0);
		document_number(document, "seconds", bucket->seconds, 3);
		document_close(document, '}');
	}
	document_close(document, ']');
}

static void
write_percentiles(Document *document, const char *key, const Evaluation *e, const double *values,
				  int decimals)
{
	document_open(document, key, '{');
	for (int i = 0; i < EVALUATION_PERCENTILES; i++)
		write_known(document, psprintf("%.0f", 100 * count_percentiles[i]),
					e->batches.n > 0 ? values[i] : -1, decimals);
	document_close(document, '}');
}

static void
write_batches(Document *document, const Evaluation *e)
{
	const BatchTotals *b = &e->batches;

	document_open(document, "batches", '{');
	document_number(document, "completed", e->run->batches, 0);
	document_number(document, "by_clients", b->by_clients, 0);
	document_number(document, "repeated", b->repeated, 0);
	document_number(document, "wasted_attempts", b->attempts, 0);
	write_percentiles(document, "seconds_percentiles", e, b->seconds_at, 6);
	write_percentiles(document, "rows_percentiles", e, b->rows_at, 0);
	write_buckets(document, "by_seconds", &e->scales[AXIS_DURATION], -1);
	write_buckets(document, "by_rows", &e->scales[AXIS_ROWS], -1);
	write_buckets(document, "over_time", &e->scales[AXIS_TIME], e->elapsed);
	document_close(document, '}');
}

/* What it took from the server. */
static void
write_server(Document *document, const Evaluation *e)
{
	const FiguresRun *run = e->run;
	const BatchTotals *b = &e->batches;

	document_number(document, "wal_bytes", run->wal_bytes, 0);
	write_quotient(document, "wal_bytes_per_row", run->wal_bytes, run->rows_scanned, 1);
	document_number(document, "full_pages", b->full_pages, 0);
	document_number(document, "blocks_read", b->blocks_read, 0);
	document_number(document, "updated", b->updated, 0);
	write_quotient(document, "hot_fraction", b->hot_updated, b->updated, 4);
	write_known(document, "table_size", run->table_size, 0);
	document_number(document, "table_growth", run->table_growth, 0);
	write_known(document, "index_size", run->index_size, 0);
	document_number(document, "index_growth", run->index_growth, 0);
	document_number(document, "space_freed", run->space_freed, 0);
	document_text(document, "space_kept_by", run->space_kept_by);
}

static void
write_trouble(Document *document, const Evaluation *e)
{
	ListCell   *lc;

	document_number(document, "yields", e->run->yields, 0);
	document_open(document, "retries", '[');
	foreach(lc, e->retries)
	{
		const FiguresRetry *retry = lfirst(lc);

		document_open(document, NULL, '{');
		document_text(document, "sqlstate", retry->sqlstate);
		document_number(document, "times", retry->n, 0);
		document_text(document, "example", retry->example);
		document_close(document, '}');
	}
	document_close(document, ']');
	document_number(document, "error_kinds", e->error_kinds, 0);
	document_open(document, "errors", '[');
	foreach(lc, e->errors)
	{
		const FiguresError *error = lfirst(lc);

		document_open(document, NULL, '{');
		document_text(document, "sqlstate", error->sqlstate);
		document_number(document, "left_out", error->left, 0);
		document_number(document, "resolved", error->resolved, 0);
		document_number(document, "repaired", error->repaired, 0);
		document_text(document, "example", error->example);
		document_close(document, '}');
	}
	document_close(document, ']');
}

static void
write_slowest(Document *document, const Evaluation *e)
{
	document_open(document, "slowest", '[');
	for (int i = 0; i < e->nslowest; i++)
	{
		static const FiguresDetails none = {.started_at = DT_NOBEGIN};
		const SlowBatch *slow = &e->slowest[i];
		const FiguresBatch *batch = &slow->batch;
		const FiguresDetails *details = slow->details ? slow->details : &none;

		document_open(document, NULL, '{');
		document_text(document, "stream", details->stream);
		document_number(document, "number", batch->number, 0);
		document_number(document, "part", batch->part, 0);
		document_text(document, "key_range", details->key_range);
		write_date(document, "started_at", details->started_at);
		document_number(document, "seconds", batch->seconds, 6);
		write_known(document, "processor_seconds", batch->cpu_seconds, 6);
		document_number(document, "lock_seconds", batch->lock_seconds, 6);
		document_number(document, "rows", batch->rows, 0);
		document_number(document, "processed", details->rows_affected, 0);
		document_number(document, "blocks_read", batch->blocks_read, 0);
		document_number(document, "full_pages", batch->full_pages, 0);
		document_number(document, "wal_bytes", details->wal_bytes, 0);
		document_number(document, "attempt", batch->attempt, 0);
		document_text(document, "error", details->error);
		document_text(document, "client", details->client);
		document_text(document, "why", slow->why);
		document_close(document, '}');
	}
	document_close(document, ']');
}

static void
write_lessons(Document *document, const Evaluation *e)
{
	ListCell   *lc;

	document_open(document, "next_time", '[');
	foreach(lc, e->lessons)
	{
		const Warning *lesson = lfirst(lc);

		document_open(document, NULL, '{');
		document_text(document, "code", lesson->code);
		document_text(document, "table", OidIsValid(lesson->relid) ? title_table(lesson->relid) : NULL);
		document_text(document, "message", lesson->message);
		document_text(document, "hint", lesson->hint);
		document_close(document, '}');
	}
	document_close(document, ']');
}

/* ---- all of it ---- */

void
report_json_append(StringInfo out, const Evaluation *e)
{
	Document	document = {out};

	document_open(&document, NULL, '{');
	write_run(&document, e);
	write_time(&document, e);
	write_batches(&document, e);
	write_server(&document, e);
	write_trouble(&document, e);
	write_slowest(&document, e);
	write_lessons(&document, e);
	document_close(&document, '}');
}
