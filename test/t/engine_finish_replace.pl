# "finish" of a run is replaced: it is checked, begins at its first statement, and never
# while a statement of the old one is at work.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Finish;
use BackfillTest::OneNode;
use Test::More;

finish_node();
create_steps();

my $gate = session($node);
my $at_gate = "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
sub steps { return sql("SELECT coalesce(string_agg(step::text, ',' ORDER BY ctid), '') FROM steps"); }
my $id;

# What backfill_alter says of the run.
sub alter { return sql("SELECT backfill_alter($id, finish => \$f\$$_[0]\$f\$)"); }

# ---------------------------------------------------------------------------
note 'a run that has failed';

$id = start('t', finish => 'INSERT INTO steps VALUES (1); SELECT 1 / 0', scope => 'n = 0');
ok(wait_for_status($node, $id, 'failed'), 'a statement of finish fails');
is(steps(), '1', 'the first one was done');
my $before = value($id, 'finish');
like(refusal("SELECT backfill_alter($id, finish => 'INSERT INTO steps VALUES (2')"), qr/42601: syntax error/, 'what cannot be parsed is refused');
like(refusal("SELECT backfill_alter($id, finish => 'INSERT INTO steps VALUES (2); COMMIT')"), qr/0A000: "finish" of a backfill cannot control transactions/, 'what controls transactions, too');
like(refusal("SELECT backfill_alter($id, finish => repeat('x', 1048577))"), qr/54000/, 'it has the limit of a definition');
like(refusal("SELECT backfill_alter($id)"), qr/22004: neither settings nor "finish"/, 'something is to be changed');
is(value($id, 'finish'), $before, 'nothing was');
my ($rc, $out, $err) = query($node, "SELECT backfill_alter($id, finish => 'SELECT nothing FROM steps')");
like($err, qr/WARNING:  statement 1 of "finish" would fail now: column "nothing" does not exist/, 'what would fail now is said');
is(alter('INSERT INTO steps VALUES (2); INSERT INTO steps VALUES (3)'), "run $id of t on t: finish is replaced, and begins at its first statement",
	'it is replaced');
is(sql("SELECT finish_step FROM backfill.run WHERE id = $id"), 0, 'none of it is done');
is(value($id, 'status'), 'failed', 'the run is as it was');
like(events($id, 'finish'), qr/^statement 1 is done, replaced by backfill_alter, replaced by backfill_alter$/, 'each time is an event');
is(sql("SELECT DISTINCT role FROM backfill_events WHERE run_id = $id AND reason LIKE 'replaced%'"), sql('SELECT current_user'), 'which has the role');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
is(steps(), '1,2,3', 'with all of the new one');
like(refusal("SELECT backfill_alter($id, finish => 'SELECT 1')"), qr/55000: cannot change "finish" of run $id, which is "completed"/, 'of a completed run it is not replaced');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND attempt > 1"), 0, 'no batch ran again');

# ---------------------------------------------------------------------------
note 'a run that has not come to it';

sql('TRUNCATE steps', 'UPDATE t SET n = 0');
$id = start('t', finish => 'SELECT 1 / 0', settings => '"sleep": "1 hour"');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'"), 'a run sleeps');
is(sql(qq{SELECT backfill_alter('t', '{"sleep": 0}', finish => 'INSERT INTO steps VALUES (4)')}),
	"run $id of t on t: settings changed: sleep 1 hour -> 0; finish is replaced, and begins at its first statement", 'it is replaced, with settings');
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(steps(), '4', 'with the new one');
$id = sql(q{SELECT backfill_start('t', start_at => now() + interval '1 day')});
is(alter(' ; -- nothing'), "run $id of t on t: finish is left out", 'a text without a statement leaves it out');
is(value($id, 'finish IS NULL'), 't', 'there is none');
sql("SELECT backfill_pause($id)");
is(alter('INSERT INTO steps VALUES (5)'), "run $id of t on t: finish is replaced, and begins at its first statement", 'a paused run');
sql("SELECT backfill_stop($id)");
is(alter('INSERT INTO steps VALUES (6)'), "run $id of t on t: finish is replaced, and begins at its first statement", 'a stopped run');
sql("UPDATE backfill.run SET start_at = NULL WHERE id = $id", "SELECT backfill_alter($id, '{\"sleep\": 0}'), backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed'), 'completes');
is(steps(), '4,6', 'with what it was given last');

# ---------------------------------------------------------------------------
note 'a run that is finishing';

sql('TRUNCATE steps');
$gate->query('SELECT pg_advisory_lock(4711)');
$id = start('t', scope => 'false', finish => 'INSERT INTO steps VALUES (1); SELECT pg_advisory_xact_lock(4711); INSERT INTO steps VALUES (2)');
ok(wait_for($node, $at_gate), 'the second statement is at work');
like(refusal("SELECT backfill_alter($id, finish => 'INSERT INTO steps VALUES (7)')"), qr/55000: cannot replace "finish" of run $id, which is finishing\n.*HINT:  Stop the run first: SELECT backfill_stop\($id\)/s, 'it is not replaced');
is(sql("SELECT backfill_alter($id, '{\"sleep\": 0}') ~ 'settings'"), 't', 'settings can be changed');
is(sql("SELECT backfill_stop($id)"), "run $id of t on t: stops after the statement in hand", 'it is to stop');
like(refusal("SELECT backfill_alter($id, finish => 'INSERT INTO steps VALUES (7)')"), qr/55000: cannot replace "finish" of run $id, which is finishing/, 'nor is it while the statement goes on');
$gate->query('SELECT pg_advisory_unlock(4711)');
ok(wait_for_status($node, $id, 'stopped'), 'the run stops');
is(alter('INSERT INTO steps VALUES (8); INSERT INTO steps VALUES (9)'), "run $id of t on t: finish is replaced, and begins at its first statement", 'then it is');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
is(steps(), '1,8,9', 'with all of the new one, and nothing more of the old');

# As the owner, under the path of the definition.
create_mallory();
sql('CREATE TABLE den.t (id int PRIMARY KEY); ALTER TABLE den.t OWNER TO mallory');
$id = start('den.t', role => 'mallory', statement => 'SELECT FROM batch', finish => 'SELECT 1 / 0');
ok(wait_for_status($node, $id, 'failed'), 'a run of another role');
$id = sql("SET ROLE mallory; SELECT backfill_start('den.t', start_at => now() + interval '1 day')");
($rc, $out, $err) = query($node, "SELECT backfill_alter($id, finish => 'DELETE FROM backfill.run')");
like($err, qr/WARNING:  statement 1 of "finish" would fail now: permission denied for schema backfill/, 'it is looked at with the rights of the owner, whoever calls');
is(state_of('mallory', "SELECT backfill_alter($id, finish => 'SELECT 1')"), '00000', 'who may replace it');

$gate->quit;
$node->stop;
done_testing();
