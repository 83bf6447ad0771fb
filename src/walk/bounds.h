/*-------------------------------------------------------------------------
 *
 * bounds.h
 *	  Searches along the key: the ends of a walk, the next range.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_BOUNDS_H
#define BACKFILL_WALK_BOUNDS_H

#include "nodes/pg_list.h"
#include "utils/snapshot.h"

#include "settings/parameters.h"
#include "walk/statement.h"
#include "walk/walk.h"

typedef struct Bounds Bounds;

/* The ends of a walk. */
typedef struct WalkEnds
{
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	bool		values;			/* whether there are any such keys */
	bool		nulls;			/* whether rows with a null in the key come behind them */
	double		rows;			/* estimate */
} WalkEnds;

/* The ends of a walk, as the row of the run keeps them. */
typedef struct WalkTexts
{
	ArrayType  *start;
	ArrayType  *end;
	double		rows;			/* estimate */
} WalkTexts;

extern Statement *bounds_prepare_query(Walk *walk, const WalkRange *range,
									   const char *scope, const Parameters *parameters,
									   const char *others, bool descending,
									   const char *limit);
extern Statement *bounds_prepare_row(Walk *walk, bool start_inclusive,
									 const char *scope, const Parameters *parameters);
extern Statement *bounds_prepare_count(Walk *walk, RangeShape shape,
									   const char *scope, const Parameters *parameters);
extern bool bounds_find_ends(Walk *walk, List *from, List *to, int64 limit,
							 const char *scope, const Parameters *parameters,
							 WalkEnds *ends);
extern void bounds_find_texts(Walk *walk, const RunSettings *settings, const char *scope,
							  const Parameters *parameters, WalkTexts *texts);
extern int64 bounds_count_whole(Walk *walk, const char *scope, const Parameters *parameters,
								const char *places, Snapshot snapshot, int64 *elsewhere);
extern bool bounds_is_written(Walk *walk, const char *scope, const Parameters *parameters,
							  Datum place, TransactionId xid);
extern Bounds *bounds_prepare(Walk *walk);
extern void bounds_drop(Bounds *bounds);
extern Statement *bounds_end_query(Bounds *bounds, bool start_inclusive);
extern int64 bounds_count(Walk *walk, Bounds *bounds, const Datum *start,
						  RangeShape shape, const Datum *end, Snapshot snapshot);
extern int64 bounds_next_end(Walk *walk, Bounds *bounds, const Datum *start,
							 bool start_inclusive, const Datum *last, int64 size,
							 Snapshot snapshot, Datum *end, bool *at_end);
extern int64 bounds_next_range(Walk *walk, Bounds *bounds, ArrayType *start_key,
							   bool start_inclusive, ArrayType *last_key, int64 size,
							   Snapshot snapshot, ArrayType **end_key);

#endif							/* BACKFILL_WALK_BOUNDS_H */
