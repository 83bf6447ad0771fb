/*-------------------------------------------------------------------------
 *
 * condition.h
 *	  The condition that the rows of a batch fulfil, as SQL text for clients.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_CONDITION_H
#define BACKFILL_WALK_CONDITION_H

#include "nodes/pg_list.h"
#include "utils/array.h"

#include "settings/parameters.h"
#include "walk/walk.h"

extern ArrayType *condition_templates(Walk *walk, const char *scope,
									  const Parameters *parameters);
extern char *condition_fill(ArrayType *templates, RangeShape shape, ArrayType *start_key,
							ArrayType *end_key);
extern char *condition_order(ArrayType *templates);
extern char *condition_for_keys(ArrayType *templates, const char *condition, List *keys);

#endif							/* BACKFILL_WALK_CONDITION_H */
