# backfill_wait: what it prints, how it ends, and that who waits holds
# nothing.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('control', conf => "deadlock_timeout = 100ms\n");

# A run of a definition with settings of its own.  Those of "t" go side by side.
sub start
{
	my ($name, $settings) = @_;
	my $parameters = $name eq 't' ? another() . ', ' : '';
	return sql("SELECT backfill_start('$name', ${parameters}settings => '" . ($settings || '{}') . "')");
}

# A slow walk: 200 rows, and a pause after each batch that outlasts the test.
create_target($node, 't', 200);
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 hour", "share_target": true}', numbered => 1);

# Wait until the run sleeps between two batches.
sub sleeps
{
	my ($id) = @_;
	return wait_for($node,
		"SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'");
}

# ---------------------------------------------------------------------------
note 'backfill_wait';

create_target($node, 'f', 30);
define_increment($node, 'f', '{"batch_size": 10, "target_batch_time": 0}');
define_increment($node, 'bad', '{"batch_size": 10, "target_batch_time": 0}', target => 't',
	statement => 'UPDATE batch SET n = 1 / (id - id)::int');

# One run that was deleted, one that was stopped, and one that failed.
my %run = (deleted => start('t'), stopped => start('t'));
ok(sleeps($run{$_}), "a run that will be $_") for ('deleted', 'stopped');
sql("SELECT backfill_stop_all()");
ok(wait_for_status($node, $run{$_}, 'stopped'), 'is stopped') for ('deleted', 'stopped');
sql("SELECT backfill_delete($run{deleted})");
$run{failed} = start('bad');
ok(wait_for_status($node, $run{failed}, 'failed'), 'a run fails');
my $slow = start('f', '{"batch_size": 1, "target_batch_time": 0, "sleep": "50 ms"}');
my ($rc, $out, $err) = query($node, "CALL backfill_wait($slow, every => '100 ms')");
is($rc, 0, 'psql ends well when the run completed');
my @lines = grep { /^INFO:/ } split /\n/, $err;
cmp_ok(scalar(@lines), '>=', 3, 'several lines of progress');
like($lines[1], qr/run $slow of f on f: [\d.]+ %, \d+ of about \d+ rows/, 'with percent and rows');
like(join("\n", @lines), qr{, \d+ rows/s, ETA \d\d:\d\d:\d\d}, 'with rate and the time that is left');
like($lines[-1], qr{run $slow of f on f completed in 00:00:0\d: 30 rows walked, 30 changed, \d+ rows/s$}, 'the last one tells the end');
is(scalar(grep { $_ !~ /^INFO:  run $slow of f on f/ } split /\n/, $err), 0, 'and nothing else is printed');
my @percents = map { /: ([\d.]+) %/ ? $1 : () } @lines;
is(join(' ', @percents), join(' ', sort { $a <=> $b } @percents), 'the percentage never falls');
($rc, $out, $err) = query($node, "CALL backfill_wait($slow)");
like($err, qr/^INFO:  run $slow of f on f completed in [^\n]*\n$/, 'waiting for a run that has ended says so at once');

like(refusal("CALL backfill_wait($run{deleted})"), qr/42704: backfill run $run{deleted} does not exist/,
	'there is no waiting for a run that was deleted');
like(refusal("CALL backfill_wait($run{stopped})"),
	qr/UB001: run $run{stopped} of t on t was stopped.*HINT:.*backfill_resume/s,
	'the end of a run that was stopped is an error');
like(refusal("CALL backfill_wait($run{failed})"),
	qr/UB002: run $run{failed} of bad on t has failed: division by zero.*DETAIL:  SQLSTATE 22012\n.*HINT:  The setting "on_error".*backfill_alter\($run{failed}, '\{"on_error": "skip"\}'\).*backfill_resume\($run{failed}\)/s,
	'that of a run that failed is its error, with its SQLSTATE, and what may help');
($rc) = query($node, "CALL backfill_wait($run{failed})");
isnt($rc, 0, 'psql does not end well then');

$slow = start('t');
ok(sleeps($slow), 'a run that takes an hour');
like(refusal("CALL backfill_wait($slow, '300 ms')"), qr/UB003: timed out waiting for run $slow of t on t, which is "running".*HINT:  The run goes on/s,
	'the waiting has a timeout');
is(value($slow, 'status'), 'running', 'which leaves the run alone');
my $held = start('t');
ok(sleeps($held), 'another one');
sql("SELECT backfill_pause($held)");
ok(wait_for_status($node, $held, 'paused'), 'is paused');
like(refusal("CALL backfill_wait($held, '0')"), qr/UB003: timed out .*, which is "paused"\n.*HINT:  It is paused: SELECT backfill_resume\($held\) lets it go on/s,
	'of a run that is paused it is not said that it goes on');
sql("SELECT backfill_stop($held)");
($rc, $out, $err) = query($node, "CALL backfill_wait($slow, '0')");
isnt($rc, 0, 'a timeout of zero looks once');
like(refusal("BEGIN; CALL backfill_wait($slow)"), qr/25001: backfill_wait cannot run inside a transaction block/,
	'not in a transaction block');
like(refusal("DO \$\$ BEGIN PERFORM 1; CALL backfill_wait($slow); EXCEPTION WHEN division_by_zero THEN NULL; END \$\$"),
	qr/25001/, 'nor where an exception handler holds a transaction');
like(refusal('CALL backfill_wait(NULL)'), qr/22004/, 'the id may not be null');

my $waiting = session($node);
$waiting->send("CALL backfill_wait($slow, every => '50 ms')");
my $waits = 'FROM pg_stat_activity WHERE pid = ' . $waiting->pid;
ok(wait_for($node, "SELECT wait_event_type = 'Extension' AND query LIKE 'CALL backfill_wait%' $waits"),
	'a session that waits');
is( sql("SELECT bool_and(a.free) FROM generate_series(1, 20) i CROSS JOIN LATERAL (
			SELECT pg_sleep(0.02 + i * 0), pg_stat_clear_snapshot()) s CROSS JOIN LATERAL (
			SELECT i > 0 AND backend_xid IS NULL AS free $waits) a"),
	't', 'it never takes a transaction id');
ok(wait_for($node, "SELECT wait_event_type = 'Extension' AND backend_xmin IS NULL $waits"),
	'it holds no snapshot while it waits');
is(sql('SELECT string_agg(DISTINCT mode, $$,$$) FROM pg_locks WHERE relation IS NOT NULL AND mode <> $$AccessShareLock$$ AND pid = ' . $waiting->pid),
	'', 'and no lock that hinders anybody');
sql("SELECT backfill_stop($slow)");
like($waiting->query('SELECT 1'), qr/ERROR:  run $slow of t on t was stopped/, 'it is told of the end');
$waiting->quit;

# ---------------------------------------------------------------------------
note 'what the end of a run says';

define_increment($node, 'nobody', '{"target_batch_time": 0}', target => 'f', statement => 'UPDATE batch SET n = n WHERE id < 0');
sql("SELECT backfill_start('nobody')");
($rc, $out, $err) = query($node, "CALL backfill_wait('nobody')");
like($err, qr/^INFO:  run \d+ of nobody on f completed in \S+: 30 rows walked, 0 changed, .*\nWARNING:  run \d+ of nobody on f has changed nothing\nDETAIL:  Of the 30 rows walked, none/,
	'a run that changes nothing warns of it');
sql(q{SELECT backfill_define('scoped', 'f', 'UPDATE batch SET n = -1', scope => 'n <> -1 AND id <= 60', settings => '{"verify": true}')});
my $in_scope = sql('SELECT count(*) FROM f WHERE n <> -1 AND id <= 60');
sql("SELECT backfill_start('scoped')");
($rc, $out, $err) = query($node, "CALL backfill_wait('scoped')");
like($err, qr/completed in \S+: 30 rows walked, $in_scope in scope, $in_scope changed/, 'one with a scope that is verified tells how many rows were in it');
cmp_ok($in_scope, '<', 30, 'which are not all');
define_increment($node, 'holed', '{"batch_size": 10, "target_batch_time": 0, "on_error": "skip", "max_error_rate": 1}', target => 'f',
	statement => 'UPDATE batch SET n = 1 / (id - 70)::int / (id - 80)::int');
my $holed = sql("SELECT backfill_start('holed')");
($rc, $out, $err) = query($node, "CALL backfill_wait('holed')");
like($err, qr{completed in \S+: 30 rows walked, 28 changed, 2 skipped, .*\nWARNING:  2 rows were skipped by run $holed of holed on f\nHINT:  .*backfill_errors.*backfill_retry\($holed\)},
	'one that has skipped rows, too');
is($rc, 0, 'and both end well');

# Which row it was.
define_increment($node, 'one', '{"batch_size": 1, "target_batch_time": 0, "sleep": 0}', target => 'f', statement => 'UPDATE batch SET n = 1 / (id - 70)::int');
sql("SELECT backfill_start('one')");
like(refusal("CALL backfill_wait('one')"), qr/UB002: .*DETAIL:  SQLSTATE 22012\nThe batch is the row with the key \(70\)\.\n/s, 'a batch of one row that fails says which row it is');
sql(q{SELECT backfill_alter('one', '{"on_error": "skip", "max_errors": 1, "batch_size": 10}'), backfill_resume('one')});
ok(wait_for_status($node, sql(q{SELECT max(id) FROM backfill_runs WHERE name = 'one'}), 'completed'), 'it is left out as the hint has said');
define_increment($node, 'limit', '{"batch_size": 10, "target_batch_time": 0, "on_error": "skip", "max_errors": 1}', target => 'f',
	statement => 'UPDATE batch SET n = 1 / (id - 70)::int / (id - 80)::int');
sql("SELECT backfill_start('limit')");
like(refusal("CALL backfill_wait('limit')"), qr/UB002: .*the last row that was skipped, the one with the key \([78]0\)\.\n/s, 'the row at which the limit was reached is named');

# ---------------------------------------------------------------------------
note 'the run that was started last in the session';

like(refusal('CALL backfill_wait()'), qr/55000: no backfill run was started in this session/, 'none was');
# What CALL backfill_wait() says or waits for, after those commands in its session.
sub last_of
{
	my (@commands) = @_;
	my (undef, undef, $said) = query($node, 'CALL backfill_wait()', flags => [ map { ('-c', $_) } @commands ]);
	return $said =~ /INFO:  run \d+ of (\w+) on f completed/ ? $1 : $said;
}
like(last_of('BEGIN', "SELECT backfill_start('nobody')", 'ROLLBACK'), qr/no backfill run was started/, 'one that was rolled back is none');
define_increment($node, $_, '{"share_target": true, "target_batch_time": 0}', target => 'f', statement => 'UPDATE batch SET n = n WHERE id < 0', numbered => 1) for 'other', 'third';
# Commands that start a run of one definition or of another.
sub start_other { return "SELECT backfill_start('other', " . another() . ')'; }
sub start_third { return "SELECT backfill_start('third', " . another() . ')'; }
is(last_of(start_other()), 'other', 'the one that was');
is(last_of(start_third(), start_other()), 'other', 'the last of two');
is(last_of(start_third(), 'BEGIN', start_other(), 'ROLLBACK'), 'third', 'of which the second was rolled back');
is(last_of('BEGIN', start_third(), 'SAVEPOINT s', start_other(), 'ROLLBACK TO s', 'COMMIT'), 'third', 'or to a savepoint');
is(last_of('BEGIN', start_other(), 'SAVEPOINT s', start_third(), 'RELEASE s', 'COMMIT'), 'third', 'a savepoint that was released counts');
is(last_of('BEGIN', start_other(), 'SAVEPOINT s', 'SAVEPOINT q', start_third(), 'RELEASE q', 'ROLLBACK TO s', 'COMMIT'), 'other', 'unless what holds it was rolled back');
($rc, $out, $err) = query($node, "CALL backfill_wait(timeout => '-1 s')", flags => [ '-v', 'VERBOSITY=verbose', '-c', "SELECT backfill_start('nobody', start_at => now() + interval '1 day')" ]);
like($err, qr/UB003: timed out .*, which is "pending"/, 'it has the other arguments, too');

$node->stop;
done_testing();
