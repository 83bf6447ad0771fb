/*-------------------------------------------------------------------------
 *
 * parameters.h
 *	  Parameters of a run: declared, given, read in the statement and the scope.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SETTINGS_PARAMETERS_H
#define BACKFILL_SETTINGS_PARAMETERS_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "base/compat.h"

/* The relations whose columns they seem to be. */
#define PARAMETERS_GIVEN	"params"
#define PARAMETERS_RUN		"run"

/* One name that the statement and the scope may use. */
typedef struct Parameter
{
	const char *relation;		/* "run", "params", or whose they are that were added */
	char	   *name;
	Oid			type;
	int32		typmod;
	Datum		value;
	bool		isnull;
} Parameter;

typedef struct Parameters
{
	int			n;
	Parameter  *items;
} Parameters;

/* What a run says of itself; zero and null where there is no run. */
typedef struct RunFacts
{
	int64		id;				/* 0 is null */
	const char *name;
	TimestampTz started_at;		/* DT_NOBEGIN is null */
	TimestampTz since;			/* DT_NOBEGIN is -infinity */
	TimestampTz until;			/* DT_NOBEGIN is null */
	const char *stream;			/* NULL is null */
} RunFacts;

extern void parameters_check(Jsonb *declaration);
extern Jsonb *parameters_types(Jsonb *declaration);
extern Jsonb *parameters_bind(Jsonb *declaration, Jsonb *given);
compat_noreturn extern void parameters_missing(const char *name);
extern Parameters *parameters_load(Jsonb *declaration, Jsonb *values,
								   const RunFacts *facts);
extern void parameters_take_facts(Parameters *parameters, const RunFacts *facts);
extern Parameters *parameters_with(const Parameters *parameters, const Parameter *added,
								   int n);
extern bool parameters_is_relation(const Parameters *parameters, const char *name);

#endif							/* BACKFILL_SETTINGS_PARAMETERS_H */
