-- Real walks: every row once, in the order of the key, in batches of the size
-- asked for, whatever the type of the key and the parameters of the workers.
CREATE SCHEMA walk;
SET search_path = walk, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

-- Workers get the parameters of the database; some are unusual.
DO $$
DECLARE
	setting text;
BEGIN
	FOREACH setting IN ARRAY ARRAY['DateStyle = ''SQL, DMY''', 'IntervalStyle = sql_standard', 'TimeZone = ''Asia/Kathmandu''',
			'bytea_output = escape', 'extra_float_digits = -15', 'array_nulls = off', 'search_path = nowhere',
			'default_transaction_isolation = serializable', 'default_transaction_read_only = on', 'statement_timeout = ''1 ms''',
			'quote_all_identifiers = on']
	LOOP
		EXECUTE format('ALTER DATABASE %I SET %s', current_database(), setting);
	END LOOP;
	EXECUTE format('ALTER ROLE %I IN DATABASE %I SET IntervalStyle = iso_8601', current_user, current_database());
END $$;
-- Keys are compared and printed here under parameters that lose nothing.
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = postgres;
SET TimeZone = 'UTC';

-- The walks of this test.
CREATE TABLE walks (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text, target text, ordering text, covered text, batches int, run bigint);

-- Make the table with the command in which %1$s is its name, and columns n and
-- x beside it; fill it; start a run over it.  "covered" says which rows the run
-- must reach, "batches" in how many batches (by default in as few as can be).
CREATE FUNCTION start(label text, make text, fill text, settings jsonb DEFAULT '{"batch_size": 3}', ordering text DEFAULT 'k',
	covered text DEFAULT 'true', scope text DEFAULT NULL, key text DEFAULT NULL, batches int DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	number int := (SELECT count(*) + 1 FROM walks);
	target text := 'w' || number;
	rows int;
BEGIN
	EXECUTE format(make, target);
	EXECUTE format('ALTER TABLE %I ADD n int DEFAULT 0, ADD x bigint', target);
	EXECUTE format(fill, target);
	PERFORM backfill_define(target, target::regclass, 'UPDATE batch SET n = n + 1, x = pg_current_xact_id()::text::bigint',
		scope => scope, key => format(key, target), settings => '{"sleep": 0, "target_batch_time": 0}' || settings);
	IF batches IS NULL THEN
		EXECUTE format('SELECT count(*) FROM %I WHERE %s', target, covered) INTO rows;
		batches := ceil(rows::numeric / coalesce((settings->>'batch_size')::int, 1000));
	END IF;
	INSERT INTO walks (label, target, ordering, covered, batches, run)
	VALUES (label, target, ordering, covered, batches, backfill_start(target));
END $$;

CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '5 min';
BEGIN
	WHILE EXISTS (SELECT FROM backfill_runs WHERE id IN (SELECT run FROM walks) AND status NOT IN ('completed', 'failed', 'stopped')) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'not all runs have ended';
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;

-- What came of a walk.
CREATE FUNCTION outcome(w walks) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
	c record;
	b record;
	down boolean;
	problems text := '';
BEGIN
	SELECT * INTO STRICT r FROM backfill_runs WHERE id = w.run;
	down := coalesce(r.settings->>'direction' = 'desc', false);
	EXECUTE format('SELECT count(*) AS rows, count(*) FILTER (WHERE %1$s) AS covered, count(*) FILTER (WHERE n <> CASE WHEN %1$s THEN 1 ELSE 0 END) AS wrong,
		coalesce(array_agg(x ORDER BY %2$s) FILTER (WHERE n = 1), ARRAY[]::bigint[]) AS seen,
		coalesce(array_agg(x ORDER BY x %3$s) FILTER (WHERE n = 1), ARRAY[]::bigint[]) AS expected,
		count(DISTINCT x) AS transactions FROM %4$I', w.covered, w.ordering, CASE WHEN down THEN 'DESC' ELSE 'ASC' END, w.target) INTO c;
	SELECT count(*) AS count, min(number) AS first, max(number) AS last, count(*) FILTER (WHERE status <> 'completed') AS incomplete, coalesce(sum(rows_scanned), 0) AS scanned,
		   coalesce(sum(rows_affected), 0) AS affected, count(*) FILTER (WHERE NOT linked) AS gaps
	  INTO b
	  FROM (SELECT *, start_inclusive = (number = 1)
				AND start_key = coalesce(lag(end_key) OVER (ORDER BY number), start_key) AS linked
			  FROM backfill_batches WHERE run_id = w.run) b;
	IF r.status <> 'completed' THEN problems := problems || format(' %s: %s', r.status, r.error); END IF;
	IF c.wrong > 0 THEN problems := problems || format(' %s of %s rows wrong', c.wrong, c.rows); END IF;
	IF c.seen <> c.expected AND coalesce(r.settings->>'workers', '1') = '1' THEN problems := problems || ' out of order'; END IF;
	IF b.gaps > 0 OR b.incomplete > 0 OR b.first <> 1 OR b.last <> b.count THEN problems := problems || ' batches are not one after the other'; END IF;
	IF b.count <> w.batches OR r.batches <> b.count THEN problems := problems || format(' %s batches instead of %s', b.count, w.batches); END IF;
	IF b.affected <> c.covered OR r.rows_affected <> b.affected OR r.rows_scanned <> b.scanned OR b.scanned < b.affected THEN
		problems := problems || format(' %s rows affected, %s scanned', r.rows_affected, r.rows_scanned);
	END IF;
	IF r.progress <> 100 OR r.rows_total < 0 OR r.finished_at < r.started_at THEN problems := problems || ' progress'; END IF;
	RETURN format('%s: %s of %s rows in %s batches%s', w.label, c.covered, c.rows, r.batches, coalesce(nullif(' BUT' || problems, ' BUT'), ''));
END $$;

--
-- Types of keys, each up and down, in batches of one, two, three and all rows
--
DO $$
BEGIN
	-- a collation of each kind, or the next best thing
	BEGIN
		CREATE COLLATION german (provider = icu, locale = 'de');
		CREATE COLLATION numbers (provider = icu, locale = 'en-u-kn-true');
		CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	EXCEPTION WHEN OTHERS THEN
		CREATE COLLATION IF NOT EXISTS german FROM "C";
		CREATE COLLATION IF NOT EXISTS numbers FROM "C";
		CREATE COLLATION IF NOT EXISTS insensitive FROM "C";
	END;
END $$;
CREATE TYPE mood AS ENUM ('sad', 'happy');
ALTER TYPE mood ADD VALUE 'very sad' BEFORE 'sad';
ALTER TYPE mood ADD VALUE 'it''s, "so" so\' AFTER 'sad';
CREATE TYPE pair AS (t text, ts timestamptz);
CREATE DOMAIN positive AS bigint CHECK (VALUE > 0);
CREATE DOMAIN code AS varchar(5) COLLATE "C" CHECK (VALUE <> '');
CREATE DOMAIN ints AS int[];
CREATE TABLE types (type text, elements text[]);
INSERT INTO types VALUES
	('bigint', ARRAY['-9223372036854775808', '-1', '0', '1', '4294967296', '9223372036854775806', '9223372036854775807']),
	('int', ARRAY['-2147483648', '-7', '0', '7', '2147483647']),
	('smallint', ARRAY['-32768', '0', '5', '32767']),
	('oid', ARRAY['0', '1', '2147483648', '4294967295']),
	('regclass', ARRAY['pg_class', 'pg_proc', 'pg_type']),
	('xid8', ARRAY['0', '4294967296', '18446744073709551615']),
	('uuid', ARRAY['00000000-0000-0000-0000-000000000000', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '7fffffff-ffff-ffff-ffff-ffffffffffff']),
	('text', ARRAY['', ' ', 'a', 'B', 'b', 'Ä', 'ä', 'z', 'NULL', 'null', '{}', '{a,b}', '"', '\', '\\', '\x41', '''', ',', E'\n', E'\t', '%s', '$1', '名前', repeat('long', 500)]),
	('text COLLATE "C"', ARRAY['', 'a', 'B', 'b', 'Ä', 'z', 'a b', 'ab', 'a-c']),
	('text COLLATE german', ARRAY['', 'a', 'B', 'b', 'Ä', 'z', 'a b', 'ab', 'a-c', 'ß', 'ss', 'Ö', 'o', 'p']),
	('text COLLATE numbers', ARRAY['a1', 'a2', 'a10', 'a9', 'a100', 'b1']),
	('text COLLATE insensitive', ARRAY['Abc', 'abd', 'ABE', 'x', 'Y', 'z']),
	('varchar(10) COLLATE german', ARRAY['', 'x', 'X', 'ö', 'ö ', 'z']),
	('char(10)', ARRAY['', 'a', 'ab', 'a b', 'B', '0123456789']),
	('char(3) COLLATE german', ARRAY['', 'a', 'B', 'ä']),
	('name', ARRAY['', 'a', 'B', repeat('n', 63)]),
	('numeric', ARRAY['-Infinity', '-1e300', '-1.10', '0', '1e-300', '0.3', '1', '1.00000000000000000000000000000000000000000001', '123456789012345678901234567890', '1e1000', 'Infinity', 'NaN']),
	('numeric(10, 2)', ARRAY['-1.10', '0', '0.01', '99999999.99', 'NaN']),
	('float8', ARRAY['-Infinity', '-1.7976931348623157e308', '-1', '-5e-324', '-0', '5e-324', '2.2250738585072014e-308', '0.1', '0.3', '0.30000000000000004', '1', '1.0000000000000002', '1.7976931348623157e308', 'Infinity', 'NaN']),
	('float4', ARRAY['-Infinity', '-1e-45', '0.1', '0.10000001', '3.4028235e38', 'NaN']),
	('boolean', ARRAY['true', 'false']),
	('timestamptz', ARRAY['-infinity', '4714-11-24 00:00:00+00 BC', '0001-01-01 00:00:00+00 BC', '1800-01-01 00:00:00.000001+00', '2024-01-02 03:04:05.678901+05:45', '2024-02-01 00:00:00+00', '2024-03-31 01:30:00+01', '2024-10-27 02:30:00+02', '2024-10-27 02:30:00+01', '294276-12-31 23:59:59.999999+00', 'infinity']),
	('timestamptz(0)', ARRAY['2024-01-02 03:04:05+00', '2024-02-01 00:00:00+00', 'infinity']),
	('timestamp', ARRAY['-infinity', '4714-11-24 00:00:00 BC', '2024-01-02 03:04:05.678901', '2024-02-01 00:00:00', '294276-12-31 23:59:59.999999', 'infinity']),
	('date', ARRAY['-infinity', '4714-11-24 BC', '0044-03-15 BC', '2024-01-02', '2024-02-01', '2024-12-31', '5874897-12-31', 'infinity']),
	('time', ARRAY['00:00', '00:00:00.000001', '12:34:56.789', '23:59:59.999999', '24:00']),
	('timetz', ARRAY['00:00+00', '12:34:56.789+05:45', '12:34:56.789-15:59', '24:00+00']),
	('interval', ARRAY['-178000000 years', '-1 mon', '-1 day', '-00:00:00.000001', '0', '1 us', '1 day -1 sec', '29 days 23:59:59.999999', '1 mon', '1 mon 1 us', '-1 mon 45 days', '14 mon 3 days 04:05:06.789', '178000000 years']),
	('bytea', ARRAY['\x', '\x00', '\x0027', '\x22', '\x27', '\x2c', '\x5c', '\x5c5c', '\x5c783431', '\x7b7d', '\xff', '\xff00']),
	('inet', ARRAY['0.0.0.0/0', '10.0.0.1/8', '10.0.0.1', '10.0.0.2/31', '::/0', '::1', 'ffff::/16']),
	('cidr', ARRAY['0.0.0.0/0', '10.0.0.0/8', '10.0.0.1/32', '::/0', '::1/128']),
	('macaddr', ARRAY['00:00:00:00:00:00', '08:00:2b:01:02:03', 'ff:ff:ff:ff:ff:ff']),
	('macaddr8', ARRAY['00:00:00:00:00:00:00:00', '08:00:2b:01:02:03:04:05']),
	('bit(3)', ARRAY['000', '101', '111']),
	('varbit', ARRAY['', '0', '00', '1', '10101']),
	('money', ARRAY['-92233720368547758.08', '-1.5', '0', '0.01', '1234567.89']),
	('pg_lsn', ARRAY['0/0', '1/16B374D8', 'FFFFFFFF/FFFFFFFF']),
	('tsvector', ARRAY['', '''a'':1', '''a b'' ''c''''d'':2A']),
	('jsonb', ARRAY['null', '1', '1.50', '"a"', '"\u00e9\\"', '{"a": [1, null]}', '[]', '[1]']),
	('mood', ARRAY['sad', 'happy', 'very sad', 'it''s, "so" so\']),
	('mood[]', ARRAY['{}', '{sad}', '{"very sad"}', '{sad,happy}']),
	('int[]', ARRAY['{}', '{1}', '{1,2}', '{NULL}', '{1,NULL}', '{{1,2},{3,4}}', '[0:1]={1,2}', '{2}']),
	('text[]', ARRAY['{}', '{NULL}', '{"NULL"}', '{"a,b"}', '{a,b}', '{"{}"}', '{"\\"}', '{"\""}', '{""}']),
	('timestamptz[]', ARRAY['{}', '{infinity}', '{2024-02-01 00:00:00+00,2024-01-02 00:00:00+00}', '{2024-02-03 00:00:00+00}']),
	('int4range', ARRAY['empty', '[1,2)', '[1,5)', '(,1)', '(,)', '[3,)']),
	('tstzrange', ARRAY['empty', '["2024-01-02 00:00:00+00",infinity]', '("2024-02-01 00:00:00.000001+00",)', '(,"2024-02-01 00:00:00+00"]']),
	('nummultirange', ARRAY['{}', '{[1,2)}', '{[1,2),[3.5,NaN)}']),
	('pair', ARRAY['(,)', '("",)', '(a,"2024-02-01 00:00:00+00")', '(a,"2024-01-02 00:00:00+00")', '("(,)",infinity)', '("""\\",)']),
	('pair[]', ARRAY['{}', '{"(a,\"2024-02-01 00:00:00+00\")"}', '{"(a,)",NULL}']),
	('positive', ARRAY['1', '2', '9223372036854775807']),
	('code', ARRAY['a', 'B', 'z', 'ä']),
	('ints', ARRAY['{}', '{1}', '{NULL,1}']);
SELECT count(*) FROM types, unnest(elements) e, (VALUES ('{"batch_size": 3}'::jsonb), ('{"batch_size": 2, "direction": "desc"}'), ('{"batch_size": 1}'), ('{"batch_size": 10000000}')) s(settings), start(
	format('%s %s', type, settings), 'CREATE TABLE %1$s (k ' || type || ' PRIMARY KEY)',
	format('INSERT INTO %%1$s (k) SELECT e::%s FROM unnest(%s::text[]) e', regexp_replace(type, ' COLLATE .*', ''), replace(quote_literal(elements), '%', '%%')), settings)
 WHERE e = elements[1];
-- every value of "char", also those that are no characters
SELECT start(format('"char" %s', settings), 'CREATE TABLE %1$s (k "char" PRIMARY KEY)', 'INSERT INTO %1$s (k) SELECT i::"char" FROM generate_series(-128, 127) i', settings)
  FROM (VALUES ('{"batch_size": 17}'::jsonb), ('{"batch_size": 17, "direction": "desc"}')) v(settings);
CALL settle();
SELECT outcome(w) FROM walks w ORDER BY id;
SELECT count(*) FROM (SELECT backfill_delete(run) FROM walks) d;
CREATE PROCEDURE clean() LANGUAGE plpgsql AS $$
DECLARE w record;
BEGIN
	FOR w IN SELECT * FROM walks LOOP
		EXECUTE format('DROP TABLE %I CASCADE', w.target);
		PERFORM backfill_drop(w.target);
		COMMIT;
	END LOOP;
	TRUNCATE walks RESTART IDENTITY;
END $$;
CALL clean();

--
-- Indexes
--
-- name, columns, definition of the index, order
SELECT start(format('(%s) %s', index, settings), format('CREATE TABLE %%1$s (%s); CREATE UNIQUE INDEX %%1$s_walk ON %%1$s (%s)', columns, index),
	fill, settings, ordering, key => '%1$s_walk')
  FROM (VALUES
	('k int NOT NULL', 'k DESC', 'k', 'INSERT INTO %1$s (k) SELECT generate_series(1, 10)'),
	('k int NOT NULL', 'k NULLS FIRST', 'k', 'INSERT INTO %1$s (k) SELECT generate_series(1, 10)'),
	('k int NOT NULL', 'k DESC NULLS LAST', 'k', 'INSERT INTO %1$s (k) SELECT generate_series(1, 10)'),
	('k int NOT NULL, v text', 'k) INCLUDE (v', 'k', 'INSERT INTO %1$s (k, v) SELECT i, i::text FROM generate_series(1, 10) i'),
	('k text COLLATE german NOT NULL', 'k text_pattern_ops', 'k USING ~<~', 'INSERT INTO %1$s (k) SELECT * FROM unnest(ARRAY[''a'', ''B'', ''b'', ''A'', ''ä'', ''z'', ''''])'),
	('k varchar(3) NOT NULL', 'k varchar_pattern_ops DESC', 'k USING ~<~', 'INSERT INTO %1$s (k) SELECT * FROM unnest(ARRAY[''a'', ''B'', ''b'', ''A'', ''ä'', ''z'', ''''])'),
	('k char(3) NOT NULL', 'k bpchar_pattern_ops', 'k USING ~<~', 'INSERT INTO %1$s (k) SELECT * FROM unnest(ARRAY[''a'', ''B'', ''b'', ''A'', ''ä'', ''z'', ''''])'),
	('k text COLLATE german NOT NULL', 'k COLLATE "C"', 'k COLLATE "C"', 'INSERT INTO %1$s (k) SELECT * FROM unnest(ARRAY[''a'', ''B'', ''b'', ''A'', ''ä'', ''z'', ''''])'),
	('k text COLLATE "C" NOT NULL', 'k COLLATE german DESC', 'k COLLATE german', 'INSERT INTO %1$s (k) SELECT * FROM unnest(ARRAY[''a'', ''B'', ''b'', ''A'', ''ä'', ''z'', ''''])'),
	('k jsonb NOT NULL, l record_of NOT NULL', 'l record_image_ops, k', 'l USING *<, k', 'INSERT INTO %1$s (k, l) SELECT to_jsonb(i), ROW(i %% 3) FROM generate_series(1, 10) i'),
	-- several columns
	('v int, b text NOT NULL, a int NOT NULL', 'a, b', 'a, b', 'INSERT INTO %1$s (a, b) SELECT i / 4, chr(65 + i %% 4) FROM generate_series(1, 20) i'),
	('a int NOT NULL, b text NOT NULL', 'a DESC, b DESC NULLS LAST', 'a, b', 'INSERT INTO %1$s (a, b) SELECT i / 4, chr(65 + i %% 4) FROM generate_series(1, 20) i'),
	('a int NOT NULL, b int NOT NULL', 'a NULLS FIRST, b', 'a, b', 'INSERT INTO %1$s (a, b) SELECT i / 4, i FROM generate_series(1, 20) i'),
	('a uuid NOT NULL, b timestamptz NOT NULL, c numeric NOT NULL', 'a, b, c', 'a, b, c', 'INSERT INTO %1$s (a, b, c) SELECT md5((i %% 3)::text)::uuid, timestamptz ''2024-01-01 00:00+00'' + i %% 2 * interval ''1 us'', i::numeric / 7 FROM generate_series(1, 30) i'),
	('a bytea NOT NULL, b text COLLATE german NOT NULL', 'b text_pattern_ops, a', 'b USING ~<~, a', 'INSERT INTO %1$s (a, b) SELECT decode(md5(i::text), ''hex''), chr(60 + i %% 40) FROM generate_series(1, 30) i'),
	('a boolean NOT NULL, b bigint NOT NULL', 'a, b', 'a, b', 'INSERT INTO %1$s (a, b) SELECT i %% 2 = 0, i FROM generate_series(1, 20) i'),
	('a int NOT NULL', 'a, a', 'a', 'INSERT INTO %1$s (a) SELECT generate_series(1, 10)')) v(columns, index, ordering, fill),
	(VALUES ('{"batch_size": 3}'::jsonb), ('{"batch_size": 4, "direction": "desc"}')) s(settings)
 WHERE columns !~ 'record_of';
CREATE TYPE record_of AS (i int);
SELECT start('record_image_ops', 'CREATE TABLE %1$s (k jsonb NOT NULL, l record_of NOT NULL); CREATE UNIQUE INDEX %1$s_walk ON %1$s (l record_image_ops, k)',
	'INSERT INTO %1$s (k, l) SELECT to_jsonb(i), ROW(i %% 3)::record_of FROM generate_series(1, 10) i', ordering => 'l USING *<, k', key => '%1$s_walk');

--
-- Ends: from, to, limit
--
CREATE FUNCTION hundred(label text, settings jsonb, covered text, scope text DEFAULT NULL, batches int DEFAULT NULL) RETURNS void LANGUAGE sql
AS $$ SELECT start(format('%s %s %s', label, settings, coalesce(scope, '')), 'CREATE TABLE %1$s (k int PRIMARY KEY)', 'INSERT INTO %1$s (k) SELECT generate_series(1, 100)', settings || '{"batch_size": 7}', covered => covered, scope => scope, batches => batches) $$;
SELECT hundred('ends', settings, covered) FROM (VALUES
	('{"from": 11}'::jsonb, 'k >= 11'), ('{"to": 20}', 'k <= 20'), ('{"from": "11", "to": ["20"]}', 'k BETWEEN 11 AND 20'),
	('{"from": 11, "to": 20, "direction": "desc"}', 'k BETWEEN 11 AND 20'), ('{"to": 20, "direction": "desc"}', 'k <= 20'),
	('{"from": 100}', 'k = 100'), ('{"to": 1}', 'k = 1'), ('{"from": 50, "to": 50}', 'k = 50'),
	('{"from": 20, "to": 11}', 'false'), ('{"from": 101}', 'false'), ('{"to": 0, "direction": "desc"}', 'false'), ('{"from": -5, "to": 1000}', 'true'),
	('{"limit": 10}', 'k <= 10'), ('{"limit": 1}', 'k = 1'), ('{"limit": 14}', 'k <= 14'), ('{"limit": 100}', 'true'), ('{"limit": 101}', 'true'),
	('{"limit": 9223372036854775807}', 'true'), ('{"limit": 10, "direction": "desc"}', 'k > 90'), ('{"limit": 10, "from": 31}', 'k BETWEEN 31 AND 40'),
	('{"limit": 10, "from": 31, "to": 35}', 'k BETWEEN 31 AND 35'), ('{"limit": 10, "to": 35, "direction": "desc"}', 'k BETWEEN 26 AND 35')) v(settings, covered);
-- a limit counts rows in scope; the walk goes as far as they do
SELECT hundred('limit in scope', settings, covered, scope, batches) FROM (VALUES
	('{"limit": 5}'::jsonb, 'k % 10 = 0 AND k <= 50', 'k % 10 = 0', 8), ('{"limit": 5, "direction": "desc"}', 'k % 10 = 0 AND k >= 60', 'batch.k % 10 = 0', 6),
	('{"limit": 50}', 'k % 10 = 0', 'k % 10 = 0', 15), ('{"limit": 2, "from": 15}', 'k IN (20, 30)', 'k % 10 = 0', 3),
	('{}', 'k % 10 = 0', 'k % 10 = 0', 15), ('{}', 'false', 'false', 15), ('{"limit": 3}', 'false', 'false', 15)) v(settings, covered, scope, batches);
-- a prefix of a key of several columns
SELECT start(format('prefix %s', settings), 'CREATE TABLE %1$s (a int, b text COLLATE german, c date, PRIMARY KEY (a, b, c))',
	'INSERT INTO %1$s (a, b, c) SELECT a, chr(65 + b), date ''2024-01-01'' + c FROM generate_series(1, 5) a, generate_series(0, 3) b, generate_series(0, 2) c',
	settings || '{"batch_size": 5}', 'a, b, c', covered)
  FROM (VALUES ('{"from": 2, "to": 3}'::jsonb, 'a BETWEEN 2 AND 3'), ('{"from": 2, "to": 3, "direction": "desc"}', 'a BETWEEN 2 AND 3'),
	('{"from": [2, "B"]}', '(a, b) >= (2, ''B'')'), ('{"to": [2, "B"]}', '(a, b) <= (2, ''B'')'), ('{"to": [2, "B"], "from": 2, "direction": "desc"}', 'a = 2 AND b <= ''B'''),
	('{"from": [2, "B", "2024-01-02"], "to": [4, "A"]}', '(a, b, c) >= (2, ''B'', ''2024-01-02'') AND (a, b) <= (4, ''A'')'),
	('{"from": [2, "", "infinity"], "limit": 13}', 'a = 2 OR (a = 3 AND b = ''A'' AND c = ''2024-01-01'')')) v(settings, covered);

--
-- Tables
--
SELECT start(format('no row %s', settings), 'CREATE TABLE %1$s (k int PRIMARY KEY)', 'SELECT', settings) FROM (VALUES ('{}'::jsonb), ('{"direction": "desc", "workers": 3}'), ('{"from": 1, "to": 5, "limit": 5}')) v(settings);
SELECT start('one row', 'CREATE TABLE %1$s (k int PRIMARY KEY)', 'INSERT INTO %1$s (k) VALUES (1)');
SELECT start(format('sparse keys %s', settings), 'CREATE TABLE %1$s (k bigint PRIMARY KEY)', 'INSERT INTO %1$s (k) SELECT (10::numeric ^ (i / 6) * (i %% 6 + 1))::bigint FROM generate_series(0, 107) i ON CONFLICT DO NOTHING', settings)
  FROM (VALUES ('{"batch_size": 5}'::jsonb), ('{"batch_size": 50, "direction": "desc"}')) v(settings);
SELECT start(format('several workers %s', settings), 'CREATE TABLE %1$s (k bigint PRIMARY KEY)', 'INSERT INTO %1$s (k) SELECT i * 3 FROM generate_series(1, 2000) i', settings)
  FROM (VALUES ('{"batch_size": 7, "workers": 3}'::jsonb), ('{"batch_size": 11, "workers": 2, "direction": "desc"}')) v(settings);
SELECT start('dropped and generated columns', 'CREATE TABLE %1$s (gone int, k int, gone2 text, v int, g int GENERATED ALWAYS AS (v * 2) STORED, b text DEFAULT repeat(''toast'', 100));
	ALTER TABLE %1$s DROP gone, DROP gone2, ADD PRIMARY KEY (k); ALTER TABLE %1$s ALTER b SET STORAGE EXTERNAL', 'INSERT INTO %1$s (k, v) SELECT i, i FROM generate_series(1, 20) i; ALTER TABLE %1$s ADD late int DEFAULT 5',
	scope => 'g = v * 2 AND late = 5');
SELECT start('keys out of line', 'CREATE TABLE %1$s (k text PRIMARY KEY); ALTER TABLE %1$s ALTER k SET STORAGE EXTERNAL', 'INSERT INTO %1$s (k) SELECT repeat(chr(64 + i), 2600) FROM generate_series(1, 20) i');
-- partitions: of ranges, lists, hashes, partitions of partitions, with other columns than the parent
SELECT start(format('ranges %s', settings), 'CREATE TABLE %1$s (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
	CREATE TABLE %1$s_1 PARTITION OF %1$s FOR VALUES FROM (MINVALUE) TO (30); CREATE TABLE %1$s_2 (gone int, v text, k int NOT NULL); ALTER TABLE %1$s_2 DROP gone;
	ALTER TABLE %1$s ATTACH PARTITION %1$s_2 FOR VALUES FROM (30) TO (60); CREATE TABLE %1$s_3 PARTITION OF %1$s DEFAULT', 'INSERT INTO %1$s (k, v) SELECT i, i FROM generate_series(1, 100) i',
	settings) FROM (VALUES ('{"batch_size": 7}'::jsonb), ('{"batch_size": 9, "direction": "desc"}'), ('{"batch_size": 4, "workers": 2}')) v(settings);
SELECT start(format('hashes %s', settings), 'CREATE TABLE %1$s (k uuid PRIMARY KEY) PARTITION BY HASH (k); CREATE TABLE %1$s_1 PARTITION OF %1$s FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE %1$s_2 PARTITION OF %1$s FOR VALUES WITH (MODULUS 2, REMAINDER 1)', 'INSERT INTO %1$s (k) SELECT md5(i::text)::uuid FROM generate_series(1, 100) i',
	settings) FROM (VALUES ('{"batch_size": 7}'::jsonb), ('{"batch_size": 9, "direction": "desc"}')) v(settings);
SELECT start(format('lists of ranges (%s) %s', key, settings), 'CREATE TABLE %1$s (r text COLLATE german, k int, PRIMARY KEY (' || key || ')) PARTITION BY LIST (r);
	CREATE TABLE %1$s_1 PARTITION OF %1$s FOR VALUES IN (''a'', ''Z'') PARTITION BY RANGE (k); CREATE TABLE %1$s_2 PARTITION OF %1$s DEFAULT;
	CREATE TABLE %1$s_11 PARTITION OF %1$s_1 FOR VALUES FROM (0) TO (50); CREATE TABLE %1$s_12 PARTITION OF %1$s_1 FOR VALUES FROM (50) TO (101)',
	'INSERT INTO %1$s (r, k) SELECT (ARRAY[''a'', ''B'', ''Z''])[i %% 3 + 1], i FROM generate_series(1, 100) i', settings, key)
  FROM (VALUES ('r, k'), ('k, r')) o(key), (VALUES ('{"batch_size": 7}'::jsonb), ('{"batch_size": 9, "direction": "desc"}')) v(settings);
SELECT start('a partition alone', 'CREATE TABLE %1$s_p (k int PRIMARY KEY) PARTITION BY RANGE (k); CREATE TABLE %1$s (k int NOT NULL)', 
	'ALTER TABLE %1$s_p ADD n int DEFAULT 0, ADD x bigint; ALTER TABLE %1$s_p ATTACH PARTITION %1$s FOR VALUES FROM (1) TO (50); INSERT INTO %1$s_p (k) SELECT generate_series(1, 49)');
-- children; a key may be in several of them, and then is in one batch
SELECT start(format('children %s', settings), 'CREATE TABLE %1$s (k int PRIMARY KEY); CREATE TABLE %1$s_1 (PRIMARY KEY (k)) INHERITS (%1$s); CREATE TABLE %1$s_2 (v int, PRIMARY KEY (k)) INHERITS (%1$s)',
	'INSERT INTO %1$s (k) SELECT generate_series(1, 30); INSERT INTO %1$s_1 (k) SELECT generate_series(20, 50); INSERT INTO %1$s_2 (k) SELECT generate_series(100, 120)', settings, batches => batches)
  FROM (VALUES ('{"batch_size": 1000}'::jsonb, 1), ('{"batch_size": 1}', 71), ('{"batch_size": 1, "direction": "desc"}', 71)) v(settings, batches);
-- names
SELECT start('names', 'CREATE TABLE %1$s ("select" int, "It''s ""quoted"" é" int, "backfill range" text DEFAULT ''x'', batch text DEFAULT ''b'', params int, PRIMARY KEY ("It''s ""quoted"" é", "select"))',
	'INSERT INTO %1$s ("select", "It''s ""quoted"" é") SELECT i, i / 3 FROM generate_series(1, 20) i', ordering => '"It''s ""quoted"" é", "select"',
	scope => '"backfill range" = ''x'' AND batch.batch = ''b''', settings => '{"batch_size": 3, "limit": 20}');
SELECT start('a key called ' || name, format('CREATE TABLE %%1$s (%s int PRIMARY KEY)', replace(quote_ident(name), '%', '%%')), format('INSERT INTO %%1$s (%s) SELECT generate_series(1, 10)', replace(quote_ident(name), '%', '%%')), ordering => format('%I', name),
	settings => '{"batch_size": 3, "limit": 5}', scope => format('%I %% 2 = 0', name), covered => format('%I %% 2 = 0', name), batches => 4)
  FROM (VALUES ('batch'), ('ctid2'), ('order'), ('a b'), ('"'), ('backfill range'), (repeat('é', 31) || 'x'), ('$1'), ('%')) v(name);
CALL settle();
SELECT outcome(w) FROM walks w ORDER BY id;
SELECT count(*) FROM (SELECT backfill_delete(run) FROM walks) d;
-- what the walks did not change
DO $$
DECLARE
	target text := (SELECT target FROM walks WHERE label LIKE 'dropped%');
	wrong int;
BEGIN
	EXECUTE format('SELECT count(*) FROM %I WHERE (g = k * 2 AND v = k AND b = repeat(''toast'', 100) AND late = 5) IS NOT TRUE', target) INTO STRICT wrong;
	ASSERT wrong = 0;
END $$;
CALL clean();

-- a schema and a table with names as odd as can be
CREATE SCHEMA "Walk; ""schema"" é";
SELECT set_config('walk.name', repeat('T', 30) || '"''; ' || repeat('é', 14) || '$', false) ~ '.' AS named;
DO $$ BEGIN
	EXECUTE format('CREATE TABLE "Walk; ""schema"" é".%I (k int PRIMARY KEY, n int DEFAULT 0)', current_setting('walk.name'));
	EXECUTE format('INSERT INTO "Walk; ""schema"" é".%I SELECT generate_series(1, 10)', current_setting('walk.name'));
	PERFORM backfill_define('odd names', format('"Walk; ""schema"" é".%I', current_setting('walk.name')), 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 3, "target_batch_time": 0, "limit": 8}');
END $$;
SELECT octet_length(current_setting('walk.name'));
INSERT INTO walks (run) SELECT backfill_start('odd names');
CALL settle();
SELECT status, batches, rows_affected, error FROM backfill_runs WHERE name = 'odd names';

-- the estimate of the rows
CREATE TABLE estimated (k int PRIMARY KEY, n int DEFAULT 0);
INSERT INTO estimated SELECT generate_series(1, 1000);
VACUUM ANALYZE estimated;
SELECT backfill_define('estimated', 'estimated', 'UPDATE batch SET n = params.n', parameters => '{"n": "int"}', settings => '{"share_target": true}');
TRUNCATE walks;
INSERT INTO walks (run) SELECT backfill_start('estimated', parameters => jsonb_build_object('n', n), settings => s) FROM (VALUES (1, '{}'::jsonb), (2, '{"from": 501}'), (3, '{"from": 101, "to": 200}')) v(n, s);
CALL settle();
SELECT settings - 'share_target', status, rows_total BETWEEN rows_scanned * 0.8 AND rows_scanned * 1.2 AS near, rows_scanned, progress FROM backfill_runs WHERE name = 'estimated' ORDER BY id;

-- a bound in a text that the parameters of the session could turn: it means the same to the session and to the workers
CREATE TABLE dated (k date PRIMARY KEY, n int DEFAULT 0);
INSERT INTO dated SELECT date '2024-01-01' + i FROM generate_series(0, 99) i;
SELECT backfill_define('dated', 'dated', 'UPDATE batch SET n = n + 1', settings => '{"from": "2024-02-03", "to": "2024-03-02"}');
TRUNCATE walks;
INSERT INTO walks (run) SELECT backfill_start('dated');
CALL settle();
SELECT min(k), max(k), count(*) FROM dated WHERE n = 1;

-- clean up
SELECT count(*) FROM (SELECT backfill_drop(name) FROM backfill_definitions WHERE name IN ('odd names', 'estimated', 'dated')) d;
DO $$
DECLARE
	setting text;
BEGIN
	FOREACH setting IN ARRAY ARRAY['DateStyle', 'IntervalStyle', 'TimeZone', 'bytea_output', 'extra_float_digits', 'array_nulls', 'search_path',
			'default_transaction_isolation', 'default_transaction_read_only', 'statement_timeout', 'quote_all_identifiers']
	LOOP
		EXECUTE format('ALTER DATABASE %I RESET %s', current_database(), setting);
	END LOOP;
	EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', current_user, current_database());
END $$;
DROP SCHEMA walk, "Walk; ""schema"" é" CASCADE;
