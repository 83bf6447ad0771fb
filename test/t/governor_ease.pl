# Batches become short where sessions wait for their rows, and long again where
# nobody does, with nothing set.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main', conf => "max_connections = 50\nsynchronous_commit = local\nsynchronous_standby_names = nobody\n", streaming => 1);
my $statement = 'UPDATE batch SET n = n + 1 WHERE pg_sleep(0.0005) IS NOT NULL';
my $rows = 40_000;

sub eases { return wait_for($node, "SELECT throttled_by ~ '^foreground: sessions wait for its batches, which are to take [0-9]+ ms' FROM backfill_runs WHERE id = $_[0]"); }

# nobody there: batches come to the time that is the default
create_target($node, 'busy', $rows);
define_increment($node, 'busy', '{"sleep": 0}', statement => $statement);
my $id = start_run($node, 'busy');
ok(wait_for($node, "SELECT batch_size >= 120 FROM backfill_runs WHERE id = $id"), 'batches grow while nobody waits');
is(value($id, 'throttled_by'), '', 'with nothing to say');

# sessions that write to all of the table
my $foreground = foreground_start($node, 'busy', $rows, rate => 600);
ok(eases($id), 'the run says that sessions wait for its batches');
my $size = value($id, 'batch_size');
cmp_ok($size, '<', 120, "batches are smaller then: $size rows");
ok(sql("SELECT count(*) > 0 FROM backfill_events WHERE run_id = $id AND kind = 'throttle' AND reason LIKE 'foreground:%'"), 'an event says so');
foreground_stop($foreground);
ok(wait_for($node, "SELECT batch_size > 2 * $size FROM backfill_runs WHERE id = $id"), 'they grow again when nobody waits');
sql("SELECT backfill_stop($id)");
ok(wait_for_status($node, $id, 'stopped'), 'the run is stopped');
is(sql('SELECT count(*) FROM busy WHERE n > 1 OR foreground AND n > 0'), 0, 'nothing twice');

# sessions that wait for the WAL: one that waits for a standby, for as long as we like
sub crowded { return wait_for($node, "SELECT throttled_by ~ '^foreground: sessions wait for WAL and pages beside its batches, which are to take 2 ms' FROM backfill_runs WHERE id = $_[0]"); }

create_target($node, 'beside', 3 * $rows);
sql('CREATE TABLE other (id int)');
define_increment($node, 'beside', '{"sleep": 0}', statement => $statement);
$id = start_run($node, 'beside');
ok(wait_for($node, "SELECT batch_size >= 120 FROM backfill_runs WHERE id = $id"), 'batches grow while nobody waits');
my $session = session($node);
$session->query('SET synchronous_commit = on');
$session->send('INSERT INTO other VALUES (1)');
ok(wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), 'a session waits');
ok(crowded($id), 'the run says that sessions wait for what its batches use');
my $last = "SELECT max(rows_scanned) %s FROM (SELECT rows_scanned FROM backfill_batches WHERE run_id = $id ORDER BY number DESC LIMIT 3) b";
ok(wait_for($node, sprintf($last, '<= 12')), 'batches are short then');
sql(q(ALTER SYSTEM SET synchronous_standby_names = ''));
sql('SELECT pg_reload_conf()');
ok(wait_for($node, sprintf($last, '> 24')), 'they grow again when it does not wait any more');
sql("SELECT backfill_stop($id, true)");
$session->quit;

# A long batch that is at work when sessions begin to wait becomes many short ones.
create_target($node, 'long', 1000);
define_increment($node, 'long', '{"sleep": 0, "batch_size": 10000, "target_batch_time": "30 s"}', statement => 'UPDATE batch SET n = n + 1 WHERE pg_sleep(0.02) IS NOT NULL');
$id = start_run($node, 'long');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'running' AND now() - state_since > '0.1 s'"), 'a batch of all rows is at work');
is(sql("SELECT rows_scanned FROM backfill_batches WHERE run_id = $id"), 1000, 'which takes twenty seconds');
# beside it two whose batches may not be shorter: their size is given, or the least
my @given = map {
	my ($name, $settings) = @$_;
	create_target($node, $name, 200);
	define_increment($node, $name, qq({"sleep": 0, "batch_size": 200, $settings}), statement => 'UPDATE batch SET n = n + 1 WHERE pg_sleep(0.05) IS NOT NULL');
	start_run($node, $name);
} ([ 'given', '"target_batch_time": "off"' ], [ 'least', '"min_batch_size": 200, "target_batch_time": "30 s"' ]);
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $_ AND state = 'running' AND now() - state_since > '0.1 s'"), "a batch of run $_ is at work") for @given;
sql(q(ALTER SYSTEM SET synchronous_standby_names = 'nobody'));
sql('SELECT pg_reload_conf()');
$session = session($node);
$session->query('SET synchronous_commit = on');
$session->send('INSERT INTO other VALUES (2)');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'yield' AND reason LIKE 'sessions waited for WAL and pages beside the batch%'"), 'it gives way to who waits for the WAL');
is(sql("SELECT count(*), max(rows_scanned) FROM backfill_batches WHERE run_id = $id"), '32|32', 'and comes back in parts');
sql(q(ALTER SYSTEM SET synchronous_standby_names = ''));
sql('SELECT pg_reload_conf()');
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(sql('SELECT count(*) FROM long WHERE n <> 1'), 0, 'every row once');
is(value($id, 'yields'), 1, 'it has given way once');
ok(wait_for_status($node, $_, 'completed'), "run $_ completes") for @given;
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $_"), 1, "and was not divided, run $_") for @given;
is(value($_, 'yields'), 0, "nor has run $_ given way") for @given;
$session->quit;

# who does not want it says so
create_target($node, 'rude', $rows);
define_increment($node, 'rude', '{"sleep": 0, "yield_after": "off"}', statement => $statement);
$id = start_run($node, 'rude');
$foreground = foreground_start($node, 'rude', $rows, rate => 600);
ok(wait_for($node, "SELECT batch_size >= 120 FROM backfill_runs WHERE id = $id"), 'with yield_after off batches grow among them');
is(value($id, 'throttled_by'), '', 'and nobody is asked');
foreground_stop($foreground);
sql("SELECT backfill_stop($id, true)");

$node->stop;
done_testing();
