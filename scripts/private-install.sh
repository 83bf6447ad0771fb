#!/usr/bin/env bash
#
# private-install.sh PG_CONFIG DESTROOT [MAKE-ARGUMENT ...]
#
# Build the extension and install it below DESTROOT beside a copy of the server,
# without root rights, without touching the server's directories or this tree.
#
# PostgreSQL's programs look for their libraries and share files relative to
# where they themselves really are.  So the programs are copied, at the same
# path below DESTROOT, and everything else is symbolic links to the originals,
# except the directories into which the extension goes.

set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 PG_CONFIG DESTROOT [MAKE-ARGUMENT ...]" >&2; exit 1; }
pg_config=$1
mkdir -p "$2"
dest=$(cd "$2" && pwd -P)
shift 2
tree=$(cd "$(dirname "$0")/.." && pwd -P)

bindir=$("$pg_config" --bindir)
pkglibdir=$("$pg_config" --pkglibdir)
sharedir=$("$pg_config" --sharedir)

# Link every entry of a directory but the named ones, and our own files of an
# installation for real use.
link_entries()					# DIRECTORY [EXCEPT]
{
	local f
	mkdir -p "$dest$1"
	for f in "$1"/*; do
		case ${f##*/} in
			backfill.so | backfill.control | backfill--*.sql | "${2:-bitcode}") ;;
			*) ln -sfn "$f" "$dest$1/" ;;
		esac
	done
}

# The directory of the programs may hold all of a system's: take PostgreSQL's.
mkdir -p "$dest$bindir"
for f in "$bindir"/{postgres,postmaster,psql,initdb,pg*,create{db,user},drop{db,user},clusterdb,reindexdb,vacuumdb}; do
	[ ! -f "$f" ] || cp -L "$f" "$dest$bindir/"
done
link_entries "$pkglibdir"
link_entries "$sharedir" extension
link_entries "$sharedir/extension"

[ "$("$dest$bindir/pg_config" --pkglibdir)" = "$dest$pkglibdir" ] ||
	{ echo "$bindir cannot be relocated" >&2; exit 1; }

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cp -R "$tree/Makefile" "$tree/backfill.control" "$tree/META.json" "$tree/sql" "$tree/src" "$build/"
find "$build" \( -name '*.o' -o -name '*.d' \) -delete
make -C "$build" -s -j"$(nproc)" PG_CONFIG="$pg_config" "$@" all
make -C "$build" -s PG_CONFIG="$pg_config" DESTDIR="$dest" "$@" install
