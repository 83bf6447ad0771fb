# Streams side by side: each worker has one of its own, the longest first, and the
# workers help each other out when there are none left; what is once in a run is
# once, and its limits hold for all streams together.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use BackfillTest::Streams;
use Test::More;

pace_node('main');
create_step($node);
my $step = 'UPDATE batch SET n = n + step(id), w = run.stream';
my $exact = '"batch_size": 10, "target_batch_time": 0, "sleep": 0';

# ---------------------------------------------------------------------------
note 'who has which';

accounts('t', 4, 50);
sql("INSERT INTO behave SELECT a * 1000 + 1, 'gate' FROM generate_series(1, 4) a");
sql("INSERT INTO behave VALUES (2050, 'gate'), (3050, 'gate')");
define_streams('t', account_streams(4, 2 => 5, 3 => 9, 4 => 0.5), qq({"workers": 2, $exact}), statement => $step);
my $run = start_run($node, 't');
ok(at_step($run, 2), 'both workers are at work');
is(states($run), '3 running, 2 running, 4 pending, 1 pending', 'on the longest two; the one without a weight comes last');
is(sql("SELECT string_agg(stream || ' ' || batch, ', ' ORDER BY stream) FROM backfill_workers WHERE run_id = $run"), '2 1, 3 1', 'each on one of its own');
is(stream_value($run, '3', 'workers, progress, rows_scanned, rows_total > 0, wait_reason'), '1|0.00|0|t|', 'how one stands that is at work');
is(stream_value($run, '1', 'workers, progress, rows_total, cursor, wait_reason, started_at'), '0|0.00|||waits for a worker|', 'and one that waits');
is(sql("SELECT string_agg(DISTINCT stream, ',' ORDER BY stream) FROM backfill_batches WHERE run_id = $run AND status = 'running'"), '2,3', 'batches say which they belong to');
sql('DELETE FROM behave WHERE id = 3001');
ok(at_step($run, 2), 'the first goes on to its last batch');
is(stream_value($run, '3', 'progress > 50 AND progress < 100, rows_scanned, batches, cursor'), 't|40|4|["3", "3050"]', 'progress and cursor');
sql('DELETE FROM behave WHERE id = 3050');
ok(streams_are($run, '3 completed, 2 running, 4 running, 1 pending'), 'a worker that is done with one takes the next');
ok(at_step($run, 2), 'and works on it');
cmp_ok(run_value($node, $run, 'progress'), '>', 50, 'the progress of the run is weighted');
cmp_ok(run_value($node, $run, 'progress'), '<', 100, 'and not all');
sql('DELETE FROM behave WHERE id = 4001');
ok(streams_are($run, '3 completed, 2 running, 4 completed, 1 running'), 'and the next');
ok(at_step($run, 2), 'and works on that');
sql('DELETE FROM behave WHERE id = 1001');
ok(stream_in_hand($run, '2', 2), 'when nobody has begun none, it helps with one that others have');
ok(wait_for($node, "SELECT count(*) >= 3 FROM backfill_batches WHERE run_id = $run AND stream = '2' AND status = 'completed'"), 'and gets on with it beside the first batch');
is(states($run), '3 completed, 2 running, 4 completed, 1 completed', 'which still is at work');
is(stream_value($run, '2', 'rows_scanned >= 30'), 't', 'what is done behind an open batch counts');
sql('DELETE FROM behave');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
check_streams($run, 't', 'account::text', 'every row once');
is(sql("SELECT count(DISTINCT pid) FROM backfill_batches WHERE run_id = $run AND stream = '2'"), 2, 'two have worked on the shared one');
is(sql("SELECT count(*) FROM backfill.stream a JOIN backfill.stream b USING (run_id) WHERE run_id = $run AND a.position < b.position AND a.started_at > b.started_at"), 0, 'begun in their order');

# ---------------------------------------------------------------------------
note 'more workers than streams';

# each at the gate of a batch of its own: a run that goes on may be over before the last has begun
accounts('s', 1, 900);
sql("INSERT INTO behave SELECT 1001 + 20 * i, 'gate' FROM generate_series(0, 3) i");
define_streams('s', account_streams(1), '{"workers": 4, "batch_size": 20, "target_batch_time": 0, "sleep": 0}', statement => $step);
$run = start_run($node, 's');
ok(stream_in_hand($run, '1', 4), 'all four share the only one');
sql('DELETE FROM behave');
ok(wait_for_status($node, $run, 'completed'), 'it completes');
check_streams($run, 's', 'account::text', 'every row once');

# ---------------------------------------------------------------------------
note 'once in a run';

accounts('o', 5, 20);
sql('CREATE TABLE log (what text)',
	q{CREATE FUNCTION note_run(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES (concat_ws(' ', e.phase, e.object, e.status)); END$$});
define_streams('o', account_streams(5), qq({"workers": 3, "verify": true, $exact}),
	more => q{scope => 'n = 0', prepare => $p$INSERT INTO log VALUES ('prepare')$p$, finish => $p$INSERT INTO log VALUES ('finish')$p$});
sql(map { "SELECT backfill_on('$_', 'note_run', 'o')" } 'before run running', 'after run completed', 'after batch completed');
$run = start_run($node, 'o');
ok(wait_for_status($node, $run, 'completed'), 'a run with prepare, verify, finish and hooks');
ok(wait_for($node, "SELECT count(*) = 1 FROM log WHERE what = 'after run completed'"), 'the last hook is called');
is(sql('SELECT string_agg(what || n, \', \' ORDER BY what) FROM (SELECT what, \' \' || count(*) AS n FROM log GROUP BY what) l'),
	'after batch completed ' . sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run") . ', after run completed 1, before run running 1, finish 1, prepare 1',
	'those of the run once, those of a batch for each');
is(run_value($node, $run, 'rows_remaining'), 0, 'the rows of all streams are counted');
check_streams($run, 'o', 'account::text', 'every row once');

# what is left in any of them fails the verification
accounts('v', 3, 20);
define_streams('v', account_streams(3), qq({"workers": 2, "verify": true, $exact}),
	statement => 'UPDATE batch SET n = n + 1, w = run.stream WHERE id NOT IN (1005, 3005, 3006)', more => q{scope => 'n = 0'});
$run = start_run($node, 'v');
ok(wait_for_status($node, $run, 'failed'), 'what is left is found');
is(run_value($node, $run, 'rows_remaining'), 3, 'in all streams');
is(sql("SELECT backfill_verify($run)"), 3, 'and backfill_verify counts the same');

# ---------------------------------------------------------------------------
note 'limits are those of the run';

accounts('r', 4, 150);
define_streams('r', account_streams(4), '{"workers": 4, "rate_limit": "100 per s", "batch_size": 20, "target_batch_time": 0, "sleep": 0}');
$run = start_run($node, 'r');
ok(wait_for_status($node, $run, 'completed'), 'a run with a rate limit completes');
cmp_ok(most_rows($node, $run, 1), '<=', 100, 'no window has more rows than the limit, whatever their streams');
check_streams($run, 'r', 'account::text', 'every row once');

# ---------------------------------------------------------------------------
note 'what may be written in a stream';

# parameters, the direction, a scope that knows the stream, several statements
accounts('p', 3, 50);
sql('CREATE TABLE copy (stream text, id bigint)');
define_streams('p', '["1", "2", "3"]', qq({"workers": 2, "direction": "desc", $exact}),
	statement => 'INSERT INTO copy SELECT run.stream, id FROM batch; UPDATE batch SET n = n + params.by, w = run.stream',
	more => q{scope => 'account = run.stream::int', parameters => '{"by": {"type": "int", "default": 1}}'});
$run = start_run($node, 'p');
ok(wait_for_status($node, $run, 'completed'), 'several statements, downwards, over the whole table');
is(sql('SELECT count(*) FROM p WHERE n <> 1 OR w <> account::text'), 0, 'every row once');
is(sql('SELECT count(*), count(DISTINCT id), bool_and(stream = (id / 1000)::text) FROM copy'), '150|150|t', 'and copied once');
is(stream_value($run, '1', 'rows_scanned, rows_affected, cursor'), '150|50|["1", "1001"]', 'the scope has its part of them');

$node->stop;
done_testing();
