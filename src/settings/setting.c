/*-------------------------------------------------------------------------
 *
 * setting.c
 *	  The values of settings: from JSON, to text, and what is wrong with them.
 *
 * What a value may be follows from the type of its setting; the error for one
 * that may not names the setting and its limits.  Called by settings.c, which
 * has the table of the settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/limit.h"
#include "base/position.h"
#include "base/quantity.h"
#include "base/scalar.h"
#include "settings/serverparams.h"
#include "settings/setting.h"
#include "settings/window.h"

/* Millionths as a decimal number. */
static char *
number_text(int64 millionths)
{
	char	   *text = psprintf("%.6f", millionths / 1000000.0);
	char	   *end = text + strlen(text);

	while (end[-1] == '0')
		end--;
	if (end[-1] == '.')
		end--;
	*end = '\0';
	return text;
}

/* A value or limit of the setting as text, NULL where there is none. */
char *
setting_text(const Setting *setting, int64 value)
{
	switch (setting->type)
	{
		case SETTING_BOOL:
			return pstrdup(value ? "true" : "false");
		case SETTING_WORKERS:
			if (value == 0)
				return pstrdup("auto");
			return psprintf(INT64_FORMAT, value);
		case SETTING_INTEGER:
		case SETTING_BYTES:
			return psprintf(INT64_FORMAT, value);
		case SETTING_INTERVAL:
			return quantity_duration_text(value);
		case SETTING_NUMBER:
			return number_text(value);
		default:
			return NULL;
	}
}

/* What the values of a type may be, where that is the same for all settings of it. */
static const char *const allowed_of_type[] = {
	[SETTING_BOOL] = "The value must be true or false.",
	[SETTING_BYTES] = "The value must be a number of bytes, or a string such as \"64MB\".",
	[SETTING_GROWTH] = "The value must be a number of bytes, or a string such as \"5GB\" or \"20 %\", above zero.",
	[SETTING_ROW_RATE] = "The value must be a number of rows per second, or a string such as \"3000 per 5 min\", over at least 100ms and at most 31d.",
	[SETTING_BYTE_RATE] = "The value must be a number of bytes per second, or a string such as \"20MB per second\", over at least 100ms and at most 31d.",
	[SETTING_WINDOWS] = "The value must be an array of objects, such as [{\"from\": \"22:00\", \"to\": \"06:00\", \"settings\": {\"nice\": 0}}].",
	[SETTING_PARAMETERS] = "The value must be an object of server parameters, such as {\"work_mem\": \"256MB\"}.",
	[SETTING_TIME] = "The value must be a string that is a time with its zone, such as \"2026-01-31 00:00:00+00\".",
	[SETTING_SQL] = "The value must be a string that holds one SQL statement.",
	[SETTING_KEY] = "The value must be a string, a number, or an array of them, one for each of the first key columns.",
	[SETTING_EXPRESSION] = "The value must be a string: the first column of the key, or an expression.",
	[SETTING_WEIGHTS] = "The value must be an object of numbers above zero and up to 1000000, one for each value, such as {\"acme\": 2}.",
	[SETTING_COLUMNS] = "The value must be the name of a column, or an array of names: the first columns of the key."
};

/* What the value of the setting may be, as a sentence. */
static const char *
allowed_values(const Setting *setting)
{
	char	   *min = setting_text(setting, setting->min);
	char	   *max = setting_text(setting, setting->max);
	StringInfoData words;

	switch (setting->type)
	{
		case SETTING_INTEGER:
			return psprintf("The value must be an integer between %s and %s.", min, max);
		case SETTING_INTERVAL:
			return psprintf("The value must be an interval between %s and %s, such as \"%s\".",
							min, max,
							setting->boot == 0 ? "30s" : setting_text(setting, setting->boot));
		case SETTING_WORKERS:
			return psprintf("The value must be \"auto\", or an integer between %s and %s.", min, max);
		case SETTING_NUMBER:
			return psprintf("The value must be a number between %s and %s.", min, max);
		case SETTING_ENUM:
			initStringInfo(&words);
			for (const char *const *word = setting->words; *word; word++)
				appendStringInfo(&words, "%s\"%s\"", word == setting->words ? "" : ", ", *word);
			return psprintf("The value must be one of %s.", words.data);
		default:
			return allowed_of_type[setting->type];
	}
}

compat_noreturn static void
bad_value(const Setting *setting, JsonbValue *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for backfill setting \"%s\"", setting->name),
			 errdetail_internal("%s", allowed_values(setting))));
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

/* Milliseconds. */
static int64
interval_value(const Setting *setting, JsonbValue *value)
{
	char	   *text = scalar_text(value);
	double		ms;

	if (text == NULL || value->type == jbvBool)
		bad_value(setting, value);
	if (setting->min == 0 && (strcmp(text, "0") == 0 || strcmp(text, "off") == 0))
		return 0;
	if (value->type != jbvString || !quantity_parse_duration(text, &ms) ||
		ms < setting->min || ms > setting->max)
		bad_value(setting, value);
	return (int64) (ms + 0.5);
}

/* Millionths. */
static int64
number_value(const Setting *setting, JsonbValue *value)
{
	double		rate;

	if (value->type != jbvNumeric)
		bad_value(setting, value);

	/* what is beyond a double is infinite, not an error that names no setting */
	rate = strtod(scalar_text(value), NULL);
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

static int64
workers_value(const Setting *setting, JsonbValue *value)
{
	if (value->type == jbvString && strcmp(scalar_text(value), "auto") == 0)
		return 0;
	return integer_value(setting, value);
}

static int64
bytes_value(const Setting *setting, JsonbValue *value)
{
	int64		bytes;

	if (value->type == jbvNumeric)
		return integer_value(setting, value);
	if (value->type != jbvString)
		bad_value(setting, value);
	bytes = quantity_parse_bytes(scalar_text(value));
	if (bytes < setting->min || bytes > setting->max)
		bad_value(setting, value);
	return bytes;
}

/* Bytes, or the negative of millionths. */
static int64
growth_value(const Setting *setting, JsonbValue *value)
{
	int64		bytes;
	char	   *text;
	char	   *end;
	double		percent;

	text = scalar_text(value);
	if (text == NULL || value->type == jbvBool)
		bad_value(setting, value);
	percent = strtod(text, &end);
	end += strspn(end, " ");
	if (value->type == jbvString && end > text && strcmp(end, "%") == 0)
	{
		if (!(percent * 10000 >= 1 && percent <= 1e9))
			bad_value(setting, value);
		return -(int64) (percent * 10000 + 0.5);
	}
	bytes = quantity_parse_bytes(text);
	if (bytes < 1)
		bad_value(setting, value);
	return bytes;
}

static RateLimit
rate_value(const Setting *setting, JsonbValue *value)
{
	RateLimit	limit;

	if ((value->type != jbvString && value->type != jbvNumeric) ||
		!quantity_parse_rate(scalar_text(value), setting->type == SETTING_BYTE_RATE, &limit))
		bad_value(setting, value);
	return limit;
}

static List *
windows_value(const Setting *setting, JsonbValue *value)
{
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		bad_value(setting, value);
	return window_parse(value->val.binary.data);
}

static List *
parameters_value(const Setting *setting, JsonbValue *value)
{
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		bad_value(setting, value);
	return serverparams_parse(value->val.binary.data);
}

/* Whether that character of the text, counted from 1, is a brace. */
static bool
is_brace(const char *text, int position)
{
	return text[pg_mbcharcliplen(text, strlen(text), position - 1)] == '{';
}

/*
 * Show the position in the text of the setting, not in the caller's command; and say
 * what cannot be there, since it can in the other texts of a generic definition.
 */
static void
sql_error_callback(void *arg)
{
	PositionText *context = (PositionText *) arg;
	int			position = geterrposition();

	position_error_callback(context);
	if (position > 0 && is_brace(context->text, position))
		errhint("Names in braces stand in the texts of a generic backfill, and not in its settings.");
}

/* Whether the text has the year first, and a zone in numbers last: it means the same everywhere. */
static bool
is_plain_time(const char *text)
{
	int			length = strlen(text);
	int			zone = length;

	if (length < 4 || strspn(text, "0123456789") < 4)
		return false;
	if (text[length - 1] == 'Z' || text[length - 1] == 'z')
		return true;
	while (zone > 0 && strchr("0123456789:", text[zone - 1]))
		zone--;
	return zone > 10 && (text[zone - 1] == '+' || text[zone - 1] == '-');
}

static TimestampTz
time_value(const Setting *setting, JsonbValue *value)
{
	char	   *text;

	if (value->type != jbvString)
		bad_value(setting, value);
	text = scalar_text(value);
	if (!is_plain_time(text))
		bad_value(setting, value);
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

/* A list of names. */
static List *
columns_value(const Setting *setting, JsonbValue *value)
{
	List	   *names = key_value(setting, value);

	if (list_length(names) > INDEX_MAX_KEYS)
		bad_value(setting, value);
	return names;
}

/* A list of weights, each of a value. */
static List *
weights_value(const Setting *setting, JsonbValue *value)
{
	List	   *result = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	Weight	   *weight = NULL;

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		bad_value(setting, value);
	limit_check_number("values in backfill setting \"weights\"",
					   JsonContainerSize(value->val.binary.data), LIMIT_WEIGHTS);
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			weight = palloc(sizeof(Weight));
			weight->value = pnstrdup(v.val.string.val, v.val.string.len);
		}
		else if (token == WJB_VALUE)
		{
			if (v.type != jbvNumeric)
				bad_value(setting, value);
			weight->weight = strtod(scalar_text(&v), NULL);
			if (!(weight->weight > 0 && weight->weight <= 1000000))
				bad_value(setting, value);
			result = lappend(result, weight);
		}
	}
	return result;
}

/* One statement; whether it can be executed is seen when it is. */
static char *
sql_value(const Setting *setting, JsonbValue *value)
{
	PositionText context = {setting->name};
	ErrorContextCallback callback;
	char	   *text;
	int			n;

	if (value->type != jbvString)
		bad_value(setting, value);
	context.text = text = scalar_text(value);
	callback.callback = sql_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	n = list_length(raw_parser(text, RAW_PARSE_DEFAULT));
	error_context_stack = callback.previous;
	if (n != 1)
		bad_value(setting, value);
	return text;
}

/* Whether the values have a smallest and a largest. */
bool
setting_is_ranged(const Setting *setting)
{
	switch (setting->type)
	{
		case SETTING_INTEGER:
		case SETTING_WORKERS:
		case SETTING_INTERVAL:
		case SETTING_NUMBER:
		case SETTING_BYTES:
			return true;
		default:
			return false;
	}
}

/* Put the default of the setting into its member. */
void
setting_set_default(const Setting *setting, RunSettings *result)
{
	char	   *member = (char *) result + setting->offset;

	switch (setting->type)
	{
		case SETTING_KEY:
		case SETTING_COLUMNS:
		case SETTING_WINDOWS:
		case SETTING_PARAMETERS:
		case SETTING_WEIGHTS:
			*(List **) member = NIL;
			break;
		case SETTING_EXPRESSION:
		case SETTING_SQL:
			*(char **) member = NULL;
			break;
		case SETTING_ROW_RATE:
		case SETTING_BYTE_RATE:
			memset(member, 0, sizeof(RateLimit));
			break;
		default:
			*(int64 *) member = setting->boot;
	}
}

/* Check the value and, where result is given, put it into its member. */
void
setting_apply(const Setting *setting, JsonbValue *value, RunSettings *result)
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
		case SETTING_WORKERS:
			*(int64 *) member = workers_value(setting, value);
			break;
		case SETTING_INTERVAL:
			*(int64 *) member = interval_value(setting, value);
			break;
		case SETTING_ENUM:
			*(int64 *) member = enum_value(setting, value);
			break;
		case SETTING_NUMBER:
			*(int64 *) member = number_value(setting, value);
			break;
		case SETTING_GROWTH:
			*(int64 *) member = growth_value(setting, value);
			break;
		case SETTING_BYTES:
			*(int64 *) member = bytes_value(setting, value);
			break;
		case SETTING_ROW_RATE:
		case SETTING_BYTE_RATE:
			*(RateLimit *) member = rate_value(setting, value);
			break;
		case SETTING_KEY:
			*(List **) member = key_value(setting, value);
			break;
		case SETTING_EXPRESSION:
			if (value->type != jbvString)
				bad_value(setting, value);
			*(char **) member = scalar_text(value);
			break;
		case SETTING_WEIGHTS:
			*(List **) member = weights_value(setting, value);
			break;
		case SETTING_COLUMNS:
			*(List **) member = columns_value(setting, value);
			break;
		case SETTING_WINDOWS:
			*(List **) member = windows_value(setting, value);
			break;
		case SETTING_PARAMETERS:
			*(List **) member = parameters_value(setting, value);
			break;
		case SETTING_TIME:
			*(TimestampTz *) member = time_value(setting, value);
			break;
		case SETTING_SQL:
			*(char **) member = sql_value(setting, value);
			break;
	}
}
