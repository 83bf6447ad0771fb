/*-------------------------------------------------------------------------
 *
 * definition.h
 *	  Definitions of backfills.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_H
#define BACKFILL_DEFINITION_H

#include "fmgr.h"

#include "catalog.h"

extern DefinitionInfo *definition_get(CatalogSession *session, const char *name);
extern char *definition_name_arg(FunctionCallInfo fcinfo);
extern void definition_check(const DefinitionInfo *def);
extern Jsonb *definition_bind(const DefinitionInfo *def, Jsonb *settings,
							  Jsonb *parameters, Jsonb **types);
extern void definition_check_replace(const DefinitionInfo *def);
extern void definition_check_role(Oid owner, const char *kind, const char *name);

#endif							/* BACKFILL_DEFINITION_H */
