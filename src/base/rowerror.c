/*-------------------------------------------------------------------------
 *
 * rowerror.c
 *	  Errors that may be those of one row.
 *
 * With on_error "skip" a row whose error is its own is left out.  A worker asks
 * here whether an error may be that, and so does a rehearsal, which is to skip
 * what a run would skip.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "base/rowerror.h"

/* Whether the error may be that of one row. */
bool
rowerror_is_possible(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION &&
		category != ERRCODE_INTERNAL_ERROR &&
		category != ERRCODE_INSUFFICIENT_RESOURCES &&
		(category != ERRCODE_OPERATOR_INTERVENTION ||
		 error->sqlerrcode == ERRCODE_QUERY_CANCELED);
}

/* Whether the error may go away by itself. */
bool
rowerror_is_retryable(const ErrorData *error)
{
	switch (error->sqlerrcode)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_QUERY_CANCELED:
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_CANNOT_CONNECT_NOW:
		case ERRCODE_DATABASE_DROPPED:
		case ERRCODE_IDLE_SESSION_TIMEOUT:
			return true;
		default:
			return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES;
	}
}

/*
 * Milliseconds to wait after so many tries: the first time at most, twice as long each time,
 * up to the last; with up to a quarter off, so that not all come at once.
 */
int64
rowerror_retry_delay(int64 first, int tries, int64 most)
{
	double		delay = first;

	for (int i = 1; i < tries && delay < most; i++)
		delay *= 2;
	delay = Min(delay, most);
	return (int64) (delay * (1.0 - pg_prng_double(&pg_global_prng_state) / 4));
}
