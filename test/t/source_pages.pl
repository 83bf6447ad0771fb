# A source that reads a service page by page: four streams, with failures of every kind, calls
# put off and a limit on calls, while the server is killed.  In the end the table is what the service has,
# each page was applied once, and nobody called too often or too early.  A later run fetches
# only what has changed since.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use BackfillTest::Pages;
use Test::More;
use Time::HiRes qw(usleep);

need('/usr/bin/python3', '/usr/bin/python3', '-c', 'import http.server');

my $streams = 4;
my $pages = full_length() ? 1250 : 12;
my $size = full_length() ? 200 : 20;
my $calls = full_length() ? 60 : 30;
my $window = 2;
my $kills = full_length() ? 5 : 2;
my $changed = full_length() ? 500 : 25;

seed_random();
my $node = make_node('main');
my $port = start_service($node, calls => $calls, window => $window, streams => $streams, pages => $pages, size => $size);

# --- The source -----------------------------------------------------------------

create_items($node);
query_ok($node, qq{
	CREATE FUNCTION fetch_items(token jsonb, event backfill_fetch, OUT records jsonb, OUT next_token jsonb)
	LANGUAGE plpgsql AS \$\$
	DECLARE
		answer text[];
		page jsonb;
	BEGIN
		CREATE TEMP TABLE IF NOT EXISTS answers (n int GENERATED ALWAYS AS IDENTITY, line text) ON COMMIT DELETE ROWS;
		EXECUTE format(\$f\$COPY answers (line) FROM PROGRAM %L WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')\$f\$,
			format('$^X $tree/test/clients/get.pl $port "/pages?stream=%s&after=%s&since=%s"',
				event.stream, coalesce(token #>> '{}', '0'), coalesce(extract(epoch FROM event.since), 0)));
		SELECT array_agg(line ORDER BY n) INTO answer FROM answers;
		IF answer[1] <> '200' THEN
			RAISE EXCEPTION 'the service says %', answer[1]
				USING ERRCODE = 'connection_failure', HINT = coalesce('Retry-After: ' || answer[2], '');
		END IF;
		page := answer[3];
		records := page -> 'records';
		next_token := page -> 'next';
	END \$\$;
	SELECT backfill_define('items', 'items', \$\$$BackfillTest::Pages::apply\$\$,
		source => 'fetch_items', streams => '@{[names_of_streams($streams)]}',
		settings => '{"workers": 3, "retry_delay": "20ms", "max_attempts": 50,
			"rate_limit": "$calls per $window s", "rate_limit_counts": "calls"}')});

# --- The first run --------------------------------------------------------------

ask_service('begin', 'POST');
my $id = start_run($node, 'items');
foreach my $kill (1 .. $kills)
{
	my $part = int($streams * $pages * ($kill - rand(1)) / $kills * 0.9);
	ok(wait_for($node, "SELECT batches >= $part OR status = 'completed' FROM backfill_runs WHERE id = $id",
			timeout => full_length() ? 600 : undef), "$part pages are applied");
	usleep(rand(50_000));
	rand() < 0.5 ? kill_postmaster($node) : kill_server($node);
	ask_service('lost', 'POST');
	$node->start;
}
ok(wait_for_status($node, $id, 'completed', timeout => full_length() ? 900 : 180), 'the run completes');

check_items($node, 'the table is what the service has');
is(query_ok($node, 'SELECT DISTINCT applied FROM items'), 1, 'each record was applied once');
is(query_ok($node, "SELECT count(*), sum(rows_affected) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"),
	$streams * $pages . '|' . $streams * $pages * $size, 'and each page');
is(query_ok($node, "SELECT string_agg(name || ' ' || batches || ' ' || status, ', ' ORDER BY name)
		FROM backfill_streams WHERE run_id = $id"),
	join(', ', map { "s$_ $pages completed" } 1 .. $streams), 'in each stream');
is(query_ok($node, 'SELECT count(*) FROM backfill.page'), 0, 'no page is left behind');
check_calls($window);

# --- What has changed since -----------------------------------------------------

ask_service("change?$changed", 'POST');
ask_service('begin', 'POST');
$id = start_run($node, 'items');
ok(wait_for_status($node, $id, 'completed'), 'a later run completes');
check_items($node, 'the table is what the service has now');
is(query_ok($node, "SELECT sum(rows_scanned) FROM backfill_batches WHERE run_id = $id"), $streams * $changed,
	'it fetched what has changed and nothing else');
is(query_ok($node, 'SELECT applied, count(*) FROM items WHERE applied > 1 GROUP BY 1'), '2|' . $streams * $changed,
	'and applied that once');

done_testing();
