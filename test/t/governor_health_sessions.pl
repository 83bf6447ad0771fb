# Health: active sessions and old snapshots hold a run, and from "soft_limit"
# on slow it down, really and in proportion.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Health;
use BackfillTest::OneNode;
use Test::More;

health_node();

# --- Sessions and snapshots --------------------------------------------------

note 'sessions and snapshots';
alter('{"max_active_sessions": 6}');
holds('max_active_sessions', 'max_active_sessions', stays => 1,
	cross => sub { crowd(8); },
	reason => q{(8|9|1\d) client sessions are active, limit 6},
	release => \&disperse);
alter('{"max_active_sessions": null, "max_xmin_age": 3000}');
my $old = session($node);
holds('a session with an old snapshot', 'max_xmin_age',
	cross => sub { $old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1'); burn(); },
	crossed => 'SELECT age(backend_xmin) >= 3000 FROM pg_stat_activity WHERE pid = ' . $old->pid,
	reason => 'process ' . $old->pid . q{ holds an xmin of age \d+, limit 3000},
	release => sub { $old->query('COMMIT'); });
$old->query('BEGIN; INSERT INTO burnt VALUES (0)');
burn();
ok(is_held('max_xmin_age', 'process ' . $old->pid . q{ holds an xmin of age \d+, limit 3000}), 'an idle transaction that wrote holds the run');
sql("BEGIN; INSERT INTO burnt VALUES (0); PREPARE TRANSACTION 'forgotten'");
burn();
$old->query('COMMIT');
ok(is_held('max_xmin_age', q{prepared transaction "forgotten" holds an xmin of age \d+, limit 3000}), 'so does a prepared transaction');
sql("ROLLBACK PREPARED 'forgotten'");
sql(q{SELECT pg_create_logical_replication_slot('logical', 'pgoutput')});
burn();
ok(is_held('max_xmin_age', q{replication slot "logical" holds an xmin of age \d+, limit 3000}), 'and a slot');
sql(q{SELECT pg_drop_replication_slot('logical')});
ok(at_work(now()), 'without any of them the run goes on');
alter('{"max_xmin_age": null}');

# --- Slowed down -------------------------------------------------------------

note 'soft limits';
# batches take their time, so that the share of it tells; the run goes on from where it is
create_target($node, 'soft', 20000);
define_increment($node, 'soft', '{"batch_size": 5, "target_batch_time": 0, "sleep": 0, "soft_limit": 0.5}',
	statement => 'UPDATE batch SET n = n + 1 FROM pg_sleep(0.02)');
alter('{"probe": "SELECT $$later$$"}');
my $soft = start_run($node, 'soft');

# Milliseconds from batch to batch, over the next so many.
sub step_time
{
	my ($number) = @_;
	my $from = now();
	until_true("SELECT count(*) > $number FROM backfill_batches WHERE run_id = $soft AND finished_at > timestamptz '$from'");
	return look("SELECT round(EXTRACT(epoch FROM max(finished_at) - min(finished_at)) * 1000 / (count(*) - 1))
		FROM backfill_batches WHERE run_id = $soft AND finished_at > timestamptz '$from'");
}
foreach my $case ([ 'without a sleep', '{"sleep": 0, "nice": 0}' ], [ 'with nice', '{"nice": 1}' ])
{
	sql(qq{SELECT backfill_alter($soft, '$case->[1]'), backfill_alter($soft, '{"max_active_sessions": null}')});
	my $before = step_time(15);
	crowd(8);
	sql(qq{SELECT backfill_alter($soft, '{"max_active_sessions": 10}')});
	ok(until_true("SELECT throttled_by ~ '^max_active_sessions: slowed to \\d+ %: \\d+ client sessions are active, limit 10\$' FROM backfill_runs WHERE id = $soft"),
		"$case->[0]: from soft_limit on the run is slowed down");
	my $said = look("SELECT substring(throttled_by, 'to (\\d+) %') FROM backfill_runs WHERE id = $soft");
	cmp_ok($said, '<=', 50, 'in proportion');
	my $after = step_time(10);
	cmp_ok($after, '>', $before * 1.5, 'really');
	push @figures, sprintf('%-46s says %d %%, does %d %%', "slowed down $case->[0]", $said, 100 * $before / $after);
	disperse();
	ok(until_true("SELECT throttled_by IS NULL FROM backfill_runs WHERE id = $soft"), 'and then no longer');
}
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $soft AND kind = 'throttle' AND reason LIKE 'max_active_sessions: slowed to 100 %'"), 0, 'no event says that nothing is slowed');
sql("SELECT backfill_stop($soft, true)");
ok(wait_for_status($node, $soft, 'stopped'), 'that run is done with');
alter('{"probe": "SELECT * FROM probed()"}');

$old->quit;
completes();
over();
