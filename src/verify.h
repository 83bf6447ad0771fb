/*-------------------------------------------------------------------------
 *
 * verify.h
 *	  Counting the rows that are still in scope.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_VERIFY_H
#define BACKFILL_VERIFY_H

#include "bounds.h"
#include "catalog.h"

/* A count that is under way. */
typedef struct Verification
{
	MemoryContext context;		/* where all of this lives */
	Walk	   *walk;
	Bounds	   *bounds;
	Statement  *count[2];		/* by start_inclusive */
	const Parameters *parameters;
	ArrayType  *start_key;		/* where the next stretch starts */
	ArrayType  *end_key;		/* of the run */
	bool		start_inclusive;
	bool		done;
	int64		rows;			/* in scope, so far */
} Verification;

extern Verification *verify_begin(const RunInfo *run, Walk *walk, Bounds *bounds,
								  const Parameters *parameters);
extern void verify_step(Verification *verification);
extern void verify_end(Verification *verification);

#endif							/* BACKFILL_VERIFY_H */
