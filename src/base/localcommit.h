/*-------------------------------------------------------------------------
 *
 * localcommit.h
 *	  A transaction that does nothing but ask for something of a run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_LOCALCOMMIT_H
#define BACKFILL_BASE_LOCALCOMMIT_H

extern bool localcommit_begin(void);
extern void localcommit_end(bool ours);

#endif							/* BACKFILL_BASE_LOCALCOMMIT_H */
