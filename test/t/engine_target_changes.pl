# Tables and roles that change or go away beneath a run: where it goes on,
# exactly once, and where it fails and says why.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Databases;
use Test::More;

databases('one');

# ---------------------------------------------------------------------------
note 'tables and roles';

for my $table ('dropped', 'added', 'lost', 'typed', 'keyed', 'narrowed', 'reindexed', 'truncated',
	'renamed', 'swapped', 'owned')
{
	gated('one', $table, 30);
}
my $run = during('dropped', 'DROP TABLE dropped');
is(value($run, 'status, sqlstate', 'one'), 'failed|42P01', 'DROP TABLE of the target fails the run');
like(value($run, 'error', 'one'), qr/the target table of the backfill was dropped|relation .* does not exist/,
	'with a message that says so');
is(sqlstate($node, "SELECT backfill_resume($run)", db => 'one'), '00000', 'to resume it is possible');
ok(becomes($run, 'failed', 'one'), 'and fails again');
like(value($run, 'error', 'one'), qr/the target table of the backfill was dropped/, 'with a clear message');
is(sqlstate($node, q{SELECT backfill_start('dropped')}, db => 'one'), '42P01', 'a new run is refused at once');
is(sqlstate($node, q{SELECT backfill_drop('dropped')}, db => 'one'), '00000', 'the definition can be dropped');

$run = during('added', 'ALTER TABLE added ADD COLUMN extra int DEFAULT 5');
is(value($run, 'status, error', 'one'), 'completed|', 'ADD COLUMN during a run is no trouble');
check_exactly_once($node, $run, 'added', 30, 'exactly once over ADD COLUMN', db => 'one');

$run = during('lost', 'ALTER TABLE lost RENAME COLUMN n TO m');
is(value($run, 'status, sqlstate', 'one'), 'failed|42703', 'a column of the statement that goes away fails the run');
is(sql('SELECT sum(m) FROM lost', 'one'), '10', 'after the batch in hand');
sql('ALTER TABLE lost RENAME COLUMN m TO n', 'one');
sql("SELECT backfill_resume($run)", 'one');
ok(becomes($run, 'completed', 'one'), 'with the column back it is resumed');
check_exactly_once($node, $run, 'lost', 30, 'exactly once over that', db => 'one');

$run = during('typed', 'ALTER TABLE typed ALTER COLUMN n TYPE bigint');
is(value($run, 'status, error', 'one'), 'completed|', 'a column that changes its type is no trouble');
check_exactly_once($node, $run, 'typed', 30, 'exactly once over ALTER COLUMN TYPE', db => 'one');

$run = during('keyed', 'ALTER TABLE keyed ALTER COLUMN id TYPE numeric');
is(value($run, 'status, sqlstate', 'one'), 'failed|42804', 'a key that changes its type fails the run');
like(value($run, 'error', 'one'), qr/the key of table .* has changed since the run began/, 'which says so');
sql("SELECT backfill_resume($run)", 'one');
ok(becomes($run, 'failed', 'one'), 'to resume it is no use');
is(sql('SELECT sum(n) FROM keyed', 'one'), '10', 'nothing is processed in the wrong order');

$run = during('narrowed', 'ALTER TABLE narrowed ALTER COLUMN id TYPE integer');
is(value($run, 'status, error', 'one'), 'completed|', 'from one size of integer to another the run goes on');
check_exactly_once($node, $run, 'narrowed', 30, 'exactly once over a key of another size', db => 'one');

$run = during('reindexed', 'REINDEX INDEX CONCURRENTLY reindexed_pkey');
is(value($run, 'status, error', 'one'), 'completed|', 'REINDEX CONCURRENTLY of the key is no trouble');
check_exactly_once($node, $run, 'reindexed', 30, 'exactly once over REINDEX CONCURRENTLY', db => 'one');

$run = during('truncated', 'TRUNCATE truncated');
is(value($run, 'status, error', 'one'), 'completed|', 'TRUNCATE leaves a run nothing to do');
is(value($run, 'rows_affected', 'one'), '10', 'but what it had done');

$run = during('renamed', 'ALTER TABLE renamed RENAME TO other_name');
is(value($run, 'status, error', 'one'), 'completed|', 'a table that is renamed is still the target');
check_exactly_once($node, $run, 'other_name', 30, 'exactly once over RENAME', db => 'one');

$run = during('swapped', 'BEGIN; ALTER TABLE swapped RENAME TO original;
	CREATE TABLE swapped (LIKE original INCLUDING ALL);
	INSERT INTO swapped SELECT id + 5, 0, 0, pad, false FROM original; COMMIT');
is(value($run, 'status, error', 'one'), 'completed|', 'a table in whose place another one comes is still the target');
check_exactly_once($node, $run, 'original', 30, 'exactly once over the swap', db => 'one');
is(sql('SELECT sum(n) FROM swapped', 'one'), '0', 'the other table is left alone');

# A key in another order: what was walked in the old one means nothing in it.
sql(q{CREATE TABLE collated(id text COLLATE "C" PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO collated SELECT chr(64 + i % 2 * 32 + i) FROM generate_series(1, 20) i}, 'one');
define_increment($node, 'collated', $gated_settings, statement => $gated, db => 'one');
my $collation = sql(q{SELECT coalesce(max(collname), 'POSIX') FROM pg_collation WHERE collname = 'en-x-icu'}, 'one');
$run = during('collated', qq{ALTER TABLE collated ALTER COLUMN id TYPE text COLLATE "$collation"});
is(value($run, 'status, sqlstate', 'one'), 'failed|42804', 'a key whose collation changes fails the run');
is(sql('SELECT max(n) FROM collated', 'one'), '1', 'no row was processed twice');

# The owner goes away while its run is paused: nothing keeps the role.
sql('CREATE ROLE shortlived LOGIN; GRANT SELECT, UPDATE ON owned TO shortlived', 'one');
sql(q{SET ROLE shortlived; SELECT backfill_define('theirs', 'owned', 'UPDATE batch SET n = n + 1',
	settings => '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 hour"}')}, 'one');
$run = start_run($node, 'theirs', db => 'one');
ok(comes_true(q{SELECT count(*) = 1 FROM backfill_workers WHERE state = 'sleeping'}, 'one'), 'a run of a role');
sql('REVOKE ALL ON owned FROM shortlived; DROP ROLE shortlived', 'one');
sql(q{SELECT backfill_alter(id, '{"sleep": 0}') FROM backfill_runs WHERE name = 'theirs'}, 'one');
ok(becomes($run, 'failed', 'one'), 'a run whose owner was dropped fails');
isnt(value($run, 'error', 'one'), '', 'and says why: ' . value($run, 'error', 'one'));
is(sqlstate($node, q{SELECT backfill_start('theirs')}, db => 'one'), '42704', 'to start it again is refused');
sql("SELECT backfill_delete($run), backfill_drop('theirs')", 'one');
forget_gate('one');

$node->stop;
done_testing();
