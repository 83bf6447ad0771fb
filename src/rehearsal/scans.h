/*-------------------------------------------------------------------------
 *
 * scans.h
 *	  Tables that each batch reads in full, and what may help.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_SCANS_H
#define BACKFILL_REHEARSAL_SCANS_H

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

/* A table that a batch reads in full; of partitions, the table as a whole. */
typedef struct TableScan
{
	Oid			relid;
	double		bytes;			/* of what is read, */
	double		times;			/* so often in one batch */
	Bitmapset  *columns;		/* by which the statement looks rows up in it */
} TableScan;

extern List *scans_collect(List *scanned, List *queries);
extern bool scans_has_index(Oid relid, const Bitmapset *columns);
extern char *scans_column_names(Oid relid, const Bitmapset *columns);

#endif							/* BACKFILL_REHEARSAL_SCANS_H */
