# The view backfill_metrics: what is counted, by workers and by clients, is what was
# committed, and never goes down; how things stand; and who sees it.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Claims;
use BackfillTest::Metrics;
use BackfillTest::OneNode;
use Test::More;

one_node('main');
create_step($node);

# What the table of batches says, as metrics_of does.
sub batches_of
{
	my ($definition) = @_;
	return sql("SELECT sum(b.rows_affected) || ' ' || count(*) || ' ' || sum(b.wal_bytes)
		FROM backfill_batches b JOIN backfill_runs r ON r.id = b.run_id
		WHERE r.name = '$definition' AND b.status = 'completed'");
}

is(sql('SELECT string_agg(name || labels || value, E\'\n\') FROM backfill_metrics'),
	"backfill_uncounted_batches_total{\"database\": \"postgres\"}0\nbackfill_hidden_definitions{\"database\": \"postgres\"}0",
	'before any run there is nothing by definition');

unlike(sql('EXPLAIN SELECT * FROM backfill_metrics'), qr/ on batch\b| using batch/, 'nor is a batch looked at');

# ---------------------------------------------------------------------------
note 'workers';

create_target($node, 't', 1000);
define_increment($node, 't', '{"batch_size": 20, "target_batch_time": "off", "sleep": 0, "workers": 2}');
my $run = start_run($node, 't');
ok(wait_for_status($node, $run, 'completed'), 'a run');
ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill_workers'), 'whose workers have gone');
is(metrics_of('t'), batches_of('t'), 'rows, batches and WAL are those of its batches');
is(metric('rows_total', 't'), 1000, 'each row once');
is(metric('batch_duration_seconds_count', 't'), 50, 'so many durations');
is(metric('batch_duration_seconds_bucket', 't', le => '+Inf'), 50, 'in the histogram');
is(sql(q{SELECT count(*) || ' ' || bool_and(value >= before) FROM (
		SELECT value, lag(value, 1, 0) OVER (ORDER BY (labels ->> 'le')::float8) AS before FROM backfill_metrics
		 WHERE name = 'backfill_batch_duration_seconds_bucket') b}), '17 true', 'whose buckets add up');
is(sql(q{SELECT bool_and(m.value = b.n) FROM backfill_metrics m CROSS JOIN LATERAL (
		SELECT count(*) AS n FROM backfill_batches WHERE duration <= make_interval(secs => least((m.labels ->> 'le')::float8, 1e6))) b
		 WHERE m.name = 'backfill_batch_duration_seconds_bucket'}), 't', 'to what the durations of the batches say');
is(sql(q{SELECT abs(value - (SELECT extract(epoch FROM sum(duration)) FROM backfill_batches)) < 0.001
		FROM backfill_metrics WHERE name = 'backfill_batch_duration_seconds_sum'}), 't', 'and so does their sum');
is(metric('run_progress_ratio', 't'), 1, 'the run is done');

my $counted = metrics_of('t');
sql("SELECT backfill_delete($run)");
is(metrics_of('t'), $counted, 'to delete the run does not take the counters down');
is(metric('run_progress_ratio', 't'), '', 'there is no progress without a run');
$run = start_run($node, 't');
ok(wait_for_status($node, $run, 'completed'), 'another run');
is(metric('rows_total', 't'), 2000, 'adds to them');

# ---------------------------------------------------------------------------
note 'what is rolled back';

create_target($node, 'bad', 100);
define_increment($node, 'bad', '{"batch_size": 10, "target_batch_time": "off", "sleep": 0, "on_error": "skip", "max_errors": 10}',
	statement => 'UPDATE batch SET n = n + step(id)');
sql(q{INSERT INTO behave VALUES (150, 'fail'), (990, 'fail')});
$run = start_run($node, 'bad');
ok(wait_for_status($node, $run, 'completed'), 'a run that skips two rows');
is(metric('rows_total', 'bad'), 98, 'they are not counted');
is(metrics_of('bad'), batches_of('bad'), 'nor is what was rolled back for them');
is(metric('errors', 'bad'), 2, 'they are errors');
sql('DELETE FROM behave');
sql("SELECT backfill_retry($run)");
ok(wait_for_status($node, $run, 'completed'), 'they are tried again');
is(metric('errors', 'bad'), 0, 'and are none any more');
is(metric('rows_total', 'bad'), 100, 'but rows');

# ---------------------------------------------------------------------------
note 'clients';

my $client = client();
create_target($node, 'c', 300);
define_claims('c', '{"batch_size": 10}');
$run = start_claims('c');
is(metrics_of('c'), '0 0 0', 'the counters of a run that has begun are there');
is(metric('workers', 'c'), 1, 'it has a worker');
my ($batch) = claim_batch($client, $run);
ask($client, 'BEGIN;' . change($batch, 'c') . ';' . complete($batch) . '; ROLLBACK');
is(metrics_of('c'), '0 0 0', 'a batch that is rolled back is not counted');
ask($client, 'BEGIN; SAVEPOINT s;' . change($batch, 'c') . ';' . complete($batch) . '; ROLLBACK TO s; COMMIT');
is(metrics_of('c'), '0 0 0', 'nor is one whose savepoint is');
ask($client, 'BEGIN; SAVEPOINT s;' . change($batch, 'c') . ';' . complete($batch) . '; RELEASE s');
is(metrics_of('c'), '0 0 0', 'nor before the commit');
ask($client, 'COMMIT');
is(metrics_of('c'), batches_of('c'), 'it is with the commit');
is(metric('rows_total', 'c'), 10, 'with its rows');
is(metric('batch_duration_seconds_count', 'c'), 1, 'and its duration');
change_all($client, $run, 'c', batches => 3);
ok(wait_for_status($node, $run, 'completed'), 'the rest is done');
is(metric('rows_total', 'c'), 300, 'and counted');
is(metrics_of('c'), batches_of('c'), 'as the batches say');

# Batches, rows and durations of the definition that are counted.
sub counted
{
	my ($definition) = @_;
	return join(' ', map { metric($_, $definition) } qw(batches_total rows_total batch_duration_seconds_count));
}

# The SQL that confirms the rows of the batch, or as many as are given.
sub confirm_rows
{
	my ($batch, $limit) = @_;
	my $table = sql("SELECT target FROM backfill_runs WHERE id = $batch->{run}");
	return "SELECT backfill_confirm($batch->{run}, '$batch->{token}',
		ARRAY(SELECT id::text FROM $table AS batch WHERE $batch->{condition} ORDER BY id " . ($limit || '') . '))';
}

sql('CREATE TABLE letter (id int PRIMARY KEY); INSERT INTO letter SELECT generate_series(1, 20); ANALYZE letter');
define_claims('letter', '{"ledger": true, "batch_size": 10}');
$run = start_claims('letter');
my ($first, $second) = (claim_batch($client, $run), claim_batch($client, $run));
ask($client, confirm_rows($first));
ask($client, complete($first));
ask($client, confirm_rows($second, 'LIMIT 1'));
ask($client, complete($second));
is(sql("SELECT string_agg(status, ' ' ORDER BY number) FROM backfill_batches WHERE run_id = $run"), 'completed unconfirmed',
	'of two batches with a ledger one is unconfirmed');
is(counted('letter'), '1 10 1', 'the other one is counted');
sql("BEGIN; SELECT backfill_settle($run, ARRAY(SELECT key[1] FROM backfill_unconfirmed WHERE run_id = $run), true); ROLLBACK");
is(counted('letter'), '1 10 1', 'to settle it counts nothing when it is rolled back');
sql("SELECT backfill_settle($run, ARRAY(SELECT key[1] FROM backfill_unconfirmed WHERE run_id = $run LIMIT 4), true)");
is(counted('letter'), '1 10 1', 'nor for a part of it');
sql("SELECT backfill_settle($run, ARRAY(SELECT key[1] FROM backfill_unconfirmed WHERE run_id = $run), true)");
is(counted('letter'), '2 20 2', 'when a person has said that all of it was done, it counts');
ok(wait_for_status($node, $run, 'completed'), 'the run is done');
is(metrics_of('letter'), batches_of('letter'), 'as the batches say');

# Batches that are done though no client has completed them.
sql('CREATE TABLE card (id int PRIMARY KEY); INSERT INTO card SELECT generate_series(1, 50); ANALYZE card');
define_claims('card', '{"ledger": true, "batch_size": 10}');
$run = start_claims('card');
my $lost = client();
my ($late, $given_up, $left, $again) =
  ((map { (claim_batch($client, $run))[0] } 1 .. 2), (claim_batch($lost, $run, lease => "'session'"))[0], (claim_batch($client, $run))[0]);
ask($client, confirm_rows($late, 'LIMIT 9'));
ask($client, complete($late));
is(counted('card'), '0 0 0', 'a batch of which a row is not confirmed');
ask($client, confirm_rows($late));
is(counted('card'), '1 10 1', 'counts when the last one is');
ask($client, confirm_rows($given_up));
ask($client, 'SELECT backfill_fail(' . batch_of($given_up) . ", 'too late')");
is(counted('card'), '2 20 1', 'one that a client has failed with, and all of it was confirmed, counts, without a duration');
ask($lost, confirm_rows($left));
$lost->quit;
ok(wait_for($node, "SELECT status = 'completed' FROM backfill_batches WHERE run_id = $run AND number = $left->{number}"), 'what a client that is lost has confirmed is done');
ok(wait_for($node, q{SELECT value = 3 FROM backfill_metrics WHERE name = 'backfill_batches_total' AND labels ->> 'definition' = 'card'}), 'and counts');
ask($client, confirm_rows($again, 'LIMIT 5'));
ask($client, 'SELECT backfill_fail(' . batch_of($again) . ", 'half of it')");
sql("SELECT backfill_settle($run, ARRAY(SELECT key[1] FROM backfill_unconfirmed WHERE run_id = $run), false)");
is(counted('card'), '3 30 1', 'what was released does not');
foreach (1 .. 2)
{
	my ($rest) = claim_batch($client, $run);
	ask($client, confirm_rows($rest));
	ask($client, complete($rest));
}
ok(wait_for_status($node, $run, 'completed'), 'it is claimed once more');
is(counted('card'), '5 50 3', 'each batch is counted once, each row once');
is(metric('batch_duration_seconds_bucket', 'card', le => '+Inf'), 3, 'the histogram has those of which the duration is known');
is(metrics_of('card'), batches_of('card'), 'as the batches say');

# ---------------------------------------------------------------------------
note 'how things stand';

# The open runs of a definition, by status.
sub open_runs
{
	my ($definition) = @_;
	return sql("SELECT string_agg(labels ->> 'status' || ':' || value, ' ') FROM backfill_metrics
		WHERE name = 'backfill_open_runs' AND labels ->> 'definition' = '$definition' AND value > 0");
}

create_target($node, 'g', 100);
define_increment($node, 'g', '{"batch_size": 10, "target_batch_time": "off", "sleep": 0, "max_batches": 4}',
	statement => 'UPDATE batch SET n = n + step(id)');
sql(q{INSERT INTO behave VALUES (10, 'gate')});
is(metric('workers', 'g'), '', 'a definition without a run is not there');
my $later = sql(q{SELECT backfill_start('g', start_at => now() + interval '1 day', settings => '{"share_target": true}')});
is(open_runs('g'), 'pending:1', 'a run for tomorrow');
sql("SELECT backfill_stop($later)");
is(open_runs('g'), '', 'is stopped');
$run = start_run($node, 'g');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND state = 'running'"), 'a run at work');
is(open_runs('g') . ' ' . metric('workers', 'g') . ' ' . metric('run_progress_ratio', 'g'), 'running:1 1 0', 'is running, with a worker');
sql('DELETE FROM behave');
ok(wait_for_status($node, $run, 'paused'), 'it pauses itself');
is(open_runs('g') . ' ' . metric('run_progress_ratio', 'g'), 'paused:1 0.4', 'after less than half of its rows');
sql(q{INSERT INTO behave VALUES (800, 'fail')});
sql("SELECT backfill_alter($run, '{\"max_batches\": null}'), backfill_resume($run)");
ok(wait_for_status($node, $run, 'failed'), 'it fails');
is(open_runs('g'), 'failed:1', 'a run that has failed is open');
is(metric('errors', 'g'), 0, 'it has skipped nothing');
sql('DELETE FROM behave');
my $next = sql(q{SELECT backfill_start('g', settings => '{"max_batches": null}')});
ok(wait_for_status($node, $next, 'completed'), 'a later one completes');
is(open_runs('g'), '', 'and makes up for it');
is(metric('run_progress_ratio', 'g'), 1, 'its progress is that of the last run');

# ---------------------------------------------------------------------------
note 'streams';

sql(q{CREATE TABLE parted (id int PRIMARY KEY, n int NOT NULL DEFAULT 0) PARTITION BY RANGE (id)});
sql("CREATE TABLE parted_$_ PARTITION OF parted FOR VALUES FROM (${_}000) TO (${_}999);
	INSERT INTO parted SELECT ${_}000 + i FROM generate_series(1, 100) i; ANALYZE parted_$_") foreach 1 .. 3;
sql(q{INSERT INTO behave VALUES (2050, 'fail'), (3050, 'gate')});
sql(q{SELECT backfill_define('parted', 'parted', 'UPDATE batch SET n = n + step(id)', streams => 'partitions',
	settings => '{"batch_size": 10, "target_batch_time": "off", "sleep": 0, "workers": 2, "on_error": "skip", "max_errors": 5, "lock_timeout": "off"}')});
$run = start_run($node, 'parted');
ok(wait_for($node, q{SELECT count(*) = 2 FROM backfill_streams WHERE status = 'completed'}), 'two streams are done, and one waits');
ok(wait_for($node, q{SELECT value > 0.6 AND value < 0.99 FROM backfill_metrics WHERE name = 'backfill_run_progress_ratio' AND labels ->> 'definition' = 'parted'}),
	'progress is that of the streams');
is(metric('errors', 'parted'), 1, 'a row that was skipped in a stream is an error of the definition');
is(open_runs('parted'), 'running:1', 'of which there is one run');
sql('DELETE FROM behave');
ok(wait_for_status($node, $run, 'completed'), 'it completes');
is(metric('rows_total', 'parted'), 299, 'the rows of all streams are counted together');

# ---------------------------------------------------------------------------
note 'throttled';

create_target($node, 'w', 100);
define_increment($node, 'w', '{"windows": [{"closed": true}]}');
$run = start_run($node, 'w');
ok(wait_for($node, q{SELECT value > 1 FROM backfill_metrics WHERE name = 'backfill_throttled_seconds_total'
	AND labels ->> 'definition' = 'w' AND labels ->> 'reason' = 'window'}), 'a closed window throttles a run');
is(sql(q{SELECT count(*) FROM backfill_metrics WHERE name = 'backfill_throttled_seconds_total' AND labels ->> 'definition' = 'w'}),
	1, 'and nothing else does');
sql("SELECT backfill_pause($run)");
is(sql(qq{SELECT value <= (throttle_times ->> 'window')::float8 + 0.01 AND value > (throttle_times ->> 'window')::float8 - 30
	FROM backfill_metrics, backfill_runs WHERE backfill_metrics.name = 'backfill_throttled_seconds_total' AND labels ->> 'definition' = 'w' AND id = $run}),
	't', 'for as long as throttle_times says, but for the last round');
my $held = metric('throttled_seconds_total', 'w', reason => 'window');
ok(!wait_for($node, "SELECT value > $held FROM backfill_metrics WHERE name = 'backfill_throttled_seconds_total'
	AND labels ->> 'definition' = 'w'", timeout => 3), 'no longer while it is paused') if full_length();
sql(qq{SELECT backfill_alter($run, '{"windows": null, "rate_limit": "20 per second", "batch_size": 5, "target_batch_time": "off"}'), backfill_resume($run)});
ok(wait_for_status($node, $run, 'completed'), 'a rate limit throttles it');
cmp_ok(metric('throttled_seconds_total', 'w', reason => 'rate_limit'), '>', 0, 'which is another reason');
cmp_ok(metric('throttled_seconds_total', 'w', reason => 'window'), '>=', $held, 'beside the first');

# Every word that the governor can say has a place in the list: "other" is for none of them.
my %word = map { $_ => 1 } map { /"(max_\w+|pause_\w+)"/g }
  PostgreSQL::Test::Utils::slurp_file("$BackfillDoc::tree/src/governor/health.c") =~ /(weigh\(health, "\w+")/g;
$word{$_} = 1
  foreach PostgreSQL::Test::Utils::slurp_file("$BackfillDoc::tree/src/governor/governor.c") =~
  /(?:throttle\(\w+, |\[PACE_\w+\] = )"([\w. ]+)"/g;
my $list = PostgreSQL::Test::Utils::slurp_file("$BackfillDoc::tree/src/shared/metrics.c");
cmp_ok(scalar keys %word, '>=', 15, 'the governor has words');
is(join(' ', grep { $list !~ /^\t"\Q$_\E",$/m } sort keys %word), '', 'each of which is a reason here');

# ---------------------------------------------------------------------------
note 'who sees it';

sql(q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE ROLE member LOGIN IN ROLE alice;
	CREATE TABLE hers (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO hers SELECT generate_series(1, 50);
	ALTER TABLE hers OWNER TO alice});
as('alice', q{SELECT backfill_define('hers', 'hers', 'UPDATE batch SET n = 1')});
$run = as('alice', q{SELECT backfill_start('hers')});
ok(wait_for_status($node, $run, 'completed'), 'a run of hers');
is(metric('rows_total', 'hers', role => $_), 50, "$_ sees it") foreach qw(alice member watcher postgres);
my $definitions = q{SELECT string_agg(DISTINCT labels ->> 'definition', ' ') FROM backfill_metrics};
is(as('alice', $definitions), 'hers', 'she sees nothing else');
is(as('bob', $definitions), '', 'he sees nothing');
is(as('bob', 'SELECT string_agg(name, \' \') FROM backfill_metrics'), 'backfill_hidden_definitions', 'nor what is not counted');
is(as('watcher', $definitions), sql($definitions), 'pg_monitor sees all');
sql(q{CREATE DATABASE other});
is(query_ok($node, 'CREATE EXTENSION backfill; ' . $definitions, db => 'other'), '', 'but for other databases');

# ---------------------------------------------------------------------------
note 'a restart, and without the library';

$node->restart;
is(metric('rows_total', 't'), '', 'counters are gone with the server');
$run = sql(q{SELECT backfill_start('g', settings => '{"max_batches": 1}')});
ok(wait_for_status($node, $run, 'paused'), 'a run after that');
is(metrics_of('g'), join(' ', 10, 1, sql("SELECT wal_bytes FROM backfill_runs WHERE id = $run")), 'is counted from zero');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->adjust_conf('postgresql.conf', 'backfill.max_workers', undef);
$node->restart;
is(open_runs('g') . ' ' . metric('run_progress_ratio', 'g') . ' ' . metric('workers', 'g'), 'paused:1 0.1 0', 'without the library, how things stand is there');
is(sql(q{SELECT count(*) FROM backfill_metrics WHERE type <> 'gauge'}), 0, 'and nothing is counted');

$client->quit;
$node->stop;
done_testing();
