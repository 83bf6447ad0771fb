/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The process that starts a scheduler where one is needed.
 *
 * One for the server, registered at preload, connected to no database.  After
 * the start of the server, a crash, or a promotion it has every database
 * looked at once; later it acts on requests of sessions, and when the time
 * comes that a scheduler named when it went away.  What it remembers is in its
 * own memory: if it dies it begins anew with every database.
 *
 * Cases it lives through: CREATE and DROP EXTENSION, committed or not (a
 * scheduler that finds no extension leaves); DROP DATABASE, also while its
 * scheduler runs (a database that is gone is forgotten); CREATE DATABASE from
 * a template and renaming (nothing is connected to a database without an
 * active run); out of worker slots (tried again, logged once).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "process/launcher.h"
#include "settings/guc.h"
#include "shared/scheduler_slot.h"

/* While something is due the clock, which may be set forward, is looked at so often. */
#define LOOK_AGAIN_MS	60000
/* Wait before a scheduler that died, or could not be started, is tried again. */
#define RETRY_MS	2000
/* The same where nobody may connect: that may change without notice. */
#define CLOSED_RETRY_MS 60000

typedef enum DatabaseState
{
	DATABASE_GONE,
	DATABASE_CLOSED,
	DATABASE_OPEN
} DatabaseState;

/* A database that needs a scheduler, now or later. */
typedef struct Due
{
	Oid			database;
	TimestampTz at;
	TimestampTz tried_at;		/* in vain; 0 if it was not tried */
	bool		postponed;		/* there was no place for it */
} Due;

/* What became of a database that was due. */
typedef enum Outcome
{
	OUTCOME_SERVED,				/* or there is nothing more to do */
	OUTCOME_POSTPONED,			/* there is no place for a scheduler */
	OUTCOME_CLOSED				/* nobody may connect */
} Outcome;

static bool said = false;		/* that worker slots are out, since they are */
static List *dues = NIL;		/* in launcher_context */
static MemoryContext launcher_context;

/* At preload. */
void
launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, GUC_LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "backfill_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "backfill launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "backfill launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/*
 * Have the database looked at, at that time or earlier.  Returns what is
 * remembered of it.
 */
static Due *
add_due(Oid database, TimestampTz at)
{
	MemoryContext old;
	Due		   *due;
	ListCell   *lc;

	foreach(lc, dues)
	{
		due = lfirst(lc);
		if (due->database == database)
		{
			due->at = Min(due->at, at);
			return due;
		}
	}
	old = MemoryContextSwitchTo(launcher_context);
	due = palloc(sizeof(Due));
	due->database = database;
	due->at = at;
	due->tried_at = 0;
	due->postponed = false;
	dues = lappend(dues, due);
	MemoryContextSwitchTo(old);
	return due;
}

/*
 * Have every database looked at that has users.  One that is closed may be opened
 * again; a template that is closed is there to be copied.
 */
static void
add_all_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (!database->datistemplate &&
			database->datconnlimit != DATCONNLIMIT_INVALID_DB)
			(void) add_due(database->oid, 0);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(launcher_context);
}

/* Whether the database is there and can be connected to. */
static DatabaseState
look_up_database(Oid database)
{
	HeapTuple	tuple;
	DatabaseState state = DATABASE_GONE;

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datconnlimit != DATCONNLIMIT_INVALID_DB)
			state = form->datallowconn ? DATABASE_OPEN : DATABASE_CLOSED;
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(launcher_context);
	return state;
}

/* Register a scheduler for a slot.  Returns false if the server is full. */
static bool
register_scheduler(Oid database, int slot)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION |
		COMPAT_INTERRUPTIBLE;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, GUC_LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "backfill_scheduler_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "backfill scheduler for database %u", database);
	strlcpy(worker.bgw_type, "backfill scheduler", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(slot);
	worker.bgw_notify_pid = MyProcPid;
	if (RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		pfree(handle);
		return true;
	}
	if (!said)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("backfill could not start a scheduler: out of background worker slots"),
				 errhint("You might need to increase \"max_worker_processes\".")));
	said = true;
	return false;
}

/* Start, or wake, the scheduler of a database that is due. */
static Outcome
serve(Oid database)
{
	bool		alive;
	int			slot;

	switch (look_up_database(database))
	{
		case DATABASE_GONE:
			return OUTCOME_SERVED;
		case DATABASE_CLOSED:
			return OUTCOME_CLOSED;
		case DATABASE_OPEN:
			break;
	}
	slot = scheduler_slot_reserve(database, &alive);
	if (alive)
		return OUTCOME_SERVED;
	if (slot < 0)
		return OUTCOME_POSTPONED;
	if (register_scheduler(database, slot))
	{
		scheduler_slot_note_room(true);
		return OUTCOME_SERVED;
	}
	scheduler_slot_release(slot);
	scheduler_slot_note_room(false);
	return OUTCOME_POSTPONED;
}

/* Whether the time has come, also when the clock was set back since the last try. */
static bool
is_due(const Due *due, TimestampTz now)
{
	return due->at <= now || due->postponed || now < due->tried_at;
}

/* Serve everything that is due.  Returns the milliseconds until the next. */
static long
serve_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = DT_NOEND;
	ListCell   *lc;
	bool		postponed = false;

	foreach(lc, dues)
	{
		Due		   *due = lfirst(lc);

		if (is_due(due, now))
		{
			Outcome		outcome = serve(due->database);

			if (outcome == OUTCOME_SERVED)
			{
				dues = foreach_delete_current(dues, lc);
				pfree(due);
				continue;
			}
			due->tried_at = now;
			due->postponed = outcome == OUTCOME_POSTPONED;
			due->at = TimestampTzPlusMilliseconds(now, due->postponed ? RETRY_MS :
												  CLOSED_RETRY_MS);
			postponed |= due->postponed;
		}
		next = Min(next, due->at);
	}
	if (!postponed)
	{
		said = false;
		scheduler_slot_note_room(true);
	}
	if (next == DT_NOEND)
		return -1;
	return Min(Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next), 1),
			   LOOK_AGAIN_MS);
}

/* Take what sessions have asked for and what schedulers have left behind. */
static void
collect(bool everywhere)
{
	List	   *databases = NIL;
	ListCell   *lc;
	Oid			database;
	TimestampTz next_due;
	bool		failed;

	if (scheduler_slot_take_requests(&databases) || everywhere)
		add_all_databases();
	foreach(lc, databases)
		(void) add_due(lfirst_oid(lc), 0);
	list_free(databases);
	while (scheduler_slot_reap(&database, &next_due, &failed))
	{
		TimestampTz now = GetCurrentTimestamp();

		if (failed)
			add_due(database, TimestampTzPlusMilliseconds(now, RETRY_MS))->tried_at = now;
		else if (next_due != DT_NOEND)
			(void) add_due(database, next_due);
	}
}

void
backfill_launcher_main(Datum arg)
{
	uint32		wait_event;
	bool		first = true;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, PG_SIG_IGN);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	scheduler_slot_attach_launcher();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	launcher_context = AllocSetContextCreate(TopMemoryContext, "backfill launcher",
											 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(launcher_context);
	pgstat_report_appname("backfill launcher");
	wait_event = compat_wait_event("BackfillLauncherMain");

	for (;;)
	{
		long		timeout;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		collect(first);
		first = false;
		timeout = serve_due();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, wait_event);
		ResetLatch(MyLatch);
	}
}
