# A database is closed (ALLOW_CONNECTIONS false) while a run needs a worker, and
# while the server is restarted: its runs wait, and go on when it is opened again.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

# It is looked at once a minute whether the database is open.
use constant SOON => 150;

one_node('closed');
sql('CREATE DATABASE d');
sql_in_d('CREATE EXTENSION backfill');
sub sql_in_d { return query_ok($node, $_[0], db => 'd'); }
sub closed { return sql("ALTER DATABASE d ALLOW_CONNECTIONS $_[0]"); }

create_target($node, 't', 20, db => 'd');
sql_in_d(q{
	CREATE FUNCTION step(key bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 100 THEN
			PERFORM pg_advisory_xact_lock_shared(1);
		END IF;
		RETURN 1;
	END $$});
define_increment($node, 't', '{"batch_size": 5, "target_batch_time": "off", "sleep": 0, "lock_timeout": "off", "yield_after": "off"}',
	statement => 'UPDATE batch SET n = n + step(id)', db => 'd');
my $nobody = q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'd' AND backend_type ~ '^backfill'};

# ---------------------------------------------------------------------------
note 'closed during a run';

my $session = session($node, db => 'd');
$session->query('SELECT pg_advisory_lock(1)');
my $run = start_run($node, 't', db => 'd');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND state = 'running' AND batch = 2", db => 'd'),
	'a batch is at work');
closed('false');
is($session->query("SELECT status || coalesce(wait_reason, '') FROM backfill_runs WHERE id = $run"), 'running',
	'who is at work goes on');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill worker'});
ok(wait_for($node, $nobody), 'when a worker is needed, nobody stays in the database');
is($session->query("SELECT status || ': ' || wait_reason FROM backfill_runs WHERE id = $run"),
	'running: waits until the database allows connections again', 'and the run says what it waits for');

# eight workers in vain would have failed it
is($session->query("SELECT error IS NULL FROM backfill_runs WHERE id = $run"), 't', 'it has not failed');
$session->query('SELECT pg_advisory_unlock(1)');
closed('true');
ok(wait_for($node, "SELECT status = 'completed' FROM backfill_runs WHERE id = $run", db => 'd', timeout => SOON),
	'opened again, it goes on by itself');
is(run_value($node, $run, 'wait_reason IS NULL', db => 'd'), 't', 'and waits for nothing');
check_exactly_once($node, $run, 't', 20, 'exactly once over that', db => 'd');
$session->quit;

# ---------------------------------------------------------------------------
note 'closed during a restart';

sql_in_d('UPDATE t SET n = 0');
$session = session($node, db => 'd');
$session->query('SELECT pg_advisory_lock(1)');
$run = start_run($node, 't', db => 'd');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND state = 'running' AND batch = 2", db => 'd'),
	'a batch is at work');
closed('false');
$session->quit;
$node->stop('immediate');
$node->start;
ok(wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'backfill launcher'}), 'the server is back');
ok(wait_for($node, $nobody), 'nobody of us is in the closed database');
closed('true');
ok(wait_for($node, "SELECT status = 'completed' FROM backfill_runs WHERE id = $run", db => 'd', timeout => SOON),
	'opened again, the run goes on by itself');
check_exactly_once($node, $run, 't', 20, 'exactly once over that', db => 'd');

# ---------------------------------------------------------------------------
note 'dropped while it is closed';

closed('false');
sql('DROP DATABASE d');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'backfill launcher'}), '1', 'a closed database can be dropped');

$node->stop;
done_testing();
