/*-------------------------------------------------------------------------
 *
 * bounds.h
 *	  Searches along the key: the ends of a walk, the next range.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BOUNDS_H
#define BACKFILL_BOUNDS_H

#include "utils/snapshot.h"

#include "parameters.h"
#include "statement.h"
#include "walk.h"

typedef struct Bounds Bounds;

extern Bounds *bounds_prepare(Walk *walk);
extern void bounds_drop(Bounds *bounds);
extern Statement *bounds_prepare_query(Walk *walk, const WalkRange *range,
									   const char *scope, const Parameters *parameters,
									   const char *others, bool descending,
									   const char *limit);
extern Statement *bounds_end_query(Bounds *bounds, bool start_inclusive);
extern bool bounds_find_ends(Walk *walk, const RunSettings *settings,
						   const char *scope, const Parameters *parameters,
						   Datum *start, Datum *end,
						   double *rows_total);
extern Statement *bounds_prepare_row(Walk *walk, bool start_inclusive, const char *scope,
									 const Parameters *parameters);
extern Statement *bounds_prepare_count(Walk *walk, bool start_inclusive, const char *scope,
									   const Parameters *parameters);
extern int64 bounds_count(Walk *walk, Bounds *bounds, const Datum *start,
						  bool start_inclusive, const Datum *end, Snapshot snapshot);
extern int64 bounds_next_end(Walk *walk, Bounds *bounds, const Datum *start,
						   bool start_inclusive, const Datum *last, int64 size,
						   Snapshot snapshot, Datum *end, bool *at_end);

#endif							/* BACKFILL_BOUNDS_H */
