# Bad rows among many, and rows that somebody else holds.  The server is killed
# on the way, also while backfill_retry is at work: exactly the rows that raise
# are left out, every other one is changed exactly once, and what is mended is
# done.  Whatever the statement looks like, it is those rows that are found.

use strict;
use warnings;

use BackfillTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = make_node('main');
my $rows = full_length() ? 1_000_000 : 100_000;
my $began = time;

sub sql { return query_ok($node, $_[0]); }
sub value { return run_value($node, @_); }

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
		UPDATE big SET divisor = 1, wish_amount = 1, wish_code = id, mood = 'fine', word = '1', delay = 0.2 WHERE kind = ANY (kinds) AND n = 0\$\$});
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
is(sql("SELECT backfill_retry($id)"), 37, 'backfill_retry takes the 37 rows');
kill_when('errors <= 33', 'some are done', 1);
kill_when('errors <= 25', 'more are done');
ok(wait_for_status($node, $id, 'completed'), 'the run completes again');
is(sql($errors), "1|$mended|$mended\n2|@{[37 - $mended]}|0", 'what was mended is resolved, the rest has failed twice');
is(sql(q{SELECT n, count(*), string_agg(DISTINCT kind, ',' ORDER BY kind) FROM big GROUP BY n ORDER BY n}), "0|@{[37 - $mended]}|check,trigger\n1|@{[$rows - 37 + $mended]}|cast,division,unique",
	'and changed, once');
check_parts($node, $id, 'big', 'the batches agree');

sql(q{SELECT mend(ARRAY['check', 'trigger'])});
is(sql("SELECT backfill_retry($id)"), 37 - $mended, 'what is left is tried once more');
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
is(sql("SELECT backfill_retry($id)"), 0, 'nothing is left to retry');
lap('two retries with their crashes');
sql('DROP TABLE big');

# Whether a row is changed says its batch, also before the end of the run.
sub check_parts_of_ended
{
	my ($run, $name) = @_;
	return is(sql("SELECT count(*) FROM big t JOIN backfill_batches b ON run_id = $run AND (t.id > b.start_key[1]::bigint OR start_inclusive AND t.id = b.start_key[1]::bigint) AND t.id <= b.end_key[1]::bigint
		WHERE n <> (b.status = 'completed')::int"), 0, $name);
}

# ---------------------------------------------------------------------------
note 'whatever the statement: the rows that raise are found, and no others';

# A row is bad where "bad" is, in whatever way the statement trips over it.
$node->safe_psql('postgres', q{
	CREATE TABLE small (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, bad boolean NOT NULL, g int, other int);
	INSERT INTO small SELECT i, 0, i IN (1, 2, 500, 501, 733, 999, 1000, 1001, 1777, 3000), i % 7, (i * 7919) % 3001 FROM generate_series(1, 3000) i;
	CREATE INDEX ON small (other);
	CREATE TABLE joined AS SELECT id AS small, other FROM small;
	ANALYZE;
	CREATE TABLE copied (id int PRIMARY KEY);
	CREATE TABLE groups (g int PRIMARY KEY, n int);
	CREATE FUNCTION good(bad boolean) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF bad THEN
			RAISE EXCEPTION 'bad row' USING ERRCODE = 'BF002';
		END IF;
		RETURN 1;
	END $$;
	CREATE FUNCTION increment(s small) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE small SET n = n + good(s.bad) WHERE id = s.id;
	END $$;
	CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM good(NEW.bad);
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON small DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit();
	CREATE TRIGGER per_statement AFTER UPDATE ON small REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION at_commit();
	ALTER TABLE small DISABLE TRIGGER USER;
	CREATE FUNCTION all_changed() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM good(bool_or(bad)) FROM changed;
		RETURN NULL;
	END $$;
	DROP TRIGGER per_statement ON small;
	CREATE TRIGGER per_statement AFTER UPDATE ON small REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION all_changed();
	ALTER TABLE small DISABLE TRIGGER per_statement});

# Every row that the condition covers has n = 1 or, if it is bad, an error.
sub finds
{
	my ($what, $statement, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $scope = $opts{scope} ? ", scope => \$s\$$opts{scope}\$s\$" : '';
	my $covered = $opts{covered} || $opts{scope} || 'true';
	my $direction = $opts{direction} || 'asc';
	sql("UPDATE small SET n = 0 WHERE n <> 0; TRUNCATE copied, groups");
	sql("ALTER TABLE small ENABLE TRIGGER $opts{trigger}") if $opts{trigger};
	sql(qq{SELECT backfill_define('small', 'small', \$d\$$statement\$d\$ $scope, settings => '{"batch_size": 400, "target_batch_time": 0, "sleep": 0, "workers": 2, "on_error": "skip", "max_error_rate": 1, "retry_delay": 0, "direction": "$direction"}')});
	my $run = start_run($node, 'small');
	ok(wait_for_status($node, $run, 'completed'), "$what: the run completes");
	my $errors = "SELECT key[1]::int FROM backfill_errors WHERE run_id = $run";
	my $wanted = "SELECT id FROM small WHERE bad AND ($covered)";
	is(sql("SELECT count(*), count(DISTINCT key) FROM backfill_errors WHERE run_id = $run"), sql("SELECT count(*), count(*) FROM ($wanted) w"), 'as many errors as bad rows');
	is(sql("($errors EXCEPT $wanted) UNION ALL ($wanted EXCEPT $errors)"), '', 'they are the bad rows');
	is(sql("SELECT count(*) FROM small WHERE n <> (NOT bad AND ($covered))::int"), 0, 'every other row was changed exactly once');
	is(sql($opts{also}), $opts{gives}, 'with what belongs to it') if $opts{also};
	note(value($run, "'batches: ' || batches"));
	sql('ALTER TABLE small DISABLE TRIGGER USER');
	return;
}

finds('SET', 'UPDATE batch SET n = n + good(bad)');
finds('descending', 'UPDATE batch SET n = n + good(bad)', direction => 'desc');
finds('a scope with gaps', 'UPDATE batch SET n = n + good(bad)', scope => 'id % 3 <> 1');
finds('a scope with gaps, descending', 'UPDATE batch SET n = n + good(bad)', scope => 'id % 3 <> 1', direction => 'desc');
finds('a scope that the statement leaves', 'UPDATE batch SET n = n + good(bad)', scope => 'n = 0', covered => 'true');
finds('WHERE', 'UPDATE batch SET n = n + good(bad) WHERE g <> 3', covered => 'g <> 3');
finds('raised by the condition', 'UPDATE batch SET n = n + 1 WHERE good(bad) = 1 AND g <> 3', covered => 'g <> 3');
finds('deferred', 'UPDATE batch SET n = n + 1', trigger => 'at_commit');
finds('at the end of the statement', 'UPDATE batch SET n = n + 1', trigger => 'per_statement');
finds('several statements, the first', 'UPDATE batch SET n = n + good(bad); INSERT INTO copied SELECT id FROM batch', also => 'SELECT count(*) FROM copied JOIN small USING (id) WHERE NOT bad', gives => 2990);
finds('several statements, the last', 'INSERT INTO copied SELECT id FROM batch; UPDATE batch SET n = n + good(bad)', also => 'SELECT count(*), count(*) FILTER (WHERE bad) FROM copied JOIN small USING (id)', gives => '2990|0');
finds('several statements, between', 'INSERT INTO copied SELECT id FROM batch; SELECT good(bad) FROM batch ORDER BY g, id DESC; UPDATE batch SET n = n + 1', also => 'SELECT count(*) FROM copied', gives => 2990);
finds('SELECT f(batch)', 'SELECT increment(batch) FROM batch');
finds('in another order', 'SELECT increment(b) FROM (SELECT * FROM batch ORDER BY other) b');
finds('joined', 'UPDATE batch SET n = n + good(bad) FROM joined WHERE joined.small = batch.id AND joined.other >= 0');
finds('grouped', 'WITH done AS (UPDATE batch SET n = n + good(bad) RETURNING g) INSERT INTO groups SELECT g, count(*) FROM done GROUP BY g ON CONFLICT (g) DO UPDATE SET n = groups.n + excluded.n', also => 'SELECT sum(n) FROM groups', gives => 2990);
finds('into another table', q{WITH copy AS (INSERT INTO copied SELECT CASE WHEN bad THEN NULL ELSE id END FROM batch RETURNING 1) UPDATE batch SET n = n + 1}, also => 'SELECT count(*) FROM copied', gives => 2990);
finds('MERGE', 'MERGE INTO small t USING batch ON batch.id = t.id WHEN MATCHED THEN UPDATE SET n = t.n + good(batch.bad)');
finds('run and its facts in the scope', 'UPDATE batch SET n = n + good(bad) WHERE run.id > 0', scope => 'id % 3 <> 1 AND run.id > 0 AND run.started_at > run.since', covered => 'id % 3 <> 1');

# partitions, and a key of several columns
$node->safe_psql('postgres', q{
	ALTER TABLE small RENAME TO plain;
	CREATE TABLE small (tag text, id int, n int NOT NULL DEFAULT 0, bad boolean NOT NULL, g int, other int, PRIMARY KEY (id, g, tag)) PARTITION BY LIST (g);
	CREATE TABLE small_0 PARTITION OF small FOR VALUES IN (0, 1, 2);
	CREATE TABLE small_3 PARTITION OF small FOR VALUES IN (3, 4);
	CREATE TABLE small_5 PARTITION OF small DEFAULT;
	INSERT INTO small SELECT CASE WHEN id % 2 = 0 THEN 'it''s "' || id ELSE '' END, id, n, bad, g, other FROM plain;
	ANALYZE small});
finds('partitions', 'UPDATE batch SET n = n + good(bad)');
finds('partitions, descending', 'UPDATE batch SET n = n + good(bad)', direction => 'desc');
finds('partitions, a scope with gaps', 'UPDATE batch SET n = n + good(bad)', scope => 'g <> 3');
finds('partitions, several statements', 'INSERT INTO copied SELECT id FROM batch; UPDATE batch SET n = n + good(bad)', also => 'SELECT count(*), count(*) FILTER (WHERE bad) FROM copied JOIN small USING (id)', gives => '2990|0');
lap('other statements');

# ---------------------------------------------------------------------------
note 'a row lock held by another session';

my $few = 5_000;
my $blocker = session($node);
create_target($node, 't', $few);
my $aside = "FROM backfill_batches WHERE run_id = %s AND status = 'pending' AND retry_at > now()";

# Start a run with a row locked, and wait until nothing but the row is left.
sub start_locked
{
	my ($workers, $more) = @_;
	sql('UPDATE t SET n = 0 WHERE n <> 0');
	$blocker->query('BEGIN');
	$blocker->query('SELECT FROM t WHERE id = 25000 FOR UPDATE');
	define_increment($node, 't', qq({"batch_size": 500, "target_batch_time": 0, "sleep": 0, "workers": $workers, "lock_timeout": "100ms", "retry_delay": "500ms", "max_attempts": 1000}));
	my $run = start_run($node, 't');
	ok(wait_for($node, "SELECT rows_affected = $few - 1 FROM backfill_runs WHERE id = $run"), "$workers worker(s): every other row is done while the lock is held");
	return $run;
}

# The lock is gone: nothing was lost, and only the batch with the row was late.
sub completes
{
	my ($run) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(wait_for_status($node, $run, 'completed', through_end => 1), 'when the lock is gone the run completes');
	is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$few", 'every row was changed exactly once');
	check_parts($node, $run, 't', 'the parts cover the table');
	is(value($run, 'errors, rows_scanned, wait_reason IS NULL'), "0|$few|t", 'nothing counts as an error, nothing is waited for');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND number <> 5 AND (attempt > 1 OR error IS NOT NULL OR retry_at IS NOT NULL)"), 0, 'no other batch was hindered');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND finished_at > (SELECT finished_at FROM backfill_batches WHERE run_id = $run AND end_key = '{25000}')"), 0, 'the row was the last');
	return;
}

foreach my $workers (1, 2)
{
	my $locked_at = time;
	my $run = start_locked($workers);
	my $waiting = sprintf($aside, $run);
	ok(wait_for($node, "SELECT count(*) = 1 $waiting"), 'the row is put aside, to be tried again');
	# one attempt may be under way when we look
	ok(wait_for($node, "SELECT count(*) = 1 $waiting AND number = 5 AND rows_scanned = 1 AND end_key = '{25000}' AND error = 'canceling statement due to lock timeout' AND NOT skipped"), 'it says what it waits for, and until when');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND status <> 'completed'"), 1, 'nothing else is left');
	is(sql('SELECT count(*) FROM t WHERE n = 0 AND id <> 25000'), 0, 'the table says the same');
	ok(wait_for($node, "SELECT wait_reason = 'waits to try batches again that met an error; see backfill_batches' AND status = 'running' FROM backfill_runs WHERE id = $run"), 'the run says that it waits');
	ok(wait_for($node, "SELECT count(*) = 1 AND min(state) = 'retrying' FROM backfill_workers WHERE run_id = $run"), 'one worker is there to try again');
	my $tries = "FROM backfill_events WHERE run_id = $run AND kind = 'retry' AND number = 5 AND sqlstate = '55P03' AND reason = 'canceling statement due to lock timeout'";
	ok(wait_for($node, "SELECT count(*) >= 3 $tries"), 'each try is an event');
	is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind IN ('retry', 'error', 'skip') AND number <> 5"), 0, 'there are none of other batches');
	ok(wait_for($node, "SELECT attempt >= 4 FROM backfill_batches WHERE run_id = $run AND end_key = '{25000}'"), 'the attempts are counted');
	if (full_length())
	{
		usleep(100_000) while time < $locked_at + 10;
		is(value($run, 'rows_affected, status'), ($few - 1) . '|running', 'so it is after 10 s');
	}
	$blocker->query('COMMIT');
	completes($run);
}
lap('row locks');

# with the batch put aside: pause, stop, and a crash
my $locked = start_locked(2);
ok(wait_for($node, 'SELECT count(*) = 1 ' . sprintf($aside, $locked)), 'the row is put aside');
sql("SELECT backfill_pause($locked)");
ok(wait_for_status($node, $locked, 'paused'), 'the run can be paused');
is(sql("SELECT count(*) FROM backfill_workers WHERE run_id = $locked"), 0, 'no worker stays');
sql("SELECT backfill_resume($locked)");
ok(wait_for($node, "SELECT status = 'running' AND wait_reason LIKE 'waits to try%' FROM backfill_runs WHERE id = $locked"), 'resumed, it waits again');
sql("SELECT backfill_stop($locked)");
ok(wait_for_status($node, $locked, 'stopped'), 'it can be stopped');
is(value($locked, 'rows_affected'), $few - 1, 'the row is not done');
sql("SELECT backfill_resume($locked)");
ok(wait_for($node, "SELECT status = 'running' AND wait_reason LIKE 'waits to try%' FROM backfill_runs WHERE id = $locked"), 'resumed, it waits again');
ok(kill_server($node), 'the server is killed');
eval { $blocker->quit };
$node->start;
ok(wait_for_server($node), 'and comes back, without the lock');
completes($locked);

$blocker = session($node);
# what cannot be had in the end follows on_error
sql('UPDATE t SET n = 0');
$blocker->query('BEGIN');
$blocker->query('SELECT FROM t WHERE id IN (10, 25000, 50000) FOR UPDATE');
define_increment($node, 't', '{"batch_size": 500, "target_batch_time": 0, "sleep": 0, "workers": 2, "lock_timeout": "50ms", "retry_delay": "20ms", "max_attempts": 3, "on_error": "skip"}');
$id = start_run($node, 't');
ok(wait_for_status($node, $id, 'completed'), 'locks that stay: on_error skip leaves the rows out after max_attempts');
is(sql("SELECT string_agg(key[1] || ' ' || sqlstate || ' ' || attempts, ', ' ORDER BY key[1]::int) FROM backfill_errors WHERE run_id = $id"), '10 55P03 1, 25000 55P03 1, 50000 55P03 1', 'they are the ones that are locked');
check_parts($node, $id, 't', 'every other row was changed exactly once');
$blocker->query('COMMIT');
is(sql("SELECT backfill_retry($id)"), 3, 'backfill_retry takes them');
ok(wait_for_status($node, $id, 'completed'), 'and now they can be had');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$few", 'every row was changed exactly once');
check_parts($node, $id, 't', 'the parts cover the table');
lap('the rest');

$blocker->quit;
$node->stop;
done_testing();
