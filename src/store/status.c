/*-------------------------------------------------------------------------
 *
 * status.c
 *	  Statuses of a run and the transitions between them.
 *
 * The table below is the only place that says which status may follow which.
 * Everybody who changes a status asks it: the control functions before they
 * write, the scheduler before it finishes a run.  A crash is not in the table
 * because it changes no status.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "store/status.h"

static const char *const names[RUN_STATUSES] = {
	[RUN_PENDING] = "pending",
	[RUN_ENQUEUED] = "enqueued",
	[RUN_RUNNING] = "running",
	[RUN_PAUSED] = "paused",
	[RUN_COMPLETED] = "completed",
	[RUN_FAILED] = "failed",
	[RUN_STOPPED] = "stopped"
};

#define TO(status) (1 << (status))

static const int transitions[RUN_STATUSES] = {
	[RUN_PENDING] = TO(RUN_ENQUEUED) | TO(RUN_PAUSED) | TO(RUN_FAILED) | TO(RUN_STOPPED),
	[RUN_ENQUEUED] = TO(RUN_RUNNING) | TO(RUN_PAUSED) | TO(RUN_FAILED) | TO(RUN_STOPPED),
	[RUN_RUNNING] = TO(RUN_COMPLETED) | TO(RUN_PAUSED) | TO(RUN_FAILED) | TO(RUN_STOPPED) |
	TO(RUN_ENQUEUED),			/* by backfill_replace */
	[RUN_PAUSED] = TO(RUN_PENDING) | TO(RUN_ENQUEUED) | TO(RUN_STOPPED),
	[RUN_COMPLETED] = TO(RUN_ENQUEUED),	/* by backfill_retry */
	[RUN_FAILED] = TO(RUN_ENQUEUED),
	[RUN_STOPPED] = TO(RUN_ENQUEUED) | TO(RUN_PENDING)	/* pending if others are to go first */
};

/* The name of a status, as tables and messages spell it. */
const char *
status_name(RunStatus status)
{
	return names[status];
}

/* The status with that name; raises an error for any other text. */
RunStatus
status_from_name(const char *name)
{
	for (int i = 0; i < RUN_STATUSES; i++)
	{
		if (strcmp(names[i], name) == 0)
			return (RunStatus) i;
	}
	elog(ERROR, "unrecognized run status \"%s\"", name);
}

/* Whether a run in this status is to be looked after by the scheduler. */
bool
status_is_active(RunStatus status)
{
	return status == RUN_PENDING || status == RUN_ENQUEUED ||
		status == RUN_RUNNING;
}

/* Whether a run in this status has come to an end, good or bad. */
bool
status_has_ended(RunStatus status)
{
	return status == RUN_COMPLETED || status == RUN_FAILED ||
		status == RUN_STOPPED;
}

/* Whether a run may go from one status to the other. */
bool
status_may_change(RunStatus from, RunStatus to)
{
	return (transitions[from] & TO(to)) != 0;
}

/* Raises an error that names both statuses unless the transition is legal. */
void
status_check_change(int64 run_id, RunStatus from, RunStatus to)
{
	if (!status_may_change(from, to))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change run " INT64_FORMAT " from \"%s\" to \"%s\"",
						run_id, status_name(from), status_name(to)),
				 errhint("The view backfill_runs shows the status of each run.")));
}
