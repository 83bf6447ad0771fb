/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  The SQL function that counts the rows still in scope.
 *
 * It counts them in the transaction of its caller, as the owner of the run.  What
 * the owner's code does meanwhile is rolled back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/owner.h"
#include "run/access.h"
#include "run/find.h"
#include "settings/parameters.h"
#include "settings/serverparams.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "store/event.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/bounds.h"
#include "walk/count.h"
#include "walk/walk.h"

PG_FUNCTION_INFO_V1(backfill_verify);

/* A run, and the rows of it that are still in scope. */
typedef struct Remaining
{
	const RunInfo *run;
	int64		rows;
} Remaining;

/* All of it in the current transaction, as the owner; the argument is a Remaining. */
static void
count_remaining(void *arg)
{
	Remaining  *remaining = (Remaining *) arg;
	const RunInfo *run = remaining->run;
	RunSettings settings;
	RunFacts	facts = {run->id, run->name, run->started_at, run->since};
	Walk	   *walk;
	Bounds	   *bounds;
	Count	   *v;

	settings_resolve(run->settings, &settings);
	serverparams_apply(settings.set);	/* until owner_look rolls back */
	walk = walk_open(run->target, run->key, &settings);
	walk_check_key_types(walk, run->key_types);
	bounds = bounds_prepare(walk);
	v = count_begin(walk, bounds, run->start_key, run->end_key, run->scope,
					parameters_load(run->parameter_types, run->parameters, &facts));
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
		bounds_drop(bounds);
	}
	PG_END_TRY();
	remaining->rows = v->rows;
}

/* backfill_verify(run) */
Datum
backfill_verify(PG_FUNCTION_ARGS)
{
	StoreSession session;
	Oid			caller = GetUserId();
	FindKey		key = find_key_arg(fcinfo);
	int64		id;
	RunInfo    *run;
	Remaining	remaining = {0};
	EventInfo	event = {.kind = "verify"};

	PreventCommandDuringRecovery("backfill_verify()");
	store_begin(&session);
	run = find_run(&session, &key, FIND_TO_CONTROL, caller, false);
	store_end(&session);
	id = run->id;
	if (run->scope == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot verify run " INT64_FORMAT ", which has no scope", id),
				 errdetail("Without a scope every row is in scope, however often it was processed.")));
	if (run->end_key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot verify run " INT64_FORMAT ", which has not begun", id)));
	remaining.run = run;
	owner_look(run->owner, run->search_path, count_remaining, &remaining);

	store_begin(&session);
	run = access_find_run(&session, id, caller, true);
	store_set_remaining(&session, id, remaining.rows, run->verified);
	event.role = GetUserNameFromId(caller, false);
	event.reason = psprintf("rows remaining: " INT64_FORMAT, remaining.rows);
	store_add_event(&session, run, &event);
	store_end(&session);
	PG_RETURN_INT64(remaining.rows);
}
