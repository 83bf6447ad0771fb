/*-------------------------------------------------------------------------
 *
 * source.c
 *	  The source of a definition: a function that gives pages of records.
 *
 * A source takes the token of a page, null for the first one, and what there is to be
 * known of the run, and gives the records of the page and the token of the next one, null
 * at the end: in one row, or in as many rows as the page has records, of which the last
 * one has the token.  A check, if there is one, says what is missing before the first page
 * is fetched.  Instead of a function there may be SOURCE_CLIENT: clients bring the pages.
 *
 * The functions are kept by name and owner, see base/callee.c.  They are called with the
 * rights of the current user, who is the owner of the run: in a worker's session, or, for
 * a check when the backfill is defined, within owner_look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "base/callee.h"
#include "base/compat.h"
#include "base/limit.h"
#include "definition/source.h"
#include "definition/streamlist.h"
#include "settings/setting.h"
#include "settings/settings.h"

#define EVENT_TYPE		"backfill_fetch"
#define EVENT_COLUMNS	9

/* ---- which functions ---- */

static bool
is_fit_source(Form_pg_proc form)
{
	return form->prokind == PROKIND_FUNCTION && form->pronargs == 2 &&
		form->proargtypes.values[0] == JSONBOID &&
		callee_is_event(form->proargtypes.values[1], EVENT_TYPE);
}

static bool
is_fit_check(Form_pg_proc form)
{
	return form->prokind == PROKIND_FUNCTION && !form->proretset && form->pronargs == 1 &&
		form->prorettype == TEXTOID && callee_is_event(form->proargtypes.values[0], EVENT_TYPE);
}

#define DEFINE_AGAIN "Call backfill_define again with the function that is meant; a run that is there goes on with it after backfill_replace."

static const CalleeKind source_kind = {
	.fit = is_fit_source,
	.what = "source",
	.takes = "arguments of the types jsonb and backfill_fetch",
	.gone_hint = DEFINE_AGAIN,
	.owner_hint = DEFINE_AGAIN
};

static const CalleeKind check_kind = {
	.fit = is_fit_check,
	.what = "source check",
	.takes = "an argument of the type backfill_fetch that returns text",
	.gone_hint = DEFINE_AGAIN,
	.owner_hint = DEFINE_AGAIN
};

/* Raises an error unless the result of the function is two columns of the type jsonb. */
static void
check_result(Oid function)
{
	TupleDesc	desc;
	Oid			type;
	bool		ok = get_func_result_type(function, &type, &desc) == TYPEFUNC_COMPOSITE &&
		desc != NULL && desc->natts == 2;

	for (int i = 0; ok && i < 2; i++)
		ok = TupleDescAttr(desc, i)->atttypid == JSONBOID && !TupleDescAttr(desc, i)->attisdropped;
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s cannot be a source", format_procedure(function)),
				 errdetail("A source returns two columns of the type jsonb: the records of a page as an array, and the token of the next page; or, as a set, one record in each row, and the token."),
				 errhint("CREATE FUNCTION ... (token jsonb, event backfill_fetch, OUT records jsonb, OUT next_token jsonb).")));
}

/*
 * Look the function up by the name that the caller gives, under his search_path, and put it down
 * by name and owner.
 */
static char *
find_function(const char *words, const CalleeKind *kind, int nargs, const Oid *args, Oid *owner)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(words));
	Oid			function = LookupFuncName(names, nargs, args, false);
	Callee		callee = {0};

	if (!callee_read(&callee, function, kind))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s cannot be a %s", format_procedure(function), kind->what),
				 errdetail("It has to be a function with %s.", kind->takes)));
	if (kind == &source_kind)
		check_result(function);
	if (!compat_may_execute(function, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
	*owner = callee.owner;
	return quote_qualified_identifier(callee.schema, callee.name);
}

/*
 * Put the source of that name, SOURCE_CLIENT or a function, and its check, which may be NULL,
 * into *source.  As the caller, who has to have the right to call them.
 */
void
source_find(SourceInfo *source, const char *words, const char *check_words, Oid extension_schema)
{
	Oid			args[2] = {JSONBOID};

	args[1] = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(EVENT_TYPE),
							  ObjectIdGetDatum(extension_schema));
	if (strcmp(words, SOURCE_CLIENT) == 0)
		source->function = pstrdup(words);
	else
		source->function = find_function(words, &source_kind, 2, args, &source->owner);
	if (check_words)
		source->check = find_function(check_words, &check_kind, 1, &args[1], &source->check_owner);
}

/* The function of that name as it is today, if the owner of the run may call it. */
static Oid
resolve(const char *name, Oid function_owner, Oid owner, const CalleeKind *kind)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(name));
	Callee		callee = {.owner = function_owner};
	Oid			function;

	DeconstructQualifiedName(names, &callee.schema, &callee.name);
	function = callee_resolve(&callee, owner, kind);
	if (!compat_may_execute(function, owner))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
	return function;
}

/* ---- what goes with a source ---- */

compat_noreturn static void
refuse(const char *what, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s cannot be given with a source", what),
			 errdetail("%s", detail),
			 hint ? errhint("%s", hint) : 0));
}

/* Raises an error if what is given is about walking a table. */
static void
check_arguments(const DefinitionInfo *def, Jsonb *settings)
{
	static const char *const walked[] = {
		"direction", "from", "to", "limit", "group_by", "distinct", "share_by", "ledger", "verify"
	};

	if (def->scope)
		refuse("\"scope\"", "A scope says which rows of a table are still to be processed, and a page has no others.",
			   "Filter the records in the statement, with WHERE about \"batch\".");
	if (def->streams && streamlist_is_partitions(def->streams))
		refuse("\"streams\" as partitions", "What is read is the source, and no partition.",
			   "Name the streams, or give a query for them.");
	if (def->key)
		refuse("\"key\"", "The pages come in the order of their tokens, and no table is walked.", NULL);
	for (int i = 0; i < lengthof(walked); i++)
	{
		if (settings_gives(settings, walked[i]))
			refuse(psprintf("the setting \"%s\"", walked[i]),
				   "It is about a table that is walked, and no table is.",
				   "What is to be fetched is said to the source by its parameters.");
	}
	if (settings_gives(settings, "outside"))
		refuse("the setting \"outside\"", "Workers apply the pages, whoever fetches them.",
			   "With the source \"" SOURCE_CLIENT "\", clients bring them.");
	if (def->statement == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a backfill with a source needs a statement"),
				 errdetail("It says what becomes of the records of a page."),
				 errhint("Write for example \"INSERT INTO ... SELECT * FROM batch ON CONFLICT ...\".")));
}

/* The same for a definition without one. */
static void
check_nothing(const DefinitionInfo *def)
{
	if (def->source.check)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"source_check\" needs a source")));
}

/* As the owner: raises an error unless the source goes with what is given, and he may call it. */
void
source_check_definition(const DefinitionInfo *def, Jsonb *settings)
{
	const SourceInfo *source = &def->source;

	if (source->function == NULL)
	{
		check_nothing(def);
		return;
	}
	check_arguments(def, settings);
	if (source_is_function(source))
		check_result(resolve(source->function, source->owner, def->owner, &source_kind));
	if (source->check)
		(void) resolve(source->check, source->check_owner, def->owner, &check_kind);
}

/* ---- calling ---- */

static void
put_text(Datum *value, bool *isnull, const char *text)
{
	*isnull = text == NULL;
	if (text)
		*value = CStringGetTextDatum(text);
}

static void
put_time(Datum *value, bool *isnull, TimestampTz at)
{
	*isnull = TIMESTAMP_NOT_FINITE(at);
	*value = TimestampTzGetDatum(at);
}

/* The facts as a value of the type that the last argument of the function has. */
static Datum
make_event(Oid function, const SourceFacts *facts, Oid *type)
{
	Datum		values[EVENT_COLUMNS] = {0};
	bool		nulls[EVENT_COLUMNS] = {false};
	TupleDesc	desc;
	HeapTuple	tuple;
	Datum		event;
	Oid		   *types;
	int			nargs;

	(void) get_func_signature(function, &types, &nargs);
	*type = types[nargs - 1];
	desc = lookup_rowtype_tupdesc(*type, -1);
	if (desc->natts != EVENT_COLUMNS)
		elog(ERROR, "type %u is not \"%s\"", *type, EVENT_TYPE);
	values[0] = Int64GetDatum(facts->run_id);
	nulls[0] = facts->run_id == 0;
	put_text(&values[1], &nulls[1], facts->name);
	put_text(&values[2], &nulls[2], facts->stream);
	values[3] = Int64GetDatum(facts->page);
	nulls[3] = facts->page == 0;
	values[4] = Int32GetDatum(facts->attempt);
	nulls[4] = facts->attempt == 0;
	put_time(&values[5], &nulls[5], facts->since);
	put_time(&values[6], &nulls[6], facts->until);
	put_time(&values[7], &nulls[7], facts->started_at);
	values[8] = JsonbPGetDatum(facts->parameters);
	nulls[8] = facts->parameters == NULL;
	tuple = heap_form_tuple(desc, values, nulls);
	event = heap_copy_tuple_as_datum(tuple, desc);
	ReleaseTupleDesc(desc);
	return event;
}

/* Name the function in the context of an error. */
static void
call_error_callback(void *arg)
{
	errcontext("%s of the backfill", (const char *) arg);
}

/* A column of the only row of the result, copied into the memory context; NULL if null. */
static void *
result_column(int column, MemoryContext context)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
	MemoryContext old;
	void	   *copy;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(context);
	copy = PG_DETOAST_DATUM_COPY(value);
	MemoryContextSwitchTo(old);
	return copy;
}

/* Run the query about the function, which is to have one row; it stays connected to SPI. */
static void
run_query(const char *query, const char *what, int nargs, Oid *types, Datum *values,
		  const char *nulls)
{
	ErrorContextCallback callback;
	int			result;

	callback.callback = call_error_callback;
	callback.arg = unconstify(char *, what);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	SPI_connect();
	result = SPI_execute_with_args(query, nargs, types, values, nulls, false, 0);
	if (result != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not call a function: %s", SPI_result_code_string(result));
	error_context_stack = callback.previous;
}

/*
 * Have the check look whether everything is there that the source needs, if there is a check;
 * raises what is missing.  In the current transaction, as the owner.
 */
void
source_check_ready(const SourceInfo *source, Oid owner, const SourceFacts *facts)
{
	Oid			function;
	Oid			type;
	Datum		event;
	text	   *missing;
	MemoryContext context = CurrentMemoryContext;

	if (source->check == NULL)
		return;
	function = resolve(source->check, source->check_owner, owner, &check_kind);
	event = make_event(function, facts, &type);
	run_query(psprintf("SELECT %s($1)", source->check), "source check", 1, &type, &event, " ");
	missing = result_column(1, context);
	SPI_finish();
	if (missing)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the source of the backfill is not ready: %s", text_to_cstring(missing)),
				 errdetail("The function %s says so.", source->check)));
}

static bool
is_json_null(Jsonb *value)
{
	JsonbValue	scalar;

	return JsonbExtractScalar(&value->root, &scalar) && scalar.type == jbvNull;
}

/*
 * Raises an error unless the records that somebody has given for the token are a page; counts
 * them.  JSON's null is as good as SQL's: no records, and no further page.
 */
void
source_check_page(const char *whose, Jsonb *token, SourcePage *page)
{
	if (page->records == NULL || is_json_null(page->records))
		page->records = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("[]")));
	if (!JB_ROOT_IS_ARRAY(page->records) || JB_ROOT_IS_SCALAR(page->records))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the records from %s are no array", whose),
				 errdetail("A page is an array of objects, one for each record.")));
	page->n = JB_ROOT_COUNT(page->records);
	limit_check_number(psprintf("records in a page from %s", whose), page->n, LIMIT_RECORDS);
	limit_check_bytes(psprintf("the page from %s", whose), VARSIZE(page->records), LIMIT_PAGE);
	if (page->next_token && is_json_null(page->next_token))
		page->next_token = NULL;
	if (page->next_token == NULL)
		return;
	limit_check_bytes(psprintf("the token from %s", whose), VARSIZE(page->next_token), LIMIT_TOKEN);
	if (token && compareJsonbContainers(&token->root, &page->next_token->root) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the token of the next page from %s is the one that was given", whose),
				 errdetail("The same page would be fetched for ever."),
				 errhint("Return null when there is no further page.")));
}

/* The query that has the function's page in one row. */
static char *
page_query(const char *name, Oid function)
{
	if (!get_func_retset(function))
		return psprintf("SELECT f.r, f.t FROM %s($1, $2) AS f(r, t)", name);
	return psprintf("SELECT pg_catalog.jsonb_agg(f.r ORDER BY f.n), "
					"(pg_catalog.array_agg(f.t ORDER BY f.n))[pg_catalog.count(*)] "
					"FROM %s($1, $2) WITH ORDINALITY AS f(r, t, n)", name);
}

/*
 * Call the source, a function, for the page with that token, NULL for the first one, in the
 * current transaction, as the owner.  The page is in the current memory context.  Raises what
 * the function raises, and what is wrong with what it gives.
 */
void
source_call(const SourceInfo *source, Oid owner, Jsonb *token, const SourceFacts *facts,
			SourcePage *page)
{
	Oid			function = resolve(source->function, source->owner, owner, &source_kind);
	Oid			types[2] = {JSONBOID};
	Datum		args[2] = {PointerGetDatum(token)};
	MemoryContext context = CurrentMemoryContext;

	check_result(function);
	args[1] = make_event(function, facts, &types[1]);
	run_query(page_query(source->function, function), "source", 2, types, args,
			  token ? "  " : "n ");
	page->records = result_column(1, context);
	page->next_token = result_column(2, context);
	SPI_finish();
	source_check_page(psprintf("function %s", source->function), token, page);
}
