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
like($lines[1], qr/run $slow "f" running: [\d.]+ %, \d+ of about \d+ rows/, 'with percent and rows');
like(join("\n", @lines), qr{, \d+ rows/s, ETA \d\d:\d\d:\d\d}, 'with rate and the time that is left');
like($lines[-1], qr/run $slow "f" completed: 100.00 %, 30 of \d+ rows/, 'the last one tells the end');
is(scalar(grep { $_ !~ /^INFO:  run $slow "f" / } split /\n/, $err), 0, 'and nothing else is printed');
my @percents = map { /: ([\d.]+) %/ ? $1 : () } @lines;
is(join(' ', @percents), join(' ', sort { $a <=> $b } @percents), 'the percentage never falls');
($rc, $out, $err) = query($node, "CALL backfill_wait($slow)");
like($err, qr/^INFO:  run $slow "f" completed: [^\n]*\n$/, 'waiting for a run that has ended says so at once');

like(refusal("CALL backfill_wait($run{deleted})"), qr/42704: backfill run $run{deleted} does not exist/,
	'there is no waiting for a run that was deleted');
like(refusal("CALL backfill_wait($run{stopped})"),
	qr/57014: backfill run $run{stopped} "t" was stopped.*HINT:.*backfill_resume/s,
	'the end of a run that was stopped is an error');
like(refusal("CALL backfill_wait($run{failed})"),
	qr/22012: backfill run $run{failed} "bad" failed: division by zero.*HINT:.*backfill_resume/s,
	'that of a run that failed is its error, with its SQLSTATE');
($rc) = query($node, "CALL backfill_wait($run{failed})");
isnt($rc, 0, 'psql does not end well then');

$slow = start('t');
ok(sleeps($slow), 'a run that takes an hour');
like(refusal("CALL backfill_wait($slow, '300 ms')"), qr/57014: timed out waiting for backfill run $slow, which is "running".*HINT:  The run goes on/s,
	'the waiting has a timeout');
is(value($slow, 'status'), 'running', 'which leaves the run alone');
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
like($waiting->query('SELECT 1'), qr/ERROR:  backfill run $slow "t" was stopped/, 'it is told of the end');
$waiting->quit;

$node->stop;
done_testing();
