/*-------------------------------------------------------------------------
 *
 * yield.h
 *	  Batches give way to sessions that wait for their locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_YIELD_H
#define BACKFILL_YIELD_H

extern long yield_look(void);

#endif							/* BACKFILL_YIELD_H */
