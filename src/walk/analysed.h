/*-------------------------------------------------------------------------
 *
 * analysed.h
 *	  What an analysed statement, with batch grafted into it, does with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_ANALYSED_H
#define BACKFILL_WALK_ANALYSED_H

#include "nodes/parsenodes.h"

#include "walk/walk.h"

extern void analysed_check_key(Query *query, Walk *walk);
extern CommonTableExpr *analysed_find_with(const Query *query, const char *name);
extern bool analysed_reads_batch(List *queries);

#endif							/* BACKFILL_WALK_ANALYSED_H */
