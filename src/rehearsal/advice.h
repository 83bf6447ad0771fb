/*-------------------------------------------------------------------------
 *
 * advice.h
 *	  What may surprise somebody about a run that is yet to be started.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_ADVICE_H
#define BACKFILL_REHEARSAL_ADVICE_H

#include "lib/stringinfo.h"

#include "rehearsal/effects.h"
#include "rehearsal/estimate.h"
#include "rehearsal/frame.h"
#include "rehearsal/tally.h"

extern char *advice_elsewhere(Effects *changes, const TallyCount *count);
extern void advice_append(StringInfo out, Rehearsal *rehearsal, Effects *changes,
						  const Estimates *estimates);

#endif							/* BACKFILL_REHEARSAL_ADVICE_H */
