/*-------------------------------------------------------------------------
 *
 * rowerror.h
 *	  Errors that may be those of one row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_ROWERROR_H
#define BACKFILL_BASE_ROWERROR_H

#include "utils/elog.h"

extern bool rowerror_is_possible(const ErrorData *error);
extern bool rowerror_is_retryable(const ErrorData *error);
extern int64 rowerror_retry_delay(int64 first, int tries, int64 most);

#endif							/* BACKFILL_BASE_ROWERROR_H */
