# The window of a stream, run.since to run.until, over several runs with writers in flight:
# who writes when the run begins is waited for, who begins to write later is left to the next
# run, nothing is skipped and nothing is done twice. What lookback, initial_value and end_value
# make of a window, and which windows count.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Streams;
use IPC::Run;
use Test::More;

seed_random();
one_node('main');
create_step($node);
my $exact = '"batch_size": 10, "target_batch_time": 0, "sleep": 0';

# A table of accounts whose rows know how often they were changed (v), when they were
# changed last, which version was seen last, and how often they were done (n).
sub changing
{
	my ($table, $accounts, $rows) = @_;
	sql("CREATE TABLE $table (account int, id bigint, changed_at timestamptz NOT NULL DEFAULT now(),
			v int NOT NULL DEFAULT 1, seen int NOT NULL DEFAULT 0, n int NOT NULL DEFAULT 0, PRIMARY KEY (account, id));
		INSERT INTO $table (account, id) SELECT a, a * 1000 + i FROM generate_series(1, $accounts) a, generate_series(1, $rows) i;
		ANALYZE $table");
	return;
}

sub define_changes
{
	my ($table, $streams, $scope, %opts) = @_;
	return define_streams($table, $streams, "{$exact, " . ($opts{settings} || '"workers": 1') . '}',
		statement => 'UPDATE batch SET n = n + step(id), seen = v', more => "scope => '$scope'");
}

# What was written before this is old enough to be before run.until.
sub settle
{
	my $now = sql('SELECT clock_timestamp()');
	return wait_for($node, "SELECT clock_timestamp() > '$now'::timestamptz + interval '200 ms'");
}

sub complete
{
	my ($what, $table, $more) = @_;
	my $run = sql("SELECT backfill_start('$table'" . ($more || '') . ')');
	ok(wait_for_status($node, $run, 'completed'), $what);
	return $run;
}

sub affected { return sql("SELECT string_agg(rows_affected::text, ' ' ORDER BY name) FROM backfill_streams WHERE run_id = $_[0]"); }
sub windows { return sql("SELECT string_agg(coalesce($_[1]::text, '-'), ', ' ORDER BY name) FROM backfill_streams WHERE run_id = $_[0]"); }
sub of_days { return windows($_[0], q{(to_char(since, 'DD') || '-' || to_char(until, 'DD'))}); }

# Whether each stream of the second run begins where that of the first one ended.
sub follows
{
	my ($second, $first) = @_;
	return sql("SELECT bool_and(s.since = f.until) FROM backfill_streams s JOIN backfill_streams f USING (name) WHERE s.run_id = $second AND f.run_id = $first");
}

# Every change was seen, and no row was done more often than it was changed.
sub check_changes
{
	my ($table, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql("SELECT string_agg(format('%s: changed %s, seen %s, done %s', id, v, seen, n), '; ') FROM $table WHERE seen <> v OR n > v"), '', $name);
}

# ---------------------------------------------------------------------------
# the end of a window is in it, or not, as one likes

foreach my $case ([ 'c', 'changed_at >= run.since AND changed_at < run.until' ], [ 'd', 'changed_at > run.since AND changed_at <= run.until' ])
{
	my ($t, $scope) = @$case;
	note $scope;

	changing($t, 3, 50);
	define_changes($t, account_streams(3), $scope);
	settle();
	my $first = complete('a first run', $t);
	is(affected($first), '50 50 50', 'does every row');
	is(windows($first, 'since'), '-, -, -', 'since ever');
	is(sql("SELECT bool_and(until < started_at AND until > started_at - interval '1 min') FROM backfill_streams WHERE run_id = $first"), 't', 'until each stream began');
	is(run_value($node, $first, 'until'), '', 'and the run as a whole has no such time');

	# a writer that is there when the run begins
	my $writer = session($node);
	$writer->query("BEGIN; INSERT INTO $t (account, id) VALUES (1, 1901), (3, 3901)");
	settle();
	my $second = start_run($node, $t);
	ok(wait_for($node, "SELECT wait_reason FROM backfill_runs WHERE id = $second",
		expected => 'waits for 1 transaction that wrote to the table when the run began: process ' . $writer->pid), 'a second run waits for who is writing');
	is(sql("SELECT count(*) FROM backfill_streams WHERE run_id = $second"), 0, 'before there are streams');
	$writer->query('COMMIT');
	ok(wait_for_status($node, $second, 'completed'), 'then it goes on');
	is(affected($second), '1 0 1', 'and does what came late');
	is(follows($second, $first), 't', 'its windows begin where those of the first ended');
	check_changes($t, 'every row once');

	# those who begin to write when it is under way
	sql("UPDATE $t SET v = v + 1, changed_at = now() WHERE id BETWEEN 1001 AND 1040");
	sql("INSERT INTO behave VALUES (1001, 'gate')");
	settle();
	my $third = start_run($node, $t);
	ok(at_step($third, 1), 'the first stream of a third one is at work');
	sql("UPDATE $t SET v = v + 1, changed_at = clock_timestamp() WHERE id = 1045", "INSERT INTO $t (account, id) VALUES (1, 1902)");
	$writer->query("BEGIN; INSERT INTO $t (account, id) VALUES (1, 1903), (2, 2903)");
	$writer->query("UPDATE $t SET v = v + 1, changed_at = now() WHERE id = 3003");
	settle();
	sql('DELETE FROM behave');
	ok(wait_for_status($node, $third, 'completed'), 'it does not wait for who comes later');
	is(affected($third), '40 0 0', 'nor does it do what was written behind the beginning of a stream');
	my $began = $writer->query('SELECT now()');
	is(windows($third, "(until < '$began')"), 'true, true, true', 'its windows are closed before the transaction that is open');
	$writer->query('COMMIT');
	settle();

	my $fourth = complete('a fourth one', $t);
	is(follows($fourth, $third), 't', 'begins there');
	is(affected($fourth), '3 1 1', 'and does it');
	check_changes($t, 'every change once');
	is(affected(complete('a fifth one', $t)), '0 0 0', 'finds nothing left');
	$writer->quit;
}

# ---------------------------------------------------------------------------
note 'a row that comes behind the last key while that is looked for';

changing('e', 1, 20);
sql(q{CREATE FUNCTION look(key bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM step(key); RETURN true; END'});
define_changes('e', '["all"]', 'changed_at >= run.since AND changed_at < run.until AND look(id)', settings => '"limit": 1000');
sql("INSERT INTO behave VALUES (1001, 'gate')");
settle();
my $run = start_run($node, 'e');
ok(at_step($run, 1), 'the last key is being looked for');
sql('INSERT INTO e (account, id) VALUES (1, 1900)');
settle();
sql('DELETE FROM behave');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(affected($run), 20, 'without it');
is(affected(complete('the next one', 'e')), 1, 'has it');
check_changes('e', 'every row once');

# nobody knows when a prepared transaction began: who has prepared one is waited for
changing('x', 2, 20);
define_changes('x', account_streams(2), 'changed_at >= run.since AND changed_at < run.until');
sql("INSERT INTO behave VALUES (1001, 'gate')");
settle();
$run = start_run($node, 'x');
ok(at_step($run, 1), 'the first stream of a run is at work');
sql('BEGIN', 'INSERT INTO x (account, id) VALUES (2, 2900)', "PREPARE TRANSACTION 'in between'");
settle();
sql('DELETE FROM behave');
ok(wait_for($node, "SELECT wait_reason FROM backfill_runs WHERE id = $run", expected => 'waits for 1 transaction that wrote to the table when the walk began: a prepared transaction'),
	'the second one waits for what was prepared meanwhile');
sql("SELECT backfill_pause($run)");
ok(wait_for_status($node, $run, 'paused'), 'it can be paused meanwhile');
sql("SELECT backfill_resume($run)");
sql("COMMIT PREPARED 'in between'");
ok(wait_for_status($node, $run, 'completed'), 'and resumed');
is(affected($run), '20 21', 'with that');
complete('the next one', 'x');
check_changes('x', 'every row once');

# what a limit counts is what is in the window
changing('l', 2, 30);
define_changes('l', account_streams(2), 'changed_at >= run.since AND changed_at < run.until', settings => '"limit": 7');
settle();
is(affected(complete('with a limit', 'l')), '7 7', 'so many rows of the window of each stream are done');
sql("SELECT backfill_define('whole', 'l', 'UPDATE batch SET n = n', scope => 'changed_at >= run.since AND changed_at < run.until', settings => '{\"limit\": 8}')");
$run = complete('and without streams', 'whole');
is(run_value($node, $run, 'rows_affected'), 8, 'of that of the run');

# ---------------------------------------------------------------------------
note 'lookback, initial_value and end_value';

sql("SET timezone = 'UTC'; ALTER DATABASE postgres SET timezone = 'UTC'",
	'CREATE TABLE days (account int, id bigint, changed_at timestamptz NOT NULL, n int NOT NULL DEFAULT 0, PRIMARY KEY (account, id))',
	q{INSERT INTO days SELECT a, i, '2020-01-01 UTC'::timestamptz + (i - 1) * interval '1 day' FROM generate_series(1, 2) a, generate_series(1, 31) i});
define_streams('days', q{SELECT DISTINCT account AS name, ARRAY[account] AS "from", ARRAY[account] AS "to" FROM days},
	'{"lookback": "1 day", "initial_value": "2020-01-05 00:00:00+00", "end_value": "2020-01-10 00:00:00+00"}',
	statement => 'UPDATE batch SET n = n + 1', more => q{scope => 'changed_at >= run.since AND changed_at < run.until'});
sub days_done { return sql('SELECT string_agg(id::text, \' \' ORDER BY id) FROM days WHERE account = 1 AND n = ' . $_[0]); }

is(sql("SELECT string_agg(key[2], ' ') FROM backfill_preview('days', rows => 9)"), '5 6 7 8 9', 'the preview has the window of a first run');
$run = complete('a first run', 'days');
is(of_days($run), '05-10, 05-10', 'begins with the initial value, whatever lookback says, and ends with the end value');
is(affected($run), '5 5', 'and does what is between them');
is(days_done(1), '5 6 7 8 9', 'without the end');
$run = complete('a second one that ends later', 'days', q{, settings => '{"end_value": "2020-01-20 00:00:00+00"}'});
is(of_days($run), '09-20, 09-20', 'looks back behind the end of the last one');
is(days_done(2), '9', 'and does again what is there');
is(affected($run), '11 11', 'with all that is new');
sql("INSERT INTO days SELECT 3, i, '2020-01-01 UTC'::timestamptz + (i - 1) * interval '1 day' FROM generate_series(1, 31) i");
$run = complete('a third one with another account', 'days', q{, settings => '{"end_value": "2020-01-25 00:00:00+00"}'});
is(of_days($run), '19-25, 19-25, 05-25', 'which begins with the initial value, as the others once did');
is(affected($run), '6 6 20', 'and has more to do');
is(affected(complete('one that ends before', 'days')), '0 0 0', 'does nothing');
$run = complete('the next one, whose end is in the future', 'days', q{, settings => '{"end_value": "2999-01-01 00:00:00+00"}'});
is(windows($run, q{to_char(since, 'DD')}), '24, 24, 24', 'goes on where the third one ended');
is(windows($run, '(until < started_at)'), 'true, true, true', 'and ends when it began');
is(affected($run), '8 8 8', 'with the rest');
is(sql("SELECT count(*) FROM backfill_preview('days')"), 0, 'after that the preview has nothing');
sql(q{UPDATE days SET changed_at = now() - interval '1 hour' WHERE id = 7});
is(affected(complete('within lookback', 'days', q{, settings => '{"end_value": null}'})), '1 1 1', 'is what came with an older time');

# ---------------------------------------------------------------------------
note 'which windows count';

changing('s', 3, 20);
define_changes('s', account_streams(3), 'changed_at >= run.since AND changed_at < run.until');
settle();
my $first = complete('a run', 's');
sql('UPDATE s SET v = v + 1, changed_at = now()', "INSERT INTO behave VALUES (2001, 'gate')");
settle();
my $second = start_run($node, 's');
ok(at_step($second, 1), 'the second stream of another one is at work');
sql("SELECT backfill_stop($second, immediate => true, stream => '2')");
ok(wait_for_status($node, $second, 'stopped'), 'and stopped');
sql('DELETE FROM behave');
is(affected($second), '20 0 20', 'the others are done');
my $third = complete('the next run', 's');
is(sql("SELECT string_agg(o.run_id::text, ' ' ORDER BY s.name) FROM backfill_streams s JOIN backfill_streams o ON o.name = s.name AND o.until = s.since WHERE s.run_id = $third"),
	"$second $first $second", 'goes on where each stream was completed last');
is(affected($third), '0 20 0', 'and does what was left');
check_changes('s', 'every change once');
my $window = windows($second, "(since || ' ' || until)");
sql('UPDATE s SET v = v + 1, changed_at = now() WHERE account = 2');
settle();
sql("SELECT backfill_resume($second)");
ok(wait_for_status($node, $second, 'completed', through_end => 1), 'the stopped one is resumed');
is(windows($second, "(since || ' ' || until)"), $window, 'with the window that it had');
is(affected($second), '20 0 20', 'in which nothing is any more');
is(affected(complete('what was changed since', 's')), '0 20 0', 'is done by the next one');
check_changes('s', 'every change once');

# ---------------------------------------------------------------------------
note 'many writers, all the time';

sql('CREATE SEQUENCE numbers START 100000');
changing('m', 4, 100);
define_changes('m', account_streams(4), 'changed_at >= run.since AND changed_at < run.until', settings => '"workers": 2');
my $script = $node->basedir . '/writers.sql';
PostgreSQL::Test::Utils::append_to_file($script, q{
\set a random(1, 4)
\set b random(1, 4)
\set long random(1, 300)
BEGIN;
INSERT INTO m (account, id) VALUES (:a, nextval('numbers'));
\sleep :long ms
INSERT INTO m (account, id, changed_at) VALUES (:b, nextval('numbers'), clock_timestamp());
COMMIT;
});
my $writers = IPC::Run::start([ 'pgbench', '-n', '-c', 6, '-T', 3600, '-f', $script, $node->connstr('postgres') . q{ application_name='writers'} ], '<', \'', '>', "$script.out", '2>&1');
my $runs = full_length() ? 40 : 5;
foreach my $n (1 .. $runs)
{
	my $before = sql('SELECT count(*) FROM m');
	ok(wait_for($node, "SELECT count(*) > $before + 10 FROM m"), 'rows have come');
	complete("run $n beside them", 'm');
}
my $before = sql('SELECT count(*) FROM m');
ok(wait_for($node, "SELECT count(*) > $before FROM m"), 'and some more');
$writers->kill_kill(grace => 1);
ok(wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'writers'}), 'they have left');
settle();
cmp_ok(sql('SELECT count(*) FROM m WHERE n = 0'), '>', 0, 'the last of them are not done yet');
complete('the last run', 'm');
check_changes('m', 'every row once');

$node->stop;
done_testing();
