-- A transaction that is rolled back leaves nothing, and starts nothing.
CREATE TABLE people (id bigint PRIMARY KEY, n int DEFAULT 0);
INSERT INTO people SELECT generate_series(1, 100);
\o /dev/null
BEGIN;
SELECT backfill_define('count', 'people', 'UPDATE batch SET n = n + 1');
SELECT backfill_start('count');
SELECT backfill_define('other', 'people', 'UPDATE batch SET n = n + 1');
SELECT backfill_start('other', settings => '{"workers": 2, "share_target": true}');
ROLLBACK;
\o

BEGIN;
SELECT * FROM no_plan();
SELECT is_empty('SELECT name FROM backfill_runs UNION ALL SELECT name FROM backfill_definitions', 'a transaction rolled back leaves neither runs nor definitions');
SELECT is_empty('SELECT * FROM backfill_batches', 'nor batches');
SELECT is_empty('SELECT * FROM backfill_workers', 'nor workers');
SELECT is_empty('SELECT * FROM backfill_events', 'nor events');
SELECT is((SELECT max(n) FROM people), 0, 'and has changed no row');
SELECT * FROM finish();
ROLLBACK;
