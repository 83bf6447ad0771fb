# What is joined with batch by the key is bounded by the range of the batch: which reads less, and neither
# changes what is done nor misleads the planner.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Pace;
use Test::More;

one_node('joins', conf => "autovacuum = off\nfsync = off\n");
my $even = '"target_batch_time": 0, "sleep": 0';

note 'an index of what is joined, also after the statement was analysed anew';
sql('CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL DEFAULT 0)', 'INSERT INTO t SELECT generate_series(1, 20000)',
	'CREATE TABLE look (k bigint, v int)', 'INSERT INTO look SELECT 1 + i * 7919 % 20000, 1 FROM generate_series(1, 40000) i', 'CREATE INDEX look_k ON look (k)');
sql("VACUUM ANALYZE $_") foreach qw(t look);
sql(qq{SELECT backfill_define('sums', 't', 'UPDATE batch SET n = s.v FROM (SELECT k, sum(v) AS v FROM look GROUP BY k) s WHERE s.k = batch.id',
	settings => '{"batch_size": 500, "target_batch_time": 0, "sleep": "20 ms", "set": {"enable_seqscan": "off", "enable_bitmapscan": "off"}}')});
my $run = sql("SELECT backfill_start('sums')");
ok(wait_for($node, goes_on($run, 5)), 'the run is under way');
sql('ALTER TABLE look ADD x int', 'ANALYZE look');
ok(wait_for_status($node, $run, 'completed'), 'it is completed');
is(sql('SELECT count(*), min(n), max(n) FROM t'), '20000|2|2', 'every row has its sum');
ok(wait_for($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'backfill run $run')"), 'its worker has left');
my $read = sql("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'look_k'");
cmp_ok($read, '>=', 40_000, 'the index was read');
cmp_ok($read, '<', 80_000, "by each batch in its range: $read entries of 40000 in all, in 40 batches");

note 'old statistics';
sql('CREATE TABLE users (tenant int, id int, email text, n int, PRIMARY KEY (tenant, id))', 'CREATE TABLE mails (tenant int, email text, v int)');
sql(q(INSERT INTO users SELECT i / 3000, i, 'e' || i, 0 FROM generate_series(1, 60000) i), q(INSERT INTO mails SELECT i / 3000, 'e' || i, 1 FROM generate_series(1, 50000) i));
sql("ANALYZE $_") foreach qw(users mails);
sql(q(INSERT INTO mails SELECT i / 3000, 'e' || i, 1 FROM generate_series(50001, 60000) i));
foreach my $statement ('UPDATE batch SET n = mails.v FROM mails WHERE mails.tenant = batch.tenant AND mails.email = batch.email',
	'UPDATE batch SET n = 1 WHERE EXISTS (SELECT FROM mails WHERE mails.tenant = batch.tenant AND mails.email = batch.email)')
{
	sql(qq{SELECT backfill_define('mails', 'users', '$statement', settings => '{"batch_size": 3000, $even, "from": "17"}')});
	my $plan = sql(q{SELECT string_agg(l, E'\n') FROM backfill_explain('mails') l});
	like($plan, qr/backfill\.within\(/, 'the range is said to hold');
	like($plan, qr/Hash (Semi |Right Semi )?Join/, 'and the join is one that does not depend on how few rows there seem to be');
	unlike($plan, qr/Nested Loop/, 'and no nested loop');
}

note 'a foreign table';
my ($host, $port) = ($node->host, $node->port);
sql('CREATE EXTENSION postgres_fdw', "CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres')",
	'CREATE USER MAPPING FOR CURRENT_USER SERVER here', 'CREATE TABLE texts (l text, v int)', 'INSERT INTO texts SELECT i, 1 FROM generate_series(1, 20000) i',
	q{CREATE FOREIGN TABLE numbers (l bigint, v int) SERVER here OPTIONS (table_name 'texts')},
	'CREATE TABLE parted (l bigint, v int) PARTITION BY RANGE (l)', 'CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10001)',
	q{CREATE FOREIGN TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10001) TO (20001) SERVER here OPTIONS (table_name 'texts')}, 'INSERT INTO parted_1 SELECT i, 1 FROM generate_series(1, 10000) i');
foreach my $case ([ 'numbers', 'numbers' ], [ 'a sum of it', '(SELECT l, sum(v) AS v FROM numbers GROUP BY l)' ], [ 'a table with a partition elsewhere', 'parted' ], [ 'a sum in a WITH', 'summed' ])
{
	my ($name, $from) = @$case;

	sql('UPDATE t SET n = 0');
	sql(qq{SELECT backfill_define('foreign', 't', 'WITH summed AS (SELECT l, sum(v) AS v FROM numbers GROUP BY l) UPDATE batch SET n = s.v FROM $from s WHERE s.l = batch.id', settings => '{"batch_size": 5000, $even}')});
	unlike(sql(q{SELECT string_agg(l, ' ') FROM backfill_explain('foreign') l}), qr/within/, "$name is not bounded") if $from ne 'parted';
	wait_for_status($node, start_run($node, 'foreign'), 'completed');
	is(sql('SELECT count(*) FROM t WHERE n = 1'), 20_000, "$name: its server, where the column has another type, is not asked to compare");
}

$node->stop;
done_testing();
