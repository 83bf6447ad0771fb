-- The vocabulary of settings.
SELECT name, type, "default", min_val, max_val, enumvals FROM backfill_settings;
\pset format unaligned
SELECT name, description FROM backfill_settings;
\pset format aligned

-- what the view says is what the functions take: every default and both limits are accepted
CREATE TABLE settings_target (id int PRIMARY KEY);
CREATE FUNCTION takes(name text, value jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM backfill_define('settings', 'settings_target', 'DELETE FROM batch',
							settings => jsonb_build_object('min_batch_size', 1, 'max_batch_size', 10000000) || jsonb_build_object(name, value));
	RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN false;
END $$;
CREATE FUNCTION as_json(type text, value text) RETURNS jsonb LANGUAGE sql
RETURN CASE WHEN type IN ('integer', 'number', 'bytes') THEN to_jsonb(value::numeric) ELSE to_jsonb(value) END;
SELECT s.name, v.what, v.value
  FROM backfill_settings s, LATERAL (VALUES ('default', "default"), ('min', min_val), ('max', max_val)) v(what, value)
 WHERE v.value IS NOT NULL AND NOT takes(s.name, as_json(s.type, v.value));
SELECT s.name, word FROM backfill_settings s, unnest(enumvals) word WHERE NOT takes(s.name, to_jsonb(word));
-- and what lies beyond the limits is not
SELECT s.name, v.value
  FROM backfill_settings s,
	   LATERAL (VALUES (to_jsonb(min_val::numeric - 1)), (to_jsonb(max_val::numeric + 1))) v(value)
 WHERE s.type IN ('integer', 'number', 'bytes') AND takes(s.name, v.value);
SELECT s.name, v.value
  FROM backfill_settings s,
	   LATERAL (VALUES (to_jsonb((min_val::interval - interval '1 ms')::text)), (to_jsonb((max_val::interval + interval '1 ms')::text))) v(value)
 WHERE s.type = 'interval' AND takes(s.name, v.value);

-- the ways to write a value
SELECT v.name, v.value, takes(v.name, v.value)
  FROM (VALUES ('batch_size', '1e3'::jsonb), ('batch_size', '1000.0'), ('batch_size', '1000.5'), ('batch_size', '"1000"'),
			   ('sleep', '0'), ('sleep', '"0"'), ('sleep', '"off"'), ('sleep', '"10ms"'), ('sleep', '"1.5 s"'), ('sleep', '"1 min 30 s"'),
			   ('sleep', '"1 day"'), ('sleep', '"00:00:01"'), ('sleep', '"P1D"'), ('sleep', '10'), ('sleep', '"10"'), ('sleep', '"-1 ms"'),
			   ('sleep', '"0.4 ms"'),
			   ('direction', '"DESC"'), ('direction', '"down"'),
			   ('synchronous_commit', 'true'), ('synchronous_commit', 'false'), ('synchronous_commit', '"ON"'),
			   ('from', '1'), ('from', '[1]'), ('from', '"1"'), ('from', 'null'),
			   ('limit', '9223372036854775807'), ('limit', '9223372036854775808'),
			   ('workers', '"auto"'), ('workers', '"AUTO"'), ('workers', '"2"'),
			   ('preset', '"POLITE"'), ('preset', '"slow"'), ('pause_for_maintenance', 'true'), ('pause_for_maintenance', '"on"'), ('pause_for_maintenance', '1'),
			   ('target_batch_time', '0'), ('target_batch_time', '"off"'), ('target_batch_time', '250'), ('yield_after', '"off"'), ('probe_timeout', '"off"'), ('max_replica_lag', '"off"'),
			   ('max_slot_retained', '67108864'), ('max_slot_retained', '"67108864"'), ('max_slot_retained', '"64MB"'), ('max_slot_retained', '" 1.5 gb "'),
			   ('max_slot_retained', '1.5'), ('max_slot_retained', '"-1MB"'), ('max_slot_retained', '"64 megabytes"'), ('max_slot_retained', '""'), ('max_slot_retained', '"9999999 TB"'), ('max_slot_retained', 'true'),
			   ('rate_limit', '"3000 per 5 min"'), ('rate_limit', '"200 per second"'), ('rate_limit', '"200 per 1 second"'), ('rate_limit', '"200/s"'), ('rate_limit', '" 200 / 00:00:01 "'), ('rate_limit', '"1 per 100ms"'), ('rate_limit', '"1 per 31 d"'),
			   ('rate_limit', '200'), ('rate_limit', '5000'), ('rate_limit', '-5'), ('rate_limit', '1.5'), ('rate_limit', '"200"'), ('rate_limit', '"200 per"'), ('rate_limit', '"per second"'), ('rate_limit', '"/s"'), ('rate_limit', '"0 per second"'), ('rate_limit', '"-5 per second"'), ('rate_limit', '"1.5 per second"'), ('rate_limit', '"200 per 5"'),
			   ('rate_limit', '"200 per -5 s"'), ('rate_limit', '"200 per fortnight"'), ('rate_limit', '"1 per 99ms"'), ('rate_limit', '"1 per 32 d"'), ('rate_limit', '"20MB per second"'), ('rate_limit', '"99999999999999999999 per second"'), ('rate_limit', '["200/s"]'), ('rate_limit', '""'),
			   ('wal_rate_limit', '1048576'), ('wal_rate_limit', '"20MB per second"'), ('wal_rate_limit', '"20 MB/s"'), ('wal_rate_limit', '"20000000 per minute"'), ('wal_rate_limit', '"20 per"'), ('wal_rate_limit', '"MB per second"'), ('wal_rate_limit', '"0MB per second"'),
			   ('set', '{}'), ('set', '{"work_mem": "8MB"}'), ('set', '{"work_mem": 8192}'), ('set', '{"WORK_MEM": "8MB", "jit": true, "random_page_cost": 1.5, "app.tenant": "acme"}'), ('set', 'null'),
			   ('set', '[]'), ('set', '"work_mem"'), ('set', '{"work_mem": null}'), ('set', '{"work_mem": "1 acre"}'), ('set', '{"work_mem": ["8MB"]}'), ('set', '{"work_mem": "8MB", "Work_Mem": "9MB"}'), ('set', '{"search_path": "public"}'),
			   ('windows', '[]'), ('windows', '[{"closed": true}]'), ('windows', '[{"from": "22:00", "to": "06:00", "settings": {"nice": 0, "workers": "auto", "preset": "polite"}}]'), ('windows', '{"closed": true}'), ('windows', '"closed"'), ('windows', '[1]'), ('windows', '[{}]'),
			   ('windows', '[{"settings": {"nice": -1}}]'), ('windows', '[{"settings": {"sleep": 10}}]'), ('windows', '[{"settings": {"windows": []}}]'), ('windows', '[{"settings": {"probe": "SELECT 1"}}]'), ('windows', '[{"settings": {"set": {"work_mem": "8MB"}}}]'), ('windows', '[{"settings": {"direction": "desc"}}]'),
			   ('probe', '"SELECT 1"'), ('probe', '"SELECT null;"'), ('probe', '""'), ('probe', '"SELECT 1; SELECT 2"'), ('probe', '"-- nothing"'), ('probe', '1')) v(name, value);

DROP TABLE settings_target;
SELECT backfill_drop('settings');
DROP FUNCTION takes, as_json;
