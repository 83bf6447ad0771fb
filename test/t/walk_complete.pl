# Completeness: what transactions write that had written to the target when the
# run started, and that commit later, is covered.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('main');

# Start a run, and wait until it says that it waits.
sub start_and_wait
{
	my ($name, $pattern) = @_;
	my $id = start_run($node, $name);

	ok(wait_for($node, "SELECT coalesce(wait_reason LIKE '$pattern', false)
			FROM backfill_runs WHERE id = $id"),
		"$name: wait_reason names what the run waits for");
	return $id;
}

# --- sessions that write ---

my @writes = (
	[ 'below', "INSERT INTO below (id) VALUES (-5)", [-5] ],
	[ 'middle', "INSERT INTO middle (id) VALUES (505)", [505] ],
	[ 'above', "INSERT INTO above (id) VALUES (99999)", [99999] ],
	[ 'moved', "UPDATE moved SET id = id + 50000 WHERE id <= 500", [ map { 50000 + $_ * 10 } 1 .. 50 ] ],
	[ 'doomed', "DELETE FROM doomed WHERE id > 500", [] ],);

foreach my $case (@writes)
{
	my ($table, $sql, $keys) = @$case;
	my $writer = session($node);

	create_target($node, $table, 100);
	define_increment($node, $table, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
	$writer->query("BEGIN; $sql");
	my $pid = $writer->pid;
	my $id = start_and_wait($table, "waits for 1 transaction that wrote to the table%process $pid");

	is(run_value($node, $id, 'batches'), 0, "$table: nothing is processed meanwhile");
	is(query_ok($node, "SELECT string_agg(state, ' ') FROM backfill_workers WHERE run_id = $id"),
		'waiting', "$table: the worker waits");
	$writer->query('COMMIT');
	ok(wait_for_status($node, $id, 'completed'), "$table: completes when the writer has committed");
	is(run_value($node, $id, "coalesce(wait_reason, 'none')"), 'none', "$table: no reason to wait is left");
	my $rows = query_ok($node, "SELECT count(*) FROM $table");
	check_exactly_once($node, $id, $table, $rows, "$table: exactly once");
	is( query_ok($node, "SELECT count(*) FROM $table WHERE n = 1 AND id = ANY ('{"
			  . join(',', @$keys) . "}')"),
		scalar @$keys, "$table: what the writer wrote is covered");
	$writer->quit;
}

# a writer that rolls back
{
	my $writer = session($node);
	create_target($node, 'undone', 100);
	define_increment($node, 'undone', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
	$writer->query('BEGIN; INSERT INTO undone (id) VALUES (99999)');
	my $id = start_and_wait('undone', 'waits for 1 transaction%');
	$writer->query('ROLLBACK');
	ok(wait_for_status($node, $id, 'completed'), 'completes when the writer has rolled back');
	check_exactly_once($node, $id, 'undone', 100, 'exactly once');
	$writer->quit;
}

# a writer that goes through a child of the target, beside another one
{
	my ($one, $two) = (session($node), session($node));
	$node->safe_psql('postgres', q{
		CREATE TABLE parts (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0,
			foreground boolean NOT NULL DEFAULT false) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
		CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
		INSERT INTO parts SELECT i * 10 FROM generate_series(1, 200) i});
	define_increment($node, 'parts', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
	$one->query('BEGIN; INSERT INTO parts_1 VALUES (5)');
	$two->query('BEGIN; INSERT INTO parts_2 VALUES (77777)');
	my $id = start_and_wait('parts', 'waits for 2 transactions%');
	$two->query('COMMIT');
	$one->query('COMMIT');
	ok(wait_for_status($node, $id, 'completed'), 'completes when both have committed');
	check_exactly_once($node, $id, 'parts', 202, 'exactly once through a partitioned parent');
	$_->quit foreach ($one, $two);
}

# --- control during the wait ---

{
	my $writer = session($node);
	create_target($node, 'held', 100);
	define_increment($node, 'held', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
	$writer->query('BEGIN; INSERT INTO held (id) VALUES (99999)');

	my $id = start_and_wait('held', 'waits for 1 transaction%');
	$node->safe_psql('postgres', "SELECT backfill_stop($id)");
	ok(wait_for_status($node, $id, 'stopped', through_end => 1), 'a waiting run can be stopped');
	ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id"),
		'its worker is gone');
	$node->safe_psql('postgres', "SELECT backfill_resume($id)");
	ok(wait_for($node, "SELECT coalesce(wait_reason LIKE 'waits for 1 transaction%', false)
			FROM backfill_runs WHERE id = $id"),
		'resumed, it waits again');
	$node->safe_psql('postgres', "SELECT backfill_pause($id)");
	ok(wait_for_status($node, $id, 'paused'), 'a waiting run can be paused');
	$node->safe_psql('postgres', "SELECT backfill_resume($id)");
	ok(wait_for($node, "SELECT coalesce(wait_reason LIKE 'waits for 1 transaction%', false)
			FROM backfill_runs WHERE id = $id"),
		'resumed, it waits again');
	my ($pid) = worker_pids($node, $id);
	is(query_ok($node, "SELECT num_nulls(backend_xmin, backend_xid, xact_start)
			FROM pg_stat_activity WHERE pid = $pid"),
		3, 'it waits without a transaction');
	query_ok($node, "SELECT pg_terminate_backend($pid)");
	ok(wait_for($node, "SELECT count(*) = 1 AND min(pid) <> $pid FROM backfill_workers
			WHERE run_id = $id AND state = 'waiting'"),
		'another worker waits in its place when it is terminated');
	is(run_value($node, $id, 'batches'), 0, 'nothing was processed');
	$writer->query('COMMIT');
	ok(wait_for_status($node, $id, 'completed'), 'completes when the writer has committed');
	check_exactly_once($node, $id, 'held', 101, 'exactly once');
	$writer->quit;
}

# --- prepared transactions ---

# prepared before, during, and before a restart of the server
foreach my $when ('before', 'during', 'restart')
{
	my $writer = session($node);
	my $table = "prepared_$when";
	my $prepare = "PREPARE TRANSACTION '$table'";

	create_target($node, $table, 100);
	define_increment($node, $table, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
	$writer->query("BEGIN; INSERT INTO $table (id) VALUES (-5), (505), (99999)");
	$writer->query($prepare) if $when ne 'during';
	$writer->quit if $when eq 'before';
	my $id = start_and_wait($table, 'waits for 1 transaction%');
	$writer->query($prepare) if $when eq 'during';
	if ($when eq 'restart')
	{
		$writer->quit;
		$node->restart;
		ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'waiting'"),
			"$table: the run waits again");
	}
	# time for the worker to look again, several times a second
	query_ok($node, 'SELECT pg_sleep(0.5)');
	is(run_value($node, $id, 'status || batches'), 'running0',
		"$table: a prepared transaction is waited for");
	query_ok($node, "COMMIT PREPARED '$table'");
	ok(wait_for_status($node, $id, 'completed'), "$table: completes when it is committed");
	check_exactly_once($node, $id, $table, 103, "$table: exactly once, its rows included");
	$writer->quit;
}

# --- what is no writer ---

# a transaction that has written elsewhere, or read the target
{
	my $other = session($node);
	create_target($node, 'quiet', 100);
	define_increment($node, 'quiet', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
	$node->safe_psql('postgres', 'CREATE TABLE elsewhere (i int)');
	$other->query('BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO elsewhere VALUES (1);
		SELECT count(*) FROM quiet');
	my $id = start_run($node, 'quiet');
	ok(wait_for_status($node, $id, 'completed'),
		'no waiting for a transaction that wrote elsewhere and read the target');
	is(query_ok($node, "SELECT state FROM pg_stat_activity WHERE pid = " . $other->pid),
		'idle in transaction', 'which is still open');
	$other->query('COMMIT');
	check_exactly_once($node, $id, 'quiet', 100, 'exactly once');
	$other->quit;
}

# a vacuum
{
	my $vacuum = session($node);
	create_target($node, 'vacuumed', 5000);
	define_increment($node, 'vacuumed', '{"batch_size": 1000, "target_batch_time": 0, "sleep": 0}');
	$node->safe_psql('postgres', 'ALTER TABLE vacuumed SET (autovacuum_enabled = off);
		UPDATE vacuumed SET f = f + 1');
	$vacuum->query("SET vacuum_cost_limit = 1; SET vacuum_cost_delay = '100 ms'");
	$vacuum->send('VACUUM vacuumed');
	my $running = "SELECT count(*) = 1 FROM pg_stat_progress_vacuum WHERE relid = 'vacuumed'::regclass";
	ok(wait_for($node, $running), 'a vacuum of the target is running');
	is(query_ok($node, "SELECT count(*) FROM pg_locks WHERE relation = 'vacuumed'::regclass
			AND mode = 'ShareUpdateExclusiveLock' AND granted"),
		1, 'and holds its lock');
	my $id = start_run($node, 'vacuumed');
	ok(wait_for_status($node, $id, 'completed'), 'the run completes');
	is(query_ok($node, $running), 't', 'while the vacuum is still running');
	query_ok($node, 'SELECT pg_cancel_backend(' . $vacuum->pid . ')');
	$vacuum->quit;
	check_exactly_once($node, $id, 'vacuumed', 5000, 'exactly once');
}

$node->stop;
done_testing();
