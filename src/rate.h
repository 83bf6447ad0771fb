/*-------------------------------------------------------------------------
 *
 * rate.h
 *	  Rate limits, and the ledger that holds a rate to them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RATE_H
#define BACKFILL_RATE_H

#include "datatype/timestamp.h"

/* So many rows, or bytes, in any window of that length. */
typedef struct RateLimit
{
	int64		amount;			/* 0: no limit */
	int64		window;			/* milliseconds */
} RateLimit;

#define LEDGER_BUCKETS 128

/* What was used in the last window.  Plain data, for shared memory. */
typedef struct RateLedger
{
	int64		window;			/* microseconds, 0 while not in use */
	int64		width;			/* of a bucket, microseconds */
	int64		newest;			/* number of the newest bucket */
	int64		used;			/* sum of the buckets */
	int64		reserved;		/* by batches that have not ended */
	int64		buckets[LEDGER_BUCKETS];
} RateLedger;

extern bool rate_parse(const char *text, bool bytes, RateLimit *limit);
extern int64 rate_parse_bytes(const char *text);
extern char *rate_text(const RateLimit *limit, bool bytes);

extern void ledger_open(RateLedger *ledger, const RateLimit *limit);
extern void ledger_refit(RateLedger *ledger, const RateLimit *limit, TimestampTz now);
extern void ledger_add(RateLedger *ledger, TimestampTz at, int64 amount, TimestampTz now);
extern int64 ledger_left(RateLedger *ledger, int64 amount, TimestampTz now);
extern TimestampTz ledger_next_expiry(RateLedger *ledger, TimestampTz now);

#endif							/* BACKFILL_RATE_H */
