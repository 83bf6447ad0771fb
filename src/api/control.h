/*-------------------------------------------------------------------------
 *
 * control.h
 *	  The SQL functions that start, stop and delete runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_CONTROL_H
#define BACKFILL_API_CONTROL_H

#include "store/run.h"
#include "store/store.h"

extern const char *control_resume(StoreSession *session, RunInfo *run, Oid caller,
								  const char *reason);

#endif							/* BACKFILL_API_CONTROL_H */
