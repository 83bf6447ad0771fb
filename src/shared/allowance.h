/*-------------------------------------------------------------------------
 *
 * allowance.h
 *	  What a worker may begin, by the limits on rows and WAL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_ALLOWANCE_H
#define BACKFILL_SHARED_ALLOWANCE_H

#include "datatype/timestamp.h"

/* What the statement of a batch took. */
typedef struct BatchCost
{
	int64		rows_scanned;
	int64		rows_affected;
	int64		wal_bytes;
	int64		duration;		/* microseconds, without waits for locks */
	int64		waited;			/* microseconds that somebody waited for its rows */
	TimestampTz finished_at;	/* as the row of the batch will have it */
} BatchCost;

extern int64 allowance_ask(bool has_scope, int64 *stride, TimestampTz *retry_at);
extern void allowance_keep(int64 rows);
extern void allowance_drop_next(void);
extern void allowance_advance(void);
extern bool allowance_reserve(int64 rows, bool indivisible, int64 *fitting,
							  TimestampTz *retry_at);
extern bool allowance_cover(int64 rows_scanned, int64 rows);
extern void allowance_release(void);
extern void allowance_attach(void);
extern void allowance_wrote(int64 wal_bytes);
extern int	allowance_measure(const BatchCost *cost, bool has_scope);
extern void allowance_settle(int64 rows_affected);
extern void allowance_called(int64 calls);

struct RunSlot;
extern bool allowance_grant(struct RunSlot *run, int64 rows, int64 *reserved,
							TimestampTz *retry_at);
extern void allowance_return(struct RunSlot *run, int64 reserved);
extern void allowance_use(struct RunSlot *run, int64 reserved, int64 rows, int64 wal_bytes);

#endif							/* BACKFILL_SHARED_ALLOWANCE_H */
