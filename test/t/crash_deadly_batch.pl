# A batch that takes down its worker, or the whole server, three times fails
# its run with a message that names it.  Other runs, here and in another
# database, go on.  The failed run is completed when the data is mended.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('main');

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION backfill');

# Two ways to go: quietly, and with everybody else.
$node->safe_psql('postgres', q{
	CREATE TABLE poison (id bigint);
	CREATE FUNCTION quiet(key bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM poison WHERE id = key) THEN
			PERFORM pg_terminate_backend(pg_backend_pid());
			PERFORM pg_sleep(60);
		END IF;
		RETURN 1;
	END $$;
	CREATE FUNCTION loud(key bigint) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM poison WHERE id = key) THEN
			COPY (SELECT 1) TO PROGRAM 'kill -KILL $PPID';
			PERFORM pg_sleep(60);
		END IF;
		RETURN 1;
	END $$});

foreach my $way ('quiet', 'loud')
{
	my $rows = 20_000;
	# so slow that they are not over when the other one fails
	my $slow = '{"batch_size": 20, "target_batch_time": 0, "sleep": "200 ms", "workers": 2, "retry_delay": "100 ms"}';

	create_target($node, "bad_$way", $rows);
	create_target($node, "good_$way", $rows);
	create_target($node, "good_$way", $rows, db => 'other');
	define_increment($node, "good_$way", $slow);
	define_increment($node, "good_$way", $slow, db => 'other');
	define_increment($node, "bad_$way", '{"batch_size": 50, "target_batch_time": 0, "sleep": "5 ms", "workers": 2}',
		statement => "UPDATE batch SET n = n + $way(id)");
	# in batch 61
	$node->safe_psql('postgres', 'INSERT INTO poison VALUES (30210)');

	my $here = start_run($node, "good_$way");
	my $there = start_run($node, "good_$way", db => 'other');
	my $bad = start_run($node, "bad_$way");

	ok(wait_for_status($node, $bad, 'failed', through_end => 1), "$way: the run fails");
	is(run_value($node, $bad, 'error'), 'batch 61 brought down its worker or the server 3 times',
		"$way: its message names the batch");
	isnt(run_value($node, $bad, "coalesce(error_hint, '')"), '', "$way: with a hint");
	is(query_ok($node, "SELECT crashes, status <> 'completed', error IS NOT NULL, key_range
			FROM backfill_batches WHERE run_id = $bad AND number = 61"),
		'3|t|t|(30000 .. 30500]', "$way: the batch says so, too");
	is(query_ok($node, "SELECT count(*) FROM bad_$way WHERE id > 30000 AND id <= 30500 AND n <> 0"),
		0, "$way: nothing of it remains");
	is(query_ok($node, "SELECT count(*) FROM bad_$way t WHERE n <> (EXISTS
			(SELECT FROM backfill_batches b WHERE run_id = $bad AND status = 'completed'
			  AND t.id > b.start_key[1]::bigint - b.start_inclusive::int
			  AND t.id <= b.end_key[1]::bigint))::int"),
		0, "$way: every completed batch of the failed run, and nothing else, is there");

	my @others = ([ $here, 'postgres', 'in the same database' ], [ $there, 'other', 'in another database' ]);
	foreach my $run (@others)
	{
		my ($id, $db, $where) = @$run;
		is(run_value($node, $id, 'status', db => $db), 'running', "$way: the run $where goes on");
		query_ok($node, qq(SELECT backfill_alter($id, '{"batch_size": 1000, "sleep": 0}')), db => $db);
		ok(wait_for_status($node, $id, 'completed', db => $db), "$way: it completes");
		check_exactly_once($node, $id, "good_$way", $rows, "$way: exactly once", db => $db);
	}

	# once more without mending anything, then with
	$node->safe_psql('postgres', "SELECT backfill_resume($bad)");
	ok(wait_for($node, "SELECT status = 'failed' AND error LIKE 'batch 61 brought down%3 times'
			FROM backfill_runs WHERE id = $bad"),
		"$way: resumed without mending, the run fails again");
	$node->safe_psql('postgres', 'DELETE FROM poison');
	$node->safe_psql('postgres',
		qq(SELECT backfill_alter($bad, '{"batch_size": 1000, "sleep": 0}'); SELECT backfill_resume($bad)));
	ok(wait_for_status($node, $bad, 'completed', through_end => 1),
		"$way: resumed when the data is mended, it completes");
	check_exactly_once($node, $bad, "bad_$way", $rows, "$way: exactly once");
	is(run_value($node, $bad, "coalesce(error, 'none')"), 'none', "$way: no error is left");
}

$node->stop;
done_testing();
