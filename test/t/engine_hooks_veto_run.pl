# Lifecycle hooks: every phase, object and status, their order, veto, yield,
# errors, who may have them, as whom they run, and what a hook can do to the
# process that calls it.
#
# alice owns the definitions; bob is a stranger; runs are started, stopped and
# resumed by a superuser, whose rights no hook may get hold of.

use strict;
use warnings;
use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('hooks', conf => "deadlock_timeout = 100ms\n");
my $super = query_ok($node, 'SELECT current_user');

sub sql { return query_ok($node, $_[0]); }
sub as { return query_ok($node, $_[1], flags => [ '-U', $_[0] ]); }

# The SQLSTATE that a command of a role raises.
sub state_of
{
	my ($role, $sql) = @_;
	return sqlstate($node, $sql, flags => [ '-U', $role, '-v', 'VERBOSITY=sqlstate' ]);
}

# All that hooks write goes to the table log, with whom they run as, and the
# status that the run or the batch has in their eyes.  A run calls step() for
# every row, which does what the table behave says about it.
sql(qq{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE carol LOGIN;
	CREATE ROLE staff;
	GRANT alice TO carol;
	GRANT staff TO alice;
	CREATE SCHEMA app AUTHORIZATION alice;
	CREATE SCHEMA bob AUTHORIZATION bob;
	GRANT USAGE ON SCHEMA bob TO PUBLIC;
	ALTER DATABASE postgres SET search_path = app, public;
});
sql(q{
	GRANT USAGE ON SCHEMA app TO PUBLIC;
	CREATE TABLE log (seq bigint GENERATED ALWAYS AS IDENTITY, label text, e backfill_event, seen text,
		curr text DEFAULT current_user, sess text DEFAULT session_user,
		super text DEFAULT current_setting('is_superuser'),
		backend text);
	GRANT ALL ON log TO PUBLIC;
	CREATE FUNCTION note(label text, e backfill_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO log (label, e, backend, seen) VALUES (label, e,
			(SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()),
			CASE e.object WHEN 'run' THEN (SELECT status FROM backfill_runs WHERE id = e.run_id)
			ELSE (SELECT status FROM backfill_batches WHERE run_id = e.run_id AND number = e.batch AND part = 0) END);
	END $$;
});
create_step($node);

# A table of alice's with a definition of the same name.
sub make_target
{
	my ($name, $rows, $settings, %opts) = @_;
	create_target($node, $name, $rows);
	sql("ALTER TABLE $name OWNER TO alice");
	my $parameters = $opts{parameters} ? "parameters => '$opts{parameters}'," : '';
	as('alice', qq{SELECT backfill_define('$name', '$name', 'UPDATE batch SET n = n + step(id)', $parameters
		settings => '$settings')});
}

# A function of alice's that can be a hook, with that body.
sub hook_function
{
	my ($name, $body, %opts) = @_;
	my $role = $opts{role} || 'alice';
	as($role, qq{CREATE OR REPLACE FUNCTION $name(e backfill_event) RETURNS void LANGUAGE plpgsql @{[$opts{options} || '']}
		AS \$f\$ $body \$f\$});
}

# A hook with that body for the definition "v", whatever function it is.
my $hooks = 0;
sub hook
{
	my ($event, $body, %opts) = @_;
	my $function = 'hook_' . ++$hooks;
	hook_function($function, $body, %opts);
	as('alice', "SELECT backfill_on('$event', '$function', '" . ($opts{name} || 'v') . "')");
	return $function;
}

sub drop_hooks
{
	sql(q{SELECT backfill_off(concat_ws(' ', phase, object, status), hook::oid::regproc, name) FROM backfill_hooks});
}

# What a run of the definition went through, as the events have it.
sub transitions
{
	my ($id) = @_;
	return sql(qq{SELECT string_agg(status, ' ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = 'transition'});
}

# What hooks did to the run, as the events have it.
sub hook_events
{
	my ($id) = @_;
	return sql(qq{SELECT string_agg(sqlstate || ' ' || reason, E'\\n' ORDER BY id)
		FROM backfill_events WHERE run_id = $id AND kind = 'hook'});
}

sub start { return sql("SELECT backfill_start('" . ($_[0] || 'v') . "')"); }

# The run has no open request, and that status.
sub settles
{
	my ($id, $status) = @_;
	return wait_for($node, "SELECT status || coalesce(' ' || requested, '') FROM backfill.run WHERE id = $id", expected => $status);
}

sub nobody_left
{
	my ($id, $name) = @_;
	return ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id"), $name);
}

# A worker of the run has a batch in hand that waits at a gate.
sub at_gate
{
	my ($id, $batch) = @_;
	return wait_for($node, "SELECT count(*) = 1 FROM backfill_workers w JOIN pg_stat_activity a USING (pid)
		WHERE run_id = $id AND batch = $batch AND wait_event = 'PgSleep'");
}

# ---------------------------------------------------------------------------
note 'every phase, object and status, in order';

my %statuses = (
	run => [qw(pending enqueued running paused completed failed stopped)],
	batch => [qw(pending running completed failed stopped)]);

make_target('every', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "1 min"}',
	parameters => '{"department": {"type": "text", "required": true}, "level": {"type": "int", "default": 3}}');

# the database-wide ones first: it is not the age that decides
foreach my $whose ('all', 'own')
{
	foreach my $phase ('before', 'around', 'after')
	{
		hook_function("${whose}_$phase", $phase eq 'around' ?
			"BEGIN PERFORM note('$whose around in', e); PERFORM backfill_yield(); PERFORM note('$whose around out', e); END" :
			"BEGIN PERFORM note('$whose $phase', e); END");
		foreach my $object (sort keys %statuses)
		{
			foreach my $status (@{ $statuses{$object} })
			{
				my $name = $whose eq 'own' ? "'every'" : 'NULL';
				sql("SELECT backfill_on('$phase $object $status', '${whose}_$phase', $name)");
			}
		}
	}
}
is(sql('SELECT count(*), count(name) FROM backfill_hooks'), '72|36', 'a hook for every phase, object and status, twice');

my $early = sql(q{SELECT backfill_start('every', parameters => '{"department": "sales"}', start_at => now() + interval '1 hour')});
ok(settles($early, 'pending'), 'a new run becomes pending');
sql("SELECT backfill_pause($early)");
ok(settles($early, 'paused'), 'and paused');
sql("SELECT backfill_resume($early)");
ok(settles($early, 'pending'), 'and pending again');
sql("SELECT backfill_stop($early)");
ok(settles($early, 'stopped'), 'and stopped');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers"), 'its last worker is gone');
my $id = sql(q{SELECT backfill_start('every', parameters => '{"department": "sales"}')});
sql("INSERT INTO behave VALUES (50, 'gate'), (150, 'gate'), (250, 'fail')");
ok(at_gate($id, 1), 'another one runs');
sql("SELECT backfill_stop($id)");
sql(q{UPDATE behave SET what = 'once' WHERE id = 50});
ok(settles($id, 'stopped'), 'it is stopped, with a batch in hand that could not be completed');
sql('ALTER SEQUENCE once RESTART');
sql("SELECT backfill_resume($id)");
ok(at_gate($id, 2), 'it runs again, and has put its first batch aside');
sql("SELECT backfill_pause($id)");
sql('DELETE FROM behave WHERE id = 150');
ok(settles($id, 'paused'), 'it is paused after its second');
sql("SELECT backfill_resume($id)");
ok(settles($id, 'failed'), 'it fails in its third');
sql('DELETE FROM behave');
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'it is completed');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id"), 'its last worker is gone');

# object, status, previous status, batch
my @changes = (
	[ 'run', 'pending', '' ],
	[ 'run', 'paused', 'pending' ],
	[ 'run', 'pending', 'paused' ],
	[ 'run', 'stopped', 'pending' ],
	[ 'run', 'pending', '' ], [ 'run', 'enqueued', 'pending' ], [ 'run', 'running', 'enqueued' ],
	[ 'batch', 'running', 'pending', 1 ], [ 'batch', 'stopped', 'running', 1 ],
	[ 'run', 'stopped', 'running' ],
	[ 'run', 'enqueued', 'stopped' ], [ 'run', 'running', 'enqueued' ],
	[ 'batch', 'running', 'pending', 1 ], [ 'batch', 'pending', 'running', 1 ],
	[ 'batch', 'running', 'pending', 2 ], [ 'batch', 'completed', 'running', 2 ],
	[ 'run', 'paused', 'running' ],
	[ 'run', 'enqueued', 'paused' ], [ 'run', 'running', 'enqueued' ],
	[ 'batch', 'running', 'pending', 1 ], [ 'batch', 'completed', 'running', 1 ],
	[ 'batch', 'running', 'pending', 3 ], [ 'batch', 'failed', 'running', 3 ],
	[ 'run', 'failed', 'running' ],
	[ 'run', 'enqueued', 'failed' ], [ 'run', 'running', 'enqueued' ],
	[ 'batch', 'running', 'pending', 3 ], [ 'batch', 'completed', 'running', 3 ],
	[ 'run', 'completed', 'running' ]);
my @expected;
foreach my $change (@changes)
{
	my ($object, $status, $previous, $batch) = @$change;
	# a new run is inserted as pending, and a batch is claimed before it is announced
	my $old = $previous eq '' ? 'pending' : $object eq 'batch' ? 'running' : $previous;
	my $line = sub { return join('|', "$_[0] $_[1]", $object, $status, $previous, $batch || '', $_[2]); };

	push @expected, (map { $line->($_, 'before', $old) } 'own', 'all'),
	  (map { $line->($_, 'around in', $old) } 'own', 'all'),
	  (map { $line->($_, 'around out', $status) } 'all', 'own'),
	  (map { $line->($_, 'after', $status) } 'own', 'all');
}
is(sql('SELECT label, (e).object, (e).status, (e).previous_status, (e).batch, seen FROM log ORDER BY seq'),
	join("\n", @expected), 'each change has its hooks before, around and after it: the own, then the database-wide');
is(sql(q{SELECT count(DISTINCT ((e).phase, (e).object, (e).status)) FROM log}), '36',
	'every phase, object and status was seen');
is(sql(q{SELECT count(*) FROM log WHERE split_part(label, ' ', 2) <> (e).phase}), '0', 'each was told its phase');
is(sql('SELECT DISTINCT (e).run_id, (e).name, (e).parameters FROM log ORDER BY 1'),
	join("\n", map { qq[$_|every|{"level": 3, "department": "sales"}] } $early, $id),
	'each was told the run, the definition and the parameters');
is(sql('SELECT DISTINCT curr, sess, super, backend FROM log'), 'alice|alice|off|backfill worker',
	'each was called in a worker, as the owner of the run, though a superuser asked for all of it');
is(sql(q{SELECT DISTINCT (e).batch, (e).key_range FROM log WHERE (e).object = 'batch' ORDER BY 1}),
	"1|[10 .. 100]\n2|(100 .. 200]\n3|(200 .. 300]", 'hooks of batches were told the key range');
is(sql(q{SELECT bool_and((e).key_range = b.key_range) FROM log JOIN backfill_batches b
		  ON b.run_id = (e).run_id AND b.number = (e).batch}), 't', 'as backfill_batches shows it');
is(sql(q{SELECT count(*) FROM log WHERE (e).object = 'run' AND ((e).batch IS NOT NULL OR (e).key_range IS NOT NULL)}),
	'0', 'those of runs were told none');
is(sql(q{SELECT (e).status, (e).rows, count(DISTINCT (e).batch) FROM log WHERE (e).object = 'batch'
		  GROUP BY 1, 2 ORDER BY 1, 2}),
	"completed|10|3\nfailed|10|1\npending|10|1\nrunning|10|3\nstopped|10|1", 'hooks of batches were told the rows');
is(sql(q{SELECT string_agg(r::text, ' ' ORDER BY seq) FROM (
			SELECT (e).rows AS r, min(seq) AS seq FROM log WHERE (e).object = 'run' GROUP BY 1) s}),
	'0 10 20 30', 'those of runs were told the rows so far');
is(sql(q{SELECT (e).object, (e).status, (e).error FROM log WHERE (e).error IS NOT NULL GROUP BY 1, 2, 3 ORDER BY min(seq)}),
	"batch|stopped|try again\nbatch|pending|try again\nbatch|failed|row 250 is bad\nrun|failed|row 250 is bad",
	'where there was an error they were told its message');
is(transitions($early) . ' ' . transitions($id), join(' ', map { $_->[1] } grep { $_->[0] eq 'run' } @changes),
	'the events have the same transitions');
is(sql(qq{SELECT status, role, reason FROM backfill_events WHERE run_id IN ($early, $id) AND kind = 'transition'
			GROUP BY 1, 2, 3 ORDER BY min(id)}),
	join("\n", "pending|$super|backfill_start", "paused|$super|backfill_pause", "pending|$super|backfill_resume",
		"stopped|$super|backfill_stop", 'enqueued||', 'running||',
		"enqueued|$super|backfill_resume", 'failed||row 250 is bad', 'completed||'), 'and who caused them, and how');
check_exactly_once($node, $id, 'every', 30, 'every row was processed exactly once');

# Skipped rows, and what is retried.
make_target('skips', 3, '{"batch_size": 1, "target_batch_time": 0, "sleep": 0, "on_error": "skip"}');
sql("TRUNCATE log; INSERT INTO behave VALUES (20, 'fail')");
sql(q{SELECT backfill_off('before ' || o, 'all_before'), backfill_off('after ' || o, 'all_after')
		FROM unnest(ARRAY['run completed', 'batch failed']) o});
$id = start('skips');
ok(settles($id, 'completed'), 'a run that skips a row is completed');
sql('DELETE FROM behave');
sql("SELECT backfill_retry($id)");
ok(wait_for($node, "SELECT errors = 0 FROM backfill_runs WHERE id = $id"), 'and its row retried');
ok(settles($id, 'completed'), 'it is completed again');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id"), 'its last worker is gone');
is(sql(q{SELECT concat_ws(' ', (e).object, (e).status, (e).previous_status, (e).batch, (e).rows, (e).error)
		   FROM log WHERE label = 'all around out' ORDER BY seq}),
	join("\n", 'run pending 0', 'run enqueued pending 0', 'run running enqueued 0',
		'batch running pending 1 1', 'batch completed running 1 1',
		'batch running pending 2 1', 'batch failed running 2 1 row 20 is bad',
		'batch running pending 3 1', 'batch completed running 3 1',
		'run completed running 2',
		'run enqueued completed 2', 'run running enqueued 2',
		'batch running pending 2 1', 'batch completed running 2 1',
		'run completed running 3'),
	'database-wide hooks go with a run of another definition, a row that is skipped, and its retry');
is(sql(q{SELECT count(*) FROM log WHERE label LIKE 'own %'}), '0', 'the hooks of another definition do not');
is(sql(q{SELECT count(*) FROM log WHERE (e).object = 'run' AND (e).status = 'completed' AND (e).phase <> 'around'}), '0',
	'nor do those that were taken away');
check_parts($node, $id, 'skips', 'every row was processed exactly once');
drop_hooks();
is(sql('SELECT count(*) FROM backfill_hooks'), '0', 'backfill_off removes them');

# ---------------------------------------------------------------------------
note 'a veto, and what follows from it';

make_target('v', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "20 ms", "max_attempts": 3}');
my $veto = q{BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'HK001', DETAIL = 'because', HINT = 'wait'; END};

# A table as it was, and no hook.
sub fresh
{
	drop_hooks();
	ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill_workers'), 'no worker is left')
	  or sql(q{SELECT pg_terminate_backend(pid) FROM backfill_workers});
	sql(q{DELETE FROM behave; TRUNCATE log; UPDATE v SET n = 0});
	sql(q{ALTER SEQUENCE once RESTART});
}

sub errors_of { return run_value($node, $_[0], 'sqlstate, error, error_detail, error_hint'); }
sub done { return sql('SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n > 1) FROM v'); }

# What is left of a run when the hooks are gone and it is resumed: nothing.
sub resumes
{
	my ($id, $what) = @_;
	drop_hooks();
	sql('DELETE FROM behave');
	sql("SELECT backfill_resume($id)");
	ok(settles($id, 'completed'), "$what: without the hook the run is resumed");
	check_exactly_once($node, $id, 'v', 30, "$what: every row was processed exactly once");
}

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
is(sql("SELECT backfill_retry($id)"), '1', 'backfill_retry is to run it again');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook'"),
	'a veto against that');
ok(settles($id, 'completed'), 'the run is completed as before');
is(run_value($node, $id, 'errors'), '1', 'its row is not resolved');
drop_hooks();
is(sql("SELECT backfill_retry($id)"), '1', 'without the hook backfill_retry runs it again');
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

# ---------------------------------------------------------------------------
note 'a veto against a batch';

# before it begins
fresh();
hook('before batch running', q{BEGIN
	IF e.batch = 2 THEN RAISE EXCEPTION 'no second' USING ERRCODE = 'HK002'; END IF; END});
hook('before batch failed', q{BEGIN PERFORM note('failed', e); END});
$id = start();
ok(settles($id, 'failed'), 'a veto against "running" of a batch fails the run');
is(run_value($node, $id, 'sqlstate, error'), 'HK002|no second', 'with the error of the hook');
is(done(), '10|0', 'only the batch before was done');
is(sql('SELECT (e).batch, (e).key_range, (e).error FROM log'), '2|(100 .. 200]|no second', 'hooks of "failed" are told');
resumes($id, 'veto against "running" of a batch');

# when it is done
foreach my $phase ('before', 'around')
{
	my $yield = $phase eq 'around' ? 'PERFORM backfill_yield();' : '';

	fresh();
	hook("$phase batch completed", qq{BEGIN
		$yield
		INSERT INTO log (label) VALUES ('rolled back with the batch');
		IF e.batch = 2 THEN RAISE EXCEPTION 'undo' USING ERRCODE = 'HK003'; END IF;
		UPDATE log SET label = 'stays'; END});
	$id = start();
	ok(settles($id, 'failed'), "a veto $phase \"completed\" of a batch fails the run");
	is(run_value($node, $id, 'sqlstate, error'), 'HK003|undo', 'with the error of the hook');
	is(done(), '10|0', 'the batch was rolled back');
	is(sql('SELECT label FROM log'), 'stays', 'and what its hook wrote with it');
	is(sql("SELECT number, status, error FROM backfill_batches WHERE run_id = $id ORDER BY 1"),
		"1|completed|\n2|failed|undo", 'it has failed');
	resumes($id, "veto $phase \"completed\" of a batch");
}

# with on_error = skip, too: a hook speaks of the batch, not of a row
foreach my $status ('running', 'completed')
{
	fresh();
	hook("before batch $status", q{BEGIN IF e.batch = 2 THEN RAISE EXCEPTION 'not this' USING ERRCODE = 'HK004'; END IF; END});
	hook('after batch failed', q{BEGIN PERFORM note('failed', e); END});
	$id = sql(q{SELECT backfill_start('v', settings => '{"on_error": "skip"}')});
	ok(settles($id, 'failed'), "a veto against \"$status\" of a batch with on_error = skip fails the run, too");
	is(run_value($node, $id, 'sqlstate, error'), 'HK004|not this', 'with the error of the hook');
	is(sql("SELECT count(*) FROM backfill_errors WHERE run_id = $id"), '0', 'no row is skipped for it');
	is(done(), '10|0', 'the batch was rolled back');
	ok(wait_for($node, q{SELECT concat_ws(' ', (e).batch, (e).rows, (e).error) = '2 10 not this' FROM log}), 'hooks of "failed" are called for the batch');
	resumes($id, "veto against \"$status\" of a batch with on_error = skip");
}

# several workers, a hook that fails now and then, and one that is slow
fresh();
sql('CREATE SEQUENCE now_and_then; GRANT ALL ON now_and_then TO PUBLIC');
make_target('w', 400, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "workers": 3, "retry_delay": "1 ms", "max_attempts": 100}');
hook('around batch completed', q{BEGIN PERFORM backfill_yield();
	IF nextval('now_and_then') % 4 = 0 THEN RAISE EXCEPTION 'now and then' USING ERRCODE = 'serialization_failure'; END IF;
	INSERT INTO log (label) VALUES (e.key_range); END}, name => 'w');
hook('after batch completed', q{BEGIN INSERT INTO log (label) VALUES ('after ' || e.key_range); END}, name => 'w');
$id = start('w');
ok(settles($id, 'completed'), 'three workers with a hook that fails now and then');
check_exactly_once($node, $id, 'w', 400, 'every row was processed exactly once');
is(sql(q{SELECT count(*), count(DISTINCT label) FROM log}), '80|80', 'each hook of a completed batch counted once');
is(sql("SELECT count(*) FROM log JOIN backfill_batches b ON label IN (key_range, 'after ' || key_range) AND run_id = $id"), '80',
	'for every batch');

# ---------------------------------------------------------------------------
note 'yield';


my @misuses = (
	[ 'around', 'no yield', 'BEGIN END',
		'09000', 'an "around" hook did not call backfill_yield()' ],
	[ 'around', 'two yields', 'BEGIN PERFORM backfill_yield(); PERFORM backfill_yield(); END',
		'09000', 'an "around" hook called backfill_yield() twice' ],
	[ 'before', 'a yield before', 'BEGIN PERFORM backfill_yield(); END',
		'55000', 'backfill_yield() can only be called by an "around" hook' ],
	[ 'around', 'a yield in a block with EXCEPTION', 'BEGIN BEGIN PERFORM backfill_yield(); EXCEPTION WHEN unique_violation THEN NULL; END; END',
		'55000', 'backfill_yield() cannot be called in a subtransaction' ],
	[ 'around', 'the same, with the error caught', 'BEGIN BEGIN PERFORM backfill_yield(); EXCEPTION WHEN OTHERS THEN NULL; END; END',
		'09000', 'an "around" hook did not call backfill_yield()' ],
	[ 'around', 'a yield by a function that is SECURITY DEFINER', 'BEGIN PERFORM bob.yield(); END',
		'42501', 'backfill_yield() cannot be called with the rights of another role' ],
	[ 'around', 'the same of the owner', 'BEGIN PERFORM own_yield(); END',
		'42501', 'backfill_yield() cannot be called with the rights of another role' ],
	[ 'around', 'a yield as another role', 'BEGIN SET ROLE staff; PERFORM backfill_yield(); END',
		'42501', 'backfill_yield() cannot be called with the rights of another role' ],
	[ 'around', 'an error after the yield', q{BEGIN PERFORM backfill_yield(); RAISE EXCEPTION 'late' USING ERRCODE = 'HK005'; END},
		'HK005', 'late' ],
	[ 'around', 'a deferred trigger that fails', q{BEGIN PERFORM backfill_yield(); INSERT INTO deferred VALUES (1); END},
		'HK006', 'deferred' ],
	[ 'around', 'a yield in a deferred trigger', q{BEGIN PERFORM backfill_yield(); INSERT INTO deferred VALUES (2); END},
		'55000', 'backfill_yield() can only be called by an "around" hook' ]);

as('bob', q{CREATE FUNCTION bob.yield() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public AS 'SELECT public.backfill_yield()'});
as('alice', q{CREATE FUNCTION own_yield() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT backfill_yield()';
	CREATE TABLE deferred (i int);
	CREATE FUNCTION deferred() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.i = 1 THEN
			RAISE EXCEPTION 'deferred' USING ERRCODE = 'HK006';
		END IF;
		PERFORM backfill_yield();
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION deferred()});
foreach my $object ('run', 'batch')
{
	foreach my $misuse (@misuses)
	{
		my ($phase, $what, $body, $state, $message) = @$misuse;

		fresh();
		hook("$phase $object completed", $body);
		$id = start();
		ok(settles($id, 'failed'), "$object: $what: the change is prevented, and the run fails");
		is(run_value($node, $id, 'sqlstate, error'), "$state|$message", "$object: $what: the error");
		is(done(), $object eq 'run' ? '30|0' : '0|0', "$object: $what: what was done");
		unlike(transitions($id), qr/completed/, 'the run was never completed');
		resumes($id, "$object: $what");
	}
}

# The second yield can be caught: the change was made, once.
fresh();
hook('around batch completed', q{BEGIN PERFORM backfill_yield(); PERFORM note('first', e);
	BEGIN PERFORM backfill_yield(); PERFORM note('second', e); EXCEPTION WHEN OTHERS THEN PERFORM note(SQLSTATE, e); END; END});
hook('around run completed', q{BEGIN PERFORM backfill_yield(); PERFORM note('first', e);
	BEGIN PERFORM backfill_yield(); PERFORM note('second', e); EXCEPTION WHEN OTHERS THEN PERFORM note(SQLSTATE, e); END; END});
$id = start();
ok(settles($id, 'completed'), 'a second yield, caught');
is(sql('SELECT (e).object, label, count(*) FROM log GROUP BY 1, 2 ORDER BY 1, 2'),
	"batch|09000|3\nbatch|first|3\nrun|09000|1\nrun|first|1", 'it does nothing');
is(transitions($id), 'enqueued running completed', 'the change was made once');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

# Within one another: the inner one fails, or does not yield.
fresh();
hook('around run completed', q{BEGIN PERFORM note('outer in', e); PERFORM backfill_yield(); PERFORM note('outer out', e); END});
hook('around run completed', 'BEGIN END');
$id = start();
ok(settles($id, 'failed'), 'a missing yield in the inner hook');
is(run_value($node, $id, 'error'), 'an "around" hook did not call backfill_yield()', 'is no fault of the outer one');
is(sql('SELECT count(*) FROM log'), '0', 'what that one wrote is undone');
resumes($id, 'a missing yield in the inner hook');

# Other ways to call it.
fresh();
as('alice', q{CREATE FUNCTION through() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM backfill_yield(); RETURN 1; END';
	CREATE FUNCTION in_sql(e backfill_event) RETURNS int LANGUAGE sql AS $$ SELECT through(); SELECT note('sql', e); SELECT 1 $$;
	SELECT backfill_on('around run completed', 'in_sql', 'v')});
hook('around run completed', 'DECLARE x int := through(); BEGIN PERFORM note(\'inner\', e); END', options => 'SET work_mem = 64');
$id = start();
ok(settles($id, 'completed'), 'a yield by a function that the hook calls, in SQL, with a result, under other parameters');
is(sql('SELECT string_agg(label, $$ $$ ORDER BY seq) FROM log'), 'inner sql', 'both were called, the first around the second');

foreach my $role ($super, 'alice')
{
	is(state_of($role, 'SELECT backfill_yield()'), '55000', "outside of a hook $role cannot yield");
}
fresh();
hook('after run completed', 'BEGIN PERFORM backfill_yield(); END');
$id = start();
ok(settles($id, 'completed'), 'nor after the change');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook' AND sqlstate = '55000'"),
	'which is an error');

# ---------------------------------------------------------------------------
note 'who may have hooks';

fresh();
hook_function('plain', 'BEGIN END');
as('bob', 'CREATE FUNCTION bob.plain(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM note(\'bob\', e); END $$');
my $plain = q{'after run completed', 'plain'};
is(state_of('bob', q{SELECT backfill_on('after run completed', 'bob.plain', 'v')}), '42501', 'a stranger may add none');
is(state_of('bob', qq{SELECT backfill_on('after run completed', 'bob.plain')}), '42501', 'nor for all runs');
is(state_of('alice', "SELECT backfill_on($plain)"), '42501', 'nor may the owner of a definition add one for all runs');
is(state_of('alice', "SELECT backfill_on($plain, 'v')"), '00000', 'the owner of a definition may add one for it');
is(state_of('bob', "SELECT backfill_off('after run completed', 'app.plain', 'v')"), '42501', 'a stranger may not take it away');
is(state_of('carol', "SELECT backfill_off($plain, 'v')"), '00000', 'a member of the owner may');
is(state_of('carol', "SELECT backfill_on($plain, 'v')"), '00000', 'and add one');
is(state_of($super, "SELECT backfill_on('after run failed', 'plain', 'v')"), '00000', 'so may a superuser');
is(state_of($super, "SELECT backfill_on($plain)"), '00000', 'who may add one for all runs');
is(state_of('alice', "SELECT backfill_off($plain)"), '42501', 'which nobody else may take away');
is(sql('SELECT phase, object, status, hook, name, created_by FROM backfill_hooks ORDER BY name, status'),
	"after|run|completed|plain(backfill_event)|v|carol\nafter|run|failed|plain(backfill_event)|v|$super\nafter|run|completed|plain(backfill_event)||$super",
	'backfill_hooks shows them, and who added them');
is(as('bob', 'SELECT status, name FROM backfill_hooks'), 'completed|', 'a stranger sees those for all runs');
is(as('alice', 'SELECT count(*) FROM backfill_hooks'), '3', 'the owner sees his own as well');
as('bob', 'REVOKE EXECUTE ON FUNCTION bob.plain FROM PUBLIC');
is(state_of('alice', q{SELECT backfill_on('after run completed', 'bob.plain', 'v')}), '42501', 'a hook has to be a function that one may call');
is(state_of('bob', q{INSERT INTO backfill.hook (phase, object, status, hook, created_by)
		VALUES ('before', 'run', 'running', 'bob.plain', 10)}), '42501', 'nobody writes into the table');

# A definition takes its hooks along, and keeps them when it is replaced.
make_target('gone', 3, '{"sleep": 0}');
as('alice', q{SELECT backfill_on('after run completed', 'plain', 'gone')});
as('alice', q{SELECT backfill_define('gone', 'gone', 'DELETE FROM batch')});
is(sql(q{SELECT count(*) FROM backfill_hooks WHERE name = 'gone'}), '1', 'a definition that is replaced keeps its hooks');
as('alice', q{SELECT backfill_drop('gone')});
is(sql(q{SELECT count(*) FROM backfill_hooks WHERE name = 'gone'}), '0', 'one that is dropped takes them along');

# Whoever takes the name of a definition that was dropped has no hooks in its
# runs, which may be resumed.
fresh();
make_target('theirs', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
as('bob', 'GRANT EXECUTE ON FUNCTION bob.plain TO PUBLIC; CREATE TABLE bob.other (id int PRIMARY KEY)');
$id = sql(q{SELECT backfill_start('theirs', start_at => now() + interval '1 hour')});
sql("SELECT backfill_stop($id)");
as('alice', q{SELECT backfill_drop('theirs')});
as('bob', q{SELECT backfill_define('theirs', 'bob.other', 'DELETE FROM batch')});
foreach my $event ('run enqueued', 'run running', 'batch running', 'batch completed', 'run completed')
{
	as('bob', "SELECT backfill_on('before $event', 'bob.plain', 'theirs'), backfill_on('after $event', 'bob.plain', 'theirs')");
}
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'a run whose definition was dropped and defined anew by a stranger is resumed');
is(sql('SELECT DISTINCT label, curr FROM log'), '', q{the stranger's hooks are not called in it, as its owner});
check_exactly_once($node, $id, 'theirs', 30, 'every row was processed exactly once');
$id = sql(q{SELECT backfill_start('theirs')});
ok(settles($id, 'completed'), q{a run of the stranger's});
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers"), 'its last worker is gone');
is(sql('SELECT (e).object, (e).status, count(*) FROM log GROUP BY 1, 2 ORDER BY 1, 2'),
	"run|completed|2\nrun|enqueued|2\nrun|running|2", 'has them');
is(sql('SELECT DISTINCT curr, sess FROM log'), 'bob|bob', 'as himself');

# ---------------------------------------------------------------------------
note 'hooks that would like to be a superuser';

fresh();
as('alice', q{CREATE TABLE secrets (what text, got text)});
my $other = session($node);
my @commands = (
	'ALTER ROLE alice SUPERUSER', "GRANT $super TO alice", 'GRANT pg_read_all_data TO alice', 'CREATE ROLE mallory SUPERUSER',
	'SELECT rolpassword FROM pg_authid', "SET ROLE $super", "SET LOCAL ROLE $super", "SET SESSION AUTHORIZATION $super",
	"SELECT set_config('role', '$super', false)", "SELECT set_config('session_authorization', '$super', false)",
	"SELECT pg_read_file('postgresql.conf')", "SELECT lo_import('/etc/passwd')", "COPY secrets FROM '/etc/passwd'",
	"COPY secrets TO PROGRAM 'true'", "COPY secrets FROM PROGRAM 'id'", 'ALTER SYSTEM SET work_mem = 64', 'SELECT pg_reload_conf()',
	"SELECT pg_terminate_backend(@{[$other->pid]})", 'SET session_replication_role = replica', 'DROP EXTENSION backfill',
	"CREATE FUNCTION evil() RETURNS int LANGUAGE internal AS 'x'", "UPDATE backfill.run SET owner = 10", 'UPDATE backfill.definition SET owner = 10',
	'DELETE FROM backfill.hook', "SELECT backfill_on('after run completed', 'plain')", 'SET ROLE bob', 'DROP TABLE bob.other', 'COMMIT', 'ROLLBACK');
my $list = join(', ', map { my $c = $_; $c =~ s/'/''/g; "'$c'" } @commands);
as('alice', qq{
	CREATE FUNCTION become() RETURNS text LANGUAGE plpgsql AS \$\$
	DECLARE
		command text;
		outcome text := '';
		got text;
	BEGIN
		FOREACH command IN ARRAY ARRAY[$list, 'RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET ROLE NONE'] LOOP
			BEGIN
				EXECUTE command;
				got := 'done';
			EXCEPTION WHEN OTHERS THEN
				got := SQLSTATE;
			END;
			IF current_user <> 'alice' OR session_user <> 'alice' OR current_setting('is_superuser') <> 'off' THEN
				got := 'now ' || current_user || ' ' || session_user;
			END IF;
			IF got LIKE 'now %' OR got = 'done' AND command !~ '^(RESET|SET ROLE NONE)' THEN
				outcome := outcome || command || ': ' || got || '; ';
			END IF;
		END LOOP;
		RETURN outcome;
	END \$\$});
hook_function('evil_before', 'BEGIN PERFORM note(become(), e); END');
hook_function('evil_around', 'BEGIN PERFORM note(become(), e); PERFORM backfill_yield(); PERFORM note(become(), e); END');
hook_function('evil_after', 'BEGIN PERFORM note(become(), e); END');
foreach my $object (keys %statuses)
{
	foreach my $status (@{ $statuses{$object} })
	{
		as('alice', qq{SELECT backfill_on(p || ' $object $status', ('evil_' || p)::regproc, 'v') FROM unnest(ARRAY['before', 'around', 'after']) p});
	}
}
sql("INSERT INTO behave VALUES (150, 'gate'), (250, 'fail')");
$id = $other->query(q{SELECT backfill_start('v')});
ok(at_gate($id, 2), 'a superuser has started a run with such hooks');
$other->query("SELECT backfill_stop($id, immediate => true)");
ok(settles($id, 'stopped'), 'stopped it immediately');
$other->query("SELECT backfill_resume($id)");
ok(at_gate($id, 2), 'resumed it');
is($other->query('SELECT backfill_stop_all()'), '1', 'stopped all runs');
sql(q{UPDATE behave SET what = 'once' WHERE id = 150});
ok(settles($id, 'stopped'), 'and with them this one');
sql('ALTER SEQUENCE once RESTART');
$other->query("SELECT backfill_resume($id)");
ok(settles($id, 'failed'), 'resumed it, and it failed');
sql("UPDATE behave SET what = 'gate' WHERE id = 250");
$other->query("SELECT backfill_resume($id)");
ok(at_gate($id, 3), 'resumed it');
$other->query("SELECT backfill_pause($id)");
sql('DELETE FROM behave');
ok(settles($id, 'paused'), 'paused it');
$other->query("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'resumed it, and it was completed');
nobody_left($id, 'its last worker is gone');
is($other->query('SELECT current_user, session_user, count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()'), "$super|$super|1",
	q{the superuser's session is what it was});
is(sql('SELECT count(DISTINCT ((e).phase, (e).object, (e).status)) FROM log'), '36', 'hooks of every phase, object and status were called');
is(sql(q{SELECT DISTINCT label, (e).phase FROM log WHERE label <> ''}), '', 'and refused all that they tried');
is(sql('SELECT DISTINCT curr, sess, super, backend FROM log'), 'alice|alice|off|backfill worker',
	'each was called in a worker, as the owner of the run');
is(sql(q{SELECT rolsuper, (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = 'alice'}), 'f|1',
	'alice is who she was');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');
$other->quit;

# What a hook sets lasts for the change and no longer.
fresh();
sql('CREATE SCHEMA trap AUTHORIZATION alice');
as('alice', q{CREATE TYPE trap.backfill_event AS (x int)});
my $mess = q{PERFORM set_config('role', 'staff', false), set_config('search_path', 'trap', false), set_config('lock_timeout', '1', false),
	set_config('statement_timeout', '1h', false), set_config('synchronous_commit', 'on', false), set_config('application_name', 'mess', false)};
my $see = q{INSERT INTO app.log (label) VALUES (format('%s %s %s', current_user, current_setting('search_path'), current_setting('application_name')))};
foreach my $event ('run enqueued', 'run running', 'batch running', 'batch completed', 'run completed')
{
	hook("before $event", "BEGIN $see; $mess; END");
	hook("after $event", "BEGIN $see; $mess; END");
}
$id = start();
ok(settles($id, 'completed'), 'hooks that take a role and set parameters');
is(sql('SELECT DISTINCT label FROM log'), qq{alice app, public backfill run $id v}, 'each begins as if there had been none');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

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
my ($oid, $after_oid) = map { sql("SELECT '$_'::regproc::oid") } $function, $after;
sql("DROP FUNCTION $function, $after");
is(sql('SELECT hook FROM backfill_hooks ORDER BY phase'), "$after_oid\n$oid", 'a function that was dropped is shown as its number');
$id = start();
ok(settles($id, 'failed'), 'without it the change is not made');
is(run_value($node, $id, 'sqlstate, error, error_detail'), "42883|a hook of the backfill was dropped|There is no function with OID $oid.",
	'the error tells');
sql("SELECT backfill_off('before run completed', $oid, 'v')");
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'backfill_off takes the number');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND reason = 'hook \"after run completed\": a hook of the backfill was dropped'"),
	'after the change it is an event');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

fresh();
as('alice', q{SELECT backfill_on('before batch completed', 'bob.plain', 'v')});
as('bob', 'REVOKE EXECUTE ON FUNCTION bob.plain FROM PUBLIC');
$id = start();
ok(settles($id, 'failed'), 'a hook that the owner may no longer call prevents the change');
is(run_value($node, $id, 'sqlstate, error'), '42501|permission denied for function plain', 'the error tells');
is(done(), '0|0', 'nothing was done');
resumes($id, 'a hook that may not be called');
as('bob', 'GRANT EXECUTE ON FUNCTION bob.plain TO PUBLIC');

# ---------------------------------------------------------------------------
note 'hooks that hang';

# A worker hangs in a hook.
sub hangs
{
	my ($id) = @_;
	return wait_for($node, "SELECT count(*) = 1 FROM backfill_workers w JOIN pg_stat_activity a USING (pid)
		WHERE run_id = $id AND wait_event = 'PgSleep'");
}

foreach my $event ('before run running', 'before batch running', 'after batch running', 'before batch completed', 'around batch completed',
	'after batch completed', 'before run completed', 'after run running')
{
	fresh();
	hook($event, 'BEGIN PERFORM pg_sleep(3600); END');
	$id = start();
	ok(hangs($id), "a hook $event hangs");
	sql("SELECT backfill_stop($id, immediate => true)");
	ok(settles($id, 'stopped'), 'an immediate stop ends it');
	nobody_left($id, 'and the worker');
	resumes($id, "a hook $event that hung");
}
# as it does where it finds a stop in the middle of its hooks
fresh();
sql("INSERT INTO behave VALUES (150, 'gate')");
hook('before run stopped', 'BEGIN PERFORM pg_sleep(3600); END');
$id = start();
ok(at_gate($id, 2), 'a run is under way');
sql("SELECT backfill_stop($id)");
sql('DELETE FROM behave');
ok(wait_for($node, "SELECT status = 'completed' FROM backfill_batches WHERE run_id = $id AND number = 2") && hangs($id),
	'a hook before run stopped hangs');
sql("SELECT backfill_stop($id, immediate => true)");
ok(settles($id, 'stopped'), 'an immediate stop ends it');
nobody_left($id, 'and the worker');
resumes($id, 'a hook before run stopped that hung');
fresh();
sql("INSERT INTO behave VALUES (150, 'gate')");
hook('before batch stopped', 'BEGIN PERFORM pg_sleep(3600); END');
$id = start();
ok(at_gate($id, 2), 'a run is under way');
sql("SELECT backfill_stop($id, immediate => true)");
ok(settles($id, 'stopped'), 'an immediate stop does not wait for hooks before batch stopped');
resumes($id, 'a hook before batch stopped that hung');

# What holds the row of the run, or comes after its end, is ended by hand.
foreach my $event ('around run completed', 'after run completed', 'after run stopped', 'before run failed', 'before batch failed')
{
	fresh();
	sql("INSERT INTO behave VALUES (150, '" . ($event =~ /failed/ ? 'fail' : 'gate') . "')") if $event !~ /completed/;
	hook($event, 'BEGIN ' . ($event =~ /around/ ? 'PERFORM backfill_yield();' : '') . ' PERFORM pg_sleep(3600); END');
	$id = sql(q{SELECT backfill_start('v', settings => '{"max_attempts": 1}')});
	if ($event =~ /stopped/)
	{
		ok(at_gate($id, 2), 'a run is under way');
		sql("SELECT backfill_stop($id, immediate => true)");
		# the gate sleeps, too
		ok(settles($id, 'stopped'), 'it is stopped');
	}
	ok(hangs($id), "a hook $event hangs");
	is(sql("SELECT pg_cancel_backend(pid) FROM backfill_workers WHERE run_id = $id"), 't', 'pg_cancel_backend is called');
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook' AND sqlstate = '57014'"), 'and ends it');
	drop_hooks();
	ok(settles($id, $event =~ /stopped/ ? 'stopped' : $event eq 'after run completed' ? 'completed' : 'failed'), 'what follows is as after any error of the hook');
	nobody_left($id, 'and the worker leaves');
}
foreach my $event ('before run failed', 'after run stopped', 'before run completed', 'after run completed', 'before batch failed')
{
	fresh();
	sql("INSERT INTO behave VALUES (150, '" . ($event =~ /failed/ ? 'fail' : 'gate') . "')") if $event !~ /completed/;
	hook($event, 'BEGIN PERFORM pg_sleep(3600); END');
	$id = sql(q{SELECT backfill_start('v', settings => '{"max_attempts": 2, "statement_timeout": "300 ms"}')});
	if ($event =~ /stopped/)
	{
		ok(at_gate($id, 2), 'a run is under way');
		sql("SELECT backfill_stop($id, immediate => true)");
	}
	ok(settles($id, $event =~ /stopped/ ? 'stopped' : $event eq 'after run completed' ? 'completed' : 'failed'),
		"$event: statement_timeout ends a hook that hangs");
	nobody_left($id, 'and the worker');
	like(hook_events($id), qr/^57014 .*canceling statement due to statement timeout/, 'an event says so');
}

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

# ---------------------------------------------------------------------------
note 'hooks that end their process';

my $die = q{PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60);};
foreach my $event ('before batch running', 'before batch completed')
{
	fresh();
	hook($event, "BEGIN IF e.batch = 2 THEN $die END IF; END");
	$id = start();
	ok(wait_for($node, "SELECT status = 'failed' FROM backfill_runs WHERE id = $id"), "$event: a hook that ends its process three times fails the run");
	is(run_value($node, $id, 'error'), 'batch 2 brought down its worker or the server 3 times', 'the error tells');
	resumes($id, "$event ending its process");
}
fresh();
hook('after batch completed', "BEGIN $die END");
$id = start();
ok(settles($id, 'completed'), 'a hook that ends its process after each batch only delays the run');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

fresh();
hook('before run completed', "BEGIN IF nextval('once') < 3 THEN $die END IF; PERFORM note('third', e); END");
$id = start();
ok(settles($id, 'completed'), 'a hook that ends its process twice before the end of the run');
is(sql('SELECT count(*) FROM log'), '1', 'is called until it returns');
is(transitions($id), 'enqueued running completed', 'the change was made once');
fresh();
hook('before run completed', "BEGIN PERFORM nextval('once'); $die END");
$id = start();
ok(settles($id, 'failed'), 'one that always does fails the run in the end');
is(sql('SELECT last_value FROM once'), '3', 'after three times');
is(run_value($node, $id, 'sqlstate, error'), '57P02|the end of the run, or a hook, brought down its worker or the server 3 times', 'the error tells');
resumes($id, 'a hook that always ends its process');
fresh();
hook('before run failed', "BEGIN PERFORM nextval('once'); $die END");
sql("INSERT INTO behave VALUES (150, 'fail')");
$id = start();
ok(settles($id, 'failed'), 'one that ends its process before "failed" cannot prevent that');
is(sql('SELECT last_value FROM once'), '3', 'after three times');
is(run_value($node, $id, 'error'), 'row 150 is bad', 'the error of the run is what it was');
like(hook_events($id), qr/^57P02 the end of the run, or a hook, brought down/, 'an event tells of the hook');
resumes($id, 'a hook before "failed" that ends its process');

# ---------------------------------------------------------------------------
note 'the server is killed in a hook';

foreach my $event ('before run completed', 'around run completed', 'after run completed', 'before batch completed', 'after batch completed')
{
	fresh();
	my $yield = $event =~ /around/ ? 'PERFORM backfill_yield();' : '';
	my $when = $event =~ /batch/ ? 'e.batch = 2 AND' : '';
	hook($event, qq{BEGIN $yield PERFORM note('called', e);
		WHILE $when EXISTS (SELECT FROM behave WHERE id = 1) LOOP PERFORM pg_sleep(0.05); END LOOP; END});
	sql("INSERT INTO behave VALUES (1, 'hang')");
	$id = start();
	ok(hangs($id), "a worker is in a hook $event");
	ok(kill_postmaster($node), 'the postmaster is killed');
	$node->start;
	ok(wait_for_server($node), 'and started');
	sql('DELETE FROM behave');
	ok(wait_for($node, "SELECT status = 'completed' FROM backfill_runs WHERE id = $id"), 'the run is completed');
	nobody_left($id, 'no worker is left');
	is(transitions($id), 'enqueued running completed', 'each change was made once');
	is(run_value($node, $id, 'error'), '', 'without an error');
	is(sql(q{SELECT count(*) FROM log}), $event eq 'after run completed' ? '0' : $event =~ /batch/ ? '3' : '1',
		$event =~ /after/ ? 'the hook that was interrupted is not called again' : 'the hook was called until it returned')
	  if $event ne 'after batch completed';
	# the commit of a batch with hooks is not lost with the server
	is(sql(q{SELECT string_agg((e).batch::text, ' ' ORDER BY seq) FROM log}), '1 3', 'no hook was called and committed twice for a batch')
	  if $event eq 'after batch completed';
	check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');
}
$node->stop;
done_testing();
