# Partitions as streams: those that are attached during the run are walked, too, those
# that are detached end where they are; what a partition lacks fails its own stream.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Streams;
use Test::More;

one_node('main');
create_step($node);
my $step = 'UPDATE batch SET n = n + step(id), w = run.stream';
my $exact = '"batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "10 ms"';

# ---------------------------------------------------------------------------
note 'attached and detached during the run';

partitions('p', 3, 10);
sql("INSERT INTO behave VALUES (300001, 'gate'), (200011, 'gate')");
define_streams('p', 'partitions', qq({"workers": 2, $exact}), statement => $step);
my $run = start_run($node, 'p');
ok(streams_are($run, 'p_3 running, p_2 running, p_1 pending'), 'the longest two are at work');
ok(at_step($run, 2), 'and held in the middle');

# by DDL that must not wait for the run, and one that has to wait for the batch in hand only
sql("CREATE TABLE p_9 PARTITION OF p (PRIMARY KEY (id)) FOR VALUES IN (9)", "INSERT INTO p SELECT 9, 900000 + i FROM generate_series(1, 25) i");
sql("CREATE TABLE p_8 (LIKE p INCLUDING DEFAULTS, PRIMARY KEY (id))", "INSERT INTO p_8 SELECT 8, 800000 + i FROM generate_series(1, 15) i",
	"ALTER TABLE p ATTACH PARTITION p_8 FOR VALUES IN (8)");
sql("CREATE TABLE p_7 PARTITION OF p FOR VALUES IN (7)", "INSERT INTO p VALUES (7, 700001)");
sql('ALTER TABLE p DETACH PARTITION p_1');
is(states($run), 'p_3 running, p_2 running, p_1 pending', 'nobody has noticed yet');
my $detach = session($node);
$detach->send('ALTER TABLE p DETACH PARTITION p_2');
ok(wait_for($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = " . $detach->pid . " AND wait_event_type = 'Lock'"), 'a partition is to be detached while a batch of it is in hand');
sql('DELETE FROM behave');
is($detach->query('SELECT 1'), 1, 'it is, when the batch is done');
$detach->quit;
ok(wait_for($node, "SELECT status IN ('failed', 'completed') FROM backfill_runs WHERE id = $run"), 'the run ends');
is(run_value($node, $run, 'error'), 'table "p_7" has no primary key', 'because of the one without a key')
  or diag(states($run));
is(stream_value($run, 'p_1', 'status, rows_affected'), 'completed|0', 'one that was detached before it was begun was not walked');
is(stream_value($run, 'p_2', "status, rows_affected >= 20, rows_affected < 21"), 'completed|t|t', 'one that was detached in the middle');
is(sql('SELECT sum(n) FROM p_1'), 0, 'no row of it was touched');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind = 'stream' AND reason = 'is a new partition'"), 3, 'each new one is an event');
cmp_ok(sql("SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind = 'stream' AND stream = 'p_1' AND reason LIKE '%detached%'"), '>=', 1, 'and so is a detached one');
sql('ALTER TABLE p_7 ADD PRIMARY KEY (id)', "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'resumed, it completes');
is(sql('SELECT count(*) FROM p WHERE n <> 1 OR w <> tableoid::regclass::text'), 0, 'every row of every partition once, the new ones included');
is(sql('SELECT count(*) FROM p'), 71, 'all that are there');
is(sql("SELECT string_agg(name, ' ' ORDER BY position) FROM backfill.stream WHERE run_id = $run AND position <= 3"), 'p_3 p_2 p_1', 'those of the beginning come first');

# ---------------------------------------------------------------------------
note 'detached in the middle of its walk';

partitions('q', 3, 40);
sql("INSERT INTO behave VALUES (300031, 'gate')");
define_streams('q', 'partitions', qq({"workers": 1, $exact}), statement => $step);
$run = start_run($node, 'q');
ok(at_step($run, 1), 'the fourth batch is in hand');
sql('DROP TABLE q_1');
$detach = session($node);
$detach->send('ALTER TABLE q DETACH PARTITION q_3');
ok(wait_for($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = " . $detach->pid . " AND wait_event_type = 'Lock'"), 'its partition is to be detached');
sql('DELETE FROM behave');
is($detach->query('SELECT 1'), 1, 'and is');
$detach->quit;
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(sql("SELECT n, count(*) FROM q_3 GROUP BY n ORDER BY n"), stream_value($run, 'q_3', "'0|' || 120 - rows_affected || E'\n1|' || rows_affected"), 'it ends where it was');
cmp_ok(stream_value($run, 'q_3', 'rows_affected'), '<', 120, 'not all of it was walked');
is(sql('SELECT count(*), min(n), max(n) FROM q'), '80|1|1', 'the one that is left is done');
is(stream_value($run, 'q_1', 'status, rows_affected'), 'completed|0', 'and the one that was dropped is over');

# ---------------------------------------------------------------------------
note 'one that fails leaves the others done';

partitions('f', 6, 10);
sql("INSERT INTO behave VALUES (400007, 'fail')");
define_streams('f', 'partitions', qq({"workers": 2, "on_error": "skip", "max_errors": 1, "max_error_rate": 1, $exact}), statement => $step);
sql('ALTER TABLE f_3 DROP CONSTRAINT f_3_pkey', "INSERT INTO behave VALUES (400008, 'fail'), (400009, 'fail')");
$run = start_run($node, 'f');
ok(wait_for_status($node, $run, 'failed'), 'the run fails');
is(run_value($node, $run, 'error'), '2 of 6 streams failed: f_4, f_3', 'naming those that did');
is(stream_value($run, 'f_3', 'error, sqlstate'), 'table "f_3" has no primary key|55000', 'one has no key');
is(sql('SELECT count(*) FROM f WHERE n = 1 AND part NOT IN (3, 4)'), 140, 'the other four are done');
sql('ALTER TABLE f_3 ADD PRIMARY KEY (id)', 'DELETE FROM behave', "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'mended and resumed, it completes');
like(sql("SELECT backfill_retry($run)"), qr/skipped rows? (is|are) tried again/, 'with rows that were skipped before it failed');
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'which are retried');
check_streams($run, 'f', q{'f_' || part}, 'every row once');

# ---------------------------------------------------------------------------
note 'what comes between the table and a partition after the start';

sql('CREATE ROLE alice LOGIN');
partitions('r', 3, 10);
sql('GRANT SELECT, UPDATE ON r, r_1, r_2, r_3 TO alice', "INSERT INTO behave VALUES (300001, 'gate')");
as('alice', "SELECT backfill_define('r', 'r', '$step', streams => 'partitions', settings => '{\"workers\": 1, \"on_error\": \"skip\", $exact}')");
sql('REVOKE UPDATE ON r_2 FROM alice');
is(state_of('alice', "SELECT backfill_start('r')"), '42501', 'a right that is missing is seen at the start');
sql('GRANT UPDATE ON r_2 TO alice');
$run = as('alice', "SELECT backfill_start('r')");
ok(at_step($run, 1), 'the first is at work');
sql('REVOKE UPDATE ON r_2 FROM alice', 'ALTER TABLE r_1 ENABLE ROW LEVEL SECURITY', 'DELETE FROM behave');
ok(wait_for_status($node, $run, 'failed'), 'the run fails');
is(states($run), 'r_3 completed, r_2 failed, r_1 failed', 'the first is done');
is(stream_value($run, 'r_2', 'error'), 'permission denied for partition r_2', 'a right is missing');
is(stream_value($run, 'r_1', 'error'), 'the partitions of table r cannot be streams', 'row security is in between');
is(sql('SELECT sum(n) FROM r WHERE part < 3'), 0, 'no row of theirs was touched');
sql('GRANT UPDATE ON r_2 TO alice', 'ALTER TABLE r_1 DISABLE ROW LEVEL SECURITY', "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'mended and resumed, it completes');
check_streams($run, 'r', q{'r_' || part}, 'every row once');

# ---------------------------------------------------------------------------
note 'generic, and an index of the table';

sql('CREATE TABLE g (part int, id bigint, n int NOT NULL DEFAULT 0, w text, UNIQUE (id, part)) PARTITION BY LIST (part)',
	'CREATE TABLE g_1 PARTITION OF g FOR VALUES IN (1)', 'CREATE TABLE g_2 PARTITION OF g FOR VALUES IN (2, 3) PARTITION BY LIST (part)',
	'CREATE SCHEMA other', 'CREATE TABLE other.g_2 PARTITION OF g_2 FOR VALUES IN (2)', 'CREATE TABLE "other"."G 3" PARTITION OF g_2 FOR VALUES IN (3)',
	'ALTER TABLE g ALTER id SET NOT NULL, ALTER part SET NOT NULL',
	'INSERT INTO g SELECT p, i FROM generate_series(1, 3) p, generate_series(1, 20 * p) i', 'ANALYZE g');
sql(q{SELECT backfill_define('g', NULL, 'UPDATE batch SET {c} = batch.{c} + 1, w = run.stream', key => '{k}', streams => 'partitions',
	parameters => '{"c": "name", "k": "name"}', generic => true, settings => '{"workers": 2}')});
$run = sql(q{SELECT backfill_start('g', '{"c": "n", "k": "g_id_part_key"}', target => 'g')});
ok(wait_for_status($node, $run, 'completed'), 'a generic definition, along the index of the table');
is(states($run), q(other."G 3" completed, other.g_2 completed, g_1 completed), 'in several levels and schemas')
  or diag(run_value($node, $run, 'error'));
is(sql('SELECT w, n, count(*) FROM g GROUP BY 1, 2 ORDER BY 3'), qq(g_1|1|20\nother.g_2|1|40\nother."G 3"|1|60), 'every row once');

$node->stop;
done_testing();
