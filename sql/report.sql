-- backfill_report: all of it for a run whose rows are made up, so that every number
-- is known.  What real runs leave in those rows is the matter of test/t/report_run.pl.
CREATE SCHEMA report;
SET search_path = report, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE ROLE regress_report_starter;
\pset format unaligned
\pset tuples_only on
\set VERBOSITY terse

CREATE TABLE orders (id bigint PRIMARY KEY, n int);
INSERT INTO orders SELECT i, 0 FROM generate_series(1, 100) i;

-- A run of that id, which began in a far future, where nothing is pruned, at midnight; "more" are further columns.
CREATE FUNCTION make_run(id bigint, name text, status text, seconds float8, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql
AS $$
	INSERT INTO backfill.run
	SELECT (jsonb_populate_record(NULL::backfill.run, jsonb_build_object(
		'id', id, 'name', name, 'status', status, 'owner', current_user, 'started_by', 'regress_report_starter',
		'immediate', false, 'dormant', false, 'prepare_step', 0, 'finish_step', 0, 'verified', false, 'closings', 0,
		'generic', false, 'pass', 1, 'pass_after', 0, 'pass_rows', 0, 'rollup_number', 0, 'rows_scanned', 0,
		'rows_affected', 0, 'batches', 0, 'wal_bytes', 0, 'pages_pruned', 0, 'space_freed', 0, 'resumed_rows', 0,
		'resumed_number', 0, 'throttle_times', '{}'::jsonb, 'worker_times', '{}'::jsonb, 'yields', 0,
		'database', (SELECT oid FROM pg_database WHERE datname = current_database()),
		'system_identifier', (SELECT system_identifier FROM pg_control_system()),
		'target', 'report.orders', 'statement', 'UPDATE batch SET n = n + 1',
		'parameters', '{}'::jsonb, 'parameter_types', '{}'::jsonb, 'settings', '{}'::jsonb, 'search_path', 'public',
		'created_at', '2100-01-01 23:59:50+00', 'started_at', '2100-01-02 00:00:00+00',
		'finished_at', '2100-01-02 00:00:00+00'::timestamptz + make_interval(secs => seconds)) || more)).*
$$;

-- Batches of that run from one number to another, one a second.
CREATE FUNCTION make_batches(run_id bigint, first int, last int, rows bigint, seconds float8, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql
AS $$
	INSERT INTO backfill.batch
	SELECT (jsonb_populate_record(NULL::backfill.batch, jsonb_build_object(
		'run_id', run_id, 'number', i, 'part', 0, 'start_key', ARRAY[i::text], 'end_key', ARRAY[(i + 1)::text],
		'start_inclusive', i = 1, 'status', 'completed', 'skipped', false, 'attempt', 1, 'crashes', 0, 'tries', 0,
		'rows_scanned', rows, 'rows_affected', rows, 'duration', make_interval(secs => seconds), 'cpu_time', make_interval(secs => seconds * 0.9),
		'started_at', '2100-01-02 00:00:00+00'::timestamptz + make_interval(secs => i - 0.5),
		'finished_at', '2100-01-02 00:00:00+00'::timestamptz + make_interval(secs => i - 0.25), 'wal_bytes', rows * 100) || more)).*
	  FROM generate_series(first, last) i
$$;

--
-- Nothing yet, or no such run.
--

SELECT * FROM backfill_report(900001);
SELECT * FROM backfill_report('nobody');
SELECT * FROM backfill_report(NULL::bigint);
SELECT * FROM backfill_report(1, format => 'xml');
SELECT * FROM backfill_report(1, format => NULL);
SELECT make_run(900001, 'idle', 'stopped', NULL, '{"started_at": null}');
SELECT * FROM backfill_report(900001);
SELECT jsonb_path_query(backfill_report('idle', format => 'JSON')::jsonb, '$.rows');

--
-- A run with a bit of everything.
--

SELECT make_run(900002, 'everything', 'completed', 400, '{"rollup_number": 100, "rows_scanned": 104500, "rows_total": 104500, "rows_affected": 4500,
	"batches": 100, "wal_bytes": 104857600, "table_size": 10485760, "table_growth": 5242880, "index_size": 2097152, "index_growth": -1048576,
	"space_freed": 1048576, "yields": 3, "scope": "n = 0", "rows_remaining": 2, "settings": {"sleep": "200 ms", "nice": 0.5},
	"throttle_times": {"rate_limit": 200.5, "window": 60, "foreground": 3}, "worker_times": {"running": 100, "sleeping": 250, "starting": 0.004, "retrying": 50}}');
SELECT make_batches(900002, 1, 90, 1000, 0.25, '{"rows_updated": 1000, "hot_updated": 100, "blocks_read": 10, "full_pages": 70}');
SELECT make_batches(900002, 91, 91, 5000, 2, '{"attempt": 3, "error": "deadlock detected"}');
SELECT make_batches(900002, 92, 92, 1000, 4, '{"lock_wait": "3.5 s", "cpu_time": "0.4 s"}');
SELECT make_batches(900002, 93, 93, 1000, 1, '{"blocks_read": 5000, "cpu_time": "0.2 s"}');
SELECT make_batches(900002, 94, 94, 1000, 0.9, '{"full_pages": 2000}');
SELECT make_batches(900002, 95, 95, 1000, 3, '{"cpu_time": "0.5 s"}');
SELECT make_batches(900002, 96, 96, 500, 6, '{"client": "sender 1", "cpu_time": null}');
SELECT make_batches(900002, 97, 97, 1000, 0.8, '{"part": 2, "cpu_time": "0.24 s", "attempt": 2}');
SELECT make_batches(900002, 98, 100, 1000, 0.7, '{"cpu_time": "0.6 s"}');
INSERT INTO backfill.error (run_id, number, part, key, sqlstate, message, first_at, last_at, resolved_at, repaired)
SELECT 900002, i, 0, ARRAY[i::text], CASE WHEN i % 3 = 0 THEN '23505' ELSE '22012' END, CASE WHEN i % 3 = 0 THEN 'duplicate key' ELSE 'division by zero' END,
	'2100-01-02', '2100-01-02', CASE WHEN i > 8 THEN '2100-01-02'::timestamptz END, i = 9 FROM generate_series(1, 10) i;
INSERT INTO backfill.event (run_id, name, owner, kind, at, status, sqlstate, reason)
SELECT 900002, 'everything', current_user::regrole, kind, '2100-01-02'::timestamptz + at * interval '1 s', status, sqlstate, reason
  FROM (VALUES ('transition', -10, 'enqueued', NULL, NULL), ('transition', 0, 'running', NULL, NULL), ('transition', 300, 'paused', NULL, NULL),
	('transition', 350, 'enqueued', NULL, NULL), ('transition', 360, 'running', NULL, NULL), ('transition', 400, 'completed', NULL, NULL),
	('retry', 10, NULL, '40P01', 'deadlock detected'), ('retry', 11, NULL, '40P01', 'deadlock detected'), ('retry', 12, NULL, '55P03', 'canceling statement due to lock timeout'))
	v(kind, at, status, sqlstate, reason);
SELECT * FROM backfill_report(900002);

-- the same as JSON; the same keys in all
SELECT jsonb_pretty(backfill_report(900002, format => 'json')::jsonb #- '{batches,over_time}' #- '{slowest}' #- '{next_time}');
SELECT jsonb_path_query(backfill_report(900002, format => 'json')::jsonb, '$.batches.over_time[0]');
SELECT jsonb_path_query(backfill_report(900002, format => 'json')::jsonb, '$.slowest[1]');
SELECT jsonb_path_query(backfill_report(900002, format => 'json')::jsonb, '$.next_time[*].code');
SELECT count(*), count(DISTINCT keys) FROM (SELECT array_agg(k ORDER BY k) AS keys
	FROM unnest(ARRAY[900001, 900002]) i, backfill_report(i, format => 'json') r, jsonb_object_keys(r."REPORT"::jsonb) k GROUP BY i) k;

--
-- Other lessons, and none.
--

CREATE FUNCTION lessons(id bigint) RETURNS SETOF text LANGUAGE sql
AS $$ SELECT "REPORT" FROM backfill_report(id) WHERE "REPORT" ~ '^(Next time|  Hint)' $$;

SELECT make_run(900003, 'small', 'completed', 100, '{"rollup_number": 20, "settings": {"min_batch_size": 100, "reuse_space": false}, "table_size": 1000000, "table_growth": 2000000, "throttle_times": {"max_replica_lag": 20, "batch cost": 1}}');
SELECT make_batches(900003, 1, 20, 100, 2, '{"cpu_time": "0.1 s"}');
SELECT lessons(900003);
SELECT make_run(900004, 'large', 'failed', 100, '{"rollup_number": 20, "settings": {"max_batch_size": 100}, "sqlstate": "22012", "error": "division by zero"}');
SELECT make_batches(900004, 1, 20, 100, 0.001, '{"lock_wait": "0.1 ms"}');
SELECT lessons(900004);
SELECT "REPORT" FROM backfill_report(900004) WHERE "REPORT" ~ '^  (Status|Error)';
SELECT make_run(900005, 'fine', 'completed', 100, '{"rollup_number": 100}');
SELECT make_batches(900005, 1, 100, 5000, 0.2);
SELECT lessons(900005);

-- any number of kinds of errors are ten lines and a last one
INSERT INTO backfill.error (run_id, number, part, key, sqlstate, message, first_at, last_at)
SELECT 900005, i, 0, '{1}', 'X' || lpad(i::text, 4, '0'), repeat('long ', 1000), '2100-01-02', '2100-01-02' FROM generate_series(1, 100) i;
SELECT count(*), max(length("REPORT")) < 300 FROM backfill_report(900005) WHERE "REPORT" LIKE '  Rows with SQLSTATE %';
SELECT "REPORT" FROM backfill_report(900005) WHERE "REPORT" LIKE '  ... %';

-- percentiles are values that there are, and those that a sort finds, or a hundredth more
SELECT make_run(900006, 'spread', 'completed', 100, '{"rollup_number": 5000}');
INSERT INTO backfill.batch (run_id, number, start_key, end_key, start_inclusive, status, rows_scanned, duration, finished_at)
SELECT 900006, i, '{1}', '{2}', false, 'completed', (i * 7919) % 5000 + 1, ((i * 104729) % 99991 + 1) * interval '10 us', '2100-01-02 00:00:01+00' FROM generate_series(1, 5000) i;
WITH d AS (SELECT backfill_report(900006, format => 'json')::jsonb -> 'batches' AS b),
	 p AS (SELECT f, percentile_disc(f / 100) WITHIN GROUP (ORDER BY extract(epoch FROM duration)::float8) AS seconds,
				  percentile_disc(f / 100) WITHIN GROUP (ORDER BY rows_scanned) AS rows
			 FROM backfill.batch, unnest(ARRAY[50, 90, 95, 99, 100]::float8[]) f WHERE run_id = 900006 GROUP BY f)
SELECT f, (b -> 'seconds_percentiles' ->> f::text)::float8 BETWEEN seconds AND seconds * 1.01 + 0.000001,
	   (b -> 'rows_percentiles' ->> f::text)::float8 BETWEEN rows AND rows * 1.01,
	   EXISTS (SELECT FROM backfill.batch WHERE run_id = 900006 AND rows_scanned = (b -> 'rows_percentiles' ->> f::text)::int)
  FROM p, d ORDER BY f;
SELECT sum(x::int) FROM jsonb_path_query((SELECT backfill_report(900006, format => 'json')::jsonb), '$.batches.by_seconds[*].batches') x;

-- who may see it
CREATE ROLE regress_report_stranger;
CREATE ROLE regress_report_monitor IN ROLE pg_monitor;
GRANT USAGE ON SCHEMA report TO regress_report_stranger, regress_report_monitor;
SET ROLE regress_report_stranger;
SELECT * FROM backfill_report(900005);
SELECT * FROM backfill_report('fine');
RESET ROLE;
SET ROLE regress_report_monitor;
SELECT "REPORT" FROM backfill_report('fine') LIMIT 1;
RESET ROLE;
DROP TABLE orders;
SELECT "REPORT" FROM backfill_report('fine') LIMIT 1;

DELETE FROM backfill.event WHERE run_id BETWEEN 900001 AND 900006;
DELETE FROM backfill.error WHERE run_id BETWEEN 900001 AND 900006;
DELETE FROM backfill.batch WHERE run_id BETWEEN 900001 AND 900006;
DELETE FROM backfill.run WHERE id BETWEEN 900001 AND 900006;
DROP OWNED BY regress_report_stranger, regress_report_monitor;
DROP ROLE regress_report_stranger, regress_report_monitor, regress_report_starter;
DROP SCHEMA report CASCADE;
