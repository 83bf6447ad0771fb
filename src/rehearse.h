/*-------------------------------------------------------------------------
 *
 * rehearse.h
 *	  The frame in which a definition is tried out, and undone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSE_H
#define BACKFILL_REHEARSE_H

#include "datatype/timestamp.h"

#include "bounds.h"
#include "catalog.h"
#include "parameters.h"
#include "settings.h"
#include "statement.h"
#include "walk.h"

/* A definition, prepared as a worker does.  Gone after the rehearsal. */
typedef struct Rehearsal
{
	MemoryContext caller;		/* what is allocated here survives */
	MemoryContext context;		/* of everything else */
	DefinitionInfo *def;
	RunSettings settings;
	TimestampTz since;			/* as run.since of a run started now */
	Parameters *parameters;
	Walk	   *walk;
	Statement  *statement;		/* for a range with its start */
	Bounds	   *bounds;			/* NULL until somebody asks for it */
	bool		is_deferred;	/* the caller's own triggers are waiting */

	/* the walk; without rows there are no keys */
	bool		has_rows;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	double		rows_total;		/* estimated */

	bool		is_limited;		/* our timeout is in the place of the session's */
	TimestampTz session_limit;	/* 0 for none */
} Rehearsal;

typedef void (*RehearseFunction) (Rehearsal *rehearsal, void *arg);

extern void rehearse(const char *function_name, const char *definition,
					 Jsonb *parameters, RehearseFunction function, void *arg);
extern ParamListInfo rehearse_params(Rehearsal *rehearsal, const Datum *start,
									 const Datum *end);
extern Bounds *rehearse_bounds(Rehearsal *rehearsal);
extern void rehearse_limit_time(Rehearsal *rehearsal);
extern void rehearse_free_time(Rehearsal *rehearsal);

#endif							/* BACKFILL_REHEARSE_H */
