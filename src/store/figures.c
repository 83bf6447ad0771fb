/*-------------------------------------------------------------------------
 *
 * figures.c
 *	  What is kept of a run, added up for an evaluation.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 * A run may have millions of batches: each text reads them at most once, and returns a
 * bounded number of rows.  Whatever is sorted is sorted within "work_mem" and on the disk.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/figures.h"

const double figures_percentiles[FIGURES_PERCENTILES] = {0.5, 0.9, 0.95, 0.99, 1};

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

/* An array of doubles, in the memory of the caller's of store_begin. */
static ArrayType *
doubles(const double *values, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Float8GetDatum(values[i]);
	return construct_array(elements, n, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL,
						   TYPALIGN_DOUBLE);
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

/* What was done in a time that is known; an empty range is completed without any. */
#define DONE "run_id = $1 AND status = 'completed' AND duration IS NOT NULL"

static Sql sql_batches = {
	"SELECT b.n, b.repeated, b.attempts, b.by_clients, b.rows, b.seconds, b.cpu_seconds, b.lock_seconds, "
	"       b.blocks_read, b.full_pages, b.updated, b.hot_updated, "
	"       ARRAY(SELECT " SECONDS("d.d") " FROM unnest(b.durations) WITH ORDINALITY d(d, i) ORDER BY d.i), "
	"       b.sizes::float8[] FROM ("
	"    SELECT count(*) AS n, count(*) FILTER (WHERE attempt > 1) AS repeated, "
	"           coalesce(sum(greatest(attempt - 1, 0)), 0)::int8 AS attempts, count(client) AS by_clients, "
	"           coalesce(sum(rows_scanned), 0)::float8 AS rows, " SECONDS("sum(duration)") " AS seconds, "
	"           " SECONDS("sum(cpu_time)") " AS cpu_seconds, " SECONDS("sum(lock_wait)") " AS lock_seconds, "
	"           coalesce(sum(blocks_read), 0)::float8 AS blocks_read, "
	"           coalesce(sum(full_pages), 0)::float8 AS full_pages, "
	"           coalesce(sum(rows_updated), 0)::float8 AS updated, "
	"           coalesce(sum(hot_updated), 0)::float8 AS hot_updated, "
	"           percentile_disc($2) WITHIN GROUP (ORDER BY duration) AS durations, "
	"           percentile_disc($2) WITHIN GROUP (ORDER BY rows_scanned) AS sizes "
	"      FROM backfill.batch WHERE " DONE ") b",
	2, {INT8OID, FLOAT8ARRAYOID}
};

static void
read_percentiles(StoreSession *session, int column, double *values)
{
	ArrayType  *array = store_varlena(session, 0, column);
	Datum	   *elements;
	int			n;

	deconstruct_array(array, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &elements, NULL, &n);
	for (int i = 0; i < Min(n, FIGURES_PERCENTILES); i++)
		values[i] = DatumGetFloat8(elements[i]);
}

void
figures_batches(StoreSession *session, int64 id, FiguresBatches *batches)
{
	Datum		args[] = {
		Int64GetDatum(id),
		PointerGetDatum(doubles(figures_percentiles, FIGURES_PERCENTILES))
	};

	memset(batches, 0, sizeof(FiguresBatches));
	store_sql(&sql_batches, args, NULL);
	batches->n = count(0, 1);
	batches->repeated = count(0, 2);
	batches->attempts = count(0, 3);
	batches->by_clients = count(0, 4);
	batches->rows = number(0, 5);
	batches->seconds = number(0, 6);
	batches->cpu_seconds = number(0, 7);
	batches->lock_seconds = number(0, 8);
	batches->blocks_read = number(0, 9);
	batches->full_pages = number(0, 10);
	batches->updated = number(0, 11);
	batches->hot_updated = number(0, 12);
	if (batches->n == 0)
		return;
	read_percentiles(session, 13, batches->seconds_at);
	read_percentiles(session, 14, batches->rows_at);
}

static Sql sql_buckets = {
	"SELECT CASE WHEN grouping(d) = 0 THEN 0 WHEN grouping(r) = 0 THEN 1 ELSE 2 END, "
	"       coalesce(d, r, t), count(*), sum(rows_scanned)::float8, " SECONDS("sum(duration)") " FROM ("
	"    SELECT width_bucket(duration, ARRAY(SELECT make_interval(secs => s) FROM unnest($2) s)) AS d, "
	"           width_bucket(rows_scanned::float8, $3) AS r, "
	"           width_bucket(finished_at, ARRAY(SELECT $5 + make_interval(secs => s) FROM unnest($4) s)) AS t, "
	"           rows_scanned, duration "
	"      FROM backfill.batch WHERE " DONE ") b "
	" GROUP BY GROUPING SETS ((d), (r), (t))",
	5, {INT8OID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, TIMESTAMPTZOID}
};

/*
 * Count the batches in buckets by each axis.  The bounds grow, and the buckets are zero.
 * Times are counted from the beginning given, by when batches were finished.
 */
void
figures_buckets(StoreSession *session, int64 id, TimestampTz began, FiguresScale *scales)
{
	Datum		args[] = {
		Int64GetDatum(id),
		PointerGetDatum(doubles(scales[FIGURES_BY_DURATION].bounds, scales[FIGURES_BY_DURATION].n)),
		PointerGetDatum(doubles(scales[FIGURES_BY_ROWS].bounds, scales[FIGURES_BY_ROWS].n)),
		PointerGetDatum(doubles(scales[FIGURES_BY_TIME].bounds, scales[FIGURES_BY_TIME].n)),
		TimestampTzGetDatum(began)
	};
	int			n = (int) store_sql(&sql_buckets, args, NULL);

	for (int i = 0; i < n; i++)
	{
		FiguresScale *scale = &scales[DatumGetInt32(store_column(i, 1, NULL))];
		FiguresBucket *bucket = &scale->buckets[Min(DatumGetInt32(store_column(i, 2, NULL)), scale->n)];

		bucket->batches += count(i, 3);
		bucket->rows += number(i, 4);
		bucket->seconds += number(i, 5);
	}
}

static Sql sql_slowest = {
	"SELECT number, part, " CUT("concat(CASE WHEN start_inclusive THEN '[' ELSE '(' END, "
	"       array_to_string(start_key, ',', 'null'), ' .. ', array_to_string(end_key, ',', 'null'), ']')") ", "
	"       rows_scanned::float8, rows_affected::float8, " SECONDS("duration") ", " SECONDS("lock_wait") ", "
	"       blocks_read::float8, full_pages::float8, wal_bytes::float8, attempt, " CUT("error") ", "
	"       " CUT("client") ", started_at, extract(epoch FROM cpu_time)::float8 "
	"  FROM backfill.batch WHERE " DONE " ORDER BY duration DESC, number, part LIMIT $2",
	2, {INT8OID, INT8OID}
};

/* The batches that took longest, at most so many: FiguresBatch *. */
List *
figures_slowest(StoreSession *session, int64 id, int most)
{
	Datum		args[] = {Int64GetDatum(id), Int64GetDatum(most)};
	int			n = (int) store_sql(&sql_slowest, args, NULL);
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(session->caller);

	for (int i = 0; i < n; i++)
	{
		FiguresBatch *batch = palloc0(sizeof(FiguresBatch));

		batch->number = count(i, 1);
		batch->part = DatumGetInt32(store_column(i, 2, NULL));
		batch->key_range = store_text(session, i, 3);
		batch->rows = number(i, 4);
		batch->rows_affected = number_or(i, 5, 0);
		batch->seconds = number(i, 6);
		batch->lock_seconds = number(i, 7);
		batch->blocks_read = number_or(i, 8, 0);
		batch->full_pages = number_or(i, 9, 0);
		batch->wal_bytes = number_or(i, 10, 0);
		batch->attempt = DatumGetInt32(store_column(i, 11, NULL));
		batch->error = store_text(session, i, 12);
		batch->client = store_text(session, i, 13);
		batch->started_at = time_or_none(i, 14);
		batch->cpu_seconds = number_or(i, 15, -1);
		result = lappend(result, batch);
	}
	MemoryContextSwitchTo(old);
	return result;
}

/* ---- errors ---- */

static Sql sql_errors = {
	"SELECT sqlstate, count(*) FILTER (WHERE resolved_at IS NULL), "
	"       count(*) FILTER (WHERE resolved_at IS NOT NULL), count(*) FILTER (WHERE repaired), "
	"       " CUT("min(message)") ", count(*) OVER () "
	"  FROM backfill.error WHERE run_id = $1 GROUP BY sqlstate ORDER BY 2 DESC, 3 DESC, 1 LIMIT $2",
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
