-- Rows that are skipped: which parts come of a batch, what stands in
-- backfill_errors, what the sums are, and that backfill_retry mends it.  One
-- worker, so that everything has its order.
CREATE SCHEMA skip;
SET search_path = skip, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

CREATE TABLE runs (label text PRIMARY KEY, run bigint);
CREATE TABLE audit (label text, key text, quotient int);

-- Start a run over the table of that name.
CREATE FUNCTION start(label text, statement text, settings jsonb DEFAULT '{}', scope text DEFAULT NULL, key text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM backfill_define(label, label::regclass, statement, scope => scope, key => key,
		settings => '{"sleep": 0, "on_error": "skip", "batch_size": 10, "target_batch_time": 0, "max_error_rate": 1}' || settings);
	INSERT INTO runs VALUES (label, backfill_start(label));
END $$;
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '3 min';
BEGIN
	WHILE EXISTS (SELECT FROM backfill_runs WHERE id IN (SELECT run FROM runs) AND status NOT IN ('completed', 'failed', 'stopped')) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'not all runs have ended';
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;

-- What is wrong with the parts of a run, in the order of the walk whatever the
-- key: they begin where the one before ends, numbers follow one another, part 0
-- is the last of its number, and the sums in backfill_runs are theirs.  The
-- chain is followed from the only part that includes its start.
CREATE FUNCTION problems(id bigint) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	here backfill_batches;
	next backfill_batches;
	seen int := 0;
	parts int := (SELECT count(*) FROM backfill_batches WHERE run_id = id);
BEGIN
	LOOP
		IF seen = 0 THEN
			SELECT * INTO STRICT next FROM backfill_batches WHERE run_id = id AND start_inclusive;
			IF next.number <> 1 THEN RETURN NEXT 'the walk begins with batch ' || next.number; END IF;
		ELSE
			SELECT * INTO next FROM backfill_batches b WHERE run_id = id AND start_key = here.end_key AND NOT start_inclusive;
			EXIT WHEN NOT FOUND;
			IF next.number <> here.number + (here.part = 0)::int THEN
				RETURN NEXT format('part %s of batch %s comes after part %s of batch %s', next.part, next.number, here.part, here.number);
			END IF;
		END IF;
		seen := seen + 1;
		EXIT WHEN seen > parts;
		here := next;
		IF here.skipped IS DISTINCT FROM (here.status = 'failed') OR here.status NOT IN ('completed', 'failed') THEN
			RETURN NEXT format('part %s of batch %s is %s', here.part, here.number, here.status);
		END IF;
		IF here.skipped AND here.rows_scanned <> 1 THEN
			RETURN NEXT format('part %s of batch %s has %s rows', here.part, here.number, here.rows_scanned);
		END IF;
	END LOOP;
	IF seen <> parts THEN RETURN NEXT format('%s parts of %s are one after the other', seen, parts); END IF;
	IF here.part <> 0 THEN RETURN NEXT 'the walk ends in part ' || here.part; END IF;
	RETURN QUERY SELECT 'the sums differ' FROM backfill_runs r WHERE r.id = problems.id
		AND (r.batches, r.rows_scanned, r.rows_affected, r.errors) IS DISTINCT FROM
			(SELECT ROW(count(*) FILTER (WHERE NOT skipped), coalesce(sum(b.rows_scanned) FILTER (WHERE NOT skipped), 0)::bigint, coalesce(sum(b.rows_affected), 0)::bigint, count(*) FILTER (WHERE skipped))
			   FROM backfill_batches b WHERE run_id = r.id)::record;
	RETURN QUERY SELECT 'an error without its batch' FROM backfill_errors e WHERE run_id = id AND resolved_at IS NULL
		AND NOT EXISTS (SELECT FROM backfill_batches b WHERE skipped AND (b.run_id, b.number, b.part) = (e.run_id, e.number, e.part));
END $$;

-- One bad row in the middle, at the ends, and two side by side.
CREATE TABLE one (id int PRIMARY KEY, n int DEFAULT 0, divisor int DEFAULT 1);
INSERT INTO one SELECT i, 0, CASE WHEN i = 15 THEN 0 ELSE 1 END FROM generate_series(1, 30) i;
CREATE TABLE ends (LIKE one INCLUDING ALL);
INSERT INTO ends SELECT i, 0, CASE WHEN i IN (1, 10, 11, 25) THEN 0 ELSE 1 END FROM generate_series(1, 25) i;
CREATE TABLE every (LIKE one INCLUDING ALL);
INSERT INTO every SELECT i, 0, 0 FROM generate_series(1, 12) i;
CREATE TABLE alone (LIKE one INCLUDING ALL);
INSERT INTO alone VALUES (7, 0, 0);
-- Down the key.
CREATE TABLE down (LIKE one INCLUDING ALL);
INSERT INTO down SELECT * FROM ends;
-- A key of two columns, one of them with commas, quotes and an empty text.
CREATE TABLE pair (a text, b date, n int DEFAULT 0, divisor int DEFAULT 1, PRIMARY KEY (a, b));
INSERT INTO pair SELECT a, DATE '2024-01-01' + i, 0, CASE WHEN i = 3 THEN 0 ELSE 1 END FROM (VALUES ('x,y'), ('"q"'), (''), ('NULL')) v(a), generate_series(1, 6) i;
-- Bad rows out of scope are no errors.
CREATE TABLE scoped (LIKE one INCLUDING ALL);
INSERT INTO scoped SELECT i, 0, CASE WHEN i IN (5, 15) THEN 0 ELSE 1 END FROM generate_series(1, 20) i;
-- Several statements: what a skipped row did before is undone.
CREATE TABLE several (LIKE one INCLUDING ALL);
INSERT INTO several SELECT * FROM one;
-- A partitioned table.
CREATE TABLE parted (LIKE one INCLUDING ALL) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (15);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (15) TO (100);
INSERT INTO parted SELECT * FROM one;
-- A deferred constraint, which speaks at the commit.
CREATE TABLE deferred (LIKE one INCLUDING ALL, UNIQUE (n) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO deferred SELECT i, -i, CASE WHEN i = 15 THEN 2 ELSE 0 END FROM generate_series(1, 30) i;
UPDATE deferred SET divisor = 14 WHERE id = 15;
-- Rows go.
CREATE TABLE gone (LIKE one INCLUDING ALL);
INSERT INTO gone SELECT * FROM one;

SELECT start(t, 'UPDATE batch SET n = n + 1 / divisor') FROM unnest(ARRAY['one', 'ends', 'every', 'alone', 'pair', 'parted']) t;
SELECT start('down', 'UPDATE batch SET n = n + 1 / divisor', '{"direction": "desc"}');
SELECT start('scoped', 'UPDATE batch SET n = n + 1 / divisor', scope => 'id <> 5');
SELECT start('several', 'INSERT INTO audit SELECT ''several'', id::text, 1 FROM batch; UPDATE batch SET n = n + 1 / divisor');
SELECT start('deferred', 'UPDATE batch SET n = CASE WHEN divisor = 0 THEN id ELSE divisor END');
SELECT start('gone', 'DELETE FROM batch WHERE 1 / divisor = 1');
CALL settle();

SELECT label, status, batches, rows_scanned, rows_affected, rows_total, errors FROM runs JOIN backfill_runs ON id = run ORDER BY run;
SELECT label, problems(run) FROM runs ORDER BY run;
-- The check notices what is wrong.
BEGIN;
UPDATE backfill.batch SET start_key = '{11}' WHERE run_id = (SELECT run FROM runs WHERE label = 'one') AND number = 2 AND part = 1;
UPDATE backfill.batch SET rows_affected = 1 WHERE run_id = (SELECT run FROM runs WHERE label = 'ends') AND number = 2 AND part = 0;
DELETE FROM backfill.batch WHERE run_id = (SELECT run FROM runs WHERE label = 'down') AND number = 1 AND part = 0;
UPDATE backfill.error SET part = 77 WHERE run_id = (SELECT run FROM runs WHERE label = 'parted');
SELECT label, problems(run) FROM runs ORDER BY run;
ROLLBACK;
-- What failed.
SELECT label, number, key, sqlstate, message, constraint_name, attempts, resolved_at FROM runs JOIN backfill_errors ON run_id = run ORDER BY run, number, key;
-- How a batch was divided.
SELECT number, part, key_range, status, skipped, rows_scanned, rows_affected, error FROM runs JOIN backfill_batches ON run_id = run WHERE label = 'one' ORDER BY number, part;
SELECT number, part, key_range, skipped FROM runs JOIN backfill_batches ON run_id = run WHERE label = 'down' AND skipped ORDER BY number, part;
-- The tables: the rows that were not changed.
SELECT 'one', id, n FROM one WHERE n <> 1 UNION ALL SELECT 'ends', id, n FROM ends WHERE n <> 1 UNION ALL SELECT 'down', id, n FROM down WHERE n <> 1
UNION ALL SELECT 'scoped', id, n FROM scoped WHERE n <> 1 UNION ALL SELECT 'several', id, n FROM several WHERE n <> 1
UNION ALL SELECT 'parted', id, n FROM parted WHERE n <> 1 UNION ALL SELECT 'gone', id, n FROM gone UNION ALL SELECT 'deferred', id, n FROM deferred WHERE n < 0
ORDER BY 1, 2;
SELECT a, b, n FROM pair WHERE n <> 1 ORDER BY a COLLATE "C";
SELECT count(*), count(DISTINCT key), count(*) FILTER (WHERE key = '15') FROM audit;

-- Mended, and tried again.
UPDATE one SET divisor = 1; UPDATE ends SET divisor = 1 WHERE id > 10; UPDATE pair SET divisor = 1; UPDATE several SET divisor = 1; UPDATE down SET divisor = 1;
UPDATE deferred SET divisor = 0;
-- a row that is gone is no error any more
DELETE FROM alone;
UPDATE parted SET divisor = 1;
SELECT label, regexp_replace(backfill_retry(run), '\d+', 'N') FROM runs ORDER BY run;
CALL settle();
SELECT label, status, rows_scanned, rows_affected, errors FROM runs JOIN backfill_runs ON id = run ORDER BY run;
SELECT label, problems(run) FROM runs ORDER BY run;
SELECT label, key, attempts, resolved_at >= last_at AS resolved FROM runs JOIN backfill_errors ON run_id = run WHERE label <> 'every' ORDER BY run, number, key;
SELECT count(*), count(DISTINCT key), count(*) FILTER (WHERE key = '15') FROM audit;
SELECT 'one', n, count(*) FROM one GROUP BY n UNION ALL SELECT 'ends', n, count(*) FROM ends GROUP BY n UNION ALL SELECT 'down', n, count(*) FROM down GROUP BY n
UNION ALL SELECT 'pair', n, count(*) FROM pair GROUP BY n UNION ALL SELECT 'several', n, count(*) FROM several GROUP BY n ORDER BY 1, 2;

--
-- Statements that do not go through their range row by row in the order of the
-- key: wherever they were when the row failed, it is found, and it alone.
--
SELECT regexp_replace(backfill_delete(run), '\d+', 'N') FROM runs;
SELECT backfill_drop(label) FROM runs;
TRUNCATE runs, audit;
CREATE TABLE filtered (LIKE one INCLUDING ALL);
INSERT INTO filtered SELECT i * 3, 0, CASE WHEN i IN (8, 12, 40, 41) THEN 0 ELSE 1 END FROM generate_series(1, 50) i;
CREATE TABLE gaps (LIKE one INCLUDING ALL);
INSERT INTO gaps SELECT * FROM filtered;
CREATE TABLE gapsdown (LIKE one INCLUDING ALL);
INSERT INTO gapsdown SELECT * FROM filtered;
CREATE TABLE backwards (LIKE one INCLUDING ALL);
INSERT INTO backwards SELECT * FROM filtered ORDER BY id DESC;
CREATE TABLE calls (LIKE one INCLUDING ALL);
INSERT INTO calls SELECT * FROM filtered;
CREATE TABLE sorted (LIKE one INCLUDING ALL);
INSERT INTO sorted SELECT * FROM filtered;
CREATE TABLE joined (LIKE one INCLUDING ALL);
INSERT INTO joined SELECT * FROM filtered;
CREATE TABLE moved (LIKE one INCLUDING ALL);
INSERT INTO moved SELECT * FROM filtered;
CREATE TABLE atonce (LIKE one INCLUDING ALL);
INSERT INTO atonce SELECT * FROM filtered;
CREATE TABLE second (LIKE one INCLUDING ALL);
INSERT INTO second SELECT * FROM filtered;
CREATE TABLE late (LIKE one INCLUDING ALL);
INSERT INTO late SELECT * FROM filtered;
CREATE TABLE shards (LIKE one INCLUDING ALL) PARTITION BY HASH (id);
CREATE TABLE shards_0 PARTITION OF shards FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shards_1 PARTITION OF shards FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO shards SELECT * FROM filtered;
CREATE TABLE other (id int, weight int);
INSERT INTO other SELECT id, 1 FROM filtered ORDER BY md5(id::text);
CREATE FUNCTION note(id int, divisor int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO audit VALUES ('calls', id::text, 1 / divisor);
	UPDATE calls SET n = n + 1 WHERE calls.id = note.id;
	RETURN 1;
END $$;
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM 1 / NEW.divisor;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION later();

SELECT start('filtered', 'UPDATE batch SET n = n + 1 / divisor WHERE id % 2 = 0');
SELECT start('gaps', 'UPDATE batch SET n = n + 1 / divisor', scope => 'id % 2 = 0');
SELECT start('gapsdown', 'UPDATE batch SET n = n + 1 / divisor', '{"direction": "desc"}', scope => 'id % 2 = 0');
SELECT start(t, 'UPDATE batch SET n = n + 1 / divisor') FROM unnest(ARRAY['backwards', 'shards']) t;
SELECT start('calls', 'SELECT note(id, divisor) FROM batch');
SELECT start('sorted', 'WITH s AS (SELECT id, 1 / divisor AS one FROM (SELECT * FROM batch ORDER BY md5(id::text) OFFSET 0) r) UPDATE batch SET n = n + s.one FROM s WHERE s.id = batch.id');
SELECT start('joined', 'UPDATE batch SET n = n + weight / divisor FROM other WHERE other.id = batch.id');
SELECT start('moved', 'WITH gone AS (DELETE FROM batch RETURNING *) INSERT INTO audit SELECT ''moved'', id::text, 1 / divisor FROM gone');
SELECT start('atonce', 'WITH sums AS (SELECT max(1 / divisor) AS one FROM batch) UPDATE batch SET n = n + one FROM sums');
SELECT start('second', 'UPDATE batch SET n = n + 1; INSERT INTO audit SELECT ''second'', id::text, 1 / divisor FROM batch ORDER BY id DESC');
SELECT start('late', 'UPDATE batch SET n = n + 1');
CALL settle();
SELECT label, status, rows_affected, errors, error FROM runs JOIN backfill_runs ON id = run ORDER BY run;
SELECT label, problems(run) FROM runs ORDER BY run;
SELECT label, array_agg(key[1]::int ORDER BY key[1]::int) AS failed, array_agg(DISTINCT sqlstate) FROM runs JOIN backfill_errors ON run_id = run GROUP BY run, label ORDER BY run;
SELECT t, n, count(*), array_agg(id ORDER BY id) FILTER (WHERE divisor = 0) AS bad
  FROM (SELECT 'filtered' AS t, * FROM filtered UNION ALL SELECT 'gaps', * FROM gaps UNION ALL SELECT 'gapsdown', * FROM gapsdown UNION ALL SELECT 'backwards', * FROM backwards
		UNION ALL SELECT 'shards', * FROM shards UNION ALL SELECT 'calls', * FROM calls UNION ALL SELECT 'sorted', * FROM sorted UNION ALL SELECT 'joined', * FROM joined
		UNION ALL SELECT 'moved', * FROM moved UNION ALL SELECT 'atonce', * FROM atonce UNION ALL SELECT 'second', * FROM second UNION ALL SELECT 'late', * FROM late) r
 GROUP BY t, n ORDER BY t, n;
SELECT label, count(*), count(DISTINCT key), count(*) FILTER (WHERE key IN ('24', '36', '120', '123')) AS bad FROM audit GROUP BY label ORDER BY label;

SELECT regexp_replace(backfill_delete(run), '\d+', 'N') FROM runs;
SELECT count(*) FROM backfill_errors JOIN runs ON run = run_id;
SELECT backfill_drop(label) FROM runs;
DROP SCHEMA skip CASCADE;
