/*-------------------------------------------------------------------------
 *
 * definition.h
 *	  Definitions of backfills.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_H
#define BACKFILL_DEFINITION_H

#include "catalog.h"

extern DefinitionInfo *definition_get(CatalogSession *session, const char *name);
extern void definition_check_walk(const DefinitionInfo *def, Jsonb *settings,
								  bool statement_too);
extern void definition_check_role(Oid owner, const char *kind, const char *name);

#endif							/* BACKFILL_DEFINITION_H */
