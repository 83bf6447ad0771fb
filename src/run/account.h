/*-------------------------------------------------------------------------
 *
 * account.h
 *	  What a run has done and used up so far, put down in its row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_ACCOUNT_H
#define BACKFILL_RUN_ACCOUNT_H

#include "store/run.h"
#include "store/store.h"

extern void account_roll_up(StoreSession *session, const RunInfo *run);

#endif							/* BACKFILL_RUN_ACCOUNT_H */
