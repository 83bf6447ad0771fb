/*-------------------------------------------------------------------------
 *
 * copy.c
 *	  The copy of its definition that a run keeps.
 *
 * It is made when the run is inserted: store/run.c.  What changes of it later is here:
 * how far its stages are, another last step, and the definition as it is now.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "store/copy.h"
#include "store/definition.h"
#include "store/run.h"
#include "store/store.h"

/* ---- stages ---- */

/* Whether something of the stage is still to be run. */
bool
store_stage_is_left(const RunInfo *run, Stage stage)
{
	return run->stages[stage].is_given && run->stages[stage].step != STAGE_DONE;
}

static Sql sql_advance_prepare = {
	"UPDATE backfill.run SET prepare_step = $2 "
	" WHERE id = $1 AND prepare_step = $3 AND prepare = $4",
	4, {INT8OID, INT4OID, INT4OID, TEXTOID}
};

static Sql sql_advance_finish = {
	"UPDATE backfill.run SET finish_step = $2 "
	" WHERE id = $1 AND finish_step = $3 AND finish = $4",
	4, {INT8OID, INT4OID, INT4OID, TEXTOID}
};

/*
 * So many statements of the stage are done.  Returns whether that is so: it is not
 * if the stage has become another one, or somebody else has done the same.
 */
bool
store_advance_stage(StoreSession *session, int64 id, Stage stage, const StageInfo *from,
					int step)
{
	Datum		args[] = {
		Int64GetDatum(id),
		Int32GetDatum(step),
		Int32GetDatum(from->step),
		CStringGetTextDatum(from->text)
	};

	return store_sql(stage == STAGE_PREPARE ? &sql_advance_prepare : &sql_advance_finish,
					 args, NULL) > 0;
}

static Sql sql_set_finish = {
	"UPDATE backfill.run SET finish = $2, finish_step = 0 WHERE id = $1",
	2, {INT8OID, TEXTOID}
};

/* Another "finish", or none, with none of its statements done. */
void
store_set_finish(StoreSession *session, int64 id, const char *finish)
{
	char		nulls[] = "  ";
	Datum		args[] = {Int64GetDatum(id), store_text_or_null(finish, &nulls[1])};

	store_sql(&sql_set_finish, args, nulls);
}

/* ---- the definition as it is now ---- */

static Sql sql_replace_copy = {
	"UPDATE backfill.run SET statement = $2, scope = $3, search_path = $4, "
	"       parameters = $5, parameter_types = $6, followers = $7, finish = $8, "
	"       finish_step = CASE WHEN finish IS NOT DISTINCT FROM $8 THEN finish_step ELSE 0 END, "
	"       conditions = NULL, "
	"       prepare = CASE WHEN end_key IS NULL THEN $9 ELSE prepare END, "
	"       prepare_step = CASE WHEN end_key IS NOT NULL OR prepare IS NOT DISTINCT FROM $9 "
	"                      THEN prepare_step ELSE 0 END, "
	"       verified = verified AND statement IS NOT DISTINCT FROM $2 AND scope IS NOT DISTINCT FROM $3 "
	"                  AND parameters = $5 "
	" WHERE id = $1",
	9, {INT8OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID, TEXTOID, TEXTOID}
};

/*
 * The run has the definition from now on, with those values of the parameters.  A
 * stage that has become another one begins anew; what was prepared stays prepared
 * once the walk has begun.  Target, key and settings are the run's.
 */
void
store_replace_copy(StoreSession *session, int64 id, const DefinitionInfo *def,
				   Jsonb *parameters, Jsonb *parameter_types)
{
	char		nulls[] = "         ";
	Datum		args[] = {
		Int64GetDatum(id),
		store_text_or_null(def->statement, &nulls[1]),
		store_text_or_null(def->scope, &nulls[2]),
		CStringGetTextDatum(def->search_path),
		JsonbPGetDatum(parameters),
		JsonbPGetDatum(parameter_types),
		PointerGetDatum(def->followers),
		store_text_or_null(def->stages[STAGE_FINISH], &nulls[7]),
		store_text_or_null(def->stages[STAGE_PREPARE], &nulls[8])
	};

	if (def->followers == NULL)
		nulls[6] = 'n';
	store_sql(&sql_replace_copy, args, nulls);
}
