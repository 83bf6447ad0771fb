# A queue of notifications that is full, because a session that listens does not end
# its transaction, keeps no run from starting and none from its end.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

plan skip_all => 'the queue of notifications can be made small from 17 on'
  if `postgres --version` =~ /\) (\d+)/ && $1 < 17;

one_node('main', conf => "max_notify_queue_pages = 64\n");
create_target($node, 't', 100);
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0}');

my $listener = session($node);
$listener->query('LISTEN other');
$listener->query('BEGIN');
$listener->query('SELECT 1');
my $pages = 0;
while ($pages < 80 && sqlstate($node, "SELECT pg_notify('other', '$pages' || repeat('x', 7900))") eq '00000')
{
	$pages++;
}
cmp_ok(sql('SELECT pg_notification_queue_usage()'), '>=', 0.9, "the queue is full after $pages notifications");
isnt(sqlstate($node, "SELECT pg_notify('other', 'more' || repeat('x', 7900))"), '00000', 'a notification fails');

my $id = start_run($node, 't');
ok(wait_for_status($node, $id, 'completed'), 'a run is started, and completed');
is(sql('SELECT count(*) FROM t WHERE n = 1'), 100, 'every row');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'notify' AND reason LIKE 'notifications are left out%'"), 1, 'which is put down once');

$listener->query('COMMIT');
$listener->query('LISTEN backfill');
ok(wait_for($node, 'SELECT pg_notification_queue_usage() < 0.5'), 'the queue is empty again');
$id = start_run($node, 't');
ok(wait_for_status($node, $id, 'completed'), 'the next run');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'notify'"), 0, 'is told of again');

$listener->quit;
$node->stop;
done_testing();
