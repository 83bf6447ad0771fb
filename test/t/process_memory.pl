# What the scheduler and backfill_stop_all read of runs: how they stand, and not
# the texts, which may be long and many.  What is longer than any limit is put
# into the tables here, so that reading it shows.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use List::Util qw(min);
use Test::More;

use constant MB => 1024;		# kB, as in /proc
one_node('memory');

# The most memory that the process has had, in kB; 0 when it is gone.
sub peak
{
	my ($pid) = @_;
	open(my $file, '<', "/proc/$pid/status") or return 0;
	my ($peak) = map { /^VmHWM:\s+(\d+)/ ? $1 : () } <$file>;
	close($file);
	return $peak || 0;
}

sub scheduler
{
	return sql(q{SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'});
}

create_target($node, 't', 20);
create_target($node, 'held', 20);
create_step($node);
define_increment($node, 'held', '{"batch_size": 5, "target_batch_time": "off", "sleep": 0}',
	statement => 'UPDATE batch SET n = n + step(id)');
sql(q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = n + 1', parameters => '{"number": "int"}', settings => '{"share_target": true}')});

# ---------------------------------------------------------------------------
note 'runs with long texts beside one that is at work';

sql('INSERT INTO behave VALUES (100, \'gate\')');
my $held = start_run($node, 'held');
my @later = map { sql("SELECT backfill_start('t', @{[another]}, start_at => now() + interval '1 day')") } 1 .. 8;
my @blocked = map { sql("SELECT backfill_start('t', @{[another]}, after => ARRAY[$held])") } 1 .. 8;
my $paused = sql("SELECT backfill_start('t', @{[another]}, after => ARRAY[$held])");
sql("SELECT backfill_pause($paused)");

# 4 MB each; the run of the scheduler's is begun anew, so that it has read nothing yet.
# The table is locked, since the scheduler writes to the same rows in an order of its own.
sql('BEGIN', 'LOCK TABLE backfill.run IN EXCLUSIVE MODE', q{UPDATE backfill.run SET statement = statement || ' --' || repeat('x', 4000000),
	finish = 'SELECT 1 --' || repeat('x', 4000000),
	parameters = parameters || jsonb_build_object('long', repeat('x', 4000000)) WHERE name = 't'}, 'COMMIT');
ok(wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'"), 'there is a scheduler');
my $before = scheduler();
sql("SELECT pg_terminate_backend($before)");
ok(wait_for($node, qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'backfill scheduler' AND pid <> $before}),
	'a scheduler that has seen nothing');
my $scheduler = scheduler();
ok(wait_for($node, "SELECT count(*) = 8 FROM backfill.run WHERE wait_reason ~ '^waits for run $held'"),
	'it has looked at the runs that wait for another');
sql("UPDATE backfill.run SET wait_reason = NULL WHERE wait_reason ~ '^waits for run $held'");
ok(wait_for($node, "SELECT count(*) = 8 FROM backfill.run WHERE wait_reason ~ '^waits for run $held'"),
	'and does again in each round');
my $peak = peak($scheduler);
note "the scheduler has had $peak kB";
cmp_ok($peak, '>', 0, 'it is still there');
cmp_ok($peak, '<', 150 * MB, 'and has read none of their texts');

# ---------------------------------------------------------------------------
note 'backfill_stop_all';

my $session = session($node);
my $pid = $session->pid;
is($session->query('SELECT count(*) FROM backfill_stop_all()'), '18', 'backfill_stop_all stops them all');
$peak = peak($pid);
note "the session has had $peak kB";
cmp_ok($peak, '<', 150 * MB, 'and has read none of their texts');
$session->quit;
sql('DELETE FROM behave');
ok(wait_for_status($node, $held, 'stopped'), 'the run that was at work stops, too');
is(value($_, 'status'), 'stopped', "run $_ is stopped") for (@later, @blocked, $paused);

# ---------------------------------------------------------------------------
note 'runs to wait for';

# One of a thousand elements asked for its texts a thousand times.
sql("DELETE FROM backfill.run WHERE name = 't' AND id <> $later[0]");
sql("UPDATE backfill.run SET finish = 'SELECT 1 --' || repeat('x', 1000000), statement = 'UPDATE batch SET n = n + 1', parameters = '{\"number\": 0}' WHERE id = $later[0]");
$session = session($node);
$pid = $session->pid;
like($session->query("SELECT backfill_start('t', '{\"number\": -1}', after => array_fill($later[0]::bigint, ARRAY[1000]))"),
	qr/^\d+$/, 'a run that waits for a thousand');
$peak = peak($pid);
note "the session has had $peak kB";
cmp_ok($peak, '<', 100 * MB, 'takes memory for none of them');
$session->quit;

# ---------------------------------------------------------------------------
note 'long errors';

sql(q{CREATE FUNCTION long_error() RETURNS int LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION '%', repeat('é', 1000000) USING DETAIL = repeat('x', 1000000), HINT = repeat('x', 1000000); END $$});
sql(q{SELECT backfill_define('loud', 'held', 'UPDATE batch SET n = long_error()')});
my $loud = start_run($node, 'loud');
ok(wait_for_status($node, $loud, 'failed'), 'a run fails with a long error');
is(value($loud, q{octet_length(error), length(replace(error, 'é', '')), octet_length(error_detail), octet_length(error_hint)}),
	'65536|0|65536|65536', 'which is kept up to its limit');
cmp_ok(sql("SELECT max(octet_length(reason)) FROM backfill.event WHERE run_id = $loud"), '<=', 65536, 'in the events, too');
cmp_ok(sql("SELECT coalesce(max(octet_length(error)), 0) FROM backfill.batch WHERE run_id = $loud"), '<=', 65536, 'and in the batches');

# ---------------------------------------------------------------------------
note 'windows that do not match';

# How long it takes, in milliseconds, to ask a hundred windows fifty times.
sub duration
{
	my ($first) = @_;
	return sql(qq{
		CREATE TEMP TABLE asked AS
		SELECT jsonb_build_array('$first'::jsonb) || jsonb_agg('{"days": "2001-01-01", "closed": true}'::jsonb) AS windows
		  FROM generate_series(1, 99);
		CREATE TEMP TABLE took (ms float);
		DO \$\$ DECLARE began timestamptz := clock_timestamp(); BEGIN
			PERFORM (SELECT closed FROM backfill_window(windows, '2026-01-01 12:00'::timestamptz + i * interval '1 s'))
			   FROM asked, generate_series(1, 50) i;
			INSERT INTO took VALUES (EXTRACT(epoch FROM clock_timestamp() - began) * 1000);
		END \$\$;
		SELECT ms FROM took});
}

# By turns, the shortest of each: a machine that is busy takes some milliseconds away
# at any time, and not each time.
my ($matching, $not);
foreach (1 .. 100)
{
	$matching = min(grep { defined } $matching, duration('{"days": "2026-01-01", "closed": true}'));
	$not = min(grep { defined } $not, duration('{"days": "2001-01-01", "closed": true}'));
	last if $_ >= 5 && $not < 4 * $matching;
}
note "$matching ms when the first matches, $not ms when none does";
cmp_ok($not, '<', 4 * $matching, 'cost little more than to be read');

$node->stop;
done_testing();
