/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  The time that has passed: the only clock of the program.
 *
 * Every interval, from the second between two polls to the hours of a session,
 * is measured by clock_now().  A test may let this clock run faster than the
 * one on the wall, and see an hour in a minute.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <time.h>

#include "clock.h"

#define CLOCK_FASTEST 1000

static int64_t rate = 1;

/* Reads the rate that a test has given. */
void
clock_init(void)
{
	const char *given = getenv("BACKFILL_CONSOLE_CLOCK");
	long		value = given ? strtol(given, NULL, 10) : 1;

	rate = value < 1 ? 1 : value > CLOCK_FASTEST ? CLOCK_FASTEST : value;
}

/* Milliseconds since some moment in the past; never goes back. */
int64_t
clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec * (int64_t) 1000000 + now.tv_nsec / 1000) * rate / 1000;
}

/* Milliseconds on the wall in which so many pass here, rounded up. */
int64_t
clock_real(int64_t ms)
{
	return (ms + rate - 1) / rate;
}
