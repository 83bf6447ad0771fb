#!/usr/bin/env bash
#
# Work on a run of backfill from outside of the server, with bash and psql alone.
#
#   backfill_worker.sh --name mail --workers 4 \
#       --sql 'UPDATE contact AS batch SET n = n + 1 WHERE {condition}'
#   backfill_worker.sh --run 7 --command ./send.sh
#
#   --run ID           the run, or
#   --name NAME        the definition, whose newest run is meant
#   --sql SQL          statements with {condition} in them, in one transaction with the
#                      completion of the batch: exactly once; or
#   --command COMMAND  a command for each batch, which is told of it in its environment:
#                      at least once
#   --apart            commit the SQL before the batch is completed: at least once
#   --workers N        batches at the same time (1), each by a process
#   --lease SECONDS    how long a batch is ours without a heartbeat (60)
#   --worker NAME      the name under which batches are claimed (host:pid)
#   --give-up SECONDS  for how long the server may be away (300)
#   --dsn DSN          where the database is; PGHOST and the like count
#
# Exit codes: 0, the run has completed, or SIGTERM; 1, the run has ended otherwise; 2, an
# error.  See doc/clients/shell.md.

set -u

say() { printf '%s %s\n' "$(date '+%F %T')" "$*" >&2; }
die() { say "$*"; exit 2; }

run='' name='' sql='' command='' apart=0 workers=1 lease=60 give_up=300 dsn=()
worker=$(hostname):$$
while [ $# -gt 0 ]; do
	case $1 in
		--apart) apart=1; shift; continue ;;
		--run | --name | --sql | --command | --workers | --lease | --worker | --give-up | --dsn) ;;
		*) sed -n '3,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
	esac
	[ $# -gt 1 ] || die "$1 needs a value"
	case $1 in
		--run) run=$2 ;;
		--name) name=$2 ;;
		--sql) sql=$2 ;;
		--command) command=$2 apart=1 ;;
		--workers) workers=$2 ;;
		--lease) lease=$2 ;;
		--worker) worker=$2 ;;
		--give-up) give_up=$2 ;;
		--dsn) dsn=(-d "$2") ;;
	esac
	shift 2
done
if [ -z "$run$name" ] || [ -z "$sql$command" ] || { [ -n "$run" ] && [ -n "$name" ]; } ||
	{ [ -n "$sql" ] && [ -n "$command" ]; }; then
	die "give --run or --name, and --sql or --command"
fi

export PGAPPNAME=${PGAPPNAME:-backfill client}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
stopping=0 state='' message=''
third=$(awk "BEGIN { print $lease / 3 }") || exit 2

# --- psql -----------------------------------------------------------------------

# Run the script on stdin, once, its output to $out: 0; or 3 for an error, 2 for a lost
# connection, with its SQLSTATE and message in `state` and `message`.
psql_once()						# VARIABLE=VALUE ...
{
	local v=() rc=0 pattern=':  ([0-9A-Z]{5}): (.*)'
	for p in "$@"; do v+=(-v "$p"); done
	psql -XAtq -0 -z "${dsn[@]}" -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -v SHOW_CONTEXT=never \
		-v run="$run" ${v[@]+"${v[@]}"} -f - >"$out" 2>"$out.err" || rc=$?
	[ "$rc" != 0 ] || return 0
	state='' message=$(grep -v '^$' "$out.err" | head -n 1)
	while IFS= read -r line; do
		[[ $line =~ $pattern ]] || continue
		state=${BASH_REMATCH[1]} message=${BASH_REMATCH[2]}
		break
	done <"$out.err"
	# A standby is as good as no server.
	[ "$rc" = 3 ] && [ "$state" != 25006 ] && return 3
	state=08006
	return 2
}

# The same, and again while there is no server, unless we are to stop.
ask()							# SCRIPT VARIABLE=VALUE ...
{
	local script=$1 until=$((SECONDS + give_up)) pause=1 rc
	shift
	while rc=0; psql_once "$@" <<<"$script" || rc=$?; [ "$rc" = 2 ]; do
		if [ "$SECONDS" -ge "$until" ] || [ "$stopping" = 1 ]; then break; fi
		say "no connection, trying again: $message"
		rest "$((pause / 10)).$((pause % 10))"
		pause=$((pause * 2 > 50 ? 50 : pause * 2))
	done
	return "$rc"
}

# Wait so many seconds, but not when a signal comes.
rest()
{
	[ "$stopping" = 0 ] || return 0
	sleep "$1" >/dev/null 2>&1 &
	wait $! || kill $! 2>/dev/null
}

# --- A batch --------------------------------------------------------------------

# Extend the lease while the worker lives, of whose pipe this reads nothing.
beat()
{
	local out=$out.beat
	trap '' TERM
	while read -rt "$third" _; [ $? -gt 128 ]; do
		psql_once "${batch[@]}" <<<"SELECT backfill_extend(:run, :number, :part, :'token');" ||
			[ "$state" != UB006 ] || break
	done
}

complete="SELECT backfill_complete(:run, :number, :part, :'token', nullif(:'rows', '')::bigint);"

# Do the batch: 0, or as ask does.
do_batch()
{
	local rc=0
	if [ -n "$command" ]; then
		(
			exec {heart}>&-
			export BACKFILL_RUN=$run BACKFILL_NUMBER=$number BACKFILL_PART=$part BACKFILL_ROWS=$rows \
				BACKFILL_CONDITION=$condition BACKFILL_START_KEY=$start_key BACKFILL_END_KEY=$end_key BACKFILL_BAD_KEY=$out.key
			exec bash -c "$command"
		) || rc=$?
		[ "$rc" = 0 ] && return 0
		state='' message="the command has ended with $rc"
		# EX_TEMPFAIL of sysexits.h
		[ "$rc" != 75 ] || retryable=true
		return 3
	fi
	local script="BEGIN;
${sql//"{condition}"/"$condition"}
;
\\set rows :ROW_COUNT
"
	if [ "$apart" = 1 ]; then
		psql_once <<<"$script COMMIT;
\\echo rows :rows" || return $?
		done_rows=$(sed -zn 's/.*\nrows \|^rows //p' "$out")
	else
		psql_once "${batch[@]}" <<<"$script $complete COMMIT;"
	fi
}

# What became of it.
one_batch()
{
	local rc=0 retryable='' done_rows=''
	rm -f "$out.key"
	exec {heart}> >(beat)
	do_batch || rc=$?
	exec {heart}>&-
	if [ "$rc" = 0 ]; then
		[ "$apart" = 1 ] || return 0
		report "$complete" rows="$done_rows"
	elif [ "$state" = UB006 ]; then
		say "batch $number is not ours any more: rolled back"
	else
		say "batch $number has failed: $message"
		[ "$rc" != 2 ] || retryable=true
		# The server knows by the SQLSTATE what may go away by itself.
		report "SELECT backfill_fail(:run, :number, :part, :'token', :'message', nullif(:'state', ''),
			nullif(:'retryable', '')::boolean, string_to_array(nullif(:'key', ''), E'\\n'));" \
			message="$message" state="$state" retryable="$retryable" key="$(cat "$out.key" 2>/dev/null)"
	fi
}

# Say it, again if need be: at most until its lease has run out.
report()						# SCRIPT VARIABLE=VALUE ...
{
	ask "$1" "${batch[@]}" "${@:2}" && return
	[ "$state" = UB006 ] || [ "$state" = 08006 ] || die "cannot report batch $number: $state $message"
}

# --- Workers --------------------------------------------------------------------

claim="SELECT number, part, token, extract(epoch FROM least(retry_after, '30 s')), done, reason,
	rows, start_key, end_key, condition FROM backfill_claim(:run, :'worker', :'lease');"

work()							# NUMBER
{
	local wait ended reason number part token rows start_key end_key condition fields batch
	local out=$tmp/$1
	trap 'stopping=1' TERM INT
	# If the parent is gone, nobody can tell us to stop.
	while [ "$stopping" = 0 ] && kill -0 $$ 2>/dev/null; do
		if ! ask "$claim" worker="$worker/$1" lease="$lease s"; then
			[[ $state =~ ^(08|40|53|57|55P03) ]] || die "$state $message"
			[ "$stopping" = 1 ] || [ "$state" != 08006 ] || die "$message"
			rest 0.1
			continue
		fi
		mapfile -d '' -t fields <"$out"
		number=${fields[0]} part=${fields[1]} token=${fields[2]} wait=${fields[3]} ended=${fields[4]}
		reason=${fields[5]} rows=${fields[6]} start_key=${fields[7]} end_key=${fields[8]} condition=${fields[9]}
		if [ -n "$number" ]; then
			batch=(number="$number" part="$part" token="$token")
			one_batch
		elif [ "$ended" = t ]; then
			say "worker $1: the run is $reason"
			[ "$reason" = completed ]
			exit
		else
			rest "$wait"
		fi
	done
	exit 0
}

# shellcheck disable=SC2317 # a trap calls it
stop()
{
	stopping=1
	say "stopping after the batches in hand"
	kill -TERM "${pids[@]}" 2>/dev/null
}

out=$tmp/0
if [ -n "$name" ]; then
	psql_once name="$name" <<<"SELECT max(id) FROM backfill_runs WHERE name = :'name';" || die "$message"
	run=$(tr -d '\0' <"$out")
	[ -n "$run" ] || die "no run of \"$name\" is to be seen"
fi

worst=0 pids=()
trap stop TERM INT
for ((n = 1; n <= workers; n++)); do
	(
		trap - EXIT
		work "$n"
	) &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	# A signal ends the wait, not the worker.
	until wait "$pid" || ! kill -0 "$pid" 2>/dev/null; do :; done
	rc=0
	wait "$pid" || rc=$?
	[ "$rc" -le "$worst" ] || worst=$rc
done
exit "$worst"
