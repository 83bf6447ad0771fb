# A run whose hooks have to try again is not disturbed by what others call, and
# backfill_stop_all waits for nobody.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');
sql(q{CREATE ROLE alice LOGIN}, q{CREATE ROLE bob LOGIN}, q{GRANT CREATE ON SCHEMA public TO PUBLIC});

# ---------------------------------------------------------------------------
note 'a hook that is tried again';

as('alice', q{CREATE TABLE gate (open boolean); INSERT INTO gate VALUES (false)});
as('alice', q{CREATE TABLE hooked (id int PRIMARY KEY, n int); INSERT INTO hooked SELECT generate_series(1, 10)});
as('alice', q{CREATE SEQUENCE calls});
as('alice', q{CREATE FUNCTION not_yet(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM nextval('calls');
	IF NOT (SELECT open FROM gate) THEN RAISE EXCEPTION 'not yet' USING ERRCODE = '55P03'; END IF;
END $$});
as('alice', q{SELECT backfill_define('hooked', 'hooked', 'UPDATE batch SET n = 1', settings => '{"max_attempts": 100, "retry_delay": "1 min"}')});
as('alice', q{SELECT backfill_on('before run running', 'not_yet', 'hooked')});
my $id = as('alice', q{SELECT backfill_start('hooked')});
my $retrying = "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'retrying'";
ok(wait_for($node, $retrying), 'its hook has to wait');
my $pid = (worker_pids($node, $id))[0];
my $calls = sql('SELECT last_value FROM calls');

is(as('bob', 'SELECT count(*) FROM backfill_stop_all()'), '0', 'another role has nothing to stop') for 1 .. 5;
as('bob', q{CREATE TABLE mine (id int PRIMARY KEY, n int); INSERT INTO mine VALUES (1)});
as('bob', q{SELECT backfill_define('mine', 'mine', 'UPDATE batch SET n = 1')});
my $mine = as('bob', q{SELECT backfill_start('mine')});
ok(settles($mine, 'completed'), 'it has a run of its own');
is(sql('SELECT last_value FROM calls'), $calls, 'the hook of the other one has not been called meanwhile');

# whoever may change the run does disturb it, and it goes on waiting
for my $n (2 .. 6)
{
	as('alice', qq{SELECT backfill_alter($id, '{"max_attempts": 10$n}')});
	ok(wait_for($node, 'SELECT last_value >= ' . ($calls + $n - 1) . ' FROM calls'), 'altered, it tries again');
	ok(wait_for($node, $retrying), 'and waits again');
}
is((worker_pids($node, $id))[0], $pid, 'it is the same worker');
is(sql("SELECT status, error, closings FROM backfill.run WHERE id = $id"), 'enqueued||1', 'no death was counted');
as('alice', 'UPDATE gate SET open = true');
as('alice', qq{SELECT backfill_alter($id, '{"max_attempts": 200}')});
ok(settles($id, 'completed'), 'the run is completed when the hook lets it');

# A worker that gives up because the run is to stop has not died of the hook.
as('alice', 'UPDATE gate SET open = false');
$id = as('alice', q{SELECT backfill_start('hooked')});
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'retrying'"), 'another hook waits');
as('alice', "SELECT backfill_stop($id)");
ok(settles($id, 'stopped'), 'a stop comes through');
is(sql("SELECT error IS NULL AND closings = 0 FROM backfill.run WHERE id = $id"), 't', 'without a word of deaths');

# ---------------------------------------------------------------------------
note 'backfill_stop_all';

sql(q{CREATE TABLE slow (id int PRIMARY KEY, n int)}, q{INSERT INTO slow SELECT generate_series(1, 100)});
sql(q{SELECT backfill_define('slow', 'slow', 'UPDATE batch SET n = 1', settings => '{"share_target": true, "sleep": "1 h", "batch_size": 10, "target_batch_time": 0}', parameters => '{"number": "int"}')});
my @ids = map { sql('SELECT backfill_start(\'slow\', ' . another() . ')') } 1 .. 3;
ok(wait_for_status($node, $_, 'running'), 'a run is at work') foreach @ids;
my $other = session($node);
$other->query("BEGIN; SELECT backfill_alter($ids[1], '{\"sleep\": \"2 h\"}')");
# it would wait for ever if it waited
my ($rc, $out, $err) = query($node, "SET lock_timeout = 0; SET statement_timeout = '20 s'; SELECT backfill_stop_all()");
is($out, join("\n", map { "run $_ of slow on slow: stops after the batch in hand" } @ids[ 0, 2 ]), 'all runs are stopped but one that another session has locked');
like($err, qr/WARNING:  1 run was not stopped, because other sessions are changing it/, 'which is said');
like($err, qr/The first of them is run $ids[1]\./, 'with its number');
ok(settles($_, 'stopped'), 'a run is stopped') foreach @ids[ 0, 2 ];
is(value($ids[1], 'status'), 'running', 'the other goes on');
# It is not given up at the first look: this session ends when it sees that it is in the way.
$other->send(q{DO $$
	DECLARE
		deadline timestamptz := clock_timestamp() + '10 s';
	BEGIN
		LOOP
			PERFORM pg_stat_clear_snapshot();
			EXIT WHEN clock_timestamp() > deadline OR EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT backfill_stop_all%' AND state = 'active' AND wait_event_type = 'Extension');
			PERFORM pg_sleep(0.001);
		END LOOP;
	END $$; COMMIT});
($rc, $out, $err) = query($node, 'SELECT backfill_stop_all()');
is("$out$err", "run $ids[1] of slow on slow: stops after the batch in hand", 'asked again, it stops that, too, as the other session ends its transaction in this moment');
$other->quit;
ok(settles($ids[1], 'stopped'), 'it is stopped');

# ---------------------------------------------------------------------------
note 'PREPARE TRANSACTION';

my $define = q{SAVEPOINT a; SELECT backfill_start('mine'); };
# a notification cannot be prepared either, with the same SQLSTATE: it must be our error
my $refused = qr/0A000: cannot PREPARE a transaction that has changed a backfill run/;
like(refusal("BEGIN; SELECT 1; $define PREPARE TRANSACTION 'x'"), $refused, 'a transaction that has started a run is not prepared');
like(refusal("BEGIN; SELECT 1; $define RELEASE a; PREPARE TRANSACTION 'x'"), $refused, 'nor one whose savepoint was released');
like(refusal("BEGIN; SELECT 1; $define RELEASE a; SAVEPOINT b; ROLLBACK TO b; PREPARE TRANSACTION 'x'"), $refused, 'also if another one was rolled back after that');
like(refusal("BEGIN; SELECT 1; $define SAVEPOINT b; ROLLBACK TO b; PREPARE TRANSACTION 'x'"), $refused, 'or one within it');
is(state_of('postgres', "BEGIN; SELECT 1; $define ROLLBACK TO a; PREPARE TRANSACTION 'x'"), '00000', 'one is whose savepoint was rolled back');
sql(q{ROLLBACK PREPARED 'x'});

# ---------------------------------------------------------------------------
note 'values of settings';

like(refusal(q{SELECT backfill_define('bad', 'slow', 'UPDATE batch SET n = 1', settings => '{"nice": 1e130000}')}),
	qr/22023: invalid value for backfill setting "nice"/, 'a number beyond all numbers: its setting is named');
like(refusal(q{SELECT backfill_define('bad', 'slow', 'UPDATE batch SET n = 1', settings => '{"from": "abc"}')}),
	qr/22P02: invalid value for backfill setting "from": invalid input syntax for type integer: "abc"/, 'a bound that is no key likewise');
$node->stop;
done_testing();
