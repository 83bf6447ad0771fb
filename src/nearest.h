/*-------------------------------------------------------------------------
 *
 * nearest.h
 *	  The name that somebody may have meant.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_NEAREST_H
#define BACKFILL_NEAREST_H

extern const char *nearest_name(const char *name, const char *const *names, int n);

#endif							/* BACKFILL_NEAREST_H */
