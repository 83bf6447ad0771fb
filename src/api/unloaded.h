/*-------------------------------------------------------------------------
 *
 * unloaded.h
 *	  Claims on a server where the library is not preloaded.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_UNLOADED_H
#define BACKFILL_API_UNLOADED_H

#include "nodes/pg_list.h"

#include "shared/lease.h"
#include "store/lease.h"
#include "store/run.h"
#include "store/store.h"

/* What a claim comes to: batches that may be claimed, the end of the run, or neither. */
typedef struct Unloaded
{
	RunInfo    *run;			/* its row is locked */
	List	   *batches;		/* LeasedBatch *, of which only number, part and rows are known */
	bool		done;
	int64		ms;				/* when to ask again, if neither */
	const char *reason;			/* why, or the status in which the run has ended */
	MemoryContext context;		/* where that is */
} Unloaded;

extern void unloaded_check_definition(const char *name);
extern void unloaded_check(StoreSession *session, const RunInfo *run);
extern void unloaded_look(int64 run_id, int batches, const char *client, Unloaded *turn);
extern bool unloaded_fail(const LeaseKey *key, const LeaseToken *token, Oid role,
						  const LeaseReport *report);

#endif							/* BACKFILL_API_UNLOADED_H */
