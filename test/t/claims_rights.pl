# Whose batch it is: tokens that are guessed, old or another role's, and roles
# that have no right on the run.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;

one_node('main');
sql(q{
CREATE ROLE owner LOGIN;
CREATE ROLE member LOGIN;
CREATE ROLE idle LOGIN NOINHERIT;
CREATE ROLE stranger LOGIN;
CREATE ROLE watcher LOGIN;
GRANT owner TO member;
GRANT owner TO idle;
GRANT pg_monitor TO watcher;
CREATE SCHEMA AUTHORIZATION owner;
});
create_target($node, 't', 1000);
sql('ALTER TABLE t OWNER TO owner');
as('owner', q{SELECT backfill_define('t', 't', NULL, settings => '{"batch_size": 10}')});
my $id = as('owner', q{SELECT backfill_start('t')});
wait_for($node, "SELECT conditions IS NOT NULL FROM backfill.run WHERE id = $id");
my %client = map { $_ => client(role => $_) } qw(owner member idle stranger watcher postgres);

sub is_refused
{
	my ($role, $batch, $name) = @_;
	my $which = batch_of($batch);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(join(',', map { ask($client{$role}, "SELECT $_") } "backfill_complete($which)", "backfill_extend($which)",
			"backfill_fail($which, 'x')"), join(',', ('ERROR:  UB006') x 3), $name);
}

# --- tokens ---

my ($batch) = claim_batch($client{owner}, $id);
my ($number, $secret) = $batch->{token} =~ /^(\d+)-([0-9a-f]{32})$/ or BAIL_OUT("token $batch->{token}");
my %guess = (
	'of other digits' => $number . '-' . ($secret =~ tr/0-9a-f/1-9a-f0/r),
	'with one digit changed' => $number . '-' . substr($secret, 0, 31) . (substr($secret, 31) eq '0' ? '1' : '0'),
	'of zeros' => "$number-" . '0' x 32,
	'of the next claim' => ($number + 1) . "-$secret",
	'cut short' => "$number-" . substr($secret, 0, 31),
	'with something behind it' => "$batch->{token}0",
	'without a secret' => "$number-",
	'without a number' => "-$secret",
	'that is empty' => '',
	'that is no token' => 'DROP TABLE',
	'with a number too large' => '9' x 30 . "-$secret",
	'negative' => "-$number-$secret",
	'long' => 'f' x 10000);
is_refused('owner', { %$batch, token => $guess{$_} }, "a token $_") foreach sort keys %guess;
is(ask($client{owner}, "SELECT backfill_complete($id, $batch->{number}, 0, NULL)"), 'ERROR:  22004', 'no token');
my ($other) = claim_batch($client{owner}, $id, worker => 'other');
is_refused('owner', { %$batch, token => $other->{token} }, 'the token of another batch');
is_refused('owner', { %$batch, part => 1 }, 'another part');
is_refused('owner', { %$batch, number => 999 }, 'a batch that is none');
is_refused('owner', { %$batch, run => 4711 }, 'a run that is none');
is_refused('owner', { %$batch, run => '-1', number => '-1', part => '-1' }, 'nor such numbers');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'running'"), '2', 'the batches are still out');
isnt(substr($batch->{token}, -32), substr($other->{token}, -32), 'no two have one secret');

# the token of an earlier claim of the same batch
$client{owner}->query('BEGIN');
my ($undone) = claim_batch($client{owner}, $id);
$client{owner}->query('ROLLBACK');
my $again = claim_number($client{owner}, $id, $undone->{number});
is_refused('owner', $undone, 'the token of a claim that was rolled back');
my ($old) = claim_batch($client{owner}, $id, worker => 'slow', lease => "'100 ms'");
wait_for($node, "SELECT status = 'pending' FROM backfill_batches WHERE run_id = $id AND number = $old->{number}");
is_refused('owner', $old, 'the token of a lease that ran out, while nobody has the batch');
my $new = claim_number($client{owner}, $id, $old->{number});
is_refused('owner', $old, 'and when the batch is claimed again, by the same role in the same session');
cmp_ok((split /-/, $new->{token})[0], '>', (split /-/, $old->{token})[0], 'the numbers of tokens go up');
is(ask($client{owner}, complete($new)), '', 'the new one is good');
is_refused('owner', $new, 'once');

# --- roles ---

is_refused('member', $again, "a member with the owner's token");
is_refused('postgres', $again, "a superuser with the owner's token");
is_refused('stranger', $again, "a stranger with the owner's token");
is(ask($client{owner}, complete($again)), '', 'it is of use to the owner');
is(ask($client{stranger}, "SELECT * FROM backfill_claim($id, 'w')"), 'ERROR:  42704', 'a stranger cannot claim: there is no such run');
is(ask($client{stranger}, "SELECT * FROM backfill_claim(4711, 'w')"), 'ERROR:  42704', 'which is what a run that is none is, too');
is(ask($client{stranger}, "SELECT * FROM backfill_claim_rows($id, 'w')"), 'ERROR:  42704', 'nor with rows');
is(ask($client{idle}, "SELECT * FROM backfill_claim($id, 'w')"), 'ERROR:  42704', 'nor a member that does not inherit');
is(ask($client{watcher}, "SELECT * FROM backfill_claim($id, 'w')"), 'ERROR:  42704', 'nor who may watch everything');
my ($mine) = claim_batch($client{member}, $id, worker => 'of member');
ok($mine->{number}, 'a member of the owner can claim');
is_refused('owner', $mine, "the owner cannot use the member's token");
is(ask($client{member}, 'SELECT backfill_extend(' . batch_of($mine) . ') IS NOT NULL'), 't', 'the member can');
is(ask($client{member}, complete($mine)), '', 'and complete');
ok((claim_batch($client{postgres}, $id, worker => 'of superuser'))[0]{number}, 'a superuser can claim');

# SET ROLE: whoever the session is at the time
ask($client{idle}, 'SET ROLE owner');
($mine) = claim_batch($client{idle}, $id, worker => 'as owner');
ok($mine->{number}, 'with SET ROLE a member that does not inherit can claim');
is_refused('member', $mine, 'as the owner');
ask($client{idle}, 'RESET ROLE');
is_refused('idle', $mine, 'and has no use of the token as itself');
ask($client{idle}, 'SET ROLE owner');
is(ask($client{idle}, complete($mine)), '', 'but as the owner');
is(ask($client{idle}, "SELECT * FROM backfill_claim_rows($id, 'w')"), 'ERROR:  42501',
	"rows are for the owner's own session: what the scope calls would have the rights of the session");
is(ask($client{member}, "SELECT * FROM backfill_claim_rows($id, 'w')"), 'ERROR:  42501', 'not for a member');
is(ask($client{postgres}, "SELECT * FROM backfill_claim_rows($id, 'w')"), 'ERROR:  42501', 'nor for a superuser');
ask($client{postgres}, 'SET ROLE owner');
is(ask($client{postgres}, "SELECT * FROM backfill_claim_rows($id, 'w')"), 'ERROR:  42501', 'nor for one that plays the owner');
ask($client{postgres}, 'RESET ROLE');
is(ask($client{postgres}, "SET SESSION AUTHORIZATION owner; SELECT batch IS NOT NULL FROM backfill_claim_rows($id, 'w')"), 't',
	'but with SET SESSION AUTHORIZATION it is the owner');
ask($client{postgres}, 'RESET SESSION AUTHORIZATION');
is((claim_batch($client{owner}, $id, function => 'backfill_claim_rows'))[0]{batch}[0]{n}, 0, 'for the owner');

# a function of the owner's that others may call
as('owner', q{CREATE FUNCTION owner.claim(id bigint) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
	AS 'SELECT number || $$ $$ || part || $$ $$ || token FROM backfill_claim(id, $$by function$$)';
	CREATE FUNCTION owner.complete(id bigint, number bigint, part int, token text) RETURNS void LANGUAGE sql SECURITY DEFINER
	SET search_path = public, pg_temp AS 'SELECT backfill_complete(id, number, part, token)';
	GRANT USAGE ON SCHEMA owner TO stranger});
my @by = split / /, ask($client{stranger}, "SELECT owner.claim($id)");
is(scalar @by, 3, 'a function of the owner claims for whoever may call it');
is_refused('stranger', { run => $id, number => $by[0], part => $by[1], token => $by[2] }, 'who cannot complete but by a function');
is(ask($client{stranger}, "SELECT owner.complete($id, $by[0], $by[1], '$by[2]')"), '', 'which can');

# the right is looked at when a batch is claimed
($mine) = claim_batch($client{member}, $id, worker => 'of member');
sql('REVOKE owner FROM member');
is(ask($client{member}, "SELECT * FROM backfill_claim($id, 'w')"), 'ERROR:  42704', 'a member no more cannot claim');
sql('GRANT owner TO member');

# --- what others see ---

foreach my $view (qw(backfill_runs backfill_batches backfill_workers backfill_events))
{
	is(ask($client{stranger}, "SELECT count(*) FROM $view"), '0', "a stranger sees nothing in $view");
	cmp_ok(ask($client{member}, "SELECT count(*) FROM $view"), '>', 0, 'a member does');
	cmp_ok(ask($client{watcher}, "SELECT count(*) FROM $view"), '>', 0, 'and who may watch');
}
is(join(',', map { ask($client{stranger}, "SELECT $_") } '* FROM backfill.batch', '* FROM backfill.run', 'nextval($$backfill.claim_seq$$)',
		'last_value FROM backfill.claim_seq'), join(',', ('ERROR:  42501') x 4), 'nor the tables, and cannot draw tokens');
my $leases = ask($client{stranger}, 'SELECT count(*) FROM backfill.live_leases()');
is($leases, 'ERROR:  42501', 'nor what shared memory has');

# secrets: no view has anything of the token that is good now
my @good = (claim_batch($client{owner}, $id, worker => 'good'), claim_batch($client{owner}, $id, worker => 'bound', lease => "'session'"));
my @views = split /\n/, sql(q{SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'
	WHERE c.relkind = 'v' ORDER BY 1});
cmp_ok(scalar @views, '>', 6, 'views');
foreach my $batch (@good)
{
	my $bare = substr($batch->{token}, -32);
	my @found = grep { sql("SELECT count(*) FROM $_ v WHERE replace(v::text, '-', '') LIKE '%$bare%'") ne '0' } @views;
	is("@found", '', 'no view has the secret of a token');
}
is(ask($client{owner}, "SELECT count(*) FROM backfill.live_leases() l WHERE replace(l::text, '-', '') LIKE '%"
		. substr($good[0]{token}, -32) . "%'"), 'ERROR:  42501', 'nor can the owner ask shared memory');

is(sql("SELECT client || ' ' || role || ' ' || batches_out || ' ' || (application_name = 'claims_rights.pl') FROM backfill_workers
	WHERE run_id = $id AND client = 'of superuser'"), 'of superuser postgres 1 true', 'backfill_workers has who it is');
is(sql("SELECT string_agg(DISTINCT client || ' ' || claimed_by, ',') FROM backfill_batches WHERE run_id = $id AND client IN ('good', 'bound')"),
	'bound owner,good owner', 'and backfill_batches');

# --- a role that is gone ---

sql('CREATE ROLE passing LOGIN; GRANT owner TO passing');
my $passing = client(role => 'passing');
my ($left) = claim_batch($passing, $id, worker => 'passing', lease => "'300 ms'");
$passing->quit;
sql('DROP ROLE passing');
ok(wait_for($node, "SELECT status = 'pending' OR client <> 'passing' FROM backfill_batches WHERE run_id = $id AND number = $left->{number}"),
	'the batch of a role that was dropped is free when its lease is over');
is(sql("SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $id"), 't', 'and the views stand it');

$_->quit foreach values %client;
quiet_log();
$node->stop;
done_testing();
