# What the tests of the clients in clients/ have in common: client processes that
# are started, killed, frozen and asked to end, and what has to hold of each
# client, whatever its language.
#
# A test says how a client is started: a function that returns a command, given
# name (of the definition), sql (with {condition} in it), workers, lease (in
# seconds) and apart (complete apart from the change).  Every row of a target
# counts how often it was done, in "hits".

package BackfillTest::Clients;

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use Exporter 'import';
use File::Basename qw(basename);
use POSIX qw(:sys_wait_h setsid);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  make_client_node need start_client end_client exit_code out_of at_work start_hits hits page_blocks write_program run_page
  check_all
);

# A node that counts calls of functions.
sub make_client_node
{
	return make_node('main', conf => "track_functions = all\n");
}

# --- Programs ------------------------------------------------------------------

# Skip the whole test unless the command succeeds.
sub need
{
	my ($what, @command) = @_;

	return if -x $command[0] && IPC::Run::run([@command], '<', \'', '>', \my $out, '2>&1');
	plan skip_all => "no $what on this machine";
	return;
}

# The blocks of a page in that language.
sub page_blocks
{
	my ($page, $language) = @_;

	return slurp_file("$tree/$page") =~ /^```\Q$language\E\n(.*?)^```$/msg;
}

# A file in the directory of the node.
sub write_program
{
	my ($node, $name, $text) = @_;
	my $path = $node->basedir . "/$name";

	unlink $path;
	append_to_file($path, $text);
	return $path;
}

# --- Processes -----------------------------------------------------------------

my %running;

# Start a client in a process group of its own: {pid, log}.
my $clients = 0;
sub start_client
{
	my ($node, @command) = @_;
	my $log = $node->basedir . '/client' . ++$clients . '.log';
	my $pid = fork();

	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		setsid();
		chdir($node->basedir);
		@ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, 'postgres', 'postgres');
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>', $log);
		open(STDERR, '>&', \*STDOUT);
		exec(@command) or POSIX::_exit(127);
	}
	$running{$pid} = 1;
	return { pid => $pid, log => $log };
}

sub out_of
{
	my ($client) = @_;
	return -e $client->{log} ? slurp_file($client->{log}) : '';
}

# Wait for its end: the exit code, 128 and the signal, or -1 if it did not come.
sub exit_code
{
	my ($client, $bound) = @_;
	my $until = time + ($bound || $BackfillTest::timeout);

	while (waitpid($client->{pid}, WNOHANG) == 0)
	{
		if (time > $until)
		{
			diag("a client does not end:\n" . out_of($client));
			end_client($client, 'KILL');
			return -1;
		}
		usleep(5_000);
	}
	delete $running{ $client->{pid} };
	return $? & 127 ? 128 + ($? & 127) : $? >> 8;
}

# A signal to the client, one that kills to all its processes, and wait for its end.
sub end_client
{
	my ($client, $signal) = @_;

	kill($signal, $signal eq 'KILL' ? -$client->{pid} : $client->{pid});
	return exit_code($client);
}

END
{
	my $status = $?;
	foreach my $pid (keys %running)
	{
		kill('KILL', -$pid);
		waitpid($pid, 0);
	}
	$? = $status;
}

# --- Runs ----------------------------------------------------------------------

# A table with that many rows, keys 1, 2, 3, ..., and a run over it for clients.
sub start_hits
{
	my ($node, $name, $rows, $settings, %opts) = @_;
	my $scope = $opts{scope} ? "\$\$$opts{scope}\$\$" : 'NULL';

	query_ok($node, qq{
		CREATE TABLE $name (id bigint PRIMARY KEY, hits int NOT NULL DEFAULT 0);
		INSERT INTO $name SELECT i FROM generate_series(1, $rows) i;
		SELECT backfill_define('$name', '$name', NULL, scope => $scope, settings => '$settings')});
	query_ok($node, "VACUUM ANALYZE $name");
	return start_run($node, $name);
}

# How often rows were done, as "hits:rows hits:rows".
sub hits
{
	my ($node, $name) = @_;

	return query_ok($node, "SELECT string_agg(hits || ':' || n, ' ' ORDER BY hits)
		FROM (SELECT hits, count(*) AS n FROM $name GROUP BY 1) h");
}

sub takeovers
{
	my ($node, $id) = @_;
	return query_ok($node, "SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'takeover'");
}

# A statement that adds to the hits, after a rest.
sub add_after
{
	my ($name, $seconds) = @_;
	return "WITH rest AS MATERIALIZED (SELECT pg_sleep($seconds)) UPDATE $name AS batch SET hits = hits + 1 FROM rest WHERE {condition}";
}

sub claimed
{
	my ($node, $id) = @_;
	return wait_for($node, "SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $id AND batches_out > 0");
}

# Wait until the client has claimed a batch, or there is none left for it.
sub at_work
{
	my ($node, $id, $client) = @_;
	return wait_for($node, "SELECT status <> 'running' OR EXISTS (SELECT FROM backfill_batches
		WHERE run_id = $id AND client LIKE '%:$client->{pid}/%') FROM backfill_runs WHERE id = $id");
}

# --- What has to hold ----------------------------------------------------------

# Clients are killed at random, one is asked to end, and the server crashes once.
sub check_killed
{
	my ($node, $command, %opts) = @_;
	my $mode = $opts{apart} ? 'apart' : 'once';
	my $name = "killed_$mode";
	my $id = start_hits($node, $name, 3000, '{"batch_size": 20, "retry_delay": "50ms", "max_attempts": 100}');
	my $start = sub {
		return start_client($node, $command->(name => $name, sql => add_after($name, 0.1), workers => 2, lease => 1, apart => $opts{apart}));
	};
	my @clients = map { $start->() } 1 .. 3;
	my $crash = $opts{apart} ? 0 : 5;

	seed_random();
	claimed($node, $id) or die "no client claims:\n" . join('', map { out_of($_) } @clients);
	foreach my $turn (1 .. ($opts{apart} ? 4 : 6))
	{
		usleep(100_000 + rand(250_000));
		if ($turn == $crash)
		{
			at_work($node, $id, $_) foreach @clients;
			kill_server($node);
			$node->start;
			next;
		}
		my $client = splice(@clients, int(rand(@clients)), 1);

		# not before it has begun
		claimed($node, $id);
		if ($turn == 3)
		{
			at_work($node, $id, $client);
			is(end_client($client, 'TERM'), 0, "$mode: a client that is to end does so without an error")
			  or diag(out_of($client));
		}
		else
		{
			end_client($client, 'KILL');
		}
		push @clients, $start->();
	}
	ok(wait_for_status($node, $id, 'completed', timeout => 60), "$mode: the run completes, whoever is killed");
	is(join(' ', map { exit_code($_) } @clients), '0 0 0', "$mode: and the clients that are left end")
	  or diag(map { out_of($_) } @clients);
	cmp_ok(takeovers($node, $id), '>', 0, "$mode: batches of the killed were taken over");
	if ($opts{apart})
	{
		is(query_ok($node, "SELECT count(*) FROM $name WHERE hits < 1"), '0', "$mode: every row was done")
		  or diag(hits($node, $name));
	}
	else
	{
		is(hits($node, $name), '1:3000', "$mode: every row was done once");
	}
	return;
}

# A client sleeps longer than its lease lasts, and wakes up when its batch is another's.
# Its change stands only if it is not one with the completion.
sub check_frozen
{
	my ($node, $command) = @_;
	my @modes;

	foreach my $mode ('once', 'apart')
	{
		my $name = "frozen_$mode";
		my $id = start_hits($node, $name, 20, '{"batch_size": 10}');
		my @command = $command->(name => $name, sql => add_after($name, 0.5), workers => 1, lease => 0.5, apart => $mode eq 'apart');
		my $frozen = start_client($node, @command);

		claimed($node, $id);
		kill('STOP', -$frozen->{pid});
		push @modes, { mode => $mode, name => $name, id => $id, command => \@command, frozen => $frozen };
	}
	foreach my $m (@modes)
	{
		ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_events WHERE run_id = $m->{id} AND kind = 'takeover'"),
			"$m->{mode}: the lease of a frozen client runs out");
		$m->{other} = start_client($node, @{ $m->{command} });
		claimed($node, $m->{id});
		kill('CONT', -$m->{frozen}{pid});
	}
	foreach my $m (@modes)
	{
		ok(wait_for_status($node, $m->{id}, 'completed', timeout => 60), "$m->{mode}: the run completes");
		is(exit_code($m->{frozen}) . exit_code($m->{other}), '00', "$m->{mode}: both go on to the end")
		  or diag(out_of($m->{frozen}), out_of($m->{other}));
		is(hits($node, $m->{name}), $m->{mode} eq 'apart' ? '1:10 2:10' : '1:20', "$m->{mode}: what was done twice");
	}
	return;
}

# A batch that takes longer than the lease: what is returned is to be called when the
# client has had the time.
sub begin_heartbeat
{
	my ($node, $command) = @_;
	my $id = start_hits($node, 'heart', 10, '{"batch_size": 10}');
	my $client = start_client($node, $command->(name => 'heart', sql => add_after('heart', 3), workers => 1, lease => 1));

	return sub {
		is(exit_code($client), 0, 'a batch may take longer than its lease') or diag(out_of($client));
		is(hits($node, 'heart'), '1:10', 'it is done once');
		is(takeovers($node, $id), '0', 'and stays in the hands of its client');
	};
}

# Asked to end in the middle of a batch, and while there is nothing to do.
sub check_term
{
	my ($node, $command, %opts) = @_;
	my $id = start_hits($node, 'term', 100, '{"batch_size": 10}');
	my @command = $command->(name => 'term', sql => add_after('term', 1), workers => 1, lease => 60);

	foreach my $signal ('TERM', @{ $opts{signals} || [] })
	{
		my $before = run_value($node, $id, 'batches');
		my $client = start_client($node, @command);

		claimed($node, $id);
		is(end_client($client, $signal), 0, "SIG$signal: the exit code is 0") or diag(out_of($client));
		is(run_value($node, $id, 'batches'), $before + 1, "SIG$signal: after the batch in hand");
		is(query_ok($node, "SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'running'"),
			'0', "SIG$signal: and with no other");
	}
	query_ok($node, "SELECT backfill_pause($id)");
	wait_for_status($node, $id, 'paused');
	my $claims = "SELECT calls FROM pg_stat_user_functions WHERE funcname = 'backfill_claim'";
	my $calls = query_ok($node, "SELECT coalesce(sum(calls), 0) FROM ($claims) c");
	my $client = start_client($node, @command);
	ok(wait_for($node, "SELECT coalesce(sum(calls), 0) > $calls FROM ($claims) c"), 'a client of a paused run asks and waits');
	is(end_client($client, 'TERM'), 0, 'SIGTERM: the exit code is 0 then, too') or diag(out_of($client));
	query_ok($node, "SELECT backfill_stop($id)");
	wait_for_status($node, $id, 'stopped');
	is(exit_code(start_client($node, @command)), 1, 'the exit code is 1 for a run that did not complete');
	return;
}

# Rows that fail, found by division, as the server finds them in a batch of its own.
sub check_bad_rows
{
	my ($node, $command) = @_;
	my $id = start_hits($node, 'bad', 200, '{"batch_size": 50, "on_error": "skip", "max_error_rate": 1}');
	my $client = start_client($node,
		$command->(name => 'bad', workers => 2, lease => 10, sql => 'UPDATE bad AS batch SET hits = hits + abs(1 / (id - 120)) + 1 - abs(1 / (id - 120)) WHERE {condition}'));

	is(exit_code($client, 60), 0, 'a row that fails does not end the client') or diag(out_of($client));
	is(run_value($node, $id, 'status'), 'completed', 'nor the run');
	is(query_ok($node, "SELECT key, sqlstate, message FROM backfill_errors WHERE run_id = $id"),
		'{120}|22012|division by zero', 'it stands in backfill_errors');
	is(hits($node, 'bad'), '0:1 1:199', 'and the others are done');
	return;
}

# Errors that may go away by themselves.
sub check_retry
{
	my ($node, $command) = @_;
	query_ok($node, q{
		CREATE SEQUENCE tries;
		CREATE FUNCTION unlucky() RETURNS int LANGUAGE plpgsql AS $$
		DECLARE
			n bigint := nextval('tries');
		BEGIN
			IF n < 3 THEN
				RAISE EXCEPTION 'try again' USING ERRCODE = CASE n WHEN 1 THEN '40001' ELSE '40P01' END;
			END IF;
			RETURN 1;
		END $$});
	my $id = start_hits($node, 'again', 10, '{"batch_size": 10, "retry_delay": "50ms"}');
	my $client = start_client($node,
		$command->(name => 'again', workers => 1, lease => 10, sql => 'WITH u AS MATERIALIZED (SELECT unlucky() AS n) UPDATE again AS batch SET hits = hits + u.n FROM u WHERE {condition}'));

	is(exit_code($client, 60), 0, 'serialization failures and deadlocks are tried again') or diag(out_of($client));
	is(hits($node, 'again'), '1:10', 'and the rows are done once');
	is(query_ok($node, "SELECT attempt FROM backfill_batches WHERE run_id = $id"), '3', 'with the third attempt');
	return;
}

# Nothing to work on.
sub check_no_run
{
	my ($node, $command) = @_;
	my $client = start_client($node, $command->(name => 'nobody', workers => 1, lease => 10, sql => 'SELECT 1'));

	is(exit_code($client, 60), 2, 'without a run the exit code is 2') or diag(out_of($client));
	return;
}

# All of that.
sub check_all
{
	my ($node, $command, %opts) = @_;

	check_killed($node, $command);
	check_killed($node, $command, apart => 1);
	my $heart = begin_heartbeat($node, $command);
	check_frozen($node, $command);
	check_bad_rows($node, $command);
	$heart->();
	check_term($node, $command, %opts);
	check_retry($node, $command);
	check_no_run($node, $command);
	return;
}

# The examples of a page: its SQL, its programs by name and language, and then what it has
# the shell do.  Files are those that the page has copied.
sub run_page
{
	my ($node, $page, $files, %programs) = @_;

	query_ok($node, $_) foreach page_blocks($page, 'sql');
	write_program($node, basename($_), slurp_file("$tree/$_")) foreach @$files;
	foreach my $language (sort { $a cmp $b } keys %programs)
	{
		my @blocks = page_blocks($page, $language);
		my @names = @{ $programs{$language} };

		is(scalar @blocks, scalar @names, "$page has its programs");
		write_program($node, $names[$_], $blocks[$_]) foreach 0 .. $#blocks;
	}
	foreach my $block (page_blocks($page, 'sh'))
	{
		my $client = start_client($node, 'bash', '-euc', $block);
		my ($what) = $block =~ /(.*)/;

		is(exit_code($client, 60), 0, "$page: $what") or diag(out_of($client));
	}
	return;
}

1;
