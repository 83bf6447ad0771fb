# A suspect batch that sleeps keeps the suspects of others waiting for a while and
# no longer, says so in their runs, and cannot be let out by its own code.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('main', conf => "backfill.max_workers = 4\n");

# The first batch of a run kills its worker the first time; then it goes on, or,
# with "asleep", it lets go of every advisory lock and sleeps.
sub make_suspect
{
	my ($name, $role, $asleep, $db) = @_;
	query_ok($node, qq{
	CREATE TABLE $name (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
	INSERT INTO $name SELECT generate_series(1, 3);
	CREATE SEQUENCE ${name}_calls;
	CREATE FUNCTION ${name}_step() RETURNS int LANGUAGE plpgsql AS \$\$
	BEGIN
		IF nextval('${name}_calls') = 1 THEN
			PERFORM pg_terminate_backend(pg_backend_pid());
			PERFORM pg_sleep(60);
		ELSIF $asleep THEN
			PERFORM pg_advisory_unlock_all();
			PERFORM pg_sleep(100000);
		END IF;
		RETURN 1;
	END \$\$;
	ALTER TABLE $name OWNER TO $role;
	ALTER SEQUENCE ${name}_calls OWNER TO $role;
	SET ROLE $role;
	SELECT backfill_define('$name', '$name', 'UPDATE batch SET n = n + ${name}_step()',
		settings => '{"batch_size": 1, "target_batch_time": 0, "yield_after": 0, "sleep": 0}')}, db => $db);
	return query_ok($node, "SET ROLE $role; SELECT backfill_start('$name')", db => $db);
}

# The run has a batch that has killed a worker and is at work again.
sub is_asleep
{
	my ($id) = @_;
	return wait_for($node, "SELECT w.state = 'running' AND b.crashes = 1 FROM backfill_workers w
		JOIN backfill_batches b ON b.run_id = w.run_id AND b.number = w.batch WHERE w.run_id = $id");
}

# So many seconds after the first suspect has fallen asleep the other run, in that
# database, was over.
sub seconds_between
{
	my ($asleep, $over, $db) = @_;
	my $end = run_value($node, $over, 'extract(epoch FROM finished_at)', db => $db);
	return query_ok($node, "SELECT round($end - extract(epoch FROM state_since), 1) FROM backfill_workers WHERE run_id = $asleep");
}

$node->safe_psql('postgres', 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE DATABASE other');
$node->safe_psql('postgres', 'GRANT CREATE ON SCHEMA public TO PUBLIC');
$node->safe_psql('other', 'CREATE EXTENSION backfill; GRANT CREATE ON SCHEMA public TO PUBLIC');

my $sleeper = make_suspect('sleeper', 'alice', 'true', 'postgres');
ok(is_asleep($sleeper), 'a suspect is asleep');
my $waiter = make_suspect('waiter', 'bob', 'false', 'postgres');
ok(wait_for($node, "SELECT wait_reason FROM backfill_runs WHERE id = $waiter", interval => 20_000,
	expected => 'waits until another batch that may have brought down the server is done'),
	'another suspect of the database waits, although the first let go of its locks, and its run says so');
ok(wait_for_status($node, $waiter, 'completed'), 'it does not wait for ever');
is(query_ok($node, 'SELECT sum(n), max(n) FROM waiter'), '3|1', 'every row was processed once');
is(run_value($node, $waiter, 'wait_reason'), '', 'nothing is waited for any more');
ok(is_asleep($sleeper), 'the first is asleep still');
cmp_ok(seconds_between($sleeper, $waiter, 'postgres'), '>', 12, 'the time of the first was for it alone');

my $second = make_suspect('second', 'alice', 'true', 'postgres');
ok(is_asleep($second), 'another suspect is asleep');
my $away = make_suspect('away', 'bob', 'false', 'other');
ok(wait_for_status($node, $away, 'completed', db => 'other'), 'nor does a suspect of another database');
ok(is_asleep($second), 'the other is asleep still');
cmp_ok(seconds_between($second, $away, 'other'), '<', 12, 'which does not have to wait as long as one of the same database');

query_ok($node, 'SELECT backfill_stop_all(true)');
ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill_workers'), 'all can be stopped');
$node->stop;
done_testing();
