# The client in Python for asyncio: backfill_async.py.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use Test::More;

need('/usr/bin/python3 with psycopg', '/usr/bin/python3', '-c', 'import psycopg');
$ENV{PATH} = "/usr/bin:$ENV{PATH}";
$ENV{PYTHONPATH} = "$tree/clients/python";
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

my $node = make_client_node();
my $program = write_program($node, 'worker.py', <<'PYTHON');
import asyncio
import logging
import sys
import psycopg
import backfill_async

name, workers, lease, apart, sql = sys.argv[1:]

async def handle(conn, batch):
    return (await batch.execute(conn, sql)).rowcount

logging.basicConfig(level=logging.INFO)
try:
    status = asyncio.run(backfill_async.Client("", handle, name=name, workers=int(workers), lease=float(lease), apart=apart == "1").run())
except (psycopg.Error, LookupError) as error:
    print(error)
    sys.exit(2)
sys.exit(0 if status in (None, "completed") else 1)
PYTHON

my $command = sub {
	my (%opts) = @_;
	return ('/usr/bin/python3', $program, $opts{name}, $opts{workers}, $opts{lease}, $opts{apart} || 0, $opts{sql});
};

check_all($node, $command, signals => ['INT']);

run_page($node, 'doc/clients/asyncio.md', ['clients/python/backfill_async.py'], python => ['welcome.py']);
is(query_ok($node, 'SELECT count(*) FROM welcome WHERE sent_at IS NOT NULL'), '500', 'all letters are sent');

$node->stop;
done_testing();
