/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  The rows of definitions.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/definition.h"
#include "store/store.h"

/* Read STORE_SOURCE_COLUMNS, which begin at that column. */
void
store_read_source(StoreSession *session, int row, int column, SourceInfo *source)
{
	bool		isnull;

	source->function = store_text(session, row, column);
	source->owner = DatumGetObjectId(store_column(row, column + 1, &isnull));
	source->check = store_text(session, row, column + 2);
	source->check_owner = DatumGetObjectId(store_column(row, column + 3, &isnull));
}

static Sql sql_load_definition = {
	"SELECT name, owner::oid, target::oid, statement, scope, key, settings, "
	"       search_path, description, parameters, followers, prepare, finish, generic, streams, "
	STORE_SOURCE_COLUMNS
	"  FROM backfill.definition WHERE name = $1",
	1, {TEXTOID}
};

/* The definition with that name, or NULL. */
DefinitionInfo *
store_load_definition(StoreSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};
	DefinitionInfo *def;
	Datum		target;
	bool		isnull;

	if (store_sql(&sql_load_definition, args, NULL) == 0)
		return NULL;
	def = MemoryContextAllocZero(session->caller, sizeof(DefinitionInfo));
	def->name = store_text(session, 0, 1);
	def->owner = DatumGetObjectId(store_column(0, 2, NULL));
	target = store_column(0, 3, &isnull);
	def->target = isnull ? InvalidOid : DatumGetObjectId(target);
	def->statement = store_text(session, 0, 4);
	def->scope = store_text(session, 0, 5);
	def->key = store_text(session, 0, 6);
	def->settings = store_varlena(session, 0, 7);
	def->search_path = store_text(session, 0, 8);
	def->description = store_text(session, 0, 9);
	def->parameters = store_varlena(session, 0, 10);
	def->followers = store_varlena(session, 0, 11);
	def->stages[STAGE_PREPARE] = store_text(session, 0, 12);
	def->stages[STAGE_FINISH] = store_text(session, 0, 13);
	def->generic = DatumGetBool(store_column(0, 14, NULL));
	def->streams = store_text(session, 0, 15);
	store_read_source(session, 0, 16, &def->source);
	return def;
}

static Sql sql_store_definition = {
	"INSERT INTO backfill.definition AS d (name, owner, target, statement, scope, "
	"       key, settings, search_path, description, parameters, followers, prepare, "
	"       finish, generic, streams, source, source_owner, source_check, source_check_owner) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) "
	"ON CONFLICT (name) DO UPDATE SET target = excluded.target, "
	"       statement = excluded.statement, scope = excluded.scope, "
	"       key = excluded.key, settings = excluded.settings, "
	"       search_path = excluded.search_path, "
	"       description = excluded.description, parameters = excluded.parameters, "
	"       followers = excluded.followers, prepare = excluded.prepare, "
	"       finish = excluded.finish, generic = excluded.generic, "
	"       streams = excluded.streams, "
	"       source = excluded.source, source_owner = excluded.source_owner, "
	"       source_check = excluded.source_check, "
	"       source_check_owner = excluded.source_check_owner, updated_at = now() "
	" WHERE d.owner = excluded.owner",
	19, {TEXTOID, OIDOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID,
	JSONBOID, JSONBOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID,
	TEXTOID, OIDOID, TEXTOID, OIDOID}
};

/* Insert the definition or replace the one of the same name and owner. */
void
store_put_definition(StoreSession *session, const DefinitionInfo *def)
{
	char		nulls[] = "                   ";
	Datum		args[] = {
		CStringGetTextDatum(def->name),
		ObjectIdGetDatum(def->owner),
		ObjectIdGetDatum(def->target),
		store_text_or_null(def->statement, &nulls[3]),
		store_text_or_null(def->scope, &nulls[4]),
		store_text_or_null(def->key, &nulls[5]),
		JsonbPGetDatum(def->settings),
		CStringGetTextDatum(def->search_path),
		store_text_or_null(def->description, &nulls[8]),
		JsonbPGetDatum(def->parameters),
		PointerGetDatum(def->followers),
		store_text_or_null(def->stages[STAGE_PREPARE], &nulls[11]),
		store_text_or_null(def->stages[STAGE_FINISH], &nulls[12]),
		BoolGetDatum(def->generic),
		store_text_or_null(def->streams, &nulls[14]),
		store_text_or_null(def->source.function, &nulls[15]),
		ObjectIdGetDatum(def->source.owner),
		store_text_or_null(def->source.check, &nulls[17]),
		ObjectIdGetDatum(def->source.check_owner)
	};

	if (!OidIsValid(def->source.owner))
		nulls[16] = 'n';
	if (!OidIsValid(def->source.check_owner))
		nulls[18] = 'n';

	if (!OidIsValid(def->target))
		nulls[2] = 'n';
	if (def->followers == NULL)
		nulls[10] = 'n';

	if (store_sql(&sql_store_definition, args, nulls) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("backfill definition \"%s\" was created by somebody else in the meantime",
						def->name)));
}

static Sql sql_lock_definition = {
	"SELECT FROM backfill.definition WHERE name = $1 FOR KEY SHARE",
	1, {TEXTOID}
};

/*
 * Keep the definition from being dropped until the end of the transaction.
 * Returns false when there is none.
 */
bool
store_lock_definition(StoreSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};

	return store_sql(&sql_lock_definition, args, NULL) > 0;
}

static Sql sql_delete_definition = {
	"DELETE FROM backfill.definition WHERE name = $1",
	1, {TEXTOID}
};

static Sql sql_delete_hooks = {
	"DELETE FROM backfill.hook WHERE name = $1",
	1, {TEXTOID}
};

/* Delete the definition, then its hooks: nobody can add one any more. */
void
store_delete_definition(StoreSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};

	store_sql(&sql_delete_definition, args, NULL);
	store_sql(&sql_delete_hooks, args, NULL);
}

static Sql sql_last_started = {
	"SELECT max(coalesce(until, started_at)) FROM backfill.run "
	" WHERE name = $1 AND owner = $2 AND status = 'completed' AND ($3 IS NULL OR target = $3)",
	3, {TEXTOID, OIDOID, OIDOID}
};

/*
 * The start of the definition's last completed run, or DT_NOBEGIN; of a generic one's,
 * that on the target it has been given.
 */
TimestampTz
store_last_started(StoreSession *session, const DefinitionInfo *def)
{
	Datum		args[] = {
		CStringGetTextDatum(def->name),
		ObjectIdGetDatum(def->owner),
		ObjectIdGetDatum(def->target)
	};
	bool		isnull;
	Datum		value;

	store_sql(&sql_last_started, args, def->generic ? "   " : "  n");
	value = store_column(0, 1, &isnull);
	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static Sql sql_followers_reach = {
	"WITH RECURSIVE reached(name) AS ("
	"  SELECT e ->> 'name' FROM jsonb_array_elements($1) e "
	"   UNION "
	"  SELECT e ->> 'name' FROM reached r JOIN backfill.definition d ON d.name = r.name "
	"    CROSS JOIN LATERAL jsonb_array_elements(d.followers) e) "
	"SELECT FROM reached WHERE name = $2",
	2, {JSONBOID, TEXTOID}
};

/* Whether the definitions lead to the one of that name, over whatever others. */
bool
store_followers_reach(StoreSession *session, Jsonb *followers, const char *name)
{
	Datum		args[] = {JsonbPGetDatum(followers), CStringGetTextDatum(name)};

	return store_sql(&sql_followers_reach, args, NULL) > 0;
}
