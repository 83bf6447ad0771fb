/*-------------------------------------------------------------------------
 *
 * space.h
 *	  What is kept about the space that a run takes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_SPACE_H
#define BACKFILL_STORE_SPACE_H

#include "store/store.h"

/* How large the target of a run was at its beginning, and how much it has grown; bytes. */
typedef struct SpaceInfo
{
	int64		table_size;		/* with TOAST, or -1 while unknown */
	int64		index_size;		/* likewise */
	int64		table_growth;
	int64		index_growth;
	char	   *kept_by;		/* who keeps what batches have left, or NULL */
} SpaceInfo;

extern void store_load_space(StoreSession *session, int64 run_id, SpaceInfo *space);
extern void store_set_space(StoreSession *session, int64 run_id, const SpaceInfo *space);

#endif							/* BACKFILL_STORE_SPACE_H */
