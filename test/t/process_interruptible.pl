# CREATE, ALTER and DROP DATABASE get through although a run is at work in the
# database, from 19 on, and the run goes on afterwards.  Before, they fail.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Databases;
use Test::More;

my $major = `postgres --version` =~ /\) (\d+)/ ? $1 : 0;
plan skip_all => 'the processes of a database can be ended for it from 19 on' if $major < 19;

databases('one');
sql(q{SELECT backfill_define('u', 'u', 'UPDATE batch SET n = n + 1',
	settings => '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 hour"}')}, 'one');

# A run that sleeps between two batches for longer than any of this takes.
my $id = start_run($node, 'u', db => 'one');
my $at_work = "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'";
my $both = q{SELECT count(DISTINCT backend_type) = 2 FROM pg_stat_activity
	WHERE datname = '%s' AND backend_type IN ('backfill scheduler', 'backfill worker')};

my $db = 'one';
foreach (
	['CREATE DATABASE copy TEMPLATE one', 'one'],
	['ALTER DATABASE one RENAME TO another', 'another'])
{
	my ($command, $then) = @$_;
	ok(comes_true($at_work, $db), 'a run is at work');
	ok(comes_true(sprintf($both, $db)), 'with a worker and a scheduler');
	is(sqlstate($node, $command), '00000', "$command gets through");
	$db = $then;
	ok(comes_true($at_work, $db), 'and the run goes on by itself');
}
is(sql(q{SELECT count(*) FROM pg_database WHERE datname = 'copy'}), '1', 'the copy is there');
sql("SELECT backfill_alter($id, '{\"sleep\": 0}')", $db);
ok(becomes($id, 'completed', $db), 'it is completed');
check_exactly_once($node, $id, 'u', 50, 'every row was processed exactly once', db => $db);

sql('UPDATE u SET n = 0', $db);
$id = start_run($node, 'u', db => $db);
$at_work = "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'";
ok(comes_true($at_work, $db), 'another run is at work');
is(sqlstate($node, "DROP DATABASE $db"), '00000', 'DROP DATABASE gets through');
ok(comes_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('backfill scheduler', 'backfill worker')}),
	'nobody is left');

$node->stop;
done_testing();
