-- What is refused, why, and what the user is told.
CREATE SCHEMA errors;
SET search_path = errors, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

-- Run a command that must fail; show how it did.  A number of a run is hidden.
-- Nothing of what it wanted may be left: not even half a definition.
CREATE FUNCTION refused(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before text := (SELECT md5(string_agg(d::text, ',' ORDER BY d::text)) FROM backfill_definitions d);
	state text; message text; detail text; hint text;
BEGIN
	BEGIN
		EXECUTE command;
		message := 'NOT REFUSED';
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN OTHERS THEN
		IF message IS NULL THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
				detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		END IF;
	END;
	IF before IS DISTINCT FROM (SELECT md5(string_agg(d::text, ',' ORDER BY d::text)) FROM backfill_definitions d) THEN
		message := message || ' BUT SOMETHING WAS LEFT';
	END IF;
	RETURN regexp_replace(format(E'%s\n  %s %s', command, state, message)
		|| coalesce(E'\n  detail: ' || nullif(detail, ''), '')
		|| coalesce(E'\n  hint: ' || nullif(hint, ''), ''), '(run |stop\(|resume\()\d+', '\1N', 'g');
END $$;
-- The same where the wording is the server's: the SQLSTATE alone.
CREATE FUNCTION refused_by_server(command text) RETURNS text LANGUAGE sql
RETURN substring(refused(command) FROM '(.*?\n  \S+) ');
-- On one line, without the detail and the hint.
CREATE FUNCTION brief(refusal text) RETURNS text LANGUAGE sql
RETURN regexp_replace(regexp_replace(refusal, '\n  (detail|hint): [^\n]*', '', 'g'), '\n  (\S+ [^\n]*)$', ' => \1');
-- Refused definitions, with the argument that differs.
CREATE FUNCTION refused_statement(statement text) RETURNS text LANGUAGE sql
RETURN replace(refused(format('SELECT backfill_define(''bad'', ''t'', %L)', statement)), 'SELECT backfill_define(''bad'', ''t'', ', '(');
CREATE FUNCTION refused_scope(scope text) RETURNS text LANGUAGE sql
RETURN replace(refused(format('SELECT backfill_define(''bad'', ''t'', ''DELETE FROM batch'', scope => %L)', scope)), 'SELECT backfill_define(''bad'', ''t'', ''DELETE FROM batch'', ', '(');
CREATE FUNCTION refused_settings(settings jsonb) RETURNS text LANGUAGE sql
RETURN replace(refused(format('SELECT backfill_define(''bad'', ''t'', ''DELETE FROM batch'', settings => %L)', settings)), 'SELECT backfill_define(''bad'', ''t'', ''DELETE FROM batch'', ', '(');
CREATE FUNCTION refused_target(target text, key text DEFAULT NULL) RETURNS text LANGUAGE sql
RETURN replace(refused(format('SELECT backfill_define(''bad'', %L, ''DELETE FROM batch'', key => %L)', target, key)), ', ''DELETE FROM batch'', key => NULL', '');

CREATE TABLE t (id bigint PRIMARY KEY, n int DEFAULT 0, x text, flag boolean, "Odd" int);
CREATE TABLE other (id int, x text);
SELECT backfill_define('good', 't', 'UPDATE batch SET n = 1');

--
-- Definitions
--
SELECT refused(c) FROM (VALUES
	($$SELECT backfill_drop('nope')$$),
	($$SELECT backfill_start('nope')$$),
	($$SELECT backfill_start('GOOD')$$),
	($$SELECT backfill_start(NULL)$$),
	($$SELECT backfill_start('good', start_at => 'infinity')$$),
	($$SELECT backfill_define(NULL, 't', 'DELETE FROM batch')$$),
	($$SELECT backfill_define('', 't', 'DELETE FROM batch')$$),
	($$SELECT backfill_define(repeat('x', 64), 't', 'DELETE FROM batch')$$),
	($$SELECT backfill_define(repeat('é', 32), 't', 'DELETE FROM batch')$$),
	($$SELECT backfill_define('bad', NULL, 'DELETE FROM batch')$$),
	($$SELECT backfill_define('bad', 't', NULL, settings => '{"outside": false}')$$),
	($$SELECT backfill_define('bad', 't', NULL, settings => '{"on_error": "skip", "repair": "DELETE FROM batch"}')$$),
	($$SELECT backfill_define('bad', 't', NULL, scope => 'nope')$$),
	($$SELECT backfill_define('bad', 't', 'DELETE FROM batch', key => 'nope')$$),
	($$SELECT backfill_define('bad', 't', 'DELETE FROM batch', key => 'id')$$),
	($$SELECT backfill_define('bad', 't', 'DELETE FROM batch', key => '')$$),
	($$SELECT backfill_define('bad', 't', 'DELETE FROM batch', direction => 'sideways')$$),
	($$SELECT backfill_define('bad', 't', 'DELETE FROM batch', direction => '')$$),
	-- a definition that is there stays as it was
	($$SELECT backfill_define('good', 't', 'UPDATE batch SET')$$),
	($$SELECT backfill_define('good', 't', 'DELETE FROM batch', settings => '{"batch_size": 0}')$$)) v(c);
SELECT refused_by_server(c) FROM (VALUES
	($$SELECT backfill_define('bad', 'nope', 'DELETE FROM batch')$$),
	($$SELECT backfill_define('bad', 't', 'DELETE FROM batch', settings => 'batch_size=1')$$),
	($$SELECT backfill_define('bad', 't', 'DELETE FROM batch', nope => 1)$$),
	($$SELECT backfill_start('good', start_at => 'soon')$$)) v(c);
SELECT refused('SELECT backfill_define(''bad'', 4294967295::oid::regclass, ''DELETE FROM batch'')');

--
-- Statements
--
SELECT refused_statement(s) FROM (VALUES
	(';'), ('SELECT 1'), ('SET work_mem = 64'), ('INSERT INTO batch VALUES (1)'),
	('MERGE INTO batch USING other ON other.id = batch.id WHEN MATCHED THEN DELETE'), ('WITH batch AS (SELECT 1) SELECT * FROM batch')) v(s);
SELECT brief(refused_statement(s)) FROM (VALUES
	(''), (E' \n\t '), (';'), (' ; ; '), ('-- nothing'), ('/* nothing */ ;'),
	('SELECT 1'), ('VALUES (1)'), ('TABLE t'), ('UPDATE t SET n = 1'), ('DELETE FROM errors.t'), ('SELECT FROM other.batch'),
	('CREATE TABLE new (i int)'), ('CREATE TABLE new AS SELECT * FROM batch'), ('SELECT * INTO new FROM batch'),
	('SELECT id INTO new FROM batch UNION SELECT 1'),
	('ALTER TABLE t ADD COLUMN y int'), ('ALTER TABLE batch ADD COLUMN y int'), ('DROP TABLE t'), ('TRUNCATE t'), ('TRUNCATE batch'),
	('VACUUM t'), ('ANALYZE t'), ('REINDEX TABLE t'), ('LOCK TABLE t'), ('COMMENT ON TABLE t IS NULL'), ('GRANT ALL ON t TO PUBLIC'),
	('BEGIN'), ('COMMIT'), ('ROLLBACK'), ('SAVEPOINT s'), ('UPDATE batch SET n = 1; COMMIT'), ('BEGIN; UPDATE batch SET n = 1; END'),
	('PREPARE TRANSACTION ''x'''), ('SET work_mem = 64'), ('SET LOCAL ROLE nobody'), ('RESET ALL'), ('RESET ROLE'), ('SHOW work_mem'), ('DISCARD ALL'),
	('COPY batch TO STDOUT'), ('COPY t FROM STDIN'), ('COPY (SELECT * FROM batch) TO PROGRAM ''true'''),
	('EXPLAIN UPDATE batch SET n = 1'), ('EXPLAIN ANALYZE DELETE FROM batch'), ('CALL p()'), ('DO ''BEGIN END'''),
	('PREPARE x AS SELECT * FROM batch'), ('EXECUTE x'), ('DEALLOCATE x'), ('DECLARE c CURSOR FOR SELECT * FROM batch'), ('FETCH c'), ('CLOSE c'),
	('LISTEN x'), ('NOTIFY x'), ('UNLISTEN x'), ('LOAD ''x'''), ('CHECKPOINT'), ('REFRESH MATERIALIZED VIEW v'),
	('DELETE FROM batch; DROP TABLE t'),
	('INSERT INTO batch VALUES (1)'), ('INSERT INTO batch SELECT * FROM batch'), ('WITH x AS (INSERT INTO batch VALUES (1) RETURNING id) SELECT * FROM x'),
	('MERGE INTO batch USING other ON other.id = batch.id WHEN MATCHED THEN DELETE'),
	('MERGE INTO batch b USING batch ON b.id = batch.id WHEN MATCHED THEN DELETE'),
	('UPDATE batch SET n = 1 WHERE CURRENT OF c'), ('DELETE FROM batch WHERE CURRENT OF c'),
	('UPDATE batch SET n = $1'), ('SELECT $1 FROM batch'), ('UPDATE batch SET n = $0'), ('UPDATE batch SET n = $99999'),
	('WITH batch AS (SELECT 1) SELECT * FROM batch'), ('WITH batch AS (SELECT 1) UPDATE batch SET n = 1'),
	('WITH RECURSIVE batch AS (SELECT 1) DELETE FROM batch'), ('(WITH batch AS (SELECT 1) SELECT * FROM batch)')) v(s);
SELECT substring(refused_statement(s) FROM '\n  (\S+) ') || ' ' || s FROM (VALUES
	('nonsense'), ('UPDATE'), ('UPDATE batch SET'), ('UPDATE batch SET n = 1 ;; nonsense'), ('UPDATE batch SET n = 1)'), ('SELECT ''open FROM batch'),
	('UPDATE batch SET nope = 1'), ('UPDATE batch SET n = nope'), ('UPDATE batch SET n = other.id'), ('UPDATE batch b SET n = batch.n'),
	('UPDATE batch SET n = ''one'''), ('UPDATE batch SET n = nope(1)'), ('UPDATE batch SET n = sum(n)'), ('UPDATE batch SET x = 1::nope'),
	('SELECT * FROM batch, nope'), ('SELECT "backfill range" FROM batch'), ('UPDATE batch SET n = 1 WHERE "backfill range"'),
	('UPDATE batch SET batch.n = 1'), ('SELECT ctid FROM batch'), ('SELECT params.x FROM batch')) v(s);

-- an error points into the statement, characters counted, on the line where it is, also in the second statement and in the scope
\set VERBOSITY default
SELECT backfill_define('bad', 't', 'UPDATE batch SET nope = 1');
SELECT backfill_define('bad', 't', E'UPDATE batch\n   SET x = \'äöü\' || nope');
SELECT backfill_define('bad', 't', E'DELETE FROM batch;\n -- é\n INSERT INTO batch SELECT 1');
SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1; DROP TABLE t');
SELECT backfill_define('bad', 't', 'UPDATE batch SET n = = 1');
SELECT backfill_define('bad', 't', 'UPDATE batch SET n = $1');
SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1', scope => $$x = 'é' AND nope$$);
SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1', scope => 'n + 1');
SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1', scope => 'n = )');
SELECT backfill_define('bad', 't', 'SELECT * FROM batch, batch b', scope => 'nope = 1');
SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1', settings => '{"probe": "SELECT ''é'' FRM t"}');
SELECT backfill_define('bad', 't', 'UPDATE batch SET n = 1', settings => '{"windows": [{"closed": true}, {"settings": {"nice": "very"}}]}');

--
-- Scopes
--
SELECT refused_scope('n = 1, n = 2');
SELECT refused_scope('n');
SELECT brief(refused_scope(s)) FROM (VALUES
	(''), (' '), ('-- nothing'), ('n'), ('1'), ('*'), ('batch.*'), ('batch'), ('n = 1, n = 2'), ('n = 1 AS x'), ('n = 1 x'),
	('true FROM other'), ('n = 1 WHERE true'), ('true ORDER BY 1'), ('true LIMIT 1'), ('true OFFSET 1'), ('DISTINCT true'), ('true GROUP BY 1'), ('true HAVING true'),
	('true FOR UPDATE'), ('true WINDOW w AS ()')) v(s);
SELECT substring(refused_scope(s) FROM '\n  (\S+) ') || ' ' || s FROM (VALUES
	('n = 1) OR (true'), ('true) UNION (SELECT 1'), (')'), ('('), ('n = 1;'), ('n = 1; DELETE FROM t'), ('n = 1 UNION SELECT true'), ('SELECT true'), ('WHERE true'),
	('n = ''open'), ('n = 1 /* open'), ('count(*) = 1'), ('row_number() OVER () = 1'), ('generate_series(1, 2) = 1'),
	('nope = 1'), ('t.n = 1'), ('b.n = 1'), ('other.id = 1'), ('$1'), ('n = $1'), ('n = ''one'''), ('nope()'), ('odd = 1'), ('n IN (SELECT id, x FROM other)')) v(s);

--
-- Settings
--
SELECT refused_settings(s) FROM (VALUES ('[]'::jsonb), ('{"batchsize": 1}'), ('{"zzzzzzzzzzzzz": 1}')) v(s);
SELECT replace(replace(refused_settings(s), E'\n  hint', ' hint'), E'\n  detail', ' detail') FROM (VALUES
	('[]'::jsonb), ('1'), ('"batch_size"'), ('true'), ('[{"batch_size": 1}]'), ('null'),
	('{"batchsize": 1}'), ('{"batch-size": 1}'), ('{"BATCH_SIZE": 1}'), ('{"worker": 1}'), ('{"timeout": 1}'), ('{"": 1}'), ('{"zzzzzzzzzzzzz": 1}'),
	('{"nope": null}'), ('{"batch_size": 5, "slep": "1s"}'),
	('{"batch_size": 0}'), ('{"batch_size": -1}'), ('{"batch_size": 10000001}'), ('{"batch_size": 1e30}'), ('{"batch_size": 99999999999999999999999}'),
	('{"batch_size": 1.5}'), ('{"batch_size": "many"}'), ('{"batch_size": "NaN"}'), ('{"batch_size": true}'), ('{"batch_size": []}'), ('{"batch_size": {}}'), ('{"batch_size": ""}'),
	('{"workers": 0}'), ('{"workers": -2}'), ('{"workers": 1025}'), ('{"limit": 0}'), ('{"limit": -1}'), ('{"limit": 0.5}'), ('{"max_attempts": 0}'),
	('{"sleep": 10}'), ('{"sleep": "10"}'), ('{"sleep": -1}'), ('{"sleep": "-1 ms"}'), ('{"sleep": "2 days"}'), ('{"sleep": "1 month"}'), ('{"sleep": "on"}'),
	('{"sleep": ""}'), ('{"sleep": " "}'), ('{"sleep": "soon"}'), ('{"sleep": "NaN"}'), ('{"sleep": "99999999999 years"}'), ('{"sleep": "1e400 s"}'), ('{"sleep": true}'), ('{"sleep": ["1s"]}'),
	('{"lock_timeout": 2000}'), ('{"statement_timeout": "10"}'), ('{"retry_delay": "2 min"}'),
	('{"direction": "up"}'), ('{"direction": 1}'), ('{"direction": true}'), ('{"synchronous_commit": "maybe"}'), ('{"synchronous_commit": 1}'), ('{"synchronous_commit": {}}'),
	('{"from": []}'), ('{"from": {}}'), ('{"from": [null]}'), ('{"from": [[1]]}'), ('{"to": [1, null]}'), ('{"from": [1, 2]}'), ('{"to": [1, 2, 3]}'),
	('{"workers": "many"}'), ('{"preset": "slow"}'), ('{"target_batch_time": "2 min"}'), ('{"target_batch_size": 1}'), ('{"soft_limit": 0}'), ('{"max_dead_rows": 1.5}'), ('{"max_slot_retained": "much"}'), ('{"pause_for_maintenance": "perhaps"}'),
	('{"rate_limit": 0}'), ('{"rate_limit": 1.5}'), ('{"rate_limit": "5MB per second"}'), ('{"wal_rate_limit": "5MB"}'), ('{"probe": ""}'), ('{"probe": "SELECT 1; SELECT 2"}'), ('{"windows": {}}'),
	('{"min_batch_size": 1000, "max_batch_size": 999}'), ('{"max_batch_size": 9}'), ('{"windows": [{"settings": {"min_batch_size": 1000001}}]}'),
	('{"windows": [{"settings": {"direction": "desc"}}]}'), ('{"windows": [{"settings": {"batchsize": 5}}]}'), ('{"windows": [{"settings": {"nice": "very"}}]}')) v(s);
-- server parameters: what is refused by us, what by the server
SELECT replace(replace(refused_settings(jsonb_build_object('set', s)), E'\n  hint', ' hint'), E'\n  detail', ' detail') FROM (VALUES
	('[]'::jsonb), ('"work_mem"'), ('{"work_mem": null}'), ('{"work_mem": {}}'), ('{"work_mem": "8MB", "WORK_MEM": "9MB"}'),
	(jsonb_build_object(repeat('x', 129), 1)), ((SELECT jsonb_object_agg('app.p' || i, i) FROM generate_series(1, 51) i)),
	('{"search_path": "public"}'), ('{"Role": "postgres"}'), ('{"session_authorization": "postgres"}'), ('{"transaction_isolation": "serializable"}'), ('{"default_transaction_read_only": true}'),
	('{"statement_timeout": "1s"}'), ('{"lock_timeout": 0}'), ('{"idle_in_transaction_session_timeout": 0}'), ('{"transaction_timeout": 0}'), ('{"synchronous_commit": "off"}'),
	('{"client_encoding": "UTF8"}'), ('{"application_name": "x"}'), ('{"exit_on_error": true}'), ('{"backfill.max_workers": 1}'), ('{"backfill.nope": 1}'),
	('{"work_memory": "8MB"}'), ('{"work_mem": "much"}'), ('{"enable_sort": "maybe"}'), ('{"shared_buffers": "1GB"}'), ('{"autovacuum": "off"}'), ('{"server_version": "1"}'), ('{"jit_provider": "x"}'), ('{"app.": 1}'), ('{"": 1}')) v(s);
-- as the owner, whoever calls
SELECT refused(c) FROM (VALUES
	($$SELECT backfill_start('good', settings => '{"set": {"work_mem": "much"}}')$$), ($$SELECT backfill_start('good', settings => '{"set": {"role": "postgres"}}')$$)) v(c);
-- ill-typed ends of the walk
SELECT substring(refused_settings(s) FROM '\n  (\S+) ') || ' ' || s FROM (VALUES
	('{"from": "one"}'::jsonb), ('{"from": 1.5}'), ('{"to": ""}'), ('{"to": true}'), ('{"to": 9223372036854775808}'), ('{"from": "1; DROP TABLE t"}')) v(s);
-- the same for a run
SELECT refused(format('SELECT backfill_start(''good'', settings => %L)', s)) FROM (VALUES
	('{"batchsize": 1}'), ('{"batch_size": 0}'), ('[]'), ('{"from": [1, 2]}')) v(s);

--
-- Runs
--
-- What a function says that it has done, the number of the run hidden.
CREATE FUNCTION done(line text) RETURNS text LANGUAGE sql RETURN regexp_replace(line, 'run \d+', 'run N');
CREATE FUNCTION for_run(run bigint, VARIADIC calls text[]) RETURNS SETOF text LANGUAGE sql
AS $$ SELECT replace(refused(format(c, run)), format('(%s', run), '(N') FROM unnest(calls) c $$;
SELECT for_run(9999999999, 'SELECT backfill_pause(%s)', 'SELECT backfill_resume(%s)', 'SELECT backfill_stop(%s)', 'SELECT backfill_stop(%s, true)',
	'SELECT backfill_alter(%s, ''{"batch_size": 1}'')', 'SELECT backfill_delete(%s)');
SELECT for_run(-1, 'SELECT backfill_stop(%s)');
SELECT for_run(0, 'SELECT backfill_delete(%s)');
SELECT refused(c) FROM (VALUES ('SELECT backfill_stop(''x'')'), ('SELECT backfill_stop(''goood'')'), ('SELECT backfill_stop(''good'')'), ('SELECT backfill_stop(''9999999999'')'), ('SELECT backfill_stop(''99999999999999999999'')'), ('SELECT backfill_stop('''')')) v(c);
SELECT refused_by_server(c) FROM (VALUES ('SELECT backfill_stop(1.5::float8)'), ('SELECT backfill_stop(9223372036854775808)')) v(c);

-- every transition that there is not
SELECT backfill_start('good', start_at => now() + '1 day') AS run \gset
SELECT status FROM backfill_runs WHERE id = :run;
SELECT for_run(:run, 'SELECT backfill_resume(%s)', 'SELECT backfill_delete(%s)', 'SELECT backfill_drop(''good'')',
	'SELECT backfill_alter(%s, ''{"direction": "desc"}'')', 'SELECT backfill_alter(%s, ''{"from": null}'')', 'SELECT backfill_alter(%s, ''{"limit": 5}'')',
	'SELECT backfill_alter(%s, ''{"batch_sizes": 5}'')', 'SELECT backfill_alter(%s, ''{"batch_size": 0}'')', 'SELECT backfill_alter(%s, ''[]'')');
SELECT settings FROM backfill_runs WHERE id = :run;
SELECT done(backfill_pause(:run));
-- once more is no error
SELECT done(backfill_pause(:run));
SELECT status FROM backfill_runs WHERE id = :run;
SELECT for_run(:run, 'SELECT backfill_delete(%s)', 'SELECT backfill_drop(''good'')');
SELECT done(backfill_resume(:run));
SELECT status FROM backfill_runs WHERE id = :run;
SELECT done(backfill_stop(:run));
SELECT status FROM backfill_runs WHERE id = :run;
SELECT done(backfill_stop(:run)), done(backfill_stop(:run, true));
SELECT for_run(:run, 'SELECT backfill_pause(%s)');
SELECT backfill_start('good') AS done \gset
CREATE PROCEDURE settle(run bigint) LANGUAGE plpgsql AS $$
DECLARE deadline timestamptz := clock_timestamp() + '3 min';
BEGIN
	WHILE NOT EXISTS (SELECT FROM backfill_runs WHERE id = run AND status IN ('completed', 'failed', 'stopped')) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the run has not ended';
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
CALL settle(:done);
SELECT status FROM backfill_runs WHERE id = :done;
SELECT for_run(:done, 'SELECT backfill_stop(%s)', 'SELECT backfill_pause(%s)', 'SELECT backfill_resume(%s)', 'SELECT backfill_alter(%s, ''{"batch_size": 1}'')');
SELECT done(backfill_delete(:done));
SELECT for_run(:done, 'SELECT backfill_delete(%s)', 'SELECT backfill_resume(%s)');

-- waiting
SELECT for_run(:run, 'CALL backfill_wait(%s)');
\set VERBOSITY terse
CALL backfill_wait(NULL);
CALL backfill_wait(9999999999);
BEGIN;
CALL backfill_wait(9999999999);
ROLLBACK;
\set VERBOSITY sqlstate
CALL backfill_wait('x');
CALL backfill_wait(1, 'soon');
CALL backfill_wait(:run);
SELECT backfill_start('good', start_at => now() + '1 day') AS run2 \gset
CALL backfill_wait(:run2, '1 ms');
CALL backfill_wait(:run2, '-1 day');
CALL backfill_wait(:run2, '0');
SELECT done(backfill_stop(:run2));
\set VERBOSITY default

--
-- Names that work
--
CREATE TABLE "A ""quoted"" Täble; --" ("The id" int PRIMARY KEY, "sel'ect" int DEFAULT 0, "a b" text);
INSERT INTO "A ""quoted"" Täble; --" VALUES (1), (2);
CREATE FUNCTION works(name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM backfill_define(name, '"A ""quoted"" Täble; --"', $s$UPDATE batch SET "sel'ect" = batch."sel'ect" + 1$s$, scope => '"The id" > 0',
		settings => '{"share_target": true}');
	ASSERT (SELECT d.name FROM backfill_definitions d WHERE d.name = works.name) = name;
	PERFORM backfill_start(name, start_at => now() + '1 day');
	RETURN name;
END $$;
SELECT works(n) FROM (VALUES ('Capital'), ('two words'), ('it''s "quoted"'), (repeat('x', 63)), (repeat('é', 31)), ('%s %d \'), ('; DROP TABLE t; --'), ('NULL'), ('123'), (E'new\nline'), (' '), ('名前')) v(n);
SELECT count(*) FROM backfill_runs WHERE status = 'pending' AND target = '"A ""quoted"" Täble; --"'::regclass;
SELECT done(backfill_stop_all());
SELECT count(*) FROM (SELECT backfill_drop(name) FROM backfill_definitions WHERE name <> 'good') d;

--
-- Targets
--
CREATE VIEW view AS SELECT * FROM t;
CREATE MATERIALIZED VIEW matview AS SELECT * FROM t;
CREATE FOREIGN DATA WRAPPER regress_backfill;
CREATE SERVER regress_backfill FOREIGN DATA WRAPPER regress_backfill;
CREATE FOREIGN TABLE ft (id int NOT NULL) SERVER regress_backfill;
CREATE TEMP TABLE temporary (id int PRIMARY KEY);
CREATE SEQUENCE seq;
CREATE TYPE composite AS (id int);
CREATE TABLE keyless (id int);
CREATE TABLE nullable (id int UNIQUE, other int NOT NULL UNIQUE);
CREATE UNIQUE INDEX partial ON t (id) WHERE n = 0;
CREATE UNIQUE INDEX expression ON t ((id + 0));
CREATE UNIQUE INDEX mixed_expression ON t (id, (n + 0));
CREATE INDEX hash ON t USING hash (id);
CREATE INDEX brin ON t USING brin (id);
CREATE TABLE mixed (a int NOT NULL, b int NOT NULL);
CREATE UNIQUE INDEX mixed_order ON mixed (a, b DESC);
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE UNIQUE INDEX only_parent ON ONLY parted (id);
CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (1) TO (2);
ALTER TABLE parted1 ADD UNIQUE (id);
CREATE UNIQUE INDEX invalid ON ONLY parted (id);
SELECT refused_target(t) FROM (VALUES ('view'), ('matview'), ('ft'), ('temporary'), ('seq'), ('composite'), ('t_pkey'), ('pg_class'), ('pg_catalog.pg_authid'), ('information_schema.sql_features'),
	('backfill.run'), ('backfill.batch'), ('backfill_runs'), ('keyless'), ('nullable'), ('mixed')) v(t);
SELECT refused_target('t', k) FROM (VALUES ('partial'), ('expression'), ('mixed_expression'), ('hash'), ('brin'), ('nullable_id_key'), ('"t_pkey"'), ('errors.t_pkey')) v(k);
SELECT refused_target('mixed', 'mixed_order');
SELECT refused_target('parted', 'invalid');
SELECT refused_target('keyless', 'keyless_pkey');
SELECT substring(refused(format('SELECT backfill_define(''bad'', %s::regclass, ''DELETE FROM batch'')', reltoastrelid)) FROM '\n  (\S+) ') || ' a toast table' FROM pg_class WHERE oid = 't'::regclass;
SELECT substring(refused_target('pg_statistic') FROM '\n  (\S+) ') || ' pg_statistic';
-- a unique index, not null, is a key though it is no primary key
SELECT backfill_define('other', 'nullable', 'DELETE FROM batch', key => 'nullable_other_key');
-- children that a walk of the parent would not cover, or not in one transaction
CREATE TABLE parent (id int PRIMARY KEY);
CREATE FOREIGN TABLE foreign_child () INHERITS (parent) SERVER regress_backfill;
SELECT substring(refused_target('parent') FROM '\n  (\S+) ') || ' a foreign child';
DROP FOREIGN TABLE foreign_child;
CREATE TABLE child (CHECK (id > 0)) INHERITS (parent);
SELECT backfill_define('parent', 'parent', 'DELETE FROM batch');

-- nothing is left of what was refused
SELECT name, statement FROM backfill_definitions ORDER BY name;
SELECT count(*) FROM backfill_runs WHERE name = 'bad';

SELECT backfill_drop('good'), backfill_drop('other'), backfill_drop('parent');
DROP SCHEMA errors CASCADE;
DROP SERVER regress_backfill;
DROP FOREIGN DATA WRAPPER regress_backfill;
