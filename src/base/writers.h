/*-------------------------------------------------------------------------
 *
 * writers.h
 *	  The transactions that write to a table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_WRITERS_H
#define BACKFILL_BASE_WRITERS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

extern List *writers_find(Oid target);
extern List *writers_prepared(List *all);
extern List *writers_still(List *all);
extern void writers_wait(List *all);
extern TimestampTz writers_watermark(void);
extern char *writers_reason(const List *writers, const char *what);

#endif							/* BACKFILL_BASE_WRITERS_H */
