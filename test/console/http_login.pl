# Who may: logging in as a role, sessions and their end, tokens, brute force,
# and the console that only reads.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use BackfillTest;
use BackfillTest::Console;

plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('http_login');
# a minute passes in six seconds
my $console = start_console($node, args => [ '--idle-timeout', 2 ], env => { BACKFILL_CONSOLE_CLOCK => 10 });
my $alice = client($console);
my $response;

query_ok($node, q{
	SET ROLE alice;
	CREATE TABLE t AS SELECT i AS id, 0 AS n FROM generate_series(1, 1000) i;
	ALTER TABLE t ADD PRIMARY KEY (id);
	SELECT backfill_define('of_alice', 't', $$UPDATE batch SET n = n + 1$$, settings => '{"sleep": "1min", "batch_size": 10, "target_batch_time": 0}');
	SELECT backfill_start('of_alice')});

# --- The form ---

is(get($alice, '/runs')->{headers}{location}, '/login', 'who is not logged in is sent to the form');
is((api($alice, '/runs'))[0], 401, 'and gets no data');
$response = get($alice, '/login');
is($response->{status}, 200, 'the form is shown');
my $planted = 'f' x 64;
$alice->{cookies}{backfill_console} = $planted;
is(get($alice, '/runs')->{headers}{location}, '/login', 'a session that was made up is none');

$response = post($alice, '/login', { user => 'alice', password => 'secret of alice' });
is($response->{status}, 403, 'a login without the token of the form is refused');
my $other = client($console);
my ($foreign_token) = get($other, '/login')->{content} =~ /name="csrf" value="(\w+)"/;
$response = post($alice, '/login', { user => 'alice', password => 'secret of alice', csrf => $foreign_token });
is($response->{status}, 403, 'and so is one with the token of another browser');

$response = log_in_client($alice, 'alice');
is($response->{status}, 303, 'the right password lets in');
my ($cookie) = grep { /^backfill_console=/ } map { ref $_ ? @$_ : $_ } $response->{headers}{'set-cookie'};
like($cookie, qr/; HttpOnly/, 'the cookie is not for scripts');
like($cookie, qr/; SameSite=Strict/, 'nor for pages of others');
like($cookie, qr/; Path=\//, 'and for all of this server');
isnt($alice->{cookies}{backfill_console}, $planted, 'the session has a new name, whatever the browser came with');
unlike($response->{headers}{location}, qr/secret|alice/, 'the address has no secret');
my ($status, $data) = api($alice, '/runs');
is($status, 200, 'data are there');
is($data->{role}, 'alice', 'seen as who is logged in');
is(scalar @{ $data->{runs} }, 1, 'with the runs of this role');

# --- Another role ---

my $nobody = client($console);
log_in_client($nobody, 'nobody');
($status, $data) = api($nobody, '/runs');
is_deeply($data->{runs}, [], 'a role without rights sees no run');
is_deeply($data->{counters}, { active => 0, held => 0, failed => 0, completed => 0 }, 'and counts none');
foreach my $path (qw(/runs/1 /runs/1/batches /runs/1/errors /runs/1/events /definitions/of_alice))
{
	is((api($nobody, $path))[0], 404, "$path is not there for it");
}
($status, $data) = api($nobody, '/definitions');
is_deeply($data->{definitions}, [], 'nor any definition');
($status, $data) = do_action($nobody, 'stop', id => 1);
is($status, 404, 'and it stops nothing');
($status, $data) = do_action($nobody, 'start', name => 'of_alice');
like($data->{error}{message}, qr/does not exist|permission denied|owner/, 'nor starts: ' . $data->{error}{message});
is(run_value($node, 1, 'status'), 'running', 'the run goes on') if wait_for_status($node, 1, 'running');

# --- Tokens ---

$response = post($alice, '/api/do/pause', { id => 1 });
is($response->{status}, 403, 'a change without the token of the session is refused');
$response = post($alice, '/api/do/pause', { id => 1 }, headers => { 'X-CSRF-Token' => $nobody->{csrf} });
is($response->{status}, 403, 'and so is one with the token of another session');
$response = post($alice, '/api/do/pause', { id => 1 }, headers => { 'X-CSRF-Token' => $alice->{csrf}, Origin => 'http://evil.example' });
is($response->{status}, 403, 'and one from a page of another server');
$response = post($alice, '/api/do/pause', { id => 1 }, headers => { 'X-CSRF-Token' => $alice->{csrf}, Origin => 'null' });
is($response->{status}, 403, 'and one from nowhere');
$response = post($alice, '/api/do/pause', { id => 1 }, headers => { 'X-CSRF-Token' => $alice->{csrf}, 'Sec-Fetch-Site' => 'cross-site' });
is($response->{status}, 403, 'and one that the browser says comes from another site');
is(get($alice, '/api/do/pause?id=1')->{status}, 404, 'a change is no GET');
is(run_value($node, 1, 'status'), 'running', 'nothing has happened to the run');
($status, $data) = do_action($alice, 'pause', id => 1, note => 'a reason');
is($status, 200, 'with the token it is done');
ok(wait_for_status($node, 1, 'paused'), 'the run is paused');
is(query_ok($node, q{SELECT DISTINCT role || ' ' || reason FROM backfill_events WHERE status = 'paused'}), 'alice backfill_pause: a reason',
	'by the person, and for the reason, as the event says');

# --- Trust is no proof ---

my $root = client($console);
$response = log_in_client($root, 'postgres', 'anything');
is($response->{status}, 403, 'where the server asks for no password, a login is refused');
like(console_log($console), qr/role "postgres" .* has not asked for a password/, 'and the log says why');
$response = log_in_client($root, 'alice', '');
is($response->{status}, 403, 'an empty password is none');

# --- Brute force ---

my $thief = client($console);
my @responses = map { log_in_client($thief, 'bob', "guess $_") } 1 .. 12;
my @held = grep { $_->{status} == 429 } @responses;
is($responses[0]{status}, 403, 'a wrong password is refused');
ok(@held > 0, 'who guesses has to wait');
is(scalar(grep { ($_->{headers}{'retry-after'} || 0) > 0 } @held), scalar(@held), 'and is told for how long');
is(query_ok($node, 'SELECT 1'), 1, 'the server is not asked meanwhile');
my $guesses = () = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /password authentication failed for user "bob"/g;
cmp_ok($guesses, '<=', 12 - @held, "the server has seen $guesses of the 12 guesses");
ok(tries_until(sub { log_in_client(client($console), 'bob')->{status} == 303 }), 'later the right password lets in');
$response = log_in_client(client($console), 'no_such_role', 'x');
is($response->{status}, 403, 'a role that does not exist is refused');
like($response->{content}, qr/This role and password are not accepted/, 'with the same words');

# --- No secret in the log ---

my $log = console_log($console);
unlike($log, qr/secret of|guess|$alice->{csrf}|$alice->{cookies}{backfill_console}/, 'the log has no password, token or cookie');
like($log, qr/role "alice" has logged in from 127\.0\.0\.1/, 'but says who has logged in');
log_in_client(client($console), "x\nbackfill-console: role \"root\" has logged in", 'y');
unlike(console_log($console), qr/^backfill-console: role "root"/m, 'a line cannot be forged');

# --- The end of a session ---

my $stream = event_stream($alice, '/runs');
read_events($stream, sub { grep { $_->[0] eq 'data' } @_ });
$response = post($alice, '/logout', {});
is($response->{status}, 403, 'a logout needs the token, too');
my %kept = %{ $alice->{cookies} };
$response = post($alice, '/logout', { csrf => $alice->{csrf} });
is($response->{headers}{location}, '/login', 'a logout leads to the form');
my @events = read_events($stream, sub { grep { $_->[0] eq 'end' } @_ });
ok((grep { $_->[0] eq 'logout' } @events), 'the event stream is told');
$alice->{cookies} = \%kept;
is((api($alice, '/runs'))[0], 401, 'the old cookie is worth nothing');

my $idle = client($console);
log_in_client($idle, 'alice');
$stream = event_stream($idle, '/runs');
my $began = time;
@events = read_events($stream, sub { grep { $_->[0] eq 'end' } @_ });
ok((grep { $_->[0] eq 'logout' } @events), 'an idle session is ended');
cmp_ok(time - $began, '>', 9, 'not before its time');
is((api($idle, '/runs'))[0], 401, 'and its cookie is worth nothing');

# --- A password that was changed ---

my $changed = client($console);
log_in_client($changed, 'bob');
$stream = event_stream($changed, '/runs');
read_events($stream, sub { grep { $_->[0] eq 'data' } @_ });
query_ok($node, q{ALTER ROLE bob NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bob'});
@events = read_events($stream, sub { grep { $_->[0] eq 'end' } @_ });
ok((grep { $_->[0] eq 'logout' } @events), 'a role that may not log in any more is logged out');

is(stop_console($console), 0, 'the program ends as it should');

# --- A console that only reads ---

my $reader = start_console($node, args => ['--read-only'], env => { PGUSER => 'alice', PGPASSWORD => 'secret of alice' });
my $visitor = client($reader);
($status, $data) = api($visitor, '/runs/1');
is($status, 200, 'a console that only reads asks for no password');
is_deeply($data->{may}, {}, 'and offers nothing');
is(post($visitor, '/api/do/resume', { id => 1 })->{status}, 403, 'what is asked for all the same is refused');
is(post($visitor, '/api/preview', { name => 'of_alice' })->{status}, 403, 'the preview, too');
is(post($visitor, '/login', { user => 'alice', password => 'x' })->{status}, 404, 'nobody logs in');
like(get($visitor, '/runs')->{content}, qr/data-read-only="true"/, 'the page knows');
is((api($visitor, '/definitions/of_alice/explain'))[0], 200, 'what changes nothing can be had');
is(run_value($node, 1, 'status'), 'paused', 'the run is as it was');
is(stop_console($reader), 0, 'it ends as it should');

$node->stop;
done_testing();

# Whether something comes true within the bound.
sub tries_until
{
	my ($what) = @_;
	my $until = time + $BackfillTest::timeout;

	while (time < $until)
	{
		return 1 if $what->();
		Time::HiRes::usleep(200_000);
	}
	return 0;
}
