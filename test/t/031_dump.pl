# pg_dump and restore: definitions are dumped and work where they are restored;
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
		settings => '{"batch_size": 7, "sleep": "0", "from": ["10"]}',
		description => E'two\nlines')}, 'origin');
sql(q{
	CREATE TABLE plain(id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO plain SELECT generate_series(1, 20);
	SELECT backfill_define('plain', 'plain', 'UPDATE batch SET n = n + 1', settings => '{"sleep": "1 hour", "batch_size": 5}');
	SELECT backfill_start('plain')}, 'origin');
my $ended = sql(q{SELECT backfill_start('it''s "named"')}, 'origin');
ok(wait_for_status($node, $ended, 'completed', db => 'origin'), 'a run completes in the origin');
is(sql('SELECT sum(n), count(*) FILTER (WHERE n = 1 AND (id % 2 = 1 OR id < 10)) FROM "Apart"."The ""table"""', 'origin'),
	'46|0', 'it did what the definition says');

my $dump = $node->basedir . '/dump.sql';
my $custom = $node->basedir . '/dump.custom';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('origin'), '-f', $dump ], 'pg_dump in plain text');
$node->command_ok([ 'pg_dump', '-d', $node->connstr('origin'), '-Fc', '-f', $custom ], 'pg_dump in the custom format');
my $text = slurp_file($dump);
like($text, qr/COPY backfill\.definition /, 'the dump has the definitions');
unlike($text, qr/COPY backfill\.(run|batch) /, 'and neither runs nor batches');

sql($_) for ('CREATE DATABASE plain_text', 'CREATE DATABASE custom_format');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('plain_text'), '-f', $dump ],
	'psql restores it');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('custom_format'), $custom ],
	'pg_restore restores it');

my $definition = q{SELECT d.name, owner, statement, scope, key, settings, search_path, description,
	target::regclass, created_at FROM backfill_definitions d ORDER BY name COLLATE "C"};
my $original = sql($definition, 'origin');
for my $db ('plain_text', 'custom_format')
{
	is(sql($definition, $db), $original, "$db: the definitions are the same");
	is(sql('SELECT count(*) FROM backfill_runs', $db), '0', "$db: no run came along");
	ok(wait_for($node, qq{SELECT count(*) = 0 FROM pg_stat_activity
			WHERE datname = '$db' AND backend_type LIKE 'backfill %'}), "$db: nobody works there");
	my $run = sql(q{SELECT backfill_start('it''s "named"')}, $db);
	is($run, '1', "$db: runs are numbered anew");
	ok(wait_for_status($node, $run, 'completed', db => $db), "$db: a restored definition runs");
	is(sql('SELECT sum(n), count(*) FILTER (WHERE n = 2) FROM "Apart"."The ""table"""', $db), '92|46',
		"$db: with its scope, its bounds, and functions found in its search_path");
	is(sql('SELECT owner FROM backfill_runs', $db), '"Ann\'s role"', "$db: as its owner");
}

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

# DROP OWNED and the like: a restore over an extension that is there already.
sql('CREATE DATABASE again');
sql('CREATE EXTENSION backfill', 'again');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('again'), '-f', $dump ],
	'the dump is restored into a database that has the extension');
is(sql($definition, 'again'), $original, 'the definitions are the same');

# A schema-only dump has the extension and no definition.
$node->command_ok([ 'pg_dump', '--schema-only', '-d', $node->connstr('origin'), '-f', $partial ], 'a schema-only dump');
unlike(slurp_file($partial), qr/COPY backfill/, 'it has no definitions');

$node->stop;
done_testing();
