/*-------------------------------------------------------------------------
 *
 * measure.h
 *	  Real batches, run, measured and rolled back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_MEASURE_H
#define BACKFILL_REHEARSAL_MEASURE_H

#include "lib/stringinfo.h"
#include "storage/lockdefs.h"

#include "rehearsal/frame.h"

/* A mode in which a table is locked. */
typedef struct HeldLock
{
	Oid			relid;
	LOCKMODE	mode;
} HeldLock;

/* What some batches have cost, all together unless it says otherwise. */
typedef struct Measurement
{
	int			batches;
	bool		is_spread;		/* across the whole range of the key */
	double		rows;			/* in their ranges */
	double		in_scope;		/* counted on demand */
	double		affected;
	List	   *elsewhere;		/* TallyCount: written by others than the statement */
	double		statement_ms;
	double		longest_ms;		/* of one */
	double		search_ms;		/* for the ends of the ranges */
	double		wal_bytes;
	double		hit;			/* blocks found in the buffers, */
	double		read;			/* read, */
	double		dirtied;		/* made dirty */
	double		written;		/* and written to make room */
	double		updated;		/* rows of the target, of a sample, */
	double		hot;			/* and how many of them without index entries */
	double		growth;			/* of the tables it writes, in bytes */
	List	   *locks;			/* HeldLock, the strongest on each table */
	StringInfoData plan;		/* of one batch, with what was measured */
} Measurement;

extern List *measure_held_locks(void);
extern Measurement *measure_batches(Rehearsal *rehearsal, List *locks_before,
									bool count_scope);

#endif							/* BACKFILL_REHEARSAL_MEASURE_H */
