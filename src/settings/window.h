/*-------------------------------------------------------------------------
 *
 * window.h
 *	  The hours in which other settings hold, or a run is closed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SETTINGS_WINDOW_H
#define BACKFILL_SETTINGS_WINDOW_H

#include "nodes/pg_list.h"
#include "pgtime.h"
#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* Days of the calendar, both ends included. */
typedef struct WindowDates
{
	DateADT		first;
	DateADT		last;
} WindowDates;

/* A window matches by the wall clock of its zone; see window.c. */
typedef struct Window
{
	int			weekdays;		/* a bit for each, Sunday is the lowest */
	List	   *dates;			/* WindowDates *, beside the weekdays */
	TimeADT		from;			/* microseconds since midnight */
	TimeADT		to;				/* likewise, exclusive */
	pg_tz	   *zone;
	bool		closed;
	Jsonb	   *settings;		/* NULL for none; not checked here */
} Window;

/* Which window is in force, and how long. */
typedef struct WindowMatch
{
	int			number;			/* of the window, from 1; 0 when none matches */
	const Window *window;		/* NULL when none matches */
	TimestampTz until;			/* when another window, or none, comes into
								 * force; DT_NOEND if not in the next 366 days */
} WindowMatch;

extern List *window_parse(JsonbContainer *container);
extern void window_match(const List *windows, TimestampTz at, WindowMatch *match);

#endif							/* BACKFILL_SETTINGS_WINDOW_H */
