/*-------------------------------------------------------------------------
 *
 * records.c
 *	  A page of a source as the relation "batch".
 *
 * What a source gives is an array of objects.  In the statement it is the relation
 * "batch", with the columns of the target: jsonb_populate_recordset makes rows of it,
 * by its rules.  Like the range of a table it is grafted into the parse tree, from a
 * template text with two placeholders: a null of the target's row type, which no
 * name has to be looked up for, and the records, a parameter.
 *
 * The key of such a walk is the ordinal of a record in its page, from 1.  A range
 * (start, end] of it is a part of the page: who runs the statement gives it the
 * records of that part and no others, so no condition is needed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "walk/records.h"
#include "walk/walk.h"

/* The parameter of the records: what is the number that goes with a range elsewhere. */
static Node *
records_param(const Walk *walk)
{
	return (Node *) walk_param(2 * walk->nkeys + 1, JSONBOID, -1);
}

/* What belongs in the place of one of our placeholders; nothing else has any here. */
Node *
records_place(Walk *walk, const char *place)
{
	if (strcmp(place, WALK_RECORDS) == 0)
		return records_param(walk);
	if (strcmp(place, WALK_ROW) != 0)
		elog(ERROR, "a page has no place \"%s\"", place);
	return (Node *) makeNullConst(get_rel_type_id(walk->target), -1, InvalidOid);
}

/* Append the query that is the relation "batch", with its placeholders. */
void
records_append_batch(StringInfo text)
{
	appendStringInfoString(text, "SELECT * FROM pg_catalog.jsonb_populate_recordset(\""
						   WALK_ROW "\", \"" WALK_RECORDS "\") AS batch");
}

/* Give the statement its records, an array; it must live as long as the parameters are used. */
void
records_set(Walk *walk, ParamListInfo params, Jsonb *records)
{
	ParamExternData *p = &params->params[2 * walk->nkeys];

	p->value = JsonbPGetDatum(records);
	p->isnull = false;
}

/* The ordinal that a key, as the tables keep it, is. */
int64
records_ordinal(ArrayType *key)
{
	Datum	   *elements;
	int			n;

	deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	return pg_strtoint64(TextDatumGetCString(elements[n - 1]));
}

/* The other way round; in the current memory context. */
ArrayType *
records_key(int64 ordinal)
{
	Datum		text = CStringGetTextDatum(psprintf(INT64_FORMAT, ordinal));

	return construct_array(&text, 1, TEXTOID, -1, false, TYPALIGN_INT);
}
