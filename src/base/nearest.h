/*-------------------------------------------------------------------------
 *
 * nearest.h
 *	  The name that somebody may have meant.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_NEAREST_H
#define BACKFILL_BASE_NEAREST_H

extern const char *nearest_name(const char *name, const char *const *names, int n);

#endif							/* BACKFILL_BASE_NEAREST_H */
