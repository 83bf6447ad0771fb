# Runs that pause themselves: after so many batches, exactly, whatever the number of
# workers, errors and crashes; after so much time; and for as much again when resumed.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');

my $settings = '"batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "10 ms"';

sub begin
{
	my ($name, $more, %opts) = @_;
	create_target($node, $name, $opts{rows} || 1000);
	define_increment($node, $name, "{$settings, $more}", statement => $opts{statement});
	return start_run($node, $name);
}

# What the run says of itself when it has paused.
sub pauses
{
	my ($run, $batches, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(settles($run, 'paused'), "$name: the run pauses");
	is(value($run, "batches, rows_affected, wait_reason"), "$batches|@{[$batches * 10]}|max_batches: 7 are done since it was started or resumed; backfill_resume lets it go on", 'after so many batches');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND status <> 'completed' AND NOT skipped"), 0, 'none is open');
	is(sql("SELECT concat_ws('|', previous_status, status, role, reason) FROM backfill_events WHERE run_id = $run AND kind = 'transition' ORDER BY id DESC LIMIT 1"),
		'running|paused|max_batches: 7 are done since it was started or resumed', 'and says why');
	return nobody_left($run, 'nobody works on it');
}

# ---------------------------------------------------------------------------
note 'max_batches, by one worker and by several';

foreach my $workers (1, 4)
{
	my $name = "w$workers";
	my $run = begin($name, qq{"max_batches": 7, "workers": $workers});
	pauses($run, 7, "$workers worker(s)");
	is(sql("SELECT count(*) FROM $name WHERE n = 1"), 70, 'the rows agree');
	my ($rc, $out, $err) = query($node, "CALL backfill_wait($run)", flags => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  UB004: run $run .* has paused itself\nDETAIL:  max_batches: 7 are done .*\nHINT:  SELECT backfill_resume\($run\)/, 'who waits for it is told');
	sql("SELECT backfill_resume($run)");
	pauses($run, 14, 'resumed, as many again');
	sql(qq{SELECT backfill_alter($run, '{"max_batches": null}')});
	is(value($run, 'status'), 'paused', 'without a limit it stays paused');
	sql("SELECT backfill_resume($run)");
	ok(wait_for_status($node, $run, 'completed'), 'and resumed it completes');
	is(value($run, 'batches, wait_reason'), '100|', 'whole');
	check_exactly_once($node, $run, $name, 1000, 'exactly once');
}

# the end of the walk is no reason to pause
my $run = begin('ends', '"max_batches": 10', rows => 100);
ok(wait_for_status($node, $run, 'completed'), 'as many batches as there are: the run completes');
$run = begin('empty', '"max_batches": 1, "from": 100000', rows => 100);
ok(wait_for_status($node, $run, 'completed'), 'and one without rows does, too');

# somebody else's pause is nobody's own
$run = begin('others', '"sleep": "10 min"');
ok(wait_for($node, "SELECT batches > 0 FROM backfill_runs WHERE id = $run"), 'a run is on its way');
sql("SELECT backfill_pause($run)");
ok(settles($run, 'paused'), 'it is paused');
like((query($node, "CALL backfill_wait($run, timeout => '10 ms')", flags => [ '-v', 'VERBOSITY=verbose' ]))[2], qr/UB003/, 'that is waited for');
sql("SELECT backfill_stop($run)");

# ---------------------------------------------------------------------------
note 'what is divided, put aside or skipped counts once';

create_step($node);
sql(q{INSERT INTO behave VALUES (150, 'fail'), (320, 'once'), (690, 'fail')});
$run = begin('hard', '"max_batches": 7, "on_error": "skip", "max_error_rate": 1, "workers": 2', statement => 'UPDATE batch SET n = n + step(id)');
ok(settles($run, 'paused'), 'the run pauses');
is(value($run, 'errors, rows_affected, rows_scanned'), '2|68|68', 'when the parts of its seven batches are done');
is(sql("SELECT max(number), count(DISTINCT number) FROM backfill_batches WHERE run_id = $run"), '7|7', 'and no other was begun');
sql('DELETE FROM behave', "SELECT backfill_stop($run)");
ok(settles($run, 'stopped'), 'stopped');
like(sql("SELECT backfill_retry($run)"), tries(2), 'what was skipped is tried again');
ok(settles($run, 'paused'), 'and seven more');
is(value($run, 'errors, rows_affected'), '0|140', 'are done');

# ---------------------------------------------------------------------------
note 'the server is killed on the way';

$run = begin('killed', '"max_batches": 40, "workers": 3, "sleep": "20 ms"', rows => 2000);
foreach my $batches (8, 20)
{
	ok(wait_for($node, "SELECT batches >= $batches FROM backfill_runs WHERE id = $run", interval => 2_000), "$batches batches are done");
	ok(kill_postmaster($node), 'the server is killed');
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(settles($run, 'paused'), 'the run pauses');
is(value($run, 'batches, rows_affected'), '40|400', 'after as many batches as it should');
$node->restart;
is(value($run, 'status, batches'), 'paused|40', 'a restart changes nothing');
sql(qq{SELECT backfill_alter($run, '{"max_batches": 1000, "sleep": 0}')}, "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed'), 'resumed it completes');
check_exactly_once($node, $run, 'killed', 2000, 'exactly once');

# ---------------------------------------------------------------------------
note 'max_duration';

$run = begin('timed', '"max_duration": "1500 ms", "workers": 2, "sleep": "100 ms"', rows => 5000);
ok(settles($run, 'paused'), 'the run pauses when its time has passed');
like(value($run, 'wait_reason'), qr/^max_duration: 1500ms have passed since it was started or resumed; backfill_resume lets it go on$/, 'and says so');
my ($done, $took) = split(/\|/, value($run, 'batches, extract(epoch FROM (SELECT max(at) FROM backfill_events WHERE run_id = ' . $run . ') - started_at)'));
ok($done > 0 && $done < 500, "with $done batches done");
ok($took >= 1.5, "after $took s");
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $run AND status = 'running'"), 0, 'what was in hand is done');
sql("SELECT backfill_resume($run)");
ok(settles($run, 'paused'), 'resumed, it has as much again');
cmp_ok(value($run, 'batches'), '>', $done, 'in which it goes on');
sql(qq{SELECT backfill_alter($run, '{"max_duration": "1 day", "sleep": 0}')}, "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed'), 'and completes');
check_exactly_once($node, $run, 'timed', 5000, 'exactly once');

# one that is held all the time has no batch to end
$run = begin('held', '"max_duration": "300 ms", "probe": "SELECT 1"', rows => 100);
ok(settles($run, 'paused'), 'a run that is held pauses, too');
is(value($run, 'batches'), 0, 'although it has done nothing');

# hooks are called, and one that pauses may be seen
sql(q{CREATE TABLE told (what text); CREATE FUNCTION tell(e backfill_event) RETURNS void LANGUAGE sql AS $$INSERT INTO told VALUES (e.status)$$});
sql(q{SELECT backfill_define('w1', 'w1', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 10, "target_batch_time": 0, "max_batches": 3}')}, q{SELECT backfill_on('before run paused', 'tell', 'w1')});
$run = start_run($node, 'w1');
ok(settles($run, 'paused'), 'a run with a hook pauses');
is(sql('SELECT string_agg(what, $$, $$) FROM told') . value($run, 'batches, wait_reason IS NOT NULL'), 'paused3|t', 'its hook was called');

$node->stop;
done_testing();
