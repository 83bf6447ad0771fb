# Limits for the WAL of a run, and budgets that all runs share: each gets its
# part, none more, also through a crash.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use Test::More;
use Time::HiRes qw(time);

pace_node('pace');

sub budget
{
	my ($name, $value) = @_;
	sql("ALTER SYSTEM SET $name = '$value'");
	sql('SELECT pg_reload_conf()');
	return;
}
sub wait_since
{
	my ($since, $seconds) = @_;
	wait_for($node, "SELECT clock_timestamp() > timestamptz '$since' + interval '$seconds s'") or die 'the clock stands still';
	return;
}

# What part of a budget of so much a second runs use in the next seconds.
sub parts_used
{
	my ($seconds, $budget, $what, @runs) = @_;
	my $since = now_at($node);
	wait_since($since, $seconds);
	my $until = now_at($node);
	return map { sql("SELECT coalesce(sum($what), 0) / ($budget * extract(epoch FROM timestamptz '$until' - '$since'))
		FROM backfill_batches WHERE run_id = $_ AND finished_at BETWEEN '$since' AND '$until'") } @runs;
}

# ---------------------------------------------------------------------------
note 'WAL';

tables($node, 100_000, qw(wide wider));
sql("UPDATE $_ SET pad = repeat('x', 300)") foreach qw(wide wider);
sql('CHECKPOINT');
my $wide = begin_run($node, 'wide', '{"wal_rate_limit": "300kB per s", "batch_size": 2000, "target_batch_time": 0, "sleep": 0}');
my $wider = begin_run($node, 'wider', '{"wal_rate_limit": "300kB per s", "batch_size": 100, "sleep": 0, "workers": 2}');
ok(wait_for($node, throttled($_, 'wal\_rate\_limit: 300 kB per 1s')), 'wal_rate_limit: said') foreach $wide, $wider;
my @used = best_of(sub {
	my $since = now_at($node);
	wait_since($since, 3);
	my $until = now_at($node);
	return map { share_used($node, $_, 307_200, 1, $since, $until, 'wal_bytes') } $wide, $wider;
}, 0.7, 0.7);
cmp_ok($_, '>=', 0.7, 'most of it is used') foreach @used;
sql("SELECT backfill_stop($_)") foreach $wide, $wider;
foreach my $run ($wide, $wider)
{
	my $workers = $run == $wide ? 1 : 2;
	my $most = sql("SELECT max(wal_bytes) FROM backfill_batches WHERE run_id = $run");
	cmp_ok(most_rows($node, $run, 1, 'true', 'wal_bytes'), '<=', 307_200 + $workers * $most,
		"wal_rate_limit: within the limit and one batch, $workers worker(s)");
}
note_time('WAL');

# ---------------------------------------------------------------------------
note 'budgets of all runs';

budget('backfill.rate_limit', '300 per s');
tables($node, 50_000, qw(one two));
wait_for_status($node, $_, 'stopped') foreach $wide, $wider;
my $one = begin_run($node, 'one', '{"sleep": 0}');
my $two = begin_run($node, 'two', '{"sleep": 0}');
ok(wait_for($node, throttled($_, 'backfill.rate\_limit: 300 rows per 1s')), 'both wait for the budget') foreach $one, $two;
my @part = best_of(sub { my @p = parts_used(3, 300, 'rows_affected', $one, $two); return (@p, $p[0] + $p[1]) }, 0.25, 0.25, 0.8);
note sprintf('the parts: %.2f and %.2f', @part);
cmp_ok($part[$_], '>=', 0.25, 'each gets about half') foreach 0, 1;
cmp_ok($part[2], '>=', 0.8, 'and together all of it');

# what was used before a crash counts after it
ok(kill_postmaster($node), 'the postmaster is killed');
$node->start;
my $until = now_at($node);
foreach my $run ($one, $two)
{
	ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $run AND finished_at > '$until'"), 'a run goes on');
}
sql("SELECT backfill_stop($two)");
$until = now_at($node);
wait_for_status($node, $two, 'stopped');
wait_since($until, 1);
cmp_ok((best_of(sub { return parts_used(2, 300, 'rows_affected', $one) }, 0.75))[0], '>=', 0.75, 'one alone gets all of it, not half');
cmp_ok(most_rows($node, "$one, $two", 1), '<=', 300, 'no window has more than the budget');

budget('backfill.rate_limit', '10 per 5 min');
ok(wait_for($node, throttled($one, 'backfill.rate\_limit: 10 rows per 5min')), 'a smaller budget');
my $last = last_batch($one);
my $start = time;
budget('backfill.rate_limit', '');
ok(wait_for($node, goes_on($one, $last)), 'none');
cmp_ok(time - $start, '<', 10, sprintf('in %.2f s', time - $start));
ok(wait_for($node, free($one), timeout => 5), 'and throttled_by no longer says so');
wait_for_status($node, $one, 'completed');

sql("UPDATE $_ SET n = 0, pad = repeat('x', 300)" ) foreach qw(one two);
budget('backfill.wal_rate_limit', '300kB per s');
($one, $two) = map { begin_run($node, $_, '{"sleep": 0, "batch_size": 100, "target_batch_time": 0}') } qw(one two);
ok(wait_for($node, throttled($_, 'backfill.wal\_rate\_limit: 300 kB per 1s')), 'both wait for the budget of WAL') foreach $one, $two;
@part = best_of(sub { return parts_used(3, 307200, 'wal_bytes', $one, $two) }, 0.3, 0.3);
sql("SELECT backfill_stop($_)") foreach $one, $two;
note sprintf('the parts: %.2f and %.2f', @part);
cmp_ok($_, '>=', 0.3, 'each gets about half') foreach @part;
cmp_ok(most_rows($node, "$one, $two", 1, 'true', 'wal_bytes'), '<=',
	307_200 + 2 * sql("SELECT max(wal_bytes) FROM backfill_batches WHERE run_id IN ($one, $two)"), 'no window has more than the budget and the batches in hand');
budget('backfill.wal_rate_limit', '');
note_time('budgets');

$node->stop;
done_testing();
