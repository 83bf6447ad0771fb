# The program under valgrind: no error, and nothing is lost.

use strict;
use warnings;

use IPC::Run;
use Test::More;
use BackfillTest;
use BackfillTest::Console;

plan skip_all => 'the console is not built' unless console_program();
plan skip_all => 'no valgrind' unless eval { IPC::Run::run([ 'valgrind', '--version' ], '>', \my $out, '2>&1') };

my $node = make_console_node('http_valgrind');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $console = start_console($node, under => [ 'valgrind', '-q', '--leak-check=full', '--show-leak-kinds=definite,indirect,possible',
	'--errors-for-leak-kinds=definite,indirect', '--error-exitcode=99', "--log-file=$dir/valgrind" ], args => [ '--metrics', '--metrics-role', 'postgres' ]);
my $alice = client($console);

query_ok($node, q{
	SET ROLE alice;
	CREATE TABLE t AS SELECT i AS id, 0 AS n FROM generate_series(1, 100000) i;
	ALTER TABLE t ADD PRIMARY KEY (id);
	SELECT backfill_define('d', 't', $$UPDATE batch SET n = n + 1$$, settings => '{"rate_limit": "100 per second"}');
	SELECT backfill_start('d')});
is(log_in_client($alice, 'alice', 'wrong')->{status}, 403, 'a wrong login');
Time::HiRes::usleep(1_500_000);
is(log_in_client($alice, 'alice')->{status}, 303, 'and a right one');
foreach my $path (qw(/runs /runs/1 /runs/1/batches /runs/1/errors /runs/1/events /definitions /definitions/d /definitions/d/explain /health /nothing /runs/9))
{
	ok(get($alice, $path)->{status} >= 200, $path);
	ok(get($alice, "/api$path")->{status} >= 200, "/api$path");
}
is(get($alice, '/metrics')->{status}, 200, '/metrics');
is(get($alice, '/assets/dygraph.min.js')->{status}, 200, 'an asset');
my @streams = map { event_stream($alice, $_) } '/runs', '/runs/1', '/health', '/runs/1';
foreach my $stream (@streams)
{
	my @events = read_events($stream, sub { grep { $_->[0] eq 'data' } @_ });
	ok((grep { $_->[0] eq 'data' } @events), 'events');
}
close($streams[0]{socket});
is((do_action($alice, 'pause', id => 1))[0], 200, 'an action');
is((do_action($alice, 'pause', id => 'x'))[0], 422, 'a wrong one');
raw_request($console, "GET / HTTP/1.1\r\nHost: evil\r\n\r\n");
raw_request($console, "POST /login HTTP/1.1\r\nHost: $console->{host}\r\nContent-Length: 10\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nus", half_close => 1);

# the database goes and comes, with viewers there
kill_server($node);
my @events = read_events($streams[1], sub { grep { $_->[0] eq 'lost' } @_ });
ok((grep { $_->[0] eq 'lost' } @events), 'the database is lost');
is((do_action($alice, 'pause', id => 1))[0], 503, 'an action meanwhile');
$node->{_pid} = undef;
$node->start;
@events = read_events($streams[1], sub { grep { $_->[0] eq 'back' } @_ });
ok((grep { $_->[0] eq 'back' } @events), 'and is back');
my $leaver = client($console);
log_in_client($leaver, 'bob');
post($leaver, '/logout', { csrf => $leaver->{csrf} });

# ends with streams open
is(stop_console($console), 0, 'the program ends without an error');
is(PostgreSQL::Test::Utils::slurp_file("$dir/valgrind"), '', 'valgrind has nothing to say');
$node->stop('immediate');
done_testing();
