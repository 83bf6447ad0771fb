# Health: a probe that ends its session, a scheduler that is ended or stands
# still, a crash, settings that change all the time, an extension that is
# dropped: what is held stays held, and goes on when it may.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Health;
use BackfillTest::OneNode;
use Test::More;

health_node();

# --- What may go wrong -------------------------------------------------------

note 'what may go wrong';
my $old = session($node);
alter('{"probe": "SELECT $$later$$", "probe_timeout": "300 ms"}');
ok(is_held('probe', 'later'), 'a run is held');

# a probe that ends its own session, again and again, is no fault of the batch
gate('die');
alter('{"probe": "SELECT * FROM probed()"}');
ok(until_true("SELECT coalesce(throttled_by LIKE 'probe: %', false) FROM backfill_runs WHERE id = $id"), 'a probe that ends its session holds the run, which says so');
my $died = now();
ok(until_true("SELECT clock_timestamp() > timestamptz '$died' + interval '3 s'"), 'for a while');
is(run_value($node, $id, 'status'), 'running', 'and the run goes on to wait');
gate('go');
sql("SELECT backfill_resume($id)") if run_value($node, $id, 'status') eq 'failed';
ok(at_work(now()), 'until the probe is mended');

# the scheduler is ended while it holds the run
sub scheduler { return look(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'}); }
alter('{"max_xmin_age": 3000}');
$old->query('BEGIN; INSERT INTO burnt VALUES (0)');
burn();
ok(is_held('max_xmin_age', 'holds an xmin'), 'a run is held');
my $scheduler = scheduler();
my $count = sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'");
sql("SELECT pg_terminate_backend($scheduler)");
ok(until_true("SELECT count(*) = 1 AND bool_and(pid <> $scheduler) FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'"), 'the scheduler is ended, and another comes');
ok(is_held('max_xmin_age', 'holds an xmin'), 'the run is held');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), $count, 'as it was in between');

# stopped in its tracks it cannot know how the server is
kill('STOP', scheduler());
$old->query('COMMIT');
my $stopped = now();
ok(until_true("SELECT clock_timestamp() > timestamptz '$stopped' + interval '1.5 s'"), 'for a while');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), $count, 'a scheduler that stands still lets nothing go on');
kill('CONT', scheduler());
ok(at_work(now()), 'until it moves');

if (full_length())
{
	alter('{"max_xmin_age": 1000000000}');
	kill('STOP', scheduler());
	my $still = now();
	ok(until_true("SELECT max(finished_at) < clock_timestamp() - interval '3 s' FROM backfill_batches WHERE run_id = $id"), 'in the end nothing goes on without it');
	push @figures, sprintf('%-46s holds after %5.2f s', 'a scheduler that stands still', seconds($still, last_finished()));
	kill('CONT', scheduler());
	ok(at_work(now()), 'until it moves');
}

# a crash while it is held
gate('because');
ok(is_held('probe', 'because'), 'a run is held');
$eye->quit;
$old->quit;
kill_server($node);
$node->start;
$eye = session($node);
ok(is_held('probe', 'because'), 'the server is killed: it is held');
$count = sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'");

# changed all the time
alter($_ % 2 ? '{"max_active_sessions": 40, "sleep": "11 ms"}' : '{"max_active_sessions": null, "sleep": "10 ms"}') foreach 1 .. 40;
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), $count, 'changed all the time, it is held all the same');
gate('go');
ok(at_work(now()), 'and goes on');
alter($_ % 2 ? '{"max_active_sessions": 40, "sleep": "11 ms"}' : '{"max_active_sessions": null, "sleep": "10 ms"}') foreach 1 .. 40;
ok(at_work(now()), 'changed all the time, it goes on all the same');

completes();

# --- Dropped -----------------------------------------------------------------

gate('because');
sql('UPDATE t SET n = 0');
$id = sql(q{SELECT backfill_start('t', settings => '{"probe": "SELECT * FROM probed()"}')});
ok(is_held('probe', 'because'), 'a run is held');
sql('DROP EXTENSION backfill CASCADE');
ok(until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('backfill worker', 'backfill scheduler')}), 'the extension is dropped: everybody leaves');
is(sql('SELECT count(*) FROM t WHERE n <> 0'), 0, 'and nothing was done');

over();
