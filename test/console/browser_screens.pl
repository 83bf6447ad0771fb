# Every screen, in both themes, on a desk and on a phone: a picture of each for a person to look at, nothing that axe finds wrong,
# nothing that sticks out of a phone; the keyboard; and the same screens without script.
#
#   BACKFILL_PICTURES=...   where the pictures go; a temporary directory otherwise

use strict;
use warnings;

use Cwd qw(getcwd);
use Test::More;
use BackfillTest;
use BackfillTest::Browser;
use BackfillTest::Console;

plan skip_all => 'no chromium with chromedriver' unless BackfillTest::Browser::programs();
plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('browser_screens');
my $console = start_console($node);
my $work = PostgreSQL::Test::Utils::tempdir();
my $pictures = $ENV{BACKFILL_PICTURES} || PostgreSQL::Test::Utils::tempdir();
my $browser = BackfillTest::Browser->new(dir => $work);

mkdir $pictures;
diag("pictures of the screens are in $pictures");

# axe from the registry, as text, or undef and why.
sub axe
{
	my $here = getcwd();
	my $source;

	return (undef, 'there is no npm') unless grep { -x "$_/npm" } split(/:/, $ENV{PATH});
	mkdir "$work/axe";
	chdir "$work/axe" or die "cannot go to $work/axe: $!";
	system('timeout 60 npm pack --silent --cache "$PWD/cache" axe-core@4 >npm.log 2>&1 && tar xzf axe-core-*.tgz');
	chdir $here or die "cannot go back to $here: $!";
	return (undef, 'axe-core cannot be had from the registry') unless -f "$work/axe/package/axe.min.js";
	return PostgreSQL::Test::Utils::slurp_file("$work/axe/package/axe.min.js");
}

# What axe finds in what is shown, a line for each rule.
sub violations
{
	my ($axe) = @_;

	$browser->js($axe) unless $browser->js('return typeof axe !== "undefined"');
	return join("\n", @{ $browser->js_async(q{
		const done = arguments[arguments.length - 1];
		axe.run(document, { resultTypes: ['violations'] }).then(
			found => done(found.violations.map(v => `${v.impact} ${v.id}: ` + v.nodes.slice(0, 3).map(n => n.target.join(' ') + (n.any[0] ? ' ' + n.any[0].message : '')).join('; '))),
			error => done([String(error)]))}) });
}

query_ok($node, q{
	SET ROLE alice;
	CREATE TABLE contacts (id int PRIMARY KEY, account_id int, cell text, cell_e164 text, role text);
	INSERT INTO contacts SELECT i, i % 500, '212-555-' || lpad((i % 10000)::text, 4, '0') FROM generate_series(1, 100000) i;
	ANALYZE contacts;
	CREATE TABLE orders (id int PRIMARY KEY, amount_text text, amount int);
	INSERT INTO orders SELECT i, CASE WHEN i % 97 = 0 THEN 'about ' || i ELSE i::text END FROM generate_series(1, 5000) i;
	SELECT backfill_define('normalize_cells', 'contacts', $$UPDATE batch SET cell_e164 = '+1' || regexp_replace(cell, '\D', '', 'g')$$,
		scope => $$cell_e164 IS NULL$$, description => 'Telephone numbers in the form of E.164',
		settings => '{"rate_limit": "300 per second", "workers": 2, "max_xmin_age": 1000000, "max_dead_rows": 0.9}');
	SELECT backfill_define('amounts', 'orders', $$UPDATE batch SET amount = amount_text::int$$, scope => $$amount IS NULL$$, settings => '{"on_error": "skip"}');
	SELECT backfill_define('amounts_strict', 'orders', $$UPDATE batch SET amount = amount_text::int$$, scope => $$amount IS NULL$$);
	SELECT backfill_define('assign', 'contacts', $$UPDATE batch SET role = params.role$$,
		scope => $$account_id = ANY (params.accounts) AND role IS DISTINCT FROM params.role$$, settings => '{"share_target": true}',
		parameters => '{"accounts": {"type": "int[]", "required": true, "description": "whose contacts"},
			"role": {"type": "text", "default": "member", "options": ["member", "guest"]}, "since": {"type": "date"}, "dry": {"type": "boolean", "default": false}}');
	CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10001);
	CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10001) TO (20001);
	INSERT INTO parted SELECT i, 0 FROM generate_series(1, 20000) i;
	SELECT backfill_define('parted', 'parted', $$UPDATE batch SET n = n + 1$$, streams => 'partitions', settings => '{"workers": 2, "rate_limit": "100 per second"}');
	SELECT backfill_start('amounts')});
wait_for_status($node, 1, 'completed');
query_ok($node, q{SET ROLE alice; SELECT backfill_start('amounts_strict')});
wait_for_status($node, 2, 'failed');
query_ok($node, q{SET ROLE alice;
	SELECT backfill_start('normalize_cells', settings => '{"share_target": true}');
	SELECT backfill_start('assign', '{"accounts": [7, 8]}', start_at => now() + interval '3 hours');
	SELECT backfill_start('parted')});
wait_for($node, 'SELECT batches > 3 FROM backfill_runs WHERE id = 3');

my ($axe, $why) = axe();

# --- The login ---

$browser->go("$console->{url}/login");
foreach my $theme ('light', 'dark')
{
	$browser->theme($theme);
	$browser->picture("$pictures/login-$theme.png");
	is(violations($axe), '', "axe finds nothing on the login, $theme") if $axe;
}
$browser->log_in($console, 'alice');

# --- Every screen ---

my @screens = (
	[ runs => '/runs' ], [ run => '/runs/3', 3 ], [ failed => '/runs/2' ], [ pending => '/runs/4' ], [ streams => '/runs/5' ], [ batches => '/runs/2/batches' ], [ errors => '/runs/1/errors' ],
	[ events => '/runs/2/events' ], [ definitions => '/definitions' ], [ definition => '/definitions/assign' ], [ health => '/health' ]);

foreach my $screen (@screens)
{
	my ($name, $path, $points) = @$screen;
	my @wrong;

	$browser->size(1280, 900);
	$browser->theme('light');
	$browser->go($console->{url} . $path);
	$browser->wait_js("the screen $name", 'return document.querySelector("#stamp time")');
	$browser->wait_js('a chart', 'return document.querySelector(".chart-rate canvas")') if $points;
	foreach my $theme ('light', 'dark')
	{
		$browser->theme($theme);
		$browser->picture("$pictures/$name-$theme.png");
		push @wrong, map { "$theme: $_" } violations($axe) || () if $axe;
	}
	$browser->size(375, 800, 1);
	my $width = $browser->wait_js('a width', 'return document.documentElement.scrollWidth');
	cmp_ok($width, '<=', 375, "$name fits a phone");
	$browser->picture("$pictures/$name-phone.png");
	push @wrong, map { "phone: $_" } violations($axe) || () if $axe;
	is(join("\n", @wrong), '', "axe finds nothing on $name") if $axe;
}
SKIP:
{
	skip($why, 1) unless $axe;
	pass('axe has looked at every screen in both themes');
}

# --- Streams ---

$browser->size(1280, 900);
$browser->go("$console->{url}/runs/5");
like($browser->wait_text('[data-key=streams]', 'parted_2'), qr/parted_1.*running/s, 'a run that is divided shows its streams');
like($browser->wait_text('[data-key=hands]', 'parted_'), qr/Stream/, 'and which one a worker has');

# --- Dialogs, too ---

$browser->size(1280, 900);
$browser->go("$console->{url}/runs/3");
$browser->click('[data-setting=rate_limit]');
$browser->picture("$pictures/dialog-dark.png", sight => 1);
is(violations($axe), '', 'axe finds nothing in the dialog of a setting') if $axe;
is($browser->js('return document.activeElement.id'), 'setting-value', 'the field of a setting has the focus');
$browser->keys("\x{E00C}");
$browser->wait_js('no dialog', 'return !document.querySelector("dialog")');
is($browser->js('return document.activeElement.dataset.setting'), 'rate_limit', 'Esc leaves it, and the focus is where it was');

# --- The keyboard ---

$browser->go("$console->{url}/runs");
$browser->wait_js('the runs', 'return document.querySelector("#stamp time")');
$browser->keys('/');
is($browser->js('return document.activeElement.id'), 'search', '/ goes to the search');
$browser->fill('#search', 'amounts');
$browser->wait_js('two runs', 'return document.querySelectorAll("main tbody tr").length === 2');
like($browser->url, qr/q=amounts/, 'what is searched for stands in the address');
is($browser->js('return document.activeElement.id'), 'search', 'and the focus stays in the field while the screen is drawn anew');
$browser->keys("\x{E00C}");
$browser->keys($_) foreach ('j', 'j', 'k');
is($browser->js('return document.activeElement.closest("tr").rowIndex'), 1, 'j and k go from row to row');
$browser->keys('?');
like($browser->wait_text('dialog[open]', 'Keys'), qr/search.*theme/s, '? shows the keys');
$browser->keys("\x{E00C}");
$browser->wait_js('no dialog', 'return !document.querySelector("dialog")');
$browser->theme('light');
my $ground = 'return getComputedStyle(document.body).backgroundColor';
my $light = $browser->js($ground);
$browser->keys('t');
is($browser->js($ground), $light, 't chooses light first');
$browser->keys('t');
isnt($browser->js($ground), $light, 'then dark');
$browser->go("$console->{url}/definitions");
isnt($browser->js($ground), $light, 'which holds on the next screen');
$browser->wait_js('the definitions', 'return document.querySelector("#stamp time")');
$browser->keys('t');
is($browser->js($ground), $light, 'and then what the system has');
my $stamp = $browser->text('#stamp time');
$browser->keys('r');
$browser->wait_text('#say', 'Asked again');
pass('r asks again');

# --- Tabs ---

$browser->go("$console->{url}/runs?tab=failed");
is($browser->wait_js('one run', 'const rows = document.querySelectorAll("main tbody tr"); return rows.length === 1 && rows[0].innerText'),
	$browser->js('return document.querySelector("main tbody tr").innerText'), 'the tab of failed runs has the one');

# --- Pages of a list: a batch that was divided has many rows, and none is lost between two pages ---

my @rows;
$browser->go("$console->{url}/runs/1/batches");
for (;;)
{
	my $first = $browser->wait_js('batches', 'return document.querySelector("#stamp time") && document.querySelector("main tbody th").textContent');
	push @rows, @{ $browser->js('return [...document.querySelectorAll("main tbody th")].map(th => th.textContent)') };
	last unless $browser->js('const older = [...document.querySelectorAll("a[data-here]")].find(a => a.textContent === "Older"); if (older) older.click(); return !!older');
	$browser->wait_js('the next page', 'return document.querySelector("main tbody th").textContent !== arguments[0]', $first);
}
my %once = map { $_ => 1 } @rows;
my $batches = query_ok($node, 'SELECT count(*) FROM backfill_batches WHERE run_id = 1');
cmp_ok($batches, '>', 150, 'there are more batches than a page holds');
is(@rows . ' rows, ' . keys(%once) . ' of them different', "$batches rows, $batches of them different", 'each batch is on one page');

# --- What is changed elsewhere is said aloud ---

$browser->go("$console->{url}/runs/3");
$browser->wait_text('.big-number', '[1-9]');
query_ok($node, 'SELECT backfill_pause(3)');
like($browser->wait_text('#say', 'paused'), qr/Run 3 of normalize_cells is paused/, 'a change of status is said in a live region');
is($browser->js('return document.querySelector("#say").getAttribute("aria-live")'), 'polite', 'politely');

is(join("\n", $browser->log_lines), '', 'the console of the browser has nothing to complain about');

# --- Without script ---

$browser->devtools('Emulation.setScriptExecutionDisabled', value => JSON::PP::true);
foreach my $screen (@screens)
{
	my ($name, $path) = @$screen;

	$browser->go($console->{url} . $path);
	my $html = $browser->call('GET', '/source');
	like($html, qr{<main[^>]*>.*<h1.*(<table|<dl|<p)}s, "$name can be read without script");
	$browser->picture("$pictures/$name-plain.png") if $name eq 'runs' || $name eq 'run';
}

$browser->quit;
stop_console($console);
$node->stop;
done_testing();
