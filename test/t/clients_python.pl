# The client in Python: backfill_client.py, on its command line and as a module.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use Test::More;

need('/usr/bin/python3 with psycopg2', '/usr/bin/python3', '-c', 'import psycopg2');
$ENV{PYTHONDONTWRITEBYTECODE} = 1;
$ENV{PATH} = "/usr/bin:$ENV{PATH}";

my $node = make_client_node();
my @python = ('/usr/bin/python3', "$tree/clients/python/backfill_client.py");

my $command = sub {
	my (%opts) = @_;
	return (@python, '--name', $opts{name}, '--workers', $opts{workers}, '--lease', $opts{lease},
		($opts{apart} ? '--apart' : ()), '--sql', $opts{sql});
};

check_all($node, $command, signals => ['INT']);

# --- handlers -------------------------------------------------------------------

write_program($node, 'handlers.py', <<'PYTHON');
import psycopg2
import backfill_client

tried = []

def add(conn, batch):
    with conn.cursor() as cursor:
        return batch.execute(cursor, "UPDATE handled AS batch SET hits = hits + %s WHERE {condition}", (1,))

def retry(conn, batch):
    tried.append(batch.number)
    rows = add(conn, batch)
    if tried.count(batch.number) < 2:
        raise backfill_client.Retry("not yet")
    return rows

def bad(conn, batch):
    with conn.cursor() as cursor:
        batch.execute(cursor, "SELECT id FROM handled AS batch WHERE {condition}")
        for key, in cursor.fetchall():
            if key in (13, 77):
                raise backfill_client.BadRow(key, "unlucky")
    return add(conn, batch)

def caught(conn, batch):
    rows = add(conn, batch)
    try:
        conn.cursor().execute("SELECT 1 / 0")
    except psycopg2.Error:
        pass
    return rows
PYTHON

# A run of 100 rows with a handler: exit code, status, rows.
sub handled
{
	my ($handler, $settings, @options) = @_;
	my $id = start_hits($node, 'handled', 100, $settings, scope => "hits::text NOT LIKE '%9'");
	my $client = start_client($node, @python, '--run', $id, @options, "handlers:$handler");
	my $code = exit_code($client, 60);
	my $result = join(' ', $code, run_value($node, $id, 'status'), hits($node, 'handled'));

	query_ok($node, 'DROP TABLE handled');
	diag(out_of($client)) if $code == -1;
	return $result;
}

my $skip = '{"batch_size": 20, "on_error": "skip"}';
is(handled('retry', '{"batch_size": 20, "retry_delay": "50ms"}'), '0 completed 1:100', 'Retry: the batch is tried again, and a per cent sign in the condition does no harm');
is(handled('bad', $skip), '0 completed 0:2 1:98', 'BadRow: the row is left out');
is(query_ok($node, 'SELECT string_agg(e.key::text || message, $$ $$ ORDER BY e.key) FROM backfill_errors e JOIN backfill_runs r ON r.id = run_id WHERE name = $$handled$$'),
	'{13}unlucky {77}unlucky', 'and stands in backfill_errors');
like(handled('bad', '{"batch_size": 20}'), qr/^1 failed 0:/, 'or else the run fails, and the exit code says so');
is(handled('caught', '{"batch_size": 100}'), '1 failed 0:100', 'an error that was caught does not complete the batch');
is(handled('add', '{"batch_size": 20}', '--apart', '--lease', 'session'), '0 completed 1:100', 'a lease of the session');
is(handled('nothing', '{"batch_size": 20}'), '2 running 0:100', 'a handler that is not there');

# --- the page -------------------------------------------------------------------

run_page($node, 'doc/clients/python.md', ['clients/python/backfill_client.py'], python => ['e164.py']);
is(query_ok($node, q{SELECT count(*), min(e164), max(e164) FROM phone WHERE e164 LIKE '+1212555____'}), '998|+12125550001|+12125551000', 'the numbers are there');
is(query_ok($node, q{SELECT e.key, message FROM backfill_errors e JOIN backfill_runs r ON r.id = run_id WHERE name = 'e164' ORDER BY 1}),
	"{400}|'ask her' is no number\n{800}|'ask her' is no number", 'and the two that are none');
is(query_ok($node, q{SELECT count(*) FROM city WHERE name = 'city ' || id}), '1000', 'what SQL can do is done');
is(query_ok($node, q{SELECT string_agg(status, ' ') FROM backfill_runs WHERE name IN ('e164', 'trim')}), 'completed completed', 'both runs are completed');

$node->stop;
done_testing();
