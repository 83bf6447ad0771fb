# A stream that fails: with on_error "fail" the others stop after the batch in hand,
# with "skip" they go on; backfill_resume takes up what failed, and nothing else.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Streams;
use Test::More;

one_node('main');
create_step($node);
my $step = 'UPDATE batch SET n = n + step(id), w = run.stream';
my $exact = '"batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "10 ms"';

# ---------------------------------------------------------------------------
note 'on_error "fail"';

accounts('f', 4, 50);
sql("INSERT INTO behave VALUES (1001, 'gate'), (2011, 'fail')");
define_streams('f', account_streams(4, 1 => 9, 2 => 8), qq({"workers": 2, $exact}), statement => $step);
my $run = start_run($node, 'f');
ok(at_step($run, 1), 'one stream is in the middle of a batch');
ok(wait_for($node, "SELECT requested = 'failed' FROM backfill.run WHERE id = $run"), 'another one fails');
is(states($run), '1 running, 2 failed, 3 pending, 4 pending', 'which is the one that says so');
is(stream_value($run, '2', 'error, sqlstate, workers, finished_at IS NOT NULL'), 'row 2011 is bad|22000|0|t', 'with its error');
sql('DELETE FROM behave WHERE id = 1001');
ok(wait_for_status($node, $run, 'failed'), 'the run fails when the batch in hand is done');
is(run_value($node, $run, "error, sqlstate, split_part(error_context, E'\\n', 2) LIKE 'batch 2 of stream \"2\" of backfill run % \"f\"'"), 'row 2011 is bad|22000|t', 'its error names the stream')
  or diag(run_value($node, $run, 'error_context'));
is(states($run), '1 running, 2 failed, 3 pending, 4 pending', 'the others are where they were');
is(stream_value($run, '1', 'batches, rows_affected, error, workers'), '1|10||0', 'the batch in hand was done, and no other begun');
is(sql("SELECT count(*) FROM f WHERE n > 0"), 20, 'no other row was touched');
is(sql("SELECT stream, number, sqlstate, reason FROM backfill_events WHERE run_id = $run AND kind = 'error'"), '2|2|22000|row 2011 is bad', 'the event names stream and batch');
sql('DELETE FROM behave');
sql("SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'resumed, it completes');
check_streams($run, 'f', 'account::text', 'every row once');
is(stream_value($run, '2', 'error, sqlstate'), '|', 'what was an error is none any more');

# ---------------------------------------------------------------------------
note 'on_error "skip", a stream that has too many errors';

accounts('s', 6, 50);
sql("INSERT INTO behave SELECT 2000 + i, 'fail' FROM generate_series(11, 15) i");
sql("INSERT INTO behave SELECT 5000 + i, 'fail' FROM generate_series(21, 25) i");
sql("INSERT INTO behave VALUES (3007, 'fail')");
define_streams('s', account_streams(6), qq({"workers": 2, "on_error": "skip", "max_errors": 3, "max_error_rate": 1, $exact}), statement => $step);
$run = start_run($node, 's');
ok(wait_for_status($node, $run, 'failed'), 'the run fails at its end');
is(states($run), '1 completed, 2 failed, 3 completed, 4 completed, 5 failed, 6 completed', 'the others are done');
is(run_value($node, $run, 'error'), '2 of 6 streams failed: 2, 5', 'with the list of those that failed');
is(run_value($node, $run, 'error_hint'), 'The view backfill_streams has their errors; backfill_resume takes up those that failed.', 'and what to do');
like(stream_value($run, '2', 'error'), qr/^row 20\d\d is bad$/, 'each has its own error');
is(run_value($node, $run, 'errors'), sql("SELECT count(*) FROM backfill_errors WHERE run_id = $run AND resolved_at IS NULL"), 'rows that were skipped are counted for all streams');
is(sql("SELECT key FROM backfill_errors WHERE run_id = $run AND stream = '3'"), '{3,3007}', 'and known with their stream');
is(sql("SELECT count(*) FROM s WHERE n = 1 AND account IN (1, 3, 4, 6)"), 199, 'all rows of the others but the skipped one');
my $done = sql("SELECT string_agg(stream || number || part, ',' ORDER BY stream, number, part) FROM backfill_batches WHERE run_id = $run AND stream NOT IN ('2', '5')");
sql('DELETE FROM behave WHERE id <> 3007');
sql("SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'resumed, it completes');
is(states($run), '1 completed, 2 completed, 3 completed, 4 completed, 5 completed, 6 completed', 'with all streams');
is(sql("SELECT string_agg(stream || number || part, ',' ORDER BY stream, number, part) FROM backfill_batches WHERE run_id = $run AND stream NOT IN ('2', '5')"), $done, 'only those that failed were taken up');
is(sql("SELECT string_agg(key::text, ' ' ORDER BY key) FROM backfill_errors WHERE run_id = $run AND resolved_at IS NULL"),
	sql("SELECT string_agg(format('{%s,%s}', account, id), ' ' ORDER BY id) FROM s WHERE n = 0"), 'rows that are not done are those that were skipped');

# the skipped rows, in whatever streams
sql('DELETE FROM behave');
my $skipped = sql('SELECT count(*) FROM s WHERE n = 0');
cmp_ok($skipped, '>=', 1, 'there are such rows');
like(sql("SELECT backfill_retry($run)"), tries($skipped), 'they are tried again');
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'the run completes again');
check_streams($run, 's', 'account::text', 'every row once');
is(run_value($node, $run, 'errors, progress'), '0|100.00', 'none is left');
like(sql("SELECT backfill_retry($run)"), tries(0), 'and nothing to be tried');

# ---------------------------------------------------------------------------
note 'errors that go away by themselves';

accounts('a', 3, 50);
sql("ALTER SEQUENCE once RESTART", "INSERT INTO behave VALUES (2021, 'once')");
define_streams('a', account_streams(3), qq({"workers": 2, $exact}), statement => $step);
$run = start_run($node, 'a');
ok(wait_for_status($node, $run, 'completed'), 'a batch is tried again');
check_streams($run, 'a', 'account::text', 'every row once');
is(sql("SELECT stream, number, attempt FROM backfill_batches WHERE run_id = $run AND attempt > 1"), '2|3|2', 'and only that one');
is(sql("SELECT stream, number FROM backfill_events WHERE run_id = $run AND kind = 'retry'"), '2|3', 'the event names its stream');

# one that waits to be tried again does not keep a worker from the other streams
accounts('w', 3, 50);
sql("ALTER SEQUENCE once RESTART");
sql("DELETE FROM behave", "INSERT INTO behave VALUES (1041, 'once')");
define_streams('w', account_streams(3), qq({"workers": 1, "batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "1 min"}), statement => $step);
$run = start_run($node, 'w');
ok(streams_are($run, '1 running, 2 completed, 3 completed'), 'the others are done while a batch waits for its next attempt');
is(stream_value($run, '1', 'rows_affected'), 40, 'which is the last of its stream');
sql("SELECT backfill_stop($run)");
ok(wait_for_status($node, $run, 'stopped', through_end => 1), 'a stop does not wait for it');
sql("SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'resumed, it completes');
check_streams($run, 'w', 'account::text', 'every row once');

$node->stop;
done_testing();
