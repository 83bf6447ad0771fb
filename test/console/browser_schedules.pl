# Schedules, where there is pg_cron: what the form makes, what the list says of it, and who may take it back.

use strict;
use warnings;

use Test::More;
use BackfillTest;
use BackfillTest::Browser;
use BackfillTest::Console;

my ($sharedir) = PostgreSQL::Test::Utils::run_command([ 'pg_config', '--sharedir' ]);
plan skip_all => 'this server has no pg_cron' unless -f "$sharedir/extension/pg_cron.control";
plan skip_all => 'no chromium with chromedriver' unless BackfillTest::Browser::programs();
plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('browser_schedules', conf => q{
shared_preload_libraries = 'backfill, pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
});
my $console = start_console($node);
my $browser = BackfillTest::Browser->new(dir => PostgreSQL::Test::Utils::tempdir());

# A name with the word that stands before the table in the name of a job.
query_ok($node, q{
	CREATE EXTENSION pg_cron;
	GRANT USAGE ON SCHEMA cron TO alice, bob;
	CREATE ROLE boss LOGIN SUPERUSER PASSWORD 'secret of boss';
	SET ROLE alice;
	CREATE TABLE t (id int PRIMARY KEY, n int);
	CREATE TABLE "odd "" on t" (id int PRIMARY KEY, n int);
	SELECT backfill_define('each', 't', $$UPDATE batch SET n = params.n$$, parameters => '{"n": {"type": "int", "default": 1}}');
	SELECT backfill_define('rest on sunday', null, $$UPDATE batch SET n = n + 1$$, generic => true)});

sub jobs
{
	return query_ok($node, q{SELECT string_agg(format('%s|%s|%s', jobname, username, schedule), E'\n' ORDER BY jobid) FROM cron.job});
}

# The rows of the list, without the command.
sub listed
{
	return $browser->js(q{return [...document.querySelectorAll('[data-key=schedules] tbody tr')].map(
		r => [...r.children].filter((c, i) => i !== 2).map(c => c.innerText).join('|')).join('\n')});
}

$browser->log_in($console, 'alice');
$browser->go("$console->{url}/definitions/each");
$browser->fill('[data-parameter=n]', '7');
$browser->click('[data-action=schedule]');
like($browser->text('dialog[open] .says'), qr/a run is started with the parameters and settings of the form/, 'what it will do is said before');
$browser->fill('#cron', 'at night');
$browser->click('dialog[open] button[type=submit]');
like($browser->wait_text('dialog[open] [role=alert]', '\S'), qr/invalid schedule/, 'what pg_cron does not understand is said');
$browser->fill('#cron', '30 2 * * *');
$browser->click('dialog[open] button[type=submit]');
$browser->wait_js('the dialog to close', 'return !document.querySelector("dialog[open]")');
is(jobs(), 'backfill each|alice|30 2 * * *', 'the form makes a schedule, of who has filled it in');
like(query_ok($node, 'SELECT command FROM cron.job'), qr/"n": 7/, 'with the parameters of the form');
$browser->log_lines;

my $alice = client($console);
log_in_client($alice, 'alice');
is((do_action($alice, 'schedule', name => 'rest on sunday', cron => '0 3 * * *', target => '"odd "" on t"'))[0], 200, 'a generic one, for a table');
my ($status, $data) = api($alice, '/definitions');
my ($each, $generic) = @{ $data->{schedules} };
is(join('|', $each->{definition}, $each->{target} // 'none'), 'each|none', 'the schedule says what it is of');
is(join('|', $generic->{definition}, $generic->{target}), 'rest on sunday|"public"."odd "" on t"', 'and for which table');
like(get($alice, '/definitions')->{content}, qr{<td>rest on sunday</td>\s*<td>&quot;public&quot;}, 'also without script');

# --- Others ---

my $bob = client($console);
log_in_client($bob, 'bob');
is(scalar @{ (api($bob, '/definitions'))[1]{schedules} }, 0, 'another one sees none of them');
my $nobody = client($console);
log_in_client($nobody, 'nobody');
($status, $data) = api($nobody, '/definitions');
is($status . ' ' . scalar @{ $data->{schedules} }, '200 0', 'who may not use pg_cron has the screen without them');
my $boss = client($console);
log_in_client($boss, 'boss');
is(scalar @{ (api($boss, '/definitions'))[1]{schedules} }, 2, 'a superuser sees all');
is((do_action($boss, 'unschedule', name => 'each'))[1]{result}, JSON::PP::false, 'but takes back none that is somebody else\'s');

# --- The list, also when it is searched ---

$browser->go("$console->{url}/definitions?q=sunday");
$browser->wait_text('[data-key=schedules]', 'sunday');
like(listed(), qr/^rest on sunday on "public"\."odd "" on t"\|0 3 \* \* \*\|alice\|yes\|Unschedule.$/, 'a search finds the schedule, too');
$browser->click('[data-key=schedules] button');
like($browser->until('a dialog', sub { $browser->text('dialog[open] .says') }), qr/Runs that are active go on/, 'what to take it back does is said before');
$browser->click('dialog[open] button[type=submit]');
$browser->wait_js('the list without it', q{return !document.querySelector('[data-key=schedules]')});
is(jobs(), 'backfill each|alice|30 2 * * *', 'it is taken back');

is(join("\n", $browser->log_lines), '', 'the console of the browser has nothing to complain about');
$browser->click('form[action="/logout"] button');
$browser->until('the login', sub { $browser->url =~ m{/login} });
# the page that is left may have asked once more
$browser->log_lines;
$browser->log_in($console, 'boss');
$browser->go("$console->{url}/definitions");
$browser->wait_text('[data-key=schedules]', 'each');
is(listed(), 'each|30 2 * * *|alice|yes|not yours', 'there is no button for what one cannot take back');
is(join("\n", $browser->log_lines), '', 'nor has it now');

$browser->quit;
is(stop_console($console), 0, 'the program ends as it should');
$node->stop;
done_testing();
