/*-------------------------------------------------------------------------
 *
 * measure.h
 *	  Real batches, run, measured and rolled back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_MEASURE_H
#define BACKFILL_REHEARSAL_MEASURE_H

#include "utils/array.h"

#include "rehearsal/frame.h"
#include "rehearsal/plan.h"

/* A plan as it ran is shown in so many lines. */
#define MEASURE_PLAN_LINES	60

/* What some batches have cost, all together unless it says otherwise. */
typedef struct Measurement
{
	int			batches;
	int64		size;			/* rows that they were to have */
	bool		is_spread;		/* across the whole range of the key */
	double		rows;			/* in their ranges */
	double		in_scope;		/* 0 without a scope */
	double		affected;
	List	   *elsewhere;		/* TallyCount: written by others than the statement */
	double		statement_ms;
	double		planning_ms;	/* of that, for making plans */
	double		longest_ms;		/* of one */
	double		fixed_ms;		/* that a batch takes whatever its size */
	bool		knows_fixed;	/* so many were compared that it is more than noise */
	double		search_ms;		/* for the ends of the ranges */
	double		wal_bytes;
	double		hit;			/* blocks found in the buffers, */
	double		read;			/* read, */
	double		dirtied;		/* made dirty */
	double		written;		/* and written to make room */
	double		updated;		/* rows of the target, of a sample, */
	double		hot;			/* and how many of them without index entries */
	double		table_growth;	/* of the tables it writes, with TOAST, in bytes */
	double		index_growth;	/* of their indexes */
	List	   *locks;			/* HeldLock, the strongest on each table */
	PlanFacts  *plan;			/* of one batch, as it ran; NULL if none was without an error */

	/* with on_error "skip" */
	int			failed;			/* batches that met an error, parts of them included */
	int			bad_rows;		/* that were found to be the reason */
	char	   *error;			/* the first */
	ArrayType  *bad_key;		/* the first, as texts, or NULL */
} Measurement;

extern Measurement *measure_batches(Rehearsal *rehearsal, List *locks_before);

#endif							/* BACKFILL_REHEARSAL_MEASURE_H */
