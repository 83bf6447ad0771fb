# Runs that wait for other runs, runs that follow others, and a pause that
# follows the duration of the batches.

use strict;
use warnings;

use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('main');

sub sql { return query_ok($node, $_[0]); }
sub value { return run_value($node, @_); }
sub refusal { return sqlstate($node, $_[0]); }

create_target($node, $_, 2000) foreach qw(one two three);
define_increment($node, $_, '{"batch_size": 500, "target_batch_time": 0, "sleep": 0}') foreach qw(one two three);
sql(q{SELECT backfill_define('slow', 'one', 'UPDATE batch SET n = n + 1',
	settings => '{"batch_size": 100, "target_batch_time": 0, "sleep": "1 h"}')});

# ---------------------------------------------------------------------------
note 'after';

my $parent = sql(q{SELECT backfill_start('slow')});
my $child = sql(qq{SELECT backfill_start('two', after => ARRAY[$parent])});
my $grandchild = sql(qq{SELECT backfill_start('three', after => ARRAY[$parent, $child])});

is(value($child, 'status'), 'pending', 'a run that is to wait is pending');
ok(wait_for($node, "SELECT wait_reason = 'waits for run $parent, which is running' FROM backfill_runs WHERE id = $child"),
	'and says what it waits for');
like(refusal("SELECT backfill_delete($parent)"), qr/^55006/, 'a run that goes on cannot be deleted');
sql("SELECT backfill_stop($parent, true)");
wait_for_status($node, $parent, 'stopped');
ok(wait_for($node, "SELECT wait_reason = 'waits for run $parent, which is stopped: resume that run, or stop this one' FROM backfill_runs WHERE id = $child"),
	'it stays pending when the other is stopped, and says so');
like(refusal("SELECT backfill_delete($parent)"), qr/^2BP01/, 'a run that others wait for cannot be deleted');
ok(wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'backfill %' AND backend_type <> 'backfill launcher'"),
	'nobody is connected meanwhile');
sql("SELECT backfill_alter($parent, '{\"sleep\": 0}'), backfill_resume($parent)");
wait_for_status($node, $grandchild, 'completed');
is(sql("SELECT string_agg(status, ' ' ORDER BY id) FROM backfill_runs"), 'completed completed completed',
	'the parent, resumed, brings the others back to life');
is(sql("SELECT bool_and(later.started_at >= earlier.finished_at)
		  FROM backfill_runs earlier JOIN backfill_runs later ON later.id = earlier.id + 1"), 't',
	'each began when the one before was completed');
check_exactly_once($node, $parent, 'one', 2000, 'the parent did all of its work');
check_exactly_once($node, $grandchild, 'three', 2000, 'the grandchild too');

# on one table, after one another, without share_target
sql('UPDATE one SET n = 0');
my $first = sql(q{SELECT backfill_start('slow')});
my $second = sql(qq{SELECT backfill_start('one', after => ARRAY[$first])});
is(value($second, 'status'), 'pending', 'a run may wait for one on its own table');
sql("SELECT backfill_stop($first, true)");
wait_for_status($node, $first, 'stopped');
sql("SELECT backfill_alter($first, '{\"sleep\": 0}'), backfill_resume($first)");
wait_for_status($node, $second, 'completed');
is(sql('SELECT count(*) FROM one WHERE n <> 2'), 0, 'which is resumed beside it, and both did all of it');

# a crash in between
sql('UPDATE two SET n = 0');
$first = sql(q{SELECT backfill_start('slow')});
$second = sql(qq{SELECT backfill_start('two', after => ARRAY[$first])});
ok(wait_for($node, "SELECT batches > 0 FROM backfill_runs WHERE id = $first"), 'the parent is at work');
kill_server($node);
$node->start;
is(value($second, 'status'), 'pending', 'the server is killed: the run waits on');
sql("SELECT backfill_alter($first, '{\"sleep\": 0}')");
wait_for_status($node, $second, 'completed');
check_exactly_once($node, $second, 'two', 2000, 'and does all of its work');

# paused, stopped and resumed while it waits
$first = sql(q{SELECT backfill_start('slow', settings => '{"share_target": true}')});
$second = sql(qq{SELECT backfill_start('two', after => ARRAY[$first])});
foreach my $how (qw(pause stop))
{
	sql("SELECT backfill_$how($second)");
	sql("SELECT backfill_resume($second)");
	is(value($second, 'status'), 'pending', "backfill_$how and backfill_resume: it waits again");
}
sql("SELECT backfill_stop($second)");

like(refusal("SELECT backfill_start('three', after => ARRAY[999999])"), qr/^42704/, 'a run that is not there');
like(refusal("SELECT backfill_start('three', after => ARRAY[NULL::bigint])"), qr/^22004/, 'null');
sql("CREATE ROLE stranger LOGIN; GRANT SELECT ON three TO stranger");
sql("SET ROLE stranger; SELECT backfill_define('strange', 'three', 'SELECT FROM batch')");
like(refusal("SET ROLE stranger; SELECT backfill_start('strange', after => ARRAY[$first])"), qr/^42704/,
	"a stranger cannot wait for somebody's run");
sql("SELECT backfill_stop($first, true)");
wait_for_status($node, $first, 'stopped');

# ---------------------------------------------------------------------------
note 'followers';

sql('CREATE TABLE seen (who text, k int, run_id bigint, since timestamptz)');
sql(q{SELECT backfill_define('told', 'two', 'INSERT INTO seen SELECT DISTINCT run.name, params.k, params.parent, params.since FROM batch',
	parameters => '{"k": "int", "parent": "bigint", "since": "timestamptz"}')});
sql(q{SELECT backfill_define('teller', 'one', 'UPDATE batch SET n = n + 1', parameters => '{"k": "int"}',
	followers => '[{"name": "told", "parameters": {"k": {"from": "params.k"}, "parent": {"from": "run.id"}, "since": {"from": "run.started_at"}},
				 "settings": {"batch_size": 10000, "target_batch_time": 0}},
				{"name": "missing"}, {"name": "three"}]')});
my $teller = sql(q{SELECT backfill_start('teller', '{"k": 7}')});
wait_for_status($node, $teller, 'completed');
ok(wait_for($node, "SELECT count(*) = 2 FROM backfill_runs WHERE id > $teller AND status = 'completed'"), 'what follows is started and completed');
is(sql("SELECT who, k, run_id = $teller, since = (SELECT started_at FROM backfill_runs WHERE id = $teller) FROM seen"),
	'told|7|t|t', 'with the parameters mapped');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $teller AND kind = 'followers' AND sqlstate IS NULL"), 2, 'each is an event');
is(sql("SELECT sqlstate, reason FROM backfill_events WHERE run_id = $teller AND kind = 'followers' AND sqlstate IS NOT NULL"),
	'42704|"missing" could not be started: backfill definition "missing" does not exist', 'so is what cannot be started');
is(value($teller, 'status'), 'completed', 'which does not undo the run');
is(sql("SELECT string_agg(DISTINCT role, ',') FROM backfill_events WHERE reason = 'follows run $teller'"), sql('SELECT current_user'),
	'they are started by the owner of the run');

foreach my $bad (
	[ 'not an array', '{"name": "told"}' ],
	[ 'no name', '[{"parameters": {}}]' ],
	[ 'an unknown property', '[{"name": "told", "arguments": {}}]' ],
	[ 'a bad setting', '[{"name": "told", "settings": {"batch_size": 0}}]' ],
	[ 'itself', '[{"name": "loop"}]' ])
{
	like(refusal(qq{SELECT backfill_define('loop', 'one', 'DELETE FROM batch', followers => '$bad->[1]')}), qr/^22023/, "followers: $bad->[0]");
}
like(refusal(q{SELECT backfill_define('told', 'two', 'DELETE FROM batch', followers => '[{"name": "teller"}]')}), qr/^22023/,
	'followers: a way back over another definition');

# ---------------------------------------------------------------------------
note 'nice';

my $nice = sql(q{SELECT backfill_define('nice', 'three', 'UPDATE batch SET n = n + 1 FROM pg_sleep(0.1)',
		settings => '{"batch_size": 400, "target_batch_time": 0, "sleep": 0, "nice": 2}');
	SELECT backfill_start('nice')});
$nice =~ s/\s//g;
wait_for_status($node, $nice, 'completed');
is(sql("SELECT bool_and(pause >= 2 * duration) FROM (
	SELECT b.started_at - lag(b.finished_at) OVER w AS pause, lag(b.duration) OVER w AS duration
	  FROM backfill_batches b WHERE run_id = $nice WINDOW w AS (ORDER BY number)) p WHERE pause IS NOT NULL"), 't',
	'each pause is at least twice as long as the batch before it');
my $hour = sql(q{SELECT backfill_start('nice', settings => '{"nice": 1000}')});
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $hour AND state = 'sleeping'"), 'a long pause');
sql(qq{SELECT backfill_alter($hour, '{"nice": 0}')});
wait_for_status($node, $hour, 'completed');
like(refusal(q{SELECT backfill_start('nice', settings => '{"nice": -1}')}), qr/^22023/, 'below the limit');

done_testing();
