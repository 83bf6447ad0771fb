/*-------------------------------------------------------------------------
 *
 * facts.h
 *	  What backfill_explain has to say, before it is written down.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_FACTS_H
#define BACKFILL_REHEARSAL_FACTS_H

#include "nodes/nodes.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#include "rehearsal/costs.h"
#include "rehearsal/estimate.h"
#include "rehearsal/frame.h"
#include "rehearsal/measure.h"
#include "rehearsal/plan.h"
#include "rehearsal/keykind.h"
#include "rehearsal/project.h"

/* A parameter of the run that the statement uses. */
typedef struct UsedParameter
{
	int			number;			/* it stands as $number */
	char	   *name;			/* with params. or run. */
} UsedParameter;

/* Rows of a table that are written by others than the statement. */
typedef struct AlsoChanged
{
	Oid			relid;
	CmdType		operation;
	double		rows;			/* in the batches that were measured, */
	double		projected;		/* and in the whole run */
	char	   *cause;
	char	   *text;			/* all but the last number, for people */
} AlsoChanged;

/* All of it, in the memory of the rehearsal. */
typedef struct Facts
{
	Rehearsal  *rehearsal;
	Estimates	estimates;
	KeyKind		kind;
	ArrayType  *from;			/* as texts; NULL if there is no row */
	ArrayType  *to;
	List	   *statements;		/* char *, deparsed */
	List	   *parameters;		/* UsedParameter */
	PlanFacts  *plan;			/* of a batch, */
	bool		plan_ran;		/* as it ran */
	PlanFacts  *search;			/* for the end of the next */
	Pruning		pruning;
	List	   *warnings;		/* Warning */

	/* without measure these are NULL and NIL */
	Measurement *m;
	Projection *projection;		/* NULL, too, if no batch was without an error */
	List	   *also;			/* AlsoChanged */
} Facts;

extern Facts *facts_collect(Rehearsal *rehearsal, bool measure, List *locks_before);

#endif							/* BACKFILL_REHEARSAL_FACTS_H */
