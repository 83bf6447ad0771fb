/*-------------------------------------------------------------------------
 *
 * order.h
 *	  The key and its order, in the text of our own queries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_ORDER_H
#define BACKFILL_WALK_ORDER_H

#include "lib/stringinfo.h"

#include "walk/walk.h"

extern void order_append_keys(StringInfo buf, Walk *walk, const char *relation);
extern void order_append(StringInfo buf, Walk *walk, const char *relation, bool descending);
extern void order_append_collated(StringInfo buf, Walk *walk, const char *relation);

#endif							/* BACKFILL_WALK_ORDER_H */
