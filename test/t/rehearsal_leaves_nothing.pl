# backfill_preview and backfill_explain on a big table leave nothing behind: no
# change, no number of a sequence, no statistics, no lock, no notification; also
# when they are cancelled half way.  What explain projects is printed beside what
# the run then takes.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $rows = 1_000_000;
my $node = make_node('main', conf => "autovacuum = off\ntrack_functions = all\n");

create_target($node, 't', $rows);
query_ok($node, q{
	CREATE FUNCTION loud(n int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_notify('rehearse', n::text || random());
		RETURN n + 1;
	END $$;
	CREATE FUNCTION slow(n int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.02);
		RETURN loud(n);
	END $$;
	CREATE TABLE log (id bigint, at timestamptz DEFAULT now());
	CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO log VALUES (NEW.id);
		RETURN NULL;
	END $$;
	CREATE TRIGGER log AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION log();
	SELECT backfill_define('loud', 't', 'UPDATE batch SET n = loud(n)', settings => '{"batch_size": 5000, "target_batch_time": 0}');
	SELECT backfill_define('slow', 't', 'UPDATE batch SET n = slow(n)', settings => '{"batch_size": 5000, "target_batch_time": 0}');
	SELECT backfill_define('purge', 't', 'DELETE FROM batch', scope => 'id % 30 = 0')});

# The numbers of a session are sent when it says so.
my $flush = 'SELECT FROM pg_stat_force_next_flush()';

sub statistics
{
	return query_ok($node, q{
		SELECT to_jsonb(s) - 'relid' FROM pg_stat_user_tables s ORDER BY schemaname, relname});
}

sub more_statistics
{
	return query_ok($node, q{
		SELECT to_jsonb(s) FROM pg_stat_user_indexes s ORDER BY indexrelid})
	  . query_ok($node, q{SELECT funcname, calls FROM pg_stat_user_functions
		WHERE funcname NOT LIKE 'backfill%' ORDER BY funcid})
	  . query_ok($node, q{SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2});
}

sub checksum
{
	return query_ok($node, q{
		SELECT count(*), sum(hashtextextended(t::text, 0)) FROM t;
		SELECT count(*) FROM log;
		SELECT count(*) FROM backfill_runs;} . $flush);
}

# The locks that this transaction has on tables, and of other kinds.
my $locks = q{SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
	AND (locktype IN ('advisory', 'tuple', 'object') OR relation >= 16384)};

# --- Nothing is left ---------------------------------------------------------

my $listener = session($node);
$listener->query('LISTEN rehearse');

my $checksum = checksum();
my $statistics = statistics();
my $more = more_statistics();

my $preview = query_ok($node, "SELECT key, action, changed FROM backfill_preview('loud', rows => 3); $flush");
is($preview, "{10}|update|{\"n\": 1}\n{20}|update|{\"n\": 1}\n{30}|update|{\"n\": 1}", 'a preview shows changes');
is(query_ok($node, "SELECT count(*) FROM backfill_preview('purge', rows => 1000) WHERE action = 'delete'; $flush"),
	1000, 'a preview shows deleted rows');
my $explained = query_ok($node, "SELECT * FROM backfill_explain('loud', measure => true); $flush");
like($explained, qr/^  Rows: 25000 in their ranges, 25000 processed$/m, 'explain has run batches');
like($explained, qr/^  Also inserted 25000 rows into log by a trigger or a function; in the whole run about \d{6,7}$/m,
	'explain has counted what the trigger writes');
like($explained, qr/^  Trigger log: time=\S+ calls=5000$/m, 'explain shows what triggers cost');
like($explained, qr/^  Locks: ROW EXCLUSIVE on t, ROW EXCLUSIVE on log$/m, 'explain shows locks');
like($explained, qr/^Warning: trigger log of table t fires for each row that is updated$/m, 'explain warns of the trigger');
like($explained, qr/^Warning: while somebody holds an old snapshot, table t may grow by \d+ MB, from \d+ MB/m,
	'explain warns of growth');
unlike($explained, qr/^Warning: .*(reads all of|foreign key|index)/m, 'explain does not warn of what is not there');
is(query_ok($node, "SELECT count(*) > 10 FROM backfill_explain('purge', measure => true); $flush"),
	't', 'explain of a DELETE');

is(statistics(), $statistics, 'statistics of tables are as before');
is(more_statistics(), $more, 'statistics of indexes and functions, and sequences, are as before');
is(checksum(), $checksum, 'the tables are as before');
is(query_ok($node, "BEGIN; SELECT count(*) FROM backfill_preview('loud'); SELECT count(*) > 10 FROM backfill_explain('loud', measure => true); $locks; COMMIT"),
	"5\nt\n0", 'no lock is left in the transaction');
unlike($listener->query('SELECT 1'), qr/notification/, 'no notification was sent');

# The same questions do see what a statement of one's own leaves.
query_ok($node, "SELECT loud(1); $flush");
isnt(more_statistics(), $more, 'a call shows in the statistics of functions');
query_ok($node, "UPDATE t SET n = n WHERE id = 10; $flush");
isnt(statistics(), $statistics, 'an update shows in the statistics of tables');
like(query_ok($node, "BEGIN; SELECT FROM t LIMIT 0; $locks; COMMIT"), qr/^[1-9]/, 'a query has locks');
like($listener->query('SELECT 1'), qr/notification/, 'the notification of the call arrived');

# A transaction that goes on has its own changes, and no others.
is(query_ok($node, q{
	BEGIN;
	INSERT INTO log VALUES (1);
	UPDATE t SET f = 1 WHERE id = 10;
	SELECT changed, after->'f' FROM backfill_preview('loud', rows => 1);
	SELECT count(*) > 10 FROM backfill_explain('loud', measure => true);
	SELECT id, n, f FROM t WHERE id <= 20 ORDER BY id;
	ROLLBACK}), "{\"n\": 1}|1\nt\n10|0|1\n20|0|0", 'within a transaction that has changed the table');

# --- Cancelled half way ------------------------------------------------------

foreach my $call (
	"SELECT * FROM backfill_preview('slow', rows => 1000)",
	"SELECT * FROM backfill_explain('slow', measure => true)")
{
	foreach my $how ('pg_cancel_backend', 'pg_terminate_backend', 'statement_timeout')
	{
		my ($name) = $call =~ /(backfill_\w+)/;
		my $session = session($node);
		my $pid = $session->pid;

		$checksum = checksum();
		query_ok($node, $flush);
		$session->query($flush);
		($statistics, $more) = (statistics(), more_statistics());
		$session->send("SET statement_timeout = '500ms'") if $how eq 'statement_timeout';
		$session->send($call);
		if ($how ne 'statement_timeout')
		{
			ok(wait_for($node, "SELECT backend_xid IS NOT NULL AND wait_event = 'PgSleep'
				FROM pg_stat_activity WHERE pid = $pid"), "$name has changed rows");
			query_ok($node, "SELECT $how($pid)");
		}
		if ($how eq 'pg_terminate_backend')
		{
			ok(wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"),
				"$name is gone after $how");
		}
		else
		{
			like($session->query('SELECT 1'), qr/canceling statement/, "$name is cancelled by $how");
			is($session->query("RESET statement_timeout; BEGIN; $locks; COMMIT; $flush"), 0, 'no lock is left');
			is($session->query("SHOW track_counts"), 'on', 'the session is as it was');
		}
		is(statistics(), $statistics, "statistics of tables are as before $how");
		is(more_statistics(), $more, "statistics of indexes and functions, and sequences, are as before $how");
		is(checksum(), $checksum, "the tables are as before $how");
		$session->quit;
	}
}
unlike($listener->query('SELECT 1'), qr/notification/, 'no notification was sent');
$listener->quit;

# --- Projected and measured --------------------------------------------------

query_ok($node, q{
	DROP TRIGGER log ON t;
	SELECT backfill_define('plain', 't', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 5000, "target_batch_time": 0, "sleep": 0}')});
query_ok($node, 'VACUUM ANALYZE t');
query_ok($node, 'CHECKPOINT');
my ($duration) = query_ok($node, 'SELECT * FROM backfill_explain(\'plain\', measure => true)') =~ /Duration: (.*?), of/;
my %unit = (s => 1, min => 60, h => 3600);
my $projected = 0;
$projected += $1 * $unit{$2} while $duration =~ /([\d.]+) (s|min|h)/g;
cmp_ok($projected, '>', 0, 'explain projects a duration');
my $run = start_run($node, 'plain');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
my $measured = run_value($node, $run, 'round(extract(epoch FROM finished_at - started_at), 1)');
diag(sprintf('projected %.1f s, measured %.1f s', $projected, $measured));

# The statistics are from before the run.
query_ok($node, q{SELECT backfill_define('again', 't', 'UPDATE batch SET n = n + 1', scope => 'n = 1')});
ok(wait_for($node, q{SELECT count(*) = 1 FROM backfill_explain('again')
	WHERE "QUERY PLAN" ~ '^Warning: the estimate is a guess: about \d+ rows of table t have been changed since it was analyzed$'}),
	'explain says that statistics are stale');
query_ok($node, 'ANALYZE t');
unlike(query_ok($node, q{SELECT * FROM backfill_explain('again')}), qr/guess|not known/, 'and not when they are fresh');
is(query_ok($node, 'SELECT count(*) FROM t WHERE n = 1'), $rows, 'every row once, in spite of all that');

$node->stop;
done_testing();
