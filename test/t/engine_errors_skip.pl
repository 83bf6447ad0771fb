# Rows that fail, with on_error "skip": out of many rows those that raise, and
# no others, are left out and stand in backfill_errors, also when the server is
# killed on the way, and backfill_retry does them once they are mended.  Limits
# for errors, what is never skipped, on_error "fail", and who sees what.

use strict;
use warnings;

use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('main');
my $rows = full_length() ? 1_000_000 : 100_000;

sub sql { return query_ok($node, $_[0]); }
sub value { return run_value($node, @_); }

# What a command says when it fails, with SQLSTATE.
sub refusal
{
	my ($sql) = @_;
	my ($rc, $out, $err) = query($node, $sql, flags => [ '-v', 'VERBOSITY=verbose' ]);
	return $rc == 0 ? "no error: $out" : $err;
}

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
note '37 rows of many raise, of every kind, and the server is killed three times';

# What the statement takes over from "wish" is what fails.
$node->safe_psql('postgres', qq{
	CREATE TABLE parent (id int PRIMARY KEY);
	INSERT INTO parent VALUES (1);
	CREATE TABLE big (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0,
		kind text, divisor int NOT NULL DEFAULT 1, quotient int,
		amount int CONSTRAINT positive CHECK (amount > 0), wish_amount int DEFAULT 1,
		code bigint CONSTRAINT one_code UNIQUE, wish_code bigint,
		name text NOT NULL DEFAULT '', wish_name text DEFAULT 'x',
		word text DEFAULT '1', number int,
		parent int DEFAULT 1 CONSTRAINT has_parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED, wish_parent int DEFAULT 1,
		mood text NOT NULL DEFAULT 'fine');
	INSERT INTO big (id, wish_code) SELECT i * 10, i * 10 FROM generate_series(1, $rows) i;
	UPDATE big SET code = -1, wish_code = -1 WHERE id = 100;

	CREATE FUNCTION moody() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF NEW.mood = TG_ARGV[0] THEN
			RAISE EXCEPTION 'row % is %', NEW.id, NEW.mood
				USING ERRCODE = 'BF001', DETAIL = 'it will pass', COLUMN = 'mood', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA;
		END IF;
		RETURN NEW;
	END \$\$;
	CREATE TRIGGER moody BEFORE UPDATE OF n ON big FOR EACH ROW EXECUTE FUNCTION moody('bad');
	CREATE CONSTRAINT TRIGGER moody_at_commit AFTER UPDATE OF n ON big DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION moody('sulky');

	-- the first and the last row, three neighbours, and others all over
	CREATE TABLE expected AS
	SELECT key, (ARRAY['division', 'check', 'unique', 'null', 'cast', 'foreign', 'trigger', 'deferred'])[1 + row_number() OVER () % 8] AS kind
	  FROM (SELECT 10 AS key UNION ALL SELECT $rows * 10
			UNION ALL SELECT 70000 UNION ALL SELECT 70010 UNION ALL SELECT 70020
			UNION ALL SELECT (($rows / 33) * i - 7 * (i % 3)) * 10 FROM generate_series(1, 32) i) keys;
	UPDATE big b SET kind = e.kind FROM expected e WHERE b.id = e.key;
	UPDATE big SET divisor = 0 WHERE kind = 'division';
	UPDATE big SET wish_amount = -1 WHERE kind = 'check';
	UPDATE big SET wish_code = -1 WHERE kind = 'unique';
	UPDATE big SET wish_name = NULL WHERE kind = 'null';
	UPDATE big SET word = 'many' WHERE kind = 'cast';
	UPDATE big SET wish_parent = 2 WHERE kind = 'foreign';
	UPDATE big SET mood = 'bad' WHERE kind = 'trigger';
	UPDATE big SET mood = 'sulky' WHERE kind = 'deferred';
	CREATE TABLE outcome (kind text PRIMARY KEY, sqlstate text, "column" text, "constraint" text);
	INSERT INTO outcome VALUES ('division', '22012', NULL, NULL), ('check', '23514', NULL, 'positive'), ('unique', '23505', NULL, 'one_code'),
		('null', '23502', 'name', NULL), ('cast', '22P02', NULL, NULL), ('foreign', '23503', NULL, 'has_parent'), ('trigger', 'BF001', 'mood', NULL), ('deferred', 'BF001', 'mood', NULL);
	CREATE FUNCTION mend(text[]) RETURNS void LANGUAGE sql AS \$\$
		UPDATE big SET divisor = 1, wish_amount = 1, wish_code = id, wish_name = 'x', word = '1', wish_parent = 1, mood = 'fine'
		 WHERE kind = ANY (\$1) \$\$});
$node->safe_psql('postgres', 'VACUUM ANALYZE big');
is(sql('SELECT count(*), count(DISTINCT key), count(DISTINCT kind) FROM expected'), '37|37|8', '37 bad rows, of eight kinds');

define_increment($node, 'big', '{"batch_size": 5000, "target_batch_time": 0, "sleep": "5ms", "workers": 2, "on_error": "skip"}',
	statement => 'UPDATE batch SET n = n + 1, quotient = 100 / divisor, amount = wish_amount, code = wish_code,
		name = wish_name, number = word::int, parent = wish_parent');
my $id = start_run($node, 'big');

# Between two deaths batches are done, so that none is in hand at all three.
foreach my $errors (6, 15, 25)
{
	ok(wait_for($node, "SELECT errors >= $errors FROM backfill_runs WHERE id = $id", interval => 2_000),
		"$errors rows are found out");
	isnt(value($id, 'status'), 'completed', 'the run is not over yet');
	ok(kill_postmaster($node), 'then the server is killed');
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(wait_for_status($node, $id, 'completed'), 'the run completes');

my $found = "SELECT key[1]::bigint, sqlstate, column_name, constraint_name FROM backfill_errors WHERE run_id = $id";
my $wanted = 'SELECT key, sqlstate, "column", "constraint" FROM expected JOIN outcome USING (kind)';
is(sql("SELECT count(*), count(DISTINCT key) FROM backfill_errors WHERE run_id = $id"), '37|37', 'there are 37 errors');
is(sql("($found EXCEPT $wanted) UNION ALL ($wanted EXCEPT $found)"), '',
	'they are those of the 37 rows, each with its SQLSTATE, column and constraint');
is(sql("SELECT count(*) FROM backfill_errors WHERE run_id = $id AND (attempts <> 1 OR resolved_at IS NOT NULL
		OR first_at > last_at OR message IS NULL OR context NOT LIKE '%batch ' || number || ' of backfill run $id%')"),
	'0', 'each has failed once, and says in which batch');
is(sql("SELECT count(*) FROM backfill_errors e JOIN expected x ON x.key = e.key[1]::bigint WHERE run_id = $id AND CASE kind
		WHEN 'trigger' THEN (message, detail, schema_name, table_name) = (format('row %s is bad', x.key), 'it will pass', 'public', 'big')
		WHEN 'deferred' THEN (message, detail, schema_name, table_name) = (format('row %s is sulky', x.key), 'it will pass', 'public', 'big')
		WHEN 'division' THEN message = 'division by zero' AND table_name IS NULL
		WHEN 'cast' THEN message LIKE '%\"many\"' AND table_name IS NULL
		ELSE (schema_name, table_name) = ('public', 'big') AND detail <> '' END"),
	37, 'message, detail and table are those of the error');
is(value($id, 'errors'), 37, 'the run counts them');
is(sql('SELECT n, count(*), bool_and(kind IS NULL) FROM big GROUP BY n ORDER BY n'), "0|37|f\n1|@{[$rows - 37]}|t",
	'every other row was changed exactly once');
check_parts($node, $id, 'big', 'the parts cover the table, without overlap, and say what happened');

# ---------------------------------------------------------------------------
note 'backfill_retry: half of them mended, then all';

sql(q{SELECT mend(ARRAY['division', 'check', 'unique', 'trigger'])});
my $half = sql(q{SELECT count(*) FROM expected WHERE kind IN ('division', 'check', 'unique', 'trigger')});
is(sql("SELECT backfill_retry($id)"), 37, 'backfill_retry says how many rows it will try');
ok(wait_for_status($node, $id, 'completed'), 'the run completes again');
is(value($id, 'errors'), 37 - $half, 'the rows that were mended are no errors any more');
is(sql("SELECT count(*) FROM backfill_errors e JOIN expected x ON x.key = e.key[1]::bigint WHERE run_id = $id AND CASE
		WHEN kind IN ('division', 'check', 'unique', 'trigger') THEN resolved_at >= last_at AND attempts = 1
		ELSE resolved_at IS NULL AND attempts = 2 AND last_at > first_at END"),
	37, 'they are marked resolved; the others have failed twice');
is(sql('SELECT n, count(*) FROM big GROUP BY n ORDER BY n'), "0|@{[37 - $half]}\n1|@{[$rows - 37 + $half]}",
	'the mended rows are changed, once, and nothing else');
check_parts($node, $id, 'big', 'the batches agree');

sql(q{SELECT mend(ARRAY['null', 'cast', 'foreign', 'deferred'])});
is(sql("SELECT backfill_retry($id)"), 37 - $half, 'what is left is tried once more');
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(value($id, 'errors'), 0, 'no error is left');
is(sql("SELECT attempts, count(*), count(resolved_at) FROM backfill_errors WHERE run_id = $id GROUP BY 1 ORDER BY 1"),
	"1|$half|$half\n2|@{[37 - $half]}|@{[37 - $half]}", 'all of them are resolved, and kept');
is(sql('SELECT n, count(*) FROM big GROUP BY n'), "1|$rows", 'every row was changed exactly once');
# the check notices what is wrong
foreach my $harm ([ "UPDATE big SET n = n + 1 WHERE id = 70000", "UPDATE big SET n = n - 1 WHERE id = 70000" ],
	[ "UPDATE backfill.batch SET start_inclusive = true WHERE run_id = $id AND number = 3 AND part = 1", "UPDATE backfill.batch SET start_inclusive = false WHERE run_id = $id AND number = 3 AND part = 1" ],
	[ "UPDATE backfill.batch SET rows_affected = rows_affected - 1 WHERE run_id = $id AND number = 2 AND part = 0", "UPDATE backfill.batch SET rows_affected = rows_affected + 1 WHERE run_id = $id AND number = 2 AND part = 0" ])
{
	sql($harm->[0]);
	isnt(join('', parts_problems($node, $id, 'big')), '', "the check notices: $harm->[0]");
	sql($harm->[1]);
}
is(value($id, 'rows_scanned, rows_affected, rows_total, progress'), "$rows|$rows|$rows|100.00", 'the sums are those of a run without errors');
check_parts($node, $id, 'big', 'the batches agree');

is(sql("SELECT backfill_retry($id)"), 0, 'a run without errors has nothing to retry');
is(value($id, 'status'), 'completed', 'and stays as it is');
like(refusal('SELECT backfill_retry(4711)'), qr/ERROR:  42704/, 'there is nothing to retry of a run that does not exist');
sql("SELECT backfill_delete($id)");
is(sql('SELECT count(*) FROM backfill.error'), 0, 'with the run its errors are forgotten');

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
is(sql("SELECT backfill_retry($id)"), 100, 'which takes it');
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
foreach my $case ([ '42501', 'a missing privilege' ], [ '42P01', 'a missing table' ], [ '42883', 'a missing function' ], [ 'XX000', 'an internal error' ])
{
	my ($state, $what) = @$case;
	sql('UPDATE never SET n = 0');
	define_increment($node, 'never', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip"}',
		statement => "UPDATE batch SET n = n + raise(id, 25, '$state')");
	$id = start_run($node, 'never');
	ok(wait_for_status($node, $id, 'failed'), "$what fails the run");
	is(value($id, 'sqlstate, errors'), "$state|0", "$what is not skipped");
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
is(sql("SELECT backfill_retry($id)"), 0, 'there is nothing for backfill_retry');
is(value($id, 'status'), 'failed', 'which leaves the run alone');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, "SELECT attempt = 2 AND status = 'failed' FROM backfill_batches WHERE run_id = $id AND number = 3"), 'resume tries that batch again');
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'and the run fails again');
sql(qq{SELECT backfill_alter($id, '{"on_error": "skip"}'); SELECT backfill_resume($id)});
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'told to skip the row, it completes');
is(sql("SELECT key, sqlstate, message, detail, column_name FROM backfill_errors WHERE run_id = $id"), '{25}|BF002|no good|of old|n', 'but for that row');
check_parts($node, $id, 'never', 'the batches agree');

# ---------------------------------------------------------------------------
note 'pause, stop and failure while rows fail';

# Row 25 waits for the gate and raises then.
$node->safe_psql('postgres', q{CREATE FUNCTION gated(key int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 25 THEN
			PERFORM pg_advisory_xact_lock_shared(4711);
			RAISE EXCEPTION 'gated';
		END IF;
		RETURN 1;
	END $$});
my $gate = session($node);
my $at_gate = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
foreach my $what ('pause', 'stop')
{
	sql('UPDATE never SET n = 0');
	define_increment($node, 'never', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip", "lock_timeout": 0}', statement => 'UPDATE batch SET n = n + gated(id)');
	$gate->query('SELECT pg_advisory_lock(4711)');
	$id = start_run($node, 'never');
	ok(wait_for($node, $at_gate), 'a batch is at work');
	sql("SELECT backfill_$what($id)");
	like(refusal("SELECT backfill_retry($id)"), qr/ERROR:  55000: cannot retry run $id, which is "running"/, 'an active run cannot be retried');
	$gate->query('SELECT pg_advisory_unlock(4711)');
	my $status = $what eq 'pause' ? 'paused' : 'stopped';
	ok(wait_for_status($node, $id, $status), "a batch whose row is to be skipped does not keep the run from being $status");
	like(refusal("SELECT backfill_retry($id)"), qr/ERROR:  55000: cannot retry run $id, which is "paused"/, 'neither can a paused one')
	  if $what eq 'pause';
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	is(sql("SELECT key FROM backfill_errors WHERE run_id = $id"), '{25}', 'without that row');
	check_parts($node, $id, 'never', 'the batches agree');
}

# A run that has a batch to do again before the row that was skipped.
sql('UPDATE never SET n = 0; CREATE TABLE broken ()');
$node->safe_psql('postgres', q{CREATE FUNCTION two_ways(key int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 55 AND to_regclass('broken') IS NOT NULL THEN
			RAISE EXCEPTION 'skipped';
		END IF;
		IF key = 25 AND to_regclass('broken') IS NOT NULL THEN
			PERFORM pg_advisory_xact_lock_shared(4711);
			RAISE undefined_table;
		END IF;
		RETURN 1;
	END $$});
define_increment($node, 'never', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "workers": 2, "on_error": "skip", "lock_timeout": 0}', statement => 'UPDATE batch SET n = n + two_ways(id)');
$gate->query('SELECT pg_advisory_lock(4711)');
$id = start_run($node, 'never');
ok(wait_for($node, $at_gate), 'one worker is at work');
ok(wait_for($node, "SELECT errors = 1 FROM backfill_runs WHERE id = $id"), 'the other one skips a row');
$gate->query('SELECT pg_advisory_unlock(4711)');
ok(wait_for_status($node, $id, 'failed'), 'then the first one fails the run');
sql('DROP TABLE broken');
is(sql("SELECT backfill_retry($id)"), 1, 'backfill_retry takes the one row');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'and completes the run');
is(sql('SELECT n, count(*) FROM never GROUP BY n'), '1|100', 'with the batch that had failed: every row is changed exactly once');
check_parts($node, $id, 'never', 'the batches agree');
$gate->quit;

# ---------------------------------------------------------------------------
note 'who sees the errors';

$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN; CREATE ROLE colleague LOGIN IN ROLE app; CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE TABLE secret (id int PRIMARY KEY, n text);
	INSERT INTO secret VALUES (1, '1'), (2, 'top secret');
	ALTER TABLE secret OWNER TO app});
sub as { return query($node, "SET ROLE $_[0]; $_[1]"); }
my ($rc, $out, $err) = as('app', q{SELECT backfill_define('secret', 'secret', 'UPDATE batch SET n = n::int + 1', settings => '{"on_error": "skip"}');
	SELECT backfill_start('secret')});
is($rc, 0, 'an ordinary role starts a run') or diag($err);
$id = sql(q{SELECT id FROM backfill_runs WHERE name = 'secret'});
ok(wait_for_status($node, $id, 'completed'), 'which completes without one row');
foreach my $case ([ 'app', 1, 'its owner' ], [ 'colleague', 1, 'a member of the owner' ], [ 'watcher', 1, 'a member of pg_monitor' ], [ 'stranger', 0, 'anybody else' ])
{
	my ($role, $count, $who) = @$case;
	($rc, $out, $err) = as($role, "SELECT count(*) FROM backfill_errors WHERE run_id = $id");
	is($out, $count, "$who sees " . ($count ? 'the error' : 'nothing')) or diag($err);
}
foreach my $role ('stranger', 'watcher')
{
	like(refusal("SET ROLE $role; SELECT backfill_retry($id)"), qr/ERROR:  42704/, "$role cannot retry the run");
	like(refusal("SET ROLE $role; SELECT * FROM backfill.error"), qr/ERROR:  42501/, "$role cannot read the table");
}
sql(q{UPDATE secret SET n = '7' WHERE id = 2});
($rc, $out, $err) = as('colleague', "SELECT backfill_retry($id)");
is($out, 1, 'a member of the owner retries it') or diag($err);
ok(wait_for_status($node, $id, 'completed'), 'and it completes');
is(sql('SELECT string_agg(n, $$,$$ ORDER BY id) FROM secret'), '2,8', 'with both rows');

# ---------------------------------------------------------------------------
note 'the log';

my $log = slurp_file($node->logfile);
# six runs have failed because of it
my @equal = $log =~ /(?:LOG|WARNING|ERROR|FATAL):.*division by zero/g;
is(scalar @equal, 6, 'hundreds of equal errors are no lines in the log; each run that they have failed is one');
unlike($log, qr/TRAP:|terminated by signal (?:11|6)/, 'nothing crashed by itself');

$node->stop;
done_testing();
