/*-------------------------------------------------------------------------
 *
 * pace.h
 *	  The pace of a run, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_PACE_H
#define BACKFILL_SHARED_PACE_H

#include "base/quantity.h"
#include "shared/segment.h"

/* What the scheduler wants to know of a run, all at once. */
typedef struct PaceView
{
	double		rate;			/* rows per second, or -1 while unknown */
	int64		freed;			/* bytes that its workers have made free since it has a slot */
	int64		size;			/* of the batches, or 0 */
	double		fixed;			/* microseconds that rule that size, or 0 */
	double		eased;			/* the time of batches, in microseconds, if sessions wait for them; or 0 */
	bool		crowded;		/* it is so because they wait for what batches use, too */
	PaceLimit	limited_by;		/* what its workers wait for */
	RateLimit	limit;			/* that limit */
	ProbeVerdict probe;
	char		probe_reason[PACE_REASON_SIZE];
} PaceView;

/* scheduler */
extern bool pace_set(Oid database, int64 run_id, const Pace *pace, int64 batch_size,
					 TimestampTz *since);
extern void pace_set_budgets(const RateLimit *rows, const RateLimit *wal);
extern bool pace_open_budget(Oid database, TimestampTz *since, TimestampTz *until);
extern void pace_enter_budget(const Usage *usages, int n);
extern void pace_enter(Oid database, int64 run_id, const Usage *usages, int n);
extern int64 pace_size(Oid database, int64 run_id);
extern bool pace_heeds_crowd(Oid database);
extern void pace_set_crowd(Oid database, double crowd);
extern void pace_look(Oid database, int64 run_id, PaceView *view);

/* worker */
extern void pace_get(Pace *pace);
extern double pace_crowd(void);
extern bool pace_holds(const RunPace *p);
extern bool pace_is_held(void);
extern bool pace_take_probe(int64 interval, TimestampTz *due);
extern bool pace_probe_said(ProbeVerdict verdict, const char *reason);

#endif							/* BACKFILL_SHARED_PACE_H */
