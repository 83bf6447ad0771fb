# One run, any hands: workers inside of the server and clients work on one run,
# both are killed at random, and every row is done once.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time usleep);

my $clients = full_length() ? 12 : 5;
my $rows = full_length() ? 200000 : 12000;
my $crashes = full_length() ? 6 : 2;

seed_random();
one_node('main', conf => "client_connection_check_interval = 50ms\nlog_checkpoints = off\n");
create_target($node, 't', $rows);

# --- a claim that is not committed, and workers that look for batches ---

create_target($node, 'one', 400);
sql(q{SELECT backfill_define('one', 'one', 'UPDATE batch SET n = n + 1', settings =>
	'{"outside": true, "batch_size": 20, "target_batch_time": 0, "workers": 2, "sleep": "20ms", "lock_timeout": "off"}')});
my $session = client();
my $one = sql(q{SELECT backfill_start('one')});
ask($session, 'BEGIN');
my ($batch) = claim_batch($session, $one, lease => "'1 min'");
ask($session, change($batch, 'one') . ';' . complete($batch));
ok(wait_for($node, "SELECT count(*) = 19 AND bool_and(status = 'completed') FROM backfill_batches WHERE run_id = $one AND number <> $batch->{number}",
	timeout => 30), 'workers do the others, and wait for nobody');
is(sql("SELECT status FROM backfill_runs WHERE id = $one"), 'running', 'but the run is not completed');
ask($session, 'COMMIT');
ok(wait_for_status($node, $one, 'completed'), 'until the client commits');
check_exactly_once($node, $one, 'one', 400, 'every row once');
is(sql("SELECT client || ' ' || attempt FROM backfill_batches WHERE run_id = $one AND worker IS NULL AND number = $batch->{number}"), 'client 1',
	'what the client had is its own');

# and one that is rolled back: a worker does it
sql('UPDATE one SET n = 0');
$one = sql(q{SELECT backfill_start('one')});
ask($session, 'BEGIN');
($batch) = claim_batch($session, $one, lease => "'1 min'");
ask($session, change($batch, 'one') . ';' . complete($batch));
ok(wait_for($node, "SELECT count(*) = 19 AND bool_and(status = 'completed') FROM backfill_batches WHERE run_id = $one AND number <> $batch->{number}",
	timeout => 30), 'again all but one');
ask($session, 'ROLLBACK');
ok(wait_for_status($node, $one, 'completed'), 'what the client rolls back, a worker does');
check_exactly_once($node, $one, 'one', 400, 'every row once');

# and one that a worker takes in the very moment in which the client looks: what the client does
# not get must not stay locked by it.  The worker is played, so that the moment lasts.
create_target($node, 'raced', 300);
define_claims('raced', '{"batch_size": 20}');
my $raced = start_claims('raced');
ask($session, complete((claim_batch($session, $raced))[0]));
my $waiting = "FROM backfill.batch WHERE run_id = $raced AND status = 'pending'";
ok(wait_for($node, "SELECT count(*) = 14 $waiting"), 'all is cut');
my $worker = client();
ask($worker, 'BEGIN; LOCK TABLE backfill.batch IN EXCLUSIVE MODE');
my ($taken) = split /\n/, ask($worker, "UPDATE backfill.batch SET status = 'running' WHERE run_id = $raced AND number = (SELECT min(number) $waiting) RETURNING number");
my $pid = ask($session, 'SELECT pg_backend_pid()');
ask($session, 'BEGIN');
$session->send("SELECT 'got ' || number FROM backfill_claim($raced, 'client')");
ok(wait_for($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'a claim meets a worker that takes the batch');
ask($worker, 'COMMIT');
is(ask($session, "SELECT 'and'"), 'got ' . ($taken + 1) . "\nand", 'the client gets the next one');
is(ask($worker, "SET lock_timeout = '10s'; UPDATE backfill.batch SET error = NULL WHERE run_id = $raced AND number = $taken RETURNING 'done'"), 'done',
	'and the worker can complete its own');
ask($session, 'ROLLBACK');
sql("SELECT backfill_stop($raced)");
$worker->quit;
$session->quit;

# --- both, killed at random ---

# The loop of a client, in the transaction of the change or apart from it.  A
# batch that is lost ends it.
sql(q{
CREATE PROCEDURE client(run bigint, name text) LANGUAGE plpgsql AS $$
DECLARE
	c record;
	together boolean;
BEGIN
	LOOP
		together := random() < 0.3;
		SELECT * INTO c FROM backfill_claim(run, name, CASE WHEN random() < 0.2 THEN 'session' ELSE '700 ms' END);
		EXIT WHEN c.done;
		IF NOT together THEN COMMIT; END IF;
		IF c.number IS NULL THEN
			COMMIT;
			PERFORM pg_sleep(least(extract(epoch FROM c.retry_after), 0.1));
			CONTINUE;
		END IF;
		EXECUTE 'UPDATE t AS batch SET n = n + 1 WHERE ' || c.condition;
		PERFORM pg_sleep(0.02 + random() * 0.05);

		-- some are too slow, some roll back, some give up
		IF random() < 0.01 THEN PERFORM pg_sleep(1); END IF;
		IF random() < 0.02 THEN ROLLBACK; CONTINUE; END IF;
		IF random() < 0.02 AND NOT together THEN
			ROLLBACK;
			PERFORM backfill_fail(run, c.number, c.part, c.token, 'not today', '40001');
			COMMIT;
			CONTINUE;
		END IF;
		PERFORM backfill_complete(run, c.number, c.part, c.token);
		COMMIT;
	END LOOP;
END $$;
});
sql(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = n + 1', settings =>
	'{"outside": true, "batch_size": 20, "target_batch_time": 0, "workers": 2, "sleep": "40ms", "retry_delay": "50ms", "max_attempts": 100}')});
my $id = sql(q{SELECT backfill_start('t')});

my $connstr = $node->connstr('postgres');
my @client;
my %did = map { $_ => 0 } qw(client backend worker crash again);

# Let client $i work, unless it does.
sub employ
{
	my ($i) = @_;

	if ($client[$i])
	{
		return if waitpid($client[$i], WNOHANG) == 0;
		$did{again}++;
	}
	$client[$i] = fork();
	die "cannot fork: $!" unless defined $client[$i];
	return if $client[$i] > 0;
	open(STDIN, '<', '/dev/null');
	open(STDOUT, '>', '/dev/null');
	open(STDERR, '>', '/dev/null');
	exec('psql', '-XAtq', '-d', $connstr, '-c', "CALL client($id, 'client $i')") or POSIX::_exit(1);
}

sub pick
{
	my ($where) = @_;
	my ($rc, $out) = query($node, "SELECT pid FROM pg_stat_activity WHERE $where ORDER BY random() LIMIT 1");

	return $rc == 0 && $out =~ /^\d+$/ ? $out : 0;
}

my $until = time + (full_length() ? 600 : 60);
my $ended = 0;
my $turns = 0;
while (!$ended && time < $until)
{
	employ($_) foreach 0 .. $clients - 1;
	usleep(100_000 + int(rand(200_000)));
	$turns++;
	my $what = rand;
	if ($turns % 8 == 7 && $did{crash} < $crashes)
	{
		# the server begins again with empty shared memory
		my $pid = pick($did{crash} % 2 ? "query LIKE 'CALL client%'" : "backend_type = 'backfill worker'");
		$did{crash}++ if $pid && kill('KILL', $pid);
		wait_for_server($node);
	}
	elsif ($what < 0.35)
	{
		my $victim = $client[rand @client];
		$did{client}++ if kill('KILL', $victim);
	}
	elsif ($what < 0.7)
	{
		my $pid = pick("query LIKE 'CALL client%'");
		$did{backend}++ if $pid && (query($node, "SELECT pg_terminate_backend($pid)"))[0] == 0;
	}
	else
	{
		my $pid = pick("backend_type = 'backfill worker'");
		$did{worker}++ if $pid && (query($node, "SELECT pg_terminate_backend($pid)"))[0] == 0;
	}
	my ($rc, $status) = query($node, "SELECT status FROM backfill_runs WHERE id = $id");
	$ended = $rc == 0 && $status =~ /^(completed|failed|stopped)$/;
	query($node, "SELECT backfill_alter($id, '{\"sleep\": 0}')") if $rc == 0 && time > $until - 30;
}
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
kill('TERM', @client);
waitpid($_, 0) foreach @client;

diag(join(', ', map { "$did{$_} " . { client => 'clients killed', backend => 'sessions ended', worker => 'workers ended',
			crash => 'crashes of the server', again => 'clients begun again' }->{$_} } sort keys %did));
diag('batches by clients, by workers, taken over: ' . join(', ', split /\|/, sql("SELECT count(*) FILTER (WHERE client IS NOT NULL AND worker IS NULL),
	count(*) FILTER (WHERE worker IS NOT NULL), (SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'takeover')
	FROM backfill_batches WHERE run_id = $id")));
cmp_ok($did{client} + $did{backend}, '>', 2, 'clients were killed');
cmp_ok($did{crash}, '>=', 1, 'and the server');
is(sql("SELECT count(*) FROM t WHERE n <> 1"), '0', 'every row once');
check_exactly_once($node, $id, 't', $rows, 'and the record says so');
cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND worker IS NULL"), '>', 20, 'clients have done their part');
cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND worker IS NOT NULL"), '>', 20, 'and workers theirs');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id"), 'nobody has anything out');
ok(wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'backfill worker'"), 'and no worker is left');

$node->stop;
done_testing();
