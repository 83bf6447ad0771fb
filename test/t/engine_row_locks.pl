# Rows that another session has locked: they are put aside and tried again,
# nothing else is hindered, also when the run is paused, stopped or the server
# killed.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(time usleep);

one_node('main');

# ---------------------------------------------------------------------------
note 'a row lock held by another session';

my $few = 5_000;
my $blocker = session($node);
create_target($node, 't', $few);
my $aside = "FROM backfill_batches WHERE run_id = %s AND status = 'pending' AND retry_at > now()";

# Start a run with a row locked, and wait until nothing but the row is left.
sub start_locked
{
	my ($workers, $more) = @_;
	sql('UPDATE t SET n = 0 WHERE n <> 0');
	$blocker->query('BEGIN');
	$blocker->query('SELECT FROM t WHERE id = 25000 FOR UPDATE');
	define_increment($node, 't', qq({"batch_size": 500, "target_batch_time": 0, "sleep": 0, "workers": $workers, "lock_timeout": "100ms", "retry_delay": "500ms", "max_attempts": 1000}));
	my $run = start_run($node, 't');
	ok(wait_for($node, "SELECT rows_affected = $few - 1 FROM backfill_runs WHERE id = $run"), "$workers worker(s): every other row is done while the lock is held");
	return $run;
}

# The lock is gone: nothing was lost, and only the batch with the row was late.
sub completes
{
	my ($run) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(wait_for_status($node, $run, 'completed', through_end => 1), 'when the lock is gone the run completes');
	is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$few", 'every row was changed exactly once');
	check_parts($node, $run, 't', 'the parts cover the table');
	is(value($run, 'errors, rows_scanned, wait_reason IS NULL'), "0|$few|t", 'nothing counts as an error, nothing is waited for');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND number <> 5 AND (attempt > 1 OR error IS NOT NULL OR retry_at IS NOT NULL)"), 0, 'no other batch was hindered');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND finished_at > (SELECT finished_at FROM backfill_batches WHERE run_id = $run AND end_key = '{25000}')"), 0, 'the row was the last');
	return;
}

foreach my $workers (1, 2)
{
	my $locked_at = time;
	my $run = start_locked($workers);
	my $waiting = sprintf($aside, $run);
	ok(wait_for($node, "SELECT count(*) = 1 $waiting"), 'the row is put aside, to be tried again');
	# one attempt may be under way when we look
	ok(wait_for($node, "SELECT count(*) = 1 $waiting AND number = 5 AND rows_scanned = 1 AND end_key = '{25000}' AND error = 'canceling statement due to lock timeout' AND NOT skipped"), 'it says what it waits for, and until when');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND status <> 'completed'"), 1, 'nothing else is left');
	is(sql('SELECT count(*) FROM t WHERE n = 0 AND id <> 25000'), 0, 'the table says the same');
	ok(wait_for($node, "SELECT wait_reason = 'waits to try batches again that met an error; see backfill_batches' AND status = 'running' FROM backfill_runs WHERE id = $run"), 'the run says that it waits');
	ok(wait_for($node, "SELECT count(*) = 1 AND min(state) = 'retrying' FROM backfill_workers WHERE run_id = $run"), 'one worker is there to try again');
	my $tries = "FROM backfill_events WHERE run_id = $run AND kind = 'retry' AND number = 5 AND sqlstate = '55P03' AND reason = 'canceling statement due to lock timeout'";
	ok(wait_for($node, "SELECT count(*) >= 3 $tries"), 'each try is an event');
	is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind IN ('retry', 'error', 'skip') AND number <> 5"), 0, 'there are none of other batches');
	ok(wait_for($node, "SELECT attempt >= 4 FROM backfill_batches WHERE run_id = $run AND end_key = '{25000}'"), 'the attempts are counted');
	if (full_length())
	{
		usleep(100_000) while time < $locked_at + 10;
		is(value($run, 'rows_affected, status'), ($few - 1) . '|running', 'so it is after 10 s');
	}
	$blocker->query('COMMIT');
	completes($run);
}

# with the batch put aside: pause, stop, and a crash
my $locked = start_locked(2);
ok(wait_for($node, 'SELECT count(*) = 1 ' . sprintf($aside, $locked)), 'the row is put aside');
sql("SELECT backfill_pause($locked)");
ok(wait_for_status($node, $locked, 'paused'), 'the run can be paused');
is(sql("SELECT count(*) FROM backfill_workers WHERE run_id = $locked"), 0, 'no worker stays');
sql("SELECT backfill_resume($locked)");
ok(wait_for($node, "SELECT status = 'running' AND wait_reason LIKE 'waits to try%' FROM backfill_runs WHERE id = $locked"), 'resumed, it waits again');
sql("SELECT backfill_stop($locked)");
ok(wait_for_status($node, $locked, 'stopped'), 'it can be stopped');
is(value($locked, 'rows_affected'), $few - 1, 'the row is not done');
sql("SELECT backfill_resume($locked)");
ok(wait_for($node, "SELECT status = 'running' AND wait_reason LIKE 'waits to try%' FROM backfill_runs WHERE id = $locked"), 'resumed, it waits again');
ok(kill_server($node), 'the server is killed');
eval { $blocker->quit };
$node->start;
ok(wait_for_server($node), 'and comes back, without the lock');
completes($locked);

$blocker = session($node);
# what cannot be had in the end follows on_error
sql('UPDATE t SET n = 0');
$blocker->query('BEGIN');
$blocker->query('SELECT FROM t WHERE id IN (10, 25000, 50000) FOR UPDATE');
define_increment($node, 't', '{"batch_size": 500, "target_batch_time": 0, "sleep": 0, "workers": 2, "lock_timeout": "50ms", "retry_delay": "20ms", "max_attempts": 3, "on_error": "skip"}');
my $id = start_run($node, 't');
ok(wait_for_status($node, $id, 'completed'), 'locks that stay: on_error skip leaves the rows out after max_attempts');
is(sql("SELECT string_agg(key[1] || ' ' || sqlstate || ' ' || attempts, ', ' ORDER BY key[1]::int) FROM backfill_errors WHERE run_id = $id"), '10 55P03 1, 25000 55P03 1, 50000 55P03 1', 'they are the ones that are locked');
check_parts($node, $id, 't', 'every other row was changed exactly once');
$blocker->query('COMMIT');
like(sql("SELECT backfill_retry($id)"), tries(3), 'backfill_retry takes them');
ok(wait_for_status($node, $id, 'completed'), 'and now they can be had');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$few", 'every row was changed exactly once');
check_parts($node, $id, 't', 'the parts cover the table');

$blocker->quit;

$node->stop;
done_testing();
