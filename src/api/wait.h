/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  Waiting for a run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_WAIT_H
#define BACKFILL_API_WAIT_H

#include "fmgr.h"

#include "run/find.h"
#include "store/run.h"

/* For which run, and how. */
typedef struct Waiting
{
	FindKey		key;
	int64		timeout;		/* in milliseconds, -1 for none */
	int64		every;			/* likewise, between two lines */
	bool		bar;			/* draw a bar in each */
	Oid			caller;
} Waiting;

extern Waiting wait_arguments(FunctionCallInfo fcinfo, int n);
extern bool wait_may_commit(FunctionCallInfo fcinfo);
extern void wait_for_run(const Waiting *waiting);
extern RunProgress *wait_progress(int64 id, Oid caller);
extern void wait_warn(int64 id, const RunProgress *p);

#endif							/* BACKFILL_API_WAIT_H */
