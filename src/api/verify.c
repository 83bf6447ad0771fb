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

#include "api/slice.h"
#include "base/compat.h"
#include "base/owner.h"
#include "definition/streamlist.h"
#include "run/access.h"
#include "run/find.h"
#include "store/event.h"
#include "store/run.h"
#include "store/store.h"
#include "store/stream.h"
#include "walk/key.h"

PG_FUNCTION_INFO_V1(backfill_verify);

/* Count the rows of the run that are still in scope, in each of its streams that has begun. */
static int64
count_streams(const RunInfo *run)
{
	StoreSession session;
	int64		remaining = 0;
	int64	   *ids;
	int			n;

	store_begin(&session);
	ids = stream_walked(&session, run->id, &n);
	store_end(&session);
	for (int i = 0; i < n; i++)
	{
		RunInfo		part = *run;
		Slice		slice = {&part};
		StreamInfo *stream;

		store_begin(&session);
		stream = stream_load(&session, ids[i]);
		store_end(&session);
		if (stream == NULL || key_is_empty(stream->end_key))
			continue;
		part.stream = stream->name;
		part.start_key = stream->start_key;
		part.end_key = stream->end_key;
		part.key_types = stream->key_types;
		part.since = stream->since;
		part.until = stream->until;
		if (OidIsValid(stream->target))
		{
			part.key = unconstify(char *, streamlist_key(stream->target, run->target, run->key));
			part.target = stream->target;
		}
		owner_look(run->owner, run->search_path, slice_count, &slice);
		remaining += slice.remaining;
	}
	return remaining;
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
	Slice		slice = {0};
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
	slice.run = run;
	if (run->has_streams)
		slice.remaining = count_streams(run);
	else
		owner_look(run->owner, run->search_path, slice_count, &slice);

	store_begin(&session);
	run = access_find_run(&session, id, caller, true);
	store_set_remaining(&session, id, slice.remaining, run->verified);
	event.role = GetUserNameFromId(caller, false);
	event.reason = psprintf("rows remaining: " INT64_FORMAT, slice.remaining);
	store_add_event(&session, run, &event);
	store_end(&session);
	PG_RETURN_INT64(slice.remaining);
}
