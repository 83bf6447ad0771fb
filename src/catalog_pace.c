/*-------------------------------------------------------------------------
 *
 * catalog_pace.c
 *	  What is kept about the pace of runs.
 *
 * The SQL texts are in catalog.c.  Everything here is called between
 * catalog_begin and catalog_end; results are in the memory context that was
 * current at catalog_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog_sql.h"

/* Keep the batch size that was found for the run. */
void
catalog_set_batch_size(CatalogSession *session, int64 id, int64 size)
{
	Datum		args[] = {Int64GetDatum(id), Int64GetDatum(size)};

	catalog_sql(SQL_SET_BATCH_SIZE, args, NULL);
}

/*
 * Say why the run is throttled, NULL when it no longer is.  The time of a reason
 * that ends is added to those before.
 */
void
catalog_set_throttle(CatalogSession *session, int64 id, const char *reason)
{
	char		nulls[] = "   ";
	Datum		args[] = {
		Int64GetDatum(id),
		catalog_text_or_null(reason, &nulls[1]),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	catalog_sql(SQL_SET_THROTTLE, args, nulls);
}

/* A batch of the run has given way to another session. */
void
catalog_note_yield(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	catalog_sql(SQL_NOTE_YIELD, args, NULL);
}

/*
 * What the run, or every run if it is 0, completed after the one time and up to
 * the other.  Returns the number of batches.
 */
int
catalog_recent_batches(CatalogSession *session, int64 id, TimestampTz since,
					   TimestampTz until, RecentBatch **batches)
{
	Datum		args[] = {
		Int64GetDatum(id), TimestampTzGetDatum(since), TimestampTzGetDatum(until)
	};
	int			n = (int) catalog_sql(SQL_RECENT_BATCHES, args, NULL);

	*batches = MemoryContextAlloc(session->caller, sizeof(RecentBatch) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		(*batches)[i].at = DatumGetTimestampTz(catalog_column(i, 1, NULL));
		(*batches)[i].rows = DatumGetInt64(catalog_column(i, 2, NULL));
		(*batches)[i].wal_bytes = DatumGetInt64(catalog_column(i, 3, NULL));
	}
	return n;
}
