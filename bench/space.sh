# Where a run collapsed, and where it grew the table; read by bench/run.sh, for
# BENCH="space collapse indexes grown".

heap_pages() { sql "SELECT pg_relation_size('t') / 8192"; }

# A rewrite with and without reuse_space, and how large the table is then, against
# what VACUUM FULL makes of it.
bench_space()
{
	local workers on off full time wal growth growth_off a w
	for workers in 1 2; do
		time="" wal="" growth="" growth_off=""
		for _ in $(seq "$pairs"); do
			fresh
			full=$(heap_pages)
			backfill "UPDATE batch SET $cheap" NULL '{"sleep": 0, "workers": '"$workers"'}'
			on=$(heap_pages)
			a=$seconds
			w=$(sql "SELECT wal_bytes FROM backfill_runs WHERE id = $run")
			fresh
			backfill "UPDATE batch SET $cheap" NULL '{"sleep": 0, "reuse_space": false, "workers": '"$workers"'}'
			off=$(heap_pages)
			time="$time $(awk -v a="$a" -v b="$seconds" 'BEGIN { printf "%.3f", a / b }')"
			wal="$wal $(awk -v a="$w" -v b="$(sql "SELECT wal_bytes FROM backfill_runs WHERE id = $run")" 'BEGIN { printf "%.3f", a / b }')"
			growth="$growth $(awk -v a="$on" -v b="$full" 'BEGIN { printf "%.3f", a / b }')"
			growth_off="$growth_off $(awk -v a="$off" -v b="$full" 'BEGIN { printf "%.3f", a / b }')"
			note "$workers worker(s): $full pages, then $on, without reuse_space $off"
		done
		# shellcheck disable=SC2086
		{
			figure "$workers worker(s), heap after a rewrite / before" 1.10 "" $growth
			figure "  the same with reuse_space off" - "" $growth_off
			figure "  WAL with reuse_space / without" 1.02 "" $wal
			figure "  time with reuse_space / without" 1.00 "" $time
		}
	done
}

table_size() { sql "SELECT sum(pg_table_size(coalesce(p.relid, 't'))) / 8192 FROM (SELECT) one LEFT JOIN pg_partition_tree('t') p ON true"; }

# Cases in which only the size counts: how large the table is afterwards, with TOAST, against before.
grown()							# NAME LIMIT STATEMENT SETTINGS MAKE-TABLE [MEANWHILE]
{
	local before growth=""
	for _ in $(seq "$pairs"); do
		"$5"
		before=$(table_size)
		during=${6:-} backfill "$3" NULL "$4"
		growth="$growth $(awk -v a="$(table_size)" -v b="$before" 'BEGIN { printf "%.3f", a / b }')"
	done
	# shellcheck disable=SC2086
	figure "$1" "$2" "" $growth
}

wide()
{
	sql "DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint PRIMARY KEY, n int DEFAULT 0, body text);
		ALTER TABLE t ALTER body SET STORAGE EXTERNAL; INSERT INTO t SELECT i, 0, repeat(chr((65 + i % 26)::int), 5000) FROM generate_series(1, 40000) i"
	sql "VACUUM ANALYZE t"
}

parted()
{
	sql "DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint PRIMARY KEY, payload text) PARTITION BY RANGE (id);
		CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (MINVALUE) TO (500000); CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (500000) TO (MAXVALUE);
		INSERT INTO t SELECT id, payload FROM template LIMIT 1000000"
	sql "VACUUM ANALYZE t"
}

indexed()
{
	sql "DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT id, hashint4(id::int) AS a, payload FROM template LIMIT 1000000; ALTER TABLE t ADD PRIMARY KEY (id); CREATE INDEX ON t (a)"
	sql "VACUUM ANALYZE t"
}

# Somebody who holds a snapshot for the first half of the run.
hold_snapshot()
{
	"$bin/psql" -Xq -c "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class; SELECT pg_sleep(3600)" >/dev/null 2>&1 &
	until [ "$(sql "SELECT progress >= 50 OR status = 'completed' FROM backfill_runs WHERE id = $run")" = t ]; do sleep 0.05; done
	sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)' AND pid <> pg_backend_pid()"
	wait $! || true
}

# Rows that come while others are purged.
insert_meanwhile()
{
	local i
	for i in 1 2 3 4 5; do
		until [ "$(sql "SELECT progress >= $i * 18 OR status = 'completed' FROM backfill_runs WHERE id = $run")" = t ]; do sleep 0.05; done
		sql "INSERT INTO t SELECT id + 100000000 + $i * 10000000, a, payload FROM t WHERE id BETWEEN 1 AND 80000"
	done
}

# A foreground that changes rows at random while they are rewritten, 500 a second.
update_meanwhile()
{
	local pgbench
	echo "\\set id random(1, 1000000)
		UPDATE t SET payload = reverse(payload) WHERE id = :id" >"$work/update.sql"
	"$bin/pgbench" -n -c 2 -R 500 -T 600 -f "$work/update.sql" postgres >/dev/null 2>&1 &
	pgbench=$!
	until [ "$(sql "SELECT finished_at IS NOT NULL FROM backfill_runs WHERE id = $run")" = t ]; do sleep 0.05; done
	kill "$pgbench"
	wait "$pgbench" || true
}

bench_grown()
{
	grown "wide rows, table with TOAST after a rewrite / before" 1.10 "UPDATE batch SET n = n + 1, body = lower(body)" '{"sleep": 0}' wide
	grown "  the same with reuse_space off" - "UPDATE batch SET n = n + 1, body = lower(body)" '{"sleep": 0, "reuse_space": false}' wide
	grown "wide rows, two workers" 1.10 "UPDATE batch SET n = n + 1, body = lower(body)" '{"sleep": 0, "workers": 2}' wide
	grown "partitions, table after a rewrite / before" 1.10 "UPDATE batch SET $cheap" '{"sleep": 0}' parted
	grown "a secondary index, table after a rewrite / before" 1.10 "UPDATE batch SET $cheap" '{"sleep": 0}' indexed
	grown "a purge of half of the rows, two fifths inserted meanwhile" 1.00 "DELETE FROM batch WHERE id % 2 = 0" '{"sleep": 0}' indexed insert_meanwhile
	grown "a secondary index, rows changed by others meanwhile" 1.10 "UPDATE batch SET $cheap" '{"sleep": 0}' indexed update_meanwhile
	grown "a snapshot held for the first half" - "UPDATE batch SET $cheap" '{"sleep": 0}' indexed hold_snapshot
}

# What two rewrites do to the heap, the primary key and a secondary index at random, in MB.
bench_indexes()
{
	local pass sizes
	rewrites()					# NAME SETTINGS [VACUUM]
	{
		sql "DROP TABLE IF EXISTS t"
		sql "CREATE TABLE t AS SELECT id, hashint4(id::int) AS a, repeat('x', 60) AS payload FROM template LIMIT 1000000"
		sql "ALTER TABLE t ADD PRIMARY KEY (id); CREATE INDEX t_a ON t (a)"
		sql "VACUUM ANALYZE t"
		sizes=""
		for pass in 0 1 2; do
			case $pass:$2 in
				0:*) ;;
				*:statement) sql "UPDATE t SET payload = md5(payload)" ;;
				*) backfill "UPDATE batch SET payload = md5(payload)" NULL "$2" ;;
			esac
			sizes="$sizes  $(sql "SELECT pg_relation_size('t') / 1048576 || '/' || pg_relation_size('t_pkey') / 1048576 || '/' || pg_relation_size('t_a') / 1048576")"
			[ -z "${3:-}" ] || sql "VACUUM t"
		done
		printf '%-34s%s\n' "  $1" "$sizes"
	}
	printf '%s\n' "MB of heap/primary key/secondary index before, after one rewrite, after two"
	rewrites "one UPDATE" statement
	rewrites "a run" '{"sleep": 0}'
	rewrites "batches of 500 rows" '{"sleep": 0, "batch_size": 500, "target_batch_time": 0}'
	rewrites "batches of 20,000 rows" '{"sleep": 0, "batch_size": 20000, "target_batch_time": 0}'
	rewrites "two workers" '{"sleep": 0, "workers": 2}'
	rewrites "descending" '{"sleep": 0, "direction": "desc"}'
	rewrites "without reuse_space" '{"sleep": 0, "reuse_space": false}'
	rewrites "VACUUM between the two" '{"sleep": 0}' vacuum
}

# How the slowest twenty batches in a row that the run had went: the time that another run took for the same rows,
# as a part of theirs.
slowest_stretch()				# OTHER-RUN
{
	sql "WITH b AS (SELECT run_id, started_at, finished_at, rows_scanned AS n, sum(rows_scanned) OVER (PARTITION BY run_id ORDER BY number, part) AS upto
			FROM backfill_batches WHERE run_id IN ($1, $run) AND rows_scanned > 0),
		other AS (SELECT upto - n AS after, upto, extract(epoch FROM finished_at - lag(finished_at, 1, started_at) OVER (ORDER BY upto)) AS s FROM b WHERE run_id = $1),
		stretch AS (SELECT min(upto - n) OVER w AS after, upto, extract(epoch FROM max(finished_at) OVER w - min(started_at) OVER w) AS s,
				count(*) OVER w AS n, count(*) OVER () AS batches FROM b WHERE run_id = $run WINDOW w AS (ORDER BY upto ROWS 19 PRECEDING))
		SELECT round(min((SELECT sum(o.s * (least(o.upto, t.upto) - greatest(o.after, t.after)) / (o.upto - o.after)) FROM other o WHERE o.upto > t.after AND o.after < t.upto) / t.s)::numeric, 3)
		  FROM stretch t WHERE t.n = 20 OR t.n = t.batches"
}

# The table of a case as it is before each statement and run.
collapse_anew()					# SQL-BEFORE
{
	[ -z "$1" ] || sql "$1"
	sql "CLUSTER t USING t_pkey" && sql "VACUUM ANALYZE t" && sql "CHECKPOINT"
}

# Those settings, with batches that all have the size.
with_size()						# SETTINGS SIZE
{
	sql "SELECT jsonb '$1' || jsonb '{\"batch_size\": $2, \"max_batch_size\": $2, \"target_batch_time\": \"off\"}'"
}

# One run of a case, of a table made anew.  Sets `seconds`.
collapse_run()					# STATEMENT SETTINGS SQL-BEFORE
{
	collapse_anew "$3"
	backfill "$1" NULL "$2"
}

# The size of all batches with which a run is the fastest.  Sets `best`.
find_best_size()				# STATEMENT SETTINGS SQL-BEFORE
{
	local size fastest=
	for size in ${BENCH_SIZES:-100 1000 10000 100000}; do
		collapse_run "$1" "$(with_size "$2" "$size")" "$3"
		note "batches of $size rows: $seconds s"
		if [ -z "$fastest" ] || awk -v a="$seconds" -v b="$fastest" 'BEGIN { exit !(a < b) }'; then
			fastest=$seconds best=$size
		fi
	done
}

# The single statement, and the best size of batches that one would find by hand, against the
# run with the defaults, where batches have a fixed cost, partitions to choose from, or a plan
# worth compiling.  BENCH_CASES is a regular expression for the names of those that are wanted.
collapse()						# NAME STATEMENT-ON-t STATEMENT-ON-batch [SETTINGS [SQL-BEFORE-EACH]]
{
	local ratio="" to_best="" slowest="" settings=${4:-} p b best=1000 at_best best_run
	[[ $1 =~ ${BENCH_CASES:-.} ]] || return 0
	[ -n "$settings" ] || settings='{}'
	find_best_size "$3" "$settings" "${5:-}"
	at_best=$(with_size "$settings" "$best")
	for _ in $(seq "$pairs"); do
		collapse_anew "${5:-}"
		p=$(timed "$2")
		collapse_run "$3" "$at_best" "${5:-}"
		b=$seconds best_run=$run
		collapse_run "$3" "$settings" "${5:-}"
		ratio="$ratio $(awk -v a="$seconds" -v b="$p" 'BEGIN { printf "%.3f", a / b }')"
		to_best="$to_best $(awk -v a="$seconds" -v p="$p" -v b="$b" 'BEGIN { printf "%.3f", a / (p < b ? p : b) }')"
		slowest="$slowest $(slowest_stretch "$best_run")"
		note "$1: the statement $p s, batches of $best $b s, a run $seconds s, $(sql "SELECT batches FROM backfill_runs WHERE id = $run") batches"
	done
	# shellcheck disable=SC2086
	{
		figure "$1: run with the defaults / statement" - "" $ratio
		figure "  / the better of it and the best size, $best" 1.5 "" $to_best
		figure "  slowest 20 batches, rows per second / the same rows with the best size (0.5 at least)" - "" $slowest
	}
}

bench_collapse()
{
	sql "DROP TABLE IF EXISTS t, look" 2>/dev/null
	sql "CREATE TABLE look AS SELECT id AS k, payload FROM template LIMIT 500000"
	sql "CREATE TABLE t AS SELECT id, payload FROM template LIMIT 2000000; ALTER TABLE t ADD PRIMARY KEY (id); ANALYZE look"
	collapse "a join with 500,000 rows without an index" \
		"UPDATE t SET payload = look.payload FROM look WHERE look.k = t.id" \
		"UPDATE batch SET payload = look.payload FROM look WHERE look.k = batch.id"
	sql "CREATE TABLE many AS SELECT 1 + id * 7919 % 500000 AS k, id AS n FROM template LIMIT 2000000; CREATE INDEX ON many (k)" && sql "VACUUM ANALYZE many"
	collapse "sums of another table, 2,000,000 rows with an index" \
		"UPDATE t SET payload = s.n FROM (SELECT k, sum(n) AS n FROM many GROUP BY k) s WHERE s.k = t.id" \
		"UPDATE batch SET payload = s.n FROM (SELECT k, sum(n) AS n FROM many GROUP BY k) s WHERE s.k = batch.id"
	sql "DROP TABLE many"
	sql "CREATE FUNCTION dear(text) RETURNS text LANGUAGE sql IMMUTABLE COST 100000 AS 'SELECT upper(\$1)'"
	collapse "a function of cost 100000" "UPDATE t SET payload = dear(payload)" "UPDATE batch SET payload = dear(payload)"
	sql "DROP TABLE t"

	# each deleted row has the child read in full
	sql "CREATE TABLE t (id bigint PRIMARY KEY, payload text)"
	sql "CREATE TABLE child AS SELECT id, id % 300 AS parent FROM template LIMIT 2000000; ANALYZE child"
	collapse "a child of 2,000,000 rows without an index" "DELETE FROM t WHERE id >= 300" "DELETE FROM batch WHERE id >= 300" '{}' \
		"ALTER TABLE child DROP CONSTRAINT IF EXISTS child_parent_fkey; TRUNCATE t; INSERT INTO t SELECT g, 'x' FROM generate_series(0, 399) g;
		 ALTER TABLE child ADD CONSTRAINT child_parent_fkey FOREIGN KEY (parent) REFERENCES t NOT VALID"
	sql "DROP TABLE child, t"

	# most rows have one value of the first column
	sql "CREATE TABLE t AS SELECT CASE WHEN id % 10 = 0 THEN id ELSE 7 END AS a, id AS b, payload FROM template LIMIT 1000000; ALTER TABLE t ADD PRIMARY KEY (a, b)"
	collapse "a key of two columns, nine rows of ten with one value of the first" "UPDATE t SET $cheap" "UPDATE batch SET $cheap"
	sql "DROP TABLE t"

	# a tree, and the depth of each of its nodes
	sql "CREATE TABLE t AS SELECT id, id / 4 AS up, 0 AS depth FROM template WHERE id BETWEEN 1 AND 400000; ALTER TABLE t ADD PRIMARY KEY (id)"
	collapse "a recursive CTE for each row" \
		"UPDATE t SET depth = (WITH RECURSIVE w AS (SELECT t.up AS up UNION ALL SELECT p.up FROM w JOIN t p ON p.id = w.up) SELECT count(*) FROM w)" \
		"UPDATE batch SET depth = (WITH RECURSIVE w AS (SELECT batch.up AS up UNION ALL SELECT p.up FROM w JOIN t p ON p.id = w.up) SELECT count(*) FROM w)"
	sql "DROP TABLE t"

	sql "CREATE TABLE t (at timestamptz, id bigint, payload text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)"
	sql "SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%L) TO (%L)', i, d + i * interval '1 month', d + (i + 1) * interval '1 month')
		  FROM generate_series(0, 35) i, (VALUES (timestamptz '2024-01-01 00:00+00')) v (d)" | while read -r line; do sql "$line"; done
	sql "INSERT INTO t SELECT timestamptz '2024-01-01 00:00+00' + id * interval '90 s', id, payload FROM template WHERE id < 1000000"
	collapse "36 monthly partitions, with nice 0 of \"polite\"" "UPDATE t SET $cheap" "UPDATE batch SET $cheap" '{"preset": "polite", "nice": 0}'
	sql "DROP TABLE t"
	sql "CREATE TABLE t (at timestamptz, id bigint, payload text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)"
	sql "SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%L) TO (%L)', i, d + i * interval '1 day', d + (i + 1) * interval '1 day')
		  FROM generate_series(0, 729) i, (VALUES (timestamptz '2024-01-01 00:00+00')) v (d)" | while read -r line; do sql "$line"; done
	sql "INSERT INTO t SELECT timestamptz '2024-01-01 00:00+00' + id * interval '63 s', id, payload FROM template WHERE id < 1000000"
	collapse "730 partitions, key (at, id)" "UPDATE t SET $cheap" "UPDATE batch SET $cheap"
}
