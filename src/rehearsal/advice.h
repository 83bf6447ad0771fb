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

#include "rehearsal/frame.h"

/* What the planner and the plans have said. */
typedef struct Estimates
{
	double		rows_table;
	double		rows_in_scope;
	double		batches;
	List	   *scanned;		/* OIDs of tables that a batch reads in full */
} Estimates;

extern void advice_append(StringInfo out, Rehearsal *rehearsal,
						  const Estimates *estimates);

#endif							/* BACKFILL_REHEARSAL_ADVICE_H */
