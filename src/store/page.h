/*-------------------------------------------------------------------------
 *
 * page.h
 *	  The pages of sources, and the rows of their batches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_PAGE_H
#define BACKFILL_STORE_PAGE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "store/batch.h"
#include "store/definition.h"
#include "store/store.h"

/* A page, or a part of one, that may not have ended. */
typedef struct PageInfo
{
	int64		number;
	int			part;
	bool		is_fetched;
	bool		is_pending;
	bool		is_running;		/* neither: it failed or was stopped */
	int			crashes;
	TimestampTz retry_at;		/* DT_NOBEGIN if null */
	char	   *error;			/* NULL for none */
	bool		is_reported;	/* a client has failed with it for good */
	char	   *sqlstate;		/* of that, or NULL */
} PageInfo;

/* The page that was asked for last. */
typedef struct PageEnd
{
	int64		number;			/* 0 if there is none */
	bool		is_fetched;
	Jsonb	   *next_token;
} PageEnd;

extern void page_set_source(StoreSession *session, int64 run_id, const SourceInfo *source);
extern List *page_open(StoreSession *session, int64 run_id);
extern void page_end(StoreSession *session, int64 run_id, PageEnd *end);
extern bool page_has_ended(StoreSession *session, int64 run_id);
extern BatchInfo *page_take(StoreSession *session, int64 run_id, int64 number, int part,
							int64 token, int worker);
extern void page_ask(StoreSession *session, int64 run_id, const BatchInfo *batch, int64 token,
					 int worker);
extern void page_want(StoreSession *session, int64 run_id, int64 number, Jsonb *source_token);
extern bool page_note_call(StoreSession *session, int64 run_id, const BatchInfo *batch,
						   int64 token);
extern bool page_put(StoreSession *session, int64 run_id, const BatchInfo *batch, int64 token,
					 Jsonb *records, int64 n, Jsonb *next_token);
extern Jsonb *page_records(StoreSession *session, int64 run_id, int64 number, int64 after,
						   int64 to);
extern void page_close(StoreSession *session, int64 run_id, int64 number);
extern void page_delete(int64 run_id);

#endif							/* BACKFILL_STORE_PAGE_H */
