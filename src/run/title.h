/*-------------------------------------------------------------------------
 *
 * title.h
 *	  What a run is called where people read of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_RUN_TITLE_H
#define BACKFILL_RUN_TITLE_H

extern char *title_table(Oid table);
extern char *title_run(int64 id, const char *name, Oid target);

#endif							/* BACKFILL_RUN_TITLE_H */
