/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  One batch: run, record, let go.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_BATCH_H
#define BACKFILL_ENGINE_BATCH_H

#include "engine/claim.h"
#include "engine/session.h"

/* How to let go of the batch in hand, undone. */
typedef struct BatchRelease
{
	Worker	   *worker;
	const char *status;			/* that it takes */
	const char *message;		/* why, or NULL */
	const ErrorData *retry;		/* to be tried again because of it, or NULL */
	TimestampTz until;			/* at that time, DT_NOBEGIN for at once */
} BatchRelease;

extern void batch_run(Session *session, void *arg);
extern void batch_release(Session *session, void *arg);
extern void batch_note_pinned(Worker *worker);

#endif							/* BACKFILL_ENGINE_BATCH_H */
