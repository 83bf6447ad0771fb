/*-------------------------------------------------------------------------
 *
 * size.c
 *	  The batch size that leads to a batch time.
 *
 * A batch takes some time whatever its size, and some for each row.  Both are fitted
 * to what batches of different size took.  Of each class of sizes the mean is kept, and
 * counts for less the longer ago it was: what the small batches took at the beginning
 * tells what a large one costs for itself, long after the recent ones have come to be
 * of one size.  A batch that took much less time than others of its size has come to another part
 * of the table, or has another plan, and what was known counts for little then.  Where two in a row took
 * much more, it is forgotten: smaller batches of dear rows beside larger ones of cheap
 * rows would look like a fixed cost.  Where all have the same size, the fixed cost is what it was.
 * The first short ones replace one another in their class, as the beginning may have held them up.
 *
 * The cost of a row that the size follows is the 90th percentile of the recent batches
 * of about the present size, so that the usual bad batch, and not the average one, takes
 * the target time.
 *
 * The size becomes what takes the target time, but
 *
 *	- it is never so small that a batch spends less than half of its time on rows, or,
 *	  where its fixed cost is notable, five parts of seven: a smaller one would not
 *	  be much shorter, and all of them together much longer.  Only the longest time,
 *	  if one is given, can make it smaller still,
 *	- it grows by half at most, from one batch to the next; twofold, fourfold or sixteenfold while the
 *	  rows of a batch take but a part of the target, unless the batch took long all the same,
 *	- it stays where it is when that would change little, so that noise does
 *	  not move it,
 *	- after a batch of more than five times the target it is cut at once, by
 *	  what that batch says, and what was known before is forgotten; unless that batch
 *	  took long for its fixed cost, or as long as was to be foreseen, or was held up for
 *	  some milliseconds once, and
 *	- where all batches have the same size and that may be wrong, or the fixed cost is
 *	  notable, a larger one is tried now and then, and a smaller one where the fixed cost may
 *	  be much more than is believed.
 *
 * Where sessions wait for the rows of batches, the target is less than the one that was set:
 * it is halved with each batch that somebody waits for, or cut to an eighth if that is
 * long, and doubles in some seconds in which nobody does.  Where they wait for the WAL and for
 * pages, which batches use, too, it is a few milliseconds at most.
 *
 * A batch that changes much of a table makes it grow by as much, since the space that it frees is
 * of use to later ones only.  So it has no more than a part of it, while it takes a
 * sixteenth of the target at least, and its fixed cost does not matter.
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

#include <math.h>

#include "base/fixedcost.h"
#include "shared/size.h"

#define GROWTH		1.5
#define FAST_GROWTH	2
#define FASTER_GROWTH	4
#define FASTEST_GROWTH	16
/* Below these parts of the target, less what is fixed, the size grows fast, and faster, and fastest. */
#define FAR_BELOW	4
#define VERY_FAR_BELOW	16
#define HARDLY_THERE	64
#define DEAD_BAND	0.08
#define WIDE_BAND	0.5			/* where the fixed cost rules, */
#define LESS_BAND	0.25		/* and on the way down */
#define TOO_LONG	5
/* What the machine takes away from one batch now and then, in microseconds, whatever its rows. */
#define HICCUP		20000
/* Of the first batches, those that may have taken most of their time for one tell no more than the last of them. */
#define FIRST_BATCHES	8
#define DEEPEST_CUT	10
#define FIRST_PART	10
/* How much larger a batch is that is to tell whether small ones are worth it, and at least. */
#define PROBE			3
#define LEAST_PROBE		2
/* That it is told again when this is left of the one before, and from this part of the target on. */
#define PROBE_WEIGHT	0.5
#define WORTH_A_PROBE	8
/*
 * A wait of a session for a batch, one that is long, and the time of batches below which nobody is asked to go
 * for others, in microseconds; and the seconds without a wait in which that time doubles.
 */
#define NOTABLE_WAIT	1000
#define LONG_WAIT		20000
#define LEAST_TARGET	2000
#define RECOVERY		10
/* The time of batches, in microseconds, while sessions wait for what these use, too. */
#define CROWDED_TARGET	2200
/* Sizes that tell about one another are within this factor. */
#define ALIKE		2.5
/* Batches of less than this part of a size tell less about it than larger ones. */
#define NEAR		32.0
/* Fewer batches than this do not show which of them is out of the ordinary. */
#define FEW			5
/* So many batches that have cost less than this part of what is typical show that something has changed. */
#define LATEST		4
#define MUCH_LESS	0.6
/* Sizes that tell a fixed cost from that of rows are not within this one. */
#define DIFFERENT	1.25
/* A larger batch that took less than this part of the time of a smaller one met other rows. */
#define NOT_FASTER	0.75
/* So many batches at their least size that are too long show that another may be better. */
#define ENOUGH			3
/*
 * The weight that is left of a class with each batch, and when one is a surprise: its class takes
 * so many times what it takes, or so many standard deviations more.  Or the other way round.
 */
#define AGING			0.98
#define SURPRISED_AGING	0.3
#define SURPRISE		2
#define SURPRISE_DEVIATIONS 3.5
/* The largest weight of a class, and that below which it is forgotten. */
#define MOST_WEIGHT		10
#define LEAST_WEIGHT	0.3
/* A batch of so many times the time of its class counts as one of that. */
#define OUTLIER			3
/* The deviation of a batch from its class at first, as a part of it, and how many batches that is a mean of. */
#define USUAL_NOISE		0.2
#define NOISE_MEMORY	20
/* Standard errors by which the fixed cost, and that of a row, are believed to be less than what is fitted. */
#define DOUBT			0.7
#define DOUBT_OF_ROW	0.5
/* So many times a fixed cost that may be as well put it into question. */
#define DOUBTFUL		1.5
/*
 * No smaller for a table's sake than what takes this part of the target, nor than what takes so many times
 * the fixed cost, which has to be known from batches of about that size, that count for so much still.
 */
#define LEAST_PART		16
#define SMALL_FIXED		8
#define KNOWN_WEIGHT	2
/* And nothing is spared of a table that so many such parts are less than the least of. */
#define TINY_PARTS		16
/* The least cost of a row, in microseconds, so that all divisions are fine. */
#define LEAST_COST	0.001
#define Square(x)	((x) * (x))

static int64
clamp(const SizeControl *control, double size)
{
	return (int64) Max(Min(size, (double) control->aim.max), (double) control->aim.min);
}

/*
 * The first batch, of which nothing is known: a dear statement must not make it long,
 * and a cheap one soon makes up for it.
 */
static int64
first_size(const SizeAim *aim)
{
	int64		size = Min(aim->start, aim->max);

	return Max(size / FIRST_PART, Min(size, aim->min));
}

/* Forget what batches of any size took. */
static void
forget(SizeControl *control)
{
	control->nsamples = control->next = 0;
	control->fixed = 0;
	control->noise = Square(USUAL_NOISE);
	memset(control->classes, 0, sizeof(control->classes));
}

/*
 * Aim at something.  The first batch has a part of the size that is given with the aim,
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
	forget(control);
	control->aim = *aim;
	control->target = aim->target;
	control->size = aim->target == 0 ? aim->start :
		found > 0 ? clamp(control, found) : first_size(aim);
}

static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* Whether a batch of so many rows took quite another time than others of its class. */
static bool
is_surprise(const SizeControl *control, const SizeClass *class, double rows, double duration)
{
	double		usual = class->duration;
	double		factor = Max(SURPRISE, 1 + SURPRISE_DEVIATIONS * sqrt(control->noise));

	return duration > usual * Max(rows / class->rows, 1) * factor ||
		duration * factor < usual * Min(rows / class->rows, 1);
}

static SizeClass *
class_of(SizeControl *control, double rows)
{
	return &control->classes[Min((int) log2(rows), SIZE_CLASSES - 1)];
}

/* The last batch that was noted, the one before it, and so on: 1, 2, ... */
static const SizeSample *
sample_before(const SizeControl *control, int n)
{
	return &control->samples[(control->next + SIZE_SAMPLES - n) % SIZE_SAMPLES];
}

/* The walk has come to dearer rows: what was known is forgotten, but for the last batch, which met them first. */
static void
forget_cheaper(SizeControl *control)
{
	const SizeSample *last = sample_before(control, 1);

	memset(control->classes, 0, sizeof(control->classes));
	*class_of(control, last->rows) = (SizeClass) {1, last->rows, last->duration};
}

/*
 * Whether what a batch took may be the beginning of the run: caches are cold, and workers start beside it.  Batches
 * of that size do not come again, if it is taken for a fixed cost, and would not tell otherwise.
 */
static bool
may_be_hiccups(const SizeControl *control, double duration)
{
	return control->nsamples < FIRST_BATCHES && duration < 2 * HICCUP;
}

/* Add a batch to those of its class. */
static void
add_to_class(SizeControl *control, double rows, double duration)
{
	SizeClass  *class = class_of(control, rows);
	bool		known = class->weight >= LEAST_WEIGHT;
	bool		surprise = known && is_surprise(control, class, rows, duration);
	bool		longer = surprise && duration > class->duration;

	/* one that took long may be out of the ordinary; two are not */
	if (longer && control->unsettled == LATEST)
	{
		forget_cheaper(control);
		known = class->weight >= LEAST_WEIGHT;
	}
	else
		for (int i = 0; i < SIZE_CLASSES; i++)
			control->classes[i].weight *= surprise && !longer ? SURPRISED_AGING : AGING;
	if (longer)
		control->unsettled = LATEST;
	else if (control->unsettled > 0)
		control->unsettled--;
	if (known)
	{
		duration = Min(duration, class->duration * OUTLIER);
		control->noise += (Min(Square(duration / class->duration - 1), 1) - control->noise) / NOISE_MEMORY;
	}
	else
		class->weight = 0;
	class->weight = Min(class->weight + 1, may_be_hiccups(control, duration) ? 1 : MOST_WEIGHT);
	class->rows += (rows - class->rows) / class->weight;
	class->duration += (duration - class->duration) / class->weight;
}

/*
 * How much what is known of a class is worth, unless it is one of less than so many rows: noise is a part of a
 * batch's time.
 */
static double
worth(const SizeClass *class, double smallest)
{
	return class->weight < LEAST_WEIGHT || class->rows < smallest ? 0 : class->weight / Square(class->duration);
}

/*
 * Fit the fixed cost of a batch and the cost of a row, each less what may be noise, by
 * least squares over batches of so many rows at least.  Where those tell too little about them, because
 * all have about the same size, they stay what they were, and the result is false.
 */
static bool
fit_from(SizeControl *control, double smallest)
{
	double		all = 0;
	double		rows = 0;
	double		duration = 0;
	double		spread = 0;
	double		slope = 0;
	double		least = INFINITY;
	double		most = 0;
	double		row;
	double		fixed;
	double		error;

	for (int i = 0; i < SIZE_CLASSES; i++)
	{
		const SizeClass *class = &control->classes[i];
		double		weight = worth(class, smallest);

		if (weight == 0)
			continue;
		all += weight;
		rows += weight * class->rows;
		duration += weight * class->duration;
		least = Min(least, class->rows);
		most = Max(most, class->rows);
	}
	if (most < least * DIFFERENT)
	{
		/* any part of what they take may be fixed */
		control->fixed_most = all > 0 ? duration / all : 0;
		return false;
	}
	rows /= all;
	duration /= all;
	for (int i = 0; i < SIZE_CLASSES; i++)
	{
		const SizeClass *class = &control->classes[i];
		double		weight = worth(class, smallest);

		spread += weight * Square(class->rows - rows);
		slope += weight * (class->rows - rows) * (class->duration - duration);
	}
	row = Max(slope / spread, 0);
	fixed = duration - row * rows;
	if (fixed < 0)
	{
		fixed = 0;
		row = duration / rows;
	}

	/* by how much noise may have moved either */
	error = sqrt(control->noise * (1 / all + Square(rows) / spread));
	control->fixed_most = fixed + DOUBT * error;
	if (DOUBT * error > Max(fixed, control->aim.target) / 2)
		return false;
	control->fixed = Max(fixed - DOUBT * error, 0);
	control->row = Max(row - DOUBT_OF_ROW * sqrt(control->noise / spread), LEAST_COST);
	return true;
}

/*
 * The same with those that are near the present size, if they tell enough: what holds for
 * small batches may not hold for it.
 */
static void
fit(SizeControl *control)
{
	if (!fit_from(control, control->size / NEAR))
		(void) fit_from(control, 0);
}

/*
 * What a row costs, by the 90th percentile of the batches of like size: by all but the
 * worst of them, unless they are too few to know which that is.  Where the last few have all
 * cost much less than that, the walk has come to another part of the table, and they alone count.
 */
static double
typical_cost(const SizeControl *control)
{
	double		costs[SIZE_SAMPLES];
	double		latest = 0;
	double		typical;
	int			n = 0;

	for (int i = 0; i < control->nsamples; i++)
	{
		const SizeSample *sample = sample_before(control, i + 1);

		if (sample->rows * ALIKE < control->size || sample->rows > control->size * ALIKE)
			continue;
		costs[n] = Max((sample->duration - control->fixed) / sample->rows, LEAST_COST);
		if (n < LATEST)
			latest = Max(latest, costs[n]);
		n++;
	}
	if (n == 0)
		return 0;
	qsort(costs, n, sizeof(double), compare_doubles);
	typical = costs[n < FEW ? n - 1 : n - 2];
	return latest < typical * MUCH_LESS ? latest : typical;
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

static void
add_sample(SizeControl *control, int64 rows, int64 duration)
{
	SizeSample *sample = &control->samples[control->next];

	sample->rows = rows;
	sample->duration = Max(duration, 1);
	add_to_class(control, sample->rows, sample->duration);
	control->next = (control->next + 1) % SIZE_SAMPLES;
	control->nsamples = Min(control->nsamples + 1, SIZE_SAMPLES);
}

/* Whether sessions wait, so that batches are shorter than they might be. */
bool
size_is_eased(const SizeControl *control)
{
	return control->target < control->aim.target / 2;
}

/* How long the rows of a batch are to take. */
static double
rows_time(const SizeControl *control)
{
	return size_is_eased(control) ? fixedcost_least_rows_time(control->target, control->fixed) :
		fixedcost_rows_time(control->target, control->fixed);
}

/*
 * What a batch of about so many rows takes whatever its size, as far as such batches and larger ones tell; the
 * smallest ones, which may have been held up when the run began, have no say.  0 where the former are not known,
 * so that they come to be, and what is believed where the latter are not.
 */
static double
fixed_of(const SizeControl *control, double rows)
{
	const SizeClass *near = NULL;
	const SizeClass *large = NULL;
	double		slope;

	for (int i = 0; i < SIZE_CLASSES; i++)
	{
		const SizeClass *class = &control->classes[i];

		if (class->weight >= LEAST_WEIGHT && class->rows >= rows / ALIKE)
			large = class;
		if (near == NULL && large && class->weight >= KNOWN_WEIGHT && class->rows < rows * ALIKE)
			near = class;
	}
	if (near == NULL)
		return 0;
	if (large->rows < near->rows * DIFFERENT)
		return control->fixed;
	slope = Max((large->duration - near->duration) / (large->rows - near->rows), 0);
	return Min(Max(near->duration - slope * near->rows, 0), control->fixed);
}

/* No more rows than are needed, where a row costs so much, lest the table grow. */
static double
spare_table(const SizeControl *control, double size, double cost)
{
	double		least = control->aim.target / (double) LEAST_PART / cost;
	double		part = control->part;

	if (part == 0)
		return size;
	least = Max(least, SMALL_FIXED * fixed_of(control, Max(part, least)) / cost);

	/* so few batches of the least size make up the table, or the partition, that it would grow all the same */
	if (part * TINY_PARTS < least)
		return size;
	return Min(size, Max(part, least));
}

/*
 * The size that the costs lead to, or 0 if they are not known.  Where the fixed cost
 * alone is more than half of the target, a cost of rows that is lost in noise does not
 * count, so that the size grows until it shows, unless all of this is a matter
 * of milliseconds.  *row is the cost of a row by which that is so.
 */
static double
wanted_size(SizeControl *control, double *row)
{
	double		fixed = control->fixed;
	double		cost = typical_cost(control);
	double		size;

	control->fixed_rules = fixed > control->target / 2 && fixed >= FIXEDCOST_NOTABLE;
	if (control->fixed_rules)
		cost = control->row;
	if (cost == 0)
		return 0;
	size = spare_table(control, rows_time(control) / cost, cost);
	if (control->aim.longest > 0)
		size = Min(size, Max(control->aim.longest - fixed, 0) / cost);
	*row = cost;
	return size;
}

/* Whether batches of more than so many rows, and less than so many, were seen lately, and count for so much still. */
static bool
knows(const SizeControl *control, double weight, double more, double less)
{
	for (int i = 0; i < SIZE_CLASSES; i++)
	{
		const SizeClass *class = &control->classes[i];

		if (class->weight >= weight && class->rows > more && class->rows < less)
			return true;
	}
	return false;
}

/* Whether a batch that costs so much whatever its size had better be known well. */
static bool
is_worth_a_probe(const SizeControl *control, double fixed)
{
	return fixed >= FIXEDCOST_NOTABLE && fixed >= control->target / WORTH_A_PROBE;
}

/*
 * Whether to try a smaller batch for once, since what batches cost whatever their size may be much more
 * than is believed: those that could tell are long ago.  A smaller one harms nobody.
 */
static bool
is_time_to_doubt(const SizeControl *control, double size)
{
	return !size_is_eased(control) && control->nsamples == SIZE_SAMPLES && control->unsettled == 0 &&
		is_worth_a_probe(control, control->fixed_most) &&
		control->fixed_most >= control->fixed * DOUBTFUL &&
		size >= control->size / GROWTH && size <= control->size * GROWTH &&
		control->size >= control->aim.min * PROBE &&
		!knows(control, PROBE_WEIGHT, 0, control->size / ALIKE);
}

/*
 * Whether to try a larger batch for once, because it matters what a batch costs
 * whatever its size, and batches that all have the same do not tell: after a few where those of
 * the least size are too long, and after a while where the fixed cost is known to be much.  What
 * small batches told may not hold for large ones, either, whose hash table, say, the processor's
 * cache does not hold: where the fixed cost is notable, a larger one is always to be known, though not
 * straight after one that was larger itself, and the first batch, if it took notably long, tells
 * nothing of it.
 */
static bool
is_time_to_probe(const SizeControl *control, double size)
{
	bool		too_long = size < control->aim.min;

	if (control->nsamples == 1 && control->samples[0].duration >= FIXEDCOST_NOTABLE)
		return control->samples[0].duration <= control->target / 2;
	if (!size_is_eased(control) && is_worth_a_probe(control, control->fixed) &&
		control->nsamples > 1 && sample_before(control, 1)->rows <= sample_before(control, 2)->rows * DIFFERENT &&
		size <= control->size * GROWTH && size * DIFFERENT >= control->size &&
		!knows(control, PROBE_WEIGHT, Min(size, control->size) * DIFFERENT, INFINITY))
		return true;
	if (control->nsamples < (too_long ? ENOUGH : SIZE_SAMPLES) ||
		(!too_long && control->fixed < control->target / FAR_BELOW))
		return false;
	for (int i = 0; i < control->nsamples; i++)
	{
		double		rows = control->samples[i].rows;

		if (rows > control->size * DIFFERENT || rows * DIFFERENT < control->size)
			return false;
	}
	return true;
}

/*
 * How many times as large the batch is that is tried after one that took that time: not so large that it
 * would take too long if all of that were the time of rows.  Less than LEAST_PROBE if nothing is to be tried.
 */
static double
probe_factor(const SizeControl *control, double duration)
{
	return Min(PROBE, TOO_LONG * Max(control->target, 2 * control->fixed) / duration);
}

/*
 * Whether a larger batch took little longer than this one, so that most of its time is
 * a fixed cost.  One that was much faster tells of another part of the table.
 */
static bool
smaller_is_in_vain(const SizeControl *control, int64 rows, double duration)
{
	for (int i = 0; i < control->nsamples; i++)
	{
		const SizeSample *larger = &control->samples[i];

		if (larger->rows >= rows * DIFFERENT && larger->duration > duration * NOT_FASTER &&
			(larger->duration - duration) / (larger->rows - rows) * rows < duration / 2)
			return true;
	}
	return false;
}

/*
 * Whether a batch that took too long, the last one, may have been held up for once: another process had the
 * processor, or the disk.  Where the target is a millisecond or two that is no reason to cut it; a second one in a
 * row is.
 */
static bool
is_hiccup(const SizeControl *control, double most)
{
	return control->nsamples > 1 && sample_before(control, 1)->duration <= HICCUP &&
		sample_before(control, 2)->duration <= most;
}

/*
 * A batch of so many rows took that time.  Returns -1 or 1 when the size has
 * reached its lower or upper limit since it was last said.
 */
int
size_note(SizeControl *control, int64 rows, int64 duration)
{
	double		target = control->target;
	bool		alike;
	double		foreseen;
	double		most;
	double		probe;
	double		rest;
	double		growth;
	double		band;
	double		size;
	double		row;

	control->stride = 0;
	if (control->aim.target == 0 || rows <= 0)
		return 0;
	if (control->undoubted > 0)
		control->size = control->undoubted;
	control->undoubted = 0;
	alike = knows(control, LEAST_WEIGHT, rows / ALIKE, rows * ALIKE);
	foreseen = control->fixed + control->row * rows;
	add_sample(control, rows, duration);
	fit(control);
	if (!alike)
		foreseen = control->fixed + control->row * rows;
	most = TOO_LONG * Max(target, 2 * control->fixed);
	if (duration > most && control->size > control->aim.min && !is_hiccup(control, most))
	{
		if (smaller_is_in_vain(control, rows, duration))
			return 0;
		if (duration > foreseen * SURPRISE)
		{
			forget(control);
			add_sample(control, rows, duration);
			return set_size(control, rows * Max(target / duration, 1.0 / DEEPEST_CUT));
		}
	}
	size = wanted_size(control, &row);
	if (size == 0)
		return 0;
	probe = probe_factor(control, Max(duration, 1));
	if (control->aim.longest == 0 && probe >= LEAST_PROBE && is_time_to_probe(control, size))
	{
		control->size = Min(control->size * probe, control->aim.max);
		return 0;
	}
	if (is_time_to_doubt(control, size))
	{
		control->undoubted = control->size;
		control->size /= PROBE;
		return 0;
	}
	rest = duration - control->fixed;
	if (control->fixed >= FIXEDCOST_NOTABLE)
	{
		/* the rest is noise of what is fixed, mostly */
		rest = Min(rest, control->row * rows);
		target = rows_time(control);

		/* what was cheap is no reason for smaller ones, whatever others cost */
		if (duration - control->fixed < MUCH_LESS * target && control->aim.longest == 0)
			size = Max(size, spare_table(control, Min((double) rows, (double) control->aim.max), row));
	}
	growth = control->unsettled > 0 || duration > Max(control->target, 2 * control->fixed) ? GROWTH : rest < target / HARDLY_THERE ? FASTEST_GROWTH :
		rest < target / VERY_FAR_BELOW ? FASTER_GROWTH :
		control->fixed_rules || rest < target / FAR_BELOW ? FAST_GROWTH : GROWTH;
	band = control->fixed_rules ? WIDE_BAND : DEAD_BAND;
	if (size < control->aim.min || size > control->aim.max)
	{
		/* pinned only when it gets there */
		if (size > control->size * growth && control->size * growth < control->aim.max)
			size = control->size * growth;
	}
	else if (size > control->size * (1 - Min(band, LESS_BAND)) && size < control->size * (1 + band))
		size = control->size;
	else
		size = Min(size, Max(control->size * growth, control->size + 1));
	return set_size(control, size);
}

/*
 * Sessions have waited so many microseconds for rows of the batch that is about to end,
 * so many seconds after it was last asked; or they wait for what it uses, too.  The target goes
 * down at once where somebody suffers, and up slowly where nobody does.
 */
void
size_ease(SizeControl *control, int64 waited, bool crowded, double seconds)
{
	double		least = Min(control->aim.target, LEAST_TARGET);
	double		most = crowded ? Min(control->aim.target, CROWDED_TARGET) : control->aim.target;
	double		before = rows_time(control);

	if (control->aim.target == 0)
		return;
	if (waited >= NOTABLE_WAIT)
		control->target = Max(control->target / (waited >= LONG_WAIT ? 8 : 2), least);
	else
		control->target = control->target * exp2(Min(seconds, 1) / RECOVERY);
	control->target = Min(control->target, most);

	/* fewer rows, as far as it is those that take the time */
	if (rows_time(control) < before)
		control->size = Max(control->size * rows_time(control) / before, Min(control->size, control->aim.min));
}

/* Whether batches become shorter where sessions wait for what these use, too. */
bool
size_heeds_crowd(const SizeAim *aim)
{
	return aim->target > CROWDED_TARGET;
}

/*
 * Whether the batches that are at work should have been shorter, where sessions begin to wait for what
 * they use: not those of a given size, or of the least, nor where they would be hardly shorter.
 */
bool
size_is_too_large(const SizeControl *control)
{
	return size_heeds_crowd(&control->aim) && control->size > control->aim.min &&
		control->fixed <= control->target / 2;
}

/* So many rows are a part of the table that a batch need not exceed. */
void
size_set_part(SizeControl *control, int64 rows)
{
	control->part = rows;
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
