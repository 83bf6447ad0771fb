# The conditions of claimed batches, for keys, scopes and names of every kind:
# together they have exactly the rows in scope, each once, in a session that has
# nothing in common with the owner's but the database.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;

one_node('main');
sql(q{
CREATE TABLE seen (name text, number bigint, part int, row jsonb);
CREATE ROLE odd LOGIN;
ALTER ROLE odd SET datestyle = 'SQL, DMY';
ALTER ROLE odd SET timezone = 'Asia/Tokyo';
ALTER ROLE odd SET intervalstyle = 'sql_standard';
ALTER ROLE odd SET bytea_output = 'escape';
ALTER ROLE odd SET extra_float_digits = -8;
ALTER ROLE odd SET xmlbinary = 'hex';
CREATE SCHEMA "Odd s" AUTHORIZATION odd;
CREATE SCHEMA lib AUTHORIZATION odd;
CREATE SCHEMA mine AUTHORIZATION odd;
GRANT CREATE ON DATABASE postgres TO odd;
GRANT ALL ON seen TO odd;
});

# The client: another search_path, with names that stand before those of the
# owner, and another way to write and read every value.
my $client = client(role => 'odd');
ask($client, q{
CREATE SCHEMA trap;
CREATE FUNCTION trap.keep(int) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION trap.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $$trap$$';
CREATE TABLE trap.others (id int, n int);
SET search_path = trap, public;
SET datestyle = 'SQL, MDY';
SET timezone = 'America/New_York';
SET intervalstyle = 'iso_8601';
SET quote_all_identifiers = on;
});

# A definition by its owner, with its search_path.
sub define
{
	my ($name, $case) = @_;
	my $scope = $case->{scope} ? "scope => \$scope\$$case->{scope}\$scope\$," : '';
	my $more = $case->{define} ? "$case->{define}," : '';

	return as('odd', qq{SET search_path = lib, mine, public;
		SELECT backfill_define('$name', \$t\$$case->{target}\$t\$, NULL, $scope $more
			settings => '{"batch_size": @{[$case->{size} || 7]}, "sleep": 0}')});
}

my @cases = (
	{
		name => 'quoted names',
		setup => q{CREATE TABLE "Odd s"."Ta""b'le $1" ("I d$1" int PRIMARY KEY, "sel ect" text);
			INSERT INTO "Odd s"."Ta""b'le $1" SELECT i, CASE WHEN i % 3 = 0 THEN $q$a $1 'x' \ "y"$q$ ELSE i::text END
			FROM generate_series(1, 60) i},
		target => q{"Odd s"."Ta""b'le $1"},
		scope => q{"sel ect" = $q$a $1 'x' \ "y"$q$ OR "sel ect" LIKE '1%' AND '$1' <> '$2'},
		rows => 28
	},
	{
		name => 'two columns',
		setup => q{CREATE TABLE mine.two (a int, b text COLLATE "C", n int, PRIMARY KEY (a, b));
			INSERT INTO mine.two SELECT i % 4, 'k' || i, i FROM generate_series(1, 80) i},
		target => 'mine.two',
		rows => 80
	},
	{
		name => 'an index that goes down',
		setup => q{CREATE TABLE mine.goes_down (a int NOT NULL, b text COLLATE "C" NOT NULL, n int);
			CREATE UNIQUE INDEX goes_down_key ON mine.goes_down (a DESC, b DESC);
			INSERT INTO mine.goes_down SELECT i % 4, 'k' || i, i FROM generate_series(1, 80) i},
		target => 'mine.goes_down',
		define => "key => 'goes_down_key'",
		rows => 80
	},
	{
		name => 'text with quotes',
		setup => q{CREATE TABLE mine.words (w text COLLATE "POSIX" PRIMARY KEY, n int);
			INSERT INTO mine.words SELECT x || i, i FROM generate_series(1, 9) i,
				unnest(ARRAY['it''s ', 'a\b', '$1', '"q"', ' ', 'E''\''', 'Ä', E'new\nline', '%', '::text']) x},
		target => 'mine.words',
		rows => 90
	},
	{
		name => 'collation of the key',
		setup => q{CREATE TABLE mine.collated (w text COLLATE "und-x-icu" PRIMARY KEY, n int);
			INSERT INTO mine.collated SELECT x || i, i FROM generate_series(1, 9) i, unnest(ARRAY['a', 'B', 'c', 'D', 'ä', 'É']) x},
		target => 'mine.collated',
		needs => "SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu')",
		scope => q{w > 'b'},
		rows => 36
	},
	{
		name => 'descending',
		setup => q{CREATE TABLE mine.down (a date, b numeric(10, 2), PRIMARY KEY (a, b));
			INSERT INTO mine.down SELECT date '2020-01-01' + i / 3, i * 1.25 FROM generate_series(1, 90) i},
		target => 'mine.down',
		define => "direction => 'desc'",
		scope => "a <> '2020-01-05'",
		rows => 87
	},
	{
		name => 'partitioned',
		setup => q{CREATE TABLE mine.parted (id int, region text, n int, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
			CREATE TABLE mine.parted_a PARTITION OF mine.parted FOR VALUES IN ('a', 'b');
			CREATE TABLE mine.parted_c (n int, x int, region text NOT NULL, id int NOT NULL);
			ALTER TABLE mine.parted_c DROP COLUMN x;
			ALTER TABLE mine.parted ATTACH PARTITION mine.parted_c FOR VALUES IN ('c');
			CREATE TABLE mine.parted_other PARTITION OF mine.parted DEFAULT;
			INSERT INTO mine.parted SELECT i, chr(97 + i % 5), 0 FROM generate_series(1, 100) i},
		target => 'mine.parted',
		scope => 'n = 0',
		rows => 100
	},
	{
		name => 'pages',
		setup => q{CREATE TABLE mine.heap (n int, pad text);
			INSERT INTO mine.heap SELECT i, repeat('x', 500) FROM generate_series(1, 200) i},
		target => 'mine.heap',
		define => "key => 'ctid'",
		scope => 'n % 2 = 0',
		gone => 'UPDATE mine.heap AS batch SET n = -1 - n WHERE',	# a walk by pages comes again for what is left in scope
		rows => 100
	},
	{
		name => 'nulls in the key',
		setup => q{CREATE TABLE mine.maybe (a int, b text);
			CREATE INDEX maybe_key ON mine.maybe (a);
			INSERT INTO mine.maybe SELECT CASE WHEN i % 4 > 0 THEN i / 2 END, 'x' || i FROM generate_series(1, 80) i},
		target => 'mine.maybe',
		define => "key => 'maybe_key'",
		rows => 80
	},
	{
		name => 'types of a schema',
		setup => q{CREATE TYPE "Odd s"."mo od" AS ENUM ('sad', 'it''s ok', 'happy');
			CREATE DOMAIN lib.small AS int CHECK (VALUE < 1000);
			CREATE TABLE mine.typed (m "Odd s"."mo od", s lib.small, u uuid, c char(4), v varchar(5), PRIMARY KEY (m, s, u, c, v));
			INSERT INTO mine.typed SELECT m, i, md5(i::text)::uuid, 'c' || i, 'v' || i
				FROM generate_series(1, 20) i, unnest(enum_range(NULL::"Odd s"."mo od")) m},
		target => 'mine.typed',
		scope => q{m <> 'happy' AND u IS NOT NULL},
		rows => 40
	},
	{
		name => 'times in the key',
		setup => q{CREATE TABLE mine.times (t timestamptz, i interval, b bytea, f float8, PRIMARY KEY (t, i, b, f));
			INSERT INTO mine.times SELECT '2024-03-04 05:06:07.123456+00'::timestamptz + i * interval '5 hours', i * interval '1 day 3 hours',
				decode(lpad(to_hex(i), 4, '0') || '5c27', 'hex'), i / 3.0 FROM generate_series(1, 60) i},
		target => 'mine.times',
		rows => 60
	},
	{
		name => 'parameters',
		setup => q{CREATE TABLE mine.given (id int PRIMARY KEY, d date, t timestamptz, i interval, f float8, b bytea, w text);
			INSERT INTO mine.given SELECT i, date '2024-01-01' + i, '2024-01-01 00:00+00'::timestamptz + i * interval '1 day', i * interval '1 day 2 hours',
				i / 7.0, decode('00ff5c27', 'hex'), $q$it's \ $1 ?$q$ FROM generate_series(1, 60) i},
		target => 'mine.given',
		scope => q{d > params.d AND t > params.t AND i > params.i AND f <> params.f AND b = params.b AND w = params.w
			AND id = ANY (params.ids) AND run.started_at > '2020-01-01' AND run.since < run.started_at AND run.name = 'parameters'},
		define => q{parameters => '{"d": "date", "t": "timestamptz", "i": "interval", "f": "float8", "b": "bytea", "w": "text", "ids": "int[]"}'},
		start => q{parameters => jsonb_build_object('d', '2024-01-06', 't', '2024-01-08 00:00:00+00', 'i', '4 days', 'f', '5.714285714285714', 'b', '\\x00ff5c27',
			'w', $q$it's \ $1 ?$q$, 'ids', (SELECT array_agg(i)::text FROM generate_series(1, 50) i))},
		rows => 42
	},
	{
		name => 'functions',
		setup => q{CREATE FUNCTION lib.keep(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 % 2 = 1';
			CREATE OPERATOR lib.%%% (LEFTARG = int, RIGHTARG = int, FUNCTION = int4mod);
			CREATE FUNCTION mine.whole(anyelement) RETURNS boolean LANGUAGE sql AS 'SELECT $1 IS NOT NULL';
			CREATE TABLE mine.called (id int PRIMARY KEY, gone int, w text);
			ALTER TABLE mine.called DROP COLUMN gone;
			CREATE FUNCTION mine.typed(mine.called) RETURNS boolean LANGUAGE sql AS 'SELECT $1.w = $$W$$';
			INSERT INTO mine.called SELECT i, 'W' FROM generate_series(1, 60) i},
		target => 'mine.called',
		scope => q{keep(id) AND id %%% 3 = 1 AND lower(w) = 'w' AND whole(batch) AND whole(batch.*) AND typed(batch)
			AND to_jsonb(batch) ->> 'w' = 'W' AND (batch).id = batch.id},
		rows => 10
	},
	{
		name => 'subqueries',
		setup => q{CREATE TABLE mine.others (id int, n int);
			CREATE TABLE mine.batch (id int PRIMARY KEY, n int);
			CREATE TABLE mine.asked (id int PRIMARY KEY, n int);
			INSERT INTO mine.asked SELECT i, i FROM generate_series(1, 60) i;
			INSERT INTO mine.others SELECT i, i * 2 FROM generate_series(1, 60, 2) i;
			INSERT INTO mine.batch SELECT i, 1 FROM generate_series(1, 60, 3) i},
		target => 'mine.asked',
		scope => q{EXISTS (SELECT FROM others o WHERE o.id = batch.id AND o.n = batch.n * 2)
			AND id IN (SELECT b.id FROM mine.batch b WHERE b.id = batch.id AND b.n = (SELECT max(batch.n) FROM mine.batch))},
		rows => 10
	},
	{
		name => 'empty',
		setup => 'CREATE TABLE mine.empty (id int PRIMARY KEY)',
		target => 'mine.empty',
		rows => 0
	},
	{
		name => 'nothing in scope',
		setup => 'CREATE TABLE mine.outside (id int PRIMARY KEY); INSERT INTO mine.outside SELECT generate_series(1, 5000)',
		target => 'mine.outside',
		scope => 'id < 0',
		rows => 0
	});

foreach my $case (@cases)
{
	my ($name, $target) = ($case->{name}, $case->{target});

	next if $case->{needs} && sql($case->{needs}) ne 't';
	as('odd', "SET search_path = pg_catalog; $case->{setup}");
	define($name, $case);
	my $id = as('odd', "SELECT backfill_start('$name'" . ($case->{start} ? ", $case->{start}" : '') . ')');
	my @wrong;
	for (;;)
	{
		my @rows = claim_batch($client, $id, batches => 4);
		push @wrong, "$rows[0]{reason}" if $rows[0]{done} && $rows[0]{reason} ne 'completed';
		last if $rows[0]{done};
		foreach my $batch (@rows)
		{
			my $put = ask($client, "WITH i AS (INSERT INTO public.seen SELECT '$name', $batch->{number}, $batch->{part}, to_jsonb(batch)
				FROM $target AS batch WHERE $batch->{condition} RETURNING 1) SELECT count(*) FROM i");
			push @wrong, "batch $batch->{number} says $batch->{rows}, has $put: $batch->{condition}" if $put ne $batch->{rows};
			push @wrong, ask($client, "$case->{gone} $batch->{condition}") if $case->{gone};
			push @wrong, ask($client, complete($batch));
		}
	}
	is(join("\n", grep { $_ ne '' } @wrong), '', "$name: each batch has as many rows as it says");
	is(sql("SELECT count(*), count(DISTINCT row) FROM seen WHERE name = '$name'"), "$case->{rows}|$case->{rows}",
		'every row in scope is in one batch');
	is(run_value($node, $id, "coalesce(rows_affected, 0)"), $case->{rows}, 'and counts once');
	cmp_ok(sql("SELECT count(DISTINCT number) FROM seen WHERE name = '$name'"), '>', 1, 'in several batches') if $case->{rows} > 7;
}

# --- inside of the server the scope means the same ---

as('odd', q{SET search_path = lib, mine, public;
	ALTER TABLE mine.called ADD n int NOT NULL DEFAULT 0;
	SELECT backfill_define('inside', 'mine.called', 'UPDATE batch AS b SET n = n + 1; UPDATE batch SET n = n + 1',
		scope => $$typed(batch) AND to_jsonb(batch) ->> 'w' = 'W' AND id < 20$$, settings => '{"batch_size": 7}')});
my $inside = as('odd', "SELECT backfill_start('inside')");
ok(wait_for_status($node, $inside, 'completed'), 'a scope about the row as a whole, inside of the server');
is(sql('SELECT count(*) FROM mine.called WHERE n = 2 AND id < 20'), '19', 'holds for the rows that it is true of');

$client->quit;
quiet_log();
$node->stop;
done_testing();
