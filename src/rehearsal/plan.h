/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  One execution of the statement that is looked at closely, and plans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_PLAN_H
#define BACKFILL_REHEARSAL_PLAN_H

#include "lib/stringinfo.h"

#include "walk/statement.h"

extern void plan_explain(Statement *statement, ParamListInfo params, StringInfo out,
						 List **scanned);
extern List *plan_execute(Statement *statement, ParamListInfo params, StringInfo out);

#endif							/* BACKFILL_REHEARSAL_PLAN_H */
