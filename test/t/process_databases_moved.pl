# Databases that are dropped, copied and renamed, with runs in them: what is
# not in use nobody of us holds, and a copy leaves the runs of the original
# alone.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Databases;
use Test::More;

# Three workers in all; six processes: two launchers, and four for us.
databases('one', 'two');
my %id;

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

$node->stop;
done_testing();
