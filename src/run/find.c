/*-------------------------------------------------------------------------
 *
 * find.c
 *	  The run that somebody means, by its id or by its name.
 *
 * The name of a definition stands for its only active run, or, if none is active, for
 * its latest one.  Only runs count that the caller may control, or, where he only
 * looks, that he may see: of others he is not told that they are there.
 *
 * An untyped literal in SQL is a text where a function takes a text or a number.  So a
 * text of digits which is nobody's name is an id.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/nearest.h"
#include "run/access.h"
#include "run/find.h"
#include "run/title.h"
#include "store/find.h"
#include "store/run.h"
#include "store/status.h"

/* So many runs are listed, with so many bytes of their parameters. */
#define LISTED				10
#define LISTED_PARAMETERS	100

/* Among so many definitions the name is looked for that may have been meant. */
#define NAMES				1000

/* The first argument of an SQL function, which is not null: an id, or a name. */
FindKey
find_key_arg(FunctionCallInfo fcinfo)
{
	Oid		   *types;
	int			n;

	(void) get_func_signature(fcinfo->flinfo->fn_oid, &types, &n);
	if (types[0] == TEXTOID)
		return (FindKey) {.name = text_to_cstring(PG_GETARG_TEXT_PP(0))};
	return (FindKey) {.id = PG_GETARG_INT64(0)};
}

/* Whether the text can be the id of a run. */
static bool
is_id(const char *name, int64 *id)
{
	int			length = strlen(name);

	if (length == 0 || length > 18 || strspn(name, "0123456789") != length)
		return false;
	*id = strtoll(name, NULL, 10);
	return true;
}

/* Raises an error: several runs of the name are active. */
compat_noreturn static void
ambiguous(const char *name, List *runs)
{
	StringInfoData list;
	ListCell   *lc;
	int			n = 0;

	initStringInfo(&list);
	foreach(lc, runs)
	{
		RunFound   *run = lfirst(lc);
		int			length = strlen(run->parameters);
		int			shown = pg_mbcliplen(run->parameters, length, LISTED_PARAMETERS);

		if (n++ == LISTED)
			break;
		appendStringInfo(&list, "%srun " INT64_FORMAT ", %s, %s%s%swith the parameters %.*s%s",
						 n > 1 ? "\n" : "", run->id, status_name(run->status),
						 OidIsValid(run->target) ? "on " : "",
						 OidIsValid(run->target) ? title_table(run->target) : "",
						 OidIsValid(run->target) ? ", " : "", shown, run->parameters, shown < length ? "..." : "");
	}
	if (n > LISTED)
		appendStringInfoString(&list, "\nand others");
	ereport(ERROR,
			(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
			 errmsg("several runs of backfill definition \"%s\" are active", name),
			 errdetail_internal("%s", list.data),
			 errhint("Give the id of the one that is meant.")));
}

/* Raises an error: there is no run of the name.  "is_defined": a definition there is. */
compat_noreturn static void
none(const char *name, bool is_defined, char **names, int n)
{
	const char *nearest;

	if (is_defined)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill definition \"%s\" has no run", name),
				 errhint("backfill_start starts one.")));
	nearest = nearest_name(name, (const char *const *) names, n);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no backfill definition \"%s\", and no run of it", name),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) :
			 errhint("The view backfill_runs shows the runs you may control.")));
}

/* The run that the name stands for, or 0. */
static int64
find_by_name(StoreSession *session, const RunSight *sight, const char *name, FindPurpose purpose)
{
	List	   *runs = NIL;

	if (purpose == FIND_TO_RESUME)
	{
		int64		id;

		runs = store_unfinished_runs(session, sight, name, true, LISTED + 1);
		if (runs == NIL && (id = store_last_run(session, sight, name, true)) != 0)
			return id;
	}
	if (runs == NIL)
		runs = store_unfinished_runs(session, sight, name, false, LISTED + 1);
	if (list_length(runs) > 1)
		ambiguous(name, runs);
	if (runs != NIL)
		return ((RunFound *) linitial(runs))->id;
	return store_last_run(session, sight, name, false);
}

/*
 * The id of the run that is meant.  One that was given is not looked up.  Raises an
 * error if the name stands for none, or for several.
 */
int64
find_id(StoreSession *session, const FindKey *key, FindPurpose purpose, Oid caller)
{
	RunSight	sight = {
		.role = caller,
		.all = purpose == FIND_TO_WATCH && has_privs_of_role(caller, ROLE_PG_MONITOR)
	};
	int64		id;
	char	  **names;
	int			n;
	bool		is_defined;

	if (key->name == NULL)
		return key->id;
	id = find_by_name(session, &sight, key->name, purpose);
	if (id != 0)
		return id;
	names = store_definition_names(session, &sight, key->name, NAMES, &n);
	is_defined = n > 0 && strcmp(names[0], key->name) == 0;
	if (is_defined || !is_id(key->name, &id))
		none(key->name, is_defined, names, n);
	return id;
}

/* The run that is meant, locked on demand, which the caller may control, or an error. */
RunInfo *
find_run(StoreSession *session, const FindKey *key, FindPurpose purpose, Oid caller,
		 bool for_update)
{
	return access_find_run(session, find_id(session, key, purpose, caller), caller, for_update);
}
