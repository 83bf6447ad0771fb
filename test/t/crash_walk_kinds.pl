# Every kind of walk while the postmaster is killed again and again (twice, and five
# times in full length), under updates that move rows, new rows and deletes.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(usleep);

my $rows = full_length() ? 200_000 : 20_000;
my $kills = full_length() ? 5 : 2;

seed_random();
one_node('main');

# A table with a column of each kind of key, an index for the foreground, whose
# updates are never HOT, and rows that the foreground deletes later on.
sql(qq{CREATE TABLE template (id int, n int NOT NULL DEFAULT 0, f int NOT NULL DEFAULT 0, done boolean NOT NULL DEFAULT false,
		tenant int, code int, state text NOT NULL DEFAULT 'new', pad text, foreground boolean NOT NULL DEFAULT false);
	INSERT INTO template (id, tenant, code, pad) SELECT i, i / 50, CASE WHEN i % 10 > 0 THEN i END, repeat('x', 40) FROM generate_series(1, $rows) i});

my %kinds = (
	groups => { index => 'CREATE INDEX groups_key ON %s (tenant)' },
	grouped => { index => 'CREATE UNIQUE INDEX grouped_key ON %s (tenant, id)', settings => '"group_by": "tenant"' },
	nulls => { index => 'CREATE UNIQUE INDEX nulls_key ON %s (code)' },
	partial => { index => "CREATE UNIQUE INDEX partial_key ON %s (id) WHERE state = 'new'", scope => "state = 'new'", set => "state = 'old'" },
	pages => { key => 'ctid', scope => 'NOT done', set => 'done = true' });

foreach my $kind (sort keys %kinds)
{
	my $k = $kinds{$kind};
	my $scope = $k->{scope} ? "\$s\$$k->{scope}\$s\$" : 'NULL';

	sql("CREATE TABLE $kind (LIKE template INCLUDING DEFAULTS)", "INSERT INTO $kind SELECT * FROM template",
		"CREATE INDEX ON $kind (id)", "CREATE INDEX ON $kind (f)", $k->{index} ? sprintf($k->{index}, $kind) : 'SELECT 1', "CREATE SEQUENCE ${kind}_seq START " . ($rows + 1));
	sql("SELECT backfill_define('$kind', '$kind', \$s\$UPDATE batch SET n = n + 1@{[$k->{set} ? ', ' . $k->{set} : '']}\$s\$,
		key => '@{[$k->{key} || $kind . '_key']}', scope => $scope,
		settings => '{\"batch_size\": 150, \"target_batch_time\": 0, \"sleep\": \"5 ms\", \"workers\": 2, \"retry_delay\": \"100 ms\" @{[$k->{settings} ? ', ' . $k->{settings} : '']}}')");
}

# values, one by one: each is counted by the change itself
sql(qq{CREATE TABLE distinct_values (LIKE template INCLUDING DEFAULTS);
	INSERT INTO distinct_values SELECT * FROM template;
	CREATE INDEX distinct_values_key ON distinct_values (tenant);
	CREATE INDEX ON distinct_values (id);
	CREATE SEQUENCE distinct_values_seq START @{[$rows + 1]};
	CREATE TABLE seen (tenant int);
	SELECT backfill_define('distinct_values', 'distinct_values', 'INSERT INTO seen SELECT tenant FROM batch', key => 'distinct_values_key',
		settings => '{"distinct": true, "batch_size": 3, "target_batch_time": 0, "sleep": "5 ms", "workers": 2}')});

# Writes beside the run: rows that move, new ones, which are done already as the
# application would have them, and deletes.
sub foreground
{
	my ($table) = @_;
	my $script = $node->basedir . "/$table.sql";
	PostgreSQL::Test::Utils::append_to_file($script, qq{
\\set a random(1, $rows)
\\set b random(1, $rows)
UPDATE $table SET f = f + 1, pad = repeat('y', 10 + :a % 60) WHERE id = :a;
INSERT INTO $table (id, tenant, code, pad, foreground, done, state) VALUES (nextval('${table}_seq'), :b / 50, NULL, 'new', true, true, 'old');
DELETE FROM $table WHERE id = :b AND :b % 10 = 1;
}) unless -e $script;
	return IPC::Run::start([ 'pgbench', '-n', '-c', 2, '-T', 3600, '-R', 200, '-f', $script, $node->connstr('postgres') ],
		'<', \'', '>', "$script.out", '2>&1');
}

# What is wrong with the table, empty if nothing is.
sub problems
{
	my ($kind, $id) = @_;
	my $bad = sub { my ($what, $condition) = @_; return sql("SELECT string_agg('$what: ' || c, '') FROM (SELECT count(*) c FROM $kind WHERE $condition) x WHERE c > 0") || (); };
	return join('; ', $bad->('never processed', 'NOT foreground AND n = 0'), $bad->('twice', 'n > 1'),
		sql("SELECT string_agg('not completed: ' || c, '') FROM (SELECT count(*) c FROM backfill_batches WHERE run_id = $id AND status <> 'completed') x WHERE c > 0") || ());
}

foreach my $kind ('distinct_values', sort keys %kinds)
{
	my $run = foreground($kind);
	my $id = start_run($node, $kind);
	my $total = $kind eq 'distinct_values' ? $rows / 50 : $rows;

	foreach my $kill (1 .. $kills)
	{
		my $part = int($total * ($kill - 1 + rand) / ($kills + 1));
		ok(wait_for($node, "SELECT rows_scanned >= $part OR status = 'completed' FROM backfill_runs WHERE id = $id", interval => 10_000), "$kind: kill $kill");
		usleep(rand(20_000));
		ok(rand() < 0.5 ? kill_postmaster($node) : kill_server($node), 'no process outlives the server');
		$node->start;
		$run->kill_kill(grace => 1);
		$run = foreground($kind);
	}
	ok(wait_for_status($node, $id, 'completed'), "$kind: completes after $kills kills");
	$run->kill_kill(grace => 1);
	if ($kind eq 'distinct_values')
	{
		my $each = sql('SELECT count(DISTINCT tenant) FROM distinct_values');
		my $counts = "SELECT count(*) || ' ' || count(DISTINCT tenant) FROM seen";
		is(sql($counts), "$each $each", 'each value once');
		sql('INSERT INTO seen SELECT min(tenant) FROM seen');
		isnt(sql($counts), "$each $each", 'one that came twice would be noticed');
		next;
	}
	is(problems($kind, $id), '', "$kind: exactly once");
	cmp_ok(sql("SELECT sum(f) FROM $kind"), '>', 0, 'the foreground wrote meanwhile');
	if ($kind eq 'grouped' || $kind eq 'groups')
	{
		is(sql("SELECT count(*) FROM backfill_batches a JOIN backfill_batches b ON b.run_id = a.run_id AND b.start_key = a.end_key AND NOT b.start_inclusive
			 WHERE a.run_id = $id AND cardinality(a.end_key) <> 1"), 0, 'no group was cut');
	}

	# what the check is to notice
	sql("UPDATE $kind SET n = 2 WHERE id = (SELECT min(id) FROM $kind WHERE n = 1)", "UPDATE $kind SET n = 0 WHERE id = (SELECT max(id) FROM $kind WHERE n = 1 AND NOT foreground)");
	is(problems($kind, $id), 'never processed: 1; twice: 1', 'a row too few and one too many would be noticed');
}

$node->stop;
done_testing();
