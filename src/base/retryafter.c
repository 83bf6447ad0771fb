/*-------------------------------------------------------------------------
 *
 * retryafter.c
 *	  When a server that refused a call wants to be asked again.
 *
 * HTTP has a header for it, "Retry-After", with a number of seconds or a date.  A
 * source of pages passes it on as the hint of the error that it raises, as it stood in
 * the answer.  What cannot be read is no error here: then it is as if it were not there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "base/retryafter.h"

#define HEADER	"Retry-After:"

/* Seconds, with or without a fraction. */
static bool
read_seconds(const char *text, int64 *ms)
{
	char	   *end;
	double		seconds;

	if (!isdigit((unsigned char) *text))
		return false;
	seconds = strtod(text, &end);
	while (isspace((unsigned char) *end))
		end++;
	if (*end != '\0')
		return false;
	*ms = (int64) Min(seconds * 1000, (double) RETRYAFTER_MOST_MS);
	return true;
}

/* The number of the month, from 1, or 0. */
static int
month_number(const char *name)
{
	for (int i = 0; i < MONTHS_PER_YEAR; i++)
	{
		if (pg_strcasecmp(name, months[i]) == 0)
			return i + 1;
	}
	return 0;
}

/* A date as HTTP writes them: "Sun, 06 Nov 1994 08:49:37 GMT". */
static bool
read_date(const char *text, TimestampTz *at)
{
	struct pg_tm tm = {0};
	char		month[4];
	int			length = 0;
	int			utc = 0;		/* as an offset in seconds */

	if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &tm.tm_mday, month,
			   &tm.tm_year, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &length) != 6 || length == 0)
		return false;
	tm.tm_mon = month_number(month);
	if (tm.tm_mon == 0 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0 || tm.tm_hour > 23 ||
		tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
		return false;
	return tm2timestamp(&tm, 0, &utc, at) == 0;
}

/*
 * Whether the hint of an error, which may be NULL, says when to come back; *until is when, now
 * if it has passed, and a day from now at most.
 */
bool
retryafter_read(const char *hint, TimestampTz now, TimestampTz *until)
{
	TimestampTz latest = TimestampTzPlusMilliseconds(now, RETRYAFTER_MOST_MS);
	int64		ms;

	if (hint == NULL || pg_strncasecmp(hint, HEADER, strlen(HEADER)) != 0)
		return false;
	hint += strlen(HEADER);
	while (isspace((unsigned char) *hint))
		hint++;
	if (read_seconds(hint, &ms))
		*until = TimestampTzPlusMilliseconds(now, ms);
	else if (!read_date(hint, until))
		return false;
	*until = Max(Min(*until, latest), now);
	return true;
}
