-- Generic definitions: one that works on many tables.  The target and the names are given with each
-- run; they are names, whatever they hold, and nothing that could be read as SQL.
CREATE SCHEMA generic;
SET search_path = generic, public;

-- Run a generic definition to its end and say what came of it.
CREATE PROCEDURE run(name text, target regclass, parameters jsonb DEFAULT NULL, INOUT result text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	run_id bigint := backfill_start(name, parameters, target => target);
	r record;
	deadline timestamptz := clock_timestamp() + '3 min';
BEGIN
	LOOP
		COMMIT;
		SELECT * INTO STRICT r FROM backfill_runs WHERE id = run_id;
		EXIT WHEN r.status IN ('completed', 'failed', 'stopped');
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the run is still %: %', r.status, r.wait_reason;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	result := format('%s, %s rows affected', r.status, r.rows_affected) || coalesce(': ' || r.error, '');
END $$;
-- What the last run was made of.
CREATE VIEW last AS SELECT target, scope, statement, finish, key, parameters FROM backfill_runs ORDER BY id DESC LIMIT 1;

CREATE TABLE t1 (id int PRIMARY KEY, a int, b bigint);
CREATE TABLE t2 (a int, n serial, "B b" bigint, CONSTRAINT t2_key UNIQUE (n));
CREATE TABLE nokey (id int NOT NULL, a int, b bigint);
CREATE UNIQUE INDEX "The index" ON nokey (id);
INSERT INTO t1 SELECT i, i * 10 FROM generate_series(1, 10) i;
INSERT INTO t2 SELECT i * 100 FROM generate_series(1, 10) i;
ALTER TABLE t2 ADD PRIMARY KEY (n);
INSERT INTO nokey SELECT i, i FROM generate_series(1, 10) i;

--
-- One definition, several tables
--
SELECT backfill_define('copy', NULL, $$UPDATE batch SET {new} = batch.{old}$$, scope => $$batch.{new} IS NULL$$,
	parameters => '{"old": {"type": "name", "required": true}, "new": {"type": "name", "required": true}}',
	settings => '{"verify": true}', description => 'copy a column', generic => true);
SELECT name, target, generic, statement, scope FROM backfill_definitions WHERE name = 'copy';
CALL run('copy', 't1', '{"old": "a", "new": "b"}');
SELECT * FROM last;
CALL run('copy', 't2', '{"old": "a", "new": "B b"}');
SELECT * FROM last;
SELECT bool_and(b = a), count(*) FROM t1;
SELECT bool_and("B b" = a), count(*) FROM t2;
-- a key of its own
SELECT backfill_define('copy along', NULL, $$UPDATE batch SET b = a$$, key => '{index}', parameters => '{"index": "name"}', generic => true);
CALL run('copy along', 'nokey', '{"index": "The index"}');
SELECT key FROM last;
SELECT backfill_start('copy along', '{"index": "the index"}', target => 'nokey');
SELECT backfill_start('copy along', target => 'nokey');

-- {target}, another table, values beside the names, and a last step
CREATE TABLE t1_archive (LIKE t1, why text, "which ""one""" text);
SELECT backfill_define('archive', NULL,
	$$INSERT INTO {to} (id, {column}, why, {more})
	  SELECT id, {column}, params.why, params.column || '{column}' || "{more}" /* {column} */ || $x${column}$x$ -- {column}
	    FROM batch, (SELECT '!' AS "{more}") x;
	  DELETE FROM batch$$,
	scope => $$id > (SELECT min(id) FROM {target})$$,
	parameters => '{"to": "regclass", "column": "name", "more": "name", "why": "text"}',
	finish => $$ALTER TABLE {target} ADD CONSTRAINT {more} CHECK ({column} IS NOT NULL); COMMENT ON TABLE {to} IS 'of {target}'$$, generic => true);
CALL run('archive', 't1', '{"to": "t1_archive", "column": "a", "more": "which \"one\"", "why": "{a}''; DROP TABLE t1; --"}');
SELECT statement, scope, finish FROM last;
SELECT * FROM t1;
SELECT * FROM t1_archive ORDER BY id LIMIT 2;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't1'::regclass AND contype <> 'n' ORDER BY conname;
SELECT obj_description('t1_archive'::regclass);

--
-- Whatever a name holds, it is a name
--
CREATE TABLE victim (id int PRIMARY KEY);
CREATE TABLE names (n int PRIMARY KEY, name text);
INSERT INTO names VALUES (1, 'it''s'), (2, 'a"b'), (3, '"'), (4, '""'), (5, 'id" = 0; DROP TABLE victim; --'), (6, '''; DROP TABLE victim; --'),
	(7, '/* '), (8, '-- '), (9, '$$'), (10, '\'), (11, '\"'), (12, '{new}'), (13, '{'), (14, 'select'), (15, 'Ünï cödé €😀'), (16, '%s %I $1 :x'),
	(17, repeat('x', 63)), (18, repeat('é', 31)), (19, E'two\nlines\t'), (20, ' '), (21, 'B'), (22, 'b'), (23, 'a.b'), (24, 'batch'), (25, 'U&"\0041"'), (26, 'target');
-- where that literal ends is not the same for every session
SELECT backfill_define('name', NULL, $$UPDATE batch SET {new} = {old} WHERE '\'||'{new}' <> ''$$, parameters => '{"old": "name", "new": "name"}', generic => true);
SELECT backfill_define('name', NULL, $$UPDATE batch SET {new} = coalesce({new}, 0)+{old},{next}=coalesce(batch.{new},0)+1 WHERE{new}IS NOT DISTINCT FROM batch.{new}AND'\\'||E'\''<>'{new}'$$,
	parameters => '{"old": "name", "new": "name", "next": "name"}', generic => true);
SELECT backfill_define('name', NULL, $$UPDATE batch SET {new} = coalesce({new}, 0)+{old},{next}=coalesce(batch.{new},0)+1 WHERE{new}IS NOT DISTINCT FROM batch.{new}AND'\d'||E'\''||$x$\'$x$<>'{new}'$$,
	parameters => '{"old": "name", "new": "name", "next": "name"}', generic => true);
CREATE PROCEDURE try_names() LANGUAGE plpgsql AS $$
DECLARE
	r record;
	said text;
	ok boolean;
BEGIN
	FOR r IN SELECT * FROM names ORDER BY n LOOP
		EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, old int, next int, %I int)', r.name || left('!', 63 - octet_length(r.name)), r.name);
		EXECUTE format('INSERT INTO %I SELECT i, i FROM generate_series(1, 3) i', r.name || left('!', 63 - octet_length(r.name)));
		CALL run('name', quote_ident(r.name || left('!', 63 - octet_length(r.name)))::regclass, jsonb_build_object('old', 'old', 'new', r.name, 'next', 'next'), said);
		EXECUTE format('SELECT count(*) = 3 AND bool_and(%I = id AND next = 1) FROM %I', r.name, r.name || left('!', 63 - octet_length(r.name))) INTO ok;
		RAISE NOTICE '% %: %, %', r.n, r.name, said, ok;
	END LOOP;
END $$;
CALL try_names();
SELECT count(*) FROM victim;
SELECT statement FROM backfill_runs WHERE parameters ->> 'new' LIKE '%DROP TABLE victim%' AND name = 'name' ORDER BY id LIMIT 1;
-- side by side they do not become one
SELECT backfill_define('beside', NULL, $$UPDATE batch SET {new} = 1 WHERE {old}{new}{new}$$, parameters => '{"old": "name", "new": "name"}', generic => true);
SELECT backfill_define('beside', NULL, $$SELECT {a}{b}, {a}"x", U&{a}, {a}_x, _{a} FROM batch$$, parameters => '{"a": "name", "b": "name"}', generic => true);
CREATE TABLE few (id int PRIMARY KEY, "&" text, u int);
SELECT backfill_start('beside', '{"a": "id", "b": "u"}', target => 'few');

-- the limit of a text holds for what it becomes
SELECT backfill_define('long', NULL, 'SELECT ' || repeat('{a}, ', 20000) || ' 1 FROM batch', parameters => '{"a": "name"}', generic => true);
SELECT backfill_start('long', jsonb_build_object('a', repeat('x', 63)), target => quote_ident(repeat('x', 63))::regclass);
-- too long, not cut off; no name; nothing
SELECT backfill_start('copy', jsonb_build_object('old', 'a', 'new', repeat('x', 64)), target => 't1');
SELECT backfill_start('copy', jsonb_build_object('old', 'a', 'new', repeat('é', 32)), target => 't1');
SELECT backfill_start('copy', '{"old": "a", "new": ""}', target => 't1');
SELECT backfill_start('copy', '{"old": "a", "new": null}', target => 't1');
SELECT backfill_start('copy', '{"old": "a"}', target => 't1');
SELECT backfill_start('copy', '{"old": "a", "new": ["b"]}', target => 't1');
SELECT backfill_start('copy', '{"old": "a", "new": "b", "more": "b"}', target => 't1');

--
-- What is not there
--
SELECT backfill_start('copy', '{"old": "a", "new": "bb"}', target => 't1');
SELECT backfill_start('copy', '{"old": "A", "new": "b"}', target => 't1');
SELECT backfill_start('copy', '{"old": "a b c", "new": "b"}', target => 't1');
SELECT backfill_start('copy', '{"old": "a", "new": "b"}', target => 't3');
SELECT backfill_start('copy', '{"old": "a", "new": "b"}', target => 0);
SELECT backfill_start('copy', '{"old": "a", "new": "b"}', target => 'last');
SELECT backfill_start('copy', '{"old": "a", "new": "b"}', target => 'nokey');
SELECT backfill_start('copy', '{"old": "a", "new": "b"}');
SELECT backfill_start('copy', '{"old": "id", "new": "id"}', target => 't1');
SELECT backfill_start('copy', '{"old": "a", "new": "ctid"}', target => 't1');
SELECT backfill_start('archive', '{"to": "none", "column": "a", "more": "a", "why": ""}', target => 't1');
SELECT backfill_start('archive', '{"to": "12345", "column": "a", "more": "a", "why": ""}', target => 't1');
SELECT backfill_start('archive', '{"to": "t1_archive", "column": "a", "more": "whyy", "why": ""}', target => 't1');
SELECT backfill_start('archive', '{"column": "a", "more": "why", "why": ""}', target => 't1');
CREATE TEMPORARY TABLE passing (LIKE t1_archive);
SELECT backfill_start('archive', '{"to": "passing", "column": "a", "more": "why", "why": ""}', target => 't1');
CREATE TEMPORARY TABLE passing_key (id int PRIMARY KEY, a int, b int);
SELECT backfill_start('copy', '{"old": "a", "new": "b"}', target => 'passing_key');
CREATE TABLE types (id int PRIMARY KEY, a int, b jsonb);
SELECT backfill_start('copy', '{"old": "a", "new": "b"}', target => 'types');

--
-- A value is no name, and a name no value
--
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {a} = 1', parameters => '{"a": "text"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET a = 1', scope => 'x < {a}', parameters => '{"a": "numeric(3,1)"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {neu} = 1', parameters => '{"new": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {New} = {"New"}', parameters => '{"new": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {something} = 1', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET a = 1', finish => 'ALTER TABLE {targt} ALTER {a} SET NOT NULL', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {params.a} = 1', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET { a } = 1', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {} = 1', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {$1} = 1', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {''a''} = 1', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {a = 1', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SE {a} = 1', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {a} = 1 {a} 2', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET {a} = 1', scope => '{a} = 1; DROP TABLE victim', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET a = 1', finish => 'COMMIT', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET a = 1', key => '{a}', parameters => '{"a": "regclass"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET a = 1', parameters => '{"target": "name"}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET a = 1', parameters => jsonb_build_object('a', jsonb_build_object('type', 'name', 'default', repeat('x', 64))), generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET a = 1', settings => '{"verify": true}', generic => true);
SELECT backfill_define('wrong', NULL, 'UPDATE batch SET a = 1');
SELECT backfill_define('wrong', NULL, NULL);
SELECT backfill_define('wrong', NULL, NULL, settings => '{"outside": false}', generic => true);
SELECT backfill_define('wrong', 't1', 'UPDATE batch SET a = 1', generic => true);
SELECT backfill_define('wrong', 't1', 'UPDATE batch SET {a} = 1', parameters => '{"a": "name"}');
-- where a value is expected, it is one; and what is no statement about batch is refused with the target
SELECT backfill_define('value', NULL, 'UPDATE batch SET {a} = params.a', parameters => '{"a": "name"}', generic => true);
CREATE TABLE texts (id int PRIMARY KEY, note text, n int);
INSERT INTO texts VALUES (1);
CALL run('value', 'texts', '{"a": "note"}');
SELECT * FROM texts;
SELECT backfill_start('value', '{"a": "n"}', target => 'texts');
SELECT backfill_define('no batch', NULL, 'UPDATE {target} SET {a} = 1', parameters => '{"a": "name"}', generic => true);
SELECT backfill_start('no batch', '{"a": "n"}', target => 'texts');
-- options and domains restrict names as they do values
CREATE DOMAIN column_name AS name CHECK (value NOT LIKE 'secret%');
SELECT backfill_define('restricted', NULL, 'UPDATE batch SET {a} = NULL, {b} = 7', parameters => '{"a": "column_name", "b": {"type": "name", "options": ["n", "m"]}, "from": {"type": "name", "default": "n"}}', generic => true);
SELECT backfill_start('restricted', '{"a": "secret", "b": "n"}', target => 'texts');
SELECT backfill_start('restricted', '{"a": "note", "b": "id"}', target => 'texts');
CALL run('restricted', 'texts', '{"a": "note", "b": "n"}');
SELECT * FROM texts;
-- words that SQL reserves, and a name of several words
SELECT backfill_define('words', NULL, 'UPDATE batch SET {To} = {FROM} || {"the Third"}', parameters => '{"from": "name", "to": "name", "the Third": "name"}', generic => true);
CREATE TABLE words (id int PRIMARY KEY, "from" text, "to" text, t text);
INSERT INTO words VALUES (1, 'x', NULL, 'y');
CALL run('words', 'words', '{"from": "from", "to": "to", "the Third": "t"}');
SELECT * FROM words;
SELECT statement FROM last;

--
-- Before a run
--
SELECT replace(regexp_replace("QUERY PLAN", '\d+ of \d+|\d+\.\d+|\d+', 'N', 'g'), ' AS batch', ' batch') FROM backfill_explain('copy', '{"old": "a", "new": "b"}', target => 't1') WHERE "QUERY PLAN" ~ 'SET|IS NULL' ORDER BY 1;
SELECT key, before ->> 'a' AS a, changed FROM backfill_preview('value', '{"a": "note"}', target => 'texts', rows => 1);
SELECT backfill_explain('copy', '{"old": "a", "new": "b"}');
SELECT backfill_explain('copy', '{"old": "a", "new": "c"}', target => 't1');
SELECT backfill_preview('copy', '{"old": "a", "new": "b"}');
SELECT backfill_preview('copy', '{"old": "a", "new": "bb"}', target => 't1');
SELECT backfill_define('plain', 'texts', 'UPDATE batch SET n = 1');
SELECT backfill_start('plain', target => 'texts');
SELECT backfill_explain('plain', target => 'texts');
SELECT backfill_preview('plain', target => 'texts');

--
-- A definition changes its kind
--
SELECT backfill_define('plain', NULL, 'UPDATE batch SET n = 1', generic => true);
SELECT backfill_define('plain', 't1', 'UPDATE batch SET a = 1');
SELECT target, generic FROM backfill_definitions WHERE name = 'plain';

--
-- What follows
--
SELECT backfill_define('clear', NULL, 'UPDATE batch SET {a} = NULL', parameters => '{"a": "name"}', generic => true);
SELECT backfill_define('first', NULL, 'UPDATE batch SET {a} = coalesce({a}, 0) + 1', parameters => '{"a": "name"}', generic => true,
	followers => '[{"name": "clear", "target": {"from": "run.target"}, "parameters": {"a": "b"}},
		{"name": "clear", "target": "texts", "parameters": {"a": "note"}}, {"name": "clear", "target": "nokey", "parameters": {"a": {"from": "params.a"}}},
		{"name": "clear", "parameters": {"a": {"from": "params.a"}}}]');
SELECT e ->> 'target' AS target FROM backfill_definitions, jsonb_array_elements(followers) e WHERE name = 'first';
SELECT backfill_define('wrong', 't1', 'SELECT FROM batch', followers => '[{"name": "clear", "target": "none"}]');
SELECT backfill_define('wrong', 't1', 'SELECT FROM batch', followers => '[{"name": "clear", "target": {"from": "params.a"}}]');
SELECT backfill_define('wrong', 't1', 'SELECT FROM batch', followers => '[{"name": "clear", "target": 7}]');
UPDATE t2 SET a = 0;
ALTER TABLE t2 RENAME "B b" TO b;
UPDATE texts SET note = 'x';
CALL run('first', 't2', '{"a": "a"}');
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '3 min';
BEGIN
	WHILE EXISTS (SELECT FROM backfill_runs WHERE name = 'clear' AND status NOT IN ('completed', 'failed', 'stopped')) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'not all runs have ended';
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
CALL settle();
SELECT target, status, parameters FROM backfill_runs WHERE name = 'clear' ORDER BY id;
SELECT bool_and(a = 1), count(b) FROM t2;
SELECT count(note), count(n) FROM texts;
SELECT sqlstate, reason FROM backfill_events WHERE kind = 'followers' AND sqlstate IS NOT NULL AND name = 'first';

-- an occurrence of a schedule, by any clock
SELECT backfill_schedule('copy', '0 4 * * *', '{"old": "a", "new": "b"}');
SELECT backfill_start_scheduled('copy', '{"old": "a", "new": "b"}');
SELECT backfill_start_scheduled('copy', '{"old": "a", "new": "bb"}', target => 't1');

-- with the rights of the owner, whoever starts it, and whatever the table is
CREATE ROLE generic_owner LOGIN;
GRANT USAGE ON SCHEMA generic TO generic_owner;
GRANT CREATE ON SCHEMA generic TO generic_owner;
SET ROLE generic_owner;
SELECT backfill_define('owned', NULL, 'UPDATE batch SET {a} = {a}', parameters => '{"a": "name"}', generic => true);
CREATE TABLE own (id int PRIMARY KEY, a int);
RESET ROLE;
SELECT backfill_start('owned', '{"a": "a"}', target => 't1');
GRANT SELECT, UPDATE ON t1 TO generic_owner;
SELECT DISTINCT changed FROM backfill_preview('owned', '{"a": "a"}', target => 't1');
CREATE ROLE generic_stranger;
GRANT USAGE ON SCHEMA generic TO generic_stranger;
SET ROLE generic_stranger;
SELECT backfill_start('owned', '{"a": "a"}', target => 'own');
SELECT backfill_explain('owned', '{"a": "a"}', target => 'own');
SELECT name, generic FROM backfill_definitions WHERE name = 'owned';
RESET ROLE;

SET client_min_messages = warning;
SELECT count(backfill_delete(id)) > 0 FROM backfill_runs r WHERE status IN ('completed', 'failed') AND r.name IN ('copy', 'copy along', 'archive', 'name', 'value', 'restricted', 'words', 'first', 'clear');
SELECT count(backfill_drop(name)) FROM backfill_definitions WHERE name IN ('copy', 'copy along', 'archive', 'name', 'beside', 'long', 'value', 'no batch', 'restricted', 'words', 'plain', 'first', 'clear');
SELECT backfill_drop('owned');
DROP SCHEMA generic CASCADE;
DROP ROLE generic_owner, generic_stranger;
