/*-------------------------------------------------------------------------
 *
 * place.h
 *	  Where a row is after it was changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_PLACE_H
#define BACKFILL_WALK_PLACE_H

#include "storage/itemptr.h"
#include "utils/snapshot.h"

extern ItemPointerData place_follow(Oid relid, ItemPointerData place, Snapshot snapshot);

#endif							/* BACKFILL_WALK_PLACE_H */
