# What the owner's code does while a definition is checked, a run is started or
# rows are counted, in the session of whoever calls, is rolled back: no row, no
# cursor, no lock and no object is left behind for a superuser to stumble over.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');
my $rows = 100;
create_target($node, 't', $rows);
sql(q{
	CREATE ROLE mallory LOGIN;
	ALTER TABLE t OWNER TO mallory;
	CREATE SCHEMA den AUTHORIZATION mallory;
	GRANT CREATE ON DATABASE postgres TO mallory;
	SET ROLE mallory;
	CREATE TABLE den.log (what text, who text);
	CREATE SEQUENCE den.called;
	CREATE FUNCTION den.leave(what text) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		c refcursor := 'evil';
	BEGIN
		-- workers are the owner's own sessions
		IF current_setting('application_name') LIKE 'backfill %' THEN
			RETURN true;
		END IF;
		PERFORM nextval('den.called');
		INSERT INTO den.log VALUES (what, current_user);
		IF NOT EXISTS (SELECT FROM pg_cursors WHERE name = 'evil') THEN
			OPEN c FOR SELECT current_user;
		END IF;
		PERFORM pg_advisory_xact_lock(4242);
		PERFORM set_config('den.left', what, false);
		BEGIN
			EXECUTE 'CREATE DOMAIN pg_temp.text AS pg_catalog.text';
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN true;
	END $$;
	CREATE DOMAIN den.planter AS text CHECK (den.leave(value))});

# Everything that may be left, seen in the transaction of the call.
my $left = q{SELECT (SELECT count(*) FROM den.log),
	(SELECT count(*) FROM pg_cursors WHERE name = 'evil'),
	(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242),
	(SELECT count(*) FROM pg_type WHERE typname = 'text' AND typnamespace <> 'pg_catalog'::regnamespace),
	coalesce(current_setting('den.left', true), '')};

sub leaves_nothing
{
	my ($what, $sql, $role) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $before = sql('SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM den.called');
	my $s = session($node);
	$s->query("SET ROLE $role") if $role;
	$s->query('BEGIN');
	my $answer = $s->query($sql);
	unlike($answer, qr/ERROR/, "$what: is done");
	$s->query('SET LOCAL ROLE postgres') if !$role;
	is($s->query($left), '0|0|0|0|', "$what: nothing is left in its transaction");
	$s->query('COMMIT');
	is($s->query($left), '0|0|0|0|', "$what: nor after it");
	$s->quit;
	cmp_ok(sql('SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM den.called'), '>', $before, "$what: although the owner's code ran");
	return $answer;
}

leaves_nothing('backfill_define', q{SELECT backfill_define('plant', 't', 'UPDATE batch SET n = n + 1',
	scope => $$den.leave('scope') AND n = 0$$, parameters => '{"p": {"type": "den.planter", "default": "x"}}',
	settings => '{"batch_size": 10}')}, 'mallory');
my $id = leaves_nothing('backfill_start', q{SELECT backfill_start('plant', '{"p": "y"}')});
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(sql('SELECT count(*) FROM t WHERE n = 1'), $rows, 'and has done its work');
my $remaining = leaves_nothing('backfill_verify', "SELECT backfill_verify($id)");
# the scope: n = 0 is looked at before a function that costs more, so make some
sql('UPDATE t SET n = 0 WHERE id <= 50');
is(leaves_nothing('backfill_verify of rows in scope', "SELECT backfill_verify($id)"), '5', 'they are counted');

# An error is the caller's, with everything that belongs to it.
my $refusal = refusal(q{SELECT backfill_start('plant', '{"q": 1}')});
like($refusal, qr/ERROR:.*"q"/s, 'what is wrong is still said');
like(refusal(q{SELECT backfill_define('bad', 't', 'UPDATE batch SET nosuch = 1')}), qr/42703.*LINE 1: UPDATE batch SET nosuch = 1/s, 'with its place');
is(sql('SELECT current_user'), 'postgres', 'and the caller is who he was');

$node->stop;
done_testing();
