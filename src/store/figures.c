/*-------------------------------------------------------------------------
 *
 * figures.c
 *	  What is kept of a run, added up for an evaluation.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 * A run may have millions of batches: they are read once, and handed on one by one.  The
 * other texts return a bounded number of rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/figures.h"

#define SECONDS(interval) "coalesce(extract(epoch FROM " interval "), 0)::float8"

/* What a user's code has said is of any length. */
#define CUT(text)	"left(" text ", 200)"

/* ---- reading columns ---- */

/* A number, or the one given instead of a null. */
static double
number_or(int row, int column, double instead)
{
	bool		isnull;
	Datum		value = store_column(row, column, &isnull);

	return isnull ? instead : DatumGetFloat8(value);
}

static double
number(int row, int column)
{
	return DatumGetFloat8(store_column(row, column, NULL));
}

static int64
count(int row, int column)
{
	return DatumGetInt64(store_column(row, column, NULL));
}

/* A time, DT_NOBEGIN if null. */
static TimestampTz
time_or_none(int row, int column)
{
	bool		isnull;
	Datum		value = store_column(row, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* ---- the run ---- */

static Sql sql_run = {
	"SELECT p.name, p.owner::oid, p.target::oid, p.status, p.started_by::text, p.created_at, "
	"       p.started_at, p.finished_at, p.rows_scanned::float8, p.rows_total::float8, "
	"       p.rows_affected::float8, p.batches::float8, p.errors, p.repaired, "
	"       p.rows_remaining::float8, p.wal_bytes::float8, p.table_size::float8, "
	"       p.table_growth::float8, p.index_size::float8, p.index_growth::float8, "
	"       p.space_freed::float8, p.space_kept_by, p.yields, coalesce(p.batch_size, 0), "
	"       p.throttled_by, p.wait_reason, p.sqlstate, " CUT("p.error") ", p.statement, p.scope, "
	"       r.generic, p.settings, p.parameters "
	"  FROM backfill.run_progress p JOIN backfill.run r USING (id) WHERE p.id = $1",
	1, {INT8OID}
};

/* The run, or NULL. */
FiguresRun *
figures_run(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};
	FiguresRun *run;

	if (store_sql(&sql_run, args, NULL) == 0)
		return NULL;
	run = MemoryContextAllocZero(session->caller, sizeof(FiguresRun));
	run->id = id;
	run->name = store_text(session, 0, 1);
	run->owner = DatumGetObjectId(store_column(0, 2, NULL));
	run->target = DatumGetObjectId(store_column(0, 3, NULL));
	run->status = status_from_name(store_text(session, 0, 4));
	run->started_by = store_text(session, 0, 5);
	run->created_at = time_or_none(0, 6);
	run->started_at = time_or_none(0, 7);
	run->finished_at = time_or_none(0, 8);
	run->rows_scanned = number(0, 9);
	run->rows_total = number_or(0, 10, -1);
	run->rows_affected = number(0, 11);
	run->batches = number(0, 12);
	run->errors = count(0, 13);
	run->repaired = count(0, 14);
	run->rows_remaining = number_or(0, 15, -1);
	run->wal_bytes = number(0, 16);
	run->table_size = number_or(0, 17, -1);
	run->table_growth = number_or(0, 18, 0);
	run->index_size = number_or(0, 19, -1);
	run->index_growth = number_or(0, 20, 0);
	run->space_freed = number(0, 21);
	run->space_kept_by = store_text(session, 0, 22);
	run->yields = count(0, 23);
	run->batch_size = count(0, 24);
	run->throttled_by = store_text(session, 0, 25);
	run->wait_reason = store_text(session, 0, 26);
	run->sqlstate = store_text(session, 0, 27);
	run->error = store_text(session, 0, 28);
	run->statement = store_text(session, 0, 29);
	run->scope = store_text(session, 0, 30);
	run->generic = DatumGetBool(store_column(0, 31, NULL));
	run->settings = store_varlena(session, 0, 32);
	run->parameters = store_varlena(session, 0, 33);
	return run;
}

/* ---- time ---- */

/* The rows of the text, names with seconds: FiguresTime *. */
static List *
times(StoreSession *session, Sql *sql, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};
	int			n = (int) store_sql(sql, args, NULL);
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(session->caller);

	for (int i = 0; i < n; i++)
	{
		FiguresTime *time = palloc(sizeof(FiguresTime));

		time->name = store_text(session, i, 1);
		time->seconds = number(i, 2);
		result = lappend(result, time);
	}
	MemoryContextSwitchTo(old);
	return result;
}

static Sql sql_throttled = {
	"SELECT t.key, t.value::float8 FROM backfill.run_progress p "
	" CROSS JOIN jsonb_each_text(p.throttle_times) t WHERE p.id = $1 ORDER BY 2 DESC, 1",
	1, {INT8OID}
};

/* How long the run was throttled, by what, up to now. */
List *
figures_throttled(StoreSession *session, int64 id)
{
	return times(session, &sql_throttled, id);
}

static Sql sql_worked = {
	"SELECT t.key, t.value::float8 FROM backfill.run r "
	" CROSS JOIN jsonb_each_text(r.worker_times) t WHERE r.id = $1 ORDER BY 2 DESC, 1",
	1, {INT8OID}
};

/* What workers did with their time, as far as it was added up. */
List *
figures_worked(StoreSession *session, int64 id)
{
	return times(session, &sql_worked, id);
}

static Sql sql_statuses = {
	"SELECT t.status, " SECONDS("sum(coalesce(t.until, clock_timestamp()) - t.at)") " FROM ("
	"    SELECT id, status, at, lead(at) OVER (ORDER BY id) AS until FROM backfill.event "
	"     WHERE run_id = $1 AND kind = 'transition') t "
	" WHERE t.until IS NOT NULL OR t.status IN ('pending', 'enqueued', 'running', 'paused') "
	" GROUP BY t.status ORDER BY min(t.id)",
	1, {INT8OID}
};

/* How long the run had each status, as far as its events are still there. */
List *
figures_statuses(StoreSession *session, int64 id)
{
	return times(session, &sql_statuses, id);
}

/* ---- batches ---- */

/* The numbers that batches and errors of the run have: its own, and those of its streams. */
#define WALKS "ANY (ARRAY(SELECT $1 UNION ALL SELECT id FROM backfill.stream WHERE run_id = $1))"

/* An empty range is completed without having taken any time. */
static Sql sql_batches = {
	"SELECT run_id, number, part, attempt, client IS NOT NULL, rows_scanned, duration, cpu_time, lock_wait, "
	"       blocks_read, full_pages, rows_updated, hot_updated, finished_at "
	"  FROM backfill.batch WHERE run_id = " WALKS " AND status = 'completed' AND duration IS NOT NULL",
	1, {INT8OID}
};

/* What read_batch hands on. */
typedef struct BatchReader
{
	FiguresFunction function;
	void	   *arg;
} BatchReader;

static double
seconds_of(Datum value)
{
	const Interval *interval = DatumGetIntervalP(value);

	return interval->time / (double) USECS_PER_SEC +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * SECS_PER_DAY;
}

static void
read_batch(const Datum *values, const bool *isnull, void *arg)
{
	BatchReader *reader = (BatchReader *) arg;
	FiguresBatch batch = {
		.walk_id = DatumGetInt64(values[0]),
		.number = DatumGetInt64(values[1]),
		.part = DatumGetInt32(values[2]),
		.attempt = DatumGetInt32(values[3]),
		.by_client = DatumGetBool(values[4]),
		.rows = DatumGetInt64(values[5]),
		.seconds = seconds_of(values[6]),
		.cpu_seconds = isnull[7] ? -1 : seconds_of(values[7]),
		.lock_seconds = isnull[8] ? 0 : seconds_of(values[8]),
		.blocks_read = isnull[9] ? 0 : DatumGetInt64(values[9]),
		.full_pages = isnull[10] ? 0 : DatumGetInt64(values[10]),
		.updated = isnull[11] ? 0 : DatumGetInt64(values[11]),
		.hot_updated = isnull[12] ? 0 : DatumGetInt64(values[12]),
		.finished_at = isnull[13] ? DT_NOBEGIN : DatumGetTimestampTz(values[13])
	};

	reader->function(&batch, reader->arg);
}

/* Call the function for each completed batch of the run that took any time; in no order. */
void
figures_each_batch(StoreSession *session, int64 id, FiguresFunction function, void *arg)
{
	Datum		args[] = {Int64GetDatum(id)};
	BatchReader reader = {function, arg};

	store_each(&sql_batches, args, read_batch, &reader);
}

static Sql sql_details = {
	"SELECT " CUT("concat(CASE WHEN start_inclusive THEN '[' ELSE '(' END, "
	"       array_to_string(start_key, ',', 'null'), ' .. ', array_to_string(end_key, ',', 'null'), ']')") ", "
	"       rows_affected::float8, wal_bytes::float8, " CUT("error") ", " CUT("client") ", started_at, "
	"       (SELECT " CUT("s.name") " FROM backfill.stream s WHERE s.id = $1) "
	"  FROM backfill.batch WHERE run_id = $1 AND number = $2 AND part = $3",
	3, {INT8OID, INT8OID, INT4OID}
};

/* More about a batch, or NULL if it is gone. */
FiguresDetails *
figures_details(StoreSession *session, const FiguresBatch *batch)
{
	Datum		args[] = {
		Int64GetDatum(batch->walk_id), Int64GetDatum(batch->number), Int32GetDatum(batch->part)
	};
	FiguresDetails *details;

	if (store_sql(&sql_details, args, NULL) == 0)
		return NULL;
	details = MemoryContextAllocZero(session->caller, sizeof(FiguresDetails));
	details->key_range = store_text(session, 0, 1);
	details->rows_affected = number_or(0, 2, 0);
	details->wal_bytes = number_or(0, 3, 0);
	details->error = store_text(session, 0, 4);
	details->client = store_text(session, 0, 5);
	details->started_at = time_or_none(0, 6);
	details->stream = store_text(session, 0, 7);
	return details;
}

/* ---- errors ---- */

static Sql sql_errors = {
	"SELECT sqlstate, count(*) FILTER (WHERE resolved_at IS NULL), "
	"       count(*) FILTER (WHERE resolved_at IS NOT NULL), count(*) FILTER (WHERE repaired), "
	"       " CUT("min(message)") ", count(*) OVER () "
	"  FROM backfill.error WHERE run_id = " WALKS " GROUP BY sqlstate ORDER BY 2 DESC, 3 DESC, 1 LIMIT $2",
	2, {INT8OID, INT8OID}
};

/*
 * Rows that were left out or repaired, by SQLSTATE, at most so many of those:
 * FiguresError *.  The number of all goes to *kinds.
 */
List *
figures_errors(StoreSession *session, int64 id, int most, int64 *kinds)
{
	Datum		args[] = {Int64GetDatum(id), Int64GetDatum(most)};
	int			n = (int) store_sql(&sql_errors, args, NULL);
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(session->caller);

	*kinds = 0;
	for (int i = 0; i < n; i++)
	{
		FiguresError *error = palloc(sizeof(FiguresError));

		error->sqlstate = store_text(session, i, 1);
		error->left = count(i, 2);
		error->resolved = count(i, 3);
		error->repaired = count(i, 4);
		error->example = store_text(session, i, 5);
		*kinds = count(i, 6);
		result = lappend(result, error);
	}
	MemoryContextSwitchTo(old);
	return result;
}

static Sql sql_retries = {
	"SELECT sqlstate, count(*), " CUT("min(reason)") " FROM backfill.event "
	" WHERE run_id = $1 AND kind = 'retry' AND sqlstate IS NOT NULL "
	" GROUP BY sqlstate ORDER BY 2 DESC, 1 LIMIT $2",
	2, {INT8OID, INT8OID}
};

/* Batches that were put aside, by SQLSTATE, as far as the events are still there: FiguresRetry *. */
List *
figures_retries(StoreSession *session, int64 id, int most)
{
	Datum		args[] = {Int64GetDatum(id), Int64GetDatum(most)};
	int			n = (int) store_sql(&sql_retries, args, NULL);
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(session->caller);

	for (int i = 0; i < n; i++)
	{
		FiguresRetry *retry = palloc(sizeof(FiguresRetry));

		retry->sqlstate = store_text(session, i, 1);
		retry->n = count(i, 2);
		retry->example = store_text(session, i, 3);
		result = lappend(result, retry);
	}
	MemoryContextSwitchTo(old);
	return result;
}
