# "prepare", SQL that is run once before the first batch, by the rules of "finish":
# each statement by itself, as the owner; what fails is done again when the run is
# resumed, and nothing else; the ends of the walk are found when it is done; the
# server may be killed in it.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Finish;
use BackfillTest::OneNode;
use Test::More;

finish_node();
create_steps();
create_gate();
my $id;

# The numbers of the steps that ran, in their order.
sub steps { return sql(q{SELECT string_agg(step::text, ',' ORDER BY ctid) FROM steps}); }

# Close the gate in a transaction that outlives the server, and open it.
sub close_gate { return query_ok($node, q{BEGIN; SELECT pg_advisory_xact_lock(4711); PREPARE TRANSACTION 'gate'}); }
sub open_gate { return query_ok($node, q{ROLLBACK PREPARED 'gate'}); }

# ---------------------------------------------------------------------------
note 'before the first batch';

like(refusal(qq{SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1', prepare => 'SELECT 1; COMMIT')}),
	qr/ERROR:  0A000: "prepare" of a backfill cannot control transactions/, 'no control of transactions');
like(refusal(qq{SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1', prepare => 'ALTER TABL t')}),
	qr/ERROR:  42601.*ALTER TABL t/s, 'what cannot be parsed is refused, with its place');

# a second table, an index for the time of the run, and rows: the ends are found later
$id = start('t',
	prepare => 'CREATE TABLE map AS SELECT id, 1 AS one FROM t; CREATE UNIQUE INDEX CONCURRENTLY map_id ON map (id);'
	  . step(1) . q{; INSERT INTO t (id) VALUES (999990); INSERT INTO map VALUES (999990, 1); VACUUM ANALYZE map},
	statement => 'UPDATE batch SET n = n + map.one FROM map WHERE map.id = batch.id',
	finish => 'DROP TABLE map');
ok(wait_for_status($node, $id, 'completed'), 'a table that the statement reads is made before the first batch');
is(value($id, 'rows_scanned'), $rows + 1, 'rows that it inserts are in the walk');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), '1|' . ($rows + 1), 'and changed');
is(events($id, 'prepare'), join(', ', map { "statement $_ is done" } 1 .. 6), 'each statement is an event');
is(sql("SELECT max(e.at) < min(b.started_at) FROM backfill_events e, backfill_batches b WHERE e.run_id = $id AND b.run_id = $id AND kind = 'prepare'"), 't', 'before the first batch');
is(sql("SELECT string_agg(coalesce(status, kind), ' ' ORDER BY id) FROM (SELECT DISTINCT ON (coalesce(status, kind)) * FROM backfill_events WHERE run_id = $id AND kind IN ('transition', 'prepare', 'finish')) e"),
	'enqueued running prepare finish completed', 'when it is running');
is(sql('SELECT who, path, isolation, readonly FROM steps'), 'postgres postgres|"$user", public|read committed|off', 'as the owner, under the path of the definition');
is(sql("SELECT to_regclass('map') IS NULL"), 't', 'finish has done away with it');
sql('DELETE FROM t WHERE id = 999990', 'TRUNCATE steps');

# what the definition says of what is not there
my (undef, undef, $said) = query($node, q{SELECT backfill_define('map', 't', 'UPDATE batch SET n = n + map.one FROM map WHERE map.id = batch.id',
	prepare => 'CREATE TABLE map (id bigint, one int)', finish => 'DROP TABLE map; DROP TABLE nowhere')});
like($said, qr/^WARNING:  the statement would fail now: relation "map" does not exist\nHINT:  It is run after "prepare"/ms, 'what prepare may make is a warning in the statement');
is(() = $said =~ /WARNING/g, 2, 'and none in finish');
like($said, qr/statement 2 of "finish" would fail now: relation "nowhere" does not exist/, 'but for what it does not make');
like(refusal(q{SELECT backfill_define('bad', 't', 'UPDATE batch SET n = n + map.one FROM map', prepare => ' ; ')}), qr/42P01/, 'without any statement in it, it is an error');
like(refusal(q{SELECT backfill_define('bad', 't', 'UPDATE batch SET n = true', prepare => 'SELECT 1')}), qr/42804/, 'so is what nothing can mend');
(undef, undef, $said) = query($node, q{SELECT backfill_define('warned', 't', 'UPDATE batch SET n = n', prepare => 'INSERT INTO nowhere VALUES (1)')});
like($said, qr/^WARNING:  statement 1 of "prepare" would fail now: relation "nowhere" does not exist\nHINT:  It is run before the first batch/m, 'and so it says of prepare');
foreach my $nothing ('', ' ; ; ', '-- nothing')
{
	$id = start('t', prepare => $nothing, scope => 'n = 0');
	ok(wait_for_status($node, $id, 'completed'), "nothing to do is done: \"$nothing\"");
}
like(sql(q{SELECT string_agg("QUERY PLAN", ' ') FROM backfill_explain('warned')}), qr/First step, once, before all batches:\s+INSERT INTO nowhere/, 'backfill_explain shows it');
is(sql(q{SELECT backfill_explain('warned', format => 'json')::jsonb ->> 'prepare'}), 'INSERT INTO nowhere VALUES (1)', 'also as JSON');
is(sql(q{SELECT prepare FROM backfill_definitions WHERE name = 'warned'}), 'INSERT INTO nowhere VALUES (1)', 'and the views');

# ---------------------------------------------------------------------------
note 'a precondition that does not hold';

sql('UPDATE t SET n = 0', 'CREATE FUNCTION check_mended() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	IF to_regclass(\'mended\') IS NULL THEN RAISE EXCEPTION \'not yet\' USING ERRCODE = \'ZZ001\', HINT = \'mend it\'; END IF; END $$');
$id = start('t', prepare => join(';', step(1), 'SELECT check_mended()', step(3)), finish => step(4), settings => '"sleep": 0');
ok(wait_for_status($node, $id, 'failed'), 'a check that raises fails the run');
is(value($id, 'sqlstate, error, error_hint, batches, rows_total IS NULL'), 'ZZ001|not yet|mend it|0|t', 'with its error, before anything was done');
like(value($id, 'error_context'), qr/"prepare" of backfill run $id "t", statement 2/, 'and which statement it is');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, "SELECT count(*) = 2 FROM backfill_events WHERE run_id = $id AND status = 'failed' AND kind = 'transition'"), 'resumed, it fails again');
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'it is failed');
is(steps(), '1', 'what was done is not done again');
sql('CREATE TABLE mended ()', "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'mended and resumed, it completes');
is(steps(), '1,3,4', 'each statement once');
check_exactly_once($node, $id, 't', $rows, 'exactly once');
sql('TRUNCATE steps', 'UPDATE t SET n = 0');

# as the owner, and nobody else
create_mallory();
sql('CREATE TABLE den.t (id int PRIMARY KEY); INSERT INTO den.t VALUES (1); ALTER TABLE den.t OWNER TO mallory; GRANT ALL ON steps TO mallory; CREATE ROLE friend; GRANT friend TO mallory');
$id = start('den.t', role => 'mallory', statement => 'SELECT FROM batch', prepare => join(';', step(1), 'SET ROLE friend', step(3)));
ok(wait_for_status($node, $id, 'failed'), 'SET ROLE in prepare');
is(value($id, 'sqlstate, error'), '42501|"prepare" of the backfill changed the current user', 'is an error');
$id = start('den.t', role => 'mallory', statement => 'SELECT FROM batch', prepare => 'UPDATE backfill.run SET owner = 10');
ok(wait_for_status($node, $id, 'failed'), 'what the owner may not');
is(value($id, 'sqlstate'), '42501', 'is refused');
sql('TRUNCATE steps');

# ---------------------------------------------------------------------------
note 'held up, stopped, tried again';

my $gate = 'SELECT pg_advisory_xact_lock(4711)';
close_gate();
$id = start('t', prepare => join(';', step(1), $gate, step(3)), settings => '"sleep": 0, "lock_timeout": 0');
ok(wait_for($node, $waits), 'the second statement is under way');
is(value($id, 'status, wait_reason'), "running|preparing 2/3: $gate", 'and the run says so');
is(sql("SELECT held_by FROM backfill_active WHERE id = $id"), 'preparing 2/3: SELECT pg_advi...', 'in short, too');
is(sql("SELECT state FROM backfill_workers WHERE run_id = $id"), 'preparing', 'so does the worker, the only one');
like(sql("SELECT backfill_alter($id, finish => 'SELECT 4')"), qr/finish is replaced/, 'finish can be replaced meanwhile');
is(sql("SELECT backfill_stop($id)"), "run $id of t on t: stops after the statement in hand", 'a stop waits for it');
sql("SELECT backfill_stop($id, immediate => true)");
ok(wait_for_status($node, $id, 'stopped', through_end => 1), 'an immediate one cancels it');
is(steps(), '1', 'of which nothing is left');
open_gate();
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
is(steps(), '1,3', 'each statement once');
is(value($id, 'wait_reason IS NULL'), 't', 'and waits for nothing');
check_exactly_once($node, $id, 't', $rows, 'exactly once');
sql('TRUNCATE steps', 'UPDATE t SET n = 0');

# a lock in the way: tried again what can be, but not what ends transactions itself
close_gate();
$id = start('t', prepare => join(';', $gate, step(2)), settings => '"sleep": 0, "lock_timeout": "20 ms", "max_attempts": 1000');
ok(wait_for($node, "SELECT count(*) >= 2 FROM backfill_events WHERE run_id = $id AND kind = 'retry' AND sqlstate = '55P03'"), 'a lock in the way is tried again');
open_gate();
ok(wait_for_status($node, $id, 'completed'), 'until it is had');
close_gate();
$id = start('t', scope => 'false', prepare => $gate, settings => '"sleep": 0, "lock_timeout": "20 ms", "max_attempts": 2');
ok(wait_for_status($node, $id, 'failed'), 'or max_attempts are over');
is(value($id, 'sqlstate'), '55P03', 'with that error');
$id = start('t', scope => 'false', prepare => 'DO $$ BEGIN PERFORM pg_advisory_xact_lock(4711); END $$', settings => '"sleep": 0, "lock_timeout": "20 ms", "max_attempts": 1000');
ok(wait_for_status($node, $id, 'failed'), 'what ends transactions itself is not tried again');
is(events($id, 'retry'), '', 'not once');
open_gate();
sql('TRUNCATE steps', 'UPDATE t SET n = 0');

# a closed window: nothing begins
$id = start('t', prepare => step(1), settings => '"sleep": 0, "windows": [{"closed": true}]');
ok(wait_for($node, "SELECT throttled_by LIKE 'window%' FROM backfill_runs WHERE id = $id"), 'a closed window holds the run');
is(steps(), '', 'and prepare with it');
sql("SELECT backfill_alter($id, '{\"windows\": null}')");
ok(wait_for_status($node, $id, 'completed'), 'when it is open, the run goes on');
is(steps(), '1', 'with prepare');
sql('TRUNCATE steps', 'UPDATE t SET n = 0');

# a measure of health that holds: likewise
sql('CREATE TABLE holding AS SELECT 1 AS one');
$id = start('t', prepare => step(1), settings => q{"sleep": 0, "probe": "SELECT ''not now'' FROM holding"});
ok(wait_for($node, "SELECT throttled_by LIKE 'probe%' FROM backfill_runs WHERE id = $id"), 'the probe holds the run');
is(steps(), '', 'and prepare with it');
is(sql("SELECT closings FROM backfill.run WHERE id = $id"), 0, 'no death is counted');
sql('DELETE FROM holding');
ok(wait_for_status($node, $id, 'completed'), 'when it does not, the run goes on');
is(steps(), '1', 'with prepare');
check_exactly_once($node, $id, 't', $rows, 'exactly once');
sql('TRUNCATE steps', 'UPDATE t SET n = 0');

# ---------------------------------------------------------------------------
note 'the server is killed on the way';

close_gate();
$id = start('t', prepare => join(';', step(1), $gate, step(3), 'CREATE INDEX CONCURRENTLY IF NOT EXISTS t_n ON t (n)'), settings => '"sleep": 0, "lock_timeout": 0');
foreach my $everything (0, 1)
{
	ok(wait_for($node, $waits), 'the second statement is under way');
	ok($everything ? kill_server($node) : kill_postmaster($node), $everything ? 'the server is killed' : 'the postmaster is killed');
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(wait_for($node, $waits), 'it is at it again');
is(steps(), '1', 'the first is not done again');
is(value($id, 'status'), 'running', 'a crash changes no status');
open_gate();
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(steps(), '1,3', 'each statement once');
is(events($id, 'prepare'), join(', ', map { "statement $_ is done" } 1 .. 4), 'the events say so');
check_exactly_once($node, $id, 't', $rows, 'exactly once');
sql('TRUNCATE steps', 'UPDATE t SET n = 0', 'DROP INDEX t_n');

# a worker that is ended is no harm
close_gate();
$id = start('t', prepare => join(';', step(1), $gate, step(3)), settings => '"sleep": 0, "lock_timeout": 0');
ok(wait_for($node, $waits), 'the second statement is under way');
my $pid = sql("SELECT pid FROM backfill_workers WHERE run_id = $id");
sql("SELECT pg_terminate_backend($pid)");
ok(wait_for($node, "SELECT pid <> $pid FROM backfill_workers WHERE run_id = $id"), 'another worker takes the place of one that is ended');
ok(wait_for($node, $waits), 'and is at the same statement');
open_gate();
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(steps(), '1,3', 'each statement once');
sql('TRUNCATE steps', 'UPDATE t SET n = 0');

# what brings the server down each time does not do so for ever
close_gate();
$id = start('t', prepare => join(';', step(1), $gate, step(3)), settings => '"sleep": 0, "lock_timeout": 0');
foreach my $death (1 .. 3)
{
	ok(wait_for($node, $waits), "death $death");
	ok(kill_server($node), 'the server is killed');
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(wait_for_status($node, $id, 'failed'), 'after three deaths the run fails');
is(value($id, 'sqlstate, batches'), '57P02|0', 'with 57P02');
open_gate();
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
is(steps(), '1,3', 'each statement once');
check_exactly_once($node, $id, 't', $rows, 'exactly once');

$node->stop;
done_testing();
