# Bad rows among many, while the server is killed on the way, also while
# backfill_retry is at work: exactly the rows that raise are left out, every
# other one is changed exactly once, and what is mended is done.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(time);

one_node('main');
my $rows = full_length() ? 1_000_000 : 100_000;
my $began = time;

# How long since the last call.
sub lap
{
	my ($what) = @_;
	diag(sprintf('%s: %.1f s', $what, time - $began));
	$began = time;
	return;
}

# ---------------------------------------------------------------------------
note '37 rows of many raise, two workers, the server is killed three times';

$node->safe_psql('postgres', qq{
	CREATE TABLE big (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, kind text, delay float8,
		divisor int NOT NULL DEFAULT 1, quotient int, amount int CONSTRAINT positive CHECK (amount > 0), wish_amount int DEFAULT 1,
		code bigint CONSTRAINT one_code UNIQUE, wish_code bigint, mood text NOT NULL DEFAULT 'fine', word text DEFAULT '1', number int);
	INSERT INTO big (id, wish_code) SELECT i * 10, i * 10 FROM generate_series(1, $rows) i;
	UPDATE big SET code = -1, wish_code = -1 WHERE id = 100;
	CREATE FUNCTION moody() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF NEW.mood = 'bad' THEN
			RAISE EXCEPTION 'row % is %', NEW.id, NEW.mood USING ERRCODE = 'BF001';
		END IF;
		RETURN NEW;
	END \$\$;
	CREATE TRIGGER moody BEFORE UPDATE OF n ON big FOR EACH ROW EXECUTE FUNCTION moody();
	CREATE FUNCTION one(delay float8) RETURNS int LANGUAGE sql AS \$\$SELECT CASE WHEN \$1 > 0 THEN (pg_sleep(\$1) IS NOT NULL)::int ELSE 1 END\$\$;
	CREATE TABLE kinds (n int, kind text, sqlstate text);
	INSERT INTO kinds VALUES (0, 'division', '22012'), (1, 'check', '23514'), (2, 'unique', '23505'), (3, 'trigger', 'BF001'), (4, 'cast', '22P02');
	-- the first and the last row, neighbours, and others all over
	CREATE TABLE expected AS
	SELECT key, kind, sqlstate FROM
		(SELECT key, row_number() OVER (ORDER BY key) % 5 AS n FROM
			(SELECT 10 AS key UNION ALL SELECT $rows * 10 UNION ALL SELECT unnest(ARRAY[49990, 50000, 50010])
			 UNION ALL SELECT (($rows / 33) * i - 7 * (i % 3)) * 10 FROM generate_series(1, 32) i) keys) k JOIN kinds USING (n);
	UPDATE big b SET kind = e.kind FROM expected e WHERE b.id = e.key;
	UPDATE big SET divisor = 0 WHERE kind = 'division';
	UPDATE big SET wish_amount = -1 WHERE kind = 'check';
	UPDATE big SET wish_code = -1 WHERE kind = 'unique';
	UPDATE big SET mood = 'bad' WHERE kind = 'trigger';
	UPDATE big SET word = 'many' WHERE kind = 'cast';
	-- what is mended takes its time, so that there is some to kill the server in
	CREATE FUNCTION mend(kinds text[]) RETURNS void LANGUAGE sql AS \$\$
		UPDATE big SET divisor = 1, wish_amount = 1, wish_code = id, mood = 'fine', word = '1', delay = 0.4 WHERE kind = ANY (kinds) AND n = 0\$\$});
$node->safe_psql('postgres', 'VACUUM ANALYZE big');
is(sql('SELECT count(*), count(DISTINCT key), count(DISTINCT kind) FROM expected'), '37|37|5', '37 bad rows, of five kinds');
define_increment($node, 'big', '{"batch_size": 5000, "target_batch_time": 0, "sleep": "5ms", "workers": 2, "on_error": "skip", "retry_delay": "10 ms"}',
	statement => 'UPDATE batch SET n = n + one(delay), quotient = 100 / divisor, amount = wish_amount, code = wish_code, number = word::int');
lap('making the table');

my $id = start_run($node, 'big');

# Kill the server when the condition holds of the run, and bring it back.
sub kill_when
{
	my ($condition, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(wait_for($node, "SELECT $condition FROM backfill_runs WHERE id = $id", interval => 2_000), $what);
	isnt(value($id, 'status'), 'completed', 'the run is not over yet');
	ok($_[2] ? kill_server($node) : kill_postmaster($node), 'then the server is killed');
	$node->start;
	return ok(wait_for_server($node), 'and comes back');
}

kill_when("errors >= $_", "$_ rows are found out", $_ == 15) foreach (6, 15, 25);
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
lap("the run over $rows rows with three crashes");

my $found = "SELECT key[1]::bigint, sqlstate FROM backfill_errors WHERE run_id = $id";
is(sql("($found EXCEPT SELECT key, sqlstate FROM expected) UNION ALL (SELECT key, sqlstate FROM expected EXCEPT $found)"), '', 'the errors are those of the 37 rows');
is(sql("SELECT count(*), count(DISTINCT key), min(attempts), max(attempts), count(resolved_at) FROM backfill_errors WHERE run_id = $id"), '37|37|1|1|0', 'each once');
is(sql('SELECT n, count(*), bool_and(kind IS NULL) FROM big GROUP BY n ORDER BY n'), "0|37|f\n1|@{[$rows - 37]}|t", 'every other row was changed exactly once');
is(value($id, 'errors, rows_affected'), '37|' . ($rows - 37), 'the run says the same');
check_parts($node, $id, 'big', 'the parts cover the table, without overlap, and say what happened');

# ---------------------------------------------------------------------------
note 'backfill_retry, killed on the way: some mended, then all';

# attempts of the row's error, and how many are resolved
my $errors = "SELECT attempts, count(*), count(resolved_at) FROM backfill_errors WHERE run_id = $id GROUP BY 1 ORDER BY 1";
my $mended = sql(q{SELECT count(*) FROM expected WHERE kind IN ('division', 'unique', 'cast')});
sql(q{SELECT mend(ARRAY['division', 'unique', 'cast'])});
like(sql("SELECT backfill_retry($id)"), tries(37), 'backfill_retry takes the 37 rows');
kill_when('errors <= 33', 'some are done', 1);
kill_when('errors <= 25', 'more are done');
ok(wait_for_status($node, $id, 'completed'), 'the run completes again');
is(sql($errors), "1|$mended|$mended\n2|@{[37 - $mended]}|0", 'what was mended is resolved, the rest has failed twice');
is(sql(q{SELECT n, count(*), string_agg(DISTINCT kind, ',' ORDER BY kind) FROM big GROUP BY n ORDER BY n}), "0|@{[37 - $mended]}|check,trigger\n1|@{[$rows - 37 + $mended]}|cast,division,unique",
	'and changed, once');
check_parts($node, $id, 'big', 'the batches agree');

sql(q{SELECT mend(ARRAY['check', 'trigger'])});
like(sql("SELECT backfill_retry($id)"), tries(37 - $mended), 'what is left is tried once more');
kill_when('errors <= ' . (33 - $mended), 'some are done');
# stopped and resumed, it is still only what failed
sql("SELECT backfill_stop($id)");
ok(wait_for_status($node, $id, 'stopped', through_end => 1), 'the run is stopped');
check_parts_of_ended($id, 'what is done is done');
sql("SELECT backfill_resume($id)");
kill_when('errors <= ' . (29 - $mended), 'resumed, it goes on') if 29 - $mended > 2;
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'the run completes');
is(sql($errors), "1|$mended|$mended\n2|@{[37 - $mended]}|@{[37 - $mended]}", 'all errors are resolved');
is(sql('SELECT n, count(*) FROM big GROUP BY n'), "1|$rows", 'every row was changed exactly once');
is(value($id, 'errors, rows_scanned, rows_affected, rows_total, progress'), "0|$rows|$rows|$rows|100.00", 'the sums are those of a run without errors');
check_parts($node, $id, 'big', 'the batches agree');
like(sql("SELECT backfill_retry($id)"), tries(0), 'nothing is left to retry');
lap('two retries with their crashes');

# Whether a row is changed says its batch, also before the end of the run.
sub check_parts_of_ended
{
	my ($run, $name) = @_;
	return is(sql("SELECT count(*) FROM big t JOIN backfill_batches b ON run_id = $run AND (t.id > b.start_key[1]::bigint OR start_inclusive AND t.id = b.start_key[1]::bigint) AND t.id <= b.end_key[1]::bigint
		WHERE n <> (b.status = 'completed')::int"), 0, $name);
}

$node->stop;
done_testing();
