# What the tests of the metrics have in common: samples of backfill_metrics by name and
# labels, and programs that read them, where they are installed.

package BackfillTest::Metrics;

use strict;
use warnings;

use Exporter 'import';
use BackfillDoc;
use BackfillTest;
use BackfillTest::OneNode;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  metric metrics_of
  have start_program start_exporter get fetch
  panels
);

# The value of a sample, as text; empty if there is none.  More labels are given as
# name => value.  Options: role, who looks.
sub metric
{
	my ($name, $definition, %labels) = @_;
	my $role = delete $labels{role} || 'postgres';
	my $more = join('', map { " AND labels ->> '$_' = '$labels{$_}'" } sort keys %labels);

	return as($role, "SELECT value FROM backfill_metrics WHERE name = 'backfill_$name'
		AND labels ->> 'definition' = '$definition'$more");
}

# Rows, batches and WAL of the definition that are counted, with blanks between them.
sub metrics_of
{
	my ($definition) = @_;

	return join(' ', map { metric($_, $definition) } qw(rows_total batches_total wal_bytes_total));
}

# --- Programs -----------------------------------------------------------------

# Whether the program is installed.
sub have { return (grep { -x "$_/$_[0]" } split(/:/, $ENV{PATH})) > 0; }

# Start a program that listens; what it says goes to the text.
sub start_program
{
	my ($log, @command) = @_;

	$$log = '';
	return IPC::Run::start(\@command, '<', \undef, '>&', $log);
}

# Start postgres_exporter with our queries, as the role "metrics"; returns it and its port.
sub start_exporter
{
	my ($log) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	local $ENV{DATA_SOURCE_NAME} =
	  'host=' . $node->host . ' port=' . $node->port . ' user=metrics dbname=postgres sslmode=disable';
	my $exporter = start_program($log, 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$port",
		'--disable-default-metrics', '--disable-settings-metrics', '--no-collector.database', '--no-collector.bgwriter',
		"--extend.query-path=$tree/monitoring/postgres_exporter/queries.yml");

	return ($exporter, $port);
}

# What a program on this machine answers, or undef.
sub get
{
	my ($port, $path) = @_;
	my $answer = HTTP::Tiny->new(timeout => 30, proxy => undef, http_proxy => undef)->get("http://127.0.0.1:$port$path");

	return $answer->{success} ? $answer->{content} : undef;
}

# The same, but waits until it answers, and until what it says is accepted.  Returns the last
# answer, or undef.
sub fetch
{
	my ($port, $path, $accept) = @_;
	my $until = time + $BackfillTest::timeout;

	for (;;)
	{
		my $answer = get($port, $path);
		return $answer if defined $answer && (!$accept || $accept->($answer));
		return undef if time > $until;
		usleep(100_000);
	}
}

# --- The dashboard ---------------------------------------------------------------

# The dashboard, and those of its panels that show something.
sub panels
{
	my $dashboard = JSON::PP->new->decode(slurp_file("$tree/monitoring/grafana/backfill.json"));

	return ($dashboard, grep { $_->{type} ne 'row' } @{ $dashboard->{panels} });
}

1;
