/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking whoever has to know, at once or at commit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_WAKE_H
#define BACKFILL_SHARED_WAKE_H

/* Some runs of a database; all zero for every one. */
typedef struct WakeTarget
{
	Oid			owner;
	int64		run_id;
} WakeTarget;

extern void wake_scheduler(Oid database);
extern void wake_runs(Oid database, WakeTarget target);
extern void wake_at_commit(WakeTarget target);
extern void wake_cancel_at_commit(WakeTarget target, int64 stream);
extern void wake_workers(Oid database);

#endif							/* BACKFILL_SHARED_WAKE_H */
