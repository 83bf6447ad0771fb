# share_by: batches in turn among the values of a column, for clients and for workers
# inside, with weights and with a limit for each; through a crash, every row once.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;

seed_random();
one_node('main', conf => "backfill.max_workers = 8\nmax_worker_processes = 20");

# Tenants with 2, 4, 8, ... rows, in an order that has nothing to do with it.
sub tenants
{
	my ($table, $many) = @_;
	sql("CREATE TABLE $table (tenant text, id int, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id));
		INSERT INTO $table (tenant, id) SELECT chr(96 + $many + 1 - t), i FROM generate_series(1, $many) t, generate_series(1, 1 << t) i;
		ANALYZE $table");
	return;
}
sub define_shares
{
	my ($name, $settings, $statement) = @_;
	return sql("SELECT backfill_define('$name', '$name', " . (defined $statement ? "'$statement'" : 'NULL') . ", settings => '{\"share_by\": \"tenant\", $settings}')");
}

# --- what is refused ---
sql('CREATE TABLE plain (id int PRIMARY KEY, tenant text)');
like(refusal(q{SELECT backfill_define('p', 'plain', NULL, settings => '{"share_by": "tenant"}')}),
	qr/22023: the setting "share_by" needs a key that begins with tenant\nHINT:  CREATE UNIQUE INDEX CONCURRENTLY ON public\.plain \(tenant, id\), and name that index in "key"/,
	'without an index it says which to create');
like(refusal(q{SELECT backfill_define('p', 'plain', NULL, settings => '{"weights": {"a": 2}}')}), qr/22023: backfill setting "weights" needs the setting "share_by"/, 'weights of what');
like(refusal(q{SELECT backfill_define('p', 'plain', NULL, settings => '{"share_by": "tenant", "weights": {"a": 0}}')}), qr/22023: invalid value for backfill setting "weights"/, 'a weight is above zero');
like(refusal(q{SELECT backfill_define('p', 'plain', NULL, settings => '{"share_by": "tenant", "share_rate_limit": "many"}')}), qr/22023: invalid value for backfill setting "share_rate_limit"/, 'and a limit a limit');

# --- in turn ---
tenants('t', 10);
define_shares('t', '"batch_size": 10');
my $run = start_claims('t');
my $client = client();
my $all = change_all($client, $run, 't');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(sql('SELECT count(*), min(n), max(n) FROM t'), '2046|1|1', 'every row is done once');
is(sql("SELECT count(*), sum(rows), bool_and(cut) FROM backfill_shares WHERE run_id = $run"), '10|2046|t', 'backfill_shares has the tenants');

# when a tenant has its last batch, the largest one has had as many rows as that, and one batch more
is(sql("WITH b AS (SELECT s.value, number, rows_affected, sum(rows_affected) OVER (PARTITION BY s.value ORDER BY number) AS had
		FROM backfill.batch b JOIN backfill.share s ON s.run_id = b.run_id AND s.id = b.share WHERE b.run_id = $run),
	ends AS (SELECT value, max(number) AS number, sum(rows_affected) AS rows FROM b GROUP BY value)
	SELECT count(*) FROM ends e WHERE e.value <> 'a' AND coalesce((SELECT max(had) FROM b WHERE b.value = 'a' AND b.number < e.number), 0) > e.rows + 10"),
	0, 'who has few rows is done before who has many is far');

# --- weights ---
tenants('w', 2);
sql("INSERT INTO w (tenant, id) SELECT t, i FROM unnest('{x,y}'::text[]) t, generate_series(1, 300) i");
define_shares('w', '"batch_size": 5, "weights": {"x": 3}');
$run = start_claims('w');
change_all($client, $run, 'w');
is(sql("WITH b AS (SELECT s.value, number, sum(rows_affected) OVER (PARTITION BY s.value ORDER BY number) AS had
		FROM backfill.batch b JOIN backfill.share s ON s.run_id = b.run_id AND s.id = b.share WHERE b.run_id = $run)
	SELECT max(had) FROM b WHERE value = 'y' AND number < (SELECT max(number) FROM b WHERE value = 'x')"), 100, 'three for one');

# --- a limit for each ---
tenants('l', 8);
define_shares('l', '"batch_size": 10, "share_rate_limit": "40 per s"');
$run = start_claims('l');
change_all($client, $run, 'l');
is(sql('SELECT count(*), min(n), max(n) FROM l'), '510|1|1', 'with a limit every row is done once');
is(sql("SELECT count(*) FROM (SELECT sum(rows_affected) OVER (PARTITION BY share ORDER BY finished_at RANGE BETWEEN '1 s' PRECEDING AND CURRENT ROW) AS rows
	FROM backfill.batch WHERE run_id = $run) w WHERE rows > 40"), 0, 'none has had more in any window');
cmp_ok(sql("SELECT count(DISTINCT share) FROM backfill.batch WHERE run_id = $run AND finished_at < (SELECT min(claimed_at) FROM backfill.batch WHERE run_id = $run) + interval '1 s'"),
	'>=', 7, 'and none of them held up the others');

# a batch is no larger than the limit
tenants('m', 5);
define_shares('m', '"batch_size": 1000, "share_rate_limit": "8 per s"');
$run = start_claims('m');
my ($small) = claim_batch($client, $run);
cmp_ok($small->{rows}, '<=', 8, 'a batch has no more rows than its value may have in a window');
sql("SELECT backfill_stop($run, true)");

# --- a bound ---
tenants('x', 5);
define_shares('x', '"batch_size": 10, "max_batches": 3');
$run = start_claims('x');
foreach (1 .. 3)
{
	my ($batch) = claim_batch($client, $run);
	ask($client, 'BEGIN;' . change($batch, 'x') . ';' . complete($batch) . ';COMMIT');
}
ok(wait_for_status($node, $run, 'paused'), 'after max_batches it pauses itself, though values have rows left');
sql("SELECT backfill_alter($run, '{\"max_batches\": null}'); SELECT backfill_resume($run)");
change_all($client, $run, 'x');
is(sql('SELECT count(*), min(n), max(n) FROM x'), '62|1|1', 'and every row is done once');

# --- inside, with several workers, and a crash in between ---
tenants('i', 11);
define_shares('i', '"batch_size": 20, "target_batch_time": 0, "sleep": "5 ms", "workers": 3', 'UPDATE batch SET n = n + 1');
$run = sql("SELECT backfill_start('i')");
ok(wait_for($node, "SELECT batches > 40 FROM backfill_runs WHERE id = $run"), 'workers inside take part');
ok(kill_postmaster($node), 'the server is killed');
$node->start;
ok(wait_for_status($node, $run, 'completed'), 'the run goes on, and completes');
is(sql('SELECT count(*), min(n), max(n) FROM i'), '4094|1|1', 'every row is done once');
is(sql("SELECT count(*) FROM (SELECT share FROM backfill.batch WHERE run_id = $run GROUP BY share) s"), 11, 'by their tenants');

# --- both ---
tenants('b', 10);
define_shares('b', '"batch_size": 10, "target_batch_time": 0, "sleep": "20 ms", "workers": 2, "outside": true', 'UPDATE batch SET n = n + 1');
$run = sql("SELECT backfill_start('b')");
ok(wait_for($node, "SELECT conditions IS NOT NULL FROM backfill.run WHERE id = $run"), 'a run for both');
$client = client();
$all = change_all($client, $run, 'b');
cmp_ok(scalar @{ $all->{claimed} }, '>', 0, 'clients have had some');
ok(wait_for_status($node, $run, 'completed'), 'it completes');
is(sql('SELECT count(*), min(n), max(n) FROM b'), '2046|1|1', 'every row is done once');

# --- an expression, which may be null; inside and outside ---
sql("CREATE TABLE e (id int PRIMARY KEY, tag jsonb, n int NOT NULL DEFAULT 0);
	INSERT INTO e SELECT i, CASE WHEN i % 10 < 8 THEN jsonb_build_object('owner', (ARRAY['Ann', 'BOB', 'cleo'])[1 + i % 3]) END FROM generate_series(1, 600) i;
	ANALYZE e");
like(refusal(q{SELECT backfill_define('e', 'e', NULL, settings => '{"share_by": "lower(tag ->> ''owner'')"}')}),
	qr/22023: the setting "share_by" needs a key that begins with lower\(tag ->> 'owner'\)\nHINT:  CREATE UNIQUE INDEX CONCURRENTLY ON public\.e \(\(lower\(tag ->> 'owner'\)\), id\), and name that index in "key"/, 'an expression needs an index, too');
like(refusal(q{SELECT backfill_define('e', 'e', NULL, settings => '{"share_by": "lower(tag"}')}), qr/42601: syntax error/, 'nonsense is a syntax error');
like(refusal(q{SELECT backfill_define('e', 'e', NULL, settings => '{"share_by": "owner"}')}), qr/42703: column "owner" does not exist/, 'and a column has to be there');
sql("CREATE UNIQUE INDEX e_owner ON e (lower(tag ->> 'owner'), id)");
foreach my $statement ('NULL', q{'UPDATE batch SET n = n + 1'})
{
	sql("UPDATE e SET n = 0");
	sql(qq{SELECT backfill_define('e', 'e', $statement, key => 'e_owner', settings => '{"share_by": "lower(tag ->> ''owner'')", "batch_size": 7, "target_batch_time": 0, "sleep": 0}')});
	$run = sql("SELECT backfill_start('e')");
	if ($statement eq 'NULL')
	{
		wait_for($node, "SELECT conditions IS NOT NULL FROM backfill.run WHERE id = $run");
		change_all($client, $run, 'e');
	}
	ok(wait_for_status($node, $run, 'completed'), "shared by an expression: $statement");
	is(sql('SELECT count(*), min(n), max(n) FROM e'), '600|1|1', 'every row is done once');
	is(sql("SELECT string_agg(value, ' ' ORDER BY value) FROM backfill_shares WHERE run_id = $run"), 'ann bob cleo', 'by its values, those without one come last');
}
like(refusal(q{SELECT backfill_define('e', 'e', 'UPDATE batch SET tag = NULL', key => 'e_owner', settings => '{"share_by": "lower(tag ->> ''owner'')"}')}),
	qr/0A000: the statement of a backfill cannot change the key column/, 'what the expression is about cannot be changed');
sql("UPDATE e SET n = 0, tag = NULL");
sql(q{SELECT backfill_define('e', 'e', NULL, key => 'e_owner', settings => '{"share_by": "lower(tag ->> ''owner'')", "batch_size": 100}')});
$run = start_claims('e');
change_all($client, $run, 'e');
is(sql('SELECT count(*), min(n), max(n) FROM e'), '600|1|1', 'all without a value');

# --- descending, one tenant, none ---
sql("CREATE TABLE one (tenant text, id int, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id)); INSERT INTO one SELECT 'only', i FROM generate_series(1, 55) i");
sql(q{SELECT backfill_define('one', 'one', NULL, direction => 'desc', settings => '{"share_by": "tenant", "batch_size": 10}')});
$run = start_claims('one');
change_all($client, $run, 'one');
is(sql("SELECT count(*), min(n), max(n) FROM one"), '55|1|1', 'one tenant, descending');
sql('TRUNCATE one');
$run = start_claims('one');
ok(wait_for_status($node, $run, 'completed'), 'no rows, no tenants');

$node->stop;
done_testing();
