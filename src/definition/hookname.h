/*-------------------------------------------------------------------------
 *
 * hookname.h
 *	  The name of a hook's function, and the function of that name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_HOOKNAME_H
#define BACKFILL_DEFINITION_HOOKNAME_H

#include "store/event.h"

extern bool hookname_read(HookInfo *hook, Oid function);
extern Oid	hookname_resolve(HookInfo *hook, Oid run_owner);

#endif							/* BACKFILL_DEFINITION_HOOKNAME_H */
