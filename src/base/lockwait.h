/*-------------------------------------------------------------------------
 *
 * lockwait.h
 *	  How long this process waits for locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_LOCKWAIT_H
#define BACKFILL_BASE_LOCKWAIT_H

extern void lockwait_begin(void);
extern int64 lockwait_end(void);

#endif							/* BACKFILL_BASE_LOCKWAIT_H */
