-- The interface as the tests of somebody who uses it would call it: inside of a
-- transaction that is rolled back.
BEGIN;
SELECT * FROM no_plan();
CREATE TABLE people (id bigint PRIMARY KEY, name text, n int DEFAULT 0);
INSERT INTO people SELECT i, 'name ' || i FROM generate_series(1, 100) i;
CREATE VIEW v AS SELECT * FROM people;
CREATE TABLE keyless (id int);

-- settings
SELECT results_eq('SELECT name, "default" FROM backfill_settings ORDER BY name',
	$$VALUES ('batch_size', '1000'), ('direction', 'asc'), ('distinct', 'false'), ('end_value', NULL), ('from', NULL), ('group_by', NULL), ('initial_value', NULL), ('ledger', 'false'), ('limit', NULL), ('lock_timeout', '2s'), ('lookback', '0'), ('max_active_sessions', NULL), ('max_archive_backlog', NULL), ('max_attempts', '5'), ('max_batch_size', '1000000'), ('max_batch_time', NULL), ('max_batches', NULL), ('max_claims', NULL), ('max_dead_rows', NULL), ('max_duration', NULL),
			 ('max_error_rate', '0.25'), ('max_errors', NULL), ('max_growth', NULL), ('max_replica_lag', NULL), ('max_replica_lag_bytes', NULL), ('max_slot_retained', NULL), ('max_workers', '4'), ('max_xmin_age', NULL), ('min_batch_size', '10'), ('nice', '0'), ('on_error', 'fail'), ('outside', 'false'),
			 ('pause_for_maintenance', 'false'), ('prefetch', '1'), ('preset', 'balanced'), ('probe', NULL), ('probe_timeout', '1s'), ('rate_limit', NULL), ('rate_limit_counts', 'records'), ('repair', NULL), ('retry_delay', '1s'), ('reuse_space', 'true'), ('scale_interval', '15s'), ('set', NULL), ('share_by', NULL), ('share_rate_limit', NULL), ('share_target', 'false'), ('sleep', '10ms'), ('soft_limit', '0.7'), ('statement_timeout', '0'),
			 ('synchronous_commit', 'off'), ('target_batch_time', '250ms'), ('to', NULL), ('verify', 'false'), ('wal_rate_limit', NULL), ('weights', NULL), ('windows', NULL), ('workers', '1'), ('yield_after', '100ms')$$, 'the settings and their defaults');
SELECT is_empty($$SELECT name FROM backfill_settings WHERE description IS NULL OR description = ''$$, 'every setting is described');

-- definitions
SELECT is_empty('SELECT * FROM backfill_definitions', 'there is no definition at first');
SELECT lives_ok($$SELECT backfill_define('names', 'people', 'UPDATE batch SET name = upper(name)', scope => 'name IS NOT NULL',
	settings => '{"batch_size": 10}', description => 'shout')$$, 'a definition is made');
SELECT results_eq('SELECT name, owner, target, statement, scope, key, settings, description FROM backfill_definitions',
	$$VALUES ('names', current_user::regrole, 'people'::regclass, 'UPDATE batch SET name = upper(name)', 'name IS NOT NULL', NULL::text, '{"batch_size": 10}'::jsonb, 'shout')$$,
	'and shown as it was given');
SELECT lives_ok($$SELECT backfill_define('names', 'people', 'DELETE FROM batch')$$, 'it is replaced');
SELECT results_eq('SELECT statement, scope, settings, description FROM backfill_definitions', $$VALUES ('DELETE FROM batch', NULL::text, '{}'::jsonb, NULL::text)$$, 'as a whole');

-- errors
SELECT throws_ok(command, state, message, command)
  FROM (VALUES
	($$SELECT backfill_start('nope')$$, '42704', 'backfill definition "nope" does not exist'),
	($$SELECT backfill_drop('nope')$$, '42704', 'backfill definition "nope" does not exist'),
	($$SELECT backfill_stop(-1)$$, '42704', 'backfill run -1 does not exist'),
	($$SELECT backfill_pause(-1)$$, '42704', 'backfill run -1 does not exist'),
	($$SELECT backfill_resume(-1)$$, '42704', 'backfill run -1 does not exist'),
	($$SELECT backfill_retry(-1)$$, '42704', 'backfill run -1 does not exist'),
	($$SELECT backfill_delete(-1)$$, '42704', 'backfill run -1 does not exist'),
	($$SELECT backfill_alter(-1, '{}')$$, '42704', 'backfill run -1 does not exist'),
	($$SELECT backfill_define('bad', 'people', 'UPDATE batch SET n = 1', settings => '{"repair": "SELECT 1"}')$$, '22023', 'backfill setting "repair" needs the setting "on_error": "skip"'),
	($$SELECT backfill_define('bad', 'people', 'UPDATE batch SET n = 1', settings => '{"on_error": "skip", "repair": "SELECT failed.nam"}')$$, '42P02', 'there is no "failed.nam"'),
	($$SELECT backfill_define('bad', 'people', '')$$, '22023', 'the statement of a backfill cannot be empty'),
	($$SELECT backfill_define('bad', 'people', 'UPDATE people SET n = 1')$$, '22023', 'the statement of a backfill must refer to the relation "batch"'),
	($$SELECT backfill_define('bad', 'people', 'DROP TABLE people')$$, '0A000', 'DROP TABLE cannot be the statement of a backfill'),
	($$SELECT backfill_define('bad', 'people', 'UPDATE batch SET nope = 1')$$, '42703', 'column "nope" of relation "people" does not exist'),
	($$SELECT backfill_define('bad', 'people', 'DELETE FROM batch', scope => 'true, false')$$, '42601', 'the scope of a backfill must be one expression'),
	($$SELECT backfill_define('bad', 'people', 'DELETE FROM batch', key => 'nope')$$, '42704', 'index "nope" of table "people" does not exist'),
	($$SELECT backfill_define('bad', 'people', 'DELETE FROM batch', settings => '{"batchsize": 1}')$$, '42P02', 'unrecognized backfill setting "batchsize"'),
	($$SELECT backfill_define('bad', 'people', 'DELETE FROM batch', settings => '{"batch_size": 0}')$$, '22023', 'invalid value for backfill setting "batch_size"'),
	($$SELECT backfill_define('bad', 'v', 'DELETE FROM batch')$$, '42809', 'cannot backfill "v"'),
	($$SELECT backfill_define('bad', 'keyless', 'DELETE FROM batch')$$, '55000', 'table "keyless" has no primary key'),
	($$SELECT backfill_define('', 'people', 'DELETE FROM batch')$$, '42602', 'the name of a backfill definition cannot be empty')) v(command, state, message);
SELECT is_empty($$SELECT * FROM backfill_definitions WHERE name <> 'names'$$, 'nothing is left of what was refused');

-- runs; none starts before this transaction commits, which it does not
SELECT ok(backfill_start('names') > 0, 'a run is started and has a number');
SELECT results_eq('SELECT name, status, owner, started_by, rows_scanned, rows_affected, batches, progress, workers, error FROM backfill_runs',
	$$VALUES ('names', 'enqueued', current_user::regrole, current_user::regrole, 0::bigint, 0::bigint, 0::bigint, 0.00::numeric(5, 2), 0, NULL::text)$$, 'it waits for a worker');
SELECT lives_ok($$SELECT backfill_alter(id, '{"batch_size": 5, "workers": null}') FROM backfill_runs$$, 'its settings are changed');
SELECT results_eq('SELECT settings FROM backfill_runs', $$VALUES ('{"batch_size": 5}'::jsonb)$$, 'a null takes one out');
SELECT throws_ok('SELECT backfill_drop(''names'')', '55006', NULL, 'the definition of an active run stays');
SELECT throws_ok('SELECT backfill_delete(id) FROM backfill_runs', '55006', NULL, 'an active run stays');
SELECT lives_ok('SELECT backfill_pause(id) FROM backfill_runs', 'it is paused');
SELECT is((SELECT status FROM backfill_runs), 'paused', 'and says so');
SELECT lives_ok('SELECT backfill_resume(id) FROM backfill_runs', 'it is resumed');
SELECT is((SELECT status FROM backfill_runs), 'enqueued', 'and waits for a worker again');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 1::bigint, 'all runs are stopped, and that is one');
SELECT is((SELECT count(*) FROM backfill_stop_all()), 0::bigint, 'and then none');
SELECT is((SELECT status FROM backfill_runs), 'stopped', 'it is stopped');
SELECT is(regexp_replace(backfill_stop(id), '^run \d+', 'run N'), 'run N of names on ' || target || ' is stopped already', 'to stop it again changes nothing') FROM backfill_runs;
SELECT lives_ok('SELECT backfill_drop(''names'')', 'the definition may go');
SELECT lives_ok('SELECT backfill_delete(id) FROM backfill_runs', 'and the run');
SELECT is_empty('SELECT * FROM backfill_runs', 'nothing is left of it');
SELECT lives_ok($$SELECT backfill_define('names', 'people', 'DELETE FROM batch'), backfill_start('names', start_at => now() + '1 day')$$, 'a run for tomorrow');
SELECT is((SELECT status FROM backfill_runs), 'pending', 'waits for its time');
SELECT ok((SELECT start_at > now() AND started_at IS NULL FROM backfill_runs), 'which it shows');
SELECT throws_ok('CALL backfill_wait(1)', '25001', 'backfill_wait cannot run inside a transaction block or a function', 'nobody waits for a run in the transaction that starts it');
SELECT throws_ok($$CALL backfill_require('names')$$, 'UB005', 'backfill "names" has not completed', 'a gate is closed');
SELECT throws_ok($$CALL backfill_require('names', finish => true)$$, '25001', NULL, 'and nobody does the rest in a transaction');
SELECT lives_ok($$SELECT backfill_define('names', 'people', 'DELETE FROM batch WHERE n > 0'), backfill_replace('names')$$, 'the run has its definition as it is now');
SELECT results_eq('SELECT status, statement FROM backfill_runs', $$VALUES ('pending', 'DELETE FROM batch WHERE n > 0')$$, 'which it shows');
SELECT matches(backfill_replace('names'), ': has the definition as it is now already$', 'a second time nothing is replaced');
SELECT throws_ok($$SELECT backfill_define('names', 'people', 'DELETE FROM batch', direction => 'desc'), backfill_replace('names')$$, '55000', NULL, 'it keeps its direction');
SELECT lives_ok($$SELECT backfill_stop('names')$$, 'it is stopped');
SELECT ok(backfill_start('names', paused => true) > 0, 'a run that does not begin');
SELECT is((SELECT status FROM backfill_runs ORDER BY id DESC LIMIT 1), 'paused', 'is paused');
SELECT lives_ok($$SELECT backfill_resume('names')$$, 'it is resumed');
SELECT is((SELECT status FROM backfill_runs ORDER BY id DESC LIMIT 1), 'enqueued', 'and begins');
SELECT lives_ok($$SELECT backfill_define('prepared', 'people', 'UPDATE batch SET n = n', prepare => 'CREATE INDEX ON people (n)')$$, 'a definition with prepare');
SELECT is((SELECT prepare FROM backfill_definitions WHERE name = 'prepared'), 'CREATE INDEX ON people (n)', 'which is shown as it was given');
-- a generic definition
CREATE TABLE others (id int PRIMARY KEY, "Other name" text);
INSERT INTO others VALUES (1, 'it');
SELECT lives_ok($$SELECT backfill_define('upper', NULL, 'UPDATE batch SET {what} = upper({what})', parameters => '{"what": "name"}', generic => true)$$, 'a generic definition has no target');
SELECT results_eq($$SELECT target, generic, statement FROM backfill_definitions WHERE name = 'upper'$$, $$VALUES (NULL::regclass, true, 'UPDATE batch SET {what} = upper({what})')$$, 'and is shown as it was given');
SELECT results_eq($$SELECT before ->> 'Other name', changed ->> 'Other name' FROM backfill_preview('upper', '{"what": "Other name"}', target => 'others')$$, $$VALUES ('it', 'IT')$$, 'it is previewed on a table');
SELECT isnt_empty($$SELECT * FROM backfill_explain('upper', '{"what": "Other name"}', target => 'others')$$, 'and explained');
SELECT throws_ok(command, state, message, command)
  FROM (VALUES
	($$SELECT backfill_start('upper', '{"what": "name"}')$$, '22004', 'backfill definition "upper" needs a target'),
	($$SELECT backfill_start('upper', '{"what": "nam"}', target => 'people')$$, '42703', 'column "nam" of relation "people" does not exist'),
	($$SELECT backfill_start('upper', '{"what": "n"}', target => 'keyless')$$, '42703', 'column "n" of relation "keyless" does not exist'),
	($$SELECT backfill_start('upper', '{"what": "id"}', target => 'keyless')$$, '55000', 'table "keyless" has no primary key'),
	($$SELECT backfill_start('names', target => 'people')$$, '22023', 'backfill definition "names" has a target of its own'),
	($$SELECT backfill_define('bad', 'people', 'DELETE FROM batch', generic => true)$$, '22023', 'a generic backfill cannot have a target of its own'),
	($$SELECT backfill_define('bad', NULL, 'UPDATE batch SET {what} = 1', generic => true)$$, '42P02', 'the backfill declares no parameter "what"'),
	($$SELECT backfill_define('bad', NULL, 'UPDATE batch SET {what} = 1', parameters => '{"what": "text"}', generic => true)$$, '42804', 'parameter "what" of the backfill is not a name')) v(command, state, message);
SELECT lives_ok($$SELECT backfill_start('upper', '{"what": "Other name"}', target => 'others'), backfill_start('upper', '{"what": "name"}', '{"share_target": true}', target => 'people')$$, 'two runs of it on two tables');
SELECT results_eq($$SELECT target, statement FROM backfill_runs WHERE name = 'upper' ORDER BY id$$,
	$$VALUES ('others'::regclass, 'UPDATE batch SET "Other name" = upper("Other name")'), ('people', 'UPDATE batch SET "name" = upper("name")')$$, 'each has the names in its statement');
SELECT throws_ok($$SELECT backfill_start('upper', '{"what": "Other name"}', '{"share_target": true}', target => 'others')$$, '55006', NULL, 'and not two on one, with the same names');
SELECT is((SELECT count(*) FROM people WHERE name LIKE 'name %'), 100::bigint, 'no row was touched');
SELECT * FROM finish();
ROLLBACK;
