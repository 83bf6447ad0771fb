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
