/*-------------------------------------------------------------------------
 *
 * report_text.h
 *	  What backfill_report says, as lines of text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_REPORT_TEXT_H
#define BACKFILL_REPORT_REPORT_TEXT_H

#include "lib/stringinfo.h"

#include "report/evaluation.h"

extern void report_text_append(StringInfo out, const Evaluation *e);

#endif							/* BACKFILL_REPORT_REPORT_TEXT_H */
