/*-------------------------------------------------------------------------
 *
 * sketch.c
 *	  Percentiles of any number of values, in little memory.
 *
 * Values are counted in cells, each a hundredth larger than the one before, from a
 * millionth to millions.  A percentile is the largest value in its cell: it is one of the
 * values that were added, and exceeds the true one by a hundredth of it at most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "base/sketch.h"

/* Where the second cell begins; what is below is in the first. */
#define SMALLEST	1e-6
#define GROWTH		1.01

void
sketch_add(Sketch *sketch, double value)
{
	int			cell = value > SMALLEST ? 1 + (int) (log(value / SMALLEST) / log(GROWTH)) : 0;

	cell = Min(cell, SKETCH_CELLS - 1);
	sketch->n++;
	sketch->counts[cell]++;
	sketch->largest[cell] = Max(sketch->largest[cell], value);
}

/* The value that the fraction of all, from 0 to 1, does not exceed; 0 if there is none. */
double
sketch_at(const Sketch *sketch, double fraction)
{
	int64		wanted = Max((int64) ceil(fraction * sketch->n), 1);
	int64		seen = 0;

	for (int i = 0; i < SKETCH_CELLS; i++)
	{
		seen += sketch->counts[i];
		if (seen >= wanted)
			return sketch->largest[i];
	}
	return 0;
}
