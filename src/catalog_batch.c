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
 * Claim the first pending batch that has brought down fewer workers than
 * given; NULL when there is none.  The caller holds the claim lock.
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
		Int32GetDatum(worker)
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
	return batch;
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
		Int32GetDatum(batch->attempt)
	};

	return catalog_sql(SQL_COMPLETE_BATCH, args, NULL) == 1;
}

/* Let go of a batch that was not done, with the status given. */
bool
catalog_give_back_batch(CatalogSession *session, int64 run_id, int64 number,
						int64 token, const char *status, const char *error)
{
	char		nulls[] = "     ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int64GetDatum(token),
		CStringGetTextDatum(status),
		catalog_text_or_null(error, &nulls[4])
	};

	return catalog_sql(SQL_GIVE_BACK_BATCH, args, nulls) == 1;
}

/* Note that the batch is tried again. */
void
catalog_retry_batch(CatalogSession *session, int64 run_id, int64 number,
					int64 token, const char *error)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int64GetDatum(token),
		CStringGetTextDatum(error)
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

/* The number of batches that were claimed and are not completed. */
int64
catalog_open_batches(CatalogSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	catalog_sql(SQL_OPEN_BATCHES, args, NULL);
	return DatumGetInt64(catalog_column(0, 1, NULL));
}
