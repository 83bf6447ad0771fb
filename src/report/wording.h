/*-------------------------------------------------------------------------
 *
 * wording.h
 *	  How times and numbers are written in a report.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REPORT_WORDING_H
#define BACKFILL_REPORT_WORDING_H

#include "datatype/timestamp.h"

extern char *wording_time(double seconds);
extern char *wording_date(TimestampTz time);
extern char *wording_number(double number);

#endif							/* BACKFILL_REPORT_WORDING_H */
