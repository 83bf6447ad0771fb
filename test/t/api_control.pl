# Control of runs: start at a time, pause, resume, stop, alter.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('control', conf => "deadlock_timeout = 100ms\n");

# A run of a definition with settings of its own.  Those of "t" go side by side.
sub start
{
	my ($name, $settings) = @_;
	my $parameters = $name eq 't' ? another() . ', ' : '';
	return sql("SELECT backfill_start('$name', ${parameters}settings => '" . ($settings || '{}') . "')");
}

# A slow walk: 200 rows, and a pause after each batch that outlasts the test.
create_target($node, 't', 200);
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 hour", "share_target": true}', numbered => 1);

# Wait until the run sleeps between two batches.
sub sleeps
{
	my ($id) = @_;
	return wait_for($node,
		"SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'");
}

# ---------------------------------------------------------------------------
note 'start_at';

my $later = sql('SELECT backfill_start($$t$$, ' . another() . q{, settings => '{"sleep": 0}', start_at => now() + interval '1 hour')});
is(value($later, 'status'), 'pending', 'a run with start_at in the future is pending');
ok(wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'}),
	'nobody waits in the database for its time');
sql("SELECT backfill_pause($later)");
is(value($later, 'status'), 'paused', 'a pending run is paused at once');
sql("SELECT backfill_resume($later)");
is(value($later, 'status'), 'pending', 'and resumed it waits for its time again');
sql("SELECT backfill_stop($later)");
is(value($later, 'status'), 'stopped', 'a pending run is stopped at once');
sql("SELECT backfill_delete($later)");
is(sql("SELECT count(*) FROM backfill_runs WHERE id = $later"), '0', 'a stopped run is deleted');

my $past = sql('SELECT backfill_start($$t$$, ' . another() . q{, settings => '{"sleep": 0}', start_at => now() - interval '1 hour')});
ok(wait_for_status($node, $past, 'completed'), 'a start_at in the past starts at once');
like(refusal(q{SELECT backfill_start('t', start_at => 'infinity')}), qr/22023: start_at cannot be infinity/,
	'infinity is no time to start at');

# The due time also holds across a restart.
my $soon = sql('SELECT backfill_start($$t$$, ' . another() . q{, settings => '{"sleep": 0}', start_at => clock_timestamp() + interval '3 s')});
my $sooner = sql('SELECT backfill_start($$t$$, ' . another() . q{, settings => '{"sleep": 0}', start_at => clock_timestamp() + interval '1 s')});
ok(wait_for_status($node, $sooner, 'completed'), 'a run starts at its time');
$node->restart;
ok(wait_for_status($node, $soon, 'completed'), 'a run starts at its time after a restart');
is(sql("SELECT bool_and(started_at >= start_at) FROM backfill_runs WHERE id IN ($soon, $sooner)"),
	't', 'neither began before its time');
is(sql('SELECT count(*) FROM t WHERE n = 3'), '200', 'three runs, three times each row');
my $crash = sql('SELECT backfill_start($$t$$, ' . another() . q{, settings => '{"sleep": 0}', start_at => clock_timestamp() + interval '2 s')});
$node->stop('immediate');
$node->start;
ok(wait_for_status($node, $crash, 'completed'), 'a run starts at its time after a crash');
sql('UPDATE t SET n = 0');

# ---------------------------------------------------------------------------
note 'pause and resume';

my $id = start('t');
ok(sleeps($id), 'a run sleeps after its first batch');
is(value($id, 'batches'), '1', 'it has done one batch');
sql("SELECT backfill_pause($id)");
ok(wait_for_status($node, $id, 'paused'), 'backfill_pause wakes it from an hour of sleep');
is(value($id, 'workers'), '0', 'no worker stays with a paused run');
ok(wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'backfill %'
				  AND backend_type <> 'backfill launcher'}),
	'and nobody stays in the database');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, "SELECT batches >= 2 FROM backfill_runs WHERE id = $id"), 'backfill_resume has it go on');

# A request can be taken back while the batch in hand is at work.
$node->safe_psql('postgres', q{
	CREATE TABLE gate(open boolean);
	INSERT INTO gate VALUES (false);
	CREATE FUNCTION pass(int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT (SELECT open FROM gate) LOOP
			PERFORM pg_sleep(0.02);
		END LOOP;
		RETURN $1;
	END $$});
create_target($node, 'g', 40);
define_increment($node, 'g', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}',
	statement => 'UPDATE batch SET n = n + b.one FROM (SELECT pass(1) AS one) b');
my $gated = start('g');
my $in_batch = "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $gated AND state = 'running'";
ok(wait_for($node, $in_batch), 'a run with a batch in hand');
for my $request ('pause', 'stop')
{
	my $status = $request eq 'pause' ? 'paused' : 'stopped';

	sql("SELECT backfill_$request($gated)");
	like(value($gated, 'status, wait_reason'), qr/^running\|$status requested: waits for the batches in hand/,
		"backfill_$request waits for it and says so");
	sql("SELECT backfill_resume($gated)");
	is(value($gated, 'status, wait_reason'), 'running|', "backfill_resume takes backfill_$request back");
}
sql("SELECT backfill_pause($gated)");
sql("SELECT backfill_stop($gated)");
like(value($gated, 'wait_reason'), qr/^stopped requested/, 'a later request takes the place of an earlier one');
sql('UPDATE gate SET open = true');
ok(wait_for_status($node, $gated, 'stopped'), 'the run stops after the batch in hand');
is(value($gated, 'batches, rows_affected'), '1|10', 'that batch is counted');
is(sql('SELECT sum(n) FROM g'), '10', 'and its change is there');
sql("SELECT backfill_resume($gated)");
ok(wait_for_status($node, $gated, 'completed'), 'a stopped run is resumed');
check_exactly_once($node, $gated, 'g', 40, 'exactly once over stop and resume');

# ---------------------------------------------------------------------------
note 'stop';

sql("SELECT backfill_stop($id)");
ok(wait_for_status($node, $id, 'stopped'), 'backfill_stop wakes a sleeping worker');
is(value($id, 'finished_at IS NOT NULL, error IS NULL'), 't|t', 'a stopped run has an end and no error');

sql('UPDATE g SET n = 0');
sql('UPDATE gate SET open = false');
$gated = start('g');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $gated AND state = 'running'"),
	'a run with a batch in hand');
sql("SELECT backfill_stop($gated)");
sql("SELECT backfill_stop($gated, immediate => true)");
ok(wait_for_status($node, $gated, 'stopped'), 'an immediate stop cancels the batch in hand');
is(value($gated, 'batches, rows_affected'), '0|0', 'nothing is counted');
is(sql('SELECT sum(n) FROM g'), '0', 'nothing of the batch remains');
is(sql("SELECT status FROM backfill_batches WHERE run_id = $gated"), 'stopped', 'the batch says so');
sql('UPDATE gate SET open = true');
sql("SELECT backfill_resume($gated)");
ok(wait_for_status($node, $gated, 'completed'), 'the run is resumed');
check_exactly_once($node, $gated, 'g', 40, 'exactly once over an immediate stop');
is(sql("SELECT string_agg(attempt::text, ',' ORDER BY number) FROM backfill_batches WHERE run_id = $gated"),
	'2,1,1,1', 'the cancelled batch was attempted twice');

sql('UPDATE t SET n = 0');
my @runs = (start('t'), start('t'), sql('SELECT backfill_start($$t$$, ' . another() . q{, start_at => now() + interval '1 day')}));
my $paused = start('t');
sql("SELECT backfill_pause($paused)");
ok(sleeps($_), "run $_ is at work") for @runs[0, 1];
ok(wait_for_status($node, $paused, 'paused'), 'one run is paused');
is(sql('SELECT count(*) FROM backfill_stop_all()'), '4', 'backfill_stop_all stops every active run');
ok(wait_for_status($node, $_, 'stopped'), "run $_ is stopped") for (@runs, $paused);
is(sql('SELECT count(*) FROM backfill_stop_all()'), '0', 'then there is nothing left to stop');
sql('SELECT backfill_stop_all(immediate => true)');

# ---------------------------------------------------------------------------
note 'alter';

sql('UPDATE t SET n = 0');
$id = start('t');
ok(sleeps($id), 'a run sleeps');
sql(qq{SELECT backfill_alter($id, '{"batch_size": 25}')});
is(value($id, q{settings - '{share_target,target_batch_time}'::text[]}), '{"sleep": "1 hour", "batch_size": 25}', 'backfill_alter changes the settings');
ok(sleeps($id), 'the run goes on sleeping');
is(value($id, 'batches'), '1', 'no batch was begun for that');
sql(qq{SELECT backfill_alter($id, '{"sleep": "0"}')});
ok(wait_for_status($node, $id, 'completed'), 'a shorter sleep wakes the worker');
like(sql("SELECT string_agg(rows_scanned::text, ',' ORDER BY number) FROM backfill_batches WHERE run_id = $id"),
	qr/^10,(10,)?25,25,25,25,25,25,25,(15|5)$/, 'the new size holds from the next range that is claimed');
check_exactly_once($node, $id, 't', 200, 'exactly once over a change of the settings');

sql('UPDATE t SET n = 0');
$id = start('t');
ok(sleeps($id), 'a run with one worker');
for my $workers (3, 1, 2)
{
	sql(qq{SELECT backfill_alter($id, '{"workers": $workers}')});
	ok(wait_for($node, "SELECT count(*) = $workers AND bool_and(state = 'sleeping')
		  FROM backfill_workers WHERE run_id = $id"), "$workers workers after backfill_alter");
	is(value($id, 'workers'), $workers, "backfill_runs shows $workers");
}
sql(qq{SELECT backfill_alter($id, '{"workers": null, "sleep": null}')});
ok(wait_for_status($node, $id, 'completed'), 'null puts a setting back to its default');
is(value($id, q{settings - '{share_target,target_batch_time}'::text[]}), '{"batch_size": 10}', 'and takes it out of the run');
check_exactly_once($node, $id, 't', 200, 'exactly once over workers that come and go');

for my $setting ('direction": "desc', 'from": "7', 'to": "7', 'limit": "7')
{
	my ($name) = $setting =~ /^(\w+)/;
	like(refusal(qq{SELECT backfill_alter($later, '{"$setting"}')}),
		qr/55000: backfill setting "$name" cannot be changed/, "$name cannot be altered");
}
like(refusal(qq{SELECT backfill_alter($paused, '{"batch_sise": 1}')}),
	qr/42P02.*batch_sise.*HINT:  Perhaps you meant the setting "batch_size"/s,
	'an unknown setting names the nearest');
like(refusal(qq{SELECT backfill_alter($paused, '{"batch_size": 0}')}),
	qr/22023.*"batch_size".*between 1 and/s, 'a value out of range names the limits');
like(refusal(qq{SELECT backfill_alter($id, '{"batch_size": 1}')}),
	qr/55000.*run $id, which is "completed"/, 'a completed run has no settings to change');
sql(qq{SELECT backfill_alter($paused, '{"batch_size": 50, "sleep": 0}')});
sql("SELECT backfill_resume($paused)");
ok(wait_for_status($node, $paused, 'completed'), 'a stopped run is altered and resumed');

$node->stop;
done_testing();
