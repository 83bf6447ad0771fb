/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  The rows of batches.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/batch.h"
#include "store/store.h"

static Sql sql_last_batch = {
	"SELECT number, end_key FROM backfill.batch "
	" WHERE run_id = $1 AND part = 0 AND number > $2 "
	" ORDER BY number DESC, part DESC LIMIT 1",
	2, {INT8OID, INT8OID}
};

/* Number and end of the batch claimed last, of those behind that number; false when there is none. */
bool
store_last_batch(StoreSession *session, int64 run_id, int64 after, int64 *number,
				   ArrayType **end_key)
{
	Datum		args[] = {Int64GetDatum(run_id), Int64GetDatum(after)};

	if (store_sql(&sql_last_batch, args, NULL) == 0)
		return false;
	*number = DatumGetInt64(store_column(0, 1, NULL));
	*end_key = store_varlena(session, 0, 2);
	return true;
}

/*
 * Where the range behind the last one that was cut in this pass starts: into the batch go the
 * number of that one, the start, and whether that belongs to the range.  The first range starts
 * where the batch does.  Returns whether there was one before it.
 */
bool
store_find_start(StoreSession *session, int64 run_id, int64 pass_after, int64 rollup_number,
				 BatchInfo *batch)
{
	batch->start_inclusive = false;
	if (store_last_batch(session, run_id, pass_after, &batch->number, &batch->start_key))
		return true;

	/* or every row would be processed again */
	if (rollup_number > pass_after)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the batches of backfill run " INT64_FORMAT " are missing", run_id)));
	batch->number = pass_after;
	batch->start_inclusive = true;
	return false;
}

static Sql sql_insert_batch = {
	"INSERT INTO backfill.batch (run_id, number, start_key, end_key, "
	"       start_inclusive, status, rows_scanned, token, worker, pid) "
	"VALUES ($1, $2, $3, $4, $5, 'running', $6, $7, $8, $9)",
	9, {INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, INT8OID, INT8OID, INT4OID, INT4OID}
};

/* Insert a batch that this process has claimed. */
void
store_insert_batch(StoreSession *session, int64 run_id, const BatchInfo *batch,
					 int64 token, int worker)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		PointerGetDatum(batch->start_key),
		PointerGetDatum(batch->end_key),
		BoolGetDatum(batch->start_inclusive),
		Int64GetDatum(batch->rows_scanned),
		Int64GetDatum(token),
		Int32GetDatum(worker),
		Int32GetDatum(MyProcPid)
	};

	store_sql(&sql_insert_batch, args, NULL);
}

/*
 * A client may have claimed it in a transaction that has not ended: neither is that waited
 * for, nor what comes of it overwritten.
 */
static Sql sql_take_pending = {
	"UPDATE backfill.batch SET status = 'running', attempt = attempt + 1, "
	"       token = $2, worker = $5, pid = $3, retry_at = NULL "
	" WHERE run_id = $1 AND (number, part) = ("
	"   SELECT number, part FROM backfill.batch "
	"    WHERE " STORE_OPEN_BATCHES " AND status = 'pending' AND crashes < $4 "
	"      AND " STORE_DUE_AT("$6") " "
	"    ORDER BY number, CASE WHEN error IS NULL THEN -part ELSE part END LIMIT 1 "
	"      FOR UPDATE SKIP LOCKED) "
	"RETURNING number, start_key, end_key, start_inclusive, attempt, crashes, "
	"          rows_scanned, part, error IS NOT NULL, tries",
	6, {INT8OID, INT8OID, INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID}
};

/*
 * Claim the first pending batch that is due and has brought down fewer workers
 * than given; NULL when there is none.  The caller holds the claim lock.
 */
BatchInfo *
store_take_pending(StoreSession *session, int64 run_id, int64 token,
					 int worker, int crashes_below)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(token),
		Int32GetDatum(MyProcPid),
		Int32GetDatum(crashes_below),
		Int32GetDatum(worker),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};
	BatchInfo  *batch;

	if (store_sql(&sql_take_pending, args, NULL) == 0)
		return NULL;
	batch = MemoryContextAllocZero(session->caller, sizeof(BatchInfo));
	batch->number = DatumGetInt64(store_column(0, 1, NULL));
	batch->start_key = store_varlena(session, 0, 2);
	batch->end_key = store_varlena(session, 0, 3);
	batch->start_inclusive = DatumGetBool(store_column(0, 4, NULL));
	batch->attempt = DatumGetInt32(store_column(0, 5, NULL));
	batch->crashes = DatumGetInt32(store_column(0, 6, NULL));
	batch->rows_scanned = DatumGetInt64(store_column(0, 7, NULL));
	batch->part = DatumGetInt32(store_column(0, 8, NULL));
	batch->had_error = DatumGetBool(store_column(0, 9, NULL));
	batch->tries = DatumGetInt32(store_column(0, 10, NULL));
	return batch;
}

static Sql sql_pending_due = {
	"SELECT min(CASE WHEN " STORE_DUE_AT("$3") " THEN '-infinity' ELSE retry_at END) "
	"  FROM backfill.batch "
	" WHERE " STORE_OPEN_BATCHES " AND status = 'pending' AND crashes < $2",
	3, {INT8OID, INT4OID, TIMESTAMPTZOID}
};

/*
 * When the first pending batch is due that brought down fewer workers than
 * given: DT_NOBEGIN for at once, DT_NOEND if there is none.
 */
TimestampTz
store_pending_due(StoreSession *session, int64 run_id, int crashes_below)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int32GetDatum(crashes_below),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};
	bool		isnull;
	Datum		due;

	store_sql(&sql_pending_due, args, NULL);
	due = store_column(0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(due);
}

static Sql sql_complete_batch = {
	"UPDATE backfill.batch SET status = 'completed', rows_affected = $4, "
	"       wal_bytes = $5, started_at = $6, finished_at = $7, "
	"       duration = $7 - $6, attempt = $8, pages_pruned = $10, space_freed = $11, "
	"       lock_wait = $12, blocks_read = $13, full_pages = $14, "
	"       rows_updated = $15, hot_updated = $16, cpu_time = $17 "
	" WHERE run_id = $1 AND number = $2 AND part = $9 "
	"   AND status = 'running' AND token = $3",
	17, {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID,
	INT8OID, INT8OID, INTERVALOID, INT8OID, INT8OID, INT8OID, INT8OID, INTERVALOID}
};

/* A number of something that most batches have none of: null takes no room in the row. */
static Datum
some_or_null(int64 number, char *null)
{
	*null = number > 0 ? ' ' : 'n';
	return Int64GetDatum(number);
}

/*
 * Mark the batch completed.  Returns false when it is not this worker's any
 * more: the transaction must then be rolled back.
 */
bool
store_complete_batch(StoreSession *session, int64 run_id, const BatchInfo *batch,
					   int64 token, const BatchResult *result)
{
	char		nulls[] = "                 ";
	Interval	cpu_time = {.time = result->cpu_time};
	Interval	lock_wait = {.time = result->lock_wait};
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		Int64GetDatum(result->rows_affected),
		Int64GetDatum(result->wal_bytes),
		TimestampTzGetDatum(result->started_at),
		TimestampTzGetDatum(result->finished_at),
		Int32GetDatum(batch->attempt),
		Int32GetDatum(batch->part),
		Int64GetDatum(result->pages_pruned),
		Int64GetDatum(result->space_freed),
		IntervalPGetDatum(&lock_wait),
		some_or_null(result->blocks_read, &nulls[12]),
		some_or_null(result->full_pages, &nulls[13]),
		some_or_null(result->updated, &nulls[14]),
		result->updated > 0 ? Int64GetDatum(result->hot_updated) : (Datum) 0,
		IntervalPGetDatum(&cpu_time)
	};

	nulls[11] = result->lock_wait > 0 ? ' ' : 'n';
	nulls[15] = nulls[14];
	return store_sql(&sql_complete_batch, args, nulls) == 1;
}

static Sql sql_give_back_batch = {
	"UPDATE backfill.batch SET status = $4, error = coalesce($5, error), "
	"       finished_at = CASE WHEN $4 = 'pending' THEN NULL ELSE now() END "
	" WHERE run_id = $1 AND number = $2 AND part = $6 "
	"   AND status = 'running' AND token = $3",
	6, {INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, INT4OID}
};

/* Let go of a batch that was not done, with the status given. */
bool
store_give_back_batch(StoreSession *session, int64 run_id, const BatchInfo *batch,
						int64 token, const char *status, const char *error)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		CStringGetTextDatum(status),
		store_note_or_null(error, &nulls[4]),
		Int32GetDatum(batch->part)
	};

	return store_sql(&sql_give_back_batch, args, nulls) == 1;
}

static Sql sql_retry_batch = {
	"UPDATE backfill.batch SET status = 'pending', tries = $6, retry_at = $7, error = $4, "
	"       called_at = CASE WHEN called_at IS NOT NULL THEN clock_timestamp() END "
	" WHERE run_id = $1 AND number = $2 AND part = $5 "
	"   AND status = 'running' AND token = $3",
	7, {INT8OID, INT8OID, INT8OID, TEXTOID, INT4OID, INT4OID, TIMESTAMPTZOID}
};

/* Let go of the batch until it is tried again, at that time. */
void
store_retry_batch(StoreSession *session, int64 run_id, const BatchInfo *batch,
					int64 token, TimestampTz retry_at, const char *error)
{
	char		nulls[] = "       ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		store_note_or_null(error, &nulls[3]),
		Int32GetDatum(batch->part),
		Int32GetDatum(batch->tries),
		TimestampTzGetDatum(retry_at)
	};

	store_sql(&sql_retry_batch, args, nulls);
}

#define IS_INNOCENT "(token >> 32 <> $3 AND $4 OR token = ANY ($5))"

static Sql sql_recover_batches = {
	"UPDATE backfill.batch SET status = 'pending', "
	"       crashes = crashes + CASE WHEN " IS_INNOCENT " THEN 0 ELSE 1 END, "
	"       error = CASE WHEN " IS_INNOCENT " THEN error "
	"               ELSE 'the worker that had the batch in hand died' END "
	" WHERE " STORE_OPEN_BATCHES " AND status = 'running' AND secret IS NULL AND NOT token = ANY ($2) "
	"RETURNING number, crashes",
	5, {INT8OID, INT8ARRAYOID, INT8OID, BOOLOID, INT8ARRAYOID}
};

static ArrayType *
make_tokens(const int64 *tokens, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(tokens[i]);
	return construct_array(elements, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						   TYPALIGN_DOUBLE);
}

/*
 * Make running batches pending whose worker is none of the living.  It counts
 * as a crash, except for workers that ended with the server in good order, in an
 * earlier life of it, if the present one (boot) began cleanly; and for those that
 * are pardoned.  Returns their number; *worst and *crashes tell of the one that
 * brought down most.
 */
int
store_recover_batches(StoreSession *session, int64 run_id, const BatchClaimants *claimants,
						int64 *worst, int *crashes)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		PointerGetDatum(make_tokens(claimants->living, claimants->nliving)),
		Int64GetDatum(claimants->boot),
		BoolGetDatum(claimants->clean_start),
		PointerGetDatum(make_tokens(claimants->pardoned, claimants->npardoned))
	};
	uint64		n;

	n = store_sql(&sql_recover_batches, args, NULL);
	*worst = 0;
	*crashes = 0;
	for (uint64 i = 0; i < n; i++)
	{
		int			c = DatumGetInt32(store_column(i, 2, NULL));

		if (c > *crashes)
		{
			*crashes = c;
			*worst = DatumGetInt64(store_column(i, 1, NULL));
		}
	}
	return (int) n;
}

static Sql sql_reopen_batches = {
	"UPDATE backfill.batch SET status = 'pending', crashes = 0, tries = 0, "
	"       retry_at = NULL, finished_at = NULL "
	" WHERE " STORE_OPEN_BATCHES " AND NOT skipped "
	"   AND (status IN ('failed', 'stopped') "
	"        OR status = 'pending' AND (crashes > 0 OR tries > 0))",
	1, {INT8OID}
};

/* Have the batches that failed or were stopped done again. */
int64
store_reopen_batches(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return (int64) store_sql(&sql_reopen_batches, args, NULL);
}

static Sql sql_open_batches = {
	"SELECT count(*), count(*) FILTER (WHERE " STORE_DUE_AT("$2") ") "
	"  FROM backfill.batch "
	" WHERE " STORE_OPEN_BATCHES " AND status <> 'completed' AND NOT skipped",
	2, {INT8OID, TIMESTAMPTZOID}
};

/*
 * The number of batches that were claimed and are not completed; that of those
 * that need not wait to be tried again goes to *due, unless that is NULL.
 */
int64
store_open_batches(StoreSession *session, int64 run_id, int64 *due)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	store_sql(&sql_open_batches, args, NULL);
	if (due)
		*due = DatumGetInt64(store_column(0, 2, NULL));
	return DatumGetInt64(store_column(0, 1, NULL));
}

/* ---- dividing and skipping ---- */

static Sql sql_shrink_batch = {
	"UPDATE backfill.batch SET start_key = $5, start_inclusive = false, "
	"       rows_scanned = $6, rows_in_scope = NULL, status = 'pending', token = NULL, "
	"       error = coalesce($7, error), tries = 0 "
	" WHERE run_id = $1 AND number = $2 AND part = $3 "
	"   AND status = 'running' AND token = $4",
	7, {INT8OID, INT8OID, INT4OID, INT8OID, TEXTARRAYOID, INT8OID, TEXTOID}
};

/*
 * Let go of the batch in hand but for its last rows, those after start: parts
 * for the others are to follow.  Returns false if it is another worker's now.
 */
bool
store_shrink_batch(StoreSession *session, int64 run_id, const BatchInfo *batch,
					 int64 token, ArrayType *start, int64 rows, const char *error)
{
	char		nulls[] = "       ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		Int64GetDatum(token),
		PointerGetDatum(start),
		Int64GetDatum(rows),
		store_note_or_null(error, &nulls[6])
	};

	return store_sql(&sql_shrink_batch, args, nulls) == 1;
}

static Sql sql_insert_part = {
	"INSERT INTO backfill.batch (run_id, number, part, start_key, end_key, "
	"       start_inclusive, status, rows_scanned, error, crashes, share, source_token, fetched_at) "
	"SELECT $1, $2, (SELECT max(part) + 1 FROM backfill.batch WHERE run_id = $1 AND number = $2), "
	"       $3, $4, $5, 'pending', $6, $7, $8, share, source_token, fetched_at "
	"  FROM backfill.batch WHERE run_id = $1 AND number = $2 AND part = 0",
	8, {INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, INT8OID, TEXTOID, INT4OID}
};

/*
 * Insert a part of a batch that is divided, pending; error may be NULL.  It inherits
 * the crashes, or dividing would clear what brings the server down of suspicion.
 * Needs the claim lock.
 */
void
store_insert_part(StoreSession *session, int64 run_id, const BatchInfo *part,
					const char *error)
{
	char		nulls[] = "        ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(part->number),
		PointerGetDatum(part->start_key),
		PointerGetDatum(part->end_key),
		BoolGetDatum(part->start_inclusive),
		Int64GetDatum(part->rows_scanned),
		store_note_or_null(error, &nulls[6]),
		Int32GetDatum(part->crashes)
	};

	store_sql(&sql_insert_part, args, nulls);
}

static Sql sql_skip_batch = {
	"UPDATE backfill.batch SET status = 'failed', skipped = true, error = $5, "
	"       finished_at = $6, attempt = $7 "
	" WHERE run_id = $1 AND number = $2 AND part = $3 "
	"   AND status = 'running' AND token = $4",
	7, {INT8OID, INT8OID, INT4OID, INT8OID, TEXTOID, TIMESTAMPTZOID, INT4OID}
};

static Sql sql_store_error = {
	"INSERT INTO backfill.error AS e (run_id, number, part, key, sqlstate, message, "
	"       detail, context, schema_name, table_name, column_name, "
	"       constraint_name, first_at, last_at, repair_error) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14) "
	"ON CONFLICT (run_id, number, part) DO UPDATE SET sqlstate = excluded.sqlstate, "
	"       message = excluded.message, detail = excluded.detail, "
	"       context = excluded.context, schema_name = excluded.schema_name, "
	"       table_name = excluded.table_name, column_name = excluded.column_name, "
	"       constraint_name = excluded.constraint_name, "
	"       attempts = e.attempts + 1, last_at = excluded.last_at, resolved_at = NULL, "
	"       repaired = false, repair_error = excluded.repair_error",
	14, {INT8OID, INT8OID, INT4OID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID}
};

/*
 * Put the error of the batch, the row with that key, down; repair_error is what
 * its repair met, or NULL.
 */
static void
store_error(int64 run_id, const BatchInfo *batch, ArrayType *key, const ErrorData *error,
			const char *repair_error, TimestampTz at)
{
	char		nulls[] = "              ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		PointerGetDatum(key),
		CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
		store_note_or_null(error->message, &nulls[5]),
		store_note_or_null(error->detail, &nulls[6]),
		store_note_or_null(error->context, &nulls[7]),
		store_text_or_null(error->schema_name, &nulls[8]),
		store_text_or_null(error->table_name, &nulls[9]),
		store_text_or_null(error->column_name, &nulls[10]),
		store_text_or_null(error->constraint_name, &nulls[11]),
		TimestampTzGetDatum(at),
		store_note_or_null(repair_error, &nulls[13])
	};

	store_sql(&sql_store_error, args, nulls);
}

/*
 * Leave the batch in hand, the row with that key, out, because of the error; a
 * repair of it, if there was any, met the other one.  Returns false if it is another
 * worker's now.
 */
bool
store_skip_batch(StoreSession *session, int64 run_id, const BatchInfo *batch,
				   ArrayType *key, int64 token, const ErrorData *error,
				   const char *repair_error)
{
	TimestampTz now = GetCurrentTimestamp();
	char		no_nulls[] = "       ";
	Datum		skip[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		Int64GetDatum(token),
		store_note_or_null(error->message, &no_nulls[4]),
		TimestampTzGetDatum(now),
		Int32GetDatum(batch->attempt)
	};

	if (store_sql(&sql_skip_batch, skip, no_nulls) != 1)
		return false;
	store_error(run_id, batch, key, error, repair_error, now);
	return true;
}

static Sql sql_repaired = {
	"UPDATE backfill.error SET repaired = true, resolved_at = $4 "
	" WHERE run_id = $1 AND number = $2 AND part = $3",
	4, {INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID}
};

/* The batch, the row with that key, has met the error, and has succeeded after a repair. */
void
store_repair_batch(StoreSession *session, int64 run_id, const BatchInfo *batch,
				   ArrayType *key, const ErrorData *error)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		TimestampTzGetDatum(now)
	};

	store_error(run_id, batch, key, error, NULL, now);
	store_sql(&sql_repaired, args, NULL);
}

static Sql sql_resolve_error = {
	"UPDATE backfill.error SET resolved_at = $4 "
	" WHERE run_id = $1 AND number = $2 AND part = $3 AND resolved_at IS NULL",
	4, {INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID}
};

/* The batch, skipped before, has succeeded. */
void
store_resolve_error(StoreSession *session, int64 run_id, const BatchInfo *batch)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	store_sql(&sql_resolve_error, args, NULL);
}

static Sql sql_error_counts = {
	"SELECT (SELECT count(*) FROM backfill.error e "
	"         WHERE e.run_id = r.id AND e.resolved_at IS NULL "
	"           AND e.last_at >= r.counted_since), "
	"       r.rows_affected - r.resumed_rows "
	"       + coalesce((SELECT sum(b.rows_affected) FROM backfill.batch b "
	"                    WHERE b.run_id = r.id AND b.number > r.rollup_number "
	"                      AND b.status = 'completed'), 0)::bigint "
	"  FROM backfill.walk r WHERE r.id = $1",
	1, {INT8OID}
};

/* How many rows were skipped and how many succeeded since the last resume. */
void
store_error_counts(StoreSession *session, int64 run_id, int64 *errors, int64 *rows)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	*errors = *rows = 0;
	if (store_sql(&sql_error_counts, args, NULL) == 0)
		return;
	*errors = DatumGetInt64(store_column(0, 1, NULL));
	*rows = DatumGetInt64(store_column(0, 2, NULL));
}

/* Of a run, or of a stream. */
#define MARK_RESUMED(table) \
	"UPDATE " table " SET resumed_at = $2, " \
	"       resumed_number = coalesce((SELECT max(b.number) FROM backfill.batch b " \
	"                                   WHERE b.run_id = $1), 0), " \
	"       resumed_rows = rows_affected " \
	"       + coalesce((SELECT sum(b.rows_affected) FROM backfill.batch b " \
	"                    WHERE " STORE_OPEN_BATCHES " AND b.status = 'completed'), 0)::bigint " \
	" WHERE id = $1"

static Sql sql_mark_resumed = {
	MARK_RESUMED("backfill.run"),
	2, {INT8OID, TIMESTAMPTZOID}
};

static Sql sql_mark_stream_resumed = {
	MARK_RESUMED("backfill.stream"),
	2, {INT8OID, TIMESTAMPTZOID}
};

/* Errors, batches and time count from now on. */
void
store_mark_resumed(StoreSession *session, int64 run_id)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	store_sql(STORE_IS_STREAM(run_id) ? &sql_mark_stream_resumed : &sql_mark_resumed, args, NULL);
}

static Sql sql_reopen_skipped = {
	"UPDATE backfill.batch SET status = 'pending', skipped = false, crashes = 0, "
	"       tries = 0, finished_at = NULL WHERE run_id = $1 AND skipped",
	1, {INT8OID}
};

/* Of a run, or of a stream. */
#define RECOUNT(table, also) \
	"UPDATE " table " r SET " also "rollup_number = s.number, batches = s.batches, " \
	"       rows_scanned = s.rows_scanned, rows_affected = s.rows_affected, " \
	"       wal_bytes = s.wal_bytes, pages_pruned = s.pages_pruned, " \
	"       space_freed = s.space_freed " \
	"  FROM (SELECT f.number - 1 AS number, count(b.number) AS batches, " \
	"               coalesce(sum(b.rows_scanned), 0) AS rows_scanned, " \
	"               coalesce(sum(b.rows_affected), 0) AS rows_affected, " \
	"               coalesce(sum(b.wal_bytes), 0) AS wal_bytes, " \
	"               coalesce(sum(b.pages_pruned), 0) AS pages_pruned, " \
	"               coalesce(sum(b.space_freed), 0) AS space_freed " \
	"          FROM (SELECT min(number) AS number FROM backfill.batch " \
	"                 WHERE run_id = $1 AND status <> 'completed') f " \
	"          LEFT JOIN backfill.batch b ON b.run_id = $1 " \
	"               AND b.number < f.number AND b.status = 'completed' " \
	"         GROUP BY f.number) s " \
	" WHERE r.id = $1 AND s.number IS NOT NULL"

static Sql sql_recount = {
	RECOUNT("backfill.run", "verified = false, "),
	1, {INT8OID}
};

static Sql sql_recount_stream = {
	RECOUNT("backfill.stream", "status = 'pending', finished_at = NULL, "),
	1, {INT8OID}
};

/*
 * Have the skipped batches done again.  Returns their number.  The sums in the
 * row of the run go back to before the first of them.
 */
int64
store_reopen_skipped(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	int64		n = (int64) store_sql(&sql_reopen_skipped, args, NULL);

	if (n > 0)
		store_sql(STORE_IS_STREAM(run_id) ? &sql_recount_stream : &sql_recount, args, NULL);
	return n;
}
