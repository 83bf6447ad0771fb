# Giving way: what does not make a batch give way; hooks, several statements
# and several workers; settings that change all the time, a scheduler that
# stands still.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Yield;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

yield_node();
my ($one, $two) = @sessions;
my ($table, $id);

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
my $waited = sql("SELECT extract(epoch FROM max(clock_timestamp() - waitstart)) FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock'");
my $said = () = slurp_file($node->logfile) =~ /backfill worker .*still waiting for RowExclusiveLock/g;
cmp_ok($said, '>', 0, 'the log says that the batch waits');
# a message each time that the wait has become an eighth longer
cmp_ok($said, '<', 12 + log(10 * $waited) / log(9 / 8), "not every few milliseconds: $said times in $waited s");
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

my $rows = full_length() ? 4000 : 1000;
($table, $id) = begin_run($rows, 0.05, '"batch_size": 50, "workers": 4, "yield_after": "10 ms", "lock_timeout": "off"');
my $foreground = foreground_start($node, $table, $rows);
ok(wait_for($node, "SELECT yields > 3 FROM backfill_runs WHERE id = $id"), 'four workers among hot rows give way');
nap(0.005);
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
