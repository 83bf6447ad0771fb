/*-------------------------------------------------------------------------
 *
 * heldlocks.h
 *	  The locks on tables that this transaction holds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_HELDLOCKS_H
#define BACKFILL_REHEARSAL_HELDLOCKS_H

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

/* A mode in which a table is locked. */
typedef struct HeldLock
{
	Oid			relid;
	LOCKMODE	mode;
} HeldLock;

extern List *heldlocks_now(void);
extern List *heldlocks_new(List *before, Oid target);

#endif							/* BACKFILL_REHEARSAL_HELDLOCKS_H */
