/*-------------------------------------------------------------------------
 *
 * repair.c
 *	  The repair of a row that failed, as a text.
 *
 * A repair is one statement of the owner's, prepared as the statement of the
 * backfill is: "batch" is the row that failed, params.x and run.x are what they are
 * there, and failed.x is what is known of the failure, the error and the key.  Values
 * are parameters here, too, and never become part of a text that is parsed.
 *
 * What runs it is engine/repair.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "definition/repair.h"

/* So many facts of an error may be read. */
#define FACTS_MAX			10

/* Add a text, which may be NULL. */
static void
add_text(Parameter *added, int *n, const char *name, const char *value)
{
	added[(*n)++] = (Parameter) {
		.relation = REPAIR_FAILED,
		.name = pstrdup(name),
		.type = TEXTOID,
		.typmod = -1,
		.value = value ? CStringGetTextDatum(value) : (Datum) 0,
		.isnull = value == NULL
	};
}

/*
 * What a repair may refer to: what the statement may, and the failure.  The error
 * and the key, columns of the walk, are NULL where only names and types count.  A
 * column of the key that has the name of a fact of the error can only be read from
 * batch.  In the current memory context.
 */
Parameters *
repair_parameters(const Parameters *parameters, const Walk *walk, const Datum *key,
				  const ErrorData *error)
{
	static const ErrorData none = {0};
	Parameter	added[FACTS_MAX + INDEX_MAX_KEYS];
	int			n = 0;

	add_text(added, &n, "sqlstate", error ? unpack_sql_state(error->sqlerrcode) : NULL);
	if (error == NULL)
		error = &none;
	add_text(added, &n, "message", error->message);
	add_text(added, &n, "detail", error->detail);
	add_text(added, &n, "hint", error->hint);
	add_text(added, &n, "context", error->context);
	add_text(added, &n, "schema_name", error->schema_name);
	add_text(added, &n, "table_name", error->table_name);
	add_text(added, &n, "column_name", error->column_name);
	add_text(added, &n, "constraint_name", error->constraint_name);
	for (int i = 0; i < walk->nkeys; i++)
		added[n++] = (Parameter) {
			.relation = REPAIR_FAILED,
			.name = pstrdup(walk->columns[i].name),
			.type = walk->columns[i].type,
			.typmod = -1,
			.value = key ? key[i] : (Datum) 0,
			.isnull = key == NULL
		};
	return parameters_with(parameters, added, n);
}

/*
 * Prepare the repair, as statement_prepare does with the statement of a backfill.
 * Its parameters are what repair_parameters returns.
 */
Statement *
repair_prepare(const char *text, Walk *walk, const char *scope,
			   const Parameters *parameters, RangeShape shape)
{
	return statement_prepare_beside("repair", text, walk, scope,
									repair_parameters(parameters, walk, NULL, NULL),
									shape);
}
