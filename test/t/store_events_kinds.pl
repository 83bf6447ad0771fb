# What the world is told about runs: the notification of each transition,
# backfill_events with every kind of event, and who sees them.
#
# alice owns the definitions, bob is a stranger, carol a member of alice, mon
# one of pg_monitor; a superuser, whose name the events have, does the rest.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('events');
my $super = sql('SELECT current_user');

sql(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE carol LOGIN;
	CREATE ROLE mon LOGIN;
	GRANT alice TO carol;
	GRANT pg_monitor TO mon;
	CREATE SCHEMA app AUTHORIZATION alice;
	ALTER DATABASE postgres SET search_path = app, public;
});
sql(q{
	GRANT USAGE ON SCHEMA app TO PUBLIC;
});
create_step($node);

# A table of alice's with a definition of that name, or of another.
sub make_target
{
	my ($table, $rows, $settings, %opts) = @_;
	my $name = $opts{name} || $table;
	my $more = $opts{more} || '';

	create_target($node, $table, $rows);
	sql("ALTER TABLE $table OWNER TO alice");
	as('alice', qq{SELECT backfill_define(\$n\$$name\$n\$, '$table', 'UPDATE batch SET n = n + step(id)', settings => '$settings' $more)});
}

sub nobody { return ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill_workers'), 'no worker is left'); }

# The events of a run, or those of some kinds: what they say but the time.
sub events
{
	my ($id, @kinds) = @_;
	my $kinds = @kinds ? "AND kind IN ('" . join("', '", @kinds) . "')" : '';
	return sql(qq{SELECT kind, previous_status, status, number, part, role, sqlstate, reason
		FROM backfill_events WHERE run_id = $id $kinds ORDER BY id});
}

# ---------------------------------------------------------------------------
note 'notifications';

my $name = q{it's "odd", \ and ä};
make_target('odd', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}', name => $name);
my $listener = session($node);
my @heard;

# What the session has heard, when it is so many.
sub heard
{
	my ($number) = @_;
	my $until = time + $BackfillTest::timeout;

	for (;;)
	{
		my $out = $listener->query('SELECT');
		push @heard, $1 while $out =~ /^Asynchronous notification "backfill" with payload "(.*)" received from server process/mg;
		last if @heard >= $number || time > $until;
		select(undef, undef, undef, 0.02);
	}
	return join("\n", splice(@heard));
}

# The payloads of the transitions of a run, as they ought to be.
sub payloads
{
	my ($id, @transitions) = @_;
	my $text = $name;
	my $previous = 'null';
	my @payloads;

	$text =~ s/([\\"])/\\$1/g;
	foreach my $status (@transitions)
	{
		push @payloads, qq[{"run": $id, "name": "$text", "status": "$status", "previous_status": $previous}];
		$previous = qq["$status"];
	}
	return join("\n", @payloads);
}

$listener->query('LISTEN backfill');
sql("INSERT INTO behave VALUES (50, 'gate'), (150, 'gate'), (250, 'fail')");
my $start = "SELECT backfill_start(\$n\$$name\$n\$)";
sql("BEGIN; $start; ROLLBACK");
my $id = sql($start);
ok(at_gate($id, 1), 'a run begins');
sql("SELECT backfill_pause($id)");
sql('DELETE FROM behave WHERE id = 50');
ok(settles($id, 'paused'), 'is paused');
sql("SELECT backfill_resume($id)");
ok(at_gate($id, 2), 'goes on');
sql("SELECT backfill_stop($id, true)");
ok(settles($id, 'stopped'), 'is stopped');
sql('DELETE FROM behave WHERE id = 150');
sql("SELECT backfill_resume($id)");
ok(settles($id, 'failed'), 'fails');
sql('DELETE FROM behave');
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'and is completed');
my @transitions = qw(enqueued running paused enqueued running stopped enqueued running failed enqueued running completed);
is(heard(scalar(@transitions)), payloads($id, @transitions), 'a session that listens was told of each transition, in order, and of none that was undone');
is(events($id, 'transition'), join("\n",
		"transition||enqueued|||$super||backfill_start", 'transition|enqueued|running|||||',
		"transition|running|paused|||$super||backfill_pause", "transition|paused|enqueued|||$super||backfill_resume",
		'transition|enqueued|running|||||', "transition|running|stopped|||$super||backfill_stop, immediate",
		"transition|stopped|enqueued|||$super||backfill_resume", 'transition|enqueued|running|||||',
		'transition|running|failed||||22000|row 250 is bad',
		"transition|failed|enqueued|||$super||backfill_resume", 'transition|enqueued|running|||||', 'transition|running|completed|||||'),
	'the events have the same, who caused them and why');
is(sql(qq{SELECT count(*) FROM backfill_events WHERE run_id = $id AND name = \$n\$$name\$n\$ AND at <= clock_timestamp() AND at > now() - interval '1 hour'}),
	sql("SELECT count(*) FROM backfill_events WHERE run_id = $id"), 'with the name of the definition and the time');
is(sql("SELECT bool_and(at >= before) FROM (SELECT at, lag(at) OVER (ORDER BY id) AS before FROM backfill_events WHERE run_id = $id) e"), 't',
	'in the order of time');
check_exactly_once($node, $id, 'odd', 30, 'every row was processed exactly once');

# with hooks a worker sends them, and a pending run sends its own
as('alice', q{CREATE FUNCTION hook(e backfill_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION veto(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'HK001'; END $$});
as('alice', "SELECT backfill_on('after run ' || s, 'hook', \$n\$$name\$n\$) FROM unnest(ARRAY['pending', 'enqueued', 'running', 'paused', 'completed']) s");
$id = sql("SELECT backfill_start(\$n\$$name\$n\$, start_at => now() + interval '1 hour')");
ok(settles($id, 'pending'), 'a run with hooks becomes pending');
sql("SELECT backfill_pause($id)");
ok(settles($id, 'paused'), 'is paused');
sql('UPDATE odd SET n = 0');
sql("UPDATE backfill.run SET start_at = now() WHERE id = $id");
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'and completed');
is(heard(5), payloads($id, qw(pending paused enqueued running completed)), 'the session was told of it');
check_exactly_once($node, $id, 'odd', 30, 'every row was processed exactly once');
nobody();
as('alice', "SELECT backfill_off(concat_ws(' ', phase, object, status), 'hook', name) FROM backfill_hooks");

# ---------------------------------------------------------------------------
note 'every kind of event';

make_target('t', 40, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "20 ms"}');
sql(q{INSERT INTO behave VALUES (50, 'gate'), (150, 'once'), (250, 'fail')});
$id = as('carol', q{SELECT backfill_start('t')});
ok(at_gate($id, 1), 'a run is under way');
as('alice', qq{SELECT backfill_alter($id, '{"sleep": "1 ms", "max_attempts": null}')});
is(events($id, 'settings'), 'settings|||||alice||{"sleep": "1 ms", "max_attempts": null}', 'settings: what was changed, and by whom');
as('carol', "SELECT backfill_pause($id)");
as('alice', "SELECT backfill_resume($id)");
as('alice', "SELECT backfill_stop($id)");
as('carol', "SELECT backfill_resume($id)");
is(events($id, 'request'), join("\n", 'request||paused|||carol||backfill_pause', 'request|||||alice||backfill_resume calls the request off',
		'request||stopped|||alice||backfill_stop', 'request|||||carol||backfill_resume calls the request off'),
	'request: what is asked for and called off, and by whom');
is(events($id, 'transition'), "transition||enqueued|||carol||backfill_start\ntransition|enqueued|running|||||", 'none of that is a transition');
ok(kill_postmaster($node), 'the postmaster is killed');
$node->start;
ok(wait_for_server($node), 'and started');
ok(at_gate($id, 1), 'the run goes on');
is(events($id, 'takeover'), 'takeover|||||||1 batch of workers that are gone', 'takeover: the batch in hand');
is(events($id, 'transition'), "transition||enqueued|||carol||backfill_start\ntransition|enqueued|running|||||", 'no transition: a crash changes no status');
sql('DELETE FROM behave WHERE id = 50');
ok(settles($id, 'failed'), 'the run fails');
is(events($id, 'retry'), 'retry|||2|0||40001|try again', 'retry: the batch and the error');
is(events($id, 'error'), 'error|||3|0||22000|row 250 is bad', 'error: the batch and the error');
as('alice', qq{SELECT backfill_alter($id, '{"on_error": "skip"}')});
as('carol', "SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'resumed it is completed without the row');
like(events($id, 'skip'), qr/^skip\|\|\|3\|\d+\|\|22000\|row 250 is bad$/, 'skip: the row and the error');
is(sql("SELECT b.skipped FROM backfill_events e JOIN backfill_batches b USING (run_id, number, part) WHERE run_id = $id AND kind = 'skip'"), 't',
	'which is the part of the batch that was skipped');
check_parts($node, $id, 't', 'every row was processed exactly once');
sql('DELETE FROM behave');
like(as('alice', "SELECT backfill_retry($id)"), tries(1), 'it is retried');
ok(wait_for($node, "SELECT errors = 0 FROM backfill_runs WHERE id = $id") && settles($id, 'completed'), 'and completed');
is(sql("SELECT role, reason FROM backfill_events WHERE run_id = $id AND kind = 'transition' AND previous_status = 'completed'"), 'alice|backfill_retry',
	'a transition by backfill_retry');
as('carol', "SELECT backfill_delete($id)");
is(events($id, 'delete'), 'delete|||||carol||', 'delete: by whom');
cmp_ok(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id"), '>', 10, 'what happened to a run outlives it');
is(as('alice', "SELECT count(*) FROM backfill_events WHERE run_id = $id"), sql("SELECT count(*) FROM backfill_events WHERE run_id = $id"),
	'also for its owner');

# A row that is repaired.
make_target('mend', 100, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip", "repair": "DELETE FROM behave USING batch WHERE behave.id = batch.id"}');
sql(q{INSERT INTO behave VALUES (330, 'fail'), (340, 'fail')});
$id = as('alice', q{SELECT backfill_start('mend')});
ok(settles($id, 'completed'), 'a run that repairs rows');
like(events($id, 'repair', 'skip'), qr/^repair\|\|\|4\|\d+\|\|22000\|row 3[34]0 is bad$/, 'repair: the row and the error, once for those that follow one another');
is(sql("SELECT count(*) FROM backfill_errors WHERE run_id = $id AND repaired"), '2', 'which are known');
check_parts($node, $id, 'mend', 'every row was processed exactly once');

# Equal errors of rows that follow one another are one event.
make_target('bad', 100, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip", "max_error_rate": 1}');
sql(q{INSERT INTO behave SELECT i * 10, 'fail' FROM generate_series(31, 60) i});
$id = as('alice', q{SELECT backfill_start('bad')});
ok(settles($id, 'completed'), 'a run that skips many rows');
is(sql("SELECT count(*) FROM backfill_errors WHERE run_id = $id"), '30', 'knows them all');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'skip'"), '1', 'but says so once');
check_parts($node, $id, 'bad', 'every row was processed exactly once');
sql('DELETE FROM behave');

# The end of a run.
make_target('ends', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "verify": true}', more => q{, scope => 'n = 0',
	finish => 'ALTER TABLE ends ADD COLUMN done boolean; COMMENT ON TABLE ends IS ''done'''});
sql(q{CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := 0; RETURN NEW; END';
	CREATE TRIGGER stay BEFORE UPDATE ON ends FOR EACH ROW WHEN (OLD.id = 150) EXECUTE FUNCTION stay()});
as('alice', q{SELECT backfill_on('before run completed', 'veto', 'ends'), backfill_on('after run completed', 'veto', 'ends')});
$id = as('alice', q{SELECT backfill_start('ends')});
ok(settles($id, 'failed'), 'a run with a row that stays in scope fails');
is(events($id, 'verify'), 'verify|||||||rows remaining: 1', 'verify: the rows that are left');
is(events($id, 'finish'), '', 'nothing is finished');
sql('DROP TRIGGER stay ON ends; UPDATE ends SET n = 1 WHERE id = 150');
as('alice', "SELECT backfill_resume($id)");
ok(settles($id, 'failed'), 'verified and finished it fails by a hook');
is(events($id, 'verify'), "verify|||||||rows remaining: 1\nverify|||||||rows remaining: 0", 'verify: none is left');
is(events($id, 'finish'), "finish|||||||statement 1 is done\nfinish|||||||statement 2 is done", 'finish: each statement');
is(events($id, 'hook'), 'hook||||||HK001|the change to "completed" was prevented: no', 'hook: a veto');
as('alice', q{SELECT backfill_off('before run completed', 'veto', 'ends')});
as('alice', "SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'without it the run is completed');
nobody();
is(events($id, 'hook'), qq{hook||||||HK001|the change to "completed" was prevented: no\nhook||||||HK001|hook "after run completed": no}, 'hook: an error after the change');
is(events($id, 'finish'), "finish|||||||statement 1 is done\nfinish|||||||statement 2 is done", 'what was finished is not done again');
is(sql(q{SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind) FROM backfill_events}),
	'delete error finish hook repair request retry settings skip takeover transition verify', 'every kind of event was seen');

# ---------------------------------------------------------------------------
note 'who sees them';

my $all = sql('SELECT count(*) FROM backfill_events');
cmp_ok($all, '>', 50, 'there are many events');
foreach my $case ([ 'alice', $all ], [ 'carol', $all ], [ 'mon', $all ], [ 'bob', 0 ])
{
	is(as($case->[0], 'SELECT count(*) FROM backfill_events'), $case->[1], "$case->[0] sees $case->[1]");
}
is(sqlstate($node, 'SELECT count(*) FROM backfill.event', flags => [ '-U', 'alice', '-v', 'VERBOSITY=sqlstate' ]), '42501', 'nobody reads the table');
is(sqlstate($node, 'DELETE FROM backfill_events', flags => [ '-U', 'alice', '-v', 'VERBOSITY=sqlstate' ]), '42501', 'nobody deletes from the view');
as('bob', q{CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE EXCEPTION 'leaked %', $1; END $$;
	SELECT count(*) FROM backfill_events WHERE pg_temp.leak(name)});
pass('nor does a function in the condition of a stranger see any');

$node->stop;
done_testing();
