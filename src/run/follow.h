/*-------------------------------------------------------------------------
 *
 * follow.h
 *	  Runs that follow a run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_FOLLOW_H
#define BACKFILL_RUN_FOLLOW_H

#include "store/run.h"

extern void follow_start(RunInfo *run);

#endif							/* BACKFILL_RUN_FOLLOW_H */
