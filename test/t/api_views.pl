# The views: live workers, progress of runs, batches, activity, and what there
# is where the library was not preloaded.

use strict;
use warnings;
use BackfillTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('views');
my $version = query_ok($node, 'SHOW server_version_num');

sub sql { return query_ok($node, $_[0]); }
sub value { return run_value($node, @_); }

create_target($node, 't', 400);
$node->safe_psql('postgres', q{
	CREATE FUNCTION gate(int) RETURNS int LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_advisory_xact_lock_shared($1); RETURN 1; END $$});
define_increment($node, 't', '{"batch_size": 20, "target_batch_time": 0, "workers": 2, "sleep": "200 ms", "lock_timeout": "off"}',
	statement => 'UPDATE batch SET n = n + g.g FROM (SELECT gate(7) AS g) g -- the statement');

# ---------------------------------------------------------------------------
note 'a run with batches in hand';

my $gate = session($node);
$gate->query('SELECT pg_advisory_lock(7)');
my $id = start_run($node, 't');
ok(wait_for($node, "SELECT count(*) = 2 FROM backfill_workers WHERE run_id = $id AND state = 'running'"),
	'two workers are running');
is(sql(q{SELECT count(DISTINCT worker), count(DISTINCT pid), count(DISTINCT batch), min(batch), max(batch), min(attempt),
		max(attempt), bool_and(started_at <= state_since), bool_and(owner::text = current_user), sum(batches), sum(rows_scanned),
		sum(rows_affected) FROM backfill_workers}),
	'2|2|2|1|2|1|1|t|t|0|0|0', 'backfill_workers tells each with its batch');
is(sql(q{SELECT count(*), bool_and(a.backend_type = 'backfill worker'), bool_and(a.usename = current_user),
		bool_and(a.application_name = 'backfill run ' || run_id),
		bool_and(a.query LIKE 'UPDATE batch SET n = n + g.g%-- the statement'), bool_and(a.state = 'active')
	  FROM backfill_workers w JOIN pg_stat_activity a USING (pid)}),
	'2|t|t|t|t|t', 'pg_stat_activity shows them with the number of the run and the statement');
is(value($id, 'status, workers, rows_scanned, rows_affected, batches, progress, finished_at IS NULL, started_at IS NOT NULL'),
	'running|2|0|0|0|0.00|t|t', 'backfill_runs shows a run that has begun');
is(value($id, 'rows_total'), '400', 'with the estimate of its rows');
is(value($id, 'batch_size, throttled_by IS NULL, throttled_since IS NULL, throttle_times, yields'), '20|t|t|{}|0',
	'with the size of its batches; nothing slows it down');
is(sql("SELECT number, status, attempt, rows_scanned, rows_affected IS NULL, pid IN (SELECT pid FROM backfill_workers),
		finished_at IS NULL FROM backfill_batches WHERE run_id = $id ORDER BY number"),
	"1|running|1|20|t|t|t\n2|running|1|20|t|t|t", 'backfill_batches shows what is in hand');
is(sql("SELECT key_range, start_key, end_key, start_inclusive FROM backfill_batches WHERE run_id = $id ORDER BY number"),
	"[10 .. 200]|{10}|{200}|t\n(200 .. 400]|{200}|{400}|f", 'with its range');
$gate->query('SELECT pg_advisory_unlock(7)');

# ---------------------------------------------------------------------------
note 'a run that moves';

ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'"),
	'a worker sleeps between two batches');
ok(wait_for($node, "SELECT rate ~ '^[1-9][0-9,]*/s\$' AND progress ~ '^\\[#*-+\\] +\\d+\\.\\d\\d %\$' FROM backfill_active WHERE id = $id"),
	'backfill_active shows how it moves');
if ($version >= 170000)
{
	ok(wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'backfill worker'
		AND wait_event_type = 'Extension' AND wait_event = 'BackfillSleep'}), 'its wait event has a name');
}

# One snapshot after the other until the end: nothing goes back.
my @seen;
for (;;)
{
	my $row = value($id, q{status, progress, rows_scanned, rows_affected, batches, rows_per_second, extract(epoch FROM eta)});
	push @seen, [ split /\|/, $row, -1 ];
	last if $seen[-1][0] ne 'running';
	sql('SELECT pg_sleep(0.05)');
}
is($seen[-1][0], 'completed', 'the run completes');
cmp_ok(scalar(@seen), '>=', 4, 'it was seen at several points of its way');
my %back;
for my $i (1 .. $#seen)
{
	for my $column (1 .. 4)
	{
		$back{$column}++ if $seen[$i][$column] < $seen[ $i - 1 ][$column];
	}
}
is(join(',', keys %back), '', 'progress, rows_scanned, rows_affected and batches never go back');
is(scalar(grep { $_->[0] eq 'running' && $_->[1] >= 100 } @seen), 0, 'a run that is running is never at 100 %');
my @with_eta = grep { $_->[6] ne '' } @seen;
cmp_ok(scalar(@with_eta), '>', 0, 'an estimate of the time left is shown');
is(scalar(grep { $_->[5] eq '' || $_->[5] <= 0 || $_->[6] < 0 } @with_eta), 0, 'with a rate, and never negative');
is(join('|', @{ $seen[-1] }[ 1 .. 4 ]), '100.00|400|400|20', 'at the end everything is counted');
is(value($id, 'eta IS NULL, workers, rows_per_second > 0, finished_at > started_at, wait_reason IS NULL, wal_bytes > 0'),
	't|0|t|t|t|t', 'a completed run has an average rate and an end');
is(sql("SELECT count(*), count(DISTINCT pid), bool_and(status = 'completed' AND duration >= '0' AND wal_bytes > 0
		AND started_at <= finished_at AND error IS NULL) FROM backfill_batches WHERE run_id = $id"),
	'20|2|t', 'so have its batches');
check_exactly_once($node, $id, 't', 400, 'exactly once');
ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill_workers'), 'no worker stays');

# ---------------------------------------------------------------------------
note 'the end of a run';

# The estimate is too high by far: what is done is less than half of it.
$gate->query('SELECT pg_advisory_lock(9), pg_advisory_lock(11)');
$node->safe_psql('postgres', q{
	CREATE TABLE shrunk(id bigint PRIMARY KEY, n int DEFAULT 0) WITH (autovacuum_enabled = off);
	INSERT INTO shrunk SELECT i FROM generate_series(1, 1000) i;
	ANALYZE shrunk;
	DELETE FROM shrunk WHERE id > 400;
	CREATE TABLE done (step text)});
$node->safe_psql('postgres', q{SELECT backfill_define('shrunk', 'shrunk', 'UPDATE batch SET n = n + 1', scope => 'n = 0 OR gate(11) = 0',
	settings => '{"batch_size": 100, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off", "verify": true}',
	finish => $f$INSERT INTO done VALUES ('one'); -- now it takes time
		/* so */ SELECT gate(9),
			'äöü' AS "the second of the statements, with a text that is too long to be shown in full";
		SELECT 1 / count(*) FROM done WHERE step = 'mended'$f$)});
$id = start_run($node, 'shrunk');
my $line = q{id, name, target, status, progress, eta, held_by};
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'verifying'"), 'the rows are counted');
is(value($id, 'wait_reason, progress, eta IS NULL'), 'verifying: counts the rows that are still in scope|99.99|t', 'which shows');
is(sql('SELECT held_by FROM backfill_active'), 'verifying', 'also in short');
$gate->query('SELECT pg_advisory_unlock(11)');
ok(wait_for($node, "SELECT wait_reason LIKE 'finishing 2/3: %' FROM backfill_runs WHERE id = $id"), 'the last step is under way');
is(value($id, 'wait_reason'), q{finishing 2/3: SELECT gate(9), 'äöü' AS "the second of the statements, with a text that i...},
	'wait_reason says which statement of how many, in one line');
is(value($id, 'status, progress, eta IS NULL, rows_scanned, rows_total'), 'running|99.99|t|400|400',
	'progress says that every batch is done, whatever was estimated');
is(sql("SELECT $line FROM backfill_active"), "$id|shrunk|shrunk|running|[#########-]  99.99 %||finishing 2/3: SELECT gate(9)...",
	'so does backfill_active, in short');
is(sql("SELECT state FROM backfill_workers WHERE run_id = $id"), 'finishing', 'and the worker');
$gate->query('SELECT pg_advisory_unlock(9)');
ok(wait_for_status($node, $id, 'failed'), 'the third statement fails');
is(value($id, 'progress, wait_reason IS NULL, error'), '99.99|t|division by zero', 'a run that failed at its end had all of its batches');
is(sql('SELECT count(*) FROM backfill_active'), 0, 'it is not active');

$node->safe_psql('postgres', "INSERT INTO done VALUES ('mended')");
$node->safe_psql('postgres', "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'resumed, the first completes');
is(value($id, 'progress, wait_reason IS NULL, rows_total'), '100.00|t|400', 'with all of its rows');

# ---------------------------------------------------------------------------
note 'what is active';

sql(q{SELECT backfill_define('a_rather_long_name_of_a_definition', 't', 'UPDATE batch SET n = n')});
my $later = sql(q{SELECT backfill_start('a_rather_long_name_of_a_definition', start_at => now() + interval '1 day')});
my $after = sql(qq{SELECT backfill_start('shrunk', "after" => ARRAY[$later])});
is(sql("SELECT id, name, status, progress, rate, eta, held_by FROM backfill_active"),
	"$later|a_rather_long_name_of_a_definition|pending|[----------]   0.00 %|||\n"
	. "$after|shrunk|pending|[----------]   0.00 %|||" . (value($after, 'wait_reason') =~ s/^(.{29}).{4,}/$1.../sr),
	'runs that wait are active, with what holds them');
is(sql("SET ROLE pg_database_owner; SELECT count(*) FROM backfill_active"), 0, 'who has no rights sees none');
is(sql("SET ROLE pg_monitor; SELECT count(*) FROM backfill_active"), 2, 'a monitor sees them');
sql("SELECT backfill_stop($_); SELECT backfill_delete($_)") foreach $after, $later;
sql(q{SELECT backfill_drop('a_rather_long_name_of_a_definition')});
is(sql(q{SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'backfill_runs'::regclass AND attnum BETWEEN 1 AND 13}),
	'id name status progress rows_scanned rows_total rows_affected rows_per_second eta wait_reason throttled_by error errors',
	'backfill_runs begins with what people read first');
is(sql(q{SELECT attname FROM pg_attribute WHERE attrelid = 'backfill_runs'::regclass AND attnum > 0 ORDER BY attnum DESC LIMIT 1}), 'settings', 'and ends with texts');

# ---------------------------------------------------------------------------
note 'the statistics';

ok(wait_for($node, q{SELECT n_tup_upd >= 400 FROM pg_stat_user_tables WHERE relname = 't'}),
	'autovacuum is told of the rows that were updated');

# An estimate that is too low does not take progress beyond the end.
sql('UPDATE t SET n = 0');
$node->safe_psql('postgres', q{
	CREATE TABLE grown(id bigint PRIMARY KEY, n int DEFAULT 0) WITH (autovacuum_enabled = off);
	INSERT INTO grown SELECT i FROM generate_series(1, 10) i;
	ANALYZE grown;
	INSERT INTO grown SELECT i FROM generate_series(11, 400) i});
define_increment($node, 'grown', '{"batch_size": 100, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off"}',
	statement => 'UPDATE batch SET n = n + g.g FROM (SELECT gate(8) AS g FROM batch WHERE id = 400) g');
$node->safe_psql('postgres', q{UPDATE pg_class SET reltuples = 10, relpages = 1 WHERE relname = 'grown'});
$gate->query('SELECT pg_advisory_lock(8)');
$id = start_run($node, 'grown');
ok(wait_for($node, "SELECT batches = 3 FROM backfill_runs WHERE id = $id"), 'a run beyond its estimate');
cmp_ok(value($id, 'progress'), '<=', 99.99, 'its progress stays below 100 %');
is(value($id, q{coalesce(eta, '0') >= '0'}), 't', 'its time left is not negative');
$gate->query('SELECT pg_advisory_unlock(8)');
ok(wait_for_status($node, $id, 'completed'), 'it completes');
$gate->quit;

# An empty table.
create_target($node, 'nothing', 0);
define_increment($node, 'nothing', '{}');
$id = start_run($node, 'nothing');
ok(wait_for_status($node, $id, 'completed'), 'a run over an empty table');
is(value($id, 'progress, rows_total, rows_scanned, rows_affected, batches'), '100.00|0|0|0|0', 'is complete with nothing');

# backfill_settings
is(sql(q{SELECT string_agg(name, ' ' ORDER BY name) FROM backfill_settings
		  WHERE name IN ('batch_size', 'sleep', 'workers', 'lock_timeout', 'statement_timeout', 'direction', 'from', 'to',
			'limit', 'synchronous_commit')}),
	'batch_size direction from limit lock_timeout sleep statement_timeout synchronous_commit to workers',
	'backfill_settings lists the settings');
is(sql(q{SELECT string_agg("default", ' ' ORDER BY name) FROM backfill_settings
		  WHERE name IN ('batch_size', 'sleep', 'workers', 'lock_timeout')}), '1000 2s 10ms 1', 'with their defaults');

# ---------------------------------------------------------------------------
note 'notes, and the way to the latest batches';

create_target($node, 'noted', 100);
define_increment($node, 'noted', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');
$id = (split(/\n/, sql(q{SET backfill.note = 'ticket 4711'; SELECT backfill_start('noted')})))[-1];
ok(wait_for_status($node, $id, 'completed'), 'a run that was started with a note');
is(value($id, 'note'), 'ticket 4711', 'the run has it');
is(sql("SELECT reason FROM backfill_events WHERE run_id = $id AND role IS NOT NULL"), 'backfill_start: ticket 4711', 'and so has the event of its start');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND reason LIKE '%4711%'"), 1, 'but none of what the workers did');
is(value($id, 'last_batch'), value($id, 'batches'), 'the number of its last batch');
is(sql("SELECT count(*) FROM backfill_batches b, backfill_runs r
	WHERE r.id = $id AND b.run_id = r.id AND b.number > r.last_batch - 3 AND b.number <= r.last_batch"), 3, 'leads to the latest ones');
sql("SELECT backfill_delete($id)");
sql(q{SELECT backfill_drop('noted')});

# ---------------------------------------------------------------------------
note 'not preloaded';

$node->safe_psql('postgres', q{SELECT backfill_start('t', start_at => now() + interval '1 day')});
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->adjust_conf('postgresql.conf', 'backfill.max_workers', undef);
$node->restart;
is(sql('SELECT count(*) FROM backfill_runs'), '5', 'backfill_runs works');
is(sql('SELECT count(*) FROM backfill_workers'), '0', 'backfill_workers is empty');
cmp_ok(sql('SELECT count(*) FROM backfill_batches'), '>', 20, 'backfill_batches works');
cmp_ok(sql('SELECT count(*) FROM backfill_settings'), '>=', 10, 'backfill_settings works');
is(sql('SELECT count(*) FROM backfill_definitions'), '4', 'backfill_definitions works');
is(sqlstate($node, q{SELECT backfill_define('later', 't', 'UPDATE batch SET n = n')}), '00000', 'a definition can be made');
is(sqlstate($node, q{SELECT backfill_drop('later')}), '00000', 'and dropped');
my $pending = sql('SELECT max(id) FROM backfill_runs');
for my $call ("backfill_start('t')", "backfill_resume($pending)")
{
	my ($rc, $out, $err) = query($node, "SELECT $call", flags => [ '-v', 'VERBOSITY=verbose' ]);

	like($err, qr/55000: backfill must be loaded via "shared_preload_libraries".*HINT:  Add 'backfill'/s,
		"$call says what is missing");
}
is(sqlstate($node, "SELECT backfill_stop($pending)"), '00000', 'a run can be stopped for good');
is(value($pending, 'status'), 'stopped', 'and is');
is(sqlstate($node, "SELECT backfill_delete($pending)"), '00000', 'and deleted');
is(sqlstate($node, 'DROP EXTENSION backfill'), '00000', 'the extension can be dropped');
is(sqlstate($node, 'CREATE EXTENSION backfill'), '00000', 'and created');

$node->stop;
done_testing();
