-- What is said of SQL that is run later when it is given: of the last step and of the
-- probe; and of a definition that is replaced.
CREATE SCHEMA foresee;
SET search_path = foresee, public;
\pset format unaligned
\pset tuples_only on
CREATE TABLE t (id int PRIMARY KEY, n int, CONSTRAINT positive CHECK (n > 0) NOT VALID);
CREATE TABLE u (id int PRIMARY KEY);
CREATE INDEX t_n ON t (n);

-- Define, with that last step.
CREATE FUNCTION finish(finish text) RETURNS void LANGUAGE sql
RETURN backfill_define('last', 't', 'UPDATE batch SET n = 1', finish => finish);

-- nothing to say
SELECT finish('ALTER TABLE t VALIDATE CONSTRAINT positive; ALTER TABLE t ALTER n SET NOT NULL; ALTER TABLE t DROP CONSTRAINT positive');
SELECT finish('CREATE INDEX CONCURRENTLY t_n2 ON t (n); REINDEX INDEX CONCURRENTLY t_n2; DROP INDEX t_n2; VACUUM (ANALYZE) t; ANALYZE t (n)');
SELECT finish('ALTER TABLE t ADD m int, ADD CONSTRAINT c CHECK (m > 0) NOT VALID; ALTER TABLE t ALTER m SET NOT NULL; ALTER TABLE t VALIDATE CONSTRAINT c; SELECT m FROM t');
SELECT finish('CREATE TABLE v (LIKE t); INSERT INTO v SELECT * FROM t; ALTER TABLE v ADD PRIMARY KEY (id); TRUNCATE v; DROP TABLE v');
SELECT finish('ALTER TABLE t RENAME TO t_old; ALTER TABLE u RENAME TO w; CREATE VIEW x AS SELECT 1; COMMENT ON VIEW x IS ''x''; DROP VIEW x');
SELECT finish('DROP TABLE IF EXISTS nope; ALTER TABLE IF EXISTS nope ADD x int; ALTER TABLE t DROP COLUMN IF EXISTS nope, DROP CONSTRAINT IF EXISTS nope');
-- anything may have been made
SELECT finish('DO $$ BEGIN CREATE TABLE made (i int); END $$; INSERT INTO made VALUES (1)');
SELECT finish('SET search_path = elsewhere; ALTER TABLE there ADD i int');
SELECT finish('CREATE SCHEMA s; CREATE TABLE s.t (); DROP TABLE s.t; CALL nope()');

-- what would fail now
SELECT finish('ALTER TABLE t ALTER m SET NOT NULL');
SELECT finish('ALTER TABLE t VALIDATE CONSTRAINT negative, DROP CONSTRAINT zero, DROP COLUMN m');
SELECT finish('VACUUM t; VACUUM tt; TRUNCATE foresee.uu; REINDEX TABLE tt; DROP TABLE tt');
SELECT finish('CREATE INDEX ON t (m)');
SELECT finish('CREATE INDEX i ON t (m); CREATE INDEX j ON tt (n)');
SELECT finish('ALTER TABL t ADD x int');
SELECT finish('UPDATE t SET m = 1; INSERT INTO t SELECT * FROM tt; SELECT count(n) FROM t; SELECT f(n) FROM t; DELETE FROM t WHERE n = ''x''');
SELECT finish(string_agg('DROP TABLE tt' || i, ';')) FROM generate_series(1, 100) i;
-- and is a definition all the same
SELECT left(finish, 20) FROM backfill_definitions WHERE name = 'last';

-- the probe
CREATE FUNCTION probe(probe text) RETURNS void LANGUAGE sql
RETURN backfill_define('probed', 't', 'UPDATE batch SET n = 1', settings => jsonb_build_object('probe', probe));
CREATE DOMAIN truth AS boolean;
SELECT probe('SELECT CASE WHEN count(*) > 5 THEN ''many'' END FROM t');
SELECT probe('SELECT NULL');
SELECT probe('SELECT count(*) FROM t HAVING count(*) > 5');
SELECT probe('DELETE FROM t RETURNING id');
SELECT probe('SHOW work_mem');
SELECT probe('SELECT FROM t');
\set VERBOSITY terse
SELECT probe('SELECT count(*) > 5 FROM t');
SELECT probe('SELECT true::truth');
SELECT probe('DELETE FROM t RETURNING id > 5');
\set VERBOSITY default
SELECT probe('SELECT EXISTS (SELECT FROM t)');
SELECT probe('SELECT nothing FROM t');
SELECT settings FROM backfill_definitions WHERE name = 'probed';
SELECT backfill_start('probed', settings => '{"probe": "SELECT 1 = 1"}');
SELECT backfill_start('probed', start_at => now() + interval '1 day') AS run \gset
SELECT backfill_alter(:run, '{"probe": "SELECT 1 = 1"}');
SELECT regexp_replace(backfill_alter(:run, '{"probe": "SELECT later FROM t"}'), '\d+', 'N');
SELECT count(*) FROM backfill_stop_all();

-- a rate that is a number
SELECT backfill_define('rated', 't', 'UPDATE batch SET n = 1', settings => '{"rate_limit": 5000, "wal_rate_limit": 1048576}');

-- a definition that is replaced
SELECT backfill_define('rated', 't', 'UPDATE batch SET n = 1', scope => 'n > 1', description => 'the same statement');
SELECT backfill_define('rated', 't', 'UPDATE batch SET n = 2');
SELECT backfill_define('rated', 'u', 'SELECT FROM batch');
DROP TABLE u;
SELECT backfill_define('rated', 't', 'UPDATE batch SET n = 2');
CREATE ROLE regress_backfill_owner;
GRANT ALL ON SCHEMA foresee TO regress_backfill_owner;
GRANT ALL ON t TO regress_backfill_owner;
SET ROLE regress_backfill_owner;
SELECT backfill_define('owned', 't', 'UPDATE batch SET n = 2');
SELECT backfill_define('owned', 't', 'UPDATE batch SET n = 2');
RESET ROLE;
SELECT backfill_define('owned', 't', 'UPDATE batch SET n = 2');

SELECT count(backfill_drop(name)) FROM backfill_definitions;
SET client_min_messages = warning;
DROP SCHEMA foresee CASCADE;
DROP OWNED BY regress_backfill_owner;
DROP ROLE regress_backfill_owner;
