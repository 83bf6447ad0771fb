/*-------------------------------------------------------------------------
 *
 * space.c
 *	  What is kept about the space that a run takes.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "store/space.h"
#include "store/store.h"

static Sql sql_load_space = {
	"SELECT coalesce(table_size, -1), coalesce(index_size, -1), coalesce(table_growth, 0), "
	"       coalesce(index_growth, 0), space_kept_by "
	"  FROM backfill.run WHERE id = $1",
	1, {INT8OID}
};

/* The run exists. */
void
store_load_space(StoreSession *session, int64 run_id, SpaceInfo *space)
{
	Datum		args[] = {Int64GetDatum(run_id)};

	if (store_sql(&sql_load_space, args, NULL) != 1)
		elog(ERROR, "could not find run " INT64_FORMAT, run_id);
	space->table_size = DatumGetInt64(store_column(0, 1, NULL));
	space->index_size = DatumGetInt64(store_column(0, 2, NULL));
	space->table_growth = DatumGetInt64(store_column(0, 3, NULL));
	space->index_growth = DatumGetInt64(store_column(0, 4, NULL));
	space->kept_by = store_text(session, 0, 5);
}

static Sql sql_set_space = {
	"UPDATE backfill.run SET table_size = $2, index_size = $3, table_growth = $4, "
	"       index_growth = $5, space_kept_by = $6 WHERE id = $1",
	6, {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID}
};

void
store_set_space(StoreSession *session, int64 run_id, const SpaceInfo *space)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		Int64GetDatum(run_id),
		Int64GetDatum(space->table_size),
		Int64GetDatum(space->index_size),
		Int64GetDatum(space->table_growth),
		Int64GetDatum(space->index_growth),
		store_text_or_null(space->kept_by, &nulls[5])
	};

	store_sql(&sql_set_space, args, nulls);
}
