# Leases of clients: what becomes of a batch whose lease runs out, in whatever
# state its client is; and what a transaction that completes one may do.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;
use Time::HiRes qw(time usleep);

one_node('main');
create_target($node, 't', 1000);
define_claims('t', '{"batch_size": 10}');
my $first = client();
my $second = client();

# A batch with a short lease that has run out and is pending again, in the
# hands of a session that does not know.
sub lost_batch
{
	my ($session, $id, $worker) = @_;
	my ($batch) = claim_batch($session, $id, worker => $worker, lease => "'100 ms'");

	wait_for($node, "SELECT EXISTS (SELECT FROM backfill_events WHERE run_id = $id AND kind = 'takeover'
		AND number = $batch->{number} AND reason LIKE '%$worker%')")
	  or die "the lease of $worker does not run out";
	return $batch;
}

# --- a lease runs out ---

my $id = start_claims('t');
my $late = lost_batch($first, $id, 'slow');
ok($late->{number} == 1, 'a lease runs out, and there is an event of kind takeover');
like(sql("SELECT reason FROM backfill_events WHERE run_id = $id AND kind = 'takeover'"),
	qr/the lease of client "slow" ran out/, 'which says whose');
is(ask($first, 'BEGIN'), '', 'the late one begins its transaction');
is(ask($first, change($late, 't')), '', 'and changes rows');
is(ask($first, complete($late)), 'ERROR:  UB006', 'it is told that the batch is not its own');
like(ask($first, 'COMMIT; SELECT sum(n) FROM t'), qr/^0$/m, 'its change is not committed');
my $again = claim_number($second, $id, $late->{number}, worker => 'quick');
is("$again->{number} $again->{part}", '1 0', 'another client has the batch');
is($again->{condition}, $late->{condition}, 'the same one');
isnt($again->{token}, $late->{token}, 'with a token of its own');
is(sql("SELECT status || ' ' || client || ' ' || attempt FROM backfill_batches WHERE run_id = $id AND number = 1"),
	'running quick 2', 'as backfill_batches has it');
is(ask($first, complete($late)), 'ERROR:  UB006', 'the late one cannot complete it now, either');
is(ask($first, 'SELECT backfill_extend(' . batch_of($late) . ')'), 'ERROR:  UB006', 'nor extend');
is(ask($first, 'SELECT backfill_fail(' . batch_of($late) . ", 'no')"), 'ERROR:  UB006', 'nor fail');

# --- the error is caught ---

ask($first, 'BEGIN');
ask($first, change($late, 't'));
ask($first, 'SAVEPOINT s');
is(ask($first, complete($late)), 'ERROR:  UB006', 'refused in a savepoint');
is(ask($first, 'ROLLBACK TO s; SELECT 1'), '1', 'which is rolled back');
is(ask($first, 'COMMIT'), 'ERROR:  UB006', 'the transaction cannot commit');
is(sql('SELECT sum(n) FROM t'), '0', 'nothing of it is there');

is(ask($first, "DO \$\$
	BEGIN
		UPDATE t SET n = n + 1 WHERE id = 10;
		PERFORM backfill_complete(@{[batch_of($late)]});
	EXCEPTION WHEN OTHERS THEN
		UPDATE t SET n = n + 1 WHERE id = 20;
	END \$\$"), 'ERROR:  UB006', 'caught in PL/pgSQL: the statement cannot commit');
is(ask($first, "DO \$\$
	BEGIN
		BEGIN
			PERFORM backfill_extend(@{[batch_of($late)]});
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		UPDATE t SET n = n + 1 WHERE id = 20;
		COMMIT;
	END \$\$"), 'ERROR:  UB006', 'nor a COMMIT in it');
is(sql('SELECT sum(n) FROM t'), '0', 'nothing of it is there');
ask($first, "BEGIN; SAVEPOINT s; @{[complete($late)]}; ROLLBACK TO s");
is(ask($first, "PREPARE TRANSACTION 'refused'"), 'ERROR:  UB006', 'nor can it be prepared');
is(ask($first, 'BEGIN; UPDATE t SET f = 1 WHERE id = 10; COMMIT; SELECT f FROM t WHERE id = 10'), '1',
	'the next transaction is free of that');

# a batch that the client had, and another has now: it is the token that says so
is(ask($second, complete($again)), '', 'who has the batch completes it');
is(ask($second, complete($again)), 'ERROR:  UB006', 'but once');

# --- extend ---

my ($kept) = claim_batch($first, $id, lease => "'300 ms'", worker => 'keeper');
my $begun = time;
my $extended = 0;
while (time < $begun + 1.2)
{
	$extended++ if ask($first, 'SELECT backfill_extend(' . batch_of($kept) . ') > clock_timestamp()') eq 't';
	usleep(50_000);
}
cmp_ok($extended, '>', 5, 'a lease is extended again and again');
is(ask($first, complete($kept)), '', 'and the batch completed after several times its length');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'takeover' AND reason LIKE '%keeper%'"),
	'0', 'nobody has taken it over');

($kept) = claim_batch($first, $id, lease => "'1 min'");
is(ask($first, 'SELECT round(extract(epoch FROM backfill_extend(' . batch_of($kept) . ') - clock_timestamp()))'),
	'60', 'by its length');
is(ask($first, 'SELECT round(extract(epoch FROM backfill_extend(' . batch_of($kept) . ", '1 hour') - clock_timestamp()))"),
	'3600', 'or by another one');
is(ask($first, 'SELECT round(extract(epoch FROM backfill_extend(' . batch_of($kept) . ') - clock_timestamp()))'),
	'3600', 'which is its length from then on');
is(ask($first, 'SELECT lease_until > now() + interval \'50 min\' FROM backfill_batches WHERE run_id = '
	. "$id AND number = $kept->{number}"), 't', 'and is seen in backfill_batches');
is(join(',', map { ask($first, 'SELECT backfill_extend(' . batch_of($kept) . ", $_)") }
	"'0'", "'99 ms'", "'8 days'", "'-1 min'"), join(',', ('ERROR:  22023') x 4), 'within limits');

# no WAL; what others write meanwhile may come between
my ($before, $after) = (-1, -2);
for (1 .. 10)
{
	$before = ask($first, 'SELECT pg_current_wal_insert_lsn()');
	ask($first, 'SELECT backfill_extend(' . batch_of($kept) . ') FROM generate_series(1, 1000)');
	$after = ask($first, 'SELECT pg_current_wal_insert_lsn()');
	last if $before eq $after;
}
is($after, $before, 'a thousand extensions write no WAL');
is(ask($first, 'BEGIN; SELECT backfill_extend(' . batch_of($kept)
	  . ") IS NOT NULL; SELECT pg_current_xact_id_if_assigned() IS NULL; COMMIT"), "t\nt", 'nor take a transaction id');
is(ask($first, complete($kept)), '', 'completed');

# --- what is rolled back ---

my ($batch) = claim_batch($first, $id);
ask($first, 'BEGIN; SAVEPOINT s');
is(ask($first, complete($batch)), '', 'completed in a savepoint');
ask($first, 'ROLLBACK TO s; COMMIT');
is(sql("SELECT status FROM backfill_batches WHERE run_id = $id AND number = $batch->{number}"), 'running',
	'that is rolled back: the batch is still out');
ask($first, 'BEGIN; SAVEPOINT s');
ask($first, complete($batch));
is(ask($first, 'RELEASE s; COMMIT; SELECT 1'), '1', 'and is completed with a savepoint that is released');
is(sql("SELECT status FROM backfill_batches WHERE run_id = $id AND number = $batch->{number}"), 'completed', 'it is');

ask($first, 'BEGIN');
($batch) = claim_batch($first, $id, batches => 3);
is(ask($second, "SELECT count(*) FROM backfill_workers WHERE client = 'client'"), '0',
	'a claim that is not committed is not seen');
ask($first, 'ROLLBACK');
my @numbers = sort { $a <=> $b } map { $_->{number} } claim_batch($second, $id, batches => 3);
is("@numbers", join(' ', $batch->{number} .. $batch->{number} + 2), 'a claim is rolled back: its batches are there again');
is(out_of($id), 'client:3', 'and are out once');
is(ask($first, complete($batch)), 'ERROR:  UB006', 'the token of the claim that never was is worth nothing');

ask($first, 'BEGIN; SAVEPOINT s');
($batch) = claim_batch($first, $id, worker => 'inner');
ask($first, 'ROLLBACK TO s; COMMIT');
is(sql("SELECT count(*) FROM backfill_workers WHERE client = 'inner'"), '0', 'a claim rolled back with a savepoint');
is((claim_batch($first, $id, worker => 'inner'))[0]{number}, $batch->{number}, 'is there again');

# --- one transaction for everything ---

ask($first, 'BEGIN');
($batch) = claim_batch($first, $id, worker => 'all in one');
ask($first, change($batch, 't'));
is(ask($first, complete($batch)), '', 'claimed, changed and completed');
is(ask($first, 'COMMIT; SELECT 1'), '1', 'in one transaction');
is(sql("SELECT string_agg(DISTINCT n::text, ',') FROM t AS batch WHERE $batch->{condition}"), '1', 'the rows are changed');
is(sql("SELECT status || ' ' || rows_affected FROM backfill_batches WHERE run_id = $id AND number = $batch->{number}"),
	'completed 10', 'and the batch completed');
is(out_of($id), 'client:3,inner:1', 'nothing of it is out');

# --- a claim that is not committed holds up nobody ---

create_target($node, 'many', 300);
define_claims('many', '{"batch_size": 10}');
my $many = start_claims('many');
ask($first, 'BEGIN');
my @open = claim_batch($first, $many, batches => 3, worker => 'open');
is(scalar @open, 3, 'three batches in an open transaction');
my $lapsed = lost_batch($second, $many, 'lapsing');
ask($second, "SET lock_timeout = '3 s'");
my @rest;
while (@rest < 27)
{
	my @rows = claim_batch($second, $many, batches => 5, timeout => 10, worker => 'beside');
	push @rest, map { $_->{number} } @rows;
}
is(join(' ', sort { $a <=> $b } @rest), join(' ', grep { my $n = $_; !grep { $_->{number} == $n } @open } 1 .. 30),
	'another claims all others, one that came back among them');
is((claim($second, $many))[0]{reason}, 'nothing is pending, but others are at work', 'and is told that there are no more');
ask($first, 'ROLLBACK');
is(join(' ', sort { $a <=> $b } map { (claim_batch($second, $many, worker => 'beside'))[0]{number} } 1 .. 3),
	join(' ', map { $_->{number} } @open), 'until the transaction is rolled back');
ask($second, 'RESET lock_timeout');
sql("SELECT backfill_stop($many, immediate => true)");

# --- stricter transactions ---

create_target($node, 'strict', 100);
define_claims('strict', '{"batch_size": 10}');
my $strict = start_claims('strict');
foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	# the snapshot is older than the claim of another, and than what it frees
	ask($first, "BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM strict");
	my ($before) = claim_batch($second, $strict, worker => 'before', lease => "'session'");
	my ($batch) = claim_batch($first, $strict);
	isnt($batch->{number}, $before->{number}, "$level: a batch of its own");
	ask($first, change($batch, 'strict'));
	is(ask($first, complete($batch) . ';COMMIT; SELECT 1'), "\n1", 'is completed in one transaction');
	($batch) = claim_batch($first, $strict);
	ask($first, "BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM strict");
	ask($second, 'BEGIN;' . change($before, 'strict') . ';' . complete($before) . ';COMMIT');
	ask($first, change($batch, 'strict') . ';' . complete($batch));
	is(ask($first, 'COMMIT; SELECT status FROM backfill.batch WHERE run_id = ' . "$strict AND number = $batch->{number}"), 'completed', 'or in two');

	# the lease runs out when the snapshot has been taken
	($batch) = claim_batch($first, $strict, lease => "'100 ms'", worker => "strict $level");
	ask($first, "BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM strict");
	ok(wait_for($node, "SELECT status = 'pending' FROM backfill.batch WHERE run_id = $strict AND number = $batch->{number}"), 'a lease runs out');
	ask($first, change($batch, 'strict'));
	is(ask($first, 'SAVEPOINT s;' . complete($batch) . '; ROLLBACK TO s; COMMIT'), "ERROR:  UB006\nERROR:  UB006", 'and nothing is committed');
}
change_all($second, $strict, 'strict');
check_exactly_once($node, $strict, 'strict', 100, 'every row once');

# --- PREPARE TRANSACTION ---

ask($first, 'BEGIN');
claim_batch($first, $id);
is(ask($first, "PREPARE TRANSACTION 'claimed'"), 'ERROR:  0A000', 'a claim cannot be prepared');
($batch) = claim_batch($first, $id, worker => 'prepared');
ask($first, 'BEGIN');
ask($first, complete($batch));
is(ask($first, "PREPARE TRANSACTION 'completed'"), 'ERROR:  0A000', 'nor what completes a batch');
is(ask($first, "SELECT count(*) FROM pg_prepared_xacts; @{[complete($batch)]}"), '0', 'it can be completed afterwards');

# --- completed, and then the lease runs out ---

($batch) = claim_batch($first, $id, worker => 'finisher', lease => "'300 ms'");
ask($first, 'BEGIN');
ask($first, change($batch, 't'));
is(ask($first, complete($batch)), '', 'completed within the lease');
ok(wait_for($node, "SELECT lease_until < clock_timestamp() - interval '1 s' FROM backfill_batches
	WHERE run_id = $id AND number = $batch->{number}"), 'which runs out before the commit');
my @others = map { $_->{number} } grep { defined $_->{number} } map { claim($second, $id, worker => 'others') } 1 .. 3;
ok(!(grep { $_ == $batch->{number} } @others), 'nobody else gets the batch');
is(ask($first, 'COMMIT; SELECT 1'), '1', 'it commits');
is(sql("SELECT status FROM backfill_batches WHERE run_id = $id AND number = $batch->{number}"), 'completed', 'and is done');
is(sql("SELECT count(*) FROM backfill_events WHERE kind = 'takeover' AND run_id = $id AND reason LIKE '%finisher%'"),
	'0', 'nobody took it over');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE client = 'finisher'"), 'the lease is gone');

# completed, and rolled back when the lease is over
($batch) = claim_batch($first, $id, worker => 'undecided', lease => "'300 ms'");
ask($first, 'BEGIN');
ask($first, complete($batch));
ok(wait_for($node, "SELECT lease_until < clock_timestamp() FROM backfill_batches
	WHERE run_id = $id AND number = $batch->{number}"), 'completed, and the lease is over');
ask($first, 'ROLLBACK');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE kind = 'takeover' AND run_id = $id AND reason LIKE '%undecided%'"),
	'rolled back: it is taken back');

# --- a frozen client ---

($batch) = claim_batch($first, $id, worker => 'frozen', lease => "'300 ms'");
ask($first, 'BEGIN');
ask($first, change($batch, 't'));
my $psql = $first->{run}{KIDS}[0]{PID};
kill('STOP', $psql);
$first->send(complete($batch) . ';COMMIT');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE kind = 'takeover' AND run_id = $id AND reason LIKE '%frozen%'"),
	'a client is frozen for longer than its lease');
kill('CONT', $psql);
is(ask($first, 'SELECT 1'), "ERROR:  UB006\n1", 'it cannot commit');
is(sql("SELECT sum(n) FROM t AS batch WHERE $batch->{condition}"), '0', 'nothing of it is there');

# --- the lease of a session ---

my $third = client();
($batch) = claim_batch($third, $id, worker => 'bound', lease => "'session'");
is($batch->{lease_until}, undef, 'a lease of a session has no end');
is(ask($third, 'SELECT backfill_extend(' . batch_of($batch) . ') IS NULL'), 't', 'and need not be extended');
is(ask($second, complete($batch)), 'ERROR:  UB006', 'another session cannot complete the batch');
is(ask($third, complete($batch)), '', 'its own can');

# the only batch of a run: when it is free, and when it can be claimed
create_target($node, 'one', 10);
define_claims('one', '{"batch_size": 10}');
my $one = start_claims('one');
my (@free, @claimed);
for my $round (1 .. 5)
{
	$third = client() if $round > 1;
	($batch) = claim_batch($third, $one, worker => "killed $round", lease => "'session'");
	my $pending = "SELECT status FROM backfill.batch WHERE run_id = $one";
	is(ask($first, $pending), 'running', 'a client has a batch as long as its session lasts') if $round == 1;
	is((claim($second, $one))[0]{reason}, 'nothing is pending, but others are at work', 'nobody else gets it') if $round == 1;
	kill('KILL', $third->{run}{KIDS}[0]{PID});
	my $killed = time;
	usleep(1_000) until ask($first, $pending) eq 'pending' || time > $killed + 30;
	push @free, sprintf('%.0f', 1000 * (time - $killed));
	($again) = claim_batch($second, $one, worker => "heir $round", lease => "'session'");
	push @claimed, sprintf('%.0f', 1000 * (time - $killed));
	is(sql("SELECT count(*) FROM backfill_events WHERE kind = 'takeover' AND run_id = $one"), $round, "taken over, round $round");
	if ($round < 5)
	{
		# the same for a session that ends by itself
		$second->quit;
		$second = client();
	}
	else
	{
		ask($second, complete($again));
	}
	wait_for($node, "SELECT status <> 'running' FROM backfill.batch WHERE run_id = $one");
	sql("DELETE FROM backfill.event WHERE kind = 'takeover' AND run_id = $one AND reason LIKE '%heir%'");
}
diag("free after the client was killed, in ms: @free; in other hands: @claimed");
cmp_ok((sort { $a <=> $b } @free)[2], '<', 100, 'the batch of a killed client is free within 100 ms');
cmp_ok((sort { $a <=> $b } @free)[4], '<', 2000, 'always soon');
ok(wait_for_status($node, $one, 'completed'), 'and completed in the end');

# --- arguments ---

is(join(' ', map { ask($first, "SELECT number FROM backfill_claim($id, $_)") }
	"''", 'NULL', "repeat('x', 64)", "'w', '10 ms'", "'w', '8 days'", "'w', NULL::interval", "'w', 'no time'",
	"'w', '1 min', 0", "'w', '1 min', 1001"),
	join(' ', map { "ERROR:  $_" } qw(22023 22004 22023 22023 22023 22004 22007 22023 22023)), 'arguments out of range');

# --- the end: every batch is done once ---

sql("UPDATE t SET n = 0");
$id = do {
	sql("SELECT backfill_stop($id, immediate => true)");
	wait_for_status($node, $id, 'stopped');
	start_claims('t');
};
my $all = change_all($second, $id, 't', batches => 7);
is($all->{last}{reason}, 'completed', 'a run is completed');
check_exactly_once($node, $id, 't', 1000, 'every row once');

$_->quit for $first, $second;
quiet_log();
$node->stop;
done_testing();
