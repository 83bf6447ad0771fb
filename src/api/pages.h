/*-------------------------------------------------------------------------
 *
 * pages.h
 *	  Pages of a source that clients bring.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_PAGES_H
#define BACKFILL_API_PAGES_H

#include "store/lease.h"
#include "store/pagelease.h"

/* Why there is no page, and when to ask again. */
typedef struct PagesRefusal
{
	const char *reason;
	int64		ms;
} PagesRefusal;

extern bool pages_claim(const LeaseRun *run, LeaseClaim *lease, PageWanted *wanted,
						PagesRefusal *refusal);
extern bool pages_extend(int64 run_id, int64 number, const LeaseToken *token, Oid role,
						 Interval *length, TimestampTz *until);
extern bool pages_fail(int64 run_id, int64 number, const LeaseToken *token, Oid role,
					   const LeaseReport *report, Interval *retry_after);
extern bool pages_is_page(int64 run_id, int64 number, const LeaseToken *token);

#endif							/* BACKFILL_API_PAGES_H */
