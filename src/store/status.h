/*-------------------------------------------------------------------------
 *
 * status.h
 *	  Statuses of a run and the transitions between them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_STATUS_H
#define BACKFILL_STORE_STATUS_H

typedef enum RunStatus
{
	RUN_PENDING,				/* waits for its time */
	RUN_ENQUEUED,				/* waits for a worker */
	RUN_RUNNING,
	RUN_PAUSED,
	RUN_COMPLETED,
	RUN_FAILED,
	RUN_STOPPED
} RunStatus;

#define RUN_STATUSES (RUN_STOPPED + 1)

extern const char *status_name(RunStatus status);
extern RunStatus status_from_name(const char *name);
extern bool status_is_active(RunStatus status);
extern bool status_has_ended(RunStatus status);
extern bool status_may_change(RunStatus from, RunStatus to);
extern void status_check_change(int64 run_id, RunStatus from, RunStatus to);

#endif							/* BACKFILL_STORE_STATUS_H */
