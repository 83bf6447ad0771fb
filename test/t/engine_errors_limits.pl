# Limits for rows that fail, and what is never skipped: max_errors and
# max_error_rate, errors that speak of no row, on_error "fail".

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

one_node('main');
my $id;

# Rows of the table that the batches of the run say otherwise about: those in a
# completed range are to have n = 1, the others n = 0.
sub rows_amiss
{
	my ($id, $table) = @_;
	return sql("SELECT count(*) FROM $table t WHERE n <> (EXISTS
		(SELECT FROM backfill_batches b WHERE run_id = $id AND status = 'completed'
		  AND t.id > b.start_key[1]::bigint - b.start_inclusive::int
		  AND t.id <= b.end_key[1]::bigint))::int");
}

# ---------------------------------------------------------------------------
note 'limits';

# Rows of $table fail for which the condition holds.
sub spoil
{
	my ($table, $rows, $condition, $settings) = @_;
	$node->safe_psql('postgres', "CREATE TABLE $table AS SELECT i AS id, 0 AS n, CASE WHEN $condition THEN 0 ELSE 1 END AS divisor
		FROM generate_series(1, $rows) i; ALTER TABLE $table ADD PRIMARY KEY (id); ANALYZE $table");
	define_increment($node, $table, $settings, statement => 'UPDATE batch SET n = n + 1 / divisor');
	return;
}

spoil('limited', 2000, 'i % 200 = 0', '{"batch_size": 100, "target_batch_time": 0, "sleep": 0, "on_error": "skip", "max_errors": 3}');
$id = start_run($node, 'limited');
foreach my $errors (4, 8)
{
	ok(wait_for_status($node, $id, 'failed', through_end => 1), 'more errors than max_errors fail the run');
	is(value($id, 'errors'), $errors, "with $errors errors in all: they count since it was started or resumed");
	is(value($id, 'sqlstate, error'), '22012|division by zero', 'its error is that of the last row');
	like(value($id, 'error_detail'), qr/max_errors/, 'and the detail says why it failed the run');
	is(rows_amiss($id, 'limited'), 0, 'what is done is done, what is not is not');
	sql("SELECT backfill_resume($id)");
}
ok(wait_for_status($node, $id, 'completed'), 'with fewer than that it completes');
is(value($id, 'errors'), 10, 'all bad rows are errors');
is(sql('SELECT n, count(*) FROM limited GROUP BY n ORDER BY n'), "0|10\n1|1990", 'resumed, it has changed every other row exactly once');
check_parts($node, $id, 'limited', 'the batches agree');

# wrong from the beginning: 50 rows are judged
spoil('wrong', 3000, 'true', '{"batch_size": 1000, "target_batch_time": 0, "sleep": 0, "on_error": "skip"}');
$id = start_run($node, 'wrong');
ok(wait_for_status($node, $id, 'failed'), 'a run that is wrong altogether fails');
is(value($id, 'errors'), 50, 'as soon as 50 rows have been judged');
like(value($id, 'error_detail'), qr/max_error_rate/, 'and says why');
is(value($id, 'rows_affected'), 0, 'nothing was changed');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'resumed without mending, it fails again');
is(value($id, 'errors'), 100, 'after another 50');
sql('UPDATE wrong SET divisor = 1');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed when the data is mended, it completes');
is(value($id, 'errors, rows_affected'), '100|2900', 'what was skipped before waits for backfill_retry');
check_parts($node, $id, 'wrong', 'the batches agree');
like(sql("SELECT backfill_retry($id)"), tries(100), 'which takes it');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'and the run completes');
is(sql('SELECT n, count(*) FROM wrong GROUP BY n'), '1|3000', 'every row was changed exactly once');

# good rows first: the share counts those
spoil('later', 1000, 'i > 300', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip"}');
$id = start_run($node, 'later');
ok(wait_for_status($node, $id, 'failed'), 'a run that goes wrong later fails later');
cmp_ok(value($id, 'errors'), '>=', 99, 'with a quarter of all rows that were judged failed');
cmp_ok(value($id, 'errors'), '<=', 102, 'not many more');
is(sql('SELECT count(*) FROM later WHERE n = 1'), 300, 'the good rows are changed');
is(rows_amiss($id, 'later'), 0, 'and agree with the batches');
my $before = value($id, 'errors');
sql(qq{SELECT backfill_alter($id, '{"max_error_rate": 1, "max_errors": 250}'); SELECT backfill_resume($id)});
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'both limits can be changed');
is(value($id, 'errors'), $before + 251, 'the other one holds then');
$node->safe_psql('postgres', 'UPDATE later SET divisor = 1');
sql("SELECT backfill_retry($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'backfill_retry lets a failed run go on as well');
is(sql('SELECT n, count(*) FROM later GROUP BY n'), '1|1000', 'every row was changed exactly once');
is(value($id, 'errors'), 0, 'no error is left');

# ---------------------------------------------------------------------------
note 'what is never skipped';

$node->safe_psql('postgres', q{CREATE FUNCTION raise(key int, bad int, state text) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = bad THEN
			RAISE EXCEPTION 'no good' USING ERRCODE = state, DETAIL = 'of old', HINT = 'give up', COLUMN = 'n';
		END IF;
		RETURN 1;
	END $$});
spoil('never', 100, 'false', '{}');
foreach my $case ([ '42501', 'a missing privilege' ], [ '42P01', 'a missing table' ], [ '42883', 'a missing function' ], [ 'XX001', 'corruption' ],
	[ 'XX000', 'an internal error that stays', 3 ])
{
	my ($state, $what, $attempts) = @$case;
	sql('UPDATE never SET n = 0');
	define_increment($node, 'never', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip", "max_attempts": 3, "retry_delay": "10ms"}',
		statement => "UPDATE batch SET n = n + raise(id, 25, '$state')");
	$id = start_run($node, 'never');
	ok(wait_for_status($node, $id, 'failed'), "$what fails the run");
	is(value($id, 'sqlstate, errors'), "$state|0", "$what is not skipped");
	is(sql("SELECT max(attempt) FROM backfill_batches WHERE run_id = $id"), $attempts || 1, 'and tried as often as may help');
	is(sql("SELECT number, part, status, skipped, key_range FROM backfill_batches WHERE run_id = $id AND status <> 'completed'"),
		'3|0|failed|f|(20 .. 30]', 'the batch is whole');
	is(rows_amiss($id, 'never'), 0, 'and nothing of it is left');
}

# ---------------------------------------------------------------------------
note 'on_error fail';

sql('UPDATE never SET n = 0');
define_increment($node, 'never', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}', statement => q{UPDATE batch SET n = n + raise(id, 25, 'BF002')});
$id = start_run($node, 'never');
ok(wait_for_status($node, $id, 'failed'), 'by default an error fails the run');
is(value($id, 'sqlstate, error, error_detail, error_hint, errors'), 'BF002|no good|of old|give up|0', 'it has SQLSTATE, message, detail and hint');
like(value($id, 'error_context'), qr/function raise\(integer,integer,text\).*\nbatch 3 of backfill run $id "never"/, 'its context has that of the error, and the batch');
is(sql("SELECT status, skipped, part, attempt, key_range, error FROM backfill_batches WHERE run_id = $id AND number = 3"),
	'failed|f|0|1|(20 .. 30]|no good', 'the batch failed as a whole');
like(sql("SELECT backfill_retry($id)"), tries(0), 'there is nothing for backfill_retry');
is(value($id, 'status'), 'failed', 'which leaves the run alone');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, "SELECT attempt = 2 AND status = 'failed' FROM backfill_batches WHERE run_id = $id AND number = 3"), 'resume tries that batch again');
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'and the run fails again');
sql(qq{SELECT backfill_alter($id, '{"on_error": "skip"}'); SELECT backfill_resume($id)});
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'told to skip the row, it completes');
is(sql("SELECT key, sqlstate, message, detail, column_name FROM backfill_errors WHERE run_id = $id"), '{25}|BF002|no good|of old|n', 'but for that row');
check_parts($node, $id, 'never', 'the batches agree');

# ---------------------------------------------------------------------------
note 'the log';

my $log = slurp_file($node->logfile);
# six runs have failed because of it
my @equal = $log =~ /(?:LOG|WARNING|ERROR|FATAL):.*division by zero/g;
is(scalar @equal, 6, 'hundreds of equal errors are no lines in the log; each run that they have failed is one');
unlike($log, qr/TRAP:|terminated by signal (?:11|6)/, 'nothing crashed by itself');

$node->stop;
done_testing();
