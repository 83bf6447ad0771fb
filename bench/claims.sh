# Work outside of the server; read by bench/run.sh, for BENCH=claims.
#
# Claims and completions of batches, beside a queue as one writes it by hand: a table with a
# status in each row, FOR UPDATE SKIP LOCKED, and an index on what is pending.  10,000 clients
# share the connections.
#
#   BENCH_CONTACTS=10000000   rows of the table, and of the queue
#   BENCH_SECONDS=5           for each measurement

contacts=${BENCH_CONTACTS:-10000000}
seconds_each=${BENCH_SECONDS:-5}

claims_tables()
{
	note "two tables of $contacts rows"
	sql "DROP TABLE IF EXISTS contacts, queue"
	sql "CREATE TABLE contacts AS SELECT i::bigint AS id, 'contact' || i || '@example.org' AS email, i % 1000 AS tenant
		FROM generate_series(1, $contacts) i; ALTER TABLE contacts ADD PRIMARY KEY (id)"
	sql "CREATE TABLE queue AS SELECT id, email, tenant, 'pending' AS status, NULL::text AS worker,
		NULL::timestamptz AS claimed_at, NULL::timestamptz AS done_at FROM contacts;
		ALTER TABLE queue ADD PRIMARY KEY (id); CREATE INDEX queue_pending ON queue (id) WHERE status = 'pending'"
	sql "VACUUM (FREEZE, ANALYZE) contacts"
	sql "VACUUM (FREEZE, ANALYZE) queue"
	sql "SET client_min_messages = warning; SELECT backfill_define('contacts', 'contacts', NULL)" >/dev/null
	cat >"$work/claim.sql" <<-'SQL'
		\if :have
		\else
		\set w random(1, 10000)
		SELECT coalesce(number, 0) AS number, coalesce(part, 0) AS part, coalesce(token, '') AS token FROM backfill_claim(:run, 'client ' || :w) \gset
		\set have :number > 0
		\endif
	SQL
	cat >"$work/complete.sql" <<-'SQL'
		\if :have
		SELECT backfill_complete(:run, :number, :part, :token);
		\set have 0
		\endif
	SQL
	# one transaction of pgbench is one batch; the other two scripts tell them apart
	cat >"$work/both.sql" <<-'SQL'
		\set w random(1, 10000)
		SELECT coalesce(number, 0) AS number, coalesce(part, 0) AS part, coalesce(token, '') AS token FROM backfill_claim(:run, 'client ' || :w) \gset
		\if :number > 0
		SELECT backfill_complete(:run, :number, :part, :token);
		\endif
	SQL
	cat >"$work/queue.sql" <<-'SQL'
		\set w random(1, 10000)
		WITH c AS (UPDATE queue SET status = 'running', worker = 'client ' || :w, claimed_at = now() WHERE id IN (SELECT id FROM queue WHERE status = 'pending' ORDER BY id LIMIT :n FOR UPDATE SKIP LOCKED) RETURNING id) SELECT array_agg(id)::text AS ids FROM c \gset
		UPDATE queue SET status = 'done', done_at = now() WHERE id = ANY (:ids::bigint[]);
	SQL
}

# Begin a run for clients, with batches of so many rows; sets run.
claims_begin()					# ROWS
{
	local r
	for r in $(sql "SELECT id FROM backfill_runs WHERE status IN ('enqueued', 'running')"); do
		sql "SELECT backfill_stop($r, true)" >/dev/null
	done
	until [ "$(sql "SELECT count(*) FROM backfill_runs WHERE status IN ('enqueued', 'running')")" = 0 ]; do :; done
	run=$(sql "SELECT backfill_start('contacts', settings => '{\"batch_size\": $1}')")
	until [ "$(sql "SELECT count(*) FROM backfill_batches WHERE run_id = $run")" -gt 0 ]; do :; done
	sql "CHECKPOINT"
}

# Rows per second of our clients, and of those of the queue.
claims_ours()					# ROWS CONNECTIONS
{
	claims_begin "$1"
	"$bin/pgbench" -n -M prepared -D run="$run" -f "$work/both.sql" -c "$2" -j 2 -T "$seconds_each" >"$work/pgbench.log" 2>&1 ||
		die "pgbench has failed: $(tail -n 3 "$work/pgbench.log")"
	sql "SELECT round(sum(rows_affected) / extract(epoch FROM max(finished_at) - min(claimed_at)))
		FROM backfill_batches WHERE run_id = $run AND status = 'completed'"
}

claims_queue()					# ROWS CONNECTIONS
{
	local before
	before=$(sql "CHECKPOINT; SELECT clock_timestamp()")
	"$bin/pgbench" -n -M prepared -D n="$1" -f "$work/queue.sql" -c "$2" -j 2 -T "$seconds_each" >"$work/pgbench.log" 2>&1 ||
		die "pgbench has failed: $(tail -n 3 "$work/pgbench.log")"
	sql "SELECT round(count(*) / extract(epoch FROM max(done_at) - min(claimed_at)))
		FROM queue WHERE done_at > '$before' AND status = 'done'"
}

# An old snapshot, until claims_forget.
claims_remember()
{
	"$bin/psql" -XAtqc "SET application_name = 'old snapshot'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT pg_sleep(36000)" >/dev/null 2>&1 &
	until [ "$(sql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'old snapshot' AND backend_xmin IS NOT NULL")" -gt 0 ]; do :; done
}

claims_forget()
{
	sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'old snapshot'" >/dev/null
}

claims_beside()					# TITLE
{
	local n c ours queue inverse p q limit
	for n in 1 50 200; do
		for c in 1 16 100; do
			ours="" queue="" inverse=""
			for _ in $(seq "$pairs"); do
				p=$(claims_ours "$n" "$c")
				q=$(claims_queue "$n" "$c")
				note "$1batches of $n, $c connections: $p rows/s, queue $q rows/s"
				ours="$ours $p" queue="$queue $q"
			done
			limit=-
			[ "$n" != 1 ] || limit=1.25
			[ "$n" != 50 ] || limit=0.2
			# shellcheck disable=SC2046 # several values
			figure "$1queue / claims, batches of $n, $c connections" "$limit" "" $(quotients "${queue# }" "${ours# }")
		done
	done
}

# The median and the 99th percentile of a claim, in milliseconds.
claims_latency()
{
	local ratio="" v
	for _ in $(seq "$pairs"); do
		claims_begin 50
		rm -f "$work"/latency*
		(cd "$work" && "$bin/pgbench" -n -M prepared -D run="$run" -D have=0 -D number=0 -D part=0 -D token=none -f claim.sql -f complete.sql \
			-c 16 -j 2 -T "$seconds_each" -l --log-prefix=latency) >"$work/pgbench.log" 2>&1
		v=$(cat "$work"/latency* | awk '$4 == 0 && $3 > 100 { print $3 }' | sort -n |
			awk '{ v[NR] = $1 } END { printf "%.3f %.3f %.3f", v[int(NR * 0.99)] / v[int(NR / 2)], v[int(NR / 2)] / 1000, v[int(NR * 0.99)] / 1000 }')
		note "claims at 16 connections: median $(cut -d' ' -f2 <<<"$v") ms, 99th percentile $(cut -d' ' -f3 <<<"$v") ms"
		ratio="$ratio ${v%% *}"
	done
	# shellcheck disable=SC2086
	figure "99th percentile of a claim / median, 16 connections" 2 "" $ratio
}

# What the batches about the 100,000th cost, to those about the 1,000th.
claims_late()					# TITLE
{
	local ratio="" v
	claims_begin 1
	"$bin/pgbench" -n -M prepared -D run="$run" -f "$work/both.sql" -c 16 -j 2 -t 6600 >"$work/pgbench.log" 2>&1
	v=$(sql "SELECT round((SELECT extract(epoch FROM max(claimed_at) - min(claimed_at)) FROM backfill_batches WHERE run_id = $run AND number BETWEEN 97500 AND 102500)
		/ (SELECT extract(epoch FROM max(claimed_at) - min(claimed_at)) FROM backfill_batches WHERE run_id = $run AND number BETWEEN 1000 AND 6000), 3)")
	ratio="$ratio $v"
	# shellcheck disable=SC2086
	figure "$1 5,000 claims about the 100,000th / from the 1,000th" 1.3 "" $ratio
}

# 1,000 tenants by Zipf's law: the largest has 1,000,000 rows, the smallest 1,000.
claims_shares()
{
	local cost="" largest="" p q r
	sql "DROP TABLE IF EXISTS zipf"
	sql "CREATE TABLE zipf AS SELECT t AS tenant, i AS id FROM generate_series(1, 1000) t,
		LATERAL generate_series(1, greatest(1, (SELECT least($contacts / 10, 1000000) / t ^ 2)::int)) i"
	sql "ALTER TABLE zipf ADD PRIMARY KEY (tenant, id)"
	sql "VACUUM (FREEZE, ANALYZE) zipf"
	note "$(sql "SELECT sum(n) || ' rows, ' || count(*) FILTER (WHERE n <= 1000) || ' of ' || count(*) || ' tenants have up to 1,000' FROM (SELECT count(*) n FROM zipf GROUP BY tenant) s")"
	for _ in $(seq "$pairs"); do
		for r in '' ', "share_by": "tenant"'; do
			sql "SET client_min_messages = warning; SELECT backfill_define('zipf', 'zipf', NULL, settings => '{\"batch_size\": 100$r}')" >/dev/null
			run=$(sql "SELECT backfill_start('zipf')")
			until [ "$(sql "SELECT count(*) FROM backfill_batches WHERE run_id = $run")" -gt 0 ]; do :; done
			until [ "$(sql "SELECT status FROM backfill_runs WHERE id = $run")" = completed ]; do
				"$bin/pgbench" -n -M prepared -D run="$run" -f "$work/both.sql" -c 16 -j 2 -t 100 >"$work/pgbench.log" 2>&1
			done
			p=$(sql "SELECT extract(epoch FROM max(finished_at) - min(claimed_at)) FROM backfill_batches WHERE run_id = $run")
			[ -n "$r" ] || q=$p
		done
		note "one after the other $q s, in turn $p s"
		cost="$cost $(awk -v a="$p" -v b="$q" 'BEGIN { printf "%.3f", a / b }')"
		largest="$largest $(sql "WITH n AS (SELECT share, sum(rows_affected) AS n, max(finished_at) AS ended FROM backfill.batch WHERE run_id = $run GROUP BY share),
			small AS (SELECT max(ended) AS ended FROM n WHERE n <= 1000)
			SELECT round(coalesce(sum(rows_affected), 0) / (SELECT max(n) FROM n), 4) FROM backfill.batch, small WHERE run_id = $run AND share = 1 AND finished_at < small.ended")"
	done
	# shellcheck disable=SC2086
	{
		figure "share_by 1,000 tenants / without" 1.3 "" $cost
		figure "share of the largest that is done when all of up to 1,000 rows are" 0.05 "" $largest
	}
}

bench_claims()
{
	claims_tables
	claims_beside ""
	claims_latency
	claims_late ""
	claims_remember
	claims_beside "old snapshot: "
	claims_late "old snapshot:"
	claims_forget
	claims_shares
}
