/*-------------------------------------------------------------------------
 *
 * pace.h
 *	  The pace of a run, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PACE_H
#define BACKFILL_PACE_H

#include "datatype/timestamp.h"
#include "storage/latch.h"

#include "catalog.h"
#include "rate.h"
#include "size.h"

/* What the scheduler asks of the workers of a run.  Times in milliseconds. */
typedef struct Pace
{
	int64		workers;		/* so many of them may be at work */
	SizeAim		aim;			/* of the batch size */
	int64		sleep;
	int64		nice;			/* millionths of a batch's duration */
	double		duty;			/* share of the time it may be at work, above 0 */
	bool		hold;			/* no batch may begin */
	bool		probed;			/* nor before the probe allows it */
	bool		watched;		/* nor when the scheduler has not been heard for long */
	int64		yield_after;	/* 0 is off */
	RateLimit	rows;
	RateLimit	wal;
} Pace;

/* What the probe of a run has said. */
typedef enum ProbeVerdict
{
	PROBE_UNKNOWN,				/* it has not been heard yet */
	PROBE_GO,
	PROBE_WAIT
} ProbeVerdict;

#define PACE_REASON_SIZE 256

/* Which of the limits made a worker wait. */
typedef enum PaceLimit
{
	PACE_NO_LIMIT,
	PACE_ROWS,
	PACE_WAL,
	PACE_ALL_ROWS,				/* of all runs together */
	PACE_ALL_WAL
} PaceLimit;

/* The part of a run's slot that this is about. */
typedef struct RunPace
{
	Pace		pace;
	TimestampTz set_at;
	TimestampTz opened_at;		/* when the run took this slot */
	SizeControl size;

	/* ledgers: the run's own, and its part of what all runs use */
	bool		rows_known;		/* what was used before this slot was taken */
	bool		entered;		/* that is in all_rows, too */
	RateLedger	rows;
	RateLedger	wal;
	RateLedger	all_rows;
	RateLedger	all_wal;
	double		wal_per_row;	/* bytes, of the recent batches */
	double		fan_out;		/* rows that a row of a range becomes, at least 1 */
	PaceLimit	limited_by;		/* what a worker waited for last */
	TimestampTz limited_until;	/* and how long */
	int64		waiting_rows;	/* of a batch that is claimed and waits for them */
	TimestampTz waiting_until;	/* it does not, after this time */
	bool		short_of_rows;	/* waits for its part of the budget of all */
	bool		short_of_wal;

	ProbeVerdict probe;
	TimestampTz probed_at;		/* when the last probe began or ended */
	char		probe_reason[PACE_REASON_SIZE];
} RunPace;

#define KNOWN_DATABASES 64

/* What all runs together may use, and have used. */
typedef struct Budgets
{
	RateLimit	rows;
	RateLimit	wal;
	RateLedger	used_rows;
	RateLedger	used_wal;
	int			nknown;			/* databases whose past is in used_rows */
	Oid			known[KNOWN_DATABASES];
} Budgets;

/* scheduler */
extern void pace_set(Oid database, int64 run_id, const Pace *pace, int64 batch_size);
extern void pace_set_budgets(const RateLimit *rows, const RateLimit *wal);
extern bool pace_open_ledger(Oid database, int64 run_id, TimestampTz *since);
extern bool pace_open_budget(Oid database, TimestampTz *since, TimestampTz *until);
extern void pace_enter_budget(const RecentBatch *batch);
extern void pace_enter(Oid database, int64 run_id, const RecentBatch *batch);
extern void pace_close_ledger(Oid database, int64 run_id);
extern int64 pace_size(Oid database, int64 run_id);
extern PaceLimit pace_limited_by(Oid database, int64 run_id, RateLimit *limit);
extern ProbeVerdict pace_probe_verdict(Oid database, int64 run_id, char *reason);

/* worker */
extern void pace_get(Pace *pace);
extern bool pace_is_held(void);
extern int64 pace_ask(bool has_scope, int64 *stride, TimestampTz *retry_at);
extern void pace_keep(int64 rows);
extern bool pace_reserve(int64 rows, bool indivisible, int64 *fitting,
						 TimestampTz *retry_at);
extern bool pace_cover(int64 rows_scanned, int64 rows);
extern void pace_advance(void);
extern void pace_drop_next(void);
extern void pace_release(void);
extern void pace_wrote(int64 wal_bytes);
extern int	pace_measure(int64 rows_scanned, int64 rows_affected, int64 wal_bytes,
						 int64 duration, bool has_scope);
extern void pace_settle(int64 rows_affected);
extern bool pace_take_probe(int64 interval, TimestampTz *due);
extern bool pace_probe_said(ProbeVerdict verdict, const char *reason);

#endif							/* BACKFILL_PACE_H */
