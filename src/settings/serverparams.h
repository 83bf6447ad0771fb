/*-------------------------------------------------------------------------
 *
 * serverparams.h
 *	  The parameters of the server that a run sets for its statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SETTINGS_SERVERPARAMS_H
#define BACKFILL_SETTINGS_SERVERPARAMS_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* The lists are of those. */
typedef struct ServerParameter
{
	char	   *name;
	char	   *value;
} ServerParameter;

extern List *serverparams_parse(JsonbContainer *object);
extern int	serverparams_enter(const List *given);
extern void serverparams_apply(const List *given);
extern void serverparams_set(const List *given);
extern void serverparams_reset(const List *given);
extern bool serverparams_gives(const List *given, const char *name);
extern List *serverparams_copy(const List *given);
extern bool serverparams_equal(const List *a, const List *b);

#endif							/* BACKFILL_SETTINGS_SERVERPARAMS_H */
