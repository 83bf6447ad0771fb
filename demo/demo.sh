#!/usr/bin/env bash
#
# make demo: the product at work, in a throw-away cluster: a new column
# of a busy table is filled in the background, the whole server is killed hard
# in the middle, and every row has still been changed exactly once.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
enter build "$@"

started=$SECONDS
step() { printf '\n[%3d s] %s\n' $((SECONDS - started)) "$*"; }
now() { date +%s.%N; }

# Show a statement, and run it.
show()							# SQL [PSQL-OPTION ...]
{
	local statement=$1
	shift
	printf '%s\n' "$statement" | sed 's/^/    /'
	"$bin/psql" -Xq -v ON_ERROR_STOP=1 -P pager=off -P footer=off "$@" -c "$statement" | sed 's/^/    /'
}

# Transactions a second that the machine can bear now, of 2 clients.
capacity()
{
	"$bin/pgbench" -n -c 2 -T 4 2>/dev/null | sed -n 's/^tps = \([0-9]*\).*/\1/p'
}

# The foreground: 2 clients, pgbench's own mix at $rate transactions a second,
# each logged with its latency.  Connects again when the server was gone.
traffic()
{
	while [ ! -e "$work/traffic.stop" ]; do
		"$bin/pgbench" -n -c 2 -R "$rate" -T 3600 -l --log-prefix="$work/latency" \
			>>"$work/pgbench.log" 2>&1 &
		echo $! >"$work/pgbench.pid"
		wait $! || true
		sleep 0.1
	done
}

# Latencies of the transactions that ended in the given periods, in ms: number,
# average, 95 and 99 of 100, the longest.
latency()						# TITLE FROM TO [FROM TO]
{
	local title=$1
	shift
	cat "$work"/latency.[0-9]* | awk -v a="$1" -v b="$2" -v c="${3:-0}" -v d="${4:-0}" '
		{ t = $5 + $6 / 1e6; if ((t >= a && t <= b) || (t >= c && t <= d)) print $3 / 1000 }' |
		sort -n | awk -v title="$title" '
		{ v[NR] = $1; sum += $1 }
		function at(p) { i = int(NR * p + 0.999999); return v[i < 1 ? 1 : i] }
		END {
			if (NR) printf "    %-26s %8d %9.2f %9.2f %9.2f %9.2f\n", title, NR, sum / NR, at(.95), at(.99), v[NR]
			else printf "    %-26s %8d\n", title, 0
		}'
}

give_up()						# MESSAGE
{
	tail -n 40 "$PGDATA.log"
	die "$1"
}

# CALL backfill_wait in the background, its lines to our output.
watch()
{
	printf '    CALL backfill_wait(%s);\n' "$run"
	"$bin/psql" -Xq -c "CALL backfill_wait($run)" 2>&1 | sed -u "s/^[[:space:]]*/    /" &
	watcher=$!
}

progress() { sql "SELECT coalesce(max(progress), 0)::int FROM backfill_runs WHERE id = $run"; }

# Whether anything of the server is alive.
server_alive()
{
	local p
	! kill -0 "$postmaster" 2>/dev/null || return 0
	for p in /proc/[0-9]*/cwd; do
		[ "$(readlink "$p")" != "$PGDATA" ] || return 0
	done 2>/dev/null
	return 1
}

# Wait until the run is at so many per cent; give up when it stands still for
# two minutes, however slow the machine may be.
await_progress()				# PERCENT
{
	local done=0 last=-1 moved=$SECONDS
	until [ "$done" -ge "$1" ]; do
		# Nobody waits any more: the run has failed, or the server has.
		kill -0 "$watcher" 2>/dev/null || give_up "The run did not get that far."
		[ "$done" = "$last" ] || moved=$SECONDS
		[ $((SECONDS - moved)) -lt 120 ] || give_up "The run makes no progress."
		last=$done
		sleep 0.2
		done=$(progress)
	done
}

step "Building the extension."
patiently private_install "$work/inst" || exit 1
step "A throw-away cluster; pgbench tables of 1,000,000 accounts."
cluster_create demo <<'CONF'
shared_buffers = 512MB
max_wal_size = 4GB
checkpoint_timeout = 15min
log_line_prefix = '%m [%p] %b '
CONF
cluster_start
"$bin/pgbench" -q -i -s 10 >"$work/init.log" 2>&1 || { cat "$work/init.log"; exit 1; }
sql "VACUUM ANALYZE"
sql "CHECKPOINT"
sync							# or the disk is busy while we measure "alone"

# A third of what the machine can bear: what waits then, waits for the backfill.
rate=$(capacity)
rate=$((${rate:-0} / 3))
rate=$((rate > 300 ? 300 : rate < 10 ? 10 : rate))
step "Traffic on them: pgbench, 2 clients, $rate transactions a second. First 12 s of it alone."
traffic &
sleep 3
alone_from=$(now)
sleep 12
alone_to=$(now)

step "A new column to fill, and a counter that will tell how often each row was touched."
show "CREATE EXTENSION backfill;"
show "ALTER TABLE pgbench_accounts ADD note text, ADD touched int NOT NULL DEFAULT 0;"
show "SELECT backfill_define('demo',
    target    => 'pgbench_accounts',
    statement => \$\$UPDATE batch SET note = 'account ' || aid, touched = touched + 1\$\$,
    settings  => '{\"batch_size\": 2000, \"target_batch_time\": 0, \"workers\": 2, \"sleep\": \"${DEMO_SLEEP:-100ms}\"}');" -o /dev/null
printf "    SELECT backfill_start('demo');\n"
run=$(sql "SELECT backfill_start('demo')")
say "    run $run"
run_from=$(now)

# If somebody has built the console, it shows the run, and what becomes of it below.
console="$tree/console/backfill-console"
if [ -x "$console" ]; then
	"$console" -d "host=$work port=$PGPORT user=postgres dbname=postgres" --read-only --listen "127.0.0.1:${DEMO_PORT:-8432}" >"$work/console.log" 2>&1 &
	for _ in $(seq 30); do
		! grep -qs ' listens at ' "$work/console.log" || {
			say "    Watch it at http://localhost:${DEMO_PORT:-8432}/"
			break
		}
		sleep 0.1
	done
else
	say "    (make console builds a console for the browser; make demo-console shows it.)"
fi

step "It runs in the background; the traffic goes on."
watch
await_progress 45
step "kill -9 of the server, in the middle of it."
run_to=$(now)
postmaster=$(head -n 1 "$PGDATA/postmaster.pid")
kill -9 "$postmaster"
wait "$watcher" || true
while server_alive; do sleep 0.1; done
step "The server is started again. Nobody tells the run to go on."
cluster_start
again_from=$(now)
say "    $(progress) % were done, and still are."
watch
wait "$watcher" || true
again_to=$(now)
step "The proof."
touch "$work/traffic.stop"
kill "$(cat "$work/pgbench.pid")" 2>/dev/null || true

show "SELECT count(*) AS rows, count(*) FILTER (WHERE touched = 1) AS once,
       count(*) FILTER (WHERE touched = 0) AS never,
       count(*) FILTER (WHERE touched > 1) AS more_often,
       count(*) FILTER (WHERE note = 'account ' || aid) AS right_note
  FROM pgbench_accounts;"
# Each range must begin, exclusively, where the one before ended.
show "SELECT count(*) AS batches, sum(rows_affected) AS rows_affected,
       min(start_key[1]::int) AS first_key, max(end_key[1]::int) AS last_key,
       count(*) FILTER (WHERE start_key <> before) AS gaps_or_overlaps
  FROM (SELECT *, lag(end_key) OVER (ORDER BY number) AS before
          FROM backfill_batches WHERE run_id = $run) b;"
show "SELECT id, name, status, rows_affected, batches, progress, rows_per_second,
       pg_size_pretty(wal_bytes) AS wal, started_at, finished_at
  FROM backfill_runs;" -x
say
say "    Some of its batches; attempt 2 are those that the kill undid:"
show "SELECT number, key_range, status, attempt, rows_affected AS rows,
       round(extract(epoch FROM duration) * 1000, 1) AS ms, pg_size_pretty(wal_bytes) AS wal, pid
  FROM backfill_batches
 WHERE number <= 2 OR attempt > 1 OR number > (SELECT batches - 2 FROM backfill_runs)
 ORDER BY number LIMIT 12;"

step "Latency of the foreground in ms."
printf '    %-26s %8s %9s %9s %9s %9s\n' "" number average "95 %" "99 %" longest
latency "alone" "$alone_from" "$alone_to"
latency "beside the backfill" "$run_from" "$run_to" "$again_from" "$again_to"
say

verdict=$(sql "
	SELECT r.status = 'completed' AND a.once AND b.once AND b.rows = a.rows AND r.rows_affected = a.rows
	  FROM backfill_runs r,
		   (SELECT count(*) AS rows, bool_and(touched = 1 AND note = 'account ' || aid) AS once,
				   min(aid) AS first, max(aid) AS last FROM pgbench_accounts) a,
	LATERAL (SELECT sum(rows_affected) AS rows,
				bool_and(status = 'completed') AND bool_and(start_key = before) AND
				bool_and(start_inclusive = (before IS NULL)) AND
				min(start_key[1]::int) = a.first AND max(end_key[1]::int) = a.last AS once
		   FROM (SELECT *, lag(end_key) OVER (ORDER BY number) AS before
				   FROM backfill_batches WHERE run_id = $run) b) b
	 WHERE r.id = $run")
if [ "$verdict" != t ]; then
	give_up "Not proven."
fi
step "Every row exactly once. Removing the cluster."
