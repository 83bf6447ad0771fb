# What is tried again by itself: a lock that is not to be had in time, a
# deadlock, a serialization failure; and how attempts come to an end.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('control', conf => "deadlock_timeout = 100ms\n");

# A run of a definition with settings of its own.
sub start
{
	my ($name, $settings) = @_;
	return sql("SELECT backfill_start('$name', settings => '" . ($settings || '{}') . "')");
}

create_target($node, 'f', 30);
define_increment($node, 'f', '{"batch_size": 10, "target_batch_time": 0}');

# ---------------------------------------------------------------------------
note 'what is tried again';

sub retried
{
	my ($run, $what, $pattern) = @_;
	ok(wait_for($node, "SELECT max(attempt) > 1 FROM backfill_batches WHERE run_id = $run"),
		"$what: the batch is tried again");
	like(sql("SELECT error FROM backfill_batches WHERE run_id = $run AND attempt > 1"), $pattern,
		"$what: it says why");
	return;
}

my $blocker = session($node);
$blocker->query('BEGIN');
$blocker->query('SELECT id FROM f WHERE id = 150 FOR UPDATE');
my $run = start('f', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "100ms", "retry_delay": "100ms", "max_attempts": 1000}');
retried($run, 'a row lock held elsewhere', qr/lock timeout/);
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND attempt > 1"),
	'backfill_workers counts the attempts');
$blocker->query('COMMIT');
ok(wait_for_status($node, $run, 'completed'), 'when the lock is gone the run completes');
check_exactly_once($node, $run, 'f', 30, 'exactly once over attempts');
is(sql("SELECT string_agg(DISTINCT number::text, ',') FROM backfill_batches WHERE run_id = $run AND (attempt > 1 OR part > 0 OR error IS NOT NULL)"),
	'2', 'only that batch was attempted again');

# Attempts come to an end.
sql('UPDATE f SET n = 0');
$blocker->query('BEGIN');
$blocker->query('SELECT id FROM f WHERE id = 150 FOR UPDATE');
$run = start('f', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "50ms", "retry_delay": "10ms", "max_attempts": 3}');
ok(wait_for_status($node, $run, 'failed'), 'after max_attempts the run fails');
is(sql("SELECT end_key[1], status FROM backfill_batches WHERE run_id = $run AND status = 'failed' AND rows_scanned = 1 AND attempt > 3"), '150|failed',
	'the row that is locked was attempted so often');
is(value($run, 'sqlstate'), '55P03', 'the SQLSTATE is that of the last error');
is(sql("SELECT count(*) FROM pg_locks l WHERE NOT granted"), '0', 'nobody waits any more');

# A sleeping retry hears a stop.
sql(qq{SELECT backfill_alter($run, '{"retry_delay": "60 s", "max_attempts": 1000}'), backfill_resume($run)});
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND state = 'retrying'"),
	'the batch waits for its next attempt');
sql("SELECT backfill_stop($run)");
ok(wait_for_status($node, $run, 'stopped', timeout => 30), 'a stop does not wait for that');
$blocker->query('COMMIT');

# A deadlock: the batch has row 110 and wants the other table's, the blocker the
# other way round.  The gate makes the batch the last to wait, so that it is the
# one to notice.
sql('UPDATE f SET n = 0');
sql('CLUSTER f USING f_pkey');	# so that a batch comes to 110 before 200
$node->safe_psql('postgres', q{
	CREATE TABLE other(id int PRIMARY KEY, v int DEFAULT 0);
	INSERT INTO other VALUES (1);
	CREATE FUNCTION touch_other(bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF $1 = 200 THEN
			PERFORM pg_advisory_xact_lock_shared(77);
			UPDATE other SET v = v + 1;
		END IF;
		RETURN 1;
	END $$});
define_increment($node, 'dead', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off", "yield_after": "off", "retry_delay": "50ms"}',
	target => 'f', statement => 'UPDATE batch SET n = n + touch_other(id)');
my $gate = session($node);
my $worker_waits = q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'backfill worker' AND wait_event_type = 'Lock'};
$gate->query('SELECT pg_advisory_lock(77)');
$blocker->query(q{SET deadlock_timeout = '1h'});
$blocker->query('BEGIN');
$blocker->query('SELECT id FROM other FOR UPDATE');
$run = start('dead');
ok(wait_for($node, $worker_waits), 'a batch waits for a lock');
$blocker->send('UPDATE f SET f = f + 1 WHERE id = 110');
ok(wait_for($node, 'SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = ' . $blocker->pid),
	'its own lock is waited for');
$gate->query('SELECT pg_advisory_unlock(77)');
retried($run, 'a deadlock', qr/deadlock detected/);
$blocker->query('COMMIT');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
check_exactly_once($node, $run, 'f', 30, 'exactly once over a deadlock');
is(sql('SELECT v FROM other'), '1', 'what the batch did elsewhere was done once, too');

# A serialization failure: several statements run at REPEATABLE READ.
sql('UPDATE f SET n = 0');
define_increment($node, 'serial', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off", "retry_delay": "50ms"}',
	target => 'f', statement => 'SELECT pg_advisory_xact_lock_shared(77) FROM batch LIMIT 1; UPDATE batch SET n = n + 1');
$gate->query('SELECT pg_advisory_lock(77)');
$run = start('serial');
ok(wait_for($node, $worker_waits), 'a batch between two statements');
sql('UPDATE f SET f = f + 1 WHERE id = 50');
$gate->query('SELECT pg_advisory_unlock(77)');
ok(wait_for_status($node, $run, 'completed'), 'a run with a serialization failure completes');
is(sql("SELECT attempt, error FROM backfill_batches WHERE run_id = $run AND number = 1"),
	'2|could not serialize access due to concurrent update', 'the batch was tried again, and says why');
check_exactly_once($node, $run, 'f', 30, 'exactly once over a serialization failure');
$gate->quit;
$blocker->quit;

$node->stop;
done_testing();
