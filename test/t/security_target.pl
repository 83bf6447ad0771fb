# Security: what belongs to the owner of a definition does not run in the
# session of somebody else; rights on the target count at the run, row-level
# security holds; a key that turns into something else is not taken for what
# it was.

use strict;
use warnings;

use BackfillTest::Security;
use PostgreSQL::Test::Utils;
use Test::More;

security_node();

# ---------------------------------------------------------------------------
note 'code of the owner in the session of a caller';

# A superuser who starts or replaces what alice prepared must not run her code:
# the input function of the key's type, a function folded when planning.
as('alice', q{
	CREATE FUNCTION alice.check(int) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN PERFORM spy.note('domain'); RETURN true; END $$;
	CREATE FUNCTION alice.folded(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> 'alice' THEN
			RAISE EXCEPTION 'folded as %', current_user;
		END IF;
		RETURN $1;
	END $$;
	CREATE DOMAIN alice.checked AS int CHECK (alice.check(VALUE));
	CREATE TYPE alice.pair AS (a alice.checked);
	CREATE TABLE pairs(id alice.pair PRIMARY KEY, n int);
	CREATE TABLE lists(id alice.checked[] PRIMARY KEY, n int);
	CREATE TABLE domains(id alice.checked PRIMARY KEY, n int);
	INSERT INTO pairs SELECT ROW(i)::alice.pair FROM generate_series(1, 3) i;
	INSERT INTO lists SELECT ARRAY[i] FROM generate_series(1, 3) i;
	INSERT INTO domains SELECT i FROM generate_series(1, 3) i;
	SELECT backfill_define('pairs', 'pairs', 'UPDATE batch SET n = alice.folded(1)', settings => '{"from": "(2)"}');
	SELECT backfill_define('lists', 'lists', 'UPDATE batch SET n = alice.folded(1)', settings => '{"from": "{2}"}');
	SELECT backfill_define('domains', 'domains', 'UPDATE batch SET n = alice.folded(1)', settings => '{"from": "2"}')});
witnessed('%');
for my $kind ('pairs', 'lists', 'domains')
{
	$node->safe_psql('postgres', "SELECT backfill_start('$kind')");
	is(outcome($kind), 'completed', "$kind: a run with a domain in its key, started by a superuser");
	is(as('alice', "SELECT count(n) FROM $kind"), '2', "$kind: it covers its rows");
	my $from = $node->safe_psql('postgres',
		"SELECT settings->>'from' FROM backfill_definitions WHERE name = '$kind'");
	$node->safe_psql('postgres',
		qq{SELECT backfill_define('$kind', 'alice.$kind', 'UPDATE batch SET n = alice.folded(2)',
				scope => 'alice.folded(1) = 1', settings => '{"from": "$from"}')});
	unlike(witnessed('%'), qr/^\Q$super\E\|/m, "$kind: no code of the owner ran as the superuser");
}

# ---------------------------------------------------------------------------
note 'rights on the target';

as('alice', 'CREATE TABLE mine(id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO mine VALUES (1), (2);
	GRANT USAGE ON SCHEMA alice TO bob');
like(refused('bob', q{SELECT backfill_define('theft', 'alice.mine', 'UPDATE batch SET n = 1')}),
	qr/42501.*permission denied for table mine/, 'a statement beyond the rights of its owner is refused');
as('alice', 'GRANT SELECT ON mine TO bob');
like(refused('bob', q{SELECT backfill_define('theft', 'alice.mine', 'DELETE FROM batch')}),
	qr/42501.*permission denied for table mine/, 'reading is not deleting');
as('alice', 'GRANT UPDATE ON mine TO bob');
as('bob', q{SELECT backfill_define('theft', 'alice.mine', 'UPDATE batch SET n = 1')});
as('alice', 'REVOKE UPDATE ON mine FROM bob');
as('bob', q{SELECT backfill_start('theft')});
is(outcome('theft'), 'failed: permission denied for table mine',
	'a right that was revoked after the definition counts at the run');
is(as('alice', 'SELECT sum(n) FROM mine'), '0', 'nothing was changed');
is($node->safe_psql('postgres', q{SELECT sqlstate FROM backfill_runs WHERE name = 'theft'}), '42501',
	'the run knows the SQLSTATE');

$node->safe_psql('postgres', q{
	CREATE TABLE guarded(id int PRIMARY KEY, owner text, n int DEFAULT 0);
	INSERT INTO guarded SELECT i, CASE WHEN i % 2 = 0 THEN 'alice' ELSE 'bob' END FROM generate_series(1, 20) i;
	ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
	CREATE POLICY p ON guarded USING (owner = current_user);
	GRANT SELECT, UPDATE ON guarded TO alice});
as('alice', q{SELECT backfill_define('guarded', 'guarded', 'UPDATE batch SET n = n + 1',
	settings => '{"batch_size": 3, "target_batch_time": 0}')});
$node->safe_psql('postgres', q{SELECT backfill_start('guarded')});
is(outcome('guarded'), 'completed', 'a run on a table with row-level security');
is($node->safe_psql('postgres', 'SELECT owner, sum(n) FROM guarded GROUP BY 1 ORDER BY 1'),
	"alice|10\nbob|0", 'its policies hold for the owner of the run');

# ---------------------------------------------------------------------------
note 'a key that turns into something else';

# What was text when the run began is a number of the owner's choice now: it
# must not be taken for a pointer.
as('alice', q{
	CREATE TABLE confused(id text PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO confused SELECT 'x' || i FROM generate_series(1, 20) i;
	SELECT backfill_define('confused', 'confused', 'UPDATE batch SET n = n + 1',
		settings => '{"batch_size": 5, "target_batch_time": 0, "sleep": "1 hour"}');
	SELECT backfill_start('confused')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM backfill_workers WHERE state = 'sleeping'})
  or die 'no sleeping worker';
as('alice', q{
	ALTER TABLE confused ALTER COLUMN id TYPE bigint USING 4096 * substr(id, 2)::bigint;
	SELECT backfill_alter(max(id), '{"sleep": 0}') FROM backfill_runs WHERE name = 'confused'});
like(outcome('confused'), qr/^failed: the key of table .*confused.* has changed/, 'a key that is of another type now fails the run');
is($node->safe_psql('postgres', q{SELECT sqlstate FROM backfill_runs WHERE name = 'confused'}), '42804',
	'with the SQLSTATE for it');
is(scalar(() = slurp_file($node->logfile) =~ /terminated by signal/g), 0, 'and no process dies of it');

$node->stop;
done_testing();
