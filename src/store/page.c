/*-------------------------------------------------------------------------
 *
 * page.c
 *	  The pages of sources, and the rows of their batches.
 *
 * The batch of a page is there before the page: it says which token is to be asked
 * for.  With the page, what came with it is put down in its row, and the records into
 * backfill.page, which lose them when the batch is done.  The rows of batches alone tell
 * where a source is: nothing is kept that each page would have to change.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/page.h"
#include "store/store.h"

/* ---- the source ---- */

static Sql sql_set_source = {
	"UPDATE backfill.run SET source = $2, source_owner = $3, source_check = $4, "
	"       source_check_owner = $5 WHERE id = $1",
	5, {INT8OID, TEXTOID, OIDOID, TEXTOID, OIDOID}
};

/* The run has that source from now on, or none. */
void
page_set_source(StoreSession *session, int64 run_id, const SourceInfo *source)
{
	char		nulls[] = "     ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		store_text_or_null(source->function, &nulls[1]),
		ObjectIdGetDatum(source->owner),
		store_text_or_null(source->check, &nulls[3]),
		ObjectIdGetDatum(source->check_owner)
	};

	if (!OidIsValid(source->owner))
		nulls[2] = 'n';
	if (!OidIsValid(source->check_owner))
		nulls[4] = 'n';
	store_sql(&sql_set_source, args, nulls);
}

/* ---- which pages there are ---- */

static Sql sql_open = {
	"SELECT number, part, fetched_at IS NOT NULL, status = 'pending', status = 'running', "
	"       crashes, retry_at, error, reported IS NOT NULL AND fetched_at IS NULL, "
	"       reported ->> 'sqlstate' "
	"  FROM backfill.batch "
	" WHERE " STORE_OPEN_BATCHES " AND status <> 'completed' AND NOT skipped "
	" ORDER BY number, (end_key[1])::bigint",
	1, {INT8OID}
};

/* The pages that may not have ended, and parts of such, in their order: PageInfo. */
List *
page_open(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	uint64		n = store_sql(&sql_open, args, NULL);
	MemoryContext old = MemoryContextSwitchTo(session->caller);
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		PageInfo   *page = palloc(sizeof(PageInfo));
		bool		isnull;
		Datum		retry_at = store_column(i, 7, &isnull);

		page->number = DatumGetInt64(store_column(i, 1, NULL));
		page->part = DatumGetInt32(store_column(i, 2, NULL));
		page->is_fetched = DatumGetBool(store_column(i, 3, NULL));
		page->is_pending = DatumGetBool(store_column(i, 4, NULL));
		page->is_running = DatumGetBool(store_column(i, 5, NULL));
		page->crashes = DatumGetInt32(store_column(i, 6, NULL));
		page->retry_at = isnull ? DT_NOBEGIN : DatumGetTimestampTz(retry_at);
		page->error = store_text(session, i, 8);
		page->is_reported = DatumGetBool(store_column(i, 9, NULL));
		page->sqlstate = store_text(session, i, 10);
		result = lappend(result, page);
	}
	MemoryContextSwitchTo(old);
	return result;
}

static Sql sql_end = {
	"SELECT number, fetched_at IS NOT NULL, next_token FROM backfill.batch "
	" WHERE run_id = $1 AND part = 0 ORDER BY number DESC, part DESC LIMIT 1",
	1, {INT8OID}
};

/* The page that was asked for last. */
void
page_end(StoreSession *session, int64 run_id, PageEnd *end)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	memset(end, 0, sizeof(PageEnd));
	if (store_sql(&sql_end, args, NULL) == 0)
		return;
	end->number = DatumGetInt64(store_column(0, 1, NULL));
	end->is_fetched = DatumGetBool(store_column(0, 2, NULL));
	end->next_token = store_varlena(session, 0, 3);
}

/* Whether there is no further page to be asked for. */
bool
page_has_ended(StoreSession *session, int64 run_id)
{
	PageEnd		end;

	page_end(session, run_id, &end);
	return end.is_fetched && end.next_token == NULL;
}

/* ---- taking one ---- */

static Sql sql_take = {
	"UPDATE backfill.batch SET status = 'running', attempt = attempt + 1, "
	"       token = $4, worker = $5, pid = $6, retry_at = NULL, reported = NULL "
	" WHERE run_id = $1 AND number = $2 AND part = $3 AND status = 'pending' "
	"RETURNING start_key, end_key, start_inclusive, attempt, crashes, rows_scanned, "
	"          error IS NOT NULL, tries, fetched_at IS NOT NULL, source_token",
	6, {INT8OID, INT8OID, INT4OID, INT8OID, INT4OID, INT4OID}
};

/*
 * Claim the page, or the part of one, to fetch it or to apply it; NULL if it is not to be had.
 * The caller holds the claim lock.
 */
BatchInfo *
page_take(StoreSession *session, int64 run_id, int64 number, int part, int64 token, int worker)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int32GetDatum(part),
		Int64GetDatum(token),
		Int32GetDatum(worker),
		Int32GetDatum(MyProcPid)
	};
	BatchInfo  *batch;

	if (store_sql(&sql_take, args, NULL) == 0)
		return NULL;
	batch = MemoryContextAllocZero(session->caller, sizeof(BatchInfo));
	batch->number = number;
	batch->part = part;
	batch->start_key = store_varlena(session, 0, 1);
	batch->end_key = store_varlena(session, 0, 2);
	batch->start_inclusive = DatumGetBool(store_column(0, 3, NULL));
	batch->attempt = DatumGetInt32(store_column(0, 4, NULL));
	batch->crashes = DatumGetInt32(store_column(0, 5, NULL));
	batch->rows_scanned = DatumGetInt64(store_column(0, 6, NULL));
	batch->had_error = DatumGetBool(store_column(0, 7, NULL));
	batch->tries = DatumGetInt32(store_column(0, 8, NULL));
	batch->is_fetched = DatumGetBool(store_column(0, 9, NULL));
	batch->source_token = store_varlena(session, 0, 10);
	return batch;
}

static Sql sql_ask = {
	"INSERT INTO backfill.batch (run_id, number, start_key, end_key, start_inclusive, "
	"       status, rows_scanned, token, worker, pid, source_token) "
	"VALUES ($1, $2, '{0}', '{0}', false, 'running', 0, $3, $4, $5, $6)",
	6, {INT8OID, INT8OID, INT8OID, INT4OID, INT4OID, JSONBOID}
};

/* Insert the batch of a page that this process is going to ask for.  Needs the claim lock. */
void
page_ask(StoreSession *session, int64 run_id, const BatchInfo *batch, int64 token, int worker)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		Int32GetDatum(worker),
		Int32GetDatum(MyProcPid),
		PointerGetDatum(batch->source_token)
	};

	store_sql(&sql_ask, args, batch->source_token ? NULL : "     n");
}

static Sql sql_want = {
	"INSERT INTO backfill.batch (run_id, number, start_key, end_key, start_inclusive, "
	"       status, rows_scanned, attempt, source_token) "
	"VALUES ($1, $2, '{0}', '{0}', false, 'pending', 0, 0, $3)",
	3, {INT8OID, INT8OID, JSONBOID}
};

/* Insert the batch of a page that clients are to bring, with that token of the source. */
void
page_want(StoreSession *session, int64 run_id, int64 number, Jsonb *source_token)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		PointerGetDatum(source_token)
	};

	store_sql(&sql_want, args, source_token ? NULL : "  n");
}

static Sql sql_note_call = {
	"UPDATE backfill.batch SET calls = coalesce(calls, 0) + 1, called_at = $4 "
	" WHERE run_id = $1 AND number = $2 AND part = 0 AND status = 'running' AND token = $3",
	4, {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID}
};

/* The source is about to be called for the page in hand.  Returns false if it is not any more. */
bool
page_note_call(StoreSession *session, int64 run_id, const BatchInfo *batch, int64 token)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	return store_sql(&sql_note_call, args, NULL) == 1;
}

/* ---- its records ---- */

static Sql sql_put_batch = {
	"UPDATE backfill.batch SET status = 'pending', token = NULL, attempt = 0, tries = 0, "
	"       crashes = 0, error = NULL, retry_at = NULL, secret = NULL, lease_until = NULL, "
	"       fetched_at = $4, end_key = ARRAY[($5)::text], rows_scanned = $5, next_token = $6 "
	" WHERE run_id = $1 AND number = $2 AND part = 0 AND fetched_at IS NULL "
	"   AND status = 'running' AND token = $3",
	6, {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, JSONBOID}
};

static Sql sql_put_page = {
	"INSERT INTO backfill.page (run_id, number, records) VALUES ($1, $2, $3)",
	3, {INT8OID, INT8OID, JSONBOID}
};

/*
 * The page has come, with so many records: it waits to be applied.  Returns false if the batch
 * is not in the hands of who has that token any more: the transaction must then be rolled back.
 */
bool
page_put(StoreSession *session, int64 run_id, const BatchInfo *batch, int64 token,
		 Jsonb *records, int64 n, Jsonb *next_token)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		TimestampTzGetDatum(GetCurrentTimestamp()),
		Int64GetDatum(n),
		PointerGetDatum(next_token)
	};
	Datum		page[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		JsonbPGetDatum(records)
	};

	if (store_sql(&sql_put_batch, args, next_token ? NULL : "     n") != 1)
		return false;
	store_sql(&sql_put_page, page, NULL);
	return true;
}

static Sql sql_records = {
	"SELECT CASE WHEN $3 = 0 AND $4 = jsonb_array_length(records) THEN records "
	"            WHEN $3 = $4 THEN '[]' "
	"            ELSE jsonb_path_query_array(records, '$[$a to $b]', "
	"                     jsonb_build_object('a', $3, 'b', $4 - 1)) END "
	"  FROM backfill.page WHERE run_id = $1 AND number = $2",
	4, {INT8OID, INT8OID, INT8OID, INT8OID}
};

/* The records of the page behind that ordinal, up to the other one, as an array. */
Jsonb *
page_records(StoreSession *session, int64 run_id, int64 number, int64 after, int64 to)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int64GetDatum(after),
		Int64GetDatum(to)
	};

	if (store_sql(&sql_records, args, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("page " INT64_FORMAT " of backfill run " INT64_FORMAT " is missing",
						number, run_id)));
	return store_varlena(session, 0, 1);
}

static Sql sql_close = {
	"DELETE FROM backfill.page WHERE run_id = $1 AND number = $2 "
	"   AND NOT EXISTS (SELECT FROM backfill.batch "
	"                    WHERE run_id = $1 AND number = $2 AND status <> 'completed')",
	2, {INT8OID, INT8OID}
};

/*
 * A part of the page is done: when all are, the records are not needed any more.  Those that
 * were skipped may be tried again.
 */
void
page_close(StoreSession *session, int64 run_id, int64 number)
{
	Datum		args[] = {Int64GetDatum(run_id), Int64GetDatum(number)};

	store_sql(&sql_close, args, NULL);
}

static Sql sql_delete = {
	"DELETE FROM backfill.page WHERE run_id = $1 "
	"    OR run_id IN (SELECT s.id FROM backfill.stream s WHERE s.run_id = $1)",
	1, {INT8OID}
};

/* Forget the pages of the run, and of its streams. */
void
page_delete(int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_delete, args, NULL);
}
