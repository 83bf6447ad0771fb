#!/usr/bin/env bash
#
# What the scripts of make test, make demo and make bench have in common:
# packages, the temporary directory and its removal, the unprivileged user,
# the private installation, clusters.
#
# A script sources this file and calls `enter`.  That happens twice.  The outer
# process, the one the user started, installs what is missing, copies the tree
# to a temporary directory and runs the script again from there, as an ordinary
# user (a PostgreSQL server refuses to run as root).  In that inner process
# `enter` returns and the work begins; it may die at any point and need not
# clean up.  Whatever becomes of it, the outer process ends all that still runs
# in the temporary directory and removes it.
#
# Executed, not sourced: `lib.sh missing build|test` lists missing packages.

set -euo pipefail
exec </dev/null					# never wait for a terminal

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# --- Packages ---------------------------------------------------------------

have() { command -v "$1" >/dev/null 2>&1; }

# Run a command, and show a dot now and then as long as it takes.
patient=
patiently()						# COMMAND ...
{
	local rc=0
	"$@" &
	patient=$!
	while sleep 2 && kill -0 "$patient" 2>/dev/null; do printf .; done &
	wait "$patient" || rc=$?
	patient=
	kill $! 2>/dev/null || true
	wait $! 2>/dev/null || true
	printf '\n'
	return "$rc"
}

# The pg_config in use: the one given, the one in PATH, the newest of Debian's.
find_pg_config()
{
	if [ -z "${PG_CONFIG:-}" ]; then
		PG_CONFIG=$(command -v pg_config ||
			find /usr/lib/postgresql -path '*/bin/pg_config' 2>/dev/null |
			sort -V | tail -n 1) || true
	elif have "$PG_CONFIG"; then
		PG_CONFIG=$(realpath -s "$(command -v "$PG_CONFIG")")
	fi
	export PG_CONFIG
}

# Its major version, or the one the distribution would install.
major_version()
{
	local v=
	if [[ ${PG_CONFIG:-} =~ /postgresql/([0-9]+)/ ]]; then
		v=${BASH_REMATCH[1]}
	elif [ -n "${PG_CONFIG:-}" ]; then
		v=$("$PG_CONFIG" --version 2>/dev/null | sed 's/[^0-9]*\([0-9]*\).*/\1/') || true
	elif have apt-cache; then
		v=$(apt-cache show postgresql 2>/dev/null |
			sed -n 's/^Depends: postgresql-\([0-9]*\).*/\1/p' | head -n 1) || true
	fi
	printf '%s' "${v:-15}"
}

# Whether the server is the distribution's, so that packages can complete it.
packaged_server()
{
	[ -z "${PG_CONFIG:-}" ] ||
		[[ $("$PG_CONFIG" --bindir 2>/dev/null) == /usr/lib/postgresql/* ]] ||
		[[ $PG_CONFIG == /usr/lib/postgresql/* ]]
}

pgconf() { "$PG_CONFIG" "--$1" 2>/dev/null || true; }

# Whether a kind of tests is among those that this is for.
kind_wanted()					# build|test KIND
{
	[ "$1" = test ] && [[ " ${TESTS:-regress isolation tap pgtap} " == *" $2 "* ]]
}

# Whether the distribution has a package, as far as the lists here tell.
offered() { have apt-cache && apt-cache show "$1" >/dev/null 2>&1; }

# Whether these lists have just been read.
lists_read=false

# Packages that $1 (build or test) needs and that are not there.  What counts is
# the file that is needed, not the package: a server may come from elsewhere.
missing_packages()
{
	local v
	find_pg_config
	v=$(major_version)
	have make || echo make
	have gcc || echo gcc
	{ have gcc && echo '#include <stdio.h>' | gcc -E -x c - >/dev/null 2>&1; } ||
		echo libc6-dev
	if packaged_server; then
		{ [ -n "$PG_CONFIG" ] && [ -x "$(pgconf bindir)/postgres" ] &&
			[ -x "$(pgconf bindir)/pgbench" ]; } ||
			echo "postgresql-$v"
		{ [ -n "$PG_CONFIG" ] && [ -f "$(pgconf pgxs)" ] &&
			[ -f "$(pgconf includedir-server)/postgres.h" ]; } ||
			echo "postgresql-server-dev-$v"
		# Not every server has a package of these; their tests skip then.
		! kind_wanted "$1" pgtap || [ -f "$(pgconf sharedir)/extension/pgtap.control" ] ||
			{ $lists_read && ! offered "postgresql-$v-pgtap"; } ||
			echo "postgresql-$v-pgtap"
		! kind_wanted "$1" tap || [ -f "$(pgconf sharedir)/extension/pg_cron.control" ] ||
			! offered "postgresql-$v-cron" ||
			echo "postgresql-$v-cron"
	fi
	if [ "$1" = test ]; then
		have prove || echo perl
		{ have perl && perl -MIPC::Run -e 1 2>/dev/null; } || echo libipc-run-perl
	fi
}

# Packages that tests of $1 would like to have: what reads the metrics, and drivers for the
# clients, each of which is tested where its language can be had; what the console is built of,
# and a browser for it.  What cannot be had is skipped.
optional_packages()
{
	if kind_wanted "$1" console || [ "$1" = console ]; then
		[ -f /usr/include/microhttpd.h ] || echo libmicrohttpd-dev
		[ -f "$(pgconf includedir)/libpq-fe.h" ] || [ -f /usr/include/postgresql/libpq-fe.h ] || echo libpq-dev
		[ -f /usr/share/javascript/dygraphs/dygraph.min.js ] || echo libjs-dygraphs
	fi
	if kind_wanted "$1" console; then
		have chromium || echo chromium
		have chromedriver || echo chromium-driver
		have openssl || echo openssl
		have valgrind || echo valgrind
		kind_wanted "$1" tap || have promtool || echo prometheus
	fi
	kind_wanted "$1" tap || return 0
	if [[ ${PROVE_TESTS:-metrics} == *metrics* ]]; then
		have promtool || echo prometheus
		have prometheus-postgres-exporter || echo prometheus-postgres-exporter
		have prometheus-sql-exporter || echo prometheus-sql-exporter
	fi
	[[ ${PROVE_TESTS:-clients} == *clients* ]] || return 0
	/usr/bin/python3 -c 'import psycopg2' 2>/dev/null || echo python3-psycopg2
	/usr/bin/python3 -c 'import psycopg' 2>/dev/null || echo python3-psycopg
	/usr/bin/ruby -e 'require "pg"' 2>/dev/null || echo ruby-pg
	/usr/bin/ruby -e 'require "active_record"' 2>/dev/null || echo ruby-activerecord
	/usr/bin/node -e 'require("pg")' 2>/dev/null || echo node-pg
}

# Those of them that apt can install here: with a language from elsewhere it may not.
installable_packages()
{
	local p
	for p in $(optional_packages "$1"); do
		! apt-get -s -qq --no-install-recommends install "$p" >/dev/null 2>&1 || echo "$p"
	done
}

# The same on one line.
missing_line() { missing_packages "$1" | paste -sd ' ' -; }

# apt-get, asking nothing; what it says goes to a log.
get()							# ARGUMENT ...
{
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Use-Pty=0 "$@" </dev/null >"$work/apt.log" 2>&1
}

# Install what is missing, or say what it is and give up.
need_packages()
{
	local missing optional='' p

	find_pg_config
	missing=$(missing_line "$1")
	! have apt-get || optional=$(installable_packages "$1" | paste -sd ' ' -)
	if [ -n "$missing$optional" ] && have apt-get; then
		if [ "$(id -u)" != 0 ]; then
			if have sudo && sudo -n true 2>/dev/null; then
				root=(sudo -n)
			else
				root=(false)
			fi
		fi
		if "${root[@]}" true; then
			p=$missing${missing:+${optional:+ }}$optional
			say "Installing: $p (these packages stay)"
			# A package may make its default cluster; nothing may start it.
			if [ ! -e /usr/sbin/policy-rc.d ]; then
				made_policy=true
				# shellcheck disable=SC2016
				"${root[@]}" sh -c 'printf "#!/bin/sh\nexit 101\n" >"$0" && chmod +x "$0"' \
					/usr/sbin/policy-rc.d
			fi
			patiently get update && lists_read=true
			# The lists may be new: ask again which version is meant.
			if [ -n "$missing" ]; then
				# shellcheck disable=SC2046
				patiently get install -y --no-install-recommends $(missing_packages "$1") ||
					tail -n 20 "$work/apt.log" >&2
			fi
			# And what there is besides.
			optional=$(installable_packages "$1")
			if [ -n "$optional" ]; then
				# shellcheck disable=SC2086
				patiently get install -y --no-install-recommends $optional ||
					tail -n 20 "$work/apt.log" >&2
			fi
			remove_policy
			hash -r
			find_pg_config
			missing=$(missing_line "$1")
		fi
	fi
	if [ -n "$missing" ]; then
		die "These packages are missing, and cannot be installed from here: $missing"
	fi
	if [ ! -x "$(pgconf bindir)/postgres" ] || [ ! -f "$(pgconf pgxs)" ]; then
		die "No PostgreSQL server with its development files at PG_CONFIG=$PG_CONFIG."
	fi
}

remove_policy()
{
	if $made_policy; then
		"${root[@]}" rm -f /usr/sbin/policy-rc.d
		made_policy=false
	fi
}

# --- The outer process ------------------------------------------------------

# Copy the sources, without build products and history, to an empty directory.
copy_tree()						# FROM TO
{
	mkdir -p "$2"
	tar -C "$1" --exclude=./.git --exclude='*.o' --exclude='*.d' --exclude='*.so' \
		--exclude='*.bc' --exclude=./results --exclude=./output_iso --exclude='./tmp_check*' \
		-cf - . | tar -C "$2" --no-same-owner -xf -
}

# Runs as the user of the servers, given the directory: end every process that
# has its working directory in there, as servers and their children do, and
# give back the System V segments of servers that could not.
# shellcheck disable=SC2016
reap='
cd /
ids=$(find "$1" -name postmaster.pid -exec sed -n "7s/.* //p" {} + 2>/dev/null)
for try in $(seq 100); do
	pids=
	for p in /proc/[0-9]*; do
		case $(readlink "$p/cwd" 2>/dev/null) in
			"$1"/*) pids="$pids ${p#/proc/}" ;;
		esac
	done
	[ -n "$pids" ] || break
	case $try in
		1) kill -QUIT $pids ;;
		5?|9?) kill -KILL $pids ;;
	esac 2>/dev/null
	sleep 0.1
done
for id in $ids; do ipcrm -m "$id"; done 2>/dev/null
true'

leave()
{
	local rc=$?
	trap '' INT TERM HUP
	trap - EXIT
	if [ -n "$inner" ]; then
		kill -TERM -- "-$inner" 2>/dev/null || true
	fi
	if [ -n "$patient" ]; then
		kill -TERM "$patient" 2>/dev/null || true
	fi
	remove_policy
	"${as_user[@]}" sh -c "$reap" sh "$work" || true
	rm -rf "$work"
	exit "$rc"
}

# enter build|test [ARGUMENT ...]: see the head of this file.  Sets `work`, the
# temporary directory, `tree`, the copy of the sources in it, and `bin`, where
# the private installation's programs will be.
enter()
{
	local entry user base rc what=$1
	shift
	umask 022
	if [ -n "${BACKFILL_WORK:-}" ]; then
		work=$BACKFILL_WORK
		tree=$work/tree
		unset BACKFILL_WORK
		clean_environment
		cd "$tree"
		bin=$work/inst$(pgconf bindir)
		return
	fi

	tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
	entry=$(realpath "$0")
	inner=
	as_user=()
	root=()
	made_policy=false
	# Unix sockets live below: the path must be short, and plain.
	base=${TMPDIR:-/tmp}
	[[ $base =~ ^[A-Za-z0-9._/-]{1,50}$ ]] || base=/tmp
	work=$(mktemp -d "$base/backfill.XXXXXX")
	work=$(cd "$work" && pwd -P)
	trap leave EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP

	need_packages "$what"
	copy_tree "$tree" "$work/tree"
	gcc -o "$work/reaper" "$tree/scripts/reaper.c"
	if [ "$(id -u)" = 0 ]; then
		user=postgres
		id "$user" >/dev/null 2>&1 || user=nobody
		chown -R "$user:" "$work"
		as_user=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
	fi
	# A process group of its own: a signal to the terminal's group must not
	# reach the servers before it reaches us.
	set -m
	BACKFILL_WORK=$work "${as_user[@]}" "$work/reaper" \
		bash "$work/tree/${entry#"$tree/"}" "$@" &
	inner=$!
	set +m
	rc=0
	wait "$inner" || rc=$?
	exit "$rc"
}

# Nothing of the caller's PostgreSQL, make or locale may show in the results.
clean_environment()
{
	local v
	for v in "${!PG@}"; do
		case $v in
			PG_CONFIG | PG_TEST_*) ;;
			*) unset "$v" ;;
		esac
	done
	unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL NEGATIVE_CONTROL COLUMNS LINES \
		LANGUAGE "${!LC_@}"
	mkdir -p "$work/home" "$work/tmp"
	ulimit -S -c 0
	export HOME=$work/home TMPDIR=$work/tmp LANG=C.UTF-8 PSQLRC=/dev/null PAGER=cat
}

# --- The inner process ------------------------------------------------------

# Build the tree and install it, with a copy of the server, below DIR; further
# arguments go to make.
private_install()				# DIR [MAKE-ARGUMENT ...]
{
	local dir=$1 log=$work/build.log
	shift
	"$tree/scripts/private-install.sh" "$PG_CONFIG" "$dir" "$@" >"$log" 2>&1 || {
		cat "$log" >&2
		die "The build failed."
	}
}

# A cluster in $work/NAME, sockets in the same place; postgresql.conf lines on
# stdin.  PGHOST and the rest point to it afterwards.
cluster_create()				# NAME
{
	local dir=$work/$1
	"$bin/initdb" -D "$dir" -U postgres -A trust -N --no-locale -E UTF8 \
		>"$work/$1.initdb.log" 2>&1 || {
		cat "$work/$1.initdb.log" >&2
		die "initdb failed."
	}
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$work'"
		echo "shared_preload_libraries = 'backfill'"
		# In the data directory, so that it goes with it after a hard kill.
		echo "dynamic_shared_memory_type = mmap"
		cat
	} >>"$dir/postgresql.conf"
	export PGDATA=$dir PGHOST=$work PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
}

cluster_start()
{
	"$bin/pg_ctl" -w -s -t 120 -l "$PGDATA.log" start >"$PGDATA.start" 2>&1 || {
		cat "$PGDATA.start" >&2
		tail -n 30 "$PGDATA.log" >&2
		die "The server did not start."
	}
}

cluster_stop() { "$bin/pg_ctl" -w -s -m "$1" stop; }	# MODE

# One value or plain rows of a query.
sql() { "$bin/psql" -XAtq -v ON_ERROR_STOP=1 -c "$@"; }

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	[ "${1:-}" = missing ] || die "usage: lib.sh missing build|test"
	missing=$(missing_line "${2:-build}")
	[ -z "$missing" ] || say "Missing packages: $missing"
	missing=$(optional_packages "${2:-build}" | paste -sd ' ' -)
	[ -z "$missing" ] || say "Missing, for tests that are skipped without: $missing"
fi
