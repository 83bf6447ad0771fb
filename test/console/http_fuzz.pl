# Requests that are broken in every way, against the program built with
# AddressSanitizer and UndefinedBehaviorSanitizer: it must answer or hang up, live,
# and have nothing to report at its end.  20 seconds, ten minutes with BACKFILL_FULL.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time usleep);
use BackfillTest;
use BackfillTest::Console;

my $program = $ENV{BACKFILL_CONSOLE_ASAN};
plan skip_all => 'the console is not built with sanitizers' unless $program && -x $program;

my $node = make_console_node('http_fuzz');
my $console = start_console($node, program => $program, args => [ '--metrics', '--metrics-role', 'postgres', '--idle-timeout', 720 ],
	env => { ASAN_OPTIONS => 'detect_leaks=1:abort_on_error=0:exitcode=99', UBSAN_OPTIONS => 'print_stacktrace=1:halt_on_error=1',
		BACKFILL_CONSOLE_CLOCK => 10 });
my $host = $console->{host};
my $alice = client($console);
my $seconds = full_length() ? 600 : 20;
my $most = full_length() ? 1_000_000 : 20_000;

seed_random();
query_ok($node, q{
	SET ROLE alice;
	CREATE TABLE t AS SELECT i AS id, 0 AS n FROM generate_series(1, 100000) i;
	ALTER TABLE t ADD PRIMARY KEY (id);
	SELECT backfill_define('d/<x>', 't', $$UPDATE batch SET n = n + 1$$, settings => '{"rate_limit": "100 per second"}');
	SELECT backfill_start('d/<x>')});
log_in_client($alice, 'alice');
my $cookie = "backfill_console=$alice->{cookies}{backfill_console}";

# Requests that are good.
my @good = (
	(map { "GET $_ HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\nAccept: */*\r\n\r\n" }
		'/runs', '/runs?tab=mine&q=a%20b&before=10', '/runs/1', '/runs/1/batches?status=failed,pending', '/api/runs/1', '/api/runs/1/errors',
		'/api/definitions/d%2F%3Cx%3E', '/definitions/d%2F%3Cx%3E/explain?parameters=%7B%7D', '/api/health', '/events?path=%2Fruns%3Ftab%3Dall',
		'/assets/app.js', '/metrics', '/login', '/nothing'),
	(map { my ($path, $body) = @$_;
		"POST $path HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\nOrigin: http://$host\r\nX-CSRF-Token: $alice->{csrf}\r\n"
		. "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " . length($body) . "\r\n\r\n$body" }
		[ '/api/do/alter', 'id=1&settings=%7B%22sleep%22%3A%20%2220ms%22%7D' ], [ '/api/do/pause', 'id=1' ], [ '/api/do/resume', 'id=1&note=x' ],
		[ '/api/preview', 'name=d%2F%3Cx%3E&rows=2' ], [ '/api/do/start', 'name=d%2F%3Cx%3E&parameters=%7B%7D&start_at=2030-01-01' ],
		[ '/login', "user=alice&password=x&csrf=" . 'a' x 64 ], [ '/api/do/clone', "csrf=$alice->{csrf}&id=1&back=%2Fruns%2F1" ]));

# Pieces that parsers do not like.
my @pieces = ("\0", "\r", "\n", "\r\n", "\r\n\r\n", "\n\n", ' ', "\t", ':', ': ', '%', '%%', '%0', '%00', '%zz', '%ff', '%c0%af', '%ed%a0%80', '%f4%90%80%80',
	'&', '=', '&&&', '==', '?', '??', '#', '/', '//', '/../', ';', '"', "'", '<', '>', "\xff\xfe", "\xc3\x28", "\xf0\x9f\x98\x80", '-1', '0', '99999999999999999999',
	'18446744073709551616', '0x10', '1e9', 'chunked', "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n", "Host: x\r\n", "Cookie: backfill_console=\r\n",
	"Expect: 100-continue\r\n", "Connection: keep-alive\r\n", "Upgrade: websocket\r\n", "Range: bytes=0-\r\n", "If-None-Match: \"x\"\r\n", 'HTTP/9.9', 'HTTP/1.0', 'HTTP/0.9',
	'{"a":' x 200, '[' x 200, '\u0000', '\ud800', 'A' x 300, 'A' x 5000, 'A' x 40000, '%41' x 2000, 'a=b&' x 100, "X: y\r\n" x 200);

sub mutate
{
	my ($bytes) = @_;

	foreach (1 .. 1 + int(rand(4)))
	{
		my $at = int(rand(length($bytes) + 1));
		my $what = int(rand(8));

		if ($what == 0) { substr($bytes, $at, 0, $pieces[ rand @pieces ]) }
		elsif ($what == 1) { substr($bytes, $at, int(rand(10)), $pieces[ rand @pieces ]) }
		elsif ($what == 2) { substr($bytes, $at, 1, chr(int(rand(256)))) if $at < length $bytes }
		elsif ($what == 3) { substr($bytes, $at, int(rand(40)), '') }
		elsif ($what == 4) { substr($bytes, $at, 0, substr($bytes, int(rand(length $bytes)), int(rand(200)))) }
		elsif ($what == 5) { $bytes = substr($bytes, 0, $at) }
		elsif ($what == 6) { my $other = $good[ rand @good ]; $bytes = substr($bytes, 0, $at) . substr($other, int(rand(length $other))) }
		else { substr($bytes, $at, 1, substr($bytes, $at, 1) ^ chr(1 << int(rand(8)))) if $at < length $bytes }
		last if length($bytes) > 100_000;
	}
	return $bytes;
}

my %answers;
my $sent = 0;
my $until = time + $seconds;
my @open;
local $SIG{PIPE} = 'IGNORE';

# Several at a time; none is waited for for long, and their ends are mixed.
while (time < $until && $sent < $most && kill(0, $console->{pid}))
{
	my $socket = IO::Socket::INET->new(PeerAddr => $host, Timeout => 10) or last;
	my $request = mutate($good[ rand @good ]);
	my $cut = rand() < 0.3 ? int(rand(length($request) + 1)) : length($request);

	$socket->blocking(0);
	syswrite($socket, substr($request, 0, $cut));
	syswrite($socket, substr($request, $cut)) if $cut < length($request);
	shutdown($socket, 1) if rand() < 0.5;
	push @open, [ $socket, time, '' ];
	$sent++;
	foreach my $entry (@open)
	{
		my $n = sysread($entry->[0], my $bytes, 65536);
		$entry->[2] = substr($bytes, 0, 12) if $n && $entry->[2] eq '';
		$entry->[1] = 0 if defined $n && $n == 0 || rand() < 0.02;
	}
	foreach my $entry (grep { time - $_->[1] > 1 } @open)
	{
		$answers{ $entry->[2] =~ /^HTTP\/1\.\d (\d)/ ? "${1}xx" : 'none' }++;
		close($entry->[0]);
	}
	@open = grep { time - $_->[1] <= 1 } @open;
	# not more than it is willing to have
	usleep(1_000) while @open > 200 && do { shift @open; 0 };
}
close($_->[0]) foreach @open;
diag("$sent requests; " . join(', ', map { "$_: $answers{$_}" } sort keys %answers));
cmp_ok($sent, '>', 100, 'many requests');
ok(kill(0, $console->{pid}), 'the program lives');
my $again = client($console);
is(get($again, '/login')->{status}, 200, 'and answers');
is((api($alice, '/runs'))[0], 200, 'also who was logged in all the time');
is(stop_console($console), 0, 'it ends as it should, without a leak');
my $log = console_log($console);
unlike($log, qr/AddressSanitizer|LeakSanitizer|runtime error/, 'the sanitizers have nothing to report') or diag(substr($log, -6000));
$node->stop('immediate');
done_testing();
