/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  The SQL procedure that waits for a run.
 *
 * It commits after each look, so that nothing is held while it waits.  How a run has
 * ended is told by an SQLSTATE of its own, so that who waits need not read messages.
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
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api/started.h"
#include "api/wait.h"
#include "base/bar.h"
#include "base/compat.h"
#include "run/find.h"
#include "run/title.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_wait);

/* A line with "INFO:  " before it has 80 columns at most. */
#define LINE_WIDTH		73
#define BAR_WIDTH		24

/* How the waiting may end, but for a run that has completed. */
#define ERRCODE_RUN_STOPPED		MAKE_SQLSTATE('U', 'B', '0', '0', '1')
#define ERRCODE_RUN_FAILED		MAKE_SQLSTATE('U', 'B', '0', '0', '2')
#define ERRCODE_RUN_TIMEOUT		MAKE_SQLSTATE('U', 'B', '0', '0', '3')
#define ERRCODE_RUN_PAUSED		MAKE_SQLSTATE('U', 'B', '0', '0', '4')

PG_FUNCTION_INFO_V1(backfill_wait_for_last);

static char *
title(int64 id, const RunProgress *p)
{
	return title_run(id, p->name, p->target);
}

/* How the run stands, where it does not just run. */
static const char *
say_status(RunStatus status)
{
	switch (status)
	{
		case RUN_RUNNING:
			return "";
		case RUN_FAILED:
			return " has failed";
		case RUN_STOPPED:
			return " was stopped";
		default:
			return psprintf(" is %s", status_name(status));
	}
}

/* One line about a run that is not over, or not well. */
static void
report_progress(int64 id, const RunProgress *p)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s%s: %s %%, " INT64_FORMAT, title(id, p),
					 say_status(p->status), p->progress, p->rows_scanned);
	if (p->rows_total >= 0)
		appendStringInfo(&buf, " of about " INT64_FORMAT, p->rows_total);
	appendStringInfoString(&buf, " rows");
	if (p->rows_per_second >= 0)
		appendStringInfo(&buf, ", %.0f rows/s", p->rows_per_second);
	if (p->eta)
		appendStringInfo(&buf, ", ETA %s", p->eta);
	if (p->wait_reason)
		appendStringInfo(&buf, ", %s", p->wait_reason);
	ereport(INFO, (errmsg_internal("%s", buf.data)));
}

/*
 * The same as a bar, of at most 80 columns with the word that psql puts before it.  What
 * it is about stands in the first line alone.
 */
static void
draw_progress(int64 id, const RunProgress *p, bool first)
{
	StringInfoData buf;
	double		progress = strtod(p->progress, NULL);
	int			shown;

	if (first)
		ereport(INFO, (errmsg_internal("%s", title(id, p))));
	initStringInfo(&buf);
	appendStringInfoChar(&buf, '[');
	bar_append(&buf, progress / 100, BAR_WIDTH, '-');
	appendStringInfo(&buf, "] %6.2f %%", progress);
	if (p->status != RUN_RUNNING)
		appendStringInfo(&buf, ", %s", status_name(p->status));
	if (p->rows_per_second >= 0)
		appendStringInfo(&buf, ", %.0f rows/s", p->rows_per_second);
	if (p->eta)
		appendStringInfo(&buf, ", ETA %s", p->eta);
	if (p->wait_reason)
		appendStringInfo(&buf, ", %s", p->wait_reason);
	shown = pg_mbcharcliplen(buf.data, buf.len, LINE_WIDTH);
	if (shown < buf.len)
	{
		buf.len = pg_mbcharcliplen(buf.data, buf.len, LINE_WIDTH - 3);
		buf.data[buf.len] = '\0';
		appendStringInfoString(&buf, "...");
	}
	ereport(INFO, (errmsg_internal("%s", buf.data)));
}

/* A run has completed: say so if it has left rows out. */
void
wait_warn(int64 id, const RunProgress *p)
{
	if (p->errors > 0)
		ereport(WARNING,
				(errmsg(INT64_FORMAT " row%s skipped by %s", p->errors,
						p->errors == 1 ? " was" : "s were", title(id, p)),
				 errhint("The view backfill_errors shows them; SELECT backfill_retry(" INT64_FORMAT ") tries them again.",
						 id)));
}

/* The run has completed: one line, and what is not as one would expect. */
static void
report_completion(int64 id, const RunProgress *p)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s completed in %s: " INT64_FORMAT " rows walked",
					 title(id, p), p->duration ? p->duration : "no time",
					 p->rows_scanned + p->errors);

	/* without a scope all are, and without a verification nobody has counted them */
	if (p->in_scope >= 0)
		appendStringInfo(&buf, ", " INT64_FORMAT " in scope", p->in_scope);
	appendStringInfo(&buf, ", " INT64_FORMAT " changed", p->rows_affected);
	if (p->errors > 0)
		appendStringInfo(&buf, ", " INT64_FORMAT " skipped", p->errors);
	if (p->rows_per_second >= 0)
		appendStringInfo(&buf, ", %.0f rows/s", p->rows_per_second);
	ereport(INFO, (errmsg_internal("%s", buf.data)));

	if (p->rows_scanned > 0 && p->rows_affected == 0)
		ereport(WARNING,
				(errmsg("%s has changed nothing", title(id, p)),
				 errdetail("Of the " INT64_FORMAT " rows walked, none was in scope, or the statement did nothing with them.",
						   p->rows_scanned),
				 errhint("backfill_preview shows what the definition does with some rows.")));
	wait_warn(id, p);
}

/* The run has ended without completing: that is the caller's error too. */
compat_noreturn static void
report_failure(int64 id, const RunProgress *p)
{
	if (p->status == RUN_STOPPED)
		ereport(ERROR,
				(errcode(ERRCODE_RUN_STOPPED),
				 errmsg("%s was stopped", title(id, p)),
				 errhint("SELECT backfill_resume(" INT64_FORMAT ") lets it go on.", id)));
	ereport(ERROR,
			(errcode(ERRCODE_RUN_FAILED),
			 errmsg("%s has failed: %s", title(id, p), p->error ? p->error : "unknown error"),
			 errdetail_internal("SQLSTATE %s%s%s", p->sqlstate ? p->sqlstate : "XX000",
								p->error_detail ? "\n" : "",
								p->error_detail ? p->error_detail : ""),
			 errhint("%s", p->error_hint ? p->error_hint :
					 psprintf("SELECT backfill_resume(" INT64_FORMAT ") tries again what failed.", id))));
}

/* The run has paused itself, as its settings ask: nobody else makes it go on. */
compat_noreturn static void
report_pause(int64 id, const RunProgress *p)
{
	ereport(ERROR,
			(errcode(ERRCODE_RUN_PAUSED),
			 errmsg("%s has paused itself", title(id, p)),
			 errdetail_internal("%s", p->wait_reason),
			 errhint("SELECT backfill_resume(" INT64_FORMAT ") lets it go on for as much again.", id)));
}

/* The time is over.  What becomes of the run is said, too. */
compat_noreturn static void
report_timeout(int64 id, const RunProgress *p)
{
	ereport(ERROR,
			(errcode(ERRCODE_RUN_TIMEOUT),
			 errmsg("timed out waiting for %s, which is \"%s\"", title(id, p), status_name(p->status)),
			 p->wait_reason ? errdetail_internal("%s", p->wait_reason) : 0,
			 !p->is_local ?
			 errhint("It does not move here: SELECT backfill_resume(" INT64_FORMAT ") would adopt it.", id) :
			 p->status == RUN_PAUSED ?
			 errhint("It is paused: SELECT backfill_resume(" INT64_FORMAT ") lets it go on.", id) :
			 errhint("The run goes on.")));
}

/* How the run stands.  Raises an error if the caller may not see it. */
RunProgress *
wait_progress(int64 id, Oid caller)
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

/* The run that is to be waited for.  Raises an error if there is none. */
static int64
find(const Waiting *waiting)
{
	StoreSession session;
	int64		id;

	store_begin(&session);
	id = find_id(&session, &waiting->key, FIND_TO_WATCH, waiting->caller);
	store_end(&session);
	return id;
}

/*
 * Wait, and commit after each look.  Raises an error unless the run has completed.
 * Within a session of SPI that may commit.
 */
void
wait_for_run(const Waiting *waiting)
{
	int64		id = find(waiting);
	TimestampTz began = GetCurrentTimestamp();
	TimestampTz last_line = began;
	TimestampTz looked_at = began;
	MemoryContext loop_context;
	bool		is_first = true;

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
		p = wait_progress(id, waiting->caller);

		/* a run that has ended but waits for something has been resumed */
		ended = status_has_ended(p->status) && p->wait_reason == NULL;
		if (ended && p->status == RUN_COMPLETED)
		{
			report_completion(id, p);
			break;
		}
		if (ended || p->paused_itself || now >= TimestampTzPlusMilliseconds(last_line, waiting->every))
		{
			if (waiting->bar)
				draw_progress(id, p, is_first);
			else
				report_progress(id, p);
			is_first = false;
			last_line = now;
		}
		if (ended)
			report_failure(id, p);
		if (p->paused_itself)
			report_pause(id, p);
		if (waiting->timeout >= 0 &&
			now >= TimestampTzPlusMilliseconds(began, waiting->timeout))
			report_timeout(id, p);
		SPI_commit();

		/* look often enough to end soon after the run, print less often */
		wait_ms(Min(waiting->every, 100));
	}
}

/* The arguments from there on are timeout and every. */
Waiting
wait_arguments(FunctionCallInfo fcinfo, int n)
{
	Waiting		waiting = {
		.timeout = PG_ARGISNULL(n) ? -1 : interval_ms(PG_GETARG_INTERVAL_P(n)),
		.every = PG_ARGISNULL(n + 1) ? 1000 : Max(interval_ms(PG_GETARG_INTERVAL_P(n + 1)), 10),
		.caller = GetUserId()
	};

	return waiting;
}

/* Whether the argument asks for a bar.  Raises an error if it asks for nothing that is known. */
static bool
read_style(FunctionCallInfo fcinfo, int n)
{
	char	   *style = PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));

	if (style && pg_strcasecmp(style, "bar") == 0)
		return true;
	if (style && pg_strcasecmp(style, "line") == 0)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 style ? errmsg("unrecognized style of backfill_wait: \"%s\"", style) :
			 errmsg("the style of backfill_wait cannot be null"),
			 errhint("It is \"line\" or \"bar\".")));
}

/* Whether a procedure may commit: not in a transaction block, nor from a function. */
bool
wait_may_commit(FunctionCallInfo fcinfo)
{
	return fcinfo->context && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
}

/* Begin and end the procedure. */
static Datum
call(FunctionCallInfo fcinfo, const Waiting *waiting)
{
	if (!wait_may_commit(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("backfill_wait cannot run inside a transaction block or a function"),
				 errdetail("It would hold a snapshot, and would not see the run it waits for.")));
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	wait_for_run(waiting);
	SPI_finish();
	PG_RETURN_VOID();
}

/* CALL backfill_wait(run, timeout, every, style) */
Datum
backfill_wait(PG_FUNCTION_ARGS)
{
	Waiting		waiting = wait_arguments(fcinfo, 1);

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the id of a backfill run cannot be null")));
	waiting.bar = read_style(fcinfo, 3);
	waiting.key = find_key_arg(fcinfo);
	return call(fcinfo, &waiting);
}

/* CALL backfill_wait(timeout, every, style): for the run started last in this session */
Datum
backfill_wait_for_last(PG_FUNCTION_ARGS)
{
	Waiting		waiting = wait_arguments(fcinfo, 0);

	waiting.bar = read_style(fcinfo, 2);
	waiting.key.id = started_last();
	if (waiting.key.id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no backfill run was started in this session"),
				 errhint("Name the run, or its definition: CALL backfill_wait(1).")));
	return call(fcinfo, &waiting);
}
