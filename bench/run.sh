#!/usr/bin/env bash
#
# make bench: what a backfill costs, against what one would do instead.
#
# Every figure is a ratio of runs that were made one after the other on equal
# fresh tables, the median of BENCH_PAIRS (5) such pairs, or of as many runs
# where there is nothing to compare with.  Absolute times are this machine's
# and are printed for orientation only.  Figures out of their limit are marked,
# but nothing fails: that is for the reader to judge.
#
#   BENCH_ROWS=4000000    rows of the table
#   BENCH_PAIRS=5         pairs
#   BENCH_CASES=...       which of the cases of "collapse", a regular expression
#   BENCH="update loop batch memory hidden errors hooks explain size governor space collapse indexes grown walks foreground"   which figures; "random", "claims" and "streams" have to be asked for

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
enter build "$@"

rows=${BENCH_ROWS:-4000000}
pairs=${BENCH_PAIRS:-5}
started=$SECONDS
table=()						# the lines of the table at the end

wanted() { [[ " ${BENCH:-update loop batch memory hidden errors hooks explain size governor space collapse indexes grown walks foreground} " == *" $1 "* ]]; }
note() { printf '  [%4d s] %s\n' $((SECONDS - started)) "$*"; }

median()						# NUMBER ...
{
	printf '%s\n' "$@" | sort -n |
		awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

quotients()						# "NUMBER ..." "NUMBER ...": pair by pair
{
	paste -d ' ' <(tr ' ' '\n' <<<"$1") <(tr ' ' '\n' <<<"$2") |
		awk '{ printf "%s%.3f", (NR > 1 ? " " : ""), $1 / $2 }'
}

figure()						# NAME LIMIT UNIT VALUE ..., "-" for no limit
{
	local name=$1 limit=$2 unit=$3 m mark
	shift 3
	m=$(median "$@")
	mark=$(awk -v m="$m" -v l="$limit" 'BEGIN { print (l != "-" && m + 0 > l + 0 ? "  OVER" : "") }')
	printf '%s: %s%s (limit %s) [%s]%s\n' "$name" "$m" "$unit" "$limit" "$*" "$mark"
	[ "$limit" = - ] || limit=$limit$unit
	table+=("$(printf '%-62s %9s %9s%s' "$name" "$m$unit" "$limit" "$mark")")
}

# Seconds that a statement takes, seen from the client, in psql's own clock.
timed()							# SQL [SET ...]
{
	"$bin/psql" -XAtq -v ON_ERROR_STOP=1 <<-SQL | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' |
		${2:-}
		\\timing on
		$1;
	SQL
		tail -n 1 | awk '{ printf "%.3f", $1 / 1000 }'
}

# A fresh table t: about 100 bytes a row, all of it frozen, in shared buffers
# and written out, so that a run pays for its own work only.
fresh()							# [ROWS]
{
	sql "DROP TABLE IF EXISTS t" 2>/dev/null
	sql "CREATE TABLE t AS SELECT * FROM template LIMIT ${1:-$rows}"
	sql "ALTER TABLE t ADD PRIMARY KEY (id)"
	sql "VACUUM (FREEZE, ANALYZE) t"
	sql "SELECT pg_prewarm('t'), pg_prewarm('t_pkey')" >/dev/null
	sql "CHECKPOINT"
}

# Seconds since that time of "date +%s.%N".
since()							# TIME
{
	date +%s.%N | awk -v t0="$1" '{ printf "%.3f", $1 - t0 }'
}

# Run a backfill of t to its end.  Sets `run`, `seconds` (from the first
# worker's begin to the end) and `wall` (from backfill_start until the client
# knew of the end).
backfill()						# STATEMENT SCOPE SETTINGS [KEY]
{
	local t0
	sql "SET client_min_messages = warning; SELECT backfill_define('bench', 't', \$s\$$1\$s\$, scope => $2, settings => '$3', key => ${4:-NULL})" >/dev/null
	t0=$(date +%s.%N)
	run=$(sql "SELECT backfill_start('bench')")
	${during:-true}
	sql "CALL backfill_wait($run)" >"$work/wait.log" 2>&1 || {
		cat "$work/wait.log"
		die "The run did not complete."
	}
	wall=$(since "$t0")
	seconds=$(sql "SELECT round(extract(epoch FROM finished_at - started_at), 3)
					 FROM backfill_runs WHERE id = $run AND status = 'completed'")
	[ -n "$seconds" ] || die "The run did not complete."
}

cheap="payload = upper(payload)"

# The loop that one would write, over the rows with keys after the first number and up to the
# second, so many at a time.  It is called without waiting for its commits to reach the disk, as
# our batches do not wait, either.
create_loop()
{
	sql "CREATE OR REPLACE PROCEDURE loop(after bigint, last bigint, size int) LANGUAGE plpgsql AS \$\$
		DECLARE
			done bigint := after;
			upto bigint;
		BEGIN
			LOOP
				SELECT max(id) INTO upto
				  FROM (SELECT id FROM t WHERE id > done AND id <= last ORDER BY id LIMIT size) s;
				EXIT WHEN upto IS NULL;
				UPDATE t SET $cheap WHERE id > done AND id <= upto;
				COMMIT;
				done := upto;
			END LOOP;
		END \$\$"
}

# Seconds that two of them take side by side, half of the table each.
two_loops()						# ROWS-PER-BATCH
{
	local t0 half middle=$((rows / 2))
	t0=$(date +%s.%N)
	for half in "0, $middle" "$middle, $rows"; do
		"$bin/psql" -XAtq -v ON_ERROR_STOP=1 -c "SET synchronous_commit = off" -c "CALL loop($half, $1)" &
	done
	wait
	since "$t0"
}

# One statement, one worker, two workers, on the whole table, and two loops.
bench_update()
{
	local one="" two="" one_wall="" two_wall="" plain="" loops="" p l
	create_loop
	# Not counted: the first one makes the WAL files that later ones reuse.
	fresh
	timed "UPDATE t SET $cheap" >/dev/null
	for _ in $(seq "$pairs"); do
		fresh
		p=$(timed "UPDATE t SET $cheap")
		plain="$plain $p"
		fresh
		backfill "UPDATE batch SET $cheap" NULL '{"batch_size": 5000, "target_batch_time": 0, "sleep": "0s"}'
		one="$one $seconds" one_wall="$one_wall $wall"
		note "UPDATE $p s, 1 worker $seconds s (from start to end $wall s)"
		fresh
		backfill "UPDATE batch SET $cheap" NULL '{"batch_size": 5000, "target_batch_time": 0, "sleep": "0s", "workers": 2}'
		two="$two $seconds" two_wall="$two_wall $wall"
		note "UPDATE $p s, 2 workers $seconds s (from start to end $wall s)"
		fresh
		l=$(two_loops 5000)
		loops="$loops $l"
		note "two loops of 5000 rows $l s"
	done
	# shellcheck disable=SC2046 # several values
	{
		figure "1 worker, batch 5000 / single UPDATE" 1.05 "" $(quotients "${one# }" "${plain# }")
		figure "  the same with start and end" 1.05 "" $(quotients "${one_wall# }" "${plain# }")
		figure "2 workers, batch 5000 / single UPDATE" 0.58 "" $(quotients "${two# }" "${plain# }")
		figure "  the same with start and end" 0.58 "" $(quotients "${two_wall# }" "${plain# }")
		figure "2 workers / two PL/pgSQL loops side by side" 1.00 "" $(quotients "${two# }" "${loops# }")
		figure "  two loops / single UPDATE" - "" $(quotients "${loops# }" "${plain# }")
	}
}

# Batches of 100 against the loop that one would write.
bench_loop()
{
	local ours="" loop="" p
	create_loop
	for _ in $(seq "$pairs"); do
		fresh
		p=$(timed "CALL loop(0, $rows, 100)" "SET synchronous_commit = off;")
		loop="$loop $p"
		fresh
		backfill "UPDATE batch SET $cheap" NULL '{"batch_size": 100, "target_batch_time": 0, "sleep": "0s"}'
		ours="$ours $seconds"
		note "loop of 100 rows $p s, 1 worker $seconds s"
	done
	# shellcheck disable=SC2046
	figure "1 worker, batch 100 / PL/pgSQL loop of 100 rows" 1.25 "" $(quotients "${ours# }" "${loop# }")
}

# Median of the time from the end of one batch to the end of the next, in ms.
between()						# FIRST LAST
{
	sql "SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 4)
		   FROM (SELECT number, 1000 * extract(epoch FROM finished_at
						- lag(finished_at) OVER (ORDER BY number))::float8 AS ms
				   FROM backfill_batches WHERE run_id = $run) b
		  WHERE number BETWEEN $1 AND $2"
}

# Batches of one row that is not in scope: nothing but the overhead; and whether
# it grows with the number of batches, with and without somebody's old snapshot:
# the median of a thousand batches each, as single ones take 0.1 ms or less.
bench_batch()
{
	local overhead="" growth="" held="" snapshot
	fresh 20200
	for _ in $(seq "$pairs"); do
		backfill "UPDATE batch SET $cheap" "'payload IS NULL'" '{"batch_size": 1, "target_batch_time": 0, "sleep": "0s"}'
		overhead="$overhead $(between 2 20200)"
		growth="$growth $(quotients "$(between 19200 20200)" "$(between 100 1100)")"
		note "20,200 empty batches in $seconds s, median $(between 2 20200) ms"

		"$bin/psql" -Xq -c "BEGIN ISOLATION LEVEL REPEATABLE READ" -c "SELECT count(*) FROM t" \
			-c "SELECT pg_sleep(3600)" >/dev/null 2>&1 &
		snapshot=$!
		until [ "$(sql "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")" = 1 ]; do
			sleep 0.1
		done
		backfill "UPDATE batch SET $cheap" "'payload IS NULL'" '{"batch_size": 1, "target_batch_time": 0, "sleep": "0s"}'
		held="$held $(quotients "$(between 19200 20200)" "$(between 100 1100)")"
		note "under an old snapshot in $seconds s, median $(between 2 20200) ms"
		sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" >/dev/null
		wait "$snapshot" || true
	done
	# shellcheck disable=SC2086
	{
		figure "empty batch of one row, median" 0.25 " ms" $overhead
		figure "batches about 20,000 / batches about 200" 1.2 "" $growth
		figure "batches about 20,000 / about 200 under an old snapshot" 1.2 "" $held
	}
}

# Samples of the worker's own memory while it runs: batch number and KiB.
sample()
{
	local pid batch
	: >"$work/memory"
	while read -r batch pid < <(sql "SELECT coalesce(w.batch, 0) || ' ' || coalesce(w.pid, 0)
			FROM backfill_runs r LEFT JOIN backfill_workers w ON w.run_id = r.id
		   WHERE r.id = $run AND r.status IN ('pending', 'enqueued', 'running') LIMIT 1"); do
		[ "$pid" = 0 ] ||
			awk -v batch="$batch" '$1 == "RssAnon:" { print batch, $2 }' \
				"/proc/$pid/status" >>"$work/memory" 2>/dev/null || true
		sleep 0.1
	done
}

# Growth of the worker over 50,000 batches of ten rows, from batch 1,000 on:
# by then its caches are filled.
bench_memory()
{
	local growth="" during=sample
	for _ in $(seq "$pairs"); do
		fresh 520000
		backfill "UPDATE batch SET $cheap" NULL '{"batch_size": 10, "target_batch_time": 0, "sleep": "0s"}'
		growth="$growth $(awk '
			$1 >= 1000 { if (!n++) first = $2; last = $2 }
			END { printf "%.3f", (last - first) / 1024 }' "$work/memory")"
		note "worker's own memory, batch and KiB: $(awk '
			$1 >= 1000 { if (!n++) first = $0; last = $0 }
			END { print first ", ... " last " (" n " samples)" }' "$work/memory")"
	done
	# shellcheck disable=SC2086
	figure "growth of a worker over 50,000 batches" 1 " MiB" $growth
}

# Few rows in scope among many, found without an index on it.
bench_hidden()
{
	local ours="" count="" p
	fresh
	for _ in $(seq "$pairs"); do
		p=$(timed "SELECT count(*) FROM t WHERE hit" "SET max_parallel_workers_per_gather = 0;")
		count="$count $p"
		backfill "UPDATE batch SET $cheap" "'hit'" '{"batch_size": 100000, "target_batch_time": 0, "sleep": "0s"}'
		ours="$ours $seconds"
		note "count $p s, 1 worker $seconds s for $(sql "SELECT rows_affected FROM backfill_runs WHERE id = $run") rows"
	done
	# shellcheck disable=SC2046
	figure "$((rows / 10000)) rows hidden in $rows / sequential count" 4.5 "" $(quotients "${ours# }" "${count# }")
}

# 37 rows of 1,000,000 that raise an error and are skipped, against none.
bench_errors()
{
	local with="" without="" p n
	local settings='{"batch_size": 5000, "target_batch_time": 0, "sleep": "0s", "workers": 2, "on_error": "skip"}'
	n=$((rows < 1000000 ? rows : 1000000))
	for _ in $(seq "$pairs"); do
		fresh "$n"
		backfill "UPDATE batch SET $cheap || repeat('', 1 / least(id % 27027 + 1, 1)::int)" NULL "$settings"
		p=$seconds
		without="$without $p"
		fresh "$n"
		backfill "UPDATE batch SET $cheap || repeat('', 1 / least(id % 27027, 1)::int)" NULL "$settings"
		with="$with $seconds"
		note "no bad row $p s, $(sql "SELECT errors FROM backfill_runs WHERE id = $run") bad rows $seconds s"
	done
	# shellcheck disable=SC2046
	figure "37 bad rows of 1,000,000 skipped / none" 1.15 "" $(quotients "${with# }" "${without# }")
}

# Batches without hooks pay nothing for those that others have, nor for those of
# their own run; what hooks of batches cost is printed for orientation.
bench_hooks()
{
	local ratio="" cost="" p
	fresh 20200
	sql "CREATE FUNCTION hook(backfill_event) RETURNS void LANGUAGE sql AS ''"
	sql "SELECT backfill_define('other', 't', 'UPDATE batch SET $cheap')" >/dev/null
	for _ in $(seq "$pairs"); do
		backfill "UPDATE batch SET $cheap" "'payload IS NULL'" '{"batch_size": 1, "target_batch_time": 0, "sleep": "0s"}'
		p=$(between 2 20200)
		sql "SELECT backfill_on('before run completed', 'hook', 'bench'),
					backfill_on('after batch completed', 'hook', 'other')" >/dev/null
		backfill "UPDATE batch SET $cheap" "'payload IS NULL'" '{"batch_size": 1, "target_batch_time": 0, "sleep": "0s"}'
		ratio="$ratio $(quotients "$(between 2 20200)" "$p")"
		sql "SELECT backfill_on('after batch completed', 'hook', 'bench')" >/dev/null
		backfill "UPDATE batch SET $cheap" "'payload IS NULL'" '{"batch_size": 1, "target_batch_time": 0, "sleep": "0s"}'
		cost="$cost $(awk -v a="$(between 2 20200)" -v p="$p" 'BEGIN { print a - p }')"
		note "empty batch $p ms, with hooks elsewhere and of the run $(quotients "${ratio##* }" 1) times that"
		sql "SELECT backfill_off('before run completed', 'hook', 'bench'),
					backfill_off('after batch completed', 'hook', 'bench'),
					backfill_off('after batch completed', 'hook', 'other')" >/dev/null
	done
	# shellcheck disable=SC2086
	{
		figure "empty batch, hooks elsewhere and of the run / no hooks" 1.05 "" $ratio
		figure "  what a hook after each batch adds" 1 " ms" $cost
	}
}

# How far what backfill_explain projects is from what the run then takes, in
# either direction.
bench_explain()
{
	local off="" p workers settings
	for workers in 1 2; do
		settings='{"batch_size": 1000, "target_batch_time": 0, "sleep": "0s", "workers": '$workers'}'
		off=""
		for _ in $(seq "$pairs"); do
			fresh
			sql "SET client_min_messages = warning; SELECT backfill_define('bench', 't', 'UPDATE batch SET $cheap', settings => '$settings')" >/dev/null
			p=$(sql "SELECT substring(l FROM 'Duration: ([0-9.]+) s')
					   FROM backfill_explain('bench', measure => true) l WHERE l LIKE '%Duration:%'")
			backfill "UPDATE batch SET $cheap" NULL "$settings"
			off="$off $(awk -v a="$p" -v b="$seconds" 'BEGIN { printf "%.3f", (a > b ? a / b : b / a) }')"
			note "$workers worker(s): projected $p s, measured $seconds s"
		done
		# shellcheck disable=SC2086
		figure "projected and measured duration, $workers worker(s)" 1.5 "" $off
	done
}

# shellcheck source=bench/space.sh
. "$(dirname "$0")/space.sh"
# shellcheck source=bench/foreground.sh
. "$(dirname "$0")/foreground.sh"
# shellcheck source=bench/walks.sh
. "$(dirname "$0")/walks.sh"
# shellcheck source=bench/claims.sh
. "$(dirname "$0")/claims.sh"
# shellcheck source=bench/streams.sh
. "$(dirname "$0")/streams.sh"

# A wide table, with four indexes besides the key, on what is changed as well.
fresh_wide()
{
	sql "DROP TABLE IF EXISTS t" 2>/dev/null
	sql "CREATE TABLE t AS SELECT id, payload, hit, id % 1000 AS a, hashint8(id) AS b, md5(payload) AS c,
			repeat(payload, 8) AS d, now() AS changed FROM template LIMIT $((rows / 8))"
	sql "ALTER TABLE t ADD PRIMARY KEY (id)"
	sql "CREATE INDEX ON t (payload); CREATE INDEX ON t (a); CREATE INDEX ON t (b); CREATE INDEX ON t (changed)"
	sql "VACUUM (FREEZE, ANALYZE) t"
	sql "SELECT pg_prewarm(oid) FROM pg_class
		  WHERE oid = 't'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 't'::regclass)" >/dev/null
	sql "CHECKPOINT"
}

# How the durations of the batches relate to the target, in ms: the number of
# batches until they are at it, by the 90th percentile of the last eleven, and
# the share of what comes then that is not, of these percentiles and of single
# batches.  To be at it is to be within a fifth.
steadiness()					# TARGET
{
	sql "WITH b AS (
			SELECT number, 1000 * extract(epoch FROM duration) / $1 AS single,
				   max(number) OVER () AS last
			  FROM backfill_batches WHERE run_id = $run),
		p AS (
			SELECT number, single BETWEEN 0.8 AND 1.2 AS single,
				   (SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY w.single) FROM b w
					 WHERE w.number BETWEEN b.number - 10 AND b.number) BETWEEN 0.8 AND 1.2 AS p90
			  FROM b WHERE number < last),
		f AS (SELECT coalesce(min(number), 1000000) AS number FROM p WHERE p90)
		SELECT f.number || ' ' || round(avg((NOT p.p90)::int), 3) || ' ' || round(avg((NOT single)::int), 3)
			   || ' ' || count(*)
		  FROM f LEFT JOIN p ON p.number > f.number GROUP BY f.number"
}

# The batch size that the target time leads to: from far below and far above,
# for rows that cost little and rows that cost much.
bench_size()
{
	local what what_text start target reached off single count n until_there p90 alone
	for what in fresh fresh_wide; do
		for start in 10 100000; do
			for target in 100 250; do
				until_there="" p90="" alone=""
				for _ in $(seq "$pairs"); do
					"$what"
					backfill "UPDATE batch SET $cheap$([ "$what" = fresh ] || echo ', changed = clock_timestamp()')" NULL \
						'{"sleep": 0, "max_batch_size": 1000000, "batch_size": '$start', "target_batch_time": "'$target' ms"}'
					read -r reached off single count < <(steadiness $target)
					until_there="$until_there $reached" p90="$p90 ${off:-1}" alone="$alone ${single:-1}"
					n=$(sql "SELECT batch_size FROM backfill_runs WHERE id = $run")
					note "$what, from $start rows for $target ms: there after $reached, of $count others off" \
						"$off (single batches $single), $n rows at the end"
				done
				what_text=$([ "$what" = fresh ] && echo narrow || echo wide)
				# shellcheck disable=SC2086
				{
					figure "$what_text, from $start to $target ms: batches until there" 20 "" $until_there
					figure "  share of the others that is off, percentile of 11" 0.05 "" $p90
					figure "  share of the others that is off, single batches" 0.05 "" $alone
				}
			done
		done
	done
}

# What it costs that everything is watched, with limits that are never reached.
bench_governor()
{
	local on="" off="" p
	local watched='{"batch_size": 1000, "sleep": 0, "min_batch_size": 1000, "max_batch_size": 1000,
		"rate_limit": "1000000000 per second", "wal_rate_limit": "1TB per second",
		"windows": [{"days": "2001-01-01", "closed": true}, {"settings": {"nice": 0}}],
		"max_replica_lag": "1 h", "max_replica_lag_bytes": "1TB", "max_slot_retained": "1TB",
		"max_archive_backlog": 1000000, "max_dead_rows": 1, "pause_for_maintenance": true,
		"max_active_sessions": 1000000, "max_xmin_age": 2000000000,
		"probe": "SELECT NULL::text", "yield_after": "100 ms"}'
	local plain='{"batch_size": 1000, "sleep": 0, "target_batch_time": 0, "yield_after": 0}'

	# not counted, as above
	fresh
	backfill "UPDATE batch SET $cheap" NULL "$plain"
	for _ in $(seq "$pairs"); do
		fresh
		backfill "UPDATE batch SET $cheap" NULL "$plain"
		p=$seconds
		off="$off $p"
		sql "ALTER SYSTEM SET backfill.rate_limit = '1000000000 per second'"
		sql "ALTER SYSTEM SET backfill.wal_rate_limit = '1TB per second'"
		sql "SELECT pg_reload_conf()" >/dev/null
		fresh
		backfill "UPDATE batch SET $cheap" NULL "$watched"
		on="$on $seconds"
		sql "ALTER SYSTEM RESET backfill.rate_limit"
		sql "ALTER SYSTEM RESET backfill.wal_rate_limit"
		sql "SELECT pg_reload_conf()" >/dev/null
		note "nothing watched $p s, everything $seconds s" \
			"($(sql "SELECT count(*) FROM backfill_events WHERE run_id = $run AND kind IN ('throttle', 'pace')") events," \
			"largest batch $(sql "SELECT max(rows_scanned) FROM backfill_batches WHERE run_id = $run"))"
	done
	# shellcheck disable=SC2046
	figure "batch 1000, everything watched / nothing" 1.02 "" $(quotients "${on# }" "${off# }")
}

say "Building, and a cluster with a table of $rows rows."
private_install "$work/inst"
# Everything in shared buffers; no checkpoint and no autovacuum in a run.
memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
cluster_create bench <<CONF
shared_buffers = $((memory < 12288 ? memory / 4 : 3072))MB
max_wal_size = 16GB
min_wal_size = 4GB
checkpoint_timeout = 1h
autovacuum = off
jit = off
max_worker_processes = 16
max_connections = 150
backfill.max_leases = 20000
log_line_prefix = '%m [%p] %b '
CONF
cluster_start
sql "CREATE EXTENSION backfill" 2>/dev/null
sql "CREATE EXTENSION pg_prewarm" 2>/dev/null
sql "CREATE TABLE template AS
	SELECT g::bigint AS id, md5(g::text) || md5((-g)::text) AS payload, g % 10000 = 5000 AS hit
	  FROM generate_series(1, $rows) g"
say "$("$bin/postgres" --version), $(nproc) cores, $memory MB of memory," \
	"$(sql "SELECT pg_table_size('template') / $rows") bytes a row"

for b in update loop batch memory hidden errors hooks explain size governor space collapse indexes grown walks random claims streams foreground; do
	if wanted "$b"; then
		say
		"bench_$b"
	fi
done

say
printf '%-62s %9s %9s\n' "median of $pairs" figure limit
printf '%s\n' "${table[@]}"
cluster_stop fast
