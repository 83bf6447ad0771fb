# A rate limit over what clients do holds across a crash of the server: rows of batches that
# clients have failed with, or that were taken back, count there, too.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Claims;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(time);

one_node('main');

# The seconds in which the limit allows 40 rows.
my $window = 5;

# A run of which the limit is used up by batches that come to that end: the function
# is given a session, and returns when the last of the rows was in a client's hands.
sub used_up
{
	my ($name, $length, $use) = @_;

	create_target($node, $name, 300);
	define_claims($name, qq({"batch_size": 10, "rate_limit": "40 per $window s", "retry_delay": "10ms", "max_attempts": 100}));
	my $id = start_claims($name);
	my $client = client();
	my @batches = map { claim_batch($client, $id, lease => "'$length'") } 1 .. 4;
	my $last = $use->($client, $id, @batches);
	return { name => $name, id => $id, last => $last, client => $client };
}

my $fail = sub {
	my ($client, $batch) = @_;
	return ask($client, 'SELECT backfill_fail(' . batch_of($batch) . q{, 'not now', retryable => true)});
};

my @runs = (
	used_up('failed', '1 min', sub {
		my ($client, $id, @batches) = @_;
		$fail->($client, $_) foreach @batches;
		return time;
	}),
	used_up('taken', '200 ms', sub {
		my ($client, $id, @batches) = @_;
		wait_for($node, "SELECT count(*) = 4 FROM backfill_events WHERE run_id = $id AND kind = 'takeover'");
		return time - 0.2;
	}),
	# one has been claimed, failed with, and completed after that
	used_up('again', '1 min', sub {
		my ($client, $id, @batches) = @_;
		sql(qq(SELECT backfill_alter($id, '{"rate_limit": "80 per $window s"}')));
		$fail->($client, $_) foreach @batches;
		ask($client, complete($_)) foreach map { claim_batch($client, $id) } 1 .. 4;
		return time;
	}));

wait_for($node, "SELECT count(*) = 0 FROM backfill.batch WHERE run_id = $_->{id} AND status = 'running'") foreach @runs;
kill_postmaster($node);
$_->{client}{run}->kill_kill(grace => 1) foreach @runs;
$node->start;
foreach my $run (@runs)
{
	my $client = client();
	my ($batch) = claim_batch($client, $run->{id});

	ok(defined $batch->{number}, "$run->{name}: a batch can be claimed again");
	cmp_ok(time - $run->{last}, '>=', $window, "$run->{name}: when the limit allows it");
	$client->quit;
}

$node->stop;
done_testing();
