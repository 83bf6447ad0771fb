/*-------------------------------------------------------------------------
 *
 * run.c
 *	  The rows of runs.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/definition.h"
#include "store/ledger.h"
#include "store/page.h"
#include "store/run.h"
#include "store/share.h"
#include "store/status.h"
#include "store/store.h"

/* What says how a run stands, and nothing that may be long. */
#define RUN_HEAD \
	"id, name, status, requested, immediate, owner::oid, " \
	"backfill.is_local(database, system_identifier), target::oid, settings, " \
	"start_at, end_key, wait_reason, finish IS NOT NULL, finish_step, verified, " \
	"started_at, since, requested_by, request_reason, error, sqlstate, " \
	"rollup_number, followers IS NOT NULL, \"after\", batch_size, throttled_by, closings, " \
	"pass_after, key, generic, resumed_number, resumed_at, prepare IS NOT NULL, prepare_step, " \
	"dormant, statement IS NULL, settings ? 'share_by', streams IS NOT NULL, until, " \
	STORE_SOURCE_COLUMNS
#define RUN_HEAD_COLUMNS 43

/* The owner's texts and values, which only who runs or changes them needs. */
#define RUN_TEXTS \
	", statement, scope, search_path, key_types, start_key, parameters, " \
	"parameter_types, followers, conditions, streams, prepare, finish"

/* ---- runs ---- */

static Sql sql_insert_run = {
	"INSERT INTO backfill.run (name, status, owner, started_by, database, "
	"       system_identifier, target, statement, scope, key, settings, "
	"       search_path, start_at, parameters, parameter_types, finish, "
	"       followers, \"after\", prepare, generic, streams, dormant) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, "
	"       $17, $18, $19, $20, $21, $2 = 'paused') RETURNING id",
	21, {TEXTOID, TEXTOID, OIDOID, OIDOID, OIDOID, INT8OID, OIDOID, TEXTOID,
	TEXTOID, TEXTOID, JSONBOID, TEXTOID, TIMESTAMPTZOID, JSONBOID, JSONBOID, TEXTOID,
	JSONBOID, INT8ARRAYOID, TEXTOID, BOOLOID, TEXTOID}
};

/* Insert a run of the definition.  Returns its id. */
int64
store_insert_run(StoreSession *session, const DefinitionInfo *def,
				   Oid started_by, Jsonb *parameters, Jsonb *parameter_types,
				   Jsonb *settings, RunStatus status, TimestampTz start_at,
				   ArrayType *after)
{
	char		nulls[] = "                     ";
	Datum		args[] = {
		CStringGetTextDatum(def->name),
		CStringGetTextDatum(status_name(status)),
		ObjectIdGetDatum(def->owner),
		ObjectIdGetDatum(started_by),
		ObjectIdGetDatum(MyDatabaseId),
		Int64GetDatum((int64) GetSystemIdentifier()),
		ObjectIdGetDatum(def->target),
		store_text_or_null(def->statement, &nulls[7]),
		store_text_or_null(def->scope, &nulls[8]),
		store_text_or_null(def->key, &nulls[9]),
		JsonbPGetDatum(settings),
		CStringGetTextDatum(def->search_path),
		TimestampTzGetDatum(start_at),
		JsonbPGetDatum(parameters),
		JsonbPGetDatum(parameter_types),
		store_text_or_null(def->stages[STAGE_FINISH], &nulls[15]),
		PointerGetDatum(def->followers),
		PointerGetDatum(after),
		store_text_or_null(def->stages[STAGE_PREPARE], &nulls[18]),
		BoolGetDatum(def->generic),
		store_text_or_null(def->streams, &nulls[20])
	};

	if (def->followers == NULL)
		nulls[16] = 'n';
	if (after == NULL)
		nulls[17] = 'n';

	if (TIMESTAMP_IS_NOBEGIN(start_at))
		nulls[12] = 'n';
	store_sql(&sql_insert_run, args, nulls);
	return DatumGetInt64(store_column(0, 1, NULL));
}

static RunInfo *
read_head(StoreSession *session, int row)
{
	RunInfo    *run = MemoryContextAllocZero(session->caller, sizeof(RunInfo));
	char	   *requested;
	Datum		batch_size;
	bool		isnull;

	run->id = DatumGetInt64(store_column(row, 1, NULL));
	run->name = store_text(session, row, 2);
	run->status = status_from_name(store_text(session, row, 3));
	requested = store_text(session, row, 4);
	run->is_requested = requested != NULL;
	if (requested)
		run->requested = status_from_name(requested);
	run->immediate = DatumGetBool(store_column(row, 5, NULL));
	run->owner = DatumGetObjectId(store_column(row, 6, NULL));
	run->is_local = DatumGetBool(store_column(row, 7, NULL));
	run->target = DatumGetObjectId(store_column(row, 8, NULL));
	run->settings = store_varlena(session, row, 9);
	run->start_at = store_time(row, 10);
	run->end_key = store_varlena(session, row, 11);
	run->wait_reason = store_text(session, row, 12);
	run->stages[STAGE_FINISH].is_given = DatumGetBool(store_column(row, 13, NULL));
	run->stages[STAGE_FINISH].step = DatumGetInt32(store_column(row, 14, NULL));
	run->verified = DatumGetBool(store_column(row, 15, NULL));
	run->started_at = store_time(row, 16);
	run->since = store_time(row, 17);
	run->requested_by = store_text(session, row, 18);
	run->request_reason = store_text(session, row, 19);
	run->error = store_text(session, row, 20);
	run->sqlstate = store_text(session, row, 21);
	run->rollup_number = DatumGetInt64(store_column(row, 22, NULL));
	run->has_followers = DatumGetBool(store_column(row, 23, NULL));
	run->after = store_varlena(session, row, 24);
	batch_size = store_column(row, 25, &isnull);
	run->batch_size = isnull ? 0 : DatumGetInt64(batch_size);
	run->throttled_by = store_text(session, row, 26);
	run->closings = DatumGetInt32(store_column(row, 27, NULL));
	run->pass_after = DatumGetInt64(store_column(row, 28, NULL));
	run->key = store_text(session, row, 29);
	run->generic = DatumGetBool(store_column(row, 30, NULL));
	run->resumed_number = DatumGetInt64(store_column(row, 31, NULL));
	run->resumed_at = store_time(row, 32);
	run->stages[STAGE_PREPARE].is_given = DatumGetBool(store_column(row, 33, NULL));
	run->stages[STAGE_PREPARE].step = DatumGetInt32(store_column(row, 34, NULL));
	run->is_dormant = DatumGetBool(store_column(row, 35, NULL));
	run->by_clients = DatumGetBool(store_column(row, 36, NULL));
	run->has_shares = DatumGetBool(store_column(row, 37, NULL));
	run->has_streams = DatumGetBool(store_column(row, 38, NULL));
	run->until = store_time(row, 39);
	store_read_source(session, row, 40, &run->source);
	return run;
}

static RunInfo *
read_run(StoreSession *session, int row)
{
	RunInfo    *run = read_head(session, row);
	int			n = RUN_HEAD_COLUMNS;

	run->statement = store_text(session, row, ++n);
	run->scope = store_text(session, row, ++n);
	run->search_path = store_text(session, row, ++n);
	run->key_types = store_varlena(session, row, ++n);
	run->start_key = store_varlena(session, row, ++n);
	run->parameters = store_varlena(session, row, ++n);
	run->parameter_types = store_varlena(session, row, ++n);
	run->followers = store_varlena(session, row, ++n);
	run->conditions = store_varlena(session, row, ++n);
	run->streams = store_text(session, row, ++n);
	for (int i = 0; i < STAGES; i++)
		run->stages[i].text = store_text(session, row, ++n);
	return run;
}

static Sql sql_load_run_locked = {
	"SELECT " RUN_HEAD RUN_TEXTS " FROM backfill.run WHERE id = $1 FOR NO KEY UPDATE",
	1, {INT8OID}
};

static Sql sql_load_run = {
	"SELECT " RUN_HEAD RUN_TEXTS " FROM backfill.run WHERE id = $1",
	1, {INT8OID}
};

/* The run with that id, or NULL; locked on demand. */
RunInfo *
store_load_run(StoreSession *session, int64 id, bool for_update)
{
	Datum		args[] = {Int64GetDatum(id)};

	if (store_sql(for_update ? &sql_load_run_locked : &sql_load_run, args, NULL) == 0)
		return NULL;
	return read_run(session, 0);
}

/* The head of a run, by one of the queries, or NULL. */
static RunInfo *
load_head(StoreSession *session, Sql *sql, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	return store_sql(sql, args, NULL) == 0 ? NULL : read_head(session, 0);
}

static Sql sql_try_run = {
	"SELECT " RUN_HEAD " FROM backfill.run WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED",
	1, {INT8OID}
};

/* The head of the run, locked; NULL also when somebody else has it locked. */
RunInfo *
store_try_run(StoreSession *session, int64 id)
{
	return load_head(session, &sql_try_run, id);
}

static Sql sql_lock_run = {
	"SELECT " RUN_HEAD " FROM backfill.run WHERE id = $1 FOR NO KEY UPDATE",
	1, {INT8OID}
};

/* The head of the run, locked. */
RunInfo *
store_lock_run(StoreSession *session, int64 id)
{
	return load_head(session, &sql_lock_run, id);
}

static Sql sql_active_runs = {
	"SELECT id, status, requested IS NOT NULL, start_at FROM backfill.run "
	" WHERE (status IN ('pending', 'enqueued', 'running') OR requested IS NOT NULL) "
	"   AND backfill.is_local(database, system_identifier) ORDER BY id",
	0
};

/* The runs of this database that the scheduler has to look after: RunDue. */
List *
store_active_runs(StoreSession *session)
{
	uint64		n = store_sql(&sql_active_runs, NULL, NULL);
	MemoryContext old = MemoryContextSwitchTo(session->caller);
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		RunDue	   *due = palloc(sizeof(RunDue));

		due->id = DatumGetInt64(store_column(i, 1, NULL));
		due->status = status_from_name(TextDatumGetCString(store_column(i, 2, NULL)));
		due->is_requested = DatumGetBool(store_column(i, 3, NULL));
		due->start_at = store_time(i, 4);
		result = lappend(result, due);
	}
	MemoryContextSwitchTo(old);
	return result;
}

/* The rows of a query for ids and owners, in the caller's memory; as many as *n. */
static RunOwner *
read_owners(StoreSession *session, Sql *sql, Datum *args, uint64 *n)
{
	RunOwner   *result;

	*n = store_sql(sql, args, NULL);
	result = MemoryContextAllocHuge(session->caller, sizeof(RunOwner) * Max(*n, 1));
	for (uint64 i = 0; i < *n; i++)
	{
		result[i].id = DatumGetInt64(store_column(i, 1, NULL));
		result[i].owner = DatumGetObjectId(store_column(i, 2, NULL));
	}
	return result;
}

static Sql sql_control_runs = {
	"SELECT id, owner::oid FROM backfill.run "
	" WHERE status IN ('pending', 'enqueued', 'running', 'paused') "
	" ORDER BY id",
	0
};

/* The runs that can be stopped, those of copies included. */
RunOwner *
store_control_runs(StoreSession *session, uint64 *n)
{
	return read_owners(session, &sql_control_runs, NULL, n);
}

static Sql sql_run_owners = {
	"SELECT a.id, coalesce(r.owner::oid, 0) FROM unnest($1) a(id) "
	"  LEFT JOIN backfill.run r ON r.id = a.id ORDER BY a.id",
	1, {INT8ARRAYOID}
};

/* Whose the runs are; nobody's, InvalidOid, where there is none. */
RunOwner *
store_run_owners(StoreSession *session, ArrayType *ids, uint64 *n)
{
	Datum		args[] = {PointerGetDatum(ids)};

	return read_owners(session, &sql_run_owners, args, n);
}

static Sql sql_delete_errors = {
	"DELETE FROM backfill.error WHERE run_id = $1",
	1, {INT8OID}
};

static Sql sql_delete_hooked = {
	"DELETE FROM backfill.hooked WHERE run_id = $1",
	1, {INT8OID}
};

static Sql sql_delete_batches = {
	"DELETE FROM backfill.batch WHERE run_id = $1",
	1, {INT8OID}
};

static Sql sql_delete_run = {
	"DELETE FROM backfill.run WHERE id = $1",
	1, {INT8OID}
};

/* Delete a run with its batches; its streams are deleted before. */
void
store_delete_run(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	page_delete(id);
	ledger_delete(id);
	share_delete(id);
	store_sql(&sql_delete_hooked, args, NULL);
	store_sql(&sql_delete_errors, args, NULL);
	store_sql(&sql_delete_batches, args, NULL);
	store_sql(&sql_delete_run, args, NULL);
}

static Sql sql_set_status = {
	"UPDATE backfill.run r SET status = $2, requested = NULL, immediate = false, "
	"       requested_by = NULL, request_reason = NULL, closings = 0, dormant = false, "
	"       wait_reason = NULL, "
	"       throttled_by = CASE WHEN $2 = 'running' THEN throttled_by END, "
	"       throttled_since = CASE WHEN $2 = 'running' THEN throttled_since END, "
	"       throttle_times = CASE WHEN throttled_by IS NULL OR $2 = 'running' THEN throttle_times "
	"                        ELSE " STORE_THROTTLED_UNTIL("$3") " END, "
	"       started_at = CASE WHEN $2 = 'running' THEN coalesce(started_at, $3) ELSE started_at END, "
	"       since = CASE WHEN $2 = 'running' AND started_at IS NULL "
	"               THEN (SELECT max(coalesce(p.until, p.started_at)) FROM backfill.run p "
	"                      WHERE p.name = r.name AND p.owner = r.owner "
	"                        AND (NOT r.generic OR p.target = r.target) "
	"                        AND p.status = 'completed') ELSE since END, "
	"       finished_at = CASE WHEN $2 IN ('completed', 'failed', 'stopped') THEN $3 END, "
	"       rows_total = CASE WHEN $2 = 'completed' THEN rows_scanned ELSE rows_total END, "
	"       sqlstate = CASE WHEN $2 = 'failed' THEN sqlstate END, "
	"       error = CASE WHEN $2 = 'failed' THEN error END, "
	"       error_detail = CASE WHEN $2 = 'failed' THEN error_detail END, "
	"       error_hint = CASE WHEN $2 = 'failed' THEN error_hint END, "
	"       error_context = CASE WHEN $2 = 'failed' THEN error_context END "
	" WHERE id = $1",
	3, {INT8OID, TEXTOID, TIMESTAMPTZOID}
};

/* Set the status, with the times that go with it; clears any request. */
void
store_set_status(StoreSession *session, int64 id, RunStatus status)
{
	Datum		args[] = {
		Int64GetDatum(id),
		CStringGetTextDatum(status_name(status)),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	store_sql(&sql_set_status, args, NULL);
}

static Sql sql_request = {
	"UPDATE backfill.run SET requested = $2, immediate = $3, requested_by = $4, "
	"       request_reason = $5, "
	"       wait_reason = CASE WHEN $2 IS NOT NULL THEN wait_reason END, "
	"       rows_total = CASE WHEN $2 = 'completed' THEN rows_scanned ELSE rows_total END "
	" WHERE id = $1",
	5, {INT8OID, TEXTOID, BOOLOID, TEXTOID, TEXTOID}
};

/*
 * Ask for a status that the run takes when its workers have let go.  The role
 * that asks, and how it does, go with it; NULL for backfill itself.  Who asks for
 * it to be completed has added up all of its batches: the rows in the walk are
 * no estimate from then on.
 */
void
store_request(StoreSession *session, int64 id, RunStatus requested, bool immediate,
				const char *role, const char *reason)
{
	char		nulls[] = "     ";
	Datum		args[] = {
		Int64GetDatum(id),
		CStringGetTextDatum(status_name(requested)),
		BoolGetDatum(immediate),
		store_text_or_null(role, &nulls[3]),
		store_note_or_null(reason, &nulls[4])
	};

	store_sql(&sql_request, args, nulls);
}

void
store_cancel_request(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id), (Datum) 0, BoolGetDatum(false), (Datum) 0, (Datum) 0};

	store_sql(&sql_request, args, " n nn");
}

static Sql sql_set_error = {
	"UPDATE backfill.run SET sqlstate = $2, error = $3, error_detail = $4, "
	"       error_hint = $5, error_context = $6 WHERE id = $1",
	6, {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
};

/* Remember what fails the run. */
void
store_set_error(StoreSession *session, int64 id, const RunError *error)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		Int64GetDatum(id),
		store_text_or_null(error->sqlstate, &nulls[1]),
		store_note_or_null(error->message, &nulls[2]),
		store_note_or_null(error->detail, &nulls[3]),
		store_note_or_null(error->hint, &nulls[4]),
		store_note_or_null(error->context, &nulls[5])
	};

	store_sql(&sql_set_error, args, nulls);
}

static Sql sql_adopt_run = {
	"UPDATE backfill.run SET database = $2, system_identifier = $3 WHERE id = $1",
	3, {INT8OID, OIDOID, INT8OID}
};

/* Make the run one of this database. */
void
store_adopt_run(StoreSession *session, int64 id)
{
	Datum		args[] = {
		Int64GetDatum(id),
		ObjectIdGetDatum(MyDatabaseId),
		Int64GetDatum((int64) GetSystemIdentifier())
	};

	store_sql(&sql_adopt_run, args, NULL);
}

static Sql sql_set_settings = {
	"UPDATE backfill.run SET batch_size = CASE WHEN settings -> 'batch_size' "
	"       IS NOT DISTINCT FROM $2 -> 'batch_size' THEN batch_size END, "
	"       settings = $2 WHERE id = $1",
	2, {INT8OID, JSONBOID}
};

void
store_set_settings(StoreSession *session, int64 id, Jsonb *settings)
{
	Datum		args[] = {Int64GetDatum(id), JsonbPGetDatum(settings)};

	store_sql(&sql_set_settings, args, NULL);
}

static Sql sql_set_wait_reason = {
	"UPDATE backfill.run SET wait_reason = $2 "
	" WHERE id = $1 AND wait_reason IS DISTINCT FROM $2",
	2, {INT8OID, TEXTOID}
};

/* Say why the run does not move; NULL when it does. */
void
store_set_wait_reason(StoreSession *session, int64 id, const char *reason)
{
	char		nulls[] = "  ";
	Datum		args[] = {Int64GetDatum(id), store_text_or_null(reason, &nulls[1])};

	store_sql(&sql_set_wait_reason, args, nulls);
}

static Sql sql_set_ends = {
	"UPDATE backfill.run SET key_names = $2, start_key = $3, end_key = $4, "
	"       rows_total = nullif($5, -1), key_types = $6, wait_reason = NULL WHERE id = $1",
	6, {INT8OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID, TEXTARRAYOID}
};

/* Remember the ends of the walk; it has -1 rows if nobody knows. */
void
store_set_ends(StoreSession *session, int64 id, ArrayType *key_names,
				 ArrayType *key_types, ArrayType *start_key, ArrayType *end_key, double rows_total)
{
	Datum		args[] = {
		Int64GetDatum(id),
		PointerGetDatum(key_names),
		PointerGetDatum(start_key),
		PointerGetDatum(end_key),
		Int64GetDatum((int64) rows_total),
		PointerGetDatum(key_types)
	};

	store_sql(&sql_set_ends, args, NULL);
}

static Sql sql_pass = {
	"SELECT r.pass, p.rows_affected - r.pass_rows, p.errors, "
	"       coalesce((SELECT array_agg(e.key[1])::text FROM backfill.error e "
	"                  WHERE e.run_id = r.id AND e.resolved_at IS NULL), '{}') "
	"  FROM backfill.run r JOIN backfill.run_progress p ON p.id = r.id WHERE r.id = $1",
	1, {INT8OID}
};

/*
 * The number of the pass that the run is in, the rows that it has processed, and those that it
 * has skipped.  Without the run there is none.
 */
void
store_pass(StoreSession *session, int64 id, PassInfo *pass)
{
	Datum		args[] = {Int64GetDatum(id)};

	memset(pass, 0, sizeof(PassInfo));
	if (store_sql(&sql_pass, args, NULL) == 0)
	{
		pass->skipped = "{}";
		return;
	}
	pass->skipped = store_text(session, 0, 4);
	pass->number = DatumGetInt32(store_column(0, 1, NULL));
	pass->rows = DatumGetInt64(store_column(0, 2, NULL));
	pass->errors = DatumGetInt64(store_column(0, 3, NULL));
}

static Sql sql_begin_pass = {
	"WITH resolved AS ("
	"  UPDATE backfill.error SET resolved_at = pg_catalog.clock_timestamp() "
	"   WHERE run_id = $1 AND resolved_at IS NULL) "
	"UPDATE backfill.run r SET pass = r.pass + 1, start_key = $2, end_key = $3, "
	"       rows_total = p.rows_scanned + $4, pass_rows = p.rows_affected, "
	"       pass_after = (SELECT max(b.number) FROM backfill.batch b WHERE b.run_id = $1) "
	"  FROM backfill.run_progress p WHERE p.id = r.id AND r.id = $1",
	4, {INT8OID, TEXTARRAYOID, TEXTARRAYOID, INT8OID}
};

/*
 * The walk begins again, between these ends.  What has failed will fail again, or is the row
 * of another batch now.
 */
void
store_begin_pass(StoreSession *session, int64 id, ArrayType *start_key, ArrayType *end_key,
				 double rows)
{
	Datum		args[] = {
		Int64GetDatum(id),
		PointerGetDatum(start_key),
		PointerGetDatum(end_key),
		Int64GetDatum((int64) rows)
	};

	store_sql(&sql_begin_pass, args, NULL);
}

/* Of a run, or of a stream, whose row is locked. */
#define ROLLUP(table) \
	"WITH first_open AS (" \
	"  SELECT min(number) AS number FROM backfill.batch " \
	"   WHERE " STORE_OPEN_BATCHES " AND status <> 'completed' AND NOT skipped), " \
	"ended AS (" \
	"  SELECT max(b.number) AS number, count(b.number) FILTER (WHERE NOT skipped) AS batches, " \
	"         coalesce(sum(b.rows_scanned) FILTER (WHERE NOT skipped), 0) AS rows_scanned, " \
	"         coalesce(sum(b.rows_affected) FILTER (WHERE NOT skipped), 0) AS rows_affected, " \
	"         coalesce(sum(b.wal_bytes) FILTER (WHERE NOT skipped), 0) AS wal_bytes, " \
	"         coalesce(sum(b.pages_pruned) FILTER (WHERE NOT skipped), 0) AS pages_pruned, " \
	"         coalesce(sum(b.space_freed) FILTER (WHERE NOT skipped), 0) AS space_freed " \
	"    FROM backfill.batch b CROSS JOIN first_open f " \
	"   WHERE b.run_id = $1 " \
	"     AND b.number > (SELECT rollup_number FROM backfill.walk WHERE id = $1) " \
	"     AND (f.number IS NULL OR b.number < f.number)) " \
	"UPDATE " table " r SET rollup_number = e.number, " \
	"       batches = r.batches + e.batches, " \
	"       rows_scanned = r.rows_scanned + e.rows_scanned, " \
	"       rows_affected = r.rows_affected + e.rows_affected, " \
	"       wal_bytes = r.wal_bytes + e.wal_bytes, " \
	"       pages_pruned = r.pages_pruned + e.pages_pruned, " \
	"       space_freed = r.space_freed + e.space_freed " \
	"  FROM ended e WHERE r.id = $1 AND e.number IS NOT NULL"

static Sql sql_rollup = {
	ROLLUP("backfill.run"),
	1, {INT8OID}
};

static Sql sql_rollup_stream = {
	ROLLUP("backfill.stream"),
	1, {INT8OID}
};

static Sql sql_lock_stream = {
	"SELECT FROM backfill.stream WHERE id = $1 FOR NO KEY UPDATE",
	1, {INT8OID}
};

/*
 * Add the batches that have ended up in the row of the run, or of the stream.  Who does it for
 * a run has that locked; a stream may be added up by its worker and by the scheduler at the
 * same time, and is locked here.
 */
void
store_rollup(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	if (STORE_IS_STREAM(id))
		store_sql(&sql_lock_stream, args, NULL);
	store_sql(STORE_IS_STREAM(id) ? &sql_rollup_stream : &sql_rollup, args, NULL);
}

static Sql sql_progress = {
	"SELECT name, status, coalesce(wait_reason, 'throttled by ' || throttled_by, "
	"                              'the table grows: ' || space_kept_by), "
	"       sqlstate, error, error_detail, error_hint, "
	"       progress::text, eta::text, rows_scanned, rows_total, rows_per_second, "
	"       owner::oid, target::oid, rows_affected, errors, "
	"       date_trunc('second', finished_at - started_at)::text, "
	"       (SELECT backfill.is_local(r.database, r.system_identifier) "
	"          FROM backfill.run r WHERE r.id = p.id), "
	"       CASE WHEN scope IS NOT NULL THEN rows_affected + errors + rows_remaining END, "
	"       (SELECT status = 'paused' AND requested IS NULL AND wait_reason IS NOT NULL "
	"          FROM backfill.run r WHERE r.id = p.id) "
	"  FROM backfill.run_progress p WHERE id = $1",
	1, {INT8OID}
};

/* What backfill_wait prints, or NULL when there is no such run. */
RunProgress *
store_progress(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};
	RunProgress *p;
	bool		isnull;

	if (store_sql(&sql_progress, args, NULL) == 0)
		return NULL;
	p = MemoryContextAllocZero(session->caller, sizeof(RunProgress));
	p->name = store_text(session, 0, 1);
	p->status = status_from_name(store_text(session, 0, 2));
	p->wait_reason = store_text(session, 0, 3);
	p->sqlstate = store_text(session, 0, 4);
	p->error = store_text(session, 0, 5);
	p->error_detail = store_text(session, 0, 6);
	p->error_hint = store_text(session, 0, 7);
	p->progress = store_text(session, 0, 8);
	p->eta = store_text(session, 0, 9);
	p->rows_scanned = DatumGetInt64(store_column(0, 10, NULL));
	p->rows_total = DatumGetInt64(store_column(0, 11, &isnull));
	if (isnull)
		p->rows_total = -1;
	p->rows_per_second = DatumGetFloat8(store_column(0, 12, &isnull));
	if (isnull)
		p->rows_per_second = -1;
	p->owner = DatumGetObjectId(store_column(0, 13, NULL));
	p->target = DatumGetObjectId(store_column(0, 14, NULL));
	p->rows_affected = DatumGetInt64(store_column(0, 15, NULL));
	p->errors = DatumGetInt64(store_column(0, 16, NULL));
	p->duration = store_text(session, 0, 17);
	p->is_local = DatumGetBool(store_column(0, 18, NULL));
	p->in_scope = DatumGetInt64(store_column(0, 19, &isnull));
	if (isnull)
		p->in_scope = -1;
	p->paused_itself = DatumGetBool(store_column(0, 20, NULL));
	return p;
}

static Sql sql_set_remaining = {
	"UPDATE backfill.run SET rows_remaining = $2, verified = $3 WHERE id = $1",
	3, {INT8OID, INT8OID, BOOLOID}
};

/* What the verification found, and whether the run has passed it. */
void
store_set_remaining(StoreSession *session, int64 id, int64 rows, bool verified)
{
	Datum		args[] = {Int64GetDatum(id), Int64GetDatum(rows), BoolGetDatum(verified)};

	store_sql(&sql_set_remaining, args, NULL);
}

/* A number from the view of runs; 0 when there is no such run. */
static int64
run_number(Sql *sql, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	return store_sql(sql, args, NULL) == 0 ? 0 :
		DatumGetInt64(store_column(0, 1, NULL));
}

static Sql sql_run_rows = {
	"SELECT rows_affected FROM backfill.run_progress WHERE id = $1",
	1, {INT8OID}
};

/* The rows that the run has processed so far. */
int64
store_run_rows(StoreSession *session, int64 id)
{
	return run_number(&sql_run_rows, id);
}

static Sql sql_run_errors = {
	"SELECT errors FROM backfill.run_progress WHERE id = $1",
	1, {INT8OID}
};

/* The rows that failed in the run, were skipped, and are not resolved. */
int64
store_run_errors(StoreSession *session, int64 id)
{
	return run_number(&sql_run_errors, id);
}

static Sql sql_note_closing = {
	"UPDATE backfill.run SET closing_boot = $3, closings = CASE WHEN NOT $2 THEN 0 "
	"       WHEN closing_boot IS DISTINCT FROM $3 AND $4 THEN 1 ELSE closings + 1 END "
	" WHERE id = $1 RETURNING closings",
	4, {INT8OID, BOOLOID, INT8OID, BOOLOID}
};

/*
 * The owner's code is about to run at the end of the run, or has run in good
 * order.  Returns how many workers have begun with it and have not been heard
 * of since.  Those that ended with the server in good order do not count.
 */
int
store_note_closing(StoreSession *session, int64 id, bool begins, int64 boot,
					 bool clean_start)
{
	Datum		args[] = {
		Int64GetDatum(id),
		BoolGetDatum(begins),
		Int64GetDatum(boot),
		BoolGetDatum(clean_start)
	};

	return store_sql(&sql_note_closing, args, NULL) == 0 ? 0 :
		DatumGetInt32(store_column(0, 1, NULL));
}

/* ---- dependencies ---- */

static Sql sql_unmet_dependency = {
	"SELECT a.id, p.status FROM unnest($1) a(id) LEFT JOIN backfill.run p ON p.id = a.id "
	" WHERE p.status IS DISTINCT FROM 'completed' OR p.requested IS NOT NULL "
	" ORDER BY p.status IN ('failed', 'stopped') DESC, a.id LIMIT 1",
	1, {INT8ARRAYOID}
};

/*
 * The first of the runs that is not completed, one that has ended badly before
 * one that is still active; 0 if all are.  Its status goes to *status, NULL if
 * it was deleted.
 */
int64
store_unmet_dependency(StoreSession *session, ArrayType *after, char **status)
{
	Datum		args[] = {PointerGetDatum(after)};

	if (store_sql(&sql_unmet_dependency, args, NULL) == 0)
		return 0;
	*status = store_text(session, 0, 2);
	return DatumGetInt64(store_column(0, 1, NULL));
}
