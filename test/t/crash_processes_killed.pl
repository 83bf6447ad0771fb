# Exactly once while single processes are killed, terminated or held, and while
# the server is stopped and started.

use strict;
use warnings;

use BackfillTest;
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(usleep);

my $rows = full_length() ? 1_000_000 : 300_000;
my $rounds = full_length() ? 5 : 1;

seed_random();

my $node = make_node('main');

create_target($node, 't', $rows);
define_increment($node, 't',
	'{"batch_size": 100, "target_batch_time": 0, "sleep": "50 ms", "workers": 2, "retry_delay": "100 ms"}');
my $foreground = foreground_start($node, 't', $rows);
my $id = start_run($node, 't');

sub a_worker
{
	my @pids;
	for (1 .. 1000)
	{
		@pids = worker_pids($node, $id);
		return $pids[ rand @pids ] if @pids;
		usleep(10_000);
	}
	die 'no worker';
}

sub terminate
{
	my ($type) = @_;
	return query_ok($node, "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
		FROM pg_stat_activity WHERE backend_type = '$type'");
}

sub pid_of
{
	return query_ok($node, "SELECT max(pid) FROM pg_stat_activity WHERE backend_type = '$_[0]'");
}

sub wait_for_other
{
	my ($type, $pid) = @_;
	return wait_for($node, "SELECT count(*) = 1 AND max(pid) <> $pid
		FROM pg_stat_activity WHERE backend_type = '$type'");
}

my %blows = (
	'SIGKILL of a worker' => sub {
		my $pid = a_worker();
		kill('KILL', $pid);
		# the server restarts itself
		ok(wait_for($node, "SELECT pg_postmaster_start_time() IS NOT NULL AND NOT EXISTS
			(SELECT FROM pg_stat_activity WHERE pid = $pid)"), 'the server is back');
	},
	'pg_terminate_backend of a worker' => sub {
		my $pid = a_worker();
		query_ok($node, "SELECT pg_terminate_backend($pid)");
		ok(wait_for($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)"),
			'the worker is gone');
	},
	'pg_terminate_backend of all workers' => sub {
		terminate('backfill worker');
	},
	'pg_cancel_backend of all workers' => sub {
		query_ok($node, "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
			WHERE backend_type = 'backfill worker'");
	},
	'pg_terminate_backend of the scheduler' => sub {
		my $pid = pid_of('backfill scheduler');
		is(terminate('backfill scheduler'), 1, 'one is terminated');
		ok(wait_for_other('backfill scheduler', $pid), 'there is another one');
	},
	'pg_terminate_backend of the launcher' => sub {
		my $pid = pid_of('backfill launcher');
		is(terminate('backfill launcher'), 1, 'one is terminated');
		ok(wait_for_other('backfill launcher', $pid), 'there is another one');
	},
	'pg_terminate_backend of everything of ours' => sub {
		my $pid = pid_of('backfill launcher');
		query_ok($node, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE backend_type LIKE 'backfill%'");
		ok(wait_for_other('backfill launcher', $pid), 'there is another launcher');
	},
	'an immediate stop' => sub {
		$node->stop('immediate');
		ok(await_death($node), 'no process outlives the server');
		$node->start;
	},
	'a fast stop' => sub {
		$node->stop('fast');
		ok(await_death($node), 'no process outlives the server');
		$node->start;
	},
	'a worker held for a while' => sub {
		my $pid = a_worker();
		kill('STOP', $pid);
		usleep(200_000);
		is(query_ok($node, "SELECT count(*) FROM backfill_workers WHERE pid = $pid"),
			1, 'the held worker still has its place');
		kill('CONT', $pid);
	},
	'a worker held and terminated' => sub {
		my $pid = a_worker();
		kill('STOP', $pid);
		query_ok($node, "SELECT pg_terminate_backend($pid)");
		usleep(100_000);
		kill('CONT', $pid);
		ok(wait_for($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)"),
			'the worker is gone');
	},);

# So slow that it is not over when the last blow falls.
my @names = sort keys %blows;

foreach my $name (map { shuffle(@names) } 1 .. $rounds)
{
	my $scanned = run_value($node, $id, 'rows_scanned');
	my $until = $scanned + int(rand(2000));

	ok(wait_for($node, "SELECT rows_scanned >= $until FROM backfill_runs WHERE id = $id",
			interval => 10_000),
		"at row $until: $name");
	usleep(rand(50_000));
	$blows{$name}->();
	$scanned = run_value($node, $id, 'rows_scanned');
	ok(wait_for($node, "SELECT rows_scanned > $scanned + 1000 FROM backfill_runs WHERE id = $id"),
		"progress after $name");
	is(run_value($node, $id, 'status'), 'running', 'the run is running');
	foreground_stop($foreground);
	$foreground = foreground_start($node, 't', $rows);
}
ok(wait_for($node, "SELECT workers = 2 FROM backfill_runs WHERE id = $id"),
	'the run has its two workers');
$node->safe_psql('postgres',
	qq(SELECT backfill_alter($id, '{"batch_size": 2000, "sleep": 0}')));
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
foreground_stop($foreground);
check_exactly_once($node, $id, 't', $rows, 'exactly once');

# Whoever restarts the server is not the fault of the batch in hand.
create_target($node, 'long', 100);
$node->safe_psql('postgres', 'CREATE TABLE nap AS SELECT 300 AS s');
define_increment($node, 'long', '{"batch_size": 100, "target_batch_time": 0}',
	statement => 'UPDATE batch SET n = n + 1 WHERE pg_sleep((SELECT s FROM nap)) IS NOT NULL');
$id = start_run($node, 'long');
foreach my $restart (1 .. 4)
{
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'running'"),
		"a long batch is in hand, restart $restart");
	$node->stop('fast');
	$node->start;
}
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'running'"),
	'a long batch is begun again after any number of orderly restarts');
$node->safe_psql('postgres', qq(UPDATE nap SET s = 0; SELECT backfill_stop($id, immediate => true)));
ok(wait_for_status($node, $id, 'stopped', through_end => 1), 'it is stopped');
$node->safe_psql('postgres', "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, and completes');
check_exactly_once($node, $id, 'long', 100, 'exactly once');

$node->stop;
done_testing();
