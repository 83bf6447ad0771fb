# Pause, stop and what else comes between while a run is verified and
# finished: it is gone on with where it was, and each statement is done once.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Finish;
use BackfillTest::OneNode;
use Test::More;

finish_node();
create_steps();
my $blocker = session($node);
my $id;

# ---------------------------------------------------------------------------
note 'pause and stop on the way';

# finish waits for the session's advisory lock, without lock_timeout
my $finish = 'INSERT INTO steps VALUES (1); SELECT pg_advisory_xact_lock(4711); INSERT INTO steps VALUES (3)';
foreach my $what ('pause', 'stop', 'stop immediately')
{
	sql('TRUNCATE steps');
	$blocker->query('SELECT pg_advisory_lock(4711)');
	$id = start('t', scope => 'false', finish => $finish, settings => '"sleep": 0, "lock_timeout": 0');
	ok(wait_for($node, $waits), "$what during finish: it is at its second statement");
	is(sql("SELECT state FROM backfill_workers WHERE run_id = $id"), 'finishing', 'the worker says what it does');
	is(value($id, 'wait_reason'), 'finishing 2/3: SELECT pg_advisory_xact_lock(4711)', 'so does the run');
	sql($what eq 'pause' ? "SELECT backfill_pause($id)" : $what eq 'stop' ? "SELECT backfill_stop($id)" : "SELECT backfill_stop($id, true)");
	# only an immediate stop cancels what is in hand
	$blocker->query('SELECT pg_advisory_unlock(4711)') if $what ne 'stop immediately';
	my $status = $what eq 'pause' ? 'paused' : 'stopped';
	ok(wait_for_status($node, $id, $status), "the run is $status");
	$blocker->query('SELECT pg_advisory_unlock(4711)') if $what eq 'stop immediately';
	is(sql('SELECT string_agg(step::text, \',\') FROM steps'), '1', 'the third statement has not run');
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'each statement once');
}

# during the verification: the scope waits for the lock at one row
create_gate();
foreach my $what ('pause', 'stop', 'stop immediately')
{
	sql('UPDATE t SET n = 0', 'TRUNCATE steps');
	$blocker->query('SELECT pg_advisory_lock(4711)');
	$id = start('t', scope => 'gate(id, n)', finish => 'INSERT INTO steps VALUES (1)', settings => '"sleep": 0, "lock_timeout": 0, "verify": true');
	ok(wait_for($node, $waits), "$what during the verification: it has begun");
	is(sql("SELECT state FROM backfill_workers WHERE run_id = $id"), 'verifying', 'the worker says what it does');
	sql($what eq 'pause' ? "SELECT backfill_pause($id)" : $what eq 'stop' ? "SELECT backfill_stop($id)" : "SELECT backfill_stop($id, true)");
	$blocker->query('SELECT pg_advisory_unlock(4711)') if $what ne 'stop immediately';
	my $status = $what eq 'pause' ? 'paused' : 'stopped';
	ok(wait_for_status($node, $id, $status), "the run is $status");
	$blocker->query('SELECT pg_advisory_unlock(4711)') if $what eq 'stop immediately';
	is(sql('SELECT count(*) FROM steps'), 0, 'finish has not run');
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	is(value($id, 'rows_remaining, rows_affected'), "0|$rows", 'it has counted, and changed no row twice');
	is(sql('SELECT count(*) FROM steps'), 1, 'finish has run once');
}

# what may be half done is not repeated by itself
sql('CREATE SEQUENCE calls', q{CREATE PROCEDURE flaky() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('calls'); INSERT INTO steps VALUES (1); COMMIT; RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END $$}, 'TRUNCATE steps');
$id = start('t', scope => 'false', finish => 'CALL flaky()');
ok(wait_for_status($node, $id, 'failed'), 'a CALL that raises what would be tried again otherwise fails the run');
is(sql('SELECT last_value FROM calls') . ' ' . sql('SELECT count(*) FROM steps'), '1 1', 'at once');
sql(q{CREATE OR REPLACE FUNCTION flaky_now() RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF nextval('calls') < 4 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END IF; RETURN 1; END $$});
$id = start('t', scope => 'false', finish => 'SELECT flaky_now()');
ok(wait_for_status($node, $id, 'completed'), 'another statement is tried again');
is(sql('SELECT last_value FROM calls'), 4, 'until it succeeds');

# what a run keeps: the definition is replaced while it is at work
sql('TRUNCATE steps');
$blocker->query('SELECT pg_advisory_lock(4711)');
$id = start('t', scope => 'false', finish => $finish, settings => '"sleep": 0, "lock_timeout": 0');
ok(wait_for($node, $waits), 'finish is under way');
sql(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = 1', finish => 'INSERT INTO steps VALUES (99)')});
$blocker->query('SELECT pg_advisory_unlock(4711)');
ok(wait_for_status($node, $id, 'completed'), 'the definition was replaced meanwhile');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'the run does what it was started with');

$blocker->quit;

$node->stop;
done_testing();
