# backfill_explain as JSON, for a job that sets thresholds; what it says of the
# cost of a batch as such, of bad rows and of hundreds of partitions.

use strict;
use warnings;

use BackfillTest;
use JSON::PP qw(decode_json);
use Test::More;

my $node = make_node('main', conf => "autovacuum = off\n");

# The document, and how often each code is in its warnings.
sub explained
{
	my ($name, $measure) = @_;
	my $text = query_ok($node, "SELECT * FROM backfill_explain('$name', measure => $measure, format => 'json')");
	my $document = eval { decode_json($text) };
	my %codes;

	ok($document, "what explain says of $name is JSON");
	$codes{ $_->{code} }++ foreach @{ $document->{warnings} };
	return ($document, \%codes);
}

query_ok($node, q{
	CREATE TABLE t (id int PRIMARY KEY, n int, note text);
	INSERT INTO t SELECT i, 0, '"' || chr(9) || i FROM generate_series(1, 100000) i;
	CREATE TABLE lookup AS SELECT i::text AS code, i AS value, repeat('x', 50) AS filler FROM generate_series(1, 300000) i;
	CREATE TABLE parted (id int, region int, n int DEFAULT 0, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
	CREATE TABLE days (id int PRIMARY KEY, n int DEFAULT 0) PARTITION BY RANGE (id);
	DO $$
	BEGIN
		FOR i IN 1 .. 200 LOOP
			EXECUTE format('CREATE TABLE parted_%s PARTITION OF parted FOR VALUES IN (%s)', i, i);
			EXECUTE format('CREATE TABLE days_%s PARTITION OF days FOR VALUES FROM (%s) TO (%s)', i, (i - 1) * 200, i * 200);
		END LOOP;
	END $$;
	INSERT INTO parted SELECT i, 1 + i % 200 FROM generate_series(1, 40000) i;
	INSERT INTO days SELECT i FROM generate_series(1, 39999) i;
	SELECT backfill_define('plain', 't', $$UPDATE batch SET note = note || '"\'$$, scope => 'n = 0');
	SELECT backfill_define('joined', 't', 'UPDATE batch SET n = value FROM lookup WHERE code = batch.id::text', settings => '{"batch_size": 500}');
	SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1 / (id - 50000) / (id - 1)', settings => '{"on_error": "skip"}');
	SELECT backfill_define('parted', 'parted', 'UPDATE batch SET n = 1', settings => '{"batch_size": 100}');
	SELECT backfill_define('days', 'days', 'UPDATE batch SET n = 1', settings => '{"batch_size": 100}')});
query_ok($node, 'VACUUM ANALYZE');

# --- The document ------------------------------------------------------------

my ($plain) = explained('plain', 'false');
is($plain->{measured}, undef, 'nothing is measured unless asked for');
is($plain->{projected}, undef, 'and nothing projected');
is_deeply($plain->{range}, { from => '1', to => '100000' }, 'the range');

my ($measured, $codes) = explained('plain', 'true');
is(join(' ', sort keys %$measured), join(' ', sort keys %$plain), 'the keys are the same with measure');
cmp_ok($measured->{projected}{$_}, '>', 0, "projected: $_") foreach qw(seconds wal_bytes batches batch_size workers);
cmp_ok($measured->{projected}{growth_bytes}, '>=', 0, 'projected: growth_bytes');
cmp_ok($measured->{projected}{growth_without_reuse_bytes}, '>=', $measured->{projected}{growth_bytes}, 'which is no more than without reuse_space');
cmp_ok($measured->{measured}{$_}, '>', 0, "measured: $_") foreach qw(batches rows rows_per_second wal_bytes_per_row longest_ms);
cmp_ok($measured->{rows}{in_scope}, '>', 90000, 'measured: rows in scope');
ok($measured->{rows}{in_scope_measured}, 'which is said');
is($codes->{fixed_cost}, undef, 'nothing of an UPDATE along the key is fixed');

# Where a page has more rows than half of its line pointers, not all new versions find one on a page that was
# cleared; what is foreseen is about what comes.
foreach my $width (0, 100)
{
	query_ok($node, qq{CREATE TABLE width_$width (id int PRIMARY KEY, n int @{[$width ? ', pad text' : '']});
		INSERT INTO width_$width SELECT i, 0 @{[$width ? ", repeat('x', $width)" : '']} FROM generate_series(1, 200000) i;
		SELECT backfill_define('width_$width', 'width_$width', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 2000, "target_batch_time": 0, "sleep": 0}')});
	query_ok($node, "VACUUM ANALYZE width_$width");
	my ($foreseen) = explained("width_$width", 'true');
	my $id = start_run($node, "width_$width");

	wait_for_status($node, $id, 'completed');
	my $grown = query_ok($node, "SELECT table_growth + index_growth FROM backfill_runs WHERE id = $id");
	my $ratio = $foreseen->{projected}{growth_bytes} / $grown;
	cmp_ok($ratio, '>', 0.6, sprintf('%d bytes grow by %d, foreseen is %.2f times that', $width, $grown, $ratio));
	cmp_ok($ratio, '<', 1.6, 'and not more');
}

# As a job would do it.
my $job = q{SELECT (backfill_explain('plain', measure => true, format => 'json'))::jsonb -> 'projected' ->> 'seconds'};
like(query_ok($node, $job), qr/^\d+\.\d+$/, 'seconds as a number');
is(query_ok($node, "SELECT ($job)::numeric < 3600"), 't', 'within the threshold');
my ($status, undef, $errors) = query($node, q{
	DO $$
	DECLARE
		e jsonb := backfill_explain('plain', measure => true, format => 'json')::jsonb;
	BEGIN
		IF (e #>> '{projected,wal_bytes}')::numeric > 1000 THEN
			RAISE EXCEPTION 'too much WAL';
		END IF;
	END$$});
isnt($status, 0, 'a job fails above its threshold');
like($errors, qr/too much WAL/, 'and says so');

# --- What is fixed -----------------------------------------------------------

my $joined;
foreach my $try (1 .. 3)		# another test may take the processor meanwhile
{
	($joined, $codes) = explained('joined', 'true');
	last if $codes->{fixed_cost};
}
is($codes->{sequential_scan}, 1, 'the scan is named');
is($codes->{fixed_cost}, 1, 'and what a batch costs as such');
my ($fixed) = grep { $_->{code} eq 'fixed_cost' } @{ $joined->{warnings} };
like($fixed->{message}, qr/^planning and starting a batch takes \d+ of \d+ ms: it reads all of table lookup$/, 'with the reason');
cmp_ok($joined->{measured}{fixed_ms}, '>', $joined->{measured}{statement_ms} / 3, 'fixed_ms');
cmp_ok($joined->{measured}{planning_ms}, '<', $joined->{measured}{fixed_ms}, 'planning_ms is a part of it');
my ($scan) = grep { $_->{code} eq 'sequential_scan' } @{ $joined->{warnings} };
is($scan->{table}, 'lookup', 'of which table');
like($scan->{message}, qr/of about $joined->{batches} batches/, 'what the scans come to follows from the projected batches');

query_ok($node, 'CREATE INDEX ON lookup (code)');
(undef, $codes) = explained('joined', 'true');
is_deeply($codes, {}, 'with an index there is nothing to warn of');

# --- A bad row ---------------------------------------------------------------

my ($bad) = explained('bad', 'true');
my ($error) = grep { $_->{code} eq 'batch_error' } @{ $bad->{warnings} };
is($error->{message}, 'a batch failed: division by zero, which on_error skip would skip', 'the bad row is said');
like($error->{hint}, qr/^One of the rows to blame has the key 1\. /, 'which it is');
is($bad->{measured}{rows}, $bad->{measured}{processed}, 'what was measured went well');
cmp_ok($bad->{projected}{seconds}, '>', 0, 'and all of it is projected');
query_ok($node, q{SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1 / (id - 1)')});
is(sqlstate($node, q{SELECT backfill_explain('bad', measure => true, format => 'json')}), '22012',
	'with on_error fail it is an error');
is(query_ok($node, 'SELECT count(*) FROM t WHERE n <> 0'), 0, 'nothing is left of it');

# --- Hundreds of partitions --------------------------------------------------

foreach my $measure ('false', 'true')
{
	foreach my $name ('parted', 'days')
	{
		my @lines = split(/\n/, query_ok($node, "SELECT * FROM backfill_explain('$name', measure => $measure)"));

		cmp_ok(scalar @lines, '<', 60, "explain of $name with 200 partitions, measure => $measure, is short");
		cmp_ok((sort { $b <=> $a } map { length } @lines)[0], '<', 1000, 'and so are its lines');
	}
}
my ($days, $of_days) = explained('days', 'false');
is_deeply($days->{plans}{partitions}, { all => 200, left => 1 }, 'one of them is left where the range tells');
is($of_days->{unpruned_partitions}, undef, 'which is as it should be');
my ($parted, $of_parted) = explained('parted', 'false');
is_deeply($parted->{plans}{partitions}, { all => 200, left => 200 }, 'all of them where it does not');
is($of_parted->{unpruned_partitions}, 1, 'which explain warns of');

$node->stop;
done_testing();
