# Runs in several databases, and what becomes of them when databases, tables,
# roles, the extension or the server go away or change beneath them.

use strict;
use warnings;
use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# Three workers in all; six processes: two launchers, and four for us.
my $node = make_node('databases', conf => <<'EOC');
backfill.max_workers = 3
max_worker_processes = 16
max_logical_replication_workers = 0
EOC

sub sql { my ($sql, $db) = @_; return query_ok($node, $sql, db => $db || 'postgres'); }
sub value { my ($id, $what, $db) = @_; return run_value($node, $id, $what, db => $db || 'postgres'); }

# Wait for a status; say what stands in the way otherwise.
sub becomes { my ($id, $status, $db) = @_; return wait_for_status($node, $id, $status, db => $db || 'postgres'); }
sub comes_true { my ($sql, $db) = @_; return wait_for($node, $sql, db => $db || 'postgres'); }

# The server log since the last question.
my $log_position = 0;
sub log_since
{
	my $log = slurp_file($node->logfile, $log_position);
	$log_position = -s $node->logfile;
	return $log;
}

# Processes of ours in a database.
sub ours
{
	my ($db) = @_;
	return "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '$db' AND backend_type LIKE 'backfill %'";
}

# A gate that batches wait at, as an advisory lock of a session.
my %gates;
sub close_gate
{
	my ($db) = @_;
	$gates{$db} ||= session($node, db => $db);
	$gates{$db}->query('SELECT pg_advisory_lock(1)');
	return;
}
sub open_gate
{
	my ($db) = @_;
	$gates{$db}->query('SELECT pg_advisory_unlock(1)');
	return;
}
sub forget_gate
{
	my ($db) = @_;
	(delete $gates{$db})->quit if $gates{$db};
	return;
}

# A table and a definition whose batches go through the gate, if it is open.
my $gated = 'UPDATE batch SET n = n + 1 FROM (SELECT pg_advisory_xact_lock_shared(1)) g';
my $gated_settings = '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off", "yield_after": "off"}';
sub gated
{
	my ($db, $table, $rows) = @_;
	create_target($node, $table, $rows, db => $db);
	define_increment($node, $table, $gated_settings, statement => $gated, db => $db);
	return;
}
my $in_batch = q{SELECT count(*) FILTER (WHERE state = 'running') = 1 FROM backfill_workers};

for my $db ('one', 'two')
{
	sql("CREATE DATABASE $db");
	sql('CREATE EXTENSION backfill', $db);
	gated($db, 't', 50);
	gated($db, 'u', 50);
}
ok(comes_true(ours('one')), 'a database with the extension and no run has no connection of ours');

# ---------------------------------------------------------------------------
note 'several databases, several runs';

close_gate($_) for ('one', 'two');
my %id = map { $_ => start_run($node, 't', db => $_) } ('one', 'two');
ok(comes_true($in_batch, $_), "a batch is at work in database $_") for ('one', 'two');
is(sql(q{SELECT string_agg(DISTINCT datname, ',' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'}),
	'one,two', 'each of them has a scheduler');
is(sql('SELECT count(*) FROM backfill_workers', 'one'), '1', 'backfill_workers shows those of its database');

my $third = start_run($node, 'u', db => 'one');
ok(comes_true(q{SELECT count(*) = 2 FROM backfill_workers WHERE state = 'running'}, 'one'),
	'two runs at the same time in one database');

# All three workers are busy.
my $fourth = start_run($node, 'u', db => 'two');
ok(comes_true("SELECT wait_reason ~ 'all 3 of .backfill.max_workers.' FROM backfill_runs WHERE id = $fourth", 'two'),
	'when all of backfill.max_workers are at work the run says so');
is(value($fourth, 'status, workers', 'two'), 'enqueued|0', 'and stays enqueued');
open_gate('one');
ok(becomes($id{one}, 'completed', 'one'), 'a run in another database ends');
ok(comes_true("SELECT status = 'running' AND wait_reason IS NULL FROM backfill_runs WHERE id = $fourth", 'two'),
	'the slot it frees is taken, and the reason to wait is gone');
open_gate('two');
ok(becomes($third, 'completed', 'one'), 'all complete') && ok(becomes($_, 'completed', 'two'), 'all complete')
  for ($id{two}, $fourth);
check_exactly_once($node, $id{$_}, 't', 50, "exactly once in database $_", db => $_) for ('one', 'two');
check_exactly_once($node, $fourth, 'u', 50, 'exactly once for the run that had to wait', db => 'two');
ok(comes_true(ours($_)), "nobody of us stays in database $_") for ('one', 'two');

# ---------------------------------------------------------------------------
note 'out of worker processes';

# Two processes: one is the launcher, one the scheduler; no worker fits.
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
%gates = ();
log_since();
sql('UPDATE t SET n = 0', 'one');
$id{one} = start_run($node, 't', db => 'one');
ok(comes_true("SELECT wait_reason ~ 'max_worker_processes' FROM backfill_runs WHERE id = $id{one}", 'one'),
	'when all of max_worker_processes are in use the run says so');
is(value($id{one}, 'status', 'one'), 'enqueued', 'and stays enqueued');
usleep(2_500_000);				# several rounds of the scheduler
is(value($id{one}, 'status', 'one'), 'enqueued', 'it still is after some rounds');
my $log = log_since();
is(scalar(() = $log =~ /could not start a worker: out of background worker slots/g), 1, 'the log says so once');
like($log, qr/HINT:.*max_worker_processes/, 'with a hint');
sql('UPDATE t SET n = 0', 'two');
$id{two} = start_run($node, 't', db => 'two');
usleep(4_500_000);				# two more tries of the launcher
is(value($id{two}, 'status', 'two'), 'enqueued', 'a run whose scheduler finds no process stays enqueued');
$log = log_since();
cmp_ok(scalar(() = $log =~ /could not start a scheduler: out of background worker slots/g), '<=', 1,
	'that is not said again with every try');
is(scalar(() = $log =~ /could not start a worker/g), 0, 'nor is the other');
sql("SELECT backfill_stop($id{one})", 'one');
is(value($id{one}, 'status', 'one'), 'stopped', 'a run that waits for a worker is stopped at once');
ok(comes_true(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'two' AND backend_type = 'backfill scheduler'}),
	'the process that is free then goes to the other database');
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
$node->restart;
ok(becomes($id{two}, 'completed', 'two'), 'with enough processes it goes on by itself');
sql("SELECT backfill_resume($id{one})", 'one');
ok(becomes($id{one}, 'completed', 'one'), 'and so does the one that was stopped');

# ---------------------------------------------------------------------------
note 'DROP EXTENSION';

sql('UPDATE t SET n = 0', 'one');
close_gate('one');
$id{one} = start_run($node, 't', db => 'one');
ok(comes_true($in_batch, 'one'), 'a batch is at work');
my $dropper = session($node, db => 'one');
$dropper->query('BEGIN');
$dropper->send('DROP EXTENSION backfill');
ok(comes_true('SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = ' . $dropper->pid),
	'DROP EXTENSION waits for the batch in hand');
open_gate('one');
is($dropper->query('SELECT sum(n) FROM t'), '10', 'it waits for no other batch');
$dropper->query('ROLLBACK');
ok(becomes($id{one}, 'completed', 'one'), 'rolled back, the run goes on');
check_exactly_once($node, $id{one}, 't', 50, 'exactly once over a DROP EXTENSION that was rolled back', db => 'one');

sql('UPDATE t SET n = 0', 'one');
close_gate('one');
$id{one} = start_run($node, 't', db => 'one');
ok(comes_true($in_batch, 'one'), 'a batch is at work');
log_since();
$dropper->send('DROP EXTENSION backfill');
ok(comes_true('SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = ' . $dropper->pid),
	'DROP EXTENSION waits for the batch in hand');
open_gate('one');
is($dropper->query('SELECT sum(n) FROM t'), '10', 'it commits after the batch in hand');
$dropper->quit;
ok(comes_true(ours('one')), 'workers and scheduler leave');
unlike(log_since(), qr/(ERROR|FATAL|PANIC):/, 'quietly');
sql('CREATE EXTENSION backfill', 'one');
define_increment($node, 't', $gated_settings, statement => $gated, db => 'one');
sql('UPDATE t SET n = 0', 'one');
$id{one} = start_run($node, 't', db => 'one');
ok(becomes($id{one}, 'completed', 'one'), 'the extension created again works');
check_exactly_once($node, $id{one}, 't', 50, 'exactly once in the new extension', db => 'one');
forget_gate('one');

# A CREATE EXTENSION that is rolled back leaves nothing that looks for it.
sql('CREATE DATABASE three');
sql('BEGIN; CREATE EXTENSION backfill; ROLLBACK', 'three');
ok(comes_true(ours('three')), 'a CREATE EXTENSION that is rolled back leaves nobody');
sql('DROP DATABASE three');

# ---------------------------------------------------------------------------
note 'DROP DATABASE, TEMPLATE, RENAME';

ok(comes_true(ours('one')), 'an idle database has no connection of ours');
sql('CREATE DATABASE idle TEMPLATE one');
is(sqlstate($node, 'DROP DATABASE idle'), '00000', 'so it is dropped like any other');

# Runs of every kind in a database that is copied.
sql('UPDATE t SET n = 0', 'one');
sql(q{SELECT backfill_define('slow', 't', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 hour", "share_target": true}',
	parameters => '{"number": "int"}')}, 'one');
my %copy = (
	pending => sql('SELECT backfill_start($$slow$$, ' . another() . q{, settings => '{"sleep": 0}', start_at => now() + interval '1 day')}, 'one'),
	paused => sql('SELECT backfill_start($$slow$$, ' . another() . ')', 'one'),
	stopped => sql('SELECT backfill_start($$slow$$, ' . another() . ')', 'one'));
sql("SELECT backfill_pause($copy{paused}), backfill_stop($copy{stopped})", 'one');
ok(becomes($copy{$_}, $_, 'one'), "a run that is $_") for ('paused', 'stopped');
ok(comes_true(ours('one')), 'a database without active runs can be a template');
# and one that is at work, as a copy of the data directory or of a moment shows it
sql('CREATE DATABASE copy TEMPLATE one');
sql(qq{UPDATE backfill.run SET start_at = now() - interval '1 day' WHERE id = $copy{pending};
	   INSERT INTO backfill.run (name, status, owner, started_by, database, system_identifier, target,
			statement, parameters, parameter_types, settings, search_path)
	   SELECT name, 'running', owner, started_by, database, system_identifier, target, statement,
			'{"number": 0}', parameter_types, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}', search_path FROM backfill.run WHERE id = $copy{paused}}, 'copy');
$copy{running} = sql('SELECT max(id) FROM backfill_runs', 'copy');
sql(q{SELECT backfill_define('new', 't', 'UPDATE batch SET n = n', settings => '{"sleep": 0}')}, 'copy');
my $new = start_run($node, 'new', db => 'copy');
ok(becomes($new, 'completed', 'copy'), 'a new run in the copy works');
$node->restart;
ok(comes_true(ours('copy')), 'after a restart nobody works in the copy');
is(sql('SELECT sum(n) FROM t', 'copy'), sql('SELECT sum(n) FROM t', 'one'), 'no run of the original went on in the copy');
for my $status ('pending', 'paused', 'running')
{
	like(value($copy{$status}, 'status, wait_reason', 'copy'),
		qr/^$status\|belongs to another database or server: backfill_resume would adopt it$/,
		"the copy of a run that is $status says why it does not run");
}
unlike(value($copy{pending}, 'coalesce(wait_reason, $$$$)', 'one'), qr/another database/, 'the original does not');

sql('UPDATE t SET n = 0', 'copy');
sql("SELECT backfill_resume($copy{running})", 'copy');
ok(becomes($copy{running}, 'completed', 'copy'), 'backfill_resume adopts a run that was at work');
is(sql('SELECT sum(n) FROM t', 'copy'), '50', 'it runs in the copy');
is(sql('SELECT sum(n) FROM t', 'one'), sql(q{SELECT coalesce(sum(rows_affected), 0)::text FROM backfill_runs
	WHERE name = 'slow'}, 'one'), 'and not in the original');
for my $status ('pending', 'paused', 'stopped')
{
	sql(qq{SELECT backfill_resume($copy{$status}); SELECT backfill_alter($copy{$status}, '{"sleep": 0}')}, 'copy');
	ok(becomes($copy{$status}, 'completed', 'copy'), "backfill_resume adopts one that was $status");
}
sql("SELECT backfill_stop($copy{pending}), backfill_stop($copy{paused}), backfill_delete($copy{stopped})", 'one');
is(value($copy{pending}, 'status', 'one'), 'stopped', 'the originals are controlled on their own');
is(value($copy{pending}, 'status', 'copy'), 'completed', 'and the copies on theirs');

# What is in use is not dropped or renamed, as usual, and the run is unharmed.
close_gate('two');
sql('UPDATE t SET n = 0', 'two');
$id{two} = start_run($node, 't', db => 'two');
ok(comes_true($in_batch, 'two'), 'a batch is at work');
is(sqlstate($node, 'DROP DATABASE two'), '55006', 'DROP DATABASE is refused during a run');
is(sqlstate($node, 'ALTER DATABASE two RENAME TO deux'), '55006', 'so is ALTER DATABASE RENAME');
is(sqlstate($node, 'CREATE DATABASE copy2 TEMPLATE two'), '55006', 'so is CREATE DATABASE ... TEMPLATE');
open_gate('two');
ok(becomes($id{two}, 'completed', 'two'), 'the run goes on');
check_exactly_once($node, $id{two}, 't', 50, 'exactly once beside them', db => 'two');
forget_gate('two');

ok(comes_true(ours('two')), 'the run is over');
my $scheduled = sql(q{SELECT backfill_start('t', start_at => clock_timestamp() + interval '3 s')}, 'two');
sql('ALTER DATABASE two RENAME TO deux');
ok(becomes($scheduled, 'completed', 'deux'), 'a run that is pending runs in the database that was renamed');
is(sql('SELECT DISTINCT n FROM t', 'deux'), '2', 'and does its work');

close_gate('deux');
start_run($node, 't', db => 'deux');
ok(comes_true($in_batch, 'deux'), 'a batch is at work');
log_since();
is(sqlstate($node, 'DROP DATABASE deux WITH (FORCE)'), '00000', 'DROP DATABASE ... WITH (FORCE) during a run');
(delete $gates{deux})->quit;
ok(comes_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('backfill worker', 'backfill scheduler')}),
	'the processes of its run are gone');
sql('UPDATE t SET n = 0', 'one');
$id{one} = start_run($node, 't', db => 'one');
ok(becomes($id{one}, 'completed', 'one'), 'another database is looked after as before');
unlike(log_since(), qr/database \d+ does not exist/, 'nobody looks for the database that is gone');

# ---------------------------------------------------------------------------
note 'tables and roles';

# Do something while a batch is at work, and tell how the run ends.
sub during
{
	my ($table, $what, %opts) = @_;
	my $doer = session($node, db => 'one');

	close_gate('one');
	my $id = start_run($node, $opts{name} || $table, db => 'one');
	comes_true($in_batch, 'one') or die "no batch at work for $table";
	$doer->send($what);
	comes_true('SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = ' . $doer->pid
		  . " AND wait_event_type = 'Lock'") or die "$what does not wait"
	  unless $opts{no_wait};
	$doer->query('SELECT 1') if $opts{no_wait};
	open_gate('one');
	my $answer = $doer->query('SELECT 1');
	unlike($answer, qr/ERROR/, "$what succeeds during the run");
	$doer->quit;
	comes_true("SELECT status IN ('completed', 'failed') FROM backfill_runs WHERE id = $id", 'one');
	return $id;
}

for my $table ('dropped', 'added', 'lost', 'typed', 'keyed', 'narrowed', 'reindexed', 'truncated',
	'renamed', 'swapped', 'owned')
{
	gated('one', $table, 30);
}
my $run = during('dropped', 'DROP TABLE dropped');
is(value($run, 'status, sqlstate', 'one'), 'failed|42P01', 'DROP TABLE of the target fails the run');
like(value($run, 'error', 'one'), qr/the target table of the backfill was dropped|relation .* does not exist/,
	'with a message that says so');
is(sqlstate($node, "SELECT backfill_resume($run)", db => 'one'), '00000', 'to resume it is possible');
ok(becomes($run, 'failed', 'one'), 'and fails again');
like(value($run, 'error', 'one'), qr/the target table of the backfill was dropped/, 'with a clear message');
is(sqlstate($node, q{SELECT backfill_start('dropped')}, db => 'one'), '42P01', 'a new run is refused at once');
is(sqlstate($node, q{SELECT backfill_drop('dropped')}, db => 'one'), '00000', 'the definition can be dropped');

$run = during('added', 'ALTER TABLE added ADD COLUMN extra int DEFAULT 5');
is(value($run, 'status, error', 'one'), 'completed|', 'ADD COLUMN during a run is no trouble');
check_exactly_once($node, $run, 'added', 30, 'exactly once over ADD COLUMN', db => 'one');

$run = during('lost', 'ALTER TABLE lost RENAME COLUMN n TO m');
is(value($run, 'status, sqlstate', 'one'), 'failed|42703', 'a column of the statement that goes away fails the run');
is(sql('SELECT sum(m) FROM lost', 'one'), '10', 'after the batch in hand');
sql('ALTER TABLE lost RENAME COLUMN m TO n', 'one');
sql("SELECT backfill_resume($run)", 'one');
ok(becomes($run, 'completed', 'one'), 'with the column back it is resumed');
check_exactly_once($node, $run, 'lost', 30, 'exactly once over that', db => 'one');

$run = during('typed', 'ALTER TABLE typed ALTER COLUMN n TYPE bigint');
is(value($run, 'status, error', 'one'), 'completed|', 'a column that changes its type is no trouble');
check_exactly_once($node, $run, 'typed', 30, 'exactly once over ALTER COLUMN TYPE', db => 'one');

$run = during('keyed', 'ALTER TABLE keyed ALTER COLUMN id TYPE numeric');
is(value($run, 'status, sqlstate', 'one'), 'failed|42804', 'a key that changes its type fails the run');
like(value($run, 'error', 'one'), qr/the key of table .* has changed since the run began/, 'which says so');
sql("SELECT backfill_resume($run)", 'one');
ok(becomes($run, 'failed', 'one'), 'to resume it is no use');
is(sql('SELECT sum(n) FROM keyed', 'one'), '10', 'nothing is processed in the wrong order');

$run = during('narrowed', 'ALTER TABLE narrowed ALTER COLUMN id TYPE integer');
is(value($run, 'status, error', 'one'), 'completed|', 'from one size of integer to another the run goes on');
check_exactly_once($node, $run, 'narrowed', 30, 'exactly once over a key of another size', db => 'one');

$run = during('reindexed', 'REINDEX INDEX CONCURRENTLY reindexed_pkey');
is(value($run, 'status, error', 'one'), 'completed|', 'REINDEX CONCURRENTLY of the key is no trouble');
check_exactly_once($node, $run, 'reindexed', 30, 'exactly once over REINDEX CONCURRENTLY', db => 'one');

$run = during('truncated', 'TRUNCATE truncated');
is(value($run, 'status, error', 'one'), 'completed|', 'TRUNCATE leaves a run nothing to do');
is(value($run, 'rows_affected', 'one'), '10', 'but what it had done');

$run = during('renamed', 'ALTER TABLE renamed RENAME TO other_name');
is(value($run, 'status, error', 'one'), 'completed|', 'a table that is renamed is still the target');
check_exactly_once($node, $run, 'other_name', 30, 'exactly once over RENAME', db => 'one');

$run = during('swapped', 'BEGIN; ALTER TABLE swapped RENAME TO original;
	CREATE TABLE swapped (LIKE original INCLUDING ALL);
	INSERT INTO swapped SELECT id + 5, 0, 0, pad, false FROM original; COMMIT');
is(value($run, 'status, error', 'one'), 'completed|', 'a table in whose place another one comes is still the target');
check_exactly_once($node, $run, 'original', 30, 'exactly once over the swap', db => 'one');
is(sql('SELECT sum(n) FROM swapped', 'one'), '0', 'the other table is left alone');

# A key in another order: what was walked in the old one means nothing in it.
sql(q{CREATE TABLE collated(id text COLLATE "C" PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO collated SELECT chr(64 + i % 2 * 32 + i) FROM generate_series(1, 20) i}, 'one');
define_increment($node, 'collated', $gated_settings, statement => $gated, db => 'one');
my $collation = sql(q{SELECT coalesce(max(collname), 'POSIX') FROM pg_collation WHERE collname = 'en-x-icu'}, 'one');
$run = during('collated', qq{ALTER TABLE collated ALTER COLUMN id TYPE text COLLATE "$collation"});
is(value($run, 'status, sqlstate', 'one'), 'failed|42804', 'a key whose collation changes fails the run');
is(sql('SELECT max(n) FROM collated', 'one'), '1', 'no row was processed twice');

# The owner goes away while its run is paused: nothing keeps the role.
sql('CREATE ROLE shortlived LOGIN; GRANT SELECT, UPDATE ON owned TO shortlived', 'one');
sql(q{SET ROLE shortlived; SELECT backfill_define('theirs', 'owned', 'UPDATE batch SET n = n + 1',
	settings => '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 hour"}')}, 'one');
$run = start_run($node, 'theirs', db => 'one');
ok(comes_true(q{SELECT count(*) = 1 FROM backfill_workers WHERE state = 'sleeping'}, 'one'), 'a run of a role');
sql('REVOKE ALL ON owned FROM shortlived; DROP ROLE shortlived', 'one');
sql(q{SELECT backfill_alter(id, '{"sleep": 0}') FROM backfill_runs WHERE name = 'theirs'}, 'one');
ok(becomes($run, 'failed', 'one'), 'a run whose owner was dropped fails');
isnt(value($run, 'error', 'one'), '', 'and says why: ' . value($run, 'error', 'one'));
is(sqlstate($node, q{SELECT backfill_start('theirs')}, db => 'one'), '42704', 'to start it again is refused');
sql("SELECT backfill_delete($run), backfill_drop('theirs')", 'one');
forget_gate('one');

# ---------------------------------------------------------------------------
note 'shutdown';

for my $mode ('fast', 'immediate')
{
	sql('UPDATE t SET n = 0', 'one');
	close_gate('one');
	$id{one} = start_run($node, 't', db => 'one');
	ok(comes_true($in_batch, 'one'), 'a batch is at work');
	$node->stop($mode);
	(delete $gates{one})->quit;
	log_since();
	$node->start;
	ok(becomes($id{one}, 'completed', 'one'), "after a shutdown, $mode, the run goes on by itself");
	check_exactly_once($node, $id{one}, 't', 50, "exactly once over a shutdown, $mode", db => 'one');
	unlike(log_since(), qr/PANIC|terminated by signal/, 'nothing breaks');
}

$node->stop;
done_testing();
