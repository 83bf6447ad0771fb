/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  The rows of a run with a ledger: handed out, confirmed, settled.
 *
 * A row is put down before a client has it in its hands, and stays there for good: as
 * claimed, until the client confirms that it is done, or a person says what became of it.
 * Only a row that a person has released is handed out again.  A batch whose lease is over
 * while rows of it are not confirmed is "unconfirmed", and nobody's.
 *
 * Keys come as one array of texts, column by column and row by row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "store/ledger.h"
#include "store/lease.h"
#include "store/store.h"

/* The keys of the array, which have so many columns, as rows. */
#define KEYS_OF(array, columns) \
	"SELECT DISTINCT (" array ")[(i - 1) * " columns " + 1 : i * " columns "] AS key " \
	"  FROM generate_series(1, cardinality(" array ") / " columns ") i "

static Sql sql_claim = {
	"INSERT INTO backfill.ledger AS l (run_id, key, number, part, status, token, client, "
	"       claimed_by, claimed_at) "
	"SELECT $1, k.key, $2, $3, 'claimed', $5, $6, $7, clock_timestamp() "
	"  FROM backfill.batch b, LATERAL (" KEYS_OF("b.keys", "$4") ") k "
	" WHERE b.run_id = $1 AND b.number = $2 AND b.part = $3 "
	"ON CONFLICT (run_id, key) DO UPDATE SET number = $2, part = $3, status = 'claimed', "
	"       token = $5, client = $6, claimed_by = $7, claimed_at = clock_timestamp(), "
	"       ended_at = NULL, settled_by = NULL "
	" WHERE l.status = 'released' "
	"RETURNING key",
	7, {INT8OID, INT8OID, INT4OID, INT4OID, INT8OID, TEXTOID, OIDOID}
};

/*
 * Put down the rows of the batch that the client is given; the others have been done, or
 * nobody knows.  Returns their keys, ArrayType.
 */
List *
ledger_claim(StoreSession *session, int64 run_id, int64 number, int part, int nkeys,
			 const LeaseClaim *claim)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int32GetDatum(part),
		Int32GetDatum(nkeys),
		Int64GetDatum(claim->token.number),
		CStringGetTextDatum(claim->client),
		ObjectIdGetDatum(claim->role)
	};
	uint64		n = store_sql(&sql_claim, args, NULL);
	List	   *keys = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		ArrayType  *key = store_varlena(session, i, 1);
		MemoryContext old = MemoryContextSwitchTo(session->caller);

		keys = lappend(keys, key);
		MemoryContextSwitchTo(old);
	}
	return keys;
}

static Sql sql_lock = {
	"SELECT FROM backfill.batch b WHERE b.run_id = $1 AND (b.number, b.part) IN ("
	"   SELECT l.number, l.part FROM (" KEYS_OF("$2", "$3") ") k "
	"     JOIN backfill.ledger l ON l.run_id = $1 AND l.key = k.key) "
	" ORDER BY b.number, b.part FOR NO KEY UPDATE OF b",
	3, {INT8OID, TEXTARRAYOID, INT4OID}
};

/*
 * Wait for whoever changes the batches with these keys, or rows of them: of two who did so
 * at one time, neither would see that all rows are done, and the batch stayed unconfirmed.
 */
static void
lock_batches(StoreSession *session, int64 run_id, ArrayType *keys, int nkeys)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		PointerGetDatum(keys),
		Int32GetDatum(nkeys)
	};

	store_sql(&sql_lock, args, NULL);
}

static Sql sql_find_keys = {
	"SELECT count(*), count(l.key) FROM (" KEYS_OF("$5", "$6") ") k "
	"  LEFT JOIN (backfill.ledger l JOIN backfill.batch b ON b.run_id = l.run_id "
	"             AND b.number = l.number AND b.part = l.part "
	"             AND b.status IN ('running', 'unconfirmed', 'completed') "
	"             AND (b.secret = $3 OR b.status = 'completed') AND b.claimed_by = $4) "
	"    ON l.run_id = $1 AND l.key = k.key AND l.token = $2",
	6, {INT8OID, INT8OID, UUIDOID, OIDOID, TEXTARRAYOID, INT4OID}
};

static Sql sql_confirm = {
	"UPDATE backfill.ledger l SET status = 'confirmed', ended_at = clock_timestamp(), settled_by = NULL "
	"  FROM (" KEYS_OF("$3", "$4") ") k "
	" WHERE l.run_id = $1 AND l.key = k.key AND l.token = $2 AND l.status IN ('claimed', 'released') "
	"RETURNING l.number, l.part",
	4, {INT8OID, INT8OID, TEXTARRAYOID, INT4OID}
};

/*
 * Confirm the rows with these keys, which are out with the token; those that are confirmed
 * already stay so.  Who has done the row knows better than who has said that it was not, as
 * long as nobody else has it.  Returns how many are confirmed by that, or -1 if any is not
 * out with it.
 * Closes the batch if it is nobody's: *done is it, if that makes it done, and otherwise NULL.
 */
int64
ledger_confirm(StoreSession *session, int64 run_id, const LeaseToken *token, Oid role, int nkeys,
			   ArrayType *keys, LedgerDone **done)
{
	Datum		find[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(token->number),
		UUIDPGetDatum(unconstify(pg_uuid_t *, &token->secret)),
		ObjectIdGetDatum(role),
		PointerGetDatum(keys),
		Int32GetDatum(nkeys)
	};
	Datum		confirm[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(token->number),
		PointerGetDatum(keys),
		Int32GetDatum(nkeys)
	};
	int64		n;

	*done = NULL;
	lock_batches(session, run_id, keys, nkeys);
	store_sql(&sql_find_keys, find, NULL);
	if (DatumGetInt64(store_column(0, 1, NULL)) != DatumGetInt64(store_column(0, 2, NULL)))
		return -1;
	n = (int64) store_sql(&sql_confirm, confirm, NULL);
	if (n > 0)
		*done = ledger_close_batch(session, run_id, DatumGetInt64(store_column(0, 1, NULL)),
								   DatumGetInt32(store_column(0, 2, NULL)), "unconfirmed");
	return n;
}

static Sql sql_settle = {
	"UPDATE backfill.ledger l SET status = CASE WHEN $4 THEN 'done' ELSE 'released' END, "
	"       ended_at = clock_timestamp(), settled_by = $5 "
	"  FROM (" KEYS_OF("$2", "$3") ") k "
	" WHERE l.run_id = $1 AND l.key = k.key AND l.status = 'claimed' "
	"RETURNING l.number, l.part",
	5, {INT8OID, TEXTARRAYOID, INT4OID, BOOLOID, TEXTOID}
};

/*
 * Settle the rows with these keys that are claimed and not confirmed.  Returns how many
 * those are.  Closes batches that are nobody's and wait for nothing any more; *done are those
 * that are done by that.
 */
int64
ledger_settle(StoreSession *session, int64 run_id, int nkeys, ArrayType *keys, bool is_done,
			  const char *role, List **done)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		PointerGetDatum(keys),
		Int32GetDatum(nkeys),
		BoolGetDatum(is_done),
		CStringGetTextDatum(role)
	};
	uint64		n;
	int64	   *numbers;
	int		   *parts;

	*done = NIL;
	lock_batches(session, run_id, keys, nkeys);
	n = store_sql(&sql_settle, args, NULL);
	numbers = palloc(sizeof(int64) * Max(n, 1));
	parts = palloc(sizeof(int) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		numbers[i] = DatumGetInt64(store_column(i, 1, NULL));
		parts[i] = DatumGetInt32(store_column(i, 2, NULL));
	}
	for (uint64 i = 0; i < n; i++)
	{
		LedgerDone *closed = NULL;
		MemoryContext old;

		if (i == 0 || numbers[i] != numbers[i - 1] || parts[i] != parts[i - 1])
			closed = ledger_close_batch(session, run_id, numbers[i], parts[i], "unconfirmed");
		if (closed == NULL)
			continue;
		old = MemoryContextSwitchTo(session->caller);
		*done = lappend(*done, closed);
		MemoryContextSwitchTo(old);
	}
	return (int64) n;
}

static Sql sql_close = {
	"WITH s AS (SELECT count(*) FILTER (WHERE status = 'claimed') AS claimed, "
	"                  count(*) FILTER (WHERE status = 'released') AS released, "
	"                  count(*) FILTER (WHERE status IN ('confirmed', 'done')) AS done "
	"             FROM backfill.ledger WHERE run_id = $1 AND number = $2 AND part = $3) "
	"UPDATE backfill.batch b SET "
	"       status = CASE WHEN s.claimed > 0 THEN 'unconfirmed' "
	"                     WHEN s.released > 0 THEN 'pending' ELSE 'completed' END, "
	"       secret = CASE WHEN s.claimed > 0 THEN b.secret END, "
	"       token = CASE WHEN s.claimed > 0 OR s.released = 0 THEN b.token END, "
	"       rows_affected = CASE WHEN s.claimed = 0 AND s.released = 0 THEN s.done END, "
	"       started_at = CASE WHEN s.claimed = 0 AND s.released = 0 THEN coalesce(b.started_at, b.claimed_at) END, "
	"       finished_at = CASE WHEN s.claimed = 0 AND s.released = 0 THEN clock_timestamp() END "
	"  FROM s, backfill.run r WHERE r.id = $1 "
	"   AND b.run_id = $1 AND b.number = $2 AND b.part = $3 AND b.status = $4 "
	"RETURNING b.status = 'completed', r.owner, r.name, b.rows_affected, coalesce(b.wal_bytes, 0), "
	"          coalesce((EXTRACT(epoch FROM b.duration) * 1000000)::bigint, -1)",
	4, {INT8OID, INT8OID, INT4OID, TEXTOID}
};

/*
 * The batch, which has that status, is not in the hands of a client any more: it is done if
 * all of its rows are, pending if any is to be handed out again, and unconfirmed otherwise.
 * Returns it, in the memory context that the session returns to, if it is done, and NULL
 * otherwise.
 */
LedgerDone *
ledger_close_batch(StoreSession *session, int64 run_id, int64 number, int part,
				   const char *status)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int32GetDatum(part),
		CStringGetTextDatum(status)
	};
	LedgerDone *done;

	if (store_sql(&sql_close, args, NULL) == 0 || !DatumGetBool(store_column(0, 1, NULL)))
		return NULL;
	done = MemoryContextAllocZero(session->caller, sizeof(LedgerDone));
	done->owner = DatumGetObjectId(store_column(0, 2, NULL));
	namestrcpy(&done->name, store_text(session, 0, 3));
	done->rows = DatumGetInt64(store_column(0, 4, NULL));
	done->wal_bytes = DatumGetInt64(store_column(0, 5, NULL));
	done->duration = DatumGetInt64(store_column(0, 6, NULL));
	return done;
}

static Sql sql_fail = {
	"UPDATE backfill.batch SET status = 'unconfirmed', error = $7, " STORE_COUNT_FAILED " "
	STORE_LEASE_IS_MINE "AND keys IS NOT NULL",
	7, {STORE_LEASE_TYPES, TEXTOID}
};

/*
 * The client has failed with the batch: what it has not confirmed is for a person.  Returns
 * false if it is not the client's, or the run has no ledger.  *done is the batch if that was
 * nothing, and otherwise NULL.
 */
bool
ledger_fail_batch(StoreSession *session, int64 run_id, int64 number, int part,
				  const LeaseToken *token, Oid role, const char *message, LedgerDone **done)
{
	char		nulls[] = "       ";
	Datum		args[STORE_LEASE_ARGS + 1];

	store_lease_args(args, run_id, number, part, token, role);
	args[STORE_LEASE_ARGS] = store_note_or_null(message, &nulls[6]);

	*done = NULL;
	if (store_sql(&sql_fail, args, nulls) == 0)
		return false;
	*done = ledger_close_batch(session, run_id, number, part, "unconfirmed");
	return true;
}

static Sql sql_unconfirmed = {
	"SELECT count(*) FROM backfill.batch WHERE " STORE_OPEN_BATCHES " AND status = 'unconfirmed'",
	1, {INT8OID}
};

/* How many batches of the run are unconfirmed. */
int64
ledger_unconfirmed(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_unconfirmed, args, NULL);
	return DatumGetInt64(store_column(0, 1, NULL));
}

static Sql sql_delete = {
	"DELETE FROM backfill.ledger WHERE run_id = $1",
	1, {INT8OID}
};

/* Forget the rows of the run. */
void
ledger_delete(int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_delete, args, NULL);
}
