/*-------------------------------------------------------------------------
 *
 * find.h
 *	  The run that somebody means, by its id or by its name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_FIND_H
#define BACKFILL_RUN_FIND_H

#include "fmgr.h"

#include "store/run.h"
#include "store/store.h"

/* How a run is named: by the name of its definition, or, without one, by its id. */
typedef struct FindKey
{
	const char *name;			/* or NULL */
	int64		id;
} FindKey;

/* What the run is looked for. */
typedef enum FindPurpose
{
	FIND_TO_CONTROL,
	FIND_TO_RESUME,				/* the same, but rather one that is held */
	FIND_TO_WATCH				/* who may see it may have it, too */
} FindPurpose;

extern FindKey find_key_arg(FunctionCallInfo fcinfo);
extern int64 find_id(StoreSession *session, const FindKey *key, FindPurpose purpose,
					 Oid caller);
extern RunInfo *find_run(StoreSession *session, const FindKey *key, FindPurpose purpose,
						 Oid caller, bool for_update);

#endif							/* BACKFILL_RUN_FIND_H */
