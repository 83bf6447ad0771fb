# What others do beside a run: sessions that hold locks for long, strangers,
# requests that are taken back, cancellations that hit the wrong process, a key
# that is exchanged.  Each part is a defect that a review found.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('main');
my $gate = session($node);
my $other = session($node);

sub sql { return query_ok($node, $_[0]); }

sub sleeps
{
	my ($id) = @_;
	return wait_for($node, "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'");
}

sql(q{CREATE FUNCTION pass_gate(id bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF id = 10 THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
		RETURN 1;
	END $$});

# --- a stop is taken back when some of the workers have left already ---

create_target($node, 'taken_back', 100);
define_increment($node, 'taken_back', '{"batch_size": 10, "target_batch_time": 0, "workers": 2, "sleep": "1 h", "lock_timeout": "off"}',
	statement => 'UPDATE batch SET n = n + pass_gate(id)');
$gate->query('SELECT pg_advisory_lock(1)');
my $id = start_run($node, 'taken_back');
ok(wait_for($node, "SELECT string_agg(state, ',' ORDER BY state) = 'running,sleeping' FROM backfill_workers WHERE run_id = $id"),
	'one worker is in a batch, the other sleeps with the next in hand');
sql("SELECT backfill_stop($id)");
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_batches WHERE run_id = $id AND status = 'stopped'"),
	'the sleeper gives its batch back');
sql("SELECT backfill_resume($id)");
sql(qq{SELECT backfill_alter($id, '{"sleep": 0}')});
$gate->query('SELECT pg_advisory_unlock(1)');
ok(wait_for_status($node, $id, 'completed'), 'the run completes all the same');
check_exactly_once($node, $id, 'taken_back', 100, 'exactly once');

# --- nobody locks what is not his, and nobody waits for who holds his own ---

sql('CREATE ROLE stranger LOGIN');
create_target($node, 'mine', 100);
define_increment($node, 'mine', '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 h"}');
create_target($node, 'yours', 100);
define_increment($node, 'yours', '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 h"}');
my $mine = start_run($node, 'mine');
my $yours = start_run($node, 'yours');
ok(sleeps($mine) && sleeps($yours), 'two runs');
$other->query('SET SESSION AUTHORIZATION stranger');
$other->query('BEGIN');
is($other->query('SELECT count(*) FROM backfill_stop_all()'), '0', 'a stranger has nothing to stop');
is(sqlstate($node, "SET lock_timeout = '3 s'; SELECT backfill_alter($yours, '{\"sleep\": 0}')"),
	'00000', 'and locks nothing of others');
ok(wait_for_status($node, $yours, 'completed'), 'so that a run goes on and completes');
$other->query('ROLLBACK');
$other->query('RESET SESSION AUTHORIZATION');

$other->query('BEGIN');
$other->query(qq{SELECT backfill_alter($mine, '{"batch_size": 5}')});
$yours = sql(q{SELECT backfill_start('yours', settings => '{"sleep": 0}')});
ok(wait_for_status($node, $yours, 'completed'), 'a session that holds the row of one run does not hold up another');
$other->query('COMMIT');
sql(qq{SELECT backfill_alter($mine, '{"sleep": 0}')});
ok(wait_for_status($node, $mine, 'completed'), 'nor does that run come to harm');
check_exactly_once($node, $mine, 'mine', 100, 'exactly once');
is(sql("SELECT max(crashes) FROM backfill_batches WHERE run_id = $mine"), '0', 'no batch counts as a crash');

# --- the table is locked when the run begins ---

create_target($node, 'locked', 100);
define_increment($node, 'locked', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "50ms", "retry_delay": "50ms"}');
$id = sql(q{SELECT backfill_start('locked', start_at => now() + '1 hour')});
$other->query('BEGIN');
$other->query('LOCK TABLE locked IN ACCESS EXCLUSIVE MODE');
sql("UPDATE backfill.run SET start_at = now() WHERE id = $id");
sql(qq{SELECT backfill_alter($id, '{"batch_size": 20}')});	# wakes the scheduler
ok(wait_for($node, "SELECT wait_reason LIKE 'tries again to begin: %lock timeout' FROM backfill_runs WHERE id = $id"),
	'a run that cannot have the table says so');
$other->query('COMMIT');
ok(wait_for_status($node, $id, 'completed'), 'and begins when it can');
is(sql("SELECT wait_reason IS NULL FROM backfill_runs WHERE id = $id"), 't', 'the reason is gone');

# --- a transaction that changed a run cannot be prepared ---

like(sqlstate($node, q{BEGIN; SELECT backfill_start('mine'); PREPARE TRANSACTION 'lost'}),
	qr/0A000/, 'PREPARE TRANSACTION is refused, it would lose the wake-up');
is(sql('SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is prepared');

# --- cancelling the scheduler ---

$id = start_run($node, 'mine');
ok(sleeps($id), 'a run');
is(sql("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity, generate_series(1, 20)
		WHERE backend_type = 'backfill scheduler'"), '20', 'the scheduler is cancelled again and again');
sql(qq{SELECT backfill_alter($id, '{"sleep": 0}')});
ok(wait_for_status($node, $id, 'completed'), 'the run does not fail of it');

# --- a suspect batch does not keep others from their end ---

sql('CREATE SEQUENCE deaths');
sql(q{CREATE FUNCTION die_twice(id bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF id = 10 AND nextval('deaths') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
		RETURN pass_gate(id);
	END $$});
create_target($node, 'suspect', 50);
define_increment($node, 'suspect', '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off"}',
	statement => 'UPDATE batch SET n = n + die_twice(id)');
$gate->query('SELECT pg_advisory_lock(1)');
my $suspect = start_run($node, 'suspect');
ok(wait_for($node, "SELECT crashes = 2 AND status = 'running' FROM backfill_batches WHERE run_id = $suspect AND number = 1"),
	'a batch that brought two workers down runs a third time');
ok(wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 'and takes long');
$id = sql(q{SELECT backfill_start('yours', settings => '{"sleep": 0}')});
ok(wait_for_status($node, $id, 'completed'), 'another run completes meanwhile');
$gate->query('SELECT pg_advisory_unlock(1)');
ok(wait_for_status($node, $suspect, 'completed'), 'the suspect was innocent');
check_exactly_once($node, $suspect, 'suspect', 50, 'exactly once');

# --- the key ---

for my $statement ('UPDATE batch SET n = n + 1, id = id + 501',
	'WITH u AS (UPDATE batch SET id = id + 1 RETURNING *) INSERT INTO yours SELECT * FROM u',
	'INSERT INTO mine SELECT * FROM batch ON CONFLICT (id) DO UPDATE SET id = mine.id + 1')
{
	is(sqlstate($node, "SELECT backfill_define('bad', 'mine', \$s\$$statement\$s\$)"),
		'0A000', "refused: $statement");
}
create_target($node, 'exchanged', 100);
sql('ALTER TABLE exchanged ADD COLUMN id2 bigint NOT NULL DEFAULT 0');
sql('UPDATE exchanged SET id2 = 10000 - id');
define_increment($node, 'exchanged', '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 h"}');
$id = start_run($node, 'exchanged');
ok(sleeps($id), 'a run in the middle of its walk');
sql("SELECT backfill_pause($id)");
ok(wait_for_status($node, $id, 'paused'), 'paused');
sql('ALTER TABLE exchanged DROP CONSTRAINT exchanged_pkey, ADD PRIMARY KEY (id2)');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'failed'), 'it does not go on along another key');
is(run_value($node, $id, 'sqlstate'), '42804', 'SQLSTATE');
like(run_value($node, $id, 'error'), qr/the key of table public.exchanged has changed since the run began/, 'message');
sql('ALTER TABLE exchanged DROP CONSTRAINT exchanged_pkey, ADD PRIMARY KEY (id)');
sql("SELECT backfill_resume($id)");
sql(qq{SELECT backfill_alter($id, '{"sleep": 0}')});
ok(wait_for_status($node, $id, 'completed'), 'with its own key it does');
check_exactly_once($node, $id, 'exchanged', 100, 'exactly once');

# --- what is left of a dropped extension ---

$id = start_run($node, 'mine');
ok(sleeps($id), 'a run');
sql('DROP EXTENSION backfill CASCADE');
sql('CREATE EXTENSION backfill');
ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill.live_runs()'), 'nothing of it stays in shared memory');
ok(wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('backfill scheduler', 'backfill worker')}),
	'and its worker does not sleep on');

$gate->quit;
$other->quit;
$node->stop;
done_testing();
