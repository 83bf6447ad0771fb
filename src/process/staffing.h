/*-------------------------------------------------------------------------
 *
 * staffing.h
 *	  The workers that a run should have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PROCESS_STAFFING_H
#define BACKFILL_PROCESS_STAFFING_H

#include "store/run.h"
#include "store/store.h"

extern bool staffing_is_done(StoreSession *session, RunInfo *run);
extern int	staffing_wanted(StoreSession *session, RunInfo *run, int living, int most);

#endif							/* BACKFILL_PROCESS_STAFFING_H */
