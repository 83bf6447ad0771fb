/*-------------------------------------------------------------------------
 *
 * retryafter.h
 *	  When a server that refused a call wants to be asked again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_RETRYAFTER_H
#define BACKFILL_BASE_RETRYAFTER_H

#include "datatype/timestamp.h"

/* Nobody is waited for longer than that, in milliseconds: a day. */
#define RETRYAFTER_MOST_MS	INT64CONST(86400000)

extern bool retryafter_read(const char *hint, TimestampTz now, TimestampTz *until);

#endif							/* BACKFILL_BASE_RETRYAFTER_H */
