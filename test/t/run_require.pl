# The gate that later migrations call: a deploy script, run by psql, stops at a
# backfill that is not done, or has the rest done, and its exit codes say which.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

use constant ROWS => 200;

one_node('require', streaming => 1);
create_target($node, 't', ROWS);
create_step($node);
my $settings = '{"batch_size": 50, "target_batch_time": 0, "sleep": 0}';
my $scripts = PostgreSQL::Test::Utils::tempdir();

# Define the backfill of t again.
sub define
{
	my (%opts) = @_;
	my $statement = $opts{statement} || 'UPDATE batch SET n = n + step(id)';
	sql(qq{SELECT backfill_define('fill', 't', \$s\$$statement\$s\$, scope => 'n = 0', settings => '$settings', parameters => '{"part": {"type": "int", "default": 0}}')});
	return;
}

# Run a deploy script as a tool does, psql -f, with further options.  Returns its exit
# code and what was said.
sub deploy
{
	my ($sql, @options) = @_;
	my ($out, $err) = ('', '');
	my $file = "$scripts/deploy.sql";

	open(my $handle, '>', $file) or die "$file: $!";
	print $handle "$sql\n\\echo deployed\n";
	close $handle;
	IPC::Run::run([ 'psql', '-XAtq', @options, '-d', $node->connstr('postgres'), '-f', $file ], '<', \'', '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

my @stop = ('-v', 'ON_ERROR_STOP=1');
my @sqlstate = ('-v', 'VERBOSITY=verbose');
my ($rc, $out, $err);

# ---------------------------------------------------------------------------
note 'a check';

define();
my $gate = "CALL backfill_require('fill');";
($rc, $out, $err) = deploy($gate, @stop, @sqlstate);
is($rc, 3, 'without any run psql -f ends with 3, if it is to stop at errors');
is($out, '', 'and the script does not go on');
like($err, qr/ERROR:  UB005: backfill "fill" has not completed with the parameters \{"part": 0\}\nDETAIL:  It has had no run with these parameters\.\nHINT:  .*finish => true/, 'it says what is missing');
($rc, $out) = deploy($gate);
is("$rc $out", "0 deployed\n", 'psql -f goes on at errors unless told not to');
($rc) = query($node, $gate);
is($rc, 1, 'psql -c ends with 1');
($rc, $out) = deploy("CREATE TABLE next_step ();\n$gate", @stop, '-1');
is($rc, 3, 'in one transaction for all of it, too');
is(sql("SELECT to_regclass('next_step') IS NULL"), 't', 'which is rolled back');
like(refusal("BEGIN; CREATE TABLE next_step (); $gate"), qr/UB005/, 'within a transaction of its own');
like(refusal("DO \$\$ BEGIN $gate END \$\$"), qr/UB005/, 'in a block');
like(refusal("BEGIN READ ONLY; $gate"), qr/UB005/, 'and where nothing can be written');

# while it is at work
sql("INSERT INTO behave VALUES (10, 'gate')");
my $id = sql("SELECT backfill_start('fill')");
ok(at_gate($id, 1), 'a run is at work');
like(refusal($gate), qr/UB005.*\nDETAIL:  The last run with these parameters, run $id, is "running", at 0.00 %\.\nHINT:  CALL backfill_wait\($id\)/, 'it is not enough');
sql("INSERT INTO behave VALUES (2000, 'fail'); DELETE FROM behave WHERE id = 10");
ok(wait_for_status($node, $id, 'failed'), 'it fails at its end');
like(refusal($gate), qr/UB005.*\nDETAIL:  .*run $id, is "failed", at \S+ %: row 2000 is bad\.\nHINT:  .*finish => true/, 'and the gate says of what');
sql('DELETE FROM behave', "SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'it completes');
foreach my $options ([], [@stop], [ @stop, '-1' ])
{
	($rc, $out, $err) = deploy($gate, @$options);
	is("$rc $out$err", "0 deployed\n", "then the gate is open: @$options");
}
is(sql("BEGIN; CREATE TABLE next_step (); $gate ROLLBACK; SELECT 1"), 1, 'within a transaction');
is(sql("DO \$\$ BEGIN $gate END \$\$; SELECT 1"), 1, 'in a block');
is(sql("BEGIN READ ONLY; CALL backfill_require('fill', finish => true); COMMIT; SELECT 1"), 1, 'where nothing is left to do, finish does not commit');
is(sql("SELECT count(*) FROM backfill_runs"), 1, 'no run was started');

# what does not count
like(refusal(q{CALL backfill_require('fill', '{"part": 1}')}), qr/UB005: .*with the parameters \{"part": 1\}\n.*no run with these/, 'parameters are compared');
is(sql(q{CALL backfill_require('fill', '{"part": 0}'); SELECT 1}), 1, 'with their defaults');
like(refusal(q{CALL backfill_require('fill', '{"port": 0}')}), qr/42P02/, 'those that are not declared are refused');
like(refusal(q{CALL backfill_require('full')}), qr/42704: backfill definition "full" does not exist/, 'so are names');
like(refusal(q{CALL backfill_require(NULL)}), qr/22004/, 'and none');
ok(wait_for_status($node, sql(q{SELECT backfill_start('fill', '{"part": 2}', settings => '{"limit": 50}')}), 'completed'), 'a trial run');
like(refusal(q{CALL backfill_require('fill', '{"part": 2}')}), qr/UB005.*\nDETAIL:  Run \d+ has completed, but its table, statement, scope or bounds are not those that the definition has now\./, 'a trial run with bounds of its own is not the run');
define(statement => 'UPDATE batch SET n = n + step(id), f = 1');
like(refusal($gate), qr/UB005.*\nDETAIL:  Run $id has completed, but its table, statement/, 'nor is that of another statement');
define();
is(sql("$gate SELECT 1"), 1, 'a definition that is made again as it was changes nothing');
sql('CREATE ROLE bob LOGIN');
like(state_of('bob', $gate), qr/42501/, 'who has not the rights of the owner is not told');

# rows that were left out
sql('UPDATE t SET n = 0', "INSERT INTO behave VALUES (70, 'fail')");
$id = sql(q{SELECT backfill_start('fill', '{"part": 3}', settings => '{"on_error": "skip"}')});
ok(wait_for_status($node, $id, 'completed'), 'a run leaves a row out');
($rc, $out, $err) = deploy(q{CALL backfill_require('fill', '{"part": 3}');}, @stop);
is($rc, 0, 'the gate is open');
like($err, qr/WARNING:  1 row was skipped by run $id of fill on t\nHINT:  .*backfill_errors/, 'with a warning');
sql('DELETE FROM behave');
sql("SELECT backfill_retry($id)");
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'until it is tried again');

# ---------------------------------------------------------------------------
note 'the rest';

my $rest = sub { my ($part, $more) = @_; return qq{CALL backfill_require('fill', '{"part": $part}', finish => true} . ($more || '') . ');'; };
my $latest = sub { return sql("SELECT coalesce(max(id), 0) FROM backfill_runs WHERE parameters = '{\"part\": $_[0]}'"); };

# none yet: one is started
sql('UPDATE t SET n = 0');
like(refusal('BEGIN; ' . $rest->(10)), qr/25001: backfill_require cannot do the rest inside a transaction block.*\nDETAIL:  It has had no run.*\nHINT:  Call it outside/, 'not in a transaction block');
like(refusal('DO $$ BEGIN ' . $rest->(10) . ' END $$; SELECT 1'), qr/25001/, 'nor in one that is part of several');
($rc, $out, $err) = deploy($rest->(10), @stop, '-1');
is($rc, 3, 'nor with psql -1');
($rc, $out, $err) = deploy($rest->(10), @stop);
is("$rc $out", "0 deployed\n", 'outside of one it starts a run and waits for it');
like($err, qr/INFO:  run \d+ of fill on t completed in /, 'with the lines of backfill_wait');
$id = $latest->(10);
is(sql("SELECT reason FROM backfill_events WHERE run_id = $id ORDER BY id LIMIT 1"), 'backfill_require', 'the event says who started it');
check_exactly_once($node, $id, 't', ROWS, 'exactly once');
($rc, $out, $err) = deploy($rest->(10), @stop);
is("$rc $out$err", "0 deployed\n", 'the second time there is nothing to do');
is($latest->(10), $id, 'and no other run');

# one that was prepared for it
sql('UPDATE t SET n = 0');
$id = sql(q{SELECT backfill_start('fill', '{"part": 11}', paused => true)});
is((deploy($rest->(11), @stop))[0], 0, 'one that was started paused is begun');
is(value($id, 'status') . $latest->(11), "completed$id", 'and it alone');

# one at work
sql('UPDATE t SET n = 0', "INSERT INTO behave VALUES (10, 'gate')");
$id = sql(q{SELECT backfill_start('fill', '{"part": 12}')});
ok(at_gate($id, 1), 'a run is at work');
my @waiting = map { session($node) } 1 .. 2;
$_->send($rest->(12, ", every => '10 ms'")) for @waiting;
my $pids = join(',', map { $_->pid } @waiting);
ok(wait_for($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event_type = 'Extension' AND backend_xmin IS NULL"), 'two sessions wait for it, and hold no snapshot');
($rc, $out, $err) = deploy($rest->(12, ", timeout => '0.2 s'"), @stop, @sqlstate);
is($rc, 3, 'a third one has not so much time');
like($err, qr/UB003: timed out waiting for run $id/, 'and says so');
sql('DELETE FROM behave');
like($_->query('SELECT 1'), qr/completed in/, 'the two are told of its end') for @waiting;
$_->quit for @waiting;
is($latest->(12), $id, 'no other run was started');
check_exactly_once($node, $id, 't', ROWS, 'exactly once');

# two that start at the same moment
sql('UPDATE t SET n = 0');
@waiting = map { session($node) } 1 .. 3;
$_->send($rest->(13)) for @waiting;
is(join(' ', map { my $said = $_->query('SELECT 1'); $said =~ /ERROR/ ? $said : $said =~ /completed/ ? 'done' : 'open' } @waiting) =~ s/open/done/gr, 'done done done', 'three that come at the same moment all get through');
$_->quit for @waiting;
is(sql(q{SELECT count(*) FROM backfill_runs WHERE parameters = '{"part": 13}'}), 1, 'with one run');
check_exactly_once($node, $latest->(13), 't', ROWS, 'exactly once');

# one that has failed, and one that fails
sql('UPDATE t SET n = 0', "INSERT INTO behave VALUES (1000, 'fail')");
($rc, $out, $err) = deploy($rest->(14), @stop, @sqlstate);
is($rc, 3, 'a run that fails fails the script');
$id = $latest->(14);
like($err, qr/UB002: run $id of fill on t has failed: row 1000 is bad/, 'with its error');
is($out, '', 'which does not go on');
sql('DELETE FROM behave');
is((deploy($rest->(14), @stop))[0], 0, 'the next deploy has it go on');
is(value($id, 'status') . $latest->(14), "completed$id", 'where it was');
check_exactly_once($node, $id, 't', ROWS, 'exactly once');

# one that is stopped meanwhile
sql('UPDATE t SET n = 0', "INSERT INTO behave VALUES (10, 'gate')");
my $session = session($node, flags => [@sqlstate]);
$session->send($rest->(15));
ok(wait_for($node, q{SELECT count(*) = 1 FROM backfill_runs WHERE parameters = '{"part": 15}'}), 'a run is begun');
$id = $latest->(15);
ok(at_gate($id, 1), 'and at work');
sql("SELECT backfill_stop($id, true)");
like($session->query('SELECT 1'), qr/UB001: run $id of fill on t was stopped/, 'a stop is told');
$session->quit;

# the session is gone: the run goes on
sql('DELETE FROM behave');
sql("INSERT INTO behave VALUES (10, 'gate')");
$session = session($node);
$session->send($rest->(15));
ok(wait_for($node, "SELECT status = 'running' FROM backfill_runs WHERE id = $id"), 'it goes on for the next one');
sql('SELECT pg_terminate_backend(' . $session->pid . ')');
sql('DELETE FROM behave');
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'also when that is gone');
$session->quit;
check_exactly_once($node, $id, 't', ROWS, 'exactly once');

# one in the way
sql('UPDATE t SET n = 0');
$id = sql(q{SELECT backfill_start('fill', '{"part": 16}', paused => true)});
like(refusal($rest->(17)), qr/55006: run $id is active on the same table/, 'another run on the table is in the way');
define(statement => 'UPDATE batch SET n = n + step(id), f = 1');
like(refusal($rest->(16)), qr/55006: run $id of backfill "fill" is active with another table, statement, scope or other bounds\n.*\nHINT:  backfill_replace\($id\)/, 'one of other making is not what is meant');
sql("SELECT backfill_replace($id)");
is((deploy($rest->(16), @stop))[0], 0, 'until it is made the same');
is(sql('SELECT DISTINCT n, f FROM t'), '1|1', 'as the definition says now');

# on a standby
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
ok(wait_for($standby, 'SELECT pg_is_in_recovery()'), 'a standby');
is(query_ok($standby, q{CALL backfill_require('fill', '{"part": 16}', finish => true); SELECT 1}), 1, 'can be asked');
is(sqlstate($standby, q{CALL backfill_require('fill', '{"part": 18}')}), 'UB005', 'and says what is missing');
is(sqlstate($standby, $rest->(18)), '25006', 'but does not do the rest');
$standby->stop;

# where the library is not loaded
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(sql(q{CALL backfill_require('fill', '{"part": 16}'); SELECT 1}), 1, 'a server without the library can be asked');
like(refusal($rest->(18)), qr/55000/, 'but does not do the rest');

$node->stop;
done_testing();
