/*-------------------------------------------------------------------------
 *
 * lapse.h
 *	  Leases of clients: known again after a restart, and taken back when they are over.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_LAPSE_H
#define BACKFILL_RUN_LAPSE_H

#include "nodes/pg_list.h"

#include "store/lease.h"
#include "store/run.h"
#include "store/store.h"

extern int64 lapse_milliseconds(const Interval *length);
extern int64 lapse_restore(int64 run_id, const LeasedBatch *batch);
extern List *lapse_review(StoreSession *session, const RunInfo *run, bool first);
extern bool lapse_done(List *over);
extern void lapse_rows(StoreSession *session, const RunInfo *run, bool all);

#endif							/* BACKFILL_RUN_LAPSE_H */
