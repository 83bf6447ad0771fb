/*-------------------------------------------------------------------------
 *
 * toll.h
 *	  What the statement of a batch took from the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_TOLL_H
#define BACKFILL_ENGINE_TOLL_H

#include "nodes/pg_list.h"

#include "store/batch.h"

/* The counters of the process before the statement. */
typedef struct Toll
{
	int64		blocks_read;
	int64		full_pages;
	int64		updated;
	int64		hot_updated;
	int64		cpu_time;		/* microseconds */
} Toll;

extern List *toll_tables(Oid target);
extern void toll_begin(Toll *toll, List *tables);
extern void toll_end(const Toll *toll, List *tables, BatchResult *result);

#endif							/* BACKFILL_ENGINE_TOLL_H */
