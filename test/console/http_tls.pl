# Where the console may listen: TLS, a Unix socket, behind a proxy; and what it
# refuses to do without them.

use strict;
use warnings;

use IPC::Run;
use Test::More;
use BackfillTest;
use BackfillTest::Console;

plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('http_tls');
my $dir = PostgreSQL::Test::Utils::tempdir_short();

# Exit code and output of the program with these arguments.
sub refused
{
	my @arguments = @_;
	my $out = '';
	my $run = IPC::Run::start([ console_program(), '-d', $node->connstr('postgres'), @arguments ], '<', \'', '>', \$out, '2>&1', IPC::Run::timer(60));

	while ($run->pumpable && $out !~ / listens at /)
	{
		eval { $run->pump } or last;
	}
	if ($out =~ / listens at /)
	{
		$run->kill_kill;
		return "it listens: $out";
	}
	eval { $run->finish };
	return $out;
}

# --- Options ---

my $help = '';
IPC::Run::run([ console_program(), '--help' ], '>', \$help);
like($help, qr/--tls-cert/, '--help');
IPC::Run::run([ console_program(), '--version' ], '>', \$help);
like($help, qr/^backfill-console \(backfill\) \d/, '--version');
like(refused('--listen', '0.0.0.0:0'), qr/can be reached from other machines/, 'an open address without encryption');
like(refused('--tls-cert', 'x'), qr/belong together/, 'half of a certificate');
like(refused('--tls-cert', "$dir/none", '--tls-key', "$dir/none"), qr/could not open/, 'a certificate that is not there');
like(refused('--listen', 'nowhere'), qr/must be ADDRESS:PORT/, 'a place that is none');
like(refused('--listen', '127.0.0.1:0', '--behind-proxy', '--metrics'), qr/--metrics needs --metrics-token-file/, 'metrics for everybody');
like(refused('--idle-timeout', '0'), qr/between 1 and/, 'sessions of no time');
like(refused('--nonsense'), qr/--help/, 'an option that is none');
like(refused('more'), qr/too many arguments/, 'an argument that is none');

# --- A Unix socket ---

my $path = "$dir/console.sock";
my $console = start_console($node, listen => $path);
is((stat $path)[2] & 0777, 0660, 'the socket is for its owner and group');
my $socket = IO::Socket::UNIX->new(Peer => $path);
print $socket "GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n";
my $answer = do { local $/; <$socket> };
like($answer, qr/\AHTTP\/1\.1 200/, 'it answers');
like(refused('--listen', $path), qr/another server listens/, 'a second one does not take its place');
is(stop_console($console, 'KILL'), -9, 'it dies');
$console = start_console($node, listen => $path);
ok(-S $path, 'and begins again where it was');
is(stop_console($console), 0, 'it ends');
ok(!-e $path, 'and removes its socket');

# --- Behind a proxy ---

$console = start_console($node, args => [ '--behind-proxy', '--host', 'console.example' ]);
my $client = client($console);
my $response = get($client, '/login', headers => { });
like($response->{headers}{'set-cookie'}, qr/^__Host-backfill_login=.*; Secure/, 'cookies are for TLS only');
my ($token) = $response->{content} =~ /name="csrf" value="(\w+)"/;
my @statuses = map {
	post($client, '/login', { user => 'bob', password => 'x', csrf => $token }, headers => { 'X-Forwarded-For' => "10.0.0.$_, 192.0.2.7" })->{status};
} 1 .. 2;
like(console_log($console), qr/from 192\.0\.2\.7 failed/, 'the last address of X-Forwarded-For is who asks');
is(stop_console($console), 0, 'it ends');

# --- TLS ---

SKIP:
{
	my $out = '';
	skip 'no openssl', 1 unless eval {
		IPC::Run::run([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$dir/key", '-out', "$dir/cert", '-days', '2', '-subj', '/CN=localhost' ],
			'<', \'', '>', \$out, '2>&1') };

	$console = start_console($node, args => [ '--tls-cert', "$dir/cert", '--tls-key', "$dir/key" ]);
	my $ask = sub {
		my ($request, @options) = @_;
		my $said = '';
		my $in = $request;
		my $run = IPC::Run::start([ 'openssl', 's_client', '-quiet', '-connect', $console->{host}, @options ], '<', \$in, '>', \$said, '2>', \my $errors, IPC::Run::timer(60));
		eval { $run->pump until $said =~ m{</html>|\n\z} && $said =~ /\r\n\r\n/ || !$run->pumpable };
		$run->kill_kill;
		return $said;
	};
	my $said = $ask->("GET /login HTTP/1.1\r\nHost: $console->{host}\r\n\r\n");
	like($said, qr/\AHTTP\/1\.1 200/, 'TLS');
	like($said, qr/^Set-Cookie: __Host-backfill_login=.*Secure/m, 'with cookies for TLS only');
	unlike($ask->("GET /login HTTP/1.1\r\nHost: $console->{host}\r\n\r\n", '-tls1_1'), qr/HTTP/, 'old versions are refused');
	unlike(raw_request($console, "GET /login HTTP/1.1\r\nHost: $console->{host}\r\n\r\n"), qr/\AHTTP\/1\.1 200/, 'and so is what is not encrypted');
	is(stop_console($console), 0, 'it ends');
	like(refused('--listen', '127.0.0.1:0', '--tls-cert', "$dir/key", '--tls-key', "$dir/cert"), qr/may be unfit/, 'a certificate that is none');
}

$node->stop;
done_testing();
