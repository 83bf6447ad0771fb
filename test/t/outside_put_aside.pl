# A batch with which a client has failed, and that is to be tried again, comes back to
# clients when it is due, though nothing else happens in the run.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('main');

create_target($node, 'aside', 10);
query_ok($node, q{SELECT backfill_define('aside', 'aside', NULL, settings => '{"batch_size": 10, "retry_delay": "500ms"}')});
my $id = start_run($node, 'aside');
my $batch = session($node);
my $claim = "SELECT number, part, token FROM backfill_claim($id, 'client')";

# Claim until there is a batch; a wait_for would claim several.
sub claim
{
	ok(wait_for($node, "SELECT status = 'running' FROM backfill_runs WHERE id = $id"), 'the run is at work');
	for my $turn (1 .. 500)
	{
		my $answer = $batch->query($claim);
		return split(/\|/, $answer) if $answer =~ /^\d/;
		$batch->query('SELECT pg_sleep(0.02)');
	}
	return;
}

my @first = claim();
is($first[0], '1', 'a batch');
$batch->query("SELECT backfill_fail($id, $first[0], $first[1], '$first[2]', 'later', '40001')");
ok(wait_for($node, "SELECT retry_at IS NOT NULL FROM backfill_batches WHERE run_id = $id"), 'is put aside');
my @second = claim();
is($second[0], '1', 'and comes back');
is($batch->query("SELECT retry_at IS NULL AND attempt = 2 FROM backfill_batches WHERE run_id = $id"), 't', 'for a second attempt');
$batch->query("SELECT backfill_complete($id, $second[0], $second[1], '$second[2]')");
ok(wait_for_status($node, $id, 'completed'), 'the run completes');

$batch->quit;
$node->stop;
done_testing();
