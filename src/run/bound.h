/*-------------------------------------------------------------------------
 *
 * bound.h
 *	  How far a run goes before it pauses itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_BOUND_H
#define BACKFILL_RUN_BOUND_H

#include "settings/setting.h"
#include "store/run.h"
#include "store/store.h"

extern bool bound_allows_batch(const RunInfo *run, const RunSettings *settings, int64 last);
extern bool bound_is_claimed(StoreSession *session, const RunInfo *run);
extern char *bound_reached(StoreSession *session, const RunInfo *run, int living);

#endif							/* BACKFILL_RUN_BOUND_H */
