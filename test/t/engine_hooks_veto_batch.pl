# A hook against the change of a batch: it fails the run, with on_error "skip"
# as well, and the batch is rolled back with what its hooks wrote.

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
note 'a veto against a batch';

# before it begins
fresh();
hook('before batch running', q{BEGIN
	IF e.batch = 2 THEN RAISE EXCEPTION 'no second' USING ERRCODE = 'HK002'; END IF; END});
hook('before batch failed', q{BEGIN PERFORM note('failed', e); END});
$id = start();
ok(settles($id, 'failed'), 'a veto against "running" of a batch fails the run');
is(run_value($node, $id, 'sqlstate, error'), 'HK002|no second', 'with the error of the hook');
is(done(), '10|0', 'only the batch before was done');
is(sql('SELECT (e).batch, (e).key_range, (e).error FROM log'), '2|(100 .. 200]|no second', 'hooks of "failed" are told');
resumes($id, 'veto against "running" of a batch');

# when it is done
foreach my $phase ('before', 'around')
{
	my $yield = $phase eq 'around' ? 'PERFORM backfill_yield();' : '';

	fresh();
	hook("$phase batch completed", qq{BEGIN
		$yield
		INSERT INTO log (label) VALUES ('rolled back with the batch');
		IF e.batch = 2 THEN RAISE EXCEPTION 'undo' USING ERRCODE = 'HK003'; END IF;
		UPDATE log SET label = 'stays'; END});
	$id = start();
	ok(settles($id, 'failed'), "a veto $phase \"completed\" of a batch fails the run");
	is(run_value($node, $id, 'sqlstate, error'), 'HK003|undo', 'with the error of the hook');
	is(done(), '10|0', 'the batch was rolled back');
	is(sql('SELECT label FROM log'), 'stays', 'and what its hook wrote with it');
	is(sql("SELECT number, status, error FROM backfill_batches WHERE run_id = $id ORDER BY 1"),
		"1|completed|\n2|failed|undo", 'it has failed');
	resumes($id, "veto $phase \"completed\" of a batch");
}

# with on_error = skip, too: a hook speaks of the batch, not of a row
foreach my $status ('running', 'completed')
{
	fresh();
	hook("before batch $status", q{BEGIN IF e.batch = 2 THEN RAISE EXCEPTION 'not this' USING ERRCODE = 'HK004'; END IF; END});
	hook('after batch failed', q{BEGIN PERFORM note('failed', e); END});
	$id = sql(q{SELECT backfill_start('v', settings => '{"on_error": "skip"}')});
	ok(settles($id, 'failed'), "a veto against \"$status\" of a batch with on_error = skip fails the run, too");
	is(run_value($node, $id, 'sqlstate, error'), 'HK004|not this', 'with the error of the hook');
	is(sql("SELECT count(*) FROM backfill_errors WHERE run_id = $id"), '0', 'no row is skipped for it');
	is(done(), '10|0', 'the batch was rolled back');
	ok(wait_for($node, q{SELECT concat_ws(' ', (e).batch, (e).rows, (e).error) = '2 10 not this' FROM log}), 'hooks of "failed" are called for the batch');
	resumes($id, "veto against \"$status\" of a batch with on_error = skip");
}

# several workers, a hook that fails now and then, and one that is slow
fresh();
sql('CREATE SEQUENCE now_and_then; GRANT ALL ON now_and_then TO PUBLIC');
make_target('w', 400, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "workers": 3, "retry_delay": "1 ms", "max_attempts": 100}');
hook('around batch completed', q{BEGIN PERFORM backfill_yield();
	IF nextval('now_and_then') % 4 = 0 THEN RAISE EXCEPTION 'now and then' USING ERRCODE = 'serialization_failure'; END IF;
	INSERT INTO log (label) VALUES (e.key_range); END}, name => 'w');
hook('after batch completed', q{BEGIN INSERT INTO log (label) VALUES ('after ' || e.key_range); END}, name => 'w');
$id = start('w');
ok(settles($id, 'completed'), 'three workers with a hook that fails now and then');
check_exactly_once($node, $id, 'w', 400, 'every row was processed exactly once');
is(sql(q{SELECT count(*), count(DISTINCT label) FROM log}), '80|80', 'each hook of a completed batch counted once');
is(sql("SELECT count(*) FROM log JOIN backfill_batches b ON label IN (key_range, 'after ' || key_range) AND run_id = $id"), '80',
	'for every batch');

$node->stop;
done_testing();
