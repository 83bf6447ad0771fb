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

#include "base/compat.h"
#include "store/definition.h"
#include "store/run.h"
#include "store/store.h"

/* A run that is in the way of another one. */
typedef struct Rival
{
	RunInfo    *run;
	bool		is_equal;		/* of the same definition, with the same parameters */
} Rival;

/* How a run is to begin. */
typedef struct StartOptions
{
	TimestampTz start_at;		/* DT_NOBEGIN for at once */
	ArrayType  *after;			/* or NULL */
	bool		paused;			/* not before it is resumed */
} StartOptions;

extern void start_check_alone(StoreSession *session, const char *name, Oid owner, Oid target,
							  bool generic, Jsonb *parameters, Jsonb *given, ArrayType *after,
							  int64 except);
extern DefinitionInfo *start_check(const char *name, Oid target, Jsonb **parameters,
								   Jsonb **settings, Jsonb **types);
extern int64 start_run(const char *name, const char *owner, Oid target, Jsonb *parameters,
					   Jsonb *settings, const StartOptions *options, const char *reason,
					   Rival *rival);
compat_noreturn extern void start_refuse(const char *name, const Rival *rival);

#endif							/* BACKFILL_RUN_START_H */
