/*-------------------------------------------------------------------------
 *
 * work.h
 *	  What a worker has prepared for its run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_WORK_H
#define BACKFILL_ENGINE_WORK_H

#include "engine/session.h"
#include "settings/parameters.h"
#include "walk/bounds.h"
#include "walk/statement.h"
#include "storage/itemptr.h"

#include "walk/walk.h"

/* All of it is made from the row of the run, and may be made anew at any time. */
typedef struct Work
{
	MemoryContext context;		/* holds all of it */
	Walk	   *walk;
	Parameters *parameters;
	Statement  *statements[RANGE_SHAPES];	/* by the shape of the range */
	Bounds	   *bounds;
	Statement  *rows_in_scope[2];	/* by start_inclusive; NULL until needed */
	Statement  *repair[2];		/* likewise; NULL until needed */
	Statement  *count_in_scope[RANGE_SHAPES];	/* NULL until needed */
	Statement  *keys_in_scope[RANGE_SHAPES];	/* likewise */

	/* of a walk by pages: whether the statement ends the scope, see pass.c */
	ItemPointerData chosen_row;
	bool		row_is_chosen;
	int			rows_looked_at;
	List	   *set;			/* ServerParameter *: what the plans are made under */
} Work;

extern void work_prepare(Session *session, Work *work);
extern bool work_serves(const Session *session, Work *work);
extern bool work_is_outdated(const Session *session, const Work *work);
extern bool work_find_in_scope(Session *session, Work *work, const Datum *start,
							   bool start_inclusive, const Datum *end, int64 offset,
							   Datum *key);
extern int64 work_count_in_scope(Session *session, Work *work, const Datum *start,
								 RangeShape shape, const Datum *end);
extern ArrayType *work_keys_in_scope(Session *session, Work *work, const Datum *start,
									 RangeShape shape, const Datum *end, int64 *rows);

#endif							/* BACKFILL_ENGINE_WORK_H */
