/*-------------------------------------------------------------------------
 *
 * estimate.h
 *	  How many rows a run will meet, and whether that is more than a guess.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_ESTIMATE_H
#define BACKFILL_REHEARSAL_ESTIMATE_H

#include "nodes/pg_list.h"

#include "rehearsal/frame.h"

/* What the planner has said, or batches that were measured. */
typedef struct Estimates
{
	double		rows_table;
	double		rows_page;		/* on a page, when it was last analyzed; 0 if it never was */
	double		rows_in_scope;	/* all in the range where the planner guesses */
	double		batches;
	double		batch_size;		/* that makes so many */
	const char *guess;			/* why the planner guesses, or NULL */
	const char *remedy;			/* what would help then */
	bool		is_measured;	/* rows_in_scope are projected from batches */
} Estimates;

extern void estimate_make(Rehearsal *rehearsal, Estimates *estimates);
extern void estimate_correct_scope(Rehearsal *rehearsal, Estimates *estimates,
								   double rows, double in_scope);
extern double estimate_at_most(Oid relid, double rows);
extern Bitmapset *estimate_scope_columns(Rehearsal *rehearsal);

#endif							/* BACKFILL_REHEARSAL_ESTIMATE_H */
