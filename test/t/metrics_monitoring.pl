# monitoring/: the text for Prometheus, the configurations of exporters, the alert rules
# and the dashboard are about metrics that the view has, and the tools that read them
# take them.  What promtool, Prometheus and the exporters say is looked at where they are.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Metrics;
use BackfillTest::OneNode;
use IPC::Run;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A name that has to be escaped in the text.
use constant NAME => "odd \"name\\ of\n two lines";

my $folder = "$tree/monitoring";
my $dir = PostgreSQL::Test::Utils::tempdir();

# Exit code and all output of a program, with a text as its input.
sub run_program
{
	my ($input, @command) = @_;
	my $out = '';

	IPC::Run::run(\@command, '<', \$input, '>&', \$out);
	return ($? >> 8, $out);
}

sub promtool_ok
{
	my ($name, $input, @arguments) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
  SKIP:
	{
		skip 'no promtool', 1 unless have('promtool');
		my ($rc, $out) = run_program($input, 'promtool', @arguments);
		is($rc, 0, $name) or diag($out);
	}
	return;
}

# --- A server that has something of everything --------------------------------

# Some of the exporters know no Unix sockets.
one_node('main', conf => "listen_addresses = '127.0.0.1'");
create_step($node);
create_target($node, 't', 200);
create_target($node, 'held', 10);
sql(q{INSERT INTO behave VALUES (150, 'fail')});
$node->safe_psql('postgres', q{SELECT backfill_define($n$} . NAME . q{$n$, 't', 'UPDATE batch SET n = n + step(id)',
	settings => '{"batch_size": 20, "target_batch_time": "off", "sleep": 0, "on_error": "skip", "max_errors": 5}')});
my $run = $node->safe_psql('postgres', q{SELECT backfill_start($n$} . NAME . q{$n$)});
ok(wait_for_status($node, $run, 'completed'), 'a run with an odd name and a skipped row');
define_increment($node, 'held', '{"windows": [{"closed": true}]}');
$run = start_run($node, 'held');
ok(wait_for($node, q{SELECT count(*) = 1 FROM backfill_metrics WHERE name = 'backfill_throttled_seconds_total'}), 'and one that is held');
sql("SELECT backfill_pause($run)");
sql('CREATE ROLE metrics LOGIN IN ROLE pg_monitor');

# Every name that the view has here, and all samples, as Prometheus names them.
my @names = split(/\n/, sql(q{SELECT DISTINCT name FROM backfill_metrics ORDER BY 1}));
my @declared = slurp_file((glob("$tree/sql/backfill--*.sql"))[0]) =~ /^\t\(\d+, '(backfill_\w+)', '(?:counter|gauge|histogram)', '/mg;
is(join(' ', @names), join(' ', sort @declared), 'the view has a sample of each name that it knows');
my %sample = map { my ($name, $labels, $value) = split /\|/, $_, 3; (series($name, JSON::PP->new->decode($labels)) => $value) }
  split(/\n/, sql('SELECT name, labels, value FROM backfill_metrics'));
is(scalar keys %sample, sql('SELECT count(*) FROM backfill_metrics'), 'no sample is there twice');

sub series
{
	my ($name, $labels) = @_;
	return $name . JSON::PP->new->canonical->encode($labels);
}

# The reference has every name, with its further label.
my $views = slurp_file("$tree/doc/reference/views.md");
is(join(' ', grep { $views !~ /^\| `$_` \| [^|]*\| \S/m } @names), '', 'the reference has each of them');
my @labelled = split(/\n/, sql(q{SELECT DISTINCT name || ' ' || l FROM backfill_metrics, jsonb_object_keys(labels) l WHERE l NOT IN ('database', 'definition')}));
is(join(' ', grep { my ($name, $label) = split; $views !~ /^\| `$name` \| `$label`/m } @labelled), '', 'with its labels');
cmp_ok(scalar @labelled, '==', 3, 'of which there are three');

# The samples of the text format: name and labels => value.  Labels that others
# add are left out.
sub read_text
{
	my ($text) = @_;
	my %read;

	foreach my $line (grep { /^backfill_/ } split(/\n/, $text))
	{
		my ($name, $list, $value) = $line =~ /^(\w+)\{(.*)\} (\S+)$/ or die "no sample: $line";
		my %labels;
		while ($list =~ /(\w+)="((?:[^"\\]|\\.)*)"/g)
		{
			my ($label, $content) = ($1, $2);
			$content =~ s/\\(.)/$1 eq 'n' ? "\n" : $1/ge;
			$labels{$label} = $content unless $label eq 'server';
		}
		die "twice: $line" if exists $read{ series($name, \%labels) };
		$read{ series($name, \%labels) } = $value;
	}
	return \%read;
}

# What is there, and should not be, and the other way round; and values that differ.
sub compare
{
	my ($read, $expected) = @_;
	my @problems;

	push @problems, map { exists $read->{$_} ? () : "missing: $_" } sort keys %$expected;
	push @problems, map { exists $expected->{$_} ? () : "too many: $_" } sort keys %$read;
	push @problems, map { abs($read->{$_} - $expected->{$_}) > 1e-6 * abs($expected->{$_}) ? "$_: $read->{$_}, not $expected->{$_}" : () }
	  grep { exists $read->{$_} } sort keys %$expected;
	return join("\n", @problems);
}

# A copy of a configuration in which the database is ours; returns its path.
sub configured
{
	my ($file) = @_;
	my $text = slurp_file("$folder/$file");
	my $to = $dir . '/' . ($file =~ s/.*\///r);

	$text =~ s{\@localhost:5432/}{'@127.0.0.1:' . $node->port . '/'}e or die "no address in $file";
	append_to_file($to, $text);
	return $to;
}

# For an exporter, a counter that a definition does not have is zero; here all have them.
is(scalar(grep { /^backfill_rows_total/ } keys %sample), 2, 'both definitions are counted');

# --- The text -------------------------------------------------------------------

my ($rc, $text, $err) = query($node, 'SELECT 1', flags => [ '-U', 'metrics', '-f', "$folder/textfile/backfill.sql" ]);
is($rc, 0, 'the query of the text runs') or diag($err);
$text =~ s/^1\n?\z//m;
is(compare(read_text($text), \%sample), '', 'the text has the samples of the view');
promtool_ok('promtool takes the text, and has no complaints', "$text\n", 'check', 'metrics');
my @families = $text =~ /^# TYPE (\S+) /mg;
is(scalar @families, scalar keys %{ { map { $_ => 1 } @families } }, 'each metric stands there once, in one piece');

# --- sql_exporter -----------------------------------------------------------------

my $collector = slurp_file("$folder/sql_exporter/backfill.collector.yml");
my ($metrics, $queries) = $collector =~ /^metrics:\n(.*)^queries:\n(.*)/ms or die 'no collector';
my %query;
while ($queries =~ /^  - query_name: (\w+)\n    query: \|\n((?: {6}.*\n|\n)+)/mg)
{
	my ($name, $sql) = ($1, $2);
	my $out = as('metrics', "SELECT coalesce(json_agg(q), '[]') FROM ($sql) q");
	$query{$name} = JSON::PP->new->decode($out =~ s/\n//gr);
}
is(scalar(keys %query), scalar(() = $queries =~ /query_name:/g), 'sql_exporter: every query runs');
my %read;
my %of_kind;
foreach my $metric (split(/^  - /m, $metrics))
{
	my ($name, $type, $keys, $value, $ref) = $metric =~
	  /^metric_name: (\w+)\n    type: (counter|gauge)\n    help: '.+'\n    key_labels: \[([\w, ]+)\]\n    values: \[(\w+)\]\n    query_ref: (\w+)\n/ or next;
	$of_kind{$name} = $type;
	foreach my $row (@{ $query{$ref} })
	{
		$read{ series($name, { map { $_ => $row->{$_} } split(/, /, $keys) }) } = $row->{$value};
	}
}
is(compare(\%read, \%sample), '', 'sql_exporter: what it gives is what the view has');
is(join(' ', map { "$_->[0]:$_->[1]" } sort { $a->[0] cmp $b->[0] } map { [ $_, $of_kind{$_} ] } keys %of_kind),
	sql(q{SELECT string_agg(DISTINCT name || ':' || replace(type, 'histogram', 'counter'), ' ' ORDER BY name || ':' || replace(type, 'histogram', 'counter')) FROM backfill_metrics}),
	'sql_exporter: of the same types');
my ($reference) = slurp_file("$folder/sql_exporter/sql_exporter.yml") =~ /^  - '(.*)'$/m;
ok(-f "$folder/sql_exporter/$reference", 'sql_exporter: its configuration names the collector');
SKIP:
{
	skip 'no sql_exporter', 1 unless have('sql_exporter');
	my $log;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	append_to_file("$dir/$reference", $collector);
	my $exporter = start_program(\$log, 'sql_exporter', '-config.file', configured('sql_exporter/sql_exporter.yml'),
		'-web.listen-address', "127.0.0.1:$port");
	my $got = fetch($port, '/metrics');

	is(defined $got ? compare(read_text($got), \%sample) : 'no answer', '', 'sql_exporter gives what the view has')
	  or diag($log);
	$exporter->kill_kill(grace => 5);
}

# --- The sql_exporter of Debian ----------------------------------------------------

SKIP:
{
	skip 'no prometheus-sql-exporter, or no prometheus', 1 unless have('prometheus-sql-exporter') && have('prometheus');
	my ($log, $prometheus_log);
	my ($port, $prometheus_port) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
	my $scrape = slurp_file("$folder/prometheus-sql-exporter/scrape.yml") =~ s/localhost:9237/127.0.0.1:$port/r;
	append_to_file("$dir/prometheus.yml", "global:\n  scrape_interval: 1s\n$scrape");
	my $exporter = start_program(\$log, 'prometheus-sql-exporter', '-config.file',
		configured('prometheus-sql-exporter/prometheus-sql-exporter.yml'), '-web.listen-address', "127.0.0.1:$port");
	ok(defined fetch($port, '/metrics', sub { $_[0] =~ /backfill_rows_total/ }), 'prometheus-sql-exporter reads the view') or diag($log);
	my $prometheus = start_program(\$prometheus_log, 'prometheus', "--config.file=$dir/prometheus.yml",
		"--storage.tsdb.path=$dir/data", "--web.listen-address=127.0.0.1:$prometheus_port");
	# its names are only right in Prometheus
	my $got = fetch($prometheus_port, '/api/v1/query?query=%7B__name__%3D~%22.*backfill_.%2B%22%7D', sub { $_[0] =~ /"metric"/ });
	my %stored;
	foreach my $series (defined $got ? @{ JSON::PP->new->decode($got)->{data}{result} } : ())
	{
		my %labels = %{ $series->{metric} };
		my $name = delete $labels{__name__};
		delete @labels{qw(job instance)};
		$stored{ series($name, \%labels) } = $series->{value}[1];
	}
	is(compare(\%stored, \%sample), '', 'and Prometheus has what the view has') or diag($log, $prometheus_log);
	$_->kill_kill(grace => 5) foreach $prometheus, $exporter;
}

# --- postgres_exporter ---------------------------------------------------------

my $file = "$folder/postgres_exporter/queries.yml";
my %names_of;
foreach my $entry (split(/^(?=\w+:\n)/m, slurp_file($file)))
{
	my ($namespace, $sql, $columns) = $entry =~ /^(\w+):\n  query: \|\n((?: {4}.*\n)+)  metrics:\n(.*)/ms or next;
	my @columns = $columns =~ /^    - (\w+):\n        usage: "(\w+)"\n        description: ".+"\n/mg;
	my $row = (JSON::PP->new->decode(as('metrics', "SELECT coalesce(json_agg(q), '[]') FROM ($sql) q") =~ s/\n//gr))->[0];

	while (my ($column, $usage) = splice(@columns, 0, 2))
	{
		ok(exists $row->{$column}, "postgres_exporter: $namespace has the column $column");
		$names_of{"${namespace}_$column"} = lc $usage unless $usage eq 'LABEL';
	}
}
is(join(' ', map { "$_:$names_of{$_}" } sort keys %names_of),
	sql(q{SELECT string_agg(DISTINCT regexp_replace(name, '_seconds_(bucket|sum|count)$', '_seconds') || ':' || type, ' '
		ORDER BY regexp_replace(name, '_seconds_(bucket|sum|count)$', '_seconds') || ':' || type) FROM backfill_metrics}),
	'postgres_exporter: the names and types of the view');
SKIP:
{
	skip 'no postgres_exporter', 1 unless have('prometheus-postgres-exporter');
	my $log;
	my ($exporter, $port) = start_exporter(\$log);
	my $got = fetch($port, '/metrics');

	is(defined $got ? compare(read_text($got), \%sample) : 'no answer', '', 'postgres_exporter gives what the view has')
	  or diag($log);
	$exporter->kill_kill(grace => 5);
}

# --- Alerts --------------------------------------------------------------------

my $rules = "$folder/prometheus/backfill.rules.yml";
promtool_ok('promtool takes the rules', '', 'check', 'rules', $rules);
promtool_ok('the alerts come and go as they should', '', 'test', 'rules', $rules =~ s/\.yml$/.test.yml/r);
my @alerts = slurp_file($rules) =~ /- alert: (\w+)/g;
cmp_ok(scalar @alerts, '>=', 3, 'there are alerts');
my $tests = slurp_file($rules =~ s/\.yml$/.test.yml/r);
is(join(' ', grep { $tests !~ /alertname: $_\n        exp_alerts:\n/ } @alerts), '', 'a test shows each of them');
is(join(' ', grep { $tests !~ /alertname: $_\n        exp_alerts: \[\]/ } @alerts), '', 'and that it is silent');
my $readme = slurp_file("$folder/README.md");
is(join(' ', grep { $readme !~ /`$_`/ } @alerts), '', 'README.md has each of them');
is(join(' ', grep { !-e "$folder/$_" } map { $_->[0] } links("$folder/README.md")), '', 'and leads to files that there are');

# --- The dashboard ---------------------------------------------------------------

my ($dashboard, @panels) = panels();
my %variable = map { $_->{name} => $_ } @{ $dashboard->{templating}{list} };
my @targets = map { my $panel = $_; map { [ $panel->{title}, $_->{expr}, $_->{datasource}{uid} ] } @{ $panel->{targets} } } @panels;
my %ids = map { $_->{id} => 1 } @{ $dashboard->{panels} };

is($variable{datasource}{type} . ' ' . $variable{datasource}{query}, 'datasource prometheus', 'the dashboard asks for its data source');
is(join(' ', grep { $_ ne '${datasource}' } map { $_->{datasource}{uid} } @panels, grep { $_->{datasource} } values %variable), '', 'which all panels and variables have');
is(join(' ', grep { $_->[2] ne '${datasource}' } @targets), '', 'and all queries');
is(scalar keys %ids, scalar @{ $dashboard->{panels} }, 'every panel has an id of its own');
is(join(' ', map { $_->{title} } grep { !$_->{description} } @panels), '', 'and says what it shows');
my @seats;
foreach my $panel (@{ $dashboard->{panels} })
{
	my ($x, $y, $w, $h) = @{ $panel->{gridPos} }{qw(x y w h)};
	push @seats, $panel->{title} if $x + $w > 24;
	push @seats, "$panel->{title} and $_->{title}" foreach grep {
		my $other = $_->{gridPos};
		$_->{id} < $panel->{id} && $x < $other->{x} + $other->{w} && $other->{x} < $x + $w && $y < $other->{y} + $other->{h} && $other->{y} < $y + $h
	} @{ $dashboard->{panels} };
}
is(join(', ', @seats), '', 'no panel lies on another one, or beside the grid');

my %known = map { $_ => 1 } @names;
my @expressions = (
	(map { $_->[1] } @targets),
	(map { $_->{query}{query} =~ /^label_values\((.*), \w+\)$/ ? $1 : () } grep { $_->{type} eq 'query' } values %variable),
	slurp_file("$tree/doc/guide/monitoring.md") =~ /\| `([^`|]+\[\d+[mh]\][^`|]*)`/g,
	slurp_file($rules) =~ /^        expr: (.*?)\n        (?:for|labels):/msg);
my @used = map { /(?<!["\w])(backfill_[a-z_]+)/g } @expressions;
is(join(' ', grep { !$known{$_} } @used), '', 'dashboard, guide and alerts ask for metrics that there are');
my %asked = map { $_ => 1 } @used;
is(join(' ', grep { !$asked{$_} } @names), '', 'and for all of them');
is(join(' ', grep { $_ ne '__rate_interval' && !$variable{$_} } map { /\$(\w+)/g } @expressions), '', 'by variables that there are');
my $generated = "groups:\n- name: dashboard\n  rules:\n" . join('', map { my $e = $expressions[$_];
	$e =~ s/\$__rate_interval/5m/g;
	"  - record: r$_\n    expr: '$e'\n" } grep { $expressions[$_] !~ /\n/ } 0 .. $#expressions);
append_to_file("$dir/dashboard.yml", $generated);
promtool_ok('promtool parses each query of the dashboard and of the guide', '', 'check', 'rules', '--lint=none', "$dir/dashboard.yml");

$node->stop;
done_testing();
