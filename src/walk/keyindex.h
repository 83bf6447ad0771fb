/*-------------------------------------------------------------------------
 *
 * keyindex.h
 *	  Which index of a table a walk may follow.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_KEYINDEX_H
#define BACKFILL_WALK_KEYINDEX_H

#include "utils/relcache.h"

#include "base/compat.h"
#include "settings/setting.h"

extern Oid	keyindex_find(Relation rel, const char *key);
compat_noreturn extern void keyindex_refuse_name(Relation rel, const char *key);
extern int	keyindex_columns(Relation rel, Relation index, const RunSettings *settings);
extern bool keyindex_begins_with(Relation rel, Relation index, const char *text);

#endif							/* BACKFILL_WALK_KEYINDEX_H */
