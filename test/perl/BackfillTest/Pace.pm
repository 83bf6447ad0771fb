# What the tests of the pace have in common: a cluster with many workers,
# tables and runs whose batches take a time that is known, and what they did
# by their batches.
#
# Statements that sleep for each row make the time of a batch known, whatever
# else the machine has to do.

package BackfillTest::Pace;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(
  pace_node note_time now_at begin_run sleeping tables
  most_rows share_used best_of
  last_batch state_is throttled free goes_on
);

my $began = time;

# A cluster for many runs at the same time.
sub pace_node
{
	my ($name) = @_;
	return one_node($name, conf => q{
backfill.max_workers = 24
max_worker_processes = 40
max_connections = 60
autovacuum = off
fsync = off
});
}

sub note_time { note sprintf('[%.0f s] %s', time - $began, $_[0]); return; }

# The database's clock.
sub now_at { return query_ok($_[0], 'SELECT clock_timestamp()'); }

# A run of a new definition of that name, on the table of that name unless told.
sub begin_run
{
	my ($on, $name, $settings, %opts) = @_;
	my $scope = $opts{scope} ? "scope => \$s\$$opts{scope}\$s\$," : '';
	my $target = $opts{target} || $name;
	my $statement = $opts{statement} || 'UPDATE batch SET n = n + 1';

	query_ok($on, qq{SELECT backfill_define('$name', '$target', \$s\$$statement\$s\$, $scope
		settings => '$settings')});
	return query_ok($on, "SELECT backfill_start('$name')");
}

# Statements whose time is known: they sleep for each row, or for one of many.
sub sleeping { return "UPDATE batch SET n = n + 1 WHERE pg_sleep($_[0]) IS NOT NULL"; }

sub tables
{
	my ($on, $rows, @names) = @_;
	query_ok($on, join(';', map {
		"CREATE TABLE $_ (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, pad text) WITH (fillfactor = 50);
		 INSERT INTO $_ SELECT i FROM generate_series(1, $rows) i; ANALYZE $_" } @names));
	return;
}

# The most rows in any window of that many seconds, by either end of batches.
# Options: the runs, a condition on the end of the window.
sub most_rows
{
	my ($on, $runs, $seconds, $which, $what) = @_;
	$which ||= 'true';
	$what ||= 'rows_affected';
	return query_ok($on, qq{SELECT coalesce(max(greatest(a, b)), 0) FROM (
		SELECT sum($what) OVER (ORDER BY finished_at RANGE BETWEEN '$seconds s' PRECEDING AND CURRENT ROW) AS a,
			   sum($what) OVER (ORDER BY started_at RANGE BETWEEN '$seconds s' PRECEDING AND CURRENT ROW) AS b,
			   started_at, finished_at
		  FROM backfill_batches WHERE run_id IN ($runs) AND status = 'completed' AND started_at IS NOT NULL) w
		 WHERE $which});
}

# The share of the allowance that was used in a stretch: from the end of what was
# done in its first window to the end of what was done in its last one.
sub share_used
{
	my ($on, $runs, $amount, $seconds, $from, $to, $what) = @_;
	$what ||= 'rows_affected';
	return query_ok($on, qq{WITH b AS (
			SELECT finished_at AS at, sum($what) OVER (ORDER BY finished_at, run_id, number, part) AS done
			  FROM backfill_batches WHERE run_id IN ($runs) AND status = 'completed'
			   AND finished_at BETWEEN '$from' AND '$to'),
		first AS (SELECT max(at) AS at, max(done) AS done FROM b
			 WHERE at < (SELECT min(at) FROM b) + interval '$seconds s' * 0.9)
		SELECT round(max((b.done - first.done) * $seconds / $amount / extract(epoch FROM b.at - first.at)), 3)
		  FROM b, first WHERE b.at > (SELECT max(at) FROM b) - interval '$seconds s'
		   AND b.at > first.at + interval '$seconds s' / 2});
}

# The first of up to five measurements that is what it ought to be, or the last of
# them.  For what is reached when nothing else takes the machine's time: a part
# that is used, a fair share.  (What must never be exceeded is asked once.)
# Arguments: what measures, and returns a list of figures; the least of each.
sub best_of
{
	my ($measure, @least) = @_;
	my @got;
	foreach (1 .. 5)
	{
		@got = $measure->();
		last unless grep { $got[$_] < $least[$_] } 0 .. $#least;
		note "not yet: @got";
	}
	return @got;
}

# What the last batch was when it was asked.
sub last_batch { return sql("SELECT coalesce(max(number), 0) FROM backfill_batches WHERE run_id = $_[0]"); }
sub state_is { return "SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $_[0] AND state = '$_[1]'"; }
sub throttled { return "SELECT throttled_by LIKE '$_[1]' FROM backfill_runs WHERE id = $_[0]"; }
sub free { return "SELECT throttled_by IS NULL FROM backfill_runs WHERE id = $_[0]"; }
sub goes_on { return "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $_[0] AND number > $_[1] AND status = 'completed'"; }

1;
