# Every screen has what the views have, as JSON and as a page without script, and
# every button does what its function does.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use BackfillTest;
use BackfillTest::Console;

plan skip_all => 'the console is not built' unless console_program();

my $node = make_console_node('http_screens');
my $console = start_console($node);
my $alice = client($console);
my ($status, $data, $response);

# Names and texts that are HTML, and worse.
my $evil = q{<script>alert("x")</script>'&</main>};

sub of_alice
{
	my ($sql) = @_;
	return query_ok($node, "SET ROLE alice; $sql");
}

of_alice(q{
	CREATE TABLE t AS SELECT i AS id, 0 AS n, NULL::text AS note FROM generate_series(1, 2000) i;
	ALTER TABLE t ADD PRIMARY KEY (id);
	ANALYZE t});
of_alice(qq{
	SELECT backfill_define('plain', 't', \$\$UPDATE batch SET n = n + 1\$\$, scope => 'n < 100',
		settings => '{"batch_size": 100, "target_batch_time": 0, "sleep": 0}', description => \$\$$evil\$\$,
		parameters => '{"why": {"type": "text", "options": ["a", "b"], "default": "a", "description": "the reason"}, "since": "date"}');
	SELECT backfill_define(\$\$bad rows/and $evil\$\$, 't', \$\$UPDATE batch SET n = 1 / (id % 500)\$\$,
		settings => '{"on_error": "skip", "batch_size": 100, "target_batch_time": 0, "sleep": 0}');
	SELECT backfill_define('slow', 't', \$\$UPDATE batch SET n = n + 1\$\$, settings => '{"batch_size": 10, "target_batch_time": 0, "sleep": "1min"}')});
log_in_client($alice, 'alice');

# --- Start with what a form gives ---

($status, $data) = do_action($alice, 'start', name => 'plain', parameters => '{"why": "b"}', settings => '{"batch_size": 50}', note => 'ticket 4711');
is($status, 200, 'a run is started') or diag(explain($data));
my $plain = $data->{result};
ok(wait_for_status($node, $plain, 'completed'), 'and completes');
is(query_ok($node, "SELECT started_by, parameters->>'why', settings->>'batch_size', note FROM backfill_runs WHERE id = $plain"),
	'alice|b|50|ticket 4711', 'as it was told, by the person, with the note');
($status, $data) = do_action($alice, 'start', name => 'plain', parameters => '{"why": "c"}');
is($status, 422, 'what the function refuses is an error');
is($data->{error}{sqlstate}, '22023', 'with its SQLSTATE');
like($data->{error}{message}, qr/why/, 'and its words');
($status, $data) = do_action($alice, 'start', name => '');
is($status, 400, 'a field that is needed');
($status, $data) = do_action($alice, 'start', name => 'plain', settings => 'no json');
is($status, 422, 'settings that are no JSON');

my $evil_name = "bad rows/and $evil";
($status, $data) = do_action($alice, 'start', name => $evil_name);
my $bad = $data->{result};
ok(wait_for_status($node, $bad, 'completed'), 'a run that skips rows');

# --- The lists ---

($status, $data) = api($alice, '/runs');
is($data->{database}, 'postgres', 'the database is named');
is_deeply($data->{counters}, { active => 0, held => 0, failed => 0, completed => 2 }, 'the counters');
my $row = JSON::PP->new->utf8->decode(query_ok($node,
	"SET TimeZone = 'UTC'; SELECT to_jsonb(r) - '{statement,scope,prepare,finish,parameters,settings,error_context,error_detail,error_hint,throttle_times}'::text[] FROM backfill_runs r WHERE id = $bad"));
is_deeply($data->{runs}[0], $row, 'a run is its row in the view');
is($data->{runs}[1]{id}, $plain, 'the newest first');
foreach ([ 'tab=failed', 0 ], [ 'tab=active', 0 ], [ 'tab=mine', 2 ], [ 'q=plain', 1 ], [ 'q=PLA', 1 ], [ 'q=%25', 0 ], [ "q=$plain", 1 ], [ "before=$bad", 1 ], [ 'tab=all&q=', 2 ])
{
	my ($query, $n) = @$_;
	($status, $data) = api($alice, "/runs?$query");
	is(scalar @{ $data->{runs} }, $n, "/runs?$query");
}
is((api($alice, '/runs?before=x'))[0], 404, 'a number that is none is no page');
is((api($alice, "/runs/$plain/$_->[0]"))[0], $_->[1], "$_->[0]: $_->[1]")
	foreach ([ 'batches?before=11.2', 200 ], [ 'batches?before=11.0.a.b', 200 ], [ 'errors?before=3.1', 200 ], [ 'batches?before=11.', 404 ],
	[ 'batches?before=11.x', 404 ], [ 'batches?before=1234567890123456789', 404 ], [ 'batches?before=1.1234567890', 404 ]);
($status, $data) = api($alice, '/runs');
is($status, 200, 'of nobody else');

($status, $data) = api($alice, "/runs/$bad/errors");
is($data->{run}{name}, $evil_name, 'a name is what it is');
is(scalar @{ $data->{errors} }, 4, 'the rows that were skipped');
like($data->{errors}[0]{message}, qr/division by zero/, 'and why');
($status, $data) = api($alice, "/runs/$plain/batches");
is(scalar @{ $data->{batches} }, 40, 'the batches');
is($data->{batches}[0]{number}, 40, 'the last one first');
($status, $data) = api($alice, "/runs/$plain/batches?before=11");
is(scalar @{ $data->{batches} }, 10, 'those before one');
($status, $data) = api($alice, "/runs/$bad/batches?status=failed");
is(scalar @{ $data->{batches} }, 4, 'those of a status');

# numbers repeat from stream to stream, and no batch is shown twice or not at all
of_alice(q{CREATE TABLE s AS SELECT i AS id, 0 AS n FROM generate_series(1, 40) i; ALTER TABLE s ADD PRIMARY KEY (id);
	SELECT backfill_define('divided', 's', 'UPDATE batch SET n = n + 1', streams => '["a.b", "c", "d"]',
		settings => '{"batch_size": 1, "target_batch_time": 0, "sleep": 0}')});
my $divided = (do_action($alice, 'start', name => 'divided'))[1]->{result};
ok(wait_for_status($node, $divided, 'completed'), 'a run with streams');
my (%seen, $before, $pages);
do
{
	($status, $data) = api($alice, "/runs/$divided/batches" . (defined $before ? "?before=$before" : ''));
	$seen{"$_->{stream} $_->{number}"}++ foreach @{ $data->{batches} };
	my $last = $data->{batches}[-1];
	$before = $last && "$last->{number}.$last->{part}.$last->{stream}";
} while ($data->{more} && ++$pages < 10);
is(join(' ', scalar(keys %seen), grep { $seen{$_} != 1 } keys %seen), '120', 'its batches, page by page');
($status, $data) = api($alice, "/runs/$plain/events");
is($data->{events}[-1]{reason}, 'backfill_start: ticket 4711', 'the events, the first one last');

# without script, the heading says of what the screen is
my %heading = (
	"/runs/$plain" => "Run $plain of plain", "/runs/$plain/batches" => "Batches of run $plain of plain", "/runs/$plain/events" => "Events of run $plain of plain",
	'/definitions/plain' => 'Definition plain', '/runs' => 'Runs');
is((get($alice, $_)->{content} =~ m{<h1>(.*?)</h1>})[0], $heading{$_}, "the heading of $_") foreach sort keys %heading;

# --- A run ---

($status, $data) = api($alice, "/runs/$plain");
is($data->{run}{progress}, 100, 'a run');
is($data->{note}, 'ticket 4711', 'its note');
is($data->{texts}{statement}, 'UPDATE batch SET n = n + 1', 'its statement');
is($data->{texts}{parameters}{why}, 'b', 'its parameters');
is($data->{definition}{description}, $evil, 'its definition');
my %setting = map { $_->{name} => $_ } @{ $data->{settings} };
is(scalar keys %setting, query_ok($node, 'SELECT count(*) FROM backfill_settings'), 'every setting');
is($setting{batch_size}{value}, 50, 'what it is');
is($setting{batch_size}{source}, 'run', 'and who says so: the run');
is($setting{sleep}{source}, 'definition', 'the definition');
is($setting{workers}{source}, 'default', 'the default');
ok(!$setting{direction}{live}, 'some are fixed');
is(scalar @{ $data->{recent} }, 40, 'its last batches');
cmp_ok(scalar @{ $data->{series} }, '>', 0, 'points for the charts');
like($data->{may}{clone}, qr/new run of plain/, 'what a button will do');
is($data->{may}{pause}, undef, 'and which would be refused');

# --- Definitions ---

($status, $data) = api($alice, '/definitions');
is_deeply([ map { $_->{name} } @{ $data->{definitions} } ], [ $evil_name, 'divided', 'plain', 'slow' ], 'the definitions');
($status, $data) = api($alice, '/definitions?q=SLO');
is(scalar @{ $data->{definitions} }, 1, 'looked for');
($status, $data) = api($alice, '/definitions/plain');
is_deeply($data->{parameters}, [
	{ name => 'since', type => 'date', required => JSON::PP::false, options => undef, default => undef, description => undef },
	{ name => 'why', type => 'text', required => JSON::PP::false, options => [ 'a', 'b' ], default => 'a', description => 'the reason' } ],
	'what a form needs to know of the parameters');
is_deeply([ sort @{ $data->{presets} } ], [ 'balanced', 'fast', 'polite' ], 'the presets');
is(scalar @{ $data->{runs} }, 1, 'its runs');
my $encoded = join('', map { /[\w.-]/ ? $_ : sprintf('%%%02X', ord) } split(//, $evil_name));
($status, $data) = api($alice, "/definitions/$encoded");
is($data->{definition}{name}, $evil_name, 'a name with a slash');
($status, $data) = api($alice, '/definitions/plain/explain');
like(join("\n", @{ $data->{lines} }), qr/UPDATE t AS batch/, 'explain');
($status, $data) = api($alice, '/definitions/none/explain');
is($status, 404, 'of nothing');
($status, $data) = do_action($alice, 'preview', name => 'plain', rows => 3);
is(scalar @{ $data->{rows} }, 3, 'a preview');
is($data->{rows}[0]{after}{n}, $data->{rows}[0]{before}{n} + 1, 'before and after');
is(query_ok($node, 'SELECT max(n) FROM t'), query_ok($node, 'SELECT max(n) FROM t WHERE id < 100'), 'changes nothing');

# --- Health ---

($status, $data) = api($alice, '/health');
is($status, 200, 'health');
is($data->{archive}{mode}, 'off', 'the archive');

# --- Buttons ---

($status, $data) = do_action($alice, 'start', name => 'slow', settings => '{"max_dead_rows": 0.9}');
my $slow = $data->{result};
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $slow AND state = 'sleeping'"), 'a run that takes its time');
($status, $data) = api($alice, "/runs/$slow");
is(scalar @{ $data->{workers} }, 1, 'its worker is live');
like($data->{may}{stop}, qr/^Run $slow stops/, 'what stop will do');
($status, $data) = api($alice, '/health');
is($data->{limits}[0]{setting}, 'max_dead_rows', 'its limit');
cmp_ok($data->{limits}[0]{limit}, '==', 0.9, 'as it was given');
ok(defined $data->{limits}[0]{now}, 'beside what is measured');
is($data->{vacuum}[0]{table}, 't', 'and its table');
($status, $data) = do_action($alice, 'alter', id => $slow, settings => '{"batch_size": 20, "sleep": "2min"}');
is(run_value($node, $slow, q{settings->>'batch_size'}), 20, 'alter changes settings');
($status, $data) = do_action($alice, 'alter', id => $slow, settings => '{"batch_size": 0}');
like($data->{error}{detail}, qr/between 1 and/, 'within their limits');
foreach ([ 'pause', 'paused' ], [ 'resume', 'running' ], [ 'stop', 'stopped' ], [ 'resume', 'running' ], [ 'stop_now', 'stopped' ])
{
	my ($action, $becomes) = @$_;
	($status, $data) = do_action($alice, $action, id => $slow);
	is($status, 200, $action);
	ok(wait_for_status($node, $slow, $becomes, through_end => 1), "the run is $becomes");
}
($status, $data) = do_action($alice, 'pause', id => $slow);
is($data->{error}{sqlstate}, '55000', 'what is not legal now is refused');
($status, $data) = do_action($alice, 'clone', id => $slow);
is($status, 200, 'clone') or diag(explain($data));
my $clone = $data->{result};
is(run_value($node, $clone, q{settings->>'sleep'}), '2min', 'has the settings of the run');
($status, $data) = do_action($alice, 'stop_all');
is(scalar @{ $data->{result} }, 1, 'stop all says what comes of each run');
ok(wait_for_status($node, $clone, 'stopped'), 'and stops them');
($status, $data) = do_action($alice, 'verify', id => $plain);
is($data->{result}, 2000, 'verify counts');
($status, $data) = do_action($alice, 'retry', id => $bad);
like($data->{result}, qr/4 skipped rows/, 'retry');
ok(wait_for_status($node, $bad, 'completed'), 'is done');
($status, $data) = do_action($alice, 'delete', id => $clone);
is((api($alice, "/runs/$clone"))[0], 404, 'delete forgets');
($status, $data) = do_action($alice, 'schedule', name => 'plain', cron => '30 2 * * *');
like($data->{error}{message}, qr/pg_cron/, 'schedules need pg_cron');
is((do_action($alice, 'drop_table', id => 1))[0], 404, 'there is nothing else');
($status, $data) = do_action($alice, 'pause', id => '1; DROP TABLE t');
is($data->{error}{sqlstate}, '22P02', 'a number is a number');

# --- Without script ---

foreach my $path ('/runs', "/runs/$bad", "/runs/$bad/batches", "/runs/$bad/errors", "/runs/$bad/events", '/definitions', '/definitions/plain',
	"/definitions/$encoded", '/definitions/plain/explain', '/health')
{
	$response = get($alice, $path);
	is($response->{status}, 200, "$path is a page");
	like($response->{headers}{'content-type'}, qr{^text/html}, 'of HTML');
	is(() = $response->{content} =~ /<script(?! src="\/assets\/)/g, 0, 'without a script of somebody else');
	is(() = $response->{content} =~ m{</main>}g, 1, 'nor the end of our own element');
	unlike($response->{content}, qr/ style=| on\w+=/, 'without inline style or handler');
}
like(get($alice, '/definitions')->{content}, qr/&lt;script&gt;alert\(&quot;x&quot;\)&lt;\/script&gt;&#39;&amp;/, 'a name that is HTML is shown as it is');
like(get($alice, "/runs/$bad/errors")->{content}, qr/<td>division by zero<\/td>/, 'data are in a table');
$response = get($alice, "/runs/$plain");
like($response->{content}, qr{action="/api/do/clone"}, 'buttons are forms');
$response = post($alice, '/api/do/clone', { csrf => $alice->{csrf}, id => $plain, back => "/runs/$plain" });
is("$response->{status} $response->{headers}{location}", "303 /runs/$plain", 'which lead back to the page');
$response = post($alice, '/api/do/pause', { csrf => $alice->{csrf}, id => 999, back => '//evil.example/runs' });
unlike($response->{headers}{location} || '', qr/evil/, 'and nowhere else');
is($response->{status}, 404, 'an error is a page');
like($response->{content}, qr/run 999/, 'that says what was wrong');

# --- Roles of odd names ---

my $odd = client($console);
is(log_in_client($odd, "o'hara <b>", 'secret')->{status}, 303, 'a role of an odd name');
like(get($odd, '/runs')->{content}, qr/o&#39;hara &lt;b&gt;/, 'is shown as it is');

is(stop_console($console), 0, 'the program ends as it should');
$node->stop;
done_testing();
