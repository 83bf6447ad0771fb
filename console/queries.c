/*-------------------------------------------------------------------------
 *
 * queries.c
 *	  The SQL behind the screens: one text each.
 *
 * A text takes one argument, @, a JSON object of strings, and returns one row, or
 * none if there is no such thing, with four columns: "data", a JSON object; "steady",
 * another one, of what rarely changes; "series", points of the charts; "sample", one
 * more point.  The last three may be null.  When the argument has "quick", the
 * console has "steady" and "series" from a moment ago.
 *
 * They read the views of the extension and nothing else of it, with the rights of
 * whoever looks.  They run every second: none may read more with each batch, so
 * lists have limits and follow an index, and sums are those that the views have.
 *
 *-------------------------------------------------------------------------
 */
#include "queries.h"

#define ID "(@->>'id')::bigint"
/* Where a page of a list ends: NUMBER, or NUMBER.PART where parts of a batch have rows of their own. */
#define BEFORE "(nullif(split_part(@->>'before', '.', 1), ''))::bigint"
#define BEFORE_PART "(nullif(split_part(@->>'before', '.', 2), ''))::integer"
#define BEFORE_STREAM "substring(@->>'before' from '^[0-9]+[.][0-9]+[.](.*)$')"
/* Lists of batches have the greatest number first, and of that one stream after the other. */
#define IN_ORDER(x) x ".number DESC, " x ".stream, " x ".part DESC"
#define IS_BEHIND(x) \
	"(" BEFORE " IS NULL OR " x ".number < " BEFORE " OR (" x ".number = " BEFORE " AND " BEFORE_PART " IS NOT NULL" \
	" AND CASE WHEN " BEFORE_STREAM " IS NULL THEN " x ".part < " BEFORE_PART \
	" ELSE " x ".stream > " BEFORE_STREAM " OR (" x ".stream = " BEFORE_STREAM " AND " x ".part < " BEFORE_PART ") END))"

/* Statuses that the tab or the filter of a list asks for. */
#define STATUS_FILTER(column) \
	"(nullif(@->>'status', '') IS NULL OR " column " = ANY (string_to_array(@->>'status', ',')))"

/* A row without its long texts, for a list. */
#define BRIEF(row) \
	"(to_jsonb(" row ") - '{statement,scope,prepare,finish,parameters,settings,error_context," \
	"error_detail,error_hint,throttle_times}'::text[])"

#define ACTIVE "('pending', 'enqueued', 'running', 'paused')"

/* ---- runs ---- */

const char *
queries_runs(const DatabaseFacts *facts)
{
	(void) facts;
	return
		"SELECT jsonb_build_object("
		" 'database', current_database(), 'role', current_user,"
		" 'counters', (SELECT jsonb_build_object("
		"   'active', count(*) FILTER (WHERE c.status IN " ACTIVE "),"
		"   'held', count(*) FILTER (WHERE c.status = 'paused' OR (c.status IN " ACTIVE " AND c.wait_reason IS NOT NULL)),"
		"   'failed', count(*) FILTER (WHERE c.status = 'failed'),"
		"   'completed', count(*) FILTER (WHERE c.status = 'completed'))"
		"  FROM (SELECT status, wait_reason FROM backfill_runs WHERE status IN " ACTIVE
		"        UNION ALL"
		"        SELECT status, NULL FROM backfill_runs"
		"         WHERE status IN ('failed', 'completed') AND finished_at > now() - interval '7 days') c),"
		" 'runs', coalesce(l.runs, '[]'), 'more', coalesce(l.n > 100, false)), NULL::jsonb, NULL::jsonb, NULL::jsonb"
		"  FROM (SELECT jsonb_agg(x.run ORDER BY x.id DESC) FILTER (WHERE x.place <= 100) AS runs, count(*) AS n"
		"          FROM (SELECT r.id, " BRIEF("r") " AS run, row_number() OVER (ORDER BY r.id DESC) AS place"
		"                  FROM (SELECT * FROM backfill_runs f"
		"                         WHERE (" BEFORE " IS NULL OR f.id < " BEFORE ")"
		"                           AND CASE coalesce(@->>'tab', 'all')"
		"                               WHEN 'active' THEN f.status IN " ACTIVE
		"                               WHEN 'failed' THEN f.status = 'failed'"
		"                               WHEN 'mine' THEN f.started_by = current_user::regrole"
		"                               ELSE true END"
		"                           AND (coalesce(@->>'q', '') = ''"
		"                                OR strpos(lower(f.name), lower(@->>'q')) > 0"
		"                                OR strpos(lower(f.target::text), lower(@->>'q')) > 0"
		"                                OR f.id::text = @->>'q')"
		"                         ORDER BY f.id DESC LIMIT 101) r) x) l";
}

/* ---- a run ---- */

/* What a button would do, or null where it would be refused. */
#define IN_HAND \
	"CASE h.n WHEN 0 THEN '' WHEN 1 THEN ' after the batch in hand' ELSE format(' after the %s batches in hand', h.n) END"

#define MAY \
	"CASE WHEN @->>'read_only' = 'true' OR NOT pg_has_role(r.owner, 'USAGE') THEN '{}'::jsonb ELSE jsonb_build_object(" \
	" 'pause', CASE WHEN r.status IN ('pending', 'enqueued', 'running')" \
	"    THEN format('Run %s pauses%s. It keeps its place, and goes on from there when it is resumed.', r.id, " IN_HAND ") END," \
	" 'resume', CASE WHEN r.status IN ('paused', 'stopped', 'failed')" \
	"    THEN format('Run %s goes on where it was, with %s of about %s rows behind it.', r.id, r.rows_scanned, coalesce(r.rows_total::text, 'an unknown number of')) END," \
	" 'stop', CASE WHEN r.status IN " ACTIVE \
	"    THEN format('Run %s stops%s. What is done stays done, and it can be resumed later.', r.id, " IN_HAND ") END," \
	" 'stop_now', CASE WHEN r.status IN " ACTIVE \
	"    THEN format('Run %s stops at once: %s and rolled back. What was committed before stays done, and it can be resumed later.', r.id," \
	"         CASE h.n WHEN 0 THEN 'no batch is in hand, so nothing is cancelled' WHEN 1 THEN 'the batch in hand is cancelled' ELSE format('the %s batches in hand are cancelled', h.n) END) END," \
	" 'retry', CASE WHEN r.status IN ('completed', 'failed', 'stopped') AND r.errors > 0" \
	"    THEN format('Run %s tries the %s again that it has skipped.', r.id, CASE r.errors WHEN 1 THEN 'row' ELSE r.errors || ' rows' END) END," \
	" 'verify', CASE WHEN r.scope IS NOT NULL AND r.started_at IS NOT NULL" \
	"    THEN format('The rows of %s that are still in scope are counted: that reads the table and changes nothing.', r.target) END," \
	" 'clone', CASE WHEN d.name IS NOT NULL" \
	"    THEN format('A new run of %s is started with the parameters and settings of run %s.', r.name, r.id) END," \
	" 'delete', CASE WHEN r.status IN ('completed', 'failed', 'stopped')" \
	"    THEN format('Run %s is forgotten, with its batches and errors. What it did to the table stays.', r.id) END)" \
	" END"

#define RUN_HEAD \
	"SELECT jsonb_build_object(" \
	" 'run', to_jsonb(r) - '{statement,scope,prepare,finish,parameters,settings,followers}'::text[]," \
	" 'workers', (SELECT coalesce(jsonb_agg(to_jsonb(w) ORDER BY w.worker), '[]') FROM hands w WHERE w.worker IS NOT NULL)," \
	" 'clients', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.client), '[]') FROM" \
	"             (SELECT * FROM hands w WHERE w.worker IS NULL ORDER BY w.client LIMIT 200) c)," \
	" 'in_hand', h.n," \
	" 'life', (SELECT coalesce(jsonb_agg(jsonb_build_object('status', e.status, 'at', e.at, 'role', e.role) ORDER BY e.id), '[]')" \
	"          FROM (SELECT * FROM backfill_events WHERE run_id = " ID " ORDER BY id LIMIT 30) e WHERE e.kind = 'transition')," \
	" 'recent', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', b.number, 'part', b.part, 'status', b.status," \
	"             'completed_at', b.finished_at, 'duration_ms', round(1000 * EXTRACT(epoch FROM b.duration), 3), 'rows', b.rows_affected," \
	"             'wal_bytes', b.wal_bytes, 'reason', b.error) ORDER BY b.number DESC, b.part DESC), '[]')" \
	"             FROM (SELECT * FROM recent ORDER BY number DESC, part DESC LIMIT 100) b)," \
	" 'may', " MAY ","

#define STREAMS \
	" 'streams', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM (SELECT * FROM backfill_streams s WHERE s.run_id = r.id LIMIT 200) s),"

#define RUN_TAIL \
	" 'now_per_second', jsonb_build_object('rows', r.rows_per_second, 'wal', p.wal, 'p50', p.p50, 'p95', p.p95))," \
	" CASE WHEN @ ? 'quick' THEN NULL ELSE jsonb_build_object(" \
	"  'note', r.note," \
	"  'texts', jsonb_build_object('statement', r.statement, 'scope', r.scope, 'prepare', r.prepare, 'finish', r.finish," \
	"     'parameters', r.parameters, 'followers', r.followers)," \
	"  'definition', (SELECT to_jsonb(x) FROM backfill_definitions x WHERE x.name = r.name)," \
	"  'settings', (SELECT jsonb_agg(jsonb_build_object('name', s.name, 'type', s.type, 'default', s.\"default\"," \
	"      'min', s.min_val, 'max', s.max_val, 'options', s.enumvals, 'description', s.description," \
	"      'value', r.settings->s.name," \
	"      'source', CASE WHEN NOT r.settings ? s.name THEN 'default'" \
	"                     WHEN d.settings->s.name = r.settings->s.name THEN 'definition' ELSE 'run' END," \
	"      'live', s.name NOT IN ('direction', 'distinct', 'from', 'group_by', 'ledger', 'limit', 'outside', 'share_by', 'to')" \
	"              AND r.status <> 'completed') ORDER BY s.name) FROM backfill_settings s)) END," \
	" CASE WHEN @ ? 'quick' THEN NULL ELSE (SELECT jsonb_agg(to_jsonb(q) || jsonb_build_object('reason'," \
	"      (SELECT nullif(t.reason, 'no longer throttled') FROM throttles t WHERE t.at < q.at ORDER BY t.id DESC LIMIT 1)) ORDER BY q.at) FROM" \
	"   (SELECT date_bin(g.stride, b.finished_at, timestamptz '2000-01-01') + g.stride AS at," \
	"           round(sum(b.rows_scanned) / EXTRACT(epoch FROM g.stride), 1) AS rows_per_second," \
	"           round(coalesce(sum(b.wal_bytes), 0) / EXTRACT(epoch FROM g.stride)) AS wal_per_second," \
	"           round((1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY EXTRACT(epoch FROM b.duration)))::numeric, 1) AS p50," \
	"           round((1000 * percentile_cont(0.95) WITHIN GROUP (ORDER BY EXTRACT(epoch FROM b.duration)))::numeric, 1) AS p95" \
	"      FROM recent b," \
	"           (SELECT greatest(interval '1 second', date_trunc('second', (max(finished_at) - min(finished_at)) / 60)) AS stride" \
	"              FROM recent WHERE status = 'completed') g" \
	"     WHERE b.status = 'completed' GROUP BY 1, g.stride) q) END," \
	" CASE WHEN r.status IN ('enqueued', 'running', 'paused') THEN jsonb_build_object(" \
	"   'at', clock_timestamp(), 'rows_per_second', coalesce(r.rows_per_second, 0), 'wal_per_second', coalesce(p.wal, 0)," \
	"   'p50', p.p50, 'p95', p.p95, 'rows', r.rows_scanned, 'workers', r.workers," \
	"   'reason', CASE WHEN r.status = 'paused' THEN 'paused' ELSE coalesce(r.throttled_by, r.wait_reason) END) END" \
	"  FROM the_run r" \
	"  LEFT JOIN backfill_definitions d ON d.name = r.name" \
	"  CROSS JOIN LATERAL (SELECT coalesce(sum(coalesce(w.batches_out, (w.batch IS NOT NULL)::int)), 0) AS n FROM hands w) h" \
	"  CROSS JOIN LATERAL (SELECT round(sum(b.wal_bytes) / 10) AS wal," \
	"     round((1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY EXTRACT(epoch FROM b.duration)))::numeric, 1) AS p50," \
	"     round((1000 * percentile_cont(0.95) WITHIN GROUP (ORDER BY EXTRACT(epoch FROM b.duration)))::numeric, 1) AS p95" \
	"     FROM recent b WHERE b.status = 'completed' AND b.finished_at > clock_timestamp() - interval '10 seconds') p"

/* Live hands, the last batches and the last reasons of throttling are each read once. */
#define RUN_WITH \
	"WITH the_run AS MATERIALIZED (SELECT * FROM backfill_runs WHERE id = " ID ")," \
	" throttles AS MATERIALIZED (SELECT id, at, reason" \
	"   FROM (SELECT * FROM backfill_events WHERE run_id = " ID " ORDER BY id DESC LIMIT 300) e WHERE kind = 'throttle')," \
	" hands AS MATERIALIZED (SELECT * FROM backfill_workers w WHERE w.run_id = " ID ")," \
	" recent AS MATERIALIZED (SELECT number, part, status, finished_at, duration, rows_scanned, rows_affected, wal_bytes, error" \
	"   FROM backfill_batches WHERE run_id = " ID \
	"    AND number > (SELECT last_batch - 300 FROM the_run) AND number <= (SELECT last_batch FROM the_run)" \
	"  ORDER BY number DESC, part DESC LIMIT 300) "

const char *
queries_run(const DatabaseFacts *facts)
{
	return facts->streams ? RUN_WITH RUN_HEAD STREAMS RUN_TAIL : RUN_WITH RUN_HEAD RUN_TAIL;
}

/* ---- what belongs to a run ---- */

#define RUN_OF_LIST \
	"'run', (SELECT jsonb_build_object('id', r.id, 'name', r.name, 'status', r.status, 'errors', r.errors) FROM backfill_runs r WHERE r.id = " ID ")"

/*
 * A batch is found by its number alone, and numbers have no gaps: so many of them
 * have at least so many rows.  There is no index on the status, so batches of one
 * status are looked for among some numbers, and "earlier" is where to go on.
 */
const char *
queries_batches(const DatabaseFacts *facts)
{
	(void) facts;
	return
		"WITH place AS MATERIALIZED (SELECT least(last_batch, " BEFORE " - (" BEFORE_PART " IS NULL)::integer) AS upper,"
		"    CASE WHEN nullif(@->>'status', '') IS NULL THEN 102 ELSE 5000 END AS width FROM backfill_runs WHERE id = " ID "),"
		" last AS MATERIALIZED (SELECT * FROM backfill_batches b WHERE b.run_id = " ID
		"    AND b.number > (SELECT upper - width FROM place) AND b.number <= (SELECT upper FROM place)"
		"    AND " IS_BEHIND("b") ") "
		"SELECT jsonb_build_object(" RUN_OF_LIST ","
		" 'batches', coalesce(l.batches, '[]'), 'more', l.n > 100, 'searched', l.searched,"
		" 'earlier', (SELECT greatest(upper - width + 1, 1) FROM place WHERE upper > width)), NULL::jsonb, NULL::jsonb, NULL::jsonb"
		"  FROM (SELECT jsonb_agg(to_jsonb(x) - 'place' ORDER BY x.place) FILTER (WHERE x.place <= 100) AS batches,"
		"               count(*) AS n, (SELECT count(*) FROM last) AS searched"
		"          FROM (SELECT b.*, row_number() OVER (ORDER BY " IN_ORDER("b") ") AS place FROM"
		"                 (SELECT * FROM last b WHERE " STATUS_FILTER("b.status") " ORDER BY " IN_ORDER("b") " LIMIT 101) b) x) l"
		" WHERE EXISTS (SELECT FROM backfill_runs WHERE id = " ID ")";
}

const char *
queries_errors(const DatabaseFacts *facts)
{
	(void) facts;
	return
		"SELECT jsonb_build_object(" RUN_OF_LIST ","
		" 'errors', coalesce(l.errors, '[]'), 'more', coalesce(l.n > 100, false)), NULL::jsonb, NULL::jsonb, NULL::jsonb"
		"  FROM (SELECT jsonb_agg(to_jsonb(x) - 'place' ORDER BY x.place) FILTER (WHERE x.place <= 100) AS errors, count(*) AS n"
		"          FROM (SELECT e.*, row_number() OVER (ORDER BY " IN_ORDER("e") ") AS place FROM"
		"                 (SELECT * FROM backfill_errors e WHERE e.run_id = " ID
		"                    AND " IS_BEHIND("e")
		"                  ORDER BY " IN_ORDER("e") " LIMIT 101) e) x) l"
		" WHERE EXISTS (SELECT FROM backfill_runs WHERE id = " ID ")";
}

const char *
queries_events(const DatabaseFacts *facts)
{
	(void) facts;
	return
		"SELECT jsonb_build_object(" RUN_OF_LIST ","
		" 'events', coalesce(l.events, '[]'), 'more', coalesce(l.n > 100, false)), NULL::jsonb, NULL::jsonb, NULL::jsonb"
		"  FROM (SELECT jsonb_agg(to_jsonb(x) - 'place' ORDER BY x.id DESC) FILTER (WHERE x.place <= 100) AS events, count(*) AS n"
		"          FROM (SELECT e.*, row_number() OVER (ORDER BY e.id DESC) AS place FROM"
		"                 (SELECT * FROM backfill_events e WHERE e.run_id = " ID
		"                    AND (" BEFORE " IS NULL OR e.id < " BEFORE ")"
		"                  ORDER BY e.id DESC LIMIT 101) e) x) l"
		" WHERE l.n > 0 OR EXISTS (SELECT FROM backfill_runs WHERE id = " ID ")";
}

/* ---- definitions ---- */

#define DEFINITIONS(schedules) \
	"SELECT jsonb_build_object('definitions', (SELECT coalesce(jsonb_agg(to_jsonb(d) - '{statement,prepare,finish}'::text[] ORDER BY d.name), '[]') FROM" \
	"    (SELECT * FROM backfill_definitions d WHERE coalesce(@->>'q', '') = '' OR strpos(lower(d.name), lower(@->>'q')) > 0" \
	"       OR strpos(lower(d.target::text), lower(@->>'q')) > 0 ORDER BY d.name LIMIT 500) d)," \
	"  'schedules', " schedules "), NULL::jsonb, NULL::jsonb, NULL::jsonb"

/*
 * The jobs of pg_cron that backfill_schedule has made, as far as the role may see them.  A job is called
 * "backfill DEFINITION", or "backfill DEFINITION on TABLE" if its command names a table.
 */
#define SCHEDULES \
	"(SELECT coalesce(jsonb_agg(jsonb_build_object('job', j.jobid, 'name', j.jobname, 'cron', j.schedule," \
	"    'definition', coalesce(g.parts[1], substr(j.jobname, length('backfill ') + 1)), 'target', g.parts[2]," \
	"    'role', j.username, 'active', j.active, 'command', j.command) ORDER BY j.jobname, j.jobid), '[]')" \
	"    FROM cron.job j LEFT JOIN LATERAL regexp_match(j.jobname, '^backfill (.*) on (\"([^\"]|\"\")*\"[.]\"([^\"]|\"\")*\")$') g(parts)" \
	"      ON j.command LIKE '%::pg_catalog.regclass)'" \
	"   WHERE j.jobname LIKE 'backfill %' AND j.database = current_database()" \
	"     AND (coalesce(@->>'q', '') = '' OR strpos(lower(j.jobname), lower(@->>'q')) > 0))"

const char *
queries_definitions(const DatabaseFacts *facts)
{
	return facts->cron ? DEFINITIONS(SCHEDULES) : DEFINITIONS("'[]'::jsonb");
}

const char *
queries_definition(const DatabaseFacts *facts)
{
	(void) facts;
	return
		"SELECT jsonb_build_object("
		" 'runs', (SELECT coalesce(jsonb_agg(" BRIEF("x") " ORDER BY x.id DESC), '[]') FROM"
		"     (SELECT * FROM backfill_runs r WHERE r.name = d.name ORDER BY r.id DESC LIMIT 20) x),"
		" 'may', CASE WHEN @->>'read_only' = 'true' OR NOT pg_has_role(d.owner, 'USAGE') THEN '{}'::jsonb"
		"   ELSE jsonb_build_object('start', format('A run of %s begins.', d.name),"
		"     'preview', format('The statement of %s is run for some rows, and rolled back.', d.name)) END),"
		" CASE WHEN @ ? 'quick' THEN NULL ELSE jsonb_build_object("
		"  'definition', to_jsonb(d),"
		"  'parameters', (SELECT coalesce(jsonb_agg(CASE jsonb_typeof(p.value) WHEN 'object' THEN"
		"      jsonb_build_object('name', p.key, 'type', p.value->'type', 'required', coalesce(p.value->'required', 'false'),"
		"        'options', p.value->'options', 'default', p.value->'default', 'description', p.value->'description')"
		"      ELSE jsonb_build_object('name', p.key, 'type', p.value, 'required', false,"
		"        'options', NULL, 'default', NULL, 'description', NULL) END ORDER BY p.key), '[]') FROM jsonb_each(d.parameters) p),"
		"  'settings', (SELECT jsonb_agg(jsonb_build_object('name', s.name, 'type', s.type, 'default', s.\"default\","
		"      'min', s.min_val, 'max', s.max_val, 'options', s.enumvals, 'description', s.description,"
		"      'value', d.settings->s.name, 'source', CASE WHEN d.settings ? s.name THEN 'definition' ELSE 'default' END)"
		"      ORDER BY s.name) FROM backfill_settings s),"
		"  'presets', (SELECT to_jsonb(s.enumvals) FROM backfill_settings s WHERE s.name = 'preset')) END, NULL::jsonb, NULL::jsonb"
		"  FROM backfill_definitions d WHERE d.name = @->>'name'";
}

const char *
queries_explain(const DatabaseFacts *facts)
{
	(void) facts;
	return
		"SELECT jsonb_build_object('lines', coalesce(jsonb_agg(e.\"QUERY PLAN\"), '[]'))"
		"  FROM backfill_explain(@->>'name', parameters => (nullif(@->>'parameters', ''))::jsonb,"
		"    measure => @->>'read_only' = 'false' AND coalesce(@->>'measure', '') = 'true',"
		"    target => (nullif(@->>'target', ''))::regclass) e";
}

/* ---- the server's health ---- */

/* Settings that are a limit for something that is shown beside them. */
#define HEALTH_SETTINGS \
	"('max_replica_lag', 'max_replica_lag_bytes', 'max_slot_retained', 'max_archive_backlog', 'max_dead_rows'," \
	" 'pause_for_maintenance', 'max_active_sessions', 'max_xmin_age', 'max_growth')"

const char *
queries_health(const DatabaseFacts *facts)
{
	(void) facts;
	return
		"WITH wal AS (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn),"
		" active AS MATERIALIZED (SELECT id, name, target, settings, throttled_by FROM backfill_runs"
		"    WHERE status IN " ACTIVE " ORDER BY id LIMIT 100) "
		"SELECT jsonb_build_object("
		" 'standbys', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.application_name, 'address', s.client_addr, 'state', s.state,"
		"     'sync', s.sync_state, 'lag', s.replay_lag, 'lag_bytes', pg_wal_lsn_diff(wal.lsn, s.replay_lsn)) ORDER BY s.application_name), '[]')"
		"     FROM pg_stat_replication s, wal),"
		" 'slots', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.slot_name, 'type', s.slot_type, 'active', s.active,"
		"     'status', s.wal_status, 'retained_bytes', pg_wal_lsn_diff(wal.lsn, s.restart_lsn), 'safe_bytes', s.safe_wal_size) ORDER BY s.slot_name), '[]')"
		"     FROM pg_replication_slots s, wal),"
		" 'vacuum', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', t.target, 'live', s.n_live_tup, 'dead', s.n_dead_tup,"
		"     'dead_share', CASE WHEN s.n_live_tup + s.n_dead_tup > 0 THEN round(s.n_dead_tup::numeric / (s.n_live_tup + s.n_dead_tup), 4) END,"
		"     'last_vacuum', greatest(s.last_vacuum, s.last_autovacuum), 'last_analyze', greatest(s.last_analyze, s.last_autoanalyze),"
		"     'running', (SELECT v.phase FROM pg_stat_progress_vacuum v WHERE v.relid = t.target AND v.datname = current_database() LIMIT 1),"
		"     'scanned', (SELECT round(100.0 * v.heap_blks_scanned / nullif(v.heap_blks_total, 0), 1) FROM pg_stat_progress_vacuum v"
		"                  WHERE v.relid = t.target AND v.datname = current_database() LIMIT 1)) ORDER BY t.target::text), '[]')"
		"     FROM (SELECT DISTINCT target FROM active) t LEFT JOIN pg_stat_all_tables s ON s.relid = t.target),"
		" 'snapshots', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.age DESC), '[]') FROM"
		"     (SELECT a.pid, a.usename AS role, a.application_name, a.state, a.xact_start, age(coalesce(a.backend_xmin, a.backend_xid)) AS age,"
		"             CASE WHEN a.query <> '' THEN left(a.query, 200) END AS query"
		"        FROM pg_stat_activity a WHERE coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL AND a.pid <> pg_backend_pid()"
		"       ORDER BY age(coalesce(a.backend_xmin, a.backend_xid)) DESC LIMIT 10) x),"
		" 'prepared', (SELECT coalesce(jsonb_agg(jsonb_build_object('gid', p.gid, 'role', p.owner, 'prepared', p.prepared, 'age', age(p.transaction))"
		"     ORDER BY p.prepared), '[]') FROM (SELECT * FROM pg_prepared_xacts ORDER BY prepared LIMIT 10) p),"
		" 'archive', (SELECT jsonb_build_object('mode', current_setting('archive_mode'), 'archived', a.archived_count, 'failed', a.failed_count,"
		"     'last_archived', a.last_archived_wal, 'last_archived_at', a.last_archived_time, 'last_failed', a.last_failed_wal,"
		"     'last_failed_at', a.last_failed_time) FROM pg_stat_archiver a),"
		" 'sessions', (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'client backend' AND a.state = 'active'"
		"     AND a.wait_event_type IS DISTINCT FROM 'Extension' AND a.pid <> pg_backend_pid()),"
		" 'limits', (SELECT coalesce(jsonb_agg(jsonb_build_object('run', r.id, 'name', r.name, 'target', r.target, 'setting', s.key, 'limit', s.value,"
		"     'now', CASE s.key"
		"        WHEN 'max_replica_lag' THEN (SELECT to_jsonb(max(x.replay_lag)) FROM pg_stat_replication x)"
		"        WHEN 'max_replica_lag_bytes' THEN (SELECT to_jsonb(max(pg_wal_lsn_diff(wal.lsn, x.replay_lsn))) FROM pg_stat_replication x, wal)"
		"        WHEN 'max_slot_retained' THEN (SELECT to_jsonb(max(pg_wal_lsn_diff(wal.lsn, x.restart_lsn))) FROM pg_replication_slots x, wal"
		"             WHERE x.wal_status IS DISTINCT FROM 'lost')"
		"        WHEN 'max_dead_rows' THEN (SELECT to_jsonb(round(x.n_dead_tup::numeric / nullif(x.n_live_tup + x.n_dead_tup, 0), 4))"
		"             FROM pg_stat_all_tables x WHERE x.relid = r.target)"
		"        WHEN 'max_xmin_age' THEN (SELECT to_jsonb(max(age(coalesce(x.backend_xmin, x.backend_xid)))) FROM pg_stat_activity x"
		"             WHERE x.datname = current_database() AND x.pid <> pg_backend_pid())"
		"        WHEN 'max_active_sessions' THEN (SELECT to_jsonb(count(*)) FROM pg_stat_activity x WHERE x.backend_type = 'client backend'"
		"             AND x.state = 'active' AND x.wait_event_type IS DISTINCT FROM 'Extension' AND x.pid <> pg_backend_pid()) END,"
		"     'holds', coalesce(split_part(r.throttled_by, ':', 1) = s.key, false), 'why', r.throttled_by)"
		"     ORDER BY r.id, s.key), '[]')"
		"     FROM active r CROSS JOIN LATERAL jsonb_each(r.settings) s WHERE s.key IN " HEALTH_SETTINGS ")),"
		" NULL::jsonb, NULL::jsonb, NULL::jsonb";
}

/* ---- metrics ---- */

const char *
queries_metrics(const DatabaseFacts *facts)
{
	return facts->metrics ?
		"SELECT jsonb_build_object('samples', coalesce(jsonb_agg(to_jsonb(m)), '[]')), NULL::jsonb, NULL::jsonb, NULL::jsonb FROM backfill_metrics m" :
		"SELECT NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb";
}
