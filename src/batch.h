/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  One batch: claim, run, record, give back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BATCH_H
#define BACKFILL_BATCH_H

#include "worker.h"

/* A batch that brought its worker down so often fails the run. */
#define BATCH_CRASHES_FATAL		3
/* One that did so often is only run while no other such batch is. */
#define BATCH_CRASHES_SUSPECT	1

extern void batch_claim(Worker *worker);
extern void batch_run(Worker *worker);
extern void batch_give_back(Worker *worker, const char *status, const char *error);
extern void batch_put_aside(Worker *worker, TimestampTz until);
extern void batch_lock_for_claim(Worker *worker);
extern void batch_leave_quarantine(Worker *worker);
extern void batch_note_event(Worker *worker, const EventInfo *event);
extern void batch_note_pinned(Worker *worker);
extern void batch_forget(Worker *worker);
extern char *batch_range_text(const BatchInfo *batch);
extern bool batch_is_last_key(ArrayType *key, ArrayType *last);

#endif							/* BACKFILL_BATCH_H */
