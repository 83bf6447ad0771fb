/*-------------------------------------------------------------------------
 *
 * imply.h
 *	  The range of a batch, for the table that is joined by the key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_IMPLY_H
#define BACKFILL_WALK_IMPLY_H

#include "nodes/parsenodes.h"

#include "walk/walk.h"

extern void imply_range(Query *query, Walk *walk, const WalkRange *range);

#endif							/* BACKFILL_WALK_IMPLY_H */
