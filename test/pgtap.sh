#!/usr/bin/env bash
#
# pgtap.sh BINDIR FILE: run one pgTAP file in a fresh database that has pgtap
# and backfill, and print its TAP.  Called by prove for each file, with the
# connection in the environment.

set -euo pipefail
bin=$1 file=$2

db=pgtap_$(basename "$file" .sql)
psql() { "$bin/psql" -XAtq -v ON_ERROR_STOP=1 "$@"; }

psql -c "CREATE DATABASE \"$db\"" </dev/null
trap 'psql -c "DROP DATABASE \"$db\" WITH (FORCE)" </dev/null' EXIT
psql -d "$db" -c "SET client_min_messages = warning" -c "CREATE EXTENSION pgtap" \
	-c "CREATE EXTENSION backfill" </dev/null
psql -P pager=off -d "$db" -f "$file" </dev/null
