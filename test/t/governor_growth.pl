# How much the target of a run grows: the figures in the views, who keeps space from
# being used again, and the limit on it.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use Test::More;

one_node('growth', conf => "autovacuum = off\nfsync = off\n");

# What PostgreSQL says about the sizes of a table.
sub table_size { return sql("SELECT sum(pg_table_size(relid)) FROM (SELECT relid FROM pg_partition_tree('$_[0]') UNION SELECT '$_[0]'::regclass) t"); }
sub index_size { return sql("SELECT sum(pg_indexes_size(relid)) FROM (SELECT relid FROM pg_partition_tree('$_[0]') UNION SELECT '$_[0]'::regclass) t"); }

# A run over a new table of 50,000 rows, with settings beside those for an even pace.
my $number = 0;
sub begin
{
	my ($more, %opts) = @_;
	my $table = 'g' . ++$number;

	sql("CREATE TABLE $table (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, pad text)" . ($opts{parted} ? ' PARTITION BY RANGE (id)' : ''));
	sql(map { "CREATE TABLE ${table}_$_ PARTITION OF $table FOR VALUES FROM (@{[$_ * 25000 + 1]}) TO (@{[$_ * 25000 + 25001]})" } 0 .. 1) if $opts{parted};
	sql("INSERT INTO $table SELECT i, 0, repeat('x', 60) FROM generate_series(1, 50000) i", "CREATE INDEX ON $table (n)");
	sql("VACUUM ANALYZE $table");
	my @before = (table_size($table), index_size($table));
	my $run = begin_run($node, $table, qq({"batch_size": 500, "target_batch_time": 0, "sleep": "$opts{sleep}" $more}));
	return ($run, $table, @before);
}

note 'figures';
foreach my $case ([ 'a table', ', "reuse_space": false', 1.8, 2.3 ], [ 'partitions', ', "reuse_space": false', 1.8, 2.3, parted => 1 ], [ 'reused', '', 1, 1.3 ])
{
	my ($name, $more, $least, $most, %opts) = @$case;
	my ($run, $table, $table_before, $index_before) = begin($more, sleep => '0', %opts);

	wait_for_status($node, $run, 'completed');
	is(sql("SELECT table_size, index_size FROM backfill_runs WHERE id = $run"), "$table_before|$index_before", "$name: the sizes at the beginning");
	my ($grown, $indexes) = map { run_value($node, $run, $_) } qw(table_growth index_growth);
	is($table_before + $grown, table_size($table), "$name: how much it has grown");
	is($index_before + $indexes, index_size($table), "$name: and its indexes");
	my $times = ($table_before + $grown) / $table_before;
	ok($times >= $least && $times < $most, sprintf('%s: %.2f times', $name, $times));
	is(sql("SELECT pages_pruned = (SELECT sum(pages_pruned) FROM backfill_batches WHERE run_id = $run) AND space_freed = (SELECT sum(space_freed) FROM backfill_batches WHERE run_id = $run)
			FROM backfill_runs WHERE id = $run"), 't', "$name: the run has what its batches have");
	my $pruned = run_value($node, $run, 'pages_pruned');
	cmp_ok($pruned, $least > 1 ? '==' : '>', $least > 1 ? 0 : $table_before / 8192 / 2, "$name: $pruned pages have been pruned");
	cmp_ok(run_value($node, $run, 'space_freed'), '>', $table_before / 3, "$name: and space made") if $least == 1;
}

note 'a snapshot';
my $reader = session($node);
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query('SELECT count(*) FROM g1');
my ($run, $table) = begin('', sleep => '200 ms');
my $kept_by = "process @{[$reader->pid]} holds a snapshot since 20";
ok(wait_for($node, "SELECT space_kept_by LIKE '$kept_by%' FROM backfill_runs WHERE id = $run"), 'the run says who keeps space');
my (undef, undef, $err) = query($node, "CALL backfill_wait($run, '2 s')");
like($err, qr/INFO: .*the table grows: $kept_by/, 'backfill_wait does');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind = 'space' AND reason LIKE 'the table grows: $kept_by%'"), 1, 'an event');
$reader->query('COMMIT');
ok(wait_for($node, "SELECT space_kept_by IS NULL FROM backfill_runs WHERE id = $run"), 'and no more when it is over');
is(sql("SELECT reason FROM backfill_events WHERE run_id = $run AND kind = 'space' ORDER BY id DESC LIMIT 1"), 'what batches have left can be used again', 'another');
ok(wait_for($node, "SELECT pages_pruned > 0 FROM backfill_runs WHERE id = $run"), 'pages are pruned');
sql("SELECT backfill_stop($run)");
wait_for_status($node, $run, 'stopped');

note 'a limit';
($run, $table) = begin(', "reuse_space": false, "max_growth": "20 %"', sleep => '25 ms');
ok(wait_for($node, throttled($run, 'max\_growth: table and indexes have grown by % kB, limit % kB')), 'the run is held');
ok(wait_for($node, state_is($run, 'throttled')), 'its worker waits');
my $last = last_batch($run);
my $held_at = table_size($table);
wait_for($node, 'SELECT false', timeout => 3);
is(last_batch($run), $last, 'and does nothing');
is(table_size($table), $held_at, 'nothing grows');
sql("SELECT backfill_alter($run, '{\"max_growth\": \"10GB\", \"sleep\": 0}')");
wait_for_status($node, $run, 'completed');
is(sql("SELECT string_agg(split_part(reason, ':', 1), ', ' ORDER BY id) FROM backfill_events WHERE run_id = $run AND kind = 'throttle'"), 'max_growth, no longer throttled', 'events');

note 'a limit, beside a snapshot';
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query('SELECT count(*) FROM g1');
($run, $table) = begin(', "max_growth": "25 %"', sleep => '100 ms');
ok(wait_for($node, throttled($run, 'max\_growth: %')), 'the run is held');
ok(wait_for($node, throttled($run, "max\\_growth: %; process @{[$reader->pid]} holds a snapshot since %")), 'because of the snapshot');
$reader->query('COMMIT');
$reader->quit;
wait_for_status($node, $run, 'completed');
my $times = sql("SELECT (table_growth + index_growth)::float8 / (table_size + index_size) FROM backfill_runs WHERE id = $run");
cmp_ok($times, '<', 0.7, sprintf('when it is gone the run goes on with what is freed, and grows by %.0f %% in all', 100 * $times));
is(sql("SELECT count(*) FROM $table WHERE n = 1"), 50_000, 'every row once');

note 'a limit, and VACUUM';
($run, $table) = begin(', "reuse_space": false, "max_growth": "20 %"', sleep => '25 ms');
my $vacuums = 0;
my $held = throttled($run, 'max\_growth: table and indexes have grown by %');
while (wait_for($node, "SELECT status = 'completed' OR ($held) FROM backfill_runs WHERE id = $run") && run_value($node, $run, 'status') ne 'completed' && $vacuums < 20)
{
	my $at = last_batch($run);

	sql("ANALYZE $table");
	wait_for($node, 'SELECT false', timeout => 2);
	is(last_batch($run), $at, 'it stays held, whatever is analyzed') if $vacuums == 0;
	sql("VACUUM $table");
	$vacuums++;
	ok(wait_for($node, goes_on($run, $at)), 'it goes on with what VACUUM has freed');
}
is(run_value($node, $run, 'status'), 'completed', "and completes, after $vacuums times");
cmp_ok($vacuums, '>', 0, 'it had to be vacuumed');
$times = sql("SELECT (table_growth + index_growth)::float8 / (table_size + index_size) FROM backfill_runs WHERE id = $run");
cmp_ok($times, '<', 0.7, sprintf('it has grown by %.0f %% in all', 100 * $times));

like(refusal(qq{SELECT backfill_define('bad', 'g1', 'UPDATE batch SET n = 2', settings => '{"max_growth": "$_"}')}), qr/invalid value for backfill setting "max_growth"/, "\"$_\" is refused")
	foreach '0', '-5 %', '0 %', 'much', '5 %%', '5 apples';

$node->stop;
done_testing();
