# The connection is lost: the page says so, and since when, and shows no old number as one of this moment.

use strict;
use warnings;

use Test::More;
use BackfillTest;
use BackfillTest::Browser;
use BackfillTest::Console;

plan skip_all => 'no chromium with chromedriver' unless BackfillTest::Browser::programs();
plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('browser_lost');
my $console = start_console($node);
my $browser = BackfillTest::Browser->new(dir => PostgreSQL::Test::Utils::tempdir());
my $struck = 'return getComputedStyle(document.querySelector(".big-number")).textDecorationLine';

query_ok($node, q{
	SET ROLE alice;
	CREATE TABLE t AS SELECT i AS id, 0 AS n FROM generate_series(1, 100000) i;
	ALTER TABLE t ADD PRIMARY KEY (id);
	SELECT backfill_define('slow', 't', $$UPDATE batch SET n = n + 1$$, settings => '{"rate_limit": "200 per second"}');
	SELECT backfill_start('slow')});
$browser->log_in($console, 'alice');
$browser->go("$console->{url}/runs/1");
$browser->wait_text('.big-number', '[1-9]');
is($browser->js($struck), 'none', 'live numbers are plain');

# --- The database goes away ---

$node->stop('immediate');
my $text = $browser->wait_text('#banner', 'No connection to the database');
like($text, qr/is from \d\d:\d\d:\d\d and may be old/, 'the banner says what is the matter, and when the data are from');
is($browser->js($struck), 'line-through', 'numbers that are old are struck out');
is($browser->js('return getComputedStyle(document.querySelector(".life .lasted.now")).textDecorationLine'), 'line-through', 'the clock of the run, too');
is($browser->js(q{return [...document.querySelectorAll('.progress .big-line > *, .progress .facts dd, .status-running, [data-key=hands] td:not([data-label=Process], [data-label=Since])')]
	.filter(e => /\w/.test(e.innerText) && !e.closest('.now') && !e.querySelector('.now'))
	.map(e => e.innerText).join(', ')}), '', 'no number of the run, and no status, is left that looks like one of this moment');
like($browser->js('return document.title'), qr/^\(old\) /, 'the title of the tab says so, too');
my $clock = $browser->text('.life .here .lasted');
my $stamp = $browser->text('#stamp time');
$browser->js_async('setTimeout(arguments[0], 2500)');
is($browser->text('.life .here .lasted'), $clock, 'and it stands still');
is($browser->text('#stamp time'), $stamp, 'as the time of the data does');
is($browser->js('return document.querySelector("#banner").getAttribute("role")'), 'alert', 'the banner is read aloud');

# A button that is pressed now says what is wrong.
if ($browser->js('return !!document.querySelector("[data-action=pause]")'))
{
	$browser->click('[data-action=pause]');
	$browser->click('dialog[open] button[type=submit]');
	like($browser->wait_text('dialog[open] [role=alert]', '\S'), qr/\w/, 'what cannot be done is said in the dialog');
	$browser->click('dialog[open] button[type=button]');
}

# --- And comes back ---

# Who comes meanwhile has nothing that could ask again but the browser.
my $tab = $browser->call('GET', '/window');
my $other = $browser->call('POST', '/window/new', { type => 'tab' })->{handle};
$browser->call('POST', '/window', { handle => $other });
$browser->go("$console->{url}/runs/1");
like($browser->text('main'), qr/cannot be reached.*answered last at.*read again every 5 seconds/s, 'a page that is opened now says so');
$browser->call('POST', '/window', { handle => $tab });

$node->start;
$browser->wait_js('the banner to go', 'return document.querySelector("#banner").innerText === ""');
is($browser->js($struck), 'none', 'numbers are live again');
unlike($browser->js('return document.title'), qr/old/, 'and so is the title');
$browser->wait_js('new data', 'return document.querySelector("#stamp time").innerText !== arguments[0]', $stamp);
pass('and new');

$browser->call('POST', '/window', { handle => $other });
$browser->wait_js('the page to be read again', 'return document.querySelector(".big-number") && document.querySelector("#stamp time")');
is($browser->text('#banner'), '', 'the page that could not be shown comes by itself');
$browser->call('DELETE', '/window');
$browser->call('POST', '/window', { handle => $tab });

# --- No events: it is asked again and again instead ---

$browser->devtools('Network.enable');
$browser->devtools('Network.setBlockedURLs', urls => ['*/events*']);
$browser->go("$console->{url}/runs/1");
$browser->wait_text('.big-number', '[1-9]');
my $progress = $browser->text('.big-number');
$browser->until('progress', sub { $browser->text('.big-number') ne $progress });
pass('without events progress moves as well');
is($browser->js('return document.body.className'), '', 'and is live');
$browser->devtools('Network.setBlockedURLs', urls => []);
$browser->go("$console->{url}/runs/1");
$browser->wait_text('.big-number', '[1-9]');

# --- The console goes away ---

$browser->log_lines;
stop_console($console);
$browser->wait_text('#banner', 'No connection to the console');
is($browser->js($struck), 'line-through', 'without the console, numbers are struck out as well');

# --- One that only shows ---

my $reader = start_console($node, args => ['--read-only'], env => { PGUSER => 'postgres' });
$browser->go("$reader->{url}/runs/1");
$browser->wait_text('.big-number', '[1-9]');
pass('with --read-only nobody has to log in');
is($browser->js('return document.querySelectorAll("main [data-action]:not([data-action=all-settings]), main [data-setting]").length'), 0, 'and there is nothing to press');
stop_console($reader);

$browser->quit;
$node->stop;
done_testing();
