# Every illegal transition of a run is an error that names both statuses, what
# is rolled back has not been asked for, and a failed run goes on where it
# failed.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('control', conf => "deadlock_timeout = 100ms\n");

# A run of a definition with settings of its own.  Those of "t" go side by side.
sub start
{
	my ($name, $settings) = @_;
	my $parameters = $name eq 't' ? another() . ', ' : '';
	return sql("SELECT backfill_start('$name', ${parameters}settings => '" . ($settings || '{}') . "')");
}

# A slow walk: 200 rows, and a pause after each batch that outlasts the test.
create_target($node, 't', 200);
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 hour", "share_target": true}', numbered => 1);

# Wait until the run sleeps between two batches.
sub sleeps
{
	my ($id) = @_;
	return wait_for($node,
		"SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'");
}

# ---------------------------------------------------------------------------
note 'transitions';

# One run in each status.
define_increment($node, 'bad', '{"batch_size": 10, "target_batch_time": 0}', target => 't',
	statement => 'UPDATE batch SET n = 1 / (id - id)::int');
my $failed = start('bad');
my $id = start('t', '{"sleep": 0}');
ok(wait_for_status($node, $id, 'completed'), 'a run completes');
my %run = (
	completed => $id,
	failed => $failed,
	running => start('t'),
	pending => sql('SELECT backfill_start($$t$$, ' . another() . q{, start_at => now() + interval '1 day')}),
	paused => start('t'),
	stopped => start('t'));
ok(wait_for_status($node, $failed, 'failed'), 'a run fails');
sql("SELECT backfill_pause($run{paused}), backfill_stop($run{stopped})");
ok(wait_for_status($node, $run{$_}, $_), "a run that is $_") for ('paused', 'stopped');
ok(sleeps($run{running}), 'a run that is running');

my @illegal = (
	[ 'pause', 'paused', qw(completed failed stopped) ],
	[ 'stop', 'stopped', qw(completed failed) ],
	[ 'resume', 'enqueued', qw(running completed) ]);
for (@illegal)
{
	my ($function, $to, @from) = @$_;
	for my $from (@from)
	{
		like(refusal("SELECT backfill_$function($run{$from})"),
			qr/55000: cannot change run $run{$from} from "$from" to "$to"/,
			"backfill_$function of a run that is $from names both statuses");
	}
}
for ([ 'pause', 'paused' ], [ 'stop', 'stopped' ])
{
	my ($function, $status) = @$_;
	my $events = "SELECT count(*) FROM backfill_events WHERE run_id = $run{$status}";
	my $before = sql($events);

	is(sql("SELECT backfill_$function($run{$status})"), "run $run{$status} of t on t is $status already",
		"backfill_$function of a run that is $status is no error");
	is(sql($events), $before, 'and no event');
}
like(refusal("SELECT backfill_resume($run{pending})"), qr/55000: cannot resume run $run{pending}, which is "pending"/,
	'backfill_resume of a run that is pending');
for my $from (qw(running pending paused))
{
	like(refusal("SELECT backfill_delete($run{$from})"),
		qr/55006: cannot delete run $run{$from}, which is "$from".*HINT:.*backfill_stop\($run{$from}\)/s,
		"backfill_delete of a run that is $from");
}
like(refusal(q{SELECT backfill_drop('t')}), qr/55006.*run \d+ is active.*HINT/s,
	'backfill_drop of a definition with active runs');
for my $function ('pause', 'resume', 'stop', 'delete')
{
	like(refusal("SELECT backfill_$function(4711)"), qr/42704: backfill run 4711 does not exist/,
		"backfill_$function of no run");
}
is(value($run{$_}, 'status'), $_, "the run that was $_ still is") for sort keys %run;

# Nothing happens when the transaction that asked for it is rolled back.
sql("BEGIN; SELECT backfill_stop($run{running}), backfill_resume($run{paused}), backfill_start('t'); ROLLBACK");
is(value($run{$_}, 'status'), $_, "a rolled back change leaves a run $_") for ('running', 'paused');
is(sql('SELECT count(*) FROM backfill_runs WHERE id > ' . $run{stopped}), '0', 'a rolled back start starts nothing');

sql("SELECT backfill_stop($run{paused})");
is(value($run{paused}, 'status'), 'stopped', 'a paused run is stopped at once');
sql("SELECT backfill_delete($run{$_})") for ('paused', 'stopped', 'completed');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id IN ($run{paused}, $run{stopped}, $run{completed})"),
	'0', 'backfill_delete takes the batches with it');
sql('SELECT backfill_stop_all()');

# A failed run goes on where it failed.
create_target($node, 'f', 30);
$node->safe_psql('postgres', q{
	CREATE TABLE bad_row(id bigint);
	INSERT INTO bad_row VALUES (150);
	CREATE FUNCTION check_row(bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM bad_row b WHERE b.id = $1) THEN
			RAISE EXCEPTION 'row % is bad', $1 USING ERRCODE = 'ZZ001', DETAIL = 'the detail', HINT = 'the hint';
		END IF;
		RETURN 1;
	END $$});
define_increment($node, 'f', '{"batch_size": 10, "target_batch_time": 0}', statement => 'UPDATE batch SET n = n + check_row(id)');
$failed = start('f');
ok(wait_for_status($node, $failed, 'failed'), 'a run fails at a row');
is(value($failed, 'sqlstate, error, error_detail, error_hint, batches'),
	'ZZ001|row 150 is bad|the detail|the hint|1', 'it tells why, with everything the error had');
like(value($failed, 'error_context'), qr/check_row.*batch 2 of backfill run $failed "f"/s, 'and where');
is(sql("SELECT string_agg(status, ',' ORDER BY number), string_agg(error, ',') FROM backfill_batches WHERE run_id = $failed"),
	'completed,failed|row 150 is bad', 'so does the batch');
sql('DELETE FROM bad_row');
sql("SELECT backfill_resume($failed)");
ok(wait_for_status($node, $failed, 'completed'), 'mended and resumed it completes');
is(value($failed, 'sqlstate, error, error_detail, error_hint, error_context'), '||||', 'the error is forgotten');
check_exactly_once($node, $failed, 'f', 30, 'exactly once over a failure');

$node->stop;
done_testing();
