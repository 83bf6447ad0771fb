#!/usr/bin/env bash
#
# make test: build, install privately, run every test on clusters of our own,
# leave nothing behind.  The last line says how many test files passed.
#
#   PG_CONFIG=...       the server to test with
#   TESTS="regress isolation tap pgtap"   which kinds of tests, these by default; console is
#                       one more, make test-console
#   PROVE_TESTS="..."   which TAP and pgTAP files, and those of the console (names or patterns)
#   PROVE_JOBS=4        TAP files at the same time; by default two more than there
#                       are processors, since most of them wait most of the time
#   PROVE_FLAGS=-v      further flags for prove
#   OLD_BINDIR=...      programs of another, older server, such as
#                       /usr/lib/postgresql/15/bin, for the test of pg_upgrade; the
#                       extension is built for it, unless it is installed there.
#                       Without, a server is upgraded to its own version.
#   BACKFILL_FULL=1     the long tests in full length

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
enter test "$@"

passed=0 failed=0 skipped=0
started=$SECONDS
: >"$work/failures"				# names of what has failed, a line each
: >"$work/details"				# and of TAP files what their logs say of it

heading() { printf '\n== %s\n' "$*"; }

# Whether a kind of tests is asked for.
wanted() { [[ " ${TESTS:-regress isolation tap pgtap} " == *" $1 "* ]]; }

# Add the outcome of a kind: files, passed ones, skipped ones.  What did not
# report, because the driver died, has failed.
count()							# TOTAL PASSED [SKIPPED]
{
	passed=$((passed + $2))
	skipped=$((skipped + ${3:-0}))
	failed=$((failed + $1 - $2 - ${3:-0}))
}

# The end of a log, under its name.
show()							# LINES FILE ...
{
	local f n=$1
	shift
	for f in "$@"; do
		[ -s "$f" ] || continue
		printf -- '---- %s\n' "${f#"$work/"}"
		tail -n "$n" "$f"
	done
}

# The files of a kind that PROVE_TESTS selects.
selected()						# FILE ...
{
	local f p
	for f in "$@"; do
		[ -e "$f" ] || continue
		[ -n "${PROVE_TESTS:-}" ] || echo "$f"
		for p in ${PROVE_TESTS:-}; do
			# shellcheck disable=SC2053 # a pattern, unquoted
			if [[ $f == $p || $f == test/$p || ${f##*/} == $p || ${f##*/} == ${p##*/} ]]; then
				echo "$f"
				break
			fi
		done
	done
}

# pg_regress and pg_isolation_regress: 15 writes "test x ... ok", later "ok 1".
run_regress()					# KIND DIRECTORY PROGRAM NAME ...
{
	local kind=$1 dir=$2 program=$3 out=$work/$1 ok
	shift 3
	heading "$kind"
	mkdir -p "$out"
	(cd "$dir" && "$pgxs/src/test/$program" --bindir="$bin" --inputdir=. \
		--outputdir="$out" --temp-instance="$out/instance" \
		--temp-config="$tree/test/regress.conf" --no-locale --encoding=UTF8 \
		--load-extension=backfill --dbname="backfill_$kind" "$@") 2>&1 |
		tee "$work/$kind.out" || {
		cat "$out/regression.diffs" 2>/dev/null || true
		show 40 "$out"/log/postmaster.log
	}
	ok=$(grep -cE '^(test .* \.\.\. ok|ok [0-9])' "$work/$kind.out") || true
	count $# "$ok"
	awk -v kind="$kind" '/^test .*FAILED/ { print kind, $2 }
		/^not ok [0-9]/ { print kind, $5 }' "$work/$kind.out" >>"$work/failures"
	[ "$ok" = $# ] || grep -q "^$kind " "$work/failures" || echo "$kind: did not run" >>"$work/failures"
}

# prove names the failed files in its summary, and ends with "Files=".
run_prove()						# KIND FLAG ... -- FILE ...
{
	local kind=$1 flags=() bad=0 skip
	shift
	while [ "$1" != -- ]; do
		flags+=("$1")
		shift
	done
	shift
	heading "$kind"
	# shellcheck disable=SC2086 # several flags
	prove "${flags[@]}" ${PROVE_FLAGS:-} "$@" 2>&1 | tee "$work/$kind.out" || {
		prove_failed=true
		bad=$(grep -cE '^test/.* +\(Wstat' "$work/$kind.out") || true
		sed -nE 's/^(test\/\S+) +\(Wstat.*/\1/p' "$work/$kind.out" >>"$work/failures"
	}
	skip=$(grep -cE '^(test/.* \.\.+ )?skipped: ' "$work/$kind.out") || true
	if grep -q '^Files=' "$work/$kind.out"; then
		count $# $(($# - bad - skip)) "$skip"
	else
		count $# 0
		echo "$kind: did not come to its end" >>"$work/failures"
	fi
}

# Nearly every test has a cluster "main", and they all begin alike: an initdb that copies one which
# is made once, where it is asked for such.  The others of a test are made, since they are to be
# other systems than that.
make_template()
{
	[ ! -d "$work/template" ] || return 0
	mkdir "$work/template"
	"$bin/initdb" -D "$work/template/data" -A trust -N -U postgres >"$work/template/log" 2>&1 || {
		cat "$work/template/log" >&2
		die "initdb failed."
	}
	cat >"$work/template/initdb" <<-SH
		#!/bin/sh
		case "\$# \$*" in
			"7 -D "*"_main_data/pgdata -A trust -N -U postgres")
				exec cp -a "$work/template/data" "\$2" ;;
		esac
		exec "$bin/initdb" "\$@"
	SH
	chmod +x "$work/template/initdb"
}

# TAP files in the folder, with the modules of PostgreSQL and our own.
run_tap()						# KIND FOLDER FILE ...
{
	local kind=$1 folder=$2 f log
	shift 2
	# 15 and 16 know TESTDIR only.
	mkdir -p "$work/$kind/tmp_check"
	echo "dynamic_shared_memory_type = mmap" >"$work/$kind/extra.conf"
	prove_failed=false
	make_template
	(
		unset PGDATA PGHOST PGPORT PGUSER PGDATABASE
		export PG_REGRESS=$pgxs/src/test/regress/pg_regress
		export TESTDIR=$work/$kind TESTDATADIR=$work/$kind/tmp_check
		export TESTLOGDIR=$work/$kind/tmp_check/log TEMP_CONFIG=$work/$kind/extra.conf
		export PATH=$work/template:$bin:$PATH
		run_prove "$kind" -j "${PROVE_JOBS:-$(($(nproc) + 2))}" -I "$pgxs/src/test/perl" -I test/perl -- "$@"
		say "$passed $failed $skipped $prove_failed" >"$work/$kind.count"
	)
	read -r passed failed skipped prove_failed <"$work/$kind.count"
	! $prove_failed || for f in "$@"; do
		f=${f##*/}
		f=${f%.pl}
		# What prove's summary names has failed.
		grep -qE "^$folder/$f\.pl +\(Wstat" "$work/$kind.out" || continue
		show 60 "$work/$kind/tmp_check/log/regress_log_$f"
		# One that has died may have none.
		{ grep -A 4 -E '(^|[ )])not ok [0-9]' "$work/$kind/tmp_check/log/regress_log_$f" || true; } |
			sed -E 's/^\[[0-9:.]+\]\([0-9.]+s\) *//; /^(--|)$/d' | sed -n "1,20s,^,$folder/$f: ,p" >>"$work/details"
		for log in "$work/$kind/tmp_check/log/$f"_*.log; do
			show 30 "$log"
		done
	done
}

# The console, as it is and with sanitizers; false if what it needs is missing.
build_console()
{
	local dir log=$work/console.log
	[ -f /usr/include/microhttpd.h ] && [ -f /usr/share/javascript/dygraphs/dygraph.min.js ] || return 1
	for dir in console console-asan; do
		mkdir -p "$work/$dir"
		cp -R "$tree/console" "$tree/backfill.control" "$work/$dir/"
		make -C "$work/$dir/console" -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" \
			SANITIZE="$([ "$dir" = console ] || echo 1)" >"$log" 2>&1 || {
			cat "$log" >&2
			die "The build of the console failed."
		}
	done
}

private_install "$work/inst"
pgxs=$(dirname "$(dirname "$(dirname "$(pgconf pgxs)")")")
pgxs=$work/inst$pgxs
say "$("$bin/postgres" --version), $(gcc --version | head -n 1)"

# Those that take long begin first, so that none is alone at the end.
# shellcheck disable=SC2046 # no name has a blank
mapfile -t tap_files < <(selected $({
	sed 's,^,test/t/,' test/slow
	ls test/t/*.pl
} | awk '!seen[$0]++'))

# The build that is wrong on purpose, for the negative control, beside the tests
# that do not need it.
negative=
if wanted tap && [[ " ${tap_files[*]} " == *" test/t/crash_negative_control.pl "* ]]; then
	private_install "$work/negative" NEGATIVE_CONTROL=1 &
	negative=$!
fi

mapfile -t files < <(find sql -name '*.sql' ! -name 'backfill--*' -printf '%f\n' | sed 's/\.sql$//' | sort)
if wanted regress && [ ${#files[@]} -gt 0 ]; then
	run_regress regress . regress/pg_regress "${files[@]}"
fi

mapfile -t files < <(find test/specs -name '*.spec' -printf '%f\n' 2>/dev/null | sed 's/\.spec$//' | sort)
if wanted isolation && [ ${#files[@]} -gt 0 ]; then
	run_regress isolation test isolation/pg_isolation_regress "${files[@]}"
fi

mapfile -t files < <(selected test/pgtap/*.sql)
if wanted pgtap && [ ${#files[@]} -gt 0 ]; then
	if [ -f "$(pgconf sharedir)/extension/pgtap.control" ]; then
		cluster_create pgtap <test/regress.conf
		cluster_start
		prove_failed=false
		run_prove pgtap --ext .sql --exec "$tree/test/pgtap.sh $bin" -- "${files[@]}"
		cluster_stop fast
		! $prove_failed || show 60 "$PGDATA.log"
	else
		heading pgtap
		say "skipped: this server has no pgtap"
		count ${#files[@]} 0 ${#files[@]}
	fi
fi

if wanted tap && [ ${#tap_files[@]} -gt 0 ]; then
	[ -z "$negative" ] || wait "$negative" || exit 1
	old_bin=
	if [ -n "${OLD_BINDIR:-}" ]; then
		if [ -f "$("$OLD_BINDIR/pg_config" --pkglibdir)/backfill.so" ]; then
			old_bin=$OLD_BINDIR
		else
			PG_CONFIG=$OLD_BINDIR/pg_config private_install "$work/old"
			old_bin=$work/old$("$OLD_BINDIR/pg_config" --bindir)
		fi
	fi
	BACKFILL_NEGATIVE_BIN=$work/negative$(pgconf bindir) BACKFILL_OLD_BIN=$old_bin \
		run_tap tap test/t "${tap_files[@]}"
fi

mapfile -t console_files < <(selected test/console/*.pl)
if wanted console && [ ${#console_files[@]} -gt 0 ]; then
	if build_console; then
		BACKFILL_CONSOLE=$work/console/console/backfill-console \
			BACKFILL_CONSOLE_ASAN=$work/console-asan/console/backfill-console \
			run_tap console test/console "${console_files[@]}"
	else
		heading console
		say "skipped: libmicrohttpd, libpq or dygraphs is missing"
		count ${#console_files[@]} 0 ${#console_files[@]}
	fi
fi

say
say "Took $((SECONDS - started)) s."
# The logs above may be long: what to look for in them stands at the end.
sed 's/^/FAILED: /' "$work/failures" "$work/details"
summary="$passed passed, $failed failed"
[ "$skipped" = 0 ] || summary="$summary, $skipped skipped"
say "$summary"
# Nothing run is nothing shown.
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
