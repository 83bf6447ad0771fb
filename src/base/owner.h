/*-------------------------------------------------------------------------
 *
 * owner.h
 *	  Being the owner of a definition or a run for a while.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_OWNER_H
#define BACKFILL_BASE_OWNER_H

typedef void (*OwnerFunction) (void *arg);

extern char *owner_path(const char *search_path);
extern void owner_look(Oid owner, const char *search_path, OwnerFunction function,
					   void *arg);

#endif							/* BACKFILL_BASE_OWNER_H */
