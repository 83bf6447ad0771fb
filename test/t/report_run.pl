# What runs leave behind for their report: what the statement of a batch took, what
# workers did with their time, and what backfill_report makes of it, also while the
# run goes on, on a standby, and of very many batches.

use strict;
use warnings;

use BackfillTest;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant MB => 1024;		# kB, as in /proc

my $node = make_node('report', streaming => 1, conf => "autovacuum = off\n");
sub sql { return query_ok($node, $_[0]); }

# The report as a document.
sub report
{
	my ($run, %opts) = @_;
	return decode_json(query_ok($opts{on} || $node, "SELECT * FROM backfill_report($run, format => 'json')"));
}

# The codes of its lessons, each once.
sub codes
{
	my ($report) = @_;
	my %codes = map { $_->{code} => 1 } @{ $report->{next_time} };
	return join(' ', sort keys %codes);
}

sub complete
{
	my ($name) = @_;
	my $id = start_run($node, $name);
	wait_for_status($node, $id, 'completed');
	return $id;
}

# ---------------------------------------------------------------------------
note 'what a batch took';

sql(q{
	CREATE TABLE h (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, m int NOT NULL DEFAULT 0) WITH (fillfactor = 40);
	INSERT INTO h SELECT i FROM generate_series(1, 20000) i;
	CREATE INDEX h_m ON h (m);
	CREATE TABLE p (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0) PARTITION BY RANGE (id);
	CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (501) WITH (fillfactor = 40);
	CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (501) TO (2000) WITH (fillfactor = 40);
	INSERT INTO p SELECT i FROM generate_series(1, 1000) i});
sql('VACUUM ANALYZE');
my $sums = 'SELECT sum(rows_updated), sum(hot_updated), bool_and(cpu_time > interval $$0$$ AND cpu_time <= 2 * duration + interval $$20 ms$$),
	count(lock_wait) FROM backfill_batches WHERE run_id =';

define_increment($node, 'hot', '{"batch_size": 500, "target_batch_time": 0, "sleep": "20 ms"}', target => 'h', statement => 'UPDATE batch SET n = n + 1');
my $hot = complete('hot');
is(sql("$sums $hot"), '20000|20000|t|0', 'updates are counted, HOT ones and the time on a processor');
define_increment($node, 'cold', '{"batch_size": 500, "target_batch_time": 0}', target => 'h', statement => 'UPDATE batch SET m = m + 1');
my $cold = complete('cold');
is(sql("$sums $cold"), '20000|0|t|0', 'of a column with an index none is HOT');
define_increment($node, 'parted', '{"batch_size": 100, "target_batch_time": 0}', target => 'p', statement => 'UPDATE batch SET n = n + 1');
my $parted = complete('parted');
is(sql("$sums $parted"), '1000|1000|t|0', 'in partitions, too');

# all visible, so that the search for the ranges leaves the pages to the statement
sql('VACUUM h');
sql('CHECKPOINT');
define_increment($node, 'again', '{"batch_size": 500, "target_batch_time": 0}', target => 'h', statement => 'UPDATE batch SET n = n + 1');
my $again = complete('again');
cmp_ok(sql("SELECT coalesce(sum(full_pages), 0) FROM backfill_batches WHERE run_id = $again"), '>', 100, 'after a checkpoint there are whole pages in the WAL');
sql('VACUUM h');
$node->restart;
my $read = complete('hot');
cmp_ok(sql("SELECT coalesce(sum(blocks_read), 0) FROM backfill_batches WHERE run_id = $read"), '>', 100, 'after a restart blocks are read');

my $r = report($hot);
is("$r->{updated} $r->{hot_fraction}", '20000 1', 'the report has the share of HOT updates');
unlike(codes($r), qr/low_hot/, 'which is no matter');
$r = report($cold);
is($r->{hot_fraction} + 0, 0, 'or there is none');
like(codes($r), qr/low_hot/, 'which is');

# streams have batches of their own
sql(q{SELECT backfill_define('streamed', 'p', 'UPDATE batch SET n = n + 1', streams => 'partitions', settings => '{"batch_size": 100, "target_batch_time": 0}')});
my $streamed = complete('streamed');
$r = report($streamed);
is("$r->{updated} $r->{batches}{completed} $r->{rows}{walked}", '1000 ' . sql("SELECT count(*) FROM backfill_batches WHERE run_id = $streamed") . ' 1000',
	'the report adds up the batches of all streams');
is(join(' ', sort keys %{ { map { $_->{stream} => 1 } @{ $r->{slowest} } } }), sql("SELECT string_agg(DISTINCT stream, ' ' ORDER BY stream) FROM backfill_batches WHERE run_id = $streamed"),
	'and names the stream of a batch');
like(sql("SELECT * FROM backfill_report($streamed)"), qr/^  \S+ m?s: \d+ rows, batch \d+ of stream \S*p[12] /m, 'in the text, too');

# ---------------------------------------------------------------------------
note 'what workers did with their time';

my %times = %{ decode_json(run_value($node, $hot, 'worker_times')) };
my $statements = sql("SELECT extract(epoch FROM sum(duration)) FROM backfill_batches WHERE run_id = $hot");
cmp_ok($times{running} + 0.1, '>=', $statements, 'they were running for as long as their statements took, or longer');
cmp_ok($times{sleeping}, '>=', 0.75, 'and slept 39 times at least 20 ms');
my $all = 0;
$all += $_ foreach values %times;
my $elapsed = run_value($node, $hot, 'extract(epoch FROM finished_at - created_at)');
cmp_ok($all, '<=', $elapsed + 0.5, 'one worker, no longer than the run took');
is_deeply(report($hot)->{time}{workers}, \%times, 'the report has it');
is(join(' ', sort keys %{ report($hot)->{time}{statuses} }), 'enqueued running', 'and how long it had each status');

# ---------------------------------------------------------------------------
note 'a run with trouble, looked at while it goes on';

create_target($node, 't', 200);
create_step($node);
define_increment($node, 't', '{"batch_size": 20, "target_batch_time": 0, "on_error": "skip", "max_error_rate": 1, "yield_after": "off", "retry_delay": "1 ms", "lock_timeout": 0}',
	statement => 'UPDATE batch SET n = n + step(id)');
sql(q{INSERT INTO behave VALUES (110, 'fail'), (450, 'fail'), (900, 'once'), (10, 'gate'), (1850, 'gate')});
my $id = start_run($node, 't');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'running'"), 'a run is at its first batch');
my $holder = session($node);
$holder->query('BEGIN');
$holder->query('UPDATE t SET f = 1 WHERE id = 1210');
sql('DELETE FROM behave WHERE id = 10');
ok(wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity a JOIN backfill_workers w USING (pid) WHERE w.run_id = $id AND a.wait_event_type = 'Lock'
	AND now() - a.query_start > interval '300 ms'"), 'a batch waits for a lock for a while');
$holder->query('COMMIT');
$holder->quit;
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND batch = 10 AND state = 'running'"), 'and the last one at a gate');
$r = report($id);
is("$r->{status} $r->{ended}", 'running 0', 'the report of a run that goes on says so');
is($r->{finished_at}, undef, 'with no end');
cmp_ok($r->{batches}{completed}, '>=', 9, 'but with what it has done');
cmp_ok($r->{rows}{walked}, '<', 200, 'so far');
sql('DELETE FROM behave WHERE id = 1850');
ok(wait_for_status($node, $id, 'completed'), 'it ends');
$r = report($id);
is("$r->{status} $r->{ended} $r->{rows}{walked} $r->{rows}{left_out}", 'completed 1 198 2', 'and so does the report');
is_deeply([ map { "$_->{sqlstate} $_->{left_out} $_->{resolved}" } @{ $r->{errors} } ], ['22000 2 0'], 'rows left out, by SQLSTATE');
is_deeply([ map { "$_->{sqlstate} $_->{times}" } @{ $r->{retries} } ], ['40001 1'], 'and what was put aside');
cmp_ok($r->{batches}{wasted_attempts}, '>=', 1, 'attempts for nothing are counted');
my ($waited) = grep { $_->{number} == 7 } @{ $r->{slowest} };
like($waited->{why} || '', qr/^waited .* for locks/, 'the batch that waited for the lock says so');
cmp_ok($waited->{lock_seconds}, '>=', 0.15, 'for how long');
like(codes($r), qr/errors/, 'a lesson is about the errors');
create_target($node, 'calls', 100);
define_increment($node, 'calls', '{"batch_size": 20, "target_batch_time": 0}',
	statement => 'UPDATE batch SET n = n + CASE WHEN id = 500 THEN (SELECT 1 FROM pg_sleep(0.3)) ELSE 1 END');
my ($called) = @{ report(complete('calls'))->{slowest} };
like("$called->{number} $called->{why}", qr/^3 was on a processor for .*, or for what it called/, 'a batch that waited for something outside says that it may have');
my $text = sql("SELECT * FROM backfill_report($id)");
like($text, qr/^Report of run $id of t on t\n  Status: completed\n/, 'the text begins with its name');
like($text, qr/^  Rows with SQLSTATE 22000: 2 left out, 0 resolved, 0 of them repaired, such as: row \d+ is bad$/m, 'and has the same');
is(join('|', grep { /\s$/ } split(/\n/, $text)), '', 'no line ends in blanks');
my $charts = join('|', grep { /^    / && length > 80 } split(/\n/, $text));
is($charts, '', 'charts fit 80 columns');

# ---------------------------------------------------------------------------
note 'a missing index';

sql(q{CREATE TABLE lookup AS SELECT i::bigint AS code, i AS value, repeat('x', 50) AS filler FROM generate_series(1, 100000) i});
sql('VACUUM ANALYZE lookup');
define_increment($node, 'joined', '{"batch_size": 10, "target_batch_time": 0, "limit": 100}', target => 'h',
	statement => 'UPDATE batch SET n = value FROM lookup WHERE code = batch.id');
my $joined = complete('joined');
$r = report($joined);
my ($scan) = grep { $_->{code} eq 'sequential_scan' } @{ $r->{next_time} };
ok($scan, 'a lesson is about the table that each batch has read') or diag(codes($r));
is($scan->{table}, 'lookup', 'which it names');
like($scan->{message}, qr/^as planned today, each batch reads all of table lookup/, 'as it would be today');
like($scan->{hint}, qr/^Create an index on table lookup: the statement looks for its rows by code/, 'with the index that is missing');
sql('CREATE ROLE watcher IN ROLE pg_monitor');
my $seen = decode_json(sql("SET ROLE watcher; SELECT * FROM backfill_report($joined, format => 'json')"));
is($seen->{rows}{walked}, 100, 'who monitors may see the report');
unlike(codes($seen), qr/sequential_scan/, 'but plans nothing of the owner\'s');
sql(q{SELECT backfill_define('joined', 'h', 'UPDATE batch SET n = value + 1 FROM lookup WHERE code = batch.id')});
unlike(codes(report($joined)), qr/sequential_scan/, 'nor is it said of a definition that is another one now');
sql('DROP TABLE lookup');
ok(report($joined)->{run} == $joined, 'that it cannot be planned any more is no error');

# ---------------------------------------------------------------------------
note 'work of clients';

sql(q{SELECT backfill_define('outside', 't', NULL, settings => '{"batch_size": 100}')});
my $outside = start_run($node, 'outside');
ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $outside AND status = 'pending'"), 'there is work');
sql("SELECT backfill_complete($outside, c.number, c.part, c.token) FROM (SELECT * FROM backfill_claim($outside, 'sender 1', '1 min', 2)) c WHERE c.token IS NOT NULL");
ok(wait_for_status($node, $outside, 'completed'), 'which a client has done');
$r = report($outside);
is("$r->{batches}{by_clients} " . ($r->{time}{processor} + 0), '2 0', 'the report tells its batches apart');
is_deeply([ map { $_->{why} =~ /^(was in the hands of client sender 1)/ ? $1 : $_->{why} } @{ $r->{slowest} } ],
	[ ('was in the hands of client sender 1') x 2 ], 'and who had them');

# ---------------------------------------------------------------------------
note 'on a standby';

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('report_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is_deeply(report($hot, on => $standby), report($hot), 'a standby says the same');
is(query_ok($standby, 'SELECT count(*) FROM pg_stat_progress_backfill'), '0', 'and no run is at work there');
$standby->stop('immediate');

# ---------------------------------------------------------------------------
note 'very many batches';

my $many = full_length() ? 1_000_000 : 50_000;
sql(qq{INSERT INTO backfill.batch (run_id, number, start_key, end_key, start_inclusive, status, rows_scanned, rows_affected, duration, cpu_time, wal_bytes, started_at, finished_at)
	SELECT $joined, i + 1000, ARRAY[i::text], ARRAY[(i + 1)::text], false, 'completed', 1 + i % 2000, 1, (1 + i % 977) * interval '1 ms', interval '1 ms', 10,
		   r.started_at, r.started_at + i * (r.finished_at - r.started_at) / $many
	  FROM generate_series(1, $many) i, backfill_runs r WHERE r.id = $joined});
sql('ANALYZE backfill.batch');
my $memory = sub {
	my ($pid) = @_;
	my ($anon) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
	return $anon;
};
my $session = session($node);
my $pid = $session->query('SELECT pg_backend_pid()');
$session->query("SELECT count(*) FROM backfill_report($hot)");
my $before = $memory->($pid);
my $temp = sql('SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()');
cmp_ok($session->query("SELECT count(*) FROM backfill_report($joined)"), '<=', 120, 'the report of very many batches is no longer than others');
cmp_ok($memory->($pid) - $before, '<', 8 * MB, 'and takes no more memory');
$session->quit;
is(sql('SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()'), $temp, 'nor the disk');
$r = report($joined);
my $n = 0;
$n += $_->{batches} foreach @{ $r->{batches}{by_seconds} };
is($n, $many + 10, 'it has counted all of them');
$n = 0;
$n += $_->{batches} foreach @{ $r->{batches}{over_time} };
is($n, $many + 10, 'along each axis');
is(scalar @{ $r->{slowest} }, 10, 'ten are shown');
is(join(' ', map { $_->{number} } @{ $r->{slowest} }),
	sql("SELECT string_agg(number::text, ' ' ORDER BY duration DESC, number) FROM (SELECT * FROM backfill_batches WHERE run_id = $joined ORDER BY duration DESC, number LIMIT 10) b"),
	'which are the slowest');

$node->stop;
done_testing();
