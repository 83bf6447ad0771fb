/*-------------------------------------------------------------------------
 *
 * slow.h
 *	  Why a batch took long.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_SLOW_H
#define BACKFILL_REPORT_SLOW_H

#include "report/evaluation.h"

extern char *slow_reason(const SlowBatch *slow, const BatchTotals *all);

#endif							/* BACKFILL_REPORT_SLOW_H */
