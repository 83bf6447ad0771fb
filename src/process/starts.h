/*-------------------------------------------------------------------------
 *
 * starts.h
 *	  Starting workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PROCESS_STARTS_H
#define BACKFILL_PROCESS_STARTS_H

#include "process/watch.h"

extern void starts_check(Scheduler *scheduler);
extern void starts_begin(Scheduler *scheduler);

#endif							/* BACKFILL_PROCESS_STARTS_H */
