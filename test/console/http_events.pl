# Event streams: 200 viewers cost the database one query a second, memory stays as
# it is over an hour of events, and a server that is killed and comes back is told
# of as what it is.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time usleep);
use BackfillTest;
use BackfillTest::Console;

plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('http_events', conf => "log_statement = 'all'\nlog_line_prefix = '%m [%p] %a '");
my $console = start_console($node);
my $alice = client($console);

query_ok($node, q{
	SET ROLE alice;
	CREATE TABLE t AS SELECT i AS id, 0 AS n FROM generate_series(1, 1000000) i;
	ALTER TABLE t ADD PRIMARY KEY (id);
	SELECT backfill_define('slow', 't', $$UPDATE batch SET n = n + 1$$, settings => '{"rate_limit": "300 per second"}');
	SELECT backfill_start('slow')});
log_in_client($alice, 'alice');

# Statements that the console has sent since a position in the server's log.
sub statements_since
{
	my ($offset) = @_;
	my $log = substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $offset);

	return scalar(() = $log =~ /\] backfill-console LOG:  execute /g);
}

# Kilobytes of memory that a process has.
sub memory
{
	my ($pid) = @_;
	my ($kb) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m;
	return $kb;
}

# --- One viewer ---

my $stream = event_stream($alice, '/runs/1');
my @events = read_events($stream, sub { 4 <= grep { $_->[0] eq 'data' } @_ });
is($events[0][0], 'hello', 'a stream begins');
my @data = map { $_->[1] } grep { $_->[0] eq 'data' } @events;
ok($data[0]{full}, 'the first data are whole');
is($data[0]{path}, '/runs/1', 'of the path');
is($data[0]{data}{run}{status}, 'running', 'the run') or diag(explain($data[0]{data}{run}));
ok(exists $data[0]{data}{settings}, 'with what rarely changes');
my @changes = grep { !$_->{full} } @data;
ok(!exists $changes[-1]{data}{settings}, 'which is not sent again');
is(scalar @{ $changes[-1]{data}{series} }, 1, 'one more point for the charts');
cmp_ok($changes[-1]{at}, 'gt', $data[0]{at}, 'time goes on');
like($stream->{head}, qr{^Content-Type: text/event-stream}m, 'as the standard has it');

my $before = time;
do_action($alice, 'pause', id => 1);
@events = read_events($stream, sub { grep { $_->[0] eq 'data' && ($_->[1]{data}{run}{status} || '') eq 'paused' } @_ });
ok((grep { $_->[0] eq 'data' && ($_->[1]{data}{run}{status} || '') eq 'paused' } @events), 'a change is seen');
my $other = event_stream($alice, '/definitions');
@events = read_events($other, sub { grep { $_->[0] eq 'same' } @_ });
ok((grep { $_->[0] eq 'same' } @events), 'what has not changed is not sent again');
close($other->{socket});
do_action($alice, 'resume', id => 1);

# --- 200 viewers ---

my @viewers = map { event_stream($alice, '/runs/1') } 1 .. 199;
push @viewers, $stream;
my $got_all = 0;
foreach my $viewer (@viewers)
{
	my $until = time + $BackfillTest::timeout;
	while (time < $until && $viewer->{buffer} !~ /^event: (?:data|same)/m)
	{
		sysread($viewer->{socket}, $viewer->{buffer}, 1 << 20, length $viewer->{buffer}) or usleep(5_000);
	}
	$got_all++ if $viewer->{buffer} =~ /^event: (?:data|same)/m;
}
is($got_all, 200, '200 viewers have data');
my $offset = -s $node->logfile;
my $from = time;
my %count;
while (time - $from < 8)
{
	foreach my $i (0 .. $#viewers)
	{
		sysread($viewers[$i]{socket}, my $bytes, 1 << 20) or next;
		$count{$i} += () = $bytes =~ /^event: data/mg;
	}
	usleep(20_000);
}
my $seconds = time - $from;
my $statements = statements_since($offset);
cmp_ok($statements, '<=', $seconds + 1.5, sprintf('200 viewers: %d queries in %.1f s', $statements, $seconds));
cmp_ok($statements, '>=', 2, 'but some');
is(scalar(grep { $_ } values %count), 200, 'each of them is told');

# By polling, they cost the same.
$offset = -s $node->logfile;
$from = time;
my $asked = 0;
while (time - $from < 4)
{
	is_ok((api($alice, '/runs/1'))[0]);
	$asked++;
}
$seconds = time - $from;
$statements = statements_since($offset);
cmp_ok($statements, '<=', $seconds + 2.5, sprintf('%d questions beside them: %d queries in %.1f s', $asked, $statements, $seconds));

# --- The server is killed ---

kill_server($node);
@events = read_events($stream, sub { grep { $_->[0] eq 'lost' } @_ });
my ($lost) = grep { $_->[0] eq 'lost' } @events;
ok($lost, 'the server is killed: viewers are told');
like($lost->[1]{since}, qr/^\d{4}-\d\d-\d\dT/, 'and since when the data are old');
my ($status, $data) = api($alice, '/runs/1');
is($status, 503, 'who asks gets no old number');
is($data->{error}{since} // '', $lost->[1]{since}, 'but the time as well');
my $page = get($alice, '/runs/1');
is($page->{status}, 503, 'the page without script, too');
like($page->{content}, qr/cannot be reached.*It answered last at \Q$lost->[1]{since}\E/s, 'says so');
($status, $data) = do_action($alice, 'pause', id => 1);
is($status, 503, 'and nothing can be done');
$node->{_pid} = undef;
$node->start;
@events = read_events($stream, sub { grep { $_->[0] eq 'data' && $_->[1]{full} } @_ });
my @names = map { $_->[0] } @events;
like("@names", qr/back.* data/, 'it comes back, and so do the data, whole');
my ($fresh) = map { $_->[1] } grep { $_->[0] eq 'data' && $_->[1]{full} } @events;
cmp_ok($fresh->{at}, 'gt', $lost->[1]{since}, 'and new');
ok(!(grep { $_->[0] eq 'data' && $_->[1]{at} le $lost->[1]{since} } @events), 'no old number comes again');
is((api($alice, '/runs/1'))[0], 200, 'without logging in again');
is((do_action($alice, 'pause', id => 1))[0], 200, 'and everything can be done');
close($_->{socket}) foreach @viewers;
is(stop_console($console), 0, 'the program ends as it should');

# --- An hour of events, in a minute or less ---

my $rate = 60;
my $hours = full_length() ? 1 : 0.2;
$console = start_console($node, env => { BACKFILL_CONSOLE_CLOCK => $rate }, args => [ '--idle-timeout', 720 ]);
$alice = client($console);
log_in_client($alice, 'alice');
query_ok($node, q{SELECT backfill_resume('slow')});
@viewers = map { event_stream($alice, $_ % 4 ? '/runs/1' : '/runs') } 1 .. 20;
my $events = 0;
my @memory;
my ($first) = (time);
while (time - $first < $hours * 3600 / $rate)
{
	my $tenth = int((time - $first) / ($hours * 3600 / $rate) * 10);
	$memory[$tenth] = memory($console->{pid});
	foreach my $viewer (@viewers)
	{
		sysread($viewer->{socket}, my $bytes, 1 << 20) or next;
		$events += () = $bytes =~ /^event: (?:data|same)/mg;
	}
	usleep(10_000);
}
diag("$events events; memory in kB, each tenth of the time: @memory");
cmp_ok($events, '>', 1000, 'many events');
cmp_ok($memory[-1], '<', $memory[1] + 3000, 'memory is flat');
close($_->{socket}) foreach @viewers;
is(stop_console($console), 0, 'the program ends as it should');
$node->stop('immediate');
done_testing();

# As ok, for many.
sub is_ok
{
	my ($got) = @_;
	return if $got == 200;
	is($got, 200, 'an answer');
	return;
}
