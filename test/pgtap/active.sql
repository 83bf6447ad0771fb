-- Runs side by side: a run equal to an active one is refused, and a second run
-- on a table is, unless it says that it shares the table.  Nothing here runs:
-- the transaction is rolled back.
BEGIN;
SELECT * FROM no_plan();
CREATE TABLE people (id bigint PRIMARY KEY, n int DEFAULT 0);
INSERT INTO people SELECT generate_series(1, 100);
CREATE TABLE things (LIKE people INCLUDING ALL);
CREATE TABLE parted (LIKE people INCLUDING ALL) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (100);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
CREATE TABLE parted_2_1 PARTITION OF parted_2 FOR VALUES FROM (100) TO (150);
SELECT lives_ok($$SELECT backfill_define('plain', 'people', 'UPDATE batch SET n = 1')$$, 'a definition');
SELECT lives_ok($$SELECT backfill_define('other', 'people', 'UPDATE batch SET n = 2')$$, 'another on the same table');
SELECT lives_ok($$SELECT backfill_define('beside', 'people', 'UPDATE batch SET n = 3', settings => '{"share_target": true}')$$, 'one that shares the table');
SELECT lives_ok($$SELECT backfill_define('given', 'things', 'UPDATE batch SET n = params.a + coalesce(params.b, 0)', settings => '{"share_target": true}',
	parameters => '{"a": {"type": "int", "default": 1}, "b": "numeric"}')$$, 'one with parameters');
SELECT lives_ok($$SELECT backfill_define('whole', 'parted', 'UPDATE batch SET n = 1'), backfill_define('part', 'parted_1', 'UPDATE batch SET n = 1'),
	backfill_define('deep', 'parted_2_1', 'UPDATE batch SET n = 1')$$, 'a partitioned table and partitions');

-- what a refusal says; the number of the run is in it
CREATE FUNCTION refusal(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', state, message, detail, hint);
END $$;
CREATE FUNCTION equal(name text, run bigint) RETURNS text LANGUAGE sql
RETURN format('run %s of backfill "%s" is active with the same parameters', run, name);
CREATE FUNCTION same_table(run bigint) RETURNS text LANGUAGE sql
RETURN format('run %s is active on the same table', run);
CREATE FUNCTION runs() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM backfill_runs';

SELECT backfill_start('plain') AS plain \gset
SELECT is(refusal($$SELECT backfill_start('plain')$$),
	concat_ws(E'\n', '55006', equal('plain', :plain), '', format('Wait until it has ended, or stop it: SELECT backfill_stop(%s).', :plain)),
	'an equal run is refused, the active one named, and what to do');
SELECT is(refusal($$SELECT backfill_start('other')$$),
	concat_ws(E'\n', '55006', same_table(:plain), 'Two runs on one table may wait for each other''s rows.',
		'Wait until it has ended, or give the setting "share_target" to run beside it, whoever''s it is.'),
	'so is another on the same table');
SELECT is(runs(), 1::bigint, 'a refused run leaves nothing');

-- other settings, or another time, do not make it another run; sharing does not either
SELECT throws_ok(command, '55006', equal('plain', :plain), command)
  FROM unnest(ARRAY[$$SELECT backfill_start('plain', settings => '{"batch_size": 7}')$$, $$SELECT backfill_start('plain', settings => '{"share_target": true}')$$,
	$$SELECT backfill_start('plain', start_at => now() + '1 day')$$, $$SELECT backfill_start('plain', parameters => '{}')$$, $$SELECT backfill_start('plain', settings => '{"from": 50}')$$]) command;

-- sharing is said by the new run: by its definition, or by itself
SELECT throws_ok($$SELECT backfill_start('beside', settings => '{"share_target": false}')$$, '55006', same_table(:plain), 'a run may take back what its definition says');
SELECT throws_ok($$SELECT backfill_start('beside', settings => '{"share_target": null}')$$, '55006', same_table(:plain), 'or fall back to the default');
SELECT backfill_start('beside') AS beside \gset
SELECT ok(:beside > :plain, 'the definition says that it shares');
SELECT backfill_start('other', settings => '{"share_target": true}') AS other \gset
SELECT ok(:other > :beside, 'the run says that it shares');
SELECT throws_ok($$SELECT backfill_start('beside')$$, '55006', equal('beside', :beside), 'who shares is not twice there either');
SELECT is(runs(), 3::bigint, 'three runs are on the table');
-- that the active ones share it is not enough
SELECT lives_ok($$SELECT backfill_stop($$ || :plain || ')', 'the first is stopped');
SELECT throws_ok($$SELECT backfill_start('plain')$$, '55006', same_table(:beside), 'the one without leave is refused beside those with');

-- a run that is resumed is new beside the others
SELECT throws_ok($$SELECT backfill_resume($$ || :plain || ')', '55006', same_table(:beside), 'nor can it be resumed');
SELECT is((SELECT status FROM backfill_runs WHERE id = :plain), 'stopped', 'it stays what it was');
SELECT lives_ok($$SELECT backfill_alter($$ || :plain || $$, '{"share_target": true}')$$, 'it may be given leave');
SELECT lives_ok($$SELECT backfill_resume($$ || :plain || ')', 'and is resumed');
SELECT is((SELECT status FROM backfill_runs WHERE id = :plain), 'enqueued', 'which it shows');
-- equal in the meantime
SELECT lives_ok($$SELECT backfill_stop($$ || :other || ')', 'another is stopped');
SELECT backfill_start('other', settings => '{"share_target": true}') AS again \gset
SELECT throws_ok($$SELECT backfill_resume($$ || :other || ')', '55006', equal('other', :again), 'an equal run has been started: the old one cannot be resumed');
SELECT is((SELECT status FROM backfill_runs WHERE id = :other), 'stopped', 'it stays what it was');
SELECT lives_ok($$SELECT backfill_stop($$ || :again || ')', 'the equal one is stopped');
SELECT lives_ok($$SELECT backfill_resume($$ || :other || ')', 'now it can');

-- a paused run is still there: nobody takes its place, and it goes on whoever is beside it
SELECT is((SELECT count(*) FROM backfill_stop_all()), 3::bigint, 'all are stopped');
SELECT backfill_start('plain') AS paused \gset
SELECT lives_ok($$SELECT backfill_pause($$ || :paused || ')', 'a run is paused');
SELECT throws_ok($$SELECT backfill_start('plain')$$, '55006', equal('plain', :paused), 'an equal run is refused');
SELECT throws_ok($$SELECT backfill_start('other')$$, '55006', same_table(:paused), 'and one on the same table');
SELECT lives_ok($$SELECT backfill_resume($$ || :paused || ')', 'it is resumed');
SELECT throws_ok($$SELECT backfill_start('plain')$$, '55006', equal('plain', :paused), 'an equal run is refused still');
-- as is one that waits for its time
SELECT is((SELECT count(*) FROM backfill_stop_all()), 1::bigint, 'it is stopped');
SELECT backfill_start('plain', start_at => now() + '1 day') AS pending \gset
SELECT throws_ok($$SELECT backfill_start('plain')$$, '55006', equal('plain', :pending), 'a run that waits for its time is active, too');
SELECT throws_ok($$SELECT backfill_start('other')$$, '55006', same_table(:pending), 'and on its table');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 1::bigint, 'when it has ended');
SELECT lives_ok($$SELECT backfill_start('other')$$, 'its table is free');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 1::bigint, 'as it is again');

-- equal parameters are equal values, however they are written
SELECT backfill_start('given', parameters => '{"a": 5, "b": 1.50}') AS given \gset
SELECT throws_ok(format($$SELECT backfill_start('given', parameters => %L)$$, p), '55006', equal('given', :given), 'the same: ' || p)
  FROM unnest(ARRAY['{"a": 5, "b": 1.50}', '{"b": 1.50, "a": 5}', '{"a": "5", "b": "1.50"}', '{"a": 5, "b": 1.5}']) p;
SELECT lives_ok(format($$SELECT backfill_start('given', parameters => %L)$$, p), 'another: ' || p)
  FROM unnest(ARRAY['{"a": 6, "b": 1.50}', '{"a": 5}', '{"a": 5, "b": 2}', '{}']) p;
SELECT throws_ok(format($$SELECT backfill_start('given', parameters => %L)$$, p), '55006', NULL, 'a default or a null given in words: ' || p)
  FROM unnest(ARRAY['{"a": 1}', '{"a": 1, "b": null}', '{"b": null}', '{"a": 5, "b": null}']) p;
SELECT throws_ok($$SELECT backfill_start('given')$$, '55006', NULL, 'or none given at all');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 5::bigint, 'five there were');

-- the same definition, changed meanwhile, is the same definition: by its name
SELECT backfill_start('plain') AS replaced \gset
SELECT lives_ok($$SELECT backfill_define('plain', 'things', 'UPDATE batch SET n = 9')$$, 'a definition is replaced, with another table, while a run is active');
SELECT throws_ok($$SELECT backfill_start('plain')$$, '55006', equal('plain', :replaced), 'its run is still its run');
SELECT throws_ok($$SELECT backfill_start('other')$$, '55006', same_table(:replaced), 'on the table that it walks');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 1::bigint, 'when it has ended');
SELECT lives_ok($$SELECT backfill_start('plain'), backfill_start('other')$$, 'both tables are free');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 2::bigint, 'and so they are again');

-- a table and its partitions share their rows, two partitions do not
SELECT backfill_start('whole') AS whole \gset
SELECT throws_ok($$SELECT backfill_start('part')$$, '55006', same_table(:whole), 'a run on a partition is refused beside one on the whole');
SELECT throws_ok($$SELECT backfill_start('deep')$$, '55006', same_table(:whole), 'and one on a partition of a partition');
SELECT lives_ok($$SELECT backfill_start('part', settings => '{"share_target": true}')$$, 'unless it shares the rows');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 2::bigint, 'both are stopped');
SELECT backfill_start('deep') AS deep \gset
SELECT throws_ok($$SELECT backfill_start('whole')$$, '55006', same_table(:deep), 'a run on the whole is refused beside one on a partition');
SELECT lives_ok($$SELECT backfill_start('part')$$, 'a run on another partition is not');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 2::bigint, 'both are stopped');

-- a run is equal to one of the same owner only
CREATE ROLE regress_tap_owner LOGIN;
GRANT ALL ON people TO regress_tap_owner;
SELECT backfill_start('other') AS mine \gset
SELECT lives_ok($$SELECT backfill_stop($$ || :mine || ')', 'a run has ended');
SELECT lives_ok($$SELECT backfill_drop('other')$$, 'its definition goes');
SET ROLE regress_tap_owner;
SELECT lives_ok($$SELECT backfill_define('other', 'people', 'UPDATE batch SET n = 2', settings => '{"share_target": true}')$$, 'somebody else takes the name');
SELECT lives_ok($$SELECT backfill_start('other')$$, 'and starts a run of that name');
RESET ROLE;
SELECT throws_ok($$SELECT backfill_resume($$ || :mine || ')', '55006', same_table((SELECT max(id) FROM backfill_runs)), 'which is on the table');
SELECT lives_ok($$SELECT backfill_alter($$ || :mine || $$, '{"share_target": true}')$$, 'but who shares it');
SELECT lives_ok($$SELECT backfill_resume($$ || :mine || ')', 'resumes his own');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 2::bigint, 'both are stopped');
SELECT lives_ok($$SELECT backfill_drop('other'), backfill_define('other', 'people', 'UPDATE batch SET n = 2')$$, 'the name is free again');

-- backfill_retry begins a run again as well
SELECT lives_ok($$SELECT backfill_start('other')$$, 'a run is there');
SELECT max(id) AS active FROM backfill_runs WHERE status = 'enqueued' \gset
INSERT INTO backfill.run (name, status, owner, started_by, database, system_identifier, target, statement, parameters, parameter_types, settings, search_path, key_names, key_types, start_key, end_key)
SELECT 'ended', 'completed', owner, started_by, database, system_identifier, target, statement, parameters, parameter_types, settings, search_path, ARRAY['id'], ARRAY['bigint'], ARRAY['1'], ARRAY['100']
  FROM backfill.run WHERE id = :active RETURNING id AS ended \gset
INSERT INTO backfill.batch (run_id, number, start_key, end_key, start_inclusive, status, skipped, rows_scanned) VALUES (:ended, 1, '{1}', '{1}', true, 'failed', true, 1);
INSERT INTO backfill.error (run_id, number, part, key, sqlstate, first_at, last_at) VALUES (:ended, 1, 0, '{1}', '22012', now(), now());
SELECT throws_ok($$SELECT backfill_retry($$ || :ended || ')', '55006', same_table(:active), 'a retry beside a run on the same table is refused');
SELECT is((SELECT status FROM backfill_runs WHERE id = :ended), 'completed', 'the run stays what it was');
SELECT is((SELECT skipped FROM backfill_batches WHERE run_id = :ended), true, 'and so does what failed');
UPDATE backfill.run SET name = 'other' WHERE id = :ended;
SELECT lives_ok($$SELECT backfill_alter(id, '{"share_target": true}') FROM backfill_runs WHERE id = $$ || :active, 'the other may share');
SELECT throws_ok($$SELECT backfill_retry($$ || :ended || ')', '55006', equal('other', :active), 'a retry beside an equal run is refused');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 1::bigint, 'when it has ended');
SELECT matches(backfill_retry(:ended), ': 1 skipped row is tried again$', 'the retry takes what failed');
SELECT is((SELECT status FROM backfill_runs WHERE id = :ended), 'enqueued', 'and the run is active');

SELECT * FROM finish();
ROLLBACK;
