-- Windows: which one is in force, and until when.
SET timezone = 'UTC';
SET datestyle = 'ISO';

-- what comes into force when, on the clocks of a zone
CREATE FUNCTION calendar(windows jsonb, zone text, start timestamp, finish timestamp)
RETURNS TABLE (at timestamptz, clock timestamp, day text, number int) LANGUAGE sql AS $$
WITH RECURSIVE c AS (
	SELECT start AT TIME ZONE zone AS at, w.number, w.until
	  FROM backfill_window(windows, start AT TIME ZONE zone) w
	UNION ALL
	SELECT c.until, w.number, w.until
	  FROM c, backfill_window(windows, c.until) w WHERE c.until < finish AT TIME ZONE zone)
SELECT c.at, c.at AT TIME ZONE zone, to_char(c.at AT TIME ZONE zone, 'Dy'), c.number FROM c ORDER BY c.at
$$;

-- the result
SELECT * FROM backfill_window('[{"settings": {"workers": 4}}]', '2025-01-01');
SELECT * FROM backfill_window('[{"closed": true}]', '2025-01-01');
SELECT * FROM backfill_window('[{"closed": true, "days": "2025-01-02", "timezone": "UTC"}]', '2025-01-01');
SELECT * FROM backfill_window('[{"closed": false, "settings": {}}]', '2025-01-01');
SELECT * FROM backfill_window('[{"closed": "yes", "settings": null, "days": null, "from": null, "to": null, "timezone": null}]', '2025-01-01');
SELECT * FROM backfill_window('[]', '2025-01-01');
SELECT * FROM backfill_window(NULL, '2025-01-01');
SELECT w = backfill_window('[{"closed": true, "from": "08:00", "to": "20:00"}]', now())
  FROM backfill_window('[{"closed": true, "from": "08:00", "to": "20:00"}]') w;

-- over midnight: it belongs to the day it begins on
SELECT * FROM calendar('[{"days": "mon,fri", "from": "22:00", "to": "06:00", "timezone": "Europe/Berlin", "closed": true}]',
	'Europe/Berlin', '2025-06-01', '2025-06-08');
-- to the microsecond
SELECT at, number, until
  FROM unnest('{2025-06-02 19:59:59.999999, 2025-06-02 20:00:00, 2025-06-03 03:59:59.999999, 2025-06-03 04:00:00}'::timestamptz[]) at,
	   backfill_window('[{"days": "mon", "from": "22:00", "to": "06:00", "timezone": "Europe/Berlin", "closed": true}]', at);
-- 24 hours from a time on; the end of a day can be written in two ways
SELECT * FROM calendar('[{"days": "sat", "from": "18:30", "to": "18:30", "timezone": "UTC", "closed": true}]', 'UTC', '2025-06-01', '2025-06-08');
SELECT a.*, to_jsonb(a) = to_jsonb(b) AND to_jsonb(b) = to_jsonb(c) AS same
  FROM calendar('[{"days": "sat", "from": "20:00", "to": "24:00", "timezone": "UTC", "closed": true}]', 'UTC', '2025-06-01', '2025-06-10') a
  JOIN calendar('[{"days": "sat", "from": "20:00", "to": "00:00", "timezone": "UTC", "closed": true}]', 'UTC', '2025-06-01', '2025-06-10') b USING (at)
  JOIN calendar('[{"days": "sat", "from": "20:00:00", "timezone": "UTC", "closed": true}]', 'UTC', '2025-06-01', '2025-06-10') c USING (at);
SELECT * FROM calendar('[{"days": "sat", "from": "0:00", "to": "0:00", "timezone": "UTC", "closed": true}]', 'UTC', '2025-06-01', '2025-06-08');
SELECT * FROM backfill_window('[{"from": "09:00", "to": "09:00", "timezone": "Europe/Berlin", "closed": true}]', '2025-06-01');
SELECT * FROM calendar('[{"days": "wed", "from": "09:00:01", "to": "9:00:02", "timezone": "UTC", "closed": true}]', 'UTC', '2025-06-01', '2025-06-08');

-- days: the ways to write them
CREATE FUNCTION days_of(days jsonb) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(to_char(day, 'Dy DD.MM.'), ', ' ORDER BY day)
  FROM generate_series(timestamptz '2025-06-02', '2025-06-08', '1 day') day,
	   backfill_window(jsonb_build_array(jsonb_build_object('days', days, 'closed', true, 'timezone', 'UTC')), day)
 WHERE number = 1 $$;
SELECT days, days_of(days)
  FROM unnest(ARRAY['"mon-fri"', '"sat,sun"', '["mon", "wed-fri"]', '"fri-mon"', '"sun"', '"sun-sat"', '"mon-sun"', '"mon-mon"',
	'" Mon , WED - thu "', '"2025-06-04"', '"2025-05-01/2025-06-03"', '["2025-06-07/2025-07-02", "tue"]', '"mon,2025-06-04, 2025-06-06 / 2025-06-06"',
	'["2025-07-01"]']::jsonb[]) days;
-- dates, and a range over new year
SELECT * FROM calendar('[{"days": "2024-12-20/2025-01-02", "timezone": "America/New_York", "closed": true}]',
	'America/New_York', '2024-12-01', '2025-02-01');
SELECT * FROM calendar('[{"days": ["2024-12-24", "2024-12-31"], "from": "14:00", "to": "06:00", "timezone": "Europe/Berlin", "closed": true}]',
	'Europe/Berlin', '2024-12-01', '2025-02-01');
SELECT * FROM calendar('[{"days": "2024-02-29", "timezone": "UTC", "closed": true}]', 'UTC', '2024-02-01', '2024-04-01');

-- the first that matches wins; one that comes later does not end it, one that comes first does
SELECT * FROM calendar('[{"days": "2025-06-04", "timezone": "UTC", "closed": true},
						 {"days": "mon-fri", "from": "08:00", "to": "18:00", "timezone": "UTC", "settings": {"workers": 1}},
						 {"from": "12:00", "to": "22:00", "timezone": "UTC", "settings": {"workers": 4}}]', 'UTC', '2025-06-03', '2025-06-05');
SELECT * FROM calendar('[{"from": "12:00", "to": "13:00", "timezone": "UTC", "closed": true}, {"timezone": "UTC", "settings": {}}]', 'UTC', '2025-06-03', '2025-06-04');
-- windows that meet are two
SELECT * FROM calendar('[{"from": "12:00", "to": "18:00", "timezone": "UTC", "closed": true}, {"from": "18:00", "to": "12:00", "timezone": "UTC", "settings": {}}]', 'UTC', '2025-06-03 12:00', '2025-06-05');
-- each in its own zone
SELECT * FROM calendar('[{"from": "09:00", "to": "17:00", "timezone": "Asia/Tokyo", "closed": true},
						 {"from": "09:00", "to": "17:00", "timezone": "Europe/London", "closed": true},
						 {"from": "09:00", "to": "17:00", "timezone": "America/New_York", "closed": true}]', 'UTC', '2025-06-03', '2025-06-04');

-- never is: not in the next 366 days
SELECT at, w.* FROM unnest('{2024-12-31 23:59:59, 2025-01-01 00:00:00, 2026-01-01 00:00:00, 2026-01-02 00:00:00, 2026-01-03 00:00:00}'::timestamptz[]) at,
	backfill_window('[{"days": "2026-01-02", "timezone": "UTC", "closed": true}]', at) w;
-- the ends of time
SELECT at, w.* FROM unnest('{4714-11-24 00:00:00 BC, 294276-12-31 12:00:00, 294276-12-31 23:59:59.999999}'::timestamptz[]) at,
	backfill_window('[{"from": "18:00", "to": "06:00", "timezone": "Asia/Kathmandu", "closed": true}]', at) w;
SELECT w.* FROM backfill_window('[{"from": "18:00", "to": "06:00", "timezone": "Europe/Berlin", "closed": true}]', '294276-12-31 23:59:59.999999') w;

-- daylight saving: the clock on the wall decides
-- two hours long in the spring, four in the autumn
SELECT number, at, clock, lead(at) OVER (ORDER BY at) - at AS lasts
  FROM calendar('[{"from": "01:00", "to": "04:00", "timezone": "Europe/Berlin", "closed": true}]', 'Europe/Berlin', '2025-03-29', '2025-04-01');
SELECT number, at, clock, lead(at) OVER (ORDER BY at) - at AS lasts
  FROM calendar('[{"from": "01:00", "to": "04:00", "timezone": "Europe/Berlin", "closed": true}]', 'Europe/Berlin', '2025-10-25', '2025-10-28');
-- a night is an hour shorter or longer
SELECT number, at, clock, lead(at) OVER (ORDER BY at) - at AS lasts
  FROM calendar('[{"from": "22:00", "to": "06:00", "timezone": "America/New_York", "closed": true}]', 'America/New_York', '2025-03-08', '2025-03-10');
SELECT number, at, clock, lead(at) OVER (ORDER BY at) - at AS lasts
  FROM calendar('[{"from": "22:00", "to": "06:00", "timezone": "America/New_York", "closed": true}]', 'America/New_York', '2025-11-01', '2025-11-03');
-- so are 24 hours from a time on
SELECT number, at, clock, lead(at) OVER (ORDER BY at) - at AS lasts
  FROM calendar('[{"days": "sat", "from": "12:00", "to": "12:00", "timezone": "Europe/Berlin", "closed": true}]', 'Europe/Berlin', '2025-03-28', '2025-04-02');
-- wholly in the hour that is skipped: it does not occur; in the hour that comes twice: it occurs twice
SELECT number, at, clock
  FROM calendar('[{"from": "02:15", "to": "02:45", "timezone": "Europe/Berlin", "closed": true}]', 'Europe/Berlin', '2025-03-29', '2025-03-31');
SELECT number, at, clock
  FROM calendar('[{"from": "02:15", "to": "02:45", "timezone": "Europe/Berlin", "closed": true}]', 'Europe/Berlin', '2025-10-25', '2025-10-27');
-- begins or ends in the hour that is skipped: cut off; in the hour that comes twice: in two pieces
SELECT number, at, clock
  FROM calendar('[{"from": "02:30", "to": "05:00", "timezone": "America/New_York", "closed": true}]', 'America/New_York', '2025-03-09', '2025-03-10');
SELECT number, at, clock
  FROM calendar('[{"from": "00:30", "to": "02:30", "timezone": "America/New_York", "closed": true}]', 'America/New_York', '2025-03-09', '2025-03-10');
SELECT number, at, clock
  FROM calendar('[{"from": "01:30", "to": "05:00", "timezone": "America/New_York", "closed": true}]', 'America/New_York', '2025-11-02', '2025-11-03');
-- half an hour is skipped, and comes twice
SELECT number, at, clock, lead(at) OVER (ORDER BY at) - at AS lasts
  FROM calendar('[{"from": "01:45", "to": "02:15", "timezone": "Australia/Lord_Howe", "closed": true}]', 'Australia/Lord_Howe', '2025-10-05', '2025-10-06');
SELECT number, at, clock, lead(at) OVER (ORDER BY at) - at AS lasts
  FROM calendar('[{"from": "01:45", "to": "02:15", "timezone": "Australia/Lord_Howe", "closed": true}]', 'Australia/Lord_Howe', '2025-04-06', '2025-04-07');
-- clocks that change at midnight: it is skipped; the hour after it comes twice
SELECT number, at, clock, day
  FROM calendar('[{"days": "sun", "timezone": "America/Havana", "closed": true}]', 'America/Havana', '2025-03-08', '2025-03-11');
SELECT number, at, clock, day
  FROM calendar('[{"days": "sat", "from": "22:00", "to": "00:30", "timezone": "America/Havana", "closed": true}]', 'America/Havana', '2025-11-01', '2025-11-03');
-- a day that a country has left out
SELECT number, at, clock, day
  FROM calendar('[{"days": "fri", "timezone": "Pacific/Apia", "closed": true}, {"days": "2011-12-30", "timezone": "Pacific/Apia", "closed": true},
				  {"days": "sat", "timezone": "Pacific/Apia", "closed": true}]', 'Pacific/Apia', '2011-12-29', '2012-01-02');
-- an odd offset, and no daylight saving
SELECT number, at, clock
  FROM calendar('[{"from": "00:00", "to": "06:00", "timezone": "Asia/Kathmandu", "closed": true}]', 'Asia/Kathmandu', '2025-06-03', '2025-06-05');

-- without a zone it is the server's, whatever the session's is
CREATE FUNCTION in_zone(zone text) RETURNS jsonb LANGUAGE sql SET timezone = 'Pacific/Kiritimati' AS $$
SELECT jsonb_agg(extract(epoch FROM until) ORDER BY at)
  FROM generate_series(timestamptz '2025-06-03 00:00 UTC', '2025-06-04 00:00 UTC', '1 hour') at,
	   backfill_window(jsonb_build_array(jsonb_build_object('from', '08:00', 'to', '20:00', 'closed', true, 'timezone', zone)), at) $$;
SELECT in_zone(NULL) = in_zone(current_setting('log_timezone')) AS "the server's";
ALTER FUNCTION in_zone SET timezone = 'Pacific/Niue';
SELECT in_zone(NULL) = in_zone(current_setting('log_timezone')) AS "the server's";
SELECT in_zone('Pacific/Kiritimati') = in_zone('Pacific/Niue') AS "the same in both";
-- zones as the server's parameters take them
SELECT timezone, until
  FROM unnest('{europe/berlin, UTC, Etc/GMT+5, EST5EDT}'::text[]) timezone,
	   backfill_window(jsonb_build_array(jsonb_build_object('from', '08:00', 'closed', true, 'timezone', timezone)), '2025-06-03');

-- dates are read alike under every DateStyle
SET datestyle = 'German, DMY';
SELECT days_of('"2025-06-07"');
SET datestyle = 'ISO';

-- errors
CREATE FUNCTION error_of(windows jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	PERFORM backfill_window(windows, '2025-01-01');
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	IF state <> '22023' OR message <> 'invalid value for backfill setting "windows"' THEN
		RETURN concat_ws(' ', state, message, detail, hint);
	END IF;
	RETURN concat_ws(E'\n    ', detail, nullif(hint, ''));
END $$;
\pset format unaligned
SELECT windows, error_of(windows)
  FROM unnest(ARRAY['{"closed": true}', '"nights"', '1', 'null', '[1]', '[{"closed": true}, []]', '[{"closed": true}, "mon"]', '[null]',
	'[{}]', '[{"closed": true}, {"days": "mon"}]', '[{"closed": false}]', '[{"settings": null}]', '[{"closed": true, "settings": {}}]',
	'[{"close": true}]', '[{"closed": true, "zone": "UTC"}]', '[{"closed": true, "time": null}]', '[{"closed": true, "workers": 2}]', '[{"From": "08:00", "closed": true}]',
	'[{"closed": 1}]', '[{"closed": "maybe"}]', '[{"settings": 1}]', '[{"settings": []}]', '[{"settings": "{}"}]']::jsonb[]) windows;
SELECT days, error_of(jsonb_build_array(jsonb_build_object('closed', true), jsonb_build_object('closed', true, 'days', days)))
  FROM unnest(ARRAY['1', '{}', '[]', '[1]', '[["mon"]]', '""', '"mon,"', '"monn"', '"tues"', '"mon-fir"', '"mon-tue-wed"', '"weekend"', '"mon-2025-01-01"', '"mon fri"',
	'"2025-02-30"', '"2025-13-01"', '"0000-01-01"', '"25-01-01"', '"2025-1-1"', '"2025-01-01 08:00"', '"2025-01-01/"', '"2025-01-01-2025-01-02"', '"2025-01-02/2025-01-01"', '"2025-01-01/mon"',
	'"infinity"', '"today"', '"01.02.2025"']::jsonb[]) days;
SELECT "from", error_of(jsonb_build_array(jsonb_build_object('closed', true, 'from', "from")))
  FROM unnest(ARRAY['8', 'true', '""', '"24:00"', '"23:59:60"', '"25:00"', '"08:60"', '"8"', '"8 pm"', '"08:00 pm"', '"08:00+02"', '"08:00:00.5"', '"now"', '"noon"', '"-1:00"', '"08:00 "', '["08:00"]']::jsonb[]) "from";
SELECT "to", error_of(jsonb_build_array(jsonb_build_object('closed', true, 'to', "to")))
  FROM unnest(ARRAY['24', '"24:01"', '"24:00:00"', '"allballs"']::jsonb[]) "to";
SELECT timezone, error_of(jsonb_build_array(jsonb_build_object('closed', true, 'timezone', timezone)))
  FROM unnest(ARRAY['1', '""', '"Europe/Berlinn"', '"europe/brlin"', '"America/NewYork"', '"Nowhere/At all"', '"+02:00"', '"2"', '"<X>2"', '"/etc/passwd"', '["UTC"]']::jsonb[]) timezone;
SELECT error_of(jsonb_build_array(jsonb_build_object('closed', true, 'timezone', repeat('x', 300)))) LIKE 'Window 1: "xxx%" is not the name of a time zone.%';
\pset format aligned
SELECT backfill_window('[]', NULL);
SELECT backfill_window('[]', 'infinity');
SELECT backfill_window('[]', '-infinity');

-- Every minute of days around a change of the clocks: what is in force is what
-- plain SQL says, and lasts until the first minute of which it says another.
CREATE TABLE span (id int PRIMARY KEY, zone text, start timestamptz);
INSERT INTO span VALUES
	(1, 'Europe/Berlin', '2025-03-29 12:00'), (2, 'Europe/Berlin', '2025-10-25 12:00'),
	(3, 'America/New_York', '2025-03-08 12:00'), (4, 'America/New_York', '2025-11-01 12:00'),
	(5, 'Australia/Lord_Howe', '2025-10-04 00:00'), (6, 'Australia/Lord_Howe', '2025-04-05 00:00'),
	(7, 'America/Havana', '2025-03-08 12:00'), (8, 'America/Havana', '2025-11-01 12:00'),
	(9, 'Asia/Kathmandu', '2025-06-03 00:00'), (10, 'Pacific/Apia', '2011-12-29 18:00'),
	(11, 'America/St_Johns', '2025-11-01 12:00');
-- three sets of three windows for each, near the hours of the change
CREATE TABLE hours AS
SELECT span.id AS span, s AS set, n AS number,
	   -- the second one is in another zone
	   CASE WHEN n = 2 THEN (SELECT o.zone FROM span o WHERE o.id = span.id % 11 + 1) ELSE span.zone END AS zone,
	   time '00:00' + (span.id * 67 + s * 31 + n * 29) % 60 * interval '5 min' AS "from",
	   time '00:00' + (span.id * 41 + s * 13 + n * 83) % 72 * interval '5 min' AS "to",
	   CASE WHEN (span.id + s + n) % 3 > 0 THEN ARRAY[span.start::date + (span.id + s) % 2] ELSE '{}' END AS dates,
	   CASE WHEN (span.id + s + n) % 3 < 2 THEN ARRAY['sat', 'mon', 'sun', 'fri'] END AS days
  FROM span, generate_series(1, 3) s, generate_series(1, 3) n;
SELECT count(*) FILTER (WHERE "from" < "to") > 20 AS forward, count(*) FILTER (WHERE "from" > "to") > 20 AS "over midnight" FROM hours;

CREATE FUNCTION is_day(h hours, day date) RETURNS boolean LANGUAGE sql STABLE
RETURN day = ANY (h.dates) OR lower(to_char(day, 'Dy')) = ANY (coalesce(h.days, '{}'));
CREATE TABLE expected AS
WITH clock AS (
	SELECT h AS hours, span.id AS span, h.set, h.number, m.minute AS at, m.minute AT TIME ZONE h.zone AS local
	  FROM span, generate_series(span.start, span.start + interval '2 days', '1 min') m(minute), hours h
	 WHERE h.span = span.id)
SELECT span, set, at,
	   min(number) FILTER (WHERE CASE
		WHEN (hours)."from" < (hours)."to"
		THEN local::time >= (hours)."from" AND local::time < (hours)."to" AND is_day(hours, local::date)
		ELSE local::time >= (hours)."from" AND is_day(hours, local::date)
		  OR local::time < (hours)."to" AND is_day(hours, local::date - 1) END) AS number
  FROM clock GROUP BY span, set, at;
CREATE TABLE expected_until AS
SELECT span, set, at, number,
	   min(at) FILTER (WHERE changed) OVER (PARTITION BY span, set ORDER BY at DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS until,
	   max(at) OVER (PARTITION BY span, set) AS last
  FROM (SELECT *, number IS DISTINCT FROM lag(number) OVER w AND lag(at) OVER w IS NOT NULL AS changed
		  FROM expected WINDOW w AS (PARTITION BY span, set ORDER BY at)) e;
CREATE TABLE windows AS
SELECT span, set, jsonb_agg(jsonb_build_object('from', "from", 'to', "to", 'timezone', zone, 'closed', true,
						   'days', to_jsonb(coalesce(days, '{}') || dates::text[])) ORDER BY number) AS windows
  FROM hours GROUP BY span, set;
SELECT count(*) AS minutes, count(DISTINCT (span, set, e.until)) > 100 AS "many changes", count(DISTINCT e.number) AS windows,
	   count(*) FILTER (WHERE w.number IS DISTINCT FROM e.number) AS "wrong window",
	   count(*) FILTER (WHERE e.until IS NOT NULL AND w.until IS DISTINCT FROM e.until
						   OR e.until IS NULL AND w.until <= e.last) AS "wrong end"
  FROM expected_until e JOIN windows USING (span, set)
  CROSS JOIN LATERAL backfill_window(windows.windows, e.at) w;

DROP TABLE windows, expected_until, expected, span;
DROP FUNCTION is_day, error_of, in_zone, days_of, calendar;
DROP TABLE hours;
