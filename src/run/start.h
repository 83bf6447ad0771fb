/*-------------------------------------------------------------------------
 *
 * start.h
 *	  A run comes into being.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_START_H
#define BACKFILL_RUN_START_H

#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "store/definition.h"
#include "store/run.h"
#include "store/store.h"

/* A run that is in the way of another one. */
typedef struct Rival
{
	RunInfo    *run;
	bool		is_equal;		/* of the same definition, with the same parameters */
} Rival;

extern void start_check_alone(StoreSession *session, const char *name, Oid owner, Oid target,
							  bool generic, Jsonb *parameters, Jsonb *given, ArrayType *after,
							  int64 except);
extern DefinitionInfo *start_check(const char *name, Oid target, Jsonb **parameters,
								   Jsonb **settings, Jsonb **types);
extern int64 start_run(const char *name, const char *owner, Oid target, Jsonb *parameters,
					   Jsonb *settings, TimestampTz start_at, ArrayType *after, const char *reason,
					   Rival *rival);

#endif							/* BACKFILL_RUN_START_H */
