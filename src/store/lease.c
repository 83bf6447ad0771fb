/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  The rows of batches that clients have in their hands.
 *
 * A batch that is cut for clients is pending until one of them claims it.  In its
 * hands it is "running", with a secret, and its token is a number from a sequence:
 * both, and the role that claimed, have to be shown by who completes it.  The row is
 * what decides: until when the lease is good stands in shared memory.
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

#include "store/lease.h"
#include "store/store.h"

/* ---- the run ---- */

static Sql sql_lease_run = {
	"SELECT status, requested, owner::oid, target::oid, "
	"       backfill.is_local(database, system_identifier), "
	"       statement IS NULL OR coalesce((settings ->> 'outside')::boolean, false) OR coalesce(source = 'client', false), "
	"       throttled_by, wait_reason, error, conditions, "
	"       coalesce((settings ->> 'ledger')::boolean, false), coalesce(cardinality(key_names), 0), "
	"       coalesce(source = 'client', false), name, settings "
	"  FROM backfill.run WHERE id = $1",
	1, {INT8OID}
};

/* What a claim has to know of the run; NULL if there is none. */
LeaseRun *
store_lease_run(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};
	LeaseRun   *run;

	if (store_sql(&sql_lease_run, args, NULL) == 0)
		return NULL;
	run = MemoryContextAllocZero(session->caller, sizeof(LeaseRun));
	run->id = id;
	run->status = status_from_name(store_text(session, 0, 1));
	run->requested = store_text(session, 0, 2);
	run->owner = DatumGetObjectId(store_column(0, 3, NULL));
	run->target = DatumGetObjectId(store_column(0, 4, NULL));
	run->is_local = DatumGetBool(store_column(0, 5, NULL));
	run->is_outside = DatumGetBool(store_column(0, 6, NULL));
	run->throttled_by = store_text(session, 0, 7);
	run->wait_reason = store_text(session, 0, 8);
	run->error = store_text(session, 0, 9);
	run->conditions = store_varlena(session, 0, 10);
	run->has_ledger = DatumGetBool(store_column(0, 11, NULL));
	run->nkeys = DatumGetInt32(store_column(0, 12, NULL));
	run->is_source = DatumGetBool(store_column(0, 13, NULL));
	run->name = store_text(session, 0, 14);
	run->settings = store_varlena(session, 0, 15);
	return run;
}

/* ---- cut, and not claimed yet ---- */

static Sql sql_stock_batch = {
	"INSERT INTO backfill.batch (run_id, number, start_key, end_key, start_inclusive, "
	"       status, rows_scanned, rows_in_scope, rows_affected, attempt, finished_at, keys, "
	"       share) "
	"VALUES ($1, $2, $3, $4, $5, CASE WHEN $7 = 0 THEN 'completed' ELSE 'pending' END, $6, $7, "
	"        CASE WHEN $7 = 0 THEN 0 END, 0, CASE WHEN $7 = 0 THEN clock_timestamp() END, $8, "
	"        nullif($9, 0))",
	9, {INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, INT8OID, INT8OID, TEXTARRAYOID, INT4OID}
};

/*
 * Insert a batch that is there for whoever claims it; one without a row in scope is
 * completed already.  Needs the claim lock.
 */
void
store_stock_batch(StoreSession *session, int64 run_id, const BatchInfo *batch)
{
	char		nulls[] = "         ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		PointerGetDatum(batch->start_key),
		PointerGetDatum(batch->end_key),
		BoolGetDatum(batch->start_inclusive),
		Int64GetDatum(batch->rows_scanned),
		Int64GetDatum(batch->rows_in_scope),
		PointerGetDatum(batch->keys),
		Int32GetDatum(batch->share)
	};

	if (batch->keys == NULL)
		nulls[7] = 'n';
	store_sql(&sql_stock_batch, args, nulls);
}

static Sql sql_stocked_batches = {
	"SELECT number, part, coalesce(rows_in_scope, rows_scanned) FROM backfill.batch "
	" WHERE " STORE_OPEN_BATCHES " AND status = 'pending' AND " STORE_DUE_AT("$2") " "
	" ORDER BY number, part LIMIT $3",
	3, {INT8OID, TIMESTAMPTZOID, INT4OID}
};

/* The first pending batches that need not wait any more, as LeasedBatch of which only that is known. */
List *
store_stocked_batches(StoreSession *session, int64 run_id, TimestampTz now, int most)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		TimestampTzGetDatum(now),
		Int32GetDatum(most)
	};
	uint64		n = store_sql(&sql_stocked_batches, args, NULL);
	MemoryContext old = MemoryContextSwitchTo(session->caller);
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		LeasedBatch *batch = palloc0(sizeof(LeasedBatch));

		batch->number = DatumGetInt64(store_column(i, 1, NULL));
		batch->part = DatumGetInt32(store_column(i, 2, NULL));
		batch->rows = DatumGetInt64(store_column(i, 3, NULL));
		result = lappend(result, batch);
	}
	MemoryContextSwitchTo(old);
	return result;
}

static Sql sql_stocked_due = {
	"SELECT min(retry_at) FROM backfill.batch "
	" WHERE " STORE_OPEN_BATCHES " AND status = 'pending' AND NOT " STORE_DUE_AT("$2"),
	2, {INT8OID, TIMESTAMPTZOID}
};

/*
 * When the first of those is due that have to wait, or DT_NOEND.  "now" has to be that of the
 * look before: what falls due between two clocks would be in neither answer.
 */
TimestampTz
store_stocked_due(StoreSession *session, int64 run_id, TimestampTz now)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		TimestampTzGetDatum(now)
	};
	bool		isnull;
	Datum		due;

	store_sql(&sql_stocked_due, args, NULL);
	due = store_column(0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(due);
}

/* ---- claimed ---- */

/*
 * A worker may just be taking the batch.  To wait for it would not only take time: the row
 * would stay locked until the client's transaction ends, and the worker could not complete.
 */
static Sql sql_find_pending = {
	"SELECT tableoid, ctid FROM backfill.batch "
	" WHERE run_id = $1 AND number = $2 AND part = $3 AND status = 'pending'",
	3, {INT8OID, INT8OID, INT4OID}
};

static Sql sql_lease_batch = {
	"UPDATE backfill.batch SET status = 'running', attempt = attempt + 1, "
	"       token = nextval('backfill.claim_seq'), secret = $4, client = $5, claimed_by = $6, "
	"       claimed_at = clock_timestamp(), lease = $7, retry_at = NULL, worker = NULL, pid = NULL, "
	"       lease_until = CASE WHEN $8 THEN clock_timestamp() + $7 END "
	" WHERE run_id = $1 AND number = $2 AND part = $3 AND status = 'pending' "
	"RETURNING start_key, end_key, start_inclusive, coalesce(rows_in_scope, rows_scanned), token, "
	"          lease_until",
	8, {INT8OID, INT8OID, INT4OID, UUIDOID, TEXTOID, OIDOID, INTERVALOID, BOOLOID}
};

/*
 * Put the batch into the hands of a client.  NULL if it is not pending: somebody
 * else has taken it.  Only what a client is told is filled in.
 */
BatchInfo *
store_lease_batch(StoreSession *session, int64 run_id, int64 number, int part, LeaseClaim *claim)
{
	char		nulls[] = "        ";
	bool		isnull;
	Datum		until;
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int32GetDatum(part),
		UUIDPGetDatum(&claim->token.secret),
		CStringGetTextDatum(claim->client),
		ObjectIdGetDatum(claim->role),
		IntervalPGetDatum(claim->length),
		BoolGetDatum(claim->in_row)
	};
	BatchInfo  *batch;

	if (claim->length == NULL)
		nulls[6] = 'n';
	if (store_lock_first(&sql_find_pending, args, NULL) < 0 ||
		store_sql(&sql_lease_batch, args, nulls) == 0)
		return NULL;
	batch = MemoryContextAllocZero(session->caller, sizeof(BatchInfo));
	batch->number = number;
	batch->part = part;
	batch->start_key = store_varlena(session, 0, 1);
	batch->end_key = store_varlena(session, 0, 2);
	batch->start_inclusive = DatumGetBool(store_column(0, 3, NULL));
	batch->rows_in_scope = DatumGetInt64(store_column(0, 4, NULL));
	claim->token.number = DatumGetInt64(store_column(0, 5, NULL));
	until = store_column(0, 6, &isnull);
	claim->until = isnull ? 0 : DatumGetTimestampTz(until);
	return batch;
}

static Sql sql_return_batch = {
	"UPDATE backfill.batch SET status = 'pending', secret = NULL, token = NULL, attempt = attempt - 1 "
	" WHERE run_id = $1 AND number = $2 AND part = $3 AND status = 'running' AND token = $4",
	4, {INT8OID, INT8OID, INT4OID, INT8OID}
};

/* The claim is not made after all. */
void
store_return_batch(StoreSession *session, int64 run_id, int64 number, int part, int64 token)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int32GetDatum(part),
		Int64GetDatum(token)
	};

	store_sql(&sql_return_batch, args, NULL);
}

/* The first arguments of a text with STORE_LEASE_IS_MINE. */
void
store_lease_args(Datum *args, int64 run_id, int64 number, int part, const LeaseToken *token, Oid role)
{
	args[0] = Int64GetDatum(run_id);
	args[1] = Int64GetDatum(number);
	args[2] = Int32GetDatum(part);
	args[3] = Int64GetDatum(token->number);
	args[4] = UUIDPGetDatum(unconstify(pg_uuid_t *, &token->secret));
	args[5] = ObjectIdGetDatum(role);
}

static Sql sql_complete_lease = {
	"WITH completed AS ("
	"UPDATE backfill.batch SET status = 'completed', secret = CASE WHEN keys IS NOT NULL THEN secret END, "
	"       rows_affected = coalesce($7, rows_in_scope, rows_scanned), "
	"       started_at = claimed_at, finished_at = clock_timestamp(), lease_until = NULL, "
	"       duration = clock_timestamp() - claimed_at, wal_bytes = $8" STORE_LEASE_IS_MINE
	"RETURNING error IS NOT NULL AS had_error, coalesce(rows_in_scope, rows_scanned) AS rows, "
	"          rows_scanned, keys IS NOT NULL AS has_ledger, duration), "
	"hooked AS ("
	"INSERT INTO backfill.hooked (run_id, number, part) SELECT $1, $2, $3 FROM completed "
	" WHERE NOT has_ledger AND EXISTS (SELECT FROM backfill.hook h JOIN backfill.run r ON r.id = $1 "
	"          WHERE h.phase = 'after' AND h.object = 'batch' AND h.status = 'completed' "
	"            AND (h.name IS NULL OR h.name = r.name)) "
	"ON CONFLICT DO NOTHING RETURNING run_id) "
	"SELECT c.had_error, c.rows, c.rows_scanned, c.has_ledger, EXISTS (SELECT FROM hooked), "
	"       r.owner, r.name, (EXTRACT(epoch FROM c.duration) * 1000000)::bigint "
	"  FROM completed c JOIN backfill.run r ON r.id = $1",
	8, {STORE_LEASE_TYPES, INT8OID, INT8OID}
};

static Sql sql_resolve_leased = {
	"UPDATE backfill.error SET resolved_at = clock_timestamp() "
	" WHERE run_id = $1 AND number = $2 AND part = $3 AND resolved_at IS NULL",
	3, {INT8OID, INT8OID, INT4OID}
};

/*
 * Mark the batch completed, with so many rows, or, below 0, as many as are in it.  What is
 * to be known of it goes to *size.  Returns false when it is not the client's.
 */
bool
store_complete_lease(StoreSession *session, int64 run_id, int64 number, int part,
					 const LeaseToken *token, Oid role, int64 rows, int64 wal_bytes,
					 LeaseSize *size)
{
	char		nulls[] = "        ";
	Datum		args[STORE_LEASE_ARGS + 2];

	store_lease_args(args, run_id, number, part, token, role);
	args[STORE_LEASE_ARGS] = Int64GetDatum(rows);
	args[STORE_LEASE_ARGS + 1] = Int64GetDatum(wal_bytes);

	if (rows < 0)
		nulls[6] = 'n';
	if (store_sql(&sql_complete_lease, args, nulls) == 0)
		return false;
	size->rows = DatumGetInt64(store_column(0, 2, NULL));
	size->rows_scanned = DatumGetInt64(store_column(0, 3, NULL));
	size->has_ledger = DatumGetBool(store_column(0, 4, NULL));
	size->is_hooked = DatumGetBool(store_column(0, 5, NULL));
	size->owner = DatumGetObjectId(store_column(0, 6, NULL));
	size->name = store_text(session, 0, 7);
	size->duration = DatumGetInt64(store_column(0, 8, NULL));
	if (DatumGetBool(store_column(0, 1, NULL)))
		store_sql(&sql_resolve_leased, args, NULL);
	return true;
}

static Sql sql_report_lease = {
	"UPDATE backfill.batch SET token = NULL, secret = NULL, error = $7, " STORE_COUNT_FAILED ", "
	"       reported = jsonb_build_object('message', $7, 'sqlstate', $8, 'retryable', $9, "
	"                                     'key', to_jsonb($10))" STORE_LEASE_IS_MINE,
	10, {STORE_LEASE_TYPES, TEXTOID, TEXTOID, BOOLOID, TEXTARRAYOID}
};

/*
 * Put down that the client has failed with the batch: it is for a worker to say what
 * comes of that.  Returns false when it is not the client's.
 */
bool
store_report_lease(StoreSession *session, int64 run_id, int64 number, int part,
				   const LeaseToken *token, Oid role, const LeaseReport *report)
{
	char		nulls[] = "          ";
	Datum		args[STORE_LEASE_ARGS + 4];

	store_lease_args(args, run_id, number, part, token, role);
	args[STORE_LEASE_ARGS] = store_note_or_null(report->message, &nulls[6]);
	args[STORE_LEASE_ARGS + 1] = store_text_or_null(report->sqlstate, &nulls[7]);
	args[STORE_LEASE_ARGS + 2] = BoolGetDatum(report->retryable == 1);
	args[STORE_LEASE_ARGS + 3] = PointerGetDatum(report->key);

	if (report->retryable < 0)
		nulls[8] = 'n';
	if (report->key == NULL)
		nulls[9] = 'n';
	return store_sql(&sql_report_lease, args, nulls) == 1;
}

/* ---- what workers and the scheduler do ---- */

static Sql sql_take_hooked = {
	"WITH first AS (DELETE FROM backfill.hooked h WHERE run_id = $1 AND (number, part) = ("
	"   SELECT number, part FROM backfill.hooked WHERE run_id = $1 ORDER BY number, part LIMIT 1) "
	"RETURNING number, part) "
	"SELECT b.number, b.part, start_key, end_key, start_inclusive, attempt, rows_scanned, "
	"       coalesce(rows_affected, 0) "
	"  FROM first f JOIN backfill.batch b ON b.run_id = $1 AND b.number = f.number AND b.part = f.part",
	1, {INT8OID}
};

/*
 * A batch that a client has completed, with the rows that it has processed: hooks are to be
 * told of it, and whoever took it does so, or nobody.  NULL if there is none.
 */
BatchInfo *
store_take_hooked(StoreSession *session, int64 run_id, int64 *rows)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	BatchInfo  *batch;

	if (store_sql(&sql_take_hooked, args, NULL) == 0)
		return NULL;
	batch = MemoryContextAllocZero(session->caller, sizeof(BatchInfo));
	batch->number = DatumGetInt64(store_column(0, 1, NULL));
	batch->part = DatumGetInt32(store_column(0, 2, NULL));
	batch->start_key = store_varlena(session, 0, 3);
	batch->end_key = store_varlena(session, 0, 4);
	batch->start_inclusive = DatumGetBool(store_column(0, 5, NULL));
	batch->attempt = DatumGetInt32(store_column(0, 6, NULL));
	batch->rows_scanned = DatumGetInt64(store_column(0, 7, NULL));
	*rows = DatumGetInt64(store_column(0, 8, NULL));
	return batch;
}

static Sql sql_is_hooked = {
	"SELECT FROM backfill.hooked WHERE run_id = $1 LIMIT 1",
	1, {INT8OID}
};

/* Whether hooks are to be told of any batch. */
bool
store_is_hooked(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return store_sql(&sql_is_hooked, args, NULL) > 0;
}

/*
 * What was reported stays in the row: the batch has no token until a worker takes it, and then
 * one.  The search is a sub-select of its own, so that it is made once.
 */
static Sql sql_take_reported = {
	"UPDATE backfill.batch b SET token = $2, worker = $3, pid = pg_backend_pid() "
	" WHERE run_id = $1 AND (number, part) = ("
	"   SELECT number, part FROM backfill.batch "
	"    WHERE " STORE_OPEN_BATCHES " AND status = 'running' AND token IS NULL "
	"      AND reported IS NOT NULL "
	"    ORDER BY number, part LIMIT 1) "
	"RETURNING b.number, b.part, start_key, end_key, start_inclusive, attempt, crashes, tries, "
	"          rows_scanned, rows_in_scope, reported ->> 'message', reported ->> 'sqlstate', "
	"          (reported ->> 'retryable')::boolean, "
	"          (SELECT array_agg(k.value ORDER BY k.ordinality) "
	"             FROM jsonb_array_elements_text(CASE WHEN jsonb_typeof(reported -> 'key') = 'array' "
	"                                            THEN reported -> 'key' ELSE '[]' END) "
	"                  WITH ORDINALITY k), "
	"          EXISTS (SELECT FROM backfill.error e WHERE e.run_id = $1 AND e.number = b.number "
	"                     AND e.part = b.part)",
	3, {INT8OID, INT8OID, INT4OID}
};

/*
 * Take a batch in hand, as the worker with the token, of which a client has reported an
 * error; NULL if there is none.  Needs the claim lock.
 */
BatchInfo *
store_take_reported(StoreSession *session, int64 run_id, int64 token, int worker,
					LeaseReport *report)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(token),
		Int32GetDatum(worker)
	};
	BatchInfo  *batch;
	bool		isnull;
	Datum		value;

	if (store_sql(&sql_take_reported, args, NULL) == 0)
		return NULL;
	batch = MemoryContextAllocZero(session->caller, sizeof(BatchInfo));
	batch->number = DatumGetInt64(store_column(0, 1, NULL));
	batch->part = DatumGetInt32(store_column(0, 2, NULL));
	batch->start_key = store_varlena(session, 0, 3);
	batch->end_key = store_varlena(session, 0, 4);
	batch->start_inclusive = DatumGetBool(store_column(0, 5, NULL));
	batch->attempt = DatumGetInt32(store_column(0, 6, NULL));
	batch->crashes = DatumGetInt32(store_column(0, 7, NULL));
	batch->tries = DatumGetInt32(store_column(0, 8, NULL));
	batch->rows_scanned = DatumGetInt64(store_column(0, 9, NULL));
	value = store_column(0, 10, &isnull);
	batch->rows_in_scope = isnull ? batch->rows_scanned : DatumGetInt64(value);
	report->message = store_text(session, 0, 11);
	report->sqlstate = store_text(session, 0, 12);
	value = store_column(0, 13, &isnull);
	report->retryable = isnull ? -1 : DatumGetBool(value);
	report->key = store_varlena(session, 0, 14);
	batch->had_error = DatumGetBool(store_column(0, 15, NULL));
	return batch;
}

#define LEASED \
	"SELECT number, part, token, secret, coalesce(rows_in_scope, rows_scanned), " \
	"       coalesce(claimed_by::oid, 0), client, lease FROM backfill.batch "

/* A row of that. */
static LeasedBatch *
read_leased(StoreSession *session, int row)
{
	LeasedBatch *batch = MemoryContextAllocZero(session->caller, sizeof(LeasedBatch));
	bool		isnull;
	Datum		lease;

	batch->number = DatumGetInt64(store_column(row, 1, NULL));
	batch->part = DatumGetInt32(store_column(row, 2, NULL));
	batch->token = DatumGetInt64(store_column(row, 3, NULL));
	batch->secret = *DatumGetUUIDP(store_column(row, 4, NULL));
	batch->rows = DatumGetInt64(store_column(row, 5, NULL));
	batch->role = DatumGetObjectId(store_column(row, 6, NULL));
	batch->client = store_text(session, row, 7);
	lease = store_column(row, 8, &isnull);
	if (!isnull)
	{
		batch->length = MemoryContextAlloc(session->caller, sizeof(Interval));
		*batch->length = *DatumGetIntervalP(lease);
	}
	return batch;
}

static Sql sql_leased_batches = {
	LEASED " WHERE " STORE_OPEN_BATCHES " AND status = 'running' AND secret IS NOT NULL",
	1, {INT8OID}
};

/* All batches of the run in the hands of clients: LeasedBatch. */
List *
store_leased_batches(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	uint64		n = store_sql(&sql_leased_batches, args, NULL);
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(session->caller);

	for (uint64 i = 0; i < n; i++)
		result = lappend(result, read_leased(session, i));
	MemoryContextSwitchTo(old);
	return result;
}

static Sql sql_find_lease = {
	LEASED STORE_LEASE_IS_MINE,
	6, {STORE_LEASE_TYPES}
};

/* The batch in the hands of who shows the token, or NULL. */
LeasedBatch *
store_find_lease(StoreSession *session, int64 run_id, int64 number, int part,
				 const LeaseToken *token, Oid role)
{
	Datum		args[STORE_LEASE_ARGS];

	store_lease_args(args, run_id, number, part, token, role);

	return store_sql(&sql_find_lease, args, NULL) == 0 ? NULL : read_leased(session, 0);
}

static Sql sql_lapse_batch = {
	"UPDATE backfill.batch SET status = CASE WHEN keys IS NULL THEN 'pending' ELSE 'unconfirmed' END, "
	"       secret = CASE WHEN keys IS NOT NULL THEN secret END, "
	"       token = CASE WHEN keys IS NOT NULL THEN token END, " STORE_COUNT_FAILED " "
	" WHERE run_id = $1 AND (number, part) = ("
	"   SELECT number, part FROM backfill.batch "
	"    WHERE run_id = $1 AND number = $2 AND part = $3 AND status = 'running' "
	"      AND token = $4 AND secret IS NOT NULL FOR UPDATE SKIP LOCKED) "
	"RETURNING keys IS NOT NULL",
	4, {INT8OID, INT8OID, INT4OID, INT8OID}
};

static Sql sql_is_out = {
	"SELECT FROM backfill.batch WHERE run_id = $1 AND number = $2 AND part = $3 "
	"   AND status = 'running' AND token = $4 AND secret IS NOT NULL",
	4, {INT8OID, INT8OID, INT4OID, INT8OID}
};

/*
 * The lease with the token is over: the batch is pending again, or, with a ledger, to be
 * closed.  Waits for nobody who is just completing it.
 */
LapseResult
store_lapse_batch(StoreSession *session, int64 run_id, int64 number, int part, int64 token)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int32GetDatum(part),
		Int64GetDatum(token)
	};

	if (store_sql(&sql_lapse_batch, args, NULL) == 1)
		return DatumGetBool(store_column(0, 1, NULL)) ? LAPSE_UNCONFIRMED : LAPSE_DONE;
	return store_sql(&sql_is_out, args, NULL) == 1 ? LAPSE_BUSY : LAPSE_GONE;
}

static Sql sql_set_conditions = {
	"UPDATE backfill.run SET conditions = $2 WHERE id = $1 AND conditions IS DISTINCT FROM $2",
	2, {INT8OID, TEXTARRAYOID}
};

/* How the condition of a batch reads, by the shape of its range. */
void
store_set_conditions(StoreSession *session, int64 run_id, ArrayType *conditions)
{
	Datum		args[] = {Int64GetDatum(run_id), PointerGetDatum(conditions)};

	store_sql(&sql_set_conditions, args, NULL);
}
