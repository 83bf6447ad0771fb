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
							settings => jsonb_build_object(name, value));
	RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN false;
END $$;
CREATE FUNCTION as_json(type text, value text) RETURNS jsonb LANGUAGE sql
RETURN CASE WHEN type IN ('integer', 'number') THEN to_jsonb(value::numeric) ELSE to_jsonb(value) END;
SELECT s.name, v.what, v.value
  FROM backfill_settings s, LATERAL (VALUES ('default', "default"), ('min', min_val), ('max', max_val)) v(what, value)
 WHERE v.value IS NOT NULL AND NOT takes(s.name, as_json(s.type, v.value));
SELECT s.name, word FROM backfill_settings s, unnest(enumvals) word WHERE NOT takes(s.name, to_jsonb(word));
-- and what lies beyond the limits is not
SELECT s.name, v.value
  FROM backfill_settings s,
	   LATERAL (VALUES (to_jsonb(min_val::numeric - 1)), (to_jsonb(max_val::numeric + 1))) v(value)
 WHERE s.type IN ('integer', 'number') AND takes(s.name, v.value);
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
			   ('limit', '9223372036854775807'), ('limit', '9223372036854775808')) v(name, value);

DROP TABLE settings_target;
SELECT backfill_drop('settings');
DROP FUNCTION takes, as_json;
