/*-------------------------------------------------------------------------
 *
 * lessons.h
 *	  What to change next time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_LESSONS_H
#define BACKFILL_REPORT_LESSONS_H

#include "report/evaluation.h"

extern void lessons_draw(Evaluation *e, Oid caller);

#endif							/* BACKFILL_REPORT_LESSONS_H */
