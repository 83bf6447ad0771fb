/*-------------------------------------------------------------------------
 *
 * owner.c
 *	  Being the owner of a definition or a run for a while.
 *
 * What a definition is made of is the owner's: types, tables, expressions.
 * Where a session has to look at it, whoever's session that is, it does so with
 * the owner's rights and no others, in a security-restricted operation, so that
 * nothing of it can become the caller again.  And it is rolled back, so that nothing
 * is left behind for him: what a restricted operation lets through has differed from
 * minor release to minor release.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/owner.h"

/* The path with temporary tables last, where they would be first unless named. */
char *
owner_path(const char *search_path)
{
	return psprintf("%s%spg_temp", search_path, search_path[0] == '\0' ? "" : ", ");
}

static void
become(Oid owner, const char *search_path)
{
	Oid			userid;
	int			context;

	GetUserIdAndSecContext(&userid, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);

	/* temporary tables of the caller's are not what the owner means */
	(void) set_config_option("search_path", owner_path(search_path), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Roll back to where we were, and be who we were. */
static void
undo(int level, MemoryContext context, ResourceOwner resources)
{
	while (GetCurrentTransactionNestLevel() > level)
		RollbackAndReleaseCurrentSubTransaction();
	CurrentResourceOwner = resources;
	MemoryContextSwitchTo(context);
}

/*
 * Call the function as the owner, with that search_path.  Whatever the owner's code
 * does meanwhile is rolled back, and cursors that it opened are closed: what counts
 * is what the function leaves in memory, in the context that is current here.
 * Raises what the function raises.
 */
void
owner_look(Oid owner, const char *search_path, OwnerFunction function, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	int			level = GetCurrentTransactionNestLevel();

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		become(owner, search_path);
		function(arg);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		undo(level, context, resources);
		ReThrowError(error);
	}
	PG_END_TRY();
	undo(level, context, resources);
}
