/*-------------------------------------------------------------------------
 *
 * window.c
 *	  The hours in which other settings hold, or a run is closed.
 *
 * A window is a set of days, a stretch of the clock, and a time zone.  Whether
 * it matches is asked of the wall clock of its zone and of nothing else: the
 * date and the time that a clock on the wall shows at that instant.  So what
 * daylight saving does to the clock, it does to the window.  The hour that is
 * skipped is missing from it, and the hour that comes twice is in it twice.
 *
 *	from < to	the clock shows a time in [from, to), on one of the days
 *	from >= to	it shows from or later on one of the days, or a time before
 *				to on the day after one of them: 24 hours if both are the same
 *
 * Of several windows the first that matches is in force.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/formatting.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/limit.h"
#include "base/nearest.h"
#include "settings/window.h"

/* How far ahead the next change is looked for. */
#define HORIZON			(366 * USECS_PER_DAY)

static const char *const properties[] = {"days", "from", "to", "timezone",
"settings", "closed"};

/* As j2day() counts them. */
static const char *const weekdays[] = {"sun", "mon", "tue", "wed", "thu", "fri",
"sat"};

#define DAYS_OF_WEEK	lengthof(weekdays)
#define EVERY_DAY		((1 << DAYS_OF_WEEK) - 1)

/* ---- reading ---- */

/* Raise the error about the value; the hint may be NULL. */
compat_noreturn static void
bad_windows(const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for backfill setting \"windows\""),
			 errdetail_internal("%s", detail),
			 hint ? errhint("%s", hint) : 0));
}

/* "Perhaps you meant" the nearest of the words; if none is near, the text. */
static char *
nearest_hint(const char *word, const char *const *words, int n, const char *otherwise)
{
	const char *nearest = nearest_name(word, words, n);

	return nearest ? psprintf("Perhaps you meant \"%s\".", nearest) : pstrdup(otherwise);
}

/* The string that is the property's value. */
static char *
string_value(int number, const char *property, const JsonbValue *value)
{
	if (value->type != jbvString)
		bad_windows(psprintf("The property \"%s\" of window %d is not a string.",
							 property, number), NULL);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* Whether the text looks like the pattern, in which a 9 is any digit. */
static bool
looks_like(const char *text, const char *pattern)
{
	for (; *pattern != '\0'; pattern++, text++)
	{
		if (*pattern == '9' ? !isdigit((unsigned char) *text) : *text != *pattern)
			return false;
	}
	return *text == '\0';
}

/* What a type's input function makes of the text; false if it refuses it. */
static bool
read_input(PGFunction input, char *text, Datum *result)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool good = true;

	PG_TRY();
	{
		/* the last two count for types with modifiers only */
		*result = DirectFunctionCall3(input, CStringGetDatum(text),
									  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	PG_CATCH();
	{
		/* the error that names the window says more */
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		MemoryContextSwitchTo(context);
		good = false;
	}
	PG_END_TRY();
	return good;
}

/*
 * A time of the day.  The input of the type takes more than that, "now" and
 * zones that it forgets, so what it gets must look like a time.
 */
static TimeADT
time_value(int number, const char *property, const JsonbValue *value)
{
	char	   *text = string_value(number, property, value);
	Datum		result;

	if (!(looks_like(text, "99:99") || looks_like(text, "9:99") ||
		  looks_like(text, "99:99:99") || looks_like(text, "9:99:99")) ||
		!read_input(time_in, text, &result))
		bad_windows(psprintf("The property \"%s\" of window %d must be a time such as \"22:00\", not \"%s\".",
							 property, number, text), NULL);
	return DatumGetTimeADT(result);
}

/* A date as ISO 8601 writes it, which every DateStyle reads alike. */
static DateADT
date_value(int number, char *text)
{
	Datum		result;

	if (!looks_like(text, "9999-99-99") || !read_input(date_in, text, &result))
		bad_windows(psprintf("Window %d: \"%s\" is not a date.", number, text),
					"Write dates like \"2026-12-24\", and ranges of them like \"2026-12-20/2027-01-02\".");
	return DatumGetDateADT(result);
}

static int
weekday_value(int number, const char *text)
{
	for (int i = 0; i < DAYS_OF_WEEK; i++)
	{
		if (pg_strcasecmp(text, weekdays[i]) == 0)
			return i;
	}
	bad_windows(psprintf("Window %d: \"%s\" is not a day.", number, text),
				nearest_hint(text, weekdays, DAYS_OF_WEEK,
							 "Days are mon, tue, wed, thu, fri, sat and sun, ranges such as \"mon-fri\", dates such as \"2026-12-24\", and ranges of dates such as \"2026-12-20/2027-01-02\"."));
}

/* Cut blanks off both ends, in place. */
static char *
trim(char *text)
{
	char	   *end = text + strlen(text);

	while (end > text && isspace((unsigned char) end[-1]))
		end--;
	*end = '\0';
	while (isspace((unsigned char) *text))
		text++;
	return text;
}

/* Split in place at the separator; NULL if there is none. */
static char *
second_part(char *text, char separator)
{
	char	   *at = strchr(text, separator);

	if (at == NULL)
		return NULL;
	*at = '\0';
	return at + 1;
}

/* One day or one range of days. */
static void
add_days(Window *window, int number, char *text)
{
	char	   *last;

	if (isdigit((unsigned char) *text))
	{
		WindowDates *dates = palloc(sizeof(WindowDates));
		char	   *whole = pstrdup(text);

		last = second_part(text, '/');
		dates->first = date_value(number, trim(text));
		dates->last = last ? date_value(number, trim(last)) : dates->first;
		if (dates->last < dates->first)
			bad_windows(psprintf("Window %d: the range \"%s\" ends before it begins.",
								 number, whole), NULL);
		window->dates = lappend(window->dates, dates);
		limit_check_number(psprintf("dates in window %d of backfill setting \"windows\"", number),
						   list_length(window->dates), LIMIT_DATES);
	}
	else
	{
		int			day;
		int			end;

		last = second_part(text, '-');
		day = weekday_value(number, trim(text));
		end = last ? weekday_value(number, trim(last)) : day;
		window->weekdays |= 1 << day;
		while (day != end)
		{
			day = (day + 1) % DAYS_OF_WEEK;
			window->weekdays |= 1 << day;
		}
	}
}

/* Days and ranges of days, separated by commas. */
static void
add_day_list(Window *window, int number, const JsonbValue *value)
{
	char	   *text = string_value(number, "days", value);
	char	   *next;

	for (; text != NULL; text = next)
	{
		next = second_part(text, ',');
		add_days(window, number, trim(text));
	}
}

/* The property "days": such a list, or an array of them. */
static void
read_days(Window *window, int number, const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;
	bool		empty = true;

	window->weekdays = 0;
	if (value->type != jbvBinary)
	{
		add_day_list(window, number, value);
		return;
	}
	if (!JsonContainerIsArray(value->val.binary.data))
		bad_windows(psprintf("The property \"days\" of window %d is neither a string nor an array of strings.",
							 number), NULL);
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		add_day_list(window, number, &element);
		empty = false;
	}
	if (empty)
		bad_windows(psprintf("The property \"days\" of window %d is empty, so that it would never match.",
							 number), NULL);
}

/*
 * A hint for a name that is no time zone.  This reads the names of all zones,
 * which takes a moment.
 */
static char *
zone_hint(const char *name)
{
	pg_tzenum  *all = pg_tzenumerate_start();
	pg_tz	   *zone;
	int			n = 0;
	int			size = 1024;
	const char **names = palloc(size * sizeof(char *));
	const char **lower = palloc(size * sizeof(char *));
	const char *nearest;
	char	   *hint = pstrdup("The view pg_timezone_names lists the time zones.");

	while ((zone = pg_tzenumerate_next(all)) != NULL)
	{
		if (n == size)
		{
			size *= 2;
			names = repalloc(names, size * sizeof(char *));
			lower = repalloc(lower, size * sizeof(char *));
		}
		names[n] = pstrdup(pg_get_timezone_name(zone));
		lower[n] = asc_tolower(names[n], strlen(names[n]));
		n++;
	}
	pg_tzenumerate_end(all);

	/* nobody cares for capitals in the name of a zone */
	nearest = nearest_name(name, lower, n);
	for (int i = 0; nearest && i < n; i++)
	{
		if (lower[i] == nearest)
			hint = psprintf("Perhaps you meant \"%s\".", names[i]);
	}
	return hint;
}

/*
 * Whether the text may be the name of a zone.  A bare offset, and what follows the
 * rules of POSIX, is none: +02 lies west of Greenwich there, and there is no end
 * of such zones, each of which stays in the memory of whatever process has met it.
 * They have digits, which few names have.
 */
static bool
is_zone_name(const char *text)
{
	static const char *const patterns[] = {
		"etc/gmt9", "etc/gmt+9", "etc/gmt-9", "etc/gmt+99", "etc/gmt-99",
		"gmt0", "gmt+0", "gmt-0", "est5edt", "cst6cdt", "mst7mdt", "pst8pdt"
	};
	char	   *lower = asc_tolower(text, strlen(text));

	if (strpbrk(text, "0123456789") == NULL)
		return isalpha((unsigned char) *text);
	for (int i = 0; i < lengthof(patterns); i++)
	{
		if (looks_like(lower, patterns[i]))
			return true;
	}
	return false;
}

/* A time zone by its name. */
static pg_tz *
zone_value(int number, const JsonbValue *value)
{
	char	   *text = string_value(number, "timezone", value);
	pg_tz	   *zone = is_zone_name(text) ? pg_tzset(text) : NULL;

	if (zone == NULL || !pg_tz_acceptable(zone))
		bad_windows(psprintf("Window %d: \"%s\" is not the name of a time zone.",
							 number, text), zone_hint(text));
	return zone;
}

static bool
bool_value(int number, const char *property, const JsonbValue *value)
{
	bool		result = false;

	if (value->type == jbvBool)
		result = value->val.boolean;
	else if (value->type != jbvString ||
			 !parse_bool_with_len(value->val.string.val, value->val.string.len, &result))
		bad_windows(psprintf("The property \"%s\" of window %d is not true or false.",
							 property, number), NULL);
	return result;
}

static void
check_property(int number, const char *name)
{
	for (int i = 0; i < lengthof(properties); i++)
	{
		if (strcmp(name, properties[i]) == 0)
			return;
	}
	bad_windows(psprintf("Window %d has an unknown property \"%s\".", number, name),
				nearest_hint(name, properties, lengthof(properties),
							 "The properties are \"days\", \"from\", \"to\", \"timezone\", \"settings\" and \"closed\"."));
}

/* A property that was checked, and its value, which is not null. */
static void
read_property(Window *window, int number, const char *name, JsonbValue *value)
{
	if (strcmp(name, "days") == 0)
		read_days(window, number, value);
	else if (strcmp(name, "from") == 0)
	{
		window->from = time_value(number, name, value);
		if (window->from >= USECS_PER_DAY)
			bad_windows(psprintf("The property \"from\" of window %d must be before 24:00.",
								 number), NULL);
	}
	else if (strcmp(name, "to") == 0)
		window->to = time_value(number, name, value);
	else if (strcmp(name, "timezone") == 0)
		window->zone = zone_value(number, value);
	else if (strcmp(name, "closed") == 0)
		window->closed = bool_value(number, name, value);
	else
	{
		if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
			bad_windows(psprintf("The property \"settings\" of window %d is not an object.",
								 number), NULL);
		window->settings = JsonbValueToJsonb(value);
	}
}

/* One element of the array.  A property that is null is as if it were not there. */
static Window *
read_window(int number, const JsonbValue *element)
{
	Window	   *window = palloc0(sizeof(Window));
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;

	window->weekdays = EVERY_DAY;
	window->to = USECS_PER_DAY;
	/* the session's would be another one in each process */
	window->zone = log_timezone;
	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		bad_windows(psprintf("Window %d is not an object.", number), NULL);
	it = JsonbIteratorInit(element->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = pnstrdup(v.val.string.val, v.val.string.len);
			check_property(number, name);
		}
		else if (token == WJB_VALUE && v.type != jbvNull)
			read_property(window, number, name, &v);
	}
	if (window->closed && window->settings)
		bad_windows(psprintf("Window %d is closed and has settings: nothing is run for which they could hold.",
							 number), NULL);
	if (!window->closed && !window->settings)
		bad_windows(psprintf("Window %d is not closed and has no settings, so that it would change nothing.",
							 number),
					"Give it \"settings\", which may be empty, or \"closed\": true.");
	return window;
}

/*
 * The windows of the setting's value, in their order, in the current memory
 * context.  Raises an error that names the first one that is wrong.
 */
List *
window_parse(JsonbContainer *container)
{
	List	   *windows = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;

	if (!JsonContainerIsArray(container) || JsonContainerIsScalar(container))
		bad_windows("The value must be an array of objects.",
					"Write for example '[{\"days\": \"mon-fri\", \"from\": \"08:00\", \"to\": \"18:00\", \"closed\": true}]'.");
	limit_check_number("windows in backfill setting \"windows\"", JsonContainerSize(container),
					   LIMIT_WINDOWS);
	it = JsonbIteratorInit(container);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_ELEM)
			windows = lappend(windows, read_window(list_length(windows) + 1, &element));
	}
	return windows;
}

/* ---- matching ---- */

/* What a clock on the wall shows. */
typedef struct Clock
{
	DateADT		date;
	TimeADT		time;
} Clock;

static Clock
read_clock(pg_tz *zone, TimestampTz at)
{
	Clock		clock;
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;

	/* every finite timestamp can be read */
	if (timestamp2tm(at, &offset, &tm, &fsec, NULL, zone) != 0)
		elog(ERROR, "timestamp out of range");
	clock.date = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
	clock.time = ((tm.tm_hour * MINS_PER_HOUR + tm.tm_min) * SECS_PER_MINUTE +
				  tm.tm_sec) * USECS_PER_SEC + fsec;
	return clock;
}

static bool
is_day(const Window *window, DateADT date)
{
	ListCell   *lc;

	if (window->weekdays & 1 << j2day(date + POSTGRES_EPOCH_JDATE))
		return true;
	foreach(lc, window->dates)
	{
		const WindowDates *dates = lfirst(lc);

		if (date >= dates->first && date <= dates->last)
			return true;
	}
	return false;
}

static bool
matches(const Window *window, const Clock *clock)
{
	if (window->from < window->to)
		return clock->time >= window->from && clock->time < window->to &&
			is_day(window, clock->date);
	return (clock->time >= window->from && is_day(window, clock->date)) ||
		(clock->time < window->to && is_day(window, clock->date - 1));
}

/*
 * The first instant after "at" at which the answer for this window may differ:
 * its clock comes to "from", "to" or midnight, or is put forward or back.
 */
static TimestampTz
next_boundary(const Window *window, TimestampTz at, const Clock *clock)
{
	TimeADT		fraction = clock->time % USECS_PER_SEC;
	TimeADT		step = USECS_PER_DAY - clock->time;
	pg_time_t	seconds = timestamptz_to_time_t(at - fraction);
	pg_time_t	change;
	long		before;
	long		after;
	int			before_dst;
	int			after_dst;

	if (window->from > clock->time)
		step = Min(step, window->from - clock->time);
	if (window->to > clock->time)
		step = Min(step, window->to - clock->time);
	/* a change after midnight can wait, and may be past all timestamps */
	if (pg_next_dst_boundary(&seconds, &before, &before_dst, &change, &after,
							 &after_dst, window->zone) > 0 &&
		change - seconds <= SECS_PER_DAY)
		step = Min(step, (change - seconds) * USECS_PER_SEC - fraction);
	return at + step;
}

/*
 * An instant at or after "at" before which a window of dates alone, which does not
 * match, does not begin to; DT_NOEND when all of them are over.
 */
static TimestampTz
skip_to_dates(const Window *window, TimestampTz at, const Clock *clock)
{
	DateADT		first = DATEVAL_NOEND;
	ListCell   *lc;

	foreach(lc, window->dates)
	{
		const WindowDates *dates = lfirst(lc);

		/* what is after midnight belongs to the day before */
		if (dates->last >= clock->date - 1)
			first = Min(first, dates->first);
	}
	if (first == DATEVAL_NOEND)
		return DT_NOEND;

	/* days of the calendar may be longer or shorter, by hours */
	if (first > clock->date + 2)
		at += (int64) (first - clock->date - 2) * USECS_PER_DAY;
	return at;
}

/*
 * When the window, which matches "at" that instant or does not, ceases or
 * begins to.  DT_NOEND if that is not before "end".
 */
static TimestampTz
next_change(const Window *window, TimestampTz at, TimestampTz end)
{
	Clock		clock = read_clock(window->zone, at);
	bool		now = matches(window, &clock);

	/* every hour of every day */
	if (window->weekdays == EVERY_DAY &&
		(window->from == window->to || (window->from == 0 && window->to == USECS_PER_DAY)))
		return DT_NOEND;
	if (!now && window->weekdays == 0)
	{
		at = skip_to_dates(window, at, &clock);
		if (at >= end)
			return DT_NOEND;
		clock = read_clock(window->zone, at);
	}
	while ((at = next_boundary(window, at, &clock)) < end)
	{
		clock = read_clock(window->zone, at);
		if (matches(window, &clock) != now)
			return at;
	}
	return DT_NOEND;
}

/*
 * Which of the windows is in force at that instant, a finite one, and until
 * when.  That ends when the window ceases to match or one before it begins to;
 * those behind it do not matter.
 */
void
window_match(const List *windows, TimestampTz at, WindowMatch *match)
{
	/* there is little room behind the last of all timestamps */
	TimestampTz end = at < END_TIMESTAMP - HORIZON ? at + HORIZON + 1 : END_TIMESTAMP;
	ListCell   *lc;

	match->number = 0;
	match->window = NULL;
	match->until = DT_NOEND;
	foreach(lc, windows)
	{
		const Window *window = lfirst(lc);
		Clock		clock = read_clock(window->zone, at);
		TimestampTz change = next_change(window, at, end);

		/* of an instant that is not before the first one found, nobody asks */
		match->until = Min(match->until, change);
		end = Min(end, match->until);
		if (matches(window, &clock))
		{
			match->number = foreach_current_index(lc) + 1;
			match->window = window;
			return;
		}
	}
}
