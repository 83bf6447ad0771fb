/*-------------------------------------------------------------------------
 *
 * records.h
 *	  A page of a source as the relation "batch".
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_RECORDS_H
#define BACKFILL_WALK_RECORDS_H

#include "lib/stringinfo.h"
#include "nodes/params.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "walk/walk.h"

extern Walk *records_open_walk(Oid target);
extern Node *records_place(Walk *walk, const char *place);
extern void records_append_batch(StringInfo text);
extern void records_set(Walk *walk, ParamListInfo params, Jsonb *records);
extern int64 records_ordinal(ArrayType *key);
extern ArrayType *records_key(int64 ordinal);

#endif							/* BACKFILL_WALK_RECORDS_H */
