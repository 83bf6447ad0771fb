/*-------------------------------------------------------------------------
 *
 * rowlease.c
 *	  Leases of clients that live in the rows of their batches.
 *
 * Without shared memory the row says until when a batch is the client's, too.  A lease is
 * over when that time has passed, whether anybody has taken the batch back or not; who is
 * just completing it has the row locked, and is left alone.
 *
 * A row without that time is from a life of the server with shared memory.  As after any
 * restart such a lease is good for its full length once more; that of a session, and the
 * hand of a worker, are over.
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

#include "store/rowlease.h"

/* Of a running batch: it is not to stay in the hands in which it is. */
#define IS_OVER \
	"(secret IS NULL OR coalesce(lease_until <= clock_timestamp(), lease IS NULL))"

/* The batch is the caller's, and in time. */
#define IS_HELD \
	STORE_LEASE_IS_MINE "AND NOT " IS_OVER

static Sql sql_look = {
	"SELECT count(*) FILTER (WHERE status = 'running' AND NOT " IS_OVER "), "
	"       count(*) FILTER (WHERE status = 'running' AND " IS_OVER "), "
	"       count(*) FILTER (WHERE status = 'running' AND NOT " IS_OVER " AND lease_until IS NULL), "
	"       count(*), "
	"       coalesce(min(number), (SELECT max(number) + 1 FROM backfill.batch WHERE run_id = $1), 1) "
	"       - (SELECT rollup_number + 1 FROM backfill.run WHERE id = $1), "
	"       min(CASE WHEN " STORE_DUE_AT("clock_timestamp()") " THEN '-infinity' ELSE retry_at END) "
	"         FILTER (WHERE status = 'pending') "
	"  FROM backfill.batch WHERE " STORE_OPEN_BATCHES " AND status <> 'completed' AND NOT skipped",
	1, {INT8OID}
};

/* How it stands now. */
void
rowlease_look(StoreSession *session, int64 run_id, RowLeases *leases)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	bool		isnull;
	Datum		due;

	store_sql(&sql_look, args, NULL);
	leases->out = DatumGetInt64(store_column(0, 1, NULL));
	leases->over = DatumGetInt64(store_column(0, 2, NULL));
	leases->undated = DatumGetInt64(store_column(0, 3, NULL));
	leases->open = DatumGetInt64(store_column(0, 4, NULL));
	leases->ended = DatumGetInt64(store_column(0, 5, NULL));
	due = store_column(0, 6, &isnull);
	leases->due = isnull ? DT_NOEND : DatumGetTimestampTz(due);
}

static Sql sql_date = {
	"UPDATE backfill.batch SET lease_until = clock_timestamp() + lease "
	" WHERE " STORE_OPEN_BATCHES " AND status = 'running' AND NOT " IS_OVER " AND lease_until IS NULL",
	1, {INT8OID}
};

/* What the row does not say until when it is good is good for its full length from now on. */
void
rowlease_date(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_date, args, NULL);
}

static Sql sql_forget = {
	"WITH found AS ("
	"   SELECT number, part FROM backfill.batch "
	"    WHERE " STORE_OPEN_BATCHES " AND lease_until IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED) "
	"UPDATE backfill.batch b SET lease_until = NULL "
	"  FROM found f WHERE b.run_id = $1 AND b.number = f.number AND b.part = f.part",
	1, {INT8OID}
};

/* From now on leases stand in shared memory.  Waits for nobody who is just completing a batch. */
void
rowlease_forget(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_forget, args, NULL);
}

static Sql sql_take_back = {
	"WITH found AS ("
	"   SELECT number, part, secret IS NOT NULL AS is_leased FROM backfill.batch "
	"    WHERE " STORE_OPEN_BATCHES " AND status = 'running' AND keys IS NULL "
	"      AND CASE WHEN $2 THEN secret IS NOT NULL ELSE " IS_OVER " END "
	"    FOR NO KEY UPDATE SKIP LOCKED) "
	"UPDATE backfill.batch b SET status = 'pending', secret = NULL, token = NULL, "
	"       lease_until = NULL, reported = NULL "
	"  FROM found f WHERE b.run_id = $1 AND b.number = f.number AND b.part = f.part "
	"RETURNING b.number, b.part, CASE WHEN f.is_leased THEN b.client END",
	2, {INT8OID, BOOLOID}
};

/*
 * Make batches pending whose lease is over, or all that are in the hands of clients, but for those
 * that somebody is just completing, and for those with a ledger, of which a person has to say
 * what was done.  Returns those that clients had: LeasedBatch.
 */
List *
rowlease_take_back(StoreSession *session, int64 run_id, bool all)
{
	Datum		args[] = {Int64GetDatum(run_id), BoolGetDatum(all)};
	uint64		n = store_sql(&sql_take_back, args, NULL);
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(session->caller);

	for (uint64 i = 0; i < n; i++)
	{
		LeasedBatch *batch = palloc0(sizeof(LeasedBatch));

		batch->number = DatumGetInt64(store_column(i, 1, NULL));
		batch->part = DatumGetInt32(store_column(i, 2, NULL));
		batch->client = store_text(session, i, 3);
		if (batch->client)
			result = lappend(result, batch);
	}
	MemoryContextSwitchTo(old);
	return result;
}

static Sql sql_hold = {
	"SELECT tries FROM backfill.batch " IS_HELD " FOR NO KEY UPDATE",
	6, {STORE_LEASE_TYPES}
};

/*
 * Lock the batch if it is in the hands of who shows the token, so that nobody takes it back
 * before the transaction ends.  How often it met an error goes to *tries.
 */
bool
rowlease_hold(StoreSession *session, int64 run_id, int64 number, int part,
			  const LeaseToken *token, Oid role, int *tries)
{
	Datum		args[STORE_LEASE_ARGS];

	store_lease_args(args, run_id, number, part, token, role);

	if (store_sql(&sql_hold, args, NULL) == 0)
		return false;
	*tries = DatumGetInt32(store_column(0, 1, NULL));
	return true;
}

static Sql sql_extend = {
	"UPDATE backfill.batch SET lease = coalesce($7, lease), "
	"       lease_until = clock_timestamp() + coalesce($7, lease)" IS_HELD
	"RETURNING lease_until",
	7, {STORE_LEASE_TYPES, INTERVALOID}
};

/*
 * The lease is good from now on for that length, or, with NULL, for its own.  Returns false
 * if the batch is not in the hands of who shows the token.
 */
bool
rowlease_extend(StoreSession *session, int64 run_id, int64 number, int part,
				const LeaseToken *token, Oid role, Interval *length, TimestampTz *until)
{
	Datum		args[STORE_LEASE_ARGS + 1];

	store_lease_args(args, run_id, number, part, token, role);
	args[STORE_LEASE_ARGS] = IntervalPGetDatum(length);

	if (store_sql(&sql_extend, args, length ? NULL : "      n") == 0)
		return false;
	*until = DatumGetTimestampTz(store_column(0, 1, NULL));
	return true;
}

static Sql sql_let_go = {
	"UPDATE backfill.batch SET status = $4, tries = $5, retry_at = $6, error = $7, "
	"       secret = NULL, token = NULL, lease_until = NULL, "
	"       finished_at = CASE WHEN $4 = 'failed' THEN clock_timestamp() END "
	" WHERE run_id = $1 AND number = $2 AND part = $3",
	7, {INT8OID, INT8OID, INT4OID, TEXTOID, INT4OID, TIMESTAMPTZOID, TEXTOID}
};

/* The client that has the batch, which is locked, has failed: it has that status now. */
void
rowlease_let_go(StoreSession *session, int64 run_id, const BatchInfo *batch,
				const char *status, TimestampTz retry_at, const char *error)
{
	char		nulls[] = "       ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int32GetDatum(batch->part),
		CStringGetTextDatum(status),
		Int32GetDatum(batch->tries),
		TimestampTzGetDatum(retry_at),
		store_note_or_null(error, &nulls[6])
	};

	if (TIMESTAMP_IS_NOBEGIN(retry_at))
		nulls[5] = 'n';
	store_sql(&sql_let_go, args, nulls);
}

static Sql sql_list = {
	"SELECT b.run_id, b.number, b.part, b.client, b.claimed_by::oid, "
	"       coalesce(b.rows_in_scope, b.rows_scanned), b.claimed_at, b.lease_until "
	"  FROM backfill.run r JOIN backfill.batch b ON b.run_id = r.id AND b.number > r.rollup_number "
	" WHERE r.status <> 'completed' AND b.status = 'running' AND b.secret IS NOT NULL "
	"   AND b.lease_until IS NOT NULL",
	0
};

/* All of this database: RowLease. */
List *
rowlease_list(StoreSession *session)
{
	uint64		n = store_sql(&sql_list, NULL, NULL);
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(session->caller);

	for (uint64 i = 0; i < n; i++)
	{
		RowLease   *lease = palloc0(sizeof(RowLease));

		lease->run_id = DatumGetInt64(store_column(i, 1, NULL));
		lease->batch.number = DatumGetInt64(store_column(i, 2, NULL));
		lease->batch.part = DatumGetInt32(store_column(i, 3, NULL));
		lease->batch.client = store_text(session, i, 4);
		lease->batch.role = DatumGetObjectId(store_column(i, 5, NULL));
		lease->batch.rows = DatumGetInt64(store_column(i, 6, NULL));
		lease->since = DatumGetTimestampTz(store_column(i, 7, NULL));
		lease->until = DatumGetTimestampTz(store_column(i, 8, NULL));
		result = lappend(result, lease);
	}
	MemoryContextSwitchTo(old);
	return result;
}
