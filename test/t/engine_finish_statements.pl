# "finish", SQL that is run once at the very end, each statement by itself, as
# the owner; what fails is done again when the run is resumed, and nothing
# else; a lock in the way is waited for.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Finish;
use BackfillTest::OneNode;
use Test::More;

finish_node();
my $id;

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
create_steps();
$finish = join(';', step(1), 'SELECT set_config(\'work_mem\', \'77MB\', false)', step(3), 'INSERT INTO steps SELECT 4; SELECT 1 / count(*) FROM pg_class WHERE relname = \'mended\'', step(6), 'INSERT INTO steps SELECT 7 WHERE current_setting(\'work_mem\') = \'77MB\'');
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
create_mallory();
sql('CREATE TABLE den.t (id int PRIMARY KEY); INSERT INTO den.t VALUES (1); ALTER TABLE den.t OWNER TO mallory; GRANT ALL ON steps TO mallory; CREATE ROLE friend; GRANT friend TO mallory; GRANT ALL ON steps TO friend');
$id = start('den.t', role => 'mallory', statement => 'SELECT FROM batch', finish => join(';', step(1), 'SET ROLE friend', step(3), 'RESET ROLE'));
ok(wait_for_status($node, $id, 'failed'), 'SET ROLE in finish');
is(value($id, 'sqlstate, error'), '42501|"finish" of the backfill changed the current user', 'is an error');
is(sql('SELECT step, who FROM steps'), '1|mallory mallory', 'nothing ran as somebody else');
sql('TRUNCATE steps');
$id = start('den.t', role => 'mallory', statement => 'SELECT FROM batch', finish => join(';', 'DO $$ BEGIN SET LOCAL ROLE friend; INSERT INTO steps VALUES (1, current_user); RESET ROLE; END $$', step(2)));
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

$blocker->quit;

$node->stop;
done_testing();
