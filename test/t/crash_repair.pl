# Rows that are repaired, by several workers beside a foreground that writes, while
# the server is killed again and again: each repair is done once, with its change.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');
my $rows = full_length() ? 200_000 : 20_000;
my $bad = $rows / 50;

create_target($node, 'big', $rows);
sql(qq{
	ALTER TABLE big ADD code bigint UNIQUE, ADD wish bigint, ADD mended int NOT NULL DEFAULT 0;
	UPDATE big SET wish = CASE WHEN id % 500 = 0 THEN -1 ELSE id END;
	INSERT INTO big (id, n, code, foreground) VALUES (nextval('big_seq'), 1, -1, true);
	CREATE TABLE log (id bigint)});
$node->safe_psql('postgres', 'VACUUM ANALYZE big');
sql(q{SELECT backfill_define('big', 'big', 'UPDATE batch SET n = n + 1, code = wish', scope => 'NOT foreground', settings =>
	'{"batch_size": 500, "target_batch_time": 0, "sleep": "5 ms", "workers": 3, "retry_delay": "10 ms", "max_attempts": 1000, "on_error": "skip"}' || jsonb_build_object('repair',
	'WITH l AS (INSERT INTO log SELECT id FROM batch) UPDATE batch SET wish = failed.id, mended = mended + 1'))});
my $run = start_run($node, 'big');

foreach my $share (0.1, 0.3, 0.5, 0.7, 0.9)
{
	my $foreground = foreground_start($node, 'big', $rows);
	ok(wait_for($node, "SELECT repaired >= $share * $bad FROM backfill_runs WHERE id = $run", interval => 2_000), "$share of the rows are repaired");
	isnt(value($run, 'status'), 'completed', 'the run is not over yet');
	ok($share == 0.5 ? kill_server($node) : kill_postmaster($node), 'then the server is killed');
	foreground_stop($foreground);
	$node->start;
	ok(wait_for_server($node), 'and comes back');
}
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(sql('SELECT count(*), count(DISTINCT id), bool_and(id % 500 = 0) FROM log'), "$bad|$bad|t", 'each repair was done once');
is(sql('SELECT mended, n, count(*), count(code) FROM big WHERE NOT foreground GROUP BY 1, 2 ORDER BY 1'), "0|1|@{[$rows - $bad]}|@{[$rows - $bad]}\n1|1|$bad|$bad", 'and each row changed once');
is(sql("SELECT count(*), count(DISTINCT key), bool_and(repaired AND resolved_at IS NOT NULL AND attempts = 1 AND sqlstate = '23505') FROM backfill_errors WHERE run_id = $run"), "$bad|$bad|t", 'each stands in backfill_errors once');
is(value($run, 'errors, repaired, rows_affected'), "0|$bad|$rows", 'and the sums agree');

# the check notices what is wrong
sql('INSERT INTO log SELECT min(id) FROM log');
isnt(sql('SELECT count(*), count(DISTINCT id) FROM log'), "$bad|$bad", 'a repair that was done twice would show');

$node->stop;
done_testing();
