# A streaming standby that is promoted in the middle of a run carries on by
# itself, exactly once with respect to what it had received.

use strict;
use warnings;

use BackfillTest;
use Test::More;
use Time::HiRes qw(usleep);

my $rows = full_length() ? 500_000 : 50_000;
# However slow the questions in between are, the run is not over before the
# promotion; after it nothing holds it back any more.
my $sleep = full_length() ? '20 ms' : '100 ms';

seed_random();

my $primary = make_node('primary', streaming => 1);
my $standby = PostgreSQL::Test::Cluster->new('standby');

$primary->backup('backup');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

create_target($primary, 't', $rows);
define_increment($primary, 't',
	qq({"batch_size": 100, "target_batch_time": 0, "sleep": "$sleep", "workers": 2, "retry_delay": "100 ms"}));
my $foreground = foreground_start($primary, 't', $rows);
my $id = start_run($primary, 't');
my $until = int($rows * (0.2 + 0.3 * rand));

ok(wait_for($standby, "SELECT rows_scanned > $until FROM backfill_runs WHERE id = $id",
		interval => 10_000),
	"the standby shows the progress of the run, row $until");

# --- before ---

is(query_ok($standby, 'SELECT pg_is_in_recovery()'), 't', 'the standby is one');
is(query_ok($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'backfill%'"),
	0, 'no process of ours on the standby');
is(query_ok($standby, "SELECT status FROM backfill_runs WHERE id = $id"), 'running', 'backfill_runs');
cmp_ok(query_ok($standby, "SELECT count(*) FROM backfill_batches WHERE status = 'completed'"),
	'>', 0, 'backfill_batches');
is(query_ok($standby, 'SELECT count(*) FROM backfill_workers'), 0, 'backfill_workers');
is(query_ok($standby, 'SELECT name FROM backfill_definitions'), 't', 'backfill_definitions');
is(query_ok($standby, q{SELECT value FROM backfill_metrics WHERE name = 'backfill_open_runs' AND labels ->> 'status' = 'running'}),
	1, 'backfill_metrics');
is(query_ok($standby, q{SELECT count(*) FROM backfill_metrics WHERE name = 'backfill_rows_total'}), 0, 'which has counted nothing');
foreach my $call (
	"backfill_start('t')", "backfill_pause($id)",
	"backfill_resume($id)", "backfill_stop($id)",
	'backfill_stop_all()', "backfill_alter($id, '{\"sleep\": 0}')",
	"backfill_delete($id)", "backfill_drop('t')",
	"backfill_define('u', 't', 'DELETE FROM batch')")
{
	is(sqlstate($standby, "SELECT $call"), '25006', "$call is refused as in recovery");
}
my ($rc, $out, $err) = query($standby, "SELECT backfill_start('t')");
like($err, qr/cannot execute backfill_start\(\) during recovery/, 'and backfill_start says so');

# --- promotion ---

# The primary is lost, and whatever the standby has not got with it.
usleep(rand(50_000));
ok(kill_server($primary), 'the primary is gone');
foreground_stop($foreground);
my $received = query_ok($standby, "SELECT rows_scanned FROM backfill_runs WHERE id = $id");
$standby->promote;
$foreground = foreground_start($standby, 't', $rows);
ok(wait_for($standby, "SELECT rows_scanned > $received FROM backfill_runs WHERE id = $id"),
	'the promoted standby carries on by itself');
query_ok($standby, qq(SELECT backfill_alter($id, '{"batch_size": 1000, "sleep": 0}')));
ok(wait_for_status($standby, $id, 'completed'), 'and completes');
foreground_stop($foreground);
check_exactly_once($standby, $id, 't', $rows, 'exactly once');
is(query_ok($standby, q{SELECT value BETWEEN 1 AND (SELECT rows_affected FROM backfill_runs) FROM backfill_metrics WHERE name = 'backfill_rows_total'}),
	't', 'what it has done is counted');
# it is a server like any other now
my $next = start_run($standby, 't');
ok(wait_for_status($standby, $next, 'completed'), 'the next run works');
is(query_ok($standby, 'SELECT count(*) FROM t WHERE NOT foreground AND n <> 2'), 0,
	'and processes every row again, once');

$standby->stop;
done_testing();
