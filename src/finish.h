/*-------------------------------------------------------------------------
 *
 * finish.h
 *	  The last step of a run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_FINISH_H
#define BACKFILL_FINISH_H

#include "worker.h"

extern List *finish_parse(const char *text);
extern void finish_next(Worker *worker);
extern bool finish_may_repeat(Worker *worker);

#endif							/* BACKFILL_FINISH_H */
