# A rate limit that comes while a batch is being completed: the batch is read from
# the table of batches, and its worker settles for it.  It counts once.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use Test::More;

pace_node('entered');

# Whether the process waits for a lock on the table of batches; by what kind of process it is.
sub waits { return "SELECT count(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid)
	WHERE relation = 'backfill.batch'::regclass AND NOT granted AND backend_type = '$_[0]'"; }

tables($node, 10_000, 'entered');
my $run = begin_run($node, 'entered', '{"sleep": 0, "batch_size": 10, "target_batch_time": 0}',
	statement => sleeping(0.01));
ok(wait_for($node, goes_on($run, 3)), 'a run goes');

# batches are read for no other reason soon after they have been added up
my $added = sql("SELECT rollup_number FROM backfill.run WHERE id = $run");
ok(wait_for($node, "SELECT rollup_number > $added FROM backfill.run WHERE id = $run"), 'batches are added up');

# the worker comes first, then everybody's lock, then the scheduler, which until then
# leaves a run alone whose row is locked
my ($first, $limiting, $second) = map { session($node) } 1 .. 3;
$first->query('BEGIN');
$first->query('LOCK backfill.batch IN SHARE MODE');
ok(wait_for($node, waits('backfill worker')), 'its worker cannot complete its batch');
my $done = sql("SELECT sum(rows_affected) FROM backfill.batch WHERE run_id = $run AND status = 'completed'");
my $limit = $done + 20;
$limiting->query('BEGIN');
$limiting->query(qq(UPDATE backfill.run SET settings = settings || '{"rate_limit": "$limit per 10 min"}' WHERE id = $run));
$second->query('BEGIN');
$second->send('LOCK backfill.batch IN ACCESS EXCLUSIVE MODE');
ok(wait_for($node, waits('client backend')), 'nor can anybody read of batches any more');
is(sql(waits('backfill scheduler')), 'f', 'the scheduler does not try to');
$limiting->query('SELECT backfill.wake()');
$limiting->query('COMMIT');
$limiting->quit;
ok(wait_for($node, waits('backfill scheduler')), 'and a rate limit comes');
$first->query('COMMIT');
$first->quit;
$second->query('ROLLBACK');
$second->quit;

ok(wait_for($node, throttled($run, 'rate_limit:%')), 'the limit is reached');
ok(wait_for($node, "SELECT rows_affected = $limit FROM backfill_runs WHERE id = $run", timeout => 20),
	'with as many rows as it has');
is(sql("SELECT rows_affected FROM backfill_runs WHERE id = $run"), $limit, 'not one more');

sql("SELECT backfill_stop($run)");
wait_for_status($node, $run, 'stopped');
$node->stop;
done_testing();
