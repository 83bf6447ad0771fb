# What a backfill does to the foreground; read by bench/run.sh, for
# BENCH=foreground.
#
# pgbench's own transactions, two clients, at half of the rate that the machine
# can bear, on the table that is filled at the same time: without any run, beside
# a run with the preset "polite", one with the defaults, one of two workers that nothing
# governs, beside the loop that one would write, and beside a program that uses the processor
# for 2.2 ms in 12.2, as a worker of the defaults does, and nothing else: less than that cannot
# be had at this share.  The rate is measured as the segments are, after a vacuum and a
# checkpoint, the median of three.  One segment of each follows
# the other, so that all of them see the same machine; the first round is not
# counted.  Each round has new tables: every segment fills from the first row on, and rows that
# are filled again and again lie scattered in the end, as in no table that is filled once.
#
#   BENCH_SEGMENT=10      seconds of each segment
#   BENCH_MODES="none polite defaults computing ungoverned loop"   which of them
#   BENCH_FOREGROUND=same   what the foreground does: pgbench's own transactions on the
#                         table that is filled (same), on another one (other), or reads
#                         of single rows of that table alone (reads)
#   BENCH_POLITE='{"preset": "polite"}'   settings of that mode

segment_rate=0					# transactions per second
foreground_does=${BENCH_FOREGROUND:-same}
filled=pgbench_accounts			# the table that is filled
[ "$foreground_does" != other ] || filled=fill_accounts

# pgbench for so many seconds.  Sets `p99` (ms), `tps`.
foreground()					# SECONDS [OPTION ...]
{
	local t=$1 script=()
	shift
	[ "$foreground_does" != reads ] || script=(-S)
	rm -f "$work"/pgbench.log.*
	"$bin/pgbench" -n -c 2 -j 1 -T "$t" -l --log-prefix="$work/pgbench.log" "${script[@]}" "$@" postgres \
		>"$work/pgbench.out" 2>&1 || die "$(cat "$work/pgbench.out")"
	tps=$(sed -n 's/^tps = \([0-9.]*\) .*/\1/p' "$work/pgbench.out")
	p99=$(cat "$work"/pgbench.log.* | awk '{ print $3 }' | sort -n |
		awk '{ v[NR] = $1 } END { printf "%.3f", v[int(NR * 0.99)] / 1000 }')
}

# Begin to fill the column in that way.
fill_start()					# MODE
{
	local settings
	case $1 in
		none) return ;;
		computing)
			perl -MTime::HiRes=time,sleep -e 'for (;;) { my $t = time + 0.0022; 1 while time < $t; sleep 0.01 }' &
			filler=$!
			return
			;;
		loop)
			sql "UPDATE fill_progress SET rows = 0" >/dev/null
			PGOPTIONS="-c synchronous_commit=off" "$bin/psql" -Xq -c "CALL fill()" \
				>/dev/null 2>&1 &
			filler=$!
			until [ "$(sql "SELECT rows FROM fill_progress")" -gt 0 ]; do sleep 0.1; done
			return
			;;
		ungoverned)
			settings='{"workers": 2, "batch_size": 5000, "target_batch_time": 0, "sleep": "0", "yield_after": "off"}'
			;;
		polite) settings=${BENCH_POLITE:-'{"preset": "polite"}'} ;;
		defaults) settings='{}' ;;
	esac
	run=$(sql "SELECT backfill_start('fill', settings => '$settings')")
	until [ "$(sql "SELECT batches > 0 FROM backfill_runs WHERE id = $run")" = t ]; do sleep 0.1; done
}

fill_rows()						# MODE
{
	case $1 in
		none | computing) echo 0 ;;
		loop) sql "SELECT rows FROM fill_progress" ;;
		*) sql "SELECT rows_scanned FROM backfill_runs WHERE id = $run" ;;
	esac
}

fill_stop()						# MODE
{
	case $1 in
		none) return ;;
		computing)
			kill "$filler"
			wait "$filler" || true
			;;
		loop)
			sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				  WHERE query LIKE 'CALL fill(%'" >/dev/null
			wait "$filler" || true
			;;
		*)
			[ "$(sql "SELECT status FROM backfill_runs WHERE id = $run")" = running ] ||
				die "The run has come to its end: take a shorter BENCH_SEGMENT."
			sql "SELECT backfill_stop($run, true)" >/dev/null
			sql "CALL backfill_wait($run)" >/dev/null 2>&1 || true
			;;
	esac
}

# The tables as each segment finds them, and so does the measure of what the machine can do.
before_segment()
{
	sql "VACUUM pgbench_accounts" >/dev/null
	[ "$filled" = pgbench_accounts ] || sql "VACUUM $filled" >/dev/null
	sql "VACUUM pgbench_tellers" >/dev/null
	sql "VACUUM pgbench_branches" >/dev/null
	sql "CHECKPOINT" >/dev/null
}

# One segment.  Sets `p99`, `tps` and `speed` (rows per second).
segment()						# MODE
{
	local before t0
	before_segment
	fill_start "$1"
	before=$(fill_rows "$1")
	t0=$(date +%s.%N)
	foreground "${BENCH_SEGMENT:-10}" -R "$segment_rate"
	speed=$(date +%s.%N | awk -v t0="$t0" -v a="$before" -v b="$(fill_rows "$1")" \
		'{ printf "%.0f", (b - a) / ($1 - t0) }')
	fill_stop "$1"
}

# The tables of a round.
foreground_tables()
{
	sql "DROP TABLE IF EXISTS $filled" >/dev/null 2>&1
	"$bin/pgbench" -i -q -s 50 postgres >/dev/null 2>&1
	if [ "$filled" != pgbench_accounts ]; then
		sql "CREATE TABLE $filled (LIKE pgbench_accounts INCLUDING ALL)" >/dev/null
		sql "INSERT INTO $filled SELECT * FROM pgbench_accounts" >/dev/null
	fi
	sql "SET client_min_messages = warning; SELECT backfill_define('fill', '$filled', \$s\$UPDATE batch SET filler = md5(aid::text)\$s\$)" >/dev/null
}

bench_foreground()
{
	local mode rates="" round rounds=$((pairs < 5 ? 5 : pairs))
	local -A p99s tpss speeds
	foreground_tables
	sql "CREATE TABLE fill_progress (rows bigint); INSERT INTO fill_progress VALUES (0)" >/dev/null
	sql "CREATE PROCEDURE fill() LANGUAGE plpgsql AS \$\$
		DECLARE
			done bigint := 1;
		BEGIN
			LOOP
				UPDATE $filled SET filler = md5(aid::text)
				 WHERE aid >= done AND aid < done + 5000;
				EXIT WHEN NOT FOUND;
				done := done + 5000;
				UPDATE fill_progress SET rows = rows + 5000;
				COMMIT;
			END LOOP;
		END \$\$"

	for _ in 1 2 3; do
		before_segment
		foreground "${BENCH_SEGMENT:-10}"
		rates="$rates $tps"
	done
	# shellcheck disable=SC2086
	tps=$(median $rates)
	segment_rate=$(awk -v t="$tps" 'BEGIN { printf "%d", t / 2 }')
	note "the foreground does: $foreground_does; the table that is filled: $filled"
	note "the machine can do $tps transactions per second, asked for $segment_rate"
	for round in $(seq 0 "$rounds"); do
		[ "$round" = 0 ] || foreground_tables
		for mode in ${BENCH_MODES:-none polite defaults computing ungoverned loop}; do
			segment "$mode"
			note "$mode: p99 $p99 ms, $tps transactions/s, $speed rows/s"
			[ "$round" -gt 0 ] || continue
			p99s[$mode]="${p99s[$mode]:-} $p99"
			tpss[$mode]="${tpss[$mode]:-} $tps"
			speeds[$mode]="${speeds[$mode]:-} $speed"
		done
	done
	# shellcheck disable=SC2086,SC2046
	{
		if [ -n "${p99s[polite]:-}" ] && [ -n "${p99s[none]:-}" ]; then
			figure "foreground ($foreground_does) p99, polite / no run" 2 "" $(quotients "${p99s[polite]# }" "${p99s[none]# }")
			figure "foreground time a transaction, polite / no run" 1.031 "" $(quotients "${tpss[none]# }" "${tpss[polite]# }")
		fi
		[ -z "${speeds[polite]:-}" ] || [ -z "${speeds[ungoverned]:-}" ] ||
			figure "speed, ungoverned / polite" 20 "" $(quotients "${speeds[ungoverned]# }" "${speeds[polite]# }")
		for mode in defaults computing ungoverned loop; do
			[ -n "${p99s[$mode]:+${p99s[none]:-}}" ] || continue
			figure "  foreground p99, $mode / no run" - "" $(quotients "${p99s[$mode]# }" "${p99s[none]# }")
			figure "  foreground time a transaction, $mode / no run" - "" $(quotients "${tpss[none]# }" "${tpss[$mode]# }")
		done
		for mode in polite defaults ungoverned loop; do
			[ -z "${speeds[$mode]:-}" ] || figure "  rows per second, $mode" - "" ${speeds[$mode]}
		done
		for mode in none polite defaults computing ungoverned loop; do
			[ -z "${p99s[$mode]:-}" ] || figure "  p99, $mode" - " ms" ${p99s[$mode]}
		done
	}
}
