-- The metrics of backfill as text for Prometheus, a line a row:
--
--	psql -XAtq -f backfill.sql -o backfill.prom
--
-- for a file that the textfile collector of node_exporter reads, or for a program that
-- serves it.  The role needs pg_monitor, and the schema of the extension in its
-- search_path.

WITH sample AS (
	SELECT row_number() OVER () AS n, name, type, help, labels, value,
		   CASE type WHEN 'histogram' THEN regexp_replace(name, '_(bucket|sum|count)$', '')
					 ELSE name END AS family
	  FROM backfill_metrics),
line (n, part, text) AS (
	SELECT min(n), 1, format('# HELP %s %s', family, replace(replace(min(help), '\', '\\'), E'\n', '\n'))
	  FROM sample
	 GROUP BY family
	 UNION ALL
	SELECT min(n), 2, format('# TYPE %s %s', family, min(type))
	  FROM sample
	 GROUP BY family
	 UNION ALL
	SELECT n, 3, format('%s{%s} %s', name,
						(SELECT string_agg(format('%s="%s"', key,
												  replace(replace(replace(l.value, '\', '\\'), '"', '\"'), E'\n', '\n')),
										   ',' ORDER BY key)
						   FROM jsonb_each_text(labels) l), value)
	  FROM sample)
SELECT text
  FROM line
 ORDER BY n, part;
