# The client in Python that brings pages of an HTTP API: paged.py.  Clients are killed, one of them
# in the middle of a call, and the server of the database, too; the table is what the
# service has, and each page was applied once.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use BackfillTest::Pages;
use Test::More;
use Time::HiRes qw(usleep);

need('/usr/bin/python3 with psycopg2', '/usr/bin/python3', '-c', 'import psycopg2');
$ENV{PATH} = "/usr/bin:$ENV{PATH}";
$ENV{PYTHONPATH} = "$tree/clients/python";
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

my $streams = 4;
my $pages = full_length() ? 100 : 8;
my $size = 20;

seed_random();
my $node = make_client_node();
my $port = start_service($node, calls => 1_000_000, window => 1, streams => $streams, pages => $pages, size => $size);
my @command = ('/usr/bin/python3', "$tree/clients/python/paged.py", '--url', "http://127.0.0.1:$port/pages?x=1",
	'--workers', 2, '--lease', 1, '--timeout', 10);

create_items($node);

# a client needs no right on the table
query_ok($node, qq{
	CREATE ROLE carrier LOGIN;
	CREATE ROLE keeper;
	GRANT keeper TO carrier;
	GRANT ALL ON SCHEMA public TO keeper;
	ALTER TABLE items OWNER TO keeper;
	ALTER ROLE keeper LOGIN;
	SET SESSION AUTHORIZATION keeper;
	SELECT backfill_define('items', 'items', \$\$$BackfillTest::Pages::apply\$\$,
		source => 'client', streams => '@{[names_of_streams($streams)]}',
		settings => '{"workers": 2, "retry_delay": "20ms", "max_attempts": 50, "sleep": "50ms"}')});
my $id = start_run($node, 'items');

sub start_paged
{
	return start_client($node, @command, '--dsn', 'user=carrier', '--run', $id);
}

sub applied
{
	my ($n) = @_;
	ok(wait_for($node, "SELECT batches >= $n OR status = 'completed' FROM backfill_runs WHERE id = $id"), "$n pages are applied");
	return;
}

# --- Clients and the server are killed ------------------------------------------

my @clients = map { start_paged() } 1 .. 2;
my $all = $streams * $pages;
applied(int($all * rand(0.2)));

# frozen while it has a page in its hands, it cannot have brought it before it is killed
my $in_hand = "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $id AND status = 'running'
	AND client LIKE '%:$clients[0]{pid}/%' AND fetched_at IS NULL";
my $caught = 0;
foreach my $try (1 .. 100)
{
	wait_for($node, $in_hand, interval => 2_000) or last;
	kill('STOP', -$clients[0]{pid});
	usleep(20_000);
	$caught = query_ok($node, $in_hand) eq 't';
	last if $caught;
	kill('CONT', -$clients[0]{pid});
}
ok($caught, 'a client has a page in its hands');
end_client(shift @clients, 'KILL');
ask_service('lost', 'POST');
push @clients, start_paged();
applied(int($all * (0.3 + rand(0.2))));

# a client that has not begun finds no server, and gives up
at_work($node, $id, $_) foreach @clients;
rand() < 0.5 ? kill_postmaster($node) : kill_server($node);
ask_service('lost', 'POST');
$node->start;
applied(int($all * (0.6 + rand(0.2))));
end_client(shift @clients, 'KILL');
ask_service('lost', 'POST');
push @clients, start_paged();

ok(wait_for_status($node, $id, 'completed'), 'the run completes');
is(join(' ', map { exit_code($_) } @clients), '0 0', 'and the clients end') or diag(map { out_of($_) } @clients);
check_items($node, 'the table is what the service has');
is(query_ok($node, 'SELECT DISTINCT applied FROM items'), 1, 'each record was applied once');
is(query_ok($node, "SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), $all, 'and each page');
cmp_ok(query_ok($node, "SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'takeover'"), '>=', 1,
	'what a dead client had was taken from it');
check_calls();

# --- An answer that is of no use, and the page of the documentation -------------

$id = start_run($node, 'items');
my $client = start_client($node, @command, '--dsn', 'user=carrier', '--run', $id, '--records', 'nowhere');
is(exit_code($client), 1, 'a client says that the run has failed') or diag(out_of($client));
like(run_value($node, $id, 'error'), qr/streams failed|the answer has no array "nowhere"/, 'because of what it was given');

query_ok($node, 'CREATE SCHEMA doc; ALTER DATABASE postgres SET search_path = doc, public');
run_page($node, 'doc/clients/paged.md', [ 'clients/python/paged.py', 'clients/python/backfill_client.py' ], python => ['products.py']);
is(query_ok($node, 'SELECT count(*), max(sku) FROM product'), '250|250', 'all products are there');

$node->stop;
done_testing();
