/*-------------------------------------------------------------------------
 *
 * span.h
 *	  The span of time that a run, or a stream, has to look at.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_SPAN_H
#define BACKFILL_STORE_SPAN_H

#include "datatype/timestamp.h"

#include "store/definition.h"
#include "store/run.h"
#include "store/store.h"

extern void span_open_run(StoreSession *session, const RunInfo *run, TimestampTz initial,
						  int64 lookback, TimestampTz until, TimestampTz *now_since,
						  TimestampTz *now_until);
extern void span_open_stream(StoreSession *session, const RunInfo *run, int64 id,
							 TimestampTz initial, int64 lookback, TimestampTz until,
							 TimestampTz *now_since, TimestampTz *now_until);
extern TimestampTz span_last_of_stream(StoreSession *session, const DefinitionInfo *def,
									   Oid target, const char *stream);

#endif							/* BACKFILL_STORE_SPAN_H */
