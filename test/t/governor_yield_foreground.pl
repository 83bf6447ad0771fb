# Giving way: a session of the foreground that waits for a lock of a batch has
# the batch cancelled, which is then done in halves, exactly once in the end.
# And what does not make a batch give way.
#
# Every run here has max_attempts 1: giving way is neither an error nor a try.

use strict;
use warnings;

use BackfillTest;
use Test::More;
use Time::HiRes qw(time usleep);

seed_random();
my $node = make_node('yield', conf => "deadlock_timeout = 100ms\nmax_connections = 50\n");

sub sql { return query_ok($node, $_[0]); }

# nap(id) takes as long as the table says, also when that changes meanwhile.
sql(q{
	CREATE TABLE nap (s float8);
	INSERT INTO nap VALUES (0);
	CREATE FUNCTION nap(id bigint) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		WHILE clock_timestamp() < began + (SELECT s FROM nap) * interval '1 s' LOOP
			PERFORM pg_sleep(0.005);
		END LOOP;
		RETURN 1;
	END $$;
});
sub nap { return sql("UPDATE nap SET s = $_[0]"); }

my $general = '"target_batch_time": 0, "sleep": 0, "max_attempts": 1, "retry_delay": "20 ms"';
my $number = 0;

# A new table, of so many rows that take so long each, and a run over it.
sub begin_run
{
	my ($rows, $seconds, $settings, %opts) = @_;
	my $table = 't' . ++$number;

	create_target($node, $table, $rows);
	define_increment($node, $table, qq({$general, $settings}), statement => $opts{statement} || 'UPDATE batch SET n = n + nap(id)');
	$opts{before}->($table) if $opts{before};
	nap($seconds);
	return ($table, start_run($node, $table));
}

# The batch has locked rows, and is far from its end.
sub in_batch
{
	my ($id, $batch, $ms) = @_;
	$batch ||= 1;
	$ms ||= 300;
	return ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers w JOIN pg_stat_activity a USING (pid)
		WHERE run_id = $id AND w.state = 'running' AND batch = $batch AND backend_xid IS NOT NULL
		  AND clock_timestamp() - query_start > interval '$ms ms'", interval => 20_000), "batch $batch is under way");
}

# Milliseconds that the statement takes, by the client's clock.
sub timing
{
	my ($session, $sql) = @_;
	my $out = $session->query("\\timing on\n$sql");

	$session->query("\\timing off\nSELECT");
	return $1 if $out =~ /^Time: ([\d.]+) ms/m && $out !~ /ERROR/;
	diag($out);
	return 1e9;
}

sub value { return run_value($node, $_[0], $_[1]); }
sub waits { my ($session) = @_; return ok(wait_for($node, 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = ' . $session->pid, interval => 5_000), 'a session waits'); }

# The end of a run: every row once, giving way was no error.
sub ends
{
	my ($id, $table, $rows, %opts) = @_;
	nap(0) unless $opts{slow};
	ok(wait_for_status($node, $id, 'completed'), 'the run completes');
	check_exactly_once($node, $id, $table, $rows, 'every row was processed exactly once');
	is(value($id, 'yields'), sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'yield'"), 'each time it gave way is counted, and an event');
	is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'error'"), 0, 'and no error');
	return;
}

# Have the session do something, without waiting for the end of it.
sub start
{
	my ($session, $sql) = @_;
	$session->send($sql);
	$session->{run}->pump_nb while length $session->{in};
	return;
}

my @sessions = map { session($node) } 1 .. 8;
my ($one, $two) = @sessions;
my ($table, $id);

# --- An update in the foreground ---------------------------------------------

note 'an update in the foreground';
my @took;
foreach my $try (1 .. 5)
{
	($table, $id) = begin_run(100, 0.1, '"batch_size": 100');
	in_batch($id);
	push @took, timing($one, "UPDATE $table SET f = f + 1 WHERE id = 10");
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 0, 'it gets through before the batch');
	ends($id, $table, 100);
	is(sql("SELECT f FROM $table WHERE id = 10"), 1, 'what the session wrote is there');
	cmp_ok(value($id, 'yields'), '>=', 1, 'the batch gave way');
	is(sql("SELECT number, reason FROM backfill_events WHERE run_id = $id AND kind = 'yield' ORDER BY id LIMIT 1"),
		'1|process ' . $one->pid . ' waited for a lock of the batch', 'the event names the batch and the process');
	is(sql("SELECT max(rows_scanned), sum(rows_scanned) FROM backfill_batches WHERE run_id = $id AND number = 1"),
		'50|100', 'the batch was divided into halves');
}
@took = sort { $a <=> $b } @took;
diag(sprintf('an UPDATE in the way of a batch of 10 s takes %s ms', join(', ', @took)));
cmp_ok($took[2], '<', 400, 'in the median it takes less than 400 ms');

# --- Other sessions in the foreground ----------------------------------------

note 'other sessions in the foreground';
($table, $id) = begin_run(100, 0.1, '"batch_size": 100');
in_batch($id);
diag(sprintf('ALTER TABLE takes %.0f ms', timing($one, "ALTER TABLE $table ADD COLUMN more int")));
cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), '<', 2, 'ALTER TABLE gets through before the batch is done');
ends($id, $table, 100);
cmp_ok(value($id, 'yields'), '>=', 1, 'the batch gave way');

($table, $id) = begin_run(100, 0.1, '"batch_size": 100');
in_batch($id);
$one->query('BEGIN');
is($one->query("SELECT count(*) FROM (SELECT FROM $table WHERE id <= 30 FOR UPDATE) s"), 3, 'FOR UPDATE of several rows gets through');
nap(0);
ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_workers w JOIN pg_locks l USING (pid) WHERE run_id = $id AND NOT granted"), 'the batch waits for them in turn');
$one->query('COMMIT');
ends($id, $table, 100);

($table, $id) = begin_run(100, 0.1, '"batch_size": 100');
in_batch($id);
start($_, "UPDATE $table SET f = f + 1 WHERE id = 10") foreach @sessions;
$_->query('SELECT 1') foreach @sessions;
is(sql("SELECT f FROM $table WHERE id = 10"), scalar(@sessions), 'many sessions on one row get through');
cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), '<', 3, 'before the batch is done');
ends($id, $table, 100);

# --- One row only ------------------------------------------------------------

note 'one row only';
# takes the lock before the nap
sql(q{CREATE TABLE guarded AS SELECT i * 10 AS id FROM generate_series(1, 3) i;
	CREATE FUNCTION lock(key bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM FROM guarded WHERE id = key FOR UPDATE;
		RETURN 0;
	END $$});
($table, $id) = begin_run(3, 60, '"batch_size": 1', statement => 'UPDATE batch SET n = n + lock(id) + nap(id)');
in_batch($id);
$one->query('BEGIN');
my $took = timing($one, "SELECT FROM guarded WHERE id = 10 FOR UPDATE");
diag(sprintf('a row that is a batch of a minute is got after %.0f ms', $took));
is(sql("SELECT status, rows_scanned FROM backfill_batches WHERE run_id = $id AND number = 1"), 'pending|1', 'one row cannot be divided, and waits to be tried again');
$one->query('COMMIT');
in_batch($id, 2);
timing($one, "SELECT FROM guarded WHERE id = 20 FOR UPDATE");
ends($id, $table, 3);
cmp_ok(value($id, 'yields'), '>=', 2, 'it gave way as often as it took');

# --- Off ---------------------------------------------------------------------

note 'off';
foreach my $off ('0', '"off"')
{
	($table, $id) = begin_run(20, 0.05, qq("batch_size": 20, "yield_after": $off));
	in_batch($id, 1, 100);
	$one->query("UPDATE $table SET f = f + 1 WHERE id = 10");
	is(sql("SELECT status FROM backfill_batches WHERE run_id = $id"), 'completed', "yield_after $off: a session waits for the batch");
	ends($id, $table, 20);
	is(value($id, 'yields'), 0, 'which does not give way');
}

# switched on while somebody waits
($table, $id) = begin_run(100, 0.1, '"batch_size": 100, "yield_after": "off"');
in_batch($id);
start($one, "UPDATE $table SET f = f + 1 WHERE id = 10");
waits($one);
sql(qq(SELECT backfill_alter($id, '{"yield_after": "100 ms"}')));
$one->query('SELECT 1');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 0, 'it can be switched on in the middle of a batch');
ends($id, $table, 100);

# --- What does not count -----------------------------------------------------

note 'what does not count';

# Somebody has waited for so long, and the run has not given way.
sub long_wait
{
	my ($pid, $id) = @_;
	ok(wait_for($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $pid AND NOT granted AND clock_timestamp() - waitstart > interval '600 ms'"), 'it waits for a while');
	return is(value($id, 'yields'), 0, 'no batch gives way');
}

# a session that waits for another one
($table, $id) = begin_run(200, 0.1, '"batch_size": 100');
in_batch($id);
$one->query("BEGIN; UPDATE $table SET f = f + 1 WHERE id = 2000");
start($two, "UPDATE $table SET f = f + 1 WHERE id = 2000");
long_wait($two->pid, $id);
$one->query('COMMIT');
$two->query('SELECT 1');
ends($id, $table, 200);

# a session behind a batch that waits itself, and holds nothing
($table, $id) = begin_run(100, 0, '"batch_size": 50, "lock_timeout": "off", "sleep": "10 min"');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'"), 'a run sleeps after its first batch');
$one->query("BEGIN; LOCK TABLE $table IN SHARE MODE");
sql(qq(SELECT backfill_alter($id, '{"sleep": 0}')));
ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_workers w JOIN pg_locks l USING (pid) WHERE run_id = $id AND NOT granted"), 'its next batch waits for a session');
$two->query('BEGIN');
start($two, "LOCK TABLE $table IN SHARE ROW EXCLUSIVE MODE");
long_wait($two->pid, $id);
my $said = () = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /backfill worker .*still waiting for RowExclusiveLock/g;
cmp_ok($said, '>', 0, 'the log says that the batch waits');
cmp_ok($said, '<', 20, 'not every few milliseconds');
$one->query('COMMIT');
$two->query('COMMIT');
ends($id, $table, 100);

# another run's worker, which begins first, or it would wait for the batch to end
($table, $id) = begin_run(100, 0.1, '"batch_size": 1, "share_target": true, "lock_timeout": "off", "sleep": "10 min"', statement => 'UPDATE batch SET f = f + 1');
my ($other, $shared) = ($id, $table);
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $other AND state = 'sleeping'"), 'another run sleeps');
define_increment($node, 'beside', qq({$general, "batch_size": 100, "share_target": true}), target => $shared, statement => 'UPDATE batch SET n = n + nap(id)');
$id = start_run($node, 'beside');
in_batch($id);
sql(qq(SELECT backfill_alter($other, '{"sleep": 0}')));
ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_workers w JOIN pg_locks l USING (pid) WHERE run_id = $other AND NOT granted AND clock_timestamp() - waitstart > interval '600 ms'"), "its worker waits for the batch");
is(value($id, 'yields'), 0, 'which does not give way');
ends($id, $shared, 100);
ok(wait_for_status($node, $other, 'completed'), 'nor is the other run lost');

# a hook after a batch, which is not a batch, and is not tried again
($table, $id) = begin_run(20, 0, '"batch_size": 10', before => sub {
	sql(q{CREATE TABLE told (i int, n int); INSERT INTO told VALUES (1, 0)});
	sql(q{CREATE FUNCTION tell(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN UPDATE told SET n = n + 1; PERFORM pg_sleep(1); END $$});
	sql("SELECT backfill_on('after batch completed', 'tell', '$_[0]')");
});
ok(wait_for($node, q{SELECT count(*) = 1 FROM pg_locks l JOIN backfill_workers w USING (pid) WHERE l.relation = 'told'::regclass}, interval => 5_000), 'a hook after a batch is at work');
$one->query('UPDATE told SET i = i + 1');
ends($id, $table, 20);
is(sql('SELECT n FROM told'), 2, 'it is not cancelled for a session that waits for it');

# --- Hooks, several statements, several workers ------------------------------

note 'hooks, several statements, several workers';
($table, $id) = begin_run(100, 1, '"batch_size": 100', statement => 'UPDATE batch SET n = n + 1', before => sub {
	sql(q{CREATE TABLE said (status text, batch bigint)});
	sql(q{CREATE FUNCTION say(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO said VALUES (e.status, e.batch);
			WHILE e.status = 'completed' AND (SELECT s > 0 FROM nap) LOOP
				PERFORM pg_sleep(0.005);
			END LOOP;
		END $$});
	sql("SELECT backfill_on('before batch ' || s, 'say', '$_[0]') FROM unnest(ARRAY['running', 'completed']) s");
});
in_batch($id);
timing($one, "UPDATE $table SET f = f + 1 WHERE id = 10");
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 0, 'also in a hook before the end of the batch');
ends($id, $table, 100);
cmp_ok(value($id, 'yields'), '>=', 1, 'the batch gave way');
is(sql(q{SELECT count(*) FROM said WHERE status = 'completed'}), sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id"), 'the hook was called once for each part in the end');

sql('CREATE TABLE copied (id bigint)');
($table, $id) = begin_run(40, 0.1, '"batch_size": 40', statement => 'INSERT INTO copied SELECT id FROM batch; UPDATE batch SET n = n + nap(id)');
in_batch($id);
timing($one, "UPDATE $table SET f = f + 1 WHERE id = 10");
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 0, 'a batch of several statements gives way');
nap(0);
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(sql('SELECT count(*), count(DISTINCT id) FROM copied'), '40|40', 'all of its statements once for each row');
is(sql("SELECT count(*) FROM $table WHERE n <> 1"), 0, 'each row');

my $rows = full_length() ? 4000 : 400;
($table, $id) = begin_run($rows, 0.005, '"batch_size": 50, "workers": 4, "yield_after": "10 ms", "lock_timeout": "off"', before => sub { nap(0.005) });
my $foreground = foreground_start($node, $table, $rows / 8);
ok(wait_for($node, "SELECT yields > 3 FROM backfill_runs WHERE id = $id"), 'four workers among hot rows give way');
ends($id, $table, $rows, slow => 1);
foreground_stop($foreground);
diag('yields of four workers among hot rows: ' . value($id, 'yields'));

# --- What may go wrong -------------------------------------------------------

note 'what may go wrong';

# changed all the time, so that workers are told of it when they are cancelled
($table, $id) = begin_run(400, 0.02, '"batch_size": 100, "yield_after": "20 ms"');
foreach my $try (1 .. 4)
{
	my $until = time + 1;

	in_batch($id, "batch", 50);
	start($one, "UPDATE $table SET f = f + 1 WHERE id <= 4000");
	while (time < $until)
	{
		my $ms = int(rand(20)) + 1;
		sql(qq(SELECT backfill_alter($id, '{"sleep": "$ms ms"}')));
	}
	$one->query('SELECT 1');
	last if value($id, 'status') ne 'running';
}
ends($id, $table, 400);
cmp_ok(value($id, 'yields'), '>', 0, 'the run gave way while it was changed all the time');

# the scheduler, which looks who waits, stands still, and is ended
sub scheduler { return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'}); }
($table, $id) = begin_run(100, 0.1, '"batch_size": 100');
in_batch($id);
my $scheduler = scheduler();
kill('STOP', $scheduler);
start($one, "UPDATE $table SET f = f + 1 WHERE id = 10");
waits($one);
kill('CONT', $scheduler);
$one->query('SELECT 1');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 0, 'a scheduler that stood still sees who waits when it moves');
in_batch($id);
sql("SELECT pg_terminate_backend($scheduler)");
$one->query("UPDATE $table SET f = f + 1 WHERE id = 10");
cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), '<', 2, 'so does the one that comes after it is ended');
ends($id, $table, 100);

$_->quit foreach @sessions;
$node->stop;
done_testing();
