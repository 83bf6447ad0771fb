# What the tests of streams have in common: tables of accounts, each of which is a
# stream, tables of partitions, and the check that every row of every stream was
# processed exactly once.

package BackfillTest::Streams;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

our @EXPORT = qw(
  accounts account_streams partitions define_streams
  states streams_are stream_value stream_in_hand at_step
  streams_problems check_streams
);

# A table with so many accounts of so many rows each, whose id is account * 1000 + i.
sub accounts
{
	my ($table, $accounts, $rows) = @_;
	sql("CREATE TABLE $table (account int, id bigint, n int NOT NULL DEFAULT 0, w text, PRIMARY KEY (account, id));
		INSERT INTO $table SELECT a, a * 1000 + i FROM generate_series(1, $accounts) a, generate_series(1, $rows) i;
		ANALYZE $table");
	return;
}

# The list of the streams that the accounts are, with weights where they are given.
sub account_streams
{
	my ($accounts, %weights) = @_;
	return '[' . join(', ', map { qq({"name": "$_", "from": [$_], "to": [$_])
			. ($weights{$_} ? qq(, "weight": $weights{$_}) : '') . '}' } 1 .. $accounts) . ']';
}

# A table of so many partitions, of i * $rows rows each, each with a primary key of
# its own and none of the table's.
sub partitions
{
	my ($table, $many, $rows) = @_;
	sql("CREATE TABLE $table (part int NOT NULL, id bigint NOT NULL, n int NOT NULL DEFAULT 0, w text) PARTITION BY LIST (part)",
		map { "CREATE TABLE ${table}_$_ PARTITION OF $table (PRIMARY KEY (id)) FOR VALUES IN ($_);
			INSERT INTO $table SELECT $_, $_ * 100000 + i FROM generate_series(1, $_ * $rows) i" } 1 .. $many);
	sql("ANALYZE $table");
	return;
}

# A definition of the name of its table.  Options: statement, more arguments of backfill_define.
sub define_streams
{
	my ($table, $streams, $settings, %opts) = @_;
	my $statement = $opts{statement} || 'UPDATE batch SET n = n + 1, w = run.stream';
	my $more = $opts{more} ? ", $opts{more}" : '';
	return sql("SELECT backfill_define('$table', '$table', \$s\$$statement\$s\$, streams => \$q\$$streams\$q\$, settings => '$settings'$more)");
}

# How the streams stand, in their order: "a running, b pending".
sub states
{
	my ($run) = @_;
	return sql("SELECT string_agg(name || ' ' || status, ', ' ORDER BY position) FROM backfill.stream WHERE run_id = $run");
}

sub streams_are
{
	my ($run, $expected) = @_;
	return wait_for($node, "SELECT string_agg(name || ' ' || status, ', ' ORDER BY position) FROM backfill.stream WHERE run_id = $run",
		expected => $expected);
}

sub stream_value
{
	my ($run, $name, $expression) = @_;
	return sql("SELECT $expression FROM backfill_streams WHERE run_id = $run AND name = '$name'");
}

# Wait until so many workers have the stream in hand.
sub stream_in_hand
{
	my ($run, $name, $workers) = @_;
	return wait_for($node, "SELECT workers FROM backfill_streams WHERE run_id = $run AND name = '$name'", expected => $workers);
}

# Wait until so many workers of the run wait at a gate.
sub at_step
{
	my ($run, $many) = @_;
	return wait_for($node, "SELECT count(*) FROM backfill_workers w JOIN pg_stat_activity a USING (pid)
		WHERE run_id = $run AND wait_event = 'PgSleep'", expected => $many);
}

# What is wrong with a run over the table that has completed: a list of sentences.
# Each row has to have n = 1, and w the name that $stream computes of it.
sub streams_problems
{
	my ($run, $table, $stream) = @_;
	my @problems;
	my $expect = sub {
		my ($what, $sql, $expected) = @_;
		my $got = sql($sql);
		push @problems, "$what: $got instead of $expected" if $got ne $expected;
	};

	$expect->('rows not done once', "SELECT count(*) FROM $table WHERE n <> 1", 0);
	$expect->('rows done by another stream', "SELECT count(*) FROM $table WHERE w IS DISTINCT FROM $stream", 0);
	$expect->('streams that are not completed', "SELECT count(*) FROM backfill_streams WHERE run_id = $run AND status <> 'completed'", 0);
	$expect->('progress', "SELECT min(progress), max(progress) FROM backfill_streams WHERE run_id = $run", '100.00|100.00');
	$expect->('rows of streams', "SELECT sum(rows_affected), sum(rows_scanned), sum(rows_total) FROM backfill_streams WHERE run_id = $run",
		sql("SELECT count(*), count(*), count(*) FROM $table"));
	$expect->('streams whose sums are not those of their batches', "SELECT count(*) FROM backfill_streams s
		  FULL JOIN (SELECT stream, count(*) AS batches, sum(rows_affected) AS affected, sum(rows_scanned) AS scanned, sum(wal_bytes) AS wal
			FROM backfill_batches WHERE run_id = $run AND status = 'completed' GROUP BY stream) b ON b.stream = s.name
		 WHERE run_id = $run AND (s.batches, s.rows_affected, s.rows_scanned, s.wal_bytes)
			IS DISTINCT FROM (coalesce(b.batches, 0), coalesce(affected, 0), coalesce(scanned, 0), coalesce(wal, 0))", 0);
	$expect->('batches, rows and WAL of the run', "SELECT batches, rows_scanned, rows_affected, rows_total, wal_bytes FROM backfill_runs WHERE id = $run",
		sql("SELECT sum(batches), sum(rows_scanned), sum(rows_affected), sum(rows_total), sum(wal_bytes) FROM backfill_streams WHERE run_id = $run"));
	$expect->('batches that do not begin where the one before ends',
		"SELECT count(*) FROM (SELECT *, lag(end_key) OVER w AS before, lag(number) OVER w AS number_before FROM backfill_batches
			WHERE run_id = $run AND part = 0 WINDOW w AS (PARTITION BY stream ORDER BY number)) b
		  WHERE before IS NOT NULL AND (start_inclusive OR start_key <> before OR number <> number_before + 1)
			OR before IS NULL AND (NOT start_inclusive OR number <> 1)", 0)
	  if sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND part > 0") eq '0';
	return @problems;
}

sub check_streams
{
	my ($run, $table, $stream, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", streams_problems($run, $table, $stream)), '', $name);
}

1;
