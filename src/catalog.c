/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  Access to the tables of the schema "backfill".
 *
 * Every SQL text against our own tables stands here and nowhere else.  It runs
 * as the owner of the extension, in a security-restricted operation, with
 * search_path pinned, for exactly the time between catalog_begin and
 * catalog_end; an error in between restores everything with the transaction.
 * No user code can run in that time: the tables have no triggers, rules or
 * policies, and nobody else may add any.
 *
 * Every statement reads with the newest snapshot, whatever the isolation level
 * of the transaction: the claim at the end of a REPEATABLE READ batch must see
 * what other workers have claimed since it began.
 *
 * The plans are kept for the life of the process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog_sql.h"
#include "compat.h"

#define MAX_ARGS 18

#define RUN_COLUMNS \
	"id, name, status, requested, immediate, owner::oid, " \
	"backfill.is_local(database, system_identifier), target::oid, statement, " \
	"scope, key, settings, search_path, start_at, key_types, start_key, " \
	"end_key, wait_reason, parameters, parameter_types, finish, finish_step, " \
	"verified, started_at, since, requested_by, request_reason, error, sqlstate, " \
	"rollup_number, \"then\", \"after\", batch_size, throttled_by"

/* The time for which the run was throttled until then, by reason, in seconds. */
#define THROTTLED_UNTIL(then) \
	"jsonb_set(throttle_times, ARRAY[split_part(throttled_by, ':', 1)], " \
	"to_jsonb(round(coalesce((throttle_times ->> split_part(throttled_by, ':', 1))::numeric, 0) " \
	"+ extract(epoch FROM " then " - throttled_since), 3)))"

/* A run that is not over, or is to begin again. */
#define ACTIVE \
	"(status IN ('pending', 'enqueued', 'running', 'paused') OR requested = 'enqueued') " \
	"AND backfill.is_local(database, system_identifier)"

/*
 * The hooks for the runs of a definition.  Whoever took the name of a definition
 * that was dropped has no say in the runs that it left.
 */
#define HOOK_OF \
	"(name IS NULL OR name = $1 AND EXISTS (SELECT FROM backfill.definition d " \
	"WHERE d.name = $1 AND d.owner = $2::regrole))"

/*
 * Runs that were completed long ago, locked: one that somebody is about to retry
 * keeps what says where it was.
 */
#define OLD_RUNS \
	"WITH old AS (SELECT id FROM backfill.run WHERE status = 'completed' " \
	"AND requested IS NULL AND finished_at < $1 FOR UPDATE SKIP LOCKED) "

/* Not a run that waits for that one. */
#define NOT_WAITING_FOR(id) \
	"(status <> 'pending' OR \"after\" IS NULL OR " id " <> ALL (\"after\"))"

/* Batches that may not have ended are those after the ones added up. */
#define OPEN_BATCHES \
	"run_id = $1 AND number > (SELECT rollup_number FROM backfill.run WHERE id = $1)"

typedef struct Sql
{
	const char *text;
	int			nargs;
	Oid			types[MAX_ARGS];
	SPIPlanPtr	plan;
} Sql;

static Sql sqls[] = {
	[SQL_LOAD_DEFINITION] = {
		"SELECT name, owner::oid, target::oid, statement, scope, key, settings, "
		"       search_path, description, parameters, finish, \"then\" "
		"  FROM backfill.definition WHERE name = $1",
	1, {TEXTOID}},
	[SQL_STORE_DEFINITION] = {
		"INSERT INTO backfill.definition AS d (name, owner, target, statement, scope, "
		"       key, settings, search_path, description, parameters, finish, \"then\") "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
		"ON CONFLICT (name) DO UPDATE SET target = excluded.target, "
		"       statement = excluded.statement, scope = excluded.scope, "
		"       key = excluded.key, settings = excluded.settings, "
		"       search_path = excluded.search_path, "
		"       description = excluded.description, parameters = excluded.parameters, "
		"       finish = excluded.finish, \"then\" = excluded.\"then\", updated_at = now() "
		" WHERE d.owner = excluded.owner",
	12, {TEXTOID, OIDOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID,
	JSONBOID, TEXTOID, JSONBOID}},
	[SQL_LOCK_DEFINITION] = {
		"SELECT FROM backfill.definition WHERE name = $1 FOR KEY SHARE",
	1, {TEXTOID}},
	[SQL_DELETE_DEFINITION] = {
		"DELETE FROM backfill.definition WHERE name = $1",
	1, {TEXTOID}},
	[SQL_FIND_ACTIVE_RUN] = {
		"SELECT min(id) FROM backfill.run "
		" WHERE name = $1 AND " ACTIVE,
	1, {TEXTOID}},
	[SQL_LAST_STARTED] = {
		"SELECT max(started_at) FROM backfill.run "
		" WHERE name = $1 AND owner = $2 AND status = 'completed'",
	2, {TEXTOID, OIDOID}},
	[SQL_INSERT_RUN] = {
		"INSERT INTO backfill.run (name, status, owner, started_by, database, "
		"       system_identifier, target, statement, scope, key, settings, "
		"       search_path, start_at, parameters, parameter_types, finish, "
		"       \"then\", \"after\") "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, "
		"       $17, $18) RETURNING id",
	18, {TEXTOID, TEXTOID, OIDOID, OIDOID, OIDOID, INT8OID, OIDOID, TEXTOID,
	TEXTOID, TEXTOID, JSONBOID, TEXTOID, TIMESTAMPTZOID, JSONBOID, JSONBOID, TEXTOID,
	JSONBOID, INT8ARRAYOID}},
	[SQL_LOAD_RUN] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run WHERE id = $1",
	1, {INT8OID}},
	[SQL_LOCK_RUN] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run WHERE id = $1 FOR NO KEY UPDATE",
	1, {INT8OID}},
	[SQL_TRY_RUN] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED",
	1, {INT8OID}},
	[SQL_ACTIVE_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run "
		" WHERE (status IN ('pending', 'enqueued', 'running') OR requested IS NOT NULL) "
		"   AND backfill.is_local(database, system_identifier) ORDER BY id",
	0},
	[SQL_CONTROL_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run "
		" WHERE status IN ('pending', 'enqueued', 'running', 'paused') "
		" ORDER BY id",
	0},
	[SQL_DELETE_RUN] = {
		"DELETE FROM backfill.run WHERE id = $1",
	1, {INT8OID}},
	[SQL_DELETE_BATCHES] = {
		"DELETE FROM backfill.batch WHERE run_id = $1",
	1, {INT8OID}},
	[SQL_SET_STATUS] = {
		"UPDATE backfill.run r SET status = $2, requested = NULL, immediate = false, "
		"       requested_by = NULL, request_reason = NULL, closings = 0, "
		"       wait_reason = NULL, "
		"       throttled_by = CASE WHEN $2 = 'running' THEN throttled_by END, "
		"       throttled_since = CASE WHEN $2 = 'running' THEN throttled_since END, "
		"       throttle_times = CASE WHEN throttled_by IS NULL OR $2 = 'running' THEN throttle_times "
		"                        ELSE " THROTTLED_UNTIL("$3") " END, "
		"       started_at = CASE WHEN $2 = 'running' THEN coalesce(started_at, $3) ELSE started_at END, "
		"       since = CASE WHEN $2 = 'running' AND started_at IS NULL "
		"               THEN (SELECT max(p.started_at) FROM backfill.run p "
		"                      WHERE p.name = r.name AND p.owner = r.owner "
		"                        AND p.status = 'completed') ELSE since END, "
		"       finished_at = CASE WHEN $2 IN ('completed', 'failed', 'stopped') THEN $3 END, "
		"       rows_total = CASE WHEN $2 = 'completed' THEN rows_scanned ELSE rows_total END, "
		"       sqlstate = CASE WHEN $2 = 'failed' THEN sqlstate END, "
		"       error = CASE WHEN $2 = 'failed' THEN error END, "
		"       error_detail = CASE WHEN $2 = 'failed' THEN error_detail END, "
		"       error_hint = CASE WHEN $2 = 'failed' THEN error_hint END, "
		"       error_context = CASE WHEN $2 = 'failed' THEN error_context END "
		" WHERE id = $1",
	3, {INT8OID, TEXTOID, TIMESTAMPTZOID}},
	[SQL_REQUEST] = {
		"UPDATE backfill.run SET requested = $2, immediate = $3, requested_by = $4, "
		"       request_reason = $5, "
		"       wait_reason = CASE WHEN $2 IS NOT NULL THEN wait_reason END WHERE id = $1",
	5, {INT8OID, TEXTOID, BOOLOID, TEXTOID, TEXTOID}},
	[SQL_SET_ERROR] = {
		"UPDATE backfill.run SET sqlstate = $2, error = $3, error_detail = $4, "
		"       error_hint = $5, error_context = $6 WHERE id = $1",
	6, {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}},
	[SQL_ADOPT_RUN] = {
		"UPDATE backfill.run SET database = $2, system_identifier = $3 WHERE id = $1",
	3, {INT8OID, OIDOID, INT8OID}},
	[SQL_SET_SETTINGS] = {
		"UPDATE backfill.run SET batch_size = CASE WHEN settings -> 'batch_size' "
		"       IS NOT DISTINCT FROM $2 -> 'batch_size' THEN batch_size END, "
		"       settings = $2 WHERE id = $1",
	2, {INT8OID, JSONBOID}},
	[SQL_SET_BATCH_SIZE] = {
		"UPDATE backfill.run SET batch_size = $2 WHERE id = $1",
	2, {INT8OID, INT8OID}},
	[SQL_SET_THROTTLE] = {
		"UPDATE backfill.run SET throttled_by = $2, "
		"       throttled_since = CASE WHEN $2 IS NULL THEN NULL "
		"           WHEN split_part(throttled_by, ':', 1) = split_part($2, ':', 1) "
		"           THEN throttled_since ELSE $3 END, "
		"       throttle_times = CASE WHEN throttled_by IS NULL "
		"           OR split_part(throttled_by, ':', 1) = split_part($2, ':', 1) "
		"           THEN throttle_times ELSE " THROTTLED_UNTIL("$3") " END "
		" WHERE id = $1",
	3, {INT8OID, TEXTOID, TIMESTAMPTZOID}},
	[SQL_NOTE_YIELD] = {
		"UPDATE backfill.run SET yields = yields + 1 WHERE id = $1",
	1, {INT8OID}},
	[SQL_RECENT_BATCHES] = {
		"SELECT finished_at, rows_affected, wal_bytes FROM backfill.batch "
		" WHERE (run_id = $1 OR $1 = 0) AND status = 'completed' "
		"   AND finished_at > $2 AND finished_at <= $3",
	3, {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}},
	[SQL_SET_WAIT_REASON] = {
		"UPDATE backfill.run SET wait_reason = $2 "
		" WHERE id = $1 AND wait_reason IS DISTINCT FROM $2",
	2, {INT8OID, TEXTOID}},
	[SQL_SET_ENDS] = {
		"UPDATE backfill.run SET key_names = $2, start_key = $3, end_key = $4, "
		"       rows_total = $5, key_types = $6, wait_reason = NULL WHERE id = $1",
	6, {INT8OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID, TEXTARRAYOID}},
	[SQL_ROLLUP] = {
		"WITH first_open AS ("
		"  SELECT min(number) AS number FROM backfill.batch "
		"   WHERE " OPEN_BATCHES " AND status <> 'completed' AND NOT skipped), "
		"ended AS ("
		"  SELECT max(b.number) AS number, count(b.number) FILTER (WHERE NOT skipped) AS batches, "
		"         coalesce(sum(b.rows_scanned) FILTER (WHERE NOT skipped), 0) AS rows_scanned, "
		"         coalesce(sum(b.rows_affected) FILTER (WHERE NOT skipped), 0) AS rows_affected, "
		"         coalesce(sum(b.wal_bytes) FILTER (WHERE NOT skipped), 0) AS wal_bytes "
		"    FROM backfill.batch b CROSS JOIN first_open f "
		"   WHERE b.run_id = $1 "
		"     AND b.number > (SELECT rollup_number FROM backfill.run WHERE id = $1) "
		"     AND (f.number IS NULL OR b.number < f.number)) "
		"UPDATE backfill.run r SET rollup_number = e.number, "
		"       batches = r.batches + e.batches, "
		"       rows_scanned = r.rows_scanned + e.rows_scanned, "
		"       rows_affected = r.rows_affected + e.rows_affected, "
		"       wal_bytes = r.wal_bytes + e.wal_bytes "
		"  FROM ended e WHERE r.id = $1 AND e.number IS NOT NULL",
	1, {INT8OID}},
	[SQL_PROGRESS] = {
		"SELECT name, status, coalesce(wait_reason, 'throttled by ' || throttled_by), "
		"       sqlstate, error, error_detail, error_hint, "
		"       progress::text, eta::text, rows_scanned, rows_total, rows_per_second, "
		"       owner::oid "
		"  FROM backfill.run_progress WHERE id = $1",
	1, {INT8OID}},
	[SQL_LAST_BATCH] = {
		"SELECT number, end_key FROM backfill.batch WHERE run_id = $1 AND part = 0 "
		" ORDER BY number DESC, part DESC LIMIT 1",
	1, {INT8OID}},
	[SQL_INSERT_BATCH] = {
		"INSERT INTO backfill.batch (run_id, number, start_key, end_key, "
		"       start_inclusive, status, rows_scanned, token, worker, pid) "
		"VALUES ($1, $2, $3, $4, $5, 'running', $6, $7, $8, $9)",
	9, {INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, INT8OID, INT8OID, INT4OID, INT4OID}},
	[SQL_TAKE_PENDING] = {
		"UPDATE backfill.batch SET status = 'running', attempt = attempt + 1, "
		"       token = $2, worker = $5, pid = $3, retry_at = NULL "
		" WHERE run_id = $1 AND (number, part) = ("
		"   SELECT number, part FROM backfill.batch "
		"    WHERE " OPEN_BATCHES " AND status = 'pending' AND crashes < $4 "
		"      AND (retry_at IS NULL OR retry_at <= $6) "
		"    ORDER BY number, CASE WHEN error IS NULL THEN -part ELSE part END LIMIT 1) "
		"RETURNING number, start_key, end_key, start_inclusive, attempt, crashes, "
		"          rows_scanned, part, error IS NOT NULL, tries",
	6, {INT8OID, INT8OID, INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID}},
	[SQL_PENDING_DUE] = {
		"SELECT min(coalesce(retry_at, '-infinity')) FROM backfill.batch "
		" WHERE " OPEN_BATCHES " AND status = 'pending' AND crashes < $2",
	2, {INT8OID, INT4OID}},
	[SQL_COMPLETE_BATCH] = {
		"UPDATE backfill.batch SET status = 'completed', rows_affected = $4, "
		"       wal_bytes = $5, started_at = $6, finished_at = $7, "
		"       duration = $7 - $6, attempt = $8 "
		" WHERE run_id = $1 AND number = $2 AND part = $9 "
		"   AND status = 'running' AND token = $3",
	9, {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID}},
	[SQL_GIVE_BACK_BATCH] = {
		"UPDATE backfill.batch SET status = $4, error = coalesce($5, error), "
		"       finished_at = CASE WHEN $4 = 'pending' THEN NULL ELSE now() END "
		" WHERE run_id = $1 AND number = $2 AND part = $6 "
		"   AND status = 'running' AND token = $3",
	6, {INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, INT4OID}},
	[SQL_RETRY_BATCH] = {
		"UPDATE backfill.batch SET status = 'pending', tries = $6, retry_at = $7, error = $4 "
		" WHERE run_id = $1 AND number = $2 AND part = $5 "
		"   AND status = 'running' AND token = $3",
	7, {INT8OID, INT8OID, INT8OID, TEXTOID, INT4OID, INT4OID, TIMESTAMPTZOID}},
	[SQL_RECOVER_BATCHES] = {
		"UPDATE backfill.batch SET status = 'pending', "
		"       crashes = crashes + CASE WHEN token >> 32 <> $3 AND $4 THEN 0 ELSE 1 END, "
		"       error = CASE WHEN token >> 32 <> $3 AND $4 THEN error "
		"               ELSE 'the worker that had the batch in hand died' END "
		" WHERE " OPEN_BATCHES " AND status = 'running' AND NOT token = ANY ($2) "
		"RETURNING number, crashes",
	4, {INT8OID, INT8ARRAYOID, INT8OID, BOOLOID}},
	[SQL_REOPEN_BATCHES] = {
		"UPDATE backfill.batch SET status = 'pending', crashes = 0, tries = 0, "
		"       retry_at = NULL, finished_at = NULL "
		" WHERE " OPEN_BATCHES " AND NOT skipped "
		"   AND (status IN ('failed', 'stopped') "
		"        OR status = 'pending' AND (crashes > 0 OR tries > 0))",
	1, {INT8OID}},
	[SQL_OPEN_BATCHES] = {
		"SELECT count(*), count(*) FILTER (WHERE retry_at IS NULL OR retry_at <= $2) "
		"  FROM backfill.batch "
		" WHERE " OPEN_BATCHES " AND status <> 'completed' AND NOT skipped",
	2, {INT8OID, TIMESTAMPTZOID}},
	[SQL_SHRINK_BATCH] = {
		"UPDATE backfill.batch SET start_key = $5, start_inclusive = false, "
		"       rows_scanned = $6, status = 'pending', token = NULL, "
		"       error = coalesce($7, error), tries = 0 "
		" WHERE run_id = $1 AND number = $2 AND part = $3 "
		"   AND status = 'running' AND token = $4",
	7, {INT8OID, INT8OID, INT4OID, INT8OID, TEXTARRAYOID, INT8OID, TEXTOID}},
	[SQL_INSERT_PART] = {
		"INSERT INTO backfill.batch (run_id, number, part, start_key, end_key, "
		"       start_inclusive, status, rows_scanned, error) "
		"SELECT $1, $2, max(part) + 1, $3, $4, $5, 'pending', $6, $7 "
		"  FROM backfill.batch WHERE run_id = $1 AND number = $2",
	7, {INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, INT8OID, TEXTOID}},
	[SQL_SKIP_BATCH] = {
		"UPDATE backfill.batch SET status = 'failed', skipped = true, error = $5, "
		"       finished_at = $6, attempt = $7 "
		" WHERE run_id = $1 AND number = $2 AND part = $3 "
		"   AND status = 'running' AND token = $4",
	7, {INT8OID, INT8OID, INT4OID, INT8OID, TEXTOID, TIMESTAMPTZOID, INT4OID}},
	[SQL_STORE_ERROR] = {
		"INSERT INTO backfill.error AS e (run_id, number, part, key, sqlstate, message, "
		"       detail, context, schema_name, table_name, column_name, "
		"       constraint_name, first_at, last_at) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13) "
		"ON CONFLICT (run_id, number, part) DO UPDATE SET sqlstate = excluded.sqlstate, "
		"       message = excluded.message, detail = excluded.detail, "
		"       context = excluded.context, schema_name = excluded.schema_name, "
		"       table_name = excluded.table_name, column_name = excluded.column_name, "
		"       constraint_name = excluded.constraint_name, "
		"       attempts = e.attempts + 1, last_at = excluded.last_at, resolved_at = NULL",
	13, {INT8OID, INT8OID, INT4OID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}},
	[SQL_RESOLVE_ERROR] = {
		"UPDATE backfill.error SET resolved_at = $4 "
		" WHERE run_id = $1 AND number = $2 AND part = $3 AND resolved_at IS NULL",
	4, {INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID}},
	[SQL_ERROR_COUNTS] = {
		"SELECT (SELECT count(*) FROM backfill.error e "
		"         WHERE e.run_id = r.id AND e.resolved_at IS NULL "
		"           AND e.last_at >= coalesce(r.resumed_at, r.created_at)), "
		"       r.rows_affected - r.resumed_rows "
		"       + coalesce((SELECT sum(b.rows_affected) FROM backfill.batch b "
		"                    WHERE b.run_id = r.id AND b.number > r.rollup_number "
		"                      AND b.status = 'completed'), 0)::bigint "
		"  FROM backfill.run r WHERE r.id = $1",
	1, {INT8OID}},
	[SQL_MARK_RESUMED] = {
		"UPDATE backfill.run SET resumed_at = $2, resumed_rows = rows_affected "
		"       + coalesce((SELECT sum(b.rows_affected) FROM backfill.batch b "
		"                    WHERE " OPEN_BATCHES " AND b.status = 'completed'), 0)::bigint "
		" WHERE id = $1",
	2, {INT8OID, TIMESTAMPTZOID}},
	[SQL_REOPEN_SKIPPED] = {
		"UPDATE backfill.batch SET status = 'pending', skipped = false, crashes = 0, "
		"       tries = 0, finished_at = NULL WHERE run_id = $1 AND skipped",
	1, {INT8OID}},
	[SQL_RECOUNT] = {
		"UPDATE backfill.run r SET rollup_number = s.number, batches = s.batches, "
		"       rows_scanned = s.rows_scanned, rows_affected = s.rows_affected, "
		"       wal_bytes = s.wal_bytes, verified = false "
		"  FROM (SELECT f.number - 1 AS number, count(b.number) AS batches, "
		"               coalesce(sum(b.rows_scanned), 0) AS rows_scanned, "
		"               coalesce(sum(b.rows_affected), 0) AS rows_affected, "
		"               coalesce(sum(b.wal_bytes), 0) AS wal_bytes "
		"          FROM (SELECT min(number) AS number FROM backfill.batch "
		"                 WHERE run_id = $1 AND status <> 'completed') f "
		"          LEFT JOIN backfill.batch b ON b.run_id = $1 "
		"               AND b.number < f.number AND b.status = 'completed' "
		"         GROUP BY f.number) s "
		" WHERE r.id = $1 AND s.number IS NOT NULL",
	1, {INT8OID}},
	[SQL_DELETE_ERRORS] = {
		"DELETE FROM backfill.error WHERE run_id = $1",
	1, {INT8OID}},
	[SQL_ADD_EVENT] = {
		"INSERT INTO backfill.event (run_id, name, owner, kind, previous_status, status, "
		"       number, part, role, sqlstate, reason) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	11, {INT8OID, TEXTOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT4OID, TEXTOID,
	TEXTOID, TEXTOID}},
	[SQL_PRUNE_EVENTS] = {
		"DELETE FROM backfill.event WHERE at < $1",
	1, {TIMESTAMPTZOID}},
	[SQL_PRUNE_BATCHES] = {
		OLD_RUNS "DELETE FROM backfill.batch b USING old WHERE b.run_id = old.id",
	1, {TIMESTAMPTZOID}},
	[SQL_PRUNE_ERRORS] = {
		OLD_RUNS "DELETE FROM backfill.error e USING old WHERE e.run_id = old.id",
	1, {TIMESTAMPTZOID}},
	[SQL_ADD_HOOK] = {
		"INSERT INTO backfill.hook (phase, object, status, hook, name, created_by) "
		"VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
	6, {TEXTOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, OIDOID}},
	[SQL_DELETE_HOOK] = {
		"DELETE FROM backfill.hook WHERE phase = $1 AND object = $2 AND status = $3 "
		"   AND hook = $4::regprocedure AND name IS NOT DISTINCT FROM $5",
	5, {TEXTOID, TEXTOID, TEXTOID, OIDOID, TEXTOID}},
	[SQL_DELETE_HOOKS] = {
		"DELETE FROM backfill.hook WHERE name = $1",
	1, {TEXTOID}},
	[SQL_LOAD_HOOKS] = {
		"SELECT phase, object, status, hook::oid FROM backfill.hook "
		" WHERE " HOOK_OF " ORDER BY name IS NULL, id",
	2, {TEXTOID, OIDOID}},
	[SQL_HAS_HOOK] = {
		"SELECT FROM backfill.hook "
		" WHERE object = 'run' AND status = $3 AND " HOOK_OF " LIMIT 1",
	3, {TEXTOID, OIDOID, TEXTOID}},
	[SQL_FIND_EQUAL_RUN] = {
		"SELECT min(id) FROM backfill.run "
		" WHERE name = $1 AND parameters = $2 AND id <> $3 AND owner = $4::regrole "
		"   AND ($5 IS NULL OR id <> ALL ($5)) AND " NOT_WAITING_FOR("$3") " AND " ACTIVE,
	5, {TEXTOID, JSONBOID, INT8OID, OIDOID, INT8ARRAYOID}},
	[SQL_FIND_TARGET_RUN] = {
		"SELECT min(id) FROM backfill.run "
		" WHERE (target = $1::regclass "
		"        OR target IN (SELECT relid FROM pg_partition_tree($1::regclass)) "
		"        OR target IN (SELECT relid FROM pg_partition_ancestors($1::regclass) AS relid)) "
		"   AND id <> $2 AND ($3 IS NULL OR id <> ALL ($3)) "
		"   AND " NOT_WAITING_FOR("$2") " AND " ACTIVE,
	3, {OIDOID, INT8OID, INT8ARRAYOID}},
	[SQL_SET_REMAINING] = {
		"UPDATE backfill.run SET rows_remaining = $2, verified = $3 WHERE id = $1",
	3, {INT8OID, INT8OID, BOOLOID}},
	[SQL_SET_FINISH_STEP] = {
		"UPDATE backfill.run SET finish_step = $2 WHERE id = $1",
	2, {INT8OID, INT4OID}},
	[SQL_RUN_ROWS] = {
		"SELECT rows_affected FROM backfill.run_progress WHERE id = $1",
	1, {INT8OID}},
	[SQL_RUN_ERRORS] = {
		"SELECT errors FROM backfill.run_progress WHERE id = $1",
	1, {INT8OID}},
	[SQL_NOTE_CLOSING] = {
		"UPDATE backfill.run SET closing_boot = $3, closings = CASE WHEN NOT $2 THEN 0 "
		"       WHEN closing_boot IS DISTINCT FROM $3 AND $4 THEN 1 ELSE closings + 1 END "
		" WHERE id = $1 RETURNING closings",
	4, {INT8OID, BOOLOID, INT8OID, BOOLOID}},
	[SQL_UNMET_DEPENDENCY] = {
		"SELECT a.id, p.status FROM unnest($1) a(id) LEFT JOIN backfill.run p ON p.id = a.id "
		" WHERE p.status IS DISTINCT FROM 'completed' OR p.requested IS NOT NULL "
		" ORDER BY p.status IN ('failed', 'stopped') DESC, a.id LIMIT 1",
	1, {INT8ARRAYOID}},
	[SQL_FIND_DEPENDENT] = {
		"SELECT min(id) FROM backfill.run WHERE $1 = ANY (\"after\") AND status = 'pending'",
	1, {INT8OID}},
	[SQL_THEN_REACHES] = {
		"WITH RECURSIVE reached(name) AS ("
		"  SELECT e ->> 'name' FROM jsonb_array_elements($1) e "
		"   UNION "
		"  SELECT e ->> 'name' FROM reached r JOIN backfill.definition d ON d.name = r.name "
		"    CROSS JOIN LATERAL jsonb_array_elements(d.\"then\") e) "
		"SELECT FROM reached WHERE name = $2",
	2, {JSONBOID, TEXTOID}}
};

static Oid	extension_owner = InvalidOid;
static LocalTransactionId locked_in = InvalidLocalTransactionId;

/* ---- who we are ---- */

/* OID and owner of the extension, or InvalidOid. */
static Oid
find_extension(Oid *owner)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("backfill"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * Lock the extension against being dropped until the end of the transaction.
 * DROP EXTENSION locks it first too, then its tables: whoever locks in this
 * order never deadlocks with it.  Returns false when there is no extension.
 */
bool
catalog_lock_extension(void)
{
	Oid			extension;
	Oid			owner;

	if (locked_in == compat_my_lxid() && !IsSubTransaction())
		return true;
	for (;;)
	{
		extension = find_extension(&owner);
		if (!OidIsValid(extension))
			return false;
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		if (find_extension(&owner) == extension)
			break;
		UnlockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	}
	extension_owner = owner;

	/* a lock taken in a subtransaction may be gone before the transaction is */
	if (!IsSubTransaction())
		locked_in = compat_my_lxid();
	return true;
}

/*
 * Become the owner of the extension.  Results go to what is the current memory
 * context now.  Raises an error when the extension is gone.
 */
void
catalog_begin(CatalogSession *session)
{
	static const char path[] = "pg_catalog, pg_temp";

	if (!catalog_lock_extension())
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"backfill\" does not exist")));
	session->caller = CurrentMemoryContext;
	GetUserIdAndSecContext(&session->saved_userid, &session->saved_context);
	SetUserIdAndSecContext(extension_owner, session->saved_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	session->nest = NewGUCNestLevel();
	if (strcmp(GetConfigOption("search_path", false, false), path) != 0)
		(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();

	/* long values of the rows that are read are fetched after the query */
	PushActiveSnapshot(GetLatestSnapshot());
}

/* Become again who we were. */
void
catalog_end(CatalogSession *session)
{
	PopActiveSnapshot();
	SPI_finish();
	AtEOXact_GUC(false, session->nest);
	SetUserIdAndSecContext(session->saved_userid, session->saved_context);
}

/* ---- running SQL ---- */

static SPIPlanPtr
get_plan(Sql *sql)
{
	if (sql->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(sql->text, sql->nargs, sql->types);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", sql->text,
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		sql->plan = plan;
	}
	return sql->plan;
}

/* Run one of the texts; nulls as for SPI, or NULL.  Returns the row count. */
uint64
catalog_sql(SqlId id, Datum *values, const char *nulls)
{
	int			rc = SPI_execute_snapshot(get_plan(&sqls[id]), values, nulls,
										  GetLatestSnapshot(), InvalidSnapshot,
										  false, true, 0);

	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", sqls[id].text,
			 SPI_result_code_string(rc));
	return SPI_processed;
}

/* A column of a result row; *isnull may be NULL where null is an error. */
Datum
catalog_column(int row, int column, bool *isnull)
{
	bool		null;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
									  column, &null);

	if (isnull)
		*isnull = null;
	else if (null)
		elog(ERROR, "unexpected null in column %d", column);
	return value;
}

/* A text column, copied into the caller's memory context, or NULL. */
char *
catalog_text(CatalogSession *session, int row, int column)
{
	bool		isnull;
	Datum		value = catalog_column(row, column, &isnull);
	char	   *result;
	MemoryContext old;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(session->caller);
	result = TextDatumGetCString(value);
	MemoryContextSwitchTo(old);
	return result;
}

/* Any varlena column, detoasted and copied likewise, or NULL. */
void *
catalog_varlena(CatalogSession *session, int row, int column)
{
	bool		isnull;
	Datum		value = catalog_column(row, column, &isnull);
	void	   *result;
	MemoryContext old;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(session->caller);
	result = PG_DETOAST_DATUM_COPY(value);
	MemoryContextSwitchTo(old);
	return result;
}

Datum
catalog_text_or_null(const char *text, char *null)
{
	*null = text ? ' ' : 'n';
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}
