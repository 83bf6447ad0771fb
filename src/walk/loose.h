/*-------------------------------------------------------------------------
 *
 * loose.h
 *	  The values of a key, one by one, without the rows between.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_LOOSE_H
#define BACKFILL_WALK_LOOSE_H

#include "lib/stringinfo.h"

#include "walk/walk.h"

extern void loose_append(StringInfo buf, Walk *walk, bool descending);
extern void loose_append_batch(StringInfo buf, Walk *walk, const WalkRange *range);

#endif							/* BACKFILL_WALK_LOOSE_H */
