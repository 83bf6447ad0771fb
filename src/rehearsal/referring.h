/*-------------------------------------------------------------------------
 *
 * referring.h
 *	  Warnings about foreign keys that refer to a table that is changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_REFERRING_H
#define BACKFILL_REHEARSAL_REFERRING_H

#include "access/htup.h"
#include "nodes/pg_list.h"
#include "utils/reltrigger.h"

#include "rehearsal/effects.h"

extern void referring_collect(List **referrers, Trigger *trigger, TableEffect *change,
							  HeapTuple tuple, Effects *changes);
extern void referring_advise(List **warnings, List *referrers, TableEffect *change);

#endif							/* BACKFILL_REHEARSAL_REFERRING_H */
