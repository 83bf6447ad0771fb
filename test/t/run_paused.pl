# A run that is started paused: it is there, and says so, and does nothing until it
# is resumed; then it begins as any other, with its hooks, its time and the runs that
# it waits for.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

use constant ROWS => 200;

one_node('paused');
create_target($node, 't', ROWS);
define_increment($node, 't', '{"batch_size": 50, "target_batch_time": 0, "sleep": 0}');

# ---------------------------------------------------------------------------
note 'a run that does not begin';

my $id = sql(q{SELECT backfill_start('t', paused => true)});
is(value($id, 'status, started_at IS NULL, workers, wait_reason'), 'paused|t|0|was started paused: backfill_resume begins it', 'it is paused and has not begun, and says so');
is(sql("SELECT kind, previous_status IS NULL, status, role, reason FROM backfill_events WHERE run_id = $id"),
	'transition|t|paused|postgres|backfill_start, paused', 'one event says so');
is(sql('SELECT id, status, progress, held_by FROM backfill_active'), "$id|paused|[----------]   0.00 %|was started paused", 'it is among the active runs');
like(refusal(q{SELECT backfill_start('t')}), qr/55006: run $id of backfill "t" is active with the same parameters/, 'and in the way of another');
$node->restart;
is(value($id, 'status'), 'paused', 'a restart does not begin it');
is(sql('SELECT count(*) FROM t WHERE n <> 0'), 0, 'no row was touched');
is(sql("SELECT backfill_resume('t')"), "run $id of t on t: goes on", 'backfill_resume begins it');
ok(wait_for_status($node, $id, 'completed'), 'it completes');
is(sql("SELECT string_agg(status, ' ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = 'transition'"),
	'paused enqueued running completed', 'through every status');
check_exactly_once($node, $id, 't', ROWS, 'exactly once');

sql(q{BEGIN; SELECT backfill_start('t', paused => true); ROLLBACK});
is(sql("SELECT count(*) FROM backfill_runs WHERE id > $id"), 0, 'what is rolled back was never started');
$id = sql(q{SELECT backfill_start('t', paused => NULL)});
ok(wait_for_status($node, $id, 'completed'), 'null is false');
$id = sql(q{SELECT backfill_start('t', paused => true)});
is(sql("SELECT backfill_stop($id)"), "run $id of t on t is stopped", 'one that has not begun is stopped');
is(value($id, 'started_at IS NULL'), 't', 'and never was at work');
sql("SELECT backfill_delete($id)");

# ---------------------------------------------------------------------------
note 'its time, and other runs';

$id = sql(q{SELECT backfill_start('t', start_at => now() + interval '1 day', paused => true)});
is(value($id, 'status'), 'paused', 'also before its time');
is(sql("SELECT backfill_resume($id)"), "run $id of t on t: waits again for its time, or for other runs", 'resumed, it waits for that');
is(value($id, 'status'), 'pending', 'it is pending');
sql("SELECT backfill_stop($id)");
my $first = sql(q{SELECT backfill_start('t', paused => true)});
my $second = sql(qq{SELECT backfill_start('t', after => ARRAY[$first], paused => true)});
sql("SELECT backfill_resume($second)");
is(value($second, 'status'), 'pending', 'it waits for another one, paused likewise');
sql("SELECT backfill_resume($first)");
ok(wait_for_status($node, $second, 'completed'), 'when that is done it begins');
ok(value($second, 'started_at') gt value($first, 'finished_at'), 'and not before');

# ---------------------------------------------------------------------------
note 'hooks';

sql('CREATE TABLE called (what text)', 'CREATE TABLE veto ()', q{
	CREATE FUNCTION note_hook(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO called VALUES (e.status);
		IF e.status = 'pending' AND to_regclass('veto') IS NOT NULL THEN RAISE EXCEPTION 'not today'; END IF;
	END $$}, map { "SELECT backfill_on('before run $_', 'note_hook', 't')" } 'pending', 'paused', 'enqueued');
$id = sql(q{SELECT backfill_start('t', paused => true)});
is(value($id, 'status'), 'paused', 'hooks are no reason to be anything but paused');
is(sql("SELECT backfill_resume($id)"), "run $id of t on t: goes on when its hooks have been called", 'they are called when it is resumed');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook'"), 'one of them prevents the beginning');
ok(settles($id, 'paused'), 'then the run stays paused');
sql('DROP TABLE veto', 'TRUNCATE called', "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed'), 'without that it begins');
is(sql("SELECT string_agg(what, ' ' ORDER BY ctid) FROM called"), 'pending enqueued', 'through every status that a run begins with');

$node->stop;
done_testing();
