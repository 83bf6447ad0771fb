/*-------------------------------------------------------------------------
 *
 * access.h
 *	  Who may control a run, and who can have workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_ACCESS_H
#define BACKFILL_RUN_ACCESS_H

#include "store/run.h"
#include "store/store.h"

/* Why a run waits in a database that is closed. */
#define ACCESS_CLOSED_REASON "waits until the database allows connections again"

extern bool access_may_log_in(Oid role);
extern bool access_is_closed(void);
extern char *access_role_name(Oid role);
extern void access_check_owner(Oid owner);
extern const char *access_problem(Oid owner, const char **hint);
extern void access_check_runs(StoreSession *session, ArrayType *ids, Oid caller);
extern void access_check_run(int64 id, Oid owner, Oid caller);
extern RunInfo *access_find_run(StoreSession *session, int64 id, Oid caller,
								bool for_update);

#endif							/* BACKFILL_RUN_ACCESS_H */
