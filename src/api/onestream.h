/*-------------------------------------------------------------------------
 *
 * onestream.h
 *	  Holding, stopping and resuming one stream of a run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_ONESTREAM_H
#define BACKFILL_API_ONESTREAM_H

#include "store/run.h"
#include "store/store.h"

extern const char *onestream_halt(StoreSession *session, const RunInfo *run, const char *name,
								  RunStatus status, bool immediate, Oid caller,
								  const char *reason);
extern void onestream_resume(StoreSession *session, const RunInfo *run, const char *name,
							 Oid caller, const char *reason);
extern bool onestream_resume_paused(StoreSession *session, const RunInfo *run, Oid caller,
									const char *reason);

#endif							/* BACKFILL_API_ONESTREAM_H */
