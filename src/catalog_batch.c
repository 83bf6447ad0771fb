/*-------------------------------------------------------------------------
 *
 * catalog_batch.c
 *	  The rows of batches.
 *
 * The SQL texts are in catalog.c.  Everything here is called between
 * catalog_begin and catalog_end; results are in the memory context that was
 * current at catalog_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog_sql.h"

/* Number and end of the batch claimed last; false when there is none. */
bool
catalog_last_batch(CatalogSession *session, int64 run_id, int64 *number,
				   ArrayType **end_key)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	if (catalog_sql(SQL_LAST_BATCH, args, NULL) == 0)
		return false;
	*number = DatumGetInt64(catalog_column(0, 1, NULL));
	*end_key = catalog_varlena(session, 0, 2);
	return true;
}

/* Insert a batch that this process has claimed. */
void
catalog_insert_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
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

	catalog_sql(SQL_INSERT_BATCH, args, NULL);
}

/*
 * Claim the first pending batch that is due and has brought down fewer workers
 * than given; NULL when there is none.  The caller holds the claim lock.
 */
BatchInfo *
catalog_take_pending(CatalogSession *session, int64 run_id, int64 token,
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

	if (catalog_sql(SQL_TAKE_PENDING, args, NULL) == 0)
		return NULL;
	batch = MemoryContextAllocZero(session->caller, sizeof(BatchInfo));
	batch->number = DatumGetInt64(catalog_column(0, 1, NULL));
	batch->start_key = catalog_varlena(session, 0, 2);
	batch->end_key = catalog_varlena(session, 0, 3);
	batch->start_inclusive = DatumGetBool(catalog_column(0, 4, NULL));
	batch->attempt = DatumGetInt32(catalog_column(0, 5, NULL));
	batch->crashes = DatumGetInt32(catalog_column(0, 6, NULL));
	batch->rows_scanned = DatumGetInt64(catalog_column(0, 7, NULL));
	batch->part = DatumGetInt32(catalog_column(0, 8, NULL));
	batch->had_error = DatumGetBool(catalog_column(0, 9, NULL));
	batch->tries = DatumGetInt32(catalog_column(0, 10, NULL));
	return batch;
}

/*
 * When the first pending batch is due that brought down fewer workers than
 * given: DT_NOBEGIN for at once, DT_NOEND if there is none.
 */
TimestampTz
catalog_pending_due(CatalogSession *session, int64 run_id, int crashes_below)
{
	Datum		args[] = {Int64GetDatum(run_id), Int32GetDatum(crashes_below)};
	bool		isnull;
	Datum		due;

	catalog_sql(SQL_PENDING_DUE, args, NULL);
	due = catalog_column(0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(due);
}

/*
 * Mark the batch completed.  Returns false when it is not this worker's any
 * more: the transaction must then be rolled back.
 */
bool
catalog_complete_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
					   int64 token, const BatchResult *result)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		Int64GetDatum(result->rows_affected),
		Int64GetDatum(result->wal_bytes),
		TimestampTzGetDatum(result->started_at),
		TimestampTzGetDatum(result->finished_at),
		Int32GetDatum(batch->attempt),
		Int32GetDatum(batch->part)
	};

	return catalog_sql(SQL_COMPLETE_BATCH, args, NULL) == 1;
}

/* Let go of a batch that was not done, with the status given. */
bool
catalog_give_back_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
						int64 token, const char *status, const char *error)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		CStringGetTextDatum(status),
		catalog_text_or_null(error, &nulls[4]),
		Int32GetDatum(batch->part)
	};

	return catalog_sql(SQL_GIVE_BACK_BATCH, args, nulls) == 1;
}

/* Let go of the batch until it is tried again, at that time. */
void
catalog_retry_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
					int64 token, TimestampTz retry_at, const char *error)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		CStringGetTextDatum(error),
		Int32GetDatum(batch->part),
		Int32GetDatum(batch->tries),
		TimestampTzGetDatum(retry_at)
	};

	catalog_sql(SQL_RETRY_BATCH, args, NULL);
}

/*
 * Make running batches pending whose worker is none of the living.  It counts
 * as a crash, except for workers that ended with the server in good order: in
 * an earlier life of it, if the present one (boot) began cleanly.  Returns
 * their number; *worst and *crashes tell of the one that brought down most.
 */
int
catalog_recover_batches(CatalogSession *session, int64 run_id, int64 *tokens,
						int ntokens, int64 boot, bool clean_start,
						int64 *worst, int *crashes)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(ntokens, 1));
	Datum		args[4];
	uint64		n;

	for (int i = 0; i < ntokens; i++)
		elements[i] = Int64GetDatum(tokens[i]);
	args[0] = Int64GetDatum(run_id);
	args[1] = PointerGetDatum(construct_array(elements, ntokens, INT8OID,
											  sizeof(int64), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
	args[2] = Int64GetDatum(boot);
	args[3] = BoolGetDatum(clean_start);
	n = catalog_sql(SQL_RECOVER_BATCHES, args, NULL);
	*worst = 0;
	*crashes = 0;
	for (uint64 i = 0; i < n; i++)
	{
		int			c = DatumGetInt32(catalog_column(i, 2, NULL));

		if (c > *crashes)
		{
			*crashes = c;
			*worst = DatumGetInt64(catalog_column(i, 1, NULL));
		}
	}
	return (int) n;
}

/* Have the batches that failed or were stopped done again. */
int64
catalog_reopen_batches(CatalogSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return (int64) catalog_sql(SQL_REOPEN_BATCHES, args, NULL);
}

/*
 * The number of batches that were claimed and are not completed; that of those
 * that need not wait to be tried again goes to *due, unless that is NULL.
 */
int64
catalog_open_batches(CatalogSession *session, int64 run_id, int64 *due)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	catalog_sql(SQL_OPEN_BATCHES, args, NULL);
	if (due)
		*due = DatumGetInt64(catalog_column(0, 2, NULL));
	return DatumGetInt64(catalog_column(0, 1, NULL));
}

/* ---- dividing and skipping ---- */

/*
 * Let go of the batch in hand but for its last rows, those after start: parts
 * for the others are to follow.  Returns false if it is another worker's now.
 */
bool
catalog_shrink_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
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
		catalog_text_or_null(error, &nulls[6])
	};

	return catalog_sql(SQL_SHRINK_BATCH, args, nulls) == 1;
}

/*
 * Insert a part of a batch that is divided, pending; error may be NULL.  Needs the
 * claim lock.
 */
void
catalog_insert_part(CatalogSession *session, int64 run_id, const BatchInfo *part,
					const char *error)
{
	char		nulls[] = "       ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(part->number),
		PointerGetDatum(part->start_key),
		PointerGetDatum(part->end_key),
		BoolGetDatum(part->start_inclusive),
		Int64GetDatum(part->rows_scanned),
		catalog_text_or_null(error, &nulls[6])
	};

	catalog_sql(SQL_INSERT_PART, args, nulls);
}

/*
 * Leave the batch in hand, the row with that key, out, because of the error.  Returns false if it is
 * another worker's now.
 */
bool
catalog_skip_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
				   ArrayType *key, int64 token, const ErrorData *error)
{
	TimestampTz now = GetCurrentTimestamp();
	char		nulls[] = "             ";
	Datum		skip[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		Int64GetDatum(token),
		CStringGetTextDatum(error->message),
		TimestampTzGetDatum(now),
		Int32GetDatum(batch->attempt)
	};
	Datum		store[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		PointerGetDatum(key),
		CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
		catalog_text_or_null(error->message, &nulls[5]),
		catalog_text_or_null(error->detail, &nulls[6]),
		catalog_text_or_null(error->context, &nulls[7]),
		catalog_text_or_null(error->schema_name, &nulls[8]),
		catalog_text_or_null(error->table_name, &nulls[9]),
		catalog_text_or_null(error->column_name, &nulls[10]),
		catalog_text_or_null(error->constraint_name, &nulls[11]),
		TimestampTzGetDatum(now)
	};

	if (catalog_sql(SQL_SKIP_BATCH, skip, NULL) != 1)
		return false;
	catalog_sql(SQL_STORE_ERROR, store, nulls);
	return true;
}

/* The batch, skipped before, has succeeded. */
void
catalog_resolve_error(CatalogSession *session, int64 run_id, const BatchInfo *batch)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	catalog_sql(SQL_RESOLVE_ERROR, args, NULL);
}

/* How many rows were skipped and how many succeeded since the last resume. */
void
catalog_error_counts(CatalogSession *session, int64 run_id, int64 *errors, int64 *rows)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	*errors = *rows = 0;
	if (catalog_sql(SQL_ERROR_COUNTS, args, NULL) == 0)
		return;
	*errors = DatumGetInt64(catalog_column(0, 1, NULL));
	*rows = DatumGetInt64(catalog_column(0, 2, NULL));
}

/* Errors count from now on. */
void
catalog_mark_resumed(CatalogSession *session, int64 run_id)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	catalog_sql(SQL_MARK_RESUMED, args, NULL);
}

/*
 * Have the skipped batches done again.  Returns their number.  The sums in the
 * row of the run go back to before the first of them.
 */
int64
catalog_reopen_skipped(CatalogSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	int64		n = (int64) catalog_sql(SQL_REOPEN_SKIPPED, args, NULL);

	if (n > 0)
		catalog_sql(SQL_RECOUNT, args, NULL);
	return n;
}
