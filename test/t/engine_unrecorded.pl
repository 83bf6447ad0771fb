# Nothing can be written down for a while, because the disk is full for example:
# a run does not say that it has failed before that is recorded, and a worker
# that ends for it has not been brought down by its batch.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

one_node('main');
my $rows = 20_000;

# While there are rows in "trouble", neither statement nor bookkeeping about what
# they name gets through.
sql(q{
	CREATE TABLE trouble (about text);
	CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM public.trouble WHERE about = TG_TABLE_NAME) THEN
			RAISE EXCEPTION 'nothing can be written' USING ERRCODE = 'disk_full';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER stumble BEFORE INSERT OR UPDATE ON backfill.run FOR EACH ROW EXECUTE FUNCTION stumble();
	CREATE TRIGGER stumble BEFORE INSERT OR UPDATE ON backfill.batch FOR EACH ROW EXECUTE FUNCTION stumble();
	CREATE TRIGGER stumble BEFORE INSERT OR UPDATE ON backfill.event FOR EACH ROW EXECUTE FUNCTION stumble();
	CREATE SEQUENCE tries;
	CREATE FUNCTION tries(key bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM trouble) THEN
			PERFORM nextval('tries');
			RAISE EXCEPTION 'nothing can be written' USING ERRCODE = 'disk_full';
		END IF;
		RETURN 1;
	END $$});

# A run that is in the middle of it.
sub begin_run
{
	my ($name) = @_;
	create_target($node, $name, $rows);
	define_increment($node, $name, '{"batch_size": 50, "target_batch_time": 0, "sleep": "100 ms", "workers": 2, "max_attempts": 2, "retry_delay": "20 ms"}',
		statement => 'UPDATE batch SET n = n + tries(id)');
	my $id = start_run($node, $name);
	ok(wait_for($node, "SELECT count(*) > 3 FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 'the run is at work');
	return $id;
}

sub check_run
{
	my ($id, $name) = @_;
	sql('DELETE FROM trouble');
	# unless it is over already
	query($node, qq(SELECT backfill_alter($id, '{"sleep": 0, "batch_size": 1000}')));
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'when there is room again, it completes');
	check_exactly_once($node, $id, $name, $rows, 'exactly once');
	is(sql("SELECT max(crashes) FROM backfill_batches WHERE run_id = $id"), 0, 'no batch is blamed');
	unlike(slurp_file($node->logfile), qr/backfill run $id failed/, 'the log does not say that it failed');
	return;
}

note 'what may go away by itself';
my $id = begin_run('filled');
sql("INSERT INTO trouble VALUES ('run'), ('batch'), ('event')");
ok(wait_for($node, 'SELECT last_value >= 10 FROM tries'), 'it is tried more often than it may be');
check_run($id, 'filled');
my @lines = grep { /run $id .*nothing can be written/ } split /\n/, slurp_file($node->logfile);
cmp_ok(scalar(@lines), '<=', 4, 'the log says little of it');

note 'a worker that is to leave ends without having said so';
$id = begin_run('broken');
my @pids = worker_pids($node, $id);
sql("INSERT INTO trouble VALUES ('batch')");
ok(wait_for($node, "SELECT last_value > @{[sql('SELECT last_value FROM tries')]} FROM tries"), 'the batch meets it');
sql("SELECT backfill_stop($id, true)");
ok(wait_for($node, 'SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN (' . join(', ', 0, @pids) . ')'), 'the workers are gone');
cmp_ok(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'running'"), '>', 0, 'with a batch in hand');
sql('DELETE FROM trouble');
ok(settles($id, 'stopped'), 'when there is room again, the run stops');
is(sql("SELECT max(crashes) FROM backfill_batches WHERE run_id = $id"), 0, 'no batch is blamed');
sql("SELECT backfill_resume($id)");
check_run($id, 'broken');

note 'what can be recorded, is, and then logged';
create_target($node, 'bad', 100);
define_increment($node, 'bad', '{}', statement => 'UPDATE batch SET n = n + 1 / (id - 500)::int');
$id = start_run($node, 'bad');
ok(wait_for_status($node, $id, 'failed'), 'the run fails');
like(slurp_file($node->logfile), qr/backfill run $id failed: division by zero/, 'so it says');

$node->stop;
done_testing();
