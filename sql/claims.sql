-- What SQL shows of claims: a batch and how it is completed, what is refused and why, what
-- there is instead of a batch.
CREATE SCHEMA claims;
SET search_path = claims, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

CREATE TABLE contact (id bigint PRIMARY KEY, mail text NOT NULL, state text);
INSERT INTO contact SELECT i, 'm' || i, CASE WHEN i % 10 = 0 THEN 'done' END FROM generate_series(1, 50) i;
CREATE TABLE mine (LIKE contact);
ALTER TABLE mine DROP id, DROP mail, DROP state;
ALTER TABLE mine ADD run bigint, ADD number bigint, ADD part int, ADD start_key text[], ADD end_key text[], ADD condition text,
	ADD rows bigint, ADD token text, ADD lease_until timestamptz, ADD retry_after interval, ADD reason text, ADD done boolean, ADD stream text, ADD source_token jsonb;

-- Claim until there are as many batches, or the run is over; what comes of it is in the table "mine".
CREATE PROCEDURE claim(run bigint, lease text DEFAULT '10 min', batches int DEFAULT 1) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '1 min';
BEGIN
	DELETE FROM mine;
	LOOP
		INSERT INTO mine SELECT claim.run, c.* FROM backfill_claim(claim.run, 'a client', claim.lease, claim.batches - (SELECT count(*)::int FROM mine)) c
		 WHERE c.number IS NOT NULL OR c.done;
		EXIT WHEN (SELECT count(*) >= claim.batches OR bool_or(done) FROM mine);
		COMMIT;
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'there is nothing to be claimed';
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
-- Wait until a claim of nothing gives that reason.
CREATE PROCEDURE reason(run bigint, expected text, INOUT result text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '1 min';
	c record;
BEGIN
	LOOP
		SELECT * INTO c FROM backfill_claim(run, 'a client', '100 ms');
		result := format('number %s, done %s, later %s, %s', c.number, c.done, c.retry_after > '0'::interval, c.reason);
		COMMIT;
		EXIT WHEN c.reason ~ expected OR clock_timestamp() > deadline;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
-- What a command is refused with.
CREATE FUNCTION refused(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'NOT REFUSED';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN regexp_replace(concat_ws(E'\n  ', state || ' ' || message, nullif(detail, ''), nullif(hint, '')), 'run \d+', 'run N', 'g');
END $$;

--
-- A batch
--
SELECT backfill_define('mail', 'contact', NULL, scope => $$state IS NULL AND mail <> params.not$$,
	parameters => '{"not": {"type": "text", "default": "it''s $1"}}', settings => '{"batch_size": 10, "on_error": "skip", "max_error_rate": 1}');
SELECT statement IS NULL AS "no statement", scope FROM backfill_definitions WHERE name = 'mail';
SELECT backfill_start('mail') AS run \gset
CALL claim(:run);
SELECT number, part, start_key, end_key, condition, rows, token ~ '^\d+-[0-9a-f]{32}$', lease_until - now() > '9 min', retry_after, reason, done FROM mine;
SELECT * FROM mine \gset
SELECT status, attempt, client, claimed_by = current_user::regrole, claimed_at > now() - interval '1 min', lease_until = :'lease_until' FROM backfill_batches WHERE run_id = :run AND number = :number;
SELECT worker, pid = pg_backend_pid(), run_id = :run, state, batch, rows_scanned, client, role = current_user::regrole, application_name, client_addr, batches_out, lease_until = :'lease_until'
  FROM backfill_workers WHERE run_id = :run AND client IS NOT NULL;

-- a claim lasts longer once it is extended, by its own length or another one
SELECT backfill_extend(:run, :number, :part, :'token') > :'lease_until';
SELECT backfill_extend(:run, :number, :part, :'token', '1 hour') - now() > '59 min';

-- the condition says which rows are in it
BEGIN;
UPDATE contact AS batch SET state = 'sent' WHERE :condition;
SELECT id, state FROM contact WHERE id BETWEEN 8 AND 12 ORDER BY id;
SELECT backfill_complete(:run, :number, :part, :'token', 9);
COMMIT;
SELECT status, rows_scanned, rows_affected, client, finished_at >= started_at, wal_bytes > 0, lease_until FROM backfill_batches WHERE run_id = :run AND number = :number;
SELECT count(*) FROM backfill_workers WHERE run_id = :run AND client IS NOT NULL;

--
-- What is refused
--
SELECT refused($$SELECT * FROM backfill_claim(NULL, 'a client')$$);
SELECT refused(format($$SELECT * FROM backfill_claim(%s, NULL)$$, :run));
SELECT refused(format($$SELECT * FROM backfill_claim(%s, '')$$, :run));
SELECT refused(format($$SELECT * FROM backfill_claim(%s, repeat('x', 64))$$, :run));
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client', NULL::interval)$$, :run));
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client', interval '99 ms')$$, :run));
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client', '8 days')$$, :run));
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client', 'soon')$$, :run));
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client', batches => 0)$$, :run));
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client', batches => 1001)$$, :run));
SELECT refused($$SELECT * FROM backfill_claim(-1, 'a client')$$);
CREATE ROLE regress_claims LOGIN;
GRANT USAGE ON SCHEMA claims TO regress_claims;
SET ROLE regress_claims;
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client')$$, :run));
RESET ROLE;
BEGIN TRANSACTION READ ONLY;
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client')$$, :run));
COMMIT;

-- tokens: of what is completed, guessed, of another batch, of another role; a transaction in
-- which a batch was refused can only be rolled back
BEGIN;
SELECT refused(format($$SELECT backfill_complete(%s, %s, %s, %L)$$, :run, :number, :part, :'token'));
ROLLBACK;
CALL claim(:run, batches => 2);
SELECT string_agg(number::text, ',' ORDER BY number) FROM mine;
SELECT number AS second, token AS other FROM mine ORDER BY number DESC LIMIT 1 \gset
SELECT * FROM mine ORDER BY number LIMIT 1 \gset
BEGIN;
SELECT refused(format($$SELECT backfill_complete(%s, %s, %s, %L)$$, :run, :number, :part, v))
  FROM unnest(ARRAY[NULL, '', 'nonsense', '1', :'token' || '0', :'other', regexp_replace(:'token', '-.*', '-' || repeat('0', 32)), '0' || substr(:'token', 2)]) v;
SELECT refused(format($$SELECT backfill_extend(%s, %s, %s, %L)$$, :run, :number, :part, :'other'));
SELECT refused(format($$SELECT backfill_fail(%s, %s, %s, %L, 'x')$$, :run, :number, :part, :'other'));
SELECT refused(format($$SELECT backfill_complete(%s, %s, %s, %L)$$, :run, :number, 1, :'token'));
SET ROLE regress_claims;
SELECT refused(format($$SELECT backfill_complete(%s, %s, %s, %L)$$, :run, :number, :part, :'token'));
ROLLBACK;
SELECT refused(format($$SELECT backfill_complete(%s, %s, %s, %L, -1)$$, :run, :number, :part, :'token'));
SELECT refused(format($$SELECT backfill_extend(%s, %s, %s, %L, '1 ms')$$, :run, :number, :part, :'token'));
SELECT refused(format($$SELECT backfill_fail(%s, %s, %s, %L, 'x', '2350')$$, :run, :number, :part, :'token'));
SELECT refused(format($$SELECT backfill_fail(%s, %s, %s, %L, 'x', '2350a')$$, :run, :number, :part, :'token'));

-- a transaction in which a batch was refused does not commit, though the error was caught
\set VERBOSITY terse
BEGIN;
UPDATE contact SET state = 'lost' WHERE id = 50;
SELECT left(refused(format($$SELECT backfill_complete(%s, %s, %s, %L)$$, :run, :number, :part, :'other')), 5);
COMMIT;
SELECT state FROM contact WHERE id = 50;

-- nor is one prepared that has claimed or completed
BEGIN;
SELECT backfill_complete(:run, :number, :part, :'token');
PREPARE TRANSACTION 'claims';
\set VERBOSITY default

-- what is rolled back, to a savepoint or all of it, is not done
BEGIN;
SAVEPOINT s;
SELECT backfill_complete(:run, :number, :part, :'token');
ROLLBACK TO s;
COMMIT;
SELECT number = :number, status FROM backfill_batches WHERE run_id = :run AND number IN (:number, :second) ORDER BY number;
BEGIN;
UPDATE contact SET state = 'sent' WHERE id BETWEEN 21 AND 29;
SELECT backfill_complete(:run, :second, 0, :'other', 9);
COMMIT;

--
-- Failures
--
-- the row with that key comes again, alone; all others of the batch are for the next client
SELECT rows FROM mine WHERE number = :number;
SELECT start_key[1]::int + 4 AS bad FROM mine WHERE number = :number \gset
-- (another batch is put aside before that; it is not forgotten over the parts of this one)
CREATE PROCEDURE put_aside(run bigint) LANGUAGE plpgsql AS $$
DECLARE
	c record;
	deadline timestamptz := clock_timestamp() + '1 min';
BEGIN
	SELECT * INTO STRICT c FROM backfill_claim(run, 'a client') WHERE backfill_claim.number IS NOT NULL;
	PERFORM backfill_fail(run, c.number, c.part, c.token, 'try again', retryable => true);
	COMMIT;
	WHILE NOT EXISTS (SELECT FROM backfill_batches b WHERE b.run_id = run AND b.number = c.number AND b.retry_at > b.claimed_at) AND clock_timestamp() < deadline LOOP
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
CALL put_aside(:run);
SELECT backfill_fail(:run, :number, :part, :'token', 'no such address', 'P0001', false, ARRAY[:'bad']);
BEGIN;
SELECT left(refused(format($$SELECT backfill_complete(%s, %s, %s, %L)$$, :run, :number, :part, :'token')), 5);
ROLLBACK;

-- the rest of the run, batch by batch
CREATE PROCEDURE work(run bigint, bad bigint) LANGUAGE plpgsql AS $$
DECLARE
	m mine;
	ids bigint[];
BEGIN
	LOOP
		CALL claim(work.run, 'session');
		COMMIT;
		SELECT * INTO m FROM mine;
		EXIT WHEN m.done;
		ASSERT m.lease_until IS NULL AND backfill_extend(m.run, m.number, m.part, m.token) IS NULL, 'a session lease has no end';
		EXECUTE format('SELECT array_agg(batch.id) FROM claims.contact AS batch WHERE %s', m.condition) INTO ids;
		IF bad = ANY (ids) THEN
			ASSERT ids = ARRAY[bad], 'it comes alone';
			PERFORM backfill_fail(m.run, m.number, m.part, m.token, 'still no such address', 'P0001', false, ARRAY[bad::text]);
		ELSE
			EXECUTE format('UPDATE claims.contact AS batch SET state = ''sent'' WHERE %s', m.condition);
			PERFORM backfill_complete(m.run, m.number, m.part, m.token);
		END IF;
		COMMIT;
	END LOOP;
END $$;
CALL work(:run, :bad);
SELECT number, done, retry_after, reason FROM mine;
SELECT part, key_range, status, skipped, rows_affected, error FROM backfill_batches WHERE run_id = :run AND number = :number ORDER BY end_key[1]::int;
SELECT id = :bad, state FROM contact WHERE state IS DISTINCT FROM 'sent' AND id % 10 > 0;
SELECT number = :number, key = ARRAY[:'bad'], sqlstate, message, attempts FROM backfill_errors WHERE run_id = :run;
SELECT status, progress, rows_scanned, rows_affected, errors, workers FROM backfill_runs WHERE id = :run;

--
-- The rows, for who wants nothing else
--
CREATE PROCEDURE claim_rows(run bigint, INOUT rows jsonb DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '1 min';
	c record;
BEGIN
	LOOP
		SELECT * INTO c FROM backfill_claim_rows(run, 'a client');
		EXIT WHEN c.number IS NOT NULL OR clock_timestamp() > deadline;
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
	rows := c.batch;
	PERFORM backfill_complete(run, c.number, c.part, c.token);
END $$;
UPDATE contact SET state = NULL WHERE id IN (3, 5);
SELECT backfill_start('mail', settings => '{"batch_size": 50}') AS run \gset
CALL claim_rows(:run);
SET ROLE regress_claims;
SELECT refused(format($$SELECT * FROM backfill_claim_rows(%s, 'a client')$$, :run));
RESET ROLE;
GRANT SELECT ON contact TO regress_claims;
GRANT CREATE ON SCHEMA claims TO regress_claims;
SET ROLE regress_claims;
SELECT backfill_define('theirs', 'contact', NULL);
RESET ROLE;
CALL reason(:run, '^completed');
SELECT backfill_start('theirs', paused => true) AS theirs \gset
SELECT refused(format($$SELECT * FROM backfill_claim_rows(%s, 'a client')$$, :theirs));
SELECT backfill_stop(:theirs) ~ 'stopped';

--
-- Instead of a batch
--
SELECT backfill_start('mail', paused => true) AS run \gset
CALL reason(:run, '.');
SELECT refused(format($$SELECT backfill_alter(%s, '{"repair": "DELETE FROM batch"}')$$, :run));
SELECT backfill_stop(:run) ~ 'stopped';
CALL reason(:run, '.');
UPDATE contact SET state = NULL;
SELECT backfill_start('mail', settings => '{"max_claims": 1, "on_error": "fail"}') AS run \gset
CALL claim(:run);
CALL reason(:run, 'max_claims');
SELECT backfill_fail(run, number, part, token, 'the service is gone', retryable => false) FROM mine;
CALL reason(:run, '^failed:');
SELECT status, sqlstate, error FROM backfill_runs WHERE id = :run;
-- a run of workers alone is none of clients; one with a statement may be one of both, and is done
-- though no client comes
SELECT backfill_define('workers', 'contact', $$UPDATE batch SET state = 'by a worker'$$);
SELECT backfill_start('workers', paused => true) AS run \gset
SELECT refused(format($$SELECT * FROM backfill_claim(%s, 'a client')$$, :run));
SELECT refused(format($$SELECT backfill_alter(%s, '{"outside": true}')$$, :run));
SELECT backfill_stop(:run) ~ 'stopped';
CREATE PROCEDURE settle(run bigint) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '1 min';
BEGIN
	WHILE EXISTS (SELECT FROM backfill_runs WHERE id = run AND status <> 'completed') AND clock_timestamp() < deadline LOOP
		COMMIT;
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT backfill_start('workers', settings => '{"outside": true, "batch_size": 2, "target_batch_time": 0}', paused => true) AS run \gset
CALL reason(:run, '.');
SELECT backfill_resume(:run) ~ 'goes on';
CALL settle(:run);
SELECT status, rows_affected FROM backfill_runs WHERE id = :run;

SELECT count(*) FROM (SELECT backfill_delete(id) FROM backfill_runs WHERE target = 'contact'::regclass) d;
SELECT count(*) FROM (SELECT backfill_drop(name) FROM backfill_definitions WHERE target = 'contact'::regclass) d;
DROP SCHEMA claims CASCADE;
DROP ROLE regress_claims;
