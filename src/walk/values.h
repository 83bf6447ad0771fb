/*-------------------------------------------------------------------------
 *
 * values.h
 *	  The values of the first column of a key, one after the other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_VALUES_H
#define BACKFILL_WALK_VALUES_H

#include "utils/array.h"
#include "utils/snapshot.h"

#include "walk/walk.h"

typedef struct Values Values;

extern Values *values_prepare(Walk *walk);
extern void values_drop(Values *values);
extern ArrayType *values_last_key(Values *values, ArrayType *first_key, Snapshot snapshot);
extern ArrayType *values_next_key(Values *values, ArrayType *key, ArrayType *last_key,
								  Snapshot snapshot);

#endif							/* BACKFILL_WALK_VALUES_H */
