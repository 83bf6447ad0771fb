# Security: triggers and rules on the target, the owner's and those of
# somebody else, immediate and deferred, run as the owner of the run, may not
# touch the books, and an error of theirs takes its batch with it.

use strict;
use warnings;

use BackfillTest::Security;
use Test::More;

security_node();

# ---------------------------------------------------------------------------
note 'triggers';

as('alice', q{
	CREATE TABLE triggered(id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO triggered SELECT generate_series(1, 6);
	CREATE TABLE second(id int);
	CREATE FUNCTION alice.tg() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		failure text := 'no error';
	BEGIN
		BEGIN
			EXECUTE 'UPDATE backfill.batch SET status = ''completed''';
		EXCEPTION WHEN OTHERS THEN
			failure := SQLSTATE;
		END;
		PERFORM spy.note('trigger ' || TG_NAME, failure);
		IF TG_ARGV[0] = 'again' THEN
			INSERT INTO second VALUES (NEW.id);
		END IF;
		RETURN NULL;
	END $$;
	CREATE TRIGGER row_immediate AFTER UPDATE ON triggered
		FOR EACH ROW EXECUTE FUNCTION alice.tg();
	CREATE TRIGGER statement_immediate AFTER UPDATE ON triggered
		FOR EACH STATEMENT EXECUTE FUNCTION alice.tg();
	CREATE CONSTRAINT TRIGGER constraint_immediate AFTER UPDATE ON triggered
		FOR EACH ROW EXECUTE FUNCTION alice.tg();
	CREATE CONSTRAINT TRIGGER constraint_deferred AFTER UPDATE ON triggered
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.tg('again');
	CREATE CONSTRAINT TRIGGER deferred_by_deferred AFTER INSERT ON second
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.tg();
	SELECT backfill_define('triggers', 'triggered', 'UPDATE batch SET n = n + 1',
		settings => '{"batch_size": 2, "target_batch_time": 0, "sleep": 0}')});
$node->safe_psql('postgres', q{SELECT backfill_start('triggers')});
is(outcome('triggers'), 'completed', 'a run on a table with triggers completes');
for my $tg ('row_immediate', 'statement_immediate', 'constraint_immediate',
	'constraint_deferred', 'deferred_by_deferred')
{
	my $rows = $tg eq 'statement_immediate' ? 3 : 6;

	is( $node->safe_psql('postgres', qq{
		SELECT count(*), string_agg(DISTINCT outcome, ',') FROM witness WHERE what = 'trigger $tg'}),
		"$rows|42501", "trigger $tg fires for every row and may not touch the books");
	is(witnessed("trigger $tg"), 'alice|alice|off', "trigger $tg fires as the owner");
}
books_balance('triggers', 6, 'the books of that run balance');

# A deferred trigger that raises an error takes its batch with it.
as('alice', q{
	CREATE FUNCTION alice.raise() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id = 5 THEN
			RAISE EXCEPTION 'not five' USING ERRCODE = 'XX555';
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER z AFTER UPDATE ON triggered
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.raise();
	SELECT backfill_start('triggers')});
is(outcome('triggers'), 'failed: not five', 'an error of a deferred trigger fails the run');
is(as('alice', 'SELECT string_agg(n::text, $$,$$ ORDER BY id) FROM triggered'), '2,2,2,2,1,1',
	'the batch of a deferred error is undone as a whole');
witnessed('%');

# Rules and triggers that somebody else put on the target.
as('bob', q{
	CREATE TABLE bob.trap(id int PRIMARY KEY, n int DEFAULT 0);
	INSERT INTO bob.trap SELECT generate_series(1, 3);
	CREATE FUNCTION bob.tg() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		failure text := 'no error';
	BEGIN
		BEGIN
			EXECUTE 'RESET SESSION AUTHORIZATION; GRANT pg_read_all_data TO bob';
		EXCEPTION WHEN OTHERS THEN
			failure := SQLSTATE;
		END;
		PERFORM spy.note('bob', failure);
		RETURN NULL;
	END $$;
	CREATE TRIGGER t AFTER UPDATE ON bob.trap FOR EACH ROW EXECUTE FUNCTION bob.tg();
	CREATE CONSTRAINT TRIGGER d AFTER UPDATE ON bob.trap
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bob.tg();
	GRANT USAGE ON SCHEMA bob TO alice;
	GRANT SELECT, UPDATE, DELETE ON bob.trap TO alice});
as('alice', q{SELECT backfill_define('trap', 'bob.trap', 'UPDATE batch SET n = n + 1')});
$node->safe_psql('postgres', q{SELECT backfill_start('trap')});
is(outcome('trap'), 'completed', 'a run on a table of somebody else with triggers completes');
is( $node->safe_psql('postgres', q{
	SELECT count(*), string_agg(DISTINCT outcome, ',') FROM witness WHERE what = 'bob'}),
	'6|42501', 'triggers of somebody else gain nothing');
is(witnessed('bob'), 'alice|alice|off', 'triggers of somebody else run as the owner of the run');

as('bob', q{
	CREATE TABLE bob.ruled(id int PRIMARY KEY, gone boolean, note text);
	INSERT INTO bob.ruled SELECT generate_series(1, 3);
	CREATE FUNCTION bob.note(what text) RETURNS text LANGUAGE sql VOLATILE AS
		$$ SELECT spy.note(what); SELECT what $$;
	CREATE RULE r AS ON DELETE TO bob.ruled DO INSTEAD
		UPDATE bob.ruled SET gone = true, note = bob.note('rule') WHERE id = OLD.id;
	CREATE TABLE bob.log(note text);
	CREATE TABLE bob.logged(id int PRIMARY KEY);
	INSERT INTO bob.logged SELECT generate_series(1, 3);
	CREATE RULE r AS ON DELETE TO bob.logged DO ALSO
		INSERT INTO bob.log VALUES (bob.note('rule also'));
	GRANT SELECT, DELETE ON bob.ruled, bob.logged TO alice});
as('alice', q{SELECT backfill_define('ruled', 'bob.ruled', 'DELETE FROM batch')});
$node->safe_psql('postgres', q{SELECT backfill_start('ruled')});
is(outcome('ruled'), 'completed', 'a run on a table of somebody else with a rule completes');
is(witnessed('rule'), 'alice|alice|off', 'a rule of somebody else runs as the owner of the run');

as('alice', q{SELECT backfill_define('logged', 'bob.logged', 'DELETE FROM batch')});
$node->safe_psql('postgres', q{SELECT backfill_start('logged')});
is(outcome('logged'), 'completed', 'so does one with a rule that does more');
is(as('bob', 'SELECT (SELECT count(*) FROM bob.logged), (SELECT count(*) > 0 FROM bob.log)'), '0|t',
	'both commands of the rule are carried out');
is(witnessed('rule also'), 'alice|alice|off', 'also such a rule runs as the owner of the run');

$node->stop;
done_testing();
