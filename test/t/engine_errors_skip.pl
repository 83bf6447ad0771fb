# Rows that fail, with on_error "skip": out of many rows those that raise, and
# no others, are left out and stand in backfill_errors, also when the server
# is killed on the way, and backfill_retry does them once they are mended.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

one_node('main');
my $rows = full_length() ? 1_000_000 : 100_000;

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
like(sql("SELECT backfill_retry($id)"), tries(37), 'backfill_retry says how many rows it will try');
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
like(sql("SELECT backfill_retry($id)"), tries(37 - $half), 'what is left is tried once more');
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

like(sql("SELECT backfill_retry($id)"), tries(0), 'a run without errors has nothing to retry');
is(value($id, 'status'), 'completed', 'and stays as it is');
like(refusal('SELECT backfill_retry(4711)'), qr/ERROR:  42704/, 'there is nothing to retry of a run that does not exist');
sql("SELECT backfill_delete($id)");
is(sql('SELECT count(*) FROM backfill.error'), 0, 'with the run its errors are forgotten');

# ---------------------------------------------------------------------------
note 'the log';

my $log = slurp_file($node->logfile);
unlike($log, qr/(?:LOG|WARNING|ERROR|FATAL):.*division by zero/, 'what is skipped is no line in the log');
unlike($log, qr/TRAP:|terminated by signal (?:11|6)/, 'nothing crashed by itself');

$node->stop;
done_testing();
