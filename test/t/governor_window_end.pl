# The end of a run waits for its hour: when the last batch is done in a closed
# window, the rows are not counted and the last step is not run before the
# window is open again.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('main');
my $closed = '{"windows": [{"closed": true}]}';

sub sql
{
	my ($query) = @_;
	return query_ok($node, $query);
}

# What the scheduler does in a round for one run it does for all of them, so a
# run that goes from start to end shows that it has looked at the others, too.
sub rounds_pass
{
	ok(wait_for_status($node, start_run($node, 'clock'), 'completed'), "another run, from start to end: $_") foreach 1 .. 2;
	return;
}

# What has become of the end of the run.
sub end_of
{
	my ($id) = @_;
	return sql("SELECT concat_ws(' ', status, 'remaining', coalesce(rows_remaining::text, 'not counted'),
			'steps', (SELECT count(*) FROM backfill_events e WHERE e.run_id = r.id AND kind = 'finish'),
			'table', to_regclass('finished') IS NOT NULL)
		FROM backfill_runs r WHERE id = $id");
}

create_step($node);
create_target($node, 't', 40);
create_target($node, 'clock', 10);
define_increment($node, 'clock', '{}');
sql(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = n + step(id)', scope => 'n = 0',
	settings => '{"verify": true, "target_batch_time": 0, "batch_size": 10, "yield_after": "off", "sleep": 0}',
	finish => 'CREATE TABLE finished (at timestamptz); INSERT INTO finished VALUES (clock_timestamp())')});

# --- The window closes while the last batch is at work -----------------------

sql("INSERT INTO behave VALUES (350, 'gate')");
my $run = start_run($node, 't');
ok(wait_for($node, "SELECT EXISTS (SELECT FROM backfill_batches WHERE run_id = $run AND number = 4 AND status = 'running')
	AND (SELECT count(*) = 3 FROM backfill_batches WHERE run_id = $run AND status = 'completed')"), 'the last batch is at work');
sql("SELECT backfill_alter($run, '$closed')");
ok(wait_for($node, "SELECT throttled_by = 'window: closed' FROM backfill_runs WHERE id = $run"), 'the window is closed');
sql('DELETE FROM behave');
ok(wait_for($node, "SELECT workers = 0 AND (SELECT count(*) = 4 FROM backfill_batches WHERE run_id = $run AND status = 'completed')
	FROM backfill_runs WHERE id = $run"), 'the last batch is done, and the worker has left');

rounds_pass();
is(end_of($run), 'running remaining not counted steps 0 table f', 'the run is not verified and not finished while the window is closed');
is(run_value($node, $run, 'throttled_by'), 'window: closed', 'and says what it waits for');

# --- It opens ----------------------------------------------------------------

sql("SELECT backfill_alter($run, '{\"windows\": null}')");
ok(wait_for_status($node, $run, 'completed'), 'the window is open, and the run completes');
is(end_of($run), 'completed remaining 0 steps 2 table t', 'the rows are counted and the last step is run');
is(sql("SELECT string_agg(kind, ' ' ORDER BY id) FROM backfill_events WHERE run_id = $run AND kind IN ('throttle', 'settings', 'verify', 'finish')
	AND id > (SELECT max(id) FROM backfill_events WHERE run_id = $run AND kind = 'throttle' AND reason LIKE 'window%')"),
	'settings throttle verify finish finish', 'in this order');
is(sql("SELECT at > (SELECT max(e.at) FROM backfill_events e WHERE run_id = $run AND kind = 'settings') FROM finished"), 't', 'and not before');
is(run_value($node, $run, 'throttled_by IS NULL'), 't', 'nothing throttles the run any more');

$node->stop;
done_testing();
