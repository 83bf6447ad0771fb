# Work outside of the server from its definition to its end: what backfill_claim
# answers in every state of a run, so that a client needs one loop.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;
use Time::HiRes qw(time usleep);

one_node('main', conf => "backfill.max_leases = 12\n");
create_target($node, 't', 1000);
my $client = client();

# What a claim that gets no batch says: done, whether there is a time to come
# again, and the reason.
sub answer
{
	my ($id, %opts) = @_;
	my @rows = claim($client, $id, %opts);

	return "batch $rows[0]{number}" if defined $rows[0]{number};
	return join(' ', $rows[0]{done} ? 'done' : defined $rows[0]{retry_after} ? 'later' : 'never', $rows[0]{reason} // '');
}

# The same, once it is so.
sub comes_to
{
	my ($expected, $id, $name) = @_;
	my $until = time + 20;
	my $answer;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	for (;;)
	{
		$answer = answer($id);
		last if $answer =~ $expected || $answer =~ /^batch/ || time > $until;
		usleep(20_000);
	}
	return like($answer, $expected, $name);
}

# --- definition ---

is(state_of('postgres', q{SELECT backfill_define('x', 't', NULL, settings => '{"outside": false}')}), '22023',
	'without a statement, outside cannot be off');
is(state_of('postgres', q{SELECT backfill_define('x', 't', NULL, settings => '{"on_error": "skip", "repair": "UPDATE batch SET n = 0"}')}), '22023',
	'nor can there be a repair');
is(state_of('postgres', q{SELECT backfill_define('x', 't', NULL, scope => 'nothing')}), '42703', 'the scope is checked');
is(state_of('postgres', q{SELECT backfill_define('x', 't', NULL, key => 'nothing')}), '42704', 'and the key');
sql(q{SELECT backfill_define('inside', 't', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 100, "share_target": true}')});
my $id = sql("SELECT backfill_start('inside', start_at => now() + interval '1 hour')");
is(ask($client, "SELECT * FROM backfill_claim($id, 'w')"), 'ERROR:  55000', 'a run that is not for clients');
sql("SELECT backfill_stop($id)");
define_claims('t', '{"batch_size": 100}');
is(sql("SELECT statement IS NULL FROM backfill_definitions WHERE name = 't'"), 't', 'a definition without a statement');
is(sql("SELECT count(*) > 0 FROM backfill_explain('t')"), 't', 'it can be explained');
is(sql("SELECT count(*) > 0 FROM backfill_preview('t')"), 't', 'and previewed');
is(sql(q{SELECT count(*) FROM t WHERE n <> 0}), '0', 'which does nothing');
is(ask($client, "SELECT * FROM backfill_claim(4711, 'w')"), 'ERROR:  42704', 'a run that is none');
is(ask($client, "SELECT * FROM backfill_claim(NULL, 'w')"), 'ERROR:  22004', 'nor is null');

# --- states ---

$id = sql("SELECT backfill_start('t', start_at => now() + interval '1 hour')");
comes_to(qr/^later pending/, $id, 'a run that waits for its time');
sql("SELECT backfill_stop($id)");
comes_to(qr/^done stopped$/, $id, 'one that was stopped');

my $before = sql("SELECT backfill_start('t')");
$id = sql("SELECT backfill_start('t', after => ARRAY[$before])");
comes_to(qr/^later pending: .*$before/, $id, 'one that waits for another says for which');
comes_to(qr/^batch 1$/, $before, 'which has batches');
sql("SELECT backfill_pause($before)");
comes_to(qr/^later the run is to be paused$/, $before, 'one that is to pause, with a batch out');

is(sql("SELECT status || ' ' || requested FROM backfill.run WHERE id = $before"), 'running paused', 'waits for that');
sql("SELECT backfill_stop($before, immediate => true)");
comes_to(qr/^done stopped$/, $before, 'and is stopped at once');
comes_to(qr/./, $id, 'the other one has an answer');
sql("SELECT backfill_stop($id)");
wait_for_status($node, $id, 'stopped');

$id = start_claims('t', q{settings => '{"max_claims": 3}'});
sql("SELECT backfill_pause($id)");
comes_to(qr/^later paused/, $id, 'one that is paused');
sql("SELECT backfill_resume($id)");
comes_to(qr/^batch 1$/, $id, 'and resumed');

# held by its calendar
sql(qq{SELECT backfill_alter($id, '{"windows": [{"closed": true}]}')});
wait_for($node, "SELECT throttled_by IS NOT NULL FROM backfill_runs WHERE id = $id");
comes_to(qr/^later .*window/i, $id, 'one that is held by a window says so');
sql(qq{SELECT backfill_alter($id, '{"windows": null}')});
comes_to(qr/^batch 2$/, $id, 'and goes on behind it');

# as many out as may be

my @got = map { $_->{number} // $_->{reason} } map { claim_batch($client, $id, batches => 5) } 1;
is("@got", '3', 'a claim of five is given one, since three may be out');
is(answer($id), 'later as many batches are out as the setting "max_claims" allows', 'then none');
is((claim($client, $id))[0]{retry_after} lt '00:00:02', 1, 'for a short time');
sql(qq{SELECT backfill_alter($id, '{"max_claims": null}')});
comes_to(qr/^batch 4$/, $id, 'without the setting there are more');

# all out
my @rest = claim_batch($client, $id, batches => 100);
is(join(' ', map { $_->{number} } @rest), '5 6 7 8 9 10', 'several by one claim: as many as there are');
is(scalar(keys %{ { map { $_->{token} => 1 } @rest } }), 6, 'each with a token of its own');
is(answer($id), 'later nothing is pending, but others are at work', 'then all are out');
sql("SELECT backfill_stop($id, immediate => true)");
comes_to(qr/^done stopped$/, $id, 'stopped');
is(ask($client, complete($rest[0])), 'ERROR:  UB006', 'which takes back what was out');

# as many leases as the server has
$id = start_claims('t', q{settings => '{"batch_size": 10}'});
@rest = claim_batch($client, $id, batches => 100);
is(scalar @rest, 12, 'as many as backfill.max_leases');
is(answer($id), 'later as many batches are out as "backfill.max_leases" allows', 'and no more');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'running'"), '12', 'the others are pending');
ask($client, complete($rest[3]));
is(answer($id), 'batch 13', 'one completed is one to be had');
sql("SELECT backfill_stop($id, immediate => true)");
wait_for_status($node, $id, 'stopped');

# rate limit
$id = start_claims('t', q{settings => '{"batch_size": 100, "rate_limit": "200/min"}'});
my @limited;
for (1 .. 200)
{
	my ($row) = claim($client, $id);
	last if $row->{reason} && $row->{reason} =~ /rate/;
	if ($row->{number})
	{
		push @limited, $row->{rows};
		ask($client, complete($row));
	}
	else
	{
		usleep(20_000);
	}
}
my $sum = eval { join '+', @limited } ? eval(join('+', @limited)) : 0;
cmp_ok($sum, '<=', 200, 'no more rows than a rate limit allows');
cmp_ok($sum, '>', 150, 'but most of it');
comes_to(qr/^later .*rate/, $id, 'then the limit is the reason');
like((claim($client, $id))[0]{retry_after}, qr/^00:0[01]:/, 'and the time is when it allows more');
sql("SELECT backfill_stop($id, immediate => true)");

# failed
$id = start_claims('t');
my ($batch) = claim_batch($client, $id);
ask($client, 'SELECT backfill_fail(' . batch_of($batch) . ", 'it is broken', '22012')");
ok(wait_for_status($node, $id, 'failed'), 'a client has failed, and the run');
comes_to(qr/^done failed: .*it is broken/, $id, 'one that has failed says with what');

# --- to the end ---

sql('UPDATE t SET n = 0');
create_target($node, 'u', 100);
sql('CREATE TABLE finished (what text)');
sql(q{SELECT backfill_define('u', 'u', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 50, "sleep": 0}')});
sql(q{SELECT backfill_define('t', 't', NULL, scope => 'n = 0', settings => '{"batch_size": 100, "verify": true}',
	finish => $$INSERT INTO finished VALUES ('yes')$$, followers => '[{"name": "u"}]')});
$id = start_claims('t');
my $all = change_all($client, $id, 't', batches => 3);
is(scalar @{ $all->{claimed} }, 10, 'all batches are done');
is($all->{last}{reason}, 'completed', 'and the run is completed');
is($all->{last}{number}, undef, 'no batch comes with that');
check_exactly_once($node, $id, 't', 1000, 'every row once');
is(sql('SELECT string_agg(what, $$,$$) FROM finished'), 'yes', 'finish has run');
is(run_value($node, $id, 'left_in_scope'), '0', 'what is left in scope was counted') if sql(
	"SELECT EXISTS (SELECT FROM information_schema.columns WHERE table_name = 'backfill_runs' AND column_name = 'left_in_scope')") eq 't';
my $next = sql("SELECT max(id) FROM backfill_runs WHERE name = 'u'");
ok($next && wait_for_status($node, $next, 'completed'), 'and the follower');
is(sql('SELECT count(*) FROM u WHERE n = 1'), '100', 'over its table');
is(answer($id), 'done completed', 'whoever asks later is told the same');

# verify finds what the clients have left
sql('UPDATE t SET n = 0');
sql('DELETE FROM finished');
$id = start_claims('t');
complete_all($client, $id, sub { return $_[0]{number} == 3 ? 'SELECT 1' : change($_[0], 't') });
like(answer($id), qr/^done failed: .*100/, 'a batch completed without its change: verify says so');
is(sql('SELECT count(*) FROM finished'), '0', 'and finish does not run');

# --- with the rows ---

sql('UPDATE t SET n = 0');
$id = start_claims('t');
my @with = claim_batch($client, $id, function => 'backfill_claim_rows', batches => 2);
is(join(',', map { scalar @{ $_->{batch} } } @with), '100,100', 'claims with their rows');
is(join(' ', sort { $a <=> $b } map { $_->{id} } @{ $with[1]{batch} }), join(' ', map { $_ * 10 } 101 .. 200), 'the right ones');
is(join(',', sort keys %{ $with[0]{batch}[0] }), 'f,foreground,id,n,pad', 'with all columns');
ask($client, complete($_)) foreach @with;
sql("SELECT backfill_stop($id, immediate => true)");
is((claim_batch($client, $id, function => 'backfill_claim_rows'))[0]{reason}, 'stopped', 'and the end is said likewise');

# --- nothing to do ---

create_target($node, 'empty', 0);
define_claims('empty', '{"batch_size": 100}');
$id = sql("SELECT backfill_start('empty')");
comes_to(qr/^done completed$/, $id, 'an empty table');
define_claims('none', '{"batch_size": 100}', target => 't', scope => 'id < 0');
$id = sql("SELECT backfill_start('none')");
comes_to(qr/^done completed$/, $id, 'nothing in scope');
is(sql("SELECT coalesce(rows_affected, 0) FROM backfill_runs WHERE id = $id"), '0', 'nothing is done');

# --- rows as the client counts them ---

define_claims('counted', '{"batch_size": 500}', target => 't');
$id = start_claims('counted');
my @counted = claim_batch($client, $id, batches => 2);
is(ask($client, 'SELECT backfill_complete(' . batch_of($counted[0]) . ', -1)'), 'ERROR:  22023', 'less than no rows');
ask($client, 'SELECT backfill_complete(' . batch_of($counted[0]) . ', 7)');
ask($client, 'SELECT backfill_complete(' . batch_of($counted[1]) . ')');
ok(wait_for_status($node, $id, 'completed'), 'completed');
is(sql("SELECT string_agg(rows_affected::text, ',' ORDER BY number) FROM backfill_batches WHERE run_id = $id"), '7,500',
	'a client says how many rows it were, or all are counted');

$client->quit;
quiet_log();
# the target may be renamed as often as one likes
create_target($node, 'r0', 2000);
define_claims('r', '{"batch_size": 10}', target => 'r0');
$id = start_claims('r');
foreach my $i (1 .. 5)
{
	sql("ALTER TABLE r@{[$i - 1]} RENAME TO r$i");

	# more than were cut before that
	for (my $done = 0; $done < 35;)
	{
		foreach my $row (claim_batch($client, $id, batches => 10))
		{
			die "batch lost: $row->{reason}" unless defined $row->{number};
			ask($client, 'BEGIN;' . change($row, "r$i") . ';' . complete($row) . ';COMMIT');
			$done++;
		}
	}
}
change_all($client, $id, 'r5');
ok(wait_for_status($node, $id, 'completed'), 'a target that is renamed again and again');
is(sql('SELECT count(*), min(n), max(n) FROM r5'), '2000|1|1', 'every row once');

# a column that has the name of the relation; rows without number; a table that is gone
sql('CREATE TABLE b (id int PRIMARY KEY, batch text); INSERT INTO b SELECT i, i FROM generate_series(1, 30) i; ANALYZE b');
define_claims('b', '{"batch_size": 10}');
$id = start_claims('b');
my ($rows) = claim_batch($client, $id, function => 'backfill_claim_rows');
is(join(' ', sort keys %{ $rows->{batch}[0] }), 'batch id', 'rows are whole, also where a column is called batch');
is(ask($client, 'SELECT backfill_complete(' . batch_of($rows) . ', 9223372036854775807)'), 'ERROR:  22023', 'no budget holds so many rows');
sql('DROP TABLE b');
like(ask($client, "SELECT * FROM backfill_claim_rows($id, 'w')"), qr/^ERROR:  42P01|done|\|/, 'the target is gone, and the server is not');
is(sql('SELECT 1'), 1, 'which answers');
sql("SELECT backfill_stop($id, true)");

$node->stop;
done_testing();
