/*-------------------------------------------------------------------------
 *
 * ledger.h
 *	  The rows of a run with a ledger: handed out, confirmed, settled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_LEDGER_H
#define BACKFILL_STORE_LEDGER_H

#include "nodes/pg_list.h"
#include "utils/array.h"

#include "store/lease.h"
#include "store/store.h"

/* A batch of which all rows are done, and of what: to be counted when that is committed. */
typedef struct LedgerDone
{
	Oid			owner;			/* of the run */
	NameData	name;			/* of its definition */
	int64		rows;
	int64		wal_bytes;
	int64		duration;		/* in microseconds; below 0 if no client completed it */
} LedgerDone;

extern List *ledger_claim(StoreSession *session, int64 run_id, int64 number, int part,
						  int nkeys, const LeaseClaim *claim);
extern int64 ledger_confirm(StoreSession *session, int64 run_id, const LeaseToken *token,
							Oid role, int nkeys, ArrayType *keys, LedgerDone **done);
extern int64 ledger_settle(StoreSession *session, int64 run_id, int nkeys, ArrayType *keys,
						   bool is_done, const char *role, List **done);
extern LedgerDone *ledger_close_batch(StoreSession *session, int64 run_id, int64 number,
									  int part, const char *status);
extern bool ledger_fail_batch(StoreSession *session, int64 run_id, int64 number, int part,
							  const LeaseToken *token, Oid role, const char *message,
							  LedgerDone **done);
extern int64 ledger_unconfirmed(StoreSession *session, int64 run_id);
extern void ledger_delete(int64 run_id);

#endif							/* BACKFILL_STORE_LEDGER_H */
