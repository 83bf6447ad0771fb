/*-------------------------------------------------------------------------
 *
 * then.h
 *	  What follows a run, as a definition declares it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_THEN_H
#define BACKFILL_DEFINITION_THEN_H

#include "utils/jsonb.h"

#include "store/definition.h"

extern JsonbValue *then_member(JsonbContainer *object, const char *name);
extern bool then_is_object(const JsonbValue *value);
extern Jsonb *then_check(const DefinitionInfo *def);

#endif							/* BACKFILL_DEFINITION_THEN_H */
