/*-------------------------------------------------------------------------
 *
 * quantity.h
 *	  Quantities that users write: durations, bytes, rates.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_QUANTITY_H
#define BACKFILL_BASE_QUANTITY_H

#include "datatype/timestamp.h"

#define QUANTITY_MS_PER_DAY		INT64CONST(86400000)

/* So many rows, or bytes, in any window of that length. */
typedef struct RateLimit
{
	int64		amount;			/* 0: no limit */
	int64		window;			/* milliseconds */
} RateLimit;

/* What was used, such as by a batch that was completed at that time. */
typedef struct Usage
{
	TimestampTz at;
	int64		rows;
	int64		wal_bytes;
} Usage;

extern bool quantity_parse_duration(const char *text, double *ms);
extern char *quantity_duration_text(int64 ms);
extern int64 quantity_parse_bytes(const char *text);
extern bool quantity_parse_rate(const char *text, bool bytes, RateLimit *limit);
extern char *quantity_bytes_text(int64 bytes);
extern char *quantity_rate_text(const RateLimit *limit, bool bytes);

#endif							/* BACKFILL_BASE_QUANTITY_H */
