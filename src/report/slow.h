/*-------------------------------------------------------------------------
 *
 * slow.h
 *	  Why a batch took long.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_SLOW_H
#define BACKFILL_REPORT_SLOW_H

#include "store/figures.h"

extern char *slow_reason(const FiguresBatch *batch, const FiguresBatches *all);

#endif							/* BACKFILL_REPORT_SLOW_H */
