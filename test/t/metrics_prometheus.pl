# Prometheus itself reads the metrics, by way of postgres_exporter: the alerts fire, and
# each query of the dashboard has an answer.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Metrics;
use BackfillTest::OneNode;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'no prometheus, or no postgres_exporter'
  unless have('prometheus') && have('prometheus-postgres-exporter');

my $dir = PostgreSQL::Test::Utils::tempdir();

# The answer of Prometheus to a query, as a list of samples.
my $port;
sub ask_prometheus
{
	my ($query, $accept) = @_;
	my $path = '/api/v1/query?query=' . ($query =~ s/([^\w.-])/sprintf('%%%02X', ord($1))/ger);
	my $answer = fetch($port, $path, $accept && sub { $accept->(JSON::PP->new->decode($_[0])->{data}{result}) });

	return defined $answer ? @{ JSON::PP->new->decode($answer)->{data}{result} } : ();
}

one_node('main');
create_step($node);
sql('CREATE ROLE metrics LOGIN IN ROLE pg_monitor');
create_target($node, 'slow', 100_000);
define_increment($node, 'slow', '{"batch_size": 10, "target_batch_time": "off", "sleep": 0, "rate_limit": "100 per second"}');
create_target($node, 'bad', 20);
sql(q{INSERT INTO behave VALUES (50, 'fail')});
define_increment($node, 'bad', '{"batch_size": 20}', statement => 'UPDATE batch SET n = n + step(id)');

my ($exporter_log, $log);
my ($exporter, $exporter_port) = start_exporter(\$exporter_log);
$port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$dir/prometheus.yml", <<"YML");
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files:
  - $tree/monitoring/prometheus/backfill.rules.yml
scrape_configs:
  - job_name: backfill
    static_configs:
      - targets: ['127.0.0.1:$exporter_port']
YML
my $prometheus = start_program(\$log, 'prometheus', "--config.file=$dir/prometheus.yml", "--storage.tsdb.path=$dir/data",
	"--web.listen-address=127.0.0.1:$port");
ok(defined fetch($port, '/-/ready'), 'Prometheus takes our rules') or diag($log);

my $slow = start_run($node, 'slow');
my $bad = start_run($node, 'bad');
ok(wait_for_status($node, $bad, 'failed'), 'a run fails');
my ($alert) = ask_prometheus('ALERTS{alertname="BackfillRunFailed", alertstate="firing"}', sub { @{ $_[0] } });
is($alert->{metric}{definition}, 'bad', 'Prometheus raises the alarm');

# Two scrapes, between which something has happened, are needed for a rate.
my ($rate) = ask_prometheus('sum(rate(backfill_rows_total{definition="slow"}[1m])) > 0', sub { @{ $_[0] } });
cmp_ok($rate ? $rate->{value}[1] : 0, '>', 0, 'it sees how fast a run is');
ok((ask_prometheus('rate(backfill_throttled_seconds_total{reason="rate_limit"}[1m]) > 0', sub { @{ $_[0] } })), 'and what throttles it');

my (undef, @panels) = panels();
foreach my $panel (@panels)
{
	foreach my $target (@{ $panel->{targets} })
	{
		my $query = $target->{expr};

		$query =~ s/\$__rate_interval/1m/g;
		$query =~ s/\$(?:instance|database|definition)/.*/g;
		cmp_ok(scalar(ask_prometheus($query)), '>', 0, "the dashboard shows: $panel->{title}, $target->{refId}");
	}
}
is(scalar(ask_prometheus('ALERTS{alertstate="firing", alertname!="BackfillRunFailed"}')), 0, 'no other alarm');

sql("SELECT backfill_delete($bad)");
ok(fetch($port, '/api/v1/alerts', sub { $_[0] !~ /BackfillRunFailed/ }), 'it is over when the run is deleted');

$prometheus->kill_kill(grace => 5);
$exporter->kill_kill(grace => 5);
$node->stop;
done_testing();
