/*-------------------------------------------------------------------------
 *
 * stock.h
 *	  Batches that are cut for clients, and may be claimed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_STOCK_H
#define BACKFILL_SHARED_STOCK_H

#include "shared/segment.h"

/* What a client that asks for a batch is told. */
typedef enum StockAnswer
{
	STOCK_TAKEN,
	STOCK_CLOSED,				/* no worker of the run has come so far */
	STOCK_EMPTY,				/* for a moment */
	STOCK_ENDED,				/* until somebody lets go of a batch */
	STOCK_HELD,					/* by the hour, or the health of the server */
	STOCK_LIMITED,				/* by a rate limit */
	STOCK_OUT					/* as many are out as may be */
} StockAnswer;

/* A batch that a client has taken, and what is reserved for it. */
typedef struct StockTaken
{
	StockEntry	entry;
	int64		reserved;		/* rows */
} StockTaken;

extern StockAnswer stock_take(Oid database, int64 run_id, StockTaken *taken,
							  TimestampTz *retry_at);
extern StockAnswer stock_call(Oid database, int64 run_id, int64 calls, TimestampTz *retry_at);
extern void stock_begin_wait(void);
extern bool stock_wait(long ms);
extern void stock_end_wait(void);
extern void stock_put_back(Oid database, int64 run_id, const StockTaken *taken);
extern void stock_drop(Oid database, int64 run_id, int64 reserved);
extern void stock_settle(Oid database, int64 run_id, bool counted, int64 reserved,
						 int64 rows_scanned, int64 rows_affected, int64 wal_bytes, bool done);
extern void stock_keep(Oid database, int64 run_id, int64 rows);
extern void stock_open(int64 max_out);
extern void stock_end(bool ended);
extern bool stock_has_ended(void);
extern int	stock_missing(void);
extern void stock_forget(Oid database, int64 run_id);
extern int64 stock_out(Oid database, int64 run_id);
extern void stock_remove(int64 number, int part);
extern void stock_add(const StockEntry *entries, int n);
extern void stock_tell(Oid database, int64 run_id);

#endif							/* BACKFILL_SHARED_STOCK_H */
