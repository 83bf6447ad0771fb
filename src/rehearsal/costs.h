/*-------------------------------------------------------------------------
 *
 * costs.h
 *	  What the plans and the measured batches tell of a run, as warnings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_COSTS_H
#define BACKFILL_REHEARSAL_COSTS_H

#include "nodes/pg_list.h"

#include "rehearsal/estimate.h"
#include "rehearsal/frame.h"
#include "rehearsal/measure.h"
#include "rehearsal/plan.h"

/* What is left of the target's partitions for one batch. */
typedef struct Pruning
{
	int			partitions;		/* with rows in them: leaves; 0 if there are none */
	int			left;
} Pruning;

extern Pruning costs_pruning(Rehearsal *rehearsal, const PlanFacts *plan);
extern void costs_advise(List **warnings, Rehearsal *rehearsal, const Estimates *estimates,
						 const PlanFacts *plan, const Measurement *m);

#endif							/* BACKFILL_REHEARSAL_COSTS_H */
