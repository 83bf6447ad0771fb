/*-------------------------------------------------------------------------
 *
 * metrics.h
 *	  What is counted for monitoring, by definition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_METRICS_H
#define BACKFILL_SHARED_METRICS_H

#include "datatype/timestamp.h"

#define METRICS_BUCKETS	16
#define METRICS_REASONS	18

/* Whose counters they are: those of the runs of a definition that an owner has. */
typedef struct MetricsKey
{
	Oid			database;
	Oid			owner;
	char		name[NAMEDATALEN];	/* of the definition, with zeros behind it */
} MetricsKey;

/* The counters of one definition.  Times in microseconds. */
typedef struct Metrics
{
	MetricsKey	key;
	TimestampTz used_at;		/* when anything was counted last */
	int64		rows;
	int64		batches;
	int64		wal_bytes;
	int64		timed;			/* batches of which the duration is known */
	int64		duration;		/* of those */
	int64		buckets[METRICS_BUCKETS];	/* those by duration, up to each bound */
	int64		throttled[METRICS_REASONS];
} Metrics;

extern void metrics_init(void);
extern void metrics_open(Oid owner, const char *name);
extern void metrics_count_batch(Oid owner, const char *name, int64 rows, int64 wal_bytes,
								int64 duration);
extern void metrics_count_throttled(Oid owner, const char *name, const char *reason,
									int64 duration);
extern int	metrics_copy(Oid database, Metrics **copies, int64 *uncounted);
extern const char *metrics_bound(int bucket);
extern const char *metrics_reason(int reason);

#endif							/* BACKFILL_SHARED_METRICS_H */
