/*-------------------------------------------------------------------------
 *
 * catalog_run.c
 *	  The rows of definitions and runs.
 *
 * The SQL texts are in catalog.c.  Everything here is called between
 * catalog_begin and catalog_end; results are in the memory context that was
 * current at catalog_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog_sql.h"

/* ---- definitions ---- */

/* The definition with that name, or NULL. */
DefinitionInfo *
catalog_load_definition(CatalogSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};
	DefinitionInfo *def;

	if (catalog_sql(SQL_LOAD_DEFINITION, args, NULL) == 0)
		return NULL;
	def = MemoryContextAllocZero(session->caller, sizeof(DefinitionInfo));
	def->name = catalog_text(session, 0, 1);
	def->owner = DatumGetObjectId(catalog_column(0, 2, NULL));
	def->target = DatumGetObjectId(catalog_column(0, 3, NULL));
	def->statement = catalog_text(session, 0, 4);
	def->scope = catalog_text(session, 0, 5);
	def->key = catalog_text(session, 0, 6);
	def->settings = catalog_varlena(session, 0, 7);
	def->search_path = catalog_text(session, 0, 8);
	def->description = catalog_text(session, 0, 9);
	def->parameters = catalog_varlena(session, 0, 10);
	def->finish = catalog_text(session, 0, 11);
	def->then = catalog_varlena(session, 0, 12);
	return def;
}

/* Insert the definition or replace the one of the same name and owner. */
void
catalog_store_definition(CatalogSession *session, const DefinitionInfo *def)
{
	char		nulls[] = "            ";
	Datum		args[] = {
		CStringGetTextDatum(def->name),
		ObjectIdGetDatum(def->owner),
		ObjectIdGetDatum(def->target),
		CStringGetTextDatum(def->statement),
		catalog_text_or_null(def->scope, &nulls[4]),
		catalog_text_or_null(def->key, &nulls[5]),
		JsonbPGetDatum(def->settings),
		CStringGetTextDatum(def->search_path),
		catalog_text_or_null(def->description, &nulls[8]),
		JsonbPGetDatum(def->parameters),
		catalog_text_or_null(def->finish, &nulls[10]),
		PointerGetDatum(def->then)
	};

	if (def->then == NULL)
		nulls[11] = 'n';

	if (catalog_sql(SQL_STORE_DEFINITION, args, nulls) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("backfill definition \"%s\" was created by somebody else in the meantime",
						def->name)));
}

/*
 * Keep the definition from being dropped until the end of the transaction.
 * Returns false when there is none.
 */
bool
catalog_lock_definition(CatalogSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};

	return catalog_sql(SQL_LOCK_DEFINITION, args, NULL) > 0;
}

/* Delete the definition, then its hooks: nobody can add one any more. */
void
catalog_delete_definition(CatalogSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};

	catalog_sql(SQL_DELETE_DEFINITION, args, NULL);
	catalog_sql(SQL_DELETE_HOOKS, args, NULL);
}

/* One of the queries for the number of a run, or 0. */
static int64
find_run(SqlId sql, Datum *args, const char *nulls)
{
	bool		isnull;
	Datum		value;

	catalog_sql(sql, args, nulls);
	value = catalog_column(0, 1, &isnull);
	return isnull ? 0 : DatumGetInt64(value);
}

/* The id of the oldest run of the definition that has not ended, or 0. */
int64
catalog_find_active_run(CatalogSession *session, const char *name)
{
	Datum		args[] = {CStringGetTextDatum(name)};

	return find_run(SQL_FIND_ACTIVE_RUN, args, NULL);
}

/*
 * The owner's oldest active run of the definition with equal parameters, or 0.
 * The run "except" and those in "after", which may be NULL, do not count.
 */
int64
catalog_find_equal_run(CatalogSession *session, const char *name, Oid owner,
					   Jsonb *parameters, ArrayType *after, int64 except)
{
	Datum		args[] = {
		CStringGetTextDatum(name),
		JsonbPGetDatum(parameters),
		Int64GetDatum(except),
		ObjectIdGetDatum(owner),
		PointerGetDatum(after)
	};

	return find_run(SQL_FIND_EQUAL_RUN, args, after ? "     " : "    n");
}

/* The oldest active run on the table, a partition or a parent of it, or 0; likewise. */
int64
catalog_find_target_run(CatalogSession *session, Oid target, ArrayType *after, int64 except)
{
	Datum		args[] = {
		ObjectIdGetDatum(target),
		Int64GetDatum(except),
		PointerGetDatum(after)
	};

	return find_run(SQL_FIND_TARGET_RUN, args, after ? "   " : "  n");
}

/* The start of the definition's last completed run, or DT_NOBEGIN. */
TimestampTz
catalog_last_started(CatalogSession *session, const DefinitionInfo *def)
{
	Datum		args[] = {CStringGetTextDatum(def->name), ObjectIdGetDatum(def->owner)};
	bool		isnull;
	Datum		value;

	catalog_sql(SQL_LAST_STARTED, args, NULL);
	value = catalog_column(0, 1, &isnull);
	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* ---- runs ---- */

/* Insert a run of the definition.  Returns its id. */
int64
catalog_insert_run(CatalogSession *session, const DefinitionInfo *def,
				   Oid started_by, Jsonb *parameters, Jsonb *parameter_types,
				   Jsonb *settings, RunStatus status, TimestampTz start_at,
				   ArrayType *after)
{
	char		nulls[] = "                  ";
	Datum		args[] = {
		CStringGetTextDatum(def->name),
		CStringGetTextDatum(status_name(status)),
		ObjectIdGetDatum(def->owner),
		ObjectIdGetDatum(started_by),
		ObjectIdGetDatum(MyDatabaseId),
		Int64GetDatum((int64) GetSystemIdentifier()),
		ObjectIdGetDatum(def->target),
		CStringGetTextDatum(def->statement),
		catalog_text_or_null(def->scope, &nulls[8]),
		catalog_text_or_null(def->key, &nulls[9]),
		JsonbPGetDatum(settings),
		CStringGetTextDatum(def->search_path),
		TimestampTzGetDatum(start_at),
		JsonbPGetDatum(parameters),
		JsonbPGetDatum(parameter_types),
		catalog_text_or_null(def->finish, &nulls[15]),
		PointerGetDatum(def->then),
		PointerGetDatum(after)
	};

	if (def->then == NULL)
		nulls[16] = 'n';
	if (after == NULL)
		nulls[17] = 'n';

	if (TIMESTAMP_IS_NOBEGIN(start_at))
		nulls[12] = 'n';
	catalog_sql(SQL_INSERT_RUN, args, nulls);
	return DatumGetInt64(catalog_column(0, 1, NULL));
}

/* A time, DT_NOBEGIN if null. */
static TimestampTz
read_time(int row, int column)
{
	bool		isnull;
	Datum		value = catalog_column(row, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static RunInfo *
read_run(CatalogSession *session, int row)
{
	RunInfo    *run = MemoryContextAllocZero(session->caller, sizeof(RunInfo));
	char	   *requested;
	Datum		batch_size;
	bool		isnull;

	run->id = DatumGetInt64(catalog_column(row, 1, NULL));
	run->name = catalog_text(session, row, 2);
	run->status = status_from_name(catalog_text(session, row, 3));
	requested = catalog_text(session, row, 4);
	run->is_requested = requested != NULL;
	if (requested)
		run->requested = status_from_name(requested);
	run->immediate = DatumGetBool(catalog_column(row, 5, NULL));
	run->owner = DatumGetObjectId(catalog_column(row, 6, NULL));
	run->is_local = DatumGetBool(catalog_column(row, 7, NULL));
	run->target = DatumGetObjectId(catalog_column(row, 8, NULL));
	run->statement = catalog_text(session, row, 9);
	run->scope = catalog_text(session, row, 10);
	run->key = catalog_text(session, row, 11);
	run->settings = catalog_varlena(session, row, 12);
	run->search_path = catalog_text(session, row, 13);
	run->start_at = read_time(row, 14);
	run->key_types = catalog_varlena(session, row, 15);
	run->start_key = catalog_varlena(session, row, 16);
	run->end_key = catalog_varlena(session, row, 17);
	run->wait_reason = catalog_text(session, row, 18);
	run->parameters = catalog_varlena(session, row, 19);
	run->parameter_types = catalog_varlena(session, row, 20);
	run->finish = catalog_text(session, row, 21);
	run->finish_step = DatumGetInt32(catalog_column(row, 22, NULL));
	run->verified = DatumGetBool(catalog_column(row, 23, NULL));
	run->started_at = read_time(row, 24);
	run->since = read_time(row, 25);
	run->requested_by = catalog_text(session, row, 26);
	run->request_reason = catalog_text(session, row, 27);
	run->error = catalog_text(session, row, 28);
	run->sqlstate = catalog_text(session, row, 29);
	run->rollup_number = DatumGetInt64(catalog_column(row, 30, NULL));
	run->then = catalog_varlena(session, row, 31);
	run->after = catalog_varlena(session, row, 32);
	batch_size = catalog_column(row, 33, &isnull);
	run->batch_size = isnull ? 0 : DatumGetInt64(batch_size);
	run->throttled_by = catalog_text(session, row, 34);
	return run;
}

/* The run with that id, or NULL; locked on demand. */
RunInfo *
catalog_load_run(CatalogSession *session, int64 id, bool for_update)
{
	Datum		args[] = {Int64GetDatum(id)};

	if (catalog_sql(for_update ? SQL_LOCK_RUN : SQL_LOAD_RUN, args, NULL) == 0)
		return NULL;
	return read_run(session, 0);
}

/* The same, locked; NULL also when somebody else has it locked. */
RunInfo *
catalog_try_run(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	return catalog_sql(SQL_TRY_RUN, args, NULL) == 0 ? NULL : read_run(session, 0);
}

static List *
read_runs(CatalogSession *session, SqlId sql)
{
	uint64		n = catalog_sql(sql, NULL, NULL);
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

/* The runs that can be stopped, those of copies included. */
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

	catalog_sql(SQL_DELETE_ERRORS, args, NULL);
	catalog_sql(SQL_DELETE_BATCHES, args, NULL);
	catalog_sql(SQL_DELETE_RUN, args, NULL);
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

	catalog_sql(SQL_SET_STATUS, args, NULL);
}

/*
 * Ask for a status that the run takes when its workers have let go.  The role
 * that asks, and how it does, go with it; NULL for backfill itself.
 */
void
catalog_request(CatalogSession *session, int64 id, RunStatus requested, bool immediate,
				const char *role, const char *reason)
{
	char		nulls[] = "     ";
	Datum		args[] = {
		Int64GetDatum(id),
		CStringGetTextDatum(status_name(requested)),
		BoolGetDatum(immediate),
		catalog_text_or_null(role, &nulls[3]),
		catalog_text_or_null(reason, &nulls[4])
	};

	catalog_sql(SQL_REQUEST, args, nulls);
}

void
catalog_cancel_request(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id), (Datum) 0, BoolGetDatum(false), (Datum) 0, (Datum) 0};

	catalog_sql(SQL_REQUEST, args, " n nn");
}

/* Remember what fails the run. */
void
catalog_set_error(CatalogSession *session, int64 id, const RunError *error)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		Int64GetDatum(id),
		catalog_text_or_null(error->sqlstate, &nulls[1]),
		catalog_text_or_null(error->message, &nulls[2]),
		catalog_text_or_null(error->detail, &nulls[3]),
		catalog_text_or_null(error->hint, &nulls[4]),
		catalog_text_or_null(error->context, &nulls[5])
	};

	catalog_sql(SQL_SET_ERROR, args, nulls);
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

	catalog_sql(SQL_ADOPT_RUN, args, NULL);
}

void
catalog_set_settings(CatalogSession *session, int64 id, Jsonb *settings)
{
	Datum		args[] = {Int64GetDatum(id), JsonbPGetDatum(settings)};

	catalog_sql(SQL_SET_SETTINGS, args, NULL);
}

/* Say why the run does not move; NULL when it does. */
void
catalog_set_wait_reason(CatalogSession *session, int64 id, const char *reason)
{
	char		nulls[] = "  ";
	Datum		args[] = {Int64GetDatum(id), catalog_text_or_null(reason, &nulls[1])};

	catalog_sql(SQL_SET_WAIT_REASON, args, nulls);
}

/* Remember the ends of the walk. */
void
catalog_set_ends(CatalogSession *session, int64 id, ArrayType *key_names,
				 ArrayType *key_types, ArrayType *start_key, ArrayType *end_key, double rows_total)
{
	Datum		args[] = {
		Int64GetDatum(id),
		PointerGetDatum(key_names),
		PointerGetDatum(start_key),
		PointerGetDatum(end_key),
		Int64GetDatum((int64) rows_total),
		PointerGetDatum(key_types)
	};

	catalog_sql(SQL_SET_ENDS, args, NULL);
}

/* Add the batches that have ended up in the row of the run. */
void
catalog_rollup(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	catalog_sql(SQL_ROLLUP, args, NULL);
}

/* What backfill_wait prints, or NULL when there is no such run. */
RunProgress *
catalog_progress(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};
	RunProgress *p;
	bool		isnull;

	if (catalog_sql(SQL_PROGRESS, args, NULL) == 0)
		return NULL;
	p = MemoryContextAllocZero(session->caller, sizeof(RunProgress));
	p->name = catalog_text(session, 0, 1);
	p->status = status_from_name(catalog_text(session, 0, 2));
	p->wait_reason = catalog_text(session, 0, 3);
	p->sqlstate = catalog_text(session, 0, 4);
	p->error = catalog_text(session, 0, 5);
	p->error_detail = catalog_text(session, 0, 6);
	p->error_hint = catalog_text(session, 0, 7);
	p->progress = catalog_text(session, 0, 8);
	p->eta = catalog_text(session, 0, 9);
	p->rows_scanned = DatumGetInt64(catalog_column(0, 10, NULL));
	p->rows_total = DatumGetInt64(catalog_column(0, 11, &isnull));
	if (isnull)
		p->rows_total = -1;
	p->rows_per_second = DatumGetFloat8(catalog_column(0, 12, &isnull));
	if (isnull)
		p->rows_per_second = -1;
	p->owner = DatumGetObjectId(catalog_column(0, 13, NULL));
	return p;
}

/* What the verification found, and whether the run has passed it. */
void
catalog_set_remaining(CatalogSession *session, int64 id, int64 rows, bool verified)
{
	Datum		args[] = {Int64GetDatum(id), Int64GetDatum(rows), BoolGetDatum(verified)};

	catalog_sql(SQL_SET_REMAINING, args, NULL);
}

/* So many statements of "finish" are done. */
void
catalog_set_finish_step(CatalogSession *session, int64 id, int step)
{
	Datum		args[] = {Int64GetDatum(id), Int32GetDatum(step)};

	catalog_sql(SQL_SET_FINISH_STEP, args, NULL);
}

/* A number from the view of runs; 0 when there is no such run. */
static int64
run_number(SqlId sql, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	return catalog_sql(sql, args, NULL) == 0 ? 0 :
		DatumGetInt64(catalog_column(0, 1, NULL));
}

/* The rows that the run has processed so far. */
int64
catalog_run_rows(CatalogSession *session, int64 id)
{
	return run_number(SQL_RUN_ROWS, id);
}

/* The rows that failed in the run, were skipped, and are not resolved. */
int64
catalog_run_errors(CatalogSession *session, int64 id)
{
	return run_number(SQL_RUN_ERRORS, id);
}

/*
 * The owner's code is about to run at the end of the run, or has run in good
 * order.  Returns how many workers have begun with it and have not been heard
 * of since.  Those that ended with the server in good order do not count.
 */
int
catalog_note_closing(CatalogSession *session, int64 id, bool begins, int64 boot,
					 bool clean_start)
{
	Datum		args[] = {
		Int64GetDatum(id),
		BoolGetDatum(begins),
		Int64GetDatum(boot),
		BoolGetDatum(clean_start)
	};

	return catalog_sql(SQL_NOTE_CLOSING, args, NULL) == 0 ? 0 :
		DatumGetInt32(catalog_column(0, 1, NULL));
}

/* ---- dependencies ---- */

/*
 * The first of the runs that is not completed, one that has ended badly before
 * one that is still active; 0 if all are.  Its status goes to *status, NULL if
 * it was deleted.
 */
int64
catalog_unmet_dependency(CatalogSession *session, ArrayType *after, char **status)
{
	Datum		args[] = {PointerGetDatum(after)};

	if (catalog_sql(SQL_UNMET_DEPENDENCY, args, NULL) == 0)
		return 0;
	*status = catalog_text(session, 0, 2);
	return DatumGetInt64(catalog_column(0, 1, NULL));
}

/* A run that waits for this one, or 0. */
int64
catalog_find_dependent(CatalogSession *session, int64 id)
{
	Datum		args[] = {Int64GetDatum(id)};

	return find_run(SQL_FIND_DEPENDENT, args, NULL);
}

/* Whether the definitions lead to the one of that name, over whatever others. */
bool
catalog_then_reaches(CatalogSession *session, Jsonb *then, const char *name)
{
	Datum		args[] = {JsonbPGetDatum(then), CStringGetTextDatum(name)};

	return catalog_sql(SQL_THEN_REACHES, args, NULL) > 0;
}
