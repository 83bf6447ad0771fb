# Walks along what is no unique index on columns that are not null: rows that
# share a key, nulls in the key, an index of some rows, the first columns of an
# index, and its values one by one.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');

my $calm = '"target_batch_time": 0, "sleep": 0';
my $id;

# Define and run the statement about the table to its end.  Options: key, scope,
# settings, status.
sub walk
{
	my ($table, $statement, %opts) = @_;
	my $scope = defined $opts{scope} ? "\$s\$$opts{scope}\$s\$" : 'NULL';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql("SELECT backfill_define('w', '$table', \$s\$$statement\$s\$, key => '$opts{key}', scope => $scope,
		settings => '{$calm, $opts{settings}}')");
	$id = start_run($node, 'w');
	ok(wait_for_status($node, $id, $opts{status} || 'completed'), "$table along $opts{key}: " . ($opts{status} || 'completed'));
	return;
}

# How often rows were processed: number of times and rows.
sub processed
{
	my ($table, $where) = @_;
	return sql("SELECT string_agg(format('%s x%s', c, n), ', ' ORDER BY n) FROM (SELECT n, count(*) c FROM $table @{[$where ? 'WHERE ' . $where : '']} GROUP BY n) t");
}

# Batches whose keys, as texts, are those.
sub ranges { return sql("SELECT string_agg(concat(CASE WHEN start_inclusive THEN '[' ELSE '(' END, array_to_string(start_key, ',', 'null'), '..', array_to_string(end_key, ',', 'null'), ':', rows_scanned), ' ' ORDER BY number, start_key) FROM backfill_batches WHERE run_id = $id"); }

my $count = 'UPDATE batch SET n = n + 1';

# ---------------------------------------------------------------------------
note 'rows that share a key';

sql(q{CREATE TABLE groups (id int PRIMARY KEY, tenant int NOT NULL, n int NOT NULL DEFAULT 0, bad boolean NOT NULL DEFAULT false);
	INSERT INTO groups SELECT i, i / 10 FROM generate_series(0, 999) i;
	INSERT INTO groups SELECT 10000 + i, 500 FROM generate_series(1, 100) i;
	CREATE INDEX groups_tenant ON groups (tenant);
	CREATE INDEX groups_backwards ON groups (tenant DESC);
	ANALYZE groups});
walk('groups', $count, key => 'groups_tenant', settings => '"batch_size": 25');
is(processed('groups'), '1100 x1', 'every row once');
like(ranges(), qr/^\[0\.\.2:30 \(2\.\.5:30 /, 'a batch has whole groups');
like(ranges(), qr/ \(99\.\.500:100$/, 'and a group that is larger is one batch');
walk('groups', $count, key => 'groups_tenant', settings => '"batch_size": 25, "direction": "desc", "workers": 2');
is(processed('groups'), '1100 x2', 'backwards, by two workers');
walk('groups', $count, key => 'groups_backwards', settings => '"batch_size": 7, "from": 10, "to": 19');
is(processed('groups', 'tenant BETWEEN 10 AND 19'), '100 x3', 'bounds');
is(processed('groups'), '1000 x2, 100 x3', 'and no others');
walk('groups', $count, key => 'groups_tenant', settings => '"batch_size": 25, "limit": 12');
is(processed('groups', 'tenant < 3'), '10 x2, 20 x3', 'a limit is rounded up to the end of a group');

# a row that fails takes its group with it, and nothing else
sql('UPDATE groups SET n = 0, bad = id IN (333, 10050)');
walk('groups', 'UPDATE batch SET n = n + 1 / (NOT bad)::int', key => 'groups_tenant', settings => '"batch_size": 200, "on_error": "skip"');
is(processed('groups', 'tenant NOT IN (33, 500)'), '990 x1', 'the groups without a bad row');
is(processed('groups', 'tenant IN (33, 500)'), '110 x0', 'a group with one is left out as a whole');
is(sql("SELECT string_agg(key::text, ' ' ORDER BY key) FROM backfill_errors WHERE run_id = $id"), '{33} {500}', 'and named');
is(value($id, 'rows_scanned'), 990, 'the others are counted');
sql('UPDATE groups SET bad = false', "SELECT backfill_retry($id)");
ok(wait_for($node, "SELECT status = 'completed' AND errors = 0 FROM backfill_runs WHERE id = $id"), 'retried');
is(processed('groups'), '1100 x1', 'every row once');

# ---------------------------------------------------------------------------
note 'the first columns of an index';

sql(q{CREATE TABLE orders (tenant int, id int, n int NOT NULL DEFAULT 0, last boolean, PRIMARY KEY (tenant, id));
	INSERT INTO orders SELECT i % 40, i FROM generate_series(1, 4000) i});
walk('orders', 'UPDATE batch SET n = n + 1, last = (id = l.max) FROM (SELECT tenant AS t, max(id) FROM batch GROUP BY tenant) l WHERE l.t = tenant',
	key => 'orders_pkey', settings => '"batch_size": 130, "group_by": "tenant"');
is(processed('orders'), '4000 x1', 'every row once');
is(sql('SELECT count(*) FROM orders WHERE last'), 40, 'each group was seen whole');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND rows_scanned <> 200"), 0, 'a batch ends where a group ends');
walk('orders', 'UPDATE batch SET n = n + 1, last = (id = l.max) FROM (SELECT tenant AS t, max(id) FROM batch GROUP BY tenant) l WHERE l.t = tenant',
	key => 'orders_pkey', settings => '"batch_size": 130');
isnt(sql('SELECT count(*) FROM orders WHERE last'), 40, 'without group_by groups are cut: what the test is to notice');

# ---------------------------------------------------------------------------
note 'nulls in the key';

sql(q{CREATE TABLE nulls (a int, b int, n int NOT NULL DEFAULT 0);
	INSERT INTO nulls SELECT nullif(i / 10, 7), nullif(i % 10, 5) FROM generate_series(0, 499) i;
	CREATE UNIQUE INDEX nulls_ab ON nulls (a, b);
	CREATE UNIQUE INDEX nulls_first ON nulls (a NULLS FIRST, b NULLS FIRST);
	CREATE UNIQUE INDEX nulls_desc ON nulls (a DESC, b DESC)});
my $done = 0;
foreach my $key ('nulls_ab', 'nulls_first', 'nulls_desc')
{
	foreach my $direction ('asc', 'desc')
	{
		walk('nulls', $count, key => $key, settings => qq("batch_size": 60, "direction": "$direction", "workers": 2));
		is(processed('nulls'), '500 x' . ++$done, "$direction: every row once");
		like(ranges(), qr/,null:59$/, 'the nulls are the last range') or diag(ranges());
	}
}
walk('nulls', $count, key => 'nulls_ab', settings => '"batch_size": 60, "from": 0');
is(processed('nulls', 'a IS NULL OR b IS NULL'), "59 x$done", 'no bounds have nulls between them');
is(processed('nulls', 'a IS NOT NULL AND b IS NOT NULL'), '441 x' . ($done + 1), 'all others are');
sql('DELETE FROM nulls WHERE a IS NOT NULL AND b IS NOT NULL');
walk('nulls', $count, key => 'nulls_ab', settings => '"batch_size": 10');
is(processed('nulls'), '59 x' . ($done + 1), 'nothing but nulls');
is(ranges(), '[null,null,null..null,null,null:59', 'is one batch');
sql('DELETE FROM nulls');
walk('nulls', $count, key => 'nulls_ab', settings => '"batch_size": 10');

# nulls that fail are one group
sql('INSERT INTO nulls SELECT nullif(i, 3), i FROM generate_series(1, 20) i');
walk('nulls', 'UPDATE batch SET n = n + b / b', key => 'nulls_ab', settings => '"batch_size": 4, "on_error": "skip"');
is(processed('nulls'), '20 x1', 'they do not');
walk('nulls', 'UPDATE batch SET n = n + 1 / (a - 0 * b IS NOT NULL)::int', key => 'nulls_ab', settings => '"batch_size": 4, "on_error": "skip"');
is(processed('nulls'), '1 x1, 19 x2', 'they do, and are left out');
is(sql("SELECT string_agg(array_to_string(key, ',', 'null'), ' ') FROM backfill_errors WHERE run_id = $id"), '20,20,null', 'and named');

# a column that cannot be null any more, or can be from now on
sql('ALTER TABLE nulls SET (autovacuum_enabled = off)', 'DELETE FROM nulls', 'INSERT INTO nulls SELECT i, nullif(i, 3) FROM generate_series(1, 20) i',
	"SELECT backfill_define('w', 'nulls', 'UPDATE batch SET n = n + 1', key => 'nulls_ab', settings => '{$calm, \"batch_size\": 4, \"sleep\": \"1 day\"}')");
$id = start_run($node, 'w');
ok(wait_for($node, "SELECT batches = 1 FROM backfill_runs WHERE id = $id"), 'one batch');
sql("SELECT backfill_pause($id)");
nobody_left($id, 'paused');
sql('UPDATE nulls SET b = 3 WHERE b IS NULL', 'ALTER TABLE nulls ALTER a SET NOT NULL, ALTER b SET NOT NULL', "SELECT backfill_alter($id, '{\"sleep\": 0}')", "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed'), 'not null any more');
is(processed('nulls'), '1 x0, 19 x1', 'a row that was null and got a key behind the walk is the application\'s affair');

# ---------------------------------------------------------------------------
note 'an index of some rows';

sql(q{CREATE TABLE few (id int PRIMARY KEY, state text, n int NOT NULL DEFAULT 0);
	INSERT INTO few SELECT i, CASE WHEN i % 1000 = 0 THEN 'new' ELSE 'old' END FROM generate_series(1, 50000) i;
	CREATE INDEX few_new ON few (id) WHERE state = 'new';
	CREATE UNIQUE INDEX few_unique ON few (state, id) WHERE n < 10 AND state IS NOT NULL;
	ANALYZE few});
like(refusal(q{SELECT backfill_define('w', 'few', 'UPDATE batch SET n = n + 1', key => 'few_new')}),
	qr/42809: cannot walk along index "few_new"\nDETAIL:  It covers only some of the rows, and without a scope all are asked for: CREATE INDEX few_new ON public.few USING btree \(id\) WHERE \(state = 'new'::text\)\nHINT:  Repeat the condition of the index in the "scope"/, 'without a scope');
foreach my $scope (q{state <> 'old'}, q{state IN ('new', 'old')}, q{state = 'new' OR n = 0}, 'true')
{
	like(refusal("SELECT backfill_define('w', 'few', 'UPDATE batch SET n = n + 1', key => 'few_new', scope => \$s\$$scope\$s\$)"),
		qr/42809: cannot walk along index "few_new"\nDETAIL:  It covers only some of the rows, and the scope may ask for others/, "the scope asks for others: $scope");
}
walk('few', q{UPDATE batch SET n = n + 1, state = 'done'}, key => 'few_new', scope => q{n = 0 AND state = 'new'}, settings => '"batch_size": 10, "verify": true');
is(processed('few', "state = 'done'"), '50 x1', 'the rows of the index, once');
is(sql("SELECT format('%s %s %s', rows_scanned, batches, rows_total) FROM backfill_runs WHERE id = $id"), '50 5 50', 'and no others were looked at');
walk('few', $count, key => 'few_unique', scope => q{n < 5 AND state IN ('old')}, settings => '"batch_size": 5000');
is(processed('few'), '50000 x1', 'implied by more than the same text');
sql('DROP INDEX few_new', q{CREATE INDEX few_new ON few (id) WHERE state = 'old' AND n > 5},
	q{SELECT backfill_define('fine', 'few', 'UPDATE batch SET n = n + 1', key => 'few_new', scope => $$state = 'old' AND n = 7$$)},
	q{DROP INDEX few_new}, q{CREATE INDEX few_new ON few (id) WHERE state = 'old' AND n > 8});
$id = start_run($node, 'fine');
ok(wait_for_status($node, $id, 'failed'), 'an index of that name that has fewer rows');
like(value($id, 'error'), qr/cannot walk along index "few_new"/, 'is not walked');

# ---------------------------------------------------------------------------
note 'values, one by one';

sql(q{CREATE TABLE visits (tenant int, day date, x int, n int NOT NULL DEFAULT 0);
	INSERT INTO visits SELECT nullif(i % 100, 50), date '2026-01-01' + i % 10, i FROM generate_series(1, 20000) i;
	CREATE INDEX visits_tenant_day ON visits (tenant, day);
	CREATE TABLE tenants (tenant int, day date, n int NOT NULL DEFAULT 1, rows int, UNIQUE NULLS NOT DISTINCT (tenant, day));
	ANALYZE visits}) if sql('SHOW server_version_num') >= 150000;
my $collect = 'INSERT INTO tenants (tenant, day) SELECT tenant, day FROM batch ON CONFLICT (tenant, day) DO UPDATE SET n = tenants.n + 1';
walk('visits', $collect, key => 'visits_tenant_day', settings => '"batch_size": 9, "distinct": true, "workers": 2');
is(processed('tenants'), '100 x1', 'each value once, the nulls among them');
is(sql('SELECT count(*) FROM (SELECT DISTINCT tenant, day FROM visits EXCEPT SELECT tenant, day FROM tenants) x'), 0, 'and all of them');
is(value($id, 'rows_scanned'), 100, 'values are counted, not rows');
walk('visits', $collect, key => 'visits_tenant_day', settings => '"batch_size": 9, "distinct": true, "direction": "desc", "from": [5, "2026-01-02"], "to": 50');
is(processed('tenants'), '55 x1, 45 x2', 'backwards, between bounds');
is(sql("SELECT string_agg(n::text, '' ORDER BY tenant, day) FROM tenants WHERE tenant BETWEEN 4 AND 6"), '122', 'which are those');
walk('visits', $collect, key => 'visits_tenant_day', scope => 'x > 19990', settings => '"batch_size": 2, "distinct": true');
is(sql("SELECT count(*) FROM tenants WHERE n = 2 AND (tenant > 90 OR tenant = 0)"), 10, 'values that have a row in scope');
sql('TRUNCATE tenants');
walk('visits', 'INSERT INTO tenants (tenant, rows) SELECT b.tenant, count(*) FROM batch b JOIN visits v USING (tenant) GROUP BY 1', key => 'visits_tenant_day',
	settings => '"batch_size": 8, "distinct": true, "group_by": ["tenant"]');
is(sql('SELECT count(*) || \' \' || sum(rows) FROM tenants'), '99 19800', 'values of the first column');
like(refusal(qq{SELECT backfill_define('w', 'visits', 'UPDATE batch SET n = 1', key => 'visits_tenant_day', settings => '{"distinct": true}')}),
	qr/0A000: cannot change "batch", which is one row for each value of the key/, 'values cannot be changed');
like(refusal(qq{SELECT backfill_define('w', 'visits', 'SELECT x FROM batch', key => 'visits_tenant_day', settings => '{"distinct": true}')}),
	qr/42703: column "x" does not exist/, 'and have no other columns');
sql('DROP INDEX visits_tenant_day', 'CREATE INDEX visits_tenant ON visits (tenant)', 'UPDATE visits SET tenant = 1 WHERE tenant IS NULL', 'TRUNCATE tenants');
walk('visits', 'INSERT INTO tenants (tenant, rows) SELECT tenant, 1 / (tenant - 3) FROM batch', key => 'visits_tenant', settings => '"batch_size": 30, "distinct": true, "on_error": "skip"');
is(sql("SELECT string_agg(key::text, ' ') FROM backfill_errors WHERE run_id = $id"), '{3}', 'a value that fails');

# every kind of type
sql(q{CREATE DOMAIN code AS varchar(10);
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
	CREATE TABLE typed (c code COLLATE "C", m mood, u uuid, t timestamptz, a int[], d text COLLATE "C", n int NOT NULL DEFAULT 0);
	INSERT INTO typed SELECT chr(65 + i % 5), (ARRAY['sad', 'ok', 'happy'])[1 + i % 3]::mood, md5((i % 7)::text)::uuid, timestamptz '2026-01-01 12:00:00.123456+02' + i % 4 * interval '1 day', ARRAY[i % 2, null], 'ä' || i % 6
	  FROM generate_series(1, 1000) i;
	CREATE INDEX typed_all ON typed (c, m, u, t, a, d COLLATE "POSIX");
	CREATE TABLE found (LIKE typed INCLUDING DEFAULTS)});
walk('typed', 'INSERT INTO found (c, m, u, t, a, d) SELECT * FROM batch', key => 'typed_all', settings => '"batch_size": 13, "distinct": true, "direction": "desc"');
is(sql('SELECT count(*) FROM found') . ' ' . sql('SELECT count(*) FROM (SELECT DISTINCT c, m, u, t, a, d FROM typed INTERSECT SELECT c, m, u, t, a, d FROM found) x'),
	'420 420', 'values of several types and collations');

# operators that are not of one family, nor of one name
sql(q{CREATE TABLE patterns (c text, i int, n int NOT NULL DEFAULT 0);
	INSERT INTO patterns SELECT chr(97 + k % 7), k % 11 FROM generate_series(1, 1000) k;
	CREATE INDEX patterns_ci ON patterns (c text_pattern_ops, i);
	CREATE TABLE met (c text, i int)});
foreach my $direction ('asc', 'desc')
{
	walk('patterns', 'INSERT INTO met SELECT c, i FROM batch', key => 'patterns_ci', settings => qq("batch_size": 13, "distinct": true, "direction": "$direction"));
	is(sql('SELECT count(*) FROM met') . ' ' . sql('SELECT count(*) FROM (SELECT DISTINCT c, i FROM met) x'), '77 77', "values in an order that is not the usual one, $direction");
	sql('TRUNCATE met');
}

# of values that the column takes for one, and the index does not
SKIP:
{
	skip 'no ICU', 2 if sql(q{SELECT count(*) FROM pg_collation WHERE collprovider = 'i'}) == 0;
	sql(q{CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE loud (c text COLLATE ci, i int);
		INSERT INTO loud VALUES ('a', NULL), ('A', NULL), ('a', NULL), ('a', 1), ('A', 1);
		CREATE INDEX loud_ci ON loud (c COLLATE "C", i)});
	walk('loud', 'INSERT INTO met SELECT c, i FROM batch', key => 'loud_ci', settings => '"distinct": true');
	is(sql(q{SELECT string_agg(concat(c, i), ' ' ORDER BY i, c COLLATE "C") FROM met}), 'A1 a1 A a', 'are several, with nulls, too');
	sql('TRUNCATE met');
}

# a constraint that new rows keep, and old ones do not
SKIP:
{
	skip 'all constraints hold before 18', 2 if sql('SHOW server_version_num') < 180000;
	sql('CREATE TABLE unproven (a int, n int NOT NULL DEFAULT 0)', 'INSERT INTO unproven SELECT nullif(i, 7) FROM generate_series(1, 20) i',
		'CREATE UNIQUE INDEX unproven_a ON unproven (a)', 'ALTER TABLE unproven ADD CONSTRAINT unproven_not_null NOT NULL a NOT VALID');
	walk('unproven', 'INSERT INTO met (i) SELECT a FROM batch', key => 'unproven_a', settings => '"batch_size": 6');
	is(sql('SELECT count(*) FROM met'), 20, 'nulls that are there in spite of the constraint');
	sql('TRUNCATE met');
}

# ---------------------------------------------------------------------------
note 'another index of that name';

sub replaced
{
	my ($index) = @_;
	sql('DROP INDEX patterns_ci', 'CREATE INDEX patterns_ci ON patterns (c, i)', 'UPDATE patterns SET n = 0',
		"SELECT backfill_define('w', 'patterns', 'UPDATE batch SET n = n + 1', key => 'patterns_ci', settings => '{$calm, \"batch_size\": 100, \"sleep\": \"1 day\"}')");
	$id = start_run($node, 'w');
	ok(wait_for($node, "SELECT batches = 1 FROM backfill_runs WHERE id = $id"), 'one batch');
	sql("SELECT backfill_pause($id)");
	nobody_left($id, 'paused');
	sql('DROP INDEX patterns_ci', $index, "SELECT backfill_alter($id, '{\"sleep\": 0}')", "SELECT backfill_resume($id)");
	return;
}

replaced('CREATE INDEX patterns_ci ON patterns (c DESC, i DESC NULLS LAST) INCLUDE (n)');
ok(wait_for_status($node, $id, 'completed'), 'it has the same order, either way');
is(processed('patterns'), '1000 x1', 'every row once');
replaced('CREATE INDEX patterns_ci ON patterns (c text_pattern_ops, i)');
ok(wait_for_status($node, $id, 'failed'), 'it has another order');
like(sql("SELECT error || ': ' || error_detail FROM backfill_runs WHERE id = $id"), qr/^the key of table public\.patterns has changed since the run began: Part 1 of the key was "column 1 .*" and is "column 1 .* order \d+"/, 'which is refused');

# ---------------------------------------------------------------------------
note 'what explain says';

sub explained { return sql("SELECT string_agg(l, E'\\n') FROM backfill_explain('w') l"); }
sub warned { return sql("SELECT string_agg(w ->> 'code', ' ' ORDER BY w ->> 'code') FROM backfill_explain('w', format => 'json') x, jsonb_array_elements(x::jsonb -> 'warnings') w"); }
sub define { my ($table, $key, $settings) = @_; return sql("SELECT backfill_define('w', '$table', \$s\$SELECT 1 FROM batch\$s\$, key => '$key', settings => '{$settings}')"); }
sql('ANALYZE groups');
define('groups', 'groups_tenant', '"target_batch_time": 0, "batch_size": 50');
like(explained(), qr/Key: groups_tenant, ascending, in groups of at most about 100 rows$/m, 'how large the largest group is');
is(warned(), 'large_group', 'and that it is larger than a batch');
is(sql("SELECT x::jsonb -> 'key' FROM backfill_explain('w', format => 'json') x"),
	'{"kind": "groups", "index": "groups_tenant", "columns": ["tenant"], "direction": "asc", "null_rows": 0, "largest_group": 100}', 'for programs, too');
define('groups', 'groups_tenant', '"target_batch_time": 0, "batch_size": 500');
is(sql("SELECT x::jsonb -> 'warnings' FROM backfill_explain('w', format => 'json') x"), '[]', 'no warning where it is not');
define('groups', 'groups_pkey', '"target_batch_time": 0');
like(explained(), qr/Key: groups_pkey, ascending$/m, 'a primary key as ever');
sql('ALTER TABLE nulls SET (autovacuum_enabled = off)', 'DELETE FROM nulls', 'ALTER TABLE nulls ALTER a DROP NOT NULL, ALTER b DROP NOT NULL', 'INSERT INTO nulls SELECT nullif(i % 4, 0) + i * 10, i FROM generate_series(1, 400) i');
define('nulls', 'nulls_ab', '"target_batch_time": 0, "batch_size": 50');
sql('DELETE FROM pg_statistic WHERE starelid = \'nulls\'::regclass');
is(warned(), 'estimate_guess key_unknown', 'nothing is known of the nulls');
sql('ANALYZE nulls');
like(explained(), qr/Key: nulls_ab, ascending, then about 100 rows with a null in it$/m, 'how many nulls');
is(warned(), 'null_range', 'and that they are more than a batch');

sql('DELETE FROM nulls WHERE a IS NOT NULL');
like(explained(), qr/^  Range: there is no row in it, but for those with a null in the key$/m, 'nothing but nulls');
my ($shown, $notices) = ('', '');
$node->psql('postgres', q{SELECT * FROM backfill_preview('w')}, stdout => \$shown, stderr => \$notices);
like("$shown$notices", qr/^\S+ NOTICE:  rows with a null in the key are not shown$/, 'preview says that it does not show them');

# preview tells rows that share a key from each other
sql(q{SELECT backfill_define('w', 'groups', $$UPDATE batch SET n = id$$, key => 'groups_tenant')});
is(sql(q{SELECT count(DISTINCT before ->> 'id') || ' ' || bool_and(before ->> 'id' = after ->> 'id' AND after ->> 'id' = after ->> 'n') FROM backfill_preview('w', rows => 9)}), '9 true', 'preview');

$node->stop;
done_testing();
