# A person at the console: logs in, looks before, starts a run with the form, watches it, changes a setting, pauses, resumes,
# stops, sees one fail, and retries.  Everything that is clicked is looked up in the database afterwards.

use strict;
use warnings;

use Test::More;
use BackfillTest;
use BackfillTest::Browser;
use BackfillTest::Console;

plan skip_all => 'no chromium with chromedriver' unless BackfillTest::Browser::programs();
plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('browser_run');
my $console = start_console($node);
my $browser = BackfillTest::Browser->new(dir => PostgreSQL::Test::Utils::tempdir());

# What the dialog that is open asks, and the answer to it.
sub dialog
{
	my ($button) = @_;
	my $says = $browser->until('a dialog', sub { $browser->text('dialog[open] .says') });

	$browser->click('dialog[open] button[type=submit]');
	$browser->wait_js('the dialog to close', 'return !document.querySelector("dialog[open]")');
	return $says;
}

sub status_is
{
	my ($id, $status, $name) = @_;

	$browser->wait_text('main h1', "\\b$status\\b");
	is(run_value($node, $id, 'status'), $status, $name);
	return;
}

# --- Logging in ---

$browser->go("$console->{url}/runs");
like($browser->url, qr{/login}, 'who is not logged in is asked for it');
$browser->fill('#user', 'alice');
$browser->fill('#password', 'wrong');
$browser->click('form.login button');
like($browser->wait_text('.error', '\S'), qr/password/i, 'a wrong password is refused');
$browser->log_lines;			# a page that says no is said there, too
$browser->fill('#user', 'alice');
$browser->fill('#password', 'secret of alice');
$browser->click('form.login button');
$browser->wait_js('the runs', 'return document.querySelector("#stamp time")');
like($browser->text('main'), qr/There is no run yet/, 'and the right one lets in');
like($browser->text('header'), qr/\balice\b/, 'who it is stands in the head');

# --- Look before ---

# Names and data that are HTML: they are to be seen, not obeyed.
my $evil = q{<img src=x onerror=document.title=1>};
query_ok($node, qq{
	SET ROLE alice;
	CREATE TABLE contacts (id int PRIMARY KEY, cell text, role text);
	INSERT INTO contacts SELECT i, CASE i WHEN 1 THEN '$evil' ELSE 'n' || i END FROM generate_series(1, 40000) i;
	SELECT backfill_define('assign', 'contacts', \$\$UPDATE batch SET role = params.role\$\$,
		scope => \$\$id % 2 = ANY (params.rests) AND role IS DISTINCT FROM params.role\$\$,
		description => 'roles of $evil',
		parameters => '{"rests": {"type": "int[]", "required": true, "description": "which of both"},
			"role": {"type": "text", "default": "member", "options": ["member", "guest"]}}');
	SELECT backfill_define('divide', 'contacts', \$\$UPDATE batch SET role = 1 / (id % 40000)\$\$);
}, flags => [ '-v', 'ON_ERROR_STOP=1' ]);

$browser->go("$console->{url}/definitions");
$browser->wait_text('main', 'assign');
like($browser->text('main'), qr/roles of \Q$evil\E/, 'a description that is HTML is shown as the text it is');
$browser->keys('j');
$browser->keys("\x{E007}");
$browser->wait_js('the definition', 'return document.querySelector("form.start")');
like($browser->url, qr{/definitions/assign$}, 'j goes to the first row, Enter opens it');

$browser->click('[data-action=preview]');
is($browser->js('return document.activeElement.id + document.querySelector("#outcome").childElementCount'), 'parameter-' .
	$browser->js('return document.querySelector("[data-parameter=rests]").id.replace("parameter-", "")') . '0',
	'a required parameter that is missing is pointed at');
$browser->fill('[data-parameter=rests]', '[1]');
$browser->choose('[data-parameter=role]', '"guest"');
$browser->click('[data-action=preview]');
$browser->wait_js('the preview', 'return document.querySelectorAll("#outcome details").length === 5');
is($browser->js('return document.querySelector("#outcome mark").firstChild.data'), 'guest', 'the preview marks what changes');
like($browser->text('#outcome'), qr/\Q$evil\E/, 'a row that is HTML is shown as the text it is');
is(query_ok($node, 'SELECT count(*) FROM contacts WHERE role IS NOT NULL'), 0, 'and nothing was changed');
$browser->click('[data-action=explain]');
like($browser->wait_text('#outcome pre', 'Backfill assign'), qr/UPDATE contacts AS batch/, 'explain shows the statement as it will run');

# --- Start with the form ---

$browser->choose('#add-setting', 'rate_limit');
$browser->fill('#given-rate_limit', '400 per second');
$browser->choose('#add-setting', 'batch_size');
$browser->fill('#given-batch_size', '0');
$browser->fill('#note', 'ticket 4711');
$browser->click('[data-action=start]');
like($browser->until('a dialog', sub { $browser->text('dialog[open]') }), qr/begins at once.*guest/s, 'the dialog says what will be started');
$browser->click('dialog[open] button[type=submit]');
like($browser->wait_text('dialog[open] [role=alert]', 'batch_size'), qr/between 1 and/, 'what the database refuses is said as it says it');
like(join("\n", $browser->log_lines), qr{^SEVERE: \S+/api/do/start - .* 422 [^\n]*$}, 'and the browser has noticed nothing else');
$browser->click('dialog[open] button[type=button]');
$browser->click('[aria-label="Do not give batch_size"]');
$browser->click('[data-action=start]');
$browser->click('dialog[open] button[type=submit]');
$browser->wait_js('the run', 'return document.body && /^\/runs\/\d+$/.test(location.pathname) && document.querySelector("#stamp time")');
my ($id) = $browser->url =~ m{/runs/(\d+)$};
is(query_ok($node, "SELECT started_by, parameters, settings->>'rate_limit' FROM backfill_runs WHERE id = $id"),
	'alice|{"role": "guest", "rests": [1]}|400 per second', 'it is started as the form says, by who is logged in');

# --- Watch it ---

$browser->wait_text('.big-number', '[1-9]');
my $before = $browser->text('.big-number');
$browser->until('progress', sub { $browser->text('.big-number') ne $before });
pass('progress moves without anybody asking');
like($browser->wait_text('main', 'Slowed by rate_limit|Held by rate_limit'), qr/400 rows per 1s/, 'what throttles it is said, and why');
$browser->wait_js('a chart with its band', q{
	const canvas = document.querySelector('.chart-rate canvas');
	return canvas && canvas.width > 300 && document.querySelector('.chart-rate ul.legend')});
like($browser->text('.chart-rate .legend'), qr/^rate_limit/, 'the band is named in the legend');
like($browser->js('return document.querySelector(".chart-rate .chart").ariaLabel'), qr/^Rows per second over .*: rows\/s at last/,
	'the chart has a sentence for those who do not see it');
like($browser->text('main'), qr/ticket 4711/, 'the note of why stands there');
like($browser->js('return document.querySelector(".life [aria-current=step] time").title'), qr/UTC\+0[12]:00 \(Europe\/Berlin\)$/,
	'times are in the zone of the viewer, which is in the title');

# --- Change a setting of the live run ---

$browser->click('[data-setting=rate_limit]');
$browser->fill('#setting-value', '2000 per second');
like(dialog(), qr/from its next batch/, 'the dialog says when it will hold');
is(run_value($node, $id, "settings->>'rate_limit'"), '2000 per second', 'the setting is changed');
$browser->wait_text('[data-key="setting-rate_limit"]', '2000 per second');
is(query_ok($node, "SELECT role FROM backfill_events WHERE run_id = $id AND kind = 'settings'"), 'alice', 'and the event says who did it');

# --- Pause, resume, stop ---

$browser->click('[data-action=pause]');
$browser->fill('#why', 'the standby is slow');
my $may = dialog();
like($may, qr/\w+ .*\./, "the dialog says what pause will do: $may");
status_is($id, 'paused', 'it is paused');
like(query_ok($node, "SELECT string_agg(reason, '; ') FROM backfill_events WHERE run_id = $id AND role = 'alice'"), qr/the standby is slow/, 'and why stands in the events');
$browser->click('[data-action=resume]');
dialog();
status_is($id, 'running', 'it is resumed');
$browser->click('[data-action=stop]');
$may = dialog();
like($may, qr/stops.*can be resumed/, "the dialog says what stop will do: $may");
status_is($id, 'stopped', 'it is stopped');
ok(!$browser->js('return document.querySelector("[data-action=pause]")'), 'a run that has ended cannot be paused');
my $done = $browser->text('.big-number');

# --- One that fails, and is retried ---

my $failed = query_ok($node, q{SET ROLE alice; SELECT backfill_start('divide')});
$browser->go("$console->{url}/runs/$failed");
status_is($failed, 'failed', 'a run with a bad row fails');
like($browser->wait_text('.callout.bad', 'division'), qr/division by zero/, 'and says why');
query_ok($node, 'DELETE FROM contacts WHERE id = 40000');
$browser->click('[data-action=resume], [data-action=retry]');
dialog();
status_is($failed, 'completed', 'when the row is mended it goes on to the end');

# Rows that are left out, and tried again from the screen of errors.
my $skipped = query_ok($node, q{SET ROLE alice; INSERT INTO contacts VALUES (40000, 'x');
	SELECT backfill_start('divide', settings => '{"on_error": "skip"}')});
$browser->go("$console->{url}/runs/$skipped");
status_is($skipped, 'completed', 'a run that leaves rows out completes');
$browser->go("$console->{url}/runs/$skipped/errors");
like($browser->wait_text('main tbody', '40000'), qr/division by zero/, 'the row and its error are listed');
query_ok($node, 'UPDATE contacts SET id = 39999 WHERE false; DELETE FROM contacts WHERE id = 40000');
$browser->click('[data-action=retry]');
like(dialog(), qr/tried again/, 'the dialog says what is tried again');
ok(wait_for($node, "SELECT status = 'completed' AND errors = 0 FROM backfill_runs WHERE id = $skipped"), 'the row is tried again');
$browser->wait_text('main tbody', 'resolved');

# --- The other lists ---

$browser->go("$console->{url}/runs/$id/events");
like($browser->wait_text('main tbody', 'settings'), qr/alice/, 'the events name the person');
$browser->go("$console->{url}/runs/$id/batches");
$browser->wait_text('main tbody', 'completed');
$browser->js('[...document.querySelectorAll("a[data-here]")].find(a => a.textContent.startsWith("failed")).click()');
$browser->wait_text('main', 'No batch is such');
like($browser->url, qr/status=failed/, 'batches can be filtered, and the address says so');

# --- A client beside the workers ---

query_ok($node, q{SET ROLE alice; SELECT backfill_define('outside', 'contacts', NULL, settings => '{"outside": true, "share_target": true}')});
my $outside = query_ok($node, q{SET ROLE alice; SELECT backfill_start('outside')});
wait_for($node, "SELECT status = 'running' FROM backfill_runs WHERE id = $outside");
ok(wait_for($node, "SET ROLE alice; SELECT count(number) > 0 FROM backfill_claim($outside, 'laptop')"), 'a client claims a batch');
$browser->go("$console->{url}/runs/$outside");
like($browser->wait_text('[data-key=hands]', 'laptop'), qr/alice/, 'it is seen beside the workers, with its role');
query_ok($node, "SELECT backfill_stop($outside, immediate => true)");
wait_for_status($node, $outside, 'stopped');

# --- A schedule: what the database says is said ---

$browser->go("$console->{url}/definitions/divide");
$browser->log_lines;
$browser->click('[data-action=schedule]');
$browser->fill('#cron', 'at night');
$browser->click('dialog[open] button[type=submit]');
like($browser->wait_text('dialog[open] [role=alert]', 'pg_cron'), qr/hint: add pg_cron/i, 'a schedule that cannot be made is refused with the hint of the database');
$browser->log_lines;

# --- Clone, and stop all ---

$browser->go("$console->{url}/runs/$id");
$browser->click('[data-action=clone]');
$browser->click('dialog[open] button[type=submit]');
$browser->wait_js('the new run', "return location.pathname !== '/runs/$id' && document.querySelector('#stamp time')");
my ($clone) = $browser->url =~ m{/runs/(\d+)$};
is(query_ok($node, "SELECT c.parameters = r.parameters AND c.settings = r.settings FROM backfill_runs c, backfill_runs r WHERE c.id = $clone AND r.id = $id"),
	't', 'a clone has the parameters and the settings of the run');
$browser->go("$console->{url}/runs");
$browser->click('.head button');
like(dialog(), qr/after the batches it has in hand/, 'stop all says what it will do');
ok(wait_for($node, "SELECT status = 'stopped' FROM backfill_runs WHERE id = $clone"), 'and stops them');

$browser->wait_js('no run that is active', 'return document.title === "0 active \u00b7 backfill"');
pass('the title says how many are active, and no text of the database was obeyed as HTML');
is(join("\n", $browser->log_lines), '', 'the console of the browser has nothing to complain about');

$browser->quit;
stop_console($console);
$node->stop;
done_testing();
