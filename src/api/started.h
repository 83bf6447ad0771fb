/*-------------------------------------------------------------------------
 *
 * started.h
 *	  The run that this session has started last.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_STARTED_H
#define BACKFILL_API_STARTED_H

extern void started_note(int64 id);
extern int64 started_last(void);

#endif							/* BACKFILL_API_STARTED_H */
