/*-------------------------------------------------------------------------
 *
 * span.c
 *	  The span of time that a run, or a stream, has to look at: run.since to run.until.
 *
 * It begins where the last one that is done has ended, so that nothing is left out between
 * them, and is fixed when the walk begins.
 *
 * Called between store_begin and store_end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/span.h"
#include "store/store.h"

static Sql sql_open_run = {
	"UPDATE backfill.run r SET until = coalesce(r.until, $3), "
	"       since = CASE WHEN r.until IS NOT NULL THEN r.since ELSE nullif(coalesce(r.since - $2, $4), '-infinity') END "
	" WHERE r.id = $1 RETURNING since, until",
	4, {INT8OID, INTERVALOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

/*
 * What the run, whose walk begins, has to look at: from where the last one ended, less so many
 * milliseconds, or "initial" if there was none, to "until".  It keeps what it had;
 * *now_since and *now_until become what it has.
 */
void
span_open_run(StoreSession *session, const RunInfo *run, TimestampTz initial, int64 lookback,
				 TimestampTz until, TimestampTz *now_since, TimestampTz *now_until)
{
	Interval	back = {.time = lookback * 1000};
	Datum		args[] = {
		Int64GetDatum(run->id),
		IntervalPGetDatum(&back),
		TimestampTzGetDatum(until),
		TimestampTzGetDatum(initial)
	};

	*now_since = *now_until = DT_NOBEGIN;
	if (store_sql(&sql_open_run, args, NULL) == 0)
		return;
	*now_since = store_time(0, 1);
	*now_until = store_time(0, 2);
}

/* Where the last window of a stream of the name that is done has ended. */
#define LAST_OF_STREAM(name, definition, owner, generic, target) \
	"(SELECT max(coalesce(o.until, o.started_at)) " \
	"   FROM backfill.run p JOIN backfill.stream o ON o.run_id = p.id " \
	"  WHERE o.name = " name " AND o.status = 'completed' " \
	"    AND p.name = " definition " AND p.owner = " owner "::regrole " \
	"    AND (NOT " generic " OR p.target = " target "::regclass))"

static Sql sql_open_stream = {
	"UPDATE backfill.stream s SET until = coalesce(s.until, $3), "
	"       since = CASE WHEN s.until IS NOT NULL THEN s.since ELSE nullif(coalesce("
	LAST_OF_STREAM("s.name", "$4", "$5", "$6", "$7") " - $2, $8), '-infinity') END "
	" WHERE s.id = $1 RETURNING since, until",
	8, {INT8OID, INTERVALOID, TIMESTAMPTZOID, TEXTOID, OIDOID, BOOLOID, OIDOID, TIMESTAMPTZOID}
};

/*
 * What a stream of the run, whose walk begins, has to look at: from where the last one of
 * the name ended, less so many milliseconds, or "initial" if there was none, to "until".  The
 * stream keeps what it had; *now_since and *now_until become what it has.
 */
void
span_open_stream(StoreSession *session, const RunInfo *run, int64 id, TimestampTz initial,
				  int64 lookback, TimestampTz until, TimestampTz *now_since,
				  TimestampTz *now_until)
{
	Interval	back = {.time = lookback * 1000};
	Datum		args[] = {
		Int64GetDatum(id),
		IntervalPGetDatum(&back),
		TimestampTzGetDatum(until),
		CStringGetTextDatum(run->name),
		ObjectIdGetDatum(run->owner),
		BoolGetDatum(run->generic),
		ObjectIdGetDatum(run->target),
		TimestampTzGetDatum(initial)
	};

	*now_since = *now_until = DT_NOBEGIN;
	if (store_sql(&sql_open_stream, args, NULL) == 0)
		return;
	*now_since = store_time(0, 1);
	*now_until = store_time(0, 2);
}

static Sql sql_last_of_stream = {
	"SELECT " LAST_OF_STREAM("$1", "$2", "$3", "$4", "$5"),
	5, {TEXTOID, TEXTOID, OIDOID, BOOLOID, OIDOID}
};

/*
 * Where the last window of a stream of that name ended that was completed in a run of the
 * definition, of a generic one on that target; or DT_NOBEGIN.
 */
TimestampTz
span_last_of_stream(StoreSession *session, const DefinitionInfo *def, Oid target,
					const char *stream)
{
	Datum		args[] = {
		CStringGetTextDatum(stream),
		CStringGetTextDatum(def->name),
		ObjectIdGetDatum(def->owner),
		BoolGetDatum(def->generic),
		ObjectIdGetDatum(target)
	};

	(void) store_sql(&sql_last_of_stream, args, NULL);
	return store_time(0, 1);
}
