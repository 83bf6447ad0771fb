/*-------------------------------------------------------------------------
 *
 * followers.h
 *	  What follows a run, as a definition declares it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_FOLLOWERS_H
#define BACKFILL_DEFINITION_FOLLOWERS_H

#include "utils/jsonb.h"

#include "store/definition.h"

extern JsonbValue *followers_member(JsonbContainer *object, const char *name);
extern bool followers_is_for_each(JsonbContainer *follower);
extern bool followers_is_object(const JsonbValue *value);
extern bool followers_is_same_target(const JsonbValue *value);
extern Jsonb *followers_check(const DefinitionInfo *def);

#endif							/* BACKFILL_DEFINITION_FOLLOWERS_H */
