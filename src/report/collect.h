/*-------------------------------------------------------------------------
 *
 * collect.h
 *	  Everything that a report has to say, collected.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_COLLECT_H
#define BACKFILL_REPORT_COLLECT_H

#include "report/evaluation.h"

extern Evaluation *collect_evaluation(int64 run_id, Oid caller);

#endif							/* BACKFILL_REPORT_COLLECT_H */
