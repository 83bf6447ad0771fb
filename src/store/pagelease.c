/*-------------------------------------------------------------------------
 *
 * pagelease.c
 *	  The pages of sources that clients are to bring.
 *
 * The batch of such a page is pending until a client claims it, to fetch it.  Until when it is
 * the client's stands in its row, whatever is preloaded: pages are few beside the calls that
 * they take, and a lease in the row outlives the server.
 *
 * The run may have streams: then its pages are those of them that are running.
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

#include "store/event.h"
#include "store/pagelease.h"
#include "store/store.h"

/* The walks of the run. */
#define WALKS \
	"(SELECT r.id, NULL::text AS name, r.rollup_number FROM backfill.run r " \
	"  WHERE r.id = $1 AND r.streams IS NULL " \
	"  UNION ALL " \
	" SELECT s.id, s.name, s.rollup_number FROM backfill.stream s " \
	"  WHERE s.run_id = $1 AND s.status = 'running') w "

/* Its pages that are to be fetched, and are in nobody's hands. */
#define WANTED_PAGES \
	WALKS "JOIN backfill.batch b ON b.run_id = w.id AND b.number > w.rollup_number AND b.part = 0 " \
	"      AND b.status = 'pending' AND b.fetched_at IS NULL AND b.reported IS NULL "

static Sql sql_find = {
	"SELECT b.tableoid, b.ctid, b.run_id, w.name, b.number, b.source_token FROM " WANTED_PAGES
	" WHERE (b.retry_at IS NULL OR b.retry_at <= $3 OR b.retry_at > $3 + interval '25 hours') "
	"   AND (SELECT count(DISTINCT o.number) FROM backfill.batch o "
	"         WHERE o.run_id = w.id AND o.number > w.rollup_number AND o.fetched_at IS NOT NULL "
	"           AND o.status <> 'completed' AND NOT o.skipped) <= $2 "
	" ORDER BY b.number, b.run_id DESC",
	3, {INT8OID, INT8OID, TIMESTAMPTZOID}
};

/*
 * Find a page that may be fetched now, beside at most so many that wait and the one that is
 * applied, and lock its batch.  Returns false if there is none.
 */
bool
pagelease_find(StoreSession *session, int64 run_id, int64 prefetch, PageWanted *wanted)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(prefetch),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};
	int			row = store_lock_first(&sql_find, args, NULL);

	if (row < 0)
		return false;
	wanted->walk_id = DatumGetInt64(store_column(row, 3, NULL));
	wanted->stream = store_text(session, row, 4);
	wanted->number = DatumGetInt64(store_column(row, 5, NULL));
	wanted->token = store_varlena(session, row, 6);
	return true;
}

static Sql sql_due = {
	"SELECT min(b.retry_at) FROM " WANTED_PAGES,
	1, {INT8OID}
};

/* When the first page is to be tried again; DT_NOEND if none waits for that. */
TimestampTz
pagelease_due(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	bool		isnull;
	Datum		due;

	store_sql(&sql_due, args, NULL);
	due = store_column(0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(due);
}

/* The batches of the run, or of its streams, that may not have ended. */
#define OPEN_BATCHES \
	"backfill.batch b " \
	" WHERE (b.run_id = $1 OR b.run_id IN (SELECT s.id FROM backfill.stream s WHERE s.run_id = $1)) " \
	"   AND b.number > (SELECT w.rollup_number FROM backfill.walk w WHERE w.id = b.run_id) "

/* The batch of the number that is out with the token: of the run, or of one of its streams. */
#define HELD_BY_TOKEN \
	"FROM backfill.batch b " \
	" WHERE (b.run_id = $1 OR b.run_id IN (SELECT s.id FROM backfill.stream s WHERE s.run_id = $1)) " \
	"   AND b.number = $2 AND b.part = 0 AND b.status = 'running' AND b.token = $3 AND b.secret = $4 " \
	"   AND b.fetched_at IS NULL "

static Sql sql_number = {
	"SELECT b.number, (SELECT s.name FROM backfill.stream s WHERE s.id = b.run_id) "
	"  FROM " OPEN_BATCHES " AND b.status = 'running' AND b.token = $2 AND b.fetched_at IS NULL",
	2, {INT8OID, INT8OID}
};

/*
 * The number of the page that is out with the token, whoever has it, and the name of its stream,
 * NULL for none.
 */
bool
pagelease_number(StoreSession *session, int64 run_id, const LeaseToken *token, int64 *number,
				 char **stream)
{
	Datum		args[] = {Int64GetDatum(run_id), Int64GetDatum(token->number)};

	if (store_sql(&sql_number, args, NULL) == 0)
		return false;
	*number = DatumGetInt64(store_column(0, 1, NULL));
	*stream = store_text(session, 0, 2);
	return true;
}

static Sql sql_hold = {
	"SELECT b.run_id, b.tries, b.source_token " HELD_BY_TOKEN
	"   AND b.claimed_by = $5 AND b.lease_until > clock_timestamp() FOR NO KEY UPDATE",
	5, {INT8OID, INT8OID, INT8OID, UUIDOID, OIDOID}
};

/*
 * Lock the page if it is in the hands of who shows the token, in time, so that nobody takes it
 * back before the transaction ends.
 */
bool
pagelease_hold(StoreSession *session, int64 run_id, int64 number, const LeaseToken *token,
			   Oid role, PageHeld *held)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int64GetDatum(token->number),
		UUIDPGetDatum(unconstify(pg_uuid_t *, &token->secret)),
		ObjectIdGetDatum(role)
	};

	if (store_sql(&sql_hold, args, NULL) == 0)
		return false;
	held->walk_id = DatumGetInt64(store_column(0, 1, NULL));
	held->number = number;
	held->tries = DatumGetInt32(store_column(0, 2, NULL));
	held->token = store_varlena(session, 0, 3);
	return true;
}

static Sql sql_is_page = {
	"SELECT b.run_id " HELD_BY_TOKEN "AND b.lease_until IS NOT NULL "
	"   AND EXISTS (SELECT FROM backfill.run r WHERE r.id = $1 AND r.source IS NOT NULL)",
	4, {INT8OID, INT8OID, INT8OID, UUIDOID}
};

/* Whether what is out with the token is a page; *walk_id becomes what its batch has for a run. */
bool
pagelease_is_page(StoreSession *session, int64 run_id, int64 number, const LeaseToken *token,
				  int64 *walk_id)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int64GetDatum(token->number),
		UUIDPGetDatum(unconstify(pg_uuid_t *, &token->secret))
	};

	if (store_sql(&sql_is_page, args, NULL) == 0)
		return false;
	*walk_id = DatumGetInt64(store_column(0, 1, NULL));
	return true;
}

static Sql sql_report = {
	"UPDATE backfill.batch SET status = 'pending', secret = NULL, token = NULL, lease_until = NULL, "
	"       retry_at = $3, error = $4, tries = tries + CASE WHEN $5 THEN 1 ELSE 0 END, "
	"       reported = CASE WHEN $3 IS NULL "
	"                  THEN jsonb_build_object('message', $4, 'sqlstate', $6) END "
	" WHERE run_id = $1 AND number = $2 AND part = 0",
	6, {INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, BOOLOID, TEXTOID}
};

/*
 * The client has failed with the page: it is to be tried again at that time or, with
 * DT_NOBEGIN, a worker is to fail the run because of it.
 */
void
pagelease_report(StoreSession *session, const PageHeld *held, TimestampTz retry_at, bool counts,
				 const LeaseReport *report)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		Int64GetDatum(held->walk_id),
		Int64GetDatum(held->number),
		TimestampTzGetDatum(retry_at),
		store_note_or_null(report->message, &nulls[3]),
		BoolGetDatum(counts),
		store_text_or_null(report->sqlstate, &nulls[5])
	};

	if (TIMESTAMP_IS_NOBEGIN(retry_at))
		nulls[2] = 'n';
	store_sql(&sql_report, args, nulls);
}

static Sql sql_lapse = {
	"WITH found AS ("
	"   SELECT b.run_id, b.number, b.client FROM " OPEN_BATCHES
	"      AND b.status = 'running' AND b.secret IS NOT NULL AND b.fetched_at IS NULL "
	"      AND ($2 OR b.lease_until <= clock_timestamp()) FOR NO KEY UPDATE SKIP LOCKED) "
	"UPDATE backfill.batch b SET status = 'pending', secret = NULL, token = NULL, lease_until = NULL "
	"  FROM found f WHERE b.run_id = f.run_id AND b.number = f.number AND b.part = 0 "
	"RETURNING b.number, f.client, (SELECT s.name FROM backfill.stream s WHERE s.id = b.run_id)",
	2, {INT8OID, BOOLOID}
};

/*
 * Take back the pages of the run whose leases are over, or all that clients have, and put that
 * down.  Waits for nobody who is just bringing one.  Returns their number.
 */
int64
pagelease_lapse(StoreSession *session, const RunInfo *run, bool all)
{
	Datum		args[] = {Int64GetDatum(run->id), BoolGetDatum(all)};
	uint64		n = store_sql(&sql_lapse, args, NULL);
	BatchInfo  *batches = palloc0(sizeof(BatchInfo) * Max(n, 1));
	EventInfo  *events = palloc0(sizeof(EventInfo) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
	{
		batches[i].number = DatumGetInt64(store_column(i, 1, NULL));
		events[i].kind = "takeover";
		events[i].batch = &batches[i];
		events[i].stream = store_text(session, i, 3);
		events[i].reason = psprintf(all ? "taken from client \"%s\", because the run is to stop at once" :
									"the lease of client \"%s\" ran out", store_text(session, i, 2));
	}
	for (uint64 i = 0; i < n; i++)
		store_add_event(session, run, &events[i]);
	return (int64) n;
}
