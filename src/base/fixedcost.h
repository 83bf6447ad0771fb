/*-------------------------------------------------------------------------
 *
 * fixedcost.h
 *	  What a batch costs whatever its size, and how long its rows take then.
 *
 * A worker sizes its batches by this, and a rehearsal foresees how it will.  All
 * times are in microseconds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_FIXEDCOST_H
#define BACKFILL_BASE_FIXEDCOST_H

/* A fixed cost below this is nothing to talk about. */
#define FIXEDCOST_NOTABLE	20000.0
/* Where it is notable, rows take so many times as long at least. */
#define FIXEDCOST_ROWS		2.5

/* How long the rows of a batch are to take that is to take so long in all. */
static inline double
fixedcost_rows_time(double target, double fixed)
{
	return Max(target - fixed, fixed >= FIXEDCOST_NOTABLE ? FIXEDCOST_ROWS * fixed : fixed);
}

#endif							/* BACKFILL_BASE_FIXEDCOST_H */
