# Exactly once while the whole server is killed again and again, with
# synchronous_commit on and off, under writes of the foreground.

use strict;
use warnings;

use BackfillTest;
use List::Util qw(max);
use Test::More;
use Time::HiRes qw(usleep);

my $rows = full_length() ? 1_000_000 : 200_000;
my $kills = full_length() ? 20 : 5;

seed_random();

my $node = make_node('main');

# Kill and restart the server, and wait until a batch is completed.  Returns
# the seconds from the start of the postmaster, recovery included, to that.
sub kill_and_restart
{
	my ($id) = @_;
	my $since = "FROM backfill_batches WHERE run_id = $id AND finished_at > pg_postmaster_start_time()";

	# the postmaster alone, or everything at the same instant
	ok(rand() < 0.5 ? kill_postmaster($node) : kill_server($node),
		'no process outlives the server');
	$node->start;
	ok( wait_for($node,
			"SELECT EXISTS (SELECT $since) OR EXISTS
				(SELECT FROM backfill_runs WHERE id = $id AND status = 'completed')"),
		'the run goes on by itself');
	return query_ok($node,
		"SELECT coalesce(extract(epoch FROM min(finished_at) - pg_postmaster_start_time()), 0) $since");
}

# For a moment after a crash batches run one at a time, and a worker that sleeps
# has none in hand.  Wait that moment without getting on, and then until both
# workers go from one batch to the next again.
sub both_at_work
{
	my ($id) = @_;
	my $running = "FROM backfill_batches WHERE run_id = $id AND status = 'running'";

	query_ok($node, qq(SELECT backfill_alter($id, '{"sleep": "1 s"}')));
	ok(wait_for($node, "SELECT count(DISTINCT worker) = 2 $running", interval => 10_000),
		'after a while both workers have a batch in hand again');
	query_ok($node, qq(SELECT backfill_alter($id, '{"sleep": "5 ms"}')));
	my $batches = run_value($node, $id, 'batches');
	ok( wait_for($node,
			"SELECT batches > $batches + 5 AND (SELECT count(DISTINCT worker) = 2 $running)
			   FROM backfill_runs WHERE id = $id", interval => 10_000),
		'and run');
	return;
}

# batches of one size, and of sizes that follow the time they take
my %size = (
	off => '"batch_size": 300, "target_batch_time": 0',
	on => '"batch_size": 300, "target_batch_time": "3 ms", "min_batch_size": 100, "max_batch_size": 500');

foreach my $synchronous_commit ('off', 'on')
{
	my $table = "t_$synchronous_commit";
	my @recovery;

	create_target($node, $table, $rows);
	define_increment($node, $table, qq({$size{$synchronous_commit}, "sleep": "5 ms", "workers": 2,
		"retry_delay": "100 ms", "synchronous_commit": "$synchronous_commit"}));
	my $foreground = foreground_start($node, $table, $rows);
	my $id = start_run($node, $table);

	foreach my $kill (1 .. $kills)
	{
		# the first at the very beginning, the last near the end
		if ($kill > 1)
		{
			my $part = $kill == $kills ? 0.96 : ($kill - 2 + rand) / ($kills - 1);
			ok( wait_for($node,
					"SELECT rows_scanned >= " . int($rows * $part)
					  . " OR status = 'completed' FROM backfill_runs WHERE id = $id",
					interval => 10_000),
				sprintf('kill %d comes after %.1f %%', $kill, 100 * $part));
		}
		both_at_work($id) if $kill == 2;
		usleep(rand(50_000));
		push @recovery, kill_and_restart($id);
		foreground_stop($foreground);
		$foreground = foreground_start($node, $table, $rows);
	}
	ok(wait_for_status($node, $id, 'completed'),
		"the run completes after $kills kills, synchronous_commit $synchronous_commit");
	foreground_stop($foreground);
	check_exactly_once($node, $id, $table, $rows,
		"exactly once after $kills kills of the server, synchronous_commit $synchronous_commit");
	cmp_ok(query_ok($node, "SELECT count(*) FROM backfill_batches WHERE run_id = $id AND attempt > 1"),
		'>=', 1, 'some batches were in hand when the server died');
	cmp_ok(query_ok($node, "SELECT count(DISTINCT rows_scanned) FROM backfill_batches WHERE run_id = $id"),
		'>', 5, 'their size followed the time') if $synchronous_commit eq 'on';
	cmp_ok(query_ok($node, "SELECT sum(f) FROM $table"), '>', 0, 'the foreground wrote meanwhile');
	diag(sprintf('synchronous_commit %s: a batch is completed %.2f s after the start of the server at the latest',
			$synchronous_commit, max(@recovery)));
	cmp_ok(max(@recovery), '<', 60, 'progress soon after the server accepts connections');
}

# A worker that never sleeps has to notice the death of the postmaster all the
# same, or the server could not be started again before the run has ended, in
# hours here.
create_target($node, 'sleepless', 100_000);
define_increment($node, 'sleepless', '{"batch_size": 1, "target_batch_time": 0, "sleep": 0}',
	statement => 'UPDATE batch SET n = n + 1 WHERE (SELECT sum(i) FROM generate_series(1, 100000) i) > id - id');
my $id = start_run($node, 'sleepless');
ok(wait_for($node, "SELECT batches > 5 FROM backfill_runs WHERE id = $id"),
	'a run without sleep is under way');
ok(kill_postmaster($node, 60), 'its worker ends after the postmaster')
  || kill('KILL', node_processes($node)) && await_death($node);
$node->start;
ok(wait_for($node, "SELECT rows_scanned > 5 FROM backfill_runs WHERE id = $id"), 'the run goes on');

$node->stop;
done_testing();
