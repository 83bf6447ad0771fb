# What the tests of the console have in common: a cluster whose roles have
# passwords, the program, and a client that sends what it is told to send.

package BackfillTest::Console;

use strict;
use warnings;

use Exporter 'import';
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use BackfillTest;

our @EXPORT = qw(
  console_program make_console_node start_console stop_console console_log
  client log_in_client get post api do_action event_stream read_events raw_request
);

# Processes of consoles that have not been stopped, in this process.
my %started;

# The program under test, or nothing if it is not built.  BACKFILL_CONSOLE names it.
sub console_program
{
	my $program = $ENV{BACKFILL_CONSOLE};

	return $program && -x $program ? $program : undef;
}

# A cluster with the extension, in which alice, bob and nobody log in with
# passwords ("secret of alice"), and postgres without.
sub make_console_node
{
	my ($name, %opts) = @_;
	my $node = make_node($name, %opts);

	$node->safe_psql('postgres', q{
		CREATE ROLE alice LOGIN PASSWORD 'secret of alice';
		CREATE ROLE bob LOGIN PASSWORD 'secret of bob';
		CREATE ROLE nobody LOGIN PASSWORD 'secret of nobody';
		CREATE ROLE "o'hara <b>" LOGIN PASSWORD 'secret';
		GRANT CREATE ON SCHEMA public TO alice, bob});
	my $hba = $node->data_dir . '/pg_hba.conf';
	unlink $hba;
	PostgreSQL::Test::Utils::append_to_file($hba,
		"local all postgres trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n");
	$node->reload;
	return $node;
}

# A port on which nobody listens.
sub free_port
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "no port: $!";
	my $port = $socket->sockport;

	close($socket);
	return $port;
}

# Starts the program for a node.  Options: args, an array of further arguments;
# env, a hash; listen; under, an array of a command that runs it.  Returns a hash with url, port, pid.
sub start_console
{
	my ($node, %opts) = @_;
	my $port = free_port();
	my $listen = $opts{listen} || "127.0.0.1:$port";
	my $log = PostgreSQL::Test::Utils::tempdir() . '/console.log';
	my @command = (
		@{ $opts{under} || [] }, $opts{program} || console_program(), '-d', $node->connstr('postgres'),
		'--listen', $listen, @{ $opts{args} || [] });
	my $pid;

	# it is looked at before the child has got that far
	PostgreSQL::Test::Utils::append_to_file($log, '');
	$pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		%started = ();
		my %env = %{ $opts{env} || {} };
		delete @ENV{qw(PGUSER PGPASSWORD)};
		@ENV{ keys %env } = values %env;
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', $log);
		open(STDERR, '>>', $log);
		exec @command;
		exit 127;
	}
	$started{$pid} = 1;
	my $console = {
		pid => $pid, port => $port, log => $log, url => "http://127.0.0.1:$port", host => "127.0.0.1:$port", listen => $listen };
	for (1 .. 600)
	{
		return $console if -e $log && PostgreSQL::Test::Utils::slurp_file($log) =~ / listens at /;
		last if waitpid($pid, 1) == $pid;
		usleep(50_000);
	}
	die "the console did not start:\n" . PostgreSQL::Test::Utils::slurp_file($log);
}

# Ends it, as systemd does.  Returns its exit code, or -1 if it had to be killed.
sub stop_console
{
	my ($console, $signal) = @_;

	return $console->{rc} if defined $console->{rc};
	kill($signal || 'TERM', $console->{pid});
	for (1 .. 600)
	{
		if (waitpid($console->{pid}, 1) == $console->{pid})
		{
			delete $started{ $console->{pid} };
			$console->{rc} = $? & 127 ? -($? & 127) : $? >> 8;
			return $console->{rc};
		}
		usleep(50_000);
	}
	kill('KILL', $console->{pid});
	waitpid($console->{pid}, 0);
	delete $started{ $console->{pid} };
	$console->{rc} = -1;
	return -1;
}

sub console_log
{
	my ($console) = @_;
	return PostgreSQL::Test::Utils::slurp_file($console->{log});
}

# --- A browser without a window ------------------------------------------------

# A client with cookies of its own; it follows no redirect.
sub client
{
	my ($console) = @_;
	return {
		console => $console, cookies => {},
		http => HTTP::Tiny->new(max_redirect => 0, timeout => 60, agent => 'test') };
}

sub request
{
	my ($client, $method, $path, %opts) = @_;
	my %headers = %{ $opts{headers} || {} };
	my $cookies = join('; ', map { "$_=$client->{cookies}{$_}" } sort keys %{ $client->{cookies} });

	$headers{Cookie} //= $cookies if $cookies ne '';
	my $response = $client->{http}->request($method, "$client->{console}{url}$path",
		{ headers => \%headers, defined $opts{content} ? (content => $opts{content}) : () });
	my $set = $response->{headers}{'set-cookie'};
	foreach my $cookie (ref $set ? @$set : defined $set ? $set : ())
	{
		my ($name, $value) = $cookie =~ /^([^=;]+)=([^;]*)/;
		if ($value eq '') { delete $client->{cookies}{$name} }
		else { $client->{cookies}{$name} = $value }
	}
	return $response;
}

sub get { my ($client, $path, %opts) = @_; return request($client, 'GET', $path, %opts); }

# POST of a form.
sub post
{
	my ($client, $path, $fields, %opts) = @_;
	my $content = $client->{http}->www_form_urlencode($fields || {});
	my %headers = ('Content-Type' => 'application/x-www-form-urlencoded', Origin => $client->{console}{url}, %{ $opts{headers} || {} });

	return request($client, 'POST', $path, content => $content, headers => \%headers);
}

# Logs a client in.  Returns the response; the token of the session is kept.
sub log_in_client
{
	my ($client, $role, $password) = @_;
	my ($token) = get($client, '/login')->{content} =~ /name="csrf" value="(\w+)"/;
	my $response = post($client, '/login', { user => $role, password => $password // "secret of $role", csrf => $token });

	if ($response->{status} == 303)
	{
		($client->{csrf}) = get($client, '/runs')->{content} =~ /name="csrf" content="(\w+)"/;
	}
	return $response;
}

# GET of JSON: status and data.
sub api
{
	my ($client, $path) = @_;
	my $response = get($client, "/api$path");

	return ($response->{status}, eval { JSON::PP->new->utf8->decode($response->{content}) });
}

# POST of an action with the token: status and data.
sub do_action
{
	my ($client, $action, %fields) = @_;
	my $response = post($client, $action eq 'preview' ? '/api/preview' : "/api/do/$action", \%fields,
		headers => { 'X-CSRF-Token' => $client->{csrf} });

	return ($response->{status}, eval { JSON::PP->new->utf8->decode($response->{content}) });
}

# --- Event streams, and what no browser would send -----------------------------

sub connection
{
	my ($console) = @_;
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $console->{port}, Timeout => 30)
	  || die "no connection: $!";
}

# An open stream of events, for read_events.
sub event_stream
{
	my ($client, $path) = @_;
	my $socket = connection($client->{console});
	my $encoded = $client->{http}->www_form_urlencode({ path => $path });
	my $cookies = join('; ', map { "$_=$client->{cookies}{$_}" } sort keys %{ $client->{cookies} });

	print $socket "GET /events?$encoded HTTP/1.1\r\nHost: $client->{console}{host}\r\nCookie: $cookies\r\n\r\n";
	$socket->flush;
	$socket->blocking(0);
	return { socket => $socket, buffer => '', head => undef };
}

# Waits until events have come for which "until" is true, and returns all that
# have come since the last call, as [name, data].  An end is [end].
sub read_events
{
	my ($stream, $until, $bound) = @_;
	my $deadline = time + ($bound || $BackfillTest::timeout);
	my @events;

	while (time < $deadline)
	{
		my $n = sysread($stream->{socket}, my $bytes, 1 << 20);
		$stream->{buffer} .= $bytes if $n;
		if (!defined $stream->{head} && $stream->{buffer} =~ s/\A(.*?)\r\n\r\n//s)
		{
			$stream->{head} = $1;
		}
		while (defined $stream->{head} && $stream->{buffer} =~ s/\A(.*?)\n\n//s)
		{
			my $block = $1;
			my ($name) = $block =~ /^event: (.*)$/m;
			my ($data) = $block =~ /^data: (.*)$/m;
			push @events, [ $name, eval { JSON::PP->new->utf8->decode($data) } ] if defined $name;
		}
		push @events, ['end'] if defined $n && $n == 0;
		return @events if $until->(@events);
		last if defined $n && $n == 0;
		usleep(5_000) unless $n;
	}
	diag('events so far: ' . join(' ', map { $_->[0] } @events)) if @events < 50;
	return @events;
}

# Sends these bytes and returns all that comes back until the end, or for so many
# seconds.
sub raw_request
{
	my ($console, $bytes, %opts) = @_;
	my $socket = connection($console);
	my $deadline = time + ($opts{timeout} || 30);
	my $answer = '';
	local $SIG{PIPE} = 'IGNORE';

	syswrite($socket, $bytes);
	shutdown($socket, 1) if $opts{half_close};
	$socket->blocking(0);
	while (time < $deadline)
	{
		my $n = sysread($socket, my $more, 65536);
		$answer .= $more if $n;
		last if defined $n && $n == 0;
		usleep(2_000) unless $n;
	}
	close($socket);
	return $answer;
}

# Nothing is left running when a test dies.
END
{
	local ($?, $!);
	kill('KILL', grep { $started{$_} } keys %started);
}

1;
