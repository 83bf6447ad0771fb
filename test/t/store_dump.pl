# pg_dump and restore: definitions and hooks are dumped and work where they are restored;
# runs are not, and nothing starts by itself.

use strict;
use warnings;
use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('dump');

sub sql { my ($sql, $db) = @_; return query_ok($node, $sql, db => $db || 'postgres'); }

# Everything in a definition that a restore could get wrong: quotes, a schema
# that is not in the path, an owner, settings, a target by a quoted name.
sql($_) for (q{CREATE ROLE "Ann's role" LOGIN}, 'CREATE ROLE plain LOGIN', 'CREATE DATABASE origin');
sql(q{
	CREATE EXTENSION backfill;
	CREATE SCHEMA "Apart" AUTHORIZATION "Ann's role";
	SET ROLE "Ann's role";
	SET search_path = "Apart", pg_catalog;
	CREATE TABLE "The ""table""" (id bigint, tenant uuid DEFAULT gen_random_uuid(), n int DEFAULT 0,
		CONSTRAINT "The key" UNIQUE (id, tenant));
	ALTER TABLE "The ""table""" ALTER id SET NOT NULL, ALTER tenant SET NOT NULL;
	INSERT INTO "The ""table""" SELECT i FROM generate_series(1, 100) i;
	CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
	SELECT public.backfill_define($$it's "named"$$, '"The ""table"""',
		$s$UPDATE batch SET n = n + one() WHERE 'a\b$$''c' <> ''$s$,
		scope => 'id % 2 = 0', key => 'The key', direction => 'desc',
		settings => '{"batch_size": 7, "target_batch_time": 0, "sleep": "0", "from": ["10"]}',
		description => E'two\nlines')}, 'origin');
sql(q{
	CREATE TABLE plain(id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO plain SELECT generate_series(1, 20);
	SELECT backfill_define('plain', 'plain', 'UPDATE batch SET n = n + 1', settings => '{"sleep": "1 hour", "batch_size": 5, "target_batch_time": 0}');
	SELECT backfill_start('plain')}, 'origin');
my $ended = sql(q{SELECT backfill_start('it''s "named"')}, 'origin');
ok(wait_for_status($node, $ended, 'completed', db => 'origin'), 'a run completes in the origin');
is(sql('SELECT sum(n), count(*) FILTER (WHERE n = 1 AND (id % 2 = 1 OR id < 10)) FROM "Apart"."The ""table"""', 'origin'),
	'46|0', 'it did what the definition says');

# What came later: parameters, the last step, hooks of a definition and of every
# run; their order is that in which they were added.
sql(q{
	SET ROLE "Ann's role";
	SET search_path = "Apart", pg_catalog;
	CREATE TABLE facts (id int PRIMARY KEY, n int DEFAULT 0, label text);
	INSERT INTO facts SELECT generate_series(1, 10);
	CREATE TABLE log (at bigint GENERATED ALWAYS AS IDENTITY, line text);
	CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
	CREATE FUNCTION second(e public.backfill_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO "Apart".log (line) VALUES (format('second: %s %s %s %s', e.phase, e.object, e.status, e.parameters)); END $$;
	CREATE FUNCTION first(e public.backfill_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO "Apart".log (line) VALUES (format('first: %s', e.rows)); END $$;
	SELECT public.backfill_define('with everything', 'facts', 'UPDATE batch SET n = n + params."The step", label = params.mood::text || run.id',
		scope => 'id > params.above',
		parameters => '{"The step": {"type": "integer", "default": 3, "options": [3, 5], "description": "how far"},
			"above": {"type": "bigint", "required": true}, "mood": {"type": "mood", "default": "it''s ok"}}',
		prepare => $p$INSERT INTO log (line) VALUES ('prepare')$p$,
		finish => $f$INSERT INTO log (line) SELECT 'finish ' || count(*) FROM facts WHERE n > 0; ALTER TABLE facts ALTER label SET DEFAULT 'new'$f$,
		settings => '{"sleep": 0, "batch_size": 4, "target_batch_time": 0}');
	SELECT public.backfill_on('before run completed', 'first', 'with everything');
	SELECT public.backfill_on('after run completed', 'second', 'with everything');
	SELECT public.backfill_on('before run completed', 'second', 'with everything')}, 'origin');
sql(q{
	CREATE FUNCTION public.everywhere(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.name = 'with everything' THEN
			INSERT INTO "Apart".log (line) VALUES ('everywhere: ' || e.object || ' ' || coalesce(e.batch::text, ''));
		END IF;
	END $$;
	SELECT backfill_on('after batch completed', 'everywhere')}, 'origin');
# One that is given its table and names with each run, with a repair of what it prepares.
sql(q{
	SET ROLE "Ann's role";
	SET search_path = "Apart", pg_catalog;
	CREATE TABLE given (id int PRIMARY KEY, "The {column}" int DEFAULT 0);
	INSERT INTO given SELECT generate_series(1, 10);
	SELECT public.backfill_define('generic', NULL, 'UPDATE batch SET {column} = batch.{column} + 1 + 0 / (id - 3 + {made})', scope => '{column} = 0', key => '{key}',
		prepare => 'ALTER TABLE {target} ADD {made} int DEFAULT 0', finish => 'ALTER TABLE {target} ALTER {made} SET NOT NULL',
		settings => '{"on_error": "skip", "max_error_rate": 1, "repair": "UPDATE batch SET \"Extra\" = 1", "max_batches": 100}',
		parameters => '{"column": "name", "key": "name", "made": "name"}', generic => true)}, 'origin');
my $hooks = q{SELECT phase, object, status, hook, name, created_by, created_at FROM backfill_hooks ORDER BY phase, object, status, hook COLLATE "C"};
# What a run of it does in a database.
my $everything = join("\n", 'prepare', 'everywhere: batch 1', 'everywhere: batch 2', 'everywhere: batch 3', 'finish 5', 'first: 5',
	'second: before run completed {"mood": "it\'s ok", "above": 5, "The step": 3}',
	'second: after run completed {"mood": "it\'s ok", "above": 5, "The step": 3}');
sub run_everything
{
	my ($db) = @_;
	my $run = sql(q{SELECT backfill_start('with everything', parameters => '{"above": 5}')}, $db);

	ok(wait_for_status($node, $run, 'completed', db => $db), "$db: a definition with parameters, hooks and a last step runs");
	# the hook that comes after the end comes after it
	ok(wait_for($node, q{SELECT count(*) = 8 FROM "Apart".log}, db => $db), "$db: all of it has come");
	is(sql('SELECT line FROM "Apart".log ORDER BY at', $db), $everything, "$db: hooks and the last step come in their order, with the parameters");
	is(sql('SELECT n, label, count(*) FROM "Apart".facts GROUP BY 1, 2 ORDER BY 1', $db), "0||5\n3|it's ok$run|5", "$db: with the parameters");
	is(sql(q{SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = adrelid AND a.attnum = adnum
		WHERE adrelid = '"Apart".facts'::regclass AND attname = 'label'}, $db), q{'new'::text}, "$db: the last step is done to its end");
	return;
}

my $dump = $node->basedir . '/dump.sql';
my $custom = $node->basedir . '/dump.custom';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('origin'), '-f', $dump ], 'pg_dump in plain text');
$node->command_ok([ 'pg_dump', '-d', $node->connstr('origin'), '-Fc', '-f', $custom ], 'pg_dump in the custom format');
my $text = slurp_file($dump);
like($text, qr/COPY backfill\.definition /, 'the dump has the definitions');
like($text, qr/COPY backfill\.hook /, 'and the hooks');
unlike($text, qr/COPY backfill\.(run|batch|error|event) /, 'and neither runs nor what belongs to them');

sql($_) for ('CREATE DATABASE plain_text', 'CREATE DATABASE custom_format');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('plain_text'), '-f', $dump ],
	'psql restores it');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('custom_format'), $custom ],
	'pg_restore restores it');

my $definition = q{SELECT d.name, owner, statement, scope, key, parameters, settings, search_path, description,
	prepare, finish, target::regclass, generic, created_at FROM backfill_definitions d ORDER BY name COLLATE "C"};
my $original = sql($definition, 'origin');
my $original_hooks = sql($hooks, 'origin');
is(scalar(split(/\n/, $original_hooks)), 4, 'there are hooks');
for my $db ('plain_text', 'custom_format')
{
	is(sql($definition, $db), $original, "$db: the definitions are the same");
	is(sql($hooks, $db), $original_hooks, "$db: the hooks are the same");
	is(sql('SELECT count(*) FROM backfill_runs', $db), '0', "$db: no run came along");
	is(sql('SELECT count(*) FROM backfill_events', $db), '0', "$db: nor events");
	ok(wait_for($node, qq{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE datname = '$db' AND backend_type LIKE 'backfill %'}), "$db: nobody works there");
	my $run = sql(q{SELECT backfill_start('it''s "named"')}, $db);
	is($run, '1', "$db: runs are numbered anew");
	ok(wait_for_status($node, $run, 'completed', db => $db), "$db: a restored definition runs");
	is(sql('SELECT sum(n), count(*) FILTER (WHERE n = 2) FROM "Apart"."The ""table"""', $db), '92|46',
		"$db: with its scope, its bounds, and functions found in its search_path");
	is(sql('SELECT owner FROM backfill_runs', $db), '"Ann\'s role"', "$db: as its owner");
	run_everything($db);
	$run = sql(q{SELECT backfill_start('generic', '{"column": "The {column}", "key": "given_pkey", "made": "Extra"}', target => '"Apart".given')}, $db);
	ok(wait_for_status($node, $run, 'completed', db => $db), "$db: a generic definition runs on the table that it is given");
	is(sql('SELECT count(*), sum("The {column}"), sum("Extra") FROM "Apart".given', $db), '10|10|1', "$db: with the names, prepared and repaired");
	# the hooks are numbered on, and can be taken away
	sql(q{SELECT backfill_on('after run failed', '"Apart".first', 'with everything'), backfill_off('before run completed', '"Apart".first', 'with everything'),
		backfill_off('after batch completed', 'everywhere')}, $db);
	is(sql('SELECT hook, phase FROM backfill_hooks ORDER BY hook COLLATE "C", phase', $db),
		qq{"Apart".first|after\n"Apart".second|after\n"Apart".second|before}, "$db: hooks are added and taken away");
	is(sqlstate($node, q{SELECT backfill_start('with everything', parameters => '{"above": 5, "The step": 4}')}, db => $db), '22023', "$db: options hold");
	is(sqlstate($node, q{SELECT backfill_start('with everything')}, db => $db), '22004', "$db: and what is required is");
}

run_everything('origin');

# What the origin had at work does not go on elsewhere, and was not disturbed.
is(sql('SELECT sum(n) FROM plain', 'plain_text'), sql('SELECT sum(n) FROM plain', 'origin'),
	'nothing went on in the copy');
is(sql(q{SELECT status FROM backfill_runs WHERE name = 'plain'}, 'origin'), 'running', 'the run in the origin goes on');

# An ordinary user cannot read the tables of the schema: his dump leaves the
# extension's data out and is good for the rest.
my $partial = $node->basedir . '/partial.sql';
sql('CREATE SCHEMA his AUTHORIZATION plain; CREATE TABLE his.t AS SELECT 1 AS id; ALTER TABLE his.t OWNER TO plain', 'origin');
$node->command_ok([ 'pg_dump', '-U', 'plain', '-n', 'his', '-d', $node->connstr('origin'), '-f', $partial ],
	'an ordinary role dumps its own schema');
unlike(slurp_file($partial), qr/backfill/, 'with nothing of ours in it');
$node->command_fails_like([ 'pg_dump', '-U', 'plain', '-d', $node->connstr('origin'), '-f', $partial ],
	qr/permission denied/, 'the whole database it cannot, for lack of rights');

# The owner of the database can, if what else is in it is his.
sql('CREATE DATABASE owned OWNER plain');
sql(q{CREATE EXTENSION backfill; CREATE FUNCTION f(backfill_event) RETURNS void LANGUAGE sql AS ''; SELECT backfill_on('after run failed', 'f')}, 'owned');
sql(q{SET ROLE plain; CREATE TABLE public.t (id int PRIMARY KEY); SELECT backfill_define('hers', 't', 'SELECT FROM batch')}, 'owned');
$node->command_ok([ 'pg_dump', '-U', 'plain', '-d', $node->connstr('owned'), '-f', $partial ],
	'the owner of a database dumps it without being a superuser');
like(slurp_file($partial), qr/COPY backfill\.definition .*\nhers\t.*COPY backfill\.hook .*setval\('backfill\.hook_id_seq'/s, 'with definitions and hooks');
is(sqlstate($node, 'SET ROLE plain; DELETE FROM backfill.hook', db => 'owned'), '42501', 'and may read only');

# DROP OWNED and the like: a restore over an extension that is there already.
sql('CREATE DATABASE again');
sql('CREATE EXTENSION backfill', 'again');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('again'), '-f', $dump ],
	'the dump is restored into a database that has the extension');
is(sql($definition, 'again'), $original, 'the definitions are the same');
is(sql($hooks, 'again'), $original_hooks, 'and so are the hooks');

# A schema-only dump has the extension and no definition.
$node->command_ok([ 'pg_dump', '--schema-only', '-d', $node->connstr('origin'), '-f', $partial ], 'a schema-only dump');
unlike(slurp_file($partial), qr/COPY backfill/, 'it has no definitions');

$node->stop;
done_testing();
