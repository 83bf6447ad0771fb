/*-------------------------------------------------------------------------
 *
 * size.c
 *	  The batch size that leads to a batch time.
 *
 * The cost of a row, in time, is taken from the recent batches of about the
 * present size, the largest tenth of them left out: the 90th percentile.  Rows
 * of batches of quite another size do not tell, because each batch costs
 * something by itself.  The size becomes what takes the target time at that
 * cost, but
 *
 *	- it grows by half at most, from one batch to the next,
 *	- it stays where it is when that would change little, so that noise does
 *	  not move it, and
 *	- after a batch of more than five times the target it is cut at once, by
 *	  what that batch says, and what was known before is forgotten.
 *
 * In a stretch of the walk where nothing is in scope a batch costs next to
 * nothing, and says nothing about those that follow: the steps there have a
 * size of their own, the stride, which doubles until it is limited, too, by the
 * time or by the most rows.
 *
 * Plain arithmetic on the caller's memory: the caller holds the lock that
 * protects it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shared/size.h"

#define GROWTH		1.5
#define DEAD_BAND	0.08
#define TOO_LONG	5
#define DEEPEST_CUT	10
/* Sizes that tell about one another are within this factor. */
#define ALIKE		2.5

static int64
clamp(const SizeControl *control, double size)
{
	return (int64) Max(Min(size, (double) control->aim.max), (double) control->aim.min);
}

/*
 * Aim at something.  The first batch has the size that is given with the aim,
 * unless one was found before: for another aim, or in an earlier life, which is
 * then within the limits; 0 if none was.
 */
void
size_aim(SizeControl *control, const SizeAim *aim, int64 found)
{
	if (memcmp(&control->aim, aim, sizeof(SizeAim)) == 0)
		return;
	if (control->size > 0)
		found = control->aim.start == aim->start ? control->size : 0;
	memset(control, 0, sizeof(SizeControl));
	control->aim = *aim;
	control->size = aim->target == 0 ? aim->start :
		found > 0 ? clamp(control, found) : Min(aim->start, aim->max);
}

static int
compare_costs(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* What a row costs, by the 90th percentile of the batches of like size. */
static double
typical_cost(const SizeControl *control)
{
	double		costs[SIZE_SAMPLES];
	int			n = 0;

	for (int i = 0; i < control->nsamples; i++)
	{
		const SizeSample *sample = &control->samples[i];

		if (sample->rows * ALIKE >= control->size && sample->rows <= control->size * ALIKE)
			costs[n++] = sample->cost;
	}
	if (n == 0)
		return 0;
	qsort(costs, n, sizeof(double), compare_costs);
	return costs[n - 1 - n / 10];
}

/* Take the size, within the limits.  Returns -1 or 1 when it is newly pinned. */
static int
set_size(SizeControl *control, double size)
{
	int			pinned = size < control->aim.min ? -1 : size > control->aim.max ? 1 : 0;
	int			before = control->pinned;

	/* it has to get clear of a limit before it can be pinned there again */
	if (pinned == 0 && (before < 0 ? size < control->aim.min * GROWTH :
						before > 0 && size > control->aim.max / GROWTH))
		pinned = before;
	control->size = clamp(control, size);
	control->pinned = pinned;
	return pinned != before ? pinned : 0;
}

/*
 * A batch of so many rows took that time.  Returns -1 or 1 when the size has
 * reached its lower or upper limit since it was last said.
 */
int
size_note(SizeControl *control, int64 rows, int64 duration)
{
	double		target = control->aim.target;
	SizeSample *sample;
	double		cost;
	double		size;

	control->stride = 0;
	if (target == 0 || rows <= 0)
		return 0;
	if (duration > target * TOO_LONG)
	{
		control->nsamples = control->next = 0;
		return set_size(control, rows * Max(target / duration, 1.0 / DEEPEST_CUT));
	}

	sample = &control->samples[control->next];
	sample->rows = rows;
	sample->cost = (double) Max(duration, 1) / rows;
	control->next = (control->next + 1) % SIZE_SAMPLES;
	control->nsamples = Min(control->nsamples + 1, SIZE_SAMPLES);

	cost = typical_cost(control);
	if (cost == 0)
		return 0;
	size = target / cost;
	if (size < control->aim.min || size > control->aim.max)
	{
		/* pinned only when it gets there */
		if (size > control->size * GROWTH && control->size * GROWTH < control->aim.max)
			return set_size(control, control->size * GROWTH);
		return set_size(control, size);
	}
	if (size > control->size * (1 - DEAD_BAND) && size < control->size * (1 + DEAD_BAND))
		return 0;
	return set_size(control, Min(size, Max(control->size * GROWTH, control->size + 1)));
}

/* A batch of so many rows, none of them in scope, took that time. */
void
size_note_empty(SizeControl *control, int64 rows, int64 duration)
{
	double		longest;

	if (control->aim.target == 0)
		return;
	longest = rows * (double) control->aim.target / Max(duration, 1);
	control->stride = clamp(control, Min(rows * 2.0, longest));
}
