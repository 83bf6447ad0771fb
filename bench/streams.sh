# Streams; read by bench/run.sh, for BENCH=streams.
#
# A table of 64 partitions, by day, whose rows come in the order of their ids: a run with a
# stream for each partition, beside the same run through the parent along its primary key,
# which has to hold the column of the partitions.  Then what many streams cost.
#
#   BENCH_STREAM_ROWS=8000000   rows of the table
#   BENCH_STREAMS=10000         streams of one run
#   BENCH_PAIRS=5               pairs

stream_rows=${BENCH_STREAM_ROWS:-8000000}
many_streams=${BENCH_STREAMS:-10000}

# A fresh table of 64 partitions, frozen and written out.
streams_fresh()
{
	sql "SET client_min_messages = warning; DROP TABLE IF EXISTS parted"
	sql "CREATE TABLE parted (id bigint NOT NULL, day date NOT NULL, payload text NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)"
	sql "SELECT format('CREATE TABLE parted_%s PARTITION OF parted FOR VALUES FROM (%L) TO (%L) WITH (fillfactor = 50);',
		i, date '2026-01-01' + i, date '2026-01-02' + i) FROM generate_series(0, 63) i" | "$bin/psql" -XAtq -v ON_ERROR_STOP=1
	sql "INSERT INTO parted SELECT i, date '2026-01-01' + (i * 64 / ($stream_rows + 1))::int, 'payload of row ' || i FROM generate_series(1, $stream_rows::bigint) i"
	sql "VACUUM (FREEZE, ANALYZE) parted"
	sql "CHECKPOINT"
}

# Seconds that a run of the definition takes, from the first worker's begin to the end.
streams_run()					# NAME
{
	local run
	run=$(sql "SELECT backfill_start('$1')")
	sql "CALL backfill_wait($run)" >"$work/wait.log" 2>&1 || {
		cat "$work/wait.log"
		die "The run did not complete."
	}
	sql "SELECT round(extract(epoch FROM finished_at - started_at), 3) FROM backfill_runs WHERE id = $run AND status = 'completed' AND rows_affected = ${2:-$stream_rows}"
}

streams_partitions()
{
	local settings='{"workers": 2, "sleep": 0}' streams="" parent="" p q
	for _ in $(seq "$pairs"); do
		streams_fresh
		sql "SET client_min_messages = warning; SELECT backfill_define('parent', 'parted', 'UPDATE batch SET payload = upper(payload)', settings => '$settings')" >/dev/null
		p=$(streams_run parent)
		streams_fresh
		sql "SET client_min_messages = warning; SELECT backfill_define('partitions', 'parted', 'UPDATE batch SET payload = upper(payload)', settings => '$settings', streams => 'partitions')" >/dev/null
		q=$(streams_run partitions)
		[ -n "$p" ] && [ -n "$q" ] || die "Not all rows were changed."
		note "through the parent $p s, by partitions $q s"
		parent="$parent $p" streams="$streams $q"
	done
	# shellcheck disable=SC2046 # several values
	figure "64 partitions as streams / through the parent, 2 workers" 0.9 "" $(quotients "${streams# }" "${parent# }")
}

# Milliseconds a stream of a run, of which each has two rows, and of a look at all of them.
streams_many()
{
	local cost="" look="" seconds t0
	sql "SET client_min_messages = warning; DROP TABLE IF EXISTS many"
	sql "CREATE TABLE many AS SELECT a AS account, i AS id, 0 AS n FROM generate_series(1, $many_streams) a, generate_series(1, 2) i"
	sql "ALTER TABLE many ADD PRIMARY KEY (account, id)"
	sql "VACUUM (FREEZE, ANALYZE) many"
	for _ in $(seq "$pairs"); do
		t0=$(date +%s.%N)
		sql "SET client_min_messages = warning; SELECT backfill_define('many', 'many', 'UPDATE batch SET n = n + 1', settings => '{\"workers\": 2, \"sleep\": 0}',
			streams => 'SELECT account AS name, ARRAY[account] AS \"from\", ARRAY[account] AS \"to\" FROM generate_series(1, $many_streams) account')" >/dev/null
		streams_run many $((2 * many_streams)) >/dev/null
		seconds=$(since "$t0")
		cost="$cost $(awk -v s="$seconds" -v n="$many_streams" 'BEGIN { printf "%.3f", s * 1000 / n }')"
		look="$look $(timed "SELECT count(*), count(progress), count(cursor), count(eta) FROM backfill_streams WHERE run_id = (SELECT max(id) FROM backfill_runs)" | awk '{ printf "%.1f", $1 * 1000 }')"
		note "$many_streams streams: $seconds s, define, start and finish included; a look at them ${look##* } ms"
	done
	# shellcheck disable=SC2086
	{
		figure "$many_streams streams of 2 rows, each" 10 " ms" $cost
		figure "backfill_streams of all of them" 100 " ms" $look
	}
}

bench_streams()
{
	note "64 partitions, $stream_rows rows"
	streams_partitions
	streams_many
}
