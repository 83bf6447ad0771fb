# pg_upgrade: definitions, hooks, schedules and runs of every status come along,
# nothing goes on by itself, and everything does when it is resumed.
#
# From the server of OLD_BINDIR, if there is one, to the one that is tested;
# otherwise from that one to itself.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Upgrade;
use Test::More;

my $cron = has_extension('pg_cron');
my ($old, $new) = old_and_new(
	$cron ? qq{
shared_preload_libraries = 'backfill, pg_cron'
cron.database_name = 'postgres'
} : '');
my $node = $old;

sub sql { return query_ok($node, $_[0]); }

# ---------------------------------------------------------------------------
note 'the old cluster';

$old->append_conf('postgresql.conf', 'backfill.max_workers = 1');
$old->restart;
create_step($node);
sql(q{CREATE ROLE "Ann's role" LOGIN; CREATE SCHEMA "Her own" AUTHORIZATION "Ann's role";
	SET ROLE "Ann's role";
	CREATE TABLE "Her own".log (line text);
	CREATE FUNCTION "Her own"."Hook 1"(e backfill_event) RETURNS void LANGUAGE sql
		AS $$INSERT INTO "Her own".log VALUES (e.name || ' ' || e.status)$$});
my $small = '{"batch_size": 10, "target_batch_time": 0, "sleep": "%s"}';
my @tables = qw(completed failed stopped paused running enqueued pending after);
foreach my $table (@tables)
{
	create_target($node, $table, 40);
	sql(qq{ALTER TABLE $table OWNER TO "Ann's role"; SET ROLE "Ann's role";
		SELECT backfill_define('$table', '$table', 'UPDATE batch SET n = n + step(id) * params.by', scope => 'n = 0',
			parameters => '{"by": {"type": "int", "default": 1}}', description => 'it''s for $table',
			settings => '@{[sprintf($small, $table =~ /completed|failed|enqueued/ ? 0 : '1 h')]}');
		SELECT backfill_on('after run completed', '"Her own"."Hook 1"', '$table')});
}
sql(q{CREATE FUNCTION each_run(e backfill_event) RETURNS void LANGUAGE sql AS ''; SELECT backfill_on('before run completed', 'each_run')});
sql(q{SELECT backfill_schedule('completed', '0 0 30 2 *')}) if $cron && sql('CREATE EXTENSION pg_cron; SELECT true');

my %id;
sub start { my ($table, $more) = @_; return $id{$table} = sql("SELECT backfill_start('$table'" . ($more // '') . ')'); }
sub one_batch { return wait_for($node, "SELECT batches = 1 FROM backfill_runs WHERE id = $_[0]"); }
start('completed');
ok(wait_for_status($node, $id{completed}, 'completed'), 'a run is completed');
sql(q{INSERT INTO behave VALUES (150, 'fail')});
start('failed');
ok(wait_for_status($node, $id{failed}, 'failed'), 'one has failed');
sql('DELETE FROM behave');
foreach (['stopped', 'stop'], ['paused', 'pause'])
{
	my ($status, $function) = @$_;
	start($status);
	ok(one_batch($id{$status}), "one is to be $status");
	sql("SELECT backfill_$function($id{$status})");
	ok(wait_for_status($node, $id{$status}, $status, through_end => 1), 'and is');
}
start('running');
ok(one_batch($id{running}), 'one is running');
start('enqueued');
start('pending', q{, start_at => now() + interval '1 year'});
start('after', ", after => ARRAY[$id{running}]");
ok(wait_for($node, "SELECT wait_reason IS NOT NULL FROM backfill_runs WHERE id = $id{enqueued}"), 'and one waits for its worker');

# What is to be the same.
my %what = (
	definitions => 'SELECT * FROM backfill_definitions ORDER BY name',
	hooks => 'SELECT * FROM backfill_hooks ORDER BY name, phase',
	runs => q{SELECT id, name, status, owner, target, batches, rows_scanned, rows_affected, wal_bytes, settings, "after", start_at, error, created_at
		FROM backfill_runs ORDER BY id},
	batches => 'SELECT * FROM backfill_batches ORDER BY run_id, number, part',
	events => q{SELECT id, run_id, owner, kind, status FROM backfill.event ORDER BY id},
	comments => q{SELECT e.objid::regclass, p.objsubid, p.description FROM pg_depend e JOIN pg_description p ON p.objoid = e.objid AND p.classoid = e.classid
		WHERE e.classid = 'pg_class'::regclass AND e.deptype = 'e' ORDER BY e.objid::regclass::text, 2});
$what{schedules} = q{SELECT jobname, schedule, command, username FROM cron.job} if $cron;
is(sql('SELECT string_agg(DISTINCT status, $$ $$ ORDER BY status) FROM backfill_runs'),
	'completed enqueued failed paused pending running stopped', 'there is a run of every status');
$old->stop;
$old->start;
# the run goes on after a start; what it is then is to come along
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id{running} AND state = 'sleeping'"), 'the server was stopped and started');
my %before;
$old->stop;
{
	# nobody works, so that nothing changes while it is looked at
	$old->append_conf('postgresql.conf', 'max_worker_processes = 0');
	$old->start;
	%before = map { $_ => sql($what{$_}) } keys %what;
	$old->stop;
}

# ---------------------------------------------------------------------------
note 'pg_upgrade';

ok(upgrade_to($old, $new, '--check'), 'pg_upgrade --check finds nothing wrong');
ok(upgrade_to($old, $new), 'pg_upgrade succeeds');
$node = $new;
$new->start;
sql('ALTER EXTENSION pg_cron UPDATE') if $cron;
is(sql($what{$_}), $before{$_}, "$_ are the same") for sort keys %what;
ok(wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('backfill scheduler', 'backfill worker')}),
	'nobody works');
is(sql(q{SELECT string_agg(name, ' ' ORDER BY name) FROM backfill_runs WHERE wait_reason LIKE 'belongs to another database or server%'}),
	'after enqueued paused pending running', 'the active runs say why they wait');

# ---------------------------------------------------------------------------
note 'and afterwards';

sql("SELECT backfill_alter($id{$_}, '{\"sleep\": 0}')") for qw(stopped paused running after);
sql("SELECT backfill_resume($id{$_})") for grep { $_ ne 'completed' } @tables;
foreach my $table (grep { $_ ne 'pending' } @tables)
{
	ok(wait_for_status($node, $id{$table}, 'completed', through_end => 1), "$table: resumed, it is completed");
	is(sql("SELECT count(*) FILTER (WHERE n = 1), count(*) FROM $table"), '40|40', "$table: every row was processed exactly once over the upgrade");
}
is(run_value($node, $id{pending}, 'status, start_at > now()'), 'pending|t', 'a run whose time has not come waits for it');
ok(wait_for($node, q{SELECT count(*) = 7 FROM "Her own".log}), 'hooks are called') or diag(sql('TABLE "Her own".log'));
sql(q{SELECT backfill_off('after run completed', '"Her own"."Hook 1"', 'completed'), backfill_off('before run completed', 'each_run')});
sql(q{SELECT backfill_on('after run completed', '"Her own"."Hook 1"', 'completed')});
is(sql('SELECT count(*) FROM backfill_hooks'), '8', 'and added and taken away');
my $next = sql(q{SELECT backfill_start('completed')});
is($next, (sort { $b <=> $a } values %id)[0] + 1, 'runs are numbered on');
ok(wait_for_status($node, $next, 'completed'), 'a definition runs');
is(sql(q{SELECT backfill_unschedule('completed')}), 't', 'a schedule is removed') if $cron;

# What pg_upgrade refuses, so that it is seen here first.
is(sql(q{SELECT string_agg(c.oid::regclass || '.' || attname, ' ') FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
	JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
	WHERE relkind IN ('r', 'm', 'i') AND attnum > 0 AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'backfill')
	AND atttypid::regtype::text ~ '^reg' AND atttypid::regtype::text NOT IN ('regclass', 'regtype', 'regrole')}), '',
	'no table has a column of a type for OIDs that pg_upgrade does not keep');
$new->stop;
done_testing();
