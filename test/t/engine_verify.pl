# The end of a run: the setting "verify" and backfill_verify, which count what
# is still in scope, and "finish", SQL that is run once at the very end, each
# statement by itself, as the owner; what fails is done again when the run is
# resumed, and nothing else.

use strict;
use warnings;

use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('main');
my $rows = 2_000;

sub sql { return query_ok($node, join(';', @_)); }
sub value { return run_value($node, @_); }

# What SQL says when it fails, with SQLSTATE, detail and hint.
sub refusal
{
	my ($sql) = @_;
	my ($rc, $out, $err) = query($node, $sql, flags => [ '-v', 'VERBOSITY=verbose' ]);
	return $rc == 0 ? "no error: $out" : $err;
}

# Define a backfill of the table of that name and start it.
sub start
{
	my ($table, %opts) = @_;
	my $statement = $opts{statement} || 'UPDATE batch SET n = n + 1';
	my $role = $opts{role} || 'postgres';
	my $settings = $opts{settings} || '"sleep": 0';
	sql(qq{SET ROLE $role; SELECT backfill_define('$table', '$table', \$s\$$statement\$s\$} . ($opts{scope} ? ", scope => \$s\$$opts{scope}\$s\$" : '')
		. ($opts{finish} ? ", finish => \$f\$$opts{finish}\$f\$" : '') . ($opts{parameters} ? ", parameters => '$opts{parameters}'" : '') . qq{, settings => '{"batch_size": 300, "target_batch_time": 0, "retry_delay": "10 ms", $settings}')});
	return sql("SET ROLE $role; SELECT backfill_start('$table')");
}

sub events
{
	my ($id, $kind) = @_;
	return sql("SELECT string_agg(reason, ', ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = '$kind'");
}

# ---------------------------------------------------------------------------
note 'verify';

create_target($node, 't', $rows);
my $id = start('t', scope => 'n = 0', settings => '"sleep": 0, "verify": true, "workers": 2');
ok(wait_for_status($node, $id, 'completed'), 'nothing is left in scope: the run completes');
is(value($id, 'rows_remaining'), 0, 'rows_remaining is 0');
is(events($id, 'verify'), 'rows remaining: 0', 'there is an event');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$rows", 'every row is changed');

# without the setting nothing is counted
sql('UPDATE t SET n = 0');
$id = start('t', scope => 'n = 0');
ok(wait_for_status($node, $id, 'completed'), 'without the setting');
is(value($id, 'rows_remaining IS NULL'), 't', 'nothing is counted');

# rows that stay in scope fail the run
sql('UPDATE t SET n = 0');
$id = start('t', scope => 'n = 0', statement => 'UPDATE batch SET n = n + 1 WHERE f < 3', settings => '"sleep": 0, "verify": true, "on_error": "skip"', finish => 'CREATE TABLE too_early ()');
ok(wait_for_status($node, $id, 'completed'), 'a run that changes all');
sql('DROP TABLE too_early', 'UPDATE t SET n = 0, f = CASE WHEN id % 1000 = 0 THEN 3 ELSE 0 END');
$id = sql(q{SELECT backfill_start('t')});
ok(wait_for_status($node, $id, 'failed'), 'rows are left: the run fails');
is(value($id, 'sqlstate, error, rows_remaining'), '23000|20 rows are still in scope|20', 'with 23000 and their number');
like(value($id, 'error_detail'), qr/verify/, 'the detail says who counted');
like(value($id, 'error_hint'), qr/backfill_resume/, 'the hint what to do');
is(events($id, 'verify'), 'rows remaining: 20', 'there is an event');
is(sql("SELECT to_regclass('too_early') IS NULL"), 't', 'finish has not run');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), value($id, 'batches'), 'the batches are done all the same');
# half of them mended by hand
sql('UPDATE t SET n = 1 WHERE n = 0 AND id <= 10000');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, "SELECT status = 'failed' AND rows_remaining = 10 FROM backfill_runs WHERE id = $id"), 'resumed, it counts again');
is(value($id, 'error'), '10 rows are still in scope', 'and says what is left');
sql('UPDATE t SET n = 1 WHERE n = 0');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'when none is left it completes');
is(value($id, 'rows_remaining, error IS NULL, sqlstate IS NULL'), '0|t|t', 'and has no error any more');
is(events($id, 'verify'), 'rows remaining: 20, rows remaining: 10, rows remaining: 0', 'each count is an event');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$rows", 'no row was changed twice');
is(sql("SELECT to_regclass('too_early') IS NOT NULL"), 't', 'then finish has run');
sql('DROP TABLE too_early');

# rows that are skipped are in scope; with the retry it is counted again
sql('UPDATE t SET n = 0, f = CASE WHEN id IN (50, 10000) THEN 3 ELSE 0 END');
$id = start('t', scope => 'n = 0', statement => 'UPDATE batch SET n = n + 3 / (3 - f) - 3 / (3 - f) + 1', settings => '"sleep": 0, "verify": true, "on_error": "skip"');
ok(wait_for_status($node, $id, 'failed'), 'rows that were skipped are still in scope');
is(value($id, 'rows_remaining, errors'), '2|2', 'they are counted');
like(value($id, 'error_detail'), qr/\b2 were skipped/, 'the detail tells them');
sql('UPDATE t SET f = 0');
is(sql("SELECT backfill_retry($id)"), 2, 'mended and retried');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'the run completes');
is(value($id, 'rows_remaining, errors'), '0|0', 'verified again');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$rows", 'every row was changed exactly once');
# skipped and mended by hand, without a retry
sql('UPDATE t SET n = 0, f = CASE WHEN id IN (50, 10000) THEN 3 ELSE 0 END');
$id = sql(q{SELECT backfill_start('t')});
ok(wait_for_status($node, $id, 'failed'), 'again');
sql('UPDATE t SET n = 1 WHERE f = 3', "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'rows mended by hand are out of scope');
is(value($id, 'rows_remaining, errors'), '0|2', 'the errors stay until they are retried');

# what it needs
like(refusal(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = 1', settings => '{"verify": true}')}), qr/ERROR:  22023.*verify/s, 'verify needs a scope: backfill_define');
sql(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = n + 1')});
like(refusal(q{SELECT backfill_start('t', settings => '{"verify": true}')}), qr/ERROR:  22023.*verify/s, 'backfill_start');
sql(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = n + 1', settings => '{"sleep": "1 h", "batch_size": 10, "target_batch_time": 0}')});
$id = sql(q{SELECT backfill_start('t')});
ok(wait_for($node, "SELECT batches > 0 FROM backfill_runs WHERE id = $id"), 'a run without a scope');
like(refusal(qq{SELECT backfill_alter($id, '{"verify": true}')}), qr/ERROR:  22023.*verify/s, 'backfill_alter');
like(refusal("SELECT backfill_verify($id)"), qr/ERROR:  55000.*scope/s, 'backfill_verify needs one, too');
sql("SELECT backfill_stop($id)");
ok(wait_for_status($node, $id, 'stopped'), 'it is stopped');

# only between the ends of the run, and the parameters are those of the run
sql('UPDATE t SET n = 0');
$id = start('t', scope => 'n < params.high', parameters => '{"high": {"type": "int", "default": 1}}', settings => '"sleep": 0, "verify": true, "from": 5001, "to": 15000, "direction": "desc"');
ok(wait_for_status($node, $id, 'completed'), 'verify looks at the range of the run only, under its parameters');
is(value($id, 'rows_affected, rows_remaining'), '1000|0', 'and no more');
is(sql("SELECT backfill_verify($id)"), 0, 'backfill_verify says the same');

# many rows are counted in stretches: none twice, none left out, whatever the key
$node->safe_psql('postgres', q{CREATE TABLE many (a int, b text COLLATE "C", n int DEFAULT 0, PRIMARY KEY (a, b));
	INSERT INTO many SELECT i / 1000, 'row ' || i, 0 FROM generate_series(1, 120000) i; ANALYZE many});
foreach my $direction ('asc', 'desc')
{
	sql('UPDATE many SET n = 0 WHERE n <> 0');
	$id = start('many', scope => 'n = 0', statement => q{UPDATE batch SET n = 1 WHERE a % 7 <> 3}, settings => qq("sleep": 0, "verify": true, "batch_size": 20000, "target_batch_time": 0, "direction": "$direction"));
	ok(wait_for_status($node, $id, 'failed'), "120,000 rows, $direction: some are left");
	my $left = sql('SELECT count(*) FROM many WHERE n = 0');
	cmp_ok($left, '>', 10_000, 'not few, all over');
	is(value($id, 'rows_remaining'), $left, 'the worker counts them all');
	is(sql("SELECT backfill_verify($id)"), $left, 'so does backfill_verify');
	sql("UPDATE many SET n = 1 WHERE (a, b) NOT IN ((3, 'row 3000'), (52, 'row 52999'), (3, 'row 3999'))", "SELECT backfill_resume($id)");
	ok(wait_for($node, "SELECT status = 'failed' AND rows_remaining = 3 FROM backfill_runs WHERE id = $id"), 'few');
	sql('UPDATE many SET n = 1 WHERE n = 0', "SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'and none');
}
sql('TRUNCATE many');
$id = start('many', scope => 'n = 0', settings => '"sleep": 0, "verify": true', finish => 'INSERT INTO many VALUES (1, 1, 1)');
ok(wait_for_status($node, $id, 'completed'), 'an empty table is verified');
is(value($id, 'rows_remaining') . sql('SELECT count(*) FROM many'), '01', 'and finished');
is(sql("SELECT backfill_verify($id)"), 0, 'at any time');

# ---------------------------------------------------------------------------
note 'backfill_verify at any time';

sql('UPDATE t SET n = 0');
$id = start('t', scope => 'n = 0', settings => '"sleep": "1 h"');
ok(wait_for($node, "SELECT batches = 1 FROM backfill_runs WHERE id = $id"), 'a run under way');
is(sql("SELECT backfill_verify($id)"), $rows - 300, 'what is left');
is(value($id, 'rows_remaining, status'), ($rows - 300) . '|running', 'is shown; the run goes on');
is(sql("BEGIN; UPDATE t SET n = 1 WHERE id <= 10000; SELECT backfill_verify($id); ROLLBACK"), $rows - 1000, 'it sees what its transaction sees');
sql("SELECT backfill_stop($id)");
ok(wait_for_status($node, $id, 'stopped'), 'stopped');
is(sql("SELECT backfill_verify($id)"), $rows - 300, 'a run that has ended can be asked');
sql("INSERT INTO t (id) VALUES (100000)");
is(sql("SELECT backfill_verify($id)"), $rows - 300, 'rows behind its end are not its affair');
sql('DELETE FROM t WHERE id = 100000');
is(events($id, 'verify'), join(', ', ('rows remaining: ' . ($rows - 300)) x 3), 'each count is an event');
is(sql("SELECT DISTINCT role FROM backfill_events WHERE run_id = $id AND kind = 'verify'"), 'postgres', 'with the role');
like(refusal('SELECT backfill_verify(4711)'), qr/ERROR:  42704/, 'a run that is not there');
my $later = sql(q{SELECT backfill_start('t', start_at => now() + '1 day')});
like(refusal("SELECT backfill_verify($later)"), qr/ERROR:  55000.*not begun/s, 'one that has not begun');
sql("SELECT backfill_stop($later)");
is(sql('SELECT backfill_verify(NULL) IS NULL'), 't', 'null');

# who counts: the owner, whoever asks
$node->safe_psql('postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE stranger LOGIN;
	CREATE SCHEMA den AUTHORIZATION mallory;
	SET ROLE mallory;
	CREATE TABLE den.checks (who text, attempt text, outcome text);
	CREATE FUNCTION den.try(command text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE command;
		RETURN 'done';
	EXCEPTION WHEN OTHERS THEN
		RETURN sqlstate;
	END $$;
	CREATE FUNCTION den.open(i int) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		attempt text;
	BEGIN
		IF i = 10 THEN
			FOREACH attempt IN ARRAY ARRAY['ALTER ROLE mallory SUPERUSER', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'RESET ROLE', 'SELECT FROM pg_authid', 'COPY (SELECT 1) TO PROGRAM ''true''', 'UPDATE backfill.run SET owner = 10', 'CREATE TEMP TABLE pg_class_ (i int)', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'] LOOP
				INSERT INTO den.checks VALUES (current_user, attempt, den.try(attempt));
			END LOOP;
		END IF;
		RETURN true;
	END $$;
	CREATE TABLE den.mine (id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO den.mine SELECT generate_series(1, 20);
	SET search_path = den, public;
	SELECT backfill_define('mine', 'den.mine', 'UPDATE batch SET n = n + 1 WHERE id <> 13', scope => 'n = 0 AND open(id)', settings => '{"sleep": 0}')});
$id = sql(q{SET ROLE mallory; SELECT backfill_start('mine')});
ok(wait_for_status($node, $id, 'completed'), 'a run of somebody with bad intentions');
sql('TRUNCATE den.checks', 'UPDATE den.mine SET n = 0 WHERE id IN (10, 11)');
is(sql("SELECT backfill_verify($id)"), 3, 'a superuser verifies it');
is(sql('SELECT DISTINCT who FROM den.checks'), 'mallory', 'the function in the scope runs as the owner');
is(sql('SELECT string_agg(DISTINCT outcome, \',\') FROM den.checks'), '42501', 'and can do nothing more');
is(sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', 'nobody has become superuser');
is(sql("SELECT backfill_verify($id); SELECT current_user, current_setting('search_path')"), qq(3\npostgres|"\$user", public), 'the session is what it was');
is(sql("SET ROLE mallory; SELECT backfill_verify($id)"), 3, 'the owner may');
is(sqlstate($node, "SET ROLE stranger; SELECT backfill_verify($id)"), '42704', 'a stranger may not');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'verify' AND role = 'mallory'"), 1, 'the event names who asked');
sql('DROP TABLE den.mine', 'TRUNCATE den.checks');
isnt(sqlstate($node, "SELECT backfill_verify($id)"), '00000', 'without the table it is an error');

# ---------------------------------------------------------------------------
note 'finish';

sub refused_finish
{
	my ($finish) = @_;
	return refusal(qq{SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1', finish => \$f\$$finish\$f\$)});
}
foreach my $finish ('BEGIN', 'COMMIT', 'SELECT 1; ROLLBACK', 'SAVEPOINT s', 'START TRANSACTION', 'SELECT 1; END; SELECT 2', q{PREPARE TRANSACTION 'x'}, 'ABORT')
{
	like(refused_finish($finish), qr/ERROR:  0A000: "finish" of a backfill cannot control transactions.*each statement is a transaction/si, "refused: $finish");
}
foreach my $finish ('COPY t FROM STDIN', 'SELECT 1; COPY t TO STDOUT')
{
	like(refused_finish($finish), qr/ERROR:  0A000: "finish" of a backfill cannot copy to or from a client/, "refused: $finish");
}
like(refused_finish('ALTER TABL t'), qr/ERROR:  42601.*ALTER TABL t/s, 'what cannot be parsed is refused, with its place');
is(sql(q{SELECT count(*) FROM backfill_definitions WHERE name = 'bad'}), 0, 'nothing is left of it');
foreach my $finish ('', ' ; ; ', '-- nothing')
{
	my $done = start('t', finish => $finish, scope => 'n = 0');
	ok(wait_for_status($node, $done, 'completed'), "nothing to do is done: \"$finish\"");
}

# what users will want
create_target($node, 'f', $rows);
sql('ALTER TABLE f ADD v int, ADD CONSTRAINT filled CHECK (v IS NOT NULL) NOT VALID, ADD CONSTRAINT positive CHECK (v > 0) NOT VALID');
my $finish = q{
	ALTER TABLE f VALIDATE CONSTRAINT filled;
	ALTER TABLE f ALTER v SET NOT NULL;
	ALTER TABLE f DROP CONSTRAINT filled;
	ALTER TABLE f VALIDATE CONSTRAINT positive;
	CREATE INDEX CONCURRENTLY IF NOT EXISTS f_v ON f (v);
	CREATE UNIQUE INDEX CONCURRENTLY f_u ON f (id, v);
	REINDEX INDEX CONCURRENTLY f_v;
	DO $$ BEGIN PERFORM 1; END $$;
	COMMENT ON TABLE f IS 'äöü; done';
	VACUUM (ANALYZE) f;
	DROP INDEX CONCURRENTLY f_u};
$id = start('f', statement => 'UPDATE batch SET v = 1, n = n + 1', scope => 'v IS NULL', finish => $finish, settings => '"sleep": 0, "workers": 2, "verify": true');
ok(wait_for_status($node, $id, 'completed'), 'many statements, some of which cannot run in a transaction block');
is(sql(q{SELECT attnotnull FROM pg_attribute WHERE attrelid = 'f'::regclass AND attname = 'v'}), 't', 'SET NOT NULL');
is(sql(q{SELECT conname, convalidated FROM pg_constraint WHERE conrelid = 'f'::regclass AND contype = 'c'}), 'positive|t', 'VALIDATE and DROP CONSTRAINT');
is(sql(q{SELECT string_agg(indexrelid::regclass || ' ' || indisvalid, ', ') FROM pg_index WHERE indrelid = 'f'::regclass AND NOT indisprimary}), 'f_v true', 'CREATE, REINDEX and DROP INDEX CONCURRENTLY');
is(sql(q{SELECT obj_description('f'::regclass)}), 'äöü; done', 'COMMENT');
is(events($id, 'finish'), join(', ', map { "statement $_ is done" } 1 .. 11), 'each statement is an event');
is(sql("SELECT bool_and(v.id < f.id) FROM backfill_events v, backfill_events f WHERE v.run_id = $id AND f.run_id = $id AND v.kind = 'verify' AND f.kind = 'finish'"), 't', 'after the verification');
is(sql("SELECT bool_and(f.id < c.id) FROM backfill_events c, backfill_events f WHERE c.run_id = $id AND f.run_id = $id AND c.status = 'completed' AND f.kind = 'finish'"), 't', 'before the run is completed');
check_exactly_once($node, $id, 'f', $rows, 'exactly once');

# a failure in the middle
sql('CREATE TABLE steps (step int, who text, path text, isolation text, readonly text)');
my $step = sub { return "INSERT INTO steps VALUES ($_[0], current_user || ' ' || session_user, current_setting('search_path'), current_setting('transaction_isolation'), current_setting('transaction_read_only'))"; };
$finish = join(';', $step->(1), 'SELECT set_config(\'work_mem\', \'77MB\', false)', $step->(3), 'INSERT INTO steps SELECT 4; SELECT 1 / count(*) FROM pg_class WHERE relname = \'mended\'', $step->(6), 'INSERT INTO steps SELECT 7 WHERE current_setting(\'work_mem\') = \'77MB\'');
$id = start('t', finish => $finish, scope => 'false');
ok(wait_for_status($node, $id, 'failed'), 'a statement that fails fails the run');
is(value($id, 'sqlstate, error'), '22012|division by zero', 'with its error');
like(value($id, 'error_context'), qr/"finish" of backfill run $id "t", statement 5/, 'and which one it is');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3,4', 'those before it are done, those behind it are not');
is(events($id, 'finish'), 'statement 1 is done, statement 2 is done, statement 3 is done, statement 4 is done', 'the events say so');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, "SELECT count(*) = 2 FROM backfill_events WHERE run_id = $id AND status = 'failed' AND kind = 'transition'"), 'resumed, it fails again');
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'it is failed');
sql('CREATE TABLE mended ()', "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'mended and resumed, it completes');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps WHERE step < 7'), '1,3,4,6', 'only what failed and what was behind it ran: each statement once');
is(sql('SELECT DISTINCT who, path, isolation, readonly FROM steps WHERE step IN (1, 3, 6)'), 'postgres postgres|"$user", public|read committed|off', 'as the owner, under the path of the definition');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND attempt > 1"), 0, 'no batch ran again');
sql('DROP TABLE mended', 'TRUNCATE steps');

# as the owner, and nobody else
sql('CREATE TABLE den.t (id int PRIMARY KEY); INSERT INTO den.t VALUES (1); ALTER TABLE den.t OWNER TO mallory; GRANT ALL ON steps TO mallory; CREATE ROLE friend; GRANT friend TO mallory; GRANT ALL ON steps TO friend');
$id = start('den.t', role => 'mallory', statement => 'SELECT FROM batch', finish => join(';', $step->(1), 'SET ROLE friend', $step->(3), 'RESET ROLE'));
ok(wait_for_status($node, $id, 'failed'), 'SET ROLE in finish');
is(value($id, 'sqlstate, error'), '42501|"finish" of the backfill changed the current user', 'is an error');
is(sql('SELECT step, who FROM steps'), '1|mallory mallory', 'nothing ran as somebody else');
sql('TRUNCATE steps');
$id = start('den.t', role => 'mallory', statement => 'SELECT FROM batch', finish => join(';', 'DO $$ BEGIN SET LOCAL ROLE friend; INSERT INTO steps VALUES (1, current_user); RESET ROLE; END $$', $step->(2)));
ok(wait_for_status($node, $id, 'completed'), 'SET LOCAL ROLE within a statement that resets it');
is(sql('SELECT step, who FROM steps ORDER BY step'), "1|friend\n2|mallory mallory", 'does not leak');
foreach my $evil ('ALTER ROLE mallory SUPERUSER', 'SET SESSION AUTHORIZATION postgres', 'SET ROLE postgres', q{COPY (SELECT 1) TO PROGRAM 'true'}, 'UPDATE backfill.run SET owner = 10', 'DROP TABLE t')
{
	$id = start('den.t', role => 'mallory', statement => 'SELECT FROM batch', finish => $evil);
	# resumed by a superuser, it is no more
	ok(wait_for_status($node, $id, 'failed'), "not allowed: $evil");
	sql("SELECT backfill_resume($id)");
	ok(wait_for($node, "SELECT count(*) = 2 FROM backfill_events WHERE run_id = $id AND status = 'failed' AND kind = 'transition'"), 'also when a superuser resumes it');
	is(value($id, 'sqlstate'), '42501', 'permission is denied');
}

# COMMIT inside of what is called
sql('TRUNCATE steps; CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO steps VALUES (1); COMMIT; INSERT INTO steps VALUES (2); COMMIT; END $$');
$id = start('t', finish => "CALL commits(); INSERT INTO steps VALUES (3)", scope => 'false');
ok(wait_for_status($node, $id, 'completed'), 'a procedure may commit');
is(sql('SELECT string_agg(step::text, \',\') FROM steps'), '1,2,3', 'and is done once');

# ---------------------------------------------------------------------------
note 'a lock in the way';

my $blocker = session($node);
$blocker->query('BEGIN');
$blocker->query('SELECT FROM f LIMIT 1');
$id = start('t', scope => 'false', finish => 'ALTER TABLE f ALTER n SET DEFAULT 5; CREATE TABLE after_lock ()', settings => '"sleep": 0, "lock_timeout": "50 ms", "max_attempts": 1000');
ok(wait_for($node, "SELECT state = 'retrying' FROM backfill_workers WHERE run_id = $id"), 'the lock is not to be had within lock_timeout: it is tried again');
is(sql("SELECT to_regclass('after_lock') IS NULL"), 't', 'nothing behind it is done');
ok(wait_for($node, "SELECT count(*) >= 2 FROM backfill_events WHERE run_id = $id AND kind = 'retry' AND sqlstate = '55P03'"), 'each try is an event');
is(value($id, 'status'), 'running', 'the run goes on');
# what others want of the table in between is not kept waiting for long
is(sql("SET statement_timeout = '20 s'; SELECT count(*) FROM f"), $rows, 'others can read the table meanwhile');
$blocker->query('COMMIT');
ok(wait_for_status($node, $id, 'completed'), 'when the lock is gone it completes');
is(sql("SELECT to_regclass('after_lock') IS NOT NULL"), 't', 'with what comes behind');

# a lock that stays
$blocker->query('BEGIN');
$blocker->query('SELECT FROM f LIMIT 1');
$id = start('t', scope => 'false', finish => 'ALTER TABLE f ALTER n SET DEFAULT 6', settings => '"sleep": 0, "lock_timeout": "50 ms", "max_attempts": 3');
ok(wait_for_status($node, $id, 'failed'), 'after max_attempts the run fails');
is(value($id, 'sqlstate'), '55P03', 'with the last error');
$blocker->query('COMMIT');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');

# ---------------------------------------------------------------------------
note 'pause, stop and crashes on the way';

# finish waits for the session's advisory lock, without lock_timeout
my $waits = "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
$finish = 'INSERT INTO steps VALUES (1); SELECT pg_advisory_xact_lock(4711); INSERT INTO steps VALUES (3)';
foreach my $what ('pause', 'stop', 'stop immediately')
{
	sql('TRUNCATE steps');
	$blocker->query('SELECT pg_advisory_lock(4711)');
	$id = start('t', scope => 'false', finish => $finish, settings => '"sleep": 0, "lock_timeout": 0');
	ok(wait_for($node, $waits), "$what during finish: it is at its second statement");
	is(sql("SELECT state FROM backfill_workers WHERE run_id = $id"), 'finishing', 'the worker says what it does');
	like(value($id, 'wait_reason'), qr/verified and finished/, 'so does the run');
	sql($what eq 'pause' ? "SELECT backfill_pause($id)" : $what eq 'stop' ? "SELECT backfill_stop($id)" : "SELECT backfill_stop($id, true)");
	# only an immediate stop cancels what is in hand
	$blocker->query('SELECT pg_advisory_unlock(4711)') if $what ne 'stop immediately';
	my $status = $what eq 'pause' ? 'paused' : 'stopped';
	ok(wait_for_status($node, $id, $status), "the run is $status");
	$blocker->query('SELECT pg_advisory_unlock(4711)') if $what eq 'stop immediately';
	is(sql('SELECT string_agg(step::text, \',\') FROM steps'), '1', 'the third statement has not run');
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'each statement once');
}

# during the verification: the scope waits for the lock at one row
sql('UPDATE t SET n = 0', q{CREATE FUNCTION gate(i bigint, n int) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF i = 10000 AND n > 0 THEN
			PERFORM pg_advisory_xact_lock_shared(4711);
		END IF;
		RETURN n = 0;
	END $$});
foreach my $what ('pause', 'stop', 'stop immediately')
{
	sql('UPDATE t SET n = 0', 'TRUNCATE steps');
	$blocker->query('SELECT pg_advisory_lock(4711)');
	$id = start('t', scope => 'gate(id, n)', finish => 'INSERT INTO steps VALUES (1)', settings => '"sleep": 0, "lock_timeout": 0, "verify": true');
	ok(wait_for($node, $waits), "$what during the verification: it has begun");
	is(sql("SELECT state FROM backfill_workers WHERE run_id = $id"), 'verifying', 'the worker says what it does');
	sql($what eq 'pause' ? "SELECT backfill_pause($id)" : $what eq 'stop' ? "SELECT backfill_stop($id)" : "SELECT backfill_stop($id, true)");
	$blocker->query('SELECT pg_advisory_unlock(4711)') if $what ne 'stop immediately';
	my $status = $what eq 'pause' ? 'paused' : 'stopped';
	ok(wait_for_status($node, $id, $status), "the run is $status");
	$blocker->query('SELECT pg_advisory_unlock(4711)') if $what eq 'stop immediately';
	is(sql('SELECT count(*) FROM steps'), 0, 'finish has not run');
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	is(value($id, 'rows_remaining, rows_affected'), "0|$rows", 'it has counted, and changed no row twice');
	is(sql('SELECT count(*) FROM steps'), 1, 'finish has run once');
}

# the server is killed in the middle of the verification, then of a statement;
# a prepared transaction keeps the lock through that
sql('UPDATE t SET n = 0', 'TRUNCATE steps');
$blocker->quit;
$finish = q{INSERT INTO steps VALUES (1); SELECT pg_advisory_xact_lock(4711); INSERT INTO steps VALUES (3); CREATE INDEX CONCURRENTLY IF NOT EXISTS t_n ON t (n)};
my $close_gate = q{BEGIN; SELECT pg_advisory_xact_lock(4711); PREPARE TRANSACTION 'gate'};
my $open_gate = q{ROLLBACK PREPARED 'gate'};
query_ok($node, $close_gate);
$id = start('t', scope => 'gate(id, n)', finish => $finish, settings => '"sleep": 0, "lock_timeout": 0, "verify": true');
foreach my $everything (1, 0)
{
	ok(wait_for($node, $waits), 'the verification is under way');
	ok($everything ? kill_server($node) : kill_postmaster($node), 'the server is killed');
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(wait_for($node, $waits), 'it begins again');
is(value($id, 'status, rows_remaining IS NULL'), 'running|t', 'a crash changes no status');
query_ok($node, $open_gate);
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(value($id, 'rows_remaining'), 0, 'verified');
is(sql('SELECT n, count(*) FROM t GROUP BY n'), "1|$rows", 'every row was changed exactly once');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'each statement ran once');

sql('TRUNCATE steps', 'DROP INDEX t_n');
query_ok($node, $close_gate);
$id = start('t', scope => 'false', finish => $finish, settings => '"sleep": 0, "lock_timeout": 0');
foreach my $everything (1, 0)
{
	ok(wait_for($node, $waits), 'the second statement is under way');
	ok($everything ? kill_server($node) : kill_postmaster($node), 'the server is killed');
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(wait_for($node, $waits), 'it is at it again');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1', 'the first is not done again');
is(events($id, 'finish'), 'statement 1 is done', 'nor counted');
is(value($id, 'status'), 'running', 'a crash changes no status');
query_ok($node, $open_gate);
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'each statement once');
is(sql(q{SELECT indisvalid FROM pg_index WHERE indexrelid = 't_n'::regclass}), 't', 'the index is there');
is(events($id, 'finish'), join(', ', map { "statement $_ is done" } 1 .. 4), 'the events say so');

# what brings the server down each time does not do so for ever
foreach my $scope ('false', 'gate(id, n)')
{
	sql('TRUNCATE steps', 'UPDATE t SET n = 0');
	query_ok($node, $close_gate);
	$id = start('t', scope => $scope, finish => $finish, settings => '"sleep": 0, "lock_timeout": 0, "verify": true');
	my $where = $scope eq 'false' ? 'a statement of finish' : 'the verification';
	foreach my $death (1 .. 3)
	{
		ok(wait_for($node, $waits), "$where, death $death");
		ok(kill_server($node), 'the server is killed');
		$node->start;
		ok(wait_for_server($node), 'and comes back');
	}
	ok(wait_for_status($node, $id, 'failed'), 'after three deaths the run fails');
	is(value($id, 'sqlstate'), '57P02', 'with 57P02');
	query_ok($node, $open_gate);
	is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), $scope eq 'false' ? '1' : '', 'what is done is done');
	sql("SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, it completes');
	is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'each statement once');
}

# an index that is built half is not taken for a whole one
query_ok($node, q{BEGIN; UPDATE f SET f = f; PREPARE TRANSACTION 'writer'});
$id = start('t', scope => 'false', finish => 'CREATE INDEX CONCURRENTLY IF NOT EXISTS f_n ON f (n); CREATE TABLE after_index ()', settings => '"sleep": 0, "lock_timeout": "50 ms"');
ok(wait_for($node, q{SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass('f_n')}), 'CREATE INDEX CONCURRENTLY waits for a writer, longer than lock_timeout');
ok(wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name LIKE 'backfill run%' AND query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '100 ms'}), 'with its statement to be seen');
is(value($id, 'status'), 'running', 'the run goes on');
ok(kill_server($node), 'the server is killed');
$node->start;
ok(wait_for_status($node, $id, 'failed'), 'the run fails, because half an index is there');
is(value($id, 'sqlstate, error'), '55000|index "f_n" is not valid', 'and says so');
like(value($id, 'error_hint'), qr/DROP INDEX CONCURRENTLY.*backfill_resume/, 'and what to do');
query_ok($node, q{ROLLBACK PREPARED 'writer'});
query_ok($node, 'DROP INDEX CONCURRENTLY f_n');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed without it, the run completes');
is(sql(q{SELECT indisvalid, to_regclass('after_index') IS NOT NULL FROM pg_index WHERE indexrelid = 'f_n'::regclass}), 't|t', 'with a whole index and what comes behind it');

# what may be half done is not repeated by itself
sql('CREATE SEQUENCE calls', q{CREATE PROCEDURE flaky() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('calls'); INSERT INTO steps VALUES (1); COMMIT; RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END $$}, 'TRUNCATE steps');
$id = start('t', scope => 'false', finish => 'CALL flaky()');
ok(wait_for_status($node, $id, 'failed'), 'a CALL that raises what would be tried again otherwise fails the run');
is(sql('SELECT last_value FROM calls') . ' ' . sql('SELECT count(*) FROM steps'), '1 1', 'at once');
sql(q{CREATE OR REPLACE FUNCTION flaky_now() RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF nextval('calls') < 4 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END IF; RETURN 1; END $$});
$id = start('t', scope => 'false', finish => 'SELECT flaky_now()');
ok(wait_for_status($node, $id, 'completed'), 'another statement is tried again');
is(sql('SELECT last_value FROM calls'), 4, 'until it succeeds');

# what a run keeps: the definition is replaced while it is at work
sql('TRUNCATE steps');
$blocker = session($node);
$blocker->query('SELECT pg_advisory_lock(4711)');
$id = start('t', scope => 'false', finish => $finish, settings => '"sleep": 0, "lock_timeout": 0');
ok(wait_for($node, $waits), 'finish is under way');
sql(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = 1', finish => 'INSERT INTO steps VALUES (99)')});
$blocker->query('SELECT pg_advisory_unlock(4711)');
ok(wait_for_status($node, $id, 'completed'), 'the definition was replaced meanwhile');
is(sql('SELECT string_agg(step::text, \',\' ORDER BY step) FROM steps'), '1,3', 'the run does what it was started with');

$blocker->quit;
$node->stop;
done_testing();
