# A walk by the pages of a table without any index: every row while it is in
# scope, also when others move rows meanwhile.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main', conf => "autovacuum = off\n");

my $id;
my $statement = 'UPDATE batch SET n = n + 1, done = true';

# A table of so many rows, none of them done.
sub table
{
	my ($rows, $options) = @_;
	return sql('DROP TABLE IF EXISTS heap', "CREATE TABLE heap (id int, n int NOT NULL DEFAULT 0, done boolean NOT NULL DEFAULT false, bad boolean NOT NULL DEFAULT false, pad text) @{[$options // '']}",
		"INSERT INTO heap (id, pad) SELECT i, repeat('x', 100) FROM generate_series(1, $rows) i");
}

sub define
{
	my ($settings, %opts) = @_;
	return sql("SELECT backfill_define('heap', 'heap', \$s\$@{[$opts{statement} || $statement]}\$s\$, key => 'ctid', scope => '@{[$opts{scope} || 'NOT done']}',
		settings => '{\"target_batch_time\": 0, \"sleep\": 0, $settings}')");
}

sub ends
{
	my ($status, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(wait_for_status($node, $id, $status), $name);
}

sub processed { return sql("SELECT string_agg(format('%s x%s', c, n), ', ' ORDER BY n) FROM (SELECT n, count(*) c FROM heap GROUP BY n) t"); }
sub passes { return sql("SELECT string_agg(reason, '; ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = 'pass'"); }

# ---------------------------------------------------------------------------
note 'what can be walked so';

sql('CREATE TABLE parted (id int) PARTITION BY HASH (id)', 'CREATE TABLE parent (id int)', 'CREATE TABLE child () INHERITS (parent)');
table(2000);
like(refusal("SELECT backfill_define('x', 'heap', 'DELETE FROM batch')"),
	qr/55000: table "heap" has no primary key\nHINT:  Create an index and name it in "key", or walk the pages of the table with "key" => 'ctid'/, 'a table without an index says what to do');
like(refusal("SELECT backfill_define('x', 'heap', 'DELETE FROM batch', key => 'ctid')"), qr/22023: a walk by pages needs a scope/, 'a scope is needed');
foreach my $refused ([ 'parted', '' ], [ 'parent', '' ], [ 'heap', '"direction": "desc"' ], [ 'heap', '"distinct": true' ], [ 'heap', '"group_by": "id"' ])
{
	like(refusal("SELECT backfill_define('x', '$refused->[0]', 'DELETE FROM batch', key => 'ctid', scope => 'true', settings => '{$refused->[1]}')"),
		$refused->[1] ? qr/22023: backfill setting "(direction|distinct|group_by)" needs an index/ : qr/42809: cannot backfill "$refused->[0]"\nDETAIL:  It has partitions or children/, "not with @$refused");
}

define('"batch_size": 100, "workers": 2, "verify": true');
$id = start_run($node, 'heap');
ends('completed', 'a run by pages');
is(processed(), '2000 x1', 'every row once');
is(sql("SELECT count(*) || ' ' || (sum(rows_scanned) >= 2000) || ' ' || min(start_key[1]) FROM backfill_batches WHERE run_id = $id"), '21 true (0,1)', 'in batches along the pages');
is(passes(), '', 'one pass was enough');
is(value($id, 'rows_remaining'), 0, 'verified');
table(0);
define('"batch_size": 100');
$id = start_run($node, 'heap');
ends('completed', 'an empty table');
sql('CREATE INDEX ctid ON heap (id)', "INSERT INTO heap SELECT 1 FROM generate_series(1, 3)");
define('"batch_size": 100');
$id = start_run($node, 'heap');
ends('completed', 'an index of that name');
is(sql("SELECT end_key::text FROM backfill_batches WHERE run_id = $id"), '{1}', 'is an index');

# an index that finds the rows in scope knows nothing of the order of pages
table(5000);
sql('UPDATE heap SET done = id % 50 > 0', 'CREATE INDEX heap_left ON heap ((-id)) WHERE NOT done');
query_ok($node, 'VACUUM FULL ANALYZE heap');
define('"batch_size": 1000, "limit": 10');
$id = start_run($node, 'heap');
ends('completed', 'a limit');
is(processed(), '4990 x0, 10 x1', 'takes so many rows');
is(sql('SELECT max(id) FROM heap WHERE n = 1'), 500, 'from the first page on');

# ---------------------------------------------------------------------------
note 'rows that move';

# Half of the rows are done, and then others take the last rows to the first pages.
sub move_rows
{
	my ($settings) = @_;
	table(4000);
	define(qq("batch_size": 2000, "sleep": "1 day", $settings));
	$id = start_run($node, 'heap');
	ok(wait_for($node, "SELECT batches = 1 FROM backfill_runs WHERE id = $id"), 'half of it is done');
	sql("SELECT backfill_pause($id)");
	nobody_left($id, 'and the run is paused');
	sql('DELETE FROM heap WHERE id <= 500');
	query_ok($node, 'VACUUM heap');
	sql('UPDATE heap SET pad = pad WHERE id > 3900');
	my $moved = sql("SELECT count(*) FROM heap WHERE id > 3900 AND ctid < '(10,0)'");
	cmp_ok($moved, '>', 50, 'rows have moved to where the walk has been');
	sql("SELECT backfill_alter($id, '{\"sleep\": 0}')", "SELECT backfill_resume($id)");
	ends('completed', 'completed');
	return $moved;
}

my $moved = move_rows('"verify": true');
is(processed(), '3500 x1', 'every row once');
is(passes(), 'pass 2: rows that others have moved, or written since, are in scope: ' . $moved, 'with another pass');
is(sql("SELECT pass FROM backfill.run WHERE id = $id"), 2, 'which the run remembers');
is(value($id, 'rows_affected'), 4000, 'the rows of both are counted');
$moved = move_rows('"limit": 100000');
is(processed(), "$moved x0, " . (3500 - $moved) . ' x1', 'a walk that is made once misses them: what the test is to notice');

# behind the end of the walk, too
table(1000);
define('"batch_size": 100, "limit": 1000000');
$id = start_run($node, 'heap');
ends('completed', 'made once');
is(sql("SELECT backfill_verify($id)"), 0, 'verified within its bounds');
define('"batch_size": 100');
$id = start_run($node, 'heap');
ends('completed', 'nothing in scope');
sql("INSERT INTO heap SELECT i, 0, false, false, repeat('x', 100) FROM generate_series(1001, 3000) i");
is(sql("SELECT backfill_verify($id)"), 2000, 'backfill_verify counts all of the table');
sql('TRUNCATE heap');
is(sql("SELECT backfill_verify($id)"), 0, 'however small it is now');

# ---------------------------------------------------------------------------
note 'a scope that does not end';

foreach my $options ('', 'WITH (fillfactor = 50)')
{
	table(2000, $options);
	define('"batch_size": 100', statement => 'UPDATE batch SET n = n + 1');
	$id = start_run($node, 'heap');
	ends('failed', "a statement that leaves rows in scope $options");
	like(sql("SELECT sqlstate || error || error_detail || error_hint FROM backfill_runs WHERE id = $id"), qr/^23000the statement leaves rows in scope that it has processedA walk by pages comes again/, 'fails in the first batch');
	is(processed(), '2000 x0', 'before it has done anything');
}
table(2000);
define('"batch_size": 100', statement => 'UPDATE batch SET n = n + 1, done = true WHERE id % 2 = 0');
$id = start_run($node, 'heap');
ends('failed', 'a statement that never processes some rows');
like(value($id, 'error'), qr/^1000 rows are still in scope after a pass that processed 1000$/, 'says so');
is(processed(), '1000 x0, 1000 x1', 'and none twice');
sql('UPDATE heap SET done = true', "SELECT backfill_resume($id)");
ends('completed', 'mended by hand, and resumed');
table(1000);
sql('CREATE TABLE gone (id int)');
define('"batch_size": 100', statement => 'WITH d AS (DELETE FROM batch RETURNING id) INSERT INTO gone SELECT id FROM d', scope => 'id % 2 = 0');
$id = start_run($node, 'heap');
ends('completed', 'rows that are moved elsewhere');
is(sql('SELECT count(*), sum(id % 2) FROM gone') . ' ' . sql('SELECT count(*) FROM heap'), '500|0 500', 'each once');

# So many passes that a worker for each of them would be many: after each some rows are no longer in
# scope, wherever the others have gone.
table(100);
define('"batch_size": 20', statement => 'WITH d AS (DELETE FROM batch RETURNING *) INSERT INTO heap SELECT id, n + 1, n >= id % 20, bad, pad FROM d');
$id = start_run($node, 'heap');
ends('completed', 'rows that are to be processed many times');
is(processed(), join(', ', map { "5 x$_" } 1 .. 20), 'are');
cmp_ok(sql("SELECT pass FROM backfill.run WHERE id = $id"), '>', 8, 'in many passes');

# ---------------------------------------------------------------------------
note 'rows that fail';

table(2000);
sql('UPDATE heap SET bad = true WHERE id IN (1, 777, 778, 2000)');
define('"batch_size": 300, "on_error": "skip"', statement => 'UPDATE batch SET n = n + 1 / (NOT bad)::int, done = true');
$id = start_run($node, 'heap');
ends('completed', 'rows that fail are left out');
is(processed(), '4 x0, 1996 x1', 'all others are done');
is(passes(), '', 'for their sake there is no other pass');
is(value($id, 'errors'), 4, 'they are counted');
sql('UPDATE heap SET bad = false', "SELECT backfill_retry($id)");
ok(wait_for($node, "SELECT status = 'completed' AND errors = 0 FROM backfill_runs WHERE id = $id"), 'mended, which has moved them, and retried');
is(processed(), '2000 x1', 'they are found where they are now');

# Rows that have failed are gone, and fewer others have come back into scope where the walk has been.
table(4000);
sql('UPDATE heap SET bad = true WHERE id <= 20');
query_ok($node, 'VACUUM FULL heap');
define('"batch_size": 1000, "on_error": "skip"',
	statement => 'UPDATE batch SET n = n + 1 / (NOT bad)::int, done = true WHERE id <> 1500 OR pg_advisory_xact_lock_shared(7)::text IS NOT NULL');
my $gate = session($node);
$gate->query('SELECT pg_advisory_lock(7)');
$id = start_run($node, 'heap');
ok(wait_for($node, "SELECT errors = 20 AND EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted) FROM backfill_runs WHERE id = $id"), 'rows have failed');
sql("SELECT backfill_pause($id)");
$gate->query('SELECT pg_advisory_unlock(7)');
nobody_left($id, 'and the run is paused');
sql('DELETE FROM heap WHERE bad', 'UPDATE heap SET done = false WHERE id BETWEEN 1001 AND 1010');
sql("SELECT backfill_resume($id)");
ends('completed', 'completed');
is(processed(), '3970 x1, 10 x2', 'they are processed again, though fewer than had failed were left');
is(passes(), 'pass 2: rows that others have moved, or written since, are in scope: 10', 'with another pass');
is(value($id, 'errors'), 0, 'in which nothing failed');

# ---------------------------------------------------------------------------
note 'explain and preview';

table(3000);
define('"batch_size": 300');
query_ok($node, 'ANALYZE heap');
my $explained = sql("SELECT string_agg(l, E'\\n') FROM backfill_explain('heap', measure => true) l");
like($explained, qr/Key: ctid, the pages of the table, again until nothing is in scope\n  Range: from \(0,1\) to \(\d+,65535\)/, 'explain');
like($explained, qr/Tid Range Scan on heap batch.*Plan of the search.*Tid Range Scan on heap batch.*Measured in \d+ batches spread across the range/s, 'reads ranges of pages');
is(sql("SELECT string_agg(concat(action, changed), ' ') FROM backfill_preview('heap', rows => 2)"), 'update{"n": 1, "done": true} update{"n": 1, "done": true}', 'preview follows a row to where it goes');
is(processed(), '3000 x0', 'nothing was done');

$node->stop;
done_testing();
