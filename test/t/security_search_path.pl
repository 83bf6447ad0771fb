# Security: look-alikes of everything our own SQL uses, in a schema that comes
# first, in public, in pg_temp, and parameters that a statement sets.  Nothing
# of it runs with more rights than the owner's, and the bookkeeping stays
# true.

use strict;
use warnings;

use BackfillTest::Security;
use Test::More;

security_node();

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
	CREATE FUNCTION public.backfill_stop(id bigint, immediate boolean DEFAULT false, stream text DEFAULT NULL) RETURNS void
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

$node->stop;
done_testing();
