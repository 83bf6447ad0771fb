# Security: the worker is the owner of its run, and whatever the owner puts
# into statements and functions, it becomes nobody else; nor does who may not
# connect have a worker.

use strict;
use warnings;

use BackfillTest::Security;
use Test::More;

security_node();

my $version = $node->safe_psql('postgres', 'SHOW server_version_num');

# ---------------------------------------------------------------------------
note 'who the worker is';

as('alice', q{
	CREATE TABLE who(id int PRIMARY KEY, n int DEFAULT 0, curr text, sess text, super text);
	INSERT INTO who SELECT generate_series(1, 30);
	SELECT backfill_define('who', 'who', $$UPDATE batch SET n = n + 1, curr = current_user,
		sess = session_user, super = current_setting('is_superuser')$$,
		settings => '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}')});
$node->safe_psql('postgres', q{SELECT backfill_start('who')});
is(outcome('who'), 'completed', 'a run that a superuser starts completes');
is(as('alice', 'SELECT DISTINCT n, curr, sess, super FROM who'), '1|alice|alice|off',
	'its statement runs as the owner of the definition, in a session of the owner');
is($node->safe_psql('postgres', q{SELECT owner, started_by FROM backfill_runs WHERE name = 'who'}),
	"alice|$super", 'the run tells its owner from who started it');

# ---------------------------------------------------------------------------
note 'becoming somebody else';

my @commands = (
	'RESET ROLE', 'SET ROLE NONE', "SET ROLE $super", "SET LOCAL ROLE $super",
	'SET SESSION AUTHORIZATION DEFAULT', 'RESET SESSION AUTHORIZATION',
	"SET SESSION AUTHORIZATION $super", 'SET ROLE bob',
	"SELECT set_config('role', '$super', false)",
	"SELECT set_config('session_authorization', '$super', false)",
	'RESET ALL', 'DISCARD ALL',
	'ALTER ROLE alice SUPERUSER', "UPDATE backfill.run SET owner = 10",
	'COMMIT', 'ROLLBACK');
my $values = join(', ', map { my $c = $_; $c =~ s/'/''/g; "('$c')" } @commands);

as('alice', qq{
	CREATE FUNCTION alice.become(command text) RETURNS text LANGUAGE plpgsql AS \$\$
	DECLARE
		failure text := 'no error';
	BEGIN
		BEGIN
			EXECUTE command;
		EXCEPTION WHEN OTHERS THEN
			failure := SQLSTATE;
		END;
		RETURN concat_ws(' ', current_user, session_user, current_setting('is_superuser'), failure);
	END \$\$;
	CREATE TABLE attempt(id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
		command text, outcome text);
	INSERT INTO attempt (command) VALUES $values;
	SELECT backfill_define('become', 'attempt',
		'UPDATE batch SET outcome = alice.become(command)',
		settings => '{"batch_size": 1, "target_batch_time": 0, "sleep": 0}');
	SELECT backfill_start('become')});
is(outcome('become'), 'completed', 'a run whose functions try to change the role goes on');
is(as('alice', q{SELECT string_agg(command, ', ') FROM attempt
				  WHERE outcome IS NULL OR outcome NOT LIKE 'alice alice off %'}),
	'', 'no command in the statement makes the owner anyone else');
is(as('alice', qq{SELECT count(*) FROM attempt
				   WHERE command ~ '$super|bob|SUPERUSER|backfill' AND outcome ~ 'no error'}),
	'0', 'all that would have given more rights were errors');
books_balance('become', scalar(@commands), 'the books of that run balance');

# The same from a deferred constraint trigger, which fires last of all.
as('alice', q{
	CREATE FUNCTION alice.deferred_become() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM spy.note('deferred become', alice.become(NEW.command));
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER become AFTER UPDATE ON attempt
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.deferred_become();
	SELECT backfill_define('become later', 'attempt', 'UPDATE batch SET outcome = NULL',
		settings => '{"batch_size": 1, "target_batch_time": 0, "sleep": 0}');
	SELECT backfill_start('become later')});
is(outcome('become later'), 'completed', 'the same in a deferred constraint trigger');
is( $node->safe_psql('postgres', q{
	SELECT count(*), bool_and(outcome LIKE 'alice alice off %')
	  FROM witness WHERE what = 'deferred become'}),
	scalar(@commands) . '|t', 'a deferred trigger becomes nobody else either');
is(witnessed('deferred become'), 'alice|alice|off', 'and leaves the role as it was');
books_balance('become later', scalar(@commands), 'the books of that run balance');

# A role the owner may take lasts no longer than the batch.
as('alice', q{
	CREATE TABLE borrowed(id int PRIMARY KEY, before text);
	INSERT INTO borrowed SELECT generate_series(1, 4);
	CREATE FUNCTION alice.borrow() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		before text := current_user;
	BEGIN
		PERFORM set_config('role', 'staff', false);
		RETURN before;
	END $$;
	SELECT backfill_define('borrow', 'borrowed', 'UPDATE batch SET before = alice.borrow()',
		settings => '{"batch_size": 1, "target_batch_time": 0, "sleep": 0}');
	SELECT backfill_start('borrow')});
is(outcome('borrow'), 'completed', 'a statement may take a role that its owner is a member of');
is(as('alice', 'SELECT DISTINCT before FROM borrowed'), 'alice',
	'the next batch begins as the owner again');
books_balance('borrow', 4, 'the books of that run balance');

# ---------------------------------------------------------------------------
note 'owners that cannot connect';

$node->safe_psql('postgres', q{
	GRANT CREATE ON SCHEMA public TO staff;
	SET ROLE staff;
	CREATE TABLE public.crew(id int PRIMARY KEY, sess text);
	INSERT INTO crew VALUES (1), (2);
	SELECT backfill_define('crew', 'crew', 'UPDATE batch SET sess = session_user')});
if ($version < 170000)
{
	like(refused('alice', q{SELECT backfill_start('crew')}),
		qr/55000.*role "staff" cannot run a backfill because it is not permitted to log in.*HINT:.*LOGIN/s,
		'before 17 an owner that may not log in is refused with a hint');
	$node->safe_psql('postgres', 'ALTER ROLE staff LOGIN');
}
else
{
	pass('from 17 on an owner need not be allowed to log in');
}
as('alice', q{SELECT backfill_start('crew')});
is(outcome('crew'), 'completed', 'a run of a group role');
is($node->safe_psql('postgres', 'SELECT DISTINCT sess FROM crew'), 'staff', 'the worker is that role');

as('alice', q{SELECT backfill_start('who', start_at => now() + interval '1 day')});
my $held = as('alice', q{SELECT max(id) FROM backfill_runs WHERE name = 'who'});
as('alice', "SELECT backfill_pause($held)");
$node->safe_psql('postgres', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
like(refused($super, q{SELECT backfill_start('who')}),
	qr/42501.*role "alice" cannot run a backfill because it may not connect.*HINT:.*Grant CONNECT/s,
	'an owner without CONNECT is refused with a hint');
like(refused($super, "SELECT backfill_resume($held)"), qr/42501.*may not connect/,
	'so it is when a run is resumed');
$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC');

$node->stop;
done_testing();
