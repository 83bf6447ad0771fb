# Recurring runs by pg_cron, preloaded beside backfill.
#
# The schedules are made first; what else there is to see is looked at while the
# clock of pg_cron, which before version 1.5 knows whole minutes only, goes on.

use strict;
use warnings;

use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
plan skip_all => 'this server has no pg_cron' unless -f "$sharedir/extension/pg_cron.control";

my $node = make_node('main', conf => q{
shared_preload_libraries = 'backfill, pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
});

sub sql { return query_ok($node, $_[0]); }
sub refusal { return sqlstate($node, @_); }

sql('CREATE EXTENSION pg_cron');
my $has_seconds = sql(q{SELECT string_to_array(substring(extversion FROM '^[0-9.]+'), '.')::int[] >= '{1,5}'
	FROM pg_extension WHERE extname = 'pg_cron'}) eq 't';
my $often = $has_seconds ? '5 seconds' : '* * * * *';
my $never = '0 0 30 2 *';
my $holding = '{"batch_size": 10, "sleep": "1 h"}';

# the one who owns the definitions, one who has his rights, and one who has not
sql(q{CREATE ROLE boss LOGIN; CREATE ROLE clerk LOGIN IN ROLE boss; CREATE ROLE sleeper NOLOGIN IN ROLE boss;
	CREATE ROLE stranger LOGIN; GRANT USAGE ON SCHEMA cron TO clerk, sleeper, stranger;
	GRANT CREATE ON SCHEMA public TO boss, stranger});
create_target($node, $_, 100) foreach qw(quick held third);
sql('ALTER TABLE quick OWNER TO boss; GRANT SELECT, UPDATE ON third TO stranger');

# ---------------------------------------------------------------------------
note 'schedules';

sql(q{SET ROLE boss; SELECT backfill_define('quick', 'quick', 'UPDATE batch SET n = n + 1')});
sql(q{SELECT backfill_define('held', 'held', 'UPDATE batch SET n = n + 1')});

my $odd = q{o'clock \ "x" $1 $$ ;--};
my $word = q{it's \ a "word" $1 $$ %s; --};
my $odd_literal = q{'o''clock \ "x" $1 $$ ;--'};
my $word_literal = q{'it''s \ a "word" $1 $$ %s; --'};
sql('CREATE TABLE words (word text, run_id bigint)');
sql(qq{SELECT backfill_define($odd_literal, 'third', 'INSERT INTO words SELECT DISTINCT params.word, run.id FROM batch',
	parameters => '{"word": "text"}')});

my $quick_job = sql(qq{SET ROLE clerk; SELECT backfill_schedule('quick', '$often')});
my $held_job = sql(qq{SELECT backfill_schedule('held', '$often', settings => '$holding')});
my $odd_job = sql(qq{SELECT backfill_schedule($odd_literal, '$often', jsonb_build_object('word', $word_literal))});

is(sql("SELECT jobname, username, schedule, command FROM cron.job WHERE jobid = $quick_job"),
	"backfill quick|clerk|$often|SELECT public.backfill_start_scheduled('quick'::pg_catalog.text, NULL::pg_catalog.jsonb, NULL::pg_catalog.jsonb, 'boss'::pg_catalog.text)",
	'a schedule is a job of pg_cron that belongs to who made it');
is(sql("SELECT jobname FROM cron.job WHERE jobid = $odd_job"), "backfill $odd", 'of any name');

# a generic definition: a job for each table, with its name
sql(q{CREATE TABLE "The ""table""" (id int PRIMARY KEY, n int DEFAULT 0, "it's" int DEFAULT 0); INSERT INTO "The ""table""" SELECT generate_series(1, 10);
	ALTER TABLE "The ""table""" OWNER TO boss;
	SET ROLE boss; SELECT backfill_define('given', NULL, 'UPDATE batch SET {n} = batch.{n} + 1', scope => 'batch.{n} = 0', parameters => '{"n": "name"}', generic => true)});
my $given_job = sql(qq{SET ROLE clerk; SELECT backfill_schedule('given', '$often', \$\${"n": "it's"}\$\$, target => '"The ""table"""')});
my $never_given = sql(qq{SET ROLE clerk; SELECT backfill_schedule('given', '$never', '{"n": "n"}', target => 'quick')});
is(sql("SELECT jobname, command FROM cron.job WHERE jobid = $given_job"),
	q{backfill given on "public"."The ""table"""|SELECT public.backfill_start_scheduled('given'::pg_catalog.text, '{"n": "it''s"}'::pg_catalog.jsonb, NULL::pg_catalog.jsonb, 'boss'::pg_catalog.text, '"public"."The ""table"""'::pg_catalog.regclass)},
	'a schedule of a generic definition is for one table');
isnt($given_job, $never_given, 'another table has another');

# ---------------------------------------------------------------------------
note 'errors';

like(refusal(qq{SELECT backfill_schedule('given', '$never', '{"n": "n"}')}), qr/^22004/, 'a generic definition without a table');
like(refusal(qq{SELECT backfill_schedule('given', '$never', '{"n": "m"}', target => 'quick')}), qr/^42703/, 'or with a column that is not there');
like(refusal(qq{SELECT backfill_schedule('held', '$never', target => 'held')}), qr/^22023/, 'a table for one that has its own');

like(refusal(qq{SELECT backfill_schedule('held', '$never', '{"x": 1}')}), qr/^42P02/, 'a parameter that is not there');
like(refusal(qq{SELECT backfill_schedule('held', '$never', settings => '{"batch_size": 0}')}), qr/^22023/, 'a bad setting');
like(refusal(qq{SELECT backfill_schedule('held', '$never', settings => '{"batchsize": 10}')}), qr/^42P02/, 'an unknown setting');
sql(q{SELECT backfill_define('typed', 'third', 'SELECT FROM batch', parameters => '{"k": {"type": "int", "required": true}}')});
like(refusal(qq{SELECT backfill_schedule('typed', '$never')}), qr/^22004/, 'a parameter that is missing');
like(refusal(qq{SELECT backfill_schedule('typed', '$never', '{"k": "many"}')}), qr/^22P02/, 'a parameter of another type');
like(refusal(q{SELECT backfill_schedule('held', 'at tea time')}), qr/^22023/, 'times that pg_cron does not know');
like(refusal(q{SELECT backfill_schedule('held', NULL)}), qr/^22004/, 'no times');
like(refusal(qq{SELECT backfill_schedule(NULL, '$never')}), qr/^22004/, 'no name');
like(refusal(qq{SELECT backfill_schedule('missing', '$never')}), qr/^42704/, 'a definition that is not there');
like(refusal(qq{SET ROLE stranger; SELECT backfill_schedule('quick', '$never')}), qr/^42501/, "somebody else's definition");
like(refusal(qq{SET ROLE sleeper; SELECT backfill_schedule('quick', '$never')}), qr/^55000/, 'a role as which pg_cron cannot connect');
like(refusal(qq{SET ROLE boss; SELECT backfill_schedule('quick', '$never')}), qr/^42501/, 'a role that may not use pg_cron');
like(refusal(qq{SET ROLE boss; SELECT backfill_unschedule('quick')}), qr/^42501/, 'nor remove a schedule');
like(refusal(q{SELECT backfill_start_scheduled('missing')}), qr/^42704/, 'an occurrence of what is not there');
like(refusal(q{SELECT backfill_start_scheduled(NULL)}), qr/^22004/, 'of nothing');
like(refusal(q{SELECT backfill_start_scheduled('typed', '{"k": "many"}')}), qr/^22P02/, 'with a wrong value');
like(refusal(q{SET ROLE stranger; SELECT backfill_start_scheduled('quick')}), qr/^42501/, "of somebody else's definition");

my $long = 'x' x 55;
sql("SELECT backfill_define('$long', 'third', 'SELECT FROM batch')");
is(refusal("SELECT backfill_schedule('$long', '$never')"), $has_seconds ? '00000' : '42622', 'a name that pg_cron may cut off');
is(sql("SELECT backfill_unschedule('$long')"), $has_seconds ? 't' : 'f', 'and no schedule of another one is removed');
my $fits = 'x' x 54;
sql("SELECT backfill_define('$fits', 'third', 'SELECT FROM batch')");
is(sql("SELECT length(jobname::text) FROM cron.job WHERE jobid = (SELECT backfill_schedule('$fits', '$never'))"), '',
	'the job is not seen by the query that makes it');
is(sql("SELECT jobname FROM cron.job WHERE jobname LIKE '%xxx'"), "backfill $fits", 'one that just fits');
is(sql("SELECT backfill_unschedule('$fits')"), 't', 'is removed');

sql('CREATE DATABASE other');
query_ok($node, q{CREATE EXTENSION backfill; CREATE TABLE t (id int PRIMARY KEY);
	SELECT backfill_define('t', 't', 'SELECT FROM batch')}, db => 'other');
my ($rc, $out, $err) = query($node, "SELECT backfill_schedule('t', '$never')", db => 'other');
like($err, qr/ERROR:  a backfill cannot be scheduled in this database without pg_cron\nDETAIL:  The extension pg_cron is not installed.*\nHINT:  .*shared_preload_libraries.*cron\.database_name.*CREATE EXTENSION pg_cron/,
	'a database without pg_cron');
is(refusal("SELECT backfill_schedule('t', '$never')", db => 'other'), '55000', 'its SQLSTATE');
is(query_ok($node, q{SELECT backfill_unschedule('t')}, db => 'other'), 'f', 'has no schedules to remove');

# what others have put into the schema of pg_cron is not called
sql(q{GRANT CREATE ON SCHEMA cron TO stranger; SET ROLE stranger;
	CREATE FUNCTION cron.schedule(name, text, text) RETURNS bigint RETURN 0/0;
	CREATE FUNCTION cron.schedule(unknown_name anyelement, text, text) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint';
	CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.textne)});
like(sql(qq{SET search_path = public, pg_catalog; SELECT backfill_schedule('third', '$never') FROM (
		SELECT backfill_define('third', 'third', 'UPDATE batch SET n = n + 1') OFFSET 0) d}), qr/^\d+$/, 'foreign functions in the schema of pg_cron');
is(sql(q{SET search_path = public, pg_catalog; SELECT backfill_unschedule('third')}), 't', 'and foreign operators');
sql(q{DROP OWNED BY stranger; GRANT USAGE ON SCHEMA cron TO stranger; GRANT SELECT, UPDATE ON third TO stranger; GRANT CREATE ON SCHEMA public TO stranger});

# ---------------------------------------------------------------------------
note 'replaced and removed';

my $job = sql(qq{SELECT backfill_schedule('third', '$never')});
is(sql(q{SELECT backfill_schedule('third', '1 2 3 4 *', settings => '{"batch_size": 7}')}), $job, 'a schedule that is made again is the same job');
is(sql(q{SELECT schedule, command FROM cron.job WHERE jobname = 'backfill third'}),
	q{1 2 3 4 *|SELECT public.backfill_start_scheduled('third'::pg_catalog.text, NULL::pg_catalog.jsonb, '{"batch_size": 7}'::pg_catalog.jsonb, 'postgres'::pg_catalog.text)},
	'with the new times and settings');
sql(qq{SELECT backfill_define('gone', 'third', 'SELECT FROM batch'); SELECT backfill_schedule('gone', '$never'); SELECT backfill_drop('gone')});
is(sql(q{SELECT count(*) FROM cron.job WHERE jobname = 'backfill gone'}), 1, 'a definition that is dropped leaves its schedule');
is(sql(q{SELECT backfill_unschedule('gone')}), 't', 'which can be removed');
is(sql(q{SELECT backfill_unschedule('gone')}), 'f', 'once');
is(sql(q{SET ROLE stranger; SELECT backfill_unschedule('third')}), 'f', "nobody removes another's schedule");
is(sql(q{SELECT backfill_unschedule('third')}), 't', 'but everybody his own');
is(sql(q{SELECT backfill_unschedule('quick')}), 'f', "a superuser's is not that of others");

# ---------------------------------------------------------------------------
note 'occurrences side by side';

sql('CREATE TABLE outcome (id bigint)');
my $first = session($node);
my $second = session($node);
my $id = $first->query(qq{BEGIN; SELECT backfill_start_scheduled('third', settings => '$holding')});
like($id, qr/^\d+$/, 'an occurrence is a run');
is(refusal(q{SELECT backfill_start_scheduled('typed', '{"k": 1}')}), '55P03', 'another one on the table that is not committed yet');
$second->send(q{INSERT INTO outcome SELECT backfill_start_scheduled('third')});
ok(wait_for($node, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND pid = " . $second->pid),
	'one of the same definition waits');
$first->query('COMMIT');
ok(wait_for($node, 'SELECT count(*) = 1 AND count(id) = 0 FROM outcome'), 'and is skipped when the first is committed');
$_->quit foreach $first, $second;
is(sql("SELECT role, sqlstate, status, number, reason FROM backfill_events WHERE run_id = $id AND kind = 'schedule'"),
	'postgres||||an occurrence of the schedule was skipped: the run is active', 'which the run that goes on tells');

is(sql(q{SELECT backfill_start_scheduled('typed', '{"k": 1}')}), '', 'another definition on the table is skipped');
sql(q{SET ROLE stranger; SELECT backfill_define('strange', 'third', 'SELECT FROM batch')});
is(sql(q{SET ROLE stranger; SELECT backfill_start_scheduled('strange')}), '', 'also that of another role');
is(sql("SELECT string_agg(role || ': ' || reason, ', ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = 'schedule' AND reason LIKE '%schedule of%'"),
	'postgres: an occurrence of the schedule of "typed" was skipped: the run is active on its table, '
	  . 'stranger: an occurrence of the schedule of "strange" was skipped: the run is active on its table', 'and the run tells whose');
my $beside = sql(q{SELECT backfill_start_scheduled('typed', '{"k": 1}', '{"share_target": true}')});
wait_for_status($node, $beside, 'completed');
is(sql(q{SELECT backfill_start_scheduled('third', settings => '{"share_target": true}')}), '', 'share_target does not let equal runs side by side');
sql("SELECT backfill_pause($id)");
wait_for_status($node, $id, 'paused');
is(sql(q{SELECT backfill_start_scheduled('third')}), '', 'a run that is paused is active');
sql("SELECT backfill_stop($id)");
wait_for_status($node, $id, 'stopped');
my $again = sql(q{SELECT backfill_start_scheduled('third')});
wait_for_status($node, $again, 'completed');
is(sql("SELECT role, reason FROM backfill_events WHERE run_id = $again ORDER BY id LIMIT 1"), 'postgres|backfill_start_scheduled',
	'when it has ended the next one begins');

# ---------------------------------------------------------------------------
note 'the clock';

ok(wait_for($node, "SELECT count(*) >= 2 FROM backfill_runs WHERE name = 'quick' AND status = 'completed'"), 'the schedule has made two runs');
ok(wait_for($node, q{SELECT count(*) > 0 FROM backfill_runs WHERE name = 'given' AND status = 'completed' AND target = '"The ""table"""'::regclass}), 'a run of the generic definition was started');
is(sql(q{SELECT count(*), min("it's"), max("it's"), max(n) FROM "The ""table"""}), '10|1|1|0', 'on its table, with its name');
is(sql(q{SET ROLE clerk; SELECT backfill_unschedule('given')}), 'f', 'the schedule of a generic definition is named with its table');
is(sql(q{SET ROLE clerk; SELECT backfill_unschedule('given', '"The ""table"""')}), 't', 'then it is removed');
sql('ALTER TABLE quick RENAME TO slow');
is(sql(q{SET ROLE clerk; SELECT backfill_unschedule('given', 'public.quick')}), 't', 'also if the table is not there any more');
sql('ALTER TABLE slow RENAME TO quick');
is(sql(q{SET ROLE clerk; SELECT backfill_unschedule('given', 'public.quick')}), 'f', 'once');
sql(q{SET ROLE clerk; SELECT backfill_unschedule('quick')});
ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_events WHERE name = 'held' AND kind = 'schedule'"),
	'an occurrence that meets an active run is skipped');
ok(wait_for($node, "SELECT count(*) >= 2 FROM backfill_runs WHERE name = $odd_literal AND status = 'completed'"), 'names and values with quotes');
is(sql("SELECT backfill_unschedule('held') AND backfill_unschedule($odd_literal)"), 't', 'the schedules are removed');
is(sql('SELECT count(*) FROM cron.job'), 0, 'all of them');
ok(wait_for($node, "SELECT count(*) = 0 FROM cron.job_run_details WHERE status NOT IN ('succeeded', 'failed')"), 'what pg_cron has begun has ended');

is(sql("SELECT count(*) FROM cron.job_run_details WHERE status <> 'succeeded'"), 0, 'no occurrence has failed')
  or diag(sql('SELECT * FROM cron.job_run_details'));
is(sql("SELECT DISTINCT owner::text, started_by::text FROM backfill_runs WHERE name = 'quick'"), 'boss|clerk',
	"the runs belong to the definition's owner, whoever has scheduled them");
is(sql("SELECT DISTINCT role, reason FROM backfill_events WHERE name = 'quick' AND previous_status IS NULL AND kind = 'transition'"), 'clerk|backfill_start_scheduled',
	'their beginning tells who has');
ok(wait_for($node, "SELECT bool_and(status = 'completed') FROM backfill_runs WHERE name = 'quick'"), 'all of them are completed');
is(sql("SELECT count(*) FROM quick WHERE n <> (SELECT count(*) FROM backfill_runs WHERE name = 'quick')"), 0, 'each has done all of the work once');
is(sql("SELECT count(*), min(settings ->> 'sleep') FROM backfill_runs WHERE name = 'held'"), '1|1 h', 'the run that was met is the only one, with the settings of the schedule');
is(sql("SELECT DISTINCT run_id = (SELECT id FROM backfill_runs WHERE name = 'held'), role, reason FROM backfill_events WHERE name = 'held' AND kind = 'schedule'"),
	't|postgres|an occurrence of the schedule was skipped: the run is active', 'and it tells');
is(sql('SELECT DISTINCT word FROM words'), $word, 'a value arrives as it was given');
is(sql("SELECT bool_and(since = before) FROM (SELECT since, lag(until) OVER (ORDER BY id) AS before
	FROM backfill_runs WHERE name = 'quick') r WHERE before IS NOT NULL"), 't', 'run.since is the run.until of the run before');
sql("SELECT backfill_stop(id, true) FROM backfill_runs WHERE name = 'held'");
wait_for_status($node, sql("SELECT id FROM backfill_runs WHERE name = 'held'"), 'stopped');

# ---------------------------------------------------------------------------
note 'pg_cron at work elsewhere, or not at all';

sql(qq{SELECT backfill_schedule('held', '$never')});
$node->append_conf('postgresql.conf', "cron.database_name = 'other'");
$node->restart;
($rc, $out, $err) = query($node, "SELECT backfill_schedule('third', '$never')");
like($err, qr/\nDETAIL:  The extension is installed, but the server does not look for jobs here/, 'pg_cron is at work in another database');
is(refusal("SELECT backfill_schedule('third', '$never')"), '55000', 'its SQLSTATE');
is(sql("SELECT backfill_unschedule('held')"), 't', 'schedules can be removed all the same');
$node->append_conf('postgresql.conf', "cron.database_name = 'postgres'\nshared_preload_libraries = 'backfill'");
$node->restart;
is(refusal("SELECT backfill_schedule('third', '$never')"), '55000', 'pg_cron is not preloaded');

$node->stop;
done_testing();
