# Hooks that end their own process, and a server that is killed while a worker
# is in a hook: each change is made once, and its hooks are called until they
# return.

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
note 'hooks that end their process';

my $die = q{PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60);};
foreach my $event ('before batch running', 'before batch completed')
{
	fresh();
	hook($event, "BEGIN IF e.batch = 2 THEN $die END IF; END");
	$id = start();
	ok(wait_for($node, "SELECT status = 'failed' FROM backfill_runs WHERE id = $id"), "$event: a hook that ends its process three times fails the run");
	is(run_value($node, $id, 'error'), 'batch 2 brought down its worker or the server 3 times', 'the error tells');
	resumes($id, "$event ending its process");
}
fresh();
hook('after batch completed', "BEGIN $die END");
$id = start();
ok(settles($id, 'completed'), 'a hook that ends its process after each batch only delays the run');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

fresh();
hook('before run completed', "BEGIN IF nextval('once') < 3 THEN $die END IF; PERFORM note('third', e); END");
$id = start();
ok(settles($id, 'completed'), 'a hook that ends its process twice before the end of the run');
is(sql('SELECT count(*) FROM log'), '1', 'is called until it returns');
is(transitions($id), 'enqueued running completed', 'the change was made once');
fresh();
hook('before run completed', "BEGIN PERFORM nextval('once'); $die END");
$id = start();
ok(settles($id, 'failed'), 'one that always does fails the run in the end');
is(sql('SELECT last_value FROM once'), '3', 'after three times');
is(run_value($node, $id, 'sqlstate, error'), '57P02|"prepare", the end of the run, or a hook, brought down its worker or the server 3 times', 'the error tells');
resumes($id, 'a hook that always ends its process');
fresh();
hook('before run failed', "BEGIN PERFORM nextval('once'); $die END");
sql("INSERT INTO behave VALUES (150, 'fail')");
$id = start();
ok(settles($id, 'failed'), 'one that ends its process before "failed" cannot prevent that');
is(sql('SELECT last_value FROM once'), '3', 'after three times');
is(run_value($node, $id, 'error'), 'row 150 is bad', 'the error of the run is what it was');
like(hook_events($id), qr/^57P02 "prepare", the end of the run, or a hook, brought down/, 'an event tells of the hook');
resumes($id, 'a hook before "failed" that ends its process');

# ---------------------------------------------------------------------------
note 'the server is killed in a hook';

foreach my $event ('before run completed', 'around run completed', 'after run completed', 'before batch completed', 'after batch completed')
{
	fresh();
	my $yield = $event =~ /around/ ? 'PERFORM backfill_yield();' : '';
	my $when = $event =~ /batch/ ? 'e.batch = 2 AND' : '';
	hook($event, qq{BEGIN $yield PERFORM note('called', e);
		WHILE $when EXISTS (SELECT FROM behave WHERE id = 1) LOOP PERFORM pg_sleep(0.05); END LOOP; END});
	sql("INSERT INTO behave VALUES (1, 'hang')");
	$id = start();
	ok(hangs($id), "a worker is in a hook $event");
	ok(kill_postmaster($node), 'the postmaster is killed');
	$node->start;
	ok(wait_for_server($node), 'and started');
	sql('DELETE FROM behave');
	ok(wait_for($node, "SELECT status = 'completed' FROM backfill_runs WHERE id = $id"), 'the run is completed');
	nobody_left($id, 'no worker is left');
	is(transitions($id), 'enqueued running completed', 'each change was made once');
	is(run_value($node, $id, 'error'), '', 'without an error');
	is(sql(q{SELECT count(*) FROM log}), $event eq 'after run completed' ? '0' : $event =~ /batch/ ? '3' : '1',
		$event =~ /after/ ? 'the hook that was interrupted is not called again' : 'the hook was called until it returned')
	  if $event ne 'after batch completed';
	# the commit of a batch with hooks is not lost with the server
	is(sql(q{SELECT string_agg((e).batch::text, ' ' ORDER BY seq) FROM log}), '1 3', 'no hook was called and committed twice for a batch')
	  if $event eq 'after batch completed';
	check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');
}

$node->stop;
done_testing();
