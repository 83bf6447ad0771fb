/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The vocabulary of settings of a run: check, merge, resolve, list.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SETTINGS_SETTINGS_H
#define BACKFILL_SETTINGS_SETTINGS_H

#include "utils/jsonb.h"
#include "datatype/timestamp.h"

#include "settings/setting.h"
#include "settings/window.h"

extern const Setting *settings_all(int *n);
extern void settings_check(Jsonb *object);
extern void settings_check_alterable(Jsonb *object);
extern void settings_check_together(Jsonb *object, const char *scope);
extern double settings_weight(const RunSettings *resolved, const char *value);
extern Jsonb *settings_merge(Jsonb *base, Jsonb *over);
extern bool settings_gives(Jsonb *object, const char *name);
extern char *settings_text(Jsonb *object, const char *name);
extern Jsonb *settings_with(Jsonb *base, const char *name, const char *value);
extern void settings_resolve(Jsonb *object, RunSettings *result);
extern void settings_resolve_at(Jsonb *object, TimestampTz at, RunSettings *result,
								WindowMatch *match);
extern const char *settings_synchronous_commit(const RunSettings *resolved);

#endif							/* BACKFILL_SETTINGS_SETTINGS_H */
