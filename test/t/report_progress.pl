# pg_stat_progress_backfill: a row for each run that has workers, its phases from the
# beginning to the end, and who sees it.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('progress');
sub sql { return query_ok($node, $_[0]); }

my $view = 'FROM pg_stat_progress_backfill';
my %types = map { split /\|/ } split(/\n/, sql(q{
	SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
	 WHERE a.attrelid IN ('pg_stat_progress_create_index'::regclass) AND a.attnum > 0}));
foreach my $column (qw(pid datid datname relid command phase tuples_total tuples_done))
{
	is(sql("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'pg_stat_progress_backfill'::regclass AND attname = '$column'"),
		$types{$column}, "the column $column is of the type that the server's views have");
}
is(sql("SELECT count(*) $view"), '0', 'without a run there is no row');

create_target($node, 't', 200);
create_step($node);
sql(q{INSERT INTO behave VALUES (100, 'gate'), (250, 'gate')});
define_increment($node, 't', '{"batch_size": 20, "target_batch_time": 0, "workers": 2, "on_error": "skip", "lock_timeout": 0}',
	statement => 'UPDATE batch SET n = n + step(id)');

my $writer = session($node);
$writer->query('BEGIN; UPDATE t SET f = 1 WHERE id = 2000');
my $id = start_run($node, 't');
ok(wait_for($node, "SELECT phase $view", expected => 'waiting for writers'), 'a run waits for who writes when it begins');
is(sql("SELECT tuples_total, tuples_done $view"), '0|0', 'and knows nothing of its rows');
$writer->query('COMMIT');
$writer->quit;

ok(wait_for($node, "SELECT count(*) = 2 FROM backfill_workers WHERE run_id = $id AND state = 'running'"), 'two workers have a batch');
is(sql("SELECT count(*), count(DISTINCT run_id) $view"), '1|1', 'they are one row');
is(sql("SELECT v.pid = (SELECT pid FROM backfill_workers ORDER BY worker LIMIT 1), v.datid = d.oid, v.datname = d.datname, v.relid::regclass, v.command,
		v.phase, v.tuples_total, v.tuples_done, v.tuples_skipped, v.batches_done, v.workers, v.run_id, v.name
	$view v JOIN pg_database d ON d.datname = current_database()"), "t|t|t|t|BACKFILL|processing batches|200|0|0|0|2|$id|t",
	'with the first of them');
is(sql("SELECT count(*) $view v JOIN pg_stat_activity a USING (pid, datid) WHERE a.backend_type = 'backfill worker'"), '1', 'who is known to pg_stat_activity');
sql(q{DELETE FROM behave WHERE id = 100});
ok(wait_for($node, "SELECT tuples_done >= 100 AND batches_done >= 5 $view"), 'it moves');
is(sql("SELECT bool_and(tuples_done <= tuples_total) $view"), 't', 'within its total');

# who sees it
sql('CREATE ROLE stranger; CREATE ROLE watcher IN ROLE pg_monitor');
is(sql("SET ROLE stranger; SELECT count(*) $view"), '0', 'a stranger does not see it');
is(sql("SET ROLE watcher; SELECT count(*) $view"), '1', 'who monitors does');
is(sql("SET ROLE watcher; SELECT tuples_total $view"), '200', 'with its numbers');

sql(q{UPDATE behave SET what = 'fail' WHERE id = 250});
ok(wait_for_status($node, $id, 'completed'), 'it completes');
is(sql("SELECT rows_scanned, errors FROM backfill_runs WHERE id = $id"), '199|1', 'with a row left out');
ok(wait_for($node, "SELECT count(*) = 0 $view"), 'and has no row any more');

# held
sql(q{SELECT backfill_define('held', 't', 'UPDATE batch SET f = f + 1', settings => '{"limit": 20, "probe": "SELECT $$not now$$::text"}')});
my $held = start_run($node, 'held');
ok(wait_for($node, "SELECT phase, tuples_done $view", expected => 'throttled|0'), 'a run that is held is throttled');
sql(qq{SELECT backfill_alter($held, '{"probe": null}')});
ok(wait_for_status($node, $held, 'completed'), 'and goes on');

# the last step
sql(q{SELECT backfill_define('last', 't', 'UPDATE batch SET f = f + 1', settings => '{"limit": 20}', finish => 'SELECT pg_advisory_lock(77)')});
my $gate = session($node);
$gate->query('SELECT pg_advisory_lock(77)');
my $last = start_run($node, 'last');
ok(wait_for($node, "SELECT phase, tuples_done, tuples_total $view", expected => 'finishing|20|20'), 'the last step is a phase');
$gate->query('SELECT pg_advisory_unlock(77)');
$gate->quit;
ok(wait_for_status($node, $last, 'completed'), 'and ends');

$node->stop;
done_testing();
