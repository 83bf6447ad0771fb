# A batch that a client has failed with comes back when its retry_delay is over, also if it
# falls due in the middle of a look for pending batches.  Many batches are out, so that a look
# takes its time, and looks are brought about when a batch is about to fall due: nothing comes
# after them that would find it.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;
use Time::HiRes qw(time usleep);

my $rows = 12_000;
my $rounds = 25;

one_node('main', conf => "backfill.max_leases = $rows\n");
create_target($node, 't', $rows);
define_claims('t', '{"batch_size": 1, "retry_delay": "200ms"}');
my $id = start_claims('t');
my $client = client();
my @out;

while (@out < $rows)
{
	push @out, claim_batch($client, $id, worker => 'many', lease => "'1 hour'", batches => 1000);
}
is(scalar @out, $rows, 'every batch is out');

my ($back, $late) = (0, 0);
foreach my $round (1 .. $rounds)
{
	my $batch = pop @out;

	is(ask($client, 'SELECT backfill_fail(' . batch_of($batch) . ", 'try again', NULL, true)"), '', "round $round: a batch fails");
	wait_for($node, "SELECT retry_at IS NOT NULL FROM backfill.batch WHERE run_id = $id AND number = $batch->{number}")
	  or die 'nobody judges it';

	# the wake-ups become looks just before it is due, and as it is
	my $rest = sql("SELECT extract(epoch FROM retry_at - clock_timestamp()) * 1000000 FROM backfill.batch
		WHERE run_id = $id AND number = $batch->{number}");
	usleep($rest - 12_000 + 1_000 * ($round % 12)) if $rest > 12_000;
	ask($client, "SELECT backfill_alter($id, '{\"max_errors\": $round}')");
	my ($again) = eval { claim_batch($client, $id, worker => 'again', lease => "'1 hour'", timeout => 60) };
	if (!$again)
	{
		diag($@);
		last;
	}
	$back++ if $again->{number} == $batch->{number};
	ask($client, complete($again));
}
is($back, $rounds, 'each of them comes back');

$client->quit;
$node->stop;
done_testing();
