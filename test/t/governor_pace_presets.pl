# What the presets come to, how "nice" adds to the sleep, and how many workers
# "auto" are.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use Test::More;

pace_node('pace');

# ---------------------------------------------------------------------------
note 'presets: the runs begin';

my %preset = (
	polite => '"preset": "polite", "batch_size": 20, "min_batch_size": 1',
	balanced => '"batch_size": 1000',
	fast => '"preset": "fast", "batch_size": 8000',
	explicit => '"preset": "polite", "batch_size": 20, "min_batch_size": 1, "nice": 0.5, "sleep": 0',
	window => '"batch_size": 20, "min_batch_size": 1, "windows": [{"settings": {"preset": "polite"}}]',
	both => '"batch_size": 20, "min_batch_size": 1, "nice": 0.5, "sleep": 0, "windows": [{"settings": {"preset": "polite"}}]');
my %run;

tables($node, 20_000, map { "preset_$_" } sort keys %preset);
$run{$_} = begin_run($node, "preset_$_", "{$preset{$_}}", statement => sleeping(0.001)) foreach sort keys %preset;

# ---------------------------------------------------------------------------
note 'presets: what they came to';

ok(wait_for($node, "SELECT count(*) >= 7 FROM backfill_batches WHERE run_id = $run{$_} AND status = 'completed'"), "preset: $_")
  foreach sort keys %preset;
sql("SELECT backfill_stop($run{$_}, true)") foreach sort keys %preset;

# What a run comes to: duration in ms, pause after it in ms, and by how much a
# pause is longer than so many times the duration.
sub habits
{
	return split /\|/, sql(qq{SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY duration),
			percentile_cont(0.5) WITHIN GROUP (ORDER BY pause), min(pause - $_[1] * duration)
		FROM (SELECT number, 1000 * extract(epoch FROM duration)::float8 AS duration,
				1000 * extract(epoch FROM lead(started_at) OVER (ORDER BY number) - finished_at)::float8 AS pause
				FROM backfill_batches WHERE run_id = $_[0] AND status = 'completed') b WHERE number > 3 AND pause IS NOT NULL});
}
my %want = (polite => [ 1, 9 ], balanced => [ 250 ], fast => [ 1000 ], explicit => [ 1, 0.5 ], window => [ 1, 9 ], both => [ 1, 0.5 ]);
foreach my $name (sort keys %want)
{
	my ($target, $nice) = @{ $want{$name} };
	my ($duration, $pause, $longer) = habits($run{$name}, $nice || 0);
	note sprintf('%s: %.0f ms, then %.1f ms', $name, $duration, $pause);

	# one of these rows takes a millisecond and what the machine adds to it
	cmp_ok(abs($duration - $target), '<', $target < 50 ? 20 : 0.3 * $target, "$name: batches of $target ms");
	cmp_ok($longer, '>', -1, "$name: nice $nice, to the millisecond") if $nice;
	cmp_ok($pause, '<', $duration, "$name: no nicer") unless $nice && $nice > 1;
	cmp_ok($pause, '>=', 10, "$name: sleeps 10 ms") if $name eq 'balanced';
	cmp_ok($pause, '<', 10, "$name: does not sleep") if $name eq 'fast';
}
note_time('presets');

# ---------------------------------------------------------------------------
note 'workers: auto';

tables($node, 100_000, 'auto');
my $auto = begin_run($node, 'auto', '{"workers": "auto", "max_workers": 3, "scale_interval": "1 s", "max_active_sessions": 10,
	"batch_size": 20, "target_batch_time": 0, "sleep": 0}', statement => sleeping(0.001));
ok(wait_for($node, "SELECT count(*) = 3 FROM backfill_workers WHERE run_id = $auto"), 'grows to max_workers');
my @active = map { session($node) } 1 .. 8;
$_->send('SELECT pg_sleep(600)') foreach @active;
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $auto"), 'and comes down when sessions are active');
ok(wait_for($node, throttled($auto, 'max\_active\_sessions: slowed to % \%: 8 client sessions are active, limit 10')), 'and says so');
is(sql("SELECT string_agg(substring(reason FROM '^workers: . instead of .'), ', ' ORDER BY id) FROM backfill_events
	WHERE run_id = $auto AND kind = 'pace'"), 'workers: 2 instead of 1, workers: 3 instead of 2, workers: 2 instead of 3, workers: 1 instead of 2',
	'each change is an event');
cmp_ok(sql("SELECT min(extract(epoch FROM at - before)) FROM (SELECT at, lag(at) OVER (ORDER BY id) AS before
	FROM backfill_events WHERE run_id = $auto AND kind = 'pace') e"), '>=', 0.99, 'not more often than scale_interval');
sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600);' AND pid <> pg_backend_pid()");
$_->quit foreach @active;
sql("SELECT backfill_stop($auto, true)");
note_time('auto');

$node->stop;
done_testing();
