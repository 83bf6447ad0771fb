/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  Access to the tables of the schema "backfill".
 *
 * Every SQL text against our own tables stands here and nowhere else.  It runs
 * as the owner of the extension, in a security-restricted operation, with
 * search_path pinned, for exactly the time between catalog_begin and
 * catalog_end; an error in between restores everything with the transaction.
 * No user code can run in that time: the tables have no triggers, rules or
 * policies, and nobody else may add any.
 *
 * Every statement reads with the newest snapshot, whatever the isolation level
 * of the transaction: the claim at the end of a REPEATABLE READ batch must see
 * what other workers have claimed since it began.
 *
 * The plans are kept for the life of the process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"

#define MAX_ARGS 14

#define RUN_COLUMNS \
	"id, name, status, requested, immediate, owner::oid, " \
	"backfill.is_local(database, system_identifier), target::oid, statement, " \
	"scope, key, settings, search_path, start_at, key_names, start_key, " \
	"end_key, wait_reason"

/* Batches that may not have ended are those after the ones added up. */
#define OPEN_BATCHES \
	"run_id = $1 AND number > (SELECT rollup_number FROM backfill.run WHERE id = $1)"

typedef enum SqlId
{
	SQL_LOAD_DEFINITION,
	SQL_STORE_DEFINITION,
	SQL_DELETE_DEFINITION,
	SQL_FIND_ACTIVE_RUN,
	SQL_INSERT_RUN,
	SQL_LOAD_RUN,
	SQL_LOCK_RUN,
	SQL_ACTIVE_RUNS,
	SQL_CONTROL_RUNS,
	SQL_DELETE_RUN,
	SQL_DELETE_BATCHES,
	SQL_SET_STATUS,
	SQL_REQUEST,
	SQL_SET_ERROR,
	SQL_ADOPT_RUN,
	SQL_SET_SETTINGS,
	SQL_SET_WAIT_REASON,
	SQL_SET_ENDS,
	SQL_ROLLUP,
	SQL_PROGRESS,
	SQL_LAST_BATCH,
	SQL_INSERT_BATCH,
	SQL_TAKE_PENDING,
	SQL_COMPLETE_BATCH,
	SQL_GIVE_BACK_BATCH,
	SQL_RETRY_BATCH,
	SQL_RECOVER_BATCHES,
	SQL_REOPEN_BATCHES,
	SQL_OPEN_BATCHES
} SqlId;

typedef struct Sql
{
	const char *text;
	int			nargs;
	Oid			types[MAX_ARGS];
	SPIPlanPtr	plan;
} Sql;

static Sql sqls[] = {
	[SQL_LOAD_DEFINITION] = {
		"SELECT name, owner::oid, target::oid, statement, scope, key, settings, "
		"       search_path, description "
		"  FROM backfill.definition WHERE name = $1 FOR UPDATE",
	1, {TEXTOID}},
	[SQL_STORE_DEFINITION] = {
		"INSERT INTO backfill.definition AS d (name, owner, target, statement, scope, "
		"       key, settings, search_path, description) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
		"ON CONFLICT (name) DO UPDATE SET target = excluded.target, "
		"       statement = excluded.statement, scope = excluded.scope, "
		"       key = excluded.key, settings = excluded.settings, "
		"       search_path = excluded.search_path, "
		"       description = excluded.description, updated_at = now() "
		" WHERE d.owner = excluded.owner",
	9, {TEXTOID, OIDOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID}},
	[SQL_DELETE_DEFINITION] = {
		"DELETE FROM backfill.definition WHERE name = $1",
	1, {TEXTOID}},
	[SQL_FIND_ACTIVE_RUN] = {
		"SELECT min(id) FROM backfill.run "
		" WHERE name = $1 AND status IN ('pending', 'enqueued', 'running', 'paused') "
		"   AND backfill.is_local(database, system_identifier)",
	1, {TEXTOID}},
	[SQL_INSERT_RUN] = {
		"INSERT INTO backfill.run (name, status, owner, started_by, database, "
		"       system_identifier, target, statement, scope, key, settings, "
		"       search_path, start_at) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id",
	13, {TEXTOID, TEXTOID, OIDOID, OIDOID, OIDOID, INT8OID, OIDOID, TEXTOID,
	TEXTOID, TEXTOID, JSONBOID, TEXTOID, TIMESTAMPTZOID}},
	[SQL_LOAD_RUN] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run WHERE id = $1",
	1, {INT8OID}},
	[SQL_LOCK_RUN] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run WHERE id = $1 FOR NO KEY UPDATE",
	1, {INT8OID}},
	[SQL_ACTIVE_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run "
		" WHERE status IN ('pending', 'enqueued', 'running') "
		"   AND backfill.is_local(database, system_identifier) ORDER BY id",
	0},
	[SQL_CONTROL_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM backfill.run "
		" WHERE status IN ('pending', 'enqueued', 'running', 'paused') "
		" ORDER BY id FOR NO KEY UPDATE",
	0},
	[SQL_DELETE_RUN] = {
		"DELETE FROM backfill.run WHERE id = $1",
	1, {INT8OID}},
	[SQL_DELETE_BATCHES] = {
		"DELETE FROM backfill.batch WHERE run_id = $1",
	1, {INT8OID}},
	[SQL_SET_STATUS] = {
		"UPDATE backfill.run SET status = $2, requested = NULL, immediate = false, "
		"       wait_reason = NULL, "
		"       started_at = CASE WHEN $2 = 'running' THEN coalesce(started_at, $3) ELSE started_at END, "
		"       finished_at = CASE WHEN $2 IN ('completed', 'failed', 'stopped') THEN $3 END, "
		"       rows_total = CASE WHEN $2 = 'completed' AND rows_total IS NULL THEN 0 ELSE rows_total END, "
		"       sqlstate = CASE WHEN $2 = 'failed' THEN sqlstate END, "
		"       error = CASE WHEN $2 = 'failed' THEN error END, "
		"       error_detail = CASE WHEN $2 = 'failed' THEN error_detail END, "
		"       error_hint = CASE WHEN $2 = 'failed' THEN error_hint END, "
		"       error_context = CASE WHEN $2 = 'failed' THEN error_context END "
		" WHERE id = $1",
	3, {INT8OID, TEXTOID, TIMESTAMPTZOID}},
	[SQL_REQUEST] = {
		"UPDATE backfill.run SET requested = $2, immediate = $3 WHERE id = $1",
	3, {INT8OID, TEXTOID, BOOLOID}},
	[SQL_SET_ERROR] = {
		"UPDATE backfill.run SET sqlstate = $2, error = $3, error_detail = $4, "
		"       error_hint = $5, error_context = $6 WHERE id = $1",
	6, {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}},
	[SQL_ADOPT_RUN] = {
		"UPDATE backfill.run SET database = $2, system_identifier = $3 WHERE id = $1",
	3, {INT8OID, OIDOID, INT8OID}},
	[SQL_SET_SETTINGS] = {
		"UPDATE backfill.run SET settings = $2 WHERE id = $1",
	2, {INT8OID, JSONBOID}},
	[SQL_SET_WAIT_REASON] = {
		"UPDATE backfill.run SET wait_reason = $2 "
		" WHERE id = $1 AND wait_reason IS DISTINCT FROM $2",
	2, {INT8OID, TEXTOID}},
	[SQL_SET_ENDS] = {
		"UPDATE backfill.run SET key_names = $2, start_key = $3, end_key = $4, "
		"       rows_total = $5, wait_reason = NULL WHERE id = $1",
	5, {INT8OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID}},
	[SQL_ROLLUP] = {
		"WITH first_open AS ("
		"  SELECT min(number) AS number FROM backfill.batch "
		"   WHERE " OPEN_BATCHES " AND status <> 'completed'), "
		"ended AS ("
		"  SELECT max(b.number) AS number, count(*) AS batches, "
		"         sum(b.rows_scanned) AS rows_scanned, "
		"         sum(b.rows_affected) AS rows_affected, sum(b.wal_bytes) AS wal_bytes "
		"    FROM backfill.batch b CROSS JOIN first_open f "
		"   WHERE b.run_id = $1 "
		"     AND b.number > (SELECT rollup_number FROM backfill.run WHERE id = $1) "
		"     AND (f.number IS NULL OR b.number < f.number)) "
		"UPDATE backfill.run r SET rollup_number = e.number, "
		"       batches = r.batches + e.batches, "
		"       rows_scanned = r.rows_scanned + e.rows_scanned, "
		"       rows_affected = r.rows_affected + e.rows_affected, "
		"       wal_bytes = r.wal_bytes + e.wal_bytes "
		"  FROM ended e WHERE r.id = $1 AND e.batches > 0",
	1, {INT8OID}},
	[SQL_PROGRESS] = {
		"SELECT name, status, wait_reason, sqlstate, error, error_detail, error_hint, "
		"       progress::text, eta::text, rows_scanned, rows_total, rows_per_second, "
		"       owner::oid "
		"  FROM backfill.run_progress WHERE id = $1",
	1, {INT8OID}},
	[SQL_LAST_BATCH] = {
		"SELECT number, end_key FROM backfill.batch WHERE run_id = $1 "
		" ORDER BY number DESC LIMIT 1",
	1, {INT8OID}},
	[SQL_INSERT_BATCH] = {
		"INSERT INTO backfill.batch (run_id, number, start_key, end_key, "
		"       start_inclusive, status, rows_scanned, worker, pid) "
		"VALUES ($1, $2, $3, $4, $5, 'running', $6, $7, $8)",
	8, {INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, INT8OID, INT8OID, INT4OID}},
	[SQL_TAKE_PENDING] = {
		"UPDATE backfill.batch SET status = 'running', attempt = attempt + 1, "
		"       worker = $2, pid = $3 "
		" WHERE run_id = $1 AND number = ("
		"   SELECT number FROM backfill.batch "
		"    WHERE " OPEN_BATCHES " AND status = 'pending' AND crashes < $4 "
		"    ORDER BY number LIMIT 1) "
		"RETURNING number, start_key, end_key, start_inclusive, attempt, crashes, rows_scanned",
	4, {INT8OID, INT8OID, INT4OID, INT4OID}},
	[SQL_COMPLETE_BATCH] = {
		"UPDATE backfill.batch SET status = 'completed', rows_affected = $4, "
		"       wal_bytes = $5, started_at = $6, finished_at = $7, "
		"       duration = $7 - $6, attempt = $8 "
		" WHERE run_id = $1 AND number = $2 AND status = 'running' AND worker = $3",
	8, {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}},
	[SQL_GIVE_BACK_BATCH] = {
		"UPDATE backfill.batch SET status = $4, error = coalesce($5, error), "
		"       finished_at = CASE WHEN $4 = 'pending' THEN NULL ELSE now() END "
		" WHERE run_id = $1 AND number = $2 AND status = 'running' AND worker = $3",
	5, {INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID}},
	[SQL_RETRY_BATCH] = {
		"UPDATE backfill.batch SET attempt = attempt + 1, error = $4 "
		" WHERE run_id = $1 AND number = $2 AND status = 'running' AND worker = $3",
	4, {INT8OID, INT8OID, INT8OID, TEXTOID}},
	[SQL_RECOVER_BATCHES] = {
		"UPDATE backfill.batch SET status = 'pending', crashes = crashes + 1, "
		"       error = 'the worker that had the batch in hand died' "
		" WHERE " OPEN_BATCHES " AND status = 'running' AND NOT worker = ANY ($2) "
		"RETURNING number, crashes",
	2, {INT8OID, INT8ARRAYOID}},
	[SQL_REOPEN_BATCHES] = {
		"UPDATE backfill.batch SET status = CASE status WHEN 'running' THEN status ELSE 'pending' END, "
		"       crashes = 0, finished_at = NULL "
		" WHERE " OPEN_BATCHES " AND status <> 'completed'",
	1, {INT8OID}},
	[SQL_OPEN_BATCHES] = {
		"SELECT count(*) FROM backfill.batch "
		" WHERE " OPEN_BATCHES " AND status <> 'completed'",
	1, {INT8OID}}
};

static Oid	extension_owner = InvalidOid;
static LocalTransactionId locked_in = InvalidLocalTransactionId;

/* ---- who we are ---- */

/* OID and owner of the extension, or InvalidOid. */
static Oid
find_extension(Oid *owner)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("backfill"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * Lock the extension against being dropped until the end of the transaction.
 * DROP EXTENSION locks it first too, then its tables: whoever locks in this
 * order never deadlocks with it.  Returns false when there is no extension.
 */
bool
catalog_lock_extension(void)
{
	Oid			extension;
	Oid			owner;

	if (locked_in == compat_my_lxid())
		return true;
	for (;;)
	{
		extension = find_extension(&owner);
		if (!OidIsValid(extension))
			return false;
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		if (find_extension(&owner) == extension)
			break;
		UnlockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	}
	extension_owner = owner;
	locked_in = compat_my_lxid();
	return true;
}

/*
 * Become the owner of the extension.  Results go to what is the current memory
 * context now.  Raises an error when the extension is gone.
 */
void
catalog_begin(CatalogSession *session)
{
	static const char path[] = "pg_catalog, pg_temp";

	if (!catalog_lock_extension())
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"backfill\" does not exist")));
	session->caller = CurrentMemoryContext;
	GetUserIdAndSecContext(&session->saved_userid, &session->saved_context);
	SetUserIdAndSecContext(extension_owner, session->saved_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	session->nest = NewGUCNestLevel();
	if (strcmp(GetConfigOption("search_path", false, false), path) != 0)
		(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
}

/* Become again who we were. */
void
catalog_end(CatalogSession *session)
{
	SPI_finish();
	AtEOXact_GUC(false, session->nest);
	SetUserIdAndSecContext(session->saved_userid, session->saved_context);
}

/* ---- running SQL ---- */

static SPIPlanPtr
get_plan(Sql *sql)
{
	if (sql->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(sql->text, sql->nargs, sql->types);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", sql->text,
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		sql->plan = plan;
	}
	return sql->plan;
}

/* Run one of the texts; nulls as for SPI, or NULL.  Returns the row count. */
static uint64
run_sql(SqlId id, Datum *values, const char *nulls)
{
	int			rc = SPI_execute_snapshot(get_plan(&sqls[id]), values, nulls,
										  GetLatestSnapshot(), InvalidSnapshot,
										  false, true, 0);

	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", sqls[id].text,
			 SPI_result_code_string(rc));
	return SPI_processed;
}

/* A column of a result row; *isnull may be NULL where null is an error. */
static Datum
get_column(int row, int column, bool *isnull)
{
	bool		null;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
									  column, &null);

	if (isnull)
		*isnull = null;
	else if (null)
		elog(ERROR, "unexpected null in column %d", column);
	return value;
}

/* A text column, copied into the caller's memory context, or NULL. */
static char *
get_text(CatalogSession *session, int row, int column)
{
	bool		isnull;
	Datum		value = get_column(row, column, &isnull);
	char	   *result;
	MemoryContext old;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(session->caller);
	result = TextDatumGetCString(value);
	MemoryContextSwitchTo(old);
	return result;
}

/* Any varlena column, detoasted and copied likewise, or NULL. */
static void *
get_varlena(CatalogSession *session, int row, int column)
{
	bool		isnull;
	Datum		value = get_column(row, column, &isnull);
	void	   *result;
	MemoryContext old;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(session->caller);
	result = PG_DETOAST_DATUM_COPY(value);
	MemoryContextSwitchTo(old);
	return result;
}

static Datum
text_or_null(const char *text, char *null)
{
	*null = text ? ' ' : 'n';
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/* ---- definitions ---- */

/* The definition with that name, locked, or NULL. */
DefinitionInfo *
catalog_load_definition(CatalogSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};
	DefinitionInfo *def;

	if (run_sql(SQL_LOAD_DEFINITION, args, NULL) == 0)
		return NULL;
	def = MemoryContextAllocZero(session->caller, sizeof(DefinitionInfo));
	def->name = get_text(session, 0, 1);
	def->owner = DatumGetObjectId(get_column(0, 2, NULL));
	def->target = DatumGetObjectId(get_column(0, 3, NULL));
	def->statement = get_text(session, 0, 4);
	def->scope = get_text(session, 0, 5);
	def->key = get_text(session, 0, 6);
	def->settings = get_varlena(session, 0, 7);
	def->search_path = get_text(session, 0, 8);
	def->description = get_text(session, 0, 9);
	return def;
}

/* Insert the definition or replace the one of the same name and owner. */
void
catalog_store_definition(CatalogSession *session, const DefinitionInfo *def)
{
	char		nulls[] = "         ";
	Datum		args[] = {
		CStringGetTextDatum(def->name),
		ObjectIdGetDatum(def->owner),
		ObjectIdGetDatum(def->target),
		CStringGetTextDatum(def->statement),
		text_or_null(def->scope, &nulls[4]),
		text_or_null(def->key, &nulls[5]),
		JsonbPGetDatum(def->settings),
		CStringGetTextDatum(def->search_path),
		text_or_null(def->description, &nulls[8])
	};

	if (run_sql(SQL_STORE_DEFINITION, args, nulls) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("backfill definition \"%s\" was created by somebody else in the meantime",
						def->name)));
}

void
catalog_delete_definition(CatalogSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};

	run_sql(SQL_DELETE_DEFINITION, args, NULL);
}

/* The id of the oldest run of the definition that has not ended, or 0. */
int64
catalog_find_active_run(CatalogSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};
	bool		isnull;
	Datum		value;

	run_sql(SQL_FIND_ACTIVE_RUN, args, NULL);
	value = get_column(0, 1, &isnull);
	return isnull ? 0 : DatumGetInt64(value);
}

/* ---- runs ---- */

/* Insert a run of the definition.  Returns its id. */
int64
catalog_insert_run(CatalogSession *session, const DefinitionInfo *def,
				   Oid started_by, Jsonb *settings, RunStatus status,
				   TimestampTz start_at)
{
	char		nulls[] = "             ";
	Datum		args[] = {
		CStringGetTextDatum(def->name),
		CStringGetTextDatum(status_name(status)),
		ObjectIdGetDatum(def->owner),
		ObjectIdGetDatum(started_by),
		ObjectIdGetDatum(MyDatabaseId),
		Int64GetDatum((int64) GetSystemIdentifier()),
		ObjectIdGetDatum(def->target),
		CStringGetTextDatum(def->statement),
		text_or_null(def->scope, &nulls[8]),
		text_or_null(def->key, &nulls[9]),
		JsonbPGetDatum(settings),
		CStringGetTextDatum(def->search_path),
		TimestampTzGetDatum(start_at)
	};

	if (TIMESTAMP_IS_NOBEGIN(start_at))
		nulls[12] = 'n';
	run_sql(SQL_INSERT_RUN, args, nulls);
	return DatumGetInt64(get_column(0, 1, NULL));
}

static RunInfo *
read_run(CatalogSession *session, int row)
{
	RunInfo    *run = MemoryContextAllocZero(session->caller, sizeof(RunInfo));
	bool		isnull;
	char	   *requested;

	run->id = DatumGetInt64(get_column(row, 1, NULL));
	run->name = get_text(session, row, 2);
	run->status = status_from_name(get_text(session, row, 3));
	requested = get_text(session, row, 4);
	run->is_requested = requested != NULL;
	if (requested)
		run->requested = status_from_name(requested);
	run->immediate = DatumGetBool(get_column(row, 5, NULL));
	run->owner = DatumGetObjectId(get_column(row, 6, NULL));
	run->is_local = DatumGetBool(get_column(row, 7, NULL));
	run->target = DatumGetObjectId(get_column(row, 8, NULL));
	run->statement = get_text(session, row, 9);
	run->scope = get_text(session, row, 10);
	run->key = get_text(session, row, 11);
	run->settings = get_varlena(session, row, 12);
	run->search_path = get_text(session, row, 13);
	run->start_at = DatumGetTimestampTz(get_column(row, 14, &isnull));
	if (isnull)
		TIMESTAMP_NOBEGIN(run->start_at);
	run->key_names = get_varlena(session, row, 15);
	run->start_key = get_varlena(session, row, 16);
	run->end_key = get_varlena(session, row, 17);
	run->wait_reason = get_text(session, row, 18);
	return run;
}

/* The run with that id, or NULL; locked on demand. */
RunInfo *
catalog_load_run(CatalogSession *session, int64 id, bool for_update)
{
	Datum		args[] = {Int64GetDatum(id)};

	if (run_sql(for_update ? SQL_LOCK_RUN : SQL_LOAD_RUN, args, NULL) == 0)
		return NULL;
	return read_run(session, 0);
}

static List *
read_runs(CatalogSession *session, SqlId sql)
{
	uint64		n = run_sql(sql, NULL, NULL);
	List	   *result = NIL;
	MemoryContext old;

	for (uint64 i = 0; i < n; i++)
	{
		RunInfo    *run = read_run(session, i);

		old = MemoryContextSwitchTo(session->caller);
		result = lappend(result, run);
		MemoryContextSwitchTo(old);
	}
	return result;
}

/* The runs of this database that the scheduler has to look after. */
List *
catalog_active_runs(CatalogSession *session)
{
	return read_runs(session, SQL_ACTIVE_RUNS);
}

/* The runs that can be stopped, locked, those of copies included. */
List *
catalog_control_runs(CatalogSession *session)
{
	return read_runs(session, SQL_CONTROL_RUNS);
}

/* Delete a run with its batches. */
void
catalog_delete_run(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	run_sql(SQL_DELETE_BATCHES, args, NULL);
	run_sql(SQL_DELETE_RUN, args, NULL);
}

/* Set the status, with the times that go with it; clears any request. */
void
catalog_set_status(CatalogSession *session, int64 id, RunStatus status)
{
	Datum		args[] = {
		Int64GetDatum(id),
		CStringGetTextDatum(status_name(status)),
		TimestampTzGetDatum(GetCurrentTimestamp())
	};

	run_sql(SQL_SET_STATUS, args, NULL);
}

/* Ask for a status that the run takes when its workers have let go. */
void
catalog_request(CatalogSession *session, int64 id, RunStatus requested, bool immediate)
{
	Datum		args[] = {
		Int64GetDatum(id),
		CStringGetTextDatum(status_name(requested)),
		BoolGetDatum(immediate)
	};

	run_sql(SQL_REQUEST, args, NULL);
}

void
catalog_cancel_request(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id), (Datum) 0, BoolGetDatum(false)};

	run_sql(SQL_REQUEST, args, " n ");
}

/* Remember what fails the run. */
void
catalog_set_error(CatalogSession *session, int64 id, const RunError *error)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		Int64GetDatum(id),
		text_or_null(error->sqlstate, &nulls[1]),
		text_or_null(error->message, &nulls[2]),
		text_or_null(error->detail, &nulls[3]),
		text_or_null(error->hint, &nulls[4]),
		text_or_null(error->context, &nulls[5])
	};

	run_sql(SQL_SET_ERROR, args, nulls);
}

/* Make the run one of this database. */
void
catalog_adopt_run(CatalogSession *session, int64 id)
{
	Datum		args[] = {
		Int64GetDatum(id),
		ObjectIdGetDatum(MyDatabaseId),
		Int64GetDatum((int64) GetSystemIdentifier())
	};

	run_sql(SQL_ADOPT_RUN, args, NULL);
}

void
catalog_set_settings(CatalogSession *session, int64 id, Jsonb *settings)
{
	Datum		args[] = {Int64GetDatum(id), JsonbPGetDatum(settings)};

	run_sql(SQL_SET_SETTINGS, args, NULL);
}

/* Say why the run does not move; NULL when it does. */
void
catalog_set_wait_reason(CatalogSession *session, int64 id, const char *reason)
{
	char		nulls[] = "  ";
	Datum		args[] = {Int64GetDatum(id), text_or_null(reason, &nulls[1])};

	run_sql(SQL_SET_WAIT_REASON, args, nulls);
}

/* Remember the ends of the walk. */
void
catalog_set_ends(CatalogSession *session, int64 id, ArrayType *key_names,
				 ArrayType *start_key, ArrayType *end_key, double rows_total)
{
	Datum		args[] = {
		Int64GetDatum(id),
		PointerGetDatum(key_names),
		PointerGetDatum(start_key),
		PointerGetDatum(end_key),
		Int64GetDatum((int64) rows_total)
	};

	run_sql(SQL_SET_ENDS, args, NULL);
}

/* Add the batches that have ended up in the row of the run. */
void
catalog_rollup(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	run_sql(SQL_ROLLUP, args, NULL);
}

/* What backfill_wait prints, or NULL when there is no such run. */
RunProgress *
catalog_progress(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};
	RunProgress *p;
	bool		isnull;

	if (run_sql(SQL_PROGRESS, args, NULL) == 0)
		return NULL;
	p = MemoryContextAllocZero(session->caller, sizeof(RunProgress));
	p->name = get_text(session, 0, 1);
	p->status = status_from_name(get_text(session, 0, 2));
	p->wait_reason = get_text(session, 0, 3);
	p->sqlstate = get_text(session, 0, 4);
	p->error = get_text(session, 0, 5);
	p->error_detail = get_text(session, 0, 6);
	p->error_hint = get_text(session, 0, 7);
	p->progress = get_text(session, 0, 8);
	p->eta = get_text(session, 0, 9);
	p->rows_scanned = DatumGetInt64(get_column(0, 10, NULL));
	p->rows_total = DatumGetInt64(get_column(0, 11, &isnull));
	if (isnull)
		p->rows_total = -1;
	p->rows_per_second = DatumGetFloat8(get_column(0, 12, &isnull));
	if (isnull)
		p->rows_per_second = -1;
	p->owner = DatumGetObjectId(get_column(0, 13, NULL));
	return p;
}

/* ---- batches ---- */

/* Number and end of the batch claimed last; false when there is none. */
bool
catalog_last_batch(CatalogSession *session, int64 run_id, int64 *number,
				   ArrayType **end_key)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	if (run_sql(SQL_LAST_BATCH, args, NULL) == 0)
		return false;
	*number = DatumGetInt64(get_column(0, 1, NULL));
	*end_key = get_varlena(session, 0, 2);
	return true;
}

/* Insert a batch that this process has claimed. */
void
catalog_insert_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
					 int64 token)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		PointerGetDatum(batch->start_key),
		PointerGetDatum(batch->end_key),
		BoolGetDatum(batch->start_inclusive),
		Int64GetDatum(batch->rows_scanned),
		Int64GetDatum(token),
		Int32GetDatum(MyProcPid)
	};

	run_sql(SQL_INSERT_BATCH, args, NULL);
}

/*
 * Claim the first pending batch that has brought down fewer workers than
 * given; NULL when there is none.  The caller holds the claim lock.
 */
BatchInfo *
catalog_take_pending(CatalogSession *session, int64 run_id, int64 token,
					 int crashes_below)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(token),
		Int32GetDatum(MyProcPid),
		Int32GetDatum(crashes_below)
	};
	BatchInfo  *batch;

	if (run_sql(SQL_TAKE_PENDING, args, NULL) == 0)
		return NULL;
	batch = MemoryContextAllocZero(session->caller, sizeof(BatchInfo));
	batch->number = DatumGetInt64(get_column(0, 1, NULL));
	batch->start_key = get_varlena(session, 0, 2);
	batch->end_key = get_varlena(session, 0, 3);
	batch->start_inclusive = DatumGetBool(get_column(0, 4, NULL));
	batch->attempt = DatumGetInt32(get_column(0, 5, NULL));
	batch->crashes = DatumGetInt32(get_column(0, 6, NULL));
	batch->rows_scanned = DatumGetInt64(get_column(0, 7, NULL));
	return batch;
}

/*
 * Mark the batch completed.  Returns false when it is not this worker's any
 * more: the transaction must then be rolled back.
 */
bool
catalog_complete_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
					   int64 token, const BatchResult *result)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(batch->number),
		Int64GetDatum(token),
		Int64GetDatum(result->rows_affected),
		Int64GetDatum(result->wal_bytes),
		TimestampTzGetDatum(result->started_at),
		TimestampTzGetDatum(result->finished_at),
		Int32GetDatum(batch->attempt)
	};

	return run_sql(SQL_COMPLETE_BATCH, args, NULL) == 1;
}

/* Let go of a batch that was not done, with the status given. */
bool
catalog_give_back_batch(CatalogSession *session, int64 run_id, int64 number,
						int64 token, const char *status, const char *error)
{
	char		nulls[] = "     ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int64GetDatum(token),
		CStringGetTextDatum(status),
		text_or_null(error, &nulls[4])
	};

	return run_sql(SQL_GIVE_BACK_BATCH, args, nulls) == 1;
}

/* Note that the batch is tried again. */
void
catalog_retry_batch(CatalogSession *session, int64 run_id, int64 number,
					int64 token, const char *error)
{
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(number),
		Int64GetDatum(token),
		CStringGetTextDatum(error)
	};

	run_sql(SQL_RETRY_BATCH, args, NULL);
}

/*
 * Make running batches pending whose worker is none of the living.  Returns
 * their number; *worst and *crashes tell of the one that brought down most.
 */
int
catalog_recover_batches(CatalogSession *session, int64 run_id, int64 *tokens,
						int ntokens, int64 *worst, int *crashes)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(ntokens, 1));
	Datum		args[2];
	uint64		n;

	for (int i = 0; i < ntokens; i++)
		elements[i] = Int64GetDatum(tokens[i]);
	args[0] = Int64GetDatum(run_id);
	args[1] = PointerGetDatum(construct_array(elements, ntokens, INT8OID,
											  sizeof(int64), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
	n = run_sql(SQL_RECOVER_BATCHES, args, NULL);
	*worst = 0;
	*crashes = 0;
	for (uint64 i = 0; i < n; i++)
	{
		int			c = DatumGetInt32(get_column(i, 2, NULL));

		if (c > *crashes)
		{
			*crashes = c;
			*worst = DatumGetInt64(get_column(i, 1, NULL));
		}
	}
	return (int) n;
}

/* Have the batches that failed or were stopped done again. */
int64
catalog_reopen_batches(CatalogSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	return (int64) run_sql(SQL_REOPEN_BATCHES, args, NULL);
}

/* The number of batches that were claimed and are not completed. */
int64
catalog_open_batches(CatalogSession *session, int64 run_id)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	run_sql(SQL_OPEN_BATCHES, args, NULL);
	return DatumGetInt64(get_column(0, 1, NULL));
}
