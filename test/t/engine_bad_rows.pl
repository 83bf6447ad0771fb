# Bad rows among good ones: whatever the statement looks like, and whatever
# the scope and the key, the rows that raise are found, and no others.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');

# ---------------------------------------------------------------------------
note 'whatever the statement: the rows that raise are found, and no others';

# A row is bad where "bad" is, in whatever way the statement trips over it.
$node->safe_psql('postgres', q{
	CREATE TABLE small (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, bad boolean NOT NULL, g int, other int);
	INSERT INTO small SELECT i, 0, i IN (1, 2, 500, 501, 733, 999, 1000, 1001, 1777, 3000), i % 7, (i * 7919) % 3001 FROM generate_series(1, 3000) i;
	CREATE INDEX ON small (other);
	CREATE TABLE joined AS SELECT id AS small, other FROM small;
	ANALYZE;
	CREATE TABLE copied (id int PRIMARY KEY);
	CREATE TABLE groups (g int PRIMARY KEY, n int);
	CREATE FUNCTION good(bad boolean) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF bad THEN
			RAISE EXCEPTION 'bad row' USING ERRCODE = 'BF002';
		END IF;
		RETURN 1;
	END $$;
	CREATE FUNCTION increment(s small) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE small SET n = n + good(s.bad) WHERE id = s.id;
	END $$;
	CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM good(NEW.bad);
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON small DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit();
	CREATE TRIGGER per_statement AFTER UPDATE ON small REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION at_commit();
	ALTER TABLE small DISABLE TRIGGER USER;
	CREATE FUNCTION all_changed() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM good(bool_or(bad)) FROM changed;
		RETURN NULL;
	END $$;
	DROP TRIGGER per_statement ON small;
	CREATE TRIGGER per_statement AFTER UPDATE ON small REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION all_changed();
	ALTER TABLE small DISABLE TRIGGER per_statement});

# Every row that the condition covers has n = 1 or, if it is bad, an error.
sub finds
{
	my ($what, $statement, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $scope = $opts{scope} ? ", scope => \$s\$$opts{scope}\$s\$" : '';
	my $covered = $opts{covered} || $opts{scope} || 'true';
	my $direction = $opts{direction} || 'asc';
	sql("UPDATE small SET n = 0 WHERE n <> 0; TRUNCATE copied, groups");
	sql("ALTER TABLE small ENABLE TRIGGER $opts{trigger}") if $opts{trigger};
	sql(qq{SELECT backfill_define('small', 'small', \$d\$$statement\$d\$ $scope, settings => '{"batch_size": 400, "target_batch_time": 0, "sleep": 0, "workers": 2, "on_error": "skip", "max_error_rate": 1, "retry_delay": 0, "direction": "$direction"}')});
	my $run = start_run($node, 'small');
	ok(wait_for_status($node, $run, 'completed'), "$what: the run completes");
	my $errors = "SELECT key[1]::int FROM backfill_errors WHERE run_id = $run";
	my $wanted = "SELECT id FROM small WHERE bad AND ($covered)";
	is(sql("SELECT count(*), count(DISTINCT key) FROM backfill_errors WHERE run_id = $run"), sql("SELECT count(*), count(*) FROM ($wanted) w"), 'as many errors as bad rows');
	is(sql("($errors EXCEPT $wanted) UNION ALL ($wanted EXCEPT $errors)"), '', 'they are the bad rows');
	is(sql("SELECT count(*) FROM small WHERE n <> (NOT bad AND ($covered))::int"), 0, 'every other row was changed exactly once');
	is(sql($opts{also}), $opts{gives}, 'with what belongs to it') if $opts{also};
	note(value($run, "'batches: ' || batches"));
	sql('ALTER TABLE small DISABLE TRIGGER USER');
	return;
}

finds('SET', 'UPDATE batch SET n = n + good(bad)');
finds('descending', 'UPDATE batch SET n = n + good(bad)', direction => 'desc');
finds('a scope with gaps', 'UPDATE batch SET n = n + good(bad)', scope => 'id % 3 <> 1');
finds('a scope with gaps, descending', 'UPDATE batch SET n = n + good(bad)', scope => 'id % 3 <> 1', direction => 'desc');
finds('a scope that the statement leaves', 'UPDATE batch SET n = n + good(bad)', scope => 'n = 0', covered => 'true');
finds('WHERE', 'UPDATE batch SET n = n + good(bad) WHERE g <> 3', covered => 'g <> 3');
finds('raised by the condition', 'UPDATE batch SET n = n + 1 WHERE good(bad) = 1 AND g <> 3', covered => 'g <> 3');
finds('deferred', 'UPDATE batch SET n = n + 1', trigger => 'at_commit');
finds('at the end of the statement', 'UPDATE batch SET n = n + 1', trigger => 'per_statement');
finds('several statements, the first', 'UPDATE batch SET n = n + good(bad); INSERT INTO copied SELECT id FROM batch', also => 'SELECT count(*) FROM copied JOIN small USING (id) WHERE NOT bad', gives => 2990);
finds('several statements, the last', 'INSERT INTO copied SELECT id FROM batch; UPDATE batch SET n = n + good(bad)', also => 'SELECT count(*), count(*) FILTER (WHERE bad) FROM copied JOIN small USING (id)', gives => '2990|0');
finds('several statements, between', 'INSERT INTO copied SELECT id FROM batch; SELECT good(bad) FROM batch ORDER BY g, id DESC; UPDATE batch SET n = n + 1', also => 'SELECT count(*) FROM copied', gives => 2990);
finds('SELECT f(batch)', 'SELECT increment(batch) FROM batch');
finds('in another order', 'SELECT increment(b) FROM (SELECT * FROM batch ORDER BY other) b');
finds('joined', 'UPDATE batch SET n = n + good(bad) FROM joined WHERE joined.small = batch.id AND joined.other >= 0');
finds('grouped', 'WITH done AS (UPDATE batch SET n = n + good(bad) RETURNING g) INSERT INTO groups SELECT g, count(*) FROM done GROUP BY g ON CONFLICT (g) DO UPDATE SET n = groups.n + excluded.n', also => 'SELECT sum(n) FROM groups', gives => 2990);
finds('into another table', q{WITH copy AS (INSERT INTO copied SELECT CASE WHEN bad THEN NULL ELSE id END FROM batch RETURNING 1) UPDATE batch SET n = n + 1}, also => 'SELECT count(*) FROM copied', gives => 2990);
finds('MERGE', 'MERGE INTO small t USING batch ON batch.id = t.id WHEN MATCHED THEN UPDATE SET n = t.n + good(batch.bad)');
finds('run and its facts in the scope', 'UPDATE batch SET n = n + good(bad) WHERE run.id > 0', scope => 'id % 3 <> 1 AND run.id > 0 AND run.started_at > run.since', covered => 'id % 3 <> 1');

# partitions, and a key of several columns
$node->safe_psql('postgres', q{
	ALTER TABLE small RENAME TO plain;
	CREATE TABLE small (tag text, id int, n int NOT NULL DEFAULT 0, bad boolean NOT NULL, g int, other int, PRIMARY KEY (id, g, tag)) PARTITION BY LIST (g);
	CREATE TABLE small_0 PARTITION OF small FOR VALUES IN (0, 1, 2);
	CREATE TABLE small_3 PARTITION OF small FOR VALUES IN (3, 4);
	CREATE TABLE small_5 PARTITION OF small DEFAULT;
	INSERT INTO small SELECT CASE WHEN id % 2 = 0 THEN 'it''s "' || id ELSE '' END, id, n, bad, g, other FROM plain;
	ANALYZE small});
finds('partitions', 'UPDATE batch SET n = n + good(bad)');
finds('partitions, descending', 'UPDATE batch SET n = n + good(bad)', direction => 'desc');
finds('partitions, a scope with gaps', 'UPDATE batch SET n = n + good(bad)', scope => 'g <> 3');
finds('partitions, several statements', 'INSERT INTO copied SELECT id FROM batch; UPDATE batch SET n = n + good(bad)', also => 'SELECT count(*), count(*) FILTER (WHERE bad) FROM copied JOIN small USING (id)', gives => '2990|0');

$node->stop;
done_testing();
