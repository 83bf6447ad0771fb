/*-------------------------------------------------------------------------
 *
 * duration.c
 *	  Durations in milliseconds, read and written.
 *
 * They are read by the server's own input of intervals, whatever it accepts.
 * A month has thirty days, as everywhere in the server where it must have a
 * length.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "duration.h"

/*
 * The milliseconds of an interval.  Returns false when the text is none.  A
 * bare number would be seconds to an interval and milliseconds to a timeout
 * parameter, and is refused.
 */
bool
duration_parse(const char *text, double *ms)
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
		((double) interval->month * DAYS_PER_MONTH + interval->day) * DURATION_MS_PER_DAY;
	return true;
}

/* A duration as the documentation writes it: the largest unit that fits. */
char *
duration_text(int64 ms)
{
	static const struct
	{
		int64		ms;
		const char *unit;
	}			units[] = {
		{DURATION_MS_PER_DAY, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}
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
