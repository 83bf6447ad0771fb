/*-------------------------------------------------------------------------
 *
 * log.c
 *	  What the program says on its standard error: a line each.
 *
 * Whatever comes from outside, such as the name of a role, is made harmless
 * here: a byte that is no printable ASCII is written as \xNN, so that nobody can
 * forge a line or talk to a terminal.  Passwords, cookies and tokens are never
 * given to these functions.  There is no time in a line: systemd adds one.
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"

#define LOG_LONGEST 1000

static void __attribute__((format(printf, 1, 0)))
say(const char *format, va_list args)
{
	char		line[LOG_LONGEST];

	vsnprintf(line, sizeof(line), format, args);
	fputs("backfill-console: ", stderr);
	for (const unsigned char *c = (const unsigned char *) line; *c; c++)
	{
		if (*c >= ' ' && *c < 127)
			fputc(*c, stderr);
		else
			fprintf(stderr, "\\x%02x", *c);
	}
	fputc('\n', stderr);
}

/* Says something and goes on. */
void
log_note(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	say(format, args);
	va_end(args);
}

/* Says something and ends the program with the exit code 1. */
void
log_die(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	exit(1);
}
