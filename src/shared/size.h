/*-------------------------------------------------------------------------
 *
 * size.h
 *	  The batch size that leads to a batch time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_SIZE_H
#define BACKFILL_SHARED_SIZE_H

#define SIZE_SAMPLES 11

/* What it is to lead to.  Times are in microseconds. */
typedef struct SizeAim
{
	int64		start;			/* rows of a batch; the first has a part of it */
	int64		target;			/* 0: the size stays what it is */
	int64		min;			/* rows */
	int64		max;
	int64		longest;		/* what no batch is to exceed; 0: nothing */
} SizeAim;

/* One batch.  Plain data, for shared memory. */
typedef struct SizeSample
{
	int64		rows;
	double		duration;		/* microseconds */
} SizeSample;

/* Batches of about the same size: up to twice as many rows.  Means, and plain data, too. */
typedef struct SizeClass
{
	double		weight;			/* for how many they count, less and less with time */
	double		rows;
	double		duration;		/* microseconds */
} SizeClass;

#define SIZE_CLASSES 32

/* Of a table that may grow as it likes, any number of rows is a small part. */
#define SIZE_NO_PART PG_INT64_MAX

typedef struct SizeControl
{
	SizeAim		aim;
	double		target;			/* microseconds, at present: aim.target, or less */
	int64		size;			/* rows of the next batch */
	int64		undoubted;		/* the same before a smaller one was tried for once, or 0 */
	int64		stride;			/* rows of a step over an empty stretch, or 0 */
	int64		part;			/* of what is walked that no batch need exceed, in rows; or SIZE_NO_PART, or 0: unknown */
	int			nsamples;
	int			next;			/* sample to be overwritten */
	SizeSample	samples[SIZE_SAMPLES];
	SizeClass	classes[SIZE_CLASSES];	/* from 1, 2, 4, 8, ... rows on */
	double		noise;			/* variance of what a batch takes, as a part of that */
	int			unsettled;		/* so many batches more after one that took surprisingly long */
	int			pinned;			/* -1 at the least, 1 at the most, else 0 */
	double		fixed;			/* microseconds that a batch takes whatever its size */
	double		fixed_most;		/* what that may be as well */
	double		row;			/* microseconds that a row takes, less what may be noise */
	bool		fixed_rules;	/* the target cannot be had for them */
} SizeControl;

extern void size_aim(SizeControl *control, const SizeAim *aim, int64 found);
extern int	size_note(SizeControl *control, int64 rows, int64 duration);
extern void size_ease(SizeControl *control, int64 waited, bool crowded, double seconds);
extern bool size_heeds_crowd(const SizeAim *aim);
extern bool size_is_too_large(const SizeControl *control);
extern bool size_is_eased(const SizeControl *control);
extern void size_set_part(SizeControl *control, int64 rows);
extern void size_note_empty(SizeControl *control, int64 rows, int64 duration);

#endif							/* BACKFILL_SHARED_SIZE_H */
