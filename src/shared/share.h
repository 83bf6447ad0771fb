/*-------------------------------------------------------------------------
 *
 * share.h
 *	  The slots of workers, shared among those who want them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_SHARE_H
#define BACKFILL_SHARED_SHARE_H

#include "datatype/timestamp.h"

extern bool share_may_take(Oid database, Oid owner, int64 run_id);
extern void share_sleep_until(TimestampTz until);
extern bool share_is_recalled(void);
extern bool share_is_resting(Oid database, int64 run_id);
extern void share_note_exit(void);

#endif							/* BACKFILL_SHARED_SHARE_H */
