-- The SQL interface: what is there, of which types, with which defaults, and
-- who may use it.
BEGIN;
SELECT * FROM no_plan();

SELECT has_extension('backfill');
SELECT has_schema('backfill');

-- functions
SELECT has_function('public', name, args, name || ' takes ' || array_to_string(args, ', '))
  FROM (VALUES
	('backfill_define'::name, ARRAY['text', 'regclass', 'text', 'text', 'text', 'text', 'jsonb', 'jsonb', 'text', 'text', 'jsonb', 'text', 'boolean', 'text', 'text', 'text', 'boolean']::name[]),
	('backfill_drop', ARRAY['text']), ('backfill_start', ARRAY['text', 'jsonb', 'jsonb', 'timestamptz', 'bigint[]', 'regclass', 'boolean']),
	('backfill_pause', ARRAY['bigint', 'text']), ('backfill_resume', ARRAY['bigint', 'text']), ('backfill_stop', ARRAY['bigint', 'boolean', 'text']),
	('backfill_replace', ARRAY['bigint']), ('backfill_replace', ARRAY['text']), ('backfill_stop_all', ARRAY['boolean']), ('backfill_alter', ARRAY['bigint', 'jsonb', 'text']), ('backfill_retry', ARRAY['bigint']), ('backfill_delete', ARRAY['bigint']),
	('backfill_verify', ARRAY['bigint']),
	('backfill_pause', ARRAY['text', 'text']), ('backfill_resume', ARRAY['text', 'text']), ('backfill_stop', ARRAY['text', 'boolean', 'text']), ('backfill_alter', ARRAY['text', 'jsonb', 'text']),
	('backfill_retry', ARRAY['text']), ('backfill_delete', ARRAY['text']), ('backfill_verify', ARRAY['text']), ('backfill_explain', ARRAY['text', 'jsonb', 'boolean', 'text', 'regclass']), ('backfill_preview', ARRAY['text', 'jsonb', 'integer', 'regclass']),
	('backfill_on', ARRAY['text', 'regproc', 'text']), ('backfill_off', ARRAY['text', 'regproc', 'text']), ('backfill_off', ARRAY['text', 'text', 'text']), ('backfill_yield', ARRAY[]::name[]),
	('backfill_window', ARRAY['jsonb', 'timestamptz']), ('backfill_report', ARRAY['bigint', 'text']), ('backfill_report', ARRAY['text', 'text']),
	('backfill_claim', ARRAY['bigint', 'text', 'interval', 'integer']), ('backfill_claim', ARRAY['bigint', 'text', 'text', 'integer']), ('backfill_claim_rows', ARRAY['bigint', 'text', 'text', 'integer']),
	('backfill_extend', ARRAY['bigint', 'bigint', 'integer', 'text', 'interval']), ('backfill_complete', ARRAY['bigint', 'bigint', 'integer', 'text', 'bigint']), ('backfill_fail', ARRAY['bigint', 'bigint', 'integer', 'text', 'text', 'text', 'boolean', 'text[]', 'interval']), ('backfill_put', ARRAY['bigint', 'text', 'text', 'jsonb', 'jsonb']),
	('backfill_schedule', ARRAY['text', 'text', 'jsonb', 'jsonb', 'regclass']), ('backfill_unschedule', ARRAY['text', 'text']), ('backfill_start_scheduled', ARRAY['text', 'jsonb', 'jsonb', 'text', 'regclass'])) v(name, args);
SELECT function_returns('public', 'backfill_' || f, ARRAY[t]::name[] || more, CASE f WHEN 'verify' THEN 'bigint' ELSE 'text' END, format('backfill_%s of a %s returns what it says', f, t))
  FROM (VALUES ('pause', '{text}'::name[]), ('resume', '{text}'), ('stop', '{boolean,text}'), ('alter', '{jsonb,text}'), ('retry', '{}'), ('replace', '{}'), ('delete', '{}'), ('verify', '{}')) v(f, more), (VALUES ('bigint'), ('text')) u(t);
SELECT function_returns('public', name, type, name || ' returns ' || type)
  FROM (VALUES ('backfill_define'::name, 'void'), ('backfill_drop', 'text'), ('backfill_start', 'bigint'),
	('backfill_stop_all', 'setof text'), ('backfill_explain', 'setof text'), ('backfill_report', 'setof text'), ('backfill_preview', 'setof record'),
	('backfill_on', 'void'), ('backfill_off', 'void'), ('backfill_yield', 'void'), ('backfill_window', 'setof record'),
	('backfill_schedule', 'bigint'), ('backfill_unschedule', 'boolean'), ('backfill_start_scheduled', 'bigint'),
	('backfill_claim', 'setof record'), ('backfill_claim_rows', 'setof record'), ('backfill_extend', 'timestamp with time zone'), ('backfill_complete', 'void'), ('backfill_fail', 'void'), ('backfill_put', 'void')) v(name, type);
SELECT is_procedure('public', 'backfill_wait', args::name[], 'backfill_wait is a procedure') FROM (VALUES (ARRAY['bigint', 'interval', 'interval', 'text']), (ARRAY['text', 'interval', 'interval', 'text']), (ARRAY['interval', 'interval', 'text'])) v(args);
SELECT is(pg_get_function_arguments(p::regprocedure), arguments, format('arguments and defaults of %s', p))
  FROM (VALUES
	('backfill_define(text,regclass,text,text,text,text,jsonb,jsonb,text,text,jsonb,text,boolean,text,text,text,boolean)', 'name text, target regclass, statement text, scope text DEFAULT NULL::text, key text DEFAULT NULL::text, direction text DEFAULT NULL::text, parameters jsonb DEFAULT NULL::jsonb, settings jsonb DEFAULT NULL::jsonb, description text DEFAULT NULL::text, finish text DEFAULT NULL::text, followers jsonb DEFAULT NULL::jsonb, prepare text DEFAULT NULL::text, generic boolean DEFAULT false, streams text DEFAULT NULL::text, source text DEFAULT NULL::text, source_check text DEFAULT NULL::text, check_now boolean DEFAULT false'),
	('backfill_drop(text)', 'name text'),
	('backfill_start(text,jsonb,jsonb,timestamptz,bigint[],regclass,boolean)', 'name text, parameters jsonb DEFAULT NULL::jsonb, settings jsonb DEFAULT NULL::jsonb, start_at timestamp with time zone DEFAULT NULL::timestamp with time zone, after bigint[] DEFAULT NULL::bigint[], target regclass DEFAULT NULL::regclass, paused boolean DEFAULT false'),
	('backfill_pause(bigint,text)', 'id bigint, stream text DEFAULT NULL::text'), ('backfill_resume(bigint,text)', 'id bigint, stream text DEFAULT NULL::text'),
	('backfill_stop(bigint,boolean,text)', 'id bigint, immediate boolean DEFAULT false, stream text DEFAULT NULL::text'),
	('backfill_stop_all(boolean)', 'immediate boolean DEFAULT false'),
	('backfill_alter(bigint,jsonb,text)', 'id bigint, settings jsonb DEFAULT NULL::jsonb, finish text DEFAULT NULL::text'), ('backfill_retry(bigint)', 'id bigint'), ('backfill_delete(bigint)', 'id bigint'),
	('backfill_verify(bigint)', 'id bigint'), ('backfill_replace(bigint)', 'id bigint'), ('backfill_replace(text)', 'name text'),
	('backfill_pause(text,text)', 'name text, stream text DEFAULT NULL::text'), ('backfill_resume(text,text)', 'name text, stream text DEFAULT NULL::text'), ('backfill_stop(text,boolean,text)', 'name text, immediate boolean DEFAULT false, stream text DEFAULT NULL::text'),
	('backfill_alter(text,jsonb,text)', 'name text, settings jsonb DEFAULT NULL::jsonb, finish text DEFAULT NULL::text'), ('backfill_retry(text)', 'name text'), ('backfill_delete(text)', 'name text'),
	('backfill_verify(text)', 'name text'),
	('backfill_explain(text,jsonb,boolean,text,regclass)', 'name text, parameters jsonb DEFAULT NULL::jsonb, measure boolean DEFAULT false, format text DEFAULT ''text''::text, target regclass DEFAULT NULL::regclass'),
	('backfill_preview(text,jsonb,integer,regclass)', 'name text, parameters jsonb DEFAULT NULL::jsonb, rows integer DEFAULT 5, target regclass DEFAULT NULL::regclass'),
	('backfill_on(text,regproc,text)', 'event text, hook regproc, name text DEFAULT NULL::text'),
	('backfill_off(text,regproc,text)', 'event text, hook regproc, name text DEFAULT NULL::text'),
	('backfill_off(text,text,text)', 'event text, hook text, name text DEFAULT NULL::text'),
	('backfill_yield()', ''),
	('backfill_extend(bigint,bigint,integer,text,interval)', 'run_id bigint, number bigint, part integer, token text, lease interval DEFAULT NULL::interval'),
	('backfill_complete(bigint,bigint,integer,text,bigint)', 'run_id bigint, number bigint, part integer, token text, rows bigint DEFAULT NULL::bigint'),
	('backfill_fail(bigint,bigint,integer,text,text,text,boolean,text[],interval)', 'run_id bigint, number bigint, part integer, token text, message text, sqlstate text DEFAULT NULL::text, retryable boolean DEFAULT NULL::boolean, key text[] DEFAULT NULL::text[], retry_after interval DEFAULT NULL::interval'),
	('backfill_put(bigint,text,text,jsonb,jsonb)', 'run_id bigint, stream text, token text, records jsonb, next_token jsonb'),
	('backfill_window(jsonb,timestamptz)', 'windows jsonb, at timestamp with time zone DEFAULT now()'),
	('backfill_schedule(text,text,jsonb,jsonb,regclass)', 'name text, cron text, parameters jsonb DEFAULT NULL::jsonb, settings jsonb DEFAULT NULL::jsonb, target regclass DEFAULT NULL::regclass'),
	('backfill_unschedule(text,text)', 'name text, target text DEFAULT NULL::text'),
	('backfill_start_scheduled(text,jsonb,jsonb,text,regclass)', 'name text, parameters jsonb DEFAULT NULL::jsonb, settings jsonb DEFAULT NULL::jsonb, owner text DEFAULT NULL::text, target regclass DEFAULT NULL::regclass')) v(p, arguments);
SELECT is_procedure('public', 'backfill_require', ARRAY['text', 'jsonb', 'boolean', 'interval', 'interval', 'regclass']::name[], 'backfill_require is a procedure');
-- the server prints IN before the arguments of a procedure
SELECT is(replace(pg_get_function_arguments('backfill_require(text,jsonb,boolean,interval,interval,regclass)'::regprocedure), 'IN ', ''),
	$$name text, parameters jsonb DEFAULT NULL::jsonb, finish boolean DEFAULT false, timeout interval DEFAULT NULL::interval, every interval DEFAULT '00:00:01'::interval, target regclass DEFAULT NULL::regclass$$, 'arguments and defaults of backfill_require');
SELECT is(replace(pg_get_function_arguments(format('backfill_wait(%sinterval,interval,text)', types)::regprocedure), 'IN ', ''),
	names || $$timeout interval DEFAULT NULL::interval, every interval DEFAULT '00:00:01'::interval, style text DEFAULT 'line'::text$$, format('arguments and defaults of backfill_wait(%s...)', types))
  FROM (VALUES ('bigint,', 'id bigint, '), ('text,', 'name text, '), ('', '')) v(types, names);
SELECT is(split_part(pg_get_function_arguments(p::regprocedure), ', OUT ', 1), arguments, format('arguments and defaults of %s', p))
  FROM (VALUES
	('backfill_claim(bigint,text,interval,integer)', 'run_id bigint, worker text, lease interval DEFAULT ''00:01:00''::interval, batches integer DEFAULT 1'),
	('backfill_claim(bigint,text,text,integer)', 'run_id bigint, worker text, lease text, batches integer DEFAULT 1'),
	('backfill_claim_rows(bigint,text,text,integer)', 'run_id bigint, worker text, lease text DEFAULT ''1 min''::text, batches integer DEFAULT 1')) v(p, arguments);
SELECT is(provolatile::text, CASE proname WHEN 'backfill_window' THEN 's' ELSE 'v' END, proname || ' is volatile, if it does more than compute') FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'backfill\_%' AND prokind = 'f' ORDER BY proname;
SELECT is(prosecdef, false, proname || ' is no security definer') FROM pg_proc JOIN pg_depend ON objid = pg_proc.oid AND classid = 'pg_proc'::regclass AND deptype = 'e'
 WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'backfill') ORDER BY proname;

-- views
SELECT views_are('public', ARRAY(SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgtap') WHERE c.relkind = 'v')
	|| ARRAY['backfill_definitions', 'backfill_runs', 'backfill_active', 'backfill_batches', 'backfill_errors', 'backfill_workers', 'backfill_settings', 'backfill_events', 'backfill_hooks', 'backfill_shares', 'backfill_streams', 'backfill_unconfirmed', 'backfill_metrics', 'pg_stat_progress_backfill']::name[], 'the views in the schema of the extension');
SELECT has_column('public', view, "column"::name, format('%s has %s', view, "column"))
  FROM (VALUES ('backfill_definitions'::name, ARRAY['name', 'owner', 'target', 'generic', 'streams', 'statement', 'scope', 'key', 'parameters', 'settings', 'search_path', 'description', 'prepare', 'finish', 'followers', 'created_at', 'updated_at']),
	('backfill_runs', ARRAY['id', 'name', 'status', 'owner', 'started_by', 'rows_total', 'rows_scanned', 'rows_affected', 'batches', 'progress', 'rows_per_second', 'eta', 'workers', 'wait_reason', 'error', 'parameters', 'settings', 'prepare', 'finish', 'rows_remaining', 'followers', 'after', 'created_at', 'start_at', 'since', 'until', 'started_at', 'finished_at',
		'throttled_by', 'throttled_since', 'throttle_times', 'worker_times', 'yields', 'batch_size']),
	('pg_stat_progress_backfill', ARRAY['pid', 'datid', 'datname', 'relid', 'command', 'phase', 'tuples_total', 'tuples_done', 'tuples_skipped', 'batches_done', 'workers', 'run_id', 'name']),
	('backfill_active', ARRAY['id', 'name', 'target', 'status', 'progress', 'rate', 'eta', 'held_by']),
	('backfill_events', ARRAY['id', 'at', 'run_id', 'name', 'kind', 'previous_status', 'status', 'stream', 'number', 'part', 'role', 'sqlstate', 'reason']),
	('backfill_hooks', ARRAY['phase', 'object', 'status', 'hook', 'name', 'created_by', 'created_at']),
	('backfill_batches', ARRAY['run_id', 'stream', 'number', 'part', 'key_range', 'status', 'skipped', 'attempt', 'crashes', 'retry_at', 'error', 'rows_scanned', 'rows_affected', 'duration', 'cpu_time', 'lock_wait', 'wal_bytes', 'full_pages', 'blocks_read', 'rows_updated', 'hot_updated', 'worker', 'client', 'claimed_by', 'claimed_at', 'lease_until']),
	('backfill_errors', ARRAY['run_id', 'stream', 'number', 'part', 'key', 'sqlstate', 'message', 'attempts', 'resolved_at']),
	('backfill_workers', ARRAY['pid', 'run_id', 'stream', 'owner', 'state', 'batch', 'client', 'role', 'application_name', 'client_addr', 'batches_out', 'lease_until']),
	('backfill_unconfirmed', ARRAY['run_id', 'name', 'key', 'number', 'part', 'client', 'claimed_by', 'claimed_at']),
	('backfill_shares', ARRAY['run_id', 'name', 'value', 'rows', 'cut', 'start_key', 'end_key', 'last_key']),
	('backfill_streams', ARRAY['run_id', 'definition', 'name', 'target', 'status', 'progress', 'rows_scanned', 'rows_total', 'rows_affected', 'batches', 'wal_bytes', 'cursor', 'workers', 'eta', 'wait_reason', 'error', 'sqlstate', 'weight', 'bounds', 'since', 'until', 'started_at', 'finished_at']),
	('backfill_metrics', ARRAY['name', 'type', 'help', 'labels', 'value']),
	('backfill_settings', ARRAY['name', 'type', 'default', 'min_val', 'max_val', 'enumvals', 'description'])) v(view, columns), unnest(columns) "column";
SELECT col_type_is('public', view, "column", type, format('%s.%s is %s', view, "column", type))
  FROM (VALUES ('backfill_runs'::name, 'id'::name, 'bigint'), ('backfill_runs', 'rows_total', 'bigint'), ('backfill_runs', 'rows_scanned', 'bigint'), ('backfill_runs', 'rows_affected', 'bigint'),
	('backfill_runs', 'batches', 'bigint'), ('backfill_runs', 'progress', 'numeric(5,2)'), ('backfill_runs', 'rows_per_second', 'double precision'), ('backfill_runs', 'eta', 'interval'),
	('backfill_runs', 'workers', 'integer'), ('backfill_runs', 'status', 'text'), ('backfill_runs', 'owner', 'regrole'), ('backfill_runs', 'started_at', 'timestamp with time zone'),
	('backfill_batches', 'run_id', 'bigint'), ('backfill_batches', 'duration', 'interval'), ('backfill_batches', 'wal_bytes', 'bigint'), ('backfill_definitions', 'settings', 'jsonb'), ('backfill_definitions', 'parameters', 'jsonb'),
	('backfill_runs', 'parameters', 'jsonb'), ('backfill_runs', 'rows_remaining', 'bigint'), ('backfill_runs', 'since', 'timestamp with time zone'),
	('backfill_runs', 'throttled_by', 'text'), ('backfill_runs', 'throttled_since', 'timestamp with time zone'), ('backfill_runs', 'throttle_times', 'jsonb'), ('backfill_runs', 'yields', 'bigint'), ('backfill_runs', 'batch_size', 'bigint'),
	('backfill_batches', 'retry_at', 'timestamp with time zone'), ('backfill_events', 'at', 'timestamp with time zone'), ('backfill_events', 'run_id', 'bigint'), ('backfill_hooks', 'hook', 'text'),
	('backfill_definitions', 'target', 'regclass'), ('backfill_definitions', 'generic', 'boolean'), ('backfill_workers', 'pid', 'integer'), ('backfill_settings', 'enumvals', 'text[]'),
	('backfill_streams', 'run_id', 'bigint'), ('backfill_streams', 'target', 'regclass'), ('backfill_streams', 'progress', 'numeric(5,2)'), ('backfill_streams', 'cursor', 'jsonb'), ('backfill_streams', 'workers', 'integer'), ('backfill_streams', 'eta', 'interval'),
	('backfill_metrics', 'name', 'text'), ('backfill_metrics', 'type', 'text'), ('backfill_metrics', 'help', 'text'), ('backfill_metrics', 'labels', 'jsonb'), ('backfill_metrics', 'value', 'double precision')) v(view, "column", type);

-- the composite that hooks are given
SELECT has_composite('public', 'backfill_event', 'the composite type backfill_event');
SELECT results_eq($$SELECT attname::text COLLATE "default" || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'backfill_event'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum$$,
	ARRAY['phase text', 'object text', 'status text', 'previous_status text', 'run_id bigint', 'name text', 'batch bigint', 'key_range text', 'rows bigint', 'error text', 'parameters jsonb', 'stream text'],
	'what an event tells');

-- rights: everybody reads the views and calls the functions; nobody else has any on the tables
CREATE ROLE regress_tap_user LOGIN;
SELECT table_privs_are('public', view, 'regress_tap_user', ARRAY['SELECT'], 'everybody may read ' || view || ' and not write it')
  FROM unnest(ARRAY['backfill_definitions', 'backfill_runs', 'backfill_active', 'backfill_batches', 'backfill_errors', 'backfill_workers', 'backfill_settings', 'backfill_events', 'backfill_hooks', 'backfill_shares', 'backfill_streams', 'backfill_unconfirmed', 'backfill_metrics', 'pg_stat_progress_backfill']::name[]) view;
SELECT schema_privs_are('backfill', 'regress_tap_user', ARRAY[]::text[], 'nobody else may look into the schema backfill');
SELECT table_privs_are('backfill', relname, 'regress_tap_user', ARRAY[]::text[], 'nobody else has a right on backfill.' || relname)
  FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind IN ('r', 'v') ORDER BY relname;
SELECT ok(NOT has_sequence_privilege('regress_tap_user', c.oid, 'USAGE, SELECT, UPDATE'), 'nor on backfill.' || relname)
  FROM pg_class c WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'S';
SELECT ok(has_function_privilege('regress_tap_user', oid, 'EXECUTE'), 'everybody may call ' || proname) FROM pg_proc
 WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'backfill\_%' ORDER BY proname;
SET ROLE regress_tap_user;
SELECT throws_ok('SELECT * FROM backfill.run', '42501', NULL, 'the tables cannot be read');
SELECT lives_ok('SELECT count(*) FROM ' || v, 'a role without rights reads ' || v) FROM unnest(ARRAY['backfill_definitions', 'backfill_runs', 'backfill_active', 'backfill_batches', 'backfill_errors', 'backfill_workers', 'backfill_settings', 'backfill_events', 'backfill_hooks', 'backfill_shares', 'backfill_streams', 'backfill_unconfirmed', 'backfill_metrics', 'pg_stat_progress_backfill']) v;
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
