# A browser for tests: headless Chromium, driven by chromedriver over the WebDriver protocol, with modules of Perl's core alone.
#
# The driver listens on a port of the loopback that was free a moment ago, and keeps its profile in a directory of the
# test's.  Every wait has a bound.  What the browser's console says is kept: log_lines gives what is worse than a remark, violations of
# the content security policy included.
#
#   my $browser = BackfillTest::Browser->new(dir => $directory);
#   $browser->go($url); $browser->fill('#user', 'alice'); $browser->click('button');
#   $browser->wait_js('what is to be', 'return document.title === "x"');

package BackfillTest::Browser;

use strict;
use warnings;

use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64 qw(decode_base64);
use POSIX qw(:sys_wait_h setsid);
use Time::HiRes qw(time usleep);

# The bound of a wait, in seconds.
our $timeout = $ENV{BACKFILL_BROWSER_TIMEOUT} || 60;

my $json = JSON::PP->new->utf8->allow_nonref;

# The programs, or undef: where they are not, the test is skipped.
sub programs
{
	my %found;

	foreach my $name ('chromedriver', 'chromium')
	{
		($found{$name}) = grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/bin', '/usr/lib/chromium';
		return undef unless $found{$name};
	}
	return \%found;
}

sub free_port
{
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no free port: $!";
	return $socket->sockport;
}

# Start driver and browser.  Options: dir, where the profile and the logs go.
sub new
{
	my ($class, %opts) = @_;
	my $programs = programs() or die 'there is no chromium, or no chromedriver';
	my $self = bless {
		port => free_port(),
		http => HTTP::Tiny->new(timeout => $timeout + 30),
		dir => $opts{dir},
		log => [],
	}, $class;

	mkdir "$opts{dir}/$_" foreach ('home', 'profile');
	$self->{pid} = fork // die "cannot fork: $!";
	if ($self->{pid} == 0)
	{
		# A group of its own, so that the browsers go with the driver.
		setsid();
		delete @ENV{ grep { /^(XDG_|DBUS_|DISPLAY)/ } keys %ENV };
		$ENV{HOME} = "$opts{dir}/home";
		$ENV{TZ} = $opts{zone} || 'Europe/Berlin';
		open(STDOUT, '>', "$opts{dir}/chromedriver.log") and open(STDERR, '>&', \*STDOUT);
		exec($programs->{chromedriver}, "--port=$self->{port}") or POSIX::_exit(127);
	}
	$self->until('chromedriver to answer', sub {
		my $answer = $self->{http}->get("http://127.0.0.1:$self->{port}/status");
		return $answer->{success} && $json->decode($answer->{content})->{value}{ready};
	});

	my $session = $self->call('POST', '/session', {
		capabilities => { alwaysMatch => {
			browserName => 'chrome',
			'goog:loggingPrefs' => { browser => 'ALL' },
			'goog:chromeOptions' => {
				binary => $programs->{chromium},
				args => [
					'--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--no-first-run', '--hide-scrollbars',
					'--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-proxy-server',
					'--lang=en-US', "--user-data-dir=$opts{dir}/profile", '--window-size=1280,900',
				],
			},
		} },
	}, '');
	$self->{session} = "/session/$session->{sessionId}";
	$self->call('POST', '/timeouts', { pageLoad => 1000 * $timeout, script => 1000 * $timeout, implicit => 0 });
	return $self;
}

# One request of the protocol; dies with what the driver says.
sub call
{
	my ($self, $method, $path, $body, $session) = @_;
	my $url = "http://127.0.0.1:$self->{port}" . ($session // $self->{session}) . $path;
	my $answer = $self->{http}->request($method, $url, {
		headers => { 'Content-Type' => 'application/json; charset=utf-8' },
		($method eq 'POST' ? (content => $json->encode($body || {})) : ()),
	});
	my $value = eval { $json->decode($answer->{content})->{value} };

	return $value if $answer->{success};
	my $message = ref $value ? $value->{message} : $answer->{content};
	$message =~ s/\n.*//s;
	die "$method $path: $message\n";
}

# A command of the browser's own protocol.
sub devtools
{
	my ($self, $command, %params) = @_;
	return $self->call('POST', '/goog/cdp/execute', { cmd => $command, params => \%params });
}

# Wait until the code returns something true, and return that; dies after the bound.
sub until
{
	my ($self, $what, $code, $bound) = @_;
	my $end = time + ($bound || $timeout);

	for (;;)
	{
		my $found = eval { $code->() };
		return $found if $found;
		die "waited in vain for $what" . ($@ ? ": $@" : "\n") if time > $end;
		usleep(50_000);
	}
}

sub go
{
	my ($self, $url) = @_;

	$self->keep_log;
	$self->call('POST', '/url', { url => $url });
	return;
}

# What the script returns.
sub js
{
	my ($self, $script, @args) = @_;
	return $self->call('POST', '/execute/sync', { script => $script, args => \@args });
}

# What the script hands to its last argument.
sub js_async
{
	my ($self, $script, @args) = @_;
	return $self->call('POST', '/execute/async', { script => $script, args => \@args });
}

# Wait for a script to return something true.
sub wait_js
{
	my ($self, $what, $script, @args) = @_;
	return $self->until($what, sub { $self->js($script, @args) });
}

sub url
{
	my ($self) = @_;
	return $self->call('GET', '/url');
}

# Wait until a text is in the element (the first, or the whole page).
sub wait_text
{
	my ($self, $selector, $pattern) = @_;
	return $self->until("\"$pattern\" in $selector", sub {
		my $text = $self->text($selector);
		return defined $text && $text =~ /$pattern/ ? $text : 0;
	});
}

# The text of the first such element as it is shown, or undef.
sub text
{
	my ($self, $selector) = @_;
	return $self->js('const e = document.querySelector(arguments[0]); return e && e.innerText', $selector);
}

# The driver's name of the first such element that is shown and can be used; waits for it.
sub element
{
	my ($self, $selector) = @_;
	my $element = $self->until("an element $selector", sub {
		return $self->js('return [...document.querySelectorAll(arguments[0])].find(e => e.checkVisibility() && !e.disabled)', $selector);
	});
	return $element->{'element-6066-11e4-a52e-4f735466cecf'};
}

# Click as a person does.  The screen is drawn anew meanwhile, so it is tried until it goes.
sub click
{
	my ($self, $selector) = @_;

	$self->until("a click on $selector", sub {
		$self->call('POST', '/element/' . $self->element($selector) . '/click');
		return 1;
	});
	return;
}

# Put a text into a field, in place of what is there.
sub fill
{
	my ($self, $selector, $text) = @_;
	my $element = $self->element($selector);

	$self->call('POST', "/element/$element/clear");
	$self->call('POST', "/element/$element/value", { text => "$text" });
	return;
}

# Choose a value of a select.
sub choose
{
	my ($self, $selector, $value) = @_;

	$self->element($selector);
	$self->js('const e = document.querySelector(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event("change", { bubbles: true }))',
		$selector, $value);
	return;
}

# Keys for whatever has the focus.
sub keys
{
	my ($self, @keys) = @_;

	$self->call('POST', '/actions', { actions => [ {
		type => 'key', id => 'keyboard',
		actions => [ map { ({ type => 'keyDown', value => $_ }, { type => 'keyUp', value => $_ }) } @keys ],
	} ] });
	return;
}

# The theme that the system is said to have.
sub theme
{
	my ($self, $theme) = @_;

	$self->devtools('Emulation.setEmulatedMedia', features => [ { name => 'prefers-color-scheme', value => $theme } ]);
	return;
}

# The size of the window; a phone has a finger, too.
sub size
{
	my ($self, $width, $height, $phone) = @_;

	$self->devtools('Emulation.setDeviceMetricsOverride', width => $width + 0, height => $height + 0, deviceScaleFactor => 1,
		mobile => $phone ? JSON::PP::true : JSON::PP::false);
	return;
}

# A picture of the whole page, or of what is in sight.
sub picture
{
	my ($self, $file, %opts) = @_;
	my $shot = $self->devtools('Page.captureScreenshot', format => 'png', captureBeyondViewport => $opts{sight} ? JSON::PP::false : JSON::PP::true);

	open(my $out, '>:raw', $file) or die "cannot write $file: $!";
	print $out decode_base64($shot->{data});
	close($out) or die "cannot write $file: $!";
	return;
}

sub keep_log
{
	my ($self) = @_;
	push @{ $self->{log} }, @{ $self->call('POST', '/se/log', { type => 'browser' }) || [] };
	return;
}

# What the console of the browser has said since the last call, warnings and worse, a line each.
sub log_lines
{
	my ($self) = @_;

	$self->keep_log;
	my @lines = map { "$_->{level}: $_->{message}" } grep { $_->{level} =~ /^(WARNING|SEVERE)$/ } @{ $self->{log} };
	$self->{log} = [];
	return @lines;
}

# Log in at the console, with the password that its tests give a role.
sub log_in
{
	my ($self, $console, $role) = @_;

	$self->go("$console->{url}/login");
	$self->fill('#user', $role);
	$self->fill('#password', "secret of $role");
	$self->click('form.login button');
	$self->wait_js('the first screen', 'return location.pathname === "/runs" && document.querySelector("#stamp time")');
	return;
}

sub quit
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	local $?;
	eval { $self->call('DELETE', '') } if $self->{session};
	kill('TERM', -$pid);
	foreach my $try (1 .. 100)
	{
		return if waitpid($pid, WNOHANG) != 0;
		usleep(50_000);
	}
	kill('KILL', -$pid);
	waitpid($pid, 0);
	return;
}

sub DESTROY
{
	my ($self) = @_;
	$self->quit;
	return;
}

1;
