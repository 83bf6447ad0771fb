/*-------------------------------------------------------------------------
 *
 * share.h
 *	  The rows of the values of share_by.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_SHARE_H
#define BACKFILL_STORE_SHARE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#include "store/store.h"

/* A value, which is a walk of its own. */
typedef struct ShareInfo
{
	int			id;
	char	   *value;
	ArrayType  *start_key;
	ArrayType  *end_key;
	ArrayType  *last_key;		/* where its last batch ends; NULL if there is none */
	int64		rows;			/* in scope, in its batches */
} ShareInfo;

/* What the batches of a value have used of its limit. */
typedef struct ShareUsage
{
	int			id;
	int64		rows;
} ShareUsage;

extern ShareInfo *share_last(StoreSession *session, int64 run_id);
extern void share_insert(StoreSession *session, int64 run_id, const ShareInfo *share);
extern List *share_load(StoreSession *session, int64 run_id);
extern bool share_advance(StoreSession *session, int64 run_id, const ShareInfo *share,
						  ArrayType *last_key, int64 rows);
extern bool share_is_left(StoreSession *session, int64 run_id);
extern List *share_usage(StoreSession *session, int64 run_id, TimestampTz since, int64 *from);
extern void share_delete(int64 run_id);

#endif							/* BACKFILL_STORE_SHARE_H */
