# Rate limits: in every sliding window runs do no more rows than they may, and
# use what they may, through a pause, a changed limit, a crash and a restart,
# with rows that are skipped, a sparse scope, and a batch that is larger than
# the limit.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use Test::More;

my $full = full_length();
my $limits = pace_node('limits');
sub lim { return query_ok($limits, $_[0]); }

# ---------------------------------------------------------------------------
note 'rate limits: the runs begin';

tables($limits, $full ? 50_000 : 12_000, qw(steady skip alter whole));
tables($limits, $full ? 250_000 : 60_000, 'sparse');
lim("UPDATE sparse SET n = 1 WHERE id % 5 <> 0");
create_step($limits);
lim("INSERT INTO behave VALUES (2500, 'gate')");

# stopped in the middle of a batch of 5000 rows, which then is too large
my $whole = begin_run($limits, 'whole', '{"lock_timeout": "off", "batch_size": 5000, "sleep": 0, "workers": 2, "target_batch_time": 0}',
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
note 'rate limits: a restart';

ok(wait_for($limits, "SELECT sum(rows_affected) >= 600 FROM backfill_batches WHERE run_id = $steady AND finished_at > '$crash_since'"),
	'two windows after the crash');
my $restart_at = now_at($limits);
$limits->restart;
my $restart_since = now_at($limits);

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
	cmp_ok($share || 0, '>=', 0.8, "used of the allowance, $name: $share");
}
lim("SELECT backfill_stop(id) FROM backfill_runs WHERE status = 'running'");
is(lim("SELECT count(*) FROM $_ WHERE n > 1"), 0, "no row of $_ is processed twice") foreach qw(steady skip alter whole sparse);
note_time('done');

$limits->stop;
done_testing();
