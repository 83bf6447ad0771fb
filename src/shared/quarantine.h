/*-------------------------------------------------------------------------
 *
 * quarantine.h
 *	  Batches that are suspected of bringing down the server run one at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_QUARANTINE_H
#define BACKFILL_SHARED_QUARANTINE_H

extern bool quarantine_enter(void);
extern void quarantine_leave(void);

#endif							/* BACKFILL_SHARED_QUARANTINE_H */
