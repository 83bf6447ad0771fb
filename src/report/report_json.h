/*-------------------------------------------------------------------------
 *
 * report_json.h
 *	  What backfill_report says, as JSON.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_REPORT_JSON_H
#define BACKFILL_REPORT_REPORT_JSON_H

#include "lib/stringinfo.h"

#include "report/evaluation.h"

extern void report_json_append(StringInfo out, const Evaluation *e);

#endif							/* BACKFILL_REPORT_REPORT_JSON_H */
