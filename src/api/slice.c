/*-------------------------------------------------------------------------
 *
 * slice.c
 *	  What is the owner's of a run, looked at in a session of his.
 *
 * The operators of a key, and what a scope calls, are the owner's code.  Where no worker
 * finds the ends of a walk, cuts its ranges and counts what is left, a session does: one that
 * was authenticated as the owner, see unloaded.c, or, to count only, anybody's who may control
 * the run.  Each function here is for owner_look: whatever the owner's code does is rolled
 * back, and what counts is what the function leaves in its argument.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/slice.h"
#include "base/owner.h"
#include "settings/parameters.h"
#include "settings/serverparams.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "walk/condition.h"
#include "walk/count.h"
#include "walk/key.h"
#include "walk/walk.h"

/* So many ranges more than are wanted are cut by one look, for so long. */
#define AHEAD				16
#define AHEAD_MS			20
/* Not longer, even if no row in scope was found: the row of the run is locked. */
#define LOOK_MS				250
/* A range is to be found in about this time, however few of its rows are in scope. */
#define RANGE_MS			20
/* A range has at most so many times the rows of a batch. */
#define STRIDE_MOST			4096

/* ---- what all of them need ---- */

/* What the run says, read in this transaction. */
typedef struct Sight
{
	RunSettings settings;
	Walk	   *walk;
	Parameters *parameters;
	Bounds	   *bounds;			/* NULL until needed; to be dropped */
} Sight;

static void
open_sight(const RunInfo *run, Sight *sight)
{
	RunFacts	facts = {run->id, run->name, run->started_at, run->since, run->until, run->stream};

	memset(sight, 0, sizeof(Sight));
	settings_resolve(run->settings, &sight->settings);

	/* until owner_look rolls back */
	serverparams_apply(sight->settings.set);
	sight->walk = walk_open(run->target, run->key, &sight->settings);
	if (run->key_types)
		walk_check_key_types(sight->walk, run->key_types);
	sight->parameters = parameters_load(run->parameter_types, run->parameters, &facts);
}

/* ---- the ends ---- */

/* The ends of the walk, and how the conditions of its batches read. */
void
slice_find_ends(void *arg)
{
	Slice	   *slice = (Slice *) arg;
	const RunInfo *run = slice->run;
	Sight		sight;

	open_sight(run, &sight);
	slice->key_names = walk_key_names(sight.walk);
	slice->key_types = walk_key_types(sight.walk);
	bounds_find_texts(sight.walk, &sight.settings, run->scope, sight.parameters, &slice->ends);
	slice->conditions = condition_templates(sight.walk, run->scope, sight.parameters);
}

/* ---- ranges ---- */

/* How long the ranges of a run are where few rows are in scope, in this session. */
static int64 stride_run = 0;
static int64 stride = 0;

/* Where keys are searched, and rows counted. */
typedef struct Knife
{
	const RunInfo *run;
	Sight		sight;
	Statement  *rows[2];		/* by start_inclusive; NULL until needed */
	Statement  *counts[RANGE_SHAPES];	/* by shape; likewise */
} Knife;

/* The key of the row in scope of the range at that offset; false if it has fewer. */
static bool
find_row(Knife *knife, const BatchInfo *batch, const Datum *start, const Datum *end,
		 int64 offset, Datum *key)
{
	Walk	   *walk = knife->sight.walk;
	Statement **query = &knife->rows[batch->start_inclusive];
	ParamListInfo params = statement_params(walk, knife->sight.parameters);

	if (*query == NULL)
		*query = bounds_prepare_row(walk, batch->start_inclusive, knife->run->scope,
									knife->sight.parameters);
	walk_set_start(walk, params, start);
	walk_set_end(walk, params, end);
	walk_set_number(walk, params, offset);
	return statement_fetch(*query, params, GetActiveSnapshot(), walk->nkeys, key);
}

static int64
count_rows(Knife *knife, const BatchInfo *batch, const Datum *start, const Datum *end)
{
	Walk	   *walk = knife->sight.walk;
	RangeShape	shape = key_range_shape(batch->start_inclusive, batch->end_key);
	Statement **query = &knife->counts[shape];
	ParamListInfo params = statement_params(walk, knife->sight.parameters);
	Datum		count;

	if (*query == NULL)
		*query = bounds_prepare_count(walk, shape, knife->run->scope, knife->sight.parameters);
	walk_set_start(walk, params, start);
	walk_set_end(walk, params, end);
	return statement_fetch(*query, params, GetActiveSnapshot(), 1, &count) ? DatumGetInt64(count) : 0;
}

/*
 * Find where the range ends that starts where the batch does: after so many rows in scope, in a
 * stride over those that are not.
 */
static void
find_range(Knife *knife, BatchInfo *batch)
{
	const RunInfo *run = knife->run;
	Walk	   *walk = knife->sight.walk;
	Bounds	   *bounds = knife->sight.bounds;
	int64		size = Max(knife->sight.settings.batch_size, 1);
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		row[INDEX_MAX_KEYS];

	PushActiveSnapshot(GetLatestSnapshot());
	batch->rows_scanned = bounds_next_range(walk, bounds, batch->start_key, batch->start_inclusive,
											run->end_key, run->scope ? Max(stride, size) : size,
											GetActiveSnapshot(), &batch->end_key);
	batch->rows_in_scope = batch->rows_scanned;
	if (run->scope)
	{
		key_from_text(walk, batch->start_key, start);
		key_from_text(walk, batch->end_key, end);

		/* a long step over rows that are not in scope must not run into many that are */
		if (batch->rows_scanned > size && !ARR_HASNULL(batch->end_key) &&
			find_row(knife, batch, start, end, size - 1, row))
		{
			batch->end_key = key_to_text(walk, row);
			batch->rows_scanned = bounds_count(walk, bounds, start,
											   key_range_shape(batch->start_inclusive, batch->end_key),
											   row, GetActiveSnapshot());
			key_from_text(walk, batch->end_key, end);
		}
		batch->rows_in_scope = count_rows(knife, batch, start, end);
	}
	PopActiveSnapshot();
}

/* The next stride is longer if this one took little time and found little, and shorter if it took long. */
static void
adapt_stride(const Knife *knife, const BatchInfo *batch, int64 ms)
{
	int64		size = Max(knife->sight.settings.batch_size, 1);

	if (ms > RANGE_MS)
		stride = stride / 2;
	else if (batch->rows_in_scope < size / 2)
		stride = Max(stride, size) * 2;
	stride = Min(Max(stride, size), size * STRIDE_MOST);
}

/* Whether enough was cut by a look that began then. */
static bool
is_enough(int found, int wanted, TimestampTz began)
{
	int64		ms = TimestampDifferenceMilliseconds(began, GetCurrentTimestamp());

	return ms > LOOK_MS || (found >= wanted && (ms > AHEAD_MS || found >= wanted + AHEAD));
}

static void
cut(Knife *knife, Slice *slice)
{
	TimestampTz began = GetCurrentTimestamp();
	BatchInfo	batch = slice->last;
	int			found = 0;

	do
	{
		BatchInfo  *copy = palloc(sizeof(BatchInfo));
		TimestampTz before = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		batch.number++;
		find_range(knife, &batch);
		adapt_stride(knife, &batch, TimestampDifferenceMilliseconds(before, GetCurrentTimestamp()));
		*copy = batch;
		slice->batches = lappend(slice->batches, copy);
		found += batch.rows_in_scope > 0;
		slice->ended = key_is_last(batch.end_key, slice->run->end_key);
		batch.start_key = batch.end_key;
		batch.start_inclusive = false;
	} while (!slice->ended && !is_enough(found, slice->wanted, began));
}

/*
 * Cut ranges behind the last one, of which there is at least one: as many with rows in scope as are wanted, and some
 * more if that takes no time, but not for long.
 */
void
slice_cut(void *arg)
{
	Slice	   *slice = (Slice *) arg;
	Knife		knife = {.run = slice->run};

	open_sight(slice->run, &knife.sight);

	/* without its index every search would sort the table */
	walk_check_index(knife.sight.walk);
	if (stride_run != slice->run->id)
		stride = 0;
	stride_run = slice->run->id;
	knife.sight.bounds = bounds_prepare(knife.sight.walk);
	PG_TRY();
	{
		cut(&knife, slice);
	}
	PG_FINALLY();
	{
		bounds_drop(knife.sight.bounds);
	}
	PG_END_TRY();
}

/* ---- what is left ---- */

/* Count the rows that are still in scope. */
void
slice_count(void *arg)
{
	Slice	   *slice = (Slice *) arg;
	const RunInfo *run = slice->run;
	Sight		sight;
	Count	   *v;

	open_sight(run, &sight);
	sight.bounds = bounds_prepare(sight.walk);
	v = count_begin(sight.walk, sight.bounds, run->start_key, run->end_key, run->scope,
					sight.parameters);
	PG_TRY();
	{
		while (!v->done)
		{
			CHECK_FOR_INTERRUPTS();
			count_step(v);
		}
	}
	PG_FINALLY();
	{
		count_end(v);
		bounds_drop(sight.bounds);
	}
	PG_END_TRY();
	slice->remaining = v->rows;
}

/*
 * Look, as the owner.  Returns the error that his code has raised, in the current memory context,
 * or NULL.
 */
ErrorData *
slice_look(Slice *slice, OwnerFunction what)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		owner_look(slice->run->owner, slice->run->search_path, what, slice);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	return error;
}
