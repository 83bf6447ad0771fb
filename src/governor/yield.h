/*-------------------------------------------------------------------------
 *
 * yield.h
 *	  Batches give way to sessions that wait for their locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_GOVERNOR_YIELD_H
#define BACKFILL_GOVERNOR_YIELD_H

extern long yield_look(void);

#endif							/* BACKFILL_GOVERNOR_YIELD_H */
