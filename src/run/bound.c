/*-------------------------------------------------------------------------
 *
 * bound.c
 *	  How far a run goes before it pauses itself.
 *
 * With the setting "max_batches" no more ranges than that are claimed after the run
 * was started or resumed; when those are done, the run pauses.  Ranges are counted by
 * their numbers, under the claim lock, so that they are exactly as many, whatever the
 * number of workers, and whatever crashes.  What was claimed before does not count
 * again: parts of a batch, and batches that are tried once more.
 *
 * With "max_duration" the run pauses when so much time has passed, as if somebody had
 * asked for it: the batches in hand are done first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/quantity.h"
#include "run/bound.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "store/batch.h"
#include "store/run.h"

/*
 * Whether one more range may be claimed after the last one, which has that number,
 * 0 for none.  The caller holds the claim lock, or may be mistaken.
 */
bool
bound_allows_batch(const RunInfo *run, const RunSettings *settings, int64 last)
{
	return settings->max_batches == 0 || last - run->resumed_number < settings->max_batches;
}

/* Whether every range is claimed that the run may claim before it pauses. */
bool
bound_is_claimed(StoreSession *session, const RunInfo *run)
{
	RunSettings settings;
	int64		last;
	ArrayType  *end_key;

	settings_resolve(run->settings, &settings);
	return settings.max_batches > 0 && store_last_batch(session, run->id, 0, &last, &end_key) &&
		!bound_allows_batch(run, &settings, last);
}

/* When the run was started or, if that is later, resumed; 0 if it has not begun. */
static TimestampTz
counted_since(const RunInfo *run)
{
	if (TIMESTAMP_IS_NOBEGIN(run->started_at))
		return 0;
	return Max(run->started_at, run->resumed_at);
}

/*
 * Why the running run, which is not done and has so many workers, is to pause, or
 * NULL.  In the current memory context.
 */
char *
bound_reached(StoreSession *session, const RunInfo *run, int living)
{
	RunSettings settings;
	TimestampTz since = counted_since(run);

	settings_resolve(run->settings, &settings);
	if (settings.max_duration > 0 && since != 0 &&
		GetCurrentTimestamp() >= TimestampTzPlusMilliseconds(since, settings.max_duration))
		return psprintf("max_duration: %s have passed since it was started or resumed",
						quantity_duration_text(settings.max_duration));
	if (living == 0 && bound_is_claimed(session, run) &&
		store_open_batches(session, run->id, NULL) == 0)
		return psprintf("max_batches: " INT64_FORMAT " %s done since it was started or resumed",
						settings.max_batches, settings.max_batches == 1 ? "is" : "are");
	return NULL;
}
