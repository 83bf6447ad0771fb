/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The vocabulary of settings of a run: check, merge, resolve, list.
 *
 * One table describes every setting.  The same jsonb object is taken by
 * backfill_define, backfill_start and backfill_alter; the run's beats the
 * definition's, which beats the default in the table.  A setting is checked
 * where it is given, so that what is stored is known to be good; resolving
 * checks again all the same, because a dump may have been edited.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "nearest.h"
#include "settings.h"

typedef enum SettingType
{
	SETTING_BOOL,				/* true or false */
	SETTING_INTEGER,			/* a JSON number without fraction */
	SETTING_INTERVAL,			/* a string that is an interval; 0 and "off" for zero */
	SETTING_ENUM,				/* one of a list of words */
	SETTING_RATE,				/* a JSON number, kept in millionths */
	SETTING_KEY					/* a scalar or an array of scalars */
} SettingType;

typedef struct Setting
{
	const char *name;
	SettingType type;
	size_t		offset;			/* of the member of RunSettings */
	int64		boot;			/* default, in milliseconds for an interval */
	int64		min;
	int64		max;
	const char *const *words;	/* of an enumeration, ending in NULL */
	bool		fixed;			/* cannot change once the run has started */
	bool		none;			/* zero means that there is none */
	const char *description;
} Setting;

#define MS_PER_DAY		INT64CONST(86400000)
#define MEMBER(name)	offsetof(RunSettings, name)

static const char *const directions[] = {"asc", "desc", NULL};
static const char *const error_modes[] = {"fail", "skip", NULL};
static const char *const commit_modes[] = {"off", "local", "remote_write", "on",
"remote_apply", NULL};

static const Setting settings[] = {
	{"batch_size", SETTING_INTEGER, MEMBER(batch_size), 1000, 1, 10000000,
		NULL, false, false,
	"rows of the target in the key range of one batch"},
	{"direction", SETTING_ENUM, MEMBER(direction), WALK_ASCENDING, 0, 0,
		directions, true, false,
	"order of the walk: \"asc\" from the smallest key, \"desc\" from the largest"},
	{"from", SETTING_KEY, MEMBER(from), 0, 0, 0,
		NULL, true, true,
	"smallest key of the walk, inclusive: a value, or an array of values of the first key columns"},
	{"limit", SETTING_INTEGER, MEMBER(limit), 0, 1, PG_INT64_MAX,
		NULL, true, true,
	"most rows in scope that the walk covers, counted when the run starts"},
	{"lock_timeout", SETTING_INTERVAL, MEMBER(lock_timeout), 2000, 0, MS_PER_DAY,
		NULL, false, false,
	"longest wait for one lock in a batch; \"off\" waits for ever"},
	{"max_attempts", SETTING_INTEGER, MEMBER(max_attempts), 5, 1, 1000,
		NULL, false, false,
	"how often a batch is tried when its error may go away by itself"},
	{"max_error_rate", SETTING_RATE, MEMBER(max_error_rate), 250000, 0, 1000000,
		NULL, false, false,
	"share of failed rows that fails the run, once 50 rows have been judged since it was started or resumed"},
	{"max_errors", SETTING_INTEGER, MEMBER(max_errors), 0, 1, PG_INT64_MAX,
		NULL, false, true,
	"number of failed rows, since the run was started or resumed, beyond which it fails"},
	{"nice", SETTING_RATE, MEMBER(nice), 0, 0, INT64CONST(1000000000),
		NULL, false, false,
	"pause of a worker after each batch, as a multiple of the batch's duration; the longer of this and \"sleep\" counts"},
	{"on_error", SETTING_ENUM, MEMBER(on_error), ON_ERROR_FAIL, 0, 0,
		error_modes, false, false,
	"what an error of the statement does: \"fail\" the run, or \"skip\" the row and go on"},
	{"retry_delay", SETTING_INTERVAL, MEMBER(retry_delay), 1000, 0, 60000,
		NULL, false, false,
	"wait before the second attempt; doubles with each further one, up to 1 min"},
	{"share_target", SETTING_BOOL, MEMBER(share_target), 0, 0, 0,
		NULL, false, false,
	"whether the run may be active beside another run on the same table"},
	{"sleep", SETTING_INTERVAL, MEMBER(sleep), 10, 0, MS_PER_DAY,
		NULL, false, false,
	"pause of a worker after each batch"},
	{"statement_timeout", SETTING_INTERVAL, MEMBER(statement_timeout), 0, 0, MS_PER_DAY,
		NULL, false, false,
	"longest duration of the statement of one batch; \"off\" for none"},
	{"synchronous_commit", SETTING_ENUM, MEMBER(synchronous_commit), 0, 0, 0,
		commit_modes, false, false,
	"as the server's parameter; a lost commit loses the change together with its record, so \"off\" is safe"},
	{"to", SETTING_KEY, MEMBER(to), 0, 0, 0,
		NULL, true, true,
	"largest key of the walk, inclusive: a value, or an array of values of the first key columns"},
	{"verify", SETTING_BOOL, MEMBER(verify), 0, 0, 0,
		NULL, false, false,
	"whether the rows still in scope are counted at the end; any fail the run"},
	{"workers", SETTING_INTEGER, MEMBER(workers), 1, 1, 1024,
		NULL, false, false,
	"most workers that share the run, within backfill.max_workers"}
};

PG_FUNCTION_INFO_V1(backfill_setting_list);

/* The setting with that name; raises an error that names the nearest one. */
static const Setting *
find_setting(const char *name)
{
	const char *names[lengthof(settings)];
	const char *nearest;

	for (int i = 0; i < lengthof(settings); i++)
	{
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
		names[i] = settings[i].name;
	}
	nearest = nearest_name(name, names, lengthof(settings));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_PARAMETER),
			 errmsg("unrecognized backfill setting \"%s\"", name),
			 nearest ? errhint("Perhaps you meant the setting \"%s\".", nearest) :
			 errhint("The view backfill_settings lists the settings.")));
}

/* A duration as the documentation writes it: the largest unit that fits. */
static char *
duration_text(int64 ms)
{
	static const struct
	{
		int64		ms;
		const char *unit;
	}			units[] = {
		{MS_PER_DAY, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}
	};

	if (ms == 0)
		return pstrdup("0");
	for (int i = 0; i < lengthof(units); i++)
	{
		if (ms % units[i].ms == 0)
			return psprintf(INT64_FORMAT "%s", ms / units[i].ms, units[i].unit);
	}
	return psprintf(INT64_FORMAT "ms", ms);
}

/* A value or limit of the setting as text, NULL where there is none. */
static char *
bound_text(const Setting *setting, int64 value)
{
	switch (setting->type)
	{
		case SETTING_BOOL:
			return pstrdup(value ? "true" : "false");
		case SETTING_INTEGER:
			return psprintf(INT64_FORMAT, value);
		case SETTING_INTERVAL:
			return duration_text(value);
		case SETTING_RATE:
			return psprintf("%g", value / 1000000.0);
		default:
			return NULL;
	}
}

compat_noreturn static void
bad_value(const Setting *setting, JsonbValue *value)
{
	StringInfoData allowed;

	initStringInfo(&allowed);
	switch (setting->type)
	{
		case SETTING_BOOL:
			appendStringInfoString(&allowed, "The value must be true or false.");
			break;
		case SETTING_INTEGER:
			appendStringInfo(&allowed, "The value must be an integer between %s and %s.",
							 bound_text(setting, setting->min),
							 bound_text(setting, setting->max));
			break;
		case SETTING_INTERVAL:
			appendStringInfo(&allowed,
							 "The value must be an interval between %s and %s, such as \"%s\".",
							 bound_text(setting, setting->min),
							 bound_text(setting, setting->max),
							 setting->boot == 0 ? "30s" : bound_text(setting, setting->boot));
			break;
		case SETTING_ENUM:
			appendStringInfoString(&allowed, "The value must be one of ");
			for (const char *const *word = setting->words; *word; word++)
				appendStringInfo(&allowed, "%s\"%s\"",
								 word == setting->words ? "" : ", ", *word);
			appendStringInfoChar(&allowed, '.');
			break;
		case SETTING_RATE:
			appendStringInfo(&allowed, "The value must be a number between %s and %s.",
							 bound_text(setting, setting->min),
							 bound_text(setting, setting->max));
			break;
		case SETTING_KEY:
			appendStringInfoString(&allowed,
								   "The value must be a string, a number, or an array of them, one for each of the first key columns.");
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for backfill setting \"%s\"", setting->name),
			 errdetail_internal("%s", allowed.data)));
}

/* The text of a scalar, or NULL when it is none that may be a key value. */
static char *
scalar_text(JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

static int64
bool_value(const Setting *setting, JsonbValue *value)
{
	char	   *text = scalar_text(value);
	bool		result;

	if (text == NULL || value->type == jbvNumeric || !parse_bool(text, &result))
		bad_value(setting, value);
	return result;
}

static int64
integer_value(const Setting *setting, JsonbValue *value)
{
	char	   *text;
	char	   *end;
	int64		result;

	if (value->type != jbvNumeric)
		bad_value(setting, value);
	text = scalar_text(value);
	errno = 0;
	result = strtoll(text, &end, 10);
	if (errno != 0 || *end != '\0' || result < setting->min || result > setting->max)
		bad_value(setting, value);
	return result;
}

/* Milliseconds.  A bare number would be seconds to an interval and
 * milliseconds to a timeout parameter: only zero means the same to both. */
static int64
interval_value(const Setting *setting, JsonbValue *value)
{
	char	   *text = scalar_text(value);
	Interval   *interval = NULL;
	MemoryContext context = CurrentMemoryContext;
	double		ms;

	if (text == NULL || value->type == jbvBool)
		bad_value(setting, value);
	if (strcmp(text, "0") == 0 || (strcmp(text, "off") == 0 && setting->min == 0))
		return 0;
	if (value->type != jbvString ||
		strspn(text, "0123456789.+- ") == strlen(text))
		bad_value(setting, value);
	PG_TRY();
	{
		interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
														 CStringGetDatum(text),
														 ObjectIdGetDatum(InvalidOid),
														 Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		/* the error that names the setting and its limits says more */
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		MemoryContextSwitchTo(context);
		bad_value(setting, value);
	}
	PG_END_TRY();
	ms = (double) interval->time / 1000.0 +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * MS_PER_DAY;
	if (ms < setting->min || ms > setting->max)
		bad_value(setting, value);
	return (int64) (ms + 0.5);
}

/* Millionths. */
static int64
rate_value(const Setting *setting, JsonbValue *value)
{
	double		rate;

	if (value->type != jbvNumeric)
		bad_value(setting, value);
	rate = DatumGetFloat8(DirectFunctionCall1(numeric_float8,
											  NumericGetDatum(value->val.numeric)));
	if (!(rate * 1000000 >= setting->min && rate * 1000000 <= setting->max))
		bad_value(setting, value);
	return (int64) (rate * 1000000 + 0.5);
}

static int64
enum_value(const Setting *setting, JsonbValue *value)
{
	char	   *text = scalar_text(value);

	if (text == NULL)
		bad_value(setting, value);
	if (value->type == jbvBool)
		text = value->val.boolean ? "on" : "off";
	for (int i = 0; setting->words[i] != NULL; i++)
	{
		if (pg_strcasecmp(setting->words[i], text) == 0)
			return i;
	}
	bad_value(setting, value);
}

/* A list of texts.  Numbers keep the digits that were written. */
static List *
key_value(const Setting *setting, JsonbValue *value)
{
	List	   *result = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;

	if (value->type != jbvBinary)
	{
		char	   *text = scalar_text(value);

		if (text == NULL)
			bad_value(setting, value);
		return list_make1(text);
	}
	if (!JsonContainerIsArray(value->val.binary.data))
		bad_value(setting, value);
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		char	   *text;

		if (token != WJB_ELEM)
			continue;
		text = scalar_text(&element);
		if (text == NULL)
			bad_value(setting, value);
		result = lappend(result, text);
	}
	if (result == NIL)
		bad_value(setting, value);
	return result;
}

/* Checks the value and, where result is given, puts it into its member. */
static void
apply_value(const Setting *setting, JsonbValue *value, RunSettings *result)
{
	RunSettings scratch;
	char	   *member = (char *) (result ? result : &scratch) + setting->offset;

	switch (setting->type)
	{
		case SETTING_BOOL:
			*(int64 *) member = bool_value(setting, value);
			break;
		case SETTING_INTEGER:
			*(int64 *) member = integer_value(setting, value);
			break;
		case SETTING_INTERVAL:
			*(int64 *) member = interval_value(setting, value);
			break;
		case SETTING_ENUM:
			*(int64 *) member = enum_value(setting, value);
			break;
		case SETTING_RATE:
			*(int64 *) member = rate_value(setting, value);
			break;
		case SETTING_KEY:
			*(List **) member = key_value(setting, value);
			break;
	}
}

/*
 * Walk the object: check each value and, if given, apply it to the result.
 * A null is good for any setting and leaves the default.
 */
static void
for_each_setting(Jsonb *object, RunSettings *result, bool refuse_fixed)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	const Setting *setting = NULL;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill settings must be a JSON object"),
				 errhint("Write for example '{\"batch_size\": 5000, \"workers\": 2}'.")));

	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			setting = find_setting(pnstrdup(v.val.string.val, v.val.string.len));
			if (refuse_fixed && setting->fixed)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("backfill setting \"%s\" cannot be changed once the run exists",
								setting->name),
						 errhint("Give it to backfill_start or backfill_define.")));
		}
		else if (token == WJB_VALUE && v.type != jbvNull)
			apply_value(setting, &v, result);
	}
}

/* Raises an error unless the object holds valid settings only. */
void
settings_check(Jsonb *object)
{
	for_each_setting(object, NULL, false);
}

/* The same for backfill_alter, which cannot move the ends of a walk. */
void
settings_check_alterable(Jsonb *object)
{
	for_each_setting(object, NULL, true);
}

/* Raises an error if settings that need a scope are given without one. */
void
settings_check_scope(Jsonb *object, const char *scope)
{
	RunSettings resolved;

	settings_resolve(object, &resolved);
	if (resolved.verify && scope == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"verify\" needs a scope"),
				 errdetail("Without a scope every row is in scope, however often it was processed."),
				 errhint("Give the condition that a row fulfils until it is processed as the \"scope\" of the definition.")));
}

/*
 * The settings of base with those of over on top.  A null in over takes the
 * setting out, so that the default holds again.  Either may be NULL.
 */
Jsonb *
settings_merge(Jsonb *base, Jsonb *over)
{
	Datum		result;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;

	if (base == NULL)
		base = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	if (over == NULL)
		return base;
	result = DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(base),
								 JsonbPGetDatum(over));
	it = JsonbIteratorInit(&over->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && v.type == jbvNull)
			result = DirectFunctionCall2(jsonb_delete, result,
										 CStringGetTextDatum(name));
	}
	return DatumGetJsonbP(result);
}

/* The text of a setting given in the object, or NULL. */
char *
settings_text(Jsonb *object, const char *name)
{
	JsonbValue	value;

	if (object == NULL || !JB_ROOT_IS_OBJECT(object) ||
		getKeyJsonValueFromContainer(&object->root, name, strlen(name), &value) == NULL)
		return NULL;
	return scalar_text(&value);
}

/* The object with one more setting, given as text. */
Jsonb *
settings_with(Jsonb *base, const char *name, const char *value)
{
	JsonbParseState *state = NULL;
	JsonbValue	v;
	JsonbValue *object;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	v.type = jbvString;
	v.val.string.val = unconstify(char *, name);
	v.val.string.len = strlen(name);
	pushJsonbValue(&state, WJB_KEY, &v);
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = strlen(value);
	pushJsonbValue(&state, WJB_VALUE, &v);
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return settings_merge(base, JsonbValueToJsonb(object));
}

/* Fill the result from the defaults and the object.  Texts are palloc'd. */
void
settings_resolve(Jsonb *object, RunSettings *result)
{
	for (int i = 0; i < lengthof(settings); i++)
	{
		char	   *member = (char *) result + settings[i].offset;

		if (settings[i].type == SETTING_KEY)
			*(List **) member = NIL;
		else
			*(int64 *) member = settings[i].boot;
	}
	for_each_setting(object, result, false);
}

/* The value for the server's parameter synchronous_commit. */
const char *
settings_synchronous_commit(const RunSettings *resolved)
{
	return commit_modes[resolved->synchronous_commit];
}

/* SQL: the vocabulary, one row a setting. */
Datum
backfill_setting_list(PG_FUNCTION_ARGS)
{
	static const char *const types[] = {
		[SETTING_BOOL] = "boolean",
		[SETTING_INTEGER] = "integer",
		[SETTING_INTERVAL] = "interval",
		[SETTING_ENUM] = "enum",
		[SETTING_RATE] = "number",
		[SETTING_KEY] = "key"
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < lengthof(settings); i++)
	{
		const Setting *s = &settings[i];
		Datum		values[7];
		bool		nulls[7] = {false};
		bool		ranged = s->type != SETTING_ENUM && s->type != SETTING_KEY &&
			s->type != SETTING_BOOL;

		values[0] = CStringGetTextDatum(s->name);
		values[1] = CStringGetTextDatum(types[s->type]);
		nulls[2] = s->none;
		if (s->type == SETTING_ENUM)
			values[2] = CStringGetTextDatum(s->words[s->boot]);
		else if (!s->none)
			values[2] = CStringGetTextDatum(bound_text(s, s->boot));
		nulls[3] = nulls[4] = !ranged;
		if (ranged)
		{
			values[3] = CStringGetTextDatum(bound_text(s, s->min));
			values[4] = CStringGetTextDatum(bound_text(s, s->max));
		}
		nulls[5] = s->words == NULL;
		if (s->words != NULL)
		{
			Datum		words[8];
			int			n = 0;

			for (; s->words[n] != NULL; n++)
				words[n] = CStringGetTextDatum(s->words[n]);
			values[5] = PointerGetDatum(construct_array(words, n, TEXTOID, -1,
														false, TYPALIGN_INT));
		}
		values[6] = CStringGetTextDatum(s->description);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
