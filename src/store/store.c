/*-------------------------------------------------------------------------
 *
 * store.c
 *	  Being the owner of the extension, and running a text.
 *
 * Every SQL text against our own tables stands in this folder, beside the function
 * that runs it, and nowhere else.  It runs as the owner of the extension, in a
 * security-restricted operation, with search_path pinned, for exactly the time
 * between store_begin and store_end; an error in between restores everything with
 * the transaction.  No user code can run in that time: the tables have no triggers,
 * rules or policies, and nobody else may add any.
 *
 * Every statement reads with the newest snapshot, whatever the isolation level of
 * the transaction: the claim at the end of a REPEATABLE READ batch must see what
 * other workers have claimed since it began.
 *
 * The plans are kept for the life of the process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/limit.h"
#include "store/store.h"

/* The version of the SQL that the library is made for: default_version, by the Makefile. */
#ifndef BACKFILL_VERSION
#error "BACKFILL_VERSION must be defined as the version in backfill.control"
#endif

/* Rows that store_each has in memory. */
#define ROWS_AT_ONCE	1000

static Oid	extension_owner = InvalidOid;
static LocalTransactionId locked_in = InvalidLocalTransactionId;

/* ---- who we are ---- */

/* OID, owner and version of the extension, or InvalidOid. */
static Oid
find_extension(Oid *owner, char **version)
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
		bool		isnull;
		Datum		extversion = heap_getattr(tuple, Anum_pg_extension_extversion,
											  RelationGetDescr(rel), &isnull);

		result = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
		*version = isnull ? pstrdup("") : TextDatumGetCString(extversion);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* Compare versions such as 1.9 and 1.10: negative if the first is the older one. */
static int
compare_versions(const char *a, const char *b)
{
	while (*a && *b)
	{
		long		x;
		long		y;
		char	   *a_end;
		char	   *b_end;

		x = strtol(a, &a_end, 10);
		y = strtol(b, &b_end, 10);
		if (a_end == a || b_end == b || *a_end != *b_end || x != y)
			return x != y ? (x < y ? -1 : 1) : strcmp(a, b);
		a = a_end + (*a_end != '\0');
		b = b_end + (*b_end != '\0');
	}
	return (*a != '\0') - (*b != '\0');
}

/*
 * The library and the SQL objects come one after the other when the extension is
 * updated, and in between neither may touch what the other has made.  Whoever
 * calls a function is told so; our processes, which nobody calls, put it into the
 * log and leave.  Returns false then.
 */
static bool
check_version(const char *version)
{
	int			order = compare_versions(version, BACKFILL_VERSION);
	bool		ours = MyBgworkerEntry != NULL &&
		strcmp(MyBgworkerEntry->bgw_library_name, "backfill") == 0;

	if (order == 0)
		return true;
	ereport(ours ? LOG : ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the library of backfill is of version %s, its SQL objects in database \"%s\" are of version %s",
					BACKFILL_VERSION, get_database_name(MyDatabaseId), version),
			 order < 0 ?
			 errhint("Run ALTER EXTENSION backfill UPDATE in this database.") :
			 errhint("Install the library of version %s, and restart the server.", version)));
	return false;
}

/*
 * Lock the extension against being dropped until the end of the transaction.
 * DROP EXTENSION locks it first too, then its tables: whoever locks in this
 * order never deadlocks with it.  Returns false when there is no extension, or, in
 * a process of ours, when it is of another version.
 */
bool
store_lock_extension(void)
{
	Oid			extension;
	Oid			owner;
	char	   *version;

	if (locked_in == compat_my_lxid() && !IsSubTransaction())
		return true;
	for (;;)
	{
		extension = find_extension(&owner, &version);
		if (!OidIsValid(extension))
			return false;
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		if (find_extension(&owner, &version) == extension)
			break;
		UnlockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	}
	if (!check_version(version))
		return false;
	extension_owner = owner;

	/* a lock taken in a subtransaction may be gone before the transaction is */
	if (!IsSubTransaction())
		locked_in = compat_my_lxid();
	return true;
}

/*
 * Become the owner of the extension.  Results go to what is the current memory
 * context now.  Raises an error when the extension is gone.
 */
void
store_begin(StoreSession *session)
{
	static const char path[] = "pg_catalog, pg_temp";

	if (!store_lock_extension())
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

	/* long values of the rows that are read are fetched after the query */
	PushActiveSnapshot(GetLatestSnapshot());
}

/* Become again who we were. */
void
store_end(StoreSession *session)
{
	PopActiveSnapshot();
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

/*
 * Run one of the texts; nulls as for SPI, or NULL.  Returns the row count.  The snapshot
 * is taken when the text has been prepared, which may wait for locks.
 */
uint64
store_sql(Sql *sql, Datum *values, const char *nulls)
{
	SPIPlanPtr	plan = get_plan(sql);
	int			rc = SPI_execute_snapshot(plan, values, nulls, GetLatestSnapshot(),
										  InvalidSnapshot, false, true, 0);

	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql->text,
			 SPI_result_code_string(rc));
	return SPI_processed;
}

/*
 * Lock the row of that version, as for an update that leaves its key, unless somebody else
 * has it, or has changed it since.  The version is one that a snapshot of this transaction
 * sees, so that it is still there.
 */
static bool
lock_version(Oid table, ItemPointer version)
{
	Relation	relation = table_open(table, RowShareLock);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	TM_FailureData failure;
	TM_Result	result = table_tuple_lock(relation, version, GetActiveSnapshot(), slot,
										  GetCurrentCommandId(true), LockTupleNoKeyExclusive,
										  LockWaitSkip, 0, &failure);

	ExecDropSingleTupleTableSlot(slot);
	table_close(relation, NoLock);
	return result == TM_Ok;
}

/*
 * Run one of the texts, which only reads, and whose first columns are the table and the place
 * of a row ("tableoid, ctid"), and lock the first of those that nobody else has or has
 * changed meanwhile.  Returns the row of the result, or -1.  Nothing but that row is locked in
 * the end.  That is why it is not FOR UPDATE SKIP LOCKED, which looks at a row that was
 * changed meanwhile only when it has locked it, and keeps it locked when it does not fit any
 * more: in a client's transaction, which may be long.
 */
int
store_lock_first(Sql *sql, Datum *values, const char *nulls)
{
	uint64		rows = store_sql(sql, values, nulls);

	for (uint64 i = 0; i < rows; i++)
	{
		Oid			table = DatumGetObjectId(store_column(i, 1, NULL));
		ItemPointer version = (ItemPointer) DatumGetPointer(store_column(i, 2, NULL));

		CHECK_FOR_INTERRUPTS();
		if (lock_version(table, version))
			return (int) i;
	}
	return -1;
}

/*
 * Run one of the texts, which only reads, and call the function for each of its rows, in
 * memory that does not grow with their number.  The function must not run any text itself.
 */
void
store_each(Sql *sql, Datum *values, StoreRow function, void *arg)
{
	Portal		portal = SPI_cursor_open(NULL, get_plan(sql), values, NULL, true);
	Datum	   *columns = palloc(sizeof(Datum) * portal->tupDesc->natts);
	bool	   *nulls = palloc(sizeof(bool) * portal->tupDesc->natts);

	for (;;)
	{
		SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, columns, nulls);
			function(columns, nulls, arg);
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
}

/* A column of a result row; *isnull may be NULL where null is an error. */
Datum
store_column(int row, int column, bool *isnull)
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

/* The value as a time, DT_NOBEGIN if null. */
TimestampTz
store_time(int row, int column)
{
	bool		isnull;
	Datum		value = store_column(row, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* A text column, copied into the caller's memory context, or NULL. */
char *
store_text(StoreSession *session, int row, int column)
{
	bool		isnull;
	Datum		value = store_column(row, column, &isnull);
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
void *
store_varlena(StoreSession *session, int row, int column)
{
	bool		isnull;
	Datum		value = store_column(row, column, &isnull);
	void	   *result;
	MemoryContext old;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(session->caller);
	result = PG_DETOAST_DATUM_COPY(value);
	MemoryContextSwitchTo(old);
	return result;
}

Datum
store_text_or_null(const char *text, char *null)
{
	*null = text ? ' ' : 'n';
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/*
 * The same for what an error says, and the like: the owner's code may say a lot,
 * and it is read again and again.
 */
Datum
store_note_or_null(const char *text, char *null)
{
	int			length = text ? strlen(text) : 0;

	if (length <= LIMIT_NOTE)
		return store_text_or_null(text, null);
	*null = ' ';
	return PointerGetDatum(cstring_to_text_with_len(text,
													pg_mbcliplen(text, length, LIMIT_NOTE)));
}
