/*-------------------------------------------------------------------------
 *
 * pagelease.h
 *	  The pages of sources that clients are to bring.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_PAGELEASE_H
#define BACKFILL_STORE_PAGELEASE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "store/lease.h"
#include "store/run.h"
#include "store/store.h"

/* A page that a client may bring. */
typedef struct PageWanted
{
	int64		walk_id;		/* of the stream, or the run */
	char	   *stream;			/* its name, or NULL */
	int64		number;
	Jsonb	   *token;			/* of the source; NULL for the first page */
} PageWanted;

/* A page that a client has in its hands. */
typedef struct PageHeld
{
	int64		walk_id;
	int64		number;
	int			tries;
	Jsonb	   *token;			/* of the source */
} PageHeld;

extern bool pagelease_find(StoreSession *session, int64 run_id, int64 prefetch,
						   PageWanted *wanted);
extern TimestampTz pagelease_due(StoreSession *session, int64 run_id);
extern bool pagelease_number(StoreSession *session, int64 run_id, const LeaseToken *token,
							 int64 *number, char **stream);
extern bool pagelease_hold(StoreSession *session, int64 run_id, int64 number,
						   const LeaseToken *token, Oid role, PageHeld *held);
extern bool pagelease_is_page(StoreSession *session, int64 run_id, int64 number,
							  const LeaseToken *token, int64 *walk_id);
extern void pagelease_report(StoreSession *session, const PageHeld *held, TimestampTz retry_at,
							 bool counts, const LeaseReport *report);
extern int64 pagelease_lapse(StoreSession *session, const RunInfo *run, bool all);

#endif							/* BACKFILL_STORE_PAGELEASE_H */
