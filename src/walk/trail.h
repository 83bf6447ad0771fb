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

/*
 * The pages of one table, or, of a TOAST table, the values whose pages they are.  What
 * does not fit any more is not remembered.
 */
typedef struct TrailPages
{
	Oid			relid;
	int			n;
	int			size;
	BlockNumber *blocks;		/* in the order of the statement, neighbours once */
	int64		updated;		/* rows that were replaced */
	int64		deleted;		/* and that were removed */
	int			nvalues;
	int			values_size;
	Oid		   *values;			/* NULL for a table that is no TOAST table */
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
extern void trail_note_block(TrailPages *pages, BlockNumber block);
extern void trail_sort(TrailPages *pages);

#endif							/* BACKFILL_WALK_TRAIL_H */
