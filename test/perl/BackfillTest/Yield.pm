# What the tests of giving way have in common: a cluster, runs whose batches
# take long, and sessions of the foreground that wait for them.
#
# Every run here has max_attempts 1: giving way is neither an error nor a try.

package BackfillTest::Yield;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

our @EXPORT = qw(
  $general @sessions yield_node nap begin_run in_batch timing waits ends start
);

our @sessions;

# The cluster, in which nap(id) takes as long as the table says, also when that
# changes meanwhile.
sub yield_node
{
	seed_random();
	one_node('yield', conf => "deadlock_timeout = 100ms\nmax_connections = 50\n");
	sql(q{
		CREATE TABLE nap (s float8);
		INSERT INTO nap VALUES (0);
		CREATE FUNCTION nap(id bigint) RETURNS int LANGUAGE plpgsql AS $$
		DECLARE
			began timestamptz := clock_timestamp();
		BEGIN
			WHILE clock_timestamp() < began + (SELECT s FROM nap) * interval '1 s' LOOP
				PERFORM pg_sleep(0.005);
			END LOOP;
			RETURN 1;
		END $$;
	});
	@sessions = map { session($node) } 1 .. 8;
	return;
}

sub nap { return sql("UPDATE nap SET s = $_[0]"); }

our $general = '"target_batch_time": 0, "sleep": 0, "max_attempts": 1, "retry_delay": "20 ms"';
my $number = 0;

# A new table, of so many rows that take so long each, and a run over it.
sub begin_run
{
	my ($rows, $seconds, $settings, %opts) = @_;
	my $table = 't' . ++$number;

	create_target($node, $table, $rows);
	define_increment($node, $table, qq({$general, $settings}), statement => $opts{statement} || 'UPDATE batch SET n = n + nap(id)');
	$opts{before}->($table) if $opts{before};
	nap($seconds);
	return ($table, start_run($node, $table));
}

# The batch has locked rows, and is far from its end.
sub in_batch
{
	my ($id, $batch, $ms) = @_;
	$batch ||= 1;
	$ms ||= 300;
	return ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers w JOIN pg_stat_activity a USING (pid)
		WHERE run_id = $id AND w.state = 'running' AND batch = $batch AND backend_xid IS NOT NULL
		  AND clock_timestamp() - query_start > interval '$ms ms'", interval => 20_000), "batch $batch is under way");
}

# Milliseconds that the statement takes, by the client's clock.
sub timing
{
	my ($session, $sql) = @_;
	my $out = $session->query("\\timing on\n$sql");

	$session->query("\\timing off\nSELECT");
	return $1 if $out =~ /^Time: ([\d.]+) ms/m && $out !~ /ERROR/;
	diag($out);
	return 1e9;
}

sub waits { my ($session) = @_; return ok(wait_for($node, 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = ' . $session->pid, interval => 5_000), 'a session waits'); }

# The end of a run: every row once, giving way was no error.
sub ends
{
	my ($id, $table, $rows, %opts) = @_;
	nap(0) unless $opts{slow};
	ok(wait_for_status($node, $id, 'completed'), 'the run completes');
	check_exactly_once($node, $id, $table, $rows, 'every row was processed exactly once');
	is(value($id, 'yields'), sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'yield'"), 'each time it gave way is counted, and an event');
	is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'error'"), 0, 'and no error');
	return;
}

# Have the session do something, without waiting for the end of it.
sub start
{
	my ($session, $sql) = @_;
	$session->send($sql);
	$session->{run}->pump_nb while length $session->{in};
	return;
}

1;
