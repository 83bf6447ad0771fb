/*-------------------------------------------------------------------------
 *
 * effects.h
 *	  What a statement changes, as far as it can be told from its queries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_EFFECTS_H
#define BACKFILL_REHEARSAL_EFFECTS_H

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

/* What happens to one table. */
typedef struct TableEffect
{
	Oid			relid;
	bool		insert;
	bool		update;
	bool		delete;
	Bitmapset  *columns;		/* attribute numbers that an update changes */
} TableEffect;

typedef struct Effects
{
	List	   *tables;			/* TableEffect */
	bool		has_nextval;	/* takes numbers from a sequence */
} Effects;

extern Effects *effects_collect(List *queries);

#endif							/* BACKFILL_REHEARSAL_EFFECTS_H */
