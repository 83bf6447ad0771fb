# The wall clock of the server is set forward and back while runs wait for a time.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;

# So long may it take, on a loaded machine, until somebody looks at the clock, who
# does at least once a minute.  What waits by the old clock waits for hours.
use constant SOON => 150;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $clock = "$dir/clock";

sub set_clock
{
	my ($seconds) = @_;
	open(my $file, '>', "$clock.new") or die "$clock.new: $!";
	print $file $seconds;
	close($file) or die "$clock.new: $!";
	rename("$clock.new", $clock) or die "$clock: $!";
	return;
}

plan skip_all => 'no C compiler to make a clock with'
  if system('cc', '-shared', '-fPIC', '-o', "$dir/clock.so", dirname(__FILE__) . '/../perl/BackfillTest/clock.c') != 0;

one_node('clock');
set_clock(0);
{
	local $ENV{LD_PRELOAD} = "$dir/clock.so";
	local $ENV{BACKFILL_CLOCK} = $clock;
	$node->restart;
}
my $machine = time;
set_clock(7200);
ok(abs(sql('SELECT EXTRACT(epoch FROM clock_timestamp())::bigint') - $machine - 7200) < 600, 'the clock of the server can be set');
set_clock(0);
create_step($node);

# ---------------------------------------------------------------------------
note 'set forward';

create_target($node, 't', 20);
define_increment($node, 't', '{"batch_size": 5, "target_batch_time": "off", "sleep": 0}');
my $run = sql(q{SELECT backfill_start('t', start_at => clock_timestamp() + interval '2 hours')});
ok(wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'}),
	'nobody looks after a run whose time has not come');
is(value($run, 'status'), 'pending', 'it is pending');
set_clock(7230);
ok(wait_for($node, "SELECT status = 'completed' FROM backfill_runs WHERE id = $run", timeout => SOON),
	'when the clock is set to its time, it begins in about a minute');
check_exactly_once($node, $run, 't', 20, 'exactly once after the clock was set forward');

# ---------------------------------------------------------------------------
note 'set back, while a batch waits to be tried again';

create_target($node, 'aside', 20);
define_increment($node, 'aside', '{"batch_size": 5, "target_batch_time": "off", "sleep": 0, "retry_delay": "40s"}',
	statement => 'UPDATE batch SET n = n + step(id)');
sql(q{INSERT INTO behave VALUES (100, 'once')});
$run = start_run($node, 'aside');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_batches WHERE run_id = $run AND retry_at > clock_timestamp()"),
	'a batch is put aside');
set_clock(0);
ok(wait_for($node, "SELECT status = 'completed' FROM backfill_runs WHERE id = $run", timeout => SOON),
	'it is tried again, and not two hours later');
check_exactly_once($node, $run, 'aside', 20, 'exactly once after the clock was set back');
sql('DELETE FROM behave');

# ---------------------------------------------------------------------------
note 'set back, while a batch is at work';

create_target($node, 'held', 20);
define_increment($node, 'held', '{"batch_size": 5, "target_batch_time": "off", "sleep": 0}',
	statement => 'UPDATE batch SET n = n + step(id)');
set_clock(7200);
sql(q{INSERT INTO behave VALUES (100, 'gate')});
$run = start_run($node, 'held');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND state = 'running' AND batch = 2"),
	'a batch is at work');
set_clock(0);
my ($worker) = worker_pids($node, $run);
sql("SELECT pg_terminate_backend($worker)");
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $run AND pid <> $worker AND state = 'running'", timeout => SOON),
	'a worker that is gone is replaced at once');
sql('DELETE FROM behave');
ok(wait_for($node, "SELECT status = 'completed' FROM backfill_runs WHERE id = $run", timeout => SOON),
	'and the run goes on');
check_exactly_once($node, $run, 'held', 20, 'exactly once over that');

$node->stop;
done_testing();
