# Pause and stop while clients have batches out: nothing more is handed out at
# once, and what is out may be completed within its lease.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;

one_node('main');

my $client = client();

# --- pause ---

my $id = new_run('paused');
my ($batch) = claim_batch($client, $id, lease => "'1 min'");
my ($second) = claim_batch($client, $id, lease => "'1 s'", worker => 'short');
sql("SELECT backfill_pause($id)");
is((claim($client, $id))[0]{reason}, 'the run is to be paused', 'nothing is handed out from the moment of a pause');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id AND client IS NULL"), 'the worker leaves');
is(sql("SELECT status FROM backfill_runs WHERE id = $id"), 'running', 'but batches are out');
is(ask($client, 'SELECT backfill_extend(' . batch_of($batch) . ') IS NOT NULL'), 't', 'a lease can be extended');
is(ask($client, 'BEGIN;' . change($batch, 'paused') . ';' . complete($batch) . ';COMMIT'), '', 'and its batch completed');
ok(wait_for_status($node, $id, 'paused'), 'when the last lease is over the run is paused');
is(batch_status($second), 'pending', 'what was out is pending');
is(ask($client, complete($second)), 'ERROR:  UB006', 'and cannot be completed any more');
is((claim($client, $id))[0]{reason} =~ /^paused/, 1, 'nothing is handed out');
sql("SELECT backfill_resume($id)");
finish_run($id, 'paused', 'resumed, every row once');

# a pause with the last batch out
$id = new_run('last');
my @all = claim_batch($client, $id, batches => 1000);
push @all, claim_batch($client, $id, batches => 1000) while @all < 30;
sql("SELECT backfill_pause($id)");
ask($client, 'BEGIN;' . change($_, 'last') . ';' . complete($_) . ';COMMIT') foreach @all;
ok(wait_for($node, "SELECT status IN ('paused', 'completed') FROM backfill_runs WHERE id = $id"), 'a pause while all that is left is out');
sql("SELECT backfill_resume($id) FROM backfill_runs WHERE id = $id AND status = 'paused'");
finish_run($id, 'last', 'every row once');

# --- stop ---

$id = new_run('stopped');
($batch) = claim_batch($client, $id, lease => "'1 min'");
sql("SELECT backfill_stop($id)");
is((claim($client, $id))[0]{reason}, 'the run is to be stopped', 'nothing is handed out from the moment of a stop');
is(ask($client, 'BEGIN;' . change($batch, 'stopped') . ';' . complete($batch) . ';COMMIT'), '', 'what is out may be completed');
ok(wait_for_status($node, $id, 'stopped'), 'then the run is stopped');
is(batch_status($batch), 'completed', 'with the batch completed');
sql("SELECT backfill_resume($id)");
($batch) = claim_batch($client, $id, lease => "'1 min'");
my ($completing) = claim_batch($client, $id, lease => "'1 min'");
my $open = client();
ask($open, 'BEGIN;' . change($completing, 'stopped') . ';' . complete($completing));
sql("SELECT backfill_stop($id, immediate => true)");
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'takeover' AND reason LIKE '%stop at once%'"),
	'an immediate stop takes back what is out');
is(ask($client, 'BEGIN;' . change($batch, 'stopped') . ';' . complete($batch)), 'ERROR:  UB006', 'which cannot be completed');
is(ask($client, 'COMMIT; SELECT 1'), '1', 'nor its change committed');
is(sql("SELECT sum(n) FROM stopped AS batch WHERE $batch->{condition}"), '0', 'it is not there');
is(ask($open, 'COMMIT; SELECT 1'), '1', 'who has completed, and not committed yet, may do so');
ok(wait_for_status($node, $id, 'stopped'), 'then the run is stopped');
is(batch_status($completing), 'completed', 'that batch is completed');
sql("SELECT backfill_resume($id)");
finish_run($id, 'stopped', 'resumed, every row once');

# --- the extension is dropped, and made again ---

$id = new_run('dropped');
my @gone = claim_batch($client, $id, batches => 5, lease => "'7 days'");
is(scalar @gone, 5, 'batches are out for long');
sql('DROP EXTENSION backfill CASCADE; CREATE EXTENSION backfill');
define_claims('dropped', '{"batch_size": 10}');
sql(q{SELECT setval(pg_get_serial_sequence('backfill.run', 'id'), } . ($id - 1) . ')') if $id > 1;
is(start_claims('dropped'), $id, 'another run has the id of one that is gone');
is(out_of($id), '', 'but nothing that was out then');
is(ask($client, complete($gone[0])), 'ERROR:  UB006', 'whose tokens are worth nothing');
sql("SELECT backfill_pause($id)");
ok(wait_for_status($node, $id, 'paused', timeout => 30), 'it can be paused, since nothing is out');
sql("SELECT backfill_resume($id)");
finish_run($id, 'dropped', 'every row once');

$_->quit foreach $client, $open;
quiet_log();
$node->stop;
done_testing();
