/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  The rows of streams.
 *
 * A stream has a walk of its own: its batches bear its number, which is negative, in the
 * place of that of the run, and what is asked of the batches of a run can be asked of
 * those of a stream by giving that.
 *
 * There may be many streams in a run, and few of them are at work at a time: what is
 * asked often is looked up in the order of their positions, or is about one.
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

#include "store/batch.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"
#include "store/stream.h"

#define STREAM_COLUMNS \
	"id, run_id, position, name, target::oid, status, claimed, weight, bounds, key_types, " \
	"start_key, end_key, cursor, rollup_number, since, until, started_at, wait_reason"

static StreamInfo *
read_stream(StoreSession *session, int row)
{
	StreamInfo *stream = MemoryContextAllocZero(session->caller, sizeof(StreamInfo));
	Datum		value;
	bool		isnull;

	stream->id = DatumGetInt64(store_column(row, 1, NULL));
	stream->run_id = DatumGetInt64(store_column(row, 2, NULL));
	stream->position = DatumGetInt32(store_column(row, 3, NULL));
	stream->name = store_text(session, row, 4);
	value = store_column(row, 5, &isnull);
	stream->target = isnull ? InvalidOid : DatumGetObjectId(value);
	stream->status = status_from_name(store_text(session, row, 6));
	stream->claimed = DatumGetBool(store_column(row, 7, NULL));
	value = store_column(row, 8, &isnull);
	stream->weight = isnull ? 0 : DatumGetFloat8(value);
	stream->bounds = store_varlena(session, row, 9);
	stream->key_types = store_varlena(session, row, 10);
	stream->start_key = store_varlena(session, row, 11);
	stream->end_key = store_varlena(session, row, 12);
	stream->cursor = store_varlena(session, row, 13);
	stream->rollup_number = DatumGetInt64(store_column(row, 14, NULL));
	stream->since = store_time(row, 15);
	stream->until = store_time(row, 16);
	stream->started_at = store_time(row, 17);
	stream->wait_reason = store_text(session, row, 18);
	return stream;
}

/* All that a query has found: StreamInfo. */
static List *
read_streams(StoreSession *session, uint64 n)
{
	MemoryContext old = MemoryContextSwitchTo(session->caller);
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
		result = lappend(result, read_stream(session, i));
	MemoryContextSwitchTo(old);
	return result;
}

/* ---- coming into being ---- */

static Sql sql_insert = {
	"INSERT INTO backfill.stream (run_id, position, name, target, weight, bounds, rows_total) "
	"VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $4 IS NOT NULL THEN $5::bigint END) RETURNING id",
	6, {INT8OID, INT4OID, TEXTOID, OIDOID, FLOAT8OID, JSONBOID}
};

/*
 * Put down a stream that has not begun: its run, position, name, target, weight and bounds.
 * The weight of a partition is an estimate of its rows.  Returns its number.
 */
int64
stream_insert(StoreSession *session, const StreamInfo *stream)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		Int64GetDatum(stream->run_id),
		Int32GetDatum(stream->position),
		CStringGetTextDatum(stream->name),
		ObjectIdGetDatum(stream->target),
		Float8GetDatum(stream->weight),
		PointerGetDatum(stream->bounds)
	};

	if (!OidIsValid(stream->target))
		nulls[3] = 'n';
	if (stream->weight <= 0)
		nulls[4] = 'n';
	if (stream->bounds == NULL)
		nulls[5] = 'n';
	store_sql(&sql_insert, args, nulls);
	return DatumGetInt64(store_column(0, 1, NULL));
}

static Sql sql_last_position = {
	"SELECT coalesce(max(position), 0) FROM backfill.stream WHERE run_id = $1",
	1, {INT8OID}
};

/* The position of the last stream of the run, 0 if there is none. */
int
stream_last_position(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_last_position, args, NULL);
	return DatumGetInt32(store_column(0, 1, NULL));
}

static Sql sql_targets = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream WHERE run_id = $1 AND target IS NOT NULL",
	1, {INT8OID}
};

/* The streams of the run that are partitions: StreamInfo. */
List *
stream_targets(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return read_streams(session, store_sql(&sql_targets, args, NULL));
}

/* ---- looking ---- */

static Sql sql_load = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream WHERE id = $1",
	1, {INT8OID}
};

/* The stream of that number, or NULL. */
StreamInfo *
stream_load(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	return store_sql(&sql_load, args, NULL) == 0 ? NULL : read_stream(session, 0);
}

static Sql sql_find = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream WHERE run_id = $1 AND name = $2",
	2, {INT8OID, TEXTOID}
};

static Sql sql_find_locked = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream WHERE run_id = $1 AND name = $2 "
	"   FOR NO KEY UPDATE",
	2, {INT8OID, TEXTOID}
};

/* The stream of that name in the run, or NULL; locked on demand. */
StreamInfo *
stream_find(StoreSession *session, int64 run_id, const char *name, bool for_update)
{
	Datum		args[] = {Int64GetDatum(run_id), CStringGetTextDatum(name)};

	return store_sql(for_update ? &sql_find_locked : &sql_find, args, NULL) == 0 ? NULL :
		read_stream(session, 0);
}

static Sql sql_next = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream "
	" WHERE run_id = $1 AND position > $2 AND status = 'pending' ORDER BY position LIMIT 1",
	2, {INT8OID, INT4OID}
};

/* The first stream behind that position that has not begun, or is to go on; or NULL. */
StreamInfo *
stream_next(StoreSession *session, int64 run_id, int after)
{
	Datum		args[] = {Int64GetDatum(run_id), Int32GetDatum(after)};

	return store_sql(&sql_next, args, NULL) == 0 ? NULL : read_stream(session, 0);
}

static Sql sql_running = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream "
	" WHERE run_id = $1 AND status = 'running' ORDER BY position",
	1, {INT8OID}
};

/* The streams of the run that have begun and are not done: StreamInfo. */
List *
stream_running(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return read_streams(session, store_sql(&sql_running, args, NULL));
}

static Sql sql_completed = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream "
	" WHERE run_id = $1 AND status = 'completed' ORDER BY position",
	1, {INT8OID}
};

/* The streams of the run that are done: StreamInfo. */
List *
stream_completed(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return read_streams(session, store_sql(&sql_completed, args, NULL));
}

static Sql sql_paused = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream "
	" WHERE run_id = $1 AND status = 'paused' ORDER BY position FOR NO KEY UPDATE",
	1, {INT8OID}
};

/* The streams of the run that are held, locked: StreamInfo. */
List *
stream_paused(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return read_streams(session, store_sql(&sql_paused, args, NULL));
}

static Sql sql_count = {
	"SELECT count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'running'), "
	"       count(*) FILTER (WHERE status = 'running' AND NOT claimed), "
	"       count(*) FILTER (WHERE status = 'paused'), count(*) FILTER (WHERE status = 'failed'), "
	"       count(*) FILTER (WHERE status = 'stopped'), count(*) FILTER (WHERE status = 'completed') "
	"  FROM backfill.stream WHERE run_id = $1",
	1, {INT8OID}
};

/* How many streams of the run stand how. */
void
stream_count(StoreSession *session, int64 run_id, StreamCounts *counts)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_count, args, NULL);
	counts->pending = DatumGetInt64(store_column(0, 1, NULL));
	counts->running = DatumGetInt64(store_column(0, 2, NULL));
	counts->unclaimed = DatumGetInt64(store_column(0, 3, NULL));
	counts->paused = DatumGetInt64(store_column(0, 4, NULL));
	counts->failed = DatumGetInt64(store_column(0, 5, NULL));
	counts->stopped = DatumGetInt64(store_column(0, 6, NULL));
	counts->completed = DatumGetInt64(store_column(0, 7, NULL));
}

static Sql sql_sqlstate = {
	"SELECT sqlstate FROM backfill.stream WHERE run_id = $1 AND status = 'failed' "
	"   AND sqlstate IS NOT NULL ORDER BY position LIMIT 1",
	1, {INT8OID}
};

/* The SQLSTATE of the first stream of the run that has failed. */
int
stream_sqlstate(StoreSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	char	   *text = store_sql(&sql_sqlstate, args, NULL) == 0 ? NULL : store_text(session, 0, 1);

	return text == NULL || strlen(text) != 5 ? ERRCODE_INTERNAL_ERROR :
		MAKE_SQLSTATE(text[0], text[1], text[2], text[3], text[4]);
}

static Sql sql_names = {
	"SELECT string_agg(name, ', ' ORDER BY position) FROM ("
	"  SELECT name, position FROM backfill.stream WHERE run_id = $1 AND status = $2 "
	"   ORDER BY position LIMIT $3) s",
	3, {INT8OID, TEXTOID, INT8OID}
};

/* The names of the streams of the run that have the status, at most so many; or NULL. */
char *
stream_names(StoreSession *session, int64 run_id, RunStatus status, int most)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		CStringGetTextDatum(status_name(status)),
		Int64GetDatum(most)
	};

	store_sql(&sql_names, args, NULL);
	return store_text(session, 0, 1);
}

/* ---- its life ---- */

static Sql sql_begin = {
	"UPDATE backfill.stream SET status = 'running', started_at = coalesce(started_at, $2), "
	"       finished_at = NULL, sqlstate = NULL, error = NULL, wait_reason = NULL "
	" WHERE id = $1 AND status = 'pending'",
	2, {INT8OID, TIMESTAMPTZOID}
};

/* A worker takes the stream, which nobody has had.  False if it is not pending any more. */
bool
stream_begin(StoreSession *session, int64 id, TimestampTz now)
{
	Datum		args[] = {Int64GetDatum(id), TimestampTzGetDatum(now)};

	return store_sql(&sql_begin, args, NULL) == 1;
}

static Sql sql_set_ends = {
	"UPDATE backfill.stream SET key_types = $2, start_key = $3, end_key = $4, "
	"       rows_total = nullif($5, -1) WHERE id = $1",
	5, {INT8OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID}
};

/* Remember the ends of its walk, and the estimate of its rows; -1 if nobody knows. */
void
stream_set_ends(StoreSession *session, int64 id, ArrayType *key_types, ArrayType *start_key,
				ArrayType *end_key, double rows)
{
	Datum		args[] = {
		Int64GetDatum(id),
		PointerGetDatum(key_types),
		PointerGetDatum(start_key),
		PointerGetDatum(end_key),
		Int64GetDatum((int64) rows)
	};

	store_sql(&sql_set_ends, args, NULL);
}

static Sql sql_set_claimed = {
	"UPDATE backfill.stream SET claimed = true WHERE id = $1 AND NOT claimed",
	1, {INT8OID}
};

/* Every range of the stream is claimed. */
void
stream_set_claimed(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	store_sql(&sql_set_claimed, args, NULL);
}

static Sql sql_set_status = {
	"UPDATE backfill.stream SET status = $2, wait_reason = NULL, "
	"       rows_total = CASE WHEN $2 = 'completed' THEN rows_scanned ELSE rows_total END, "
	"       cursor = CASE WHEN $2 = 'completed' "
	"                 AND (SELECT r.source IS NULL FROM backfill.run r WHERE r.id = run_id) "
	"                THEN coalesce(cursor, "
	"                to_jsonb((SELECT b.end_key FROM backfill.batch b WHERE b.run_id = $1 "
	"                           ORDER BY b.number DESC, b.part LIMIT 1))) ELSE cursor END, "
	"       finished_at = CASE WHEN $2 IN ('completed', 'failed', 'stopped') THEN $3 END "
	" WHERE id = $1",
	3, {INT8OID, TEXTOID, TIMESTAMPTZOID}
};

/*
 * Set the status; one that is done has been added up, and its cursor need not be looked for
 * any more.
 */
void
stream_set_status(StoreSession *session, int64 id, RunStatus status)
{
	Datum		args[] = {
		Int64GetDatum(id),
		CStringGetTextDatum(status_name(status)),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	store_sql(&sql_set_status, args, NULL);
}

static Sql sql_set_error = {
	"UPDATE backfill.stream SET status = 'failed', sqlstate = $2, error = $3, finished_at = $4, "
	"       wait_reason = NULL WHERE id = $1",
	4, {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

/* The stream fails with the error. */
void
stream_set_error(StoreSession *session, int64 id, const RunError *error)
{
	char		nulls[] = "    ";
	Datum		args[] = {
		Int64GetDatum(id),
		store_text_or_null(error->sqlstate, &nulls[1]),
		store_note_or_null(error->message, &nulls[2]),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	store_sql(&sql_set_error, args, nulls);
}

static Sql sql_walked = {
	"SELECT id FROM backfill.stream WHERE run_id = $1 AND end_key IS NOT NULL ORDER BY position",
	1, {INT8OID}
};

/* The numbers of the streams of the run whose ends are known; as many as *n. */
int64 *
stream_walked(StoreSession *session, int64 run_id, int *n)
{
	Datum		args[] = {Int64GetDatum(run_id)};
	int64	   *ids;

	*n = (int) store_sql(&sql_walked, args, NULL);
	ids = MemoryContextAlloc(session->caller, sizeof(int64) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		ids[i] = DatumGetInt64(store_column(i, 1, NULL));
	return ids;
}

/* Add the batches of the run up, in its row, or in those of its streams that are at work. */
void
stream_rollup_run(StoreSession *session, const RunInfo *run)
{
	ListCell   *lc;

	if (!run->has_streams)
	{
		store_rollup(session, run->id);
		return;
	}
	foreach(lc, stream_running(session, run->id))
		store_rollup(session, ((StreamInfo *) lfirst(lc))->id);
}

/*
 * Make running batches of the run pending whose worker is none of the living, as
 * store_recover_batches does, in all of its streams that are at work.  Returns their number.
 */
int
stream_recover(StoreSession *session, const RunInfo *run, const BatchClaimants *claimants,
			   BatchCulprit *worst)
{
	int			n = 0;
	ListCell   *lc;

	memset(worst, 0, sizeof(BatchCulprit));
	if (!run->has_streams)
		return store_recover_batches(session, run->id, claimants, &worst->number, &worst->crashes);
	foreach(lc, stream_running(session, run->id))
	{
		const StreamInfo *stream = (const StreamInfo *) lfirst(lc);
		int64		number;
		int			crashes;

		n += store_recover_batches(session, stream->id, claimants, &number, &crashes);
		if (crashes > worst->crashes)
			*worst = (BatchCulprit) {number, crashes, stream->name};
	}
	return n;
}

/* ---- again ---- */

static Sql sql_ended = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream "
	" WHERE run_id = $1 AND status IN ('failed', 'stopped', 'paused')",
	1, {INT8OID}
};

/*
 * Have what the stream left undone done again, by whoever comes to take it.  Returns the
 * number of its batches that are to be done again.
 */
int64
stream_reopen(StoreSession *session, int64 id)
{
	int64		batches = store_reopen_batches(session, id);

	store_mark_resumed(session, id);
	stream_set_status(session, id, RUN_PENDING);
	return batches;
}

/*
 * Have the batches of the run done again that were given back; with "ended", also the streams
 * that failed, or were stopped or paused.
 */
void
stream_reopen_run(StoreSession *session, const RunInfo *run, bool ended)
{
	Datum		args[] = {Int64GetDatum(run->id)};
	ListCell   *lc;

	if (!run->has_streams)
	{
		(void) store_reopen_batches(session, run->id);
		return;
	}
	foreach(lc, stream_running(session, run->id))
		(void) store_reopen_batches(session, ((StreamInfo *) lfirst(lc))->id);
	if (!ended)
		return;
	foreach(lc, read_streams(session, store_sql(&sql_ended, args, NULL)))
		(void) stream_reopen(session, ((StreamInfo *) lfirst(lc))->id);
}

static Sql sql_with_errors = {
	"SELECT " STREAM_COLUMNS " FROM backfill.stream s WHERE run_id = $1 "
	"   AND EXISTS (SELECT FROM backfill.error e WHERE e.run_id = s.id AND e.resolved_at IS NULL)",
	1, {INT8OID}
};

static Sql sql_unverified = {
	"UPDATE backfill.run SET verified = false WHERE id = $1",
	1, {INT8OID}
};

/* Have the rows of the run done again that were skipped, whatever stream they are in.  Returns their number. */
int64
stream_reopen_skipped(StoreSession *session, const RunInfo *run)
{
	Datum		args[] = {Int64GetDatum(run->id)};
	List	   *streams;
	ListCell   *lc;
	int64		rows = 0;

	if (!run->has_streams)
		return store_reopen_skipped(session, run->id);
	streams = read_streams(session, store_sql(&sql_with_errors, args, NULL));

	foreach(lc, streams)
		rows += store_reopen_skipped(session, ((StreamInfo *) lfirst(lc))->id);
	if (rows > 0)
		store_sql(&sql_unverified, args, NULL);
	return rows;
}

/* ---- the end ---- */

static Sql sql_delete_errors = {
	"DELETE FROM backfill.error e USING backfill.stream s WHERE s.run_id = $1 AND e.run_id = s.id",
	1, {INT8OID}
};

static Sql sql_delete_batches = {
	"DELETE FROM backfill.batch b USING backfill.stream s WHERE s.run_id = $1 AND b.run_id = s.id",
	1, {INT8OID}
};

static Sql sql_delete = {
	"DELETE FROM backfill.stream WHERE run_id = $1",
	1, {INT8OID}
};

/* Forget the streams of the run, with their batches. */
void
stream_delete(int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	store_sql(&sql_delete_errors, args, NULL);
	store_sql(&sql_delete_batches, args, NULL);
	store_sql(&sql_delete, args, NULL);
}
