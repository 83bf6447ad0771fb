/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Keys as texts.
 *
 * The keys of a run are kept in the tables as arrays of texts, one for each column.
 * Some types print and read differently under different server parameters
 * (DateStyle and others); for those, both directions run with the parameters
 * pinned.  An input or output function is the type's own, and runs with the rights
 * of the session's user, the owner of the run.
 *
 * A walk over no rows has ends without columns.  Where rows with a null in the key come behind
 * the last value, a null is behind its columns; if there are but such rows, the
 * columns are null, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/instrument.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_relation.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/pin.h"
#include "walk/key.h"
#include "walk/walk.h"

/* ---- to and from text ---- */

/* Before keys are turned into text or back, if the key's types may care. */
static int
pin_walk(Walk *walk)
{
	return walk->pin ? pin_begin(true) : 0;
}

static void
unpin_walk(Walk *walk, int nest)
{
	if (walk->pin)
		pin_end(nest);
}

/* The key as an array of texts, in the current memory context. */
ArrayType *
key_to_text(Walk *walk, const Datum *key)
{
	Datum		texts[INDEX_MAX_KEYS];
	int			nest = pin_walk(walk);

	for (int i = 0; i < walk->nkeys; i++)
		texts[i] = CStringGetTextDatum(OutputFunctionCall(&walk->columns[i].output, key[i]));
	unpin_walk(walk, nest);
	return construct_array(texts, walk->nkeys, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * The other way round.  What is missing because there are but nulls is 0.
 */
void
key_from_text(Walk *walk, ArrayType *array, Datum *key)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int			nest;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n > 0 && nulls[n - 1])
		n--;
	if (n != walk->nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the key of table %s has changed since the run began",
						walk->target_name)));
	nest = pin_walk(walk);
	for (int i = 0; i < n; i++)
		key[i] = nulls[i] ? (Datum) 0 :
			InputFunctionCall(&walk->columns[i].input, TextDatumGetCString(elements[i]),
							  walk->columns[i].ioparam, -1);
	unpin_walk(walk, nest);
}

/* The end of a walk behind whose last value, if there is one, come the rows with a null in the key. */
ArrayType *
key_with_nulls(Walk *walk, ArrayType *key)
{
	Datum		texts[INDEX_MAX_KEYS + 1] = {0};
	bool		is_null[INDEX_MAX_KEYS + 1];
	Datum	   *elements;
	int			n = 0;
	int			lbound = 1;
	int			dim = walk->nkeys + 1;

	memset(is_null, true, sizeof(is_null));
	if (key)
		deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		texts[i] = elements[i];
		is_null[i] = false;
	}
	return construct_md_array(texts, is_null, 1, &dim, &lbound, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * The last value of a walk that ends so: itself if no nulls come behind it, NULL if there is no
 * value.
 */
ArrayType *
key_without_nulls(ArrayType *key)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	if (!ARR_HASNULL(key))
		return key;
	deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	return nulls[0] ? NULL :
		construct_array(elements, n - 1, TEXTOID, -1, false, TYPALIGN_INT);
}

/* The shape of the range that ends so. */
RangeShape
key_range_shape(bool start_inclusive, ArrayType *end_key)
{
	if (ARR_HASNULL(end_key))
		return RANGE_NULLS;
	return start_inclusive ? RANGE_FROM : RANGE_AFTER;
}

/* Raise the error at hand again, with the setting's name if it is about the value. */
compat_noreturn static void
rethrow_with_name(const char *name, MemoryContext context)
{
	ErrorData  *error;

	if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	error->message = psprintf("invalid value for backfill setting \"%s\": %s",
							  name, error->message);
	ReThrowError(error);
}

/* Parse a bound, which the setting of that name gives, into the first columns of the key. */
int
key_read_bound(Walk *walk, const char *name, List *texts, Datum *key)
{
	MemoryContext context = CurrentMemoryContext;
	int			nest;

	if (list_length(texts) > walk->nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"%s\" has %d values, but the key has %d columns",
						name, list_length(texts), walk->nkeys)));
	nest = pin_walk(walk);
	PG_TRY();
	{
		for (int n = 0; n < list_length(texts); n++)
			key[n] = InputFunctionCall(&walk->columns[n].input, (char *) list_nth(texts, n),
									   walk->columns[n].ioparam, -1);
	}
	PG_CATCH();
	{
		rethrow_with_name(name, context);
	}
	PG_END_TRY();
	unpin_walk(walk, nest);
	return list_length(texts);
}

/* Raises an error unless the bounds that the settings give fit the key. */
void
key_check_bounds(Walk *walk, List *from, List *to)
{
	Datum		key[INDEX_MAX_KEYS];

	key_read_bound(walk, "from", from, key);
	key_read_bound(walk, "to", to, key);
}

/* ---- texts ---- */

/* A walk without rows has ends without columns. */
bool
key_is_empty(ArrayType *key)
{
	return ArrayGetNItems(ARR_NDIM(key), ARR_DIMS(key)) == 0;
}

/* Whether the key, as text, is the last one of the walk. */
bool
key_is_last(ArrayType *key, ArrayType *last)
{
	return VARSIZE(key) == VARSIZE(last) && memcmp(key, last, VARSIZE(key)) == 0;
}

/* The columns of a key, as the view backfill_batches shows them. */
static char *
key_text(ArrayType *key)
{
	StringInfoData buf;
	Datum	   *texts;
	bool	   *nulls;
	int			n;

	deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? "," : "", TextDatumGetCString(texts[i]));
	return buf.data;
}

/* A range, likewise. */
char *
key_range_text(ArrayType *start, bool start_inclusive, ArrayType *end)
{
	if (ARR_HASNULL(end))
		return pstrdup("[null]");
	return psprintf("%c%s .. %s]", start_inclusive ? '[' : '(', key_text(start), key_text(end));
}
