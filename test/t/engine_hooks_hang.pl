# Hooks that hang: an immediate stop, pg_cancel_backend or statement_timeout
# ends them, and nothing is lost.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Hooks;
use BackfillTest::OneNode;
use Test::More;

hooks_node();
make_v();
my $id;

# ---------------------------------------------------------------------------
note 'hooks that hang';

foreach my $event ('before run running', 'before batch running', 'after batch running', 'before batch completed', 'around batch completed',
	'after batch completed', 'before run completed', 'after run running')
{
	fresh();
	hook($event, 'BEGIN PERFORM pg_sleep(3600); END');
	$id = start();
	ok(hangs($id), "a hook $event hangs");
	sql("SELECT backfill_stop($id, immediate => true)");
	ok(settles($id, 'stopped'), 'an immediate stop ends it');
	nobody_left($id, 'and the worker');
	resumes($id, "a hook $event that hung");
}
# as it does where it finds a stop in the middle of its hooks
fresh();
sql("INSERT INTO behave VALUES (150, 'gate')");
hook('before run stopped', 'BEGIN PERFORM pg_sleep(3600); END');
$id = start();
ok(at_gate($id, 2), 'a run is under way');
sql("SELECT backfill_stop($id)");
sql('DELETE FROM behave');
ok(wait_for($node, "SELECT status = 'completed' FROM backfill_batches WHERE run_id = $id AND number = 2") && hangs($id),
	'a hook before run stopped hangs');
sql("SELECT backfill_stop($id, immediate => true)");
ok(settles($id, 'stopped'), 'an immediate stop ends it');
nobody_left($id, 'and the worker');
resumes($id, 'a hook before run stopped that hung');
fresh();
sql("INSERT INTO behave VALUES (150, 'gate')");
hook('before batch stopped', 'BEGIN PERFORM pg_sleep(3600); END');
$id = start();
ok(at_gate($id, 2), 'a run is under way');
sql("SELECT backfill_stop($id, immediate => true)");
ok(settles($id, 'stopped'), 'an immediate stop does not wait for hooks before batch stopped');
resumes($id, 'a hook before batch stopped that hung');

# What holds the row of the run, or comes after its end, is ended by hand.
foreach my $event ('around run completed', 'after run completed', 'after run stopped', 'before run failed', 'before batch failed')
{
	fresh();
	sql("INSERT INTO behave VALUES (150, '" . ($event =~ /failed/ ? 'fail' : 'gate') . "')") if $event !~ /completed/;
	hook($event, 'BEGIN ' . ($event =~ /around/ ? 'PERFORM backfill_yield();' : '') . ' PERFORM pg_sleep(3600); END');
	$id = sql(q{SELECT backfill_start('v', settings => '{"max_attempts": 1}')});
	if ($event =~ /stopped/)
	{
		ok(at_gate($id, 2), 'a run is under way');
		sql("SELECT backfill_stop($id, immediate => true)");
		# the gate sleeps, too
		ok(settles($id, 'stopped'), 'it is stopped');
	}
	ok(hangs($id), "a hook $event hangs");
	is(sql("SELECT pg_cancel_backend(pid) FROM backfill_workers WHERE run_id = $id"), 't', 'pg_cancel_backend is called');
	ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook' AND sqlstate = '57014'"), 'and ends it');
	drop_hooks();
	ok(settles($id, $event =~ /stopped/ ? 'stopped' : $event eq 'after run completed' ? 'completed' : 'failed'), 'what follows is as after any error of the hook');
	nobody_left($id, 'and the worker leaves');
}
foreach my $event ('before run failed', 'after run stopped', 'before run completed', 'after run completed', 'before batch failed')
{
	fresh();
	sql("INSERT INTO behave VALUES (150, '" . ($event =~ /failed/ ? 'fail' : 'gate') . "')") if $event !~ /completed/;
	hook($event, 'BEGIN PERFORM pg_sleep(3600); END');
	$id = sql(q{SELECT backfill_start('v', settings => '{"max_attempts": 2, "statement_timeout": "300 ms"}')});
	if ($event =~ /stopped/)
	{
		ok(at_gate($id, 2), 'a run is under way');
		sql("SELECT backfill_stop($id, immediate => true)");
	}
	ok(settles($id, $event =~ /stopped/ ? 'stopped' : $event eq 'after run completed' ? 'completed' : 'failed'),
		"$event: statement_timeout ends a hook that hangs");
	nobody_left($id, 'and the worker');
	like(hook_events($id), qr/^57014 .*canceling statement due to statement timeout/, 'an event says so');
}

$node->stop;
done_testing();
