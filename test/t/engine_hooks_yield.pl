# backfill_yield: what an "around" hook may do with it and what is misuse,
# after which the change is not made.

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
note 'yield';

my @misuses = (
	[ 'around', 'no yield', 'BEGIN END',
		'09000', 'an "around" hook did not call backfill_yield()' ],
	[ 'around', 'two yields', 'BEGIN PERFORM backfill_yield(); PERFORM backfill_yield(); END',
		'09000', 'an "around" hook called backfill_yield() twice' ],
	[ 'before', 'a yield before', 'BEGIN PERFORM backfill_yield(); END',
		'55000', 'backfill_yield() can only be called by an "around" hook' ],
	[ 'around', 'a yield in a block with EXCEPTION', 'BEGIN BEGIN PERFORM backfill_yield(); EXCEPTION WHEN unique_violation THEN NULL; END; END',
		'55000', 'backfill_yield() cannot be called in a subtransaction' ],
	[ 'around', 'the same, with the error caught', 'BEGIN BEGIN PERFORM backfill_yield(); EXCEPTION WHEN OTHERS THEN NULL; END; END',
		'09000', 'an "around" hook did not call backfill_yield()' ],
	[ 'around', 'a yield by a function that is SECURITY DEFINER', 'BEGIN PERFORM bob.yield(); END',
		'42501', 'backfill_yield() cannot be called with the rights of another role' ],
	[ 'around', 'the same of the owner', 'BEGIN PERFORM own_yield(); END',
		'42501', 'backfill_yield() cannot be called with the rights of another role' ],
	[ 'around', 'a yield as another role', 'BEGIN SET ROLE staff; PERFORM backfill_yield(); END',
		'42501', 'backfill_yield() cannot be called with the rights of another role' ],
	[ 'around', 'an error after the yield', q{BEGIN PERFORM backfill_yield(); RAISE EXCEPTION 'late' USING ERRCODE = 'HK005'; END},
		'HK005', 'late' ],
	[ 'around', 'a deferred trigger that fails', q{BEGIN PERFORM backfill_yield(); INSERT INTO deferred VALUES (1); END},
		'HK006', 'deferred' ],
	[ 'around', 'a yield in a deferred trigger', q{BEGIN PERFORM backfill_yield(); INSERT INTO deferred VALUES (2); END},
		'55000', 'backfill_yield() can only be called by an "around" hook' ]);

as('bob', q{CREATE FUNCTION bob.yield() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public AS 'SELECT public.backfill_yield()'});
as('alice', q{CREATE FUNCTION own_yield() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT backfill_yield()'});
create_deferred();
foreach my $object ('run', 'batch')
{
	foreach my $misuse (@misuses)
	{
		my ($phase, $what, $body, $state, $message) = @$misuse;

		fresh();
		hook("$phase $object completed", $body);
		$id = start();
		ok(settles($id, 'failed'), "$object: $what: the change is prevented, and the run fails");
		is(run_value($node, $id, 'sqlstate, error'), "$state|$message", "$object: $what: the error");
		is(done(), $object eq 'run' ? '30|0' : '0|0', "$object: $what: what was done");
		unlike(transitions($id), qr/completed/, 'the run was never completed');
		resumes($id, "$object: $what");
	}
}

# The second yield can be caught: the change was made, once.
fresh();
hook('around batch completed', q{BEGIN PERFORM backfill_yield(); PERFORM note('first', e);
	BEGIN PERFORM backfill_yield(); PERFORM note('second', e); EXCEPTION WHEN OTHERS THEN PERFORM note(SQLSTATE, e); END; END});
hook('around run completed', q{BEGIN PERFORM backfill_yield(); PERFORM note('first', e);
	BEGIN PERFORM backfill_yield(); PERFORM note('second', e); EXCEPTION WHEN OTHERS THEN PERFORM note(SQLSTATE, e); END; END});
$id = start();
ok(settles($id, 'completed'), 'a second yield, caught');
is(sql('SELECT (e).object, label, count(*) FROM log GROUP BY 1, 2 ORDER BY 1, 2'),
	"batch|09000|3\nbatch|first|3\nrun|09000|1\nrun|first|1", 'it does nothing');
is(transitions($id), 'enqueued running completed', 'the change was made once');
check_exactly_once($node, $id, 'v', 30, 'every row was processed exactly once');

# Within one another: the inner one fails, or does not yield.
fresh();
hook('around run completed', q{BEGIN PERFORM note('outer in', e); PERFORM backfill_yield(); PERFORM note('outer out', e); END});
hook('around run completed', 'BEGIN END');
$id = start();
ok(settles($id, 'failed'), 'a missing yield in the inner hook');
is(run_value($node, $id, 'error'), 'an "around" hook did not call backfill_yield()', 'is no fault of the outer one');
is(sql('SELECT count(*) FROM log'), '0', 'what that one wrote is undone');
resumes($id, 'a missing yield in the inner hook');

# Other ways to call it.
fresh();
as('alice', q{CREATE FUNCTION through() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM backfill_yield(); RETURN 1; END';
	CREATE FUNCTION in_sql(e backfill_event) RETURNS int LANGUAGE sql AS $$ SELECT through(); SELECT note('sql', e); SELECT 1 $$;
	SELECT backfill_on('around run completed', 'in_sql', 'v')});
hook('around run completed', 'DECLARE x int := through(); BEGIN PERFORM note(\'inner\', e); END', options => 'SET work_mem = 64');
$id = start();
ok(settles($id, 'completed'), 'a yield by a function that the hook calls, in SQL, with a result, under other parameters');
is(sql('SELECT string_agg(label, $$ $$ ORDER BY seq) FROM log'), 'inner sql', 'both were called, the first around the second');

foreach my $role ($super, 'alice')
{
	is(state_of($role, 'SELECT backfill_yield()'), '55000', "outside of a hook $role cannot yield");
}
fresh();
hook('after run completed', 'BEGIN PERFORM backfill_yield(); END');
$id = start();
ok(settles($id, 'completed'), 'nor after the change');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook' AND sqlstate = '55000'"),
	'which is an error');

$node->stop;
done_testing();
