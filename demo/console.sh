#!/usr/bin/env bash
#
# make demo-console: a throw-away cluster with traffic, a long run, one that has
# skipped rows and one that has failed, and the console for them, until interrupted.
#
#   DEMO_PORT=8432    where the console listens, on this machine only
#   DEMO_TIME=        seconds for which it is open; by default it does not end by itself

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
enter console "$@"

started=$SECONDS
step() { printf '\n[%3d s] %s\n' $((SECONDS - started)) "$*"; }

step "Building the extension and the console."
patiently private_install "$work/inst" || exit 1
make -C "$tree/console" -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" >"$work/console.log" 2>&1 || {
	cat "$work/console.log" >&2
	"$tree/scripts/lib.sh" missing console >&2
	die "The console cannot be built here."
}

step "A throw-away cluster with traffic, and some runs."
cluster_create demo <<'CONF'
shared_buffers = 256MB
max_wal_size = 4GB
max_worker_processes = 16
CONF
# Whoever logs in has to prove it.
printf '%s\n' 'local all postgres trust' 'local all all scram-sha-256' >"$PGDATA/pg_hba.conf"
cluster_start
"$bin/pgbench" -q -i -s 10 >"$work/init.log" 2>&1 || { cat "$work/init.log"; exit 1; }
sql "VACUUM ANALYZE"
sql "CREATE EXTENSION backfill"
sql "CREATE ROLE demo LOGIN PASSWORD 'demo'"
sql "ALTER TABLE pgbench_accounts OWNER TO demo; ALTER TABLE pgbench_accounts ADD note text"
sql "SET ROLE demo;
	SELECT backfill_define('notes', 'pgbench_accounts', \$\$UPDATE batch SET note = params.prefix || ' ' || aid\$\$,
		parameters => '{\"prefix\": {\"type\": \"text\", \"default\": \"account\", \"options\": [\"account\", \"customer\"], \"description\": \"what a note begins with\"}}',
		settings => '{\"rate_limit\": \"1500 per second\", \"workers\": 2}', description => 'fills the column note');
	SELECT backfill_define('ratios', 'pgbench_accounts', \$\$UPDATE batch SET note = (1000 / (aid % 20000))::text\$\$,
		settings => '{\"on_error\": \"skip\", \"limit\": 50000, \"share_target\": true}', description => 'some rows fail and are left out');
	SELECT backfill_define('fails', 'pgbench_accounts', \$\$UPDATE batch SET note = (1000 / (aid - 30000))::text\$\$,
		settings => '{\"share_target\": true}', description => 'fails at a row');
	SELECT backfill_start('ratios'); SELECT backfill_start('fails')" >/dev/null
sql "SET ROLE demo; SET backfill.note = 'make demo-console'; SELECT backfill_start('notes', settings => '{\"share_target\": true}')" >/dev/null
"$bin/pgbench" -n -c 2 -R 50 -T 1000000 >"$work/pgbench.log" 2>&1 &

port=${DEMO_PORT:-8432}
"$tree/console/backfill-console" -d "host=$work port=$PGPORT dbname=postgres" --listen "127.0.0.1:$port" \
	--metrics --metrics-role postgres >"$work/console.log" 2>&1 &
console=$!
for _ in $(seq 100); do
	! grep -q ' listens at ' "$work/console.log" || break
	kill -0 "$console" 2>/dev/null || { cat "$work/console.log" >&2; die "The console did not start."; }
	sleep 0.1
done
opened=$SECONDS
step "Open http://localhost:$port/ and log in as demo, with the password demo."
say "    http://localhost:$port/metrics is for Prometheus."
say "    Interrupt (Ctrl-C) to end it: the cluster is removed then."

# When the long run is through, another one begins.
while kill -0 "$console" 2>/dev/null; do
	[ -z "${DEMO_TIME:-}" ] || [ $((SECONDS - opened)) -lt "$DEMO_TIME" ] || exit 0
	sleep 2
	sql "SET ROLE demo; SELECT backfill_start('notes') WHERE NOT EXISTS
		(SELECT FROM backfill_runs WHERE name = 'notes' AND status <> 'completed')" >/dev/null 2>&1 || true
done
cat "$work/console.log" >&2
die "The console has ended."
