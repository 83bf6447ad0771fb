/*-------------------------------------------------------------------------
 *
 * probe.c
 *	  The owner's own reason to hold a run.
 *
 * The probe is the owner's code, and runs where that may run: in a session of
 * one of the run's workers, between two batches, in a transaction of its own
 * that is rolled back.  What it says goes to shared memory and counts for all
 * workers.  If it fails or takes too long, that is the reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "engine/probe.h"
#include "engine/session.h"
#include "shared/pace.h"
#include "shared/segment.h"
#include "shared/wake.h"

/* Run it.  The answer, in the loop context, goes to *arg; NULL for go on. */
static void
ask(Session *session, void *arg)
{
	char	  **answer = (char **) arg;
	const char *sql = session->settings.probe;
	int			nest;
	int			rc;

	*answer = NULL;
	session_begin(session);
	debug_query_string = sql;
	pgstat_report_activity(STATE_RUNNING, sql);
	nest = session_enter_user_code(session);
	enable_timeout_after(STATEMENT_TIMEOUT, (int) session->settings.probe_timeout);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	rc = SPI_execute(sql, false, 1);
	disable_timeout(STATEMENT_TIMEOUT, false);
	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(rc));
	if (SPI_processed > 0 && SPI_tuptable != NULL && SPI_tuptable->tupdesc->natts > 0)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		if (text)
			*answer = MemoryContextStrdup(session->loop_context, text);
	}
	PopActiveSnapshot();
	SPI_finish();
	AtEOXact_GUC(false, nest);

	/* it is to look, not to do anything */
	AbortCurrentTransaction();
	MemoryContextSwitchTo(session->loop_context);
	debug_query_string = NULL;
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Run the probe of the session's run and make known what it says.  The scheduler
 * is woken when that is news.  Raises nothing.
 */
void
probe_run(Session *session)
{
	char	   *answer;
	ErrorData  *error = session_try(session, ask, &answer);
	bool		news;

	/* a timeout that came a moment too late is not for the next batch */
	QueryCancelPending = false;
	if (error)
		news = pace_probe_said(PROBE_WAIT, error->message);
	else if (answer)
		news = pace_probe_said(PROBE_WAIT, answer);
	else
		news = pace_probe_said(PROBE_GO, "");
	if (news)
		wake_scheduler(session->slot.database);
}
