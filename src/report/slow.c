/*-------------------------------------------------------------------------
 *
 * slow.c
 *	  Why a batch took long.
 *
 * A batch is compared with all batches of its run: had it more rows than others, did it
 * wait for locks, read more, write more whole pages, was it on a processor?  Where nothing that is kept of it
 * explains the time, that is said, and nothing is guessed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "rehearsal/words.h"
#include "report/slow.h"
#include "report/wording.h"

/* A part of the time that is worth a word. */
#define NOTABLE_PART	0.2
/* One that can only have been spent waiting. */
#define ELSEWHERE_PART	0.4
/* So many times as much as others is more than chance. */
#define MANY_TIMES		2
/* Fewer blocks do not take long. */
#define FEW_BLOCKS		50

static void
append_reason(StringInfo out, const char *reason)
{
	appendStringInfo(out, "%s%s", out->len > 0 ? "; " : "", reason);
}

/* How many times as much the batch has as others of as many rows; 0 if it has little. */
static double
times_others(double value, double all, const FiguresBatch *batch, const BatchTotals *batches)
{
	double		usual = all / Max(batches->rows, 1) * batch->rows;

	return value < FEW_BLOCKS ? 0 : value / Max(usual, 1);
}

static void
tell_locks(StringInfo out, const FiguresBatch *batch)
{
	if (batch->lock_seconds >= NOTABLE_PART * batch->seconds)
		append_reason(out, psprintf("waited %s for locks", wording_time(batch->lock_seconds)));
}

static void
tell_size(StringInfo out, const FiguresBatch *batch, const BatchTotals *all)
{
	double		median = all->rows_at[0];

	if (median > 0 && batch->rows >= MANY_TIMES * median)
		append_reason(out, psprintf("%.1f times as many rows as the median", batch->rows / median));
}

static void
tell_blocks(StringInfo out, const FiguresBatch *batch, const BatchTotals *all)
{
	double		reads = times_others(batch->blocks_read, all->blocks_read, batch, all);
	double		pages = times_others(batch->full_pages, all->full_pages, batch, all);

	if (reads >= MANY_TIMES)
		append_reason(out, psprintf("read %.0f blocks, %.1f times as many per row as others",
									batch->blocks_read, reads));
	if (pages >= MANY_TIMES)
		append_reason(out, psprintf("wrote %.0f whole pages into the WAL, as after a checkpoint, %.1f times as many per row as others",
									batch->full_pages, pages));
}

/*
 * What is left: the processor time for a row, to that of others, and the time in which it
 * was neither on a processor nor waited for a lock.
 */
static void
tell_processor(StringInfo out, const FiguresBatch *batch, const BatchTotals *all)
{
	double		usual = all->cpu_seconds / Max(all->rows, 1) * batch->rows;
	double		elsewhere = batch->seconds - batch->lock_seconds - batch->cpu_seconds;

	if (batch->cpu_seconds < 0 || usual <= 0)
		return;
	if (batch->cpu_seconds >= MANY_TIMES * usual && batch->cpu_seconds >= NOTABLE_PART * batch->seconds)
		append_reason(out, psprintf("needed %.1f times as much of a processor per row as others",
									batch->cpu_seconds / usual));
	if (elsewhere >= ELSEWHERE_PART * batch->seconds)
		append_reason(out, psprintf("was on a processor for %s: for the rest it waited for one, for the disk, or for what it called",
									wording_time(batch->cpu_seconds)));
}

/* The time per row to that of all. */
static double
pace_to_others(const FiguresBatch *batch, const BatchTotals *all)
{
	double		usual = all->seconds / Max(all->rows, 1) * batch->rows;

	return usual > 0 ? batch->seconds / usual : 1;
}

/* Why, as far as it is known; in the current memory context. */
char *
slow_reason(const SlowBatch *slow, const BatchTotals *all)
{
	const FiguresBatch *batch = &slow->batch;
	StringInfoData out;

	initStringInfo(&out);
	if (slow->details && slow->details->client)
		append_reason(&out, psprintf("was in the hands of client %s", slow->details->client));
	tell_locks(&out, batch);
	tell_size(&out, batch, all);
	tell_blocks(&out, batch, all);
	tell_processor(&out, batch, all);
	if (out.len == 0)
	{
		double		pace = pace_to_others(batch, all);

		append_reason(&out, pace < MANY_TIMES ? "as fast per row as others" :
					  psprintf("%.1f times as long per row as others, and nothing that is kept of it says why", pace));
	}
	if (batch->attempt > 1)
		append_reason(&out, psprintf("attempt %d", batch->attempt));
	return out.data;
}
