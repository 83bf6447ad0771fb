# reuse_space: what committed batches have freed is used by the next ones, so that a
# rewrite leaves the table as large as it was.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main', conf => "autovacuum = off\n");
sql('CREATE EXTENSION amcheck', 'CREATE EXTENSION pg_freespacemap');

# The size of a table and its partitions, in pages.
sub pages { return sql("SELECT sum(pg_relation_size(relid)) / 8192 FROM (SELECT relid FROM pg_partition_tree('$_[0]') UNION SELECT '$_[0]'::regclass) t"); }

my $settings = '{"batch_size": 1000, "target_batch_time": 0, "sleep": 0%s}';
my $number = 0;

# A new table of 100,000 rows, and a definition that changes all of them.
sub table
{
	my ($more, %opts) = @_;
	my $table = 't' . ++$number;
	my $statement = $opts{statement} || 'UPDATE batch SET n = n + 1';

	sql("CREATE TABLE $table (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, pad text)" . ($opts{parted} ? ' PARTITION BY RANGE (id)' : ''));
	sql(map { "CREATE TABLE ${table}_$_ PARTITION OF $table FOR VALUES FROM (@{[$_ * 25000 + 1]}) TO (@{[$_ * 25000 + 25001]})" } 0 .. 3) if $opts{parted};
	sql("INSERT INTO $table SELECT i, 0, repeat('x', 60) FROM generate_series(1, 100000) i ORDER BY " . ($opts{order} || 'i'));
	sql("DELETE FROM $table WHERE $opts{holes}") if $opts{holes};
	sql("CREATE INDEX ON $table (n)") if $opts{indexed};
	sql("VACUUM ANALYZE $table");
	sql(qq{SELECT backfill_define('$table', '$table', '$statement', settings => '@{[sprintf $settings, $more]}'@{[$opts{streams} ? ", streams => '$opts{streams}'" : '']})});
	return $table;
}

# Run it, and how many times as large the table is then.
sub growth
{
	my ($table) = @_;
	my $before = pages($table);
	my $id = start_run($node, $table);

	wait_for_status($node, $id, 'completed') or return 1e9;
	return pages($table) / $before;
}

# The table is sound, and every row was changed once.
sub check
{
	my ($table, $name) = @_;
	is(sql("SELECT count(*) FILTER (WHERE n = 1), count(*) FROM $table"), '100000|100000', "$name: every row once");
	my $leaves = "(SELECT relid FROM pg_partition_tree('$table') WHERE isleaf UNION SELECT '$table'::regclass WHERE NOT EXISTS (SELECT FROM pg_partition_tree('$table')))";
	is(sql("SELECT count(*) FROM $leaves l, verify_heapam(l.relid)"), 0, "$name: the heap is sound");
	sql("SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid IN (SELECT relid FROM $leaves l)");
	return;
}

foreach my $case ([ 'one worker', '', 1.15 ], [ 'two workers', ', "workers": 2', 1.4 ], [ 'partitions', '', 1.25, parted => 1 ],
	[ 'a secondary index', '', 1.2, indexed => 1 ], [ 'with a join', '', 1.15, statement => 'UPDATE batch SET n = n + x FROM (VALUES (1)) v (x)' ],
	[ 'with sub-selects', '', 1.15, statement => 'UPDATE batch SET n = n + 1 WHERE id IN (SELECT t.id FROM t1 t WHERE t.id > 0) OR EXISTS (SELECT FROM t1 WHERE t1.id = batch.id)' ],
	[ 'in a WITH', '', 1.15, statement => 'WITH c AS (UPDATE batch SET n = n + 1 RETURNING id) SELECT count(*) FROM c' ])
{
	my ($name, $more, $most, %opts) = @$case;
	my $table = table($more, %opts);
	my $growth = growth($table);

	cmp_ok($growth, '<', $most, sprintf('%s: %.2f times as large afterwards', $name, $growth));
	check($table, $name);
}

my $table = table(', "reuse_space": false');
my $growth = growth($table);
cmp_ok($growth, '>', 1.8, sprintf('without: %.2f times', $growth));
check($table, 'without');

# What is stored out of line makes room, too; what an update leaves alone is not touched.
sub toast_pages { return sql("SELECT pg_relation_size(reltoastrelid) / 8192 FROM pg_class WHERE oid = '$_[0]'::regclass"); }
sub wide_table
{
	my ($statement) = @_;
	my $table = 't' . ++$number;

	sql("CREATE TABLE $table (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, body text)",
		"ALTER TABLE $table ALTER body SET STORAGE EXTERNAL",
		"INSERT INTO $table SELECT i, 0, repeat(chr(65 + i % 26), 5000) FROM generate_series(1, 10000) i",
		);
	sql("VACUUM ANALYZE $table");
	sql(
		qq{SELECT backfill_define('$table', '$table', '$statement', settings => '{"batch_size": 200, "target_batch_time": 0, "sleep": 0}')});
	return $table;
}
foreach my $case ([ 'values out of line', q(UPDATE batch SET n = n + 1, body = lower(body)), 1.3 ],
	[ 'values that stay', q(UPDATE batch SET n = n + 1), 1.001 ])
{
	my ($name, $statement, $most) = @$case;
	my $wide = wide_table($statement);
	my $pages = toast_pages($wide);

	wait_for_status($node, start_run($node, $wide), 'completed');
	cmp_ok(toast_pages($wide) / $pages, '<', $most, sprintf('%s: %.2f times', $name, toast_pages($wide) / $pages));
	is(sql("SELECT count(*) FROM $wide WHERE n = 1 AND lower(body) = repeat(chr(97 + (id % 26)::int), 5000)"), 10_000, "$name: every one is there");
	is(sql("SELECT count(*) FROM verify_heapam('$wide', check_toast => true)"), 0, "$name: the heap is sound");
	sql("SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid IN (SELECT unnest(ARRAY[oid, reltoastrelid]) FROM pg_class WHERE oid = '$wide'::regclass)");
}

# A column that is to be stored in the row may have values elsewhere, too: those for which no row has room.
my $kept_in = 't' . ++$number;
sql("CREATE TABLE $kept_in (id int PRIMARY KEY, body text)", "ALTER TABLE $kept_in ALTER body SET STORAGE MAIN",
	"INSERT INTO $kept_in SELECT i, (SELECT string_agg(md5(i::text || k::text), '') FROM generate_series(1, 400) k) FROM generate_series(1, 2000) i");
sql("VACUUM ANALYZE $kept_in");
sql(qq{SELECT backfill_define('$kept_in', '$kept_in', 'UPDATE batch SET body = md5(body) || substr(body, 33)', settings => '@{[sprintf $settings, ', "batch_size": 100']}')});
my $kept_before = toast_pages($kept_in);
wait_for_status($node, start_run($node, $kept_in), 'completed');
cmp_ok(toast_pages($kept_in) / $kept_before, '<', 1.5, sprintf('values of a column with STORAGE MAIN: %.2f times', toast_pages($kept_in) / $kept_before));

# A row that moves to another partition leaves all of its values, whatever columns are changed.
my $moved = 't' . ++$number;
sql("CREATE TABLE $moved (id int NOT NULL, part int, body text) PARTITION BY LIST (part)", "CREATE INDEX ON $moved (id)",
	map({ "CREATE TABLE ${moved}_$_ PARTITION OF $moved FOR VALUES IN ($_)" } 0, 1), "ALTER TABLE $moved ALTER body SET STORAGE EXTERNAL",
	"INSERT INTO $moved SELECT i, 0, repeat('x', 4000) FROM generate_series(1, 1000) i");
sql("VACUUM ANALYZE $moved");
sql(qq{SELECT backfill_define('$moved', '$moved', 'UPDATE batch SET part = 1', scope => 'part = 0', key => '${moved}_id_idx', settings => '@{[sprintf $settings, ', "batch_size": 100']}')});
wait_for_status($node, start_run($node, $moved), 'completed');
is(sql("SELECT count(*), sum(avail) > 0.8 * count(*) * 8192 FROM pg_class c, pg_freespace(c.reltoastrelid) WHERE c.oid = '${moved}_0'::regclass"), toast_pages("${moved}_0") . '|t',
	'what rows leave in the TOAST table of their partition is free');

my $purged = wide_table('DELETE FROM batch WHERE id % 2 = 0');
my $wide_before = toast_pages($purged);
wait_for_status($node, start_run($node, $purged), 'completed');
sql("INSERT INTO $purged SELECT i, 1, repeat('x', 5000) FROM generate_series(20001, 24000) i");
is(toast_pages($purged), $wide_before, 'a purge makes room for what is stored out of line');

# Rows that an INSERT meets are replaced, too: in a table, in partitions with columns of their own order, with
# values out of line.  Those that its condition leaves alone are not.
my $source = table('');
foreach my $case ([ 'rows that an INSERT meets', '' ], [ 'in partitions', ' PARTITION BY RANGE (id)' ])
{
	my ($name, $parted) = @$case;
	my $met = 't' . ++$number;

	sql("CREATE TABLE $met (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, pad text)$parted");
	sql("CREATE TABLE ${met}_0 PARTITION OF $met FOR VALUES FROM (MINVALUE) TO (50001)",
		"CREATE TABLE ${met}_1 (pad text, n int NOT NULL DEFAULT 0, id bigint PRIMARY KEY)",
		"ALTER TABLE $met ATTACH PARTITION ${met}_1 FOR VALUES FROM (50001) TO (MAXVALUE)") if $parted;
	sql("INSERT INTO $met SELECT id, 0, pad FROM $source");
	sql("VACUUM ANALYZE $met");
	sql(qq{SELECT backfill_define('$met', '$source', 'INSERT INTO $met AS m SELECT id, 0, pad FROM batch ON CONFLICT (id) DO UPDATE SET n = m.n + 1', settings => '@{[sprintf $settings, '']}')});
	my $met_growth = growth($met);
	cmp_ok($met_growth, '<', 1.25, sprintf('%s: %.2f times as large afterwards', $name, $met_growth));
	check($met, $name);
	next if $parted;

	sql(qq{SELECT backfill_define('${met}_few', '$source', 'INSERT INTO $met AS m SELECT id, 0, pad FROM batch ON CONFLICT (id) DO UPDATE SET n = m.n + 1 WHERE m.id > 99990', settings => '@{[sprintf $settings, '']}')});
	wait_for_status($node, start_run($node, "${met}_few"), 'completed');
	cmp_ok(sql("SELECT pages_pruned FROM backfill_runs WHERE name = '${met}_few'"), '<', 5, 'rows that its condition leaves alone are no old versions');
}
my $met_wide = wide_table('SELECT FROM batch');
sql(qq{SELECT backfill_define('$met_wide', '$met_wide', 'INSERT INTO $met_wide AS m SELECT * FROM batch ON CONFLICT (id) DO UPDATE SET body = lower(excluded.body)', settings => '{"batch_size": 200, "target_batch_time": 0, "sleep": 0}')});
my $met_before = toast_pages($met_wide);
wait_for_status($node, start_run($node, $met_wide), 'completed');
cmp_ok(toast_pages($met_wide) / $met_before, '<', 1.3, sprintf('what is stored out of line of rows that an INSERT meets: %.2f times', toast_pages($met_wide) / $met_before));

# Where most pages have room for a row or two, new versions still go to pages that batches have
# cleared, side by side, and not one to each page with a hole.  How many pages 5,200 rows come to:
sub spread
{
	my $table = table(', "max_batches": 8', holes => 'id % 20 = 7');

	wait_for_status($node, start_run($node, $table), 'paused');
	return sql("SELECT count(DISTINCT (ctid::text::point)[0]) FROM $table WHERE id BETWEEN 2500 AND 8000 AND n = 1");
}

# While somebody has a snapshot, nothing can be cleared, and one batch goes to holes.
my ($spread) = sort { $a <=> $b } map { spread() } 1 .. 3;
cmp_ok($spread, '<', 450, "5,200 rows go to $spread pages: seventy fill one, and each has room for four");

# Rows that lie far apart leave a version or two on each page: that is not worth a visit by us, as
# other batches come by there.
my $apart = table('', order => 'hashint8(i)');
my $apart_growth = growth($apart);
is(sql("SELECT pages_pruned FROM backfill_runs WHERE name = '$apart'"), 0, 'where rows lie far apart, no page is visited for what is left there');
cmp_ok($apart_growth, '<', 1.15, sprintf('and the table grows as little: %.2f times', $apart_growth));
check($apart, 'rows that lie far apart');

# Batches are a small part of the table, for it grows by what is being updated; not where nothing
# is to be used again.  Each row takes a tenth of a millisecond, and a batch might take 1.2 s: no
# more than sixteen times what such a part takes, but still more on a machine that has much else to do.  The
# first three know nothing of the table.
my $seconds = '"target_batch_time": "1.2s"';
sub dear { return 'UPDATE batch SET n = n + (SELECT 1 FROM generate_series(n, ' . ($_[0] || 500) . ') g ORDER BY g DESC LIMIT 1)'; }
sub usual_size
{
	my ($more, $besides, %opts) = @_;
	my $table = table(qq(, "limit": 40000, "batch_size": 2000, $seconds$more), %opts,
		statement => $besides . dear($opts{steps}));
	my $size = $opts{size} || 'percentile_disc(0.5) WITHIN GROUP (ORDER BY b.rows_scanned) FILTER (WHERE number > 5)';
	wait_for_status($node, start_run($node, $table), 'completed');
	return sql("SELECT $size FROM backfill_batches b JOIN backfill_runs r ON r.id = run_id WHERE r.name = '$table'");
}
# That is no more than $most, in one of three runs: what the machine does besides may make batches larger.
sub usually_below
{
	my ($most, $name, @args) = @_;
	my $size;

	foreach (1 .. 3)
	{
		sql('UPDATE counter SET batches = 0');
		my $this = usual_size(@args);
		$size = $this if !defined $size || $this < $size;
		last if $size <= $most;
	}
	return cmp_ok($size, '<=', $most, "$name: $size rows");
}
my $small = 100_000 / 80;
my $updates_one = 'UPDATE counter SET batches = batches + 1';
sql('CREATE TABLE counter AS SELECT 0 AS batches', 'ANALYZE counter');
usually_below($small * 1.15, 'a batch is an eightieth of the table', '', '');
my $free = usual_size(', "reuse_space": false', '', size => 'max(b.rows_scanned) FILTER (WHERE number > 3)');
cmp_ok($free, '>', $small * 1.2, "and has up to $free rows, where space is not used again");
my $counted = usual_size('', "WITH c AS ($updates_one) ");
cmp_ok($counted, '>', $small * 0.9, "of a table of one row a batch may change more than that: $counted rows");

# What holds up the first few, which know nothing yet, is not taken for a fixed cost for good.
usually_below($small * 2.2, 'not much more where the first three batches were held up', ', "target_batch_time": "1s"',
	"WITH c AS ($updates_one RETURNING pg_sleep(CASE WHEN batches <= 3 THEN 0.1 ELSE 0 END)) ");

# Nor where a moment held up the first seven, of which some had that size: they are taken as they come then.
usually_below($small * 2.6, 'nor where seven were held up for a moment', ', "limit": 80000, "target_batch_time": "150ms"',
	"WITH c AS ($updates_one RETURNING pg_sleep(CASE WHEN batches <= 7 THEN 0.014 ELSE 0 END)) ", steps => 40);

# Partitions are small tables, and may be many.  Each row takes half a millisecond, so that two thousand would
# take the target; what a batch costs besides makes it larger on a machine that has much else to do.
usually_below(1000, 'a batch is an eightieth of its partition, or not much more',
	', "limit": 10000, "target_batch_time": "1s"', '', parted => 1, steps => 2500);

# Switched off, it has no say any more.
$table = table(", $seconds", statement => dear());
my $switched = start_run($node, $table);
wait_for($node, "SELECT count(*) > 8 FROM backfill_batches WHERE run_id = $switched AND status = 'completed'");
sql(qq{SELECT backfill_alter($switched, '{"reuse_space": false}')});
my $last = sql("SELECT max(number) + 1 FROM backfill_batches WHERE run_id = $switched");
ok(wait_for_status($node, $switched, 'completed'), 'a run is completed without');
my $largest = sql("SELECT max(rows_scanned) FROM backfill_batches WHERE run_id = $switched AND number > $last + 2");
cmp_ok($largest, '>', $small * 1.2, "its batches are larger then: up to $largest rows");

# Rows that a purge has removed make room for others at once.
$table = table('', statement => 'DELETE FROM batch WHERE id % 2 = 0');
my $before = pages($table);
my $id = start_run($node, $table);
wait_for_status($node, $id, 'completed');
sql("INSERT INTO $table SELECT i, 1, repeat('x', 60) FROM generate_series(200001, 240000) i");
is(pages($table), $before, 'a purge makes room for what is inserted') ||
	diag(sql("SELECT number, pages_pruned, started_at, finished_at FROM backfill_batches WHERE run_id = $id ORDER BY number"));

# A run with streams clears up its last batch, too, which is too small to be worth it before.  It waits only
# a moment for those who still see it, as who looks whether the run is over may.
my @left;
foreach (1 .. 3)
{
	$table = table('', parted => 1, statement => 'DELETE FROM batch WHERE id % 2 = 0', streams => 'partitions');
	wait_for_status($node, start_run($node, $table), 'completed');
	@left = grep { $_ > 0 } map { sql("SELECT count(*) FROM pg_freespace('${table}_$_') WHERE avail < 2500") } 0 .. 3;
	last if !@left;
}
is("@left", '', 'a purge with streams makes room on every page');

# While somebody may still see the old versions, nothing is removed.
$table = table('');
my $reader = session($node);
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($reader->query("SELECT sum(n) FROM $table"), '0', 'a session has a snapshot');
$growth = growth($table);
cmp_ok($growth, '>', 1.8, sprintf('the table grows beside it: %.2f times', $growth));
is($reader->query("SELECT count(*), sum(n) FROM $table"), '100000|0', 'which still sees every row as it was');
$reader->query('COMMIT');
check($table, 'beside a snapshot');

unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/could not prune|PANIC|terminated by signal/, 'nothing went wrong');

$reader->quit;
$node->stop;
done_testing();
