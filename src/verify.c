/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  Counting the rows that are still in scope.
 *
 * The rows between the ends of a run are counted along the key in stretches, so
 * that a worker can do each in a transaction of its own and keeps no snapshot
 * for hours.  backfill_verify counts them in the transaction of its caller, as
 * the owner of the run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "batch.h"
#include "compat.h"
#include "control.h"
#include "owner.h"
#include "verify.h"

PG_FUNCTION_INFO_V1(backfill_verify);

/* Rows of the table in one stretch. */
#define STRETCH_ROWS 50000

/*
 * Prepare the count, in the current memory context, in which what it works with
 * must live as well.  The run has ends.
 */
Verification *
verify_begin(const RunInfo *run, Walk *walk, Bounds *bounds,
			 const Parameters *parameters)
{
	Verification *v = palloc0(sizeof(Verification));

	v->context = CurrentMemoryContext;
	v->walk = walk;
	v->bounds = bounds;
	v->parameters = parameters;
	v->start_key = DatumGetArrayTypePCopy(PointerGetDatum(run->start_key));
	v->end_key = DatumGetArrayTypePCopy(PointerGetDatum(run->end_key));
	v->start_inclusive = true;
	v->done = ArrayGetNItems(ARR_NDIM(run->end_key), ARR_DIMS(run->end_key)) == 0;
	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		v->count[inclusive] = bounds_prepare_count(walk, inclusive != 0, run->scope,
												   parameters);
		statement_keep(v->count[inclusive]);
	}
	return v;
}

/* Count the next stretch, in the current transaction. */
void
verify_step(Verification *v)
{
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		last[INDEX_MAX_KEYS];
	bool		at_end;
	ParamListInfo params;
	Datum		count;
	MemoryContext old;

	PushActiveSnapshot(GetLatestSnapshot());
	walk_key_from_text(v->walk, v->start_key, start);
	walk_key_from_text(v->walk, v->end_key, last);
	(void) bounds_next_end(v->walk, v->bounds, start, v->start_inclusive, last,
						   STRETCH_ROWS, GetActiveSnapshot(), end, &at_end);
	params = parameters_list(v->walk, v->parameters);
	walk_set_start(v->walk, params, start);
	walk_set_end(v->walk, params, end);
	if (statement_fetch(v->count[v->start_inclusive], params, GetActiveSnapshot(), 1, &count))
		v->rows += DatumGetInt64(count);
	old = MemoryContextSwitchTo(v->context);
	pfree(v->start_key);
	v->start_key = walk_key_to_text(v->walk, end);
	MemoryContextSwitchTo(old);
	v->start_inclusive = false;
	v->done = at_end || batch_is_last_key(v->start_key, v->end_key);
	PopActiveSnapshot();
}

/* The count is over: let go of its plans. */
void
verify_end(Verification *v)
{
	for (int inclusive = 0; inclusive < 2; inclusive++)
		statement_drop(v->count[inclusive]);
}

/* All of it in the current transaction, as the owner. */
static int64
count_remaining(const RunInfo *run)
{
	OwnerSession session;
	RunSettings settings;
	RunFacts	facts = {run->id, run->name, run->started_at, run->since};
	Walk	   *walk;
	Bounds	   *bounds;
	Verification *v;

	owner_begin(&session, run->owner, run->search_path);
	settings_resolve(run->settings, &settings);
	walk = walk_open(run->target, run->key, settings.direction == WALK_DESCENDING);
	walk_check_key_types(walk, run->key_types);
	bounds = bounds_prepare(walk);
	v = verify_begin(run, walk, bounds,
					 parameters_load(run->parameter_types, run->parameters, &facts));
	PG_TRY();
	{
		while (!v->done)
		{
			CHECK_FOR_INTERRUPTS();
			verify_step(v);
		}
	}
	PG_FINALLY();
	{
		verify_end(v);
		bounds_drop(bounds);
	}
	PG_END_TRY();
	owner_end(&session);
	return v->rows;
}

/* backfill_verify(id) */
Datum
backfill_verify(PG_FUNCTION_ARGS)
{
	CatalogSession session;
	Oid			caller = GetUserId();
	int64		id = PG_GETARG_INT64(0);
	RunInfo    *run;
	int64		rows;
	EventInfo	event = {.kind = "verify"};

	PreventCommandDuringRecovery("backfill_verify()");
	catalog_begin(&session);
	run = control_find_run(&session, id, caller, false);
	catalog_end(&session);
	if (run->scope == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot verify run " INT64_FORMAT ", which has no scope", id),
				 errdetail("Without a scope every row is in scope, however often it was processed.")));
	if (run->end_key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot verify run " INT64_FORMAT ", which has not begun", id)));
	rows = count_remaining(run);

	catalog_begin(&session);
	run = control_find_run(&session, id, caller, true);
	catalog_set_remaining(&session, id, rows, run->verified);
	event.role = GetUserNameFromId(caller, false);
	event.reason = psprintf("rows remaining: " INT64_FORMAT, rows);
	catalog_add_event(&session, run, &event);
	catalog_end(&session);
	PG_RETURN_INT64(rows);
}
