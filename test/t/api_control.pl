# Control of runs: start at a time, pause, resume, stop, alter, delete, every
# illegal transition, backfill_wait, and what is tried again by itself.

use strict;
use warnings;
use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('control', conf => "deadlock_timeout = 100ms\n");

# What a command says when it fails, with SQLSTATE.
sub refusal
{
	my ($sql) = @_;
	my ($rc, $out, $err) = query($node, $sql, flags => [ '-v', 'VERBOSITY=verbose' ]);
	return $rc == 0 ? "no error: $out" : $err;
}

sub sql { return query_ok($node, $_[0]); }
sub value { return run_value($node, @_); }

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
is(sql('SELECT backfill_stop_all()'), '4', 'backfill_stop_all stops every active run');
ok(wait_for_status($node, $_, 'stopped'), "run $_ is stopped") for (@runs, $paused);
is(sql('SELECT backfill_stop_all()'), '0', 'then there is nothing left to stop');
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

# ---------------------------------------------------------------------------
note 'transitions';

# One run in each status.
define_increment($node, 'bad', '{"batch_size": 10, "target_batch_time": 0}', target => 't',
	statement => 'UPDATE batch SET n = 1 / (id - id)::int');
my $failed = start('bad');
my %run = (
	completed => $id,
	failed => $failed,
	running => start('t'),
	pending => sql('SELECT backfill_start($$t$$, ' . another() . q{, start_at => now() + interval '1 day')}),
	paused => start('t'),
	stopped => start('t'));
ok(wait_for_status($node, $failed, 'failed'), 'a run fails');
sql("SELECT backfill_pause($run{paused}), backfill_stop($run{stopped})");
ok(wait_for_status($node, $run{$_}, $_), "a run that is $_") for ('paused', 'stopped');
ok(sleeps($run{running}), 'a run that is running');

my @illegal = (
	[ 'pause', 'paused', qw(paused completed failed stopped) ],
	[ 'stop', 'stopped', qw(completed failed stopped) ],
	[ 'resume', 'enqueued', qw(running completed) ]);
for (@illegal)
{
	my ($function, $to, @from) = @$_;
	for my $from (@from)
	{
		like(refusal("SELECT backfill_$function($run{$from})"),
			qr/55000: cannot change run $run{$from} from "$from" to "$to"/,
			"backfill_$function of a run that is $from names both statuses");
	}
}
like(refusal("SELECT backfill_resume($run{pending})"), qr/55000: cannot resume run $run{pending}, which is "pending"/,
	'backfill_resume of a run that is pending');
for my $from (qw(running pending paused))
{
	like(refusal("SELECT backfill_delete($run{$from})"),
		qr/55006: cannot delete run $run{$from}, which is "$from".*HINT:.*backfill_stop\($run{$from}\)/s,
		"backfill_delete of a run that is $from");
}
like(refusal(q{SELECT backfill_drop('t')}), qr/55006.*run \d+ is active.*HINT/s,
	'backfill_drop of a definition with active runs');
for my $function ('pause', 'resume', 'stop', 'delete')
{
	like(refusal("SELECT backfill_$function(4711)"), qr/42704: backfill run 4711 does not exist/,
		"backfill_$function of no run");
}
is(value($run{$_}, 'status'), $_, "the run that was $_ still is") for sort keys %run;

# Nothing happens when the transaction that asked for it is rolled back.
sql("BEGIN; SELECT backfill_stop($run{running}), backfill_resume($run{paused}), backfill_start('t'); ROLLBACK");
is(value($run{$_}, 'status'), $_, "a rolled back change leaves a run $_") for ('running', 'paused');
is(sql('SELECT count(*) FROM backfill_runs WHERE id > ' . $run{stopped}), '0', 'a rolled back start starts nothing');

sql("SELECT backfill_stop($run{paused})");
is(value($run{paused}, 'status'), 'stopped', 'a paused run is stopped at once');
sql("SELECT backfill_delete($run{$_})") for ('paused', 'stopped', 'completed');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id IN ($run{paused}, $run{stopped}, $run{completed})"),
	'0', 'backfill_delete takes the batches with it');
sql('SELECT backfill_stop_all()');

# A failed run goes on where it failed.
create_target($node, 'f', 30);
$node->safe_psql('postgres', q{
	CREATE TABLE bad_row(id bigint);
	INSERT INTO bad_row VALUES (150);
	CREATE FUNCTION check_row(bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM bad_row b WHERE b.id = $1) THEN
			RAISE EXCEPTION 'row % is bad', $1 USING ERRCODE = 'ZZ001', DETAIL = 'the detail', HINT = 'the hint';
		END IF;
		RETURN 1;
	END $$});
define_increment($node, 'f', '{"batch_size": 10, "target_batch_time": 0}', statement => 'UPDATE batch SET n = n + check_row(id)');
$failed = start('f');
ok(wait_for_status($node, $failed, 'failed'), 'a run fails at a row');
is(value($failed, 'sqlstate, error, error_detail, error_hint, batches'),
	'ZZ001|row 150 is bad|the detail|the hint|1', 'it tells why, with everything the error had');
like(value($failed, 'error_context'), qr/check_row.*batch 2 of backfill run $failed "f"/s, 'and where');
is(sql("SELECT string_agg(status, ',' ORDER BY number), string_agg(error, ',') FROM backfill_batches WHERE run_id = $failed"),
	'completed,failed|row 150 is bad', 'so does the batch');
sql('DELETE FROM bad_row');
sql("SELECT backfill_resume($failed)");
ok(wait_for_status($node, $failed, 'completed'), 'mended and resumed it completes');
is(value($failed, 'sqlstate, error, error_detail, error_hint, error_context'), '||||', 'the error is forgotten');
check_exactly_once($node, $failed, 'f', 30, 'exactly once over a failure');

# ---------------------------------------------------------------------------
note 'backfill_wait';

sql('UPDATE f SET n = 0');
my $slow = start('f', '{"batch_size": 1, "target_batch_time": 0, "sleep": "50 ms"}');
my ($rc, $out, $err) = query($node, "CALL backfill_wait($slow, every => '100 ms')");
is($rc, 0, 'psql ends well when the run completed');
my @lines = grep { /^INFO:/ } split /\n/, $err;
cmp_ok(scalar(@lines), '>=', 3, 'several lines of progress');
like($lines[1], qr/run $slow "f" running: [\d.]+ %, \d+ of about \d+ rows/, 'with percent and rows');
like(join("\n", @lines), qr{, \d+ rows/s, ETA \d\d:\d\d:\d\d}, 'with rate and the time that is left');
like($lines[-1], qr/run $slow "f" completed: 100.00 %, 30 of \d+ rows/, 'the last one tells the end');
is(scalar(grep { $_ !~ /^INFO:  run $slow "f" / } split /\n/, $err), 0, 'and nothing else is printed');
my @percents = map { /: ([\d.]+) %/ ? $1 : () } @lines;
is(join(' ', @percents), join(' ', sort { $a <=> $b } @percents), 'the percentage never falls');
($rc, $out, $err) = query($node, "CALL backfill_wait($slow)");
like($err, qr/^INFO:  run $slow "f" completed: [^\n]*\n$/, 'waiting for a run that has ended says so at once');

like(refusal("CALL backfill_wait($run{stopped})"), qr/42704: backfill run $run{stopped} does not exist/,
	'there is no waiting for a run that was deleted');
like(refusal("CALL backfill_wait($run{running})"),
	qr/57014: backfill run $run{running} "t" was stopped.*HINT:.*backfill_resume/s,
	'the end of a run that was stopped is an error');
like(refusal("CALL backfill_wait($run{failed})"),
	qr/22012: backfill run $run{failed} "bad" failed: division by zero.*HINT:.*backfill_resume/s,
	'that of a run that failed is its error, with its SQLSTATE');
($rc) = query($node, "CALL backfill_wait($run{failed})");
isnt($rc, 0, 'psql does not end well then');

$slow = start('t');
ok(sleeps($slow), 'a run that takes an hour');
like(refusal("CALL backfill_wait($slow, '300 ms')"), qr/57014: timed out waiting for backfill run $slow, which is "running".*HINT:  The run goes on/s,
	'the waiting has a timeout');
is(value($slow, 'status'), 'running', 'which leaves the run alone');
($rc, $out, $err) = query($node, "CALL backfill_wait($slow, '0')");
isnt($rc, 0, 'a timeout of zero looks once');
like(refusal("BEGIN; CALL backfill_wait($slow)"), qr/25001: backfill_wait cannot run inside a transaction block/,
	'not in a transaction block');
like(refusal("DO \$\$ BEGIN PERFORM 1; CALL backfill_wait($slow); EXCEPTION WHEN division_by_zero THEN NULL; END \$\$"),
	qr/25001/, 'nor where an exception handler holds a transaction');
like(refusal('CALL backfill_wait(NULL)'), qr/22004/, 'the id may not be null');

my $waiting = session($node);
$waiting->send("CALL backfill_wait($slow, every => '50 ms')");
my $waits = 'FROM pg_stat_activity WHERE pid = ' . $waiting->pid;
ok(wait_for($node, "SELECT wait_event_type = 'Extension' AND query LIKE 'CALL backfill_wait%' $waits"),
	'a session that waits');
is( sql("SELECT bool_and(a.free) FROM generate_series(1, 20) i CROSS JOIN LATERAL (
			SELECT pg_sleep(0.02 + i * 0), pg_stat_clear_snapshot()) s CROSS JOIN LATERAL (
			SELECT i > 0 AND backend_xid IS NULL AS free $waits) a"),
	't', 'it never takes a transaction id');
ok(wait_for($node, "SELECT wait_event_type = 'Extension' AND backend_xmin IS NULL $waits"),
	'it holds no snapshot while it waits');
is(sql('SELECT string_agg(DISTINCT mode, $$,$$) FROM pg_locks WHERE relation IS NOT NULL AND mode <> $$AccessShareLock$$ AND pid = ' . $waiting->pid),
	'', 'and no lock that hinders anybody');
sql("SELECT backfill_stop($slow)");
like($waiting->query('SELECT 1'), qr/ERROR:  backfill run $slow "t" was stopped/, 'it is told of the end');
$waiting->quit;

# ---------------------------------------------------------------------------
note 'what is tried again';

sub retried
{
	my ($run, $what, $pattern) = @_;
	ok(wait_for($node, "SELECT max(attempt) > 1 FROM backfill_batches WHERE run_id = $run"),
		"$what: the batch is tried again");
	like(sql("SELECT error FROM backfill_batches WHERE run_id = $run AND attempt > 1"), $pattern,
		"$what: it says why");
	return;
}

my $blocker = session($node);
sql('UPDATE f SET n = 0');
$blocker->query('BEGIN');
$blocker->query('SELECT id FROM f WHERE id = 150 FOR UPDATE');
my $run = start('f', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "100ms", "retry_delay": "100ms", "max_attempts": 1000}');
retried($run, 'a row lock held elsewhere', qr/lock timeout/);
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND attempt > 1"),
	'backfill_workers counts the attempts');
$blocker->query('COMMIT');
ok(wait_for_status($node, $run, 'completed'), 'when the lock is gone the run completes');
check_exactly_once($node, $run, 'f', 30, 'exactly once over attempts');
is(sql("SELECT string_agg(DISTINCT number::text, ',') FROM backfill_batches WHERE run_id = $run AND (attempt > 1 OR part > 0 OR error IS NOT NULL)"),
	'2', 'only that batch was attempted again');

# Attempts come to an end.
sql('UPDATE f SET n = 0');
$blocker->query('BEGIN');
$blocker->query('SELECT id FROM f WHERE id = 150 FOR UPDATE');
$run = start('f', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "50ms", "retry_delay": "10ms", "max_attempts": 3}');
ok(wait_for_status($node, $run, 'failed'), 'after max_attempts the run fails');
is(sql("SELECT end_key[1], status FROM backfill_batches WHERE run_id = $run AND status = 'failed' AND rows_scanned = 1 AND attempt > 3"), '150|failed',
	'the row that is locked was attempted so often');
is(value($run, 'sqlstate'), '55P03', 'the SQLSTATE is that of the last error');
is(sql("SELECT count(*) FROM pg_locks l WHERE NOT granted"), '0', 'nobody waits any more');

# A sleeping retry hears a stop.
sql("SELECT backfill_resume($run)");
sql(qq{SELECT backfill_alter($run, '{"retry_delay": "60 s", "max_attempts": 1000}')});
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND state = 'retrying'"),
	'the batch waits for its next attempt');
sql("SELECT backfill_stop($run)");
ok(wait_for_status($node, $run, 'stopped', timeout => 30), 'a stop does not wait for that');
$blocker->query('COMMIT');

# A deadlock: the batch has row 110 and wants the other table's, the blocker the
# other way round.  The gate makes the batch the last to wait, so that it is the
# one to notice.
sql('UPDATE f SET n = 0');
sql('CLUSTER f USING f_pkey');	# so that a batch comes to 110 before 200
$node->safe_psql('postgres', q{
	CREATE TABLE other(id int PRIMARY KEY, v int DEFAULT 0);
	INSERT INTO other VALUES (1);
	CREATE FUNCTION touch_other(bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF $1 = 200 THEN
			PERFORM pg_advisory_xact_lock_shared(77);
			UPDATE other SET v = v + 1;
		END IF;
		RETURN 1;
	END $$});
define_increment($node, 'dead', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off", "yield_after": "off", "retry_delay": "50ms"}',
	target => 'f', statement => 'UPDATE batch SET n = n + touch_other(id)');
my $gate = session($node);
my $worker_waits = q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'backfill worker' AND wait_event_type = 'Lock'};
$gate->query('SELECT pg_advisory_lock(77)');
$blocker->query(q{SET deadlock_timeout = '1h'});
$blocker->query('BEGIN');
$blocker->query('SELECT id FROM other FOR UPDATE');
$run = start('dead');
ok(wait_for($node, $worker_waits), 'a batch waits for a lock');
$blocker->send('UPDATE f SET f = f + 1 WHERE id = 110');
ok(wait_for($node, 'SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = ' . $blocker->pid),
	'its own lock is waited for');
$gate->query('SELECT pg_advisory_unlock(77)');
retried($run, 'a deadlock', qr/deadlock detected/);
$blocker->query('COMMIT');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
check_exactly_once($node, $run, 'f', 30, 'exactly once over a deadlock');
is(sql('SELECT v FROM other'), '1', 'what the batch did elsewhere was done once, too');

# A serialization failure: several statements run at REPEATABLE READ.
sql('UPDATE f SET n = 0');
define_increment($node, 'serial', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off", "retry_delay": "50ms"}',
	target => 'f', statement => 'SELECT pg_advisory_xact_lock_shared(77) FROM batch LIMIT 1; UPDATE batch SET n = n + 1');
$gate->query('SELECT pg_advisory_lock(77)');
$run = start('serial');
ok(wait_for($node, $worker_waits), 'a batch between two statements');
sql('UPDATE f SET f = f + 1 WHERE id = 50');
$gate->query('SELECT pg_advisory_unlock(77)');
ok(wait_for_status($node, $run, 'completed'), 'a run with a serialization failure completes');
is(sql("SELECT attempt, error FROM backfill_batches WHERE run_id = $run AND number = 1"),
	'2|could not serialize access due to concurrent update', 'the batch was tried again, and says why');
check_exactly_once($node, $run, 'f', 30, 'exactly once over a serialization failure');
$gate->quit;
$blocker->quit;

$node->stop;
done_testing();
