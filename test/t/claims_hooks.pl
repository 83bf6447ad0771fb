# Hooks of runs that clients work on: those of the run as always; of batches that clients
# complete those that come after, in a session of the owner's, each batch once.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;

one_node('main');
create_target($node, 't', 100);
sql(q{CREATE TABLE told (seq serial, event text, batch bigint, rows bigint, role text, application text)});
sql(q{CREATE FUNCTION tell(e backfill_event) RETURNS void LANGUAGE sql AS
	'INSERT INTO told (event, batch, rows, role, application) VALUES (e.phase || '' '' || e.object || '' '' || e.status, e.batch, e.rows, session_user, current_setting(''application_name''))'});
define_claims('t', '{"batch_size": 10}');
sql("SELECT backfill_on('$_', 'tell', 't')") foreach 'after batch completed', 'before run running', 'after run completed', 'before batch completed';
my $client = client();
my $id = start_claims('t');
change_all($client, $id, 't');
ok(wait_for_status($node, $id, 'completed'), 'the run completes');
ok(wait_for($node, q{SELECT count(*) = 1 FROM told WHERE event = 'after run completed'}), 'its hooks are called');
is(sql(q{SELECT count(*) FROM told WHERE event = 'before run running'}), 1, 'also that at its beginning');
is(sql(q{SELECT string_agg(batch || ':' || rows, ' ' ORDER BY batch) FROM told WHERE event = 'after batch completed'}),
	join(' ', map { "$_:10" } 1 .. 10), 'each batch that a client has completed is told, once');
is(sql(q{SELECT count(*) FROM told WHERE application NOT LIKE 'backfill run%'}), 0, 'by workers, not in the session of a client');
is(sql(q{SELECT count(*) FROM told WHERE event = 'before batch completed'}), 0, 'what comes before a completion is not asked');
is(sql('SELECT count(*) FROM backfill.hooked'), 0, 'nothing is left to be told');

# a completion that is rolled back is none
sql('TRUNCATE told; UPDATE t SET n = 0');
$id = start_claims('t');
my ($batch) = claim_batch($client, $id);
ask($client, 'BEGIN; ' . change($batch, 't') . '; ' . complete($batch) . '; ROLLBACK');
is(sql('SELECT count(*) FROM backfill.hooked'), 0, 'rolled back, it is not told');
ask($client, complete($batch));
ok(wait_for($node, q{SELECT count(*) = 1 FROM told WHERE event = 'after batch completed'}), 'committed, it is');

# the worker is gone before it has told: another one does
my ($next) = claim_batch($client, $id);
sql("SELECT backfill_pause($id)");
ask($client, complete($next));
ok(settles($id, 'paused'), 'the run is paused');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, q{SELECT count(*) = 2 FROM told WHERE event = 'after batch completed'}), 'what was completed while it had no worker is told when it has one');
sql("SELECT backfill_stop($id, true)");
settles($id, 'stopped');
sql("SELECT backfill_delete($id)");

$node->stop;
done_testing();
