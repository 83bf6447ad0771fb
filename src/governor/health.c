/*-------------------------------------------------------------------------
 *
 * health.c
 *	  How the server is, by the measures that the settings of a run name.
 *
 * Read by the scheduler, in a transaction and as the role that it is connected
 * as, once in a round for all runs that want to know.  A measure that cannot be
 * read holds the run, with the error as the reason: closed on failure.
 *
 * How far a standby lags behind in time is not what pg_stat_replication says
 * alone: where replay has come to a stop, replay_lag stays what it was.  So the
 * position of the WAL is noted in each round, and the lag of a standby is the
 * age of the oldest position that it has not replayed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_inherits.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/quantity.h"
#include "governor/health.h"
#include "settings/setting.h"
#include "store/run.h"

/* Positions of the WAL that are remembered; the lag is at least their age. */
#define POSITIONS		1024
/* A standby that has gone away holds the runs that look at it for so long. */
#define GONE_MS			60000
#define STANDBYS		64
/* Readings are good for so long. */
#define FRESH_MS		900
/* WAL files that may still be written before a slot is lost, or half of what may. */
#define SLOT_FILES_LEFT 4

/* ---- measures ---- */

typedef enum Measure
{
	STANDBY_MEASURE,
	SLOT_MEASURE,
	ARCHIVE_MEASURE,
	SESSION_MEASURE,
	XMIN_MEASURE,
	MEASURES
} Measure;

/* What was read in this round. */
typedef struct Reading
{
	bool		is_read;
	Oid			target;			/* the table it is about; of some only */
	char	   *error;			/* NULL, or why it could not be */
	int64		value;
	int64		value2;
	char	   *who;			/* the standby, slot, or session it is about */
	char	   *who2;
} Reading;

static Reading readings[MEASURES];
static MemoryContext health_context = NULL; /* holds their texts */
static TimestampTz read_at = 0;

typedef struct Position
{
	TimestampTz at;
	XLogRecPtr	lsn;
} Position;

static Position positions[POSITIONS];
static int	npositions = 0;

typedef struct Standby
{
	char		name[NAMEDATALEN];
	TimestampTz seen_at;
} Standby;

static Standby standbys[STANDBYS];
static int	nstandbys = 0;

/*
 * Read anew, unless that was a moment ago: rounds may come quickly one after the
 * other.  Nothing that was returned is valid any more.
 */
void
health_new_round(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (health_context == NULL)
		health_context = AllocSetContextCreate(TopMemoryContext, "backfill health",
											   ALLOCSET_SMALL_SIZES);
	if (read_at <= now && !TimestampDifferenceExceeds(read_at, now, FRESH_MS))
		return;
	read_at = now;
	MemoryContextReset(health_context);
	memset(readings, 0, sizeof(readings));
}

/* Note how far the WAL is.  Of two old positions in a row one is enough. */
static void
note_position(XLogRecPtr lsn, TimestampTz now)
{
	if (npositions > 0 && positions[npositions - 1].lsn == lsn)
		return;
	if (npositions == POSITIONS)
	{
		npositions = 0;
		for (int i = 0; i < POSITIONS; i += 2)
			positions[npositions++] = positions[i];
	}
	positions[npositions].at = now;
	positions[npositions++].lsn = lsn;
}

/* How long ago, in milliseconds, the WAL went beyond the position. */
static int64
lag_at(XLogRecPtr lsn, TimestampTz now)
{
	for (int i = 0; i < npositions; i++)
	{
		if (positions[i].lsn > lsn)
			return (now - positions[i].at) / 1000;
	}
	return 0;
}

static char *
text_column(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

static int64
int_column(int row, int column, bool *isnull)
{
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
									  column, isnull);

	return *isnull ? 0 : DatumGetInt64(value);
}

static void
query(const char *sql)
{
	int			rc = SPI_execute(sql, true, 0);

	if (rc != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(rc));
}

/* The standby is there.  Those that were there a moment ago are remembered. */
static void
note_standby(const char *name, TimestampTz now)
{
	for (int i = 0; i < nstandbys; i++)
	{
		if (strcmp(standbys[i].name, name) == 0)
		{
			standbys[i].seen_at = now;
			return;
		}
	}
	if (nstandbys == STANDBYS)
		return;
	strlcpy(standbys[nstandbys].name, name, NAMEDATALEN);
	standbys[nstandbys++].seen_at = now;
}

/* Raises an error if a standby has gone away a moment ago. */
static void
check_standbys(TimestampTz now)
{
	for (int i = 0; i < nstandbys; i++)
	{
		if (standbys[i].seen_at == now)
			continue;
		if (standbys[i].seen_at < now &&
			!TimestampDifferenceExceeds(standbys[i].seen_at, now, GONE_MS))
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_DOES_NOT_EXIST),
					 errmsg("standby \"%s\" has disconnected", standbys[i].name)));
		standbys[i--] = standbys[--nstandbys];
	}
}

/*
 * value: the lag in milliseconds; value2: in bytes.  What receives the WAL and
 * never replays it, a base backup or an archive, is no standby, nor is the first
 * copy of a table for a subscription.  A standby says within its first second
 * what it has replayed.
 */
static void
read_standbys(Reading *reading, MemoryContext context)
{
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	current = GetXLogWriteRecPtr();

	note_position(current, now);
	query("SELECT coalesce(nullif(application_name, ''), pid::text), "
		  "       replay_lsn - '0/0'::pg_lsn, "
		  "       (EXTRACT(epoch FROM replay_lag) * 1000)::bigint "
		  "  FROM pg_stat_replication "
		  " WHERE replay_lsn IS NOT NULL AND application_name !~ '^pg_[0-9]+_sync_[0-9]'");
	for (int i = 0; i < SPI_processed; i++)
	{
		char	   *name = text_column(i, 1);
		char	   *replayed = text_column(i, 2);
		XLogRecPtr	lsn;
		bool		isnull;
		int64		ms = int_column(i, 3, &isnull);
		int64		bytes;

		note_standby(name, now);
		lsn = strtou64(replayed, NULL, 10);
		bytes = current > lsn ? (int64) (current - lsn) : 0;
		ms = bytes == 0 ? 0 : Max(isnull ? 0 : ms, lag_at(lsn, now));
		if (reading->who == NULL || ms > reading->value)
		{
			reading->value = ms;
			reading->who = MemoryContextStrdup(context, name);
		}
		if (reading->who2 == NULL || bytes > reading->value2)
		{
			reading->value2 = bytes;
			reading->who2 = MemoryContextStrdup(context, name);
		}
	}
	check_standbys(now);
}

/* value: the bytes kept; value2: whether the slot who2 is about to be lost. */
static void
read_slots(Reading *reading, MemoryContext context)
{
	query("SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, "
		  "       safe_wal_size, wal_status "
		  "  FROM pg_replication_slots "
		  " WHERE restart_lsn IS NOT NULL AND wal_status <> 'lost'");
	for (int i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int64		bytes = int_column(i, 2, &isnull);
		int64		safe = int_column(i, 3, &isnull);

		if (bytes > reading->value)
		{
			reading->value = bytes;
			reading->who = MemoryContextStrdup(context, text_column(i, 1));
		}
		if ((!isnull && safe < Min((int64) SLOT_FILES_LEFT * wal_segment_size,
								   (int64) max_slot_wal_keep_size_mb * 1024 * 1024 / 2)) ||
			strcmp(text_column(i, 4), "unreserved") == 0)
		{
			reading->value2 = 1;
			reading->who2 = MemoryContextStrdup(context, text_column(i, 1));
		}
	}
}

/* value: the files that wait to be archived. */
static void
read_archive(Reading *reading, MemoryContext context)
{
	static const char path[] = XLOGDIR "/archive_status";
	DIR		   *dir;
	struct dirent *entry;

	if (!XLogArchivingActive())
		return;
	dir = AllocateDir(path);
	while ((entry = ReadDir(dir, path)) != NULL)
	{
		size_t		length = strlen(entry->d_name);

		if (length > 6 && strcmp(entry->d_name + length - 6, ".ready") == 0)
			reading->value++;
	}
	FreeDir(dir);
}

/*
 * value: the active client sessions.  One that waits in an extension, as in
 * backfill_wait, is no load.
 */
static void
read_sessions(Reading *reading, MemoryContext context)
{
	bool		isnull;

	query("SELECT count(*) FROM pg_stat_activity "
		  " WHERE state = 'active' AND backend_type = 'client backend' "
		  "   AND wait_event_type IS DISTINCT FROM 'Extension'");
	reading->value = int_column(0, 1, &isnull);
}

/*
 * value: the age of the oldest transaction or snapshot that keeps dead rows of
 * this database from being removed; who2: since when, if that is known.  A vacuum does
 * not, and our own batches are short.
 */
static void
read_xmin(Reading *reading, MemoryContext context)
{
	bool		isnull;

	query("SELECT age, who, date_trunc('second', since)::text FROM ("
		  "  SELECT greatest(age(backend_xmin), age(backend_xid))::bigint AS age, "
		  "         format('process %s', pid) AS who, xact_start AS since "
		  "    FROM pg_stat_activity "
		  "   WHERE (datid = (SELECT oid FROM pg_database WHERE datname = current_database()) "
		  "          OR backend_type = 'walsender') "
		  "     AND backend_type NOT IN ('backfill worker', 'backfill scheduler', "
		  "                              'autovacuum worker') "
		  "     AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum) "
		  "   UNION ALL "
		  "  SELECT greatest(age(xmin), age(catalog_xmin))::bigint, "
		  "         format('replication slot \"%s\"', slot_name), NULL FROM pg_replication_slots "
		  "   UNION ALL "
		  "  SELECT age(transaction)::bigint, format('prepared transaction \"%s\"', gid), prepared "
		  "    FROM pg_prepared_xacts WHERE database = current_database()) ages "
		  " WHERE age IS NOT NULL ORDER BY age DESC LIMIT 1");
	if (SPI_processed == 0)
		return;
	reading->value = int_column(0, 1, &isnull);
	reading->who = MemoryContextStrdup(context, text_column(0, 2));
	if (text_column(0, 3))
		reading->who2 = MemoryContextStrdup(context, text_column(0, 3));
}

/*
 * Call the function in a subtransaction.  Returns NULL, or the message of its
 * error, in the current memory context.
 */
static char *
try_reading(void (*function) (Reading *, MemoryContext), Reading *reading)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile message = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		function(reading, context);
		PopActiveSnapshot();
		SPI_finish();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		message = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return message;
}

static Reading *
get_reading(Measure measure)
{
	static void (*const functions[MEASURES]) (Reading *, MemoryContext) = {
		[STANDBY_MEASURE] = read_standbys,
		[SLOT_MEASURE] = read_slots,
		[ARCHIVE_MEASURE] = read_archive,
		[SESSION_MEASURE] = read_sessions,
		[XMIN_MEASURE] = read_xmin
	};
	Reading    *reading = &readings[measure];

	if (!reading->is_read)
	{
		MemoryContext old = MemoryContextSwitchTo(health_context);

		reading->error = try_reading(functions[measure], reading);
		reading->is_read = true;
		MemoryContextSwitchTo(old);
	}
	return reading;
}

/* ---- judging ---- */

/* Put down a load, if it is the heaviest so far; the reason is a palloc'd text. */
static void
weigh(Health *health, const char *what, double load, char *reason)
{
	if (load <= health->load && health->what != NULL)
		return;
	health->what = what;
	health->load = load;
	health->reason = reason;
}

/* Whether the reading failed; then it weighs the most. */
static bool
has_failed(Health *health, const char *what, const Reading *reading)
{
	if (reading->error == NULL)
		return false;
	weigh(health, what, HUGE_VAL, psprintf("cannot be read: %s", reading->error));
	return true;
}

/* The reading for a limit, or NULL if that is not given or could not be read. */
static Reading *
get_wanted(Health *health, const char *what, int64 limit, Measure measure)
{
	Reading    *reading;

	if (limit == 0)
		return NULL;
	reading = get_reading(measure);
	return has_failed(health, what, reading) ? NULL : reading;
}

static void
judge_standbys(const RunSettings *settings, Health *health)
{
	Reading    *r;

	r = get_wanted(health, "max_replica_lag", settings->max_replica_lag, STANDBY_MEASURE);
	if (r)
		weigh(health, "max_replica_lag", (double) r->value / settings->max_replica_lag,
			  psprintf("standby \"%s\" is %.1f s behind, limit %s", r->who ? r->who : "",
					   r->value / 1000.0, quantity_duration_text(settings->max_replica_lag)));
	r = get_wanted(health, "max_replica_lag_bytes", settings->max_replica_lag_bytes,
				   STANDBY_MEASURE);
	if (r)
		weigh(health, "max_replica_lag_bytes",
			  (double) r->value2 / settings->max_replica_lag_bytes,
			  psprintf("standby \"%s\" is %s behind, limit %s", r->who2 ? r->who2 : "",
					   quantity_bytes_text(r->value2), quantity_bytes_text(settings->max_replica_lag_bytes)));
}

static void
judge_slots(const RunSettings *settings, Health *health)
{
	Reading    *r = get_wanted(health, "max_slot_retained", settings->max_slot_retained,
							   SLOT_MEASURE);

	if (r == NULL)
		return;
	weigh(health, "max_slot_retained", (double) r->value / settings->max_slot_retained,
		  psprintf("replication slot \"%s\" keeps %s of WAL, limit %s", r->who ? r->who : "",
				   quantity_bytes_text(r->value), quantity_bytes_text(settings->max_slot_retained)));
	if (r->value2)
		weigh(health, "max_slot_retained", HUGE_VAL,
			  psprintf("replication slot \"%s\" is about to be lost", r->who2));
}

static void
judge_counts(const RunSettings *settings, Health *health)
{
	Reading    *r;

	r = get_wanted(health, "max_archive_backlog", settings->max_archive_backlog,
				   ARCHIVE_MEASURE);
	if (r)
		weigh(health, "max_archive_backlog",
			  (double) r->value / settings->max_archive_backlog,
			  psprintf(INT64_FORMAT " WAL files wait to be archived, limit " INT64_FORMAT,
					   r->value, settings->max_archive_backlog));
	r = get_wanted(health, "max_active_sessions", settings->max_active_sessions,
				   SESSION_MEASURE);
	if (r)
		weigh(health, "max_active_sessions",
			  (double) r->value / settings->max_active_sessions,
			  psprintf(INT64_FORMAT " client sessions are active, limit " INT64_FORMAT,
					   r->value, settings->max_active_sessions));
	r = get_wanted(health, "max_xmin_age", settings->max_xmin_age, XMIN_MEASURE);
	if (r)
		weigh(health, "max_xmin_age", (double) r->value / settings->max_xmin_age,
			  psprintf("%s holds an xmin of age " INT64_FORMAT ", limit " INT64_FORMAT,
					   r->who ? r->who : "nobody", r->value, settings->max_xmin_age));
}

/* value: dead rows of the target and its children; value2: all rows. */
static void
read_rows(Reading *reading, MemoryContext context)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(reading->target, NoLock, NULL))
	{
		Datum		relid = ObjectIdGetDatum(lfirst_oid(lc));
		int64		dead = DatumGetInt64(DirectFunctionCall1(pg_stat_get_dead_tuples, relid));

		reading->value += dead;
		reading->value2 += dead +
			DatumGetInt64(DirectFunctionCall1(pg_stat_get_live_tuples, relid));
	}
}

/*
 * value: the process that is at work on the target or a child as a whole, or 0;
 * who: its command.  All that reports its progress with a table counts but
 * ANALYZE and COPY, which get in nobody's way.
 */
static void
read_maintenance(Reading *reading, MemoryContext context)
{
	List	   *relations = find_all_inheritors(reading->target, NoLock, NULL);
	bool		isnull;

	query("SELECT relid::bigint, pid::bigint, command FROM ("
		  "  SELECT datname, relid, pid, 'VACUUM' AS command FROM pg_stat_progress_vacuum "
		  "   UNION ALL "
		  "  SELECT datname, relid, pid, command FROM " COMPAT_REPACK_PROGRESS
		  "   UNION ALL "
		  "  SELECT datname, relid, pid, command FROM pg_stat_progress_create_index) p "
		  " WHERE datname = current_database()");
	for (int i = 0; i < SPI_processed; i++)
	{
		if (list_member_oid(relations, (Oid) int_column(i, 1, &isnull)))
		{
			char	   *command = text_column(i, 3);

			reading->value = int_column(i, 2, &isnull);
			reading->who = MemoryContextStrdup(context, command ? command : "maintenance");
		}
	}
}

static void
judge_target(const RunInfo *run, const RunSettings *settings, Health *health)
{
	Reading		rows = {.target = run->target};
	Reading		maintenance = {.target = run->target};

	if (settings->max_dead_rows > 0)
	{
		double		share;

		rows.error = try_reading(read_rows, &rows);
		share = rows.value2 > 0 ? (double) rows.value / rows.value2 : 0;
		if (!has_failed(health, "max_dead_rows", &rows))
			weigh(health, "max_dead_rows", share / (settings->max_dead_rows / 1000000.0),
				  psprintf("%.1f %% of the rows are dead, limit %g %%", share * 100,
						   settings->max_dead_rows / 10000.0));
	}
	if (settings->pause_for_maintenance)
	{
		maintenance.error = try_reading(read_maintenance, &maintenance);
		if (!has_failed(health, "pause_for_maintenance", &maintenance))
			weigh(health, "pause_for_maintenance", maintenance.value != 0 ? HUGE_VAL : 0,
				  psprintf("process " INT64_FORMAT " is at work on the target: %s",
						   maintenance.value, maintenance.who ? maintenance.who : ""));
	}
}

/*
 * Find the measure that is closest to its limit.  In a transaction, outside of
 * a store session; the texts are in the current memory context, and good for
 * this round.
 */
void
health_judge(const RunInfo *run, const RunSettings *settings, Health *health)
{
	memset(health, 0, sizeof(Health));
	judge_standbys(settings, health);
	judge_slots(settings, health);
	judge_counts(settings, health);
	judge_target(run, settings, health);
	if (health->load * 1000000 < settings->soft_limit)
		health->reason = NULL;
}

/*
 * For runs that have no limit for them: the active client sessions for each
 * processor.  Likewise in a transaction.
 */
double
health_foreground(void)
{
	Reading    *r = get_reading(SESSION_MEASURE);
	long		processors = sysconf(_SC_NPROCESSORS_ONLN);

	return r->error ? 1 : (double) r->value / Max(processors, 1);
}

/* Who holds the oldest snapshot, and since when; NULL if nobody does.  Likewise. */
char *
health_oldest_snapshot(void)
{
	Reading    *r = get_reading(XMIN_MEASURE);

	if (r->error || r->who == NULL)
		return NULL;
	return psprintf("%s holds a snapshot%s%s", r->who, r->who2 ? " since " : "",
					r->who2 ? r->who2 : "");
}
