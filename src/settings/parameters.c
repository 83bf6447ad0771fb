/*-------------------------------------------------------------------------
 *
 * parameters.c
 *	  Parameters of a run: declared, given, read in the statement and the scope.
 *
 * A definition declares names with types.  A run is given values, which are
 * read by PostgreSQL's own conversion of JSON into SQL types, checked, and kept
 * with the run in a form that reads the same in every session: what a worker
 * sees never depends on who started the run, nor on when the worker began.
 *
 * The statement and the scope write params.name, and run.id, run.name,
 * run.started_at, run.since, run.until and run.stream.  Where PostgreSQL finds no column of that name,
 * a hook of the parser (walk/graft.c) puts a typed Param node there; a value
 * never becomes part of a text that is parsed.  A table or an alias of the user's
 * that is called "params" or "run" goes first.
 *
 * Reading a value may run code of the user's, such as the check of a domain:
 * callers are the run's owner, or switched to it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/limit.h"
#include "base/nearest.h"
#include "base/pin.h"
#include "settings/parameters.h"

/* One parameter as the definition declares it. */
typedef struct Declared
{
	char	   *name;
	Oid			type;
	int32		typmod;
	char	   *type_text;		/* qualified, with its modifier */
	bool		required;
	JsonbValue *default_value;	/* NULL if there is none */
	JsonbValue *options;		/* an array, or NULL */
} Declared;

/* Name the parameter in the context of whatever error its value raises. */
static void
parameter_error_callback(void *arg)
{
	errcontext("parameter \"%s\" of the backfill", (char *) arg);
}

/* ---- the declaration ---- */

compat_noreturn static void
bad_declaration(const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid declaration of backfill parameter \"%s\"", name),
			 errdetail_internal("%s", detail),
			 errhint("Write for example '{\"department\": {\"type\": \"text\", \"required\": true}}'.")));
}

static bool
is_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
}

/* Resolve the name of the type, under the current search_path. */
static void
declare_type(Declared *declared, const char *text)
{
	compat_parse_type(text, &declared->type, &declared->typmod);
	if (get_typtype(declared->type) == TYPTYPE_PSEUDO)
		bad_declaration(declared->name,
						psprintf("The pseudo-type %s has no values.", format_type_be(declared->type)));
	declared->type_text = format_type_extended(declared->type, declared->typmod,
											   FORMAT_TYPE_TYPEMOD_GIVEN |
											   FORMAT_TYPE_FORCE_QUALIFY);
}

/* Take one property of the declaration, such as "required": true. */
static void
declare_property(Declared *declared, const char *property, JsonbValue *value)
{
	if (strcmp(property, "type") == 0)
	{
		if (value->type != jbvString)
			bad_declaration(declared->name, "\"type\" must be the name of a type.");
		declare_type(declared, pnstrdup(value->val.string.val, value->val.string.len));
	}
	else if (strcmp(property, "required") == 0)
	{
		if (value->type != jbvBool)
			bad_declaration(declared->name, "\"required\" must be true or false.");
		declared->required = value->val.boolean;
	}
	else if (strcmp(property, "default") == 0)
	{
		declared->default_value = palloc(sizeof(JsonbValue));
		*declared->default_value = *value;
	}
	else if (strcmp(property, "options") == 0)
	{
		if (!is_array(value) || JsonContainerSize(value->val.binary.data) == 0)
			bad_declaration(declared->name, "\"options\" must be an array of at least one value.");
		limit_check_number(psprintf("options of backfill parameter \"%s\"", declared->name),
						   JsonContainerSize(value->val.binary.data), LIMIT_OPTIONS);
		declared->options = palloc(sizeof(JsonbValue));
		*declared->options = *value;
	}
	else if (strcmp(property, "description") == 0)
	{
		if (value->type != jbvString)
			bad_declaration(declared->name, "\"description\" must be a string.");
	}
	else
		bad_declaration(declared->name,
						psprintf("There is no property \"%s\"; the properties are \"type\", \"required\", \"default\", \"options\" and \"description\".",
								 property));
}

/* One parameter: a type, or an object of properties. */
static Declared *
declare(char *name, JsonbValue *value)
{
	Declared   *declared = palloc0(sizeof(Declared));
	ErrorContextCallback callback;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *property = NULL;

	declared->name = name;
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		bad_declaration(name, psprintf("A name has between 1 and %d bytes.", NAMEDATALEN - 1));

	callback.callback = parameter_error_callback;
	callback.arg = name;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	if (value->type == jbvString)
		declare_property(declared, "type", value);
	else if (value->type == jbvBinary && !is_array(value))
	{
		it = JsonbIteratorInit(value->val.binary.data);
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
				property = pnstrdup(v.val.string.val, v.val.string.len);
			else if (token == WJB_VALUE)
				declare_property(declared, property, &v);
		}
	}
	else
		bad_declaration(name, "It must be the name of a type, or an object with the property \"type\".");

	if (!OidIsValid(declared->type))
		bad_declaration(name, "It has no \"type\".");
	if (declared->required && declared->default_value)
		bad_declaration(name, "A required parameter cannot have a default.");
	error_context_stack = callback.previous;
	return declared;
}

/* The members of an object of parameters; raises an error for anything else. */
static JsonbIterator *
iterate(Jsonb *object, const char *hint)
{
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameters of a backfill must be a JSON object"),
				 errhint("Write for example '%s'.", hint)));
	return JsonbIteratorInit(&object->root);
}

/* The declared parameters, a list of Declared. */
static List *
read_declaration(Jsonb *declaration)
{
	List	   *result = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;

	if (declaration == NULL)
		return NIL;
	it = iterate(declaration, "{\"department\": {\"type\": \"text\", \"required\": true}}");
	limit_check_number("parameters of a backfill", JB_ROOT_COUNT(declaration), LIMIT_PARAMETERS);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
			result = lappend(result, declare(name, &v));
	}
	return result;
}

/* ---- values ---- */

static JsonbValue *
string_value(char *text)
{
	JsonbValue *value = palloc(sizeof(JsonbValue));

	value->type = jbvString;
	value->val.string.val = text;
	value->val.string.len = strlen(text);
	return value;
}

/* Run one of our own queries with one argument; the result is copied. */
static Datum
query_value(const char *query, Oid argtype, Datum arg, bool *isnull)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;
	Datum		result;
	int16		typlen;
	bool		typbyval;

	SPI_connect();
	if (SPI_execute_with_args(query, 1, &argtype, &arg, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read a parameter");
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
	get_typlenbyval(SPI_gettypeid(SPI_tuptable->tupdesc, 1), &typlen, &typbyval);
	if (!*isnull)
	{
		spi = MemoryContextSwitchTo(caller);
		result = datumCopy(result, typbyval, typlen);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return result;
}

/* Raise the error at hand again, with the parameter's name in its message. */
compat_noreturn static void
rethrow_with_name(const char *name, MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	error->message = psprintf("invalid value for backfill parameter \"%s\": %s",
							  name, error->message);
	error->context = NULL;
	ReThrowError(error);
}

/* The object {"value": ...}. */
static Jsonb *
in_object(JsonbValue *value)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&state, WJB_KEY, string_value("value"));
	pushJsonbValue(&state, WJB_VALUE, value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * A JSON value as one of the type declared.  Raises what its input raises,
 * which may be our own doing or that of a domain's check.
 */
static Datum
read_value(const Declared *declared, JsonbValue *value, bool *isnull)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		result = (Datum) 0;

	/* the type would cut it off, and it might be the name of something else then */
	if (value->type == jbvString && value->val.string.len >= NAMEDATALEN &&
		getBaseType(declared->type) == NAMEOID)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the value of backfill parameter \"%s\" is too long for a name", declared->name),
				 errdetail("The limit is %d bytes.", NAMEDATALEN - 1)));

	PG_TRY();
	{
		result = query_value(psprintf("SELECT r.value FROM pg_catalog.jsonb_to_record($1) AS r(value %s)",
									  declared->type_text),
							 JSONBOID,
							 JsonbPGetDatum(in_object(value)),
							 isnull);
	}
	PG_CATCH();
	{
		int			category = ERRCODE_TO_CATEGORY(geterrcode());

		/* what says nothing about the value stays as it is */
		if (category == ERRCODE_OPERATOR_INTERVENTION ||
			category == ERRCODE_INSUFFICIENT_RESOURCES ||
			category == ERRCODE_TRANSACTION_ROLLBACK ||
			category == ERRCODE_INTERNAL_ERROR)
			PG_RE_THROW();
		rethrow_with_name(declared->name, context);
	}
	PG_END_TRY();
	return result;
}

/*
 * Whether to_jsonb turns values of the type into what read_value reads again.
 * A type from an extension may have a cast to json of its own.
 */
static bool
is_native(Oid type)
{
	Oid			base = getBaseType(type);
	Oid			element = get_element_type(base);
	Oid			leaf = OidIsValid(element) ? getBaseType(element) : base;

	/* an array in an array would become another dimension of it */
	if (OidIsValid(get_element_type(leaf)))
		return false;
	return leaf < FirstNormalObjectId || get_typtype(leaf) == TYPTYPE_ENUM;
}

/* Whether values of the type are objects of the database, known by a number. */
static bool
is_object_name(Oid type)
{
	switch (getBaseType(type))
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
		case COMPAT_REGDATABASEOID:
			return true;
		default:
			return false;
	}
}

/*
 * A value as it is kept with the run.  Runs with pinned parameters.  Names in
 * it are qualified; to read it again is a matter of the definition's path, which
 * what a domain checks may need.
 */
static JsonbValue *
write_value(const Declared *declared, Datum datum)
{
	JsonbValue *value = palloc(sizeof(JsonbValue));
	Oid			output;
	bool		varlena;
	bool		isnull;
	Jsonb	   *jsonb;
	int16		typlen;
	bool		typbyval;
	int			nest;
	JsonbValue *text;

	/* the object may be renamed, and its name be given to another */
	if (is_object_name(declared->type))
		return string_value(psprintf("%u", DatumGetObjectId(datum)));
	nest = pin_begin(true);

	getTypeOutputInfo(declared->type, &output, &varlena);
	text = string_value(OidOutputFunctionCall(output, datum));
	if (!is_native(declared->type))
	{
		pin_end(nest);
		return text;
	}
	jsonb = DatumGetJsonbP(query_value("SELECT pg_catalog.to_jsonb($1)", declared->type,
									   datum, &isnull));
	pin_end(nest);
	if (JsonContainerIsScalar(&jsonb->root))
		JsonbExtractScalar(&jsonb->root, value);
	else
	{
		value->type = jbvBinary;
		value->val.binary.data = &jsonb->root;
		value->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}

	/* what JSON has no word for: a bound of an array, a negative zero */
	get_typlenbyval(declared->type, &typlen, &typbyval);
	if (!datum_image_eq(datum, read_value(declared, value, &isnull), typbyval, typlen))
		return text;
	return value;
}

/* Whether two values of the type are equal; by their texts if it has no "=". */
static bool
are_equal(const Declared *declared, Datum a, Datum b)
{
	TypeCacheEntry *entry = lookup_type_cache(declared->type, TYPECACHE_EQ_OPR_FINFO);
	Oid			output;
	bool		varlena;

	if (OidIsValid(entry->eq_opr_finfo.fn_oid))
		return DatumGetBool(FunctionCall2Coll(&entry->eq_opr_finfo,
											  get_typcollation(declared->type), a, b));
	getTypeOutputInfo(declared->type, &output, &varlena);
	return strcmp(OidOutputFunctionCall(output, a), OidOutputFunctionCall(output, b)) == 0;
}

/* Raises an error unless the value is one of the options, if there are any. */
static void
check_option(const Declared *declared, Datum datum)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (declared->options == NULL)
		return;
	it = JsonbIteratorInit(declared->options->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		bool		isnull;
		Datum		option;

		if (token != WJB_ELEM)
			continue;
		option = read_value(declared, &v, &isnull);
		if (!isnull && are_equal(declared, datum, option))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the value of backfill parameter \"%s\" is not one of its options",
					declared->name),
			 errdetail_internal("The options are %s.",
								JsonbToCString(NULL, declared->options->val.binary.data,
											   declared->options->val.binary.len))));
}

/* ---- declaring and binding ---- */

/*
 * Raises an error unless the declaration is sound: types exist, defaults and
 * options can be read and agree.
 */
void
parameters_check(Jsonb *declaration)
{
	ListCell   *lc;
	bool		isnull;

	foreach(lc, read_declaration(declaration))
	{
		Declared   *declared = lfirst(lc);
		Datum		datum;

		if (declared->options)
		{
			JsonbIterator *it = JsonbIteratorInit(declared->options->val.binary.data);
			JsonbIteratorToken token;
			JsonbValue	v;

			while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
			{
				if (token == WJB_ELEM)
					(void) read_value(declared, &v, &isnull);
			}
		}
		if (declared->default_value == NULL)
			continue;
		datum = read_value(declared, declared->default_value, &isnull);
		if (!isnull)
			check_option(declared, datum);
	}
}

/* The declaration reduced to names and qualified types, to go with a run. */
Jsonb *
parameters_types(Jsonb *declaration)
{
	JsonbParseState *state = NULL;
	ListCell   *lc;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	foreach(lc, read_declaration(declaration))
	{
		Declared   *declared = lfirst(lc);

		pushJsonbValue(&state, WJB_KEY, string_value(declared->name));
		pushJsonbValue(&state, WJB_VALUE, string_value(declared->type_text));
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Raises an error if something is given that is not declared. */
static void
check_names(List *declaration, Jsonb *given)
{
	const char **names = palloc(sizeof(char *) * (list_length(declaration) + 1));
	int			n = 0;
	JsonbIterator *it = iterate(given, "{\"department\": \"sales\"}");
	JsonbIteratorToken token;
	JsonbValue	v;
	ListCell   *lc;

	foreach(lc, declaration)
		names[n++] = ((Declared *) lfirst(lc))->name;
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *name;
		const char *nearest;
		bool		found = false;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(v.val.string.val, v.val.string.len);
		for (int i = 0; i < n && !found; i++)
			found = strcmp(names[i], name) == 0;
		if (found)
			continue;
		nearest = nearest_name(name, names, n);
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("the backfill has no parameter \"%s\"", name),
				 nearest ? errhint("Perhaps you meant the parameter \"%s\".", nearest) :
				 errhint("The view backfill_definitions shows the parameters of a definition.")));
	}
}

/* Raises an error: the run needs a value of the parameter, and is given none. */
void
parameters_missing(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("the backfill needs a value for parameter \"%s\"", name),
			 errhint("Give it in \"parameters\", for example parameters => '{\"%s\": ...}'.", name)));
}

/*
 * The values of a run: those given, which may be NULL for none, over the
 * defaults; checked, and in the form that is kept with the run.  Every declared
 * name has a value in the result.
 */
Jsonb *
parameters_bind(Jsonb *declaration, Jsonb *given)
{
	List	   *list = read_declaration(declaration);
	JsonbParseState *state = NULL;
	ListCell   *lc;

	if (given)
		check_names(list, given);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	foreach(lc, list)
	{
		Declared   *declared = lfirst(lc);
		JsonbValue	null = {.type = jbvNull};
		JsonbValue *value = NULL;
		Datum		datum;
		bool		isnull;
		int			nest;

		if (given)
			value = getKeyJsonValueFromContainer(&given->root, declared->name,
												 strlen(declared->name), NULL);
		if (declared->required && (value == NULL || value->type == jbvNull))
			parameters_missing(declared->name);
		if (value == NULL)
			value = declared->default_value ? declared->default_value : &null;
		datum = read_value(declared, value, &isnull);
		if (!isnull)
			check_option(declared, datum);
		nest = pin_begin(false);
		pushJsonbValue(&state, WJB_KEY, string_value(declared->name));
		pushJsonbValue(&state, WJB_VALUE, isnull ? &null : write_value(declared, datum));
		pin_end(nest);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* ---- in a statement ---- */

/* How many things a run says of itself. */
#define RUN_FACTS			6

static Parameter *
add_parameter(Parameters *parameters, const char *relation, char *name, Oid type,
			  int32 typmod, Datum value, bool isnull)
{
	Parameter  *parameter = &parameters->items[parameters->n++];

	parameter->relation = relation;
	parameter->name = name;
	parameter->type = type;
	parameter->typmod = typmod;
	parameter->value = value;
	parameter->isnull = isnull;
	return parameter;
}

/* The text, or a null. */
static void
add_text(Parameters *parameters, char *name, const char *text)
{
	add_parameter(parameters, PARAMETERS_RUN, name, TEXTOID, -1,
				  text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

/* What a run says of itself: as many as RUN_FACTS. */
static void
add_facts(Parameters *parameters, const RunFacts *facts)
{
	add_parameter(parameters, PARAMETERS_RUN, "id", INT8OID, -1, Int64GetDatum(facts->id), facts->id == 0);
	add_text(parameters, "name", facts->name);
	add_parameter(parameters, PARAMETERS_RUN, "started_at", TIMESTAMPTZOID, -1,
				  TimestampTzGetDatum(facts->started_at), TIMESTAMP_IS_NOBEGIN(facts->started_at));
	add_parameter(parameters, PARAMETERS_RUN, "since", TIMESTAMPTZOID, -1,
				  TimestampTzGetDatum(facts->since), false);
	add_parameter(parameters, PARAMETERS_RUN, "until", TIMESTAMPTZOID, -1,
				  TimestampTzGetDatum(facts->until), TIMESTAMP_IS_NOBEGIN(facts->until));
	add_text(parameters, "stream", facts->stream);
}

/* The run says something else of itself now.  In the memory context of the parameters. */
void
parameters_take_facts(Parameters *parameters, const RunFacts *facts)
{
	int			n = parameters->n;

	/* they come first */
	parameters->n = 0;
	add_facts(parameters, facts);
	parameters->n = n;
}

/*
 * What the statement and the scope of a run may refer to.  "values" is what
 * parameters_bind returned, or NULL for nulls; the facts may be NULL likewise.
 * Allocated in the current memory context.  Needs a transaction.
 */
Parameters *
parameters_load(Jsonb *declaration, Jsonb *values, const RunFacts *facts)
{
	List	   *list = read_declaration(declaration);
	Parameters *parameters = palloc(sizeof(Parameters));
	RunFacts	none = {0, NULL, DT_NOBEGIN, DT_NOBEGIN, DT_NOBEGIN, NULL};
	int			nest = pin_begin(false);
	ListCell   *lc;

	if (facts == NULL)
		facts = &none;
	parameters->n = 0;
	parameters->items = palloc(sizeof(Parameter) * (list_length(list) + RUN_FACTS));
	add_facts(parameters, facts);
	foreach(lc, list)
	{
		Declared   *declared = lfirst(lc);
		JsonbValue *value = NULL;
		Datum		datum = (Datum) 0;
		bool		isnull = true;

		if (values)
			value = getKeyJsonValueFromContainer(&values->root, declared->name,
												 strlen(declared->name), NULL);
		if (value)
			datum = read_value(declared, value, &isnull);
		add_parameter(parameters, PARAMETERS_GIVEN, declared->name, declared->type,
					  declared->typmod, datum, isnull);
	}
	pin_end(nest);
	return parameters;
}

/*
 * The same and some more, a copy in the current memory context that shares the
 * values.
 */
Parameters *
parameters_with(const Parameters *parameters, const Parameter *added, int n)
{
	Parameters *result = palloc(sizeof(Parameters));

	result->n = parameters->n + n;
	result->items = palloc(sizeof(Parameter) * result->n);
	memcpy(result->items, parameters->items, sizeof(Parameter) * parameters->n);
	memcpy(result->items + parameters->n, added, sizeof(Parameter) * n);
	return result;
}

/* Whether there may be a parameter of that relation. */
bool
parameters_is_relation(const Parameters *parameters, const char *name)
{
	if (strcmp(name, PARAMETERS_GIVEN) == 0 || strcmp(name, PARAMETERS_RUN) == 0)
		return true;
	for (int i = 0; i < parameters->n; i++)
	{
		if (strcmp(parameters->items[i].relation, name) == 0)
			return true;
	}
	return false;
}
