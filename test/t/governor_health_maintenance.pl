# Health: what rewrites the target or builds an index of it holds a run that has
# pause_for_maintenance.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('maintenance', conf => "deadlock_timeout = 100ms\n");
my $major = `postgres --version` =~ /\) (\d+)/ ? $1 : 0;
create_target($node, 't', 20_000);

# An index that takes as long as the lock is held, if its session says so.
sql(q{
	CREATE FUNCTION waits(id bigint) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF current_setting('test.wait', true) = 'on' THEN
			PERFORM pg_advisory_xact_lock(7);
		END IF;
		RETURN false;
	END $$;
	CREATE INDEX waiting ON t (id) WHERE waits(id)});
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0, "sleep": "50 ms", "pause_for_maintenance": true, "lock_timeout": "1 s", "max_attempts": 1000}');
my $id = start_run($node, 't');
my $moves = "SELECT throttled_by IS NULL AND batches > %s FROM backfill_runs WHERE id = $id";

my $gate = session($node);
my $worker = session($node);
$worker->query('SET test.wait = on');
my @commands = ('VACUUM FULL t', 'CLUSTER t USING t_pkey', 'CREATE INDEX CONCURRENTLY one ON t (n) WHERE waits(id)',
	'CREATE INDEX two ON t (n) WHERE waits(id)', 'REINDEX INDEX CONCURRENTLY waiting');
push @commands, 'REPACK t' if $major >= 19;
foreach my $command (@commands)
{
	my $batches = value($id, 'batches');
	ok(wait_for($node, sprintf($moves, $batches)), 'the run moves');
	$gate->query('SELECT pg_advisory_lock(7)');
	$worker->send($command);
	my ($name) = $command =~ /^(VACUUM FULL|CLUSTER|CREATE INDEX CONCURRENTLY|CREATE INDEX|REINDEX|REPACK)/;
	$name = 'REINDEX CONCURRENTLY' if $name eq 'REINDEX';
	ok(wait_for($node, "SELECT throttled_by ~ '^pause_for_maintenance: process @{[$worker->pid]} is at work on the target: $name\$'
		FROM backfill_runs WHERE id = $id"), "$command holds the run") or diag(value($id, 'status, throttled_by, error'));
	$gate->query('SELECT pg_advisory_unlock(7)');
	is($worker->query('SELECT 1'), '1', 'it is done');
}
ok(wait_for($node, sprintf($moves, value($id, 'batches'))), 'the run goes on');
is(sql(q{SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass AND NOT indisvalid}), '0', 'every index is valid');

sql("SELECT backfill_alter($id, '{\"pause_for_maintenance\": false}')");
$gate->query('SELECT pg_advisory_lock(7)');
$worker->send('CREATE INDEX CONCURRENTLY three ON t (n) WHERE waits(id)');
ok(wait_for($node, "SELECT count(*) = 1 FROM pg_stat_progress_create_index"), 'an index is built');
ok(wait_for($node, sprintf($moves, value($id, 'batches'))), 'without the setting nothing holds the run');
$gate->query('SELECT pg_advisory_unlock(7)');
is($worker->query('SELECT 1'), '1', 'it is done');
sql("SELECT backfill_stop($id)");
ok(settles($id, 'stopped'), 'the run is stopped');

$_->quit for $gate, $worker;
$node->stop;
done_testing();
