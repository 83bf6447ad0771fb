# A good neighbour: what a worker holds while it sleeps, how soon it can be
# stopped or woken, what the server's views say about it, and what is left of
# us in a database without an active run.

use strict;
use warnings;

use BackfillTest;
use Test::More;
use Time::HiRes qw(time);

my $node = make_node('main');
my $version = query_ok($node, "SELECT current_setting('server_version_num')::int / 10000");

my $waiting = sub {
	my ($id, $state) = @_;
	return wait_for($node, "SELECT count(*) = 1 AND bool_and(state = '$state')
		FROM backfill_workers WHERE run_id = $id");
};

# --- asleep ---

create_target($node, 'asleep', 1000);
$node->safe_psql('postgres', 'ALTER TABLE asleep SET (autovacuum_enabled = off)');
define_increment($node, 'asleep', '{"batch_size": 100, "target_batch_time": 0, "sleep": "10 min"}');
my $id = start_run($node, 'asleep');

ok($waiting->($id, 'sleeping'), 'the worker sleeps after a batch');
my ($pid) = worker_pids($node, $id);
is(query_ok($node, "SELECT backend_xmin IS NULL, backend_xid IS NULL, xact_start IS NULL, state
		FROM pg_stat_activity WHERE pid = $pid"),
	't|t|t|idle', 'asleep it has no snapshot, no transaction id, no transaction');
is(query_ok($node, "SELECT count(*) FROM pg_locks WHERE pid = $pid"), 0, 'and no lock at all');
is(query_ok($node, "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.backend_type LIKE 'backfill%' AND l.relation IN ('asleep'::regclass, 'asleep_pkey'::regclass)"),
	0, 'nor has any process of ours one on the target');
ok(wait_for($node, "SELECT n_tup_upd = 100 AND n_dead_tup > 0 FROM pg_stat_user_tables WHERE relname = 'asleep'"),
	'the statistics know of its updates and dead rows while it sleeps');
is(query_ok($node, 'SELECT count(*) FROM asleep WHERE n = 1'), 100, 'which are those of one batch');

# what others want to do meanwhile works at once
is(sqlstate($node, "SET lock_timeout = '5 s'; ALTER TABLE asleep ADD COLUMN extra int"),
	'00000', 'the target can be altered while the worker sleeps');
is(sqlstate($node, 'VACUUM FULL asleep'), '00000', 'and rewritten');

# --- readable ---

is(query_ok($node, "SELECT backend_type, application_name, usename = current_user
		FROM pg_stat_activity WHERE pid = $pid"),
	"backfill worker|backfill run $id|t", 'backend_type, application_name and role in pg_stat_activity');
is(query_ok($node, "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid"),
	$version >= 17 ? 'BackfillSleep' : 'Extension', 'wait_event while it sleeps');
is(query_ok($node, "SELECT string_agg(backend_type || ' ' || application_name, ', ' ORDER BY backend_type)
		FROM pg_stat_activity WHERE backend_type ~ '^backfill (launcher|scheduler)'"),
	'backfill launcher backfill launcher, backfill scheduler backfill scheduler',
	'launcher and scheduler in pg_stat_activity');
is(query_ok($node, "SELECT run_id, owner::text = current_user, batches, rows_scanned, rows_affected
		FROM backfill_workers WHERE pid = $pid"),
	"$id|t|1|100|100", 'backfill_workers');

# --- woken ---

# sleeps of ten minutes, bounds of less
$node->safe_psql('postgres', qq(SELECT backfill_alter($id, '{"batch_size": 300}')));
is(query_ok($node, "SELECT status, workers FROM backfill_runs WHERE id = $id"), 'running|1',
	'a sleeper goes on with a new batch_size');
$node->safe_psql('postgres', qq(SELECT backfill_alter($id, '{"sleep": "50 ms"}')));
ok(wait_for($node, "SELECT batches > 2 FROM backfill_runs WHERE id = $id"), 'a shorter sleep wakes a sleeper');
is(query_ok($node, "SELECT max(rows_scanned) FROM backfill_batches WHERE run_id = $id"), 300,
	'the new batch_size is in force');
ok(wait_for_status($node, $id, 'completed'), 'and the run completes');
check_exactly_once($node, $id, 'asleep', 1000, 'exactly once');

foreach my $call ('pause', 'stop')
{
	my $table = "woken_$call";
	my $status = $call eq 'pause' ? 'paused' : 'stopped';
	create_target($node, $table, 300);
	define_increment($node, $table, '{"batch_size": 100, "target_batch_time": 0, "sleep": "10 min"}');
	$id = start_run($node, $table);
	ok($waiting->($id, 'sleeping'), "$call: the worker sleeps");
	$node->safe_psql('postgres', "SELECT backfill_$call($id)");
	ok(wait_for_status($node, $id, $status, through_end => 1), "backfill_$call wakes a sleeper");
	is(query_ok($node, "SELECT count(*) FROM backfill_workers WHERE run_id = $id"), 0, 'which leaves');
	is(query_ok($node, "SELECT count(*) FROM $table WHERE n = 1"), 100, 'after the one batch');
	$node->safe_psql('postgres', qq(SELECT backfill_alter($id, '{"sleep": 0}'); SELECT backfill_resume($id)));
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	check_exactly_once($node, $id, $table, 300, 'exactly once');
}

# --- an immediate stop ---

create_target($node, 'long', 300);
$node->safe_psql('postgres', 'CREATE TABLE nap AS SELECT 0 AS s');
my $statement = 'UPDATE batch SET n = n + 1 WHERE id <> 2000 OR pg_sleep((SELECT s FROM nap)) IS NOT NULL';
define_increment($node, 'long', '{"batch_size": 100, "target_batch_time": 0, "sleep": 0}', statement => $statement);
$node->safe_psql('postgres', 'UPDATE nap SET s = 60');
$id = start_run($node, 'long');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers w JOIN pg_stat_activity a USING (pid)
		WHERE w.run_id = $id AND a.wait_event = 'PgSleep' AND w.state = 'running'"),
	'a batch is in pg_sleep(60)');
($pid) = worker_pids($node, $id);
is(query_ok($node, "SELECT state, query, xact_start IS NOT NULL FROM pg_stat_activity WHERE pid = $pid"),
	"active|$statement|t", 'the user\'s statement is in pg_stat_activity while it runs');
is(query_ok($node, "SELECT batch, attempt FROM backfill_workers WHERE pid = $pid"), '2|1',
	'backfill_workers names the batch');

my $began = time;
$node->safe_psql('postgres', "SELECT backfill_stop($id, immediate => true)");
ok(wait_for($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", interval => 2_000),
	'the worker is free');
my $took = time - $began;
diag(sprintf('immediate stop during pg_sleep(60): worker gone after %.0f ms, two psql included', 1000 * $took));
cmp_ok($took, '<', 50, 'long before the end of the batch');
ok(wait_for_status($node, $id, 'stopped', through_end => 1), 'the run is stopped');
is(query_ok($node, 'SELECT count(*), max(id) FROM long WHERE n = 1'), '100|1000', 'nothing of the batch remains');
is(query_ok($node, "SELECT status, rows_affected IS NULL FROM backfill_batches WHERE run_id = $id AND number = 2"),
	'stopped|t', 'the batch is stopped');
is(run_value($node, $id, "coalesce(error, 'none')"), 'none', 'which is no error of the run');
$node->safe_psql('postgres', "UPDATE nap SET s = 0; SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, the run completes');
is(query_ok($node, "SELECT attempt, crashes FROM backfill_batches WHERE run_id = $id AND number = 2"),
	'2|0', 'with the batch done again');
check_exactly_once($node, $id, 'long', 300, 'exactly once');

# an orderly stop waits for the batch in hand
create_target($node, 'orderly', 300);
define_increment($node, 'orderly', '{"batch_size": 100, "target_batch_time": 0, "sleep": 0}',
	statement => 'UPDATE batch SET n = n + 1 WHERE id <> 500 OR pg_sleep((SELECT s FROM nap)) IS NOT NULL');
$node->safe_psql('postgres', 'UPDATE nap SET s = 2');
$id = start_run($node, 'orderly');
ok($waiting->($id, 'running'), 'a batch is in hand');
$node->safe_psql('postgres', "SELECT backfill_stop($id)");
ok(wait_for_status($node, $id, 'stopped', through_end => 1), 'an orderly stop');
is(query_ok($node, "SELECT count(*) FROM orderly WHERE n = 1"), 100, 'comes after the batch in hand, and before the next');
is(query_ok($node, "SELECT count(*) FILTER (WHERE status = 'completed') || '+' ||
		count(*) FILTER (WHERE status = 'running') FROM backfill_batches WHERE run_id = $id"),
	'1+0', 'which is completed');
$node->safe_psql('postgres', "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
check_exactly_once($node, $id, 'orderly', 300, 'exactly once');

# --- idle ---

$node->safe_psql('postgres', 'CREATE DATABASE idle');
$node->safe_psql('idle', 'CREATE EXTENSION backfill');
create_target($node, 't', 100, db => 'idle');
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0}', db => 'idle');
$id = start_run($node, 't', db => 'idle');
ok(wait_for_status($node, $id, 'completed', db => 'idle'), 'a run in another database completes');
check_exactly_once($node, $id, 't', 100, 'exactly once', db => 'idle');
ok( wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type LIKE 'backfill%' AND datid IS NOT NULL"),
	'no connection of ours to any database after the end of the last run');
is(query_ok($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'backfill%'"), 1,
	'only the launcher is left');
is(query_ok($node, "SELECT backend_xmin IS NULL AND xact_start IS NULL FROM pg_stat_activity
		WHERE backend_type = 'backfill launcher'"), 't', 'without a snapshot');
is(sqlstate($node, 'DROP DATABASE idle'), '00000', 'the database can be dropped without force');

$node->stop;
done_testing();
