/*-------------------------------------------------------------------------
 *
 * trail.h
 *	  The pages on which a statement leaves old versions of rows behind.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_TRAIL_H
#define BACKFILL_WALK_TRAIL_H

#include "executor/execdesc.h"
#include "nodes/pg_list.h"
#include "storage/block.h"

/* The pages of one table.  What does not fit any more is not remembered. */
typedef struct TrailPages
{
	Oid			relid;
	int			n;
	int			size;
	BlockNumber *blocks;		/* in the order of the statement, neighbours once */
} TrailPages;

/* Where a statement has been; all of it in one memory context. */
typedef struct Trail
{
	MemoryContext context;
	List	   *pages;			/* TrailPages *, one a table */
	List	   *taps;			/* while the statement runs */
} Trail;

extern void trail_begin(Trail *trail, MemoryContext context);
extern void trail_follow(Trail *trail, QueryDesc *desc);
extern void trail_end(void);
extern void trail_sort(Trail *trail);

#endif							/* BACKFILL_WALK_TRAIL_H */
