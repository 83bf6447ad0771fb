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
/*
 * Where it is notable, rows take so many times as long at least; and so many times as long
 * where that is no more than such a part of the time that a batch is to take.
 */
#define FIXEDCOST_ROWS		2.5
#define FIXEDCOST_MORE_ROWS	6
#define FIXEDCOST_MORE_TIME	2

/* How long the rows of a batch are to take at least that is to take so long in all. */
static inline double
fixedcost_least_rows_time(double target, double fixed)
{
	return Max(target - fixed, fixed >= FIXEDCOST_NOTABLE ? FIXEDCOST_ROWS * fixed : fixed);
}

/*
 * And where nobody waits for it.  From half of what is notable on this goes over from one to the
 * other: what is fitted is not exact, and the size of batches must not hang on a hair.
 */
static inline double
fixedcost_rows_time(double target, double fixed)
{
	double		least = Max(target - fixed, fixed);
	double		most = Max(fixedcost_least_rows_time(target, fixed),
						   Min(FIXEDCOST_MORE_ROWS * fixed, FIXEDCOST_MORE_TIME * target));

	return least + Min(Max(2 * fixed / FIXEDCOST_NOTABLE - 1, 0), 1) * (most - least);
}

#endif							/* BACKFILL_BASE_FIXEDCOST_H */
