/*-------------------------------------------------------------------------
 *
 * transition.h
 *	  A run changes its status.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_TRANSITION_H
#define BACKFILL_RUN_TRANSITION_H

#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

extern const char *transition_previous(RunStatus from, RunStatus to);
extern void transition_make(StoreSession *session, RunInfo *run, RunStatus to,
							const char *role, const char *reason);
extern void transition_carry_out(StoreSession *session, RunInfo *run, RunStatus to);
extern void transition_begin(StoreSession *session, const RunInfo *run,
							 const char *role, const char *reason);
extern void transition_request(StoreSession *session, RunInfo *run, RunStatus to,
							   bool immediate, const char *role, const char *reason);
extern bool transition_may_begin_again(const RunInfo *run);
extern bool transition_needs_worker(StoreSession *session, const RunInfo *run,
									RunStatus to);
extern char *transition_wait_reason(StoreSession *session, ArrayType *after);

#endif							/* BACKFILL_RUN_TRANSITION_H */
