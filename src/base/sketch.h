/*-------------------------------------------------------------------------
 *
 * sketch.h
 *	  Percentiles of any number of values, in little memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_SKETCH_H
#define BACKFILL_BASE_SKETCH_H

#define SKETCH_CELLS	3000

/* Values above zero, counted in cells that grow by a hundredth each.  All zero to begin with. */
typedef struct Sketch
{
	int64		n;
	int64		counts[SKETCH_CELLS];
	double		largest[SKETCH_CELLS];	/* of the values in the cell */
} Sketch;

extern void sketch_add(Sketch *sketch, double value);
extern double sketch_at(const Sketch *sketch, double fraction);

#endif							/* BACKFILL_BASE_SKETCH_H */
