/*-------------------------------------------------------------------------
 *
 * names.h
 *	  Names in the texts of a generic definition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_NAMES_H
#define BACKFILL_DEFINITION_NAMES_H

#include "settings/parameters.h"
#include "store/definition.h"

extern Oid	names_table(const char *text);
extern char *names_of_table(Oid table);
extern char *names_as_written(const char *text);
extern void names_check(const DefinitionInfo *def);
extern void names_bind(DefinitionInfo *def, const Parameters *parameters, bool must_exist);

#endif							/* BACKFILL_DEFINITION_NAMES_H */
