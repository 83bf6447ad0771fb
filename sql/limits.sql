-- What anybody may give has a limit, and an error that names it.
SET client_min_messages = warning;
SET datestyle = ISO;
CREATE TABLE limited (id bigint PRIMARY KEY, n int);

-- texts: what is exactly as long as it may be is taken
SELECT backfill_define('longest', 'limited',
	statement => rpad('UPDATE batch SET n = 1 --', 1048576, 'x'),
	scope => rpad('n IS NULL --', 1048576, 'x'),
	prepare => rpad('SELECT 1 --', 1048576, 'x'),
	finish => rpad('SELECT 1 --', 1048576, 'x'),
	description => repeat('x', 1048576));
SELECT backfill_define('l', 'limited', statement => rpad('UPDATE batch SET n = 1 --', 1048577, 'x'));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1', scope => rpad('n IS NULL --', 1048577, 'x'));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1', prepare => rpad('SELECT 1 --', 1048577, 'x'));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1', finish => rpad('SELECT 1 --', 1048577, 'x'));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1', description => repeat('x', 1048577));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1', key => repeat('x', 1048577));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1', direction => repeat('x', 1048577));
SELECT backfill_define(repeat('x', 1048577), 'limited', 'UPDATE batch SET n = 1');

-- bytes, not characters
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1', description => repeat(chr(233), 524289));

-- the path that names are resolved with
DO $$
BEGIN
	PERFORM set_config('search_path', 'public' || repeat(', public', 150000), true);
	PERFORM backfill_define('l', 'limited', 'UPDATE batch SET n = 1');
EXCEPTION WHEN OTHERS THEN
	RAISE INFO '%', sqlerrm;
END $$;

-- parameters: their declaration, not their values
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	parameters => (SELECT jsonb_object_agg('p' || i, 'int') FROM generate_series(1, 1000) i));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	parameters => (SELECT jsonb_object_agg('p' || i, 'int') FROM generate_series(1, 1001) i));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	parameters => jsonb_build_object('p', jsonb_build_object('type', 'int', 'options', to_jsonb(array_fill(1, ARRAY[1001])))));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	parameters => jsonb_build_object('p', jsonb_build_object('type', 'int', 'description', repeat('x', 1048576))));
SELECT backfill_define('valued', 'limited', 'UPDATE batch SET n = length(params.p)', parameters => '{"p": "text"}');

-- settings
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	settings => jsonb_build_object('probe', rpad('SELECT NULL --', 65600, 'x')));
SELECT backfill_start('longest', start_at => 'tomorrow',
	settings => jsonb_build_object('probe', rpad('SELECT NULL --', 65600, 'x')));
SELECT backfill_start('longest', start_at => 'tomorrow') AS id \gset
SELECT backfill_alter(:id, jsonb_build_object('probe', rpad('SELECT NULL --', 65600, 'x')));

-- not by little and little either
SELECT regexp_replace(backfill_alter(:id, jsonb_build_object('probe', rpad('SELECT NULL --', 60000, 'x'))), '\d+', 'N');
SELECT backfill_alter(:id, jsonb_build_object('windows',
	(SELECT jsonb_agg(jsonb_build_object('days', rpad('mon', 1003, ',mon'), 'closed', true)) FROM generate_series(1, 10))));

-- windows
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	settings => jsonb_build_object('windows', (SELECT jsonb_agg('{"closed": true}'::jsonb) FROM generate_series(1, 100))));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	settings => jsonb_build_object('windows', (SELECT jsonb_agg('{"closed": true}'::jsonb) FROM generate_series(1, 101))));
SELECT * FROM backfill_window((SELECT jsonb_agg('{"closed": true}'::jsonb) FROM generate_series(1, 101)));
SELECT count(*) FROM backfill_window(jsonb_build_array(jsonb_build_object('closed', true,
	'days', (SELECT string_agg((date '2025-01-01' + i)::text, ',') FROM generate_series(1, 366) i))));
SELECT * FROM backfill_window(jsonb_build_array(jsonb_build_object('closed', true,
	'days', (SELECT string_agg((date '2025-01-01' + i)::text, ',') FROM generate_series(1, 367) i))));

-- zones have names; those that POSIX makes up have no end
SELECT * FROM backfill_window('[{"timezone": "CET-1CEST", "closed": true}]');
SELECT * FROM backfill_window('[{"timezone": "Abcdef5", "closed": true}]');

-- runs to wait for
SELECT backfill_start('valued', '{"p": "1"}', '{"share_target": true}', after => array_fill(:id::bigint, ARRAY[1000])) AS waiting \gset
SELECT backfill_start('valued', '{"p": "2"}', '{"share_target": true}', after => array_fill(:id::bigint, ARRAY[1001]));
SELECT backfill_start('valued', '{"p": "2"}', '{"share_target": true}', after => array_fill(:id::bigint, ARRAY[11, 100]));
SELECT backfill_start('valued', '{"p": "2"}', '{"share_target": true}', after => ARRAY[:id, 123456789]);
SELECT backfill_start('valued', '{"p": "2"}', '{"share_target": true}', after => ARRAY[:id, NULL]);

-- what follows
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	followers => (SELECT jsonb_agg('{"name": "valued"}'::jsonb) FROM generate_series(1, 100)));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	followers => (SELECT jsonb_agg('{"name": "valued"}'::jsonb) FROM generate_series(1, 101)));
SELECT backfill_define('l', 'limited', 'UPDATE batch SET n = 1',
	followers => jsonb_build_array(jsonb_build_object('name', 'valued', 'parameters', jsonb_build_object('p', repeat('x', 1048576)))));

-- hooks
DO $$
BEGIN
	FOR i IN 1 .. 101 LOOP
		EXECUTE format('CREATE FUNCTION limited_hook_%s(backfill_event) RETURNS void LANGUAGE sql AS ''''', i);
	END LOOP;
END $$;
SELECT count(backfill_on('after run completed', ('limited_hook_' || i)::regproc, 'valued')) FROM generate_series(1, 100) i;
SELECT backfill_on('after run completed', 'limited_hook_101', 'valued');
SELECT count(backfill_on('after run completed', ('limited_hook_' || i)::regproc)) FROM generate_series(1, 101) i;
SELECT count(backfill_off('after run completed', ('limited_hook_' || i)::regproc, 'valued')) FROM generate_series(1, 100) i;

SELECT count(*) >= 2 FROM backfill_stop_all();
SELECT count(backfill_drop(name)) FROM unnest('{longest, l, valued}'::text[]) name;
DROP TABLE limited;
