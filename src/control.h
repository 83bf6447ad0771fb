/*-------------------------------------------------------------------------
 *
 * control.h
 *	  The SQL functions that start, stop and change runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_CONTROL_H
#define BACKFILL_CONTROL_H

#include "catalog.h"

/* A run that is in the way of another one. */
typedef struct Rival
{
	RunInfo    *run;
	bool		is_equal;		/* of the same definition, with the same parameters */
} Rival;

extern DefinitionInfo *control_check_start(const char *name, Jsonb **parameters,
										   Jsonb **settings, Jsonb **types);
extern int64 control_start(const char *name, Jsonb *parameters, Jsonb *settings,
						   TimestampTz start_at, ArrayType *after, const char *reason,
						   Rival *rival);
extern RunInfo *control_find_run(CatalogSession *session, int64 id, Oid caller,
								 bool for_update);

#endif							/* BACKFILL_CONTROL_H */
