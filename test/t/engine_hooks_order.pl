# Hooks for every phase, object and status: in which order they are called,
# what they are told, as whom they run, and that each change has its own.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Hooks;
use BackfillTest::OneNode;
use Test::More;

hooks_node();

# ---------------------------------------------------------------------------
note 'every phase, object and status, in order';

make_target('every', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "1 min"}',
	parameters => '{"department": {"type": "text", "required": true}, "level": {"type": "int", "default": 3}}');

# the database-wide ones first: it is not the age that decides
foreach my $whose ('all', 'own')
{
	foreach my $phase ('before', 'around', 'after')
	{
		hook_function("${whose}_$phase", $phase eq 'around' ?
			"BEGIN PERFORM note('$whose around in', e); PERFORM backfill_yield(); PERFORM note('$whose around out', e); END" :
			"BEGIN PERFORM note('$whose $phase', e); END");
		foreach my $object (sort keys %statuses)
		{
			foreach my $status (@{ $statuses{$object} })
			{
				my $name = $whose eq 'own' ? "'every'" : 'NULL';
				sql("SELECT backfill_on('$phase $object $status', '${whose}_$phase', $name)");
			}
		}
	}
}
is(sql('SELECT count(*), count(name) FROM backfill_hooks'), '72|36', 'a hook for every phase, object and status, twice');

my $early = sql(q{SELECT backfill_start('every', parameters => '{"department": "sales"}', start_at => now() + interval '1 hour')});
ok(settles($early, 'pending'), 'a new run becomes pending');
sql("SELECT backfill_pause($early)");
ok(settles($early, 'paused'), 'and paused');
sql("SELECT backfill_resume($early)");
ok(settles($early, 'pending'), 'and pending again');
sql("SELECT backfill_stop($early)");
ok(settles($early, 'stopped'), 'and stopped');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers"), 'its last worker is gone');
my $id = sql(q{SELECT backfill_start('every', parameters => '{"department": "sales"}')});
sql("INSERT INTO behave VALUES (50, 'gate'), (150, 'gate'), (250, 'fail')");
ok(at_gate($id, 1), 'another one runs');
sql("SELECT backfill_stop($id)");
sql(q{UPDATE behave SET what = 'once' WHERE id = 50});
ok(settles($id, 'stopped'), 'it is stopped, with a batch in hand that could not be completed');
sql('ALTER SEQUENCE once RESTART');
sql("SELECT backfill_resume($id)");
ok(at_gate($id, 2), 'it runs again, and has put its first batch aside');
sql("SELECT backfill_pause($id)");
sql('DELETE FROM behave WHERE id = 150');
ok(settles($id, 'paused'), 'it is paused after its second');
sql("SELECT backfill_resume($id)");
ok(settles($id, 'failed'), 'it fails in its third');
sql('DELETE FROM behave');
sql("SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'it is completed');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id"), 'its last worker is gone');

# object, status, previous status, batch
my @changes = (
	[ 'run', 'pending', '' ],
	[ 'run', 'paused', 'pending' ],
	[ 'run', 'pending', 'paused' ],
	[ 'run', 'stopped', 'pending' ],
	[ 'run', 'pending', '' ], [ 'run', 'enqueued', 'pending' ], [ 'run', 'running', 'enqueued' ],
	[ 'batch', 'running', 'pending', 1 ], [ 'batch', 'stopped', 'running', 1 ],
	[ 'run', 'stopped', 'running' ],
	[ 'run', 'enqueued', 'stopped' ], [ 'run', 'running', 'enqueued' ],
	[ 'batch', 'running', 'pending', 1 ], [ 'batch', 'pending', 'running', 1 ],
	[ 'batch', 'running', 'pending', 2 ], [ 'batch', 'completed', 'running', 2 ],
	[ 'run', 'paused', 'running' ],
	[ 'run', 'enqueued', 'paused' ], [ 'run', 'running', 'enqueued' ],
	[ 'batch', 'running', 'pending', 1 ], [ 'batch', 'completed', 'running', 1 ],
	[ 'batch', 'running', 'pending', 3 ], [ 'batch', 'failed', 'running', 3 ],
	[ 'run', 'failed', 'running' ],
	[ 'run', 'enqueued', 'failed' ], [ 'run', 'running', 'enqueued' ],
	[ 'batch', 'running', 'pending', 3 ], [ 'batch', 'completed', 'running', 3 ],
	[ 'run', 'completed', 'running' ]);
my @expected;
foreach my $change (@changes)
{
	my ($object, $status, $previous, $batch) = @$change;
	# a new run is inserted as pending, and a batch is claimed before it is announced
	my $old = $previous eq '' ? 'pending' : $object eq 'batch' ? 'running' : $previous;
	my $line = sub { return join('|', "$_[0] $_[1]", $object, $status, $previous, $batch || '', $_[2]); };

	push @expected, (map { $line->($_, 'before', $old) } 'own', 'all'),
	  (map { $line->($_, 'around in', $old) } 'own', 'all'),
	  (map { $line->($_, 'around out', $status) } 'all', 'own'),
	  (map { $line->($_, 'after', $status) } 'own', 'all');
}
is(sql('SELECT label, (e).object, (e).status, (e).previous_status, (e).batch, seen FROM log ORDER BY seq'),
	join("\n", @expected), 'each change has its hooks before, around and after it: the own, then the database-wide');
is(sql(q{SELECT count(DISTINCT ((e).phase, (e).object, (e).status)) FROM log}), '36',
	'every phase, object and status was seen');
is(sql(q{SELECT count(*) FROM log WHERE split_part(label, ' ', 2) <> (e).phase}), '0', 'each was told its phase');
is(sql('SELECT DISTINCT (e).run_id, (e).name, (e).parameters FROM log ORDER BY 1'),
	join("\n", map { qq[$_|every|{"level": 3, "department": "sales"}] } $early, $id),
	'each was told the run, the definition and the parameters');
is(sql('SELECT DISTINCT curr, sess, super, backend FROM log'), 'alice|alice|off|backfill worker',
	'each was called in a worker, as the owner of the run, though a superuser asked for all of it');
is(sql(q{SELECT DISTINCT (e).batch, (e).key_range FROM log WHERE (e).object = 'batch' ORDER BY 1}),
	"1|[10 .. 100]\n2|(100 .. 200]\n3|(200 .. 300]", 'hooks of batches were told the key range');
is(sql(q{SELECT bool_and((e).key_range = b.key_range) FROM log JOIN backfill_batches b
		  ON b.run_id = (e).run_id AND b.number = (e).batch}), 't', 'as backfill_batches shows it');
is(sql(q{SELECT count(*) FROM log WHERE (e).object = 'run' AND ((e).batch IS NOT NULL OR (e).key_range IS NOT NULL)}),
	'0', 'those of runs were told none');
is(sql(q{SELECT (e).status, (e).rows, count(DISTINCT (e).batch) FROM log WHERE (e).object = 'batch'
		  GROUP BY 1, 2 ORDER BY 1, 2}),
	"completed|10|3\nfailed|10|1\npending|10|1\nrunning|10|3\nstopped|10|1", 'hooks of batches were told the rows');
is(sql(q{SELECT string_agg(r::text, ' ' ORDER BY seq) FROM (
			SELECT (e).rows AS r, min(seq) AS seq FROM log WHERE (e).object = 'run' GROUP BY 1) s}),
	'0 10 20 30', 'those of runs were told the rows so far');
is(sql(q{SELECT (e).object, (e).status, (e).error FROM log WHERE (e).error IS NOT NULL GROUP BY 1, 2, 3 ORDER BY min(seq)}),
	"batch|stopped|try again\nbatch|pending|try again\nbatch|failed|row 250 is bad\nrun|failed|row 250 is bad",
	'where there was an error they were told its message');
is(transitions($early) . ' ' . transitions($id), join(' ', map { $_->[1] } grep { $_->[0] eq 'run' } @changes),
	'the events have the same transitions');
is(sql(qq{SELECT status, role, reason FROM backfill_events WHERE run_id IN ($early, $id) AND kind = 'transition'
			GROUP BY 1, 2, 3 ORDER BY min(id)}),
	join("\n", "pending|$super|backfill_start", "paused|$super|backfill_pause", "pending|$super|backfill_resume",
		"stopped|$super|backfill_stop", 'enqueued||', 'running||',
		"enqueued|$super|backfill_resume", 'failed||row 250 is bad', 'completed||'), 'and who caused them, and how');
check_exactly_once($node, $id, 'every', 30, 'every row was processed exactly once');

# Skipped rows, and what is retried.
make_target('skips', 3, '{"batch_size": 1, "target_batch_time": 0, "sleep": 0, "on_error": "skip"}');
sql("TRUNCATE log; INSERT INTO behave VALUES (20, 'fail')");
sql(q{SELECT backfill_off('before ' || o, 'all_before'), backfill_off('after ' || o, 'all_after')
		FROM unnest(ARRAY['run completed', 'batch failed']) o});
$id = start('skips');
ok(settles($id, 'completed'), 'a run that skips a row is completed');
sql('DELETE FROM behave');
sql("SELECT backfill_retry($id)");
ok(wait_for($node, "SELECT errors = 0 FROM backfill_runs WHERE id = $id"), 'and its row retried');
ok(settles($id, 'completed'), 'it is completed again');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id"), 'its last worker is gone');
is(sql(q{SELECT concat_ws(' ', (e).object, (e).status, (e).previous_status, (e).batch, (e).rows, (e).error)
		   FROM log WHERE label = 'all around out' ORDER BY seq}),
	join("\n", 'run pending 0', 'run enqueued pending 0', 'run running enqueued 0',
		'batch running pending 1 1', 'batch completed running 1 1',
		'batch running pending 2 1', 'batch failed running 2 1 row 20 is bad',
		'batch running pending 3 1', 'batch completed running 3 1',
		'run completed running 2',
		'run enqueued completed 2', 'run running enqueued 2',
		'batch running pending 2 1', 'batch completed running 2 1',
		'run completed running 3'),
	'database-wide hooks go with a run of another definition, a row that is skipped, and its retry');
is(sql(q{SELECT count(*) FROM log WHERE label LIKE 'own %'}), '0', 'the hooks of another definition do not');
is(sql(q{SELECT count(*) FROM log WHERE (e).object = 'run' AND (e).status = 'completed' AND (e).phase <> 'around'}), '0',
	'nor do those that were taken away');
check_parts($node, $id, 'skips', 'every row was processed exactly once');
drop_hooks();
is(sql('SELECT count(*) FROM backfill_hooks'), '0', 'backfill_off removes them');

$node->stop;
done_testing();
