# A run by the name of its definition: which one is meant, when that is not clear,
# whose runs count; and what the control functions say that they have done.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('names');
$node->safe_psql('postgres', "CREATE ROLE $_ LOGIN; GRANT CREATE ON SCHEMA public TO $_") for 'alice', 'bob';

# A slow walk: a pause after each batch that outlasts the test.
create_target($node, 't', 200);
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 hour", "share_target": true}', numbered => 1);

sub start { return sql("SELECT backfill_start('t', " . another() . ')'); }

sub sleeps
{
	my ($id) = @_;
	return wait_for($node, "SELECT count(*) > 0 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'");
}

# What a control function says of a run of "t".
sub says
{
	my ($call, $id, $line, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql("SELECT backfill_$call"), "run $id of t on t$line", $name);
}

# ---------------------------------------------------------------------------
note 'no run';

like(refusal("SELECT backfill_stop('t')"), qr/42704: backfill definition "t" has no run\n.*HINT:  backfill_start/s, 'a definition without a run');
like(refusal("SELECT backfill_stop('tt')"), qr/42704: there is no backfill definition "tt", and no run of it\n.*HINT:  Perhaps you meant "t"/s, 'the nearest name');
like(refusal("SELECT backfill_stop('entirely else')"), qr/42704: .*HINT:  The view backfill_runs/s, 'if there is one');
like(refusal("CALL backfill_wait('tt')"), qr/42704: .*Perhaps you meant "t"/s, 'backfill_wait, too');
is(sql('SELECT backfill_stop(NULL), backfill_retry(NULL)'), '|', 'null is no run');

# ---------------------------------------------------------------------------
note 'one run';

my $id = start();
ok(sleeps($id), 'a run sleeps');
says(q{alter('t', '{"batch_size": 20, "sleep": "2 hours", "workers": 1}')}, $id,
	': settings changed: sleep 1 hour -> 2 hours, workers default -> 1, batch_size 10 -> 20', 'backfill_alter says what was changed');
says(q{alter('t', '{"workers": null, "batch_size": 20}')}, $id, ': settings changed: workers 1 -> default', 'and what was reset');
says(q{alter('t', '{"batch_size": 20}')}, $id, ': settings are as they were', 'or that nothing was');
says(q{pause('t')}, $id, ': pauses after the batch in hand', 'backfill_pause');
ok(wait_for_status($node, $id, 'paused'), 'is carried out');
says(q{pause('t')}, $id, ' is paused already', 'once more is no error');
says(q{resume('t')}, $id, ': goes on', 'backfill_resume');
ok(sleeps($id), 'it sleeps again');
says("stop($id)", $id, ': stops after the batch in hand', 'a number is an id');
ok(wait_for_status($node, $id, 'stopped'), 'is carried out');
says(q{stop('t')}, $id, ' is stopped already', 'the latest run, when none is active');
like(refusal("SELECT backfill_pause('t')"), qr/55000: cannot change run $id from "stopped" to "paused"/, 'which has ended');
says(qq{resume('$id')}, $id, ': goes on', 'digits that are no name are an id');
like(refusal("SELECT backfill_stop('99999999999999999999')"), qr/42704: there is no backfill definition "99999999999999999999"/, 'if they can be one');
ok(sleeps($id), 'it sleeps again');
says(q{stop('t', immediate => true)}, $id, ': stops now, what is in hand is cancelled', 'backfill_stop, immediate');
ok(wait_for_status($node, $id, 'stopped'), 'is carried out');
says(q{retry('t')}, $id, ': there is no skipped row to try again', 'backfill_retry');
my $later = sql("SELECT backfill_start('t', " . another() . ", start_at => now() + interval '1 day')");
says(q{pause('t')}, $later, ' is paused', 'of a run that has not begun: at once');
says(q{resume('t')}, $later, ': waits again for its time, or for other runs', 'backfill_resume, likewise');
says(q{stop('t')}, $later, ' is stopped', 'backfill_stop, likewise');
says(q{delete('t')}, $later, ' is deleted', 'backfill_delete takes the latest');
is(sql('SELECT count(*) FROM backfill_runs'), 1, 'one is left');

# ---------------------------------------------------------------------------
note 'several runs';

my @active = (start(), start());
ok(sleeps($_), "run $_ sleeps") for @active;
for my $call (q{pause('t')}, q{stop('t')}, q{stop('t', true)}, q{alter('t', '{"sleep": 0}')}, q{retry('t')}, q{delete('t')}, q{verify('t')})
{
	like(refusal("SELECT backfill_$call"),
		qr/42P08: several runs of backfill definition "t" are active\n.*DETAIL:  run $active[0], running, with the parameters \{"number": \d+\}\nrun $active[1], running, with the parameters \{"number": \d+\}\nHINT:  Give the id/s,
		"backfill_$call does not guess");
}
like(refusal("CALL backfill_wait('t', '0')"), qr/42P08: several runs/, 'nor does backfill_wait');
says(q{resume('t')}, $id, ': goes on', 'backfill_resume takes the one that can be resumed');
ok(sleeps($id), 'which sleeps');
sql("SELECT backfill_stop($id)");
says(q{resume('t')}, $id, ': goes on', 'also while it is about to stop');
says("pause($active[1])", $active[1], ': pauses after the batch in hand', 'one is paused');
ok(wait_for_status($node, $active[1], 'paused'), 'is carried out');
says(q{resume('t')}, $active[1], ': goes on', 'one that is paused before one that has ended');
sql("SELECT backfill_pause($_)") for @active;
ok(wait_for_status($node, $_, 'paused'), "run $_ is paused") for @active;
like(refusal("SELECT backfill_resume('t')"), qr/42P08: .*DETAIL:  run $active[0], paused, .*\nrun $active[1], paused, .*\nHINT/s, 'of two that are paused it does not choose');
my @more = map { start() } 1 .. 10;
my ($detail) = refusal("SELECT backfill_stop('t')") =~ /DETAIL:  (.*)\nHINT/s;
is(scalar(my @lines = split /\n/, $detail), 11, 'ten are listed');
like($detail, qr/\nand others$/, 'and it is said that there are more');

my @stopped = split /\n/, sql('SELECT backfill_stop_all()');
is(scalar(@stopped), 13, 'backfill_stop_all: a line for each run');
is(scalar(grep { /^run \d+ of t on t(: stops after the batch in hand|: stops in a moment| is stopped)$/ } @stopped), 13, 'which says what comes of it');
ok(wait_for_status($node, $_, 'stopped'), "run $_ is stopped") for $id, @active, @more;
is(sql('SELECT count(*) FROM backfill_stop_all()'), 0, 'no run, no line');

# A run that was given up, and done by a later one, is not begun again.
sql('UPDATE t SET n = 0');
define_increment($node, 'u', '{"batch_size": 100, "target_batch_time": 0, "sleep": 0}', target => 't', numbered => 1);
my $parameters = another();
my $given_up = sql("SELECT backfill_start('u', $parameters, start_at => now() + interval '1 day')");
is(sql(q{SELECT backfill_stop('u')}), "run $given_up of u on t is stopped", 'a run is stopped');
my $done = sql("SELECT backfill_start('u', $parameters)");
ok(wait_for_status($node, $done, 'completed'), 'another one does its work');
like(refusal("SELECT backfill_resume('u')"), qr/55000: cannot change run $done from "completed"/, 'the first is not resumed by its name');
is(sql("SELECT backfill_resume($given_up)"), "run $given_up of u on t: goes on", 'but by its id');
ok(wait_for_status($node, $given_up, 'completed'), 'and completes');

# ---------------------------------------------------------------------------
note 'names that are digits, and whose they are';

define_increment($node, $active[0], '{"sleep": 0}', target => 't');
like(refusal("SELECT backfill_delete('$active[0]')"), qr/42704: backfill definition "$active[0]" has no run/, 'digits that are a name are no id');
sql("SELECT backfill_drop('$active[0]')");
as('alice', qq{CREATE TABLE hers (id int PRIMARY KEY);
	SELECT backfill_define('$active[0]', 'hers', 'DELETE FROM batch'); SELECT backfill_start('$active[0]', start_at => now() + interval '1 day')});
as('bob', q{CREATE TABLE his (id int PRIMARY KEY); SELECT backfill_define('bobs', 'his', 'DELETE FROM batch')});
my $bobs = as('bob', q{SELECT backfill_start('bobs', start_at => now() + interval '1 day')});
is(as('bob', qq{SELECT backfill_pause('$bobs')}), "run $bobs of bobs on his is paused", 'an id in quotes');
as('alice', qq{SELECT backfill_define('$bobs', 'hers', 'DELETE FROM batch')});
is(as('bob', qq{SELECT backfill_pause('$bobs')}), "run $bobs of bobs on his is paused already", 'whatever others call their definitions');
is(state_of('bob', qq{SELECT backfill_stop('$active[0]')}), '42704', 'whose runs are not found by name');
is(state_of('alice', qq{SELECT backfill_stop('bobs')}), '42704', 'nor by another one');
is(as('alice', qq{SELECT backfill_stop('$active[0]') ~ 'is stopped'}), 't', 'by their owner they are');
sql('DROP TABLE his');
like(sql(qq{SELECT backfill_stop('bobs')}), qr/^run $bobs of bobs on a table that was dropped is stopped$/, 'a table that is gone has no name');

$node->stop;
done_testing();
