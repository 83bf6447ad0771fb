# A rate limit over what clients do holds across a crash of the server: rows of batches that
# clients have failed with, or that were taken back, count there, too.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Claims;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(time usleep);

one_node('main');

# The seconds in which the limit allows 40 rows, which makes batches of one row.
my $window = 5;

sub claim_all
{
	my ($client, $id, $n, $length) = @_;
	my @batches;

	push @batches, claim_batch($client, $id, lease => "'$length'", batches => $n - @batches) while @batches < $n;
	return @batches;
}

# A run of which the limit is used up by batches that come to that end: the function
# is given a session and the batches, and "from" is when nobody had come to it so far.
sub used_up
{
	my ($name, $length, $use) = @_;

	create_target($node, $name, 300);
	define_claims($name, qq({"rate_limit": "40 per $window s", "retry_delay": "10ms", "max_attempts": 100}));
	my $id = start_claims($name);
	my $client = client();
	my @batches = claim_all($client, $id, 40, $length);
	my $from = time;

	$use->($client, $id, @batches);
	return { name => $name, id => $id, from => $from, client => $client };
}

my $fail = sub {
	my ($client, $batch) = @_;
	return ask($client, 'SELECT backfill_fail(' . batch_of($batch) . q{, 'not now', retryable => true)});
};

my @runs = (
	used_up('failed', '1 min', sub {
		my ($client, $id, @batches) = @_;
		$fail->($client, $_) foreach @batches;
	}),
	used_up('taken', '500 ms', sub {
		my ($client, $id, @batches) = @_;
		wait_for($node, "SELECT count(*) = 40 FROM backfill_events WHERE run_id = $id AND kind = 'takeover'");
	}),
	# one has been claimed, failed with, and completed after that
	used_up('again', '1 min', sub {
		my ($client, $id, @batches) = @_;
		sql(qq(SELECT backfill_alter($id, '{"rate_limit": "80 per $window s"}')));
		$fail->($client, $_) foreach @batches;
		ask($client, complete($_)) foreach claim_all($client, $id, 40, '1 min');
	}));

wait_for($node, "SELECT count(*) = 0 FROM backfill.batch WHERE run_id = $_->{id} AND status = 'running'") foreach @runs;
kill_postmaster($node);
$_->{client}{run}->kill_kill(grace => 1) foreach @runs;
$node->start;
foreach my $run (@runs)
{
	my $client = client();
	my ($batch) = claim_batch($client, $run->{id});

	my $after = time - $run->{from};

	ok(defined $batch->{number}, "$run->{name}: a batch can be claimed again");
	cmp_ok($after, '>=', $window, "$run->{name}: when the limit allows it");
	cmp_ok($after, '<', $window + 30, "$run->{name}: and not much later");
	$client->quit;
}

# --- what clients have out will write WAL ---
create_target($node, 'w', 3000);
define_claims('w', '{"batch_size": 50, "wal_rate_limit": "200kB per min"}');
my $wal_run = start_claims('w');
my $wal_client = client();
foreach (1 .. 2)
{
	my ($batch) = claim_batch($wal_client, $wal_run);
	ask($wal_client, 'BEGIN;' . change($batch, 'w') . ';' . complete($batch) . ';COMMIT');
}
my $per_batch = sql("SELECT min(wal_bytes) FROM backfill_batches WHERE run_id = $wal_run AND status = 'completed'");
my $out = 0;
for (my $until = time + 20; $out < 50 && time < $until; usleep(10_000))
{
	my ($row) = claim($wal_client, $wal_run);
	$out++ if defined $row->{number};
	last if ($row->{reason} // '') =~ /limit/;
}

# the last one may begin when any WAL may be written
cmp_ok(($out - 1) * $per_batch, '<=', 200 * 1024, "$out batches are out, with $per_batch bytes for each: no more than the limit bears");
cmp_ok($out, '>', 0, 'but some');
sql("SELECT backfill_stop($wal_run, true)");

$node->stop;
done_testing();
