/*-------------------------------------------------------------------------
 *
 * find.h
 *	  Looking for runs: those beside which another must not be, those of a name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_FIND_H
#define BACKFILL_STORE_FIND_H

#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "store/definition.h"
#include "store/status.h"
#include "store/store.h"

/* Whose runs are looked through. */
typedef struct RunSight
{
	Oid			role;			/* those of owners whose rights it has */
	bool		all;			/* those of everybody */
} RunSight;

/* A run of the name that was looked for. */
typedef struct RunFound
{
	int64		id;
	RunStatus	status;
	char	   *parameters;		/* as a text */
	Oid			target;			/* of a run of a generic definition, or InvalidOid */
} RunFound;

/* A run of a definition with given parameters. */
typedef struct RunKin
{
	int64		id;				/* 0 if there is none */
	RunStatus	status;
	bool		is_requested;
	bool		is_like;		/* its copy and its bounds are the definition's of now */
} RunKin;

extern int64 store_find_active_run(StoreSession *session, const char *name);
extern int64 store_find_equal_run(StoreSession *session, const char *name, Oid owner,
								  Oid target, Jsonb *parameters, ArrayType *after, int64 except);
extern int64 store_find_target_run(StoreSession *session, Oid target, ArrayType *after,
								   int64 except);
extern int64 store_find_dependent(StoreSession *session, int64 id);
extern List *store_unfinished_runs(StoreSession *session, const RunSight *sight,
								   const char *name, bool held, int64 most);
extern int64 store_last_run(StoreSession *session, const RunSight *sight,
							const char *name, bool given_up);
extern RunKin store_find_kin(StoreSession *session, const DefinitionInfo *def,
							 Jsonb *parameters);
extern char **store_definition_names(StoreSession *session, const RunSight *sight,
									 const char *name, int64 most, int *n);

#endif							/* BACKFILL_STORE_FIND_H */
