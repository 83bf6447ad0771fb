/*-------------------------------------------------------------------------
 *
 * tally.h
 *	  How many rows are written into which table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_TALLY_H
#define BACKFILL_REHEARSAL_TALLY_H

#include "nodes/execnodes.h"
#include "nodes/nodes.h"
#include "nodes/pg_list.h"

/* Rows that are written into one table in one way. */
typedef struct TallyCount
{
	CmdType		operation;
	Oid			relid;			/* of partitions, the table that the query names */
	double		rows;
	SubTransactionId subid;		/* in which it was done; tally.c's own */
} TallyCount;

typedef void (*TallyFunction) (void *arg);

extern List *tally_plan(PlanState *plan, List *counts);
extern List *tally_elsewhere(const char *text, TallyFunction function, void *arg,
							 List *counts);

#endif							/* BACKFILL_REHEARSAL_TALLY_H */
