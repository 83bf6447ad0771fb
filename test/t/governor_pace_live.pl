# Settings that change while a run is at work: each holds within two seconds,
# in the middle of a sleep or a batch, and the run says what throttles it.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use Test::More;
use Time::HiRes qw(time);

pace_node('pace');

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
	cmp_ok($took, '<', 10, sprintf('in %.2f s', $took));
	return;
}

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
my $row = sql("SELECT min(start_key[1]::bigint) + 1 FROM backfill_batches WHERE run_id = $live AND status = 'running' AND rows_scanned = 5000");
my $session = session($node);
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

$node->stop;
done_testing();
