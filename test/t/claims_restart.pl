# Claims beside crashes of every kind: what is out stays
# good for its lease, and is handed out again behind it.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;
use Time::HiRes qw(time usleep);

one_node('main');

# Sessions of a server that is killed end in errors.
sub forget
{
	$_->{run}->kill_kill(grace => 1) foreach @_;
	return;
}

sub restart
{
	# the node object thinks that it still runs
	$node->start;
	wait_for_server($node);
	return;
}

# --- the server is killed with batches out ---

foreach my $how (qw(postmaster server))
{
	my $table = "killed_$how";
	my $id = new_run($table);
	my $client = client();
	my $bound = client();
	my ($done, $kept, $lost) = claim_batch($client, $id, batches => 3, lease => "'3 s'");
	my ($session) = claim_batch($bound, $id, worker => 'bound', lease => "'session'");
	my ($unfinished) = claim_batch($client, $id, lease => "'3 s'", worker => 'unfinished');
	ask($client, 'BEGIN;' . change($done, $table) . ';' . complete($done) . ';COMMIT');
	$client->query('BEGIN');
	my ($uncommitted) = claim_batch($client, $id);
	$client->query(change($unfinished, $table) . ';' . complete($unfinished));
	my $claimed = time;

	# half of the lease is over
	wait_for($node, "SELECT min(lease_until) < clock_timestamp() + interval '2500 ms' FROM backfill_batches WHERE run_id = $id");
	# what has been committed asynchronously is to be on disk
	sql('CHECKPOINT');
	ok($how eq 'postmaster' ? kill_postmaster($node) : kill_server($node), "$how is killed");
	forget($client, $bound);
	restart();

	ok(wait_for($node, "SELECT count(*) FROM backfill_batches WHERE run_id = $id AND lease_until IS NOT NULL", expected => 3),
		'the leases are known again');
	cmp_ok(sql("SELECT extract(epoch FROM min(lease_until) - pg_postmaster_start_time()) FROM backfill_batches WHERE run_id = $id AND lease_until IS NOT NULL"),
		'>=', 3, 'for their full length once more');
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'takeover'
		AND number = $session->{number} AND reason LIKE 'the session of client \"bound\" has ended'"), 'that of a session is free at once');

	$client = client();
	is(ask($client, 'BEGIN;' . change($kept, $table) . ';' . complete($kept) . ';COMMIT'), '',
		'a batch is completed after the restart, with the token from before');
	is(batch_status($kept), 'completed', 'it is');
	is(ask($client, complete($done)), 'ERROR:  UB006', 'one that was completed before it is not completed again');
	is(ask($client, complete($session)), 'ERROR:  UB006', 'nor that of a session which is gone');
	is(ask($client, complete($uncommitted)), 'ERROR:  UB006', 'nor one whose claim was not committed');
	is(ask($client, 'SELECT backfill_extend(' . batch_of($unfinished) . ') IS NOT NULL'), 't',
		'one whose completion was not committed can be extended');

	# the last one is handed out again when its lease is over, not before
	my $second = client();
	my $all = change_all($second, $id, $table, worker => 'second');
	my ($found) = grep { $_->{number} == $lost->{number} } @{ $all->{claimed} };
	ok($found, 'one that nobody completed is handed out again');
	cmp_ok(sql("SELECT extract(epoch FROM at - '" . sql('SELECT pg_postmaster_start_time()') . "') FROM backfill_events
		WHERE run_id = $id AND kind = 'takeover' AND number = $lost->{number}"), '>', 2.9, 'behind its full lease');
	is($all->{last}{reason}, 'completed', 'the run is completed');
	check_exactly_once($node, $id, $table, 300, 'every row once');
	$_->quit foreach $client, $second;
}

# --- complete before the scheduler has looked ---

my $id = new_run('early');
my $client = client();
my ($batch) = claim_batch($client, $id, lease => "'1 min'");
sql('CHECKPOINT');
kill_server($node);
forget($client);
restart();
$client = client();
is(ask($client, 'BEGIN;' . change($batch, 'early') . ';' . complete($batch) . ';COMMIT'), '',
	'a batch is completed as soon as the server is there');
is(out_of($id), '', 'no lease of it is left behind');
finish_run($id, 'early', 'every row once');

# --- max_claims holds across a restart ---

$id = new_run('counted', '{"batch_size": 10, "max_claims": 3}');
my @three = claim_batch($client, $id, batches => 3);
is(scalar @three, 3, 'as many as max_claims allows');
sql('CHECKPOINT');
kill_server($node);
forget($client);
restart();
$client = client();
is(ask($client, 'BEGIN;' . change($three[0], 'counted') . ';' . complete($three[0]) . ';COMMIT'), '', 'after a restart one is completed');
ok(wait_for($node, "SELECT count(lease_until) = 2 FROM backfill_batches WHERE run_id = $id"), 'two are out');
claim_batch($client, $id, worker => 'third');
is((claim($client, $id))[0]{reason}, 'as many batches are out as the setting "max_claims" allows', 'with one more, all that may be');
is(out_of($id) =~ s/.*third:1.*/third/r, 'third', 'which is out');
sql("SELECT backfill_stop($id, immediate => true)");
wait_for_status($node, $id, 'stopped');

# --- fast shutdown ---

$id = new_run('shut');
$client = client();
($batch) = claim_batch($client, $id, lease => "'1 min'");
my ($bound) = claim_batch($client, $id, worker => 'bound', lease => "'session'");
$node->restart;
forget($client);
$client = client();
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'takeover'"), 'after a restart the lease of a session is over');
is(ask($client, 'BEGIN;' . change($batch, 'shut') . ';' . complete($batch) . ';COMMIT'), '', 'and another is not');
finish_run($id, 'shut', 'every row once');

# --- one process ends ---

foreach my $process ('backfill scheduler', 'backfill worker', 'backfill launcher')
{
	my $table = $process =~ s/.* /ended_/r;
	$id = new_run($table);
	($batch) = claim_batch($client, $id, lease => "'1 min'");
	my ($short) = claim_batch($client, $id, lease => "'300 ms'", worker => 'short');
	my ($other) = claim_batch($client, $id, lease => "'session'");
	is(sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = '$process'") > 0, 1, "the $process ends");
	is(ask($client, 'BEGIN;' . change($batch, $table) . ';' . complete($batch) . ';COMMIT'), '', 'batches can be completed');
	is(ask($client, 'BEGIN;' . change($other, $table) . ';' . complete($other) . ';COMMIT'), '', 'that of a session, too');
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'takeover'"), 'and leases run out');
	is(sql("SELECT max(crashes) FROM backfill_batches WHERE run_id = $id"), '0', 'no batch counts as a crash');
	finish_run($id, $table, 'every row once');
}

# SIGKILL makes the server begin again with empty shared memory
foreach my $process ('backfill scheduler', 'backfill worker')
{
	my $table = $process =~ s/.* /slain_/r;
	$id = new_run($table);
	($batch) = claim_batch($client, $id, lease => "'1 min'");
	my ($short) = claim_batch($client, $id, lease => "'500 ms'", worker => 'short');
	sql('CHECKPOINT');
	my $pid = sql("SELECT min(pid) FROM pg_stat_activity WHERE backend_type = '$process'");
	kill('KILL', $pid);
	forget($client);
	ok(wait_for($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)"), "the $process is killed");
	$client = client();
	is(ask($client, 'BEGIN;' . change($batch, $table) . ';' . complete($batch) . ';COMMIT'), '', 'batches can be completed');
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'takeover'"), 'and leases run out');
	finish_run($id, $table, 'every row once');
}

$client->quit;
$node->stop;
done_testing();
