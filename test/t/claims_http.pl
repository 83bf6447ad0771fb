# Clients that call a service for each row: one that is slow, fails now and then, and
# allows so many calls in a window.  Clients are killed at random, and the server of the
# database once.  No row is lost, none is done twice but where that is in the nature of
# it, and the service is never called more often than it allows.
#
# The service counts for itself, by its own clock.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use HTTP::Tiny;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

need('/usr/bin/python3 with psycopg2', '/usr/bin/python3', '-c', 'import psycopg2');
$ENV{PYTHONDONTWRITEBYTECODE} = 1;
$ENV{PATH} = "/usr/bin:$ENV{PATH}";
$ENV{PYTHONPATH} = "$tree/clients/python:$tree/test/clients";

# What the service allows, and how many windows a stretch has in which the use is measured.
my $calls = full_length() ? 3000 : 600;
my $window = 2;
my $windows = full_length() ? 10 : 2;
my %rows = full_length() ? (once => 1_000_000, apart => 50_000) : (once => 2700, apart => 1200);

# Before such a part of the rows is done, nobody disturbs the clients.
my %at_rest = full_length() ? (once => 0.1, apart => 0.7) : (once => 0.6, apart => 0.1);
my $clients = 8;
my $threads = full_length() ? 5 : 1;
my $batch = full_length() ? 4 : 3;

# A client that is short of processor time must not lose its leases: it would go on calling.
my $lease = full_length() ? 10 : 2;

my $node = make_node('main', conf => "max_connections = 100\ntrack_functions = all\n");
my $port_file = $node->basedir . '/port';
my $service = start_client($node, '/usr/bin/python3', "$tree/test/clients/http_service.py",
	'--port-file', $port_file, '--calls', $calls, '--window', $window);
my $until = time + $BackfillTest::timeout;
usleep(10_000) until -e $port_file || time > $until;
$ENV{SERVICE_PORT} = slurp_file($port_file);
my $url = "http://127.0.0.1:$ENV{SERVICE_PORT}";

query_ok($node, 'CREATE TABLE changes (target text, number bigint, at timestamptz)');
seed_random();

sub ask_service
{
	my ($what) = @_;
	my $answer = HTTP::Tiny->new->get("$url/$what");
	die "the service says: $answer->{content}" unless $answer->{success};
	return JSON::PP->new->allow_nonref->decode($answer->{content});
}

# Wait until the service has been called so often, or the run is over.
sub called
{
	my ($id, $n) = @_;
	my $until = time + $BackfillTest::timeout + $n / 50;

	until (ask_service('calls') >= $n)
	{
		die "run $id does not come so far as to $n calls" if time > $until || run_value($node, $id, 'status') eq 'completed';
		usleep(full_length() ? 1_000_000 : 50_000);
	}
	return;
}

# A run over a table of that many rows, from its beginning to its end.
sub run_clients
{
	my ($mode) = @_;
	my $table = "http_$mode";
	my $rows = $rows{$mode};
	my @command = ('/usr/bin/python3', "$tree/clients/python/backfill_client.py", '--name', $table,
		'--lease', $lease, '--workers', $threads, $mode eq 'apart' ? '--apart' : (), 'http_handler:work');
	my $start = sub {
		local $ENV{TARGET} = $table;
		local $ENV{DIE} = $_[0] || 0;
		return start_client($node, @command);
	};
	my $id = start_hits($node, $table, $rows, qq({"batch_size": $batch, "rate_limit": "$calls per $window s",
		"retry_delay": "100ms", "max_attempts": 1000}));

	HTTP::Tiny->new->post("$url/begin");
	my @clients = map { $start->() } 1 .. $clients;

	# at first nobody disturbs them, then one dies where it hurts
	called($id, $at_rest{$mode} * $rows);
	cmp_ok(query_ok($node, q{SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'backfill_claim'}), '<',
		2 * query_ok($node, "SELECT sum(attempt) FROM backfill_batches WHERE run_id = $id"),
		"$mode: nobody asks for batches again and again") if $mode eq 'once';
	my $dies = $start->(1);
	is(exit_code($dies), 128 + 9, "$mode: a client dies between change and completion")
	  or diag(out_of($dies));

	# and then anyone anywhere, and once the server
	my $kills = full_length() ? int($rows / 10_000) + 3 : 4;
	my $crash = int($kills / 2);
	my $crashed = '-infinity';
	foreach my $kill (1 .. $kills)
	{
		called($id, ($at_rest{$mode} + (0.9 - $at_rest{$mode}) * ($kill - rand(1)) / $kills) * $rows);
		if ($kill == $crash)
		{
			# a client that has not begun finds no server, and gives up
			at_work($node, $id, $_) foreach @clients;
			$crashed = query_ok($node, 'SELECT clock_timestamp()');
			kill_postmaster($node);
			$node->start;
			next;
		}
		end_client(splice(@clients, int(rand(@clients)), 1), 'KILL');
		push @clients, $start->();
	}
	ok(wait_for_status($node, $id, 'completed', timeout => 60 + 1.5 * $rows * $window / $calls), "$mode: the run completes");
	is(join(' ', map { exit_code($_) } @clients), join(' ', (0) x $clients), "$mode: and the clients that are left end")
	  or diag(map { out_of($_) } @clients);

	my $report = ask_service("report?$windows");
	note join(', ', "$mode: " . hits($node, $table), map { "$_ " . ($report->{$_} // '') } sort keys %$report);
	is($report->{keys}, $rows, "$mode: the service was called for each row");
	cmp_ok($report->{failed}, '>', 0, "$mode: and has failed at times");
	cmp_ok($report->{shortest}, '>=', $window, "$mode: no window had more calls than are allowed");
	is($report->{refused}, 0, "$mode: so that none was refused");
	cmp_ok($report->{share}, '>=', 0.95, "$mode: the limit was used")
	  if $at_rest{$mode} * $rows > ($windows + 0.5) * $calls;
	return ($id, $table, $crashed);
}

# --- Change and completion in one transaction -----------------------------------

{
	my ($id, $table) = run_clients('once');

	is(hits($node, $table), "1:$rows{once}", 'once: every row was done once');
	is(query_ok($node, "SELECT count(*) - count(DISTINCT number) FROM changes WHERE target = '$table'"), 0,
		'once: and every batch');
}

# --- Apart ----------------------------------------------------------------------

{
	my ($id, $table, $crashed) = run_clients('apart');

	is(query_ok($node, "SELECT count(*) FROM $table WHERE hits < 1"), 0, 'apart: no row was lost');
	cmp_ok(query_ok($node, "SELECT count(*) FROM $table WHERE hits > 1"), '>', 0,
		'apart: what was done when the client died was done again');

	# no other than those of the killed, and those at work when the server was killed
	is(query_ok($node, "SELECT string_agg(number::text, ' ') FROM (
			SELECT number, min(at) AS first FROM changes WHERE target = '$table' GROUP BY 1 HAVING count(*) > 1) c
		WHERE NOT EXISTS (SELECT FROM backfill_events e WHERE e.run_id = $id AND e.number = c.number AND kind = 'takeover')
		  AND NOT first BETWEEN timestamptz '$crashed' - interval '1 s' AND timestamptz '$crashed' + interval '1 s'"), '',
		'apart: and nothing else was done twice');
	is(query_ok($node, "SELECT sum(hits) FROM $table"), query_ok($node, "SELECT sum(least($batch, $rows{apart} - (number - 1) * $batch)) FROM changes WHERE target = '$table'"),
		'apart: each change is one of a batch');
}

end_client($service, 'KILL');
$node->stop;
done_testing();
