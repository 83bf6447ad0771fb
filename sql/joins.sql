-- Where batch is joined with another relation by the first column of the key, the range of the key holds for that one,
-- too, so that no batch joins, or sums up, more of it than its own.  Nothing else changes.
CREATE SCHEMA joins;
SET search_path = joins, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

CREATE TABLE t (id bigint PRIMARY KEY, other int, n bigint DEFAULT 0, name text);
CREATE TABLE two (a varchar(20), b int, n bigint DEFAULT 0, PRIMARY KEY (a, b));
CREATE TABLE look (k int, l bigint, v int, name text, code text);
INSERT INTO t SELECT i, i, 0, i FROM generate_series(1, 1000) i;
INSERT INTO two SELECT 'k' || i / 4, i, 0 FROM generate_series(1, 1000) i;
INSERT INTO look SELECT i % 1200, i % 1200, 1, 'k' || i % 300, 'k' || i % 300 FROM generate_series(0, 2399) i;
ANALYZE t, two, look;
CREATE VIEW seen AS SELECT look.* FROM look JOIN t ON t.id = look.l;
CREATE TABLE kept (k bigint, n bigint);

-- What is said to lie within which parameters.
CREATE FUNCTION bounds(statement text, target regclass DEFAULT 't', settings jsonb DEFAULT '{}', scope text DEFAULT NULL, direction text DEFAULT 'asc') RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM backfill_define('joins', target, statement, scope, direction => direction, settings => settings);
	RETURN (SELECT coalesce(string_agg(array_to_string(m, ' '), ', '), 'none')
			  FROM (SELECT DISTINCT regexp_matches(l, 'within\(([^,]+), (\$\d), (\$\d), ''(\S+)''::regoperator', 'g')
					  FROM backfill_explain('joins') l ORDER BY 1) x (m));
END $$;

SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.l = batch.id');
SELECT bounds('UPDATE batch b SET n = look.v FROM look WHERE b.id = look.l AND look.v > 0');
SELECT bounds('DELETE FROM batch USING look WHERE look.l = batch.id', direction => 'desc');
-- another type of the same family of operators; a key of several columns, of which the first counts; text
SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.k = batch.id');
SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.code = batch.a AND batch.b > 0', 'two');
-- batch is read, or what is joined is changed
SELECT bounds('INSERT INTO kept SELECT batch.id, look.v FROM batch JOIN look ON look.l = batch.id');
SELECT bounds('UPDATE look SET v = batch.n FROM batch WHERE look.l = batch.id');
SELECT bounds('UPDATE t AS x SET n = 2 FROM batch WHERE x.id = batch.id');
SELECT bounds('WITH u AS (UPDATE batch SET n = look.v FROM look WHERE look.l = batch.id RETURNING batch.id) INSERT INTO kept SELECT id, 1 FROM u');
SELECT bounds('WITH u AS (INSERT INTO kept SELECT batch.id, look.v FROM batch, look WHERE look.l = batch.id RETURNING 1) SELECT count(*) FROM u');
-- others are joined, too; what batch is joined with by an outer join; a view; a sub-select
SELECT bounds('UPDATE batch SET n = look.v FROM look, t x WHERE look.l = batch.id AND x.id = look.v');
SELECT bounds('UPDATE batch SET n = look.v FROM look, t x WHERE look.l = batch.id AND x.id = batch.id');
SELECT bounds('INSERT INTO kept SELECT batch.id, look.v FROM batch LEFT JOIN look ON look.l = batch.id');
SELECT bounds('INSERT INTO kept SELECT batch.id, look.v FROM look RIGHT JOIN batch ON look.l = batch.id');
SELECT bounds('UPDATE batch SET n = s.v FROM seen s WHERE s.l = batch.id');
SELECT bounds('INSERT INTO kept SELECT x.id, t.n FROM (SELECT batch.id FROM batch JOIN look ON look.l = batch.id) x JOIN t ON t.id = x.id');
-- a sum for each key
SELECT bounds('UPDATE batch SET n = s.v FROM (SELECT l, sum(v) AS v FROM look GROUP BY l) s WHERE s.l = batch.id');
SELECT bounds('WITH s AS (SELECT DISTINCT ON (l) l, v FROM look ORDER BY l, v DESC) UPDATE batch SET n = s.v FROM s WHERE s.l = batch.id');
SELECT count(*) FROM backfill_explain('joins') l WHERE l ~ 'Filter: .*within\(l, ';
-- what has to be there, or must not, in the statement or in the scope
SELECT bounds('UPDATE batch SET n = 1 WHERE EXISTS (SELECT FROM look WHERE look.l = batch.id AND look.v > 0)');
SELECT bounds('UPDATE batch SET n = 1 WHERE NOT EXISTS (SELECT FROM look WHERE look.l = batch.id)');
SELECT bounds('UPDATE batch SET n = 1 WHERE n = 1 OR EXISTS (SELECT FROM look JOIN t x ON x.id = look.l WHERE look.l = batch.id)');
SELECT bounds('UPDATE batch SET n = 1 WHERE batch.id IN (SELECT look.l FROM look WHERE look.v > 0) AND n = 0');
SELECT bounds('UPDATE batch SET n = 1', scope => 'EXISTS (SELECT FROM look WHERE look.l = id)');
SELECT bounds('INSERT INTO kept SELECT id FROM batch', scope => 'NOT EXISTS (SELECT FROM kept x WHERE x.k = batch.id)');
SELECT bounds('INSERT INTO kept SELECT id FROM batch', scope => 'id IN (SELECT l FROM look)');
SELECT bounds('UPDATE batch SET n = 1 WHERE a IN (SELECT look.name FROM look)', 'two');

-- Not what has to stay in the result whatever it is joined with
SELECT bounds('INSERT INTO kept SELECT batch.id, look.v FROM look LEFT JOIN batch ON look.l = batch.id');
SELECT bounds('INSERT INTO kept SELECT batch.id, look.v FROM batch FULL JOIN look ON look.l = batch.id');
-- nor where it does not follow: another column, another comparison, a condition of two, another order, values of expressions
SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.l = batch.other');
SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.l >= batch.id');
SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.l = batch.id OR look.v = 2');
SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.code = batch.a COLLATE "C"', 'two');
SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.l + 1 = batch.id');
SELECT bounds('UPDATE batch SET n = look.v FROM look WHERE look.k = batch.b', 'two');
SELECT bounds('UPDATE batch SET n = 1 WHERE batch.id NOT IN (SELECT look.l FROM look)');
SELECT bounds('UPDATE batch SET n = 1 WHERE batch.id IN (SELECT look.l FROM look ORDER BY v LIMIT 10)');
SELECT bounds('UPDATE batch SET n = 1 WHERE batch.id IN (SELECT max(look.l) FROM look)');
SELECT bounds('UPDATE batch SET n = 1 WHERE batch.id > ANY (SELECT look.l FROM look)');
SELECT bounds('UPDATE batch SET n = 1 WHERE n = 1 OR batch.id IN (SELECT look.l FROM look)');
SELECT bounds('UPDATE batch SET n = 1 WHERE EXISTS (SELECT FROM look WHERE look.l = batch.other)');
-- nor what is looked for by each row anyway
SELECT bounds('UPDATE batch SET n = (SELECT max(v) FROM look WHERE look.l = batch.id)');
-- nor for the table itself, by its name, nor for what only has the name
SELECT bounds('UPDATE t SET n = look.v FROM look WHERE look.l = t.id AND t.id IN (SELECT id + 1 FROM batch)');
SELECT bounds('UPDATE batch SET n = v FROM (WITH batch AS (SELECT id + 1 AS id FROM t) SELECT max(v) AS v FROM batch JOIN look ON look.l = batch.id) s');

-- The planner's estimates stay, and an index serves.
CREATE INDEX look_l ON look (l);
SELECT backfill_define('joins', 't', 'UPDATE batch SET n = s.v FROM (SELECT l, sum(v) AS v FROM look GROUP BY l) s WHERE s.l = batch.id',
	settings => '{"batch_size": 10, "set": {"enable_seqscan": "off", "enable_bitmapscan": "off"}}');
SELECT substring(l FROM 'Index Scan using look_l.* (rows=\d+) ') FROM backfill_explain('joins') l WHERE l ~ 'look_l';
SELECT count(*) FROM backfill_explain('joins') l WHERE l ~ 'Index Cond: ..l >= .* AND .l <= ';
DROP INDEX look_l;

-- The function that says it is open to everybody, and compares what can be compared.
SELECT v, backfill.within(v, 2, 4, '>=(integer,integer)', '<=(integer,integer)') FROM (VALUES (1), (2), (4), (5), (NULL)) x (v);
SELECT backfill.within('b'::text, 'a'::varchar, 'c'::text, '>=(text,text)', '<=(text,text)');
SELECT backfill.within(ARRAY[2], ARRAY[1], ARRAY[2, 1], '>=(anyarray,anyarray)', '<(anyarray,anyarray)');
SELECT backfill.within(1, 2, 3, '>=(bigint,bigint)', '<=(integer,integer)');
SELECT backfill.within(1, 2, 3, '>=(integer,integer)', '+(integer,integer)');
SELECT backfill.within(1, 2, 3, '0', '0');

-- What is done is what a single statement does: to be compared for each of them.
CREATE PROCEDURE compare(target regclass, statement text, settings jsonb DEFAULT '{}', direction text DEFAULT 'asc') LANGUAGE plpgsql AS $$
DECLARE
	run_id bigint;
	expected text;
	got text;
	digest text := 'SELECT md5(string_agg(x::text, '';'' ORDER BY x::text)) FROM (SELECT ''t'', t::text FROM t UNION ALL SELECT ''two'', w::text FROM two w UNION ALL SELECT ''look'', l::text FROM look l UNION ALL SELECT ''kept'', k::text FROM kept k) x';
BEGIN
	BEGIN
		EXECUTE replace(replace(replace(replace(statement, 'UPDATE batch', format('UPDATE %s AS batch', target)), 'DELETE FROM batch', format('DELETE FROM %s AS batch', target)),
					   'FROM batch', format('FROM %s AS batch', target)), 'JOIN batch', format('JOIN %s AS batch', target));
		EXECUTE digest INTO expected;
		RAISE EXCEPTION 'back';
	EXCEPTION WHEN raise_exception THEN
		NULL;
	END;
	PERFORM backfill_define('joins', target, statement, direction => direction, settings => '{"batch_size": 37, "target_batch_time": 0, "sleep": 0}' || settings);
	COMMIT;
	run_id := backfill_start('joins');
	COMMIT;
	WHILE EXISTS (SELECT FROM backfill_runs WHERE id = run_id AND status NOT IN ('completed', 'failed')) LOOP
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
	EXECUTE digest INTO got;
	IF got IS DISTINCT FROM expected THEN
		RAISE EXCEPTION 'differs';
	END IF;
END $$;
CALL compare('t', 'UPDATE batch SET n = batch.n + look.v + look.k FROM look WHERE look.k = batch.id AND look.l < 900');
CALL compare('t', 'UPDATE batch SET n = batch.n + s.v FROM (SELECT l, sum(v + k) AS v FROM look GROUP BY l) s WHERE s.l = batch.id', '{"workers": 2}', 'desc');
CALL compare('two', 'UPDATE batch SET n = batch.n + s.v FROM (SELECT name, sum(v + k) AS v FROM look GROUP BY name) s WHERE s.name = batch.a');
CALL compare('two', 'INSERT INTO kept SELECT batch.b, look.v FROM batch JOIN look ON look.code = batch.a', direction => 'desc');
CALL compare('t', 'UPDATE look SET v = look.v + batch.n FROM batch WHERE look.k = batch.id');
CALL compare('t', 'UPDATE batch SET n = batch.n + 1 WHERE EXISTS (SELECT FROM look WHERE look.k = batch.id AND look.v < 100)');
CALL compare('t', 'INSERT INTO kept SELECT id, 5 FROM batch WHERE id IN (SELECT l FROM look WHERE v < 300)', direction => 'desc');
CALL compare('t', 'INSERT INTO kept SELECT batch.id, look.k FROM batch LEFT JOIN look ON look.l = batch.id AND look.v < 300');
CALL compare('t', 'INSERT INTO kept SELECT batch.id, 7 FROM batch WHERE NOT EXISTS (SELECT FROM look WHERE look.l = batch.id AND look.v > 300)');
CALL compare('t', 'INSERT INTO kept SELECT id, v FROM batch JOIN (SELECT l AS id, max(v) AS v FROM look GROUP BY l) s USING (id)');
CALL compare('t', 'DELETE FROM batch USING look WHERE look.k = batch.id AND look.v > 500');

SELECT backfill_drop('joins');
DROP SCHEMA joins CASCADE;
