# max_worker_processes leaves no place: who starts a run is told, and the run says
# what it waits for although no process can look after it.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

# Two places: one for logical replication, one for the launcher.
one_node('room', conf => "max_worker_processes = 2\n");
create_target($node, 't', 20);
create_target($node, 'u', 20);
define_increment($node, 't', '{"workers": 2}');
define_increment($node, 'u', '{"workers": "auto", "max_workers": 100}');
my $reason = q{waits for a scheduler: all of "max_worker_processes" are in use};

# What SQL says beside its answer.
sub said
{
	my ($rc, $out, $err) = query($node, $_[0]);
	return $err;
}

# ---------------------------------------------------------------------------
note 'warnings';

my $said = said('DROP EXTENSION backfill CASCADE; CREATE EXTENSION backfill');
like($said, qr/WARNING:  "max_worker_processes" has no room for all workers of backfill/, 'CREATE EXTENSION warns');
like($said, qr/It is 2\. A launcher, a scheduler, 6 workers, and 1 background worker of others, make 9/, 'with the arithmetic');
like($said, qr/Set "max_worker_processes" to 17 or more, which leaves 8 for parallel queries/, 'and with what to do');
define_increment($node, 't', '{"workers": 2}');
define_increment($node, 'u', '{"workers": "auto", "max_workers": 100}');
$said = said(q{SELECT backfill_start('t')});
like($said, qr/WARNING:  "max_worker_processes" has no room for the workers of the run/, 'backfill_start warns');
like($said, qr/It is 2\. A launcher, a scheduler, 2 workers, and 1 background worker of others, make 5/, 'with the arithmetic');
like(said(q{SELECT backfill_start('u')}), qr/6 workers/, 'there are never more workers than backfill.max_workers');

# ---------------------------------------------------------------------------
note 'no place for a scheduler';

my ($run, $other) = map { sql("SELECT max(id) FROM backfill_runs WHERE name = '$_'") } ('t', 'u');
ok(wait_for($node, "SELECT wait_reason FROM backfill_runs WHERE id = $run", expected => $reason), 'the run says what it waits for');
is(value($run, 'status'), 'enqueued', 'it is enqueued');
like(said("CALL backfill_wait($run, timeout => '1 s', every => '200 ms')"), qr/INFO:  run $run of t on t is enqueued: .*, \Q$reason\E/,
	'backfill_wait says so, too');
my $later = sql(q{SELECT backfill_define('later', 'u', 'UPDATE batch SET n = n + 1', settings => '{"share_target": true}');
	SELECT backfill_start('later', start_at => now() + interval '1 day')});
$later =~ s/\D//g;
is(value($later, 'wait_reason IS NULL'), 't', 'a run whose time has not come waits for none');
sql("SELECT backfill_stop($other)");
is(value($other, "status || coalesce(wait_reason, '')"), 'stopped', 'nor does one that is stopped');

# ---------------------------------------------------------------------------
note 'no place for the launcher';

$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
$node->restart;
like(value($run, 'wait_reason'), qr/waits for a scheduler: the launcher is not at work/, 'the run says so');

# ---------------------------------------------------------------------------
note 'the library is not loaded';

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nmax_worker_processes = 16");
$node->restart;
like(value($run, 'wait_reason'), qr/waits for a scheduler: backfill is not in "shared_preload_libraries"/, 'the run says so');

# ---------------------------------------------------------------------------
note 'enough room';

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'backfill'");
$node->restart;
ok(wait_for_status($node, $run, 'completed'), 'with enough room the run goes on by itself');
is(value($run, 'wait_reason IS NULL'), 't', 'and waits for nothing');
is(said(q{SELECT backfill_start('t')}), '', 'nobody is warned');

$node->stop;
done_testing();
