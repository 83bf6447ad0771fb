/*-------------------------------------------------------------------------
 *
 * trial.h
 *	  One execution of the statement that is looked at closely, and plans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_TRIAL_H
#define BACKFILL_TRIAL_H

#include "lib/stringinfo.h"

#include "statement.h"

/* Rows that one part of a statement writes into one table. */
typedef struct TrialCount
{
	CmdType		operation;
	Oid			relid;
	double		rows;
} TrialCount;

extern void trial_explain(Statement *statement, ParamListInfo params, StringInfo out,
						  List **scanned);
extern List *trial_run(Statement *statement, ParamListInfo params, StringInfo out);

#endif							/* BACKFILL_TRIAL_H */
