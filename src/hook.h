/*-------------------------------------------------------------------------
 *
 * hook.h
 *	  Lifecycle hooks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_HOOK_H
#define BACKFILL_HOOK_H

#include "worker.h"

/* A change that hooks are called for. */
typedef struct HookEvent
{
	const char *object;			/* "run" or "batch" */
	const char *status;
	const char *previous_status;	/* or NULL */
	const BatchInfo *batch;		/* or NULL */
	int64		rows;
	const char *error;			/* or NULL */
} HookEvent;

extern bool hook_wanted(Worker *worker, const char *object, const char *status);
extern void hook_change(Worker *worker, const HookEvent *event,
						void (*change) (Worker *));
extern void hook_after(Worker *worker, const HookEvent *event);
extern ErrorData *hook_try(Worker *worker, void (*function) (Worker *));
extern void hook_record_error(Worker *worker, const BatchInfo *batch, const char *what,
							  const ErrorData *error);
extern ErrorData *hook_announce_batch(Worker *worker);
extern HookEvent hook_batch_event(Worker *worker, const char *status, const char *error);

#endif							/* BACKFILL_HOOK_H */
