# Parameters of a run never change: not from one worker to the other, not when
# the run is resumed or the server killed, not when the definition is replaced
# or a type changes.  What reads them runs as the owner, whoever starts the run.
# sql/parameters.sql has the types, and what is refused.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('main');
my $rows = 2_000;

sub sql { return query_ok($node, $_[0], flags => $_[1] || []); }
sub value { return run_value($node, @_); }

# Start a run of the definition with these parameters.
sub start
{
	my ($name, $parameters, $settings) = @_;
	return sql("SELECT backfill_start('$name', \$json\$$parameters\$json\$" . ($settings ? ", '$settings'" : '') . ')');
}

create_target($node, 't', $rows);

# ---------------------------------------------------------------------------
note 'the same in every worker, before and after a pause, a stop and a crash';

$node->safe_psql('postgres', q{
	CREATE TYPE pair AS (a int, b timestamptz);
	CREATE TABLE seen (id bigint, pid int, facts text, "values" text, long text)});
my $define = q{SELECT backfill_define('t', 't', $$
	INSERT INTO seen SELECT id, pg_backend_pid(), concat_ws('|', run.id, run.name, extract(epoch FROM run.started_at), extract(epoch FROM run.since)),
		concat_ws('|', extract(epoch FROM params.now), extract(epoch FROM params."default now"), params.today - date '2000-01-01', params.tomorrow - timestamp '2000-01-01', (params.pair).a, extract(epoch FROM (params.pair).b), params.nows::text), md5(params.long) FROM batch;
	UPDATE batch SET n = n + 1$$, parameters => '{"now": "timestamptz", "default now": {"type": "timestamptz", "default": "now"}, "today": "date", "tomorrow": "timestamp", "pair": "pair", "nows": "timetz[]", "long": "text"}',
	settings => '{"batch_size": 20, "target_batch_time": 0, "sleep": "50 ms", "workers": 2, "retry_delay": "10 ms"}')};
sql($define);
# half of the text cannot be compressed
$node->safe_psql('postgres', q{CREATE TABLE long AS SELECT repeat(E'"\'\\\\', 150000) || string_agg(md5(i::text), E'\n') AS text FROM generate_series(1, 20000) i});
is(sql('SELECT length(text) > 1024 * 1024 FROM long'), 't', 'a text of more than 1 MB');
my $before = sql('SELECT extract(epoch FROM clock_timestamp())');
my $id = sql(q{SELECT backfill_start('t', jsonb_build_object('now', 'now', 'today', 'today', 'tomorrow', 'tomorrow', 'pair', '{"a": 1, "b": "now"}'::jsonb, 'nows', '["now"]'::jsonb, 'long', text)) FROM long});
my $after = sql('SELECT extract(epoch FROM clock_timestamp())');
my $stored = value($id, 'md5(parameters::text)');

my $more = sub {
	my ($what) = @_;
	my $n = sql('SELECT count(*) FROM seen');
	return ok(wait_for($node, "SELECT count(*) > $n FROM seen"), "rows are done $what");
};
ok(wait_for($node, 'SELECT count(DISTINCT pid) >= 2 FROM seen'), 'two workers are at work');
sql("SELECT backfill_pause($id)");
ok(wait_for_status($node, $id, 'paused'), 'the run is paused');
# what the definition says now is for the next run
sql(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = n + 100 + params.n', parameters => '{"n": {"type": "int", "default": 5}}')});
sql("SELECT backfill_resume($id)");
$more->('after a pause, in which the definition was replaced');
sql("SELECT backfill_stop($id)");
ok(wait_for_status($node, $id, 'stopped'), 'the run is stopped');
is(sql("SELECT backfill_drop('t')"), 'definition "t" is dropped', 'the definition is dropped');
sql("SELECT backfill_resume($id)");
$more->('after a stop, without the definition');
sql("SELECT backfill_alter($id, '{\"batch_size\": 30}')");
$more->('after its settings were changed');
ok(kill_server($node), 'the server is killed');
$node->start;
ok(wait_for_server($node), 'and comes back');
$more->('after the crash');
sql("SELECT backfill_alter($id, '{\"sleep\": 0, \"batch_size\": 500}')");
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(sql("SELECT count(*), count(DISTINCT id) FROM seen"), "$rows|$rows", 'every row was seen once');
cmp_ok(sql('SELECT count(DISTINCT pid) FROM seen'), '>=', 4, 'by several workers');
is(sql('SELECT count(DISTINCT facts), count(DISTINCT "values"), count(DISTINCT long) FROM seen'), '1|1|1', 'all saw the same');
is(sql('SELECT count(*) FROM seen, long WHERE md5(text) = seen.long'), $rows, 'the long text is the one that was given');
is(sql('SELECT DISTINCT facts FROM seen'), value($id, q{concat_ws('|', id, name, extract(epoch FROM started_at), '-Infinity')}), 'the facts are those of the run');
my ($now, $default, $today, $tomorrow, $a, $b) = split(/\|/, sql('SELECT DISTINCT "values" FROM seen'));
ok($before <= $now && $now <= $after, "'now' is when backfill_start was called");
is($default, $now, 'also as a default');
is($b, $now, 'and within a composite type');
is(value($id, 'md5(parameters::text)'), $stored, 'the run keeps them as they were');
check_exactly_once($node, $id, 't', $rows, 'exactly once');

# ---------------------------------------------------------------------------
note 'a type that changes during the run';

# Start a run whose parameter x has the type, change the type while the run is
# paused, and look what becomes of it.
sub change_type
{
	my ($type, $given, $change, $x) = @_;
	sql('UPDATE t SET n = 0; TRUNCATE seen');
	sql(qq{SELECT backfill_define('typed', 't', \$\$INSERT INTO seen SELECT id, pg_backend_pid(), $x FROM batch; UPDATE batch SET n = n + 1\$\$, parameters => '{"x": {"type": "$type"}}',
		settings => '{"batch_size": 100, "target_batch_time": 0, "sleep": "1 h"}')});
	my $run = start('typed', qq({"x": $given}));
	ok(wait_for($node, "SELECT batches = 1 FROM backfill_runs WHERE id = $run"), "$type: a batch is done");
	sql("SELECT backfill_pause($run)");
	ok(wait_for_status($node, $run, 'paused'), 'the run is paused');
	sql($_) foreach ref $change ? @$change : $change;
	sql("SELECT backfill_alter($run, '{\"sleep\": 0}'); SELECT backfill_resume($run)");
	return $run;
}

# The run goes on, and x is what it was.
sub survives
{
	my ($type, $given, $change, $x) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $run = change_type($type, $given, $change, $x || 'params.x::text');
	ok(wait_for_status($node, $run, 'completed'), "$change->[0]: the run goes on");
	is(sql('SELECT count(*), count(DISTINCT facts) FROM seen'), "$rows|1", 'the value stays what it was');
	return;
}

# The run fails, its error names the parameter; mended, it goes on.
sub fails
{
	my ($type, $given, $change, $state, $mend, $x) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $run = change_type($type, $given, $change, $x || 'params.x::text');
	ok(wait_for_status($node, $run, 'failed'), "$change->[0]: the run fails");
	is(value($run, 'sqlstate'), $state, "with $state");
	like(value($run, "concat(error, error_context)"), qr/parameter "x"/, 'the error names the parameter');
	is(value($run, 'batches'), 1, 'nothing more was done');
	sql($mend);
	sql("SELECT backfill_resume($run)");
	ok(wait_for_status($node, $run, 'completed', through_end => 1), 'mended, the run goes on');
	is(sql('SELECT count(*), count(DISTINCT facts) FROM seen'), "$rows|1", 'with the value that it had');
	return;
}

$node->safe_psql('postgres', q{
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
	CREATE DOMAIN amount AS int CHECK (VALUE > 0);
	CREATE TYPE point3 AS (x int, y int);
	CREATE TABLE referenced (id int);
	CREATE DOMAIN word AS text});
survives('mood', '"ok"', [ q{ALTER TYPE mood ADD VALUE 'fine' BEFORE 'ok'} ]);
survives('mood[]', '["ok", "sad"]', [ q{ALTER TYPE mood ADD VALUE 'worst' BEFORE 'sad'} ]);
survives('amount', '7', [ 'ALTER DOMAIN amount ADD CHECK (VALUE < 10)' ]);
survives('point3', '{"x": 1, "y": 2}', [ 'ALTER TYPE point3 RENAME ATTRIBUTE y TO z' ]);
survives('word', '"x"', [ 'ALTER DOMAIN word SET DEFAULT \'y\'' ]);
fails('amount', '7', [ 'ALTER DOMAIN amount ADD CONSTRAINT even CHECK (VALUE % 2 = 0) NOT VALID' ], '23514', 'ALTER DOMAIN amount DROP CONSTRAINT even');
fails('mood', '"ok"', [ q{ALTER TYPE mood RENAME VALUE 'ok' TO 'o''k'} ], '22P02', q{ALTER TYPE mood RENAME VALUE 'o''k' TO 'ok'});
fails('word', '"x"', [ 'ALTER DOMAIN word RENAME TO term' ], '42704', 'ALTER DOMAIN term RENAME TO word');
survives('regclass', '"referenced"', [ 'ALTER TABLE referenced RENAME TO renamed', 'CREATE TABLE referenced (other int)' ], 'params.x::oid::text');
sql('DROP TABLE referenced; ALTER TABLE renamed RENAME TO referenced');
fails('point3', '{"x": 1, "y": 2}', [ 'ALTER TYPE point3 DROP ATTRIBUTE z' ], '22P02', 'ALTER TYPE point3 ADD ATTRIBUTE z int', '(params.x).x::text');
fails('point3', '{"x": 1, "y": 2}', [ 'ALTER TYPE point3 ADD ATTRIBUTE more int' ], '22P02', 'ALTER TYPE point3 DROP ATTRIBUTE more', '(params.x).x::text');

# ---------------------------------------------------------------------------
note 'names are those of the definition, not of the session that starts the run';

$node->safe_psql('postgres', q{
	CREATE SCHEMA elsewhere;
	CREATE TABLE elsewhere.referenced (id int);
	CREATE TYPE elsewhere.mood AS ENUM ('else');
	SET search_path = elsewhere, public;
	SELECT backfill_define('path', 'public.t', 'INSERT INTO seen SELECT id, 0, params.c::oid::text, params.m::text FROM batch LIMIT 1',
		parameters => '{"c": {"type": "regclass", "default": "referenced"}, "m": "mood", "n": "public.mood"}', settings => '{"sleep": 0, "batch_size": 10000, "target_batch_time": 0}')});
foreach my $path ('public', 'pg_catalog', 'nowhere', 'public, elsewhere, pg_catalog')
{
	sql('TRUNCATE seen');
	$id = sql(qq{SET search_path = $path; SELECT public.backfill_start('path', '{"c": "referenced", "m": "else", "n": "ok"}')});
	ok(wait_for_status($node, $id, 'completed'), "started with search_path = $path");
	is(sql(q{SELECT facts::oid::regclass, "values" FROM seen}), 'elsewhere.referenced|else', 'the names mean the same');
}

# ---------------------------------------------------------------------------
note 'who reads the values';

$node->safe_psql('postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE stranger LOGIN;
	GRANT ALL ON t, seen TO mallory;
	CREATE SCHEMA den AUTHORIZATION mallory;
	CREATE TABLE den.checks (who text, attempt text, outcome text);
	ALTER TABLE den.checks OWNER TO mallory;
	GRANT USAGE ON SCHEMA den TO stranger;
	SET ROLE mallory;
	CREATE FUNCTION den.try(command text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE command;
		RETURN 'done';
	EXCEPTION WHEN OTHERS THEN
		RETURN sqlstate;
	END $$;
	CREATE FUNCTION den.good(i int) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		attempt text;
		outcome text;
		boss text := (SELECT rolname FROM pg_roles WHERE oid = 10);
	BEGIN
		FOREACH attempt IN ARRAY ARRAY['ALTER ROLE mallory SUPERUSER', format('SET ROLE %I', boss), format('SET SESSION AUTHORIZATION %I', boss), 'RESET ROLE', 'SELECT FROM pg_authid', 'COPY (SELECT 1) TO PROGRAM ''true''', 'SELECT pg_read_file(''PG_VERSION'')', 'UPDATE backfill.run SET owner = 10'] LOOP
			outcome := den.try(attempt);
			INSERT INTO checks VALUES (current_user, attempt, outcome);
			RAISE WARNING 'check|%|%|%', current_user, attempt, outcome;
		END LOOP;
		RETURN i > (SELECT 0);
	END $$;
	CREATE DOMAIN den.good AS int CHECK (den.good(VALUE))});
# What the checks of a call in this session said: what they did to tables is undone.
# Their users, and the outcomes of all but RESET ROLE, and of that.
my $checks = sub
{
	my ($err) = @_;
	my (%who, %outcome, %reset);

	while ($err =~ /WARNING:  check\|(.*?)\|(.*)\|(\w+)$/mg)
	{
		$who{$1} = 1;
		($2 eq 'RESET ROLE' ? \%reset : \%outcome)->{$3} = 1;
	}
	return map { join(',', sort keys %$_) } \%who, \%outcome, \%reset;
};
# as the owner, with the path of the definition, in a worker as well
my $as_mallory = sub { return query($node, "SET ROLE mallory; SET search_path = den, public; $_[0]"); };
(undef, undef, my $err) = $as_mallory->(q{SELECT backfill_define('evil', 't', 'UPDATE batch SET n = n + params.x', parameters => '{"x": {"type": "good", "default": 3, "options": [1, 3]}}', settings => '{"sleep": 0, "share_target": true}')});
is(($checks->($err))[0], 'mallory', 'defining runs as the one who defines');
is(sql('SELECT count(*) FROM den.checks'), 0, 'and leaves nothing behind');
sql('UPDATE t SET n = 0');
(undef, $id, $err) = query($node, q{SELECT backfill_start('evil', '{"x": 1}')});
my ($who, $outcome, $reset) = $checks->($err);
is($who, 'mallory', 'a superuser starts the run: the check of the domain runs as the owner');
is($outcome, '42501', 'and can do nothing that the owner could not');
is($reset, '42501', 'nor become the superuser again');
ok(wait_for_status($node, $id, 'completed'), 'the worker can read the value: the check finds what it needs');
is(sql('SELECT min(n), max(n) FROM t'), '1|1', 'and has it');
is(sql(q{SELECT string_agg(DISTINCT who, ','), count(*) FILTER (WHERE outcome = 'done' AND attempt <> 'RESET ROLE') FROM den.checks}), 'mallory|0', 'in the worker it has no more rights');
is(sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', 'nobody has become superuser');
(undef, undef, $err) = query($node, q{SET search_path = den, public; SELECT backfill_define('evil', 't', 'UPDATE batch SET n = n + params.x', parameters => '{"x": {"type": "good", "default": 2}}', settings => '{"sleep": 0}')});
is(join('|', $checks->($err)), 'mallory|42501|42501', 'a superuser replaces the definition: likewise');
is(sqlstate($node, q{SET ROLE stranger; SELECT backfill_start('evil', '{"x": 1}')}), '42501', 'a stranger cannot start it');
is(sql(q{SET ROLE stranger; SELECT count(*) FROM backfill_runs WHERE parameters IS NOT NULL}), 0, 'and sees no values');
is(sql("SET ROLE mallory; SELECT DISTINCT parameters FROM backfill_runs WHERE name = 'evil'"), '{"x": 1}', 'the owner sees them');

# ---------------------------------------------------------------------------
note 'run.since is of the same definition and the same owner';

my $since = sub {
	my ($role) = @_;
	sql("SET ROLE $role; SELECT backfill_define('since', 't', 'SELECT FROM batch WHERE run.since IS NOT NULL', settings => '{\"sleep\": 0, \"share_target\": true, \"batch_size\": 10000}')");
	my $run = sql("SET ROLE $role; SELECT backfill_start('since')");
	ok(wait_for_status($node, $run, 'completed'), "a run of $role\'s completes");
	return $run;
};
my $first = $since->('mallory');
is(value($first, 'since IS NULL'), 't', 'the first has nothing before it');
my $second = $since->('mallory');
is(value($second, 'since'), value($first, 'until'), 'the second has the end of the window of the first');
sql("SELECT backfill_drop('since')");
my $third = $since->('postgres');
is(value($third, 'since IS NULL'), 't', 'the first of another owner has nothing before it');
sql("SELECT backfill_drop('since')");
my $fourth = $since->('mallory');
is(value($fourth, 'since'), value($second, 'until'), 'the definition made anew by the first owner goes on where it was');
sql("SELECT backfill_delete($second)");
my $fifth = $since->('mallory');
is(value($fifth, 'since'), value($fourth, 'until'), 'the last one counts');

$node->stop;
done_testing();
