/*-------------------------------------------------------------------------
 *
 * duration.h
 *	  Durations in milliseconds, read and written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DURATION_H
#define BACKFILL_DURATION_H

#define DURATION_MS_PER_DAY		INT64CONST(86400000)

extern bool duration_parse(const char *text, double *ms);
extern char *duration_text(int64 ms);

#endif							/* BACKFILL_DURATION_H */
