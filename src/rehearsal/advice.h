/*-------------------------------------------------------------------------
 *
 * advice.h
 *	  What may surprise somebody about a run that is yet to be started.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_ADVICE_H
#define BACKFILL_REHEARSAL_ADVICE_H

#include "nodes/pg_list.h"

#include "rehearsal/effects.h"
#include "rehearsal/estimate.h"
#include "rehearsal/frame.h"
#include "rehearsal/tally.h"

extern char *advice_elsewhere(Effects *changes, const TallyCount *count);
extern void advice_scope(List **warnings, Rehearsal *rehearsal, const Estimates *estimates);
extern void advice_changes(List **warnings, Rehearsal *rehearsal, Effects *changes,
						   const Estimates *estimates);

#endif							/* BACKFILL_REHEARSAL_ADVICE_H */
