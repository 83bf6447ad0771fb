# Many streams in one run: what they cost is printed, and what the views read of them
# grows with the streams, and neither with the batches nor with the streams of others.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Streams;
use Test::More;
use Time::HiRes qw(time);

one_node('main', conf => "autovacuum_naptime = 1min\n");
my $many = full_length() ? 10_000 : 300;

# All rows that the plan of a query reads, those that it filters included.
sql(q{CREATE FUNCTION rows_read(query text) RETURNS numeric LANGUAGE plpgsql AS $$
	DECLARE plan jsonb;
	BEGIN
		EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
		RETURN (SELECT sum(((node -> 'Actual Rows')::numeric + coalesce((node -> 'Rows Removed by Filter')::numeric, 0)
				+ coalesce((node -> 'Rows Removed by Join Filter')::numeric, 0)) * (node -> 'Actual Loops')::numeric)
			FROM jsonb_path_query(plan, 'strict $.** ? (exists (@."Actual Rows"))') node);
	END $$});

my %began;
sub timed { my ($what, $code) = @_; my $at = time; my $result = $code->(); $began{$what} = time - $at; return $result; }
sub cost { my ($what) = @_; return sprintf('%s %.2f ms a stream', $what, 1000 * $began{$what} / $many); }

my $query = q{SELECT account::text AS name, ARRAY[account] AS "from", ARRAY[account] AS "to" FROM generate_series(1, } . $many . q{) account};

# As many streams, of one batch each, and of ten.
my %run;
foreach my $batches (1, 10)
{
	my $table = "t$batches";
	my $size = 10 / $batches;
	accounts($table, $many, 10);
	timed(define => sub { define_streams($table, $query, qq({"workers": 2, "batch_size": $size, "target_batch_time": 0, "sleep": 0})) });
	my $run = timed(start => sub { start_run($node, $table) });
	$run{$batches} = $run;
	my $streams = 0;
	timed(progress => sub { $streams = sql("SELECT count(*) FROM backfill_streams WHERE run_id = $run") });
	ok(wait_for_status($node, $run, 'completed', timeout => 900), "$many streams of $batches batches complete");
	check_streams($run, $table, 'account::text', 'every row once');
	my $seconds = sql("SELECT extract(epoch FROM finished_at - created_at) FROM backfill_runs WHERE id = $run");
	diag(sprintf('%d streams of %d batch(es): %s, %s, run and finish %.2f ms a stream', $many, $batches, cost('define'), cost('start'), 1000 * $seconds / $many));
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run"), $many * $batches, 'with as many batches');
}
sql('VACUUM ANALYZE backfill.batch');
sql('VACUUM ANALYZE backfill.stream');
sql('VACUUM ANALYZE backfill.run');

# ---------------------------------------------------------------------------
note 'what the views read';

my %views = (
	'all streams of a run' => 'SELECT * FROM backfill_streams WHERE run_id = %d',
	'one stream' => q{SELECT * FROM backfill_streams WHERE run_id = %d AND name = '7'},
	'the run' => 'SELECT * FROM backfill_runs WHERE id = %d');
foreach my $what (sort keys %views)
{
	my %rows = map { $_ => sql("SELECT rows_read('" . (sprintf($views{$what}, $run{$_}) =~ s/'/''/gr) . "')") } 1, 10;
	my $at = time;
	sql(sprintf($views{$what}, $run{10}));
	diag(sprintf('%s: %d rows read with a batch each, %d with ten; %.0f ms with psql', $what, $rows{1}, $rows{10}, 1000 * (time - $at)));
	cmp_ok($rows{10}, '<=', $rows{1} * 1.25 + 50, "$what: what is read does not grow with the batches");
	cmp_ok($rows{10}, '<=', $what eq 'one stream' ? 100 : 20 * $many, "$what: nor by more than the streams");
}

# ---------------------------------------------------------------------------
note 'while they are at work';

accounts('w', $many, 4);
define_streams('w', $query, '{"workers": 2, "batch_size": 1, "target_batch_time": 0, "sleep": "1 ms"}');
my $run = start_run($node, 'w');
ok(wait_for($node, "SELECT count(*) > $many / 3 FROM backfill.stream WHERE run_id = $run AND status = 'completed'", timeout => 900), 'a third is done');
my $rows = sql("SELECT rows_read('SELECT * FROM backfill_streams WHERE run_id = $run')");
my $at = time;
sql("SELECT * FROM backfill_streams WHERE run_id = $run");
diag(sprintf('live: %d rows read for %d streams, %.0f ms with psql', $rows, $many, 1000 * (time - $at)));
cmp_ok($rows, '<=', 30 * $many, 'a live run is read with a few rows a stream');
cmp_ok(run_value($node, $run, 'progress'), '>', 20, 'its progress is known');
sql("SELECT backfill_stop($run)");
ok(wait_for_status($node, $run, 'stopped'), 'it is stopped');
sql("SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1, timeout => 900), 'resumed, and completes');
check_streams($run, 'w', 'account::text', 'every row once');

# ---------------------------------------------------------------------------
note 'forgotten';

sql("SELECT backfill_delete($_)") foreach values %run, $run;
is(sql("SELECT (SELECT count(*) FROM backfill.stream), (SELECT count(*) FROM backfill.batch), (SELECT count(*) FROM backfill.error)"), '0|0|0', 'nothing of them is left');

$node->stop;
done_testing();
