/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  What is kept about the pace of runs.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/quantity.h"
#include "store/pace.h"
#include "store/store.h"

static Sql sql_set_batch_size = {
	"UPDATE backfill.run SET batch_size = $2 WHERE id = $1",
	2, {INT8OID, INT8OID}
};

/* Keep the batch size that was found for the run. */
void
store_set_batch_size(StoreSession *session, int64 id, int64 size)
{
	Datum		args[] = {Int64GetDatum(id), Int64GetDatum(size)};

	store_sql(&sql_set_batch_size, args, NULL);
}

static Sql sql_set_throttle = {
	"UPDATE backfill.run SET throttled_by = $2, "
	"       throttled_since = CASE WHEN $2 IS NULL THEN NULL "
	"           WHEN split_part(throttled_by, ':', 1) = split_part($2, ':', 1) "
	"           THEN throttled_since ELSE $3 END, "
	"       throttle_times = CASE WHEN throttled_by IS NULL "
	"           OR split_part(throttled_by, ':', 1) = split_part($2, ':', 1) "
	"           THEN throttle_times ELSE " STORE_THROTTLED_UNTIL("$3") " END "
	" WHERE id = $1",
	3, {INT8OID, TEXTOID, TIMESTAMPTZOID}
};

/*
 * Say why the run is throttled, NULL when it no longer is.  The time of a reason
 * that ends is added to those before.
 */
void
store_set_throttle(StoreSession *session, int64 id, const char *reason)
{
	char		nulls[] = "   ";
	Datum		args[] = {
		Int64GetDatum(id),
		store_text_or_null(reason, &nulls[1]),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	store_sql(&sql_set_throttle, args, nulls);
}

static Sql sql_add_times = {
	"UPDATE backfill.run SET worker_times = ("
	"       SELECT jsonb_object_agg(name, round(seconds, 3)) FROM ("
	"           SELECT name, sum(seconds) AS seconds FROM ("
	"               SELECT key AS name, value::numeric AS seconds FROM jsonb_each_text(worker_times) "
	"               UNION ALL SELECT n, s::numeric FROM unnest($2, $3) u(n, s)) v "
	"            GROUP BY name) w) "
	" WHERE id = $1",
	3, {INT8OID, TEXTARRAYOID, FLOAT8ARRAYOID}
};

/* Workers of the run have spent so many seconds, by what they did. */
void
store_add_times(StoreSession *session, int64 id, const char *const *names, const double *seconds,
				int n)
{
	Datum	   *texts = palloc(sizeof(Datum) * n);
	Datum	   *numbers = palloc(sizeof(Datum) * n);
	Datum		args[] = {Int64GetDatum(id), (Datum) 0, (Datum) 0};

	for (int i = 0; i < n; i++)
	{
		texts[i] = CStringGetTextDatum(names[i]);
		numbers[i] = Float8GetDatum(seconds[i]);
	}
	args[1] = PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
	args[2] = PointerGetDatum(construct_array(numbers, n, FLOAT8OID, sizeof(float8),
											  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	store_sql(&sql_add_times, args, NULL);
}

static Sql sql_note_yield = {
	"UPDATE backfill.run SET yields = yields + 1 WHERE id = $1",
	1, {INT8OID}
};

/* A batch of the run has given way to another session. */
void
store_note_yield(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	store_sql(&sql_note_yield, args, NULL);
}

/* A call of a source that a crash has cut short may have come there until then. */
static Sql sql_recent_batches = {
	"SELECT u.at, u.rows, u.wal_bytes FROM backfill.batch b CROSS JOIN LATERAL (VALUES "
	"       (CASE WHEN status = 'completed' THEN finished_at END, "
	"        CASE WHEN calls IS NULL THEN rows_affected ELSE 0 END, b.wal_bytes), "
	"       (failed_at, CASE WHEN calls IS NULL THEN failed_rows ELSE 0 END, 0), "
	"       (CASE WHEN fetched_at IS NULL AND called_at < pg_postmaster_start_time() "
	"             THEN pg_postmaster_start_time() "
	"             WHEN called_at IS NOT NULL THEN greatest(called_at, fetched_at) END, "
	"        calls, 0)) u (at, rows, wal_bytes) "
	" WHERE ($1 = 0 OR run_id = $1 "
	"        OR run_id = ANY (ARRAY(SELECT s.id FROM backfill.stream s WHERE s.run_id = $1))) "
	"   AND u.at > $2 AND u.at <= $3",
	3, {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

/*
 * What the run, or every run if it is 0, completed after the one time and up to
 * the other, and what clients failed with, or lost.  Returns the number of those.
 */
int
store_recent_batches(StoreSession *session, int64 id, TimestampTz since,
					   TimestampTz until, Usage **usages)
{
	Datum		args[] = {
		Int64GetDatum(id), TimestampTzGetDatum(since), TimestampTzGetDatum(until)
	};
	int			n = (int) store_sql(&sql_recent_batches, args, NULL);

	*usages = MemoryContextAlloc(session->caller, sizeof(Usage) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		(*usages)[i].at = DatumGetTimestampTz(store_column(i, 1, NULL));
		(*usages)[i].rows = DatumGetInt64(store_column(i, 2, NULL));
		(*usages)[i].wal_bytes = DatumGetInt64(store_column(i, 3, NULL));
	}
	return n;
}
