# What follows a run with streams: one run for each stream that was completed, or one for
# all, and what each is told. Then what backfill_explain and backfill_preview say of a
# definition with streams.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Streams;
use JSON::PP qw(decode_json);
use Test::More;

one_node('main', conf => "timezone = 'UTC'\n");

# ---------------------------------------------------------------------------
note 'a run for each stream';

accounts('a', 3, 30);
sql('CREATE TABLE told (run bigint, name text, stream text, parent bigint, since timestamptz, until timestamptz)', 'CREATE TABLE t (id int PRIMARY KEY)', 'INSERT INTO t VALUES (1)');
foreach my $name ('each', 'all', 'wrong')
{
	sql("SELECT backfill_define('$name', 't', 'INSERT INTO told SELECT run.id, run.name, params.stream, params.parent, params.since, params.until FROM batch',
		parameters => '{\"stream\": \"text\", \"parent\": \"bigint\", \"since\": \"timestamptz\", \"until\": \"timestamptz\"}', settings => '{\"share_target\": true}')");
}
my $told = '"parent": {"from": "run.id"}, "since": {"from": "run.since"}';
define_streams('a', account_streams(3, 1 => 1, 2 => 3, 3 => 2), '{"workers": 2}', more => qq{followers => '[
	{"name": "each", "each": "stream", "parameters": {"stream": {"from": "run.stream"}, "until": {"from": "run.until"}, $told}},
	{"name": "all", "parameters": {"stream": "none", $told}},
	{"name": "wrong", "parameters": {"until": {"from": "run.until"}}},
	{"name": "wrong", "parameters": {"stream": {"from": "run.stream"}}}]'});

# All that follows the run has ended.
sub followed
{
	my ($run, $runs) = @_;
	ok(wait_for_status($node, $run, 'completed'), 'the run completes');
	ok(wait_for($node, "SELECT count(*) FROM backfill_runs r JOIN backfill_events e ON e.run_id = $run AND e.kind = 'followers' AND e.reason = format('run %s of \"%s\" follows', r.id, r.name)
		WHERE r.status = 'completed'", expected => $runs), "$runs runs follow");
	return;
}
sub events { return sql("SELECT string_agg(concat_ws(' ', stream, sqlstate, regexp_replace(reason, 'run \\d+', 'run N')), E'\\n' ORDER BY id) FROM backfill_events WHERE run_id = $_[0] AND kind = 'followers'"); }

my $first = start_run($node, 'a');
followed($first, 4);
is(sql("SELECT string_agg(concat_ws(' ', name, stream, parent = $first, since), ', ' ORDER BY name, stream) FROM told"),
	'all none t -infinity, each 1 t -infinity, each 2 t -infinity, each 3 t -infinity', 'one for each stream, and one for all, and they know of what')
  or diag(sql('SELECT * FROM told'));
is(sql("SELECT count(*) FROM told JOIN backfill_streams s ON s.run_id = told.parent AND s.name = told.stream AND s.until = told.until WHERE told.name = 'each'"), 3,
	'each knows how far its stream came');
is(events($first), qq{2 run N of "each" follows\n3 run N of "each" follows\n1 run N of "each" follows\nrun N of "all" follows\n42P02 "wrong" could not be started: run N has no "run.until"\n42P02 "wrong" could not be started: run N has no "run.stream"},
	'events say for which stream, and what a run as a whole does not have');

my $second = start_run($node, 'a');
followed($second, 4);
is(sql("SELECT count(*) FROM told JOIN backfill_streams s ON s.run_id = $first AND s.name = told.stream AND s.until = told.since WHERE told.parent = $second"), 3,
	'the next time each knows where its stream began');

# only of those that were completed: a run that fails is followed by none, by its end by all
sql('TRUNCATE told');
accounts('f', 3, 10);
define_streams('f', account_streams(3), '{"on_error": "skip", "max_errors": 1}', statement => 'UPDATE batch SET n = 1 / (account - 2)',
	more => q{followers => '[{"name": "each", "each": "stream", "parameters": {"stream": {"from": "run.stream"}, "parent": {"from": "run.id"}}}]'});
my $run = start_run($node, 'f');
ok(wait_for_status($node, $run, 'failed'), 'a run fails with one stream');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind = 'followers'"), 0, 'and nothing follows');
sql('DELETE FROM f WHERE account = 2', "SELECT backfill_resume($run)");
followed($run, 3);
is(sql("SELECT string_agg(stream, ' ' ORDER BY stream) FROM told WHERE parent = $run"), '1 2 3', 'when it is resumed and completed, one for each stream');

# on one table they need to be told that they may be side by side
sql(q{SELECT backfill_define('alone', 't', 'SELECT FROM batch WHERE params.stream IS NOT NULL', parameters => '{"stream": "text"}')});
define_streams('f', account_streams(3), '{}', more => q{followers => '[{"name": "alone", "each": "stream", "parameters": {"stream": {"from": "run.stream"}}}]'});
$run = start_run($node, 'f');
ok(wait_for_status($node, $run, 'completed'), 'a run is followed by such that do not share their table');
like(events($run), qr/^1 run N of "alone" follows\n2 55006 "alone" could not be started: run N is active on the same table\n3 55006 [^\n]*$/, 'then only the first is started, and events say so');

# partitions, by a generic definition on the table that the run has walked
partitions('p', 3, 10);
sql('CREATE INDEX p_id ON p (id)');
sql(q{SELECT backfill_define('count', NULL, 'INSERT INTO told (name, stream) SELECT run.name, params.stream FROM {target} LIMIT 1; SELECT FROM batch', generic => true, key => 'p_id',
	parameters => '{"stream": "text"}', settings => '{"share_target": true}')});
define_streams('p', 'partitions', '{}', more => q{followers => '[{"name": "count", "each": "stream", "target": {"from": "run.target"}, "parameters": {"stream": {"from": "run.stream"}}}]'});
$run = start_run($node, 'p');
ok(wait_for_status($node, $run, 'completed'), 'a run over partitions');
is(sql("SELECT string_agg(reason, ', ') FROM backfill_events WHERE run_id = $run AND kind = 'followers' AND sqlstate IS NOT NULL"), '', 'is followed');
is(sql("SELECT string_agg(target::text || ' ' || (parameters ->> 'stream'), ', ' ORDER BY id) FROM backfill_runs WHERE name = 'count'"),
	sql("SELECT string_agg('p ' || name, ', ' ORDER BY position) FROM backfill.stream WHERE run_id = $run"), 'is followed by a run for each, on the table');

# ---------------------------------------------------------------------------
note 'what is refused';

sub detail { return refusal("SELECT backfill_define('e', '$_[0]', 'UPDATE batch SET n = n', followers => '$_[1]'" . ($_[2] || '') . ')'); }
like(detail('a', '[{"name": "each", "each": "batch"}]', q{, streams => '["x"]'}), qr/22023.*DETAIL:  "each" can only be "stream"\./s, 'each of something else');
like(detail('a', '[{"name": "each", "each": "stream"}]'), qr/22023.*DETAIL:  The definition has no "streams"/s, 'each stream of a definition without');

# ---------------------------------------------------------------------------
note 'what is tried out';

sub explained { return sql("SELECT * FROM backfill_explain('$_[0]'" . ($_[1] || '') . ')'); }
sub document { return decode_json(explained($_[0], q{, format => 'json'} . ($_[1] || ''))); }

accounts('x', 3, 50);
sql('ALTER TABLE x ADD changed_at timestamptz NOT NULL DEFAULT now()', 'ANALYZE x');
define_streams('x', account_streams(3, 1 => 1, 2 => 3, 3 => 2), '{"workers": 2}', more => q{scope => 'n = 0 AND changed_at >= run.since'});
like(explained('x'), qr/^Backfill x of table public\.x\n  Stream: "2", the first of 3; what follows is about it alone\n  Key: x_pkey, ascending\n  Range: from \{2,2001\} to \{2,2050\}\n  Rows: about 150 in the table, \d+ in the range/,
	'the stream that would be begun first');
like(explained('x', ', measure => true'), qr/Stream: "2", the first of 3.*Measured in .*Projected for the whole run/s, 'and is measured');
foreach my $measure ('false', 'true')
{
	my $document = document('x', ", measure => $measure");
	is("$document->{stream} of $document->{streams}", '2 of 3', 'as JSON');
	is_deeply($document->{range}, { from => [ 2, 2001 ], to => [ 2, 2050 ] }, 'with its range');
}
is(sql("SELECT string_agg(key::text || action || (after ->> 'w'), ' ') FROM backfill_preview('x', rows => 2)"), '{2,2001}update2 {2,2002}update2', 'a preview has its rows, and its name');
is(sql("SELECT count(*) FROM backfill_preview('x', rows => 1000)"), 50, 'and no others');
is(sql('SELECT sum(n) FROM x') . sql("SELECT count(*) FROM backfill.stream s JOIN backfill.run r ON r.id = s.run_id WHERE r.name = 'x'"), '00', 'nothing of that remains');
my $plain = document('all', q{, parameters => '{}'});
ok(exists $plain->{stream} && !defined $plain->{stream} && exists $plain->{streams} && !defined $plain->{streams}, 'without streams there is none in the document');

# since its own last window
$run = start_run($node, 'x');
ok(wait_for_status($node, $run, 'completed'), 'after a run');
sql('UPDATE x SET n = 0');
is(sql("SELECT count(*) FROM backfill_preview('x')"), 0, 'there is nothing to be seen');
sql("UPDATE x SET changed_at = (SELECT until FROM backfill_streams WHERE run_id = $run AND name = '2') + CASE id WHEN 2003 THEN '0' ELSE '-1 us'::interval END");
is(sql("SELECT string_agg(key::text, ' ') FROM backfill_preview('x')"), '{2,2003}', 'but what has come since its stream had ended');
define_streams('x', '["new"]', '{}', more => q{scope => 'n = 0 AND changed_at >= run.since'});
is(sql("SELECT count(*) FROM backfill_preview('x', rows => 1000)"), 150, 'for a stream that never was it is everything');

# a query, partitions, a generic definition, and none at all
define_streams('x', q{SELECT 'account ' || account AS name, ARRAY[account] AS "from", ARRAY[account] AS "to", account AS weight FROM x GROUP BY account}, '{}');
like(explained('x'), qr/Stream: "account 3", the first of 3/, 'of a query');
is(sql("SELECT DISTINCT after ->> 'w' FROM backfill_preview('x')"), 'account 3', 'and its preview');
like(explained('p'), qr/^Backfill p of table public\.p_3\n  Stream: "p_3", the first of 3; .*\n  Key: p_3_pkey, ascending\n  Range: from 300001 to 300030\n/, 'of partitions the largest');
is(document('p', ', measure => true')->{target}, 'public.p_3', 'as JSON');
is(sql("SELECT key::text || (after ->> 'w') FROM backfill_preview('p', rows => 1)"), '{300001}p_3', 'and its preview');
sql(q{SELECT backfill_define('g', NULL, 'UPDATE batch SET {w} = run.stream', generic => true, streams => '["one", "two"]', parameters => '{"w": "name"}')});
like(explained('g', q{, '{"w": "w"}', target => 'x'}), qr/Stream: "one", the first of 2/, 'of a generic definition');
is(sql(q{SELECT after ->> 'w' FROM backfill_preview('g', '{"w": "w"}', 1, 'x')}), 'one', 'and its preview');
define_streams('x', 'SELECT account AS name FROM x WHERE false', '{}');
like(refusal("SELECT * FROM backfill_explain('x')"), qr/55000: a run of backfill definition "x" would have no streams/, 'where there are none there is nothing to try out');
like(refusal("SELECT * FROM backfill_preview('x')"), qr/55000: a run of backfill definition "x" would have no streams/, 'for a preview neither');

$node->stop;
done_testing();
