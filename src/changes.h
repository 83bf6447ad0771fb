/*-------------------------------------------------------------------------
 *
 * changes.h
 *	  What a statement changes, as far as it can be told from its queries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_CHANGES_H
#define BACKFILL_CHANGES_H

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

/* What happens to one table. */
typedef struct TableChange
{
	Oid			relid;
	bool		insert;
	bool		update;
	bool		delete;
	Bitmapset  *columns;		/* attribute numbers that an update changes */
} TableChange;

typedef struct Changes
{
	List	   *tables;			/* TableChange */
	bool		has_nextval;	/* takes numbers from a sequence */
} Changes;

extern Changes *changes_collect(List *queries);

#endif							/* BACKFILL_CHANGES_H */
