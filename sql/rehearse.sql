-- backfill_preview and backfill_explain: what they show, what they warn of, and
-- that nothing is left of it.
CREATE SCHEMA rehearse;
SET search_path = rehearse, public;
SET client_min_messages = notice;
\pset format unaligned
\pset tuples_only on
\set VERBOSITY terse
-- without costs; some minor releases write AS before an alias, others do not

CREATE FUNCTION explain(name text, parameters jsonb DEFAULT NULL) RETURNS SETOF text LANGUAGE sql
AS $$ SELECT replace(regexp_replace("QUERY PLAN", ' +\(cost=.*?\)', ''), 'contacts AS batch', 'contacts batch') FROM backfill_explain(name, parameters) $$;
CREATE FUNCTION warnings(name text) RETURNS SETOF text LANGUAGE sql
AS $$ SELECT regexp_replace("QUERY PLAN", '[0-9]+ ([kM]B)', '# \1', 'g') FROM backfill_explain(name) WHERE "QUERY PLAN" ~ '^(Warning:|  Hint:)' $$;
CREATE FUNCTION define(name text, target regclass, statement text, scope text DEFAULT NULL, settings jsonb DEFAULT '{}', parameters jsonb DEFAULT '{}', key text DEFAULT NULL) RETURNS void LANGUAGE sql
AS $$ SELECT backfill_define(name, target, statement, scope => scope, settings => settings, parameters => parameters, key => key) $$;
CREATE FUNCTION document(name text, measure boolean DEFAULT false) RETURNS jsonb LANGUAGE sql
AS $$ SELECT (backfill_explain(name, measure => measure, format => 'json'))::jsonb $$;

CREATE TABLE contacts (id bigint PRIMARY KEY, cell text, cell_e164 text, n int DEFAULT 0);
INSERT INTO contacts SELECT i, '212-555-' || lpad((i % 10000)::text, 4, '0') FROM generate_series(1, 20000) i;
UPDATE contacts SET cell = NULL WHERE id = 3;
VACUUM (FULL, ANALYZE) contacts;
CREATE TABLE archive (LIKE contacts);

--
-- What they show.
--

SELECT define('normalize', 'contacts', $$UPDATE batch SET cell_e164 = '+1' || regexp_replace(cell, '\D', '', 'g')$$, 'cell_e164 IS NULL', '{"batch_size": 5000}');
SELECT * FROM explain('normalize');
\pset tuples_only off
SELECT * FROM backfill_preview('normalize', rows => 4);
\pset tuples_only on
SELECT count(*) FROM backfill_preview('normalize');

-- from and to, descending
SELECT define('newest', 'contacts', 'UPDATE batch SET n = n + 1', settings => '{"direction": "desc", "to": 100, "from": 99, "workers": 2}');
SELECT * FROM explain('newest');
SELECT * FROM backfill_preview('newest');

-- deleted, and what goes elsewhere
SELECT define('purge', 'contacts', 'DELETE FROM batch', 'id % 1000 = 0');
SELECT * FROM backfill_preview('purge', rows => 2);
SELECT define('move', 'contacts', 'WITH gone AS (DELETE FROM batch RETURNING *) INSERT INTO archive SELECT * FROM gone');
SELECT * FROM backfill_preview('move', rows => 1);
SELECT define('several', 'contacts', 'INSERT INTO archive SELECT * FROM batch; INSERT INTO archive SELECT * FROM batch; DELETE FROM batch');
SELECT * FROM backfill_preview('several', rows => 1);
SELECT count(*) FILTER (WHERE l LIKE '%DELETE FROM%'), count(*) FILTER (WHERE l LIKE '%INSERT INTO%'), count(*) FILTER (WHERE l LIKE '%NOT MATERIALIZED%'), count(*) FILTER (WHERE l ~ '^  (Delete|Insert) on') FROM explain('several') l;
CREATE TABLE totals (digit int PRIMARY KEY, n bigint);
INSERT INTO totals SELECT i, 0 FROM generate_series(0, 4) i;
SELECT define('conflict', 'contacts', 'INSERT INTO totals AS t SELECT id % 10, count(*) FROM batch GROUP BY 1 ON CONFLICT (digit) DO UPDATE SET n = t.n + excluded.n');
SELECT * FROM backfill_preview('conflict', rows => 10) WHERE action <> 'unchanged';
SELECT define('merge', 'contacts', 'MERGE INTO totals t USING batch b ON b.id % 10 = t.digit WHEN MATCHED AND t.digit = 4 THEN DELETE WHEN MATCHED THEN UPDATE SET n = t.n + 1 WHEN NOT MATCHED THEN INSERT VALUES (b.id % 10, 1)');
SELECT * FROM backfill_preview('merge', rows => 9) WHERE action <> 'unchanged';

-- what foreign keys, triggers and functions change elsewhere is counted, and named where only one leads there
CREATE TABLE orders (id int PRIMARY KEY, n int DEFAULT 0);
CREATE TABLE order_items (id int PRIMARY KEY, order_id int REFERENCES orders ON DELETE CASCADE);
CREATE TABLE item_notes (id int PRIMARY KEY, item int REFERENCES order_items ON DELETE SET NULL);
CREATE TABLE item_links (a int REFERENCES order_items ON DELETE CASCADE, b int REFERENCES order_items ON DELETE CASCADE);
CREATE TABLE audit_log (order_id int, what text);
CREATE TABLE follow_ups (id int PRIMARY KEY, previous int REFERENCES follow_ups ON DELETE CASCADE);
CREATE TABLE price_lists (id int PRIMARY KEY, code int UNIQUE);
CREATE TABLE prices (code int REFERENCES price_lists (code) ON DELETE SET DEFAULT ON UPDATE CASCADE);
CREATE INDEX prices_code ON prices (code);
INSERT INTO price_lists SELECT i, i FROM generate_series(1, 10) i;
INSERT INTO prices SELECT i % 10 + 1 FROM generate_series(1, 40) i;
CREATE INDEX order_items_order ON order_items (order_id);
INSERT INTO orders SELECT i FROM generate_series(1, 1000) i;
INSERT INTO order_items SELECT i, (i + 2) / 3 FROM generate_series(1, 3000) i;
INSERT INTO item_notes SELECT i, i * 2 FROM generate_series(1, 1500) i;
INSERT INTO item_links SELECT i, 3001 - i FROM generate_series(1, 300) i;
INSERT INTO follow_ups SELECT i, CASE WHEN i > 100 THEN i - 100 END FROM generate_series(1, 1000) i;
ANALYZE orders, order_items, item_notes, item_links, follow_ups, price_lists, prices;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	-- what is rolled back is not counted
	BEGIN
		INSERT INTO audit_log SELECT OLD.id, 'x' FROM generate_series(1, 100);
		RAISE 'no';
	EXCEPTION WHEN raise_exception THEN
		INSERT INTO audit_log VALUES (OLD.id, TG_OP);
	END;
	RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER DELETE OR UPDATE ON order_items FOR EACH ROW EXECUTE FUNCTION audit();
CREATE FUNCTION noted(id int) RETURNS int LANGUAGE sql AS $$ INSERT INTO audit_log VALUES (id, 'noted'), (id, 'again'); UPDATE orders SET n = n + 1 WHERE orders.id = 1000; SELECT id $$;
SELECT define('cancel', 'orders', 'DELETE FROM batch');
SELECT key, action FROM backfill_preview('cancel', rows => 2);
SELECT define('renumber', 'price_lists', 'UPDATE batch SET code = code + 100');
SELECT key, action FROM backfill_preview('renumber', rows => 1);
-- partitions are their table, on either side
CREATE TABLE books (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE books_1 PARTITION OF books FOR VALUES FROM (0) TO (6);
CREATE TABLE books_2 PARTITION OF books FOR VALUES FROM (6) TO (100);
CREATE TABLE loans (id int, book int REFERENCES books ON DELETE CASCADE, PRIMARY KEY (id)) PARTITION BY HASH (id);
CREATE TABLE loans_0 PARTITION OF loans FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE loans_1 PARTITION OF loans FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO books SELECT generate_series(1, 10);
INSERT INTO loans SELECT i, i % 10 + 1 FROM generate_series(1, 50) i;
ANALYZE books, loans;
SELECT define('books', 'books', 'DELETE FROM batch');
SELECT count(*) FROM backfill_preview('books', rows => 7);
SELECT define('noted', 'orders', 'INSERT INTO audit_log SELECT noted(id), n::text FROM batch');
SELECT key, action FROM backfill_preview('noted', rows => 1);
SELECT define('follow_ups', 'follow_ups', 'DELETE FROM batch');
SELECT key, action FROM backfill_preview('follow_ups', rows => 2);
SELECT count(*), (SELECT count(*) FROM order_items), (SELECT count(*) FROM item_links), (SELECT count(*) FROM audit_log), (SELECT count(*) FROM follow_ups) FROM orders;

-- not touched, and touched without a change
SELECT define('read', 'contacts', 'SELECT length(cell) FROM batch');
SELECT key, action, changed FROM backfill_preview('read', rows => 1);
SELECT define('touch', 'contacts', 'UPDATE batch SET n = n WHERE id <> 1');
SELECT key, action, changed FROM backfill_preview('touch', rows => 2);

-- several columns in the key; partitions, from one to the other; children
CREATE TABLE pairs (a int, b text, n int, PRIMARY KEY (a, b));
INSERT INTO pairs SELECT i / 2, 'x, ' || i, i FROM generate_series(1, 9) i;
SELECT define('pairs', 'pairs', 'UPDATE batch SET n = NULL', settings => '{"from": 2}');
SELECT key, action, changed FROM backfill_preview('pairs', rows => 3);
SELECT l FROM explain('pairs') l WHERE l ~ 'Range|Key|from key';
CREATE TABLE parted (id int, p int, n int, PRIMARY KEY (id, p)) PARTITION BY LIST (p);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
INSERT INTO parted SELECT i, 1 + i % 2, 0 FROM generate_series(1, 10) i;
ANALYZE parted;
CREATE UNIQUE INDEX parted_key ON parted (id, p);
SELECT define('parted', 'parted', 'UPDATE batch SET n = 1; DELETE FROM batch WHERE p = 2');
SELECT key, action, changed FROM backfill_preview('parted', rows => 3);
CREATE TABLE parent (id int PRIMARY KEY, n int);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
INSERT INTO parent VALUES (1, 10), (2, 10);
INSERT INTO child VALUES (1, 20), (3, 20);
SELECT define('parent', 'parent', 'UPDATE batch SET n = n + 1 WHERE n = 20');
SELECT key, action, before->'n' AS before, changed FROM backfill_preview('parent') ORDER BY 1, 3;

-- no row in scope; no row at all
SELECT define('nothing', 'contacts', 'UPDATE batch SET n = 1', 'n = 7');
SELECT * FROM backfill_preview('nothing');
CREATE TABLE empty (id int PRIMARY KEY, n int);
SELECT define('empty', 'empty', 'UPDATE batch SET n = 1');
SELECT * FROM backfill_preview('empty');
SELECT l FROM explain('empty') l WHERE l ~ 'Range|Rows|Update|Limit';
SELECT count(*) > 5 FROM backfill_explain('empty', measure => true);

-- parameters, and what a run says of itself
SELECT define('params', 'contacts', $$UPDATE batch SET cell = concat_ws('/', params.word, run.id, run.name, run.since), n = params.number$$, 'id > params.number', parameters => '{"word": {"type": "text", "required": true}, "number": {"type": "int", "default": 3}}');
SELECT key, changed FROM backfill_preview('params', '{"word": "hello"}', 1);
SELECT key, changed FROM backfill_preview('params', '{"word": "''; DROP TABLE contacts", "number": 19999}', 5);
SELECT l FROM explain('params', '{"word": "x"}') l WHERE l ~ '\$';
SELECT * FROM backfill_preview('params');
SELECT * FROM backfill_explain('params', '{"word": 1, "wort": 2}');
SELECT * FROM backfill_preview('params', '{"word": "x", "number": "many"}');

--
-- Warnings.
--

SELECT * FROM warnings('normalize');

-- few rows in scope, unless the key itself leads to them
SELECT define('sparse', 'contacts', 'UPDATE batch SET n = 1', $$cell = '212-555-0001'$$);
SELECT * FROM warnings('sparse');
SELECT define('start', 'contacts', 'UPDATE batch SET n = 1', 'id < 100');
SELECT * FROM warnings('start');

-- the table read in full by each batch
SELECT define('full', 'contacts', 'UPDATE batch SET n = (SELECT max(n) FROM contacts)');
SELECT * FROM warnings('full');
-- which does not matter if there is only one
SELECT define('full', 'contacts', 'UPDATE batch SET n = (SELECT max(n) FROM contacts)', settings => '{"batch_size": 20000}');
SELECT * FROM warnings('full');

-- so does any other table that is not small, with what it comes to; and the columns it is joined by
CREATE TABLE zips (zip text, city text, filler text DEFAULT repeat('x', 400));
INSERT INTO zips SELECT i::text, 'city ' || i FROM generate_series(1, 1000) i;
CREATE TABLE zones (zip text);
INSERT INTO zones VALUES ('1');
ANALYZE zips, zones;
SELECT define('joined', 'contacts', 'UPDATE batch SET cell = z.city FROM zips z JOIN zones USING (zip) WHERE z.zip = batch.cell_e164');
SELECT * FROM warnings('joined');
SELECT define('inside', 'contacts', 'UPDATE batch SET n = 1 WHERE cell IN (SELECT z.city FROM zips z) OR n = (SELECT count(*) FROM zips WHERE zips.zip = batch.cell)');
SELECT * FROM warnings('inside');
SELECT define('counted', 'contacts', 'UPDATE batch SET n = (SELECT count(*) FROM zips)');
SELECT * FROM warnings('counted');
CREATE INDEX zips_zip ON zips (zip);
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT l FROM warnings('joined') l WHERE l LIKE '%Hint%';
RESET enable_indexscan;
RESET enable_bitmapscan;

-- batches that would be compiled, because something has turned that on
CREATE FUNCTION compiled() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('jit', 'on', false), set_config('jit_above_cost', '0', false); RETURN 1; END $$;
SELECT define('compiled', 'contacts', 'UPDATE batch SET n = compiled()');
SELECT regexp_replace(l, 'plan costs [0-9]+', 'plan costs #') FROM warnings('compiled') l;
SELECT count(*) FROM warnings('normalize') l WHERE l LIKE '%JIT%';

-- what the planner does not know is not shown as if it did, and measured instead
ALTER TABLE contacts ADD added int;
SELECT define('added', 'contacts', 'UPDATE batch SET added = 1', 'added IS NULL');
SELECT l FROM explain('added') l WHERE l ~ '^  Rows|^Warning|Hint';
SELECT "QUERY PLAN" FROM backfill_explain('added', NULL, true) WHERE "QUERY PLAN" ~ '^  Rows: about|^Warning|Hint';
SELECT define('added', 'contacts', 'UPDATE batch SET added = 1', 'added IS NULL AND id % 10 = 0');
SELECT m[2]::numeric / m[1]::numeric BETWEEN 0.09 AND 0.11 FROM backfill_explain('added', NULL, true), regexp_match("QUERY PLAN", '([0-9]+) in the range, ([0-9]+) of them in scope, as measured') m WHERE m IS NOT NULL;
-- in a scope with a sub-select, too
SELECT define('added', 'contacts', 'UPDATE batch SET added = 1', 'EXISTS (SELECT FROM archive a WHERE a.n = batch.added)');
SELECT l FROM explain('added') l WHERE l ~ '^Warning: the estimate';
ANALYZE contacts;
SELECT define('added', 'contacts', 'UPDATE batch SET added = 1', 'added IS NULL');
SELECT l FROM explain('added') l WHERE l ~ '^  Rows|^Warning|Hint';
ALTER TABLE contacts DROP added;
CREATE TABLE fresh (id int PRIMARY KEY, n int) WITH (autovacuum_enabled = off);
INSERT INTO fresh SELECT i FROM generate_series(1, 1000) i;
SELECT define('fresh', 'fresh', 'UPDATE batch SET n = 1');
SELECT * FROM warnings('fresh');
SELECT define('fresh', 'fresh', 'UPDATE batch SET n = 1', 'n IS NULL');
SELECT * FROM warnings('fresh');
SELECT l ~ 'how many of them are in scope is not known' FROM explain('fresh') l WHERE l LIKE '  Rows%';

-- triggers: those that fire for a row of what the statement does
CREATE FUNCTION nop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TABLE loud (id int PRIMARY KEY, n int, m int);
INSERT INTO loud SELECT i, 0, 0 FROM generate_series(1, 2000) i;
ANALYZE loud;
CREATE TRIGGER each_row AFTER UPDATE ON loud FOR EACH ROW EXECUTE FUNCTION nop();
CREATE TRIGGER each_n BEFORE UPDATE OF n ON loud FOR EACH ROW EXECUTE FUNCTION nop();
CREATE TRIGGER each_m BEFORE UPDATE OF m ON loud FOR EACH ROW EXECUTE FUNCTION nop();
CREATE TRIGGER each_insert BEFORE INSERT ON loud FOR EACH ROW EXECUTE FUNCTION nop();
CREATE TRIGGER each_statement AFTER UPDATE ON loud EXECUTE FUNCTION nop();
CREATE TRIGGER disabled AFTER UPDATE ON loud FOR EACH ROW EXECUTE FUNCTION nop();
ALTER TABLE loud DISABLE TRIGGER disabled;
SELECT define('loud', 'loud', 'UPDATE batch SET n = n + 1');
SELECT * FROM warnings('loud');
CREATE TABLE log (id int);
CREATE RULE log AS ON UPDATE TO loud DO ALSO INSERT INTO log VALUES (NEW.id);
SELECT l FROM warnings('loud') l WHERE l ~ 'rule';
SELECT * FROM backfill_preview('loud', rows => 1);

-- foreign keys in both directions
CREATE TABLE departments (id int PRIMARY KEY);
CREATE TABLE people (id int PRIMARY KEY, department int REFERENCES departments, n int, boss int REFERENCES people);
CREATE TABLE badges (id int PRIMARY KEY, person int REFERENCES people);
CREATE INDEX badges_person ON badges (person);
CREATE TABLE desks (id int PRIMARY KEY, person int REFERENCES people);
SELECT define('n', 'people', 'UPDATE batch SET n = 1');
SELECT * FROM warnings('n');
SELECT define('department', 'people', 'UPDATE batch SET department = 1');
SELECT * FROM warnings('department');
SELECT define('leave', 'people', 'DELETE FROM batch');
SELECT * FROM warnings('leave');
SELECT define('enter', 'people', 'INSERT INTO desks SELECT id, id FROM batch');
SELECT * FROM warnings('enter');

-- and what they do on their own, as far as it goes
SELECT * FROM warnings('cancel');
SELECT * FROM warnings('renumber');
SELECT * FROM warnings('follow_ups');
SELECT * FROM warnings('books');

-- indexes that hold a changed column, in whatever role
CREATE TABLE indexed (id int PRIMARY KEY, a int, b int, c int, d int, e int, g int GENERATED ALWAYS AS (e + 1) STORED);
CREATE INDEX i_a ON indexed (a);
CREATE INDEX i_include ON indexed (b) INCLUDE (a);
CREATE INDEX i_expression ON indexed ((c + 1));
CREATE INDEX i_partial ON indexed (b) WHERE d > 0;
CREATE INDEX i_generated ON indexed (g);
SELECT define('indexed', 'indexed', 'UPDATE batch SET a = 1');
SELECT * FROM warnings('indexed');
SELECT define('indexed', 'indexed', 'UPDATE batch SET c = 1, d = 1, e = 1');
SELECT * FROM warnings('indexed');
-- an index that guarantees something is not one to be dropped
CREATE TABLE guarded (id int PRIMARY KEY, a int NOT NULL, b int UNIQUE, c int, r int4range, EXCLUDE USING gist (r WITH &&));
CREATE UNIQUE INDEX g_unique ON guarded (a);
SELECT define('guarded', 'guarded', $$UPDATE batch SET a = 1, b = 1, r = '[1,2)'$$);
SELECT * FROM warnings('guarded');
CREATE INDEX g_plain ON guarded (c);
SELECT define('guarded', 'guarded', 'UPDATE batch SET a = 1, b = 1, c = 1');
SELECT * FROM warnings('guarded');
CREATE TABLE summarized (id int PRIMARY KEY, a int);
CREATE INDEX i_brin ON summarized USING brin (a);
SELECT define('summarized', 'summarized', 'UPDATE batch SET a = 1');
SELECT count(*) = (current_setting('server_version_num')::int < 160000)::int FROM warnings('summarized') l WHERE l LIKE 'Warning:%i_brin%';

-- logical replication
SET client_min_messages = error;
CREATE PUBLICATION pub_indexed FOR TABLE indexed;
CREATE PUBLICATION pub_insert FOR TABLE indexed WITH (publish = 'insert');
CREATE PUBLICATION pub_schema FOR TABLES IN SCHEMA rehearse;
SET client_min_messages = notice;
SELECT l FROM warnings('indexed') l WHERE l ~ 'replication|lag';
SELECT l FROM warnings('leave') l WHERE l ~ 'replication';
DROP PUBLICATION pub_indexed, pub_insert, pub_schema;

-- sequences: called, or behind a column
CREATE SEQUENCE seq;
CREATE TABLE serials (id serial, x int);
CREATE TABLE identities (id int GENERATED ALWAYS AS IDENTITY, x int);
SELECT define('nextval', 'contacts', $$UPDATE batch SET n = nextval('rehearse.seq')$$);
SELECT * FROM warnings('nextval');
SELECT define('serial', 'contacts', 'INSERT INTO serials (x) SELECT n FROM batch');
SELECT * FROM warnings('serial');
SELECT define('identity', 'contacts', 'WITH i AS (INSERT INTO identities (x) SELECT n FROM batch RETURNING *) SELECT FROM i');
SELECT l FROM warnings('identity') l WHERE l LIKE 'Warning%';
SELECT is_called FROM seq;

--
-- Measured.
--

CREATE FUNCTION measured(name text) RETURNS SETOF text LANGUAGE sql
AS $$ SELECT regexp_replace(regexp_replace("QUERY PLAN", '[0-9.]+ (kB|MB|bytes)', '# bytes', 'g'), '[0-9]+(\.[0-9]+)?', '#', 'g')
  FROM (SELECT *, row_number() OVER () AS n FROM backfill_explain(name, measure => true)) e
 WHERE "QUERY PLAN" ~ '^(Measured|Projected|  (Rows: .*processed|Rate|WAL: [0-9]+ bytes per|Buffers per|HOT|Locks|Longest|Duration|WAL|Growth))' ORDER BY n $$;
SELECT * FROM measured('normalize');
SELECT * FROM measured('move');
SELECT * FROM measured('several');
SELECT * FROM measured('newest');
SELECT * FROM measured('pairs');
SELECT * FROM measured('parted');
-- one row a batch, and more rows a batch than there are
SELECT define('single', 'pairs', 'UPDATE batch SET n = 0', settings => '{"batch_size": 1}');
SELECT "QUERY PLAN" FROM backfill_explain('single', measure => true) WHERE "QUERY PLAN" ~ 'processed|^Measured';
SELECT define('single', 'pairs', 'UPDATE batch SET n = 0', settings => '{"batch_size": 1000}');
SELECT "QUERY PLAN" FROM backfill_explain('single', measure => true) WHERE "QUERY PLAN" ~ 'processed|^Measured';
-- all of them are HOT where there is room
CREATE TABLE roomy (id int PRIMARY KEY, n int) WITH (fillfactor = 40);
INSERT INTO roomy SELECT i, 0 FROM generate_series(1, 1000) i;
VACUUM ANALYZE roomy;
SELECT define('roomy', 'roomy', 'UPDATE batch SET n = 1');
SELECT "QUERY PLAN" FROM backfill_explain('roomy', measure => true) WHERE "QUERY PLAN" ~ 'HOT';
-- what goes elsewhere, in the measured batches and in all
SELECT "QUERY PLAN" FROM backfill_explain('cancel', NULL, true) WHERE "QUERY PLAN" ~ 'processed|^  Also';
SELECT "QUERY PLAN" FROM backfill_explain('follow_ups', NULL, true) WHERE "QUERY PLAN" ~ 'processed|^  Also';
-- triggers show what they cost
SELECT count(*) FROM backfill_explain('loud', measure => true) WHERE "QUERY PLAN" ~ 'Trigger (each_row|each_n).*calls=100';

VACUUM (FULL, ANALYZE) contacts;
-- what was measured takes the place of what was estimated, also of an expression that the planner knows nothing of
SELECT define('guessed', 'contacts', 'UPDATE batch SET n = 1', 'length(cell) > 20');
SELECT (j->'rows'->>'in_scope')::int, j->'rows'->'in_scope_known', j->'rows'->'in_scope_measured' FROM document('guessed') j;
SELECT define('guessed', 'contacts', 'UPDATE batch SET n = 1', 'length(cell) > 3');
SELECT (j->'rows'->>'in_scope')::int < 10000, (m->'rows'->>'in_scope')::int > 19000, m->'rows'->'in_scope_measured' FROM document('guessed') j, document('guessed', true) m;
-- batches that are large enough are few
VACUUM (FULL, ANALYZE) contacts;
SELECT define('few', 'contacts', 'UPDATE batch SET n = 1', settings => '{"batch_size": 10}');
SELECT (j->>'batches')::int, (m->>'batches')::int < 2000, m->'batches' = m->'projected'->'batches', m->'batch_size' = m->'projected'->'batch_size' FROM document('few') j, document('few', true) m;

-- with on_error "skip" an error is not the end: parts of the batch are measured, and the others
SELECT define('skipped', 'contacts', 'UPDATE batch SET n = 1 / (id % 7)::int', settings => '{"on_error": "skip"}');
SELECT l FROM backfill_explain('skipped', measure => true) l WHERE l ~ 'Warning|as it ran|Measured';
SELECT m->'processed' = m->'rows', (m->>'rows')::int > 0, (m->>'failed_batches')::int > 5 FROM document('skipped', true) j, LATERAL (SELECT j->'measured') m (m);
-- down to the row, if that is the first; none was without an error here
SELECT define('skipped', 'contacts', 'UPDATE batch SET n = 1 / (id - id)::int', settings => '{"on_error": "skip"}');
SELECT l FROM backfill_explain('skipped', measure => true) l WHERE l ~ 'Warning|Hint|^Plan of a batch|Measured|Projected';
SELECT define('repaired', 'contacts', 'UPDATE batch SET n = 1 / (id - id)::int', settings => '{"on_error": "skip", "repair": "UPDATE batch SET n = 1 / (id - id)::int"}');
SELECT l FROM backfill_explain('repaired', measure => true) l WHERE l ~ 'Warning: a batch|to blame';
SELECT j->'measured'->'rows', j->'measured'->'hot_fraction', j->'projected', j->'warnings'->0->'code' FROM document('skipped', true) j;
-- but an error that a run does not skip is the end
CREATE FUNCTION gone() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT n FROM no_such_table); END $$;
SELECT define('skipped', 'contacts', 'UPDATE batch SET n = gone()', settings => '{"on_error": "skip"}');
SELECT * FROM backfill_explain('skipped', measure => true);

--
-- As JSON.
--

VACUUM (FULL, ANALYZE) contacts;
SELECT string_agg(key, ' ' ORDER BY n) FROM backfill_explain('normalize', format => 'json') l, json_each(l::json) WITH ORDINALITY AS e (key, value, n);
SELECT j->'definition', j->'target', j->'key', j->'range', j->'rows', j->'batch_size', j->'batches' FROM document('normalize') j;
SELECT j->'parameters', j->'finish', j->'measured', j->'projected', j->'also_changed', j->'warnings', j->'plans'->'partitions', j->'plans'->'batch_ran' FROM document('normalize') j;
SELECT j->'statement'->>0 ~ '^UPDATE contacts', j->'plans'->>'batch' ~ '^Update on contacts', j->'plans'->>'search' ~ '^Limit' FROM document('normalize') j;
SELECT j->'key', j->'range' FROM document('pairs') j;
SELECT j->'key', j->'range' FROM document('newest') j;
SELECT l::jsonb->'parameters' FROM backfill_explain('params', '{"word": "\"x\\"}', format => 'JSON') l;
SELECT w FROM document('joined') j, jsonb_array_elements(j->'warnings') w WHERE w->>'code' = 'estimate_guess';
SELECT w->>'code', w->>'table', w->>'hint' IS NOT NULL FROM document('leave') j, jsonb_array_elements(j->'warnings') w;
-- foreign keys of partitions: one warning for all that do the same, about those without an index
CREATE TABLE rentals (id int PRIMARY KEY, n int);
INSERT INTO rentals SELECT generate_series(1, 10);
CREATE FUNCTION payments(name text, part text, definition text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %I (id int, rental int, at int) PARTITION BY RANGE (at)', name);
	FOR i IN 1 .. 6 LOOP
		EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)', name || '_' || i, name, i, i + 1);
		EXECUTE replace(replace(part, '@', quote_ident(name || '_' || i)), 'NUMBER', i::text);
	END LOOP;
	EXECUTE replace(definition, '@', quote_ident(name));
END $$;
SELECT payments('bare', 'ALTER TABLE @ ADD FOREIGN KEY (rental) REFERENCES rentals', 'SELECT');
SELECT payments('mixed', 'ALTER TABLE @ ADD FOREIGN KEY (rental) REFERENCES rentals', 'CREATE INDEX ON mixed_2 (rental); CREATE INDEX ON mixed_4 (rental); CREATE INDEX ON mixed_5 (rental, at)');
SELECT payments('lacking', 'ALTER TABLE @ ADD FOREIGN KEY (rental) REFERENCES rentals', 'CREATE INDEX ON lacking_1 (rental); CREATE INDEX ON lacking_2 (rental); CREATE INDEX ON lacking_3 (rental); CREATE INDEX ON lacking_4 (rental); CREATE INDEX ON lacking_5 (rental)');
SELECT payments('covered', 'ALTER TABLE @ ADD FOREIGN KEY (rental) REFERENCES rentals', 'CREATE INDEX ON @ (rental)');
SELECT payments('cascading', 'ALTER TABLE @ ADD FOREIGN KEY (rental) REFERENCES rentals ON DELETE CASCADE; CREATE INDEX ON @ (rental)', 'SELECT');
SELECT payments('two', 'ALTER TABLE @ ADD CONSTRAINT keyNUMBER FOREIGN KEY (rental) REFERENCES rentals', 'ALTER TABLE two_3 DROP CONSTRAINT key3; ALTER TABLE two_4 ADD FOREIGN KEY (id) REFERENCES rentals');
SELECT payments('whole', 'SELECT', 'ALTER TABLE @ ADD CONSTRAINT whole_key FOREIGN KEY (rental) REFERENCES rentals');
SELECT payments('parts', 'SELECT', 'ALTER TABLE @ ADD CONSTRAINT parts_key FOREIGN KEY (rental) REFERENCES rentals; CREATE INDEX ON parts_1 (rental); CREATE INDEX ON parts_6 (rental); CREATE INDEX ON ONLY parts (rental)');
SELECT define('return', 'rentals', 'DELETE FROM batch');
SELECT l FROM warnings('return') l WHERE l !~ 'estimate|ANALYZE';
SELECT w->>'code', w->>'table' FROM document('return') j, jsonb_array_elements(j->'warnings') w WHERE w->>'code' ~ 'foreign';
SELECT also FROM document('cancel', true) j, jsonb_array_elements(j->'also_changed') also;
SELECT string_agg(key, ' ' ORDER BY n) FROM backfill_explain('normalize', NULL, true, 'json') l, json_each(l::json->'measured') WITH ORDINALITY AS e (key, value, n);
SELECT string_agg(key, ' ' ORDER BY n) FROM backfill_explain('normalize', NULL, true, 'json') l, json_each(l::json->'projected') WITH ORDINALITY AS e (key, value, n);
-- whatever the text warns of, the JSON does
SELECT name, count(*) FROM backfill_definitions, backfill_explain(name) l WHERE l LIKE 'Warning: %' AND name IN ('normalize', 'joined', 'full', 'fresh', 'loud', 'department', 'leave', 'indexed', 'nextval') AND position(substr(l, 10) IN (SELECT string_agg(w->>'message', '') FROM document(name) j, jsonb_array_elements(j->'warnings') w)) = 0 GROUP BY 1;
SELECT * FROM backfill_explain('normalize', format => 'xml');
SELECT * FROM backfill_explain('normalize', format => NULL);

--
-- Nothing is left, and errors leave the session as it was.
--

SELECT count(*), count(cell_e164), sum(n) FROM contacts;
SELECT count(*) FROM archive;
SELECT sum(n) FROM totals;
BEGIN;
SELECT count(*) FROM backfill_preview('move', rows => 3);
SELECT count(*) > 10 FROM backfill_explain('normalize', measure => true);
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND (locktype IN ('advisory', 'tuple', 'object') OR relation >= 16384);
COMMIT;

CREATE FUNCTION state() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', current_user = session_user, current_setting('search_path'), current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('track_counts')) $$;
SET statement_timeout = '10min';
SELECT state();
CREATE FUNCTION try(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RETURN 'no error';
EXCEPTION WHEN query_canceled OR others THEN
	RETURN SQLSTATE || ' ' || SQLERRM || ' | ' || state();
END $$;
SELECT define('bad', 'contacts', $$UPDATE batch SET cell = set_config('search_path', 'pg_catalog', false), n = 1 / (id - id)$$, settings => '{"statement_timeout": "1 min"}');
SELECT try($$SELECT * FROM backfill_preview('bad', rows => 1000)$$);
SELECT try($$SELECT * FROM backfill_explain('bad', measure => true)$$);
SELECT define('slow', 'contacts', 'SELECT pg_sleep(600) FROM batch', settings => '{"statement_timeout": "10ms"}');
SELECT try($$SELECT * FROM backfill_preview('slow')$$);
SELECT try($$SELECT * FROM backfill_explain('slow', measure => true)$$);
SELECT try('SELECT pg_sleep(0.02)'), state();
-- that of the session goes on
SET statement_timeout = '1s';
SELECT try($$SELECT * FROM backfill_preview('slow')$$), try('SELECT pg_sleep(600)');
SET statement_timeout = '10min';
-- a sparse scope is searched no longer than that, either
SELECT define('search', 'contacts', 'UPDATE batch SET n = 1', 'pg_sleep(0.001) IS NULL', '{"statement_timeout": "50ms"}');
SELECT try($$SELECT * FROM backfill_preview('search')$$);
RESET statement_timeout;

-- errors
SELECT * FROM backfill_preview('none');
SELECT * FROM backfill_explain('none');
SELECT * FROM backfill_preview(NULL);
SELECT * FROM backfill_explain(NULL);
SELECT * FROM backfill_preview('normalize', rows => 0);
SELECT * FROM backfill_preview('normalize', rows => 1001);
SELECT * FROM backfill_preview('normalize', rows => NULL);
BEGIN READ ONLY;
SELECT count(*) > 5 FROM backfill_explain('normalize');
SELECT * FROM backfill_preview('normalize');
ROLLBACK;
DROP TABLE empty;
SELECT * FROM backfill_explain('empty');

-- deferred constraints are checked at once
CREATE TABLE refs (id int PRIMARY KEY, department int REFERENCES departments DEFERRABLE INITIALLY DEFERRED);
INSERT INTO refs SELECT i FROM generate_series(1, 10) i;
SELECT define('refs', 'refs', 'UPDATE batch SET department = 7');
SELECT try($$SELECT * FROM backfill_preview('refs')$$);
INSERT INTO departments VALUES (7);
SELECT key, changed FROM backfill_preview('refs', rows => 1);
-- unless the transaction has some waiting, which are not fired
BEGIN;
INSERT INTO refs VALUES (11, 8);
SELECT l FROM warnings('refs') l WHERE l ~ 'waiting';
SELECT try($$SELECT * FROM backfill_preview('refs', rows => 1)$$);
SELECT key FROM backfill_preview('touch', rows => 1);
INSERT INTO departments VALUES (8);
COMMIT;
SELECT count(*) FROM refs WHERE department = 8;
-- and the caller's own go on being deferred
BEGIN;
SELECT key FROM backfill_preview('refs', rows => 1);
INSERT INTO refs VALUES (12, 9);
INSERT INTO departments VALUES (9);
COMMIT;

SELECT count(backfill_drop(name)) > 10 FROM backfill_definitions;
SET client_min_messages = warning;
DROP SCHEMA rehearse CASCADE;
