/*-------------------------------------------------------------------------
 *
 * lockwait.h
 *	  How long this process waits for locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_LOCKWAIT_H
#define BACKFILL_LOCKWAIT_H

extern void lock_wait_begin(void);
extern int64 lock_wait_end(void);

#endif							/* BACKFILL_LOCKWAIT_H */
