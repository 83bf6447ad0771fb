# /metrics, as Prometheus and its tools read it, and who may.

use strict;
use warnings;

use IPC::Run;
use Test::More;
use BackfillTest;
use BackfillTest::Console;

plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('http_metrics');
my $dir = PostgreSQL::Test::Utils::tempdir();

query_ok($node, q{
	SET ROLE alice;
	CREATE TABLE t AS SELECT i AS id, 0 AS n FROM generate_series(1, 1000) i;
	ALTER TABLE t ADD PRIMARY KEY (id);
	SELECT backfill_define('odd "name" \ of' || chr(10) || 'two lines', 't', $$UPDATE batch SET n = n + 1$$, settings => '{"batch_size": 100, "target_batch_time": 0, "sleep": 0}');
	SELECT backfill_start('odd "name" \ of' || chr(10) || 'two lines')});
ok(wait_for_status($node, 1, 'completed'), 'a run');

my $console = start_console($node);
is(get(client($console), '/metrics')->{status}, 404, 'nobody has asked for metrics, so there are none');
stop_console($console);

PostgreSQL::Test::Utils::append_to_file("$dir/token", "a token that nobody guesses\n");
$console = start_console($node, args => [ '--metrics-role', 'postgres', '--metrics-token-file', "$dir/token" ]);
my $client = client($console);
is(get($client, '/metrics')->{status}, 401, 'without the token');
is(get($client, '/metrics', headers => { Authorization => 'Bearer a token that nobody guesse' })->{status}, 401, 'with a wrong one');
is(get($client, '/metrics', headers => { Authorization => 'Bearer a token that nobody guesses' })->{status}, 200, 'with the right one');
stop_console($console);

$console = start_console($node, args => [ '--metrics', '--metrics-role', 'postgres' ]);
$client = client($console);
my $response = get($client, '/metrics');
is($response->{status}, 200, 'metrics');
like($response->{headers}{'content-type'}, qr{^text/plain; version=0\.0\.4}, 'in the format of Prometheus');
my $text = $response->{content};
like($text, qr/^backfill_rows_total\{.*definition="odd \\"name\\" \\\\ of\\ntwo lines".*\} 1000$/m, 'rows, with a name that is quoted');
like($text, qr/^backfill_batches_total\{.*\} 10$/m, 'batches');
like($text, qr/^# TYPE backfill_batch_duration_seconds histogram$/m, 'a histogram');
like($text, qr/^backfill_batch_duration_seconds_bucket\{.*le="\+Inf".*\} 10$/m, 'with its buckets');
my %family;
$family{$_}++ foreach $text =~ /^# TYPE (\S+)/mg;
is_deeply([ grep { $family{$_} > 1 } keys %family ], [], 'each metric is described once');
is(query_ok($node, 'SELECT count(*) FROM backfill_metrics'), scalar(() = $text =~ /^backfill_/mg), 'every row of the view, and nothing else');
unlike($text, qr/batch="/, 'no label of a batch');

SKIP:
{
	my $out = '';
	skip 'no promtool', 1 unless eval { IPC::Run::run([ 'promtool', '--version' ], '>', \$out, '2>&1') };

	ok(IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<', \$text, '>', \$out, '2>&1'), 'promtool finds nothing to complain of') or diag($out);
	is($out, '', 'nor to warn of');
}

SKIP:
{
	my $out = '';
	skip 'no prometheus', 1 unless eval { IPC::Run::run([ 'prometheus', '--version' ], '>', \$out, '2>&1') };

	my $port = BackfillTest::Console::free_port();
	PostgreSQL::Test::Utils::append_to_file("$dir/prometheus.yml",
		"global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: backfill\n  static_configs:\n  - targets: ['$console->{host}']\n");
	my $prometheus = IPC::Run::start(
		[ 'prometheus', "--config.file=$dir/prometheus.yml", "--storage.tsdb.path=$dir/tsdb", "--web.listen-address=127.0.0.1:$port" ],
		'<', \'', '>', "$dir/prometheus.log", '2>&1');
	my $until = time + $BackfillTest::timeout;
	my $answer = '';
	while (time < $until)
	{
		$answer = HTTP::Tiny->new->get("http://127.0.0.1:$port/api/v1/query?query=sum(backfill_rows_total)")->{content};
		last if $answer =~ /"1000"/;
		Time::HiRes::usleep(200_000);
	}
	like($answer, qr/"1000"/, 'Prometheus has read it');
	$prometheus->kill_kill;
}

$node->stop;
is(get($client, '/metrics')->{status}, 503, 'without the database there are no metrics');
is(stop_console($console), 0, 'the program ends as it should');
done_testing();
