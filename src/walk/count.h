/*-------------------------------------------------------------------------
 *
 * count.h
 *	  Counting the rows of a walk that are in scope.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_COUNT_H
#define BACKFILL_WALK_COUNT_H

#include "utils/array.h"

#include "settings/parameters.h"
#include "walk/bounds.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* A count that is under way. */
typedef struct Count
{
	MemoryContext context;		/* where all of this lives */
	Walk	   *walk;
	Bounds	   *bounds;
	Statement  *count[RANGE_SHAPES];	/* by the shape of the range */
	const char *scope;
	const Parameters *parameters;
	ArrayType  *start_key;		/* where the next stretch starts */
	ArrayType  *end_key;		/* of the run */
	bool		start_inclusive;
	bool		done;
	int64		rows;			/* in scope, so far */
} Count;

extern Count *count_begin(Walk *walk, Bounds *bounds, ArrayType *start_key,
						  ArrayType *end_key, const char *scope,
						  const Parameters *parameters);
extern void count_step(Count *v);
extern void count_end(Count *v);

#endif							/* BACKFILL_WALK_COUNT_H */
