-- Parameters: values of every type arrive in the worker as they were given,
-- whatever the parameters of the two sessions; nothing else gets through, and
-- what is refused names the parameter.
CREATE SCHEMA parameters;
SET search_path = parameters, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

-- Workers get the parameters of the database: none may change what they read.
CREATE TABLE database_settings AS
SELECT unnest(setconfig) AS setting FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database() AND setrole = 0;
DO $$
DECLARE
	setting text;
BEGIN
	FOREACH setting IN ARRAY ARRAY['DateStyle = ''SQL, DMY''', 'IntervalStyle = sql_standard', 'TimeZone = ''Asia/Kathmandu''',
			'bytea_output = escape', 'extra_float_digits = -15', 'array_nulls = off', 'search_path = nowhere', 'xmloption = document',
			'default_transaction_isolation = serializable', 'default_transaction_read_only = on', 'quote_all_identifiers = on']
	LOOP
		EXECUTE format('ALTER DATABASE %I SET %s', current_database(), setting);
	END LOOP;
END $$;

-- The runs of this test.
CREATE VIEW mine AS SELECT r.* FROM backfill_runs r JOIN pg_class c ON c.oid = target WHERE relnamespace = 'parameters'::regnamespace;
-- Wait until they all have ended; say which did not complete.
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '3 min';
	r record;
BEGIN
	WHILE EXISTS (SELECT FROM mine WHERE status NOT IN ('completed', 'failed', 'stopped')) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'not all runs have ended';
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
	FOR r IN SELECT * FROM mine WHERE status <> 'completed' LOOP
		RAISE WARNING 'run of % is %: % %', r.name, r.status, r.sqlstate, r.error;
	END LOOP;
	PERFORM backfill_delete(id) FROM mine;
END $$;

-- Run a command that was put together.
CREATE FUNCTION run(command text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; END $$;
CREATE TABLE one (id int PRIMARY KEY);
INSERT INTO one VALUES (1);

--
-- Every scalar type that there is
--
CREATE TABLE literals (type regtype, literal text, name text GENERATED ALWAYS AS ('p' || number) STORED, number int GENERATED ALWAYS AS IDENTITY);
INSERT INTO literals (type, literal)
SELECT type::regtype, unnest(literals) FROM (VALUES
	('bool', ARRAY['true', 'f']), ('"char"', ARRAY['x', '']), ('name', ARRAY['a "name"', '']), ('text', ARRAY['it''s "text" \ {$1} %s', '', 'äöü€😀', E'\n\t']),
	('varchar', ARRAY['x']), ('bpchar', ARRAY['x  ']), ('bytea', ARRAY['\x00ff27225c', '']),
	('int2', ARRAY['-32768']), ('int4', ARRAY['2147483647']), ('int8', ARRAY['-9223372036854775808', '9007199254740993']),
	('float4', ARRAY['3.4028235e+38', '0.1', 'NaN']), ('float8', ARRAY['0.1', '1.7976931348623157e+308', '5e-324', 'Infinity', '-Infinity', 'NaN', '-0']),
	('numeric', ARRAY['1.500', '0.' || repeat('0', 300) || '1', repeat('9', 500), 'NaN', 'Infinity', '-Infinity']), ('money', ARRAY['-12.34']),
	('oid', ARRAY['4294967295']), ('xid', ARRAY['4294967295']), ('xid8', ARRAY['18446744073709551615']), ('cid', ARRAY['7']), ('tid', ARRAY['(4294967295,65535)']), ('pg_lsn', ARRAY['FFFFFFFF/FFFFFFFF']),
	('date', ARRAY['2026-02-03', '03/02/01', 'infinity', '-infinity', '0044-03-15 BC', '12026-02-03']), ('time', ARRAY['23:59:59.999999', '24:00:00']), ('timetz', ARRAY['12:34:56.789+05:45', '00:00:00-15:59:59']),
	('timestamp', ARRAY['2026-02-03 04:05:06.789', 'infinity', '-infinity', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999']),
	('timestamptz', ARRAY['2026-02-03 04:05:06.789', '2026-02-03 04:05:06+01', 'infinity', '-infinity', '0044-03-15 00:00:00 BC', '1883-11-18 12:00:00 America/New_York']),
	('interval', ARRAY['1 year -2 mons +3 days -04:05:06.789', '-1 02:03:04', '-1 mons', '00:00:00', '-178000000 years']),
	('uuid', ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']), ('bit', ARRAY['1']), ('varbit', ARRAY['', '0011']),
	('inet', ARRAY['10.1.2.3/8', '::1']), ('cidr', ARRAY['10.0.0.0/8']), ('macaddr', ARRAY['08:00:2b:01:02:03']), ('macaddr8', ARRAY['08:00:2b:01:02:03:04:05']),
	('point', ARRAY['(0.1,-1e300)']), ('line', ARRAY['{1,2,0.1}']), ('lseg', ARRAY['[(0,0.1),(1,1)]']), ('box', ARRAY['(2,2),(0.1,0)']), ('path', ARRAY['[(0,0),(1,0.1)]', '((0,0),(1,0.1))']),
	('polygon', ARRAY['((0,0),(1,0.1),(1,1))']), ('circle', ARRAY['<(0,0.1),2>']),
	('json', ARRAY['{"a": [1, "two", null]}', '"a string"', '12', '[]']), ('jsonb', ARRAY['{"a": [1, "two", null]}', '"a string"', '12', '[]']), ('jsonpath', ARRAY['$."a"[*]?(@ > 1)']),
	('xml', ARRAY['<a b="c">d</a>', 'text &amp; <b/>']), ('tsvector', ARRAY['''it''''s'':1A ''rat'':2']), ('tsquery', ARRAY['''fat'':*A & !''it''''s''']),
	('aclitem', ARRAY['=r/' || quote_ident(current_user)]), ('refcursor', ARRAY['cur']), ('pg_snapshot', ARRAY['10:20:10,14,15']), ('txid_snapshot', ARRAY['10:20:10,14,15']),
	('int2vector', ARRAY['1 -2 3', '']), ('oidvector', ARRAY['1 4294967295', '']),
	('regclass', ARRAY['pg_catalog.pg_class', 'one', '-', '4294967295']), ('regtype', ARRAY['int4', 'parameters.one', '-']), ('regproc', ARRAY['now', 'settle', '-']), ('regprocedure', ARRAY['abs(int4)', 'settle()']),
	('regoper', ARRAY['pg_catalog.||/', '0']), ('regoperator', ARRAY['+(int4,int4)', '-(NONE,int4)']), ('regrole', ARRAY[quote_ident(current_user), '-']), ('regnamespace', ARRAY['pg_catalog', 'parameters']),
	('regcollation', ARRAY['"C"']), ('regconfig', ARRAY['simple']), ('regdictionary', ARRAY['simple']),
	('int4range', ARRAY['[1,5)', 'empty', '(,)']), ('int8range', ARRAY['[1,)']), ('numrange', ARRAY['(0.10,1.5]']), ('daterange', ARRAY['[2026-02-03,2026-03-04)']), ('tsrange', ARRAY['["2026-02-03 04:05:06.789",infinity]']),
	('tstzrange', ARRAY['["2026-02-03 04:05:06","2026-03-04 04:05:06")', '[,]']),
	('int4multirange', ARRAY['{[1,5),[7,9)}', '{}']), ('int8multirange', ARRAY['{[1,)}']), ('nummultirange', ARRAY['{(0.10,1.5],[2,2]}']), ('datemultirange', ARRAY['{[2026-02-03,2026-03-04)}']),
	('tsmultirange', ARRAY['{["2026-02-03 04:05:06",infinity]}']), ('tstzmultirange', ARRAY['{["2026-02-03 04:05:06","2026-03-04 04:05:06")}']),
	-- since 19
	('oid8', ARRAY['18446744073709551615']), ('regdatabase', ARRAY[quote_ident(current_database()), '-'])
) v(type, literals)
WHERE to_regtype(type) IS NOT NULL;
-- a server may be built without XML
DO $$
BEGIN
	PERFORM '<a/>'::xml;
EXCEPTION WHEN feature_not_supported THEN
	UPDATE literals SET type = 'text' WHERE type = 'xml'::regtype;
END $$;
-- those whose input function refuses whatever it is given are not there
SELECT 'without a literal: ' || oid::regtype FROM pg_type t
 WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm')
   AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
   AND typname NOT IN ('gtsvector', 'pg_node_tree', 'pg_ndistinct', 'pg_dependencies', 'pg_mcv_list', 'pg_brin_bloom_summary', 'pg_brin_minmax_multi_summary', 'xml')
   AND oid NOT IN (SELECT type FROM literals);

-- "given" takes what this session makes of a literal, "seen" what the worker
-- has for the parameter of the same name.
SELECT run(format('CREATE TABLE given (%s)', string_agg(format('%I %s', name, type), ', ' ORDER BY number))) FROM literals;
CREATE TABLE seen (LIKE given);
SELECT backfill_define('scalars', 'one', format('INSERT INTO seen SELECT %s FROM batch', string_agg('params.' || name, ', ' ORDER BY number)),
	parameters => jsonb_object_agg(name, type)) FROM literals;

-- A literal as JSON: for json and jsonb it is one itself.
CREATE FUNCTION as_json(type regtype, literal text) RETURNS jsonb LANGUAGE sql
RETURN CASE WHEN type IN ('json'::regtype, 'jsonb'::regtype) THEN literal::jsonb ELSE to_jsonb(literal) END;

-- Start a run with all of them, given as this session means them; say what the
-- worker saw otherwise, and forget it.
CREATE PROCEDURE compare(label text) LANGUAGE plpgsql AS $$
DECLARE
	r record;
	n int := 0;
BEGIN
	EXECUTE format('INSERT INTO given SELECT %s', (SELECT string_agg(format('%L::%s', literal, type), ', ' ORDER BY number) FROM literals));
	PERFORM backfill_start('scalars', jsonb_object_agg(name, as_json(type, literal))) FROM literals;
	CALL settle();
	SET LOCAL extra_float_digits = 3;
	FOR r IN EXECUTE format('SELECT type, literal, given, seen FROM (%s) v JOIN literals USING (name)',
		(SELECT string_agg(format('SELECT %L AS name, given.%1$I::text AS given, seen.%1$I::text AS seen FROM given, seen', name), ' UNION ALL ') FROM literals))
	LOOP
		n := n + 1;
		IF r.given IS DISTINCT FROM r.seen THEN
			RAISE WARNING '%: % "%" was given as % and seen as %', label, r.type, r.literal, r.given, coalesce(r.seen, 'null');
		END IF;
	END LOOP;
	-- the number is that of every version
	n := n - (SELECT count(*) FROM literals WHERE type IN (to_regtype('oid8'), to_regtype('regdatabase')));
	RAISE WARNING '%: % values compared', label, n;
	TRUNCATE given, seen;
END $$;
CALL compare('as they are');
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'America/St_Johns';
SET IntervalStyle = sql_standard;
SET extra_float_digits = -15;
SET bytea_output = escape;
SET xmloption = content;
SET array_nulls = off;
CALL compare('other parameters');
SET DateStyle = 'German, MDY';
SET TimeZone = 'Pacific/Apia';
SET IntervalStyle = iso_8601;
SET default_transaction_isolation = serializable;
CALL compare('and others');
RESET ALL;
SET search_path = parameters, public;
SET client_min_messages = warning;

--
-- Arrays, and types that users make
--
CREATE TYPE mood AS ENUM ('sad', 'o''k', 'very "happy"');
CREATE FUNCTION is_even(i int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN i % 2 = 0; END $$;
CREATE DOMAIN even AS int CHECK (is_even(VALUE));
CREATE DOMAIN evens AS even[] CHECK (cardinality(VALUE) < 4);
CREATE DOMAIN present AS text NOT NULL CHECK (VALUE <> '');
CREATE TYPE pair AS (a int, "The B" text);
CREATE TYPE nest AS (p pair, ps pair[], m mood, e even, "when" timestamptz, j jsonb);
CREATE DOMAIN good_pair AS pair CHECK ((VALUE).a > 0);
CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE words AS RANGE (subtype = text, collation = "C");
CREATE TYPE "Odd type" AS ENUM ('x');
CREATE TABLE "Odd table" (id int, "select" text, gone int, last date);
ALTER TABLE "Odd table" DROP COLUMN gone;

CREATE TABLE cases (type text, given jsonb, expected text, number int GENERATED ALWAYS AS IDENTITY, name text GENERATED ALWAYS AS ('c' || number) STORED);
-- every type in an array, as an array of JSON and as a literal
INSERT INTO cases (type, given, expected)
SELECT type || '[]', CASE form WHEN 1 THEN jsonb_build_array(as_json(type, literal), NULL, as_json(type, literal)) ELSE to_jsonb(expected) END, expected
  FROM literals, generate_series(1, 2) form, LATERAL (SELECT ARRAY[literal, NULL, literal]::text AS expected) e
 WHERE type NOT IN ('json'::regtype, 'jsonb'::regtype, 'box'::regtype);
INSERT INTO cases (type, given, expected) VALUES
	('json[]', '[{"a": [1]}, null, "x", 2]', '{"{\"a\": [1]}",NULL,"\"x\"",2}'),
	('jsonb[]', '[{"a": [1]}, null, "x", 2]', '{"{\"a\": [1]}",NULL,"\"x\"",2}'),
	('jsonb[]', '[[1, 2], [3, 4]]', '{{1,2},{3,4}}'),
	('box[]', '["(1,1),(0,0)", null]', '{(1,1),(0,0);NULL}'),
	-- shapes
	('int[]', '[]', '{}'), ('int[]', '"{}"', '{}'), ('int[]', '[null]', '{NULL}'), ('int[]', '[[1, null], [3, 4]]', '{{1,NULL},{3,4}}'),
	('int[]', '[[[1], [2]], [[3], [4]]]', '{{{1},{2}},{{3},{4}}}'), ('int[]', '"[0:2]={1,2,3}"', '[0:2]={1,2,3}'), ('int[]', '"[-1:0][5:6]={{1,2},{3,NULL}}"', '[-1:0][5:6]={{1,2},{3,NULL}}'),
	('int[][]', '[1, 2]', '{1,2}'), ('text[]', '["a,b", "{", "\"", "\\", "NULL", "", " x ", null]', '{"a,b","{","\"","\\","NULL",""," x ",NULL}'),
	('bool[]', '[true, false, "yes"]', '{t,f,t}'), ('numeric[]', '[1.50, 1e3, -0.0]', '{1.50,1000,0.0}'), ('float8[]', '"{-0,0}"', '{-0,0}'),
	-- JSON of another kind than the type
	('text', '12', '12'), ('text', 'true', 'true'), ('text', '{"a": 1}', '{"a": 1}'), ('text', '[1, "a"]', '[1, "a"]'), ('numeric', '1.500', '1.500'), ('float8', '0.1', '0.1'), ('int8', '9007199254740993', '9007199254740993'),
	('boolean', 'true', 't'), ('boolean', '1', 't'), ('jsonb', '[{}]', '[{}]'), ('jsonb', 'false', 'false'),
	-- modifiers
	('varchar(3)', '"abc"', 'abc'), ('char(3)', '"a"', 'a  '), ('numeric(5,2)', '1.239', '1.24'), ('numeric(3,-2)', '1250', '1300'), ('bit(4)', '"1010"', '1010'), ('varbit(4)', '"1"', '1'), ('timestamptz(0)', '"2026-02-03 04:05:06.789Z"', '2026-02-03 04:05:07Z'),
	('interval day to minute', '"1 02:03:04"', '1 day 02:03:00'), ('interval(1)', '"1.26 s"', '00:00:01.3'), ('varchar(3)[]', '["abc", null]', '{abc,NULL}'),
	-- names of types that need care
	('TIMESTAMP WITH TIME ZONE', '"2026-02-03 04:05:06+00"', '2026-02-03 04:05:06+00'), ('double precision[]', '[1]', '{1}'), ('pg_catalog.int4', '1', '1'), (' int4 ', '1', '1'), ('parameters."Odd type"', '"x"', 'x'), ('"Odd type"[]', '["x"]', '{x}'),
	-- enumerations, domains
	('mood', '"o''k"', 'o''k'), ('mood', '"very \"happy\""', 'very "happy"'), ('mood[]', '["sad", null, "very \"happy\""]', '{sad,NULL,"very \"happy\""}'), ('even', '4', '4'), ('even', 'null', NULL), ('even[]', '[2, null]', '{2,NULL}'),
	('evens', '[2, 4]', '{2,4}'), ('evens', '"{2,4}"', '{2,4}'), ('evens', '"[5:6]={2,4}"', '[5:6]={2,4}'), ('present', '"x"', 'x'),
	('evens[]', '"{\"{2,4}\",\"{6}\"}"', '{"{2,4}","{6}"}'), ('evens[]', '["{2,4}", "{6}", null]', '{"{2,4}","{6}",NULL}'),
	-- composite types
	('pair', '{"a": 1, "The B": "x,\"y\""}', '(1,"x,""y""")'), ('pair', '{}', '(,)'), ('pair', '"(1,\"x y\")"', '(1,"x y")'), ('pair', '{"The B": null, "unknown": 1}', '(,)'),
	('pair[]', '[{"a": 1}, null, {"The B": ""}]', '{"(1,)",NULL,"(,\"\")"}'), ('good_pair', '{"a": 1}', '(1,)'), ('good_pair[]', '[{"a": 1}]', '{"(1,)"}'), ('"Odd table"', '{"id": 1, "select": "x", "last": "2026-02-03"}', '(1,x,2026-02-03)'),
	('nest', '{"p": {"a": 1}, "ps": [{"a": 2}, null], "m": "sad", "e": 2, "when": "2026-02-03T04:05:06Z", "j": {"k": null}}', '("(1,)","{""(2,)"",NULL}",sad,2,"2026-02-03 04:05:06+00","{""k"": null}")'),
	-- ranges
	('floats', '"[0.1,infinity)"', '[0.1,Infinity)'), ('words', '"[\"a,b\",c)"', '["a,b",c)'), ('words[]', '["[a,b]", "empty"]', '{"[a,b]",empty}'), ('floats_multirange', '"{[0,1),[2,3)}"', '{[0,1),[2,3)}'),
	-- NULL
	('text', 'null', NULL), ('int[]', 'null', NULL), ('jsonb', 'null', NULL), ('pair', 'null', NULL);
SELECT run(format('CREATE TABLE expected_cases (%s)', string_agg(format('%I %s', name, type), ', ' ORDER BY number))) FROM cases;
CREATE TABLE seen_cases (LIKE expected_cases);
SELECT run(format('INSERT INTO expected_cases SELECT %s', string_agg(format('%L::%s', expected, type), ', ' ORDER BY number))) FROM cases;
SELECT 'defined', backfill_define('cases', 'one', format('INSERT INTO seen_cases SELECT %s FROM batch', string_agg('params.' || name, ', ' ORDER BY number)),
	parameters => jsonb_object_agg(name, type)) FROM cases;
SELECT backfill_start('cases', jsonb_object_agg(name, given)) IS NOT NULL FROM cases;
CALL settle();
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN EXECUTE format('SELECT type, given, value, seen FROM (%s) v JOIN cases USING (name) WHERE seen IS DISTINCT FROM value ORDER BY number',
		(SELECT string_agg(format('SELECT %L AS name, expected_cases.%1$I::text AS value, seen_cases.%1$I::text AS seen FROM expected_cases, seen_cases', name), ' UNION ALL ') FROM cases))
	LOOP
		RAISE WARNING '% % was expected as % and seen as %', r.type, r.given, r.value, r.seen;
	END LOOP;
END $$;
SELECT count(*) FROM seen_cases;

--
-- What is refused: nothing is started, and the message names the parameter
--
CREATE FUNCTION refused(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	runs bigint := (SELECT count(*) FROM backfill_runs);
	state text; message text; detail text; hint text; context text;
BEGIN
	BEGIN
		EXECUTE command;
		RETURN 'NOT REFUSED';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
	END;
	IF runs <> (SELECT count(*) FROM backfill_runs) THEN
		RETURN 'A RUN WAS STARTED';
	END IF;
	-- 19 says the same in two sentences
	IF detail = 'No operator of that name accepts the given argument types.' THEN
		detail := NULL;
		hint := 'No operator matches the given name and argument types. ' || hint;
	END IF;
	RETURN format('%s %s', state, message) || coalesce(' | ' || nullif(detail, ''), '') || coalesce(' | ' || nullif(hint, ''), '')
		|| coalesce(' | ' || substring(context FROM 'parameter "[^"]*" of the backfill'), '');
END $$;
CREATE FUNCTION refused_declaration(parameters text) RETURNS text LANGUAGE sql
RETURN parameters || E'\n  ' || replace(refused(format('SELECT backfill_define(''bad'', ''one'', ''SELECT FROM batch'', parameters => %L)', parameters)), ' | Write for example ''{"department": {"type": "text", "required": true}}''.', ' | ...');
CREATE FUNCTION refused_values(name text, parameters text) RETURNS text LANGUAGE sql
RETURN name || ' ' || parameters || E'\n  ' || refused(format('SELECT backfill_start(%L, %L)', name, parameters));
CREATE FUNCTION refused_statement(statement text, scope text DEFAULT NULL) RETURNS text LANGUAGE sql
RETURN concat_ws(' | ', statement, scope) || E'\n  ' || refused(format('SELECT backfill_define(''bad'', ''one'', %L, %L, parameters => ''{"amount": "int", "Big": "text", "label": "text", "p": "pair"}'')', statement, scope));

SELECT refused_declaration(d) FROM unnest(ARRAY['[]', '1', '"int"', 'null', '{"": "int"}', '{"x": 1}', '{"x": null}', '{"x": []}', '{"x": ["int"]}', '{"x": {}}', '{"x": {"type": 1}}', '{"x": {"type": null}}',
	'{"x": ""}', '{"x": "nope"}', '{"x": "int, y int"}', '{"x": "int) AS r(value text); DROP TABLE one; --"}', '{"x": "varchar(0)"}', '{"x": "numeric(1, 2, 3)"}', '{"x": "int4(3)"}', '{"x": "SETOF int"}', '{"x": "one.id%TYPE"}',
	'{"x": "record"}', '{"x": "anyelement"}', '{"x": "void"}', '{"x": "trigger"}', '{"x": "cstring"}', '{"x": "record[]"}', '{"x": "unknown"}',
	'{"x": {"type": "int", "requierd": true}}', '{"x": {"type": "int", "required": "yes"}}', '{"x": {"type": "int", "required": 1}}', '{"x": {"type": "int", "description": 1}}', '{"x": {"type": "int", "required": true, "default": 1}}',
	'{"x": {"type": "int", "default": "one"}}', '{"x": {"type": "even", "default": 1}}', '{"x": {"default": 1}}',
	'{"x": {"type": "int", "options": []}}', '{"x": {"type": "int", "options": 1}}', '{"x": {"type": "int", "options": {"a": 1}}}', '{"x": {"type": "int", "options": [1, "two"]}}', '{"x": {"type": "int", "options": [1, 2], "default": 3}}',
	'{"x": {"type": "present", "default": null}}',
	'{"' || repeat('x', 64) || '": "int"}']) d;
-- a name of 63 bytes is one
SELECT backfill_define('long', 'one', 'SELECT FROM batch WHERE id = params.' || repeat('x', 63), parameters => jsonb_build_object(repeat('x', 63), 'int'));

SELECT backfill_define('typed', 'one', 'SELECT FROM batch', parameters => '{
	"i": "int", "s": "smallint", "b": "boolean", "f": "real", "n": "numeric(4,2)", "v": "varchar(3)", "d": "date", "ts": "timestamptz", "iv": "interval", "u": "uuid", "x": "xml", "bits": "bit(2)", "ip": "inet",
	"m": "mood", "e": "even", "es": "evens", "p": "pair", "gp": "good_pair", "a": "int[]", "r": "int4range", "mr": "int4multirange", "c": "regclass", "bytes": "bytea", "t": "text",
	"present": {"type": "present", "default": "x"}}');
SELECT refused_values('typed', v) FROM unnest(ARRAY['[]', '"x"', 'null', '1', '{"I": 1}', '{"nope": 1}', '{"bitz": "1"}', '{"": 1}', '{"i ": 1}', '{"i; DROP TABLE one": 1}', '{"run.id": 1}',
	'{"i": "one"}', '{"i": ""}', '{"i": 1.5}', '{"i": 2147483648}', '{"i": true}', '{"i": [1]}', '{"i": {"a": 1}}', '{"i": "1; DROP TABLE one"}', '{"s": 40000}', '{"b": 2}', '{"b": "maybe"}', '{"f": 1e39}', '{"n": 123.4}', '{"v": "abcd"}',
	'{"d": "2026-02-30"}', '{"d": "soon"}', '{"ts": "2026-02-03 04:05:06 Nowhere/City"}', '{"iv": "1 fortnight"}', '{"u": "x"}', '{"bits": "101"}', '{"ip": "1.2.3.4.5"}',
	'{"m": "glad"}', '{"m": "SAD"}', '{"e": 3}', '{"e": "two"}', '{"es": [2, 3]}', '{"es": [2, 4, 6, 8]}', '{"present": ""}', '{"present": null}', '{"p": {"a": "x"}}', '{"p": "(1)"}', '{"p": [1]}', '{"gp": {"a": 0}}',
	'{"a": 1}', '{"a": ["x"]}', '{"a": [[1], [2, 3]]}', '{"a": "{1"}', '{"a": {"0": 1}}', '{"r": "[5,1)"}',  '{"mr": "{[1,2"}', '{"c": "nope"}', '{"c": "one; DROP TABLE one"}', '{"bytes": "\\xzz"}',
	'{"i": 1, "s": "x", "t": "y"}']) v;

-- required, default, options
CREATE TABLE got (label text, value text);
SELECT backfill_define('choose', 'one', 'INSERT INTO got SELECT ''choose'', concat_ws(''|'', params.must, params.colour, params.n, params.list, params."when" = run.started_at, params.mood, params.nothing IS NULL) FROM batch',
	parameters => '{"must": {"type": "text", "required": true, "description": "what must be"}, "colour": {"type": "text", "default": "red", "options": ["red", "green", null]},
		"n": {"type": "numeric", "options": [1, 2.0, "3"]}, "list": {"type": "int[]", "options": [[1, 2], "{3}", []], "default": [1, 2]}, "when": {"type": "timestamptz", "default": "2026-02-03"},
		"mood": {"type": "mood", "options": ["sad"], "default": null}, "nothing": {"type": "int", "default": null}}', settings => '{"share_target": true}');
SELECT refused_values('choose', v) FROM unnest(ARRAY['{}', '{"must": null}', '{"colour": "red"}', '{"must": 1, "colour": "blue"}', '{"must": 1, "colour": "RED"}', '{"must": 1, "n": 4}', '{"must": 1, "n": "1.1"}', '{"must": 1, "list": [2, 1]}', '{"must": 1, "list": "{}", "mood": "o''k"}']) v;
SELECT refused('SELECT backfill_start(''choose'')');
SELECT backfill_start('choose', v) IS NOT NULL FROM unnest(ARRAY['{"must": ""}', '{"must": "b", "colour": null, "n": 1.00, "list": []}', '{"must": "c", "colour": "green", "n": "2", "list": "{3}", "mood": "sad"}']::jsonb[]) v;
CALL settle();
SELECT * FROM got ORDER BY value;
TRUNCATE got;

-- references that mean nothing
\set VERBOSITY default
SELECT backfill_define('bad', 'one', E'SELECT *\n  FROM batch WHERE id = params.amont', parameters => '{"amount": "int"}');
SELECT backfill_define('bad', 'one', 'SELECT * FROM batch', scope => 'id = run.idd');
SELECT refused_statement(s, scope) FROM (VALUES
	('SELECT params.nope FROM batch', NULL), ('SELECT params.big FROM batch', NULL), ('SELECT params."Bigg" FROM batch', NULL), ('SELECT params.* FROM batch', NULL), ('SELECT params FROM batch', NULL), ('SELECT run FROM batch', NULL), ('SELECT run.* FROM batch', NULL),
	('SELECT (params).amount FROM batch', NULL), ('SELECT parameters.params.amount FROM batch', NULL), ('SELECT params.p.a FROM batch', NULL), ('SELECT (params.p).nope FROM batch', NULL), ('SELECT run.started FROM batch', NULL), ('SELECT "Params".amount FROM batch', NULL), ('SELECT $1 FROM batch', NULL),
	('SELECT amount FROM batch', NULL), ('SELECT FROM batch WHERE id = params.label', NULL), ('SELECT FROM batch WHERE id = run.name', NULL), ('UPDATE batch SET id = 1 FROM params', NULL), ('INSERT INTO params SELECT 1 FROM batch', NULL), ('SELECT FROM batch ORDER BY params.amount USING nope', NULL),
	('SELECT FROM batch', 'params.nope'), ('SELECT FROM batch', 'params.amount'), ('SELECT FROM batch', 'id = params.label'), ('SELECT FROM batch', 'id = run.nope'), ('SELECT FROM batch', 'id = $1'), ('SELECT FROM batch', 'params.* IS NULL')) v(s, scope);

--
-- Tables, aliases and columns of the same names: those of the statement win
--
CREATE TABLE params (id int, value text);
CREATE TABLE run (id int, name text);
INSERT INTO params VALUES (-1, 'a table');
INSERT INTO run VALUES (-1, 'a table');
CREATE TABLE columns (id int PRIMARY KEY, run text, params text, value text);
INSERT INTO columns VALUES (1, 'column run', 'column params', 'a column');
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.params (value text);
INSERT INTO elsewhere.params VALUES ('elsewhere');
CREATE PROCEDURE names(target regclass, statement text, scope text DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM backfill_define('the name', target, 'INSERT INTO got ' || statement, scope, parameters => '{"value": {"type": "text", "default": "a parameter"}, "p": "pair"}');
	PERFORM backfill_start('the name', '{"p": {"a": 5, "The B": "b"}}');
	CALL settle();
END $$;
CALL names('one', 'SELECT ''parameter'', params.value FROM batch');
CALL names('one', 'SELECT ''a field'', (params.p)."The B" FROM batch WHERE (params.p).a = 5', '(params.p).a = 5');
CALL names('one', 'SELECT ''name'', run.name FROM batch');
CALL names('one', 'SELECT ''table'', params.value FROM batch, params');
CALL names('one', 'SELECT ''table'', run.name FROM batch, run');
CALL names('one', 'SELECT ''table elsewhere'', params.value FROM batch, elsewhere.params');
CALL names('one', 'SELECT ''alias'', params.value FROM batch, (VALUES (''an alias'')) params(value)');
CALL names('columns', 'SELECT ''batch itself'', params.value FROM batch AS params');
CALL names('columns', 'SELECT ''columns'', concat_ws(''|'', run, params, params.value, run.name, batch.run, value) FROM batch');
CALL names('columns', 'SELECT ''columns of an alias'', concat_ws(''|'', run.params, params.value) FROM batch AS run', 'run = ''column run'' AND params.value = ''a parameter''');
CALL names('one', 'WITH params AS (SELECT ''a CTE'' AS value) SELECT ''CTE'', params.value FROM batch, params');
CALL names('one', 'WITH params AS (SELECT ''a CTE'' AS value) SELECT ''CTE not read'', params.value FROM batch');
CALL names('one', 'SELECT ''subquery'', (SELECT params.value FROM params) FROM batch');
CALL names('one', 'SELECT ''table outside'', (SELECT params.value) FROM batch, params');
CALL names('one', 'SELECT ''beside a subquery'', params.value FROM batch WHERE EXISTS (SELECT FROM params)');
CALL names('one', 'SELECT ''lateral'', x FROM batch, LATERAL (SELECT params.value) l(x)');
CALL names('one', 'WITH w AS (SELECT params.value FROM batch) SELECT ''in a CTE'', value FROM w UNION ALL SELECT ''in a set'', params.value FROM batch');
CALL names('one', 'SELECT ''grouped'', params.value || count(*) FROM batch GROUP BY params.value HAVING count(*) < (params.p).a ORDER BY params.value LIMIT (params.p).a OFFSET 0');
CALL names('one', 'SELECT ''conflict'', params.value FROM batch ON CONFLICT DO NOTHING');
-- the scope is for batch alone: a table of the statement is none of its
CALL names('one', 'SELECT ''scope'', params.value FROM batch, params', 'params.value = ''a parameter''');
-- "batch" keeps the scope's parameters where the alias is one of these names
CALL names('columns', 'SELECT ''scope and alias'', params.value FROM batch params', 'params.value = ''a parameter'' AND batch.params = ''column params''');
SELECT * FROM got ORDER BY label;
-- a table's name is its own, also where it has no such column
SELECT refused_statement(s) FROM unnest(ARRAY['SELECT params.amount FROM batch, params', 'SELECT run.started_at FROM batch, run', 'SELECT params.amount FROM batch AS params', 'SELECT params.amount FROM batch, (SELECT 1) params']) s;
TRUNCATE got;
-- the same where batch is changed in place: the scope is not the statement's
CREATE TABLE target (id int PRIMARY KEY, value text);
INSERT INTO target SELECT i, 'old' FROM generate_series(1, 4) i;
CREATE PROCEDURE change(statement text, scope text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM backfill_define('change', 'target', statement, scope, parameters => '{"value": {"type": "text", "default": "a parameter"}, "low": {"type": "int", "default": 2}}');
	PERFORM backfill_start('change');
	CALL settle();
	INSERT INTO got SELECT statement || ' | ' || scope, string_agg(id || ' ' || value, ', ' ORDER BY id) FROM target;
	TRUNCATE target;
	INSERT INTO target SELECT i, 'old' FROM generate_series(1, 4) i;
END $$;
CALL change('UPDATE batch SET value = params.value', 'id > params.low');
CALL change('UPDATE batch SET value = params.value FROM params WHERE params.id < batch.id', 'id > params.low AND params.value = ''a parameter''');
CALL change('UPDATE batch params SET value = params.value || ''er'' WHERE params.id < 4', 'id > params.low AND params.value = ''a parameter''');
CALL change('UPDATE batch SET value = run.name FROM run', 'run.name = ''change'' AND run.id IS NOT NULL AND id > params.low');
CALL change('DELETE FROM batch USING params WHERE params.value = ''a table''', 'id = params.low');
CALL change('DELETE FROM batch run WHERE run.value = ''old'' AND run.id < 4', 'id > params.low AND run.name = ''change''');
CALL change('WITH params AS (SELECT 9 AS low, ''a CTE'' AS value) UPDATE batch SET value = params.value FROM params', 'id > params.low');
CALL change('WITH gone AS (DELETE FROM batch RETURNING id) INSERT INTO target SELECT id + 10, params.value FROM gone', 'id > params.low AND id < 10');
CALL change('INSERT INTO target SELECT id, params.value FROM batch ON CONFLICT (id) DO UPDATE SET value = excluded.value || params.low WHERE target.id < params.low + 2', 'id > params.low');
CALL change('MERGE INTO target USING batch ON target.id = batch.id AND batch.id > params.low WHEN MATCHED AND params.low = 2 THEN UPDATE SET value = params.value WHEN NOT MATCHED THEN DO NOTHING', 'id > 1');
SELECT label || E'\n  ' || value FROM got ORDER BY label;
TRUNCATE got;

--
-- The run's own facts, and incremental runs
--
CREATE TABLE items (id int PRIMARY KEY, changed_at timestamptz DEFAULT now(), n int DEFAULT 0);
INSERT INTO items SELECT generate_series(1, 50);
CREATE TABLE facts (item int, id bigint, name text, started_at timestamptz, since timestamptz, types text);
SELECT backfill_define('increment "1"', 'items', $$INSERT INTO facts SELECT batch.id, run.id, run.name, run.started_at, run.since, concat_ws(',', pg_typeof(run.id), pg_typeof(run.name), pg_typeof(run.started_at), pg_typeof(run.since)) FROM batch;
	UPDATE batch SET n = n + 1$$, 'changed_at >= run.since AND run.id > 0 AND changed_at < run.until', parameters => '{"fail": {"type": "boolean", "default": false}}',
	settings => '{"batch_size": 10, "target_batch_time": 0, "workers": 2, "sleep": 0}');
CREATE PROCEDURE increment(label text) LANGUAGE plpgsql AS $$
DECLARE
	number bigint;
BEGIN
	-- what was changed just now is not that of this run, but of the next one
	COMMIT;
	PERFORM pg_sleep(0.2);
	COMMIT;
	number := backfill_start('increment "1"');
	WHILE EXISTS (SELECT FROM mine WHERE status NOT IN ('completed', 'failed', 'stopped')) LOOP
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
	INSERT INTO got SELECT label, format('%s: %s rows, facts: %s, since is %s, types: %s', r.status, count(f),
			bool_and((f.id, f.name, f.started_at, f.since) = (r.id, r.name, r.started_at, coalesce(r.since, '-infinity'))),
			CASE WHEN r.since IS NULL THEN 'null' ELSE coalesce((SELECT 'the end of ' || s.label FROM ends s WHERE s.until = r.since), 'wrong') END, string_agg(DISTINCT types, ' '))
	  FROM backfill_runs r LEFT JOIN facts f ON true WHERE r.id = number GROUP BY r.id, r.status, r.name, r.started_at, r.since;
	INSERT INTO ends SELECT label, until FROM backfill_runs WHERE id = number;
	TRUNCATE facts;
END $$;
CREATE TABLE ends (label text, until timestamptz);
CALL increment('1st');
CALL increment('2nd');
UPDATE items SET changed_at = now() WHERE id % 10 = 1;
CALL increment('3rd');
-- one that fails does not count
UPDATE items SET changed_at = now() WHERE id > 48;
ALTER TABLE facts ADD CONSTRAINT no_more CHECK (item < 49);
CALL increment('4th');
ALTER TABLE facts DROP CONSTRAINT no_more;
CALL increment('5th');
-- nor one of another definition, nor does it matter that this one is replaced
SELECT backfill_define('other', 'items', 'SELECT FROM batch');
SELECT backfill_start('other') IS NOT NULL;
UPDATE items SET changed_at = now() WHERE id = 7;
SELECT backfill_define('increment "1"', 'items', $$INSERT INTO facts SELECT batch.id, run.id, run.name, run.started_at, run.since FROM batch$$, 'changed_at >= run.since AND changed_at < run.until',
	settings => '{"batch_size": 7, "target_batch_time": 0, "sleep": 0, "share_target": true}');
CALL increment('6th');
SELECT label, value FROM got ORDER BY label;
SELECT n, count(*) FROM items GROUP BY n ORDER BY n;
TRUNCATE got;
CALL settle();

--
-- Hostile names and values
--
CREATE TABLE victim (id int PRIMARY KEY, t text);
INSERT INTO victim SELECT i, 'kept' FROM generate_series(1, 3) i;
CREATE TABLE hostile (number int GENERATED ALWAYS AS IDENTITY, value text);
INSERT INTO hostile (value) VALUES ('''; DROP TABLE victim; --'), ('" ; DROP TABLE victim; --'), ('$$; DROP TABLE victim; $$'), ('\''; DROP TABLE victim; --'), ('x) OR true --'), ('''''''" OR ""="'), ('$1'), ('params.t'), ('${t}'), ('{"a": "b"}'), ('\u0000'),
	('%s%n%I'), (E'a\r\nb\tc\\'), ('𝔘𝔫𝔦 ‮rtl'), ('/* '), ('*/ '), ('NULL'), ('null'), (''), (' '), ('{}'), ('batch'), ('U&"\0041"'), (repeat('"', 40) || repeat('''', 40)), (repeat('x', 1024 * 1024)), ((SELECT string_agg(md5(i::text), '''"') FROM generate_series(1, 30000) i));
-- as values, in the statement and in the scope
SELECT backfill_define('hostile', 'victim', 'INSERT INTO got SELECT params.number, params.t FROM batch WHERE params.t <> ''no such text''; UPDATE batch SET t = t WHERE params.t = ''no such text'' OR t = params.t',
	scope => 'id = 1 AND params.t <> '''' IS NOT NULL', parameters => '{"t": "text", "number": "int"}', settings => '{"share_target": true}');
SELECT count(backfill_start('hostile', jsonb_build_object('t', value, 'number', number))) FROM hostile;
-- as names of parameters and of definitions; a name is no longer than others
CREATE VIEW names AS SELECT number, value AS name, format('"%s"', replace(value, '"', '""')) AS quoted FROM hostile WHERE octet_length(value) BETWEEN 1 AND 63 AND value <> '\u0000';
SELECT count(backfill_define(name, 'victim', format('INSERT INTO got SELECT %s, CASE WHEN run.name = params.%s THEN params.%2$s END FROM batch', 1000 + number, quoted), scope => format('id = 1 AND params.%s = run.name', quoted),
	parameters => jsonb_build_object(name, 'text'), settings => '{"share_target": true}')) FROM names;
SELECT count(backfill_start(name, jsonb_build_object(name, name))) FROM names;
CALL settle();
SELECT count(*), count(*) FILTER (WHERE got.value = hostile.value) FROM got JOIN hostile ON label::int = number;
SELECT count(*), count(*) FILTER (WHERE got.value = name) FROM got JOIN names ON label::int = number + 1000;
SELECT * FROM victim ORDER BY id;
TRUNCATE got;
-- as scope and statement: one condition, and no end of it
SELECT refused(format('SELECT backfill_define(''bad'', ''victim'', %L, %L, parameters => ''{"t": "text"}'')', s, scope)) || ' <= ' || s || ' | ' || scope FROM (VALUES
	('DELETE FROM batch', 'true) OR (true'), ('DELETE FROM batch', 'true); DELETE FROM victim; --'), ('DELETE FROM batch', 'params.t = '' OR true'), ('DELETE FROM batch', 'true UNION SELECT true'), ('DELETE FROM batch', 'params.t = params.t; SELECT 1'),
	('DELETE FROM batch', 'true GROUP BY id'), ('DELETE FROM batch', ''), ('DELETE FROM batch', '-- params.t'), ('DELETE FROM batch WHERE params.t', 'true'), ('DELETE FROM params.t USING batch', 'true'), ('SELECT params.t() FROM batch', 'true'), ('SELECT 1::params.t FROM batch', 'true')) v(s, scope);
-- what a comment hides is hidden
CALL change('UPDATE batch SET value = params.value -- , id = 1', 'id > params.low -- OR true');
SELECT value FROM got;
TRUNCATE got;

--
-- Parameters all over the statement; the plan stays one scan of the key's index
--
CREATE TABLE rows (id int, part int, n int DEFAULT 0, t text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE rows_1 PARTITION OF rows FOR VALUES IN (1);
CREATE TABLE rows_2 PARTITION OF rows FOR VALUES IN (2);
INSERT INTO rows SELECT i, 1 + i % 2, 0, md5(i::text) FROM generate_series(1, 100) i;
SELECT backfill_define('partitioned', 'rows', 'UPDATE batch SET n = n + params.step, t = run.name WHERE id <> params.except AND batch.part = params.part; INSERT INTO got SELECT params.step, count(*) FROM batch WHERE n = params.step LIMIT params.step;
	INSERT INTO got SELECT ''list'', count(*) FROM batch WHERE id = ANY (params.list) AND part = params.part HAVING count(*) > 0', 'id <= params.high AND part = ANY (params.parts)',
	parameters => '{"step": "int", "except": "int", "part": {"type": "int", "default": 2}, "high": "bigint", "parts": {"type": "int[]", "default": [1, 2]}, "list": "int[]"}', settings => '{"batch_size": 30, "target_batch_time": 0, "sleep": 0}');
SELECT backfill_start('partitioned', '{"step": 7, "except": 9, "high": 50, "list": [3, 9, 45, 51, null]}') IS NOT NULL;
CALL settle();
SELECT part, n, count(*), min(id), max(id), min(t) FILTER (WHERE n > 0) FROM rows GROUP BY part, n ORDER BY part, n;
SELECT label, sum(value::int) FROM got GROUP BY label ORDER BY label;
TRUNCATE got;

-- Run the statement over a table as new, with 10,000 rows in 100 batches, and
-- say how it was read, from the statistics of the table.
CREATE TABLE big (id bigint PRIMARY KEY, n int DEFAULT 0, other int, t text);
CREATE INDEX big_other ON big (other);
CREATE PROCEDURE plan(statement text, scope text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	number bigint;
	s record;
	r record;
BEGIN
	TRUNCATE big;
	INSERT INTO big SELECT i, 0, i % 10, md5(i::text) FROM generate_series(1, 10000) i;
	ANALYZE big;
	COMMIT;
	PERFORM pg_stat_reset_single_table_counters(o) FROM unnest(ARRAY['big'::regclass, 'big_pkey', 'big_other']) o;
	PERFORM backfill_define('plan', 'big', statement, scope, parameters => '{"low": {"type": "int", "default": 0}, "high": {"type": "bigint", "default": 100000}, "other": {"type": "int", "default": 3}, "t": {"type": "text", "default": "x"}}',
		settings => '{"batch_size": 100, "target_batch_time": 0, "sleep": 0}');
	number := backfill_start('plan');
	COMMIT;
	WHILE EXISTS (SELECT FROM mine WHERE status NOT IN ('completed', 'failed', 'stopped')) OR EXISTS (SELECT FROM pg_stat_activity WHERE application_name = format('backfill run %s', number)) LOOP
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
	COMMIT;
	PERFORM pg_stat_clear_snapshot();
	SELECT * INTO STRICT r FROM backfill_runs WHERE id = number;
	SELECT t.seq_scan, t.idx_scan, t.n_tup_upd + t.n_tup_del AS changed, (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = 'big'::regclass) AS read,
		   (SELECT i.idx_scan FROM pg_stat_user_indexes i WHERE indexrelid = 'big_other'::regclass) AS other INTO STRICT s FROM pg_stat_user_tables t WHERE relid = 'big'::regclass;
	RAISE WARNING '% | %: %, % batches, % changed; sequential scans: %; scans of the key: %; of another index: %; entries read: %', statement, scope, r.status, r.batches, s.changed, s.seq_scan,
		CASE WHEN s.idx_scan BETWEEN 2 * r.batches AND 2 * r.batches + 30 THEN 'two a batch' ELSE s.idx_scan::text END, s.other,
		CASE WHEN s.read BETWEEN 2 * r.rows_scanned - 100 AND 2 * r.rows_scanned + 300 THEN 'two a row' ELSE s.read::text END;
END $$;
CALL plan('UPDATE batch SET t = params.t');
CALL plan('UPDATE batch SET n = n + params.other WHERE n = params.low', 'id > params.low AND id < params.high');
CALL plan('UPDATE batch SET t = run.name', 'other = params.other AND run.started_at > run.since');
CALL plan('UPDATE batch SET t = params.t WHERE id > params.low OR params.t IS NULL', 't <> params.t AND (params.other = 3 OR id = params.high)');
CALL plan('DELETE FROM batch WHERE n = params.low', 'id BETWEEN params.low AND params.high');
CALL settle();

DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT name FROM backfill_definitions JOIN pg_class ON oid = target WHERE relnamespace = 'parameters'::regnamespace LOOP
		PERFORM backfill_drop(r.name);
	END LOOP;
	EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
	FOR r IN SELECT setting FROM database_settings LOOP
		EXECUTE format('ALTER DATABASE %I SET %s = %L', current_database(), split_part(r.setting, '=', 1), substr(r.setting, strpos(r.setting, '=') + 1));
	END LOOP;
END $$;
SET client_min_messages = error;
DROP SCHEMA parameters CASCADE;
