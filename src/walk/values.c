/*-------------------------------------------------------------------------
 *
 * values.c
 *	  The values of the first column of a key, one after the other.
 *
 * Two looks into the index for each value: for the last key that begins with it, and for
 * the first key behind that.  The rows in between are not read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/values.h"

struct Values
{
	Walk	   *walk;
	Parameters	none;
	Statement  *last;			/* key with the value that the range begins with */
	Statement  *next;			/* key with another value */
};

/* Prepare the searches, in the current memory context. */
Values *
values_prepare(Walk *walk)
{
	Values	   *values = palloc0(sizeof(Values));
	WalkRange	of_value = {.nstart = walk->nkeys, .start_inclusive = true, .nend = 1};
	WalkRange	behind = {.nstart = 1, .nend = walk->nkeys};

	values->walk = walk;
	values->last = bounds_prepare_query(walk, &of_value, NULL, NULL, "", !walk->descending, " LIMIT 1");
	values->next = bounds_prepare_query(walk, &behind, NULL, NULL, "", walk->descending, " LIMIT 1");
	statement_keep(values->last);
	statement_keep(values->next);
	return values;
}

void
values_drop(Values *values)
{
	statement_drop(values->last);
	statement_drop(values->next);
}

/* The key that a search finds between two keys, or NULL. */
static ArrayType *
search(Values *values, Statement *statement, ArrayType *from, ArrayType *to, Snapshot snapshot)
{
	Walk	   *walk = values->walk;
	ParamListInfo params = statement_params(walk, &values->none);
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		found[INDEX_MAX_KEYS];

	key_from_text(walk, from, start);
	key_from_text(walk, to, end);
	walk_set_start(walk, params, start);
	walk_set_end(walk, params, end);
	return statement_fetch(statement, params, snapshot, walk->nkeys, found) ?
		key_to_text(walk, found) : NULL;
}

/* The last key with the value of that one, which is the first; NULL if there is none any more. */
ArrayType *
values_last_key(Values *values, ArrayType *first_key, Snapshot snapshot)
{
	return search(values, values->last, first_key, first_key, snapshot);
}

/* The first key with another value behind the key, up to the last key of the walk, or NULL. */
ArrayType *
values_next_key(Values *values, ArrayType *key, ArrayType *last_key, Snapshot snapshot)
{
	return search(values, values->next, key, last_key, snapshot);
}
