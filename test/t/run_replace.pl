# A run that goes on with its definition as it is now: from where it was, each row
# exactly once, by one version or the other, and the record says by which; also when
# the server is killed on the way.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

use constant ROWS => 1_000;

one_node('replace');
create_target($node, 't', ROWS);
create_target($node, 'other', 10);
create_step($node);
sql('CREATE UNIQUE INDEX t_second ON t (id DESC)');
my $settings = '"batch_size": 100, "target_batch_time": 0, "sleep": 0, "retry_delay": "10 ms"';

# SQL that defines the backfill of t again.
sub define
{
	my (%opts) = @_;
	my $statement = $opts{statement} || 'UPDATE batch SET n = n + step(id)';
	return qq{SELECT backfill_define('fill', '} . ($opts{target} || 't') . qq{', \$s\$$statement\$s\$, settings => '{$settings @{[$opts{settings} || '']}}'}
	  . join('', map { defined $opts{$_} ? ", $_ => \$o\$$opts{$_}\$o\$" : '' } qw(scope key direction parameters prepare finish)) . ')';
}

sub start { sql('UPDATE t SET n = 0, f = 0', define(@_)); return sql("SELECT backfill_start('fill')"); }
sub replace { my ($id) = @_; return sql("SELECT backfill_replace($id)"); }
sub events { my ($id, $kind) = @_; return sql("SELECT string_agg(reason, ' | ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = '$kind'"); }

# By which version the rows of each batch were changed, as the time of the record has it, and as the rows have it.
sub check_versions
{
	my ($id, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(sql(qq{SELECT count(*) FROM t JOIN backfill_batches b ON run_id = $id AND t.id > CASE WHEN start_inclusive THEN 0 ELSE b.start_key[1]::bigint END AND t.id <= b.end_key[1]::bigint
		WHERE t.f <> 1 + (b.finished_at > (SELECT max(at) FROM backfill_events WHERE run_id = $id AND kind = 'transition' AND status = 'enqueued' AND reason = 'backfill_replace'))::int}), 0, $name);
}
my ($one, $two) = map { "UPDATE batch SET n = n + step(id), f = $_" } 1, 2;

# ---------------------------------------------------------------------------
note 'a statement that is wrong';

my $id = start(statement => "UPDATE batch SET n = n + 1, f = 1 + 0 / (id - 5000)::int");
ok(wait_for_status($node, $id, 'failed'), 'one fails in the middle');
is(value($id, 'batches'), 4, 'when some batches are done');
is(replace($id), "run $id of fill on t: has the definition as it is now already", 'nothing is replaced by itself');
is(value($id, 'status'), 'failed', 'and nothing comes of it');
sql(define(statement => 'UPDATE batch SET n = n + 1, f = 2'));
is(replace($id), "run $id of fill on t: goes on with another statement", 'mended, the run goes on');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'and completes');
check_exactly_once($node, $id, 't', ROWS, 'exactly once');
check_versions($id, 'those that were done by the old statement, and no others, are as it left them');
is(sql('SELECT f, count(*) FROM t GROUP BY f ORDER BY f'), "1|400\n2|600", 'the others are not');
is(sql("SELECT number, role, reason FROM backfill_events WHERE run_id = $id AND kind = 'replace'"),
	"5|postgres|other than before: statement\nstatement was: UPDATE batch SET n = n + 1, f = 1 + 0 / (id - 5000)::int", 'the record has the place and the old statement');
is(value($id, 'statement'), 'UPDATE batch SET n = n + 1, f = 2', 'the view has the new one');

# ---------------------------------------------------------------------------
note 'a run at work';

foreach my $how ('lives', 'postmaster', 'server')
{
	sql('DELETE FROM behave', "INSERT INTO behave VALUES (1500, 'gate'), (2500, 'gate')");
	$id = start(statement => $one, settings => ', "workers": 2');
	ok(wait_for($node, "SELECT count(*) = 2 FROM backfill_workers w JOIN pg_stat_activity a USING (pid) WHERE run_id = $id AND batch IN (2, 3) AND wait_event = 'PgSleep'"), "$how: two batches are in hand");
	sql('BEGIN', define(statement => $two), "SELECT backfill_replace($id)", 'ROLLBACK');
	is(value($id, 'statement') . sql("SELECT requested IS NULL FROM backfill.run WHERE id = $id"), "${one}t", 'what is rolled back was never asked for');
	is(sql('BEGIN; DO $do$ BEGIN PERFORM 1; ' . define(statement => $two) =~ s/^SELECT/PERFORM/r . "; END \$do\$; SELECT backfill_replace('fill'); COMMIT") =~ s/\s+$//r,
		"run $id of fill on t: goes on after the batch in hand with another statement", 'a transaction defines it and has the run go on');
	is(value($id, 'status, wait_reason'), 'running|enqueued requested: waits for the batches in hand', 'the run waits for what is in hand');
	like(refusal("SELECT backfill_resume($id)"), qr/55000: cannot change run $id from "running" to "enqueued"/, 'which backfill_resume cannot hurry');
	if ($how ne 'lives')
	{
		ok($how eq 'server' ? kill_server($node) : kill_postmaster($node), 'it is killed');
		$node->start;
		ok(wait_for_server($node), 'and comes back');
	}
	sql('DELETE FROM behave');
	ok(wait_for_status($node, $id, 'completed'), 'it completes');
	check_exactly_once($node, $id, 't', ROWS, 'exactly once');
	check_versions($id, 'each batch by the version that its time says');
	cmp_ok(sql('SELECT count(*) FROM t WHERE f = 1'), $how eq 'lives' ? '==' : '<=', 300, 'what was in hand was done by the old one, unless it was rolled back');
	cmp_ok(sql('SELECT count(*) FROM t WHERE f = 2'), '>=', 700, 'all others by the new one');
	is(sql("SELECT string_agg(status, ' ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = 'transition'"), 'enqueued running enqueued running completed', 'it was enqueued again');
}

# a request to stop beats it; a stopped run goes on
sql("INSERT INTO behave VALUES (1500, 'gate')");
$id = start(statement => $one);
ok(at_gate($id, 2), 'a batch is in hand');
sql("SELECT backfill_stop($id)", define(statement => $two));
is(replace($id), "run $id of fill on t: will be stopped after the batch in hand, and then go on with another statement", 'one that is to stop has it, too');
sql('DELETE FROM behave');
ok(wait_for_status($node, $id, 'stopped', through_end => 1), 'and stops');
sql(define(statement => "$two, pad = 'new'"));
is(replace($id), "run $id of fill on t: goes on with another statement", 'one that is stopped goes on');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'and completes');
check_exactly_once($node, $id, 't', ROWS, 'exactly once');
check_versions($id, 'each batch by its version');

# what is held stays held
sql('UPDATE t SET n = 0, f = 0', define(statement => $one));
$id = sql(q{SELECT backfill_start('fill', paused => true)});
sql(define(statement => $two));
is(replace($id), "run $id of fill on t: is paused, and will go on with another statement", 'a paused run');
is(value($id, 'status'), 'paused', 'stays so');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed'), 'until it is resumed');
is(sql('SELECT DISTINCT n, f FROM t'), '1|2', 'with the new statement');
sql('UPDATE t SET n = 0, f = 0', define(statement => $one));
$id = sql(q{SELECT backfill_start('fill', start_at => now() + interval '1 day')});
sql(define(statement => $two));
is(replace($id), "run $id of fill on t: will begin with another statement", 'a pending one');
is(value($id, 'status, statement'), "pending|$two", 'waits for its time as before');
sql("SELECT backfill_stop($id)");

# ---------------------------------------------------------------------------
note 'scope, parameters, what is run once';

sql('CREATE TABLE steps (step text)');
$id = start(statement => 'UPDATE batch SET n = n + 1, f = 1 / (6000 - id)::int', scope => 'n = 0', settings => ', "verify": true',
	prepare => "INSERT INTO steps VALUES ('p1'); SELECT 1 / 0", finish => "INSERT INTO steps VALUES ('f1')");
ok(wait_for_status($node, $id, 'failed'), 'prepare fails');
sql(define(statement => 'UPDATE batch SET n = n + 1, f = 1 / (6000 - id)::int', scope => 'n = 0', settings => ', "verify": true',
	prepare => "INSERT INTO steps VALUES ('p2'); INSERT INTO steps VALUES ('p3')", finish => "INSERT INTO steps VALUES ('f1')"));
is(replace($id), "run $id of fill on t: goes on with another prepare", 'another one takes its place');
ok(wait_for($node, "SELECT status = 'failed' AND batches = 5 FROM backfill_runs WHERE id = $id"), 'the statement fails');
ok(settles($id, 'failed'), 'the run has failed');
is(sql("SELECT string_agg(step, ' ' ORDER BY ctid) FROM steps"), 'p1 p2 p3', 'the new prepare began at its first statement');
sql(define(statement => 'UPDATE batch SET n = n + params.plus', scope => 'n = 0 AND id > 0', parameters => '{"plus": {"type": "int", "default": 1}}', settings => ', "verify": true',
	prepare => "INSERT INTO steps VALUES ('too late')", finish => "INSERT INTO steps VALUES ('f1'); SELECT 1 / 0"));
is(replace($id), "run $id of fill on t: goes on with another statement, scope, parameters, finish", 'the statement, the scope, a parameter more, finish');
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'all batches are done, finish fails');
is(value($id, q{parameters, sqlstate, prepare LIKE '%p2%'}), '{"plus": 1}|22012|t', 'with the default; what was prepared is not replaced');
sql(define(statement => 'UPDATE batch SET n = n + params.plus', scope => 'n = 0 AND id > 0', parameters => '{"plus": {"type": "int", "default": 1}}', settings => ', "verify": true',
	finish => "INSERT INTO steps VALUES ('f2'); INSERT INTO steps VALUES ('f3')"));
is(replace($id), "run $id of fill on t: goes on with another finish", 'finish alone');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'it completes');
is(sql("SELECT string_agg(step, ' ' ORDER BY ctid) FROM steps"), 'p1 p2 p3 f1 f2 f3', 'the new finish began at its first statement');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'verify'"), 1, 'what was verified was not counted again');
check_exactly_once($node, $id, 't', ROWS, 'exactly once');

# a finish that is the same goes on where it was; another scope is counted anew
sql('TRUNCATE steps', 'CREATE TABLE missing_f ()');
my $finish = "INSERT INTO steps VALUES ('f1'); ALTER TABLE missing_f ADD mended int; SELECT mended FROM missing_f, absent";
$id = start(scope => 'n = 0', settings => ', "verify": true', finish => $finish);
ok(wait_for_status($node, $id, 'failed'), 'the third statement of finish fails');
sql('CREATE TABLE absent ()', define(scope => 'n = 0 AND f = 0', settings => ', "verify": true', finish => $finish));
is(replace($id), "run $id of fill on t: goes on with another scope", 'another scope');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'it completes');
is(sql("SELECT string_agg(step, ' ' ORDER BY ctid) FROM steps"), 'f1', 'what was done of finish is not done again');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'verify'"), 2, 'but the rows are counted');

# ---------------------------------------------------------------------------
note 'what cannot be';

like(refusal("SELECT backfill_replace($id)"), qr/55000: cannot replace the definition of run $id, which is "completed"/, 'a completed run');
$id = start(statement => $one, settings => ', "verify": true', scope => 'n = 0');
ok(wait_for_status($node, $id, 'completed'), 'a run');
sql('UPDATE t SET n = 0, f = 0');
$id = sql(q{SELECT backfill_start('fill', paused => true)});
foreach my $case (
	[ 'another table', qr/The run walks table t, and the definition now walks other\./, target => 'other' ],
	[ 'another key', qr/along the primary key, and the definition now along t_second\./, key => 't_second' ],
	[ 'another direction', qr/opposite directions/, direction => 'desc' ])
{
	my ($name, $detail, @opts) = @$case;
	sql(define(@opts));
	like(refusal("SELECT backfill_replace($id)"), qr/55000: run $id cannot go on with definition fill as it is now\n.*$detail.*\nHINT:  Stop the run/s, $name);
}
sql(define());
like(refusal("SELECT backfill_replace($id)"), qr/22023/, 'a run that is to be verified without a scope');
sql(define(scope => 'n = 0', parameters => '{"needed": {"type": "int", "required": true}}'));
like(refusal("SELECT backfill_replace($id)"), qr/22004/, 'a parameter that has no value');
sql(define(scope => 'n = 0'), 'CREATE ROLE bob LOGIN');
is(state_of('bob', "SELECT backfill_replace($id)"), '42704', 'a run of somebody else');
like(refusal('SELECT backfill_replace(4711)'), qr/42704: backfill run 4711 does not exist/, 'no run');
is(value($id, 'status, statement'), "paused|$one", 'none of that has changed anything');
sql("SELECT backfill_stop($id)", "SELECT backfill_drop('fill')");
like(refusal("SELECT backfill_replace($id)"), qr/42704: backfill definition "fill" does not exist/, 'no definition');

# while what is run once is at work
query_ok($node, q{BEGIN; SELECT pg_advisory_xact_lock(4711); PREPARE TRANSACTION 'gate'});
foreach my $stage ('prepare', 'finish')
{
	$id = start($stage => 'SELECT pg_advisory_xact_lock(4711)', settings => ', "lock_timeout": 0');
	ok(wait_for($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"), "$stage is at work");
	sql(define());
	like(refusal("SELECT backfill_replace($id)"), $stage eq 'prepare' ? qr/55000: .*run $id, which is preparing/ : qr/55000: .*run $id, which is finishing/, 'it is not taken away');
	sql("SELECT backfill_stop($id, true)");
	ok(wait_for_status($node, $id, 'stopped', through_end => 1), 'stopped');
	is(replace($id), "run $id of fill on t: goes on with another $stage", 'it is');
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'the run completes without');
	check_exactly_once($node, $id, 't', ROWS, 'exactly once');
}
query_ok($node, q{ROLLBACK PREPARED 'gate'});

# ---------------------------------------------------------------------------
note 'hooks';

sql('CREATE TABLE called (what text)', q{CREATE FUNCTION note_hook(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO called VALUES (coalesce(e.previous_status, 'none') || ' ' || e.status); END $$}, map { "SELECT backfill_on('before run $_', 'note_hook', 'fill')" } 'enqueued', 'running');
sql("INSERT INTO behave VALUES (1500, 'gate')");
$id = start(statement => $one);
ok(at_gate($id, 2), 'a batch is in hand');
sql(define(statement => $two));
replace($id);
sql('DELETE FROM behave');
ok(wait_for_status($node, $id, 'completed'), 'a run with hooks goes on, too');
is(sql("SELECT string_agg(what, ', ' ORDER BY ctid) FROM called"), 'pending enqueued, enqueued running, running enqueued, enqueued running', 'they are called');
check_exactly_once($node, $id, 't', ROWS, 'exactly once');
check_versions($id, 'each batch by its version');

$node->stop;
done_testing();
