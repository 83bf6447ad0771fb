/*-------------------------------------------------------------------------
 *
 * count.c
 *	  Counting the rows of a walk that are in scope.
 *
 * The rows between two keys are counted along the key in stretches, so that a worker
 * can do each in a transaction of its own and keeps no snapshot for hours.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "settings/parameters.h"
#include "walk/bounds.h"
#include "walk/count.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* Rows of the table in one stretch. */
#define STRETCH_ROWS 50000

/*
 * Prepare the count, in the current memory context, in which what it works with
 * must live as well.
 */
Count *
count_begin(Walk *walk, Bounds *bounds, ArrayType *start_key, ArrayType *end_key,
			const char *scope, const Parameters *parameters)
{
	Count *v = palloc0(sizeof(Count));

	v->context = CurrentMemoryContext;
	v->walk = walk;
	v->bounds = bounds;
	v->parameters = parameters;
	v->scope = scope ? pstrdup(scope) : NULL;
	v->start_key = DatumGetArrayTypePCopy(PointerGetDatum(start_key));
	v->end_key = DatumGetArrayTypePCopy(PointerGetDatum(end_key));
	v->start_inclusive = true;
	v->done = key_is_empty(end_key);
	for (int shape = 0; shape < WALK_SHAPES(walk); shape++)
	{
		v->count[shape] = bounds_prepare_count(walk, shape, scope, parameters);
		statement_keep(v->count[shape]);
	}
	return v;
}

/* Count the next stretch, in the current transaction. */
void
count_step(Count *v)
{
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	ArrayType  *end_key;
	RangeShape	shape;
	ParamListInfo params;
	Datum		count;
	MemoryContext old;

	PushActiveSnapshot(GetLatestSnapshot());

	/* rows move while a walk by pages is under way, also to where it has not been */
	if (v->walk->comes_again)
	{
		int64		elsewhere;

		v->rows = bounds_count_whole(v->walk, v->scope, v->parameters, "{}",
									 GetActiveSnapshot(), &elsewhere);
		v->done = true;
		PopActiveSnapshot();
		return;
	}
	key_from_text(v->walk, v->start_key, start);
	(void) bounds_next_range(v->walk, v->bounds, v->start_key, v->start_inclusive, v->end_key,
							 STRETCH_ROWS, GetActiveSnapshot(), &end_key);
	key_from_text(v->walk, end_key, end);
	params = statement_params(v->walk, v->parameters);
	walk_set_start(v->walk, params, start);
	walk_set_end(v->walk, params, end);
	shape = key_range_shape(v->start_inclusive, end_key);

	/* none are null any more, if the columns cannot be */
	if (v->count[shape] && statement_fetch(v->count[shape], params, GetActiveSnapshot(), 1, &count))
		v->rows += DatumGetInt64(count);
	old = MemoryContextSwitchTo(v->context);
	pfree(v->start_key);
	v->start_key = DatumGetArrayTypePCopy(PointerGetDatum(end_key));
	MemoryContextSwitchTo(old);
	v->start_inclusive = false;
	v->done = key_is_last(v->start_key, v->end_key);
	PopActiveSnapshot();
}

/* The count is over: let go of its plans. */
void
count_end(Count *v)
{
	for (int shape = 0; shape < WALK_SHAPES(v->walk); shape++)
		statement_drop(v->count[shape]);
}
