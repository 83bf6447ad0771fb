# A batch that raised an error is divided, and its parts take the server down:
# what is known of a batch is known of its parts, and a claim that was lost in
# the crash is not lost again, so that the run fails instead of going round.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');
my $dir = $node->basedir;
my $settings = '{"batch_size": 1000, "target_batch_time": 0, "sleep": 0, "workers": 1, "on_error": "skip", "max_error_rate": 1, "retry_delay": "10 ms"}';

# "alternates" crashes and raises an error in turn; "after" raises for one row,
# and crashes at another that only a part comes to.
sql(qq{
	CREATE FUNCTION alternates(key bigint) RETURNS int LANGUAGE plpgsql AS \$\$
	BEGIN
		IF key = 5000 THEN
			COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; if mkdir $dir/turn; then kill -KILL \$PPID; sleep 60; else rmdir $dir/turn; fi';
			RAISE EXCEPTION 'not this time';
		END IF;
		RETURN 1;
	END \$\$;
	CREATE FUNCTION after(key bigint) RETURNS int LANGUAGE plpgsql AS \$\$
	BEGIN
		IF key = 5000 THEN
			RAISE EXCEPTION 'row % is bad', key;
		ELSIF key = 5100 THEN
			COPY (SELECT 1) TO PROGRAM 'kill -KILL \$PPID; sleep 60';
		END IF;
		RETURN 1;
	END \$\$});

foreach my $how ('alternates', 'after')
{
	my $rows = 3000;

	create_target($node, $how, $rows);
	# from the top down nothing is guessed: the batch is divided evenly, again and again
	my $direction = $how eq 'alternates' ? ', "direction": "desc"' : '';
	define_increment($node, $how, $settings =~ s/\}$/$direction}/r, statement => "UPDATE batch SET n = n + $how(id)");
	my $id = start_run($node, $how);
	ok(wait_for_status($node, $id, 'failed', through_end => 1, timeout => 120), "$how: the run fails");
	like(value($id, 'error'), qr/^batch \d+ brought down its worker or the server 3 times$/, "$how: its message names the batch");
	is(sql("SELECT max(crashes) FROM backfill_batches WHERE run_id = $id"), '3', "$how: as does the batch");
	is(sql("SELECT count(*) FROM $how WHERE n > 1"), 0, "$how: nothing was done twice");

	# mended and resumed, as ever
	sql("CREATE OR REPLACE FUNCTION $how(key bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'", "SELECT backfill_resume($id)");
	ok(wait_for_status($node, $id, 'completed', through_end => 1), "$how: mended and resumed, it completes");
	is(sql("SELECT count(*) FROM $how WHERE n <> 1"), sql("SELECT count(*) FROM backfill_errors WHERE run_id = $id"), "$how: all but what was left out was done, once");
	ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill_workers'), "$how: nobody is left");
}

$node->stop;
done_testing();
