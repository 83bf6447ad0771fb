/*-------------------------------------------------------------------------
 *
 * count.h
 *	  The batches of a run, counted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_COUNT_H
#define BACKFILL_REPORT_COUNT_H

#include "report/evaluation.h"

extern const double count_percentiles[EVALUATION_PERCENTILES];

extern void count_prepare(Evaluation *e);
extern void count_batches(StoreSession *session, Evaluation *e);

#endif							/* BACKFILL_REPORT_COUNT_H */
