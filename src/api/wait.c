/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  The SQL procedure that waits for a run.
 *
 * It commits after each look, so that nothing is held while it waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_wait);

/* One line about the run for whoever waits. */
static void
report_progress(int64 id, const RunProgress *p)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "run " INT64_FORMAT " \"%s\" %s: %s %%, " INT64_FORMAT,
					 id, p->name, status_name(p->status), p->progress, p->rows_scanned);
	if (p->rows_total >= 0)
		appendStringInfo(&buf, " of %s" INT64_FORMAT,
						 p->status == RUN_COMPLETED ? "" : "about ", p->rows_total);
	appendStringInfoString(&buf, " rows");
	if (p->rows_per_second >= 0)
		appendStringInfo(&buf, ", %.0f rows/s", p->rows_per_second);
	if (p->eta)
		appendStringInfo(&buf, ", ETA %s", p->eta);
	if (p->wait_reason)
		appendStringInfo(&buf, ", %s", p->wait_reason);
	ereport(INFO, (errmsg_internal("%s", buf.data)));
}

/* The run has ended without completing: that is the caller's error too. */
compat_noreturn static void
report_failure(int64 id, const RunProgress *p)
{
	if (p->status == RUN_STOPPED)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("backfill run " INT64_FORMAT " \"%s\" was stopped", id, p->name),
				 errhint("SELECT backfill_resume(" INT64_FORMAT ") lets it go on.", id)));
	ereport(ERROR,
			(errcode(p->sqlstate && strlen(p->sqlstate) == 5 ?
					 MAKE_SQLSTATE(p->sqlstate[0], p->sqlstate[1], p->sqlstate[2],
								   p->sqlstate[3], p->sqlstate[4]) :
					 ERRCODE_INTERNAL_ERROR),
			 errmsg("backfill run " INT64_FORMAT " \"%s\" failed: %s", id, p->name,
					p->error ? p->error : "unknown error"),
			 p->error_detail ? errdetail_internal("%s", p->error_detail) : 0,
			 errhint("%s", p->error_hint ? p->error_hint :
					 psprintf("SELECT backfill_resume(" INT64_FORMAT ") tries again what failed.", id))));
}

static RunProgress *
read_progress(int64 id, Oid caller)
{
	StoreSession session;
	RunProgress *p;

	store_begin(&session);
	p = store_progress(&session, id);
	store_end(&session);
	if (p == NULL || (!has_privs_of_role(caller, p->owner) &&
					  !has_privs_of_role(caller, ROLE_PG_MONITOR)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill run " INT64_FORMAT " does not exist", id),
				 errhint("The view backfill_runs shows the runs you may see.")));
	return p;
}

static int64
interval_ms(Interval *interval)
{
	double		ms = interval->time / 1000.0 +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * 86400000.0;

	return (int64) Min(Max(ms, 0.0), (double) PG_INT32_MAX);
}

/* Wait so many milliseconds, with no transaction's snapshot held. */
static void
wait_ms(long ms)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = compat_wait_event("BackfillWait");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * CALL backfill_wait(id, timeout, every)
 *
 * Commits after each look, so that nothing is held while it waits; that is why
 * it cannot be called in a transaction block or from a function.  A run that has
 * ended but waits for something has been resumed.
 */
Datum
backfill_wait(PG_FUNCTION_ARGS)
{
	bool		atomic = !fcinfo->context || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic;
	int64		id;
	int64		timeout = PG_ARGISNULL(1) ? -1 : interval_ms(PG_GETARG_INTERVAL_P(1));
	int64		every = PG_ARGISNULL(2) ? 1000 : Max(interval_ms(PG_GETARG_INTERVAL_P(2)), 10);
	TimestampTz began = GetCurrentTimestamp();
	TimestampTz last_line = began;
	TimestampTz looked_at = began;
	Oid			caller = GetUserId();
	MemoryContext loop_context;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the id of a backfill run cannot be null")));
	id = PG_GETARG_INT64(0);
	if (atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("backfill_wait cannot run inside a transaction block or a function"),
				 errdetail("It would hold a snapshot, and would not see the run it waits for.")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);

	/* SPI's memory survives the commits, and somebody may wait for weeks */
	loop_context = AllocSetContextCreate(CurrentMemoryContext, "backfill wait",
										 ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		RunProgress *p;
		bool		ended;
		TimestampTz now = GetCurrentTimestamp();

		/* the clock was set back: what has passed stays passed */
		if (now < looked_at)
		{
			began -= looked_at - now;
			last_line -= looked_at - now;
		}
		looked_at = now;
		MemoryContextReset(loop_context);
		MemoryContextSwitchTo(loop_context);
		p = read_progress(id, caller);

		ended = status_has_ended(p->status) && p->wait_reason == NULL;
		if (ended || now >= TimestampTzPlusMilliseconds(last_line, every))
		{
			report_progress(id, p);
			last_line = now;
		}
		if (ended && p->status == RUN_COMPLETED)
			break;
		if (ended)
			report_failure(id, p);
		if (timeout >= 0 && now >= TimestampTzPlusMilliseconds(began, timeout))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("timed out waiting for backfill run " INT64_FORMAT ", which is \"%s\"",
							id, status_name(p->status)),
					 errhint("The run goes on.")));
		SPI_commit();

		/* look often enough to end soon after the run, print less often */
		wait_ms(Min(every, 100));
	}
	SPI_finish();
	PG_RETURN_VOID();
}
