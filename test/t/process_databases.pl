# Runs in several databases, more of them than there are workers or processes,
# while the extension or the server goes away and comes back.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Databases;
use Test::More;
use Time::HiRes qw(usleep);

# Three workers in all; six processes: two launchers, and four for us.
databases('one', 'two');
my %id;
ok(comes_true(ours('one')), 'a database with the extension and no run has no connection of ours');

# ---------------------------------------------------------------------------
note 'several databases, several runs';

close_gate($_) for ('one', 'two');
%id = map { $_ => start_run($node, 't', db => $_) } ('one', 'two');
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
