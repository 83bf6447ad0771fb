/*-------------------------------------------------------------------------
 *
 * find.c
 *	  Looking for runs: those beside which another must not be, those of a name.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "store/find.h"
#include "store/status.h"
#include "store/store.h"

/* A run that is not over, or is to begin again. */
#define ACTIVE \
	"(status IN ('pending', 'enqueued', 'running', 'paused') OR requested = 'enqueued') " \
	"AND backfill.is_local(database, system_identifier)"

/* Not a run that waits for that one. */
#define NOT_WAITING_FOR(id) \
	"(status <> 'pending' OR \"after\" IS NULL OR " id " <> ALL (\"after\"))"

/* ---- runs in the way ---- */

/* One of the queries for the number of a run, or 0. */
static int64
find_run(Sql *sql, Datum *args, const char *nulls)
{
	bool		isnull;
	Datum		value;

	store_sql(sql, args, nulls);
	value = store_column(0, 1, &isnull);
	return isnull ? 0 : DatumGetInt64(value);
}

static Sql sql_find_active_run = {
	"SELECT min(id) FROM backfill.run "
	" WHERE name = $1 AND " ACTIVE,
	1, {TEXTOID}
};

/* The id of the oldest run of the definition that has not ended, or 0. */
int64
store_find_active_run(StoreSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};

	return find_run(&sql_find_active_run, args, NULL);
}

static Sql sql_find_equal_run = {
	"SELECT min(id) FROM backfill.run "
	" WHERE name = $1 AND parameters = $2 AND id <> $3 AND owner = $4::regrole "
	"   AND ($5 IS NULL OR id <> ALL ($5)) AND (NOT generic OR target = $6) "
	"   AND " NOT_WAITING_FOR("$3") " AND " ACTIVE,
	6, {TEXTOID, JSONBOID, INT8OID, OIDOID, INT8ARRAYOID, OIDOID}
};

/*
 * The owner's oldest active run of the definition with equal parameters, and, if it is
 * generic, on the target, or 0.
 * The run "except" and those in "after", which may be NULL, do not count.
 */
int64
store_find_equal_run(StoreSession *session, const char *name, Oid owner,
					   Oid target, Jsonb *parameters, ArrayType *after, int64 except)
{
	Datum		args[] = {
		CStringGetTextDatum(name),
		JsonbPGetDatum(parameters),
		Int64GetDatum(except),
		ObjectIdGetDatum(owner),
		PointerGetDatum(after),
		ObjectIdGetDatum(target)
	};

	return find_run(&sql_find_equal_run, args, after ? "      " : "    n ");
}

static Sql sql_find_target_run = {
	"SELECT min(id) FROM backfill.run "
	" WHERE (target = $1::regclass "
	"        OR target IN (SELECT relid FROM pg_partition_tree($1::regclass)) "
	"        OR target IN (SELECT relid FROM pg_partition_ancestors($1::regclass) AS relid)) "
	"   AND id <> $2 AND ($3 IS NULL OR id <> ALL ($3)) "
	"   AND " NOT_WAITING_FOR("$2") " AND " ACTIVE,
	3, {OIDOID, INT8OID, INT8ARRAYOID}
};

/* The oldest active run on the table, a partition or a parent of it, or 0; likewise. */
int64
store_find_target_run(StoreSession *session, Oid target, ArrayType *after, int64 except)
{
	Datum		args[] = {
		ObjectIdGetDatum(target),
		Int64GetDatum(except),
		PointerGetDatum(after)
	};

	return find_run(&sql_find_target_run, args, after ? "   " : "  n");
}

static Sql sql_find_dependent = {
	"SELECT min(id) FROM backfill.run WHERE $1 = ANY (\"after\") AND status = 'pending'",
	1, {INT8OID}
};

/* A run that waits for this one, or 0. */
int64
store_find_dependent(StoreSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	return find_run(&sql_find_dependent, args, NULL);
}

/* ---- runs by name ---- */

/* Whether the role $2 may control the run, or $3, sees all of them. */
#define VISIBLE \
	"($3 OR pg_has_role($2, r.owner::oid, 'USAGE'))"

/* A run that is not over, here or elsewhere, or is to begin again. */
#define UNFINISHED \
	"(r.status IN ('pending', 'enqueued', 'running', 'paused') OR r.requested = 'enqueued')"

/* One of those that backfill_resume has go on: it is held, or about to be, or a copy. */
#define HELD \
	"(r.status = 'paused' OR r.requested IN ('paused', 'stopped') " \
	" OR NOT backfill.is_local(r.database, r.system_identifier))"

/* One that is over, but is not done, nor has been done by a later one. */
#define GIVEN_UP \
	"r.status IN ('failed', 'stopped') AND NOT EXISTS (" \
	"SELECT FROM backfill.run l WHERE l.name = r.name AND l.owner = r.owner AND l.id > r.id " \
	"   AND l.parameters = r.parameters AND (NOT r.generic OR l.target = r.target) " \
	"   AND l.status = 'completed')"

/* What makes a RunFound. */
#define FOUND \
	"r.id, r.status, r.parameters::text, CASE WHEN r.generic THEN r.target::oid END"

static Sql sql_unfinished_runs = {
	"SELECT " FOUND " FROM backfill.run r "
	" WHERE r.name = $1 AND " VISIBLE " AND " UNFINISHED " ORDER BY r.id LIMIT $4",
	4, {TEXTOID, OIDOID, BOOLOID, INT8OID}
};

static Sql sql_held_runs = {
	"SELECT " FOUND " FROM backfill.run r "
	" WHERE r.name = $1 AND " VISIBLE " AND " UNFINISHED " AND " HELD " ORDER BY r.id LIMIT $4",
	4, {TEXTOID, OIDOID, BOOLOID, INT8OID}
};

/*
 * The first runs of the name that are not over, or, with "held", those of them that
 * can be resumed: RunFound, at most so many.
 */
List *
store_unfinished_runs(StoreSession *session, const RunSight *sight, const char *name,
					  bool held, int64 most)
{
	Datum		args[] = {
		CStringGetTextDatum(name),
		ObjectIdGetDatum(sight->role),
		BoolGetDatum(sight->all),
		Int64GetDatum(most)
	};
	uint64		n = store_sql(held ? &sql_held_runs : &sql_unfinished_runs, args, NULL);
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		RunFound   *found = MemoryContextAlloc(session->caller, sizeof(RunFound));
		MemoryContext old;
		Datum		target;
		bool		isnull;

		found->id = DatumGetInt64(store_column(i, 1, NULL));
		found->status = status_from_name(store_text(session, i, 2));
		found->parameters = store_text(session, i, 3);
		target = store_column(i, 4, &isnull);
		found->target = isnull ? InvalidOid : DatumGetObjectId(target);
		old = MemoryContextSwitchTo(session->caller);
		result = lappend(result, found);
		MemoryContextSwitchTo(old);
	}
	return result;
}

static Sql sql_last_run = {
	"SELECT max(r.id) FROM backfill.run r WHERE r.name = $1 AND " VISIBLE,
	3, {TEXTOID, OIDOID, BOOLOID}
};

static Sql sql_last_given_up = {
	"SELECT max(r.id) FROM backfill.run r WHERE r.name = $1 AND " VISIBLE " AND " GIVEN_UP,
	3, {TEXTOID, OIDOID, BOOLOID}
};

/* The latest run of the name, or of those that failed or were stopped, or 0. */
int64
store_last_run(StoreSession *session, const RunSight *sight, const char *name, bool given_up)
{
	Datum		args[] = {
		CStringGetTextDatum(name),
		ObjectIdGetDatum(sight->role),
		BoolGetDatum(sight->all)
	};

	return find_run(given_up ? &sql_last_given_up : &sql_last_run, args, NULL);
}

/* What a run shares with the definition that it was started from, if both are what they were. */
#define LIKE_DEFINITION \
	"(r.target = $4::regclass AND r.statement = $5 AND r.scope IS NOT DISTINCT FROM $6 " \
	" AND r.streams IS NOT DISTINCT FROM $8 " \
	" AND r.settings -> 'from' IS NOT DISTINCT FROM $7 -> 'from' " \
	" AND r.settings -> 'to' IS NOT DISTINCT FROM $7 -> 'to' " \
	" AND r.settings -> 'limit' IS NOT DISTINCT FROM $7 -> 'limit')"

static Sql sql_find_kin = {
	"SELECT r.id, r.status, r.requested IS NOT NULL, " LIKE_DEFINITION
	"  FROM backfill.run r "
	" WHERE r.name = $1 AND r.owner = $2::regrole AND r.parameters = $3 "
	"   AND (NOT r.generic OR r.target = $4::regclass) "
	" ORDER BY r.status = 'completed' AND r.requested IS NULL AND " LIKE_DEFINITION " DESC, "
	"       " UNFINISHED " AND backfill.is_local(r.database, r.system_identifier) DESC, "
	"       r.id DESC LIMIT 1",
	8, {TEXTOID, OIDOID, JSONBOID, OIDOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID}
};

/*
 * Of the runs of the definition with these parameters: one that has completed and has
 * done all that the definition says now; or else one that is active; or else the latest.
 */
RunKin
store_find_kin(StoreSession *session, const DefinitionInfo *def, Jsonb *parameters)
{
	char		nulls[] = "        ";
	Datum		args[] = {
		CStringGetTextDatum(def->name),
		ObjectIdGetDatum(def->owner),
		JsonbPGetDatum(parameters),
		ObjectIdGetDatum(def->target),
		CStringGetTextDatum(def->statement),
		store_text_or_null(def->scope, &nulls[5]),
		JsonbPGetDatum(def->settings),
		store_text_or_null(def->streams, &nulls[7])
	};
	RunKin		kin = {0};

	if (store_sql(&sql_find_kin, args, nulls) == 0)
		return kin;
	kin.id = DatumGetInt64(store_column(0, 1, NULL));
	kin.status = status_from_name(store_text(session, 0, 2));
	kin.is_requested = DatumGetBool(store_column(0, 3, NULL));
	kin.is_like = DatumGetBool(store_column(0, 4, NULL));
	return kin;
}

static Sql sql_definition_names = {
	"SELECT r.name FROM backfill.definition r WHERE " VISIBLE
	" ORDER BY r.name = $1 DESC, r.name LIMIT $4",
	4, {TEXTOID, OIDOID, BOOLOID, INT8OID}
};

/*
 * Names of definitions, at most so many, their number in *n; the one that is asked
 * for first, if it is there.
 */
char **
store_definition_names(StoreSession *session, const RunSight *sight, const char *name,
					   int64 most, int *n)
{
	Datum		args[] = {
		CStringGetTextDatum(name),
		ObjectIdGetDatum(sight->role),
		BoolGetDatum(sight->all),
		Int64GetDatum(most)
	};
	char	  **result;

	*n = (int) store_sql(&sql_definition_names, args, NULL);
	result = MemoryContextAlloc(session->caller, sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		result[i] = store_text(session, i, 1);
	return result;
}
