/*-------------------------------------------------------------------------
 *
 * pace.h
 *	  What is kept about the pace of runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_PACE_H
#define BACKFILL_STORE_PACE_H

#include "datatype/timestamp.h"

#include "base/quantity.h"
#include "store/store.h"

extern void store_set_batch_size(StoreSession *session, int64 id, int64 size);
extern void store_set_throttle(StoreSession *session, int64 id, const char *reason);
extern void store_add_times(StoreSession *session, int64 id, const char *const *names,
							const double *seconds, int n);
extern void store_note_yield(StoreSession *session, int64 id);
extern int	store_recent_batches(StoreSession *session, int64 id, TimestampTz since,
								 TimestampTz until, Usage **usages);

#endif							/* BACKFILL_STORE_PACE_H */
