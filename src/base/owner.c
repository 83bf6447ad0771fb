/*-------------------------------------------------------------------------
 *
 * owner.c
 *	  Being the owner of a definition or a run for a while.
 *
 * What a definition is made of is the owner's: types, tables, expressions.
 * Where a session has to look at it, whoever's session that is, it does so with
 * the owner's rights and no others, in a security-restricted operation, so that
 * nothing of it can become the caller again or leave something behind for him.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/owner.h"

/* The path with temporary tables last, where they would be first unless named. */
char *
owner_path(const char *search_path)
{
	return psprintf("%s%spg_temp", search_path, search_path[0] == '\0' ? "" : ", ");
}

/*
 * Become the owner, with that search_path.  An error in between restores
 * everything with the transaction.
 */
void
owner_begin(OwnerSession *session, Oid owner, const char *search_path)
{
	GetUserIdAndSecContext(&session->saved_userid, &session->saved_context);
	SetUserIdAndSecContext(owner, session->saved_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	session->nest = NewGUCNestLevel();

	/* temporary tables of the caller's are not what the owner means */
	(void) set_config_option("search_path", owner_path(search_path), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Become again who we were. */
void
owner_end(OwnerSession *session)
{
	AtEOXact_GUC(false, session->nest);
	SetUserIdAndSecContext(session->saved_userid, session->saved_context);
}
