# Claims on a server where the library is not preloaded: clients do all of it, in
# their own sessions, and every row is still done once.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;
use Time::HiRes qw(time usleep);

one_node('main');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->adjust_conf('postgresql.conf', 'backfill.max_workers', undef);
$node->restart;

# A run of a new definition, whose table has so many rows.
sub new_unloaded
{
	my ($table, $settings, %opts) = @_;

	create_target($node, $table, $opts{rows} || 300);
	define_claims($table, $settings || '{"batch_size": 10}', %opts);
	return sql("SELECT backfill_start('$table')");
}

# The lease of the batch is over.
sub runs_out
{
	my ($batch) = @_;

	return wait_for($node, "SELECT lease_until < clock_timestamp() FROM backfill.batch
		WHERE run_id = $batch->{run} AND number = $batch->{number} AND part = $batch->{part}");
}

my $client = client();
my $second = client();

# --- what is refused at the start ---

create_target($node, 'refused', 10);
define_claims('refused', '{}');
sql(q{SELECT backfill_define('inside', 'refused', 'UPDATE batch SET n = n + 1')});
like(refusal("SELECT backfill_start('inside')"),
	qr/55000: backfill must be loaded via "shared_preload_libraries".*DETAIL:  .* has a statement\..*HINT:  Add 'backfill'/s, 'a run with a statement');
foreach my $settings (
	'"ledger": true', '"share_by": "id"', '"on_error": "skip"', '"rate_limit": "10 per second"', '"wal_rate_limit": "1MB per second"',
	'"windows": [{"closed": true}]', '"max_batches": 2', '"max_duration": "1 h"', '"max_replica_lag": "1 s"', '"max_replica_lag_bytes": "1MB"',
	'"max_slot_retained": "1GB"', '"max_archive_backlog": 3', '"max_growth": "20 %"', '"max_dead_rows": 0.5', '"max_active_sessions": 5',
	'"max_xmin_age": 100000', '"pause_for_maintenance": true', '"probe": "SELECT NULL::text"')
{
	my ($name) = $settings =~ /"(\w+)"/;

	like(refusal("SELECT backfill_start('refused', settings => '{$settings}')"),
		qr/55000: backfill must be loaded.*DETAIL:  Without it clients [^\n]* has "$name"/s, "a run with $name");
}
like(refusal(q{SELECT backfill_start('refused', settings => '{"max_batches": 2, "max_duration": "1 h"}')}),
	qr/has "max_batches", "max_duration"\./, 'all of it is named');
like(refusal(q{SELECT backfill_start('refused', start_at => now() + interval '1 h')}), qr/55000.*has a time to start at/s, 'a run that waits for its time');
define_claims('pages', '{}', target => 'refused', scope => 'n = 0', more => { key => "'ctid'" });
like(refusal(q{SELECT backfill_start('pages')}), qr/55000.*has a walk by pages/s, 'a walk by pages');
define_claims('prepares', '{}', target => 'refused', more => { prepare => "'SELECT 1'", finish => "'SELECT 1'" });
like(refusal(q{SELECT backfill_start('prepares')}), qr/55000.*has "prepare", "finish"/s, 'with prepare and finish');
define_claims('followed', '{}', target => 'refused', more => { followers => q{'[{"name": "refused"}]'} });
like(refusal(q{SELECT backfill_start('followed')}), qr/55000.*has "followers"/s, 'with followers');
sql('CREATE FUNCTION told(backfill_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN END$$');
sql(q{SELECT backfill_on('after run completed', 'told', 'refused')});
like(refusal(q{SELECT backfill_start('refused')}), qr/55000.*has hooks/s, 'with hooks');
sql(q{SELECT backfill_off('after run completed', 'told', 'refused')});
is(sql('SELECT count(*) FROM backfill_runs'), '0', 'none of them was started');

# --- from the beginning to the end ---

my $id = new_unloaded('whole', '{"batch_size": 10, "verify": true}', scope => 'n = 0');
like(refusal("SELECT backfill_start('refused', after => ARRAY[$id])"), qr/55000.*has runs that it starts after/s, 'after another run');
is(value($id, 'status') . (value($id, 'wait_reason') // ''), 'enqueued', 'a run is started, and waits for nobody but clients');
my $writer = session($node);
$writer->query('BEGIN; INSERT INTO whole (id) VALUES (9990)');
my ($begins) = claim($client, $id);
is("$begins->{reason} $begins->{retry_after}", 'the run begins 00:00:00.01', 'the first claim begins it');
is(value($id, 'status'), 'running', 'it is running');
$client->send("SELECT number FROM backfill_claim($id, 'first', '1 h');");
ok(wait_for($node, "SELECT wait_event_type = 'Lock' AND wait_event = 'virtualxid' FROM pg_stat_activity WHERE pid = @{[$client->pid]}"),
	'the next one waits for those who write to the table');
is(ask($second, "BEGIN; SELECT backfill_pause($id); ROLLBACK") =~ /is paused/, 1, 'the run can be changed meanwhile');
$writer->query('COMMIT');
is(ask($client, 'SELECT 1'), "1\n1", 'then it has a batch');
is(sql("SELECT end_key[1] FROM backfill.run WHERE id = $id"), '9990', 'what they wrote belongs to the walk');
is(sql("SELECT client || ' ' || batches_out || ' ' || (lease_until > clock_timestamp()) FROM backfill_workers WHERE run_id = $id"),
	'first 1 true', 'backfill_workers shows the client');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND lease_until > clock_timestamp()"), '1', 'backfill_batches the lease');

# the two take turns, until only the batch of the first claim is left
my @both = ($client, $second);
my @done;
for (my $turn = 0; @done < 30; $turn++)
{
	my $session = $both[$turn % 2];

	foreach my $batch (claim_batch($session, $id, batches => 1 + $turn % 3, worker => "client $turn"))
	{
		my $said = ask($session, 'BEGIN;' . change($batch, 'whole') . ';' . complete($batch) . ';COMMIT');

		push @done, $batch->{number};
		diag("batch $batch->{number}: $said") if $said;
	}
}
is(join(' ', sort { $a <=> $b } @done), join(' ', 2 .. 31), 'each batch is handed out once');
is((claim($client, $id))[0]{reason}, 'nothing is pending, but others are at work', 'the first batch is still out');
sql("UPDATE backfill.batch SET lease_until = clock_timestamp() WHERE run_id = $id AND number = 1");
my $rest = change_all($client, $id, 'whole', worker => 'rest');
is(join(' ', map { $_->{number} } @{ $rest->{claimed} }), '1', 'when its lease is over it is handed out again');
is($rest->{last}{reason}, 'completed', 'and the run is completed');
check_exactly_once($node, $id, 'whole', 301, 'every row once');
is(value($id, 'rows_remaining'), '0', 'it was verified');
is((claim($second, $id))[0]{done}, 1, 'whoever asks afterwards is told');
is(sqlstate($node, "CALL backfill_wait($id, '1 s')"), '00000', 'who waits for it is told, too');

# --- leases ---

$id = new_unloaded('leases');
my ($late) = claim_batch($client, $id, lease => "'200 ms'");
runs_out($late);
is(ask($client, complete($late)), 'ERROR:  UB006', 'a lease that ran out is no more, before anybody has noticed');
is(ask($client, 'SELECT backfill_extend(' . batch_of($late) . ')'), 'ERROR:  UB006', 'nor can it be extended');
is(ask($client, 'SELECT backfill_fail(' . batch_of($late) . ", 'x', 'XX000', true)"), 'ERROR:  UB006', 'nor failed');
my ($again) = claim_batch($second, $id, worker => 'second');
is($again->{number}, $late->{number}, 'the batch is handed out again');
is(sql("SELECT reason FROM backfill_events WHERE run_id = $id AND kind = 'takeover'"), 'the lease of client "client" ran out', 'which is an event');
is(ask($client, 'BEGIN;' . change($late, 'leases') . ';SAVEPOINT s;' . complete($late) . ';ROLLBACK TO s;COMMIT'),
	"ERROR:  UB006\nERROR:  UB006", 'the late client cannot commit, even if it catches the error');
is(sql('SELECT count(*) FROM leases WHERE n > 0'), '0', 'its change is not there');
is(ask($second, 'BEGIN;' . change($again, 'leases') . ';' . complete($again) . ';COMMIT'), '', 'the other one can');
is(ask($second, complete($again)), 'ERROR:  UB006', 'once');

my ($long) = claim_batch($client, $id, lease => "'400 ms'");
is(ask($client, 'SELECT backfill_extend(' . batch_of($long) . ", '1 h') > clock_timestamp() + interval '59 min'"), 't', 'a lease is extended');
is(ask($client, 'SELECT backfill_extend(' . batch_of($long) . ", '8 days')"), 'ERROR:  22023', 'not for too long');
is(ask($client, 'SELECT backfill_extend(' . batch_of($long) . ") > clock_timestamp() + interval '59 min'"), 't', 'for that length again');
my ($next) = claim_batch($second, $id);
isnt($next->{number}, $long->{number}, 'it is kept');
(my $forged = $long->{token}) =~ s/-(.)/'-' . ($1 eq '0' ? '1' : '0')/e;
is(ask($client, "SELECT backfill_complete($id, $long->{number}, 0, '$forged')"), 'ERROR:  UB006', 'a token that is not its own is refused');

# a completion under way is not taken back
$client->query('BEGIN');
ask($client, change($long, 'leases') . ';' . complete($long));
my ($beside) = claim_batch($second, $id);
isnt($beside->{number}, $long->{number}, 'a batch that is just completed stays');
is(ask($client, 'COMMIT'), '', 'and is');
ask($second, 'BEGIN;' . change($_, 'leases') . ';' . complete($_) . ';COMMIT') foreach $next, $beside;

is(ask($client, "SELECT * FROM backfill_claim($id, 'x', 'session')"), 'ERROR:  0A000', 'no lease of a session');
is(ask($client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM backfill_claim($id, 'x')"), 'ERROR:  0A000', 'no claim under an old snapshot');
ask($client, 'ROLLBACK');

# a claim that is rolled back is none
ask($client, 'BEGIN');
my ($rolled) = claim($client, $id);
ask($client, 'ROLLBACK');
isnt(batch_status($rolled), 'running', 'a claim that is rolled back is none');
is(ask($client, complete($rolled)), 'ERROR:  UB006', 'and cannot be completed');

my ($rows) = claim($client, $id, function => 'backfill_claim_rows');
is(scalar @{ $rows->{batch} }, 10, 'backfill_claim_rows gives the rows');
ask($client, 'BEGIN;' . change($rows, 'leases') . ';' . complete($rows) . ';COMMIT');
change_all($client, $id, 'leases', batches => 5);
check_exactly_once($node, $id, 'leases', 300, 'every row once');

# --- failures ---

$id = new_unloaded('failures', '{"batch_size": 10, "retry_delay": "10ms", "max_attempts": 2}');
my ($failed) = claim_batch($client, $id);
is(ask($client, 'SELECT backfill_fail(' . batch_of($failed) . ", 'not now', '40001')"), '', 'a client fails with a batch');
is(sql("SELECT status || ' ' || error || ' ' || (retry_at IS NOT NULL) FROM backfill_batches WHERE run_id = $id AND number = 1"),
	'pending not now true', 'which is tried again');
is(ask($client, complete($failed)), 'ERROR:  UB006', 'and is not the client\'s any more');
wait_for($node, "SELECT retry_at < clock_timestamp() FROM backfill_batches WHERE run_id = $id AND number = 1");
my ($retried) = claim_batch($client, $id);
is($retried->{number}, 1, 'when it is due');
ask($client, 'SELECT backfill_fail(' . batch_of($retried) . ", 'not now', '40001')");
is(value($id, 'status') . ': ' . value($id, 'error'), 'failed: not now', 'after max_attempts the run fails');
is((claim($client, $id))[0]{reason}, 'failed: not now', 'which claims say');
like(sql("SELECT backfill_resume($id)"), qr/goes on/, 'it can be resumed');
($failed) = claim_batch($client, $id);
is($failed->{number}, 1, 'and begins with what failed');
ask($client, 'SELECT backfill_fail(' . batch_of($failed) . ", 'for good', '22000')");
is(value($id, 'status') . ': ' . value($id, 'error'), 'failed: for good', 'what does not go away fails it at once');
is(sql("SELECT number || ' ' || sqlstate || ' ' || reason FROM backfill_events WHERE run_id = $id AND kind = 'error' ORDER BY id DESC LIMIT 1"),
	'1 22000 for good', 'an event says so');
sql("SELECT backfill_resume($id)");
change_all($client, $id, 'failures');
check_exactly_once($node, $id, 'failures', 300, 'every row once');

# what the owner's code raises fails the run, too
sql('CREATE FUNCTION picky(bigint) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN IF $1 = 2550 THEN RAISE EXCEPTION \'picky\'; END IF; RETURN true; END$$');
$id = new_unloaded('raises', '{"batch_size": 100}', scope => 'picky(id)');
is(change_all($client, $id, 'raises')->{last}{reason}, 'failed: picky', 'an error in the scope fails the run');
sql('CREATE OR REPLACE FUNCTION picky(bigint) RETURNS boolean LANGUAGE sql AS $$SELECT true$$');
sql("SELECT backfill_resume($id)");
is(change_all($client, $id, 'raises')->{last}{reason}, 'completed', 'once that is repaired it goes on');
check_exactly_once($node, $id, 'raises', 300, 'every row once');

# verification
$id = new_unloaded('remains', '{"batch_size": 100, "verify": true}', scope => 'f = 0');
like(change_all($client, $id, 'remains')->{last}{reason}, qr/^failed: 300 rows are still in scope/, 'rows that are still in scope fail a verified run');
sql('UPDATE remains SET f = 1');
sql("SELECT backfill_resume($id)");
is(change_all($client, $id, 'remains')->{last}{reason}, 'completed', 'resumed it counts again');

# --- few rows among many, and none ---

create_target($node, 'sparse', 50000);
sql('UPDATE sparse SET f = 1 WHERE id % 100000 = 0');
define_claims('sparse', '{"batch_size": 10}', scope => 'f = 1');
$id = sql("SELECT backfill_start('sparse')");
cmp_ok(scalar @{ change_all($client, $id, 'sparse')->{claimed} }, '<=', 5, 'ranges without a row in scope are not handed out');
is(sql('SELECT sum(n) FROM sparse'), '5', 'those with one are');
is(sql("SELECT sum(rows_scanned) FROM backfill_batches WHERE run_id = $id"), '50000', 'together they are all');
$id = sql("SELECT backfill_start('sparse')");
sql('UPDATE sparse SET f = 0');
is(change_all($client, $id, 'sparse')->{last}{reason}, 'completed', 'a run without a row');
sql('CREATE TABLE nothing (id int PRIMARY KEY, n int)');
define_claims('nothing', '{}');
$id = sql("SELECT backfill_start('nothing')");
is(change_all($client, $id, 'nothing')->{last}{reason}, 'completed', 'and one without a table to speak of');

# the scope knows the window of the run
$id = new_unloaded('windowed', '{"initial_value": "2020-01-01 00:00:00+00"}', scope => "run.since = '2020-01-01 00:00:00+00' AND run.until BETWEEN now() - interval '1 hour' AND now()");
is(change_all($client, $id, 'windowed')->{last}{reason}, 'completed', 'a run of what has a time');
is(sql('SELECT count(*) FROM windowed WHERE n = 1'), 300, 'has its window, since the initial value and until now');
is(value($id, "since = '2020-01-01 00:00:00+00' AND until < started_at + interval '1 min'"), 't', 'and says so');

# --- walks of other kinds ---

sql(q{CREATE TABLE mixed (k text, j int, z int, n int NOT NULL DEFAULT 0);
	INSERT INTO mixed SELECT CASE WHEN i % 7 > 0 THEN md5(i::text) END, CASE WHEN i % 11 > 0 THEN i % 50 END, i FROM generate_series(1, 3000) i;
	CREATE INDEX mixed_key ON mixed (k, j); ANALYZE mixed});
sql(q{SELECT backfill_define('mixed', 'mixed', NULL, key => 'mixed_key', direction => 'desc', scope => 'z % 3 <> params.m AND n = 0',
	parameters => '{"m": {"type": "int"}}', settings => '{"batch_size": 70, "verify": true}')});
$id = sql(q{SELECT backfill_start('mixed', '{"m": 1}')});
is(change_all($client, $id, 'mixed', batches => 3)->{last}{reason}, 'completed', 'downwards, with nulls in the key, and a parameter');
is(sql('SELECT count(*) FROM mixed WHERE n <> CASE WHEN z % 3 = 1 THEN 0 ELSE 1 END'), '0', 'every row once');
sql(q{CREATE TABLE parted (id int, d date, n int NOT NULL DEFAULT 0, PRIMARY KEY (d, id)) PARTITION BY RANGE (d);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
	INSERT INTO parted SELECT i, '2020-01-01'::date + i % 700 FROM generate_series(1, 3000) i; ANALYZE parted});
ask($client, q{SET datestyle = 'SQL, DMY'});
define_claims('parted', '{"batch_size": 100, "from": ["2020-12-01"], "to": ["2021-02-28"]}');
$id = sql(q{SELECT backfill_start('parted')});
is(change_all($client, $id, 'parted')->{last}{reason}, 'completed', 'a part of a partitioned table');
ask($client, 'RESET datestyle');
is(sql(q{SELECT count(*) FROM parted WHERE n <> CASE WHEN d BETWEEN '2020-12-01' AND '2021-02-28' THEN 1 ELSE 0 END}), '0', 'every row once');

# --- control ---

$id = new_unloaded('control', '{"batch_size": 10, "max_claims": 3}');
my @out = claim_batch($client, $id, batches => 10);
is(scalar @out, 3, 'no more batches are out than max_claims allows');
is((claim($second, $id))[0]{reason}, 'as many batches are out as the setting "max_claims" allows', 'and no more');
like(sql("SELECT backfill_pause($id)"), qr/is paused/, 'a run is paused at once');
is((claim($second, $id))[0]{reason}, 'paused', 'nothing is claimed then');
is(ask($client, 'BEGIN;' . change($out[0], 'control') . ';' . complete($out[0]) . ';COMMIT'), '', 'what is out can be completed');
sql("SELECT backfill_resume($id)");
my ($more) = claim_batch($second, $id);
is($more->{number}, 4, 'resumed it goes on');
like(sql("SELECT backfill_stop($id, immediate => true)"), qr/is stopped/, 'stopped at once');
is(ask($client, complete($out[1])), 'ERROR:  UB006', 'what is out is taken back');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'takeover' AND reason LIKE 'taken from client %'"), '3', 'with an event for each');
is((claim($second, $id))[0]{reason}, 'stopped', 'the client is told');
sql("SELECT backfill_resume($id)");
($more) = claim_batch($second, $id);
is($more->{number}, 2, 'resumed it begins with those');
sql("SELECT backfill_stop($id)");
is(ask($second, 'BEGIN;' . change($more, 'control') . ';' . complete($more) . ';COMMIT'), '', 'of one that was stopped otherwise what is out can be completed');
sql("SELECT backfill_resume($id)");
change_all($client, $id, 'control', batches => 2);
check_exactly_once($node, $id, 'control', 300, 'every row once');

# --- whose it is ---

sql('CREATE ROLE owner LOGIN; CREATE ROLE member LOGIN; CREATE ROLE stranger LOGIN; GRANT owner TO member; GRANT CREATE ON SCHEMA public TO owner');
create_target($node, 'owned', 100);
sql('ALTER TABLE owned OWNER TO owner');
as('owner', q{SELECT backfill_define('owned', 'owned', NULL, settings => '{"batch_size": 50}')});
$id = as('owner', q{SELECT backfill_start('owned')});
my %role = map { $_ => client(role => $_) } qw(owner member stranger);
claim_batch($role{owner}, $id, lease => "'100 ms'");
is(ask($role{stranger}, "SELECT * FROM backfill_claim($id, 'x')"), 'ERROR:  42704', 'a stranger does not see the run');
is(ask($role{member}, "SELECT * FROM backfill_claim($id, 'x')"), 'ERROR:  42501', 'a member of the owner\'s role cannot claim');
is(ask($client, "SELECT * FROM backfill_claim($id, 'x')"), 'ERROR:  42501', 'nor can a superuser');
is(ask($client, "SET ROLE owner; SELECT * FROM backfill_claim($id, 'x')"), 'ERROR:  42501', 'nor in the owner\'s name');
ask($client, 'RESET ROLE');
my ($mine) = claim_batch($role{owner}, $id);
is(ask($role{member}, complete($mine)), 'ERROR:  UB006', 'a token is of use to the role that claimed only');
is(ask($role{owner}, 'BEGIN;' . change($mine, 'owned') . ';' . complete($mine) . ';COMMIT'), '', 'who can complete');
is(change_all($role{owner}, $id, 'owned')->{last}{reason}, 'completed', 'all of it');
is(sql('SELECT sum(n) FROM owned'), '100', 'every row once');

# --- clients are killed, and the server ---

$id = new_unloaded('killed');
my ($done, $kept, $lost) = claim_batch($client, $id, batches => 3, lease => "'1 h'");
ask($client, 'BEGIN;' . change($done, 'killed') . ';' . complete($done) . ';COMMIT');
my $victim = client();
my ($open) = claim_batch($victim, $id, worker => 'victim', lease => "'500 ms'");
$victim->query('BEGIN;' . change($open, 'killed') . ';' . complete($open));
kill('KILL', $victim->{run}{KIDS}[0]{PID});
ok(wait_for($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = @{[$victim->pid]})"), 'a client is killed in the transaction of its change');
is(batch_status($open), 'running', 'which was not committed');
my ($unclaimed) = do { $second->query('BEGIN'); claim($second, $id) };
sql('CHECKPOINT');
ok(kill_postmaster($node), 'the server is killed');
$_->{run}->kill_kill(grace => 1) foreach $client, $second, $victim, values %role;
$node->start;
wait_for_server($node);
($client, $second) = (client(), client());
is(ask($client, complete($unclaimed)), 'ERROR:  UB006', 'a claim that was not committed is none');
is(ask($client, 'BEGIN;' . change($kept, 'killed') . ';' . complete($kept) . ';COMMIT'), '', 'a lease that was goes on behind it');
is(ask($client, complete($done)), 'ERROR:  UB006', 'what was completed is');
sql("UPDATE backfill.batch SET lease_until = clock_timestamp() WHERE run_id = $id AND number = $lost->{number}");
my ($found) = grep { $_->{number} == $open->{number} } @{ change_all($second, $id, 'killed', batches => 4)->{claimed} };
ok($found, 'what the killed client had is handed out again');
check_exactly_once($node, $id, 'killed', 300, 'every row once');

# --- many at once, killed at random ---

sql(q{CREATE PROCEDURE work(run bigint) LANGUAGE plpgsql AS $$
DECLARE
	c record;
BEGIN
	LOOP
		SELECT * INTO c FROM backfill_claim(run, pg_backend_pid()::text, '300 ms');
		COMMIT;
		EXIT WHEN c.done;
		IF c.number IS NULL THEN
			PERFORM pg_sleep(least(extract(epoch FROM c.retry_after), 0.05));
		ELSE
			EXECUTE 'UPDATE many AS batch SET n = n + 1 WHERE ' || c.condition;
			PERFORM pg_sleep(0.01), backfill_complete(run, c.number, c.part, c.token);
		END IF;
		COMMIT;
	END LOOP;
END$$});
$id = new_unloaded('many', '{"batch_size": 5, "verify": true}', rows => 5000, scope => 'n = 0');
my $killed = 0;
my $until = time + 60;
my @workers;
while (value($id, 'status') ne 'completed' && time < $until)
{
	push @workers, client() while @workers < 5;
	$_->{works} = $_->{works} || do { $_->send("CALL work($id);"); 1 } foreach @workers;
	usleep(50_000 + rand 100_000);
	if ($killed < 12)
	{
		my $dead = splice(@workers, int(rand @workers), 1);

		kill('KILL', $dead->{run}{KIDS}[0]{PID}) if $killed % 2;
		sql("SELECT pg_terminate_backend(@{[$dead->pid]})");
		$dead->{run}->kill_kill(grace => 1);
		$killed++;
	}
}
is(value($id, 'status'), 'completed', 'several clients at once complete a run');
cmp_ok($killed, '>', 3, 'of which some were killed');
cmp_ok(sql("SELECT count(DISTINCT client) FROM backfill_batches WHERE run_id = $id"), '>', 4, 'all of them took part');
check_exactly_once($node, $id, 'many', 5000, 'every row once');
$_->quit foreach @workers;

# --- clients and a run from a server that had the library, and back ---

$id = new_unloaded('loaded');
my ($row, $short) = claim_batch($client, $id, batches => 2, lease => "'2 s'");
sql("UPDATE backfill.batch SET lease_until = clock_timestamp(), lease = '1 h' WHERE run_id = $id AND number = $row->{number}");
is(ask($client, complete($row)), 'ERROR:  UB006', 'a lease in a row has run out');
$_->quit foreach $client, $second;
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'backfill'");
$node->restart;
ok(wait_for($node, "SELECT count(*) FROM backfill_batches WHERE run_id = $id AND lease_until > clock_timestamp()", expected => 2),
	'with the library the leases are in shared memory, for their full length once more');
is(sql("SELECT count(*) FROM backfill.batch WHERE run_id = $id AND lease_until IS NOT NULL"), '0', 'and not in the rows');
$client = client();
is(ask($client, 'BEGIN;' . change($row, 'loaded') . ';' . complete($row) . ';COMMIT'), '', 'the batch is completed with the token from before');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'takeover' AND number = $short->{number}"), 'that of the other one runs out');
my ($hour, $bound);
($hour) = claim_batch($client, $id, lease => "'1 h'");
($bound) = claim_batch($client, $id, lease => "'session'");
my ($reported) = claim_batch($client, $id);
$client->quit;

$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
$client = client();
is(ask($client, complete($bound)), 'ERROR:  UB006', 'without it again, a lease of a session is over');
my @free = claim_batch($client, $id, batches => 100);
is(scalar(grep { $_->{number} == $bound->{number} } @free), 1, 'and the batch is handed out');
is(scalar(grep { $_->{number} == $hour->{number} } @free), 0, 'any other is not');
is(sql("SELECT lease_until > clock_timestamp() + interval '59 min' FROM backfill.batch WHERE run_id = $id AND number = $hour->{number}"), 't',
	'that is good for its full length once more');
is(ask($client, 'BEGIN;' . change($hour, 'loaded') . ';' . complete($hour) . ';COMMIT'), '', 'it is completed');
ask($client, 'BEGIN;' . change($_, 'loaded') . ';' . complete($_) . ';COMMIT') foreach @free[0 .. 1];
sql("UPDATE backfill.batch SET lease_until = clock_timestamp() WHERE run_id = $id AND status = 'running'");
$client->quit;

# the rest is done with the library, by a worker that cuts
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'backfill'");
$node->restart;
$client = client();
is(join('', map { ask($client, 'BEGIN;' . change($_, 'loaded') . ';' . complete($_) . ';COMMIT') } $reported, @free[2 .. $#free]), '',
	'leases that ran out in the rows are good once more');
is(change_all($client, $id, 'loaded')->{last}{reason}, 'completed', 'the same run goes on to its end, on a server with the library');
check_exactly_once($node, $id, 'loaded', 300, 'every row once');
$client->quit;

$node->stop;
done_testing();
