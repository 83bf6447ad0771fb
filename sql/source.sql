-- Definitions whose batches are pages of a source: what is checked, and what a page is.
CREATE SCHEMA source;
SET search_path = source, public;
CREATE TABLE contact (id int PRIMARY KEY, name text, born date, applied int DEFAULT 0);
CREATE FUNCTION give(token jsonb, event backfill_fetch, OUT records jsonb, OUT next_token jsonb)
LANGUAGE sql AS $$ SELECT '[]'::jsonb, NULL::jsonb $$;
CREATE FUNCTION give_set(token jsonb, event backfill_fetch) RETURNS TABLE (record jsonb, next_token jsonb)
LANGUAGE sql AS $$ SELECT '{"id": 1}'::jsonb, NULL::jsonb $$;
CREATE FUNCTION give_text(token jsonb, event backfill_fetch) RETURNS text LANGUAGE sql AS $$ SELECT 'a' $$;
CREATE FUNCTION give_three(token jsonb, event backfill_fetch, OUT a jsonb, OUT b jsonb, OUT c jsonb)
LANGUAGE sql AS $$ SELECT '[]'::jsonb, NULL::jsonb, NULL::jsonb $$;
CREATE FUNCTION ready(event backfill_fetch) RETURNS text LANGUAGE sql AS $$ SELECT NULL::text $$;
CREATE FUNCTION unready(event backfill_fetch) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	CREATE TABLE left_behind ();
	RETURN 'the token of the service';
END $$;
\set take '''INSERT INTO contact SELECT id, name FROM batch'''

-- what is one, and what is not
SELECT backfill_define('f', 'contact', :take, source => 'give', source_check => 'ready', check_now => true);
SELECT backfill_define('f', 'contact', :take, source => 'give_set');
SELECT backfill_define('c', 'contact', :take, source => 'client');
SELECT name, source, source_check FROM backfill_definitions WHERE name IN ('c', 'f') ORDER BY name;
SELECT backfill_define('f', 'contact', :take, source => 'nobody');
SELECT backfill_define('f', 'contact', :take, source => 'give_text');
SELECT backfill_define('f', 'contact', :take, source => 'give_three');
SELECT backfill_define('f', 'contact', :take, source => 'give', source_check => 'give');
SELECT backfill_define('f', 'contact', :take, source => 'give', source_check => 'unready', check_now => true);
SELECT to_regclass('left_behind');
SELECT backfill_define('f', 'contact', :take, source_check => 'ready');

-- what does not go with one
SELECT backfill_define('f', 'contact', NULL, source => 'give');
SELECT backfill_define('f', 'contact', :take, scope => 'id > 1', source => 'give');
SELECT backfill_define('f', 'contact', :take, key => 'contact_pkey', source => 'give');
SELECT backfill_define('f', 'contact', :take, direction => 'desc', source => 'give');
SELECT backfill_define('f', 'contact', :take, settings => '{"from": 1}', source => 'give');
SELECT backfill_define('f', 'contact', :take, settings => '{"share_by": "name"}', source => 'give');
SELECT backfill_define('f', 'contact', :take, settings => '{"outside": true}', source => 'client');

-- batch is a page, with the columns of the target
SELECT backfill_define('f', 'contact', 'UPDATE batch SET name = NULL', source => 'give');
SELECT backfill_define('f', 'contact', 'WITH gone AS (DELETE FROM batch RETURNING *) INSERT INTO contact SELECT * FROM gone', source => 'give');
SELECT backfill_define('f', 'contact', 'INSERT INTO contact SELECT id, nme FROM batch', source => 'give');
SELECT backfill_define('f', 'contact', 'INSERT INTO contact SELECT 1', source => 'give');
SELECT backfill_define('f', 'contact', 'MERGE INTO contact c USING batch b ON c.id = b.id WHEN MATCHED THEN UPDATE SET name = b.name', source => 'give');
SELECT backfill_explain('c');

-- whose function it is
CREATE ROLE regress_stranger;
REVOKE ALL ON FUNCTION give(jsonb, backfill_fetch) FROM PUBLIC;
GRANT ALL ON SCHEMA source TO regress_stranger;
CREATE TABLE strangers (id int PRIMARY KEY, name text);
ALTER TABLE strangers OWNER TO regress_stranger;
SET ROLE regress_stranger;
SELECT backfill_define('s', 'strangers', 'INSERT INTO strangers SELECT * FROM batch', source => 'give');
RESET ROLE;

DROP TABLE strangers;
REVOKE ALL ON SCHEMA source FROM regress_stranger;
DROP ROLE regress_stranger;
SELECT backfill_drop(name) FROM backfill_definitions WHERE name IN ('c', 'f') ORDER BY name;
SET client_min_messages = warning;
DROP SCHEMA source CASCADE;
