#!/usr/bin/env bash
#
# make test-matrix: build without a warning, and test, on every version of
# PostgreSQL that the extension supports.
#
#   VERSIONS="17 18"       which versions, 15 to 19 by default
#   MATRIX_EXCEPT=15       which of them not
#   MATRIX_TESTS="regress isolation"   which kinds of tests (also: tap pgtap)
#   MATRIX_TIME=900        seconds after which nothing more is begun
#   MATRIX_DIR=...         where the chroots are, ~/.cache/backfill-matrix
#   MATRIX_TREE=...        the tree to test, by default the one of this script
#   MIRROR=...             where Debian is, by default as this machine's apt has it
#   PROVE_TESTS, PROVE_JOBS, PROVE_FLAGS, BACKFILL_FULL   as for make test
#
# A version that this machine has, with its development files, is tested in
# place, as `make test` does it.  Any other is tested in a chroot of a release of
# Debian that has it:
#
#   15 bookworm   17 trixie   18 forky   19 sid and experimental, from rc1 on
#
# No release of Debian has 16, in packages or in source: it is tested only where
# the machine has it.
#
# The first time each chroot costs some minutes and 0.6 GB.  They are kept and
# used again, and updated when they are older than a week; to be rid of them,
# remove the directory.  They take root's rights (or sudo without a password),
# debootstrap, which is installed, and a mirror of Debian.  What is missing is
# said, and the other versions are tested.
#
# Nothing is ever mounted but in a mount namespace of its own, and all that runs
# in a chroot ends with its process namespace, so nothing stays behind.  The tree
# is copied first: it may be changed while this runs.
#
# One test on one version, and a look around in its chroot (the tree is /mnt):
#
#   VERSIONS=18 MATRIX_TESTS=tap PROVE_TESTS=store_events_kinds.pl make test-matrix
#   scripts/matrix.sh shell 18 [COMMAND ...]
#
# The last lines tell what became of each version, and the sum, in which a
# version that could not be tested counts as one skipped.

# shellcheck disable=SC2317 # what a trap or `bounded` calls, for 0.9
exec 3<&0						# for the shell
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

all_versions="15 16 17 18 19"
cache=${MATRIX_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/backfill-matrix}
tree=$(cd "${MATRIX_TREE:-$(dirname "$0")/..}" && pwd -P)
limit=${MATRIX_TIME:-}
max_age=$((7 * 24 * 3600))
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
umask 022

passed=0 failed=0 skipped=0
declare -A result
child='' tee='' lock=''

# Where Debian has a version: the suite to begin with, and one to add.
suites()						# VERSION
{
	case $1 in
		15) echo bookworm ;;
		17) echo trixie ;;
		18) echo forky ;;
		19) echo sid experimental ;;
	esac
}

# The packages of the server that must be there.
packages() { echo "postgresql-$1 postgresql-server-dev-$1 gcc libc6-dev make perl libipc-run-perl"; }	# VERSION

# Seconds that are left, all of a day if nothing limits them.
time_left() { echo $((${limit:-86400} - SECONDS)); }

# --- Running ----------------------------------------------------------------

# End what runs in the chroot, if anything: the namespace ends with its first
# process, and that one with `unshare`.
end_child()
{
	local pid
	[ -n "$child" ] || return 0
	pid=$(cat "$work/pid" 2>/dev/null) || pid=
	if [ -n "$pid" ]; then
		"${root[@]}" kill -KILL "$pid" 2>/dev/null || true
	else
		kill -TERM -- "-$child" 2>/dev/null || true
	fi
	wait "$child" 2>/dev/null || true
	child=
}

leave_matrix()
{
	local rc=$?
	trap '' INT TERM HUP
	trap - EXIT
	end_child
	"${root[@]}" rm -rf --one-file-system "$work"
	exit "$rc"
}

# Run a command in the background, so that a signal to this script is heard at
# once, for so many seconds at most.  124 when they were over.
bounded()						# SECONDS COMMAND ...
{
	local rc=0 timer
	rm -f "$work/pid"
	sleep $(($1 > 0 ? $1 : 0)) &
	timer=$!
	shift
	# With a process group of its own, where SIGINT means what it means to us.
	set -m
	"$@" &
	child=$!
	set +m
	wait -n "$child" "$timer" || rc=$?
	if kill "$timer" 2>/dev/null; then
		wait "$timer" 2>/dev/null || true
		child=
	else
		rc=124
		end_child
	fi
	return "$rc"
}

# Run a command as root with the directory of a chroot as argument, where
# nothing it mounts or starts is seen from outside or stays.
# shellcheck disable=SC2016
apart()							# SHELL-SCRIPT ARGUMENT ...
{
	# The number is known outside before unshare holds off signals.
	"${root[@]}" sh -c 'echo $$ >"$0/pid"
		exec unshare --mount --propagation private --pid --ipc --fork --kill-child "$@"' \
		"$work" sh -euc "$@"
}

# Run a command in a chroot, with the tree at /mnt and a /tmp of its own.
# shellcheck disable=SC2016
inside()						# DIRECTORY TREE COMMAND ...
{
	apart '
		d=$0 tree=$1 tmp=$2
		shift 2
		mount -t proc proc "$d/proc"
		mount --rbind /dev "$d/dev"
		mount -t tmpfs -o mode=1777 tmpfs "$d/dev/shm"
		mount --bind "$tree" "$d/mnt"
		mount --bind "$tmp" "$d/tmp"
		exec chroot "$d" env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
			DEBIAN_FRONTEND=noninteractive \
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"' \
		"$1" "$2" "$work/tmp" "${@:3}"
}

# --- Making chroots ---------------------------------------------------------

# What keeps this machine from having chroots at all, in `unable`; asked once.
can_make()
{
	[ -z "${unable+set}" ] || { [ -z "$unable" ]; return; }
	unable=
	if [ "$(id -u)" != 0 ] && [ "${root[0]:-}" != sudo ]; then
		unable="a chroot takes root's rights"
	elif ! have unshare || ! "${root[@]}" unshare --mount --propagation private --pid --ipc \
		--fork true 2>/dev/null; then
		unable="no namespaces can be made here"
	elif ! mkdir -p "$cache" 2>/dev/null || [ ! -w "$cache" ]; then
		unable="cannot write to $cache"
	fi
	[ -z "$unable" ]
}

# debootstrap, and the keys of Debian, which another distribution may lack.
need_debootstrap()
{
	{ have debootstrap && have gpgv; } || {
		have apt-get || { reason="debootstrap is not there"; return 1; }
		say "Installing: debootstrap"
		"${root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
			apt-get -qq update
			apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
				install -y --no-install-recommends debootstrap debian-archive-keyring gpgv wget' \
			>"$work/apt.log" 2>&1 || tail -n 5 "$work/apt.log"
		hash -r
		have debootstrap || { reason="debootstrap is not there"; return 1; }
	}
	have wget || { reason="wget is not there"; return 1; }
}

# The mirrors that this machine's apt reads, and Debian's own.
mirrors()
{
	if [ -n "${MIRROR:-}" ]; then
		say "${MIRROR%/}"
	else
		{
			cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
				/etc/apt/sources.list.d/*.sources 2>/dev/null |
				sed -nE '/^[[:space:]]*(deb|URIs:)[[:space:]]/p' | tr -s '[:space:]' '\n' |
				sed -nE 's#^(https?://.*/debian)/?$#\1#p' || true
			echo http://deb.debian.org/debian
		} | awk '!seen[$0]++'
	fi
}

# How this machine's apt goes out: proxies, and what it does not check.
apt_config()
{
	! have apt-config || apt-config dump |
		grep -iE '^Acquire::(https?|Check-Date|Check-Valid-Until|Retries|ForceIPv[46])\b.*"[^"]+";' |
		grep -vi 'auto-\?detect' || true
}

# Look for a mirror that has the suite, and for keys that its release is signed
# with: this machine's, or those in chroots made before, which may be newer.
# Sets `mirror` and `keyring`, which is empty if no key fits.
find_suite()					# SUITE
{
	local m k release=$work/InRelease asked=
	mirror='' keyring=''
	for m in $(mirrors); do
		if wget -q -T 20 -t 2 -O "$release" "$m/dists/$1/InRelease" 2>/dev/null &&
			grep -q '^Origin: Debian$' "$release"; then
			mirror=$m
			break
		fi
		asked="$asked $m"
	done
	[ -n "$mirror" ] || { reason="no answer for $1 from$asked"; return 1; }
	for k in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp} \
		"$cache"/[0-9][0-9]/usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
		if [ -f "$k" ] && have gpgv && gpgv --keyring "$k" --status-fd 1 "$release" 2>/dev/null |
			grep -q '^\[GNUPG:\] VALIDSIG'; then
			keyring=$k
			break
		fi
	done
}

# The script for debootstrap to run in a chroot's directory: what apt reads, and
# nothing that starts or makes a cluster.
configure_chroot()				# DIRECTORY SUITE [SUITE]
{
	local d=$1 s trusted=
	shift
	[ -n "$keyring" ] || trusted=' [trusted=yes]'
	mkdir -p "$work/etc/apt/apt.conf.d" "$work/etc/apt/preferences.d" \
		"$work/etc/dpkg/dpkg.cfg.d" "$work/etc/postgresql-common" "$work/usr/sbin"
	for s in "$@"; do
		echo "deb$trusted $mirror $s main"
	done >"$work/etc/apt/sources.list"
	{
		apt_config
		echo 'APT::Install-Recommends "false";'
		echo 'Acquire::Languages "none";'
		echo 'Dpkg::Use-Pty "0";'
	} >"$work/etc/apt/apt.conf.d/90backfill"
	# Of the added suite only what is asked for.
	printf 'Package: src:postgresql-* src:pgtap src:pg-cron\nPin: release a=%s\nPin-Priority: 500\n' \
		"${2:-experimental}" >"$work/etc/apt/preferences.d/backfill"
	printf '%s\n' force-unsafe-io 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/man/*' \
		'path-exclude=/usr/share/locale/*' >"$work/etc/dpkg/dpkg.cfg.d/backfill"
	echo 'create_main_cluster = false' >"$work/etc/postgresql-common/createcluster.conf"
	printf '#!/bin/sh\nexit 101\n' >"$work/usr/sbin/policy-rc.d"
	chmod +x "$work/usr/sbin/policy-rc.d"
	cp -L /etc/resolv.conf /etc/hosts "$work/etc/" 2>/dev/null || true
	tar -C "$work" -cf - etc usr | "${root[@]}" tar -C "$d" --no-same-owner --keep-directory-symlink -xf -
	rm -rf "${work:?}/etc" "${work:?}/usr"
}

# Bring the packages of a chroot up to date.  Exits with 3 when there is no such
# server.
# shellcheck disable=SC2016
install_packages()				# DIRECTORY VERSION
{
	# shellcheck disable=SC2046
	inside "$1" "$work" sh -euc '
		v=$1
		shift
		apt-get -q update
		apt-get -q -y dist-upgrade
		candidate=$(apt-cache policy "postgresql-$v" | sed -n "s/^ *Candidate: //p")
		case $candidate in
			"" | "(none)" | *~alpha* | *~beta* | *~devel*)
				echo "candidate: $candidate"
				exit 3 ;;
		esac
		for p in "postgresql-$v-pgtap" "postgresql-$v-cron"; do
			[ -z "$(apt-cache policy "$p" | sed -n "/Candidate: [^(]/p")" ] || set -- "$@" "$p"
		done
		# The development files want a compiler for bitcode, 1 GB, which nothing
		# here makes.  An empty package stands for it.
		llvm=$(apt-cache show "postgresql-server-dev-$v=$candidate" |
			sed -n "s/^Depends: //p" | tr , "\n" |
			sed -nE "s/^ *((clang|llvm)-[0-9]+[a-z-]*).*/\1 (= 1:99)/p" | sort -u | paste -sd , -)
		if [ -n "$llvm" ]; then
			mkdir -p /tmp/no-llvm/DEBIAN
			printf "%s\n" "Package: backfill-no-llvm" "Version: 1" "Architecture: all" \
				"Maintainer: nobody <nobody@localhost>" "Provides: $llvm" \
				"Description: stands for the compiler of bitcode" >/tmp/no-llvm/DEBIAN/control
			dpkg-deb -b /tmp/no-llvm /tmp/no-llvm.deb
			dpkg -i /tmp/no-llvm.deb
		fi
		apt-get -q -y install "$@"
		apt-get -q -y --purge autoremove
		apt-get clean' sh "$2" $(packages "$2")
}

# Make the chroot of a version.
make_chroot()					# VERSION
{
	local v=$1 d=$cache/$1.new log=$work/$1.log script='' key rc=0 suite
	read -ra suite <<<"$(suites "$v")"
	need_debootstrap && find_suite "${suite[0]}" || return 1
	say "$v: making $cache/$v: ${suite[*]} of $mirror"
	if [ -n "$keyring" ]; then
		key=--keyring=$keyring
	else
		key=--no-check-gpg
		say "$v: WARNING: no key here has signed ${suite[0]}; it is taken without a check."
	fi
	# Older than the suite, it knows how to make the one all come from.
	[ -e "/usr/share/debootstrap/scripts/${suite[0]}" ] ||
		script=/usr/share/debootstrap/scripts/sid
	"${root[@]}" rm -rf --one-file-system "$d"
	# shellcheck disable=SC2016
	bounded "$(time_left)" apart 'exec debootstrap --variant=minbase --include=ca-certificates "$@"' \
		debootstrap "$key" "${suite[0]}" "$d" "$mirror" ${script:+"$script"} >"$log" 2>&1 || rc=$?
	if [ $rc = 0 ]; then
		configure_chroot "$d" "${suite[@]}"
		bounded "$(time_left)" install_packages "$d" "$v" >>"$log" 2>&1 || rc=$?
	fi
	case $rc in
		0)
			"${root[@]}" mv "$d" "$cache/$v"
			touch "$cache/$v.updated"
			return 0
			;;
		3) reason="${suite[*]} has postgresql-$v $(sed -n 's/^candidate: //p' "$log")" ;;
		124) reason="left out: its chroot could not be made in the time" ;;
		*)
			tail -n 30 "$log"
			reason="its chroot could not be made"
			;;
	esac
	"${root[@]}" rm -rf --one-file-system "$d"
	return 1
}

# Bring an old chroot up to date, unless somebody is in it.
update_chroot()					# VERSION
{
	local v=$1 suite
	[ $(($(date +%s) - $(stat -c %Y "$cache/$v.updated" 2>/dev/null || echo 0))) -gt $max_age ] ||
		return 0
	read -ra suite <<<"$(suites "$v")"
	flock -n -x "$lock" || return 0
	if have wget && find_suite "${suite[0]}" && configure_chroot "$cache/$v" "${suite[@]}" &&
		bounded "$(time_left)" install_packages "$cache/$v" "$v" >"$work/$v.log" 2>&1; then
		touch "$cache/$v.updated"
	else
		say "$v: the chroot is older than a week and could not be updated; it is used as it is."
	fi
}

# See that the chroot of a version is there, and hold it until `release`.
get_chroot()					# VERSION
{
	local v=$1
	reason=
	[ -n "$(suites "$v")" ] || { reason="not tested: no release of Debian has it"; return 1; }
	can_make || { reason="not to be had here: $unable"; return 1; }
	exec {lock}>"$cache/$v.lock"
	if [ ! -d "$cache/$v" ]; then
		flock -x -w "$(time_left)" "$lock" ||
			{ reason="left out: its chroot is being made by another"; return 1; }
		[ -d "$cache/$v" ] || make_chroot "$v" || {
			[[ $reason == "left out"* ]] || reason="not to be had here: $reason"
			return 1
		}
	fi
	flock -s -w "$(time_left)" "$lock" ||
		{ reason="left out: its chroot is being brought up to date"; return 1; }
	update_chroot "$v"
	flock -s "$lock"
}

release()
{
	[ -z "$lock" ] || exec {lock}>&-
	lock=
}

# --- Testing ----------------------------------------------------------------

# The pg_config of a version that this machine has with all that a build takes.
host_pg_config()				# VERSION
{
	local c v=$1
	for c in "${PG_CONFIG:-}" "/usr/lib/postgresql/$v/bin/pg_config" "$(command -v pg_config)"; do
		if [ -n "$c" ] && have "$c" && [[ $("$c" --version) =~ ^PostgreSQL\ ${v}[^0-9] ]] &&
			[ -x "$("$c" --bindir)/postgres" ] && [ -f "$("$c" --pgxs)" ] &&
			[ -f "$("$c" --includedir-server)/postgres.h" ]; then
			realpath -s "$(command -v "$c")"
			return 0
		fi
	done
	return 1
}

# Run the tests of one version by the given command, and count them.
count_tests()					# VERSION PLACE COMMAND ...
{
	local v=$1 place=$2 log=$work/$1.test line p f s rc=0 out
	shift 2
	exec {out}> >(exec tee "$log")
	tee=$!
	bounded 86400 "$@" >&"$out" 2>&1 || rc=$?
	exec {out}>&-
	wait "$tee" || true
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$log" | tail -n 1) || true
	read -r p _ f _ s _ <<<"${line:-0 passed, 0 failed}"
	if [ -z "$line" ]; then
		f=1
		line="did not come to an end"
	elif [ $rc != 0 ] && [ "$f" = 0 ]; then
		f=1
		line="$line, but exit code $rc"
	fi
	passed=$((passed + p))
	failed=$((failed + f))
	skipped=$((skipped + ${s:-0}))
	result[$v]="$line ($place)"
}

# The kinds of tests that can be run in the chroot: pgTAP may not be there yet.
kinds_inside()					# VERSION
{
	local k kinds=()
	for k in $tests; do
		[ "$k" = pgtap ] && [ ! -f "$cache/$1/usr/share/postgresql/$1/extension/pgtap.control" ] ||
			kinds+=("$k")
	done
	echo "${kinds[*]}"
	[ ${#kinds[@]} -gt 0 ]
}

test_version()					# VERSION
{
	local v=$1 config settings kinds
	printf '\n=== PostgreSQL %s\n' "$v"
	settings=(-u MAKEFLAGS -u MFLAGS -u MAKELEVEL "PROVE_TESTS=${PROVE_TESTS:-}" "PROVE_FLAGS=${PROVE_FLAGS:-}")
	[ -z "${PROVE_JOBS:-}" ] || settings+=("PROVE_JOBS=$PROVE_JOBS")
	[ -z "${BACKFILL_FULL:-}" ] || settings+=("BACKFILL_FULL=$BACKFILL_FULL")
	if [ "$(time_left)" -le 0 ]; then
		result[$v]="left out: the time was over"
	elif config=$(host_pg_config "$v"); then
		count_tests "$v" host env "${settings[@]}" "TESTS=$tests" make -s -C "$work/tree" test "PG_CONFIG=$config"
		return
	elif ! get_chroot "$v"; then
		result[$v]=$reason
	elif [ "$(time_left)" -le 0 ]; then
		result[$v]="left out: the time was over"
	elif ! kinds=$(kinds_inside "$v"); then
		result[$v]="not to be had here: pgTAP"
	else
		[ "$kinds" = "$tests" ] || say "pgtap is left out: there is none for this server."
		count_tests "$v" "chroot: $(suites "$v" | tr ' ' '+')" inside "$cache/$v" "$work/tree" \
			env "${settings[@]}" "TESTS=$kinds" make -s -C /mnt test "PG_CONFIG=/usr/lib/postgresql/$v/bin/pg_config"
		release
		return
	fi
	release
	say "${result[$v]}"
	skipped=$((skipped + 1))
}

# --- The whole --------------------------------------------------------------

# All of it is read before any of it runs, so that this file may be changed, too.
main()
{
	versions=()
	for v in ${VERSIONS:-$all_versions}; do
		[[ " $all_versions " == *" $v "* ]] || die "VERSIONS: $v is none of $all_versions"
		[[ " ${MATRIX_EXCEPT:-} " == *" $v "* ]] || versions+=("$v")
	done
	tests=${MATRIX_TESTS:-regress isolation}
	[[ ${limit:-0} =~ ^[0-9]+$ ]] || die "MATRIX_TIME must be a number of seconds"

	root=()
	if [ "$(id -u)" != 0 ] && have sudo && sudo -n true 2>/dev/null; then
		root=(sudo -n)
	fi
	work=$(mktemp -d "${TMPDIR:-/tmp}/backfill-matrix.XXXXXX")
	work=$(cd "$work" && pwd -P)
	trap leave_matrix EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	mkdir -m 1777 "$work/tmp"
	if [ -z "${http_proxy:-}" ]; then
		http_proxy=$(apt_config | sed -nE 's/^Acquire::http::Proxy "(http.*)";/\1/Ip' | head -n 1)
		[ -z "$http_proxy" ] || export http_proxy
	fi

	if [ "${1:-}" = shell ]; then
		[ $# -gt 1 ] || die "usage: matrix.sh shell VERSION [COMMAND ...]"
		v=$2
		get_chroot "$v" || die "$v: $reason"
		shift 2
		[ $# -gt 0 ] || set -- bash -i
		rc=0
		inside "$cache/$v" "$tree" "$@" <&3 || rc=$?
		exit $rc
	fi
	[ $# = 0 ] || die "usage: matrix.sh, or matrix.sh shell VERSION [COMMAND ...]"

	copy_tree "$tree" "$work/tree"
	for v in "${versions[@]}"; do
		test_version "$v"
	done

	say
	say "Took $SECONDS s."
	for v in "${versions[@]}"; do
		say "$v: ${result[$v]}"
	done
	say "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
}

main "$@"; exit
