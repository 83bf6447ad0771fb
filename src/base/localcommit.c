/*-------------------------------------------------------------------------
 *
 * localcommit.c
 *	  A transaction that does nothing but ask for something of a run.
 *
 * While a synchronous standby is lost, every commit waits for it: that of a batch,
 * and that of the session which would stop the run for this very reason.  What
 * backfill_stop and its like write needs no standby.  So a transaction that has
 * written nothing else waits for the local disk only.  What else it writes, before
 * or after, waits as its session asks, and so does the whole of it then.
 *
 * Whether there was anything else is seen by the transaction's id, and by the WAL
 * that the process has written for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "base/localcommit.h"

/*
 * Where the WAL of the transaction ends if all of it is ours, 0 otherwise.  The
 * callback of a transaction's end has no other way to know.
 */
static XLogRecPtr ours_end = 0;

static void
commit_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && ours_end != 0 && ours_end == XactLastRecEnd &&
		synchronous_commit > SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		(void) set_config_option("synchronous_commit", "local", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	if (event != XACT_EVENT_PRE_COMMIT)
		ours_end = 0;
}

/* Before such a request is written.  The result is for localcommit_end. */
bool
localcommit_begin(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(commit_callback, NULL);
		registered = true;
	}

	/* what has been written without an id is no change, but the tidying of a page */
	return !TransactionIdIsValid(GetTopTransactionIdIfAny()) || XactLastRecEnd == ours_end;
}

/* It is written. */
void
localcommit_end(bool ours)
{
	ours_end = ours ? XactLastRecEnd : 0;
}
