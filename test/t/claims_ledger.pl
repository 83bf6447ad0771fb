# The ledger, for effects that do not roll back: each at most once, and every row is
# confirmed or listed, whoever dies when.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;
use Time::HiRes qw(time);

seed_random();
one_node('main', conf => 'synchronous_commit = on');

# A row for each letter that has been sent: not part of any transaction of a client's,
# since it is written at once by a session of its own.
sql('CREATE TABLE letter (id int PRIMARY KEY, sent boolean NOT NULL DEFAULT false); CREATE TABLE post (id int)');
sub letters { return sql("TRUNCATE letter, post; INSERT INTO letter SELECT i FROM generate_series(1, $_[0]) i; ANALYZE letter"); }
my $post = client();
sub post_letter { return ask($post, "INSERT INTO post VALUES ($_[0])"); }
sub keys_of { return map { split /,/ } sql("SELECT string_agg(key[1], ',' ORDER BY key[1]::int) FROM backfill_unconfirmed WHERE run_id = $_[0]"); }
sub array { return 'ARRAY[' . join(',', map { "'$_'" } @_) . ']::text[]'; }
sub status_of { return sql("SELECT status FROM backfill_batches WHERE run_id = $_[0] AND number = $_[1]"); }

# --- what is refused ---
like(refusal(q{SELECT backfill_define('l', 'letter', 'UPDATE batch SET sent = true', settings => '{"ledger": true}')}),
	qr/22023: the setting "ledger" cannot be on with a statement/, 'a statement needs no ledger');
sql('CREATE TABLE double (id int, v int); CREATE INDEX double_v ON double (v)');
like(refusal(q{SELECT backfill_define('l', 'double', NULL, key => 'double_v', settings => '{"ledger": true}')}),
	qr/22023: the setting "ledger" needs a key that is unique and not null/, 'a ledger knows rows by their keys');

sql(q{SELECT backfill_define('l', 'double', NULL, key => 'double_v')});
like(refusal(q{SELECT backfill_start('l', settings => '{"ledger": true}')}),
	qr/22023: the setting "ledger" needs a key that is unique and not null/, 'also where the run is given the setting');

# --- by hand ---
letters(20);
sql(q{SELECT backfill_define('letter', 'letter', NULL, scope => 'NOT sent', settings => '{"ledger": true, "batch_size": 10}')});
my $run = start_claims('letter');
my $client = client();
my ($batch) = claim_batch($client, $run, worker => 'a', lease => "'500 ms'");
is($batch->{rows}, 10, 'a batch has ten rows');
is(ask($client, "SELECT count(*) FROM letter AS batch WHERE $batch->{condition}"), 10, 'its condition has them');
is(ask($client, "SELECT backfill_confirm($run, '$batch->{token}', " . array(1, 2) . ')'), 2, 'two are confirmed');
is(ask($client, "SELECT backfill_confirm($run, '$batch->{token}', " . array(2, 3) . ')'), 1, 'what is confirmed stays so');
is(ask($client, "SELECT backfill_confirm($run, '$batch->{token}', " . array(3, 15) . ')'), 'ERROR:  UB006', 'no row of another batch');
is(ask($client, "SELECT backfill_confirm($run, '1-00000000000000000000000000000000', " . array(4) . ')'), 'ERROR:  UB006', 'nor with a guessed token');
is(join(' ', keys_of($run)), '', 'as long as the lease is good nothing is listed');
ok(wait_for($node, "SELECT count(*) = 7 FROM backfill_unconfirmed WHERE run_id = $run"), 'when it has run out, what is not confirmed is');
is(join(' ', keys_of($run)), '4 5 6 7 8 9 10', 'by its keys');
is(status_of($run, 1), 'unconfirmed', 'the batch is nobody\'s');
like(sql("SELECT reason FROM backfill_events WHERE run_id = $run AND kind = 'takeover'"), qr/the lease of client "a" ran out; what it has not confirmed is in backfill_unconfirmed/, 'an event says so');
is(ask($client, "SELECT backfill_confirm($run, '$batch->{token}', " . array(4) . ')'), 1, 'the late client may still confirm');
is(sql("SELECT backfill_settle($run, " . array(5, 6) . ', true)'), 2, 'a person says that two are done');
is(sql("SELECT backfill_settle($run, " . array(7) . ', false)'), 1, 'and that one is not');
is(sql("SELECT backfill_settle($run, " . array(7) . ', true)'), 0, 'what is settled is settled');
is(status_of($run, 1), 'unconfirmed', 'three are left');
is(sql("SELECT backfill_settle($run, " . array(8 .. 10) . ', true)'), 3, 'they are done');
is(status_of($run, 1), 'pending', 'the batch is pending, for the one that is not');
my ($other, $again) = (claim_batch($client, $run, worker => 'b'), claim_batch($client, $run, worker => 'b'));
($other, $again) = ($again, $other) if $other->{number} == 1;
is("$again->{number} $again->{rows}", '1 1', 'which is handed out again');
is(ask($client, "SELECT id FROM letter AS batch WHERE $again->{condition}"), 7, 'alone');
is(ask($client, "BEGIN; SELECT backfill_confirm($run, '$again->{token}', " . array(7) . '); COMMIT'), 1, 'confirmed');
ask($client, complete($again));
is(status_of($run, 1), 'completed', 'the batch is completed');
is(ask($client, 'SELECT backfill_fail(' . batch_of($other) . ", 'the printer is on fire')"), '', 'a client gives up');
is(join(' ', keys_of($run)), join(' ', 11 .. 20), 'what it had is for a person: it may have been done');
is(sql("SELECT status || ': ' || error FROM backfill_batches WHERE run_id = $run AND number = 2"), 'unconfirmed: the printer is on fire', 'and why');
is(value($run, 'status'), 'running', 'the run waits for that');
ok(wait_for($node, "SELECT wait_reason LIKE '%backfill_unconfirmed%' FROM backfill_runs WHERE id = $run"), 'and says so');
is(sql("SELECT backfill_settle($run, " . array(11 .. 20) . ', true)'), 10, 'all of it is done');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(sql("SELECT string_agg(DISTINCT status, ' ') FROM backfill.ledger WHERE run_id = $run"), 'confirmed done', 'the ledger knows what became of each row');

# two who say at one time what became of the last rows of a batch
letters(2);
$run = start_claims('letter');
($batch) = claim_batch($client, $run, lease => "'100 ms'");
ok(wait_for($node, "SELECT count(*) = 2 FROM backfill_unconfirmed WHERE run_id = $run"), 'a lease runs out');
my $second = client();
my $pid = ask($second, 'SELECT pg_backend_pid()');
is(ask($client, "BEGIN; SELECT backfill_confirm($run, '$batch->{token}', " . array(1) . ')'), 1, 'one row is confirmed');
$second->send("SELECT backfill_confirm($run, '$batch->{token}', " . array(2) . ')');
ok(wait_for($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'the other one by another session');
ask($client, 'COMMIT');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_unconfirmed WHERE run_id = $run"), 'both are');
is(status_of($run, 1), 'completed', 'and the batch is completed');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
$second->quit;

# who has done a row is believed, be it that a person has said that it was not done
letters(2);
$run = start_claims('letter');
($batch) = claim_batch($client, $run, lease => "'1 min'");
is(sql("SELECT backfill_settle($run, " . array(1) . ', false)'), 1, 'a row is released while it is out');
is(ask($client, "SELECT backfill_confirm($run, '$batch->{token}', " . array(1, 2) . ')'), 2, 'the client has done it');
ask($client, complete($batch));
is(status_of($run, 1), 'completed', 'it is not handed out again');
ok(wait_for_status($node, $run, 'completed'), 'and the run completes');

# a claim that is not committed is none
letters(10);
$run = start_claims('letter');
ask($client, 'BEGIN');
($batch) = claim_batch($client, $run);
is(ask($client, "SELECT backfill_confirm($run, '$batch->{token}', " . array(1) . ')'), 'ERROR:  55000', 'rows cannot be confirmed in the transaction of the claim');
ask($client, 'ROLLBACK');
is(sql("SELECT count(*) FROM backfill.ledger WHERE run_id = $run"), 0, 'rolled back, nothing was handed out');

# rights
sql('CREATE ROLE stranger LOGIN');
is(state_of('stranger', "SELECT backfill_settle($run, " . array(1) . ', true)'), '42704', 'a stranger settles nothing');
is(state_of('stranger', "SELECT backfill_confirm($run, '1-00000000000000000000000000000000', " . array(1) . ')'), '42704', 'nor confirms');
is(as('stranger', 'SELECT count(*) FROM backfill_unconfirmed'), 0, 'and sees nothing');
sql("SELECT backfill_stop($run, true)");
settles($run, 'stopped');

# a run that fails while a client has a batch, and no worker can come
letters(10);
sql('CREATE ROLE sender LOGIN; GRANT ALL ON letter TO sender; GRANT CREATE ON SCHEMA public TO sender');
as('sender', q{SELECT backfill_define('sent', 'letter', NULL, settings => '{"ledger": true, "batch_size": 10}')});
$run = start_claims('sent');
($batch) = claim_batch($client, $run, lease => "'2 s'");
sql('ALTER ROLE sender NOLOGIN');
sql("SELECT pg_terminate_backend(pid) FROM backfill_workers WHERE run_id = $run AND worker IS NOT NULL");
ok(wait_for_status($node, $run, 'failed'), 'without its owner the run fails');
is(sql("SELECT count(*) FROM backfill_unconfirmed WHERE run_id = $run"), 10, 'not before what is out is back: it is listed');

# --- clients die between effect and confirmation, and the server once ---
letters(400);
sql(q{SELECT backfill_define('letter', 'letter', NULL, scope => 'NOT sent', settings => '{"ledger": true, "batch_size": 20}')});
$run = start_claims('letter');
my ($claims, $deaths, $until) = (0, 0, time + 60);
while (time < $until)
{
	my $c = client();
	my ($b) = claim_batch($c, $run, worker => "client $claims", lease => "'session'");
	last if $b->{done};
	my @ids = split /\n/, ask($c, "SELECT id FROM letter AS batch WHERE $b->{condition} ORDER BY id");
	my $dies_at = rand() < 0.4 ? int(rand(@ids + 1)) : -1;
	$claims++;
	foreach my $i (0 .. $#ids)
	{
		post_letter($ids[$i]);
		last if $i == $dies_at;
		ask($c, "SELECT backfill_confirm($run, '$b->{token}', " . array($ids[$i]) . ')');
	}
	if ($dies_at >= 0)
	{
		$deaths++;
		kill 'KILL', $c->{run}{KIDS}[0]{PID};
	}
	else
	{
		ask($c, complete($b));
	}
	eval { $c->quit };
	wait_for($node, "SELECT count(*) = 0 FROM backfill_batches WHERE run_id = $run AND status = 'running'") or die 'a batch stays out';
	last if sql("SELECT count(*) = 20 AND bool_and(status NOT IN ('pending', 'running')) FROM backfill_batches WHERE run_id = $run") eq 't';
	if ($claims == 10)
	{
		ok(kill_postmaster($node), 'the server is killed');
		$node->start;
		$post = client();
	}
}
note "$claims claims, $deaths clients killed";
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_batches WHERE run_id = $run AND status IN ('pending', 'running')"), 'nothing is left to be handed out');
is(sql('SELECT count(*) FROM (SELECT FROM post GROUP BY id HAVING count(*) > 1) d'), 0, 'no effect has happened twice');
is(sql("SELECT count(*) FROM letter l WHERE NOT EXISTS (SELECT FROM backfill.ledger g WHERE g.run_id = $run AND g.key = ARRAY[l.id::text])"), 0, 'every row is in the ledger');
is(sql("SELECT count(*) FROM backfill.ledger g WHERE g.run_id = $run AND g.status = 'confirmed' AND NOT EXISTS (SELECT FROM post WHERE id = g.key[1]::int)"), 0, 'what is confirmed has happened');
is(sql("SELECT (SELECT count(*) FROM backfill.ledger WHERE run_id = $run AND status = 'confirmed') + (SELECT count(*) FROM backfill_unconfirmed WHERE run_id = $run)"), 400, 'every row is confirmed or listed');
cmp_ok(sql("SELECT count(*) FROM backfill_unconfirmed WHERE run_id = $run"), '>', 0, 'and some are listed') if $deaths > 2;
sql("SELECT backfill_settle($run, (SELECT array_agg(key[1]) FROM backfill_unconfirmed WHERE run_id = $run AND EXISTS (SELECT FROM post WHERE id = key[1]::int)), true) WHERE EXISTS (SELECT FROM backfill_unconfirmed WHERE run_id = $run)");
sql("SELECT backfill_settle($run, (SELECT array_agg(key[1]) FROM backfill_unconfirmed WHERE run_id = $run), false) WHERE EXISTS (SELECT FROM backfill_unconfirmed WHERE run_id = $run)");
my $c = client();
for (;;)
{
	my ($b) = claim_batch($c, $run);
	last if $b->{done};
	my @ids = split /\n/, ask($c, "SELECT id FROM letter AS batch WHERE $b->{condition}");
	post_letter($_) foreach @ids;
	ask($c, "SELECT backfill_confirm($run, '$b->{token}', " . array(@ids) . ')');
	ask($c, complete($b));
}
ok(wait_for_status($node, $run, 'completed'), 'what was not done is handed out, and the run completes');
is(sql('SELECT count(*), count(DISTINCT id) FROM post'), '400|400', 'every effect has happened once');

sql("SELECT backfill_delete($run)");
is(sql("SELECT count(*) FROM backfill.ledger WHERE run_id = $run"), 0, 'a run that is deleted takes its ledger along');
$node->stop;
done_testing();
