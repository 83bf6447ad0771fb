# What comes of a batch with which a client has failed: the rules are those of
# errors inside of the server.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;

one_node('main');
my $client = client();
my $tables = 0;

# Report that the client has failed with the batch.  The rest are further arguments.
sub report
{
	my ($batch, $message, @more) = @_;

	return ask($client, 'SELECT backfill_fail(' . join(', ', batch_of($batch), "\$m\$$message\$m\$", @more) . ')');
}

# A run over a new table of 300 rows; returns its name and id.
sub run_of
{
	my ($settings, %opts) = @_;
	my $table = 't' . ++$tables;

	create_target($node, $table, 300);
	define_claims($table, $settings, %opts);
	return ($table, start_claims($table));
}

# Claim and complete until the end, but fail with batches that have one of the
# bad rows, the first of which is named on demand.  Returns how many batches
# were claimed, and the last answer.
sub work_off
{
	my ($id, $table, $bad, %opts) = @_;
	my ($claims, $failed) = (0, 0);

	for (;;)
	{
		my ($batch) = claim_batch($client, $id, %opts);
		return { claims => $claims, failed => $failed, reason => $batch->{reason} } if $batch->{done};
		$claims++;
		die "claims without an end" if $claims > 1000;
		my ($key) = split /\n/, ask($client, "SELECT id FROM $table AS batch WHERE $batch->{condition} AND id IN ("
			  . join(',', @$bad, -1) . ') ORDER BY id');
		my $said = !defined $key || $key eq ''
		  ? ask($client, 'BEGIN;' . change($batch, $table) . ';' . complete($batch) . ';COMMIT')
		  : report($batch, "row $key is bad", "'P0001'", $opts{retryable} || 'NULL', $opts{named} ? "ARRAY['$key']" : 'NULL');
		$failed++ if defined $key && $key ne '';
		die "batch $batch->{number}: $said" if $said =~ /ERROR/;
	}
}

sub errors_of
{
	my ($id) = @_;

	return sql("SELECT string_agg(key[1] || ' ' || sqlstate || ' ' || message, ', ' ORDER BY key[1]::bigint) FROM backfill_errors
		WHERE run_id = $id AND resolved_at IS NULL");
}

# --- on_error fail ---

my ($table, $id) = run_of('{"batch_size": 10}');
my @batches = claim_batch($client, $id, batches => 3);
is(report($batches[1], 'the mill is broken', "'22012'"), '', 'a client fails with a batch');
is(report($batches[1], 'again', "'22012'"), 'ERROR:  UB006', 'once');
is(ask($client, complete($batches[1])), 'ERROR:  UB006', 'and cannot complete it any more');
ok(wait_for($node, "SELECT requested = 'failed' FROM backfill.run WHERE id = $id"), 'the run is to fail');
is((claim($client, $id))[0]{reason}, 'the run is to be failed: the mill is broken', 'which other clients are told: they get nothing more');
is(ask($client, 'BEGIN;' . change($_, $table) . ';' . complete($_) . ';COMMIT'), '', 'what is out may be completed')
  foreach @batches[0, 2];
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'then the run fails');
is(run_value($node, $id, "error || ', ' || sqlstate"), 'the mill is broken, 22012', 'with message and SQLSTATE of the client');
is((claim($client, $id))[0]{reason}, 'failed: the mill is broken', 'which is the end for clients');
is(sql("SELECT status || ', ' || error FROM backfill_batches WHERE run_id = $id AND number = $batches[1]{number}"),
	'failed, the mill is broken', 'and the batch has');
sql("SELECT backfill_resume($id)");
my $all = change_all($client, $id, $table);
is($all->{last}{reason}, 'completed', 'resumed, it goes on');
check_exactly_once($node, $id, $table, 300, 'every row once');

# without a message or SQLSTATE
($table, $id) = run_of('{"batch_size": 10}');
my ($batch) = claim_batch($client, $id);
is(ask($client, 'SELECT backfill_fail(' . batch_of($batch) . ', NULL)'), '', 'no message');
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'fails the run as well');
is(run_value($node, $id, "error || ', ' || sqlstate"), 'a client has failed, P0001', 'with a message of ours');

# --- what is refused ---

($table, $id) = run_of('{"batch_size": 10}');
($batch) = claim_batch($client, $id);
is(join(' ', map { report($batch, 'x', "'$_'") } '', '2201', '220123', '22o12', 'ab cd'), join(' ', ('ERROR:  22023') x 5), 'no SQLSTATEs');
is(report($batch, 'x', 'NULL', 'NULL', "array_fill('x'::text, ARRAY[100000])"), 'ERROR:  54000', 'a key that is too long');
is(ask($client, 'SELECT backfill_fail(' . batch_of($batch) . ", repeat('x', 10000000))"), 'ERROR:  54000', 'a message that is too long');
is(ask($client, "BEGIN; SELECT backfill_fail(@{[batch_of($batch)]}, 'x', '22012'); ROLLBACK; SELECT 1"), "\n1", 'a report that is rolled back');
is(ask($client, complete($batch)), '', 'is none');
sql("SELECT backfill_stop($id, immediate => true)");

# --- retryable ---

($table, $id) = run_of('{"batch_size": 100, "retry_delay": "200 ms", "max_attempts": 3}');
@batches = claim_batch($client, $id, batches => 3);
ask($client, 'BEGIN;' . change($_, $table) . ';' . complete($_) . ';COMMIT') foreach @batches[0, 2];
is(report($batches[1], 'come again', 'NULL', 'true'), '', 'an error that may go away');
is((claim($client, $id))[0]{number}, undef, 'the batch is not there at once');
my ($again) = claim_batch($client, $id);
is($again->{number}, $batches[1]{number}, 'but after a while');
cmp_ok(sql("SELECT extract(epoch FROM claimed_at - (SELECT max(at) FROM backfill_events WHERE run_id = $id AND kind = 'retry')) FROM backfill_batches
	WHERE run_id = $id AND number = $again->{number}") || 0.2, '>=', 0.15, 'the delay');
is(sql("SELECT attempt || ' ' || error FROM backfill_batches WHERE run_id = $id AND number = $again->{number}"), '2 come again', 'a second attempt');
is(run_value($node, $id, 'status'), 'running', 'the run goes on');
is(report($again, 'deadlock', "'40P01'"), '', 'of which the SQLSTATE says that it may go away');
($again) = claim_batch($client, $id);
is($again->{number}, $batches[1]{number}, 'the same');
is(report($again, 'still', "'40001'", 'true'), '', 'at the last attempt');
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'the run fails');
is(run_value($node, $id, "error || ', ' || sqlstate"), 'still, 40001', 'with the last error');
sql("SELECT backfill_resume($id)");
($again) = claim_batch($client, $id);
is(report($again, 'not this time', "'40001'", 'false'), '', 'the client says that a serialization failure does not go away');
ok(wait_for_status($node, $id, 'failed', through_end => 1), 'that fails the run at the first attempt');
sql("SELECT backfill_resume($id)");
change_all($client, $id, $table);
check_exactly_once($node, $id, $table, 300, 'every row once');

# --- skip ---

($table, $id) = run_of('{"batch_size": 100, "on_error": "skip"}');
my $worked = work_off($id, $table, [ 50, 1730 ]);
is($worked->{reason}, 'completed', 'with on_error skip the run completes');
is(errors_of($id), '50 P0001 row 50 is bad, 1730 P0001 row 1730 is bad', 'the bad rows are in backfill_errors');
check_parts($node, $id, $table, 'all others are done once');
is(run_value($node, $id, 'errors'), '2', 'and counted');
my $unnamed = $worked->{claims};

# a key finds the row at once
($table, $id) = run_of('{"batch_size": 100, "on_error": "skip"}');
$worked = work_off($id, $table, [ 50, 1730 ], named => 1);
is(errors_of($id), '50 P0001 row 50 is bad, 1730 P0001 row 1730 is bad', 'named by their keys, the same');
check_parts($node, $id, $table, 'all others are done once');
diag("claims for two bad rows in three batches: $unnamed, $worked->{claims} if named");
cmp_ok($worked->{claims}, '<', $unnamed, 'with fewer claims');
cmp_ok($worked->{claims}, '<=', 3 + 2 * 3, 'each costs the parts before, of and behind it');

# first and last row of a batch, neighbours, a whole batch; walked downwards
foreach my $direction (qw(asc desc))
{
	($table, $id) = run_of('{"batch_size": 10, "on_error": "skip", "max_error_rate": 1}', more => { direction => "'$direction'" });
	$worked = work_off($id, $table, [ 10, 100, 110, 120, 200, map { $_ * 10 } 31 .. 40, 300 ], named => 1);
	is($worked->{reason}, 'completed', "bad rows at the ends of batches, $direction");
	is(run_value($node, $id, 'errors'), '16', 'each is skipped');
	check_parts($node, $id, $table, 'all others are done once');
}

# --- keys that are none ---

($table, $id) = run_of('{"batch_size": 30, "on_error": "skip"}');
my @garbage = ("ARRAY['no number']", "ARRAY['1', '2']", "'{}'", 'ARRAY[NULL]::text[]', "ARRAY['5']", "ARRAY['999999']",
	"ARRAY[['10'], ['20']]", "ARRAY['1e400']", "'[5:5]={15}'::text[]", "ARRAY['9223372036854775808']");
foreach my $key (@garbage)
{
	my ($batch) = claim_batch($client, $id);
	is(report($batch, "key $key", "'P0001'", 'NULL', $key), '', "a key that is none: $key");
	ok(wait_for($node, "SELECT status <> 'running' FROM backfill_batches WHERE run_id = $id AND number = $batch->{number} AND part = $batch->{part}"),
		'is judged');
	is(run_value($node, $id, 'status'), 'running', 'and does no harm');
}
is(errors_of($id), '', 'no row is skipped for it');
$worked = work_off($id, $table, [150]);
is($worked->{reason}, 'completed', 'the run completes');
is(errors_of($id), '150 P0001 row 150 is bad', 'with the row that was bad');
check_parts($node, $id, $table, 'all others are done once');

# --- tried again ---

like(sql("SELECT backfill_retry($id)"), tries(1), 'backfill_retry takes what was skipped');
$worked = work_off($id, $table, [150]);
is($worked->{reason}, 'completed', 'and clients get it');
is($worked->{claims}, '1', 'that row alone');
is(errors_of($id), '150 P0001 row 150 is bad', 'it is still bad');
sql("SELECT backfill_retry($id)");
work_off($id, $table, []);
is(errors_of($id), '', 'until it is not');
is(sql("SELECT count(*) FROM $table WHERE n = 1"), '300', 'then every row is done once');
is(run_value($node, $id, 'status'), 'completed', 'and the run completed');

# --- as many errors as may be ---

($table, $id) = run_of('{"batch_size": 50, "on_error": "skip", "max_errors": 2, "max_error_rate": 1}');
$worked = work_off($id, $table, [ 100, 600, 1100, 1600 ], named => 1);
is($worked->{reason}, 'failed: row 1100 is bad', 'more errors than max_errors fail the run');
is(sql("SELECT count(*) FROM backfill_errors WHERE run_id = $id"), '3', 'behind that one');

# --- retryable errors with skip ---

($table, $id) = run_of('{"batch_size": 300, "on_error": "skip", "max_attempts": 2, "retry_delay": "10 ms"}');
$worked = work_off($id, $table, [1230], named => 1, retryable => 'true');
is($worked->{reason}, 'completed', 'an error that might have gone away, and has not, is skipped');
is(errors_of($id), '1230 P0001 row 1230 is bad', 'in the end');
check_parts($node, $id, $table, 'all others are done once');

# --- a key of two columns, and a scope ---

sql(q{CREATE TABLE pairs (a int, b text, n int NOT NULL DEFAULT 0, PRIMARY KEY (a, b));
	INSERT INTO pairs SELECT i % 5, 'it''s ' || i FROM generate_series(1, 200) i});
define_claims('pairs', '{"batch_size": 50, "on_error": "skip"}', scope => "n = 0 AND b <> 'it''s 7'");
$id = start_claims('pairs');
my $claims = 0;
for (;;)
{
	my ($batch) = claim_batch($client, $id);
	last if $batch->{done};
	$claims++;
	my $bad = ask($client, "SELECT count(*) FROM pairs AS batch WHERE $batch->{condition} AND a = 3 AND b = 'it''s 13'");
	ask($client, $bad ? "SELECT backfill_fail(@{[batch_of($batch)]}, 'odd', '22000', false, ARRAY['3', 'it''s 13'])"
		: 'BEGIN;' . change($batch, 'pairs') . ';' . complete($batch) . ';COMMIT');
	last if $claims > 50;
}
is(sql("SELECT string_agg(key::text, ' ') FROM backfill_errors WHERE run_id = $id"), q({3,"it's 13"}), 'a row with a key of two columns');
is(sql(q{SELECT count(*) FILTER (WHERE n = 1), string_agg(b, ',' ORDER BY b) FILTER (WHERE n <> 1) FROM pairs}), "198|it's 13,it's 7",
	'the others in scope are done');
cmp_ok($claims, '<=', 4 + 3, 'without looking for it');

$client->quit;
quiet_log();
$node->stop;
done_testing();
