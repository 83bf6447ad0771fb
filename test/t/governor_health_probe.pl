# Health: a probe of one's own, what it may do and what becomes of it; several
# reasons at once; pause, stop and delete of a run that is held.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Health;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(time);

health_node();

# --- The probe ---------------------------------------------------------------

note 'the probe';
foreach my $bad ([ 'no SQL', 'SELEC 1' ], [ 'two statements', 'SELECT 1; SELECT 2' ], [ 'nothing', ' ' ])
{
	is(sqlstate($node, qq{SELECT backfill_alter($id, '{"probe": "$bad->[1]"}')}), $bad->[0] eq 'no SQL' ? '42601' : '22023', "a probe that is $bad->[0]");
}
alter('{"probe": "SELECT * FROM probed()", "probe_timeout": "300 ms"}');
foreach my $go ('null first', 'write', 'become')
{
	gate($go);
	my $began = now();
	ok(until_true("SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $id AND finished_at > timestamptz '$began' + interval '1.2 s'")
		&& look("SELECT throttled_by IS NULL FROM backfill_runs WHERE id = $id") eq 't', "a probe that does \"$go\" lets the run go on");
}
is(sql('SELECT count(*) FROM seen'), 0, 'what a probe writes is undone');
is(sql(q{SELECT to_regclass('left_behind') IS NULL}), 't', 'what it creates, too');
gate('go');
is(sql(q{SELECT string_agg(DISTINCT pad, ', ') FROM t WHERE n = 1 AND pad NOT LIKE 'xxx%'}),
	sql(q{SELECT concat_ws(' ', current_user, current_setting('search_path'), 0, current_setting('work_mem'))}), 'its settings last no longer than it does');
foreach my $case (
	[ 'because', 'because' ],
	[ 'error', 'the probe is broken' ],
	[ 'hang', 'canceling statement due to statement timeout' ])
{
	my ($what, $says) = @$case;

	holds("a probe that does \"$what\"", 'probe', busy => $what eq 'hang',
		cross => sub { gate($what); },
		reason => "^probe: $says\$",
		release => sub { gate('go'); });
}
gate('several');
ok(is_held('probe', '^probe: first$'), 'of several rows the first counts');
my $mark = look('SELECT max(id) FROM backfill_events');
gate('commit');
ok(is_held('probe', '^probe: invalid transaction termination$'), 'a probe cannot commit');
is(look("SELECT string_agg(reason, ', ') FROM backfill_events WHERE id > $mark AND run_id = $id AND kind = 'throttle'"),
	'probe: invalid transaction termination', 'another reason of the same probe is an event');
gate('crowd');
ok(is_held('probe', '^probe: requested length too large$'), 'a probe that wants too much');
gate('long');
ok(is_held('probe', '^probe: ä{100}'), 'a very long reason');
is(look("SELECT count(*) FROM backfill_runs WHERE id = $id AND length(convert_from(convert_to(throttled_by, 'UTF8'), 'UTF8')) BETWEEN 100 AND 1010"), 1, 'is cut between two letters');
alter('{"probe": "SELECT nothing FROM nowhere"}');
ok(is_held('probe', '^probe: relation "nowhere" does not exist$'), 'one that cannot be analysed');
gate('none');
alter('{"probe": "SELECT * FROM probed()"}');
ok(at_work(now()), 'no row lets the run go on');
gate('go');

# --- Several reasons ---------------------------------------------------------

note 'several reasons';
gate('because');
alter('{"max_active_sessions": 6, "max_xmin_age": 3000}');
ok(is_held('probe', 'because'), 'the first of several reasons');
crowd(8);
gate('go');
ok(is_held('max_active_sessions', 'client sessions'), 'when it goes, the next');
my $old = session($node);
$old->query('BEGIN; INSERT INTO burnt VALUES (0)');
burn();
disperse();
ok(is_held('max_xmin_age', 'holds an xmin'), 'and the next');
$old->query('COMMIT');
$old->quit;
ok(at_work(now()), 'without any, the run goes on');
alter('{"max_active_sessions": null, "max_xmin_age": null}');

# --- What is done with a run that is held ------------------------------------

note 'pause, stop, delete';
gate('because');
ok(is_held('probe', 'because'), 'the run is held');
foreach my $how (qw(pause stop))
{
	my $began = time;
	sql("SELECT backfill_$how($id)");
	ok(wait_for_status($node, $id, $how eq 'pause' ? 'paused' : 'stopped', through_end => 1, interval => 5_000), "backfill_$how of a run that is held");
	push @figures, sprintf('%-46s takes      %5.2f s', "backfill_$how of a run that is held", time - $began);
	cmp_ok(time - $began, '<', BOUND, 'at once');
	is(run_value($node, $id, 'throttled_by IS NULL AND throttled_since IS NULL'), 't', 'it is not throttled any more');
	is(look("SELECT count(*) FROM backfill_workers WHERE run_id = $id"), 0, 'no worker is left');
	sql("SELECT backfill_resume($id)");
	ok(is_held('probe', 'because'), 'resumed, it is held again');
}
create_target($node, 'brief', 100);
define_increment($node, 'brief', '{"batch_size": 10, "probe": "SELECT $$held$$"}');
my $brief = start_run($node, 'brief');
ok(until_true("SELECT throttled_by = 'probe: held' FROM backfill_runs WHERE id = $brief"), 'another run is held');
sql("SELECT backfill_stop($brief, true)");
ok(wait_for_status($node, $brief, 'stopped'), 'stopped');
sql("SELECT backfill_delete($brief)");
is(sql("SELECT count(*) FROM backfill_runs WHERE id = $brief"), 0, 'and deleted');
is(sql('SELECT count(*) FROM brief WHERE n <> 0'), 0, 'before its first batch');
gate('go');

completes();
over();
