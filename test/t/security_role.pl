# Security: whatever a run's owner, or somebody who would like to be its owner,
# puts into statements, functions, triggers, search_path and pg_temp, nothing
# runs with more rights than the owner's and the bookkeeping stays true.
#
# The installation is a superuser's; alice owns definitions, bob wants what is
# hers, carol is a member of alice, mon of pg_monitor.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('security');
$node->init;
$node->append_conf('postgresql.conf', <<'EOC');
shared_preload_libraries = 'backfill'
max_worker_processes = 16
log_statement = none
restart_after_crash = on
EOC
$node->start;

my $super = $node->safe_psql('postgres', 'SELECT current_user');
my $version = $node->safe_psql('postgres', 'SHOW server_version_num');

# What a query of a role gives; dies on an error.
sub as
{
	my ($role, $sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql, extra_params => [ '-U', $role ]);
}

# The error that a command of a role gives, or '' if there is none.
sub refused
{
	my ($role, $sql, $db) = @_;
	my ($rc, $out, $err) = $node->psql($db // 'postgres', "\\set VERBOSITY verbose\n$sql",
		extra_params => [ '-U', $role ]);
	return $rc == 0 ? '' : $err;
}

# The last run of a definition, once it has ended: status and error.
sub outcome
{
	my ($name, $db) = @_;
	$db //= 'postgres';
	$node->poll_query_until($db, qq{
		SELECT status IN ('completed', 'failed', 'stopped')
		  FROM backfill_runs WHERE name = '$name' ORDER BY id DESC LIMIT 1})
	  or die "run of $name does not end";
	return $node->safe_psql($db,
		qq{SELECT concat_ws(': ', status, error)
			 FROM backfill_runs WHERE name = '$name' ORDER BY id DESC LIMIT 1});
}

# Whether the numbers of a definition's last run are those of its batches.
sub books_balance
{
	my ($name, $rows, $what, $db) = @_;
	is( $node->safe_psql($db // 'postgres', qq{
		SELECT r.status, r.rows_scanned, r.rows_affected, r.batches = count(*),
			   r.rows_affected = sum(b.rows_affected), bool_and(b.status = 'completed')
		  FROM backfill_runs r JOIN backfill_batches b ON b.run_id = r.id
		 WHERE r.id = (SELECT max(id) FROM backfill_runs WHERE name = '$name')
		 GROUP BY r.id, r.status, r.rows_scanned, r.rows_affected, r.batches}),
		"completed|$rows|$rows|t|t|t", $what);
}

# Whom the witness saw at this since the last question.
sub witnessed
{
	my ($what, $db) = @_;
	return $node->safe_psql($db // 'postgres',
		qq{WITH gone AS (DELETE FROM witness WHERE what LIKE '$what' RETURNING *)
		   SELECT DISTINCT curr, sess, super FROM gone ORDER BY 1, 2, 3});
}

# The witness: a table that everybody may write, and a function that writes
# down as whom it runs.
my $witness = <<'EOS';
CREATE TABLE witness(what text, curr text, sess text, super text, outcome text);
GRANT SELECT, INSERT ON witness TO PUBLIC;
CREATE SCHEMA spy;
CREATE FUNCTION spy.note(what text, outcome text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
	INSERT INTO public.witness
	VALUES (what, current_user, session_user, current_setting('is_superuser'), outcome);
END $$;
GRANT USAGE ON SCHEMA spy TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
EOS

$node->safe_psql('postgres', <<"EOS");
CREATE ROLE alice LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE carol LOGIN;
CREATE ROLE dora LOGIN NOINHERIT;
CREATE ROLE mon LOGIN;
CREATE ROLE staff;
GRANT alice TO carol, dora;
GRANT pg_monitor TO mon;
GRANT staff TO alice;
CREATE EXTENSION backfill;
$witness
CREATE SCHEMA alice AUTHORIZATION alice;
CREATE SCHEMA bob AUTHORIZATION bob;
EOS

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
note 'triggers';

as('alice', q{
	CREATE TABLE triggered(id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO triggered SELECT generate_series(1, 6);
	CREATE TABLE second(id int);
	CREATE FUNCTION alice.tg() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		failure text := 'no error';
	BEGIN
		BEGIN
			EXECUTE 'UPDATE backfill.batch SET status = ''completed''';
		EXCEPTION WHEN OTHERS THEN
			failure := SQLSTATE;
		END;
		PERFORM spy.note('trigger ' || TG_NAME, failure);
		IF TG_ARGV[0] = 'again' THEN
			INSERT INTO second VALUES (NEW.id);
		END IF;
		RETURN NULL;
	END $$;
	CREATE TRIGGER row_immediate AFTER UPDATE ON triggered
		FOR EACH ROW EXECUTE FUNCTION alice.tg();
	CREATE TRIGGER statement_immediate AFTER UPDATE ON triggered
		FOR EACH STATEMENT EXECUTE FUNCTION alice.tg();
	CREATE CONSTRAINT TRIGGER constraint_immediate AFTER UPDATE ON triggered
		FOR EACH ROW EXECUTE FUNCTION alice.tg();
	CREATE CONSTRAINT TRIGGER constraint_deferred AFTER UPDATE ON triggered
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.tg('again');
	CREATE CONSTRAINT TRIGGER deferred_by_deferred AFTER INSERT ON second
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.tg();
	SELECT backfill_define('triggers', 'triggered', 'UPDATE batch SET n = n + 1',
		settings => '{"batch_size": 2, "target_batch_time": 0, "sleep": 0}')});
$node->safe_psql('postgres', q{SELECT backfill_start('triggers')});
is(outcome('triggers'), 'completed', 'a run on a table with triggers completes');
for my $tg ('row_immediate', 'statement_immediate', 'constraint_immediate',
	'constraint_deferred', 'deferred_by_deferred')
{
	my $rows = $tg eq 'statement_immediate' ? 3 : 6;

	is( $node->safe_psql('postgres', qq{
		SELECT count(*), string_agg(DISTINCT outcome, ',') FROM witness WHERE what = 'trigger $tg'}),
		"$rows|42501", "trigger $tg fires for every row and may not touch the books");
	is(witnessed("trigger $tg"), 'alice|alice|off', "trigger $tg fires as the owner");
}
books_balance('triggers', 6, 'the books of that run balance');

# A deferred trigger that raises an error takes its batch with it.
as('alice', q{
	CREATE FUNCTION alice.raise() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id = 5 THEN
			RAISE EXCEPTION 'not five' USING ERRCODE = 'XX555';
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER z AFTER UPDATE ON triggered
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.raise();
	SELECT backfill_start('triggers')});
is(outcome('triggers'), 'failed: not five', 'an error of a deferred trigger fails the run');
is(as('alice', 'SELECT string_agg(n::text, $$,$$ ORDER BY id) FROM triggered'), '2,2,2,2,1,1',
	'the batch of a deferred error is undone as a whole');
witnessed('%');

# Rules and triggers that somebody else put on the target.
as('bob', q{
	CREATE TABLE bob.trap(id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO bob.trap SELECT generate_series(1, 3);
	CREATE FUNCTION bob.tg() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		failure text := 'no error';
	BEGIN
		BEGIN
			EXECUTE 'RESET SESSION AUTHORIZATION; GRANT pg_read_all_data TO bob';
		EXCEPTION WHEN OTHERS THEN
			failure := SQLSTATE;
		END;
		PERFORM spy.note('bob', failure);
		RETURN NULL;
	END $$;
	CREATE TRIGGER t AFTER UPDATE ON bob.trap FOR EACH ROW EXECUTE FUNCTION bob.tg();
	CREATE CONSTRAINT TRIGGER d AFTER UPDATE ON bob.trap
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bob.tg();
	GRANT USAGE ON SCHEMA bob TO alice;
	GRANT SELECT, UPDATE, DELETE ON bob.trap TO alice});
as('alice', q{SELECT backfill_define('trap', 'bob.trap', 'UPDATE batch SET n = n + 1')});
$node->safe_psql('postgres', q{SELECT backfill_start('trap')});
is(outcome('trap'), 'completed', 'a run on a table of somebody else with triggers completes');
is( $node->safe_psql('postgres', q{
	SELECT count(*), string_agg(DISTINCT outcome, ',') FROM witness WHERE what = 'bob'}),
	'6|42501', 'triggers of somebody else gain nothing');
is(witnessed('bob'), 'alice|alice|off', 'triggers of somebody else run as the owner of the run');

as('bob', q{
	CREATE TABLE bob.ruled(id int PRIMARY KEY, gone boolean, note text);
	INSERT INTO bob.ruled SELECT generate_series(1, 3);
	CREATE FUNCTION bob.note(what text) RETURNS text LANGUAGE sql VOLATILE AS
		$$ SELECT spy.note(what); SELECT what $$;
	CREATE RULE r AS ON DELETE TO bob.ruled DO INSTEAD
		UPDATE bob.ruled SET gone = true, note = bob.note('rule') WHERE id = OLD.id;
	CREATE TABLE bob.log(note text);
	CREATE TABLE bob.logged(id int PRIMARY KEY);
	INSERT INTO bob.logged SELECT generate_series(1, 3);
	CREATE RULE r AS ON DELETE TO bob.logged DO ALSO
		INSERT INTO bob.log VALUES (bob.note('rule also'));
	GRANT SELECT, DELETE ON bob.ruled, bob.logged TO alice});
as('alice', q{SELECT backfill_define('ruled', 'bob.ruled', 'DELETE FROM batch')});
$node->safe_psql('postgres', q{SELECT backfill_start('ruled')});
is(outcome('ruled'), 'completed', 'a run on a table of somebody else with a rule completes');
is(witnessed('rule'), 'alice|alice|off', 'a rule of somebody else runs as the owner of the run');

as('alice', q{SELECT backfill_define('logged', 'bob.logged', 'DELETE FROM batch')});
$node->safe_psql('postgres', q{SELECT backfill_start('logged')});
is(outcome('logged'), 'completed', 'so does one with a rule that does more');
is(as('bob', 'SELECT (SELECT count(*) FROM bob.logged), (SELECT count(*) > 0 FROM bob.log)'), '0|t',
	'both commands of the rule are carried out');
is(witnessed('rule also'), 'alice|alice|off', 'also such a rule runs as the owner of the run');

# ---------------------------------------------------------------------------
note 'a hostile search_path';

# Look-alikes of everything our own SQL uses, each telling as whom it ran.
my $lookalikes = <<'EOS';
CREATE FUNCTION lookalike_op(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile operator'); RETURN true; END $$;
CREATE FUNCTION text_op(text, text) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile operator'); RETURN false; END $$;
CREATE FUNCTION int_op(bigint, bigint) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile operator'); RETURN false; END $$;
CREATE FUNCTION int_plus(int, int) RETURNS int LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile operator'); RETURN $1 + $2; END $$;
CREATE FUNCTION bigint_plus(bigint, bigint) RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile operator'); RETURN 0; END $$;
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = text_op);
CREATE OPERATOR <> (LEFTARG = text, RIGHTARG = text, FUNCTION = text_op);
CREATE OPERATOR = (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int_op);
CREATE OPERATOR > (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int_op);
CREATE OPERATOR < (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int_op);
CREATE OPERATOR + (LEFTARG = int, RIGHTARG = int, FUNCTION = int_plus);
CREATE OPERATOR + (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = bigint_plus);
CREATE OPERATOR - (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = bigint_plus);
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile function'); RETURN 'epoch'; END $$;
CREATE FUNCTION is_local(oid, bigint) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile function'); RETURN false; END $$;
CREATE FUNCTION pg_has_role(regrole, text) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile function'); RETURN true; END $$;
CREATE FUNCTION format(text, text) RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile function'); RETURN 'x'; END $$;
CREATE FUNCTION round(numeric, int) RETURNS numeric LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile function'); RETURN 0; END $$;
CREATE FUNCTION array_to_string(text[], text) RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog AS $$ BEGIN PERFORM spy.note('hostile function'); RETURN 'x'; END $$;
CREATE AGGREGATE count(*) (SFUNC = pg_catalog.int8inc, STYPE = bigint, INITCOND = '77');
CREATE AGGREGATE sum(bigint) (SFUNC = bigint_plus, STYPE = bigint, INITCOND = '77');
CREATE TABLE run AS SELECT 1 AS id;
CREATE TABLE definition AS SELECT 1 AS id;
CREATE TABLE error AS SELECT 1 AS id;
CREATE TYPE text_array AS ENUM ('x');
CREATE DOMAIN jsonb AS pg_catalog.text;
CREATE DOMAIN regrole AS pg_catalog.text;
CREATE TYPE text AS ENUM ('x');
EOS

# The whole life of runs under a path; everything a session can call.
my $life = <<'EOS';
SELECT public.backfill_define('NAME', 'public.hostile', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 5, "target_batch_time": 0, "sleep": 0}');
SELECT public.backfill_start('NAME', start_at => pg_catalog.now() OPERATOR(pg_catalog.+) pg_catalog.make_interval(days => 1)) AS id \gset
SELECT public.backfill_pause(:id);
SELECT public.backfill_alter(:id, '{"batch_size": 3}');
SELECT public.backfill_resume(:id);
SELECT public.backfill_stop(:id);
SELECT * FROM public.backfill_definitions, public.backfill_settings;
SELECT * FROM public.backfill_runs;
SELECT public.backfill_delete(:id);
SELECT public.backfill_start('NAME') AS id \gset
CALL public.backfill_wait(:id);
SELECT * FROM public.backfill_runs, public.backfill_workers;
SELECT * FROM public.backfill_batches;
EOS

sub live
{
	my ($role, $name, $before, $db) = @_;
	(my $sql = $life) =~ s/NAME/$name/g;
	$node->safe_psql($db // 'postgres', "SET search_path = public, pg_catalog;\n$before\n$sql",
		extra_params => [ '-U', $role ]);
	return;
}

$node->safe_psql('postgres', q{CREATE SCHEMA trap AUTHORIZATION alice; GRANT USAGE ON SCHEMA trap TO PUBLIC});
as('alice', "SET search_path = trap, pg_catalog;\n$lookalikes");
as('alice', q{
	CREATE TABLE public.hostile(id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO public.hostile SELECT generate_series(1, 20)});

live('alice', 'hostile', 'SET search_path = trap, public, pg_catalog;');
is(outcome('hostile'), 'completed', "a life under a hostile search_path ends well");
books_balance('hostile', 20, 'its books balance');
is(as('alice', 'SELECT DISTINCT n FROM hostile'), '1', 'its statement did what it says');
is(witnessed('hostile operator'), 'alice|alice|off',
	'the statement finds the operators of its own search_path, as the owner');
is(witnessed('%'), '', 'nothing else of the hostile schema ran');

# The superuser in the same path: nothing of it may run at all but in the worker.
live($super, 'hostile', 'SET search_path = trap, public, pg_catalog;');
is(outcome('hostile'), 'completed', 'a superuser under the same search_path');
is($node->safe_psql('postgres', q{SELECT owner FROM backfill_definitions WHERE name = 'hostile'}),
	'alice', 'a definition that is replaced keeps its owner');
is(as('alice', 'SELECT DISTINCT n FROM hostile'), '2', 'the statement did what it says');
is(witnessed('%'), 'alice|alice|off', 'nothing hostile ran as the superuser');

# The same objects in public, before and after the extension came.
$node->safe_psql('postgres', 'CREATE DATABASE early');
$node->safe_psql('early', $witness);
as('alice', $lookalikes . 'CREATE TABLE public.hostile(id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO public.hostile SELECT generate_series(1, 20)', 'early');
$node->safe_psql('early', 'CREATE EXTENSION backfill SCHEMA public');
is(witnessed('%', 'early'), '', 'CREATE EXTENSION runs nothing that lies in wait in public');
live('alice', 'early', 'RESET search_path;', 'early');
is(outcome('early', 'early'), 'completed', 'look-alikes in public do no harm');
books_balance('early', 20, 'the books balance', 'early');
is(witnessed('%', 'early'), '', 'no look-alike in public was called');
live($super, 'early', 'SET search_path = public, pg_catalog;', 'early');
is(witnessed('%', 'early'), 'alice|alice|off',
	'where pg_catalog is not first they are called, but not as the superuser');

$node->safe_psql('postgres', 'CREATE DATABASE squatted');
$node->safe_psql('squatted', 'GRANT CREATE ON SCHEMA public TO PUBLIC; GRANT CREATE ON DATABASE squatted TO bob');
as('bob', 'CREATE SCHEMA backfill', 'squatted');
like(refused($super, 'CREATE EXTENSION backfill', 'squatted'), qr/42P06.*schema "backfill" already exists/,
	'the extension does not move into a schema that somebody prepared');
as('bob', q{
	DROP SCHEMA backfill;
	CREATE FUNCTION public.backfill_stop(id bigint, immediate boolean DEFAULT false) RETURNS void
	LANGUAGE sql AS 'SELECT'}, 'squatted');
like(refused($super, 'CREATE EXTENSION backfill', 'squatted'), qr/42723/,
	'nor does it take over a function that somebody prepared');

# ---------------------------------------------------------------------------
note 'pg_temp';

my $temporary = <<'EOS';
CREATE TEMP TABLE run AS SELECT 1 AS id;
CREATE TEMP TABLE definition AS SELECT 1 AS id;
CREATE TEMP TABLE batch AS SELECT 1 AS id;
CREATE TEMP TABLE hostile AS SELECT 1 AS id;
CREATE TEMP TABLE backfill_runs AS SELECT 1 AS id;
CREATE TEMP TABLE pg_database AS SELECT 1 AS oid;
CREATE TEMP TABLE pg_extension AS SELECT 1 AS oid;
CREATE TYPE pg_temp.text AS ENUM ('x');
CREATE DOMAIN pg_temp.jsonb AS pg_catalog.text;
CREATE DOMAIN pg_temp.int8 AS pg_catalog.text;
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE plpgsql
AS $$ BEGIN PERFORM spy.note('temporary'); RETURN 'epoch'; END $$;
EOS
for my $role ('alice', $super)
{
	live($role, 'hostile', "$temporary\nSET search_path = pg_temp, public, pg_catalog;");
	is(outcome('hostile'), 'completed', "objects in pg_temp named like ours, as $role");
	books_balance('hostile', 20, "the books balance, as $role");
}
is(as('alice', 'SELECT DISTINCT n FROM hostile'), '4', 'the statement did what it says');
is(witnessed('temporary'), '', 'nothing in pg_temp was called');
witnessed('%');

# In the worker's own session, which lives through all batches.
as('alice', qq{
	CREATE FUNCTION alice.litter() RETURNS int LANGUAGE plpgsql AS \$f\$
	BEGIN
		IF to_regclass('pg_temp.run') IS NULL THEN
			EXECUTE \$x\$$temporary\$x\$;
		END IF;
		RETURN 1;
	END \$f\$;
	SELECT backfill_define('litter', 'hostile', 'UPDATE batch SET n = n + alice.litter()',
		settings => '{"batch_size": 2, "target_batch_time": 0, "sleep": 0}');
	SELECT backfill_start('litter')});
is(outcome('litter'), 'completed', 'objects in pg_temp of the worker named like ours');
books_balance('litter', 20, 'the books balance');
is(as('alice', 'SELECT DISTINCT n FROM hostile'), '5',
	'batch is the batch, not a temporary table of that name');
is(witnessed('%'), '', 'nothing in pg_temp was called');

# ---------------------------------------------------------------------------
note 'parameters';

as('alice', q{
	CREATE TABLE tuned(id int PRIMARY KEY, seen text);
	INSERT INTO tuned SELECT generate_series(1, 5);
	CREATE FUNCTION alice.tune() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		name text;
		result text := '';
	BEGIN
		FOREACH name IN ARRAY ARRAY['search_path', 'work_mem', 'DateStyle', 'my.own',
			'lock_timeout', 'synchronous_commit', 'statement_timeout', 'role', 'TimeZone',
			'transform_null_equals', 'default_transaction_read_only', 'bytea_output'] LOOP
			result := concat_ws(' ', result, name || '=' || coalesce(current_setting(name, true), ''));
		END LOOP;
		PERFORM set_config('search_path', 'trap', false), set_config('work_mem', '7MB', false),
			set_config('DateStyle', 'German', false), set_config('my.own', 'x', false),
			set_config('lock_timeout', '77', false), set_config('synchronous_commit', 'on', false),
			set_config('statement_timeout', '77000', false), set_config('TimeZone', 'Asia/Tokyo', false),
			set_config('transform_null_equals', 'on', false),
			set_config('default_transaction_read_only', 'on', false),
			set_config('bytea_output', 'escape', false);
		RETURN result;
	END $$;
	SELECT backfill_define('tune', 'tuned', 'UPDATE batch SET seen = alice.tune()',
		settings => '{"batch_size": 1, "target_batch_time": 0, "sleep": 0}');
	SELECT backfill_start('tune')});
is(outcome('tune'), 'completed', 'a statement that sets parameters of the session');
is(as('alice', 'SELECT count(DISTINCT seen), count(seen) FROM tuned'), '1|5',
	'what a batch sets is gone in the next one');
like(as('alice', 'SELECT DISTINCT seen FROM tuned'), qr/my\.own= lock_timeout=2s synchronous_commit=off/,
	'the parameters are those of the run');
books_balance('tune', 5, 'the books balance');

# ---------------------------------------------------------------------------
note 'code of the owner in the session of a caller';

# A superuser who starts or replaces what alice prepared must not run her code:
# the input function of the key's type, a function folded when planning.
as('alice', q{
	CREATE FUNCTION alice.check(int) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN PERFORM spy.note('domain'); RETURN true; END $$;
	CREATE FUNCTION alice.folded(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> 'alice' THEN
			RAISE EXCEPTION 'folded as %', current_user;
		END IF;
		RETURN $1;
	END $$;
	CREATE DOMAIN alice.checked AS int CHECK (alice.check(VALUE));
	CREATE TYPE alice.pair AS (a alice.checked);
	CREATE TABLE pairs(id alice.pair PRIMARY KEY, n int);
	CREATE TABLE lists(id alice.checked[] PRIMARY KEY, n int);
	CREATE TABLE domains(id alice.checked PRIMARY KEY, n int);
	INSERT INTO pairs SELECT ROW(i)::alice.pair FROM generate_series(1, 3) i;
	INSERT INTO lists SELECT ARRAY[i] FROM generate_series(1, 3) i;
	INSERT INTO domains SELECT i FROM generate_series(1, 3) i;
	SELECT backfill_define('pairs', 'pairs', 'UPDATE batch SET n = alice.folded(1)', settings => '{"from": "(2)"}');
	SELECT backfill_define('lists', 'lists', 'UPDATE batch SET n = alice.folded(1)', settings => '{"from": "{2}"}');
	SELECT backfill_define('domains', 'domains', 'UPDATE batch SET n = alice.folded(1)', settings => '{"from": "2"}')});
witnessed('%');
for my $kind ('pairs', 'lists', 'domains')
{
	$node->safe_psql('postgres', "SELECT backfill_start('$kind')");
	is(outcome($kind), 'completed', "$kind: a run with a domain in its key, started by a superuser");
	is(as('alice', "SELECT count(n) FROM $kind"), '2', "$kind: it covers its rows");
	my $from = $node->safe_psql('postgres',
		"SELECT settings->>'from' FROM backfill_definitions WHERE name = '$kind'");
	$node->safe_psql('postgres',
		qq{SELECT backfill_define('$kind', 'alice.$kind', 'UPDATE batch SET n = alice.folded(2)',
				scope => 'alice.folded(1) = 1', settings => '{"from": "$from"}')});
	unlike(witnessed('%'), qr/^\Q$super\E\|/m, "$kind: no code of the owner ran as the superuser");
}

# ---------------------------------------------------------------------------
note 'who sees and controls what';

as('alice', q{
	CREATE TABLE secret(id int PRIMARY KEY, v text);
	INSERT INTO secret VALUES (1, 'pass-4711');
	CREATE FUNCTION alice.spill(v text) RETURNS text LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'bad value %', v USING DETAIL = v, HINT = v; END $$;
	SELECT backfill_define('spill', 'secret', 'UPDATE batch SET v = alice.spill(v)');
	SELECT backfill_start('spill')});
is(outcome('spill'), 'failed: bad value pass-4711', 'a run that fails with data in its message');
as('alice', q{
	SELECT backfill_define('slow', 'secret', 'UPDATE batch SET v = v FROM pg_sleep(600)');
	SELECT backfill_start('slow')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM backfill_workers WHERE state = 'running'});
my $slow = $node->safe_psql('postgres', q{SELECT id FROM backfill_runs WHERE name = 'slow'});
my $spill = $node->safe_psql('postgres', q{SELECT id FROM backfill_runs WHERE name = 'spill'});

my $sees = q{SELECT (SELECT count(*) > 0 FROM backfill_definitions WHERE owner = 'alice'::regrole),
	(SELECT count(*) > 0 FROM backfill_runs WHERE owner = 'alice'::regrole),
	(SELECT count(*) > 0 FROM backfill_batches),
	(SELECT count(*) > 0 FROM backfill_workers),
	(SELECT string_agg(concat_ws(',', error, error_detail, error_hint), '') FROM backfill_runs WHERE name = 'spill'),
	(SELECT string_agg(error, '') FROM backfill_batches WHERE run_id = };
my $all = 't|t|t|t|bad value pass-4711,pass-4711,pass-4711|bad value pass-4711';
is(as('alice', "$sees $spill)"), $all, 'the owner sees everything of hers');
is(as('carol', "$sees $spill)"), $all, 'so does a member');
is(as('mon', "$sees $spill)"), $all, 'so does pg_monitor');
is(as('bob', "$sees $spill)"), 'f|f|f|f||', 'another role sees nothing');
is(as('dora', "$sees $spill)"), 'f|f|f|f||', 'nor does a member that does not inherit');
is(as('dora', "SET ROLE alice; $sees $spill)"), $all, 'until she sets the role');
is( as('bob', q{SELECT count(*) FROM pg_stat_activity
				 WHERE query ~ 'pg_sleep\(600' AND pid <> pg_backend_pid()}),
	'0', 'the statement does not show in the activity that others see');
is( as('mon', q{SELECT application_name LIKE 'backfill run % slow', query ~ 'pg_sleep\(600', usename
				  FROM pg_stat_activity WHERE backend_type = 'backfill worker'}),
	't|t|alice', 'it does in the one that pg_monitor sees');

# Every control function, for everybody who may not.
my %controls = (
	"backfill_stop($slow)" => qr/42704.*run $slow does not exist/,
	"backfill_stop($slow, true)" => qr/42704/,
	"backfill_pause($slow)" => qr/42704/,
	"backfill_resume($spill)" => qr/42704/,
	"backfill_alter($slow, '{\"workers\": 2}')" => qr/42704/,
	"backfill_delete($spill)" => qr/42704/,
	"backfill_start('slow')" => qr/42501.*permission denied for backfill definition slow/,
	"backfill_drop('slow')" => qr/42501/,
	"backfill_define('slow', 'witness', 'SELECT 1 FROM batch')" => qr/42501/);
my $before = $node->safe_psql('postgres',
	'SELECT (SELECT jsonb_agg(d) FROM backfill.definition d), (SELECT jsonb_agg(r ORDER BY id) FROM backfill.run r)');
for my $role ('bob', 'mon', 'dora')
{
	for my $call (sort keys %controls)
	{
		like(refused($role, "SELECT $call"), $controls{$call}, "$role may not $call");
	}
	is(as($role, 'SELECT backfill_stop_all(true)'), '0', "backfill_stop_all of $role stops nothing");
}
like(refused('bob', "CALL backfill_wait($slow, '1 ms')"), qr/42704.*does not exist/,
	'another role cannot wait for the run');
like(refused('mon', "CALL backfill_wait($slow, '1 ms')"), qr/57014.*timed out/,
	'pg_monitor can');
is( $node->safe_psql('postgres',
	'SELECT (SELECT jsonb_agg(d) FROM backfill.definition d), (SELECT jsonb_agg(r ORDER BY id) FROM backfill.run r)'),
	$before, 'none of that changed anything');

is(as('carol', "SELECT backfill_stop($slow, true)"), '', 'a member stops the run');
is(outcome('slow'), 'stopped', 'the run is stopped');
is(as('carol', "SELECT backfill_delete($slow)"), '', 'a member deletes the run');
as('carol', q{SELECT backfill_define('slow', 'alice.secret', 'UPDATE batch SET v = session_user')});
as('carol', q{SELECT backfill_start('slow')});
is(outcome('slow'), 'completed', 'a member replaces the definition and starts it');
is(as('alice', 'SELECT v FROM secret'), 'alice', 'it still runs as the owner');

# ---------------------------------------------------------------------------
note 'the tables';

my $rights = $node->safe_psql('postgres', q{
	SELECT string_agg(c.relname, ', ') FROM pg_class c
	 WHERE relnamespace = 'backfill'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
	   AND has_table_privilege('bob', c.oid,
			'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')});
is($rights, '', 'PUBLIC has no right on anything in the schema backfill');
is( $node->safe_psql('postgres', q{
	SELECT count(*), bool_or(CASE relkind WHEN 'S'
			THEN has_sequence_privilege('bob', c.oid, 'USAGE, SELECT, UPDATE') END)
	  FROM pg_class c
	 WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'S'}),
	'3|f', 'nor on its sequences');
is( $node->safe_psql('postgres', q{SELECT has_schema_privilege('bob', 'backfill', 'USAGE, CREATE')}),
	'f', 'nor on the schema itself');
for my $table ('definition', 'run', 'batch', 'error', 'event', 'hook')
{
	for my $sql ("SELECT * FROM backfill.$table", "DELETE FROM backfill.$table",
		"CREATE TRIGGER t BEFORE INSERT ON backfill.$table FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE RULE r AS ON INSERT TO backfill.$table DO INSTEAD NOTHING",
		"BEGIN; LOCK TABLE backfill.$table", "ALTER TABLE backfill.$table DISABLE ROW LEVEL SECURITY")
	{
		like(refused('bob', $sql), qr/42501/, "refused: $sql");
	}
}
my @functions = split /\n/, $node->safe_psql('postgres', q{
	SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace ORDER BY 1});
cmp_ok(scalar(@functions), '>=', 4, 'the schema has functions of its own');
for my $function (@functions)
{
	(my $call = $function) =~ s/\(.*//;
	my $arguments = $function =~ /\((.+)\)/ ? join(', ', ('NULL') x split(/,/, $1)) : '';

	like(refused('bob', "SELECT $call($arguments)"),
		qr/42501.*permission denied for (schema|function)/, "bob cannot call $function");
}
is( $node->safe_psql('postgres', q{
	SELECT string_agg(c.relname, ', ') FROM pg_class c
	 WHERE c.relname LIKE 'backfill\_%' AND relkind = 'v' AND relnamespace = 'public'::regnamespace
	   AND has_table_privilege('bob', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER, REFERENCES')}),
	'', 'the views are for reading');

# ---------------------------------------------------------------------------
note 'rights on the target';

as('alice', 'CREATE TABLE mine(id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO mine VALUES (1), (2);
	GRANT USAGE ON SCHEMA alice TO bob');
like(refused('bob', q{SELECT backfill_define('theft', 'alice.mine', 'UPDATE batch SET n = 1')}),
	qr/42501.*permission denied for table mine/, 'a statement beyond the rights of its owner is refused');
as('alice', 'GRANT SELECT ON mine TO bob');
like(refused('bob', q{SELECT backfill_define('theft', 'alice.mine', 'DELETE FROM batch')}),
	qr/42501.*permission denied for table mine/, 'reading is not deleting');
as('alice', 'GRANT UPDATE ON mine TO bob');
as('bob', q{SELECT backfill_define('theft', 'alice.mine', 'UPDATE batch SET n = 1')});
as('alice', 'REVOKE UPDATE ON mine FROM bob');
as('bob', q{SELECT backfill_start('theft')});
is(outcome('theft'), 'failed: permission denied for table mine',
	'a right that was revoked after the definition counts at the run');
is(as('alice', 'SELECT sum(n) FROM mine'), '0', 'nothing was changed');
is($node->safe_psql('postgres', q{SELECT sqlstate FROM backfill_runs WHERE name = 'theft'}), '42501',
	'the run knows the SQLSTATE');

$node->safe_psql('postgres', q{
	CREATE TABLE guarded(id int PRIMARY KEY, owner text, n int DEFAULT 0);
	INSERT INTO guarded SELECT i, CASE WHEN i % 2 = 0 THEN 'alice' ELSE 'bob' END FROM generate_series(1, 20) i;
	ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
	CREATE POLICY p ON guarded USING (owner = current_user);
	GRANT SELECT, UPDATE ON guarded TO alice});
as('alice', q{SELECT backfill_define('guarded', 'guarded', 'UPDATE batch SET n = n + 1',
	settings => '{"batch_size": 3, "target_batch_time": 0}')});
$node->safe_psql('postgres', q{SELECT backfill_start('guarded')});
is(outcome('guarded'), 'completed', 'a run on a table with row-level security');
is($node->safe_psql('postgres', 'SELECT owner, sum(n) FROM guarded GROUP BY 1 ORDER BY 1'),
	"alice|10\nbob|0", 'its policies hold for the owner of the run');

# ---------------------------------------------------------------------------
note 'a key that turns into something else';

# What was text when the run began is a number of the owner's choice now: it
# must not be taken for a pointer.
as('alice', q{
	CREATE TABLE confused(id text PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO confused SELECT 'x' || i FROM generate_series(1, 20) i;
	SELECT backfill_define('confused', 'confused', 'UPDATE batch SET n = n + 1',
		settings => '{"batch_size": 5, "target_batch_time": 0, "sleep": "1 hour"}');
	SELECT backfill_start('confused')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM backfill_workers WHERE state = 'sleeping'})
  or die 'no sleeping worker';
as('alice', q{
	ALTER TABLE confused ALTER COLUMN id TYPE bigint USING 4096 * substr(id, 2)::bigint;
	SELECT backfill_alter(max(id), '{"sleep": 0}') FROM backfill_runs WHERE name = 'confused'});
like(outcome('confused'), qr/^failed: the key of table .*confused.* has changed/, 'a key that is of another type now fails the run');
is($node->safe_psql('postgres', q{SELECT sqlstate FROM backfill_runs WHERE name = 'confused'}), '42804',
	'with the SQLSTATE for it');
is(scalar(() = slurp_file($node->logfile) =~ /terminated by signal/g), 0, 'and no process dies of it');

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
