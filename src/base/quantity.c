/*-------------------------------------------------------------------------
 *
 * quantity.c
 *	  Quantities that users write: durations, bytes, rates.
 *
 * Durations are read by the server's own input of intervals, whatever it accepts;
 * a month has thirty days, as everywhere in the server where it must have a
 * length.  Bytes are read as pg_size_bytes reads them.  A rate is so many rows, or
 * bytes, in a window of time: "3000 per 5 min".
 *
 * What cannot be read is no error here: the caller's says more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/quantity.h"

/* ---- durations ---- */

/*
 * The milliseconds of an interval.  Returns false when the text is none.  A
 * bare number would be seconds to an interval and milliseconds to a timeout
 * parameter, and is refused.
 */
bool
quantity_parse_duration(const char *text, double *ms)
{
	Interval   *volatile interval = NULL;
	MemoryContext context = CurrentMemoryContext;

	if (strspn(text, "0123456789.+- ") == strlen(text))
		return false;
	PG_TRY();
	{
		interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
														 CStringGetDatum(text),
														 ObjectIdGetDatum(InvalidOid),
														 Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		/* the caller's error says more */
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
	if (interval == NULL)
		return false;
	*ms = (double) interval->time / 1000.0 +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * QUANTITY_MS_PER_DAY;
	return true;
}

/* A duration as the documentation writes it: the largest unit that fits. */
char *
quantity_duration_text(int64 ms)
{
	static const struct
	{
		int64		ms;
		const char *unit;
	}			units[] = {
		{QUANTITY_MS_PER_DAY, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}
	};

	if (ms == 0)
		return pstrdup("0");
	for (int i = 0; i < lengthof(units); i++)
	{
		if (ms % units[i].ms == 0)
			return psprintf(INT64_FORMAT "%s", ms / units[i].ms, units[i].unit);
	}
	return psprintf(INT64_FORMAT "ms", ms);
}

/* ---- bytes and rates ---- */

#define WINDOW_MIN_MS		100
#define WINDOW_MAX_MS		(31 * QUANTITY_MS_PER_DAY)

/* The number of bytes, as pg_size_bytes reads it; -1 if it is none. */
int64
quantity_parse_bytes(const char *text)
{
	volatile int64 result = -1;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		result = DatumGetInt64(DirectFunctionCall1(pg_size_bytes,
												   CStringGetTextDatum(text)));
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
	return result;
}

static int64
parse_rows(const char *text)
{
	char	   *end;
	int64		result;

	errno = 0;
	result = strtoll(text, &end, 10);
	while (isspace((unsigned char) *end))
		end++;
	return errno != 0 || end == text || *end != '\0' ? -1 : result;
}

/*
 * Read "3000 per 5 min", "200 per second", "20MB/s", "200".  Returns false when the
 * text is no such thing, or out of range.  Needs no transaction.
 */
bool
quantity_parse_rate(const char *text, bool bytes, RateLimit *limit)
{
	const char *per = strstr(text, " per ");
	const char *window = per ? per + 5 : NULL;
	char	   *amount;
	double		ms;

	/* a number alone is so many per second */
	if (per == NULL && text[0] != '\0' && strspn(text, "0123456789") == strlen(text))
		return quantity_parse_rate(psprintf("%s/s", text), bytes, limit);
	if (per == NULL)
	{
		per = strchr(text, '/');
		if (per == NULL)
			return false;
		window = per + 1;
	}
	while (isspace((unsigned char) *window))
		window++;
	amount = pnstrdup(text, per - text);
	limit->amount = bytes ? quantity_parse_bytes(amount) : parse_rows(amount);

	/* "per second" is per one second */
	if (!quantity_parse_duration(isalpha((unsigned char) *window) ? psprintf("1 %s", window) : window, &ms))
		return false;
	if (limit->amount <= 0 || ms < WINDOW_MIN_MS || ms > WINDOW_MAX_MS)
		return false;
	limit->window = (int64) (ms + 0.5);
	return true;
}

/* So many bytes as a text for users. */
char *
quantity_bytes_text(int64 bytes)
{
	return TextDatumGetCString(DirectFunctionCall1(pg_size_pretty, Int64GetDatum(bytes)));
}

/* The limit as a text for users. */
char *
quantity_rate_text(const RateLimit *limit, bool bytes)
{
	if (bytes)
		return psprintf("%s per %s",
						quantity_bytes_text(limit->amount), quantity_duration_text(limit->window));
	return psprintf(INT64_FORMAT " rows per %s", limit->amount, quantity_duration_text(limit->window));
}
