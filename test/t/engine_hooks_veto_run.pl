# A hook against a change of a run: where it prevents the change, what becomes
# of the run then, and what cannot be prevented.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Hooks;
use BackfillTest::OneNode;
use Test::More;

hooks_node();
make_v();
my $id;

# ---------------------------------------------------------------------------
note 'a veto, and what follows from it';

# Where the run cannot go on without the change, it fails.
foreach my $case ([ 'pending', 0 ], [ 'enqueued', 0 ], [ 'running', 0 ], [ 'completed', 30 ])
{
	my ($status, $rows) = @$case;

	foreach my $phase ('before', 'around')
	{
		fresh();
		hook("$phase run $status", $veto);
		$id = start();
		ok(settles($id, 'failed'), "a veto $phase \"$status\": the run fails");
		is(errors_of($id), 'HK001|not now|because|wait', 'with the error of the hook');
		is(done(), "$rows|0", "$rows rows are processed");
		unlike(transitions($id), qr/\b$status\b/, 'the change was not made');
		is(hook_events($id), qq{HK001 the change to "$status" was prevented: not now}, 'an event says so');
		resumes($id, "veto $phase \"$status\"");
	}
}

# A request to pause or to stop is called off.
foreach my $case ([ 'pause', 'paused' ], [ 'stop', 'stopped' ])
{
	my ($request, $status) = @$case;

	fresh();
	sql("INSERT INTO behave VALUES (150, 'gate')");
	hook("before run $status", $veto);
	$id = start();
	ok(at_gate($id, 2), 'a run is under way');
	sql("SELECT backfill_$request($id)");
	sql('DELETE FROM behave');
	ok(settles($id, 'completed'), "a veto against \"$status\": the run goes on");
	is(transitions($id), 'enqueued running completed', 'the change was not made');
	is(hook_events($id), qq{HK001 the change to "$status" was prevented: not now}, 'an event says so');
	is(errors_of($id), '|||', 'it is no error of the run');
	check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

	# before it has begun
	fresh();
	hook("before run $status", $veto);
	$id = sql(q{SELECT backfill_start('v', start_at => now() + interval '1 hour')});
	sql("SELECT backfill_$request($id)");
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook'"),
		"a veto against \"$status\" of a run that waits for its time");
	ok(settles($id, 'pending'), 'it waits on');
	drop_hooks();
	sql("SELECT backfill_stop($id)");
	is(run_value($node, $id, 'status'), 'stopped', 'without hooks it is stopped by the session that asks');
}

# A paused run stays paused, until it is stopped for good.
fresh();
$id = sql(q{SELECT backfill_start('v', start_at => now() + interval '1 hour')});
sql("SELECT backfill_pause($id)");
hook('before run stopped', $veto);
sql("SELECT backfill_stop($id)");
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook'"),
	'a veto against "stopped" of a paused run');
ok(settles($id, 'paused'), 'it stays paused');
sql("SELECT backfill_stop($id, immediate => true)");
ok(settles($id, 'stopped'), 'stopped immediately, it is stopped');

# So does a run that is to be resumed stay as it is.
foreach my $from ('paused', 'stopped', 'failed')
{
	fresh();
	sql("INSERT INTO behave VALUES (150, '" . ($from eq 'failed' ? 'fail' : 'gate') . "')");
	$id = start();
	if ($from ne 'failed')
	{
		ok(at_gate($id, 2), 'a run is under way');
		sql($from eq 'paused' ? "SELECT backfill_pause($id)" : "SELECT backfill_stop($id)");
		sql('DELETE FROM behave');
	}
	ok(settles($id, $from), "a run that is $from");
	my $error = errors_of($id);
	hook('before run enqueued', $veto);
	sql("SELECT backfill_resume($id)");
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook'"),
		'a veto against its being resumed');
	ok(settles($id, $from), "it is still $from");
	is(errors_of($id), $error, 'with the error that it had');
	is(sql('SELECT count(*) FROM v WHERE n > 0'), $from eq 'failed' ? '10' : '20', 'nothing more was done');
	resumes($id, "veto against resuming from $from");
}

# A retry of what was skipped is called off, and can be had later.
fresh();
sql("INSERT INTO behave VALUES (150, 'fail')");
$id = sql(q{SELECT backfill_start('v', settings => '{"on_error": "skip"}')});
ok(settles($id, 'completed'), 'a run that skips a row');
sql('DELETE FROM behave');
hook('before run enqueued', $veto);
like(sql("SELECT backfill_retry($id)"), tries(1), 'backfill_retry is to run it again');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook'"),
	'a veto against that');
ok(settles($id, 'completed'), 'the run is completed as before');
is(run_value($node, $id, 'errors'), '1', 'its row is not resolved');
drop_hooks();
like(sql("SELECT backfill_retry($id)"), tries(1), 'without the hook backfill_retry runs it again');
ok(wait_for($node, "SELECT n = 1 FROM v WHERE id = 150"), 'and the row is processed');
ok(settles($id, 'completed'), 'the run is completed again');
check_parts($node, $id, 'v', 'every row was processed exactly once');

# What cannot be prevented.
foreach my $phase ('before', 'around')
{
	fresh();
	sql("INSERT INTO behave VALUES (150, 'fail')");
	hook("$phase run failed", $veto);
	hook("$phase batch failed", $veto);
	hook('after run failed', q{BEGIN PERFORM note('after', e); END});
	$id = start();
	ok(settles($id, 'failed'), "a veto $phase \"failed\": the run fails all the same");
	is(run_value($node, $id, 'sqlstate, error'), '22000|row 150 is bad', 'with the error that it failed for');
	is(hook_events($id), "HK001 a hook was overruled: not now\nHK001 a hook was overruled: not now",
		'events say that the hooks of the batch and of the run were overruled');
	ok(wait_for($node, q{SELECT (e).error = 'row 150 is bad' FROM log WHERE label = 'after'}), 'hooks "after" are called');
	is(sql("SELECT number, status, error FROM backfill_batches WHERE run_id = $id ORDER BY 1"),
		"1|completed|\n2|failed|row 150 is bad", 'the batch has failed');
	resumes($id, "veto $phase \"failed\"");

	# a batch that is given back because its run is stopped
	fresh();
	sql("INSERT INTO behave VALUES (150, 'gate')");
	hook("$phase batch stopped", $veto);
	$id = start();
	ok(at_gate($id, 2), 'a run is under way');
	sql("SELECT backfill_stop($id)");
	sql(q{UPDATE behave SET what = 'once' WHERE id = 150});
	ok(settles($id, 'stopped'), "a veto $phase \"stopped\" of a batch: the run is stopped");
	is(hook_events($id), 'HK001 a hook was overruled: not now', 'an event says that the hook was overruled');
	is(sql("SELECT number, status, error FROM backfill_batches WHERE run_id = $id ORDER BY 1"), "1|completed|\n2|stopped|try again",
		'the batch was given back');
	resumes($id, "veto $phase \"stopped\" of a batch");

	# an immediate stop asks no hook, and tells them
	fresh();
	sql("INSERT INTO behave VALUES (150, 'gate')");
	hook("$phase run stopped", $veto);
	hook("$phase batch stopped", $veto);
	hook('after batch stopped', q{BEGIN PERFORM note('after', e); END});
	hook('after run stopped', q{BEGIN PERFORM note('after', e); END});
	$id = start();
	ok(at_gate($id, 2), 'a run is under way');
	sql("SELECT backfill_stop($id, true)");
	ok(settles($id, 'stopped'), "a veto $phase \"stopped\": stopped immediately, it is stopped");
	ok(wait_for($node, q{SELECT count(*) = 2 FROM log}), 'hooks "after" are called');
	is(sql('SELECT (e).object, (e).previous_status, (e).rows, seen FROM log ORDER BY seq'), "batch|running|10|stopped\nrun|running|10|stopped",
		'of the batch and of the run');
	is(hook_events($id), '', 'the others were not asked');
	is(sql("SELECT number, status FROM backfill_batches WHERE run_id = $id ORDER BY 1"), "1|completed\n2|stopped",
		'the batch was given back');
	resumes($id, "veto $phase \"stopped\", immediately");
}

# A batch that is put aside is put aside.
fresh();
sql("INSERT INTO behave VALUES (150, 'once')");
hook('before batch pending', $veto);
$id = start();
ok(settles($id, 'completed'), 'a veto against putting a batch aside: the run goes on');
is(hook_events($id), 'HK001 a hook was overruled: not now', 'an event says that the hook was overruled');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

# An error that may go away by itself is tried again, here as everywhere.
fresh();
hook('before run completed', q{BEGIN
	IF nextval('once') < 3 THEN RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure'; END IF;
	PERFORM note('third', e); END});
$id = start();
ok(settles($id, 'completed'), 'an error of a hook that may go away is tried again');
is(sql('SELECT label, (e).rows FROM log'), 'third|30', 'the third time succeeded');
is(hook_events($id), '', 'that is nothing to talk about');
fresh();
hook('before run completed', q{BEGIN PERFORM nextval('once'); RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure'; END});
$id = start();
ok(settles($id, 'failed'), 'but not for ever');
is(sql('SELECT last_value FROM once'), '3', 'only max_attempts times');
resumes($id, 'max_attempts of a hook');

$node->stop;
done_testing();
