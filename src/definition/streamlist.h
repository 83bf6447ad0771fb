/*-------------------------------------------------------------------------
 *
 * streamlist.h
 *	  What a run is divided into.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_STREAMLIST_H
#define BACKFILL_DEFINITION_STREAMLIST_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "store/definition.h"
#include "store/stream.h"

extern bool streamlist_is_partitions(const char *text);
extern List *streamlist_read(const char *text, Oid table);
extern const char *streamlist_key(Oid partition, Oid table, const char *key);
extern bool streamlist_has(Oid table, Oid partition);
extern void streamlist_check_settings(const DefinitionInfo *def, Jsonb *given);
extern void streamlist_check_partition(Oid table, Oid partition);
extern const DefinitionInfo *streamlist_sample(const DefinitionInfo *def);
extern void streamlist_check(const DefinitionInfo *def);

#endif							/* BACKFILL_DEFINITION_STREAMLIST_H */
