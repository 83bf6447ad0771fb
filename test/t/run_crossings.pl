# Where features meet: generic definitions, prepare, repair, bounds, replace, require and
# the kinds of walk, each of which has tests of its own.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');

my $pace = '"batch_size": 20, "target_batch_time": 0, "sleep": 0, "workers": 1, "retry_delay": "10 ms", "max_error_rate": 1';
my ($id, $said);

# What psql says to it.
sub said { return (query($node, $_[0]))[2]; }

# Define a backfill on t, or a generic one.
sub define
{
	my ($name, $statement, %opts) = @_;
	my $more = join '', map { ", $_ => $opts{$_}" } grep { $_ ne 'settings' && $_ ne 'target' } sort keys %opts;
	return said(qq{SELECT backfill_define('$name', @{[$opts{target} ? "'$opts{target}'" : 'NULL']}, \$d\$$statement\$d\$$more,
		settings => '{$pace@{[$opts{settings} || '']}}'@{[$opts{target} ? '' : ', generic => true']})});
}

sub create
{
	my ($name) = @_;
	return sql("CREATE TABLE $name (id int PRIMARY KEY, a int, b int)", "INSERT INTO $name SELECT i, i FROM generate_series(1, 200) i");
}

# ---------------------------------------------------------------------------
note 'a generic definition that is prepared';

create('made');
my %copy = (
	parameters => q{'{"old": "name", "new": "name"}'},
	scope => q{'{new} IS NULL'},
	prepare => q{'ALTER TABLE {target} ADD {new} int'},
	finish => q{'ALTER TABLE {target} ALTER {new} SET NOT NULL'},
	settings => ', "verify": true');
define('copy', 'UPDATE batch SET {new} = batch.{old}', %copy);
my $start = q{SELECT backfill_start('copy', '{"old": "a", "new": "New"}', target => 'made')};
$said = said($start);
like($said, qr/^WARNING:  the statement would fail now: column "New" does not exist\nHINT:  It is run after "prepare"/m, 'a column that it makes is a warning, as without names');
$id = sql('SELECT max(id) FROM backfill_runs');
ok(wait_for_status($node, $id, 'completed'), 'it is made, filled, counted and declared');
is(sql(q{SELECT count(*) FROM made WHERE "New" = a}), '200', 'in every row');
is(value($id, q{prepare || '; ' || finish}), 'ALTER TABLE "public"."made" ADD "New" int; ALTER TABLE "public"."made" ALTER "New" SET NOT NULL', 'under its name');

# the gate for what comes after it, which may do away with what is named
my $require = q{CALL backfill_require('copy', '{"old": "a", "new": "New"}', target => 'made')};
is(said($require), '', 'it is done, and what it would take to begin again is not looked at');
sql('ALTER TABLE made DROP a');
is(said($require), '', 'nor whether the columns are there');
is(sqlstate($node, q{CALL backfill_require('copy', '{"old": "b", "new": "New"}', target => 'made')}), 'UB005', 'other names are another backfill');
delete $copy{prepare};
define('copy', 'UPDATE batch SET {new} = batch.{old}', %copy);
is(sqlstate($node, $start), '42703', 'without prepare a column has to be there');

# a table that is prepared, under a name that is given: another statement goes on with it
create('looked_up');
my %look = (
	parameters => q{'{"x": "name", "aux": "name"}'},
	prepare => q{'CREATE TABLE {aux} AS SELECT id, 1 AS one FROM {target}'},
	finish => q{'DROP TABLE {aux}'},
	settings => ', "max_batches": 3');
define('look', 'UPDATE batch SET {x} = aux.one FROM {aux} aux WHERE aux.id = batch.id', %look);
$id = sql(q{SELECT backfill_start('look', '{"x": "b", "aux": "Aux"}', paused => true, target => 'looked_up')});
sql("SELECT backfill_resume($id)");
ok(settles($id, 'paused'), 'it begins, and pauses itself');
define('look', 'UPDATE batch SET {x} = aux.two FROM {aux} aux WHERE aux.id = batch.id', %look);
is(sqlstate($node, "SELECT backfill_replace($id)"), '42703', 'what it has not made then is missing');
define('look', 'UPDATE batch SET {x} = aux.one + 1 FROM {aux} aux WHERE aux.id = batch.id', %look);
is(said("SELECT backfill_replace($id)"), '', 'a definition that is replaced is not prepared again, and says nothing of it');
my $rest = q{CALL backfill_require('look', '{"x": "b", "aux": "Aux"}', finish => true, target => 'looked_up')};
is(sqlstate($node, $rest), 'UB004', 'the gate has it go on for as much again');
is(value($id, 'batches'), '6', 'counted anew');
sql("SELECT backfill_alter($id, '{\"max_batches\": null}')");
is(sqlstate($node, $rest), '00000', 'and to the end');
is(sql('SELECT b, count(*) FROM looked_up GROUP BY 1 ORDER BY 1'), "1|60\n2|140", 'each row with the statement of its time');
is(sql(q{SELECT to_regclass('"Aux"') IS NULL}), 't', 'finish knows the name, too');

# ---------------------------------------------------------------------------
note 'a repair of what is prepared';

create('mended');
my %mend = (
	target => 'mended',
	prepare => q{'ALTER TABLE mended ADD c int'},
	settings => ', "on_error": "skip", "repair": "UPDATE batch SET c = 7"');
$said = define('mend', 'UPDATE batch SET c = 1 / coalesce(c, a % 20)', %mend);
like($said, qr/^WARNING:  the repair would fail now: column "c" of relation "mended" does not exist\nHINT:  It is run after "prepare"/m, 'is a warning');
$said = said(q{SELECT backfill_start('mend', paused => true)});
like($said, qr/^WARNING:  the repair would fail now: column "c"/m, 'when a run is started, too');
$id = sql('SELECT max(id) FROM backfill_runs');
like(said(qq{SELECT backfill_alter($id, '{"repair": "UPDATE batch SET c = 6"}')}), qr/^WARNING:  the repair would fail now: column "c"/m, 'or altered before it begins');
sql("SELECT backfill_resume($id)");
ok(wait_for_status($node, $id, 'completed'), 'it is run');
is(value($id, 'errors, repaired'), '0|10', 'for the rows that failed');
is(sqlstate($node, q{SELECT backfill_start('mend', settings => '{"repair": "UPDATE batch SET c = true"}')}), '42804', 'what nothing can mend is an error');
like(define('mend', 'UPDATE batch SET {b} = 1', settings => ', "on_error": "skip", "repair": "UPDATE batch SET {b} = 1"', parameters => q{'{"b": "name"}'}),
	qr/syntax error at or near "\{".*\nHINT:  Names in braces stand in the texts of a generic backfill, and not in its settings\./s, 'a setting has no names, and says so');
like(said(q{SELECT backfill_define('x', 'mended', 'SELECT', settings => '{"probe": "SELECT ''ä'' FROM {x}"}')}), qr/^HINT:  Names in braces/m, 'in the place of the error');
unlike(said(q~SELECT backfill_define('x', 'mended', 'SELECT', settings => '{"probe": "SELECT ''{'' FROM FROM"}')~), qr/^HINT/m, 'and only there');

# ---------------------------------------------------------------------------
note 'repairs in all kinds of walk';

sql(q{CREATE TABLE heap (id int, v int, done int, k int, n int UNIQUE); CREATE INDEX heap_k ON heap (k); CREATE TABLE seen (place tid, k int)},
	q{CREATE FUNCTION fill() RETURNS void LANGUAGE sql AS $$TRUNCATE heap, seen;
		INSERT INTO heap SELECT i, i % 20, 0, i / 40, CASE WHEN i % 10 > 0 THEN i END FROM generate_series(0, 199) i$$});

# Run it; returns the run.
sub repair
{
	my ($key, $repair, %opts) = @_;
	sql('SELECT fill()');
	define("along_$key", delete $opts{statement} || 'UPDATE batch SET done = 1 + 0 / v', target => 'heap', key => "'$key'", %opts,
		settings => qq{, "on_error": "skip", "repair": "$repair"} . ($opts{settings} || ''));
	$id = start_run($node, "along_$key");
	ok(settles($id, 'completed'), "a walk along $key is completed");
	return $id;
}

# the row is somewhere else when it is repaired
my %by_pages = (scope => q{'done = 0'});
$id = repair('ctid', 'UPDATE batch SET v = 5', %by_pages, settings => ', "verify": true');
is(value($id, 'errors, repaired, rows_affected'), '0|10|200', 'a row that its repair moves is followed');
is(sql(qq{SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'pass'}), '0', 'and no pass is needed for it');
is(sql('SELECT done, count(*) FROM heap GROUP BY 1'), '1|200', 'every row is done');

$id = repair('ctid', 'WITH s AS (INSERT INTO seen VALUES (failed.ctid)) UPDATE batch SET v = 5', %by_pages, settings => q{, "to": ["(0,100)"]});
is(value($id, 'errors, repaired, rows_affected'), '0|5|100', 'also out of the bounds of the walk');
is(sql(qq{SELECT count(*), count(DISTINCT e.key) FROM seen s JOIN backfill_errors e ON e.key = ARRAY[s.place::text] WHERE run_id = $id AND repaired AND resolved_at IS NOT NULL}),
	'5|5', 'failed.ctid is its place before');
is(sql('SELECT done, count(*) FROM heap GROUP BY 1 ORDER BY 1'), "0|100\n1|100", 'the others are not walked');

$id = repair('ctid', 'UPDATE heap h SET v = 5 FROM batch b WHERE h.id = b.id + 1', %by_pages, scope => q{'done = 0 AND id % 20 = 0'}, settings => ', "verify": false');
is(value($id, 'errors, repaired'), '10|0', 'where the repair does not help, they are left out');
$id = repair('ctid', 'UPDATE batch SET v = 5', %by_pages, statement => 'INSERT INTO seen SELECT ctid, id FROM heap WHERE id IN (SELECT id FROM batch); UPDATE batch SET done = 1 + 0 / v');
is(value($id, 'errors, repaired') . sql(' SELECT count(*), count(DISTINCT k) FROM seen'), '0|10200|200', 'several statements see it, too, and each row once');
$id = repair('ctid', 'DELETE FROM batch', %by_pages);
is(value($id, 'errors, repaired') . sql(' SELECT count(*), sum(done) FROM heap'), '0|10190|190', 'a row may be deleted');

# groups, and nulls
$id = repair('heap_k', 'WITH s AS (INSERT INTO seen VALUES (NULL, failed.k)) UPDATE batch SET v = 5 WHERE v = 0 AND k = failed.k');
is(value($id, 'errors, repaired') . sql(' SELECT count(*), sum(done) FROM heap'), '0|5200|200', 'a group is repaired as a whole');
is(sql('SELECT string_agg(k::text, $$,$$ ORDER BY k) FROM seen'), '0,1,2,3,4', 'which the key names');
$id = repair('heap_n_key', 'UPDATE batch SET v = 5');
is(value($id, 'errors, repaired') . sql(' SELECT sum(done), count(*) FILTER (WHERE done = 0 AND n IS NULL) FROM heap'), '1|0180|20', 'the rows with a null in the key are not repaired, but left out');

# ---------------------------------------------------------------------------
note 'bounds, passes and replacing';

sql('SELECT fill()');
my %passes = (target => 'heap', key => q{'ctid'}, scope => q{'done = 0'}, finish => q{'INSERT INTO seen SELECT NULL, count(*) FROM heap WHERE done = 0'}, settings => ', "max_batches": 8, "verify": true');
define('passes', 'UPDATE batch SET done = 1', %passes);
$id = start_run($node, 'passes');
ok(settles($id, 'paused'), 'by pages, it pauses itself');
is(value($id, 'batches'), '8', 'after so many batches');

# these are met in the second pass
sql('INSERT INTO heap SELECT i, 1, 0 FROM generate_series(1000, 1149) i');
my $passes = "SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'pass'";
my $pieces = 1;
while (sql($passes) == 0 && $pieces < 10)
{
	sql("SELECT backfill_resume($id)");
	settles($id, 'paused');
	$pieces++;
}
is(sql($passes), '1', 'and so in the second pass');
is(value($id, 'batches'), 8 * $pieces, 'after so many each time');
define('passes', 'UPDATE batch SET done = 2', %passes);
like(sql("SELECT backfill_replace($id)"), qr/is paused, and will go on with another statement/, 'there it is replaced');
sql(qq{SELECT backfill_alter($id, '{"max_batches": null}')}, "SELECT backfill_resume($id)");
ok(settles($id, 'completed'), 'and goes on to the end');
is(sql('SELECT count(*), min(done), max(done) FROM heap'), '350|1|2', 'with each row done, by the one or the other');
is(sql('SELECT k FROM seen'), '0', 'finish saw all of them done');

$node->stop;
done_testing();
