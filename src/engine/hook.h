/*-------------------------------------------------------------------------
 *
 * hook.h
 *	  Lifecycle hooks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_HOOK_H
#define BACKFILL_ENGINE_HOOK_H

#include "engine/session.h"
#include "store/batch.h"

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

extern bool hook_wanted(Session *session, const char *object, const char *status);
extern void hook_change(Session *session, const HookEvent *event, SessionFunction change,
						void *arg);
extern void hook_after(Session *session, const HookEvent *event);
extern void hook_record_error(Session *session, const BatchInfo *batch, const char *what,
							  const ErrorData *error);
extern ErrorData *hook_try(Session *session, SessionFunction function, void *arg,
						   const BatchInfo *batch);

#endif							/* BACKFILL_ENGINE_HOOK_H */
