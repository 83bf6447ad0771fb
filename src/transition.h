/*-------------------------------------------------------------------------
 *
 * transition.h
 *	  A run changes its status.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_TRANSITION_H
#define BACKFILL_TRANSITION_H

#include "catalog.h"

extern void transition_make(CatalogSession *session, RunInfo *run, RunStatus to,
							const char *role, const char *reason);
extern const char *transition_previous(RunStatus from, RunStatus to);
extern void transition_carry_out(CatalogSession *session, RunInfo *run, RunStatus to);
extern void transition_begin(CatalogSession *session, const RunInfo *run,
							 const char *role, const char *reason);
extern void transition_request(CatalogSession *session, RunInfo *run, RunStatus to,
							   bool immediate, const char *role, const char *reason);
extern bool transition_needs_worker(CatalogSession *session, const RunInfo *run,
									RunStatus to);

#endif							/* BACKFILL_TRANSITION_H */
