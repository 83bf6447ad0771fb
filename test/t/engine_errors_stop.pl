# Pause, stop and failure of a run while rows of it fail, and who sees the
# errors of a run and may retry it.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

one_node('main');
my $id;
$node->safe_psql('postgres', q{CREATE TABLE never AS SELECT i AS id, 0 AS n FROM generate_series(1, 100) i; ALTER TABLE never ADD PRIMARY KEY (id); ANALYZE never});

# ---------------------------------------------------------------------------
note 'pause, stop and failure while rows fail';

# Row 25 waits for the gate and raises then.
$node->safe_psql('postgres', q{CREATE FUNCTION gated(key int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 25 THEN
			PERFORM pg_advisory_xact_lock_shared(4711);
			RAISE EXCEPTION 'gated';
		END IF;
		RETURN 1;
	END $$});
my $gate = session($node);
my $at_gate = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
foreach my $what ('pause', 'stop')
{
	sql('UPDATE never SET n = 0');
	define_increment($node, 'never', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip", "lock_timeout": 0}', statement => 'UPDATE batch SET n = n + gated(id)');
	$gate->query('SELECT pg_advisory_lock(4711)');
	$id = start_run($node, 'never');
	ok(wait_for($node, $at_gate), 'a batch is at work');
	sql("SELECT backfill_$what($id)");
	like(refusal("SELECT backfill_retry($id)"), qr/ERROR:  55000: cannot retry run $id, which is "running"/, 'an active run cannot be retried');
	$gate->query('SELECT pg_advisory_unlock(4711)');
	my $status = $what eq 'pause' ? 'paused' : 'stopped';
	ok(wait_for_status($node, $id, $status), "a batch whose row is to be skipped does not keep the run from being $status");
	like(refusal("SELECT backfill_retry($id)"), qr/ERROR:  55000: cannot retry run $id, which is "paused"/, 'neither can a paused one')
	  if $what eq 'pause';
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	is(sql("SELECT key FROM backfill_errors WHERE run_id = $id"), '{25}', 'without that row');
	check_parts($node, $id, 'never', 'the batches agree');
}

# A run that has a batch to do again before the row that was skipped.
sql('UPDATE never SET n = 0; CREATE TABLE broken ()');
$node->safe_psql('postgres', q{CREATE FUNCTION two_ways(key int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 55 AND to_regclass('broken') IS NOT NULL THEN
			RAISE EXCEPTION 'skipped';
		END IF;
		IF key = 25 AND to_regclass('broken') IS NOT NULL THEN
			PERFORM pg_advisory_xact_lock_shared(4711);
			RAISE undefined_table;
		END IF;
		RETURN 1;
	END $$});
define_increment($node, 'never', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "workers": 2, "on_error": "skip", "lock_timeout": 0}', statement => 'UPDATE batch SET n = n + two_ways(id)');
$gate->query('SELECT pg_advisory_lock(4711)');
$id = start_run($node, 'never');
ok(wait_for($node, $at_gate), 'one worker is at work');
ok(wait_for($node, "SELECT errors = 1 FROM backfill_runs WHERE id = $id"), 'the other one skips a row');
$gate->query('SELECT pg_advisory_unlock(4711)');
ok(wait_for_status($node, $id, 'failed'), 'then the first one fails the run');
sql('DROP TABLE broken');
like(sql("SELECT backfill_retry($id)"), tries(1), 'backfill_retry takes the one row');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'and completes the run');
is(sql('SELECT n, count(*) FROM never GROUP BY n'), '1|100', 'with the batch that had failed: every row is changed exactly once');
check_parts($node, $id, 'never', 'the batches agree');
$gate->quit;

# ---------------------------------------------------------------------------
note 'who sees the errors';

$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN; CREATE ROLE colleague LOGIN IN ROLE app; CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE TABLE secret (id int PRIMARY KEY, n text);
	INSERT INTO secret VALUES (1, '1'), (2, 'top secret');
	ALTER TABLE secret OWNER TO app});
sub as_role { return query($node, "SET ROLE $_[0]; $_[1]"); }
my ($rc, $out, $err) = as_role('app', q{SELECT backfill_define('secret', 'secret', 'UPDATE batch SET n = n::int + 1', settings => '{"on_error": "skip"}');
	SELECT backfill_start('secret')});
is($rc, 0, 'an ordinary role starts a run') or diag($err);
$id = sql(q{SELECT id FROM backfill_runs WHERE name = 'secret'});
ok(wait_for_status($node, $id, 'completed'), 'which completes without one row');
foreach my $case ([ 'app', 1, 'its owner' ], [ 'colleague', 1, 'a member of the owner' ], [ 'watcher', 1, 'a member of pg_monitor' ], [ 'stranger', 0, 'anybody else' ])
{
	my ($role, $count, $who) = @$case;
	($rc, $out, $err) = as_role($role, "SELECT count(*) FROM backfill_errors WHERE run_id = $id");
	is($out, $count, "$who sees " . ($count ? 'the error' : 'nothing')) or diag($err);
}
foreach my $role ('stranger', 'watcher')
{
	like(refusal("SET ROLE $role; SELECT backfill_retry($id)"), qr/ERROR:  42704/, "$role cannot retry the run");
	like(refusal("SET ROLE $role; SELECT * FROM backfill.error"), qr/ERROR:  42501/, "$role cannot read the table");
}
sql(q{UPDATE secret SET n = '7' WHERE id = 2});
($rc, $out, $err) = as_role('colleague', "SELECT backfill_retry($id)");
like($out, tries(1), 'a member of the owner retries it') or diag($err);
ok(wait_for_status($node, $id, 'completed'), 'and it completes');
is(sql('SELECT string_agg(n, $$,$$ ORDER BY id) FROM secret'), '2,8', 'with both rows');

my $log = slurp_file($node->logfile);
unlike($log, qr/TRAP:|terminated by signal (?:11|6)/, 'nothing crashed by itself');

$node->stop;
done_testing();
