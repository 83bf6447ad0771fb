# The server is killed while a run is verified, in a statement of "finish",
# and while that builds an index: each statement is done once, and what brings
# the server down each time does not do so for ever.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Finish;
use BackfillTest::OneNode;
use Test::More;

finish_node();
create_target($node, 'f', $rows);
create_steps();
create_gate();
my $id;

# ---------------------------------------------------------------------------
note 'the server is killed on the way';

# the server is killed in the middle of the verification, then of a statement;
# a prepared transaction keeps the lock through that
my $finish = q{INSERT INTO steps VALUES (1); SELECT pg_advisory_xact_lock(4711); INSERT INTO steps VALUES (3); CREATE INDEX CONCURRENTLY IF NOT EXISTS t_n ON t (n)};
my $close_gate = q{BEGIN; SELECT pg_advisory_xact_lock(4711); PREPARE TRANSACTION 'gate'};
my $open_gate = q{ROLLBACK PREPARED 'gate'};
query_ok($node, $close_gate);
$id = start('t', scope => 'gate(id, n)', finish => $finish, settings => '"sleep": 0, "lock_timeout": 0, "verify": true');
foreach my $everything (1, 0)
{
	ok(wait_for($node, $waits), 'the verification is under way');
	ok($everything ? kill_server($node) : kill_postmaster($node), 'the server is killed');
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(wait_for($node, $waits), 'it begins again');
is(value($id, 'status, rows_remaining IS NULL'), 'running|t', 'a crash changes no status');
query_ok($node, $open_gate);
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(value($id, 'rows_remaining'), 0, 'verified');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$rows", 'every row was changed exactly once');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'each statement ran once');

sql('TRUNCATE steps', 'DROP INDEX t_n');
query_ok($node, $close_gate);
$id = start('t', scope => 'false', finish => $finish, settings => '"sleep": 0, "lock_timeout": 0');
foreach my $everything (1, 0)
{
	ok(wait_for($node, $waits), 'the second statement is under way');
	ok($everything ? kill_server($node) : kill_postmaster($node), 'the server is killed');
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(wait_for($node, $waits), 'it is at it again');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1', 'the first is not done again');
is(events($id, 'finish'), 'statement 1 is done', 'nor counted');
is(value($id, 'status'), 'running', 'a crash changes no status');
query_ok($node, $open_gate);
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'each statement once');
is(sql(q{SELECT indisvalid FROM pg_index WHERE indexrelid = 't_n'::regclass}), 't', 'the index is there');
is(events($id, 'finish'), join(', ', map { "statement $_ is done" } 1 .. 4), 'the events say so');

# what brings the server down each time does not do so for ever
foreach my $scope ('false', 'gate(id, n)')
{
	sql('TRUNCATE steps', 'UPDATE t SET n = 0');
	query_ok($node, $close_gate);
	$id = start('t', scope => $scope, finish => $finish, settings => '"sleep": 0, "lock_timeout": 0, "verify": true');
	my $where = $scope eq 'false' ? 'a statement of finish' : 'the verification';
	foreach my $death (1 .. 3)
	{
		ok(wait_for($node, $waits), "$where, death $death");
		ok(kill_server($node), 'the server is killed');
		$node->start;
		ok(wait_for_server($node), 'and comes back');
	}
	ok(wait_for_status($node, $id, 'failed'), 'after three deaths the run fails');
	is(value($id, 'sqlstate'), '57P02', 'with 57P02');
	query_ok($node, $open_gate);
	is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), $scope eq 'false' ? '1' : '', 'what is done is done');
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'each statement once');
}

# an index that is built half is not taken for a whole one
query_ok($node, q{BEGIN; UPDATE f SET f = f; PREPARE TRANSACTION 'writer'});
$id = start('t', scope => 'false', finish => 'CREATE INDEX CONCURRENTLY IF NOT EXISTS f_n ON f (n); CREATE TABLE after_index ()', settings => '"sleep": 0, "lock_timeout": "50 ms"');
ok(wait_for($node, q{SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass('f_n')}), 'CREATE INDEX CONCURRENTLY waits for a writer, longer than lock_timeout');
ok(wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name LIKE 'backfill run%' AND query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '100 ms'}), 'with its statement to be seen');
is(value($id, 'status'), 'running', 'the run goes on');
ok(kill_server($node), 'the server is killed');
$node->start;
ok(wait_for_status($node, $id, 'failed'), 'the run fails, because half an index is there');
is(value($id, 'sqlstate, error'), '55000|index "f_n" is not valid', 'and says so');
like(value($id, 'error_hint'), qr/DROP INDEX CONCURRENTLY.*backfill_resume/, 'and what to do');
query_ok($node, q{ROLLBACK PREPARED 'writer'});
query_ok($node, 'DROP INDEX CONCURRENTLY f_n');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed without it, the run completes');
is(sql(q{SELECT indisvalid, to_regclass('after_index') IS NOT NULL FROM pg_index WHERE indexrelid = 'f_n'::regclass}), 't|t', 'with a whole index and what comes behind it');

$node->stop;
done_testing();
