# Errors that may go away by themselves: row locks, timeouts, cancellations,
# what the statement raises with such a SQLSTATE.  The batch is divided or tried
# again, nothing is lost, and what it waits for can be seen.  At the end of
# max_attempts on_error decides.

use strict;
use warnings;

use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('main');
my $blocker = session($node);
my $rows = 5_000;

sub sql { return query_ok($node, $_[0]); }
sub value { return run_value($node, @_); }

# A run over the table t as new.
sub start_over
{
	my ($settings, $statement) = @_;
	sql('UPDATE t SET n = 0 WHERE n <> 0');
	define_increment($node, 't', $settings, $statement ? (statement => $statement) : ());
	return start_run($node, 't');
}

# Lines of the log about the run that speak of another try.
sub tried_again
{
	my ($id) = @_;
	my @lines = slurp_file($node->logfile) =~ /batch \d+ of backfill run $id will be tried again/g;
	return scalar @lines;
}

create_target($node, 't', $rows);

# ---------------------------------------------------------------------------
note 'a row lock held by another session';

foreach my $workers (2, 1)
{
	sql('UPDATE t SET n = 0 WHERE n <> 0');
	$blocker->query('BEGIN');
	$blocker->query('SELECT FROM t WHERE id = 25000 FOR UPDATE');
	my $id = start_over(qq({"batch_size": 1000, "target_batch_time": 0, "sleep": 0, "workers": $workers, "lock_timeout": "100ms",
		"retry_delay": "200ms", "max_attempts": 1000}));
	ok(wait_for($node, "SELECT rows_affected = $rows - 1 FROM backfill_runs WHERE id = $id"),
		"$workers workers: every other row is done while the lock is held");
	is(sql('SELECT count(*) FROM t WHERE n = 0 AND id <> 25000'), 0, 'the table says the same');
	like(sql("SELECT number, rows_scanned, error, status FROM backfill_batches WHERE run_id = $id AND status <> 'completed'"),
		qr/^3\|1\|canceling statement due to lock timeout\|(pending|running)$/, 'the row stands alone, with the reason');
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_batches WHERE run_id = $id AND status = 'pending' AND attempt > 1
			AND retry_at BETWEEN clock_timestamp() - interval '1 s' AND clock_timestamp() + interval '1 min'"),
		'its batch is put aside, until a time that it shows');
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id")
		  && wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'retrying' AND batch IS NULL"),
		'one worker stays, has nothing in hand, and says what it does');
	ok(wait_for($node, "SELECT wait_reason = 'waits to try batches again that met an error; see backfill_batches' FROM backfill_runs WHERE id = $id"),
		'and so does the run');
	ok(wait_for($node, "SELECT count(*) > 3 FROM backfill_events WHERE run_id = $id AND kind = 'retry'"), 'it is tried again and again');
	is(value($id, 'status, errors'), 'running|0', 'the run goes on');
	is(sql("SELECT DISTINCT error FROM backfill_batches WHERE run_id = $id AND status <> 'completed' AND attempt > 1"),
		'canceling statement due to lock timeout', 'the batch says what it waits for');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND number <> 3 AND (error IS NOT NULL OR attempt > 1)"), 0, 'no other batch was hindered');
	is(sql("SELECT DISTINCT number, sqlstate, reason, coalesce(role, 'backfill') FROM backfill_events WHERE run_id = $id AND kind = 'retry' ORDER BY reason"),
		"3|55P03|canceling statement due to lock timeout|backfill\n3|55P03|in halves: canceling statement due to lock timeout|backfill", 'the events have it');
	$blocker->query('COMMIT');
	ok(wait_for_status($node, $id, 'completed'), 'when the lock is gone the run completes');
	is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$rows", 'every row was changed exactly once');
	check_parts($node, $id, 't', 'the parts cover the table');
	is(value($id, 'errors, rows_scanned, rows_total'), "0|$rows|$rows", 'nothing counts as an error');
	is(value($id, 'wait_reason IS NULL AND error IS NULL'), 't', 'and nothing is waited for any more');
	my $lines = tried_again($id);
	cmp_ok($lines, '>=', 1, 'the log has it');
	cmp_ok($lines, '<=', 3, 'but not once for each try');
}

# ---------------------------------------------------------------------------
note 'a row lock that stays';

foreach my $way ('fail', 'skip')
{
	sql('UPDATE t SET n = 0 WHERE n <> 0');
	$blocker->query('BEGIN');
	$blocker->query('SELECT FROM t WHERE id = 25000 FOR UPDATE');
	my $id = start_over(qq({"batch_size": 1000, "target_batch_time": 0, "sleep": 0, "workers": 2, "lock_timeout": "50ms",
		"retry_delay": "10ms", "max_attempts": 3, "on_error": "$way"}));
	if ($way eq 'fail')
	{
		ok(wait_for_status($node, $id, 'failed'), 'on_error fail: after max_attempts the run fails');
		is(value($id, 'sqlstate, error'), '55P03|canceling statement due to lock timeout', 'with the error of the last attempt');
		is(sql("SELECT number, rows_scanned, skipped FROM backfill_batches WHERE run_id = $id AND status = 'failed'"), '3|1|f',
			'of the row that stands alone');
		$blocker->query('COMMIT');
		sql("SELECT backfill_resume($id)");
	}
	else
	{
		ok(wait_for_status($node, $id, 'completed'), 'on_error skip: after max_attempts the run goes on without the row');
		is(sql("SELECT key, sqlstate, message, attempts FROM backfill_errors WHERE run_id = $id"),
			'{25000}|55P03|canceling statement due to lock timeout|1', 'which stands in backfill_errors');
		check_parts($node, $id, 't', 'every other row was changed exactly once');
		$blocker->query('COMMIT');
		like(sql("SELECT backfill_retry($id)"), tries(1), 'backfill_retry takes it');
	}
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'when the lock is gone the run completes');
	is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$rows", 'every row was changed exactly once');
	check_parts($node, $id, 't', 'the parts cover the table');
	is(value($id, 'errors'), 0, 'no error is left');
}

# ---------------------------------------------------------------------------
note 'statement_timeout';

# 20 ms a row: 40 rows take 0.8 s at least, 20 rows 0.4 s.
create_target($node, 'slow', 100);
define_increment($node, 'slow', '{"batch_size": 40, "target_batch_time": 0, "sleep": 0, "workers": 2, "statement_timeout": "300ms", "retry_delay": "10ms"}',
	statement => 'UPDATE batch SET n = n + (pg_sleep(0.02 + id * 0) IS NOT NULL)::int');
my $id = start_run($node, 'slow');
ok(wait_for_status($node, $id, 'completed'), 'batches that are too slow are divided until they fit');
is(sql('SELECT n, count(*) FROM slow GROUP BY n'), '1|100', 'every row was changed exactly once');
check_parts($node, $id, 'slow', 'the parts cover the table');
cmp_ok(sql("SELECT max(rows_scanned) FROM backfill_batches WHERE run_id = $id"), '<', 15, 'no part took longer than allowed');
is(sql("SELECT count(DISTINCT number), string_agg(DISTINCT error, ',') FROM backfill_batches WHERE run_id = $id AND error IS NOT NULL"),
	'3|canceling statement due to statement timeout', 'the batches say why');
is(value($id, 'errors'), 0, 'nothing counts as an error');

# a row that is too slow alone
sql('UPDATE slow SET n = 0');
define_increment($node, 'slow', '{"batch_size": 25, "target_batch_time": 0, "sleep": 0, "statement_timeout": "300ms", "retry_delay": "10ms", "max_attempts": 2, "on_error": "skip"}',
	statement => 'UPDATE batch SET n = n + (CASE WHEN id = 300 THEN pg_sleep(60) IS NOT NULL ELSE true END)::int');
$id = start_run($node, 'slow');
ok(wait_for_status($node, $id, 'completed'), 'on_error skip: a row that is too slow by itself is left out');
is(sql("SELECT key, sqlstate, message FROM backfill_errors WHERE run_id = $id"), '{300}|57014|canceling statement due to statement timeout', 'with that error');
check_parts($node, $id, 'slow', 'every other row was changed exactly once');

# ---------------------------------------------------------------------------
note 'pg_cancel_backend';

$node->safe_psql('postgres', q{CREATE FUNCTION gate(key bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 25000 THEN
			PERFORM pg_advisory_xact_lock_shared(4711);
		END IF;
		RETURN 1;
	END $$});
$blocker->query('SELECT pg_advisory_lock(4711)');
$id = start_over('{"batch_size": 1000, "target_batch_time": 0, "sleep": 0, "workers": 2, "lock_timeout": 0, "retry_delay": "10ms", "max_attempts": 1000}',
	'UPDATE batch SET n = n + gate(id)');
my $at_gate = "FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
ok(wait_for($node, "SELECT rows_affected = $rows - 1000 FROM backfill_runs WHERE id = $id"), 'a batch hangs, the others are done');
ok(wait_for($node, "SELECT count(*) = 1 $at_gate"), 'its worker waits');
is(sql("SELECT pg_cancel_backend(pid) $at_gate"), 't', 'it is cancelled');
ok(wait_for($node, "SELECT rows_affected = $rows - 500 FROM backfill_runs WHERE id = $id"), 'half of the batch is done');
ok(wait_for($node, "SELECT count(*) = 1 $at_gate"), 'the other half waits again');
is(sql("SELECT DISTINCT error FROM backfill_batches WHERE run_id = $id AND status = 'running'"), 'canceling statement due to user request', 'it says why it was tried again');
$blocker->query('SELECT pg_advisory_unlock(4711)');
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$rows", 'every row was changed exactly once');
check_parts($node, $id, 't', 'the parts cover the table');

# ---------------------------------------------------------------------------
note 'what the statement raises';

# The row raises so many times; the sequence counts, which is not rolled back.
$node->safe_psql('postgres', q{
	CREATE SEQUENCE tries;
	CREATE FUNCTION flaky(key bigint, state text, times int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 25000 AND nextval('tries') <= times THEN
			RAISE EXCEPTION 'not now' USING ERRCODE = state;
		END IF;
		RETURN 1;
	END $$});
foreach my $state ('40001', '40P01', '53200', '57P03', 'XX000')
{
	sql('ALTER SEQUENCE tries RESTART');
	$id = start_over('{"batch_size": 1000, "target_batch_time": 0, "sleep": 0, "retry_delay": "10ms", "on_error": "skip"}', "UPDATE batch SET n = n + flaky(id, '$state', 3)");
	ok(wait_for_status($node, $id, 'completed'), "$state: the batch is tried until it is well");
	is(sql("SELECT number, part, rows_scanned, attempt, error FROM backfill_batches WHERE run_id = $id AND (attempt > 1 OR part > 0)"),
		'3|0|1000|4|not now', 'as a whole');
	check_parts($node, $id, 't', 'exactly once');
	is(value($id, 'errors'), 0, 'nothing counts as an error');
	is(tried_again($id), 1, 'the log says so once');
}
foreach my $state ('53200', '57P03', 'XX000')
{
	sql('ALTER SEQUENCE tries RESTART');
	$id = start_over('{"batch_size": 1000, "target_batch_time": 0, "sleep": 0, "retry_delay": "10ms", "on_error": "skip", "max_attempts": 3}',
		"UPDATE batch SET n = n + flaky(id, '$state', 4)");
	ok(wait_for_status($node, $id, 'failed'), "$state: no row is skipped for what is not its fault");
	is(value($id, 'sqlstate, error, errors'), "$state|not now|0", 'the run has the error');
	is(sql("SELECT number, part, rows_scanned, attempt FROM backfill_batches WHERE run_id = $id AND status = 'failed'"), '3|0|1000|3', 'after max_attempts');
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it has max_attempts again and completes');
	check_parts($node, $id, 't', 'exactly once');
}

# Nor does it fail a run that is being paused when it comes.
sql(q{CREATE FUNCTION beside_a_pause(key bigint, state text) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 25000 AND nextval('tries') = 1 THEN
			WHILE NOT EXISTS (SELECT FROM backfill_runs WHERE wait_reason LIKE 'paused requested%') LOOP
				PERFORM pg_sleep(0.01);
			END LOOP;
			PERFORM pg_sleep(0.1);
			RAISE EXCEPTION 'not now' USING ERRCODE = state;
		END IF;
		RETURN 1;
	END $$});
foreach my $state ('40001', 'XX000')
{
	sql('ALTER SEQUENCE tries RESTART');
	$id = start_over('{"batch_size": 1000, "target_batch_time": 0, "sleep": 0}', "UPDATE batch SET n = n + beside_a_pause(id, '$state')");
	ok(wait_for($node, 'SELECT is_called FROM tries'), "$state: a batch is about to raise it");
	sql("SELECT backfill_pause($id)");
	ok(wait_for_status($node, $id, 'paused'), 'the run is paused, and has not failed');
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	check_parts($node, $id, 't', 'exactly once');
}

# a row that has such an error each time is like any other bad row
sql('ALTER SEQUENCE tries RESTART');
$id = start_over('{"batch_size": 1000, "target_batch_time": 0, "sleep": 0, "retry_delay": 0, "on_error": "skip", "max_attempts": 2}', "UPDATE batch SET n = n + flaky(id, '40001', 1000)");
ok(wait_for_status($node, $id, 'completed'), '40001 each time: the run goes on');
is(sql("SELECT key, sqlstate FROM backfill_errors WHERE run_id = $id"), '{25000}|40001', 'without the row');
check_parts($node, $id, 't', 'exactly once');

$blocker->quit;
$node->stop;
done_testing();
