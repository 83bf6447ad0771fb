# backfill_preview and backfill_explain give the owner of a definition nothing
# that the owner does not have, even when a superuser calls them.

use strict;
use warnings;

use BackfillTest;
use Test::More;

my $node = make_node('main');

# --- Rights ------------------------------------------------------------------

# What mallory's function tries, and which SQLSTATE comes of it.
query_ok($node, q{
	CREATE ROLE mallory;
	CREATE ROLE friend IN ROLE mallory;
	CREATE ROLE stranger;
	CREATE TABLE secret AS SELECT 42 AS x;
	GRANT CREATE ON SCHEMA public TO mallory;
	SET ROLE mallory;
	CREATE TABLE lure (id int PRIMARY KEY, note text);
	INSERT INTO lure SELECT i FROM generate_series(1, 10) i;
	CREATE FUNCTION attempt(what text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE what;
		RETURN 'done';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;
	CREATE FUNCTION attack() RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		RETURN concat_ws(' ', current_user,
			attempt('ALTER ROLE mallory SUPERUSER'),
			attempt('SELECT x FROM secret'),
			attempt('SELECT rolpassword FROM pg_authid'),
			attempt('SET ROLE ' || quote_ident(session_user)),
			attempt('RESET ROLE'),
			attempt('SET SESSION AUTHORIZATION DEFAULT'),
			attempt($a$SELECT set_config('role', session_user, false)$a$),
			attempt('CREATE TEMP TABLE trap ()'),
			attempt('DECLARE trap CURSOR WITH HOLD FOR SELECT attack()'),
			attempt('PREPARE trap AS SELECT 1'),
			attempt('LISTEN trap'),
			attempt($a$COPY lure TO PROGRAM 'true'$a$),
			attempt($a$SET log_statement = 'all'$a$),
			attempt($a$SET session_replication_role = replica$a$));
	END $$;
	CREATE FUNCTION is_fine(note text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM attack();
		RETURN true;
	END $$;
	CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE lure SET note = 'later: ' || attack() WHERE id = 10;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON lure DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION later();
	SELECT backfill_define('lure', 'lure', 'UPDATE batch SET note = attack()', scope => 'is_fine(note)')});

my $refused = join(' ', 'mallory', ('42501') x 14);
foreach my $caller ('postgres', 'mallory', 'friend')
{
	my $as = $caller eq 'postgres' ? '' : "SET ROLE $caller;";
	my $superuser = query_ok($node, 'SELECT session_user');

	is(query_ok($node, "$as SELECT action, changed->>'note' FROM backfill_preview('lure', rows => 1)"),
		"update|$refused", "a preview by $caller runs as the owner, who may nothing more");
	like(query_ok($node, "$as SELECT * FROM backfill_explain('lure', measure => true)"),
		qr/^  Rows: \d+ in their ranges/m, "explain by $caller");
	is(query_ok($node, "$as BEGIN; SELECT count(*) FROM backfill_preview('lure'); SELECT current_user; COMMIT"),
		"5\n" . ($as ? $caller : $superuser), 'who called is who he was');
}
is(query_ok($node, q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'mallory is no superuser');
is(query_ok($node, 'SELECT count(*) FROM lure WHERE note IS NOT NULL'), 0, 'the lure is as it was');
foreach my $call ("backfill_preview('lure')", "backfill_explain('lure')", "backfill_explain('lure', NULL, true)")
{
	is(sqlstate($node, "SET ROLE stranger; SELECT * FROM $call"), '42501', "a stranger may not $call");
}

$node->stop;
done_testing();
