/*-------------------------------------------------------------------------
 *
 * outside.h
 *	  What calls of clients come to when their transaction ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_OUTSIDE_H
#define BACKFILL_API_OUTSIDE_H

#include "base/compat.h"
#include "shared/lease.h"
#include "shared/stock.h"
#include "store/ledger.h"

/* The batch is not the caller's, or not any more. */
#define ERRCODE_LEASE_LOST	MAKE_SQLSTATE('U', 'B', '0', '0', '6')

/* What a client has done with a batch that it completes. */
typedef struct OutsideBatch
{
	int64		rows_scanned;
	int64		rows_affected;
	int64		wal_bytes;
	bool		is_hooked;		/* hooks are to be told */
	int64		rows_done;		/* or -1 if some of them are unconfirmed */
	Oid			owner;			/* of the run */
	NameData	name;			/* of its definition */
	int64		duration;		/* since the claim, in microseconds */
} OutsideBatch;

extern void outside_taken(const LeaseKey *key, const StockTaken *taken);
extern void outside_claimed(int64 token);
extern void outside_dropped(void);
extern void outside_completed(const LeaseKey *key, int64 token, const OutsideBatch *batch);
extern void outside_failed(const LeaseKey *key, int64 token);
extern void outside_done(int64 run_id, const LedgerDone *done);
compat_noreturn extern void outside_refuse(const LeaseKey *key, const char *detail,
										   const char *hint);
extern bool outside_claims(int64 token);
extern void outside_watch_session(void);
extern int64 outside_wal(void);

#endif							/* BACKFILL_API_OUTSIDE_H */
