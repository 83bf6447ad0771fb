# Who may have hooks, and what hooks of somebody with bad intentions can do in
# runs that a superuser starts, stops and resumes: nothing.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Hooks;
use BackfillTest::OneNode;
use Test::More;

hooks_node();
make_v();
my $id;

# ---------------------------------------------------------------------------
note 'who may have hooks';

fresh();
hook_function('plain', 'BEGIN END');
as('bob', 'CREATE FUNCTION bob.plain(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM note(\'bob\', e); END $$');
my $plain = q{'after run completed', 'plain'};
is(state_of('bob', q{SELECT backfill_on('after run completed', 'bob.plain', 'v')}), '42501', 'a stranger may add none');
is(state_of('bob', qq{SELECT backfill_on('after run completed', 'bob.plain')}), '42501', 'nor for all runs');
is(state_of('alice', "SELECT backfill_on($plain)"), '42501', 'nor may the owner of a definition add one for all runs');
is(state_of('alice', "SELECT backfill_on($plain, 'v')"), '00000', 'the owner of a definition may add one for it');
is(state_of('bob', "SELECT backfill_off('after run completed', 'app.plain', 'v')"), '42501', 'a stranger may not take it away');
is(state_of('carol', "SELECT backfill_off($plain, 'v')"), '00000', 'a member of the owner may');
is(state_of('carol', "SELECT backfill_on($plain, 'v')"), '00000', 'and add one');
is(state_of($super, "SELECT backfill_on('after run failed', 'plain', 'v')"), '00000', 'so may a superuser');
is(state_of($super, "SELECT backfill_on($plain)"), '00000', 'who may add one for all runs');
is(state_of('alice', "SELECT backfill_off($plain)"), '42501', 'which nobody else may take away');
is(sql('SELECT phase, object, status, hook, name, created_by FROM backfill_hooks ORDER BY name, status'),
	"after|run|completed|app.plain|v|carol\nafter|run|failed|app.plain|v|$super\nafter|run|completed|app.plain||$super",
	'backfill_hooks shows them, and who added them');
is(as('bob', 'SELECT status, name FROM backfill_hooks'), 'completed|', 'a stranger sees those for all runs');
is(as('alice', 'SELECT count(*) FROM backfill_hooks'), '3', 'the owner sees his own as well');
as('bob', 'REVOKE EXECUTE ON FUNCTION bob.plain FROM PUBLIC');
is(state_of('alice', q{SELECT backfill_on('after run completed', 'bob.plain', 'v')}), '42501', 'a hook has to be a function that one may call');
is(state_of('bob', q{INSERT INTO backfill.hook (phase, object, status, hook, created_by)
		VALUES ('before', 'run', 'running', 'bob.plain', 10)}), '42501', 'nobody writes into the table');

# A definition takes its hooks along, and keeps them when it is replaced.
make_target('gone', 3, '{"sleep": 0}');
as('alice', q{SELECT backfill_on('after run completed', 'plain', 'gone')});
as('alice', q{SELECT backfill_define('gone', 'gone', 'DELETE FROM batch')});
is(sql(q{SELECT count(*) FROM backfill_hooks WHERE name = 'gone'}), '1', 'a definition that is replaced keeps its hooks');
as('alice', q{SELECT backfill_drop('gone')});
is(sql(q{SELECT count(*) FROM backfill_hooks WHERE name = 'gone'}), '0', 'one that is dropped takes them along');

# Whoever takes the name of a definition that was dropped has no hooks in its
# runs, which may be resumed.
fresh();
make_target('theirs', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
as('bob', 'GRANT EXECUTE ON FUNCTION bob.plain TO PUBLIC; CREATE TABLE bob.other (id int PRIMARY KEY)');
$id = sql(q{SELECT backfill_start('theirs', start_at => now() + interval '1 hour')});
sql("SELECT backfill_stop($id)");
as('alice', q{SELECT backfill_drop('theirs')});
as('bob', q{SELECT backfill_define('theirs', 'bob.other', 'DELETE FROM batch')});
foreach my $event ('run enqueued', 'run running', 'batch running', 'batch completed', 'run completed')
{
	as('bob', "SELECT backfill_on('before $event', 'bob.plain', 'theirs'), backfill_on('after $event', 'bob.plain', 'theirs')");
}
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'a run whose definition was dropped and defined anew by a stranger is resumed');
is(sql('SELECT DISTINCT label, curr FROM log'), '', q{the stranger's hooks are not called in it, as its owner});
check_exactly_once($node, $id, 'theirs', 30, 'every row was processed exactly once');
$id = sql(q{SELECT backfill_start('theirs')});
ok(settles($id, 'completed'), q{a run of the stranger's});
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers"), 'its last worker is gone');
is(sql('SELECT (e).object, (e).status, count(*) FROM log GROUP BY 1, 2 ORDER BY 1, 2'),
	"run|completed|2\nrun|enqueued|2\nrun|running|2", 'has them');
is(sql('SELECT DISTINCT curr, sess FROM log'), 'bob|bob', 'as himself');

# ---------------------------------------------------------------------------
note 'hooks that would like to be a superuser';

fresh();
as('alice', q{CREATE TABLE secrets (what text, got text)});
my $other = session($node);
my @commands = (
	'ALTER ROLE alice SUPERUSER', "GRANT $super TO alice", 'GRANT pg_read_all_data TO alice', 'CREATE ROLE mallory SUPERUSER',
	'SELECT rolpassword FROM pg_authid', "SET ROLE $super", "SET LOCAL ROLE $super", "SET SESSION AUTHORIZATION $super",
	"SELECT set_config('role', '$super', false)", "SELECT set_config('session_authorization', '$super', false)",
	"SELECT pg_read_file('postgresql.conf')", "SELECT lo_import('/etc/passwd')", "COPY secrets FROM '/etc/passwd'",
	"COPY secrets TO PROGRAM 'true'", "COPY secrets FROM PROGRAM 'id'", 'ALTER SYSTEM SET work_mem = 64', 'SELECT pg_reload_conf()',
	"SELECT pg_terminate_backend(@{[$other->pid]})", 'SET session_replication_role = replica', 'DROP EXTENSION backfill',
	"CREATE FUNCTION evil() RETURNS int LANGUAGE internal AS 'x'", "UPDATE backfill.run SET owner = 10", 'UPDATE backfill.definition SET owner = 10',
	'DELETE FROM backfill.hook', "SELECT backfill_on('after run completed', 'plain')", 'SET ROLE bob', 'DROP TABLE bob.other', 'COMMIT', 'ROLLBACK');
my $list = join(', ', map { my $c = $_; $c =~ s/'/''/g; "'$c'" } @commands);
as('alice', qq{
	CREATE FUNCTION become() RETURNS text LANGUAGE plpgsql AS \$\$
	DECLARE
		command text;
		outcome text := '';
		got text;
	BEGIN
		FOREACH command IN ARRAY ARRAY[$list, 'RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET ROLE NONE'] LOOP
			BEGIN
				EXECUTE command;
				got := 'done';
			EXCEPTION WHEN OTHERS THEN
				got := SQLSTATE;
			END;
			IF current_user <> 'alice' OR session_user <> 'alice' OR current_setting('is_superuser') <> 'off' THEN
				got := 'now ' || current_user || ' ' || session_user;
			END IF;
			IF got LIKE 'now %' OR got = 'done' AND command !~ '^(RESET|SET ROLE NONE)' THEN
				outcome := outcome || command || ': ' || got || '; ';
			END IF;
		END LOOP;
		RETURN outcome;
	END \$\$});
hook_function('evil_before', 'BEGIN PERFORM note(become(), e); END');
hook_function('evil_around', 'BEGIN PERFORM note(become(), e); PERFORM backfill_yield(); PERFORM note(become(), e); END');
hook_function('evil_after', 'BEGIN PERFORM note(become(), e); END');
foreach my $object (keys %statuses)
{
	foreach my $status (@{ $statuses{$object} })
	{
		as('alice', qq{SELECT backfill_on(p || ' $object $status', ('evil_' || p)::regproc, 'v') FROM unnest(ARRAY['before', 'around', 'after']) p});
	}
}
sql("INSERT INTO behave VALUES (150, 'gate'), (250, 'fail')");
$id = $other->query(q{SELECT backfill_start('v')});
ok(at_gate($id, 2), 'a superuser has started a run with such hooks');
$other->query("SELECT backfill_stop($id, immediate => true)");
ok(settles($id, 'stopped'), 'stopped it immediately');
$other->query("SELECT backfill_resume($id)");
ok(at_gate($id, 2), 'resumed it');
is($other->query('SELECT count(*) FROM backfill_stop_all()'), '1', 'stopped all runs');
sql(q{UPDATE behave SET what = 'once' WHERE id = 150});
ok(settles($id, 'stopped'), 'and with them this one');
sql('ALTER SEQUENCE once RESTART');
$other->query("SELECT backfill_resume($id)");
ok(settles($id, 'failed'), 'resumed it, and it failed');
sql("UPDATE behave SET what = 'gate' WHERE id = 250");
$other->query("SELECT backfill_resume($id)");
ok(at_gate($id, 3), 'resumed it');
$other->query("SELECT backfill_pause($id)");
sql('DELETE FROM behave');
ok(settles($id, 'paused'), 'paused it');
$other->query("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'resumed it, and it was completed');
nobody_left($id, 'its last worker is gone');
is($other->query('SELECT current_user, session_user, count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()'), "$super|$super|1",
	q{the superuser's session is what it was});
is(sql('SELECT count(DISTINCT ((e).phase, (e).object, (e).status)) FROM log'), '36', 'hooks of every phase, object and status were called');
is(sql(q{SELECT DISTINCT label, (e).phase FROM log WHERE label <> ''}), '', 'and refused all that they tried');
is(sql('SELECT DISTINCT curr, sess, super, backend FROM log'), 'alice|alice|off|backfill worker',
	'each was called in a worker, as the owner of the run');
is(sql(q{SELECT rolsuper, (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = 'alice'}), 'f|1',
	'alice is who she was');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');
$other->quit;

# What a hook sets lasts for the change and no longer.
fresh();
sql('CREATE SCHEMA trap AUTHORIZATION alice');
as('alice', q{CREATE TYPE trap.backfill_event AS (x int)});
my $mess = q{PERFORM set_config('role', 'staff', false), set_config('search_path', 'trap', false), set_config('lock_timeout', '1', false),
	set_config('statement_timeout', '1h', false), set_config('synchronous_commit', 'on', false), set_config('application_name', 'mess', false)};
my $see = q{INSERT INTO app.log (label) VALUES (format('%s %s %s', current_user, current_setting('search_path'), current_setting('application_name')))};
foreach my $event ('run enqueued', 'run running', 'batch running', 'batch completed', 'run completed')
{
	hook("before $event", "BEGIN $see; $mess; END");
	hook("after $event", "BEGIN $see; $mess; END");
}
$id = start();
ok(settles($id, 'completed'), 'hooks that take a role and set parameters');
is(sql('SELECT DISTINCT label FROM log'), qq{alice app, public backfill run $id}, 'each begins as if there had been none');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

$node->stop;
done_testing();
