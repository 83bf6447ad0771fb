/*-------------------------------------------------------------------------
 *
 * hookname.c
 *	  The name of a hook's function, and the function of that name.
 *
 * How a function is kept by its name, and whose it may be, stands in base/callee.c.
 * api/hooks.c adds hooks, engine/hook.c calls them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/callee.h"
#include "definition/hookname.h"

/* Whether the function can be a hook. */
static bool
is_fit(Form_pg_proc form)
{
	return form->prokind == PROKIND_FUNCTION && !form->proretset && form->pronargs == 1 &&
		callee_is_event(form->proargtypes.values[0], "backfill_event");
}

static const CalleeKind kind = {
	.fit = is_fit,
	.what = "hook",
	.takes = "an argument of the type backfill_event",
	.gone_hint = "Remove the hook with backfill_off, and add what is called now with backfill_on; the view backfill_hooks shows it.",
	.owner_hint = "If it is the right one, call backfill_off and backfill_on again."
};

/*
 * Put the name and the owner of the function into *hook.  Returns false if it can
 * be no hook, or if there is none with that OID.
 */
bool
hookname_read(HookInfo *hook, Oid function)
{
	return callee_read(&hook->callee, function, &kind);
}

/*
 * The function that the hook is.  Raises an error if there is none, or if it is
 * another one than was meant.
 */
Oid
hookname_resolve(HookInfo *hook, Oid run_owner)
{
	return callee_resolve(&hook->callee, run_owner, &kind);
}
