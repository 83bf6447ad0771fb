/*-------------------------------------------------------------------------
 *
 * definition.h
 *	  Definitions of backfills: found, checked, bound.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_DEFINITION_H
#define BACKFILL_DEFINITION_DEFINITION_H

#include "fmgr.h"

#include "settings/setting.h"
#include "store/definition.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/walk.h"

extern void definition_check_role(Oid owner, const char *kind, const char *name);
extern void definition_check_replace(const DefinitionInfo *def);
extern DefinitionInfo *definition_get(StoreSession *session, const char *name);
extern void definition_take_target(DefinitionInfo *def, Oid target);
extern char *definition_name_arg(FunctionCallInfo fcinfo);
extern const char *definition_statement(const DefinitionInfo *def);
extern Walk *definition_walk(Oid target, const char *key, const SourceInfo *source,
							 const RunSettings *settings);
extern void definition_check(const DefinitionInfo *def);
extern void definition_check_source(const DefinitionInfo *def);
extern bool definition_check_change(Oid owner, const char *search_path, Jsonb *settings,
									const char *finish);
extern void definition_check_repair(const RunInfo *run, Jsonb *given);
extern Jsonb *definition_values(DefinitionInfo *def, Jsonb *parameters);
extern Jsonb *definition_bind(DefinitionInfo *def, Jsonb *settings,
							  Jsonb *parameters, bool is_prepared, Jsonb **types);

#endif							/* BACKFILL_DEFINITION_DEFINITION_H */
