/*-------------------------------------------------------------------------
 *
 * callee.h
 *	  A function of the user's, kept by its name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_CALLEE_H
#define BACKFILL_BASE_CALLEE_H

#include "catalog/pg_proc.h"

/* A function that is to be called, by the name that it had. */
typedef struct Callee
{
	char	   *schema;
	char	   *name;
	Oid			owner;			/* when it was given */
	Oid			function;		/* see callee_resolve; InvalidOid if not known */
} Callee;

/* Whether a function can be what it is to be, by its arguments. */
typedef bool (*CalleeFit) (Form_pg_proc form);

/* What such functions are, for finding one and for errors. */
typedef struct CalleeKind
{
	CalleeFit	fit;
	const char *what;			/* "hook" */
	const char *takes;			/* "an argument of the type ..." */
	const char *gone_hint;		/* what to do if there is none */
	const char *owner_hint;		/* and if it is somebody else's */
} CalleeKind;

extern bool callee_is_event(Oid type, const char *name);
extern bool callee_read(Callee *callee, Oid function, const CalleeKind *kind);
extern Oid	callee_resolve(Callee *callee, Oid run_owner, const CalleeKind *kind);

#endif							/* BACKFILL_BASE_CALLEE_H */
