/*-------------------------------------------------------------------------
 *
 * frame.h
 *	  The frame in which a definition is tried out, and undone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_FRAME_H
#define BACKFILL_REHEARSAL_FRAME_H

#include "datatype/timestamp.h"

#include "settings/parameters.h"
#include "settings/setting.h"
#include "store/definition.h"
#include "store/stream.h"
#include "walk/bounds.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* A definition, prepared as a worker does.  Gone after the rehearsal. */
typedef struct Rehearsal
{
	MemoryContext caller;		/* what is allocated here survives */
	MemoryContext context;		/* of everything else */
	DefinitionInfo *def;		/* bound, if it is generic */
	RunSettings settings;
	TimestampTz since;			/* as run.since of a run started now */
	int			streams;		/* that the run would have, 0 for none */
	StreamInfo *stream;			/* the one that would be begun first: it is tried out; or NULL */
	Parameters *parameters;
	Walk	   *walk;
	Statement  *statement;		/* for a range with its start */
	Bounds	   *bounds;			/* NULL until somebody asks for it */
	bool		is_deferred;	/* the caller's own triggers are waiting */

	/* the walk; without rows there are no keys */
	bool		has_rows;
	bool		has_nulls;		/* rows with a null in the key come behind them */
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	double		rows_total;		/* estimated */

	bool		is_limited;		/* our timeout is in the place of the session's */
	TimestampTz session_limit;	/* 0 for none */
} Rehearsal;

typedef void (*RehearseFunction) (Rehearsal *rehearsal, void *arg);

extern void frame_limit_time(Rehearsal *rehearsal);
extern void frame_free_time(Rehearsal *rehearsal);
extern void frame_rehearse(const char *function_name, const char *definition,
						   Oid target, Jsonb *parameters, RehearseFunction function, void *arg);
extern ParamListInfo frame_params(Rehearsal *rehearsal, const Datum *start,
								  const Datum *end);
extern Bounds *frame_bounds(Rehearsal *rehearsal);

#endif							/* BACKFILL_REHEARSAL_FRAME_H */
