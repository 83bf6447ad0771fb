# Giving way: a session of the foreground that waits for a lock of a batch has
# the batch cancelled, which is then done in halves, exactly once in the end.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Yield;
use Test::More;

yield_node();
my ($one) = @sessions;
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
cmp_ok($took[2], '<', 2000, 'in the median it takes a fraction of the batch');

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

$_->quit foreach @sessions;
$node->stop;
done_testing();
