/*-------------------------------------------------------------------------
 *
 * ledger.h
 *	  The ledger that holds a rate to its limit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_LEDGER_H
#define BACKFILL_SHARED_LEDGER_H

#include "datatype/timestamp.h"

#include "base/quantity.h"

#define LEDGER_BUCKETS 128

/* What was used in the last window.  Plain data, for shared memory. */
typedef struct RateLedger
{
	int64		window;			/* microseconds, 0 while not in use */
	int64		width;			/* of a bucket, microseconds */
	int64		newest;			/* number of the newest bucket */
	int64		used;			/* sum of the buckets */
	int64		reserved;		/* by batches that have not ended */
	int64		expired;		/* sum of what no longer counts */
	int64		promised;		/* up to where that sum is promised to those who wait */
	int64		buckets[LEDGER_BUCKETS];
} RateLedger;

extern void ledger_open(RateLedger *ledger, const RateLimit *limit);
extern void ledger_add(RateLedger *ledger, TimestampTz at, int64 amount,
					   TimestampTz now);
extern void ledger_refit(RateLedger *ledger, const RateLimit *limit, TimestampTz now);
extern int64 ledger_left(RateLedger *ledger, int64 amount, TimestampTz now);
extern TimestampTz ledger_next_expiry(RateLedger *ledger, TimestampTz now);
extern TimestampTz ledger_promise(RateLedger *ledger, int64 amount, int64 left,
								  TimestampTz now);

#endif							/* BACKFILL_SHARED_LEDGER_H */
