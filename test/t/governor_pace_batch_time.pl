# The batch size follows the batch time: how soon it is at the target, whether
# it stays there, clamps, batches that take long, waiting for a lock; and the
# size that was found is kept.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use Test::More;

my $full = full_length();
pace_node('pace');

# ---------------------------------------------------------------------------
note 'batch time';

# How the batches of a run went: durations as shares of the target, by number.
sub shares
{
	my ($run, $target) = @_;
	return map { [ split /\|/ ] } split /\n/, sql(qq{SELECT number, rows_scanned,
		round((1000 * extract(epoch FROM duration) / $target)::numeric, 3)
		FROM backfill_batches WHERE run_id = $run AND status = 'completed' AND number <
			(SELECT max(number) FROM backfill_batches WHERE run_id = $run) ORDER BY number});
}

tables($node, $full ? 100_000 : 20_000, qw(small low high));
tables($node, 10_000, qw(locked cut));
sql('CREATE TABLE seen (id bigint)');
sql('CREATE TABLE large (id bigint PRIMARY KEY, n int);
	 INSERT INTO large SELECT i, 0 FROM generate_series(1, 1000000) i; ANALYZE large');

my $target = '"sleep": 0, "target_batch_time": "100 ms"';
# long enough that a hiccup of the machine is a small part of it
my $long_target = '"sleep": 0, "target_batch_time": "250 ms"';
my $small = begin_run($node, 'small', qq({$long_target, "batch_size": 10}), statement => sleeping(0.001));
my $huge = begin_run($node, 'huge', qq({$long_target, "batch_size": 100000, "to": 450000, "share_target": true}), target => 'large',
	statement => 'INSERT INTO seen SELECT id FROM batch WHERE CASE WHEN id % 250 = 0 THEN pg_sleep(0.005) IS NOT NULL END');
my $low = begin_run($node, 'low', qq({$target, "min_batch_size": 50, "batch_size": 60, "to": 1000}),
	statement => sleeping(0.004));
my $high = begin_run($node, 'high', qq({$target, "max_batch_size": 30, "to": 1200}), statement => sleeping(0.001));
my $cut = begin_run($node, 'cut', qq({$target, "batch_size": 90, "to": 1200}),
	statement => 'UPDATE batch SET n = n + 1 WHERE pg_sleep(CASE WHEN id > 1000 THEN 0.02 ELSE 0.001 END) IS NOT NULL');
my $locked = begin_run($node, 'locked', qq({$target, "batch_size": 90, "lock_timeout": "30 s"}), statement => sleeping(0.001));

# a batch that waits for a row
my $session = session($node);
ok(wait_for($node, "SELECT batches > 5 FROM backfill_runs WHERE id = $locked"), 'a run is at work');
my $row = sql("SELECT max(end_key[1]::bigint) + 150 FROM backfill_batches WHERE run_id = $locked");
$session->query("BEGIN; UPDATE locked SET pad = 'held' WHERE id = $row");
ok(wait_for($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'backfill worker'
	AND clock_timestamp() - query_start > '1.5 s'"), 'a batch waits for a row for 1.5 s');
$session->query('ROLLBACK');
$session->quit;
ok(wait_for($node, "SELECT count(*) > 5 FROM backfill_batches WHERE run_id = $locked AND status = 'completed'
	AND start_key[1]::bigint > $row"), 'and goes on when it gets it');
sql("SELECT backfill_stop($locked)");

# Steady state: within 20 batches at the target, and most of the others stay: 95 % on a
# machine that does nothing else.
sub check_steady
{
	my ($run, $name, $target) = @_;
	my @shares = shares($run, $target);
	my $first = 0;

	$first++ while $first < @shares && ($shares[$first][2] < 0.8 || $shares[$first][2] > 1.2);
	my @rest = @shares[ $first .. $#shares ];
	my $within = grep { $_->[2] >= 0.8 && $_->[2] <= 1.2 } @rest;
	cmp_ok($first, '<', 20, "$name: at the target within 20 batches");
	cmp_ok(@rest, '>=', 20, "$name: of many");
	cmp_ok($within / (@rest || 1), '>=', 0.8, "$name: and stays there")
	  or diag(join(' ', map { "$_->[1]:$_->[2]" } @shares));
	note "$name: after $first batches, then $within of " . scalar(@rest);
	return;
}

wait_for_status($node, $_, 'completed') foreach $cut, $low, $high;
note_time('clamps and cut done');

foreach my $clamp ([ $low, 50, 'low', qr/^batches of min_batch_size, 50 rows, take longer/ ],
	[ $high, 30, 'high', qr/^batches of max_batch_size, 30 rows, take less/ ])
{
	my ($run, $size, $name, $said) = @$clamp;
	my $from = 4;
	# one in 11 batches of the least size is larger, to see whether a smaller one is worth it
	is(sql("SELECT min(rows_scanned) || ' ' || percentile_disc(0.8) WITHIN GROUP (ORDER BY rows_scanned) FROM backfill_batches WHERE run_id = $run AND number >= $from
		AND number < (SELECT max(number) FROM backfill_batches WHERE run_id = $run)"), "$size $size", "$name: the size is clamped");
	like(sql("SELECT reason FROM backfill_events WHERE run_id = $run AND kind = 'pace'"), $said, "$name: which is said once");
	is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind = 'pace'"), 1, "$name: and not again");
}

my @cut = shares($cut, 100);
my ($long) = grep { $cut[$_][2] > 5 } 0 .. $#cut;
ok(defined $long && $long < $#cut, 'a batch takes more than 5 times the target');
# to a quarter or less, or to min_batch_size
my $most = $cut[$long][1] / 4;
$most = 10 if $most < 10;
cmp_ok($cut[ $long + 1 ][1], '<=', $most, 'the next one is cut at once')
  or diag(join(' ', map { "$_->[1]:$_->[2]" } @cut));

my ($wait) = grep { $_->[2] > 12 } shares($locked, 100);
ok($wait, 'a batch took long because of the lock') or $wait = [ 0, 0, 0 ];
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $locked AND number BETWEEN $wait->[0] + 1 AND $wait->[0] + 5
	AND rows_scanned < 0.5 * $wait->[1] AND status = 'completed'"), 0, 'which does not make the following ones smaller')
  or diag(join(' ', map { "$_->[1]:$_->[2]" } shares($locked, 100)));

# over what is not in scope
my $before = time;
my $thin = begin_run($node, 'thin', '{"sleep": 0, "share_target": true}', target => 'large', scope => 'n = 0 AND id > 999000');
wait_for_status($node, $thin, 'completed');
is(sql('SELECT count(*) FROM large WHERE n = 1'), 1000, 'every row of a sparse scope');
cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $thin"), '<', 100, 'a million others are crossed in few batches');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $thin AND rows_affected > 1000"), 0, 'none processes more than its size');
note_time('a sparse scope');

# enough batches to judge by
ok(wait_for($node, "SELECT batches >= 45 FROM backfill_runs WHERE id = $small"), 'many batches');
check_steady($small, 'from 10', 250);
wait_for_status($node, $huge, 'completed');
check_steady($huge, 'from 100000', 250);
note_time('batch time');

# ---------------------------------------------------------------------------
note 'the size is kept';

ok(wait_for($node, "SELECT batch_size > 30 FROM backfill.run WHERE id = $small"), 'the size that was found is in the row of the run');
my $number = sql("SELECT max(number) FROM backfill_batches WHERE run_id = $small");
$node->restart;
ok(wait_for($node, "SELECT count(*) > 2 FROM backfill_batches WHERE run_id = $small AND number > $number AND status = 'completed'"),
	'after a restart');
cmp_ok(sql("SELECT min(rows_scanned) FROM backfill_batches WHERE run_id = $small AND number > $number"), '>=', 30,
	'the run begins with it');
$number = sql("SELECT max(number) FROM backfill_batches WHERE run_id = $small");
sql("SELECT backfill_alter($small, '{\"batch_size\": 20}')");
ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $small AND number > $number AND rows_scanned BETWEEN 20 AND 30"),
	'a new batch_size is where it begins anew');
ok(wait_for($node, "SELECT batch_size > 30 FROM backfill_runs WHERE id = $small"), 'and from where it follows the time again');
sql("SELECT backfill_stop($small)");
wait_for_status($node, $small, 'stopped');
note_time('the size is kept');

$node->stop;
done_testing();
