# The pieces of the page that compute something: how numbers, spans and times are written, when a time left means something, and how a new
# picture is laid over the one that is shown.

use strict;
use warnings;

use Test::More;
use BackfillTest;
use BackfillTest::Browser;
use BackfillTest::Console;

plan skip_all => 'no chromium with chromedriver' unless BackfillTest::Browser::programs();
plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('browser_pieces');
my $console = start_console($node);
my $browser = BackfillTest::Browser->new(dir => PostgreSQL::Test::Utils::tempdir());

$browser->go("$console->{url}/login");

# What an expression over a module, m, gives, as text.
sub value
{
	my ($module, $expression) = @_;
	return $browser->js_async("const done = arguments[arguments.length - 1];
		import('/assets/$module').then(m => String($expression)).then(done, error => done('error: ' + error))");
}

# --- Numbers, sizes, spans ---

my $none = "\x{2013}";
my @written = (
	[ 'm.count(1234567)', '1,234,567' ], [ 'm.count(null)', $none ], [ 'm.count(0)', '0' ],
	[ 'm.rate(3.14159)', '3.1' ], [ 'm.rate(5978.6)', '5,979' ], [ 'm.rate(0)', '0' ],
	[ 'm.bytes(0)', '0 B' ], [ 'm.bytes(1023)', '1,023 B' ], [ 'm.bytes(1536)', '1.5 kB' ], [ 'm.bytes(-2097152)', '-2 MB' ], [ 'm.bytes(5e12)', '4.5 TB' ],
	[ 'm.percent(0)', '0 %' ], [ 'm.percent(100)', '100 %' ], [ 'm.percent(99.999)', '99.99 %' ], [ 'm.percent(31.35)', '31.35 %' ], [ 'm.percent(null)', $none ],
	[ q{m.seconds('00:02:05.5')}, '125.5' ], [ q{m.seconds('1 day 02:00:00')}, '93600' ], [ q{m.seconds('2 days')}, '172800' ],
	[ q{m.seconds('-00:00:03')}, '-3' ], [ 'm.seconds(null)', 'null' ], [ q{m.seconds('1 mon -1 days')}, '2505600' ],
	[ 'm.span(0.25)', '250 ms' ], [ 'm.span(9.44)', '9.4 s' ], [ 'm.span(59.6)', '1 min 00 s' ], [ 'm.span(185)', '3 min 05 s' ], [ 'm.span(8040)', '2 h 14 min' ],
	[ 'm.span(356400)', '4 d 3 h' ], [ 'm.span(-1)', '0 s' ], [ 'm.span(null)', $none ],
	[ q{m.milliseconds('250ms')}, '250' ], [ q{m.milliseconds('2 min')}, '120000' ], [ q{m.milliseconds('0')}, '0' ], [ q{m.milliseconds('2 hours')}, '7200000' ],
	[ q{m.milliseconds('none')}, 'null' ],
	[ q{m.clock('2026-11-29T08:42:20.123+00:00', '2026-11-29T12:00:00Z')}, '09:42:20' ],
	[ q{m.clock('2026-11-28T23:30:00Z', '2026-11-29T12:00:00Z')}, '00:30:00' ],
	[ q{m.clock('2026-07-01T08:00:00Z', '2026-11-29T12:00:00Z')}, '2026-07-01 10:00:00' ],
	[ q{m.time('2026-07-01T08:00:00Z').title}, '2026-07-01 10:00:00 UTC+02:00 (Europe/Berlin)' ],
	[ q{m.plural(1, 'row') + m.plural(2, 'row')}, '1 row2 rows' ]);

is(value('format.js', $_->[0]), $_->[1], $_->[0]) foreach @written;

# --- When a time left means something ---

my $run = q({ status: 'running', rows_per_second: 100, eta: '00:10:00', batches: 9, started_at: '2026-11-29T08:00:00Z' });
my $at = q('2026-11-29T08:01:00Z');
my @etas = (
	[ $run, $at, '10 min 00 s', 'a run that is under way' ],
	[ "{ ...$run, batches: 2 }", $at, 'estimating', 'two batches are none to guess from' ],
	[ $run, q('2026-11-29T08:00:04Z'), 'estimating', 'nor are four seconds' ],
	[ "{ ...$run, eta: null }", $at, 'estimating', 'nor nothing' ],
	[ "{ ...$run, rows_per_second: 0, throttled_by: 'window: closed' }", $at, 'held', 'a run that is held has none' ],
	[ "{ ...$run, throttled_by: 'max_replica_lag: standby b is 12.3 s behind, limit 10s' }", $at, 'held', 'nor one whose limit is reached, as long as the average still says something' ],
	[ "{ ...$run, throttled_by: 'max_replica_lag: slowed to 50 %: standby b is 8 s behind' }", $at, '10 min 00 s', 'near the limit it goes on, slower' ],
	[ "{ ...$run, throttled_by: 'rate_limit: 3000 rows per 5min' }", $at, '10 min 00 s', 'as with a limit of its rate' ],
	[ "{ ...$run, status: 'paused' }", $at, $none, 'nor has one that is paused' ]);

is(value('parts.js', "m.etaText($_->[0], $_->[1])"), $_->[2], "time left: $_->[3]") foreach @etas;

# --- Settings and parameters as JSON ---

is(value('settings.js', "JSON.stringify(m.parse({ type: '$_->[0]' }, '$_->[1]'))"), $_->[2], "a setting of type $_->[0]: $_->[1]") foreach (
	[ 'integer', '5', '5' ], [ 'integer', 'auto', '"auto"' ], [ 'number', '0.25', '0.25' ], [ 'integer', '9223372036854775807', '"9223372036854775807"' ], [ 'boolean', 'true', 'true' ],
	[ 'rate', ' 200/s ', '"200/s"' ], [ 'windows', '[{"days": "sun"}]', '[{"days":"sun"}]' ], [ 'key', '[1, 2]', '[1,2]' ], [ 'sql', '{x', '"{x"' ]);
is(value('settings.js', "m.limits({ min: '$_->[0]', max: '$_->[1]' })"), $_->[2], "limits: $_->[2]") foreach (
	[ '1', '1024', '1 to 1024' ], [ '1', '2147483647', 'at least 1' ]);

# --- The axis of time ---

# What stands below a chart of so many points, at such a distance.
sub axis
{
	my ($points, $ms) = @_;
	return $browser->js_async("const done = arguments[arguments.length - 1];
		const library = document.createElement('script');
		const show = m => {
			const root = document.createElement('div');
			const series = Array.from({ length: $points }, (_, i) => ({ at: new Date(Date.UTC(2026, 10, 29, 8, 42, 20) + 130 + i * $ms).toISOString(), rows_per_second: 100 + i }));
			document.querySelector('main').replaceChildren(root);
			root.append(m.place('rate', 1, series));
			m.feed(root, 'rate', 1, series);
			return [...root.querySelectorAll('.dygraph-axis-label-x')].map(e => e.textContent).join(' ');
		};
		library.src = '/assets/dygraph.min.js';
		library.onload = () => import('/assets/charts.js').then(show).then(done, error => done('error: ' + error));
		document.head.append(library)");
}

$browser->size(1280, 900);
is(axis(4, 1000), '09:42:21 09:42:22 09:42:23', 'in the first seconds of a run, whole ones');
like(axis(100, 1000), qr/^09:4\d(:\d\d)?( 09:4\d(:\d\d)?)+$/, 'in the minutes after that, what dygraphs makes of them');

# --- A new picture over the old one ---

is(value('dom.js', q{(() => {
	const list = (...keys) => m.fragment(keys.map(k => m.el('li', { 'data-key': k }, k)));
	const old = document.createElement('ul');
	m.morph(old, list('a', 'b', 'c'));
	const b = old.children[1];
	m.morph(old, list('c', 'b', 'd'));
	return old.textContent + (old.children[1] === b);
})()}), 'cbdtrue', 'what has a key stays the same element, wherever it goes');
is(value('dom.js', q{(() => {
	const old = document.createElement('div');
	document.body.append(old);
	const picture = n => m.fragment(m.el('p', { class: n > 1 ? 'x' : null }, n), m.el('div', { 'data-keep': 'form' }), m.el('button', { onclick: () => { old.title = n; } }, 'go'));
	m.morph(old, picture(1));
	const button = old.lastChild, form = old.children[1];
	form.append(m.el('input', { value: 'typed' }));
	button.focus();
	m.morph(old, picture(2));
	button.click();
	const found = [old.firstChild.textContent, old.firstChild.className, form.isConnected && form.firstChild.value, document.activeElement === button, old.title].join(' ');
	old.remove();
	return found;
})()}), '2 x typed true 2', 'texts, attributes and handlers are new; the focus and what keeps itself are as they were');
is(value('dom.js', q{(() => {
	const made = m.el('p', { title: '<b>' }, '<img src=x>', null, false, [1, ['&amp;']]);
	return [made.childElementCount, made.title, made.textContent].join(' ');
})()}), '0 <b> <img src=x>1&amp;', 'texts stay texts');

is(join("\n", $browser->log_lines), '', 'the console of the browser has nothing to complain about');
$browser->quit;
stop_console($console);
$node->stop;
done_testing();
