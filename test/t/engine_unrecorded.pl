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

# While there is an SQLSTATE in "trouble", neither statement nor bookkeeping
# gets through.
sql(q{
	CREATE TABLE trouble (code text);
	CREATE FUNCTION look() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		what text := (SELECT code FROM public.trouble);
	BEGIN
		IF what IS NOT NULL THEN
			RAISE EXCEPTION 'nothing can be written' USING ERRCODE = what;
		END IF;
	END $$;
	CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM public.look();
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
			PERFORM look();
		END IF;
		RETURN 1;
	END $$});

# A run that is in the middle of it.
sub begin_run
{
	my ($name) = @_;
	create_target($node, $name, $rows);
	define_increment($node, $name, '{"batch_size": 50, "target_batch_time": 0, "sleep": "20 ms", "workers": 2, "max_attempts": 2, "retry_delay": "20 ms"}',
		statement => 'UPDATE batch SET n = n + tries(id)');
	my $id = start_run($node, $name);
	ok(wait_for($node, "SELECT count(*) > 3 FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 'the run is at work');
	return $id;
}

sub check_run
{
	my ($id, $name) = @_;
	sql('DELETE FROM trouble');
	sql(qq(SELECT backfill_alter($id, '{"sleep": 0, "batch_size": 1000}')));
	ok(wait_for_status($node, $id, 'completed', through_end => 1), 'when there is room again, it completes');
	check_exactly_once($node, $id, $name, $rows, 'exactly once');
	is(sql("SELECT max(crashes) FROM backfill_batches WHERE run_id = $id"), 0, 'no batch is blamed');
	unlike(slurp_file($node->logfile), qr/backfill run $id failed/, 'the log does not say that it failed');
	return;
}

note 'what may go away by itself';
my $id = begin_run('filled');
sql("INSERT INTO trouble VALUES ('53100')");
ok(wait_for($node, 'SELECT last_value >= 10 FROM tries'), 'it is tried more often than it may be');
check_run($id, 'filled');
my @lines = grep { /run $id .*nothing can be written/ } split /\n/, slurp_file($node->logfile);
cmp_ok(scalar(@lines), '<=', 4, 'the log says little of it');

note 'what does not: the workers end';
$id = begin_run('broken');
my @pids = worker_pids($node, $id);
sql("INSERT INTO trouble VALUES ('P0001')");
ok(wait_for($node, 'SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN (' . join(', ', 0, @pids) . ')'), 'the workers are gone');
check_run($id, 'broken');

note 'what can be recorded, is, and then logged';
create_target($node, 'bad', 100);
define_increment($node, 'bad', '{}', statement => 'UPDATE batch SET n = n + 1 / (id - 500)::int');
$id = start_run($node, 'bad');
ok(wait_for_status($node, $id, 'failed'), 'the run fails');
like(slurp_file($node->logfile), qr/backfill run $id failed: division by zero/, 'so it says');

$node->stop;
done_testing();
