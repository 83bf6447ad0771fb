# Hooks that fail when the change is made, hooks whose function is gone or may
# not be called any more, and hooks that come, go, or control their run while
# it is at work.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Hooks;
use BackfillTest::OneNode;
use Test::More;

hooks_node();
make_v();
my $id;
create_deferred();

# ---------------------------------------------------------------------------
note 'hooks that fail after the change';

fresh();
hook('after batch completed', q{BEGIN PERFORM note('undone', e); RAISE EXCEPTION 'too late' USING ERRCODE = 'HK007'; END});
hook('after batch completed', q{BEGIN PERFORM note('next', e); END});
hook('after run running', q{BEGIN PERFORM 1 / 0; END});
hook('after run completed', q{BEGIN PERFORM note('undone', e); INSERT INTO deferred VALUES (1); END});
$id = start();
ok(settles($id, 'completed'), 'the run is completed');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers"), 'its last worker is gone');
is(errors_of($id), '|||', 'without an error');
is(sql(qq{SELECT sqlstate, reason, role, number FROM backfill_events WHERE run_id = $id AND kind = 'hook' ORDER BY id}),
	join("\n", '22012|hook "after run running": division by zero||',
		(map { qq{HK007|hook "after batch completed": too late||$_} } 1 .. 3), 'HK006|hook "after run completed": deferred||'),
	'the errors are events, with the batch');
is(sql('SELECT label, (e).batch FROM log ORDER BY seq'), "next|1\nnext|2\nnext|3", 'the hooks that come next are called all the same');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

# ---------------------------------------------------------------------------
note 'hooks that are gone';

fresh();
my $function = hook('before run completed', 'BEGIN END');
my $after = hook('after run completed', 'BEGIN END');
sql("DROP FUNCTION $function, $after");
is(sql('SELECT hook FROM backfill_hooks ORDER BY phase'), "app.$after\napp.$function", 'a function that was dropped is shown by its name');
$id = start();
ok(settles($id, 'failed'), 'without it the change is not made');
is(run_value($node, $id, 'sqlstate, error, error_detail'), "42883|a hook of the backfill does not exist: function app.$function|There is no function of that name with an argument of the type backfill_event.  One that was renamed or moved is not followed.",
	'the error tells');
sql("SELECT backfill_off('before run completed', '$function', 'v')");
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'backfill_off takes the name');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND reason = 'hook \"after run completed\": a hook of the backfill does not exist: function app.$after'"),
	'after the change it is an event');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

fresh();
as('bob', 'CREATE FUNCTION bob.plain(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM note(\'bob\', e); END $$');
as('alice', q{SELECT backfill_on('before batch completed', 'bob.plain', 'v')});
as('bob', 'REVOKE EXECUTE ON FUNCTION bob.plain FROM PUBLIC');
$id = start();
ok(settles($id, 'failed'), 'a hook that the owner may no longer call prevents the change');
is(run_value($node, $id, 'sqlstate, error'), '42501|permission denied for function plain', 'the error tells');
is(done(), '0|0', 'nothing was done');
resumes($id, 'a hook that may not be called');
as('bob', 'GRANT EXECUTE ON FUNCTION bob.plain TO PUBLIC');

# ---------------------------------------------------------------------------
note 'hooks that come and go while the run goes on';

fresh();
hook_function('counts', q{BEGIN INSERT INTO log (label, e) VALUES ('counts', e); END});
sql("INSERT INTO behave VALUES (50, 'gate'), (150, 'gate'), (250, 'gate')");
$id = start();
ok(at_gate($id, 1), 'a run without hooks is in its first batch');
as('alice', q{SELECT backfill_on('after batch completed', 'counts', 'v')});
sql('DELETE FROM behave WHERE id = 50');
ok(at_gate($id, 2), 'it is in its second, when its worker has learnt of a hook');
sql('DELETE FROM behave WHERE id = 150');
ok(at_gate($id, 3), 'it is in its third');
ok(wait_for($node, q{SELECT count(*) = 1 FROM log WHERE (e).batch = 2}), 'the hook was called for the second');
as('alice', q{SELECT backfill_off('after batch completed', 'counts', 'v'), backfill_on('before run completed', 'counts', 'v')});
sql('DELETE FROM behave');
ok(settles($id, 'completed'), 'the run is completed');
like(sql(q{SELECT string_agg(concat_ws(' ', (e).object, (e).batch), ',' ORDER BY seq) FROM log}), qr/^(batch 1,)?batch 2,(batch 3,)?run$/,
	'a hook that was added is called from the next batch on at the latest, one that was removed no more');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

# ---------------------------------------------------------------------------
note 'hooks that control runs';

fresh();
make_target('next', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
hook('after run completed', q{BEGIN PERFORM backfill_start('next'); END});
hook('after batch completed', q{BEGIN
	IF e.batch = 1 THEN PERFORM backfill_pause(e.run_id); ELSIF e.batch = 2 THEN PERFORM backfill_stop(e.run_id, true); END IF; END});
$id = start();
ok(settles($id, 'paused'), 'a hook pauses its run');
is(done(), '10|0', 'after its first batch');
sql("SELECT backfill_resume($id)");
ok(settles($id, 'stopped'), 'and stops it immediately');
is(done(), '20|0', 'after its second');
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'resumed it is completed');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');
is(sql(qq{SELECT kind, status, role FROM backfill_events WHERE run_id = $id AND role = 'alice' ORDER BY id}),
	"request|paused|alice\ntransition|paused|alice\nrequest|stopped|alice\ntransition|stopped|alice", 'the owner has asked for it');
ok(wait_for($node, q{SELECT status = 'completed' FROM backfill_runs WHERE name = 'next'}), 'and its end has started another run');
is(sql(q{SELECT started_by, owner FROM backfill_runs WHERE name = 'next'}), 'alice|alice', 'in the name of the owner');
nobody_left($id, 'no worker is left');

fresh();
hook('after run completed', q{BEGIN PERFORM backfill_delete(e.run_id); END});
hook('after run completed', q{BEGIN PERFORM note('deleted', e); END});
$id = start();
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_runs WHERE id = $id"), 'a hook deletes its run');
ok(wait_for($node, "SELECT count(*) = 1 FROM log"), 'the next hook is called all the same');
nobody_left($id, 'the worker leaves');
is(done(), '30|0', 'the rows are processed');
is(sql(qq{SELECT kind, role FROM backfill_events WHERE run_id = $id AND kind <> 'transition'}), 'delete|alice', 'an event says who deleted it');

# One that stops the run in the middle of a change of it stands in its own way.
fresh();
hook('before run completed', q{BEGIN PERFORM backfill_stop(e.run_id); END});
$id = start();
ok(settles($id, 'failed'), 'a hook that stops a run that is being completed prevents that');
resumes($id, 'a hook that stands in its own way');

$node->stop;
done_testing();
