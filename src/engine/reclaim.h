/*-------------------------------------------------------------------------
 *
 * reclaim.h
 *	  Space that committed batches have freed is used by the next ones.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_RECLAIM_H
#define BACKFILL_ENGINE_RECLAIM_H

#include "nodes/pg_list.h"

#include "engine/session.h"
#include "walk/trail.h"

/* Tables whose free pages are looked for: one, or two partitions, and their TOAST. */
#define RECLAIM_TABLES 4

/* What a worker has to clear up.  All zero to begin with. */
typedef struct Reclaim
{
	MemoryContext context;		/* of the batch in hand, with its trail; or NULL */
	Trail		trail;
	List	   *queue;			/* what committed batches have left, oldest first */
	int64		pages;			/* in the queue */
	int64		pruned;			/* pages, since a batch last said so */
	int64		freed;			/* bytes of them, likewise */
	int64		part;			/* rows of a batch that is a small part of its table, as shared/size.h has it */
	bool		has_part;		/* batches have been held to one */
	bool		at_leisure;		/* there is time to look who sees what */
	bool		is_kept;		/* somebody may still see what is first in the queue */
	Oid			tables[RECLAIM_TABLES];	/* that the last batch changed, or zero */
} Reclaim;

extern Trail *reclaim_watch(Session *session, Reclaim *reclaim);
extern void reclaim_forget(Reclaim *reclaim);
extern void reclaim_enqueue(Session *session, Reclaim *reclaim, FullTransactionId xid, int64 rows);
extern void reclaim_some(Session *session, Reclaim *reclaim, bool at_leisure);

#endif							/* BACKFILL_ENGINE_RECLAIM_H */
