/*-------------------------------------------------------------------------
 *
 * slice.h
 *	  What is the owner's of a run, looked at in a session of his.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_SLICE_H
#define BACKFILL_API_SLICE_H

#include "nodes/pg_list.h"

#include "base/owner.h"
#include "store/batch.h"
#include "store/run.h"
#include "walk/bounds.h"

/* A run, and what is found out about it. */
typedef struct Slice
{
	const RunInfo *run;

	/* slice_find_ends */
	ArrayType  *key_names;
	ArrayType  *key_types;
	ArrayType  *conditions;
	WalkTexts	ends;

	/* slice_cut */
	BatchInfo	last;			/* number, start_key and start_inclusive of what comes next */
	int			wanted;			/* batches with rows in scope */
	List	   *batches;		/* BatchInfo *: that were cut */
	bool		ended;			/* there is no range behind them */

	/* slice_count */
	int64		remaining;		/* rows still in scope */
} Slice;

extern void slice_find_ends(void *arg);
extern void slice_cut(void *arg);
extern void slice_count(void *arg);
extern ErrorData *slice_look(Slice *slice, OwnerFunction what);

#endif							/* BACKFILL_API_SLICE_H */
