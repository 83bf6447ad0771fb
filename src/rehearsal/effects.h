/*-------------------------------------------------------------------------
 *
 * effects.h
 *	  What a statement changes, as far as it can be told from its queries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_EFFECTS_H
#define BACKFILL_REHEARSAL_EFFECTS_H

#include "access/htup.h"
#include "nodes/bitmapset.h"
#include "nodes/nodes.h"
#include "nodes/pg_list.h"
#include "utils/reltrigger.h"

/* What happens to one table. */
typedef struct TableEffect
{
	Oid			relid;
	bool		is_own;			/* the statement itself names it */
	bool		insert;
	bool		update;
	bool		delete;
	Bitmapset  *columns;		/* attribute numbers that an update changes */
} TableEffect;

/* A foreign key that changes rows that refer to changed ones. */
typedef struct Consequence
{
	Oid			constraint;
	Oid			relid;			/* the table whose rows are changed, */
	CmdType		operation;		/* and how */
} Consequence;

typedef struct Effects
{
	List	   *tables;			/* TableEffect */
	List	   *consequences;	/* Consequence */
	bool		has_nextval;	/* takes numbers from a sequence */
} Effects;

extern Effects *effects_collect(List *queries);
extern bool effects_is_enabled(const Trigger *trigger);
extern Bitmapset *effects_key_columns(HeapTuple tuple, AttrNumber column);
extern bool effects_has_consequence(Effects *changes, Oid constraint, CmdType operation);
extern char *effects_cause(Effects *changes, Oid relid, CmdType operation);

#endif							/* BACKFILL_REHEARSAL_EFFECTS_H */
