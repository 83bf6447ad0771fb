/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  Times that were noted, and a clock that may be set back.
 *
 * What was noted as a time of the wall clock may lie far ahead after the clock was
 * set back.  A wait that is longer than it can ever have been meant to be is over,
 * and a time that lies ahead, but should have passed, has passed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_CLOCK_H
#define BACKFILL_BASE_CLOCK_H

#include "utils/timestamp.h"

/* Whether to wait until then, from now on, where nobody waits for longer. */
static inline bool
clock_is_ahead(TimestampTz at, TimestampTz now, int64 longest_ms)
{
	return at > now && at - now <= longest_ms * 1000;
}

/* Whether so many milliseconds have passed since that time. */
static inline bool
clock_has_passed(TimestampTz since, TimestampTz now, int ms)
{
	return now < since || TimestampDifferenceExceeds(since, now, ms);
}

#endif							/* BACKFILL_BASE_CLOCK_H */
