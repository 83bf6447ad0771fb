# Walks along what is no unique key; read by bench/run.sh, for BENCH="walks random".

# A rewrite by pages against one in a single statement, which is a sequential scan.
walks_pages()
{
	local ratios="" p
	for _ in $(seq "$pairs"); do
		fresh
		sql "ALTER TABLE t DROP CONSTRAINT t_pkey"
		p=$(timed "UPDATE t SET $cheap, hit = NULL WHERE hit IS NOT NULL")
		fresh
		sql "ALTER TABLE t DROP CONSTRAINT t_pkey"
		backfill "UPDATE batch SET $cheap, hit = NULL" "'hit IS NOT NULL'" '{"sleep": 0}' "'ctid'"
		note "UPDATE $p s, by pages $seconds s"
		ratios="$ratios $(awk -v a="$seconds" -v b="$p" 'BEGIN { printf "%.3f", a / b }')"
	done
	# shellcheck disable=SC2086
	figure "walk by pages / single UPDATE" 1.2 "" $ratios
}

# 1,000 values in the rows of the table, one by one and from all rows.
walks_distinct()
{
	local ratios="" unique
	for _ in $(seq "$pairs"); do
		sql "DROP TABLE IF EXISTS t, found; CREATE TABLE found (value int PRIMARY KEY);
			CREATE TABLE t AS SELECT i AS id, i % 1000 AS value FROM generate_series(1, 5000000) i"
		sql "ALTER TABLE t ADD PRIMARY KEY (id)"
		sql "CREATE INDEX t_value ON t (value)"
		sql "VACUUM (FREEZE, ANALYZE) t"
		backfill "INSERT INTO found SELECT DISTINCT value FROM batch ON CONFLICT DO NOTHING" NULL '{"sleep": 0}'
		unique=$seconds
		sql "TRUNCATE found"
		backfill "INSERT INTO found SELECT value FROM batch" NULL '{"sleep": 0, "distinct": true}' "'t_value'"
		[ "$(sql "SELECT count(*) FROM found")" = 1000 ] || die "Values are missing."
		note "all rows $unique s, values $seconds s"
		ratios="$ratios $(awk -v a="$seconds" -v b="$unique" 'BEGIN { printf "%.3f", a / b }')"
	done
	# shellcheck disable=SC2086
	figure "walk along 1,000 values / along the 5,000,000 rows" 1.2 "" $ratios
}

# 49 rows in 1,000,000, behind a partial index; the plain statement has it, too, or reads the table.
walks_partial()
{
	local with="" without="" whole="" p q
	for _ in $(seq "$pairs"); do
		sql "DROP TABLE IF EXISTS t; CREATE TABLE t AS
			SELECT i AS id, i % 20001 = 7 AS todo, md5(i::text) AS payload FROM generate_series(1, 1000000) i"
		sql "ALTER TABLE t ADD PRIMARY KEY (id)"
		sql "VACUUM (FREEZE, ANALYZE) t"
		q=$(timed "UPDATE t SET todo = false, payload = 'x' WHERE todo")
		sql "UPDATE t SET todo = true WHERE payload = 'x'"
		sql "CREATE INDEX t_todo ON t (id) WHERE todo"
		sql "VACUUM ANALYZE t"
		p=$(timed "UPDATE t SET todo = false, payload = 'x' WHERE todo")
		sql "UPDATE t SET todo = true WHERE payload = 'x'"
		sql "VACUUM ANALYZE t"
		backfill "UPDATE batch SET todo = false, payload = 'x'" "'todo'" '{"sleep": 0}' "'t_todo'"
		[ "$(sql "SELECT rows_affected FROM backfill_runs WHERE id = $run")" -ge 49 ] || die "Rows are missing."
		note "UPDATE $p s, without the index $q s; run $seconds s, until the client knew of it $wall s"
		with="$with $(awk -v a="$seconds" -v b="$p" 'BEGIN { printf "%.3f", a / b }')"
		without="$without $(awk -v a="$seconds" -v b="$q" 'BEGIN { printf "%.3f", a / b }')"
		whole="$whole $wall"
	done
	# shellcheck disable=SC2086
	{
		figure "49 rows in 1,000,000 / UPDATE with the index" 2 "" $with
		figure "  / UPDATE that reads the table" - "" $without
		figure "  from start until the client knows of the end" - " s" $whole
	}
}

bench_walks()
{
	walks_pages
	walks_distinct
	walks_partial
}

# A table with a random key that is larger than memory, walked along that key, along one in the order of the
# rows, and by pages: a tenth of its rows each.  How much memory there is, is for the caller to say,
# who runs this within a limit, for example
#
#   systemd-run --scope -p MemoryMax=400M env BENCH=random BENCH_ROWS=6500000 make bench
#
# The table has about 195 bytes a row, and shared buffers are 128 MB.
random_walk()					# COLUMN KEY
{
	backfill "UPDATE batch SET $1 = 1" "'$1 = 0'" '{"sleep": 0, "limit": '$((rows / 10))'}' "$2"
	rate=$(sql "SELECT round(rows_affected / extract(epoch FROM finished_at - started_at)) FROM backfill_runs WHERE id = $run")
	wal=$(sql "SELECT wal_bytes / rows_affected FROM backfill_runs WHERE id = $run")
}

bench_random()
{
	local way rate wal
	local -A rates wals
	sql "DROP TABLE IF EXISTS template, t"
	sql "ALTER SYSTEM SET shared_buffers = '128MB'"
	cluster_stop fast
	cluster_start
	for _ in $(seq "$pairs"); do
		sql "DROP TABLE IF EXISTS t" 2>/dev/null
		sql "CREATE TABLE t AS SELECT md5(i::text)::uuid AS id, timestamptz '2024-01-01' + i * interval '1 s' AS created_at,
				0 AS a, 0 AS b, 0 AS c, repeat('x', 140) AS pad FROM generate_series(1, $rows) i"
		sql "ALTER TABLE t ADD PRIMARY KEY (id)"
		sql "CREATE UNIQUE INDEX t_time ON t (created_at, id)"
		sql "VACUUM (FREEZE, ANALYZE) t"
		for way in pages time key; do
			sql "CHECKPOINT"
			case $way in
				pages) random_walk a "'ctid'" ;;
				time) random_walk b "'t_time'" ;;
				key) random_walk c NULL ;;
			esac
			note "$way: $rate rows/s, $wal bytes of WAL a row"
			rates[$way]="${rates[$way]:-} $rate" wals[$way]="${wals[$way]:-} $wal"
		done
	done
	# shellcheck disable=SC2086,SC2046
	{
		figure "rows per second by pages / along a random key" - "" $(quotients "${rates[pages]# }" "${rates[key]# }")
		figure "  along (created_at, id) / along a random key" - "" $(quotients "${rates[time]# }" "${rates[key]# }")
		for way in pages time key; do
			figure "  rows per second, $way" - "" ${rates[$way]}
			figure "  bytes of WAL a row, $way" - "" ${wals[$way]}
		done
	}
}
