/*-------------------------------------------------------------------------
 *
 * limit.c
 *	  How much a user may give.
 *
 * What anybody may define is read by processes that work for everybody: what is
 * given has a limit that nobody meets who means well, and an error that names it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/limit.h"

/* Raises an error if what is given has more bytes than that. */
void
limit_check_bytes(const char *what, Size bytes, Size most)
{
	if (bytes <= most)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("%s is too long", what),
			 errdetail("It has %zu bytes; the limit is %zu.", bytes, most)));
}

/* Raises an error if there are more of them than that. */
void
limit_check_number(const char *what, int64 number, int64 most)
{
	if (number <= most)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("too many %s", what),
			 errdetail("There are " INT64_FORMAT "; the limit is " INT64_FORMAT ".",
					   number, most)));
}
