# A synchronous standby is lost while a run with synchronous_commit "on" is at
# work: the run says what it waits for, whoever stops it does not wait himself,
# and an immediate stop gets through.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

# The tests themselves wait for no standby.
$ENV{PGOPTIONS} = '-c synchronous_commit=local';

one_node('main', streaming => 1);
my $rows = 20_000;
create_target($node, 't', $rows);
sql('CREATE TABLE other (id int)');
define_increment($node, 't', '{"batch_size": 100, "target_batch_time": 0, "sleep": "100 ms", "workers": 2, "synchronous_commit": "on"}');

# A standby that never came is as lost as one that has gone.
sub standby
{
	my ($change) = @_;
	query_ok($node, "ALTER SYSTEM $change");
	return sql('SELECT pg_reload_conf()');
}

sub lose { return standby(q{SET synchronous_standby_names = 'gone'}); }

# A session that waits for standbys unless it is spared.
sub waiting_session
{
	local $ENV{PGOPTIONS} = '-c synchronous_commit=on';
	return session($node);
}

# It has done what it was last asked for, or waits for the standby.
sub is_done
{
	my ($session, $what) = @_;
	return wait_for($node, "SELECT state = 'idle' AND query LIKE '%$what%' FROM pg_stat_activity WHERE pid = " . $session->pid, timeout => 60);
}
sub waits_for_standby
{
	my ($session) = @_;
	return wait_for($node, q{SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = } . $session->pid, timeout => 60);
}
sub is_stuck
{
	my ($id) = @_;
	return wait_for($node, "SELECT count(*) > 0 FROM backfill_workers w JOIN pg_stat_activity a USING (pid) WHERE run_id = $id AND wait_event = 'SyncRep'");
}
my $reason = 'waits for a synchronous standby to confirm a commit';

# ---------------------------------------------------------------------------
note 'an immediate stop';

my $id = start_run($node, 't');
ok(wait_for($node, "SELECT count(*) > 2 FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 'the run is at work');
lose();
ok(is_stuck($id), 'a commit of it waits for the standby');
ok(wait_for($node, "SELECT wait_reason LIKE '$reason%' FROM backfill_runs WHERE id = $id", timeout => 60), 'which the run says');
my $s = waiting_session();
$s->send("SELECT backfill_stop($id, true)");
ok(is_done($s, 'backfill_stop'), 'backfill_stop does not wait');
ok(settles($id, 'stopped'), 'the run stops');
nobody_left($id, 'its workers are gone');
is(value($id, "coalesce(wait_reason, 'none')"), 'none', 'it waits for nothing any more');
is(sql("SELECT count(*) FROM t WHERE n <> (EXISTS (SELECT FROM backfill_batches b WHERE run_id = $id AND status = 'completed'
		AND t.id > b.start_key[1]::bigint - b.start_inclusive::int AND t.id <= b.end_key[1]::bigint))::int"), 0, 'what it has done is what it says');

# ---------------------------------------------------------------------------
note 'what else the transaction writes';

$s->query('BEGIN');
$s->query('INSERT INTO other VALUES (1)');
$s->query(qq(SELECT backfill_alter($id, '{"sleep": "90 ms"}')));
$s->send('COMMIT');
ok(waits_for_standby($s), 'written before, it waits');
sql('SELECT pg_cancel_backend(' . $s->pid . ')');
ok(is_done($s, 'COMMIT'), 'until it is told not to');
$s->query('BEGIN');
$s->query(qq(SELECT backfill_alter($id, '{"sleep": "91 ms"}')));
$s->query('INSERT INTO other VALUES (2)');
$s->send('COMMIT');
ok(waits_for_standby($s), 'written after, it waits');
sql('SELECT pg_cancel_backend(' . $s->pid . ')');
ok(is_done($s, 'COMMIT'), 'until it is told not to');

# unless the server tidies a page in between, which cannot be told from a change
my $two_done;
foreach my $try (1 .. 3)
{
	$s->send(qq(BEGIN; SELECT backfill_alter($id, '{"sleep": "92 ms"}'); SELECT backfill_alter($id, '{"sleep": "93 ms"}'); COMMIT));
	ok(wait_for($node, "SELECT (state = 'idle' OR wait_event = 'SyncRep') AND query LIKE '%COMMIT%' FROM pg_stat_activity WHERE pid = " . $s->pid, timeout => 60), 'two requests in one transaction');
	last if $two_done = sql("SELECT wait_event IS DISTINCT FROM 'SyncRep' FROM pg_stat_activity WHERE pid = " . $s->pid) eq 't';
	sql('SELECT pg_cancel_backend(' . $s->pid . ')');
	is_done($s, 'COMMIT');
}
ok($two_done, 'do not wait');

# ---------------------------------------------------------------------------
note 'a pause waits for the batch, whose commit waits for the standby';

standby('RESET synchronous_standby_names');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $id AND batches > 0"), 'the run goes on');
lose();
ok(is_stuck($id), 'until it waits again');
$s->send("SELECT backfill_pause($id)");
ok(is_done($s, 'backfill_pause'), 'backfill_pause does not wait');
ok(wait_for($node, "SELECT wait_reason LIKE 'paused requested: waits for the batches in hand, %$reason%' FROM backfill_runs WHERE id = $id", timeout => 60), 'the run says both');
standby('RESET synchronous_standby_names');
ok(settles($id, 'paused'), 'when the standby is no longer asked for, the run is paused');
sql(qq(SELECT backfill_alter($id, '{"sleep": 0, "batch_size": 1000}'); SELECT backfill_resume($id)));
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
check_exactly_once($node, $id, 't', $rows, 'exactly once');

$s->quit;
$node->stop;
done_testing();
