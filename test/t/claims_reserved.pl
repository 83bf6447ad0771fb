# What a claim takes and reserves is given back when the claim comes to nothing, however
# its session ends.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;

one_node('main', conf => "backfill.max_leases = 1\n");

# --- the session is terminated in the middle of its claim ---
create_target($node, 't', 300);
define_claims('t', '{"batch_size": 100, "max_claims": 1, "rate_limit": "3200 per 5 s"}');
my $run = start_claims('t');
my ($locker, $claimer, $client) = (client(), client(), client());

# all of its batches are cut, so that nothing but the claim waits for the lock
ok(wait_for($node, "SELECT count(*) = 3 FROM backfill_batches WHERE run_id = $run"), 'all is cut');
ask($locker, 'BEGIN; LOCK TABLE backfill.batch IN SHARE MODE');
my $pid = ask($claimer, 'SELECT pg_backend_pid()');
$claimer->send("SELECT * FROM backfill_claim($run, 'doomed')");
ok(wait_for($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'a claim waits');
sql("SELECT pg_terminate_backend($pid)");
ok(wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'and is terminated');
ask($locker, 'ROLLBACK');
my @answer = claim($client, $run);
is($answer[0]{number}, 1, 'its batch is there for the next one: ' . ($answer[0]{reason} // ''));
ask($client, change($answer[0], 't') . ';' . complete($answer[0]));
change_all($client, $run, 't');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(sql('SELECT min(n), max(n) FROM t'), '1|1', 'every row is done once');
eval { $claimer->quit };

# --- no room for the lease of a batch with a ledger ---
create_target($node, 'l', 20);
define_claims('l', '{"batch_size": 10, "ledger": true}');
$run = start_claims('l');
my ($first) = claim_batch($client, $run);
@answer = claim($client, $run);
like($answer[0]{reason}, qr/"backfill\.max_leases"/, 'there is no room for another lease');
is(sql("SELECT count(*) FROM backfill.ledger WHERE run_id = $run"), 10, 'no row of another batch counts as handed out');
my $keys = sub { return 'ARRAY(SELECT id::text FROM l AS batch WHERE ' . $_[0]{condition} . ')' };
is(ask($client, "SELECT backfill_confirm($run, '$first->{token}', " . $keys->($first) . ')'), 10, 'the first batch is confirmed');
ask($client, complete($first));
my ($second) = claim_batch($client, $run, timeout => 10);
is($second->{rows}, 10, 'then the second one has all of its rows');

# --- nor does a lease outlive the extension ---
sql("SELECT backfill_delete(1)");
sql('DROP EXTENSION backfill CASCADE');

# which its scheduler has to see
ok(wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'"), 'the extension is gone');
sql('CREATE EXTENSION backfill');
define_claims('l', '{"batch_size": 10}');
$run = start_claims('l');
is((claim_batch($client, $run, timeout => 10))[0]{rows}, 10, 'a lease of an extension that was dropped takes no room');

$node->stop;
done_testing();
