/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking whoever has to know, at once or at commit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_WAKE_H
#define BACKFILL_SHARED_WAKE_H

extern void wake_scheduler(Oid database);
extern void wake_database(Oid database);
extern void wake_at_commit(void);
extern void wake_workers(Oid database);

#endif							/* BACKFILL_SHARED_WAKE_H */
