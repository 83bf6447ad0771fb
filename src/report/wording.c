/*-------------------------------------------------------------------------
 *
 * wording.c
 *	  How times and numbers are written in a report.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "rehearsal/words.h"
#include "report/wording.h"

/* Batches take less than a second, runs much more. */
char *
wording_time(double seconds)
{
	if (seconds <= 0)
		return pstrdup("0");
	if (seconds < 0.1)
		return psprintf("%.1f ms", seconds * 1000);
	if (seconds < 1)
		return psprintf("%.0f ms", seconds * 1000);
	return words_elapsed(seconds);
}

/* A time in the zone of the session, to the second. */
char *
wording_date(TimestampTz time)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out,
											   TimestampTzGetDatum(time - time % USECS_PER_SEC)));
}

/* A bound of a bucket, a round number: short. */
char *
wording_number(double number)
{
	if (number >= 1e6)
		return psprintf("%g M", number / 1e6);
	return psprintf("%.0f", number);
}
