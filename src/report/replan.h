/*-------------------------------------------------------------------------
 *
 * replan.h
 *	  What the plan of a batch tells of a run that was slow.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_REPLAN_H
#define BACKFILL_REPORT_REPLAN_H

#include "report/evaluation.h"

extern void replan_learn(Evaluation *e, Oid caller);

#endif							/* BACKFILL_REPORT_REPLAN_H */
