# One stream of a live run is held, stopped and let go on, by whoever may control the
# run; the others go on. Who may see streams is who may see the run.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Streams;
use Test::More;

one_node('main');
sql('CREATE ROLE alice LOGIN', 'CREATE ROLE bob LOGIN', 'CREATE ROLE carol LOGIN', 'GRANT alice TO carol', 'CREATE ROLE watcher LOGIN', 'GRANT pg_monitor TO watcher');
create_step($node);
my $step = 'UPDATE batch SET n = n + step(id), w = run.stream';
my $exact = '"batch_size": 10, "target_batch_time": 0, "sleep": 0';

# A run over so many accounts of 50 rows, of alice; the first row of each of these is a gate.
sub begin
{
	my ($table, $accounts, $workers, @gates) = @_;
	sql('DELETE FROM behave');
	accounts($table, $accounts, 50);
	sql("ALTER TABLE $table OWNER TO alice");
	sql(map { "INSERT INTO behave VALUES ($_ * 1000 + 1, 'gate')" } @gates);
	as('alice', "SELECT backfill_define('$table', '$table', '$step', streams => '" . account_streams($accounts) . qq(', settings => '{"workers": $workers, $exact}'\)));
	return as('alice', "SELECT backfill_start('$table')");
}
sub act { my ($function, $run, $more) = @_; return as('alice', "SELECT backfill_$function($run, $more)"); }
sub open_gate { return sql("DELETE FROM behave WHERE id = $_[0] * 1000 + 1"); }

# ---------------------------------------------------------------------------
note 'a pause';

my $run = begin('p', 4, 2, 1, 2);
ok(at_step($run, 2), 'two are at work');
is(act('pause', $run, "stream => '2'"), "run $run of p on p: stream \"2\" is paused after the batch in hand", 'one of them is to pause');
is(act('pause', $run, "stream => '2'"), "run $run of p on p: stream \"2\" is paused already", 'once');
is(act('pause', $run, "stream => '3'"), "run $run of p on p: stream \"3\" is paused", 'and one that has not begun');
is(states($run), '1 running, 2 paused, 3 paused, 4 pending', 'they are');
is(stream_value($run, '2', 'workers'), 1, 'the batch in hand goes on');
open_gate(2);
ok(streams_are($run, '1 running, 2 paused, 3 paused, 4 completed'), 'then the worker goes on with the next that is not held');
is(stream_value($run, '2', 'batches, rows_affected, progress > 0, cursor, workers'), '1|10|t|["2", "2010"]|0', 'one batch was done');
open_gate(1);
ok(wait_for($node, "SELECT wait_reason FROM backfill_runs WHERE id = $run", expected => 'streams are paused: 2, 3'), 'when only they are left, the run says so');
is(run_value($node, $run, 'status'), 'running', 'and waits');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $run"), 'without workers');
is(act('resume', $run, "stream => '2'"), "run $run of p on p: stream \"2\" goes on", 'one is resumed');
ok(streams_are($run, '1 completed, 2 completed, 3 paused, 4 completed'), 'and done');
ok(wait_for($node, "SELECT wait_reason FROM backfill_runs WHERE id = $run", expected => 'streams are paused: 3'), 'one is still held');
is(as('alice', "SELECT backfill_resume($run)"), "run $run of p on p: its streams go on", 'the run is resumed, and with it its streams');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
check_streams($run, 'p', 'account::text', 'every row once');
is(sql("SELECT string_agg(format('%s %s>%s %s %s', stream, previous_status, status, role, reason), ', ' ORDER BY id) FROM backfill_events WHERE run_id = $run AND kind = 'stream'"),
	'2 running>paused alice backfill_pause, 3 pending>paused alice backfill_pause, 2 paused>pending alice backfill_resume, 3 paused>pending alice backfill_resume', 'events say who has done what');

# ---------------------------------------------------------------------------
note 'a stop';

$run = begin('s', 4, 2, 1, 2, 3);
ok(at_step($run, 2), 'two are at work');
is(act('stop', $run, "immediate => true, stream => '1'"), "run $run of s on s: stream \"1\" is stopped", 'one of them is stopped at once');
ok(streams_are($run, '1 stopped, 2 running, 3 running, 4 pending'), 'the next is begun in its place, though the row was never done');
is(stream_value($run, '1', 'rows_affected, workers, finished_at IS NOT NULL'), '0|0|t', 'the batch in hand was rolled back');
is(act('stop', $run, "stream => '2'"), "run $run of s on s: stream \"2\" is stopped after the batch in hand", 'the other one after its batch');
open_gate(2);
ok(streams_are($run, '1 stopped, 2 stopped, 3 running, 4 completed'), 'and the next in its place, too');
is(stream_value($run, '2', 'rows_affected, batches'), '10|1', 'the batch was done');
open_gate(3);
ok(wait_for_status($node, $run, 'stopped'), 'a run of which streams were stopped ends as stopped');
is(sql('SELECT account, sum(n) FROM s GROUP BY 1 ORDER BY 1'), "1|0\n2|10\n3|50\n4|50", 'the others are done');
open_gate(1);
is(act('resume', $run, "stream => '1'"), "run $run of s on s: stream \"1\" goes on", 'one stream of a run that is over is resumed');
ok(wait_for($node, "SELECT status = 'stopped' AND (SELECT status FROM backfill.stream WHERE run_id = $run AND name = '1') = 'completed' FROM backfill_runs WHERE id = $run"), 'and the run goes on for it alone');
is(stream_value($run, '2', 'status, rows_affected'), 'stopped|10', 'the other one is still stopped');
sql("SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'resumed as a whole, it completes');
check_streams($run, 's', 'account::text', 'every row once');

# ---------------------------------------------------------------------------
note 'the run as a whole';

$run = begin('w', 3, 2, 1, 2);
ok(at_step($run, 2), 'two are at work');
act('pause', $run, "stream => '3'");
as('alice', "SELECT backfill_pause($run)");
open_gate($_) foreach 1, 2;
ok(wait_for_status($node, $run, 'paused'), 'a run is paused');
is(states($run), '1 running, 2 running, 3 paused', 'its streams are where they were');
as('alice', "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed'), 'and resumed, that which was held by itself included');
check_streams($run, 'w', 'account::text', 'every row once');

$run = begin('i', 3, 2, 1, 2);
ok(at_step($run, 2), 'two are at work');
as('alice', "SELECT backfill_stop($run, true)");
ok(wait_for_status($node, $run, 'stopped'), 'a run is stopped at once');
is(sql('SELECT sum(n) FROM i'), 0, 'what was at work is rolled back');
sql('DELETE FROM behave');
as('alice', "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'and goes on');
check_streams($run, 'i', 'account::text', 'every row once');

# ---------------------------------------------------------------------------
note 'who';

$run = begin('r', 2, 1, 1);
ok(at_step($run, 1), 'a run of alice is at work');
foreach my $role ('bob', 'watcher')
{
	is(state_of($role, "SELECT backfill_$_"), '42704', "$role may not: $_")
	  foreach "pause($run, stream => '2')", "stop($run, stream => '2')", "stop($run, true, '1')", "resume($run, stream => '2')", "pause('r', stream => '2')";
}
is(states($run), '1 running, 2 pending', 'and nothing has come of it');
is(as('bob', "SELECT count(*) FROM backfill_streams"), 0, 'a stranger sees no streams');
is(as('bob', 'SELECT count(*) FROM backfill_batches') . as('bob', 'SELECT count(*) FROM backfill_errors') . as('bob', 'SELECT count(*) FROM backfill_workers'), '000', 'nor what belongs to them');
is(as('watcher', "SELECT count(*) FROM backfill_streams WHERE run_id = $run"), 2, 'a member of pg_monitor sees them');
is(as('watcher', "SELECT stream FROM backfill_workers WHERE run_id = $run"), '1', 'and who works on them');
is(state_of('watcher', 'SELECT * FROM backfill.stream'), '42501', 'and not the table');
is(as('carol', "SELECT count(*) FROM backfill_streams WHERE run_id = $run"), 2, 'who has the rights of the owner sees them');
is(as('carol', "SELECT backfill_pause($run, stream => '2')"), "run $run of r on r: stream \"2\" is paused", 'and controls them');
is(as('carol', "SELECT backfill_resume('r', stream => '2')"), "run $run of r on r: stream \"2\" goes on", 'by the name of the definition, too');
is(sql("SELECT string_agg(role, ',') FROM backfill_events WHERE run_id = $run AND kind = 'stream'"), 'carol,carol', 'and is the one who did');
is(state_of('alice', "SELECT backfill_resume($run, stream => '1')"), '55000', 'what runs cannot be resumed');
sql('DELETE FROM behave');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');

# the query and the statement run as the owner
sql(q{CREATE FUNCTION whoami() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT current_user || session_user'},
	'GRANT CREATE ON SCHEMA public TO alice', 'CREATE TABLE secret (name text)', q{INSERT INTO secret VALUES ('1')});
as('alice', q{SELECT backfill_define('q', 'r', 'UPDATE batch SET w = run.stream || whoami()', streams => 'SELECT whoami() AS name')});
$run = sql(q{SELECT backfill_start('q')});
ok(wait_for_status($node, $run, 'completed'), 'a run that a superuser has started');
is(sql("SELECT DISTINCT w FROM r"), 'alicealicealicealice', 'has the rights of its owner and no more');
as('alice', q{SELECT backfill_define('x', 'r', 'UPDATE batch SET w = run.stream', streams => 'SELECT name FROM secret')});
$run = sql(q{SELECT backfill_start('x')});
ok(wait_for_status($node, $run, 'failed'), 'what he may not read');
is(run_value($node, $run, 'error, sqlstate'), 'permission denied for table secret|42501', 'he does not read');

$node->stop;
done_testing();
