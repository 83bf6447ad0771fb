# The setting "verify" and backfill_verify, which count what is still in
# scope: what becomes of the run, and who counts.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Finish;
use BackfillTest::OneNode;
use Test::More;

finish_node();

# ---------------------------------------------------------------------------
note 'verify';

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
like(sql("SELECT backfill_retry($id)"), tries(2), 'mended and retried');
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
create_mallory();
$node->safe_psql('postgres', q{
	CREATE ROLE stranger LOGIN;
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
		outcome text;
	BEGIN
		IF i = 10 THEN
			FOREACH attempt IN ARRAY ARRAY['ALTER ROLE mallory SUPERUSER', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'RESET ROLE', 'SELECT FROM pg_authid', 'COPY (SELECT 1) TO PROGRAM ''true''', 'UPDATE backfill.run SET owner = 10', 'CREATE TEMP TABLE pg_class_ (i int)', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'] LOOP
				outcome := den.try(attempt);
				INSERT INTO den.checks VALUES (current_user, attempt, outcome);
				RAISE WARNING 'check|%|%', current_user, outcome;
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
my (undef, $remaining, $said) = query($node, "SELECT backfill_verify($id)");
is($remaining, 3, 'a superuser verifies it');
# what it writes is undone: what it says is not
my %checks = map { $_ => 1 } $said =~ /WARNING:  check\|(\w+\|\w+)$/mg;
is(join(' ', sort keys %checks), 'mallory|42501', 'the function in the scope runs as the owner, and can do nothing more');
is(sql('SELECT count(*) FROM den.checks'), 0, 'and leaves nothing behind');
is(sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', 'nobody has become superuser');
is(sql("SELECT backfill_verify($id); SELECT current_user, current_setting('search_path')"), qq(3\npostgres|"\$user", public), 'the session is what it was');
is(sql("SET ROLE mallory; SELECT backfill_verify($id)"), 3, 'the owner may');
is(sqlstate($node, "SET ROLE stranger; SELECT backfill_verify($id)"), '42704', 'a stranger may not');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'verify' AND role = 'mallory'"), 1, 'the event names who asked');
sql('DROP TABLE den.mine', 'TRUNCATE den.checks');
isnt(sqlstate($node, "SELECT backfill_verify($id)"), '00000', 'without the table it is an error');

$node->stop;
done_testing();
