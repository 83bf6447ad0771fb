-- UPDATE batch and DELETE FROM batch are one range scan of the key's index: no
-- self-join, no sequential scan, no rows read outside of the range.  The
-- statistics of the table and the index say what was done.
CREATE SCHEMA plan;
SET search_path = plan, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

-- How to fill the tables anew: dead entries of an index would be read, too.
CREATE TABLE fills (target regclass PRIMARY KEY, command text);

-- Run a definition, wait until its statistics have arrived, and say how the
-- tables below "target" were read, for 100 batches of 100 rows.  Each batch is
-- one scan of an index, the search for its end another, in which no row of the
-- table need be fetched; the ends of the walk and the last count are a few more.
CREATE PROCEDURE plan(target regclass, statement text, scope text DEFAULT NULL, settings jsonb DEFAULT '{}', INOUT result text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	run_id bigint;
	r record;
	s record;
	rels oid[] := ARRAY(SELECT relid FROM pg_partition_tree(target) WHERE isleaf UNION SELECT target::oid);
	deadline timestamptz := clock_timestamp() + '3 min';
BEGIN
	EXECUTE format('TRUNCATE %s', target);
	EXECUTE (SELECT command FROM fills f WHERE f.target = plan.target);
	EXECUTE format('ANALYZE %s', target);
	COMMIT;
	PERFORM pg_stat_reset_single_table_counters(o) FROM unnest(rels) o;
	PERFORM pg_stat_reset_single_table_counters(indexrelid) FROM pg_index WHERE indrelid = ANY (rels);
	PERFORM backfill_define('plan', target, statement, scope, settings => '{"batch_size": 100, "target_batch_time": 0, "sleep": 0}' || settings);
	COMMIT;
	run_id := backfill_start('plan');
	LOOP
		COMMIT;
		SELECT * INTO STRICT r FROM backfill_runs WHERE id = run_id;
		EXIT WHEN r.status IN ('completed', 'failed', 'stopped');
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the run is still %', r.status;
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
	LOOP
		COMMIT;
		PERFORM pg_stat_clear_snapshot();
		SELECT sum(seq_scan) AS seq_scan, sum(t.idx_scan) AS idx_scan, sum(n_tup_upd + n_tup_del) AS changed,
			   (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = ANY (rels)) AS read,
			   (SELECT sum(i.idx_scan) FROM pg_stat_user_indexes i WHERE i.relid = ANY (rels) AND indexrelname NOT LIKE '%pkey') AS other_idx_scan
		  INTO s FROM pg_stat_user_tables t WHERE relid = ANY (rels);
		-- a process that has left has sent them all
		EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = format('backfill run %s', run_id)) OR clock_timestamp() > deadline;
		PERFORM pg_sleep(0.02);
	END LOOP;
	result := format('%s, %s batches, %s rows affected, %s changed; sequential scans: %s; scans of the key: %s; of other indexes: %s; entries read: %s', r.status, r.batches, r.rows_affected, s.changed,
		s.seq_scan,
		CASE WHEN s.idx_scan BETWEEN 2 * r.batches AND 2 * r.batches + 30 THEN 'two a batch' ELSE s.idx_scan::text END,
		s.other_idx_scan,
		-- the searches for the limits read the entries once more
		CASE WHEN s.read BETWEEN 2 * r.rows_scanned - 100 AND 2 * r.rows_scanned + 300 THEN 'two a row' ELSE s.read::text END);
END $$;

CREATE TABLE one (id bigint PRIMARY KEY, n int DEFAULT 0, other int, x text);
CREATE INDEX one_other ON one (other);
INSERT INTO fills VALUES ('one', $$INSERT INTO one SELECT i, 0, i % 10, md5(i::text) FROM generate_series(1, 10000) i$$);
CALL plan('one', 'UPDATE batch SET x = upper(x)');
CALL plan('one', 'UPDATE batch b SET n = b.n + 1 WHERE b.n = 0', 'x IS NOT NULL');
-- also where the scope has an index of its own
CALL plan('one', 'UPDATE batch SET n = n + 1 RETURNING id', 'other = 3');
CALL plan('one', 'UPDATE batch SET n = n + 1', settings => '{"direction": "desc"}');
CREATE TABLE bin (id bigint);
CALL plan('one', 'WITH gone AS (DELETE FROM batch RETURNING id) INSERT INTO bin SELECT id FROM gone');
CALL plan('one', 'DELETE FROM batch');

-- a key of several columns
CREATE TABLE two (a int, b uuid, n int DEFAULT 0, PRIMARY KEY (a, b));
INSERT INTO fills VALUES ('two', $$INSERT INTO two SELECT i % 7, md5(i::text)::uuid FROM generate_series(1, 10000) i$$);
CALL plan('two', 'UPDATE batch SET n = n + 1');
CALL plan('two', 'DELETE FROM batch', settings => '{"direction": "desc"}');

-- text with a collation
CREATE TABLE three (k varchar(40) COLLATE "C" PRIMARY KEY, n int DEFAULT 0);
INSERT INTO fills VALUES ('three', $$INSERT INTO three SELECT md5(i::text) FROM generate_series(1, 10000) i$$);
CALL plan('three', 'UPDATE batch SET n = n + 1');

-- partitions: no scan of those that the range does not touch
CREATE TABLE parted (id bigint PRIMARY KEY, n int DEFAULT 0) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (5001);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (5001) TO (100000);
INSERT INTO fills VALUES ('parted', $$INSERT INTO parted SELECT generate_series(1, 10000)$$);
CALL plan('parted', 'UPDATE batch SET n = n + 1');
CALL plan('parted', 'DELETE FROM batch');
-- nor if only the first column of the key tells which they are
CREATE TABLE days (at date, id int, n int DEFAULT 0, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE days_%s PARTITION OF days FOR VALUES FROM (%L) TO (%L)', i, date '2026-01-01' + i, date '2026-01-02' + i) FROM generate_series(0, 9) i \gexec
INSERT INTO fills VALUES ('days', $$INSERT INTO days SELECT date '2026-01-01' + (i - 1) / 1000, i FROM generate_series(1, 10000) i$$);
CALL plan('days', 'UPDATE batch SET n = n + 1');
CALL plan('days', 'UPDATE batch SET n = n + 1 FROM (VALUES (1)) v (x) WHERE batch.n < v.x', settings => '{"direction": "desc"}');

-- and they are all that explain shows; where the range tells nothing of them it warns, and shows a few
SELECT backfill_define('plan', 'days', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 100}');
SELECT l FROM backfill_explain('plan') l WHERE l ~ '^  Partitions|looks into';
SELECT count(DISTINCT m) FROM backfill_explain('plan', measure => true) l, regexp_matches(l, '(?:Scan.* on|Update on) (days_[0-9])', 'g') m WHERE l !~ 'Index Only';
CREATE TABLE regions (id int, region int, n int DEFAULT 0, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
DO $$ BEGIN FOR i IN 1 .. 40 LOOP EXECUTE format('CREATE TABLE regions_%s PARTITION OF regions FOR VALUES IN (%s)', i, i); END LOOP; END $$;
INSERT INTO regions SELECT i, 1 + i % 40 FROM generate_series(1, 10000) i;
ANALYZE regions;
SELECT backfill_define('plan', 'regions', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 100}');
SELECT l FROM backfill_explain('plan') l WHERE l ~ '^  Partitions|looks into|^    Update on|^    ... [0-9]+ more';
SELECT bool_and(l < 60) FROM (SELECT count(*) FROM backfill_explain('plan') UNION ALL SELECT count(*) FROM backfill_explain('plan', measure => true)) x (l);
SELECT (backfill_explain('plan', format => 'json'))::jsonb->'plans'->'partitions';
-- partitions that are smaller than a batch are looked into because they have to be
SELECT backfill_define('plan', 'regions', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 5000}');
SELECT l FROM backfill_explain('plan') l WHERE l ~ 'looks into';

SELECT backfill_drop('plan');
DROP SCHEMA plan CASCADE;
