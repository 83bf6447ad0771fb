# What no browser sends, and what a browser is made to send by others: foreign
# hosts, smuggled, oversized, slow and broken requests, paths out of the house.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time usleep);
use BackfillTest;
use BackfillTest::Console;

plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('http_attacks');
my $console = start_console($node, args => [ '--host', 'console.example', '--metrics', '--metrics-role', 'postgres' ], env => { BACKFILL_CONSOLE_CLOCK => 5 });
my $host = $console->{host};
my $alice = client($console);
log_in_client($alice, 'alice');
my $cookie = "backfill_console=$alice->{cookies}{backfill_console}";

# The status of what comes back, and the whole of it.
sub status_of
{
	my ($bytes, %opts) = @_;
	my $answer = raw_request($console, $bytes, %opts);

	return wantarray ? ($answer =~ /\AHTTP\/1\.1 (\d+)/ ? $1 : 0, $answer) : $answer =~ /\AHTTP\/1\.1 (\d+)/ ? $1 : 0;
}

# A POST with its own headers and body.
sub raw_post
{
	my ($headers, $body) = @_;
	return "POST /api/do/stop_all HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\nX-CSRF-Token: $alice->{csrf}\r\n"
	  . "Content-Type: application/x-www-form-urlencoded\r\n$headers\r\n$body";
}

# --- Hosts ---

is(status_of("GET /runs HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\n\r\n"), 200, 'our own host');
is(status_of("GET /login HTTP/1.1\r\nHost: localhost:$console->{port}\r\n\r\n"), 200, 'by its other name');
is(status_of("GET /login HTTP/1.1\r\nHost: console.example\r\n\r\n"), 200, 'by a name that was given');
foreach my $name ('evil.example', "evil.example:$console->{port}", "$host.evil.example", '127.0.0.1', "localhost:$console->{port}\@evil.example", '', '.')
{
	is(status_of("GET /api/runs HTTP/1.1\r\nHost: $name\r\nCookie: $cookie\r\n\r\n"), 421, "host \"$name\" is another one");
}
is(status_of("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 421, 'for the metrics, too');
is(status_of("GET /login HTTP/1.1\r\n\r\n"), 400, 'no host');
is(status_of("GET /login HTTP/1.0\r\n\r\n"), 400, 'no host in HTTP/1.0');
is(status_of("GET /login HTTP/1.1\r\nHost: $host\r\nHost: evil.example\r\n\r\n"), 400, 'two hosts');
is(status_of("GET http://evil.example/login HTTP/1.1\r\nHost: $host\r\n\r\n"), 400, 'an address that is no path');
is(status_of("GET /api/runs HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\nOrigin: http://evil.example\r\n\r\n"), 403, 'data for a page of another server');
is(status_of("GET /api/runs HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\nSec-Fetch-Site: cross-site\r\n\r\n"), 403, 'as the browser says');
is(status_of("GET /events?path=/runs HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\nSec-Fetch-Site: same-site\r\n\r\n"), 403, 'nor events');

# --- Headers that every answer has ---

foreach my $path ('/login', '/runs', '/api/runs', '/nothing', '/assets/dygraph.min.js', '/api/runs/999')
{
	my ($status, $answer) = status_of("GET $path HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\n\r\n");
	my ($head) = $answer =~ /\A(.*?)\r\n\r\n/s;
	like($head, qr/^Content-Security-Policy: default-src 'none';.*script-src 'self';.*frame-ancestors 'none'/m, "$path: policy");
	unlike($head, qr/unsafe/, 'nothing unsafe in it');
	like($head, qr/^X-Frame-Options: DENY/m, 'no frame');
	like($head, qr/^X-Content-Type-Options: nosniff/m, 'no guessing');
	like($head, qr/^Connection: close/mi, 'the connection ends');
	unlike($head, qr/^Access-Control-/mi, 'nothing is allowed to others');
	unlike($head, qr/^Server:/mi, 'no version is told');
}

# --- Smuggling: a second request hidden in the first ---

my $hidden = "GET /metrics HTTP/1.1\r\nHost: $host\r\n\r\n";
foreach (
	[ "Content-Length: 0\r\nContent-Length: 5\r\n", 'two lengths' ],
	[ "Content-Length: 0\r\nContent-Length: 0\r\n", 'two equal lengths' ],
	[ "Content-Length: 0, 5\r\n", 'a list of lengths' ],
	[ "Content-Length: +5\r\n", 'a length with a sign' ],
	[ "Content-Length: 0x5\r\n", 'a hexadecimal length' ],
	[ "Content-Length: -1\r\n", 'a negative length' ],
	[ "Content-Length: 99999999999999999999\r\n", 'a length beyond every number' ],
	[ "Transfer-Encoding: chunked\r\n", 'chunks' ],
	[ "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 'chunks and a length' ],
	[ "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 'a length and chunks' ],
	[ "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n", 'an encoding that is none' ],
	[ "Transfer-Encoding : chunked\r\nContent-Length: 0\r\n", 'a blank before the colon' ],
	[ " Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 'a header that is folded' ],
	[ "Transfer-Encoding:\tchunked\r\nContent-Length: 0\r\n", 'a tab' ])
{
	my ($headers, $name) = @$_;
	my ($status, $answer) = status_of(raw_post($headers, "0\r\n\r\n$hidden"));
	# libmicrohttpd sends the head of its own answer twice, which is no second answer
	is(() = $answer =~ /^HTTP\/1\.1 (?!4)/mg, 0, "$name: nothing but a refusal comes back ($status)");
}
my (undef, $answer) = status_of("GET /login HTTP/1.1\r\nHost: $host\r\n\r\n$hidden");
is(() = $answer =~ /^HTTP\/1\.1 /mg, 1, 'what comes behind a request is not read');
(undef, $answer) = status_of(raw_post("Content-Length: 0\r\n", $hidden));
is(() = $answer =~ /^HTTP\/1\.1 /mg, 1, 'nor what comes behind a form');
is(status_of("GET /runs HTTP/1.1\r\nHost: $host\r\nContent-Length: 5\r\n\r\nhello"), 400, 'a GET with a body');

# --- Sizes ---

is(status_of(raw_post("Content-Length: 70000\r\n", '')), 413, 'a body that is too large is refused before it comes');
is(status_of(raw_post('', '')), 411, 'a form without a length');
is(status_of("GET /" . 'a' x 9000 . " HTTP/1.1\r\nHost: $host\r\n\r\n"), 414, 'an address that is too long');
my ($large) = status_of("GET /login HTTP/1.1\r\nHost: $host\r\nX: " . 'a' x 60000 . "\r\n\r\n");
cmp_ok($large, '>=', 400, "headers that are too large ($large)");
($large) = status_of("GET /login HTTP/1.1\r\nHost: $host\r\n" . "X: y\r\n" x 20000 . "\r\n");
ok($large == 0 || $large >= 400, "or too many ($large)");
is(post($alice, '/api/do/stop_all', { map { $_ => 1 } 1 .. 100 }, headers => { 'X-CSRF-Token' => $alice->{csrf} })->{status}, 400, 'a form of too many fields');
is(post($alice, '/api/do/stop_all', {}, headers => { 'X-CSRF-Token' => $alice->{csrf}, 'Content-Type' => 'text/plain' })->{status}, 415, 'what is no form');

# --- Paths ---

foreach my $path ('/assets/../main.c', '/assets/..%2f..%2fetc%2fpasswd', '/assets//etc/passwd', '/assets/%2e%2e/x', '/assets/', '/../../etc/passwd', '/assets/app.js%00.png',
	'/runs/1/../../x', '/runs/%31', '/runs/1/', '//runs', '/RUNS', '/runs/99999999999999999999', '/runs/-1', '/definitions/', '/definitions/%', '/definitions/%zz', '/definitions/%ff',
	'/definitions/%00', '/definitions/a%0', '/api', '/api/', '/api/do', '/events', '/events?path=/runs/x', '/events?path=/definitions/x/explain', '/events?path=/metrics', '/events?path=', '/events?path=%00')
{
	my ($status) = status_of("GET $path HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\n\r\n");
	cmp_ok($status, '>=', 400, "$path is not there");
	cmp_ok($status, '<', 500, "and no fault of ours ($status)");
}
foreach my $query ('q=%00', 'q=%ff%fe', 'q=%', 'q=%4', 'q=a&q=b', '%00=1', 'before=9223372036854775808', 'before=1;select', 'tab=%27')
{
	my ($status) = status_of("GET /api/runs?$query HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\n\r\n");
	ok($status == 200 || $status == 404, "/runs?$query is answered ($status)");
}
foreach my $method (qw(PUT DELETE OPTIONS TRACE PATCH CONNECT get X))
{
	my ($status) = status_of("$method /runs HTTP/1.1\r\nHost: $host\r\nCookie: $cookie\r\n\r\n");
	ok($status == 405 || $status == 400 || $status == 0, "$method is refused ($status)");
}

# --- Slowness ---

my @slow = map { IO::Socket::INET->new(PeerAddr => $host) } 1 .. 40;
my $began = time;
foreach my $i (0 .. $#slow)
{
	syswrite($slow[$i], $i % 2 ? "GET /login HTTP/1.1\r\nHost: $host\r\n" : "POST /login HTTP/1.1\r\nHost: $host\r\nContent-Length: 100\r\n"
		. "Content-Type: application/x-www-form-urlencoded\r\n\r\nuser=");
	$slow[$i]->blocking(0);
}
is((api($alice, '/runs'))[0], 200, 'beside forty slow requests others are answered');
my %open = map { $_ => 1 } 0 .. $#slow;
{
	local $SIG{PIPE} = 'IGNORE';
	while (%open && time - $began < 60)
	{
		foreach my $i (keys %open)
		{
			my $n = sysread($slow[$i], my $more, 100);
			delete $open{$i} if defined $n && $n == 0 || !defined $n && !$!{EAGAIN};
			# a byte now and then keeps it from being silent
			syswrite($slow[$i], $i % 2 ? "X: y\r\n" : 'a') if $open{$i} && rand() < 0.05;
		}
		usleep(200_000);
	}
}
is(scalar keys %open, 0, sprintf('a request that trickles in is ended, after %.0f s', time - $began));
cmp_ok(time - $began, '>', 2, 'not at once');

# --- It lives ---

is((api($alice, '/runs'))[0], 200, 'the console has borne it all');
is(stop_console($console), 0, 'and ends as it should');
$node->stop;
done_testing();
