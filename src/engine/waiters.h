/*-------------------------------------------------------------------------
 *
 * waiters.h
 *	  Who waits for the rows of the batch in hand.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_WAITERS_H
#define BACKFILL_ENGINE_WAITERS_H

extern int64 waiters_longest(void);

#endif							/* BACKFILL_ENGINE_WAITERS_H */
