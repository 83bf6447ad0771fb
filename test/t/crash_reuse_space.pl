# Pages are pruned, and their space is used again, while the whole server is killed: what is on
# disk is sound each time it comes back, narrow rows and such as are stored out of line, with a
# secondary index, under writes of the foreground, and every row was changed once.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(usleep);

my $kills = full_length() ? 20 : 3;
my %rows = full_length() ? (narrow => 500_000, wide => 100_000) : (narrow => 60_000, wide => 9_000);

seed_random();
one_node('main', conf => "autovacuum = off\n");
sql('CREATE EXTENSION amcheck');

# How many pages the table has, with what is stored out of line.
sub pages { return sql("SELECT pg_table_size('$_[0]') / 8192"); }

# Every page of the table and of its indexes, and of those of its TOAST table.
sub check_pages
{
	my ($table, $when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(sql("SELECT string_agg(format('block %s: %s', blkno, msg), E'\\n') FROM verify_heapam('$table', check_toast => true)"),
		'', "$table, $when: the heap is sound");
	is( sqlstate($node, "SELECT bt_index_check(indexrelid, indrelid = '$table'::regclass) FROM pg_index WHERE indrelid IN
			(SELECT unnest(ARRAY[oid, nullif(reltoastrelid, 0)]) FROM pg_class WHERE oid = '$table'::regclass)"),
		'00000', "$table, $when: so are its indexes");
	return;
}

# A table of that kind, its definition, and the statement's effect beside "n".
sub make_table
{
	my ($kind) = @_;

	create_target($node, $kind, $rows{$kind});
	sql("CREATE INDEX ON $kind (f)");
	if ($kind eq 'wide')
	{
		sql('ALTER TABLE wide ALTER pad SET STORAGE EXTERNAL', "UPDATE wide SET pad = repeat('x', 4000)");
		sql('VACUUM FULL wide');
	}
	sql("VACUUM ANALYZE $kind");
	define_increment($node, $kind, '{"batch_size": 200, "target_batch_time": 0, "sleep": "2 ms", "workers": 2, "retry_delay": "50 ms"}',
		statement => 'UPDATE batch SET n = n + 1, pad = upper(pad)');
	return;
}

foreach my $kind ('narrow', 'wide')
{
	my $rows = $rows{$kind};

	make_table($kind);
	my $before = pages($kind);
	my $foreground = foreground_start($node, $kind, $rows, rate => 50);
	my $id = start_run($node, $kind);

	foreach my $kill (1 .. $kills)
	{
		my $part = ($kill - 0.5 + rand(0.4)) / ($kills + 0.5);
		ok(wait_for($node, 'SELECT rows_scanned >= ' . int($rows * $part) . " OR status = 'completed' FROM backfill_runs WHERE id = $id", interval => 10_000),
			sprintf('%s, kill %d after %.0f %%', $kind, $kill, 100 * $part));
		usleep(rand(30_000));
		kill_server($node);
		foreground_stop($foreground);
		$node->start;
		check_pages($kind, "after kill $kill");
		$foreground = foreground_start($node, $kind, $rows, rate => 50);
	}
	ok(wait_for_status($node, $id, 'completed'), "$kind: the run completes");
	foreground_stop($foreground);
	wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'");
	check_exactly_once($node, $id, $kind, $rows, "$kind: every row was changed once");
	is(sql("SELECT count(*) FROM $kind WHERE NOT foreground AND pad <> repeat('X', length(pad))"), '0', "$kind: and is what it should be");
	check_pages($kind, 'at the end');
	cmp_ok(sql("SELECT pages_pruned FROM backfill_runs WHERE id = $id"), '>', 0, "$kind: pages were pruned");

	# each kill loses what was noted of the last batches, and what the free space map knew
	cmp_ok(pages($kind) / $before, '<', 1.8, sprintf('%s: the table is %.2f times as large', $kind, pages($kind) / $before));
}

unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/could not prune|PANIC/, 'nothing went wrong');

$node->stop;
done_testing();
