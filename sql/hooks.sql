-- Hooks: what backfill_on and backfill_off take, what they refuse, why, and
-- what the user is told.  What hooks do is for test/t/engine_hooks_*.pl.
CREATE SCHEMA hooks;
SET search_path = hooks, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

-- Run a command that must fail; show how it did, and whether hooks are as before.
CREATE FUNCTION refused(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before text := (SELECT string_agg(h::text, ',' ORDER BY h::text) FROM backfill_hooks h);
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
	IF before IS DISTINCT FROM (SELECT string_agg(h::text, ',' ORDER BY h::text) FROM backfill_hooks h) THEN
		message := message || ' BUT SOMETHING WAS LEFT';
	END IF;
	RETURN format(E'%s\n  %s %s', command, state, message)
		|| coalesce(E'\n  detail: ' || nullif(detail, ''), '')
		|| coalesce(E'\n  hint: ' || nullif(hint, ''), '');
END $$;
-- On one line, without the detail and the hint.
CREATE FUNCTION brief(refusal text) RETURNS text LANGUAGE sql
RETURN regexp_replace(regexp_replace(refusal, '\n  (detail|hint): [^\n]*', '', 'g'), '\n  (\S+ [^\n]*)$', ' => \1');
-- The same where the wording is the server's: the SQLSTATE alone.
CREATE FUNCTION refused_by_server(command text) RETURNS text LANGUAGE sql
RETURN substring(refused(command) FROM '(.*?\n  \S+) ');
CREATE FUNCTION refused_event(event text) RETURNS text LANGUAGE sql
RETURN refused(format('SELECT backfill_on(%L, ''f'', ''d'')', event));
CREATE FUNCTION refused_function(function regproc) RETURNS text LANGUAGE sql
RETURN refused(format('SELECT backfill_on(''after run completed'', %L, ''d'')', function));
CREATE FUNCTION shown() RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', phase, object, status, hook, coalesce(name, 'for all')), E'\n'
	ORDER BY name, phase, object, status, hook) FROM backfill_hooks);

CREATE TABLE t (id bigint PRIMARY KEY, n int DEFAULT 0);
SELECT backfill_define('d', 't', 'UPDATE batch SET n = 1');
SELECT backfill_define('"D" ''é''', 't', 'UPDATE batch SET n = 1');
CREATE FUNCTION f(e backfill_event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION g(backfill_event) RETURNS int LANGUAGE sql AS 'SELECT 1';

--
-- Events
--
SELECT refused_event('after run');
SELECT brief(refused_event(e)) FROM (VALUES
	(''), (' '), ('after'), ('run completed'), ('after completed'), ('after run done'), ('after run complete'),
	('during run completed'), ('after runs completed'), ('after worker started'), ('completed run after'), ('run after completed'),
	('after run completed now'), ('after run completed after run failed'), ('after batch enqueued'), ('around batch paused'), ('before batch skipped'),
	('after-run-completed'), ('after.run.completed'), ('after,run,completed'), ('afterruncompleted'), ('*'), ('after run *'), ('after run cömpleted'),
	('after run completed; DROP TABLE t'), (repeat('after ', 9)), (repeat('x', 100))) v(e);
SELECT brief(refused(c)) FROM (VALUES
	($$SELECT backfill_on(NULL, 'f', 'd')$$),
	($$SELECT backfill_on('after run completed', NULL, 'd')$$),
	($$SELECT backfill_off(NULL, 'f', 'd')$$),
	($$SELECT backfill_off('after run completed', NULL, 'd')$$),
	($$SELECT backfill_off('after run', 'f', 'd')$$)) v(c);

--
-- Functions
--
CREATE FUNCTION no_argument() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION two_arguments(backfill_event, int) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION two_with_default(backfill_event, int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION wrong_type(text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION wrong_json(jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION any_record(record) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION any_element(anyelement) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION an_array(backfill_event[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION variadic_array(VARIADIC backfill_event[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION a_set(backfill_event) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION a_table(backfill_event) RETURNS TABLE (i int) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION a_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE a_procedure(backfill_event) LANGUAGE sql AS '';
CREATE AGGREGATE an_aggregate(backfill_event) (sfunc = array_append, stype = backfill_event[], initcond = '{}');
CREATE DOMAIN event_domain AS backfill_event;
CREATE FUNCTION a_domain(event_domain) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE TYPE backfill_event AS (phase text, object text, status text, previous_status text, run_id bigint, name text, batch bigint,
	key_range text, rows bigint, error text, parameters jsonb);
CREATE FUNCTION lookalike(hooks.backfill_event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION another_row(t) RETURNS void LANGUAGE sql AS '';
SELECT refused_function('no_argument');
SELECT brief(refused_function(p)) FROM (VALUES
	('no_argument'::regproc), ('two_arguments'), ('two_with_default'), ('wrong_type'), ('wrong_json'), ('any_record'), ('any_element'),
	('an_array'), ('variadic_array'), ('a_set'), ('a_table'), ('a_trigger'), ('a_procedure'), ('an_aggregate'), ('a_domain'),
	('lookalike'), ('another_row'), ('backfill_yield'), ('pg_catalog.now')) v(p);
SELECT refused_function(4294967295);
SELECT refused_function(0);
DROP TYPE hooks.backfill_event CASCADE;
CREATE FUNCTION overloaded(backfill_event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION overloaded(int) RETURNS void LANGUAGE sql AS '';
SELECT refused_by_server(c) FROM (VALUES
	($$SELECT backfill_on('after run completed', 'nope', 'd')$$),
	($$SELECT backfill_on('after run completed', 'f(backfill_event)', 'd')$$),
	($$SELECT backfill_on('after run completed', 'overloaded', 'd')$$),
	($$SELECT backfill_on('after run completed', '', 'd')$$),
	($$SELECT backfill_on('after run completed', 'f', 'd', 'more')$$),
	($$SELECT backfill_on('after run completed')$$)) v(c);
-- a number tells which one is meant
SELECT backfill_on('after run completed', 'overloaded(backfill_event)'::regprocedure::oid, 'd');
SELECT refused('SELECT backfill_on(''after run completed'', ''overloaded(int)''::regprocedure::oid, ''d'')');
SELECT backfill_off('after run completed', 'overloaded(backfill_event)'::regprocedure::oid, 'd');

--
-- Definitions
--
SELECT refused(c) FROM (VALUES
	($$SELECT backfill_on('after run completed', 'f', 'nope')$$),
	($$SELECT backfill_on('after run completed', 'f', '')$$),
	($$SELECT backfill_on('after run completed', 'f', 'd ')$$),
	($$SELECT backfill_off('after run completed', 'f', 'nope')$$)) v(c);

--
-- Every event that there is, in every spelling
--
SELECT backfill_on(concat_ws(' ', phase, object, status), 'f', 'd')
  FROM unnest(ARRAY['before', 'around', 'after']) phase, unnest(ARRAY['run', 'batch']) object,
	   unnest(ARRAY['pending', 'enqueued', 'running', 'paused', 'completed', 'failed', 'stopped']) status
 WHERE object = 'run' OR status NOT IN ('enqueued', 'paused');
SELECT shown();
SELECT count(backfill_off(concat_ws('_', phase, object, status), 'f', 'd')) FROM backfill_hooks;
SELECT shown();
SELECT backfill_on(e, 'f', 'd') FROM (VALUES ('before_run_completed'), ('AFTER RUN completed'), (E' around\trun\n completed  '), ('After_Batch_Failed')) v(e);
SELECT shown();

--
-- There already, and not there
--
SELECT refused(c) FROM (VALUES
	($$SELECT backfill_on('before run completed', 'f', 'd')$$),
	($$SELECT backfill_on('BEFORE_RUN_COMPLETED', 'hooks.f', 'd')$$),
	($$SELECT backfill_off('before run completed', 'g', 'd')$$),
	($$SELECT backfill_off('before run completed', 'f')$$),
	($$SELECT backfill_off('before run failed', 'f', 'd')$$),
	($$SELECT backfill_off('before batch completed', 'f', 'd')$$),
	($$SELECT backfill_off('before run completed', 'f', '"D" ''é''')$$)) v(c);
-- the same function for others, and others for the same
SELECT backfill_on('before run completed', 'g', 'd'), backfill_on('before run completed', 'f', '"D" ''é'''), backfill_on('before run completed', 'f');
SELECT refused($$SELECT backfill_on('before run completed', 'f', NULL)$$);
SELECT shown();
SELECT backfill_off('before run completed', 'f', NULL);
SELECT refused($$SELECT backfill_off('before run completed', 'f')$$);
-- what a transaction adds it may take back
BEGIN;
SELECT backfill_on('before run failed', 'f', 'd');
SELECT backfill_off('before run completed', 'f', 'd');
ROLLBACK;
SELECT shown();

--
-- Roles
--
CREATE ROLE regress_backfill_owner;
CREATE ROLE regress_backfill_stranger;
GRANT ALL ON SCHEMA hooks TO regress_backfill_owner, regress_backfill_stranger;
SET ROLE regress_backfill_owner;
CREATE TABLE own (id int PRIMARY KEY);
SELECT backfill_define('own', 'own', 'DELETE FROM batch');
SELECT refused(c) FROM (VALUES
	($$SELECT backfill_on('after run completed', 'f')$$),
	($$SELECT backfill_off('after run completed', 'f')$$),
	($$SELECT backfill_on('after run completed', 'f', 'd')$$),
	($$SELECT backfill_off('before run completed', 'f', 'd')$$)) v(c);
SELECT backfill_on('after run completed', 'f', 'own');
CREATE FUNCTION forbidden(backfill_event) RETURNS void LANGUAGE sql AS '';
REVOKE EXECUTE ON FUNCTION forbidden FROM PUBLIC, regress_backfill_owner;
SELECT refused($$SELECT backfill_on('after run failed', 'forbidden', 'own')$$);
SELECT shown();
SET ROLE regress_backfill_stranger;
SELECT refused(c) FROM (VALUES
	($$SELECT backfill_on('after run failed', 'f', 'own')$$),
	($$SELECT backfill_off('after run completed', 'f', 'own')$$)) v(c);
SELECT shown();
RESET ROLE;
SELECT phase, object, status, hook, name, created_by, created_at <= now() FROM backfill_hooks WHERE name = 'own';

-- Outside of a hook there is nothing to yield.
SELECT refused('SELECT backfill_yield()');

-- A definition that is dropped takes its hooks along; a function does not.
SELECT backfill_drop('"D" ''é''');
SELECT backfill_drop('own');
DROP FUNCTION g;
SELECT shown();
SELECT backfill_off(concat_ws(' ', phase, object, status), hook, name) FROM backfill_hooks;
SELECT shown();

DROP SCHEMA hooks CASCADE;
SELECT backfill_drop('d');
DROP ROLE regress_backfill_owner;
DROP ROLE regress_backfill_stranger;
