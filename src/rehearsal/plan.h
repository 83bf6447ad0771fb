/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  One execution of the statement that is looked at closely, and plans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_PLAN_H
#define BACKFILL_REHEARSAL_PLAN_H

#include "nodes/pg_list.h"

#include "walk/statement.h"

/* A table that is read sequentially. */
typedef struct PlanScan
{
	Oid			relid;			/* a partition, where it is one */
	double		times;			/* as it ran; once in a plan that did not */
} PlanScan;

/* What the plans of a statement tell; of partitions, what pruning has left. */
typedef struct PlanFacts
{
	char	   *text;			/* as EXPLAIN has it, but no longer than fits a screen or two */
	List	   *scans;			/* PlanScan */
	List	   *relids;			/* of the tables that are looked into, each once */
	bool		is_compiled;	/* by JIT */
	double		cost;			/* the planner's, of the dearest */
} PlanFacts;

extern PlanFacts *plan_explain(Statement *statement, ParamListInfo params, int lines);
extern List *plan_execute(Statement *statement, ParamListInfo params, int lines,
						  PlanFacts **facts);

#endif							/* BACKFILL_REHEARSAL_PLAN_H */
