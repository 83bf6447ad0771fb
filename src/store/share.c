/*-------------------------------------------------------------------------
 *
 * share.c
 *	  The rows of the values of share_by.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/share.h"
#include "store/store.h"

#define SHARE_COLUMNS "id, value, start_key, end_key, last_key, rows"

static ShareInfo *
read_share(StoreSession *session, int row)
{
	ShareInfo  *share = MemoryContextAllocZero(session->caller, sizeof(ShareInfo));

	share->id = DatumGetInt32(store_column(row, 1, NULL));
	share->value = store_text(session, row, 2);
	share->start_key = store_varlena(session, row, 3);
	share->end_key = store_varlena(session, row, 4);
	share->last_key = store_varlena(session, row, 5);
	share->rows = DatumGetInt64(store_column(row, 6, NULL));
	return share;
}

static Sql sql_last = {
	"SELECT " SHARE_COLUMNS " FROM backfill.share WHERE run_id = $1 ORDER BY id DESC LIMIT 1",
	1, {INT8OID}
};

/* The last value that is known, in the order of the walk, or NULL. */
ShareInfo *
share_last(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return store_sql(&sql_last, args, NULL) == 0 ? NULL : read_share(session, 0);
}

static Sql sql_insert = {
	"INSERT INTO backfill.share (run_id, id, value, start_key, end_key) VALUES ($1, $2, $3, $4, $5)",
	5, {INT8OID, INT4OID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID}
};

/* Put a value down, of which no batch has been cut. */
void
share_insert(StoreSession *session, int64 run_id, const ShareInfo *share)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int32GetDatum(share->id),
		CStringGetTextDatum(share->value),
		PointerGetDatum(share->start_key),
		PointerGetDatum(share->end_key)
	};

	store_sql(&sql_insert, args, NULL);
}

static Sql sql_load = {
	"SELECT " SHARE_COLUMNS " FROM backfill.share WHERE run_id = $1 ORDER BY id",
	1, {INT8OID}
};

/* All values of the run: ShareInfo. */
List *
share_load(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	uint64		n = store_sql(&sql_load, args, NULL);
	MemoryContext old = MemoryContextSwitchTo(session->caller);
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
		result = lappend(result, read_share(session, i));
	MemoryContextSwitchTo(old);
	return result;
}

static Sql sql_advance = {
	"UPDATE backfill.share SET last_key = $4, rows = rows + $5 "
	" WHERE run_id = $1 AND id = $2 AND last_key IS NOT DISTINCT FROM $3",
	5, {INT8OID, INT4OID, TEXTARRAYOID, TEXTARRAYOID, INT8OID}
};

/*
 * A batch of the value has been cut, which ends there and has so many rows.  Returns false
 * if another worker has cut one meanwhile.
 */
bool
share_advance(StoreSession *session, int64 run_id, const ShareInfo *share, ArrayType *last_key,
			  int64 rows)
{
	char		nulls[] = "     ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int32GetDatum(share->id),
		PointerGetDatum(share->last_key),
		PointerGetDatum(last_key),
		Int64GetDatum(rows)
	};

	if (share->last_key == NULL)
		nulls[2] = 'n';
	return store_sql(&sql_advance, args, nulls) == 1;
}

static Sql sql_is_left = {
	"SELECT FROM backfill.run r WHERE r.id = $1 AND ("
	"   (SELECT s.end_key FROM backfill.share s WHERE s.run_id = $1 ORDER BY s.id DESC LIMIT 1) "
	"   IS DISTINCT FROM r.end_key "
	"   OR EXISTS (SELECT FROM backfill.share s WHERE s.run_id = $1 "
	"                 AND s.last_key IS DISTINCT FROM s.end_key))",
	1, {INT8OID}
};

/* Whether there is any value, known or not, of which batches are still to be cut. */
bool
share_is_left(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return store_sql(&sql_is_left, args, NULL) > 0;
}

#define IS_USED "(status <> 'completed' OR finished_at > $3)"

static Sql sql_usage = {
	"SELECT share, sum(CASE WHEN status = 'completed' THEN rows_affected "
	"                  ELSE coalesce(rows_in_scope, rows_scanned) END)::bigint, min(number) "
	"  FROM backfill.batch WHERE run_id = $1 AND number >= $2 AND share IS NOT NULL AND " IS_USED
	" GROUP BY share",
	3, {INT8OID, INT8OID, TIMESTAMPTZOID}
};

/*
 * What the batches of each value have used since that time, or may be about to use: those
 * from the number *from on, which is moved behind those that do not count any more.
 * ShareUsage.
 */
List *
share_usage(StoreSession *session, int64 run_id, TimestampTz since, int64 *from)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(*from),
		TimestampTzGetDatum(since)
	};
	uint64		n = store_sql(&sql_usage, args, NULL);
	MemoryContext old = MemoryContextSwitchTo(session->caller);
	List	   *result = NIL;
	int64		first = PG_INT64_MAX;

	for (uint64 i = 0; i < n; i++)
	{
		ShareUsage *usage = palloc(sizeof(ShareUsage));

		usage->id = DatumGetInt32(store_column(i, 1, NULL));
		usage->rows = DatumGetInt64(store_column(i, 2, NULL));
		first = Min(first, DatumGetInt64(store_column(i, 3, NULL)));
		result = lappend(result, usage);
	}
	MemoryContextSwitchTo(old);
	if (n > 0)
		*from = first;
	return result;
}

static Sql sql_delete = {
	"DELETE FROM backfill.share WHERE run_id = $1",
	1, {INT8OID}
};

/* Forget the values of the run. */
void
share_delete(int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_delete, args, NULL);
}
