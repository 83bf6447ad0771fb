# The pace of runs: rate limits in every sliding window, the batch size that
# follows the batch time, budgets that runs share, settings that change while a
# run is at work, the number of workers, presets.
#
# Two clusters are at work at the same time.  In the one, runs with rate limits
# go on from the beginning to the end of the test, through a pause, a crash and
# a restart; what they did is judged by their batches.  In the other one,
# meanwhile, all the rest.  Statements that sleep for each row make the time of
# a batch known, whatever else the machine has to do.

use strict;
use warnings;

use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $full = full_length();
my $began = time;

my $conf = q{
backfill.max_workers = 24
max_worker_processes = 40
max_connections = 60
autovacuum = off
fsync = off
};
my $limits = make_node('limits', conf => $conf);
my $node = make_node('pace', conf => $conf);

sub sql { return query_ok($node, $_[0]); }
sub lim { return query_ok($limits, $_[0]); }
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

# ---------------------------------------------------------------------------
note 'rate limits: the runs begin';

tables($limits, $full ? 50_000 : 12_000, qw(steady skip alter whole));
tables($limits, $full ? 250_000 : 60_000, 'sparse');
lim("UPDATE sparse SET n = 1 WHERE id % 5 <> 0");
create_step($limits);
lim("INSERT INTO behave VALUES (2500, 'gate')");

# stopped in the middle of a batch of 5000 rows, which then is too large
my $whole = begin_run($limits, 'whole', '{"batch_size": 5000, "sleep": 0, "workers": 2, "target_batch_time": 0}',
	statement => 'UPDATE batch SET n = n + step(id)');

my $steady = begin_run($limits, 'steady', '{"rate_limit": "300 per 3 s", "workers": 2, "batch_size": 50}');
my $skip = begin_run($limits, 'skip', '{"rate_limit": "300 per 3 s", "workers": 2, "on_error": "skip", "batch_size": 200}',
	statement => 'UPDATE batch SET n = n + 1 / least(id % 500, 1)::int');
my $sparse = begin_run($limits, 'sparse', '{"rate_limit": "300 per 3 s", "workers": 2}', scope => 'n = 0');
my $alter = begin_run($limits, 'alter', '{"rate_limit": "300 per 3 s", "workers": 2, "sleep": 0}');

ok(wait_for($limits, "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $whole AND status = 'running'
	AND start_inclusive"), 'a batch of 5000 rows is at work');
lim("SELECT backfill_stop($whole, true)");
wait_for_status($limits, $whole, 'stopped');
is(lim("SELECT max(rows_scanned) FROM backfill_batches WHERE run_id = $whole AND status <> 'completed'"), 5000,
	'and is stopped in the middle');
lim("DELETE FROM behave; SELECT backfill_alter($whole, '{\"rate_limit\": \"300 per 2 s\"}'), backfill_resume($whole)");
my $whole_since = now_at($limits);
note_time('the runs with rate limits are at work');

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

# Steady state: within 20 batches at the target, and 95 % of the others stay.
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
	cmp_ok($within / (@rest || 1), '>=', 0.95, "$name: and stays there")
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
	is(sql("SELECT min(rows_scanned) || ' ' || max(rows_scanned) FROM backfill_batches WHERE run_id = $run AND number >= $from
		AND number < (SELECT max(number) FROM backfill_batches WHERE run_id = $run)"), "$size $size", "$name: the size is clamped");
	like(sql("SELECT reason FROM backfill_events WHERE run_id = $run AND kind = 'pace'"), $said, "$name: which is said once");
	is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind = 'pace'"), 1, "$name: and not again");
}

my @cut = shares($cut, 100);
my ($long) = grep { $cut[$_][2] > 5 } 0 .. $#cut;
ok(defined $long && $long < $#cut, 'a batch takes more than 5 times the target');
cmp_ok($cut[ $long + 1 ][1], '<=', $cut[$long][1] / 4, 'the next one is cut at once')
  or diag(join(' ', map { "$_->[1]:$_->[2]" } @cut));

my ($wait) = grep { $_->[2] > 12 } shares($locked, 100);
ok($wait, 'a batch took long because of the lock') or $wait = [ 0, 0, 0 ];
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $locked AND number BETWEEN $wait->[0] + 1 AND $wait->[0] + 5
	AND rows_scanned < 0.75 * $wait->[1] AND status = 'completed'"), 0, 'which does not make the following ones smaller')
  or diag(join(' ', map { "$_->[1]:$_->[2]" } shares($locked, 100)));

# over what is not in scope
my $before = time;
my $thin = begin_run($node, 'thin', '{"sleep": 0, "share_target": true}', target => 'large', scope => 'n = 0 AND id > 999000');
wait_for_status($node, $thin, 'completed');
is(sql('SELECT count(*) FROM large WHERE n = 1'), 1000, 'every row of a sparse scope');
cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $thin"), '<', 100, 'a million others are crossed in few batches');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $thin AND rows_affected > 1000"), 0, 'none processes more than its size');
note_time('a sparse scope');

# ---------------------------------------------------------------------------
note 'rate limits: a pause';

# enough of a stretch to judge by
my $enough = $full ? 6000 : 1200;
ok(wait_for($limits, "SELECT sum(rows_affected) >= $enough FROM backfill_batches WHERE run_id = $steady"), 'many windows');
my $alter_first = now_at($limits);
lim("SELECT backfill_alter($alter, '{\"rate_limit\": \"50 per s\"}')");
my $alter_since = now_at($limits);
lim("SELECT backfill_pause($steady)");
wait_for_status($limits, $steady, 'paused');
my $paused = now_at($limits);
is(run_value($limits, $steady, 'throttled_by'), '', 'what is paused is not throttled');
lim("SELECT backfill_resume($steady)");
my $steady_since = now_at($limits);

check_steady($small, 'from 10', 250);
wait_for_status($node, $huge, 'completed');
check_steady($huge, 'from 100000', 250);
note_time('batch time');

# ---------------------------------------------------------------------------
note 'the size is kept';

ok(wait_for($node, "SELECT batch_size > 30 FROM backfill.run WHERE id = $small"), 'the size that was found is in the catalog');
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

# ---------------------------------------------------------------------------
note 'presets: the runs begin';

my %preset = (
	polite => '"preset": "polite", "batch_size": 20, "min_batch_size": 1',
	balanced => '"batch_size": 100',
	fast => '"preset": "fast", "batch_size": 300',
	explicit => '"preset": "polite", "batch_size": 20, "min_batch_size": 1, "nice": 0.5, "sleep": 0',
	window => '"batch_size": 20, "min_batch_size": 1, "windows": [{"settings": {"preset": "polite"}}]',
	both => '"batch_size": 20, "min_batch_size": 1, "nice": 0.5, "sleep": 0, "windows": [{"settings": {"preset": "polite"}}]');
my %run;

tables($node, 20_000, map { "preset_$_" } sort keys %preset);
$run{$_} = begin_run($node, "preset_$_", "{$preset{$_}}", statement => sleeping(0.001)) foreach sort keys %preset;
# ---------------------------------------------------------------------------
note 'rate limits: a crash';

ok(wait_for($limits, "SELECT sum(rows_affected) >= 600 FROM backfill_batches WHERE run_id = $steady AND finished_at > '$steady_since'"),
	'two windows after the pause');
my $alter_until = now_at($limits);
lim("SELECT backfill_alter($alter, '{\"rate_limit\": \"2000 per 4 s\"}')");
my $crash_since;
foreach my $crash (1 .. ($full ? 8 : 1))
{
	ok($crash % 2 ? kill_postmaster($limits) : kill_server($limits), 'the server is killed');
	$limits->start;
	$crash_since = now_at($limits);
	wait_for($limits, "SELECT sum(rows_affected) >= 100 FROM backfill_batches WHERE run_id = $steady AND finished_at > '$crash_since'")
	  or die 'the run does not go on' if $full;
}

# ---------------------------------------------------------------------------
note 'live';

# Change settings of a run at work, and how long it takes until the query is true.
sub live
{
	my ($run, $settings, $query, $name) = @_;
	my $start = time;
	my $ok;

	sql("SELECT backfill_alter($run, '$settings')");
	$ok = wait_for($node, $query, interval => 10_000);
	my $took = time - $start;
	ok($ok, $name);
	cmp_ok($took, '<', 2, sprintf('in %.2f s', $took));
	return;
}

# What the last batch was when it was asked.
sub last_batch { return sql("SELECT coalesce(max(number), 0) FROM backfill_batches WHERE run_id = $_[0]"); }
sub state_is { return "SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $_[0] AND state = '$_[1]'"; }
sub throttled { return "SELECT throttled_by LIKE '$_[1]' FROM backfill_runs WHERE id = $_[0]"; }
sub free { return "SELECT throttled_by IS NULL FROM backfill_runs WHERE id = $_[0]"; }
sub goes_on { return "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $_[0] AND number > $_[1] AND status = 'completed'"; }

tables($node, 100_000, 'live');
my $live = begin_run($node, 'live', '{"sleep": "1 h", "batch_size": 10, "target_batch_time": 0}', statement => sleeping(0.001));
my $last;

ok(wait_for($node, state_is($live, 'sleeping')), 'a run sleeps for an hour');
live($live, '{"sleep": 0}', goes_on($live, last_batch($live)), 'sleep: in the middle of it');
live($live, '{"nice": 1000}', state_is($live, 'sleeping'), 'nice: sleeps longer');
live($live, '{"nice": 0}', goes_on($live, last_batch($live)), 'nice: in the middle of the sleep');
$last = last_batch($live);
live($live, '{"batch_size": 17}', "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $live AND number > $last AND rows_scanned = 17", 'batch_size');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $live AND rows_scanned NOT IN (10, 17)"), 0,
	'without target_batch_time the size is batch_size');
live($live, '{"target_batch_time": "100 ms"}', "SELECT batch_size > 20 FROM backfill_runs WHERE id = $live", 'target_batch_time: on');
live($live, '{"target_batch_time": "20 ms"}', "SELECT batch_size < 17 FROM backfill_runs WHERE id = $live", 'target_batch_time: shorter');
live($live, '{"min_batch_size": 40}', "SELECT batch_size = 40 FROM backfill_runs WHERE id = $live", 'min_batch_size');
live($live, '{"min_batch_size": 1, "max_batch_size": 5}', "SELECT batch_size = 5 FROM backfill_runs WHERE id = $live", 'max_batch_size');
live($live, '{"max_batch_size": null, "target_batch_time": 0}', "SELECT batch_size = 17 FROM backfill_runs WHERE id = $live", 'target_batch_time: off');

live($live, '{"rate_limit": "20 per 5 min"}', state_is($live, 'throttled'), 'rate_limit: holds');
ok(wait_for($node, throttled($live, 'rate_limit: 20 rows per 5min')), 'throttled_by says so');
my $since = run_value($node, $live, 'throttled_since');
isnt($since, '', 'throttled_since too');
my $done = run_value($node, $live, 'rows_affected + 20');
live($live, qq({"rate_limit": "$done per 5 min"}), goes_on($live, last_batch($live)), 'rate_limit: a little more');
live($live, '{"rate_limit": null}', goes_on($live, last_batch($live)), 'rate_limit: no more');
ok(wait_for($node, free($live), timeout => 5), 'and throttled_by no longer says so');
cmp_ok(run_value($node, $live, "(throttle_times ->> 'rate_limit')::numeric"), '>', 0, 'throttle_times remembers it');
is(sql("SELECT string_agg(split_part(reason, ':', 1), ', ' ORDER BY id) FROM backfill_events WHERE run_id = $live AND kind = 'throttle'"),
	'rate_limit, no longer throttled', 'an event when it began and one when it ended');

live($live, '{"wal_rate_limit": "1kB per 5 min"}', state_is($live, 'throttled'), 'wal_rate_limit: holds');
ok(wait_for($node, throttled($live, 'wal_rate_limit: 1024 bytes per 5min')), 'throttled_by says so');
live($live, '{"wal_rate_limit": null}', goes_on($live, last_batch($live)), 'wal_rate_limit: no more');
ok(wait_for($node, free($live), timeout => 5), 'and throttled_by no longer says so');

live($live, '{"windows": [{"closed": true}]}', "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $live",
	'windows: closed, and the workers leave');
ok(wait_for($node, throttled($live, 'window: closed%')), 'throttled_by says so');
ok(wait_for($node, "SELECT status = 'running' AND workers = 0 FROM backfill_runs WHERE id = $live"), 'the run is running all the same');
live($live, '{"windows": [{"settings": {"sleep": "1 h"}}]}', state_is($live, 'sleeping'), 'windows: with settings, and the workers are back');
ok(wait_for($node, free($live), timeout => 5), 'no longer throttled');
live($live, '{"windows": null}', goes_on($live, last_batch($live)), 'windows: none');
my ($from, $to) = map { sql("SELECT to_char((now() + interval '$_ h') AT TIME ZONE 'UTC', 'HH24:MI')") } -2, 2;
live($live, qq({"windows": [{"from": "$from", "to": "$to", "timezone": "UTC", "closed": true}]}),
	throttled($live, 'window: closed until 20%'), 'windows: closed, until when');
live($live, '{"windows": null}', goes_on($live, last_batch($live)), 'and open again');

live($live, '{"workers": 3}', "SELECT count(*) = 3 FROM backfill_workers WHERE run_id = $live AND state IN ('running', 'sleeping')", 'workers: more');
live($live, '{"workers": 1}', "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $live", 'workers: less');

# a batch that takes many seconds, and somebody who waits for its first row
live($live, '{"yield_after": 0, "batch_size": 5000}', "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $live AND status = 'running' AND rows_scanned = 5000",
	'a long batch');
my $worker = sql("SELECT pid FROM backfill_workers WHERE run_id = $live");
$row = sql("SELECT min(start_key[1]::bigint) + 1 FROM backfill_batches WHERE run_id = $live AND status = 'running' AND rows_scanned = 5000");
$session = session($node);
$session->send("UPDATE live SET pad = 'foreground' WHERE id = $row");
ok(wait_for($node, "SELECT $worker = ANY(pg_blocking_pids(@{[$session->pid]}))"), 'somebody waits for it');
live($live, '{"yield_after": "100 ms"}', "SELECT count(*) > 0 FROM live WHERE id = $row AND pad = 'foreground'",
	'yield_after: in the middle of the batch');
cmp_ok(run_value($node, $live, 'yields'), '>=', 1, 'counted');
$session->quit;
sql("SELECT backfill_stop($live, true)");
wait_for_status($node, $live, 'stopped');
is(sql("SELECT count(*) FROM backfill_runs WHERE id = $live AND throttled_by IS NULL AND throttled_since IS NULL
	AND throttle_times ?& ARRAY['rate_limit', 'wal_rate_limit', 'window']"), 1, 'the run remembers what throttled it, and for how long');
note_time('live');

# ---------------------------------------------------------------------------
note 'rate limits: a restart';

ok(wait_for($limits, "SELECT sum(rows_affected) >= 600 FROM backfill_batches WHERE run_id = $steady AND finished_at > '$crash_since'"),
	'two windows after the crash');
my $restart_at = now_at($limits);
$limits->restart;
my $restart_since = now_at($limits);

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
	cmp_ok(abs($duration - $target), '<', $target < 50 ? 5 : 0.3 * $target, "$name: batches of $target ms");
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

# ---------------------------------------------------------------------------
note 'WAL';

tables($node, 30_000, qw(wide wider));
sql("UPDATE $_ SET pad = repeat('x', 300)") foreach qw(wide wider);
sql('CHECKPOINT');
my $wide = begin_run($node, 'wide', '{"wal_rate_limit": "300kB per s", "batch_size": 2000, "target_batch_time": 0, "sleep": 0}');
my $wider = begin_run($node, 'wider', '{"wal_rate_limit": "300kB per s", "batch_size": 100, "sleep": 0, "workers": 2}');
ok(wait_for($node, throttled($_, 'wal\_rate\_limit: 300 kB per 1s')), 'wal_rate_limit: said') foreach $wide, $wider;
$since = now_at($node);
ok(wait_for($node, "SELECT clock_timestamp() > timestamptz '$since' + interval '3 s'"), 'for a while');
sql("SELECT backfill_stop($_)") foreach $wide, $wider;
foreach my $run ($wide, $wider)
{
	my $workers = $run == $wide ? 1 : 2;
	my $most = sql("SELECT max(wal_bytes) FROM backfill_batches WHERE run_id = $run");
	cmp_ok(most_rows($node, $run, 1, 'true', 'wal_bytes'), '<=', 307_200 + $workers * $most,
		"wal_rate_limit: within the limit and one batch, $workers worker(s)");
	my $used = share_used($node, $run, 307_200, 1, $since, 'infinity', 'wal_bytes');
	note "of which $used was used, batches of at most $most bytes";
	cmp_ok($used, '>=', 0.7, 'and most of it is used');
}
note_time('WAL');

# ---------------------------------------------------------------------------
note 'budgets of all runs';

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

budget('backfill.rate_limit', '300 per s');
tables($node, 30_000, qw(one two));
wait_for_status($node, $_, 'stopped') foreach $wide, $wider;
my $one = begin_run($node, 'one', '{"sleep": 0}');
my $two = begin_run($node, 'two', '{"sleep": 0}');
ok(wait_for($node, throttled($_, 'backfill.rate\_limit: 300 rows per 1s')), 'both wait for the budget') foreach $one, $two;
$since = now_at($node);
wait_since($since, 3);
my $until = now_at($node);
my @part = map { sql("SELECT coalesce(sum(rows_affected), 0) / (300 * extract(epoch FROM timestamptz '$until' - '$since')) FROM backfill_batches
	WHERE run_id = $_ AND finished_at BETWEEN '$since' AND '$until'") } $one, $two;
note sprintf('the parts: %.2f and %.2f', @part);
cmp_ok($_, '>=', 0.35, 'each gets about half') foreach @part;
cmp_ok($part[0] + $part[1], '>=', 0.9, 'and together all of it');

# what was used before a crash counts after it
ok(kill_postmaster($node), 'the postmaster is killed');
$node->start;
$until = now_at($node);
foreach my $run ($one, $two)
{
	ok(wait_for($node, "SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $run AND finished_at > '$until'"), 'a run goes on');
}
sql("SELECT backfill_stop($two)");
$until = now_at($node);
wait_for_status($node, $two, 'stopped');
wait_since($until, 1);
$since = now_at($node);
wait_since($since, 2);
$until = now_at($node);
cmp_ok(sql("SELECT sum(rows_affected) / (300 * extract(epoch FROM timestamptz '$until' - '$since')) FROM backfill_batches
	WHERE run_id = $one AND finished_at BETWEEN '$since' AND '$until'"), '>=', 0.9, 'one alone gets all of it');
cmp_ok(most_rows($node, "$one, $two", 1), '<=', 300, 'no window has more than the budget');

budget('backfill.rate_limit', '10 per 5 min');
ok(wait_for($node, throttled($one, 'backfill.rate\_limit: 10 rows per 5min')), 'a smaller budget');
$last = last_batch($one);
my $start = time;
budget('backfill.rate_limit', '');
ok(wait_for($node, goes_on($one, $last)), 'none');
cmp_ok(time - $start, '<', 2, sprintf('in %.2f s', time - $start));
ok(wait_for($node, free($one), timeout => 5), 'and throttled_by no longer says so');
wait_for_status($node, $one, 'completed');

sql("UPDATE $_ SET n = 0, pad = repeat('x', 300)" ) foreach qw(one two);
budget('backfill.wal_rate_limit', '300kB per s');
($one, $two) = map { begin_run($node, $_, '{"sleep": 0, "batch_size": 100, "target_batch_time": 0}') } qw(one two);
ok(wait_for($node, throttled($_, 'backfill.wal\_rate\_limit: 300 kB per 1s')), 'both wait for the budget of WAL') foreach $one, $two;
$since = now_at($node);
wait_since($since, 3);
$until = now_at($node);
sql("SELECT backfill_stop($_)") foreach $one, $two;
@part = map { sql("SELECT coalesce(sum(wal_bytes), 0) / (307200 * extract(epoch FROM timestamptz '$until' - '$since')) FROM backfill_batches
	WHERE run_id = $_ AND finished_at BETWEEN '$since' AND '$until'") } $one, $two;
note sprintf('the parts: %.2f and %.2f', @part);
cmp_ok($_, '>=', 0.3, 'each gets about half') foreach @part;
cmp_ok(most_rows($node, "$one, $two", 1, 'true', 'wal_bytes'), '<=',
	307_200 + 2 * sql("SELECT max(wal_bytes) FROM backfill_batches WHERE run_id IN ($one, $two)"), 'no window has more than the budget and the batches in hand');
budget('backfill.wal_rate_limit', '');
note_time('budgets');

# ---------------------------------------------------------------------------
note 'rate limits: what the runs did';

ok(wait_for($limits, "SELECT sum(rows_affected) >= 600 FROM backfill_batches WHERE run_id = $steady AND finished_at > '$restart_since'"),
	'two windows after the restart');
my $end = now_at($limits);

cmp_ok(most_rows($limits, $steady, 3), '<=', 300, 'through a pause, a crash and a restart: no window has more rows');
cmp_ok(most_rows($limits, $skip, 3), '<=', 300, 'nor with rows that are skipped');
cmp_ok(lim("SELECT count(*) FROM backfill_errors WHERE run_id = $skip"), '>', 2, 'of which there are some');
cmp_ok(most_rows($limits, $sparse, 3), '<=', 300, 'nor with a sparse scope');
cmp_ok(lim("SELECT sum(rows_scanned) / sum(rows_affected) FROM backfill_batches WHERE run_id = $sparse"), '>', 4.5,
	'where the rows out of scope do not count');
cmp_ok(most_rows($limits, $alter, 3, "finished_at < '$alter_first'"), '<=', 300, 'backfill_alter: before');
cmp_ok(most_rows($limits, $alter, 1, "started_at > timestamptz '$alter_since' + interval '1 s' AND finished_at < '$alter_until'"), '<=', 50,
	'in between');
cmp_ok(most_rows($limits, $alter, 4, "started_at > timestamptz '$alter_until' + interval '1 s'"), '<=', 2000, 'after');
cmp_ok(most_rows($limits, $whole, 2, "started_at > timestamptz '$whole_since'"), '<=', 300, 'a batch that was larger than the limit: divided');
is(lim("SELECT count(*) > 1 FROM backfill_batches WHERE run_id = $whole AND number = 1"), 't', 'into parts');

foreach my $stretch ([ $steady, 300, 3, 'epoch', $paused, 'until the pause' ], [ $steady, 300, 3, $steady_since, $alter_until, 'from the pause to the crash' ],
	[ $steady, 300, 3, $crash_since, $restart_at, 'from the crash to the restart' ], [ $steady, 300, 3, $restart_since, $end, 'from the restart on' ],
	[ $sparse, 300, 3, 'epoch', $alter_until, 'a sparse scope' ],
	[ $skip, 300, 3, 'epoch', $alter_until, 'rows that are skipped' ], [ $alter, 50, 1, $alter_since, $alter_until, 'a changed limit' ],
	[ $whole, 300, 2, $whole_since, $alter_until, 'a divided batch' ])
{
	my ($run, $amount, $seconds, $first, $last, $name) = @$stretch;
	my $share = share_used($limits, $run, $amount, $seconds, $first, $last);
	cmp_ok($share || 0, '>=', 0.95, "used of the allowance, $name: $share");
}
lim("SELECT backfill_stop(id) FROM backfill_runs WHERE status = 'running'");
is(lim("SELECT count(*) FROM $_ WHERE n > 1"), 0, "no row of $_ is processed twice") foreach qw(steady skip alter whole sparse);
note_time('done');

done_testing();
