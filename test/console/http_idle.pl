# A console at which nobody looks asks nothing, has no connection, and costs no time.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time usleep);
use BackfillTest;
use BackfillTest::Console;

plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('http_idle', conf => "log_statement = 'all'\nlog_line_prefix = '%m [%p] %a '");

# Clock ticks of processor time that a process has used, and how often it was woken.
sub cost
{
	my ($pid) = @_;
	my $stat = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat");
	my @fields = split(' ', $stat =~ s/.*\) //r);
	my ($switches) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;

	return ($fields[11] + $fields[12], $switches);
}

sub statements
{
	my ($from) = @_;
	return scalar(() = substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $from) =~ /\] backfill-console LOG:  /g);
}

my $connections = q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backfill-console'};

# Nobody has looked yet.
my $console = start_console($node, args => [ '--metrics', '--metrics-role', 'postgres' ]);
my ($ticks, $switches) = cost($console->{pid});
my $offset = -s $node->logfile;
usleep(5_000_000);
my ($ticks_after, $switches_after) = cost($console->{pid});
is($ticks_after - $ticks, 0, 'before anybody looks it uses no processor');
is($switches_after - $switches, 0, 'is not woken once');
is(statements($offset), 0, 'asks nothing');
is(query_ok($node, $connections), 0, 'and has no connection');

# Somebody has looked, and has gone, still logged in.
my $alice = client($console);
log_in_client($alice, 'alice');
my $stream = event_stream($alice, '/runs');
read_events($stream, sub { 2 <= grep { $_->[0] =~ /data|same/ } @_ });
cmp_ok(query_ok($node, $connections), '>', 0, 'who looks has a connection');
close($stream->{socket});
ok(wait_for($node, $connections, expected => 0), 'when he has gone it is closed after a while');
$offset = -s $node->logfile;
($ticks, $switches) = cost($console->{pid});
usleep(5_000_000);
($ticks_after, $switches_after) = cost($console->{pid});
is($ticks_after - $ticks, 0, 'then it uses no processor');
is($switches_after - $switches, 0, 'is not woken once');
is(statements($offset), 0, 'and asks nothing, though somebody is logged in');
is((api($alice, '/runs'))[0], 200, 'who comes back is served');

is(stop_console($console), 0, 'the program ends as it should');
$node->stop;
done_testing();
