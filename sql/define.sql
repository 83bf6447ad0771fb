-- What a definition may say about the relation "batch", and what comes of it.
CREATE SCHEMA define;
SET search_path = define, public;

-- Run a definition to its end and say what came of it.
CREATE PROCEDURE run(name text, settings jsonb DEFAULT NULL, INOUT result text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	run_id bigint := backfill_start(name, settings => settings);
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
	result := format('%s, %s batches, %s rows affected', r.status, r.batches, r.rows_affected)
		|| coalesce(': ' || r.error, '');
END $$;

CREATE TABLE zips (zip text PRIMARY KEY, city text, rank int);
INSERT INTO zips VALUES ('10001', 'New York', 1), ('20001', 'Washington', 2), ('60601', 'Chicago', 3);
CREATE TABLE contacts (id int PRIMARY KEY, zip text, city text, rank int, note text DEFAULT '', n int DEFAULT 0);
CREATE TABLE archive (LIKE contacts);
CREATE TABLE totals (zip text PRIMARY KEY, sum bigint);
CREATE TABLE calls (id int, what text);
CREATE PROCEDURE fill() LANGUAGE sql AS $$
	TRUNCATE contacts, archive, totals, calls;
	INSERT INTO contacts (id, zip, rank)
	SELECT i, (ARRAY['10001', '20001', '60601', '99999'])[i % 4 + 1], i FROM generate_series(1, 10) i;
$$;
CREATE FUNCTION say(c contacts) RETURNS int LANGUAGE sql
AS $$ INSERT INTO calls VALUES (c.id, c.zip) RETURNING id $$;

-- every definition here walks the ten rows in three batches
\set s '{"batch_size": 4, "target_batch_time": 0, "sleep": 0}'

--
-- The forms of a statement
--

-- change in place
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET n = n + 1$$, settings => :'s');
CALL run('form');
SELECT n, count(*) FROM contacts GROUP BY n;

-- under an alias
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch AS b SET n = b.n + b.id WHERE b.id <> 3$$, scope => 'batch.id <= 9 AND rank > 1', settings => :'s');
CALL run('form');
SELECT id, n FROM contacts ORDER BY id;

-- with RETURNING, a WHERE with OR that must not escape from the range, and a trailing semicolon and comments
CALL fill();
SELECT backfill_define('form', 'contacts', $$-- first
	UPDATE batch SET n = n + 1 WHERE id = 1 OR true /* all */ RETURNING *; -- last$$, settings => :'s');
CALL run('form');
SELECT n, count(*) FROM contacts GROUP BY n;

-- purge
CALL fill();
SELECT backfill_define('form', 'contacts', $$DELETE FROM batch$$, scope => 'id % 2 = 0', settings => :'s');
CALL run('form');
SELECT string_agg(id::text, ' ' ORDER BY id) FROM contacts;

-- DELETE with an alias and USING
CALL fill();
SELECT backfill_define('form', 'contacts', $$DELETE FROM batch d USING zips z WHERE z.zip = d.zip AND z.rank = 1$$, scope => 'rank > 1', settings => :'s');
CALL run('form');
SELECT string_agg(id::text, ' ' ORDER BY id) FROM contacts;

-- several statements
CALL fill();
SELECT backfill_define('form', 'contacts', $$INSERT INTO archive SELECT * FROM batch; DELETE FROM batch;$$, scope => 'id > 2', settings => :'s');
CALL run('form');
SELECT (SELECT string_agg(id::text, ' ' ORDER BY id) FROM contacts) AS contacts,
	   (SELECT string_agg(id::text, ' ' ORDER BY id) FROM archive) AS archive;

-- a row that the first statement puts out of scope is not in batch for the second
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET n = 1; UPDATE batch SET n = 2$$, scope => 'n = 0', settings => :'s');
CALL run('form');
SELECT n, count(*) FROM contacts GROUP BY n;

-- a function for each row
CALL fill();
SELECT backfill_define('form', 'contacts', $$SELECT say(batch) FROM batch$$, scope => 'id < 6', settings => :'s');
CALL run('form');
SELECT * FROM calls ORDER BY id;

-- sums, for which batch is grouped
CALL fill();
SELECT backfill_define('form', 'contacts', $$INSERT INTO totals SELECT zip, sum(id) FROM batch GROUP BY 1
	ON CONFLICT (zip) DO UPDATE SET sum = totals.sum + excluded.sum$$, settings => :'s');
CALL run('form');
SELECT * FROM totals ORDER BY zip;

-- joins; what the scope says is about the target alone, though zips has columns of the same names
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET city = z.city FROM zips z WHERE z.zip = batch.zip$$,
	scope => 'rank > 2 AND zip IS NOT NULL AND batch.city IS NULL', settings => :'s');
CALL run('form');
SELECT id, city FROM contacts ORDER BY id;

-- a self-join of batch
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET n = o.id FROM batch o WHERE o.id = batch.id + 1$$, settings => :'s');
CALL run('form');
SELECT id, n FROM contacts ORDER BY id;

-- MERGE ... USING batch
CALL fill();
INSERT INTO archive (id, note) VALUES (1, 'old'), (2, 'old');
SELECT backfill_define('form', 'contacts', $$MERGE INTO archive a USING batch ON a.id = batch.id
	WHEN MATCHED THEN UPDATE SET note = 'matched'
	WHEN NOT MATCHED THEN INSERT (id, note) VALUES (batch.id, 'new')$$, scope => 'id < 7', settings => :'s');
CALL run('form');
SELECT id, note FROM archive ORDER BY id;

-- data-modifying common table expressions
CALL fill();
SELECT backfill_define('form', 'contacts', $$WITH gone AS (DELETE FROM batch RETURNING *) INSERT INTO archive SELECT * FROM gone$$,
	scope => 'id <> 5', settings => :'s');
CALL run('form');
SELECT (SELECT string_agg(id::text, ' ' ORDER BY id) FROM contacts) AS contacts,
	   (SELECT string_agg(id::text, ' ' ORDER BY id) FROM archive) AS archive;

CALL fill();
SELECT backfill_define('form', 'contacts', $$WITH RECURSIVE up AS (UPDATE batch b SET n = 1 WHERE id > 1 RETURNING b.id),
	down(i) AS (SELECT 2 UNION ALL SELECT i - 1 FROM down WHERE i > 1)
	INSERT INTO calls SELECT id, i::text FROM up, down$$, settings => :'s');
CALL run('form');
SELECT (SELECT sum(n) FROM contacts) AS updated, count(*), count(DISTINCT id) FROM calls;

-- sub-selects, in FROM, in a condition, in a set operation
CALL fill();
SELECT backfill_define('form', 'contacts', $$INSERT INTO calls
	SELECT id, 'from' FROM (SELECT * FROM batch OFFSET 0) s
	UNION ALL SELECT id, 'condition' FROM contacts c WHERE EXISTS (SELECT FROM batch WHERE batch.id = c.id)
	UNION ALL (SELECT id, 'union' FROM (TABLE batch) t)$$, settings => :'s');
CALL run('form');
SELECT what, count(*), count(DISTINCT id) FROM calls GROUP BY what ORDER BY what;

-- batch shadowed: the inner one is the user's own
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET note = (WITH batch AS (SELECT 'shadow' AS note) SELECT note FROM batch)$$, settings => :'s');
CALL run('form');
SELECT note, count(*) FROM contacts GROUP BY note;

-- a table that is called batch is meant where its schema is named
CREATE TABLE batch (id int PRIMARY KEY, note text);
INSERT INTO batch VALUES (1, 'table');
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET note = b.note FROM define.batch b$$, settings => :'s');
CALL run('form');
SELECT note, count(*) FROM contacts GROUP BY note;
-- and it may be the target
SELECT backfill_define('form', 'batch', $$UPDATE batch SET note = note || ' batch'$$, scope => $$batch.note = 'table'$$);
CALL run('form');
SELECT * FROM batch;
DROP TABLE batch;

-- a top-level WITH of that name is refused, and so is a statement that reads nothing of batch
SELECT backfill_define('form', 'contacts', $$WITH z AS (SELECT 1), batch AS (SELECT * FROM contacts) SELECT * FROM batch$$);
SELECT backfill_define('form', 'contacts', $$UPDATE contacts SET n = 1$$);
SELECT backfill_define('form', 'contacts', $$SELECT * FROM (WITH batch AS (SELECT 1) SELECT * FROM batch) s$$);

--
-- Scopes
--

-- with a sub-select, which sees batch but not the statement's tables
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET n = 1 FROM zips WHERE zips.zip = batch.zip$$,
	scope => $$zip IN (SELECT z.zip FROM zips z WHERE z.city <> 'Chicago') OR EXISTS (SELECT FROM zips WHERE zips.rank = batch.rank)$$, settings => :'s');
CALL run('form');
SELECT string_agg(id::text, ' ' ORDER BY id) FROM contacts WHERE n = 1;
\set VERBOSITY terse
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET n = 1 FROM zips WHERE zips.zip = batch.zip$$, scope => $$zips.rank = 1$$);
\set VERBOSITY default
SELECT backfill_define('form', 'contacts', $$WITH mine AS (SELECT 1 AS id) UPDATE batch SET n = mine.id FROM mine$$, scope => $$id IN (SELECT id FROM mine)$$);

-- with OR, and a comment at its end
CALL fill();
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET n = n + 1 WHERE id < 9$$, scope => $$id = 1 OR id > 7 -- no more$$, settings => :'s');
CALL run('form');
SELECT string_agg(id::text, ' ' ORDER BY id) FROM contacts WHERE n = 1;

-- that is null for a row, or a boolean column, or true for none
CALL fill();
UPDATE contacts SET rank = NULL WHERE id < 4;
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET n = n + 1$$, scope => $$rank <> 7$$, settings => :'s');
CALL run('form');
SELECT string_agg(id::text, ' ' ORDER BY id) FROM contacts WHERE n = 1;
SELECT backfill_define('form', 'contacts', $$UPDATE batch SET n = n + 1$$, scope => $$false$$, settings => :'s');
CALL run('form');

--
-- What is stored
--
SELECT backfill_define('Some "name"', 'contacts', $$DELETE FROM batch$$, scope => 'n = 0', key => 'contacts_pkey', direction => 'DESC',
	settings => '{"batch_size": 7, "sleep": null, "workers": 2}', description => 'what it is for');
SELECT name, target, statement, scope, key, settings, search_path, description, owner = current_user::regrole AS mine, created_at = updated_at AS new
  FROM backfill_definitions WHERE name LIKE 'Some%';
SELECT backfill_drop('Some "name"');

-- the direction is one of the settings, too
SELECT backfill_define('form', 'contacts', $$DELETE FROM batch$$, direction => 'desc', settings => '{"direction": "desc"}');
SELECT settings FROM backfill_definitions WHERE name = 'form';
SELECT backfill_define('form', 'contacts', $$DELETE FROM batch$$, direction => 'asc', settings => '{"direction": "desc"}');

-- replacing keeps the owner and nothing else
CREATE ROLE regress_backfill_owner LOGIN;
CREATE ROLE regress_backfill_other LOGIN;
GRANT USAGE ON SCHEMA define TO regress_backfill_owner, regress_backfill_other;
GRANT ALL ON ALL TABLES IN SCHEMA define TO regress_backfill_owner;
SET ROLE regress_backfill_owner;
SELECT backfill_define('owned', 'contacts', $$DELETE FROM batch$$, scope => 'n = 0', description => 'first', settings => '{"batch_size": 7}');
RESET ROLE;
SELECT pg_sleep(0.01) IS NOT NULL AS later;
SELECT backfill_define('owned', 'contacts', $$UPDATE batch SET n = 2$$);
SELECT name, owner, statement, scope, settings, description, updated_at > created_at AS replaced FROM backfill_definitions WHERE name = 'owned';
-- and the owner's rights are those that count
SELECT backfill_define('owned', 'contacts', $$UPDATE batch SET n = (SELECT count(*) FROM backfill.run)$$);
-- nobody else may
SET ROLE regress_backfill_other;
SELECT backfill_define('owned', 'contacts', $$DELETE FROM batch$$);
SELECT backfill_drop('owned');
SELECT name FROM backfill_definitions;
SELECT backfill_define('mine', 'contacts', $$DELETE FROM batch$$);
RESET ROLE;
SELECT backfill_drop('owned');
SELECT name FROM backfill_definitions WHERE name IN ('owned', 'mine');

-- names resolve under the search_path of the definition, not that of the start
CREATE SCHEMA define2;
CREATE TABLE define2.contacts (LIKE contacts INCLUDING ALL);
INSERT INTO define2.contacts (id) VALUES (1);
CREATE FUNCTION word() RETURNS text LANGUAGE sql AS $$ SELECT 'define' $$;
CREATE FUNCTION define2.word() RETURNS text LANGUAGE sql AS $$ SELECT 'define2' $$;
CALL fill();
SELECT backfill_define('path', 'contacts', $$UPDATE batch SET note = word() || (SELECT count(*) FROM contacts)$$);
SET search_path = define2, define, public;
CALL run('path');
SET search_path = define, public;
SELECT note, count(*) FROM contacts GROUP BY note;

-- a run keeps the definition as it was at the start
CALL fill();
SELECT backfill_start('path', start_at => now() + '1 hour') AS run \gset
SELECT backfill_define('path', 'contacts', $$DELETE FROM batch$$);
SELECT status, statement FROM backfill_runs WHERE id = :run;

-- drop, once no run of it is active
\set VERBOSITY sqlstate
SELECT backfill_drop('path');
\set VERBOSITY default
SELECT regexp_replace(backfill_stop(:run), '\d+', 'N');
SELECT backfill_drop('path');
SELECT name, status FROM backfill_runs WHERE id = :run;
SELECT backfill_drop('form');
SELECT backfill_drop('form');
SELECT count(*) FROM backfill_definitions WHERE target = 'contacts'::regclass;

-- a primary key whose check is deferred is as good as any
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, n int DEFAULT 0);
INSERT INTO deferred SELECT generate_series(1, 5);
SELECT backfill_define('deferred', 'deferred', $$UPDATE batch SET n = n + 1$$, settings => '{"batch_size": 2, "target_batch_time": 0}');
CALL run('deferred');
SELECT n, count(*) FROM deferred GROUP BY n;
SELECT backfill_drop('deferred');

--
-- Comments: everything in the extension has one, every column of its tables, too
--
SELECT pg_describe_object(classid, objid, 0) AS without_comment
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'backfill')
   AND classid <> 'pg_type'::regclass	-- the row types of the tables and views
   AND NOT EXISTS (SELECT FROM pg_description d
					WHERE d.classoid = classid AND d.objoid = objid AND d.objsubid = 0 AND d.description <> '')
 ORDER BY 1;
SELECT attrelid::regclass, attname
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
 WHERE (relnamespace = 'backfill'::regnamespace AND relkind = 'r'
		OR relkind = 'v' AND relname ~ '^backfill_') AND attnum > 0 AND NOT attisdropped
   AND coalesce(col_description(attrelid, attnum), '') = ''
 ORDER BY 1, 2;
SELECT count(*) > 20 AS there_are_objects FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'backfill');

SET client_min_messages = warning;
DROP SCHEMA define, define2 CASCADE;
DROP OWNED BY regress_backfill_owner, regress_backfill_other;
DROP ROLE regress_backfill_owner, regress_backfill_other;
