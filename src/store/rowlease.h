/*-------------------------------------------------------------------------
 *
 * rowlease.h
 *	  Leases of clients that live in the rows of their batches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_ROWLEASE_H
#define BACKFILL_STORE_ROWLEASE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "store/lease.h"
#include "store/store.h"

/* How it stands with the batches of a run that may not have ended. */
typedef struct RowLeases
{
	int64		out;			/* in the hands of clients */
	int64		over;			/* in hands in which they are not to stay */
	int64		undated;		/* in the hands of clients, the row does not say until when */
	int64		open;			/* not completed */
	int64		ended;			/* before the first of those, and not added up */
	TimestampTz due;			/* when the first pending one is: DT_NOBEGIN if one is due at once, DT_NOEND for none */
} RowLeases;

/* A lease as the row has it. */
typedef struct RowLease
{
	int64		run_id;
	LeasedBatch batch;
	TimestampTz since;
	TimestampTz until;
} RowLease;

extern void rowlease_look(StoreSession *session, int64 run_id, RowLeases *leases);
extern void rowlease_date(StoreSession *session, int64 run_id);
extern void rowlease_forget(StoreSession *session, int64 run_id);
extern List *rowlease_take_back(StoreSession *session, int64 run_id, bool all);
extern bool rowlease_hold(StoreSession *session, int64 run_id, int64 number, int part,
						  const LeaseToken *token, Oid role, int *tries);
extern bool rowlease_extend(StoreSession *session, int64 run_id, int64 number, int part,
							const LeaseToken *token, Oid role, Interval *length,
							TimestampTz *until);
extern void rowlease_let_go(StoreSession *session, int64 run_id, const BatchInfo *batch,
							const char *status, TimestampTz retry_at, const char *error);
extern List *rowlease_list(StoreSession *session);

#endif							/* BACKFILL_STORE_ROWLEASE_H */
