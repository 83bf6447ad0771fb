# Worker slots are shared among the owners that want them, and a worker that
# sleeps gives its slot to a run that has none.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main', conf => "backfill.max_workers = 3\n");
sql(q{CREATE ROLE alice LOGIN}, q{CREATE ROLE bob LOGIN}, q{GRANT CREATE ON SCHEMA public TO PUBLIC});

sub workers_of { return "SELECT count(*) FROM backfill_workers WHERE owner = '$_[0]'::regrole"; }
sub begin
{
	my ($role, $name, $rows, $settings) = @_;
	as($role, "CREATE TABLE $name (id int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO $name SELECT generate_series(1, $rows)");
	as($role, "SELECT backfill_define('$name', '$name', 'UPDATE batch SET n = n + 1', settings => '{\"batch_size\": 10, \"target_batch_time\": 0, $settings}')");
	return as($role, "SELECT backfill_start('$name')");
}

# ---------------------------------------------------------------------------
note 'owners';

my $long = begin('alice', 'long', 100_000, '"workers": 3, "sleep": "100 ms"');
ok(wait_for($node, workers_of('alice'), expected => 3), 'one owner alone has all slots');
my $other = begin('bob', 'other', 100_000, '"workers": 3, "sleep": "100 ms"');
ok(wait_for($node, workers_of('bob'), expected => 1), 'it gives some back when another comes');
ok(wait_for($node, workers_of('alice'), expected => 2), 'and keeps its share');
my $done = sql("SELECT rows_scanned FROM backfill_runs WHERE id = $other");
ok(wait_for($node, "SELECT rows_scanned > $done + 200 FROM backfill_runs WHERE id = $other"), 'both are at work');
is(sql(workers_of('alice')) . sql(workers_of('bob')), '21', 'and stay so');
is(sql("SELECT count(DISTINCT pid) FROM backfill_batches WHERE run_id = $other"), '1', 'no slot goes to and fro');
sql("SELECT backfill_stop($other)");
ok(settles($other, 'stopped'), 'the other is stopped');
ok(wait_for($node, workers_of('alice'), expected => 3), 'the first has all slots again');
sql("SELECT backfill_stop($long)");
ok(settles($long, 'stopped'), 'it is stopped');
is(sql('SELECT max(n) FROM long'), '1', 'no row was processed twice');

# ---------------------------------------------------------------------------
note 'sleepers';

my $lone = begin('alice', 'lone', 1000, '"sleep": "1 h"');
ok(wait_for($node, "SELECT count(*) = 1 AND bool_and(state = 'sleeping') FROM backfill_workers WHERE run_id = $lone"), 'the first slot is asleep');
my $sleepy = begin('alice', 'sleepy', 1000, '"workers": 2, "sleep": "1 h"');
ok(wait_for($node, "SELECT count(*) = 3 AND bool_and(state = 'sleeping') FROM backfill_workers"), 'all slots are');
my $scanned = "SELECT sum(rows_scanned) FROM backfill_runs WHERE id IN ($lone, $sleepy)";
my $rows = sql($scanned);
my $asleep = sql("SELECT min(state_since) FROM backfill_workers");
my $quick = begin('alice', 'quick', 100, '"sleep": 0');
ok(settles($quick, 'completed'), 'a run that has no worker gets the slot of one that sleeps');
is(sql("SELECT started_at > '$asleep'::timestamptz + interval '4 s' FROM backfill_runs WHERE id = $quick"), 't', 'which keeps it for some seconds');
my $next = begin('alice', 'next', 200, '"sleep": "100 ms"');
ok(settles($next, 'completed'), 'the next run has that slot');
is(sql($scanned), $rows, 'nobody is woken early by that');
ok(wait_for($node, "SELECT wait_reason FROM backfill_runs WHERE id = $lone", expected => "sleeps, and has given its worker's place to others meanwhile"), 'who has no worker any more says so');
sql("SELECT backfill_alter(id, '{\"sleep\": 0}') FROM backfill_runs WHERE id IN ($lone, $sleepy)");
ok(settles($_, 'completed'), 'altered, it goes on at once') foreach $lone, $sleepy;
is(sql('SELECT min(n), max(n) FROM (SELECT n FROM sleepy UNION ALL SELECT n FROM lone) b'), '1|1', 'and every row is processed once');

# ---------------------------------------------------------------------------
note 'whose turn it is';

sql('CREATE ROLE carol LOGIN');
$node->append_conf('postgresql.conf', 'backfill.max_workers = 4');
$node->restart;
my %runs = map { $_ => begin($_, "of_$_", 100_000, '"sleep": "100 ms", "workers": ' . ($_ eq 'alice' ? 2 : 1)) } qw(alice bob carol);
ok(wait_for($node, "SELECT count(*) = 4 AND bool_and(batches > 0) FROM backfill_workers"), 'three owners have all slots');
my $hers = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM backfill_workers WHERE run_id = $runs{alice}";
my $before = sql($hers);
sql("SELECT backfill_alter($runs{alice}, '{\"workers\": 3}')");
sql("SELECT backfill_alter($runs{bob}, '{\"workers\": 2}')");
$done = sql("SELECT rows_scanned FROM backfill_runs WHERE id = $runs{bob}");
ok(wait_for($node, "SELECT rows_scanned > $done + 200 FROM backfill_runs WHERE id = $runs{bob}"), 'two of them want one more');
is(sql(workers_of('alice')) . sql(workers_of('bob')), '21', 'and wait for it');
sql("SELECT backfill_stop($runs{carol})");
ok(settles($runs{carol}, 'stopped'), 'the third is stopped');
ok(wait_for($node, workers_of('bob'), expected => 2), 'its slot goes to who has the fewest');
is(sql("SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM (SELECT DISTINCT pid FROM backfill_batches WHERE run_id = $runs{alice} AND pid IS NOT NULL) b"), $before, 'and did not go to the other before');
is(sql('SELECT count(*) FROM backfill_stop_all()'), '2', 'all are stopped');
ok(settles($_, 'stopped'), 'and end') foreach values %runs;
$node->stop;
done_testing();
