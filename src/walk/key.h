/*-------------------------------------------------------------------------
 *
 * key.h
 *	  Keys as texts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_KEY_H
#define BACKFILL_WALK_KEY_H

#include "nodes/pg_list.h"
#include "utils/array.h"

#include "walk/walk.h"

extern ArrayType *key_to_text(Walk *walk, const Datum *key);
extern void key_from_text(Walk *walk, ArrayType *array, Datum *key);
extern ArrayType *key_with_nulls(Walk *walk, ArrayType *key);
extern ArrayType *key_without_nulls(ArrayType *key);
extern RangeShape key_range_shape(bool start_inclusive, ArrayType *end_key);
extern int	key_read_bound(Walk *walk, const char *name, List *texts, Datum *key);
extern void key_check_bounds(Walk *walk, List *from, List *to);
extern bool key_is_last(ArrayType *key, ArrayType *last);
extern char *key_range_text(ArrayType *start, bool start_inclusive, ArrayType *end);
extern bool key_is_empty(ArrayType *key);

#endif							/* BACKFILL_WALK_KEY_H */
