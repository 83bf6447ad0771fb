# Streams through crashes: the postmaster is killed, the server, and workers, at
# random moments; every row of every stream is processed exactly once.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Streams;
use Test::More;
use Time::HiRes qw(usleep);

seed_random();
one_node('main');
my $full = full_length();
my $kills = $full ? 12 : 3;
my $settings = '{"workers": 3, "batch_size": 50, "target_batch_time": 0, "sleep": "5 ms", "retry_delay": "50 ms"}';

# What is visible of a run right after a crash is what was committed: no stream claims
# more than its rows, and what the view says of each is what the table says.
sub consistent
{
	my ($run, $table, $stream) = @_;
	return sql("SELECT string_agg(format('%s: %s rows done, the view says %s', name, done, rows_affected), '; ')
		FROM (SELECT s.name, s.rows_affected, (SELECT sum(n) FROM $table t WHERE $stream = s.name) AS done
				FROM backfill_streams s WHERE run_id = $run) s
		WHERE rows_affected IS DISTINCT FROM coalesce(done, 0)");
}

my @blows = (
	[ 'the postmaster is killed' => sub { ok(kill_postmaster($node), 'no process outlives the postmaster'); $node->start; } ],
	[ 'everything is killed' => sub { ok(kill_server($node), 'no process outlives the server'); $node->start; } ],
	[ 'a worker is killed' => sub {
		my ($run) = @_;
		my @pids = worker_pids($node, $run) or return;
		my $pid = $pids[ rand @pids ];
		kill('KILL', $pid);
		ok(wait_for($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)"), 'the server is back');
	} ],
	[ 'a worker is terminated' => sub {
		my ($run) = @_;
		my @pids = worker_pids($node, $run) or return;
		sql("SELECT pg_terminate_backend($pids[ rand @pids ])");
	} ],
	[ 'the scheduler is terminated' => sub { sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'"); } ]);

# Blow after blow until the run has ended; each after some more rows.
sub survive
{
	my ($run, $table, $rows, $stream) = @_;
	foreach my $kill (1 .. $kills)
	{
		my $until = int($rows * ($kill - 1 + rand() * 0.8) / $kills);
		ok(wait_for($node, "SELECT rows_affected >= $until OR status = 'completed' FROM backfill_runs WHERE id = $run", interval => 10_000), "row $until");
		usleep(rand(50_000));
		# each of them at least once in full length, and the hard ones in any
		my ($name, $blow) = @{ $blows[ $kill <= 2 ? $kill - 1 : $full ? $kill % @blows : 2 + rand(3) ] };
		note "$name at row $until: " . states($run);
		$blow->($run);
		is(consistent($run, $table, $stream), '', "$name: what is said of the streams is what was done") if $kill <= 2;
	}
	ok(wait_for_status($node, $run, 'completed', through_end => 1), 'the run completes');
	check_streams($run, $table, $stream, 'every row once');
	is(consistent($run, $table, $stream), '', 'as the streams say');
	cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND attempt > 1"), '>=', 1, 'some batches were in hand');
	return;
}

# ---------------------------------------------------------------------------
note 'partitions, each without a key of the parent, of several sizes';

my $each = $full ? 12_000 : 1_200;
partitions('p', 6, $each);
define_streams('p', 'partitions', $settings);
my $run = start_run($node, 'p');
survive($run, 'p', 21 * $each, q{'p_' || part});

# ---------------------------------------------------------------------------
note 'ranges of one table, and one of them shared by all';

accounts('a', 3, $full ? 300 : 60);
sql('INSERT INTO a SELECT 4, 4000 + i FROM generate_series(1, ' . ($full ? 120_000 : 12_000) . ') i', 'ANALYZE a');
define_streams('a', q{SELECT account::text AS name, ARRAY[account] AS "from", ARRAY[account] AS "to", count(*) AS weight FROM a GROUP BY account}, $settings);
$run = start_run($node, 'a');
survive($run, 'a', sql('SELECT count(*) FROM a'), 'account::text');

# ---------------------------------------------------------------------------
note 'killed at the very beginning, and while streams are being taken';

accounts('b', 40, 5);
define_streams('b', account_streams(40), '{"workers": 3, "batch_size": 2, "target_batch_time": 0, "sleep": "10 ms"}');
$run = start_run($node, 'b');
ok(wait_for($node, "SELECT count(*) > 0 FROM backfill.stream WHERE run_id = $run", interval => 1_000), 'the streams are put down');
ok(kill_server($node), 'everything is killed');
$node->start;
ok(wait_for($node, "SELECT count(*) >= 5 FROM backfill_streams WHERE run_id = $run AND status = 'completed'", interval => 1_000), 'some are done');
ok(kill_postmaster($node), 'the postmaster is killed');
$node->start;
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
check_streams($run, 'b', 'account::text', 'every row once');
is(sql("SELECT count(*), max(position) FROM backfill.stream WHERE run_id = $run"), '40|40', 'each stream was put down once');

# ---------------------------------------------------------------------------
note 'a batch that brings its worker down names its stream';

accounts('d', 2, 20);
sql(q{CREATE FUNCTION deadly(id bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN IF id = 2005 AND NOT EXISTS (SELECT FROM mended) THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END IF; RETURN 1; END $$},
	'CREATE TABLE mended (m int)');
define_streams('d', account_streams(2), '{"workers": 1, "batch_size": 10, "target_batch_time": 0}', statement => 'UPDATE batch SET n = n + deadly(id), w = run.stream');
$run = start_run($node, 'd');
ok(wait_for_status($node, $run, 'failed'), 'a batch that is deadly again and again fails the run');
is(run_value($node, $run, 'error'), 'batch 1 of stream "2" brought down its worker or the server 3 times', 'and is named with its stream')
  or diag(sql("SELECT * FROM backfill_events WHERE run_id = $run"));
sql('INSERT INTO mended VALUES (1)', "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'mended and resumed, it completes');
check_streams($run, 'd', 'account::text', 'every row once');

$node->stop;
done_testing();
