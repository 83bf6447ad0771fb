/*-------------------------------------------------------------------------
 *
 * owner.h
 *	  Being the owner of a definition or a run for a while.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_OWNER_H
#define BACKFILL_BASE_OWNER_H

/* Who we were before. */
typedef struct OwnerSession
{
	Oid			saved_userid;
	int			saved_context;
	int			nest;
} OwnerSession;

extern char *owner_path(const char *search_path);
extern void owner_begin(OwnerSession *session, Oid owner, const char *search_path);
extern void owner_end(OwnerSession *session);

#endif							/* BACKFILL_BASE_OWNER_H */
