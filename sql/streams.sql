-- Streams: what a run is divided into, what is refused and with which hint, and what comes
-- of a run over a list, a query and partitions.
CREATE SCHEMA streams;
SET search_path = streams, public;
SET client_min_messages = warning;
SET datestyle = ISO;

-- Wait for the end of a run and say what came of it.
CREATE PROCEDURE settle(run_id bigint, INOUT result text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	r record;
	deadline timestamptz := clock_timestamp() + '3 min';
BEGIN
	LOOP
		COMMIT;
		SELECT * INTO STRICT r FROM backfill_runs WHERE id = run_id;
		EXIT WHEN r.status IN ('completed', 'failed', 'stopped');
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the run is still %: %', r.status, r.wait_reason;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	result := format('%s, %s rows affected', r.status, r.rows_affected) || coalesce(': ' || r.error, '');
END $$;
CREATE PROCEDURE run(name text, INOUT result text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	run_id bigint := backfill_start(name);
BEGIN
	CALL settle(run_id, result);
END $$;
-- What is refused, without numbers of runs.
CREATE FUNCTION said(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	hint text;
BEGIN
	EXECUTE sql INTO result;
	RETURN regexp_replace(result, '\yrun \d+', 'run N');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN sqlstate || ': ' || regexp_replace(sqlerrm, '\yrun \d+', 'run N') || '. ' || hint;
END $$;

-- The streams of the last run, in their order.
CREATE VIEW last AS
SELECT name, target, status, progress, rows_scanned, rows_total, rows_affected, cursor, workers, weight, bounds, error
  FROM backfill_streams WHERE run_id = (SELECT max(id) FROM backfill_runs);

CREATE TABLE account (account int, id int, v int NOT NULL DEFAULT 0, w text, PRIMARY KEY (account, id));
INSERT INTO account (account, id) SELECT a, i FROM generate_series(1, 5) a, generate_series(1, 100) i;
ANALYZE account;
CREATE TABLE parted (id int, day date NOT NULL, v int NOT NULL DEFAULT 0, w text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM ('2026-01-03') TO ('2026-01-04');
INSERT INTO parted (id, day) SELECT i, '2026-01-01' FROM generate_series(1, 20) i;
INSERT INTO parted (id, day) SELECT i, '2026-01-02' FROM generate_series(1, 300) i;
INSERT INTO parted (id, day) SELECT i, '2026-01-03' FROM generate_series(1, 100) i;
ANALYZE parted;

--
-- What is refused
--
-- a list
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a", "b", "a"]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '[]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a"');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a", ""]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a", null]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a", true]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a", ["b"]]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '[{"weight": 3}]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '[{"name": "a", "weight": 0}]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '[{"name": "a", "weight": "NaN"}]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '[{"name": "a", "weight": "much"}]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '[{"name": "a", "weight": {}}]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '[{"name": "a", "from": {"account": 1}}]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '[{"name": "a", "wieght": 1}]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => jsonb_build_array(repeat('x', 256))::text);
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => (SELECT jsonb_agg(i)::text FROM generate_series(1, 100001) i));
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '');
-- a query
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => 'partition');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => 'DELETE FROM account RETURNING id AS name');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => 'SELECT 1 AS name; SELECT 2 AS name');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => 'SELECT DISTINCT account FROM account');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => 'SELECT 1 AS name INTO made');
-- what it names may be made later, but is told of
SELECT backfill_define('later', 'account', 'UPDATE batch SET v = 1', streams => 'SELECT name FROM nowhere');
CALL run('later');
SELECT error_context FROM backfill_runs ORDER BY id DESC LIMIT 1;
-- partitions
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => 'partitions');
CREATE TABLE none (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
SELECT backfill_define('e', 'none', 'UPDATE batch SET v = 1', streams => 'partitions');
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER each_statement AFTER UPDATE ON parted FOR EACH STATEMENT EXECUTE FUNCTION note();
SELECT backfill_define('e', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
ALTER TABLE parted DISABLE TRIGGER each_statement;
SELECT backfill_define('disabled', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
DROP TRIGGER each_statement ON parted;
CREATE TRIGGER each_statement BEFORE DELETE ON parted_3 FOR EACH STATEMENT EXECUTE FUNCTION note();
SELECT backfill_define('e', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
DROP TRIGGER each_statement ON parted_3;
CREATE TRIGGER each_statement AFTER INSERT OR TRUNCATE ON parted FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER each_row BEFORE UPDATE ON parted_3 FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT backfill_define('no matter', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
DROP TRIGGER each_statement ON parted;
DROP TRIGGER each_row ON parted_3;
-- settings
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a"]', settings => '{"share_by": "account"}');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a"]', settings => '{"outside": true}');
SELECT backfill_define('e', 'account', NULL, streams => '["a"]');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', streams => '["a"]', settings => '{"max_batches": 3}');
SELECT backfill_define('e', 'account', 'UPDATE batch SET v = 1', scope => 'v = 0', key => 'ctid', streams => '["a"]');
SELECT backfill_define('plain', 'account', 'UPDATE batch SET v = 1', streams => '["a"]');
SELECT backfill_start('plain', settings => '{"max_batches": 3}');
-- the statement is checked for one of the partitions
SELECT backfill_define('e', 'parted', 'UPDATE batch SET x = 1', streams => 'partitions');
SELECT backfill_define('e', 'account', 'UPDATE batch SET w = run.streams', streams => '["a"]');
SELECT backfill_define('e', 'parted', 'UPDATE batch SET v = 1', key => 'nothing', streams => 'partitions');

-- row security and rights: those of the parent are not those of a partition
CREATE ROLE regress_streams LOGIN;
GRANT USAGE, CREATE ON SCHEMA streams TO regress_streams;
GRANT SELECT, UPDATE ON parted, parted_1, parted_3 TO regress_streams;
SET ROLE regress_streams;
SELECT backfill_define('mine', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
RESET ROLE;
GRANT SELECT ON parted_2 TO regress_streams;
SET ROLE regress_streams;
SELECT backfill_define('mine', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
RESET ROLE;
GRANT UPDATE ON parted_2 TO regress_streams;
SET ROLE regress_streams;
SELECT backfill_define('mine', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
RESET ROLE;
ALTER TABLE parted ENABLE ROW LEVEL SECURITY;
SET ROLE regress_streams;
SELECT backfill_define('mine', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
RESET ROLE;
-- those of a partition do not hold through the parent
ALTER TABLE parted_3 ENABLE ROW LEVEL SECURITY;
ALTER TABLE parted DISABLE ROW LEVEL SECURITY;
SET ROLE regress_streams;
SELECT backfill_define('mine', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
SELECT backfill_start('mine');
RESET ROLE;
ALTER TABLE parted_3 DISABLE ROW LEVEL SECURITY;
ALTER TABLE parted ENABLE ROW LEVEL SECURITY;
-- who is exempt from it may
SELECT backfill_define('exempt', 'parted', 'UPDATE batch SET v = 1', streams => 'partitions');
ALTER TABLE parted DISABLE ROW LEVEL SECURITY;

-- a partition on another server
CREATE FOREIGN DATA WRAPPER regress_streams_fdw;
CREATE SERVER regress_streams_server FOREIGN DATA WRAPPER regress_streams_fdw;
CREATE TABLE far (id int NOT NULL, v int) PARTITION BY RANGE (id);
CREATE TABLE near PARTITION OF far FOR VALUES FROM (0) TO (10);
ALTER TABLE near ADD PRIMARY KEY (id);
CREATE FOREIGN TABLE away PARTITION OF far FOR VALUES FROM (10) TO (20) SERVER regress_streams_server;
SELECT backfill_define('e', 'far', 'UPDATE batch SET v = 1', streams => 'partitions');
DROP FOREIGN TABLE away;
DROP SERVER regress_streams_server;
DROP FOREIGN DATA WRAPPER regress_streams_fdw;

--
-- A list
--
SELECT backfill_define('list', 'account', 'UPDATE batch SET v = v + 1, w = run.stream', scope => 'account = run.stream::int',
	streams => '["2", {"name": "4", "from": [4], "to": [4], "weight": 3}, {"name": "5", "from": ["5", "21"], "to": "5", "weight": "7.5"}, 1]',
	settings => '{"batch_size": 250, "target_batch_time": 0}');
SELECT name, streams, scope FROM backfill_definitions WHERE name = 'list';
CALL run('list');
SELECT * FROM last;
SELECT account, v, w, count(*), min(id), max(id) FROM account GROUP BY 1, 2, 3 ORDER BY 1, 2;
SELECT name, status, progress, rows_scanned, rows_total, rows_affected, streams FROM backfill_runs ORDER BY id DESC LIMIT 1;
SELECT stream, count(*), min(number), bool_and(status = 'completed') FROM backfill_batches
 WHERE run_id = (SELECT max(id) FROM backfill_runs) GROUP BY 1 ORDER BY 1;

--
-- A query
--
UPDATE account SET v = 0, w = NULL;
SELECT backfill_define('query', 'account', 'UPDATE batch SET v = v + 1, w = run.stream',
	streams => $$SELECT 'account ' || account AS name, ARRAY[account] AS "from", ARRAY[account] AS "to", count(*) * account AS weight, 'more' AS other
		FROM account GROUP BY account ORDER BY account$$, settings => '{"workers": 2}');
CALL run('query');
SELECT name, status, rows_affected, cursor, weight, bounds FROM last;
SELECT count(*) FROM account WHERE v = 1 AND w = 'account ' || account;
-- as it stands when the run begins
DELETE FROM account WHERE account > 2;
CALL run('query');
SELECT name, rows_affected FROM last;
-- with none there is nothing to do
SELECT backfill_define('nothing', 'account', 'UPDATE batch SET v = 1', streams => 'SELECT 1 AS name WHERE false');
CALL run('nothing');
SELECT * FROM last;
-- rows that are no streams
SELECT backfill_define('twice', 'account', 'UPDATE batch SET v = 1', streams => 'SELECT 1 AS name FROM generate_series(1, 2)');
CALL run('twice');
SELECT backfill_define('unnamed', 'account', 'UPDATE batch SET v = 1', streams => 'SELECT NULL AS name');
CALL run('unnamed');
SELECT backfill_define('bounded', 'account', 'UPDATE batch SET v = 1', streams => $$SELECT 1 AS name, '{"x": 1}'::jsonb AS "from"$$);
CALL run('bounded');
SELECT error, sqlstate, error_context FROM backfill_runs ORDER BY id DESC LIMIT 1;
-- a bound that is no key fails its stream
SELECT backfill_define('no key', 'account', 'UPDATE batch SET v = 1', streams => '["a", {"name": "b", "from": ["x"]}]');
CALL run('no key');
SELECT name, status, error FROM last;
SELECT regexp_replace(error_context, '\d+', 'N') FROM backfill_runs ORDER BY id DESC LIMIT 1;
SELECT kind, stream, sqlstate, reason FROM backfill_events WHERE run_id = (SELECT max(id) FROM backfill_runs) AND kind <> 'transition' ORDER BY id;

--
-- Partitions
--
SELECT backfill_define('parts', 'parted', 'UPDATE batch SET v = v + 1, w = run.stream', streams => ' Partitions ', settings => '{"workers": 2}');
CALL run('parts');
SELECT name, target, status, progress, rows_scanned, rows_total, rows_affected, weight, cursor FROM last;
SELECT day, w, count(*) FROM parted WHERE v = 1 GROUP BY 1, 2 ORDER BY 1;
SELECT target, status, progress, rows_scanned, rows_total, rows_affected FROM backfill_runs ORDER BY id DESC LIMIT 1;
-- along an index of the parent: its partitions have their own
UPDATE parted SET v = 0;
CREATE UNIQUE INDEX by_id ON parted (id, day);
SELECT backfill_define('along', 'parted', 'UPDATE batch SET v = v + 1', key => 'by_id', streams => 'partitions');
CALL run('along');
SELECT name, rows_affected, cursor FROM last;
SELECT v, count(*) FROM parted GROUP BY 1;
-- without a unique key of the parent, in several levels, in another schema; one without an index fails
CREATE SCHEMA streams_too;
CREATE TABLE loose (id int NOT NULL, day date, v int NOT NULL DEFAULT 0, w text) PARTITION BY RANGE (day);
CREATE TABLE loose_a PARTITION OF loose FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
CREATE TABLE streams_too.loose_b PARTITION OF loose FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
CREATE TABLE loose_c PARTITION OF loose FOR VALUES FROM ('2026-01-03') TO ('2026-01-04') PARTITION BY LIST (id);
CREATE TABLE loose_c1 PARTITION OF loose_c FOR VALUES IN (2);
CREATE TABLE loose_c2 PARTITION OF loose_c DEFAULT;
INSERT INTO loose SELECT i, '2026-01-01'::date + i % 3 FROM generate_series(1, 300) i;
ALTER TABLE loose_a ADD PRIMARY KEY (id);
ALTER TABLE streams_too.loose_b ADD PRIMARY KEY (id);
ALTER TABLE loose_c2 ADD PRIMARY KEY (id);
ANALYZE loose;
SELECT backfill_define('through the parent', 'loose', 'UPDATE batch SET v = v + 1');
SELECT backfill_define('loose', 'loose', 'UPDATE batch SET v = v + 1, w = run.stream', streams => 'partitions', settings => '{"on_error": "skip", "workers": 2}');
CALL run('loose');
SELECT name, target, status, rows_affected, error FROM last;
SELECT v, w, count(*) FROM loose GROUP BY 1, 2 ORDER BY 1, 2;
ALTER TABLE loose_c1 ADD PRIMARY KEY (id);
SELECT said($$SELECT backfill_resume('loose')$$);
SELECT max(id) AS id FROM backfill_runs \gset
CALL settle(:id);
SELECT name, status, rows_affected, error FROM last;
SELECT v, w, count(*) FROM loose GROUP BY 1, 2 ORDER BY 1, 2;

--
-- One stream of a run
--
SELECT backfill_start('list', start_at => 'tomorrow') AS id \gset
SELECT said(format($$SELECT backfill_pause(%s, stream => '2')$$, :id));
SELECT said(format('SELECT backfill_stop(%s)', :id));
SELECT max(id) AS id FROM backfill_runs WHERE name = 'list' AND status = 'completed' \gset
SELECT said(format($$SELECT backfill_pause(%s, stream => 'x')$$, :id));
SELECT said(format($$SELECT backfill_pause(%s, stream => '2')$$, :id));
SELECT said(format($$SELECT backfill_stop(%s, stream => '2')$$, :id));
SELECT said(format($$SELECT backfill_stop(%s, immediate => true, stream => '2')$$, :id));
SELECT said(format($$SELECT backfill_resume(%s, stream => '2')$$, :id));
SELECT said(format('SELECT backfill_retry(%s)', :id));
SELECT backfill_define('whole', 'account', 'UPDATE batch SET v = v');
CALL run('whole');
SELECT said($$SELECT backfill_stop('whole', stream => 'x')$$);
SELECT backfill_pause(NULL::bigint, stream => 'x') IS NULL, backfill_stop(:id, NULL, 'x') IS NULL, backfill_resume(NULL::text) IS NULL;

-- what is forgotten
SELECT count(*) FROM backfill.stream WHERE run_id = :id;
SELECT said(format('SELECT backfill_delete(%s)', :id));
SELECT count(*) FROM backfill.stream WHERE run_id = :id;
SELECT count(*) FROM backfill.batch b WHERE run_id < 0 AND NOT EXISTS (SELECT FROM backfill.stream s WHERE s.id = b.run_id);

DROP OWNED BY regress_streams;
SELECT backfill_drop('mine');
DROP SCHEMA streams, streams_too CASCADE;
DROP ROLE regress_streams;
