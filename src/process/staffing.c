/*-------------------------------------------------------------------------
 *
 * staffing.c
 *	  The workers that a run should have.
 *
 * How many they are follows from the settings and from what is left to do.
 * Called by the scheduler, within a store session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "engine/turn.h"
#include "process/staffing.h"
#include "run/bound.h"
#include "shared/run_slot.h"
#include "store/batch.h"
#include "store/event.h"
#include "store/page.h"
#include "store/run.h"
#include "store/share.h"
#include "store/status.h"
#include "store/store.h"
#include "store/stream.h"
#include "walk/key.h"

/* Whether every range of the walk has been claimed. */
static bool
walk_is_claimed(StoreSession *session, RunInfo *run)
{
	int64		number;
	ArrayType  *end_key;

	if (run->end_key == NULL)
		return false;
	if (key_is_empty(run->end_key))
		return true;
	if (run->source.function)
		return page_has_ended(session, run->id);
	if (run->has_shares)
		return !share_is_left(session, run->id);
	return store_last_batch(session, run->id, run->pass_after, &number, &end_key) &&
		key_is_last(end_key, run->end_key);
}

/* Whether every batch that there is to be has ended, as far as nobody holds it up. */
bool
staffing_is_done(StoreSession *session, RunInfo *run)
{
	StreamCounts counts;

	if (!run->has_streams)
		return walk_is_claimed(session, run) &&
			store_open_batches(session, run->id, NULL) == 0;
	if (run->end_key == NULL)
		return false;
	stream_count(session, run->id, &counts);
	return counts.pending == 0 && counts.running == 0;
}

/*
 * The same of a run with streams: as many as there is work for.  One that is all claimed needs
 * nobody but those who have it; one that nobody has any more is found by whoever comes.
 */
static int
wanted_for_streams(StoreSession *session, RunInfo *run, int living, int most)
{
	StreamCounts counts;

	stream_count(session, run->id, &counts);
	if (run->source.function)
		most = (int) Min(most, TURN_HANDS(&run->source) * (counts.pending + counts.unclaimed) +
						 counts.running - counts.unclaimed);
	if (counts.unclaimed > 0)
		return most;
	if (counts.pending > 0)
		return (int) Min(most, Max(living, counts.pending + counts.running));
	if (counts.running > 0)
		return Max((int) Min(most, counts.running), Min(living, most));

	/* only a worker makes the run running, also where nothing but its end is left */
	return run->status == RUN_ENQUEUED ? 1 : living;
}

/* The number of workers that the run should have, of so many at most. */
int
staffing_wanted(StoreSession *session, RunInfo *run, int living, int most)
{
	int			changes;
	TimestampTz pending_from;
	int64		open;
	int64		due;

	if (most == 0)
		return 0;
	if (run->by_clients)
		most = 1;
	if (run->end_key == NULL)
		return 1;

	/* hooks are called by one worker, not by each that comes */
	if (run->status == RUN_ENQUEUED &&
		store_has_hook(session, run->name, run->owner, RUN_RUNNING))
		return 1;
	if (run->has_streams)
		return wanted_for_streams(session, run, living, most);
	if (run->source.function)
		most = Min(most, TURN_HANDS(&run->source));
	if (walk_is_claimed(session, run) || bound_is_claimed(session, run))
	{
		/* what is left is at most what somebody let go of */
		if (living > 0 &&
			(!run_slot_has_pending(MyDatabaseId, run->id, &changes, &pending_from) ||
			 clock_is_ahead(pending_from, GetCurrentTimestamp(), STORE_RETRY_MAX_MS)))
			return living;

		/* for those that wait to be tried again one is enough */
		open = store_open_batches(session, run->id, &due);
		open = Min(most, due > 0 ? due : Min(open, 1));

		/* only a worker makes the run running, also where nothing but its end is left */
		return run->status == RUN_ENQUEUED ? Max(open, 1) : open;
	}
	return most;
}
