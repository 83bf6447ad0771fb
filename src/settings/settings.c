/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The vocabulary of settings of a run: check, merge, resolve, list.
 *
 * One table describes every setting.  The same jsonb object is taken by
 * backfill_define, backfill_start and backfill_alter; the run's beats the
 * definition's, which beats the default in the table.  A setting is checked
 * where it is given, so that what is stored is known to be good; resolving
 * checks again all the same, because a dump may have been edited.  How a value
 * is read follows from its type: setting.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/limit.h"
#include "base/nearest.h"
#include "base/quantity.h"
#include "base/scalar.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "settings/window.h"

#define MS_PER_DAY		QUANTITY_MS_PER_DAY
#define MEMBER(name)	offsetof(RunSettings, name)

static const char *const directions[] = {"asc", "desc", NULL};
static const char *const error_modes[] = {"fail", "skip", NULL};

static const char *const commit_modes[] = {"off", "local", "remote_write", "on",
"remote_apply", NULL};

/* in the order of the COUNT_ values */
static const char *const counted[] = {"records", "calls", NULL};

static const char *const presets[] = {"balanced", "polite", "fast", NULL};

static const Setting settings[] = {
	{"batch_size", SETTING_INTEGER, MEMBER(batch_size), 1000, 1, 10000000,
		NULL, SETTING_PACE,
	"rows of the target in the key range of one batch; with target_batch_time, the first has a tenth of it"},
	{"direction", SETTING_ENUM, MEMBER(direction), WALK_ASCENDING, 0, 0,
		directions, SETTING_FIXED,
	"order of the walk: \"asc\" from the smallest key, \"desc\" from the largest"},
	{"distinct", SETTING_BOOL, MEMBER(distinct), 0, 0, 0,
		NULL, SETTING_FIXED,
	"whether \"batch\" is one row for each value of the key, found without reading the rows between"},
	{"end_value", SETTING_TIME, MEMBER(end_value), DT_NOEND, 0, 0,
		NULL, SETTING_FIXED | SETTING_NONE,
	"latest run.until: where the window of the run ends at the latest"},
	{"from", SETTING_KEY, MEMBER(from), 0, 0, 0,
		NULL, SETTING_FIXED | SETTING_NONE,
	"smallest key of the walk, inclusive: a value, or an array of values of the first key columns"},
	{"group_by", SETTING_COLUMNS, MEMBER(group_by), 0, 0, 0,
		NULL, SETTING_FIXED | SETTING_NONE,
	"first columns of the key whose rows come together: a batch ends only where a group of them ends"},
	{"initial_value", SETTING_TIME, MEMBER(initial_value), DT_NOBEGIN, 0, 0,
		NULL, SETTING_FIXED | SETTING_NONE,
	"run.since of the first run, where there is no completed one before it"},
	{"ledger", SETTING_BOOL, MEMBER(ledger), 0, 0, 0,
		NULL, SETTING_FIXED,
	"whether rows are handed out to clients once and confirmed by backfill_confirm, for effects that do not roll back"},
	{"limit", SETTING_INTEGER, MEMBER(limit), 0, 1, PG_INT64_MAX,
		NULL, SETTING_FIXED | SETTING_NONE,
	"most rows in scope that the walk covers, counted when the run starts"},
	{"lock_timeout", SETTING_INTERVAL, MEMBER(lock_timeout), 2000, 0, MS_PER_DAY,
		NULL, 0,
	"longest wait for one lock in a batch; \"off\" waits for ever"},
	{"lookback", SETTING_INTERVAL, MEMBER(lookback), 0, 0, 3660 * MS_PER_DAY,
		NULL, SETTING_FIXED,
	"what is taken off run.since, for rows that come late"},
	{"max_active_sessions", SETTING_INTEGER, MEMBER(max_active_sessions), 0, 1, PG_INT32_MAX,
		NULL, SETTING_PACE | SETTING_NONE,
	"active client sessions at which the run is held"},
	{"max_archive_backlog", SETTING_INTEGER, MEMBER(max_archive_backlog), 0, 1, PG_INT32_MAX,
		NULL, SETTING_PACE | SETTING_NONE,
	"WAL files that wait to be archived at which the run is held"},
	{"max_attempts", SETTING_INTEGER, MEMBER(max_attempts), 5, 1, 1000,
		NULL, 0,
	"how often a batch is tried when its error may go away by itself"},
	{"max_batch_size", SETTING_INTEGER, MEMBER(max_batch_size), 1000000, 1, 10000000,
		NULL, SETTING_PACE,
	"most rows of a batch that target_batch_time leads to"},
	{"max_batch_time", SETTING_INTERVAL, MEMBER(max_batch_time), 0, 1, MS_PER_DAY,
		NULL, SETTING_PACE | SETTING_NONE,
	"duration that batches are kept below, even if most of it is not spent on rows"},
	{"max_batches", SETTING_INTEGER, MEMBER(max_batches), 0, 1, PG_INT64_MAX,
		NULL, SETTING_NONE,
	"batches, begun since the run was started or resumed, after which it pauses itself"},
	{"max_claims", SETTING_INTEGER, MEMBER(max_claims), 0, 1, PG_INT32_MAX,
		NULL, SETTING_NONE,
	"batches that clients may have in their hands at one time, within backfill.max_leases"},
	{"max_dead_rows", SETTING_NUMBER, MEMBER(max_dead_rows), 0, 1, 1000000,
		NULL, SETTING_PACE | SETTING_NONE,
	"share of dead rows in the target at which the run is held"},
	{"max_duration", SETTING_INTERVAL, MEMBER(max_duration), 0, 1, 366 * MS_PER_DAY,
		NULL, SETTING_NONE,
	"time since the run was started or resumed after which it pauses itself"},
	{"max_error_rate", SETTING_NUMBER, MEMBER(max_error_rate), 250000, 0, 1000000,
		NULL, 0,
	"share of failed rows that fails the run, once 50 rows have been judged since it was started or resumed"},
	{"max_errors", SETTING_INTEGER, MEMBER(max_errors), 0, 1, PG_INT64_MAX,
		NULL, SETTING_NONE,
	"number of failed rows, since the run was started or resumed, beyond which it fails"},
	{"max_growth", SETTING_GROWTH, MEMBER(max_growth), 0, 0, 0,
		NULL, SETTING_PACE | SETTING_NONE,
	"growth of the target and its indexes at which the run is held, in bytes or as a share of their size when it began, such as \"20 %\""},
	{"max_replica_lag", SETTING_INTERVAL, MEMBER(max_replica_lag), 0, 1, MS_PER_DAY,
		NULL, SETTING_PACE | SETTING_NONE,
	"lag of the slowest standby at which the run is held"},
	{"max_replica_lag_bytes", SETTING_BYTES, MEMBER(max_replica_lag_bytes), 0, 1, PG_INT64_MAX,
		NULL, SETTING_PACE | SETTING_NONE,
	"WAL that the slowest standby has not replayed at which the run is held, in bytes"},
	{"max_slot_retained", SETTING_BYTES, MEMBER(max_slot_retained), 0, 1, PG_INT64_MAX,
		NULL, SETTING_PACE | SETTING_NONE,
	"WAL kept for a replication slot at which the run is held, in bytes; also when the slot is about to be lost"},
	{"max_workers", SETTING_INTEGER, MEMBER(max_workers), 4, 1, 1024,
		NULL, SETTING_PACE,
	"most workers of a run with \"workers\": \"auto\""},
	{"max_xmin_age", SETTING_INTEGER, MEMBER(max_xmin_age), 0, 1, PG_INT32_MAX,
		NULL, SETTING_PACE | SETTING_NONE,
	"age of the oldest snapshot or transaction, in transactions, at which the run is held"},
	{"min_batch_size", SETTING_INTEGER, MEMBER(min_batch_size), 10, 1, 10000000,
		NULL, SETTING_PACE,
	"fewest rows of a batch that target_batch_time leads to"},
	{"nice", SETTING_NUMBER, MEMBER(nice), 0, 0, INT64CONST(1000000000),
		NULL, SETTING_PACE,
	"pause of a worker after each batch, as a multiple of the batch's duration; the longer of this and \"sleep\" counts"},
	{"on_error", SETTING_ENUM, MEMBER(on_error), ON_ERROR_FAIL, 0, 0,
		error_modes, 0,
	"what an error of the statement does: \"fail\" the run, or \"skip\" the row and go on"},
	{"outside", SETTING_BOOL, MEMBER(outside), 0, 0, 0,
		NULL, SETTING_FIXED,
	"whether clients outside of the server take part, by backfill_claim; without a statement they do all the work"},
	{"pause_for_maintenance", SETTING_BOOL, MEMBER(pause_for_maintenance), 0, 0, 0,
		NULL, SETTING_PACE,
	"whether the run is held while the target is vacuumed, repacked, clustered or indexed"},
	{"prefetch", SETTING_INTEGER, MEMBER(prefetch), 1, 0, 100,
		NULL, 0,
	"pages of a source that may wait, fetched, while another one is applied"},
	{"preset", SETTING_ENUM, MEMBER(preset), PRESET_BALANCED, 0, 0,
		presets, SETTING_PACE,
	"values for settings that are not given: \"polite\", \"balanced\" or \"fast\""},
	{"probe", SETTING_SQL, MEMBER(probe), 0, 0, 0,
		NULL, SETTING_NONE,
	"SQL, run as the owner about once a second, that returns a reason to hold the run, or null"},
	{"probe_timeout", SETTING_INTERVAL, MEMBER(probe_timeout), 1000, 10, 60000,
		NULL, 0,
	"longest duration of the probe"},
	{"rate_limit", SETTING_ROW_RATE, MEMBER(rate_limit), 0, 0, 0,
		NULL, SETTING_PACE | SETTING_NONE,
	"most rows that the run processes in any window of a length, such as \"3000 per 5 min\""},
	{"rate_limit_counts", SETTING_ENUM, MEMBER(rate_limit_counts), COUNT_RECORDS, 0, 0,
		counted, SETTING_FIXED,
	"what rate_limit counts in a run with a source: the \"records\" that are applied, or the \"calls\" of the source"},
	{"repair", SETTING_SQL, MEMBER(repair), 0, 0, 0,
		NULL, SETTING_NONE,
	"SQL, run as the owner for a row that failed, in the transaction in which it is tried again; with on_error \"skip\""},
	{"retry_delay", SETTING_INTERVAL, MEMBER(retry_delay), 1000, 0, 60000,
		NULL, 0,
	"wait before the second attempt; doubles with each further one, up to 1 min"},
	{"reuse_space", SETTING_BOOL, MEMBER(reuse_space), 1, 0, 0,
		NULL, 0,
	"whether space that committed batches have freed is made known for the next ones"},
	{"scale_interval", SETTING_INTERVAL, MEMBER(scale_interval), 15000, 1000, 3600000,
		NULL, SETTING_PACE,
	"shortest time between two changes of the number of workers by \"auto\""},
	{"set", SETTING_PARAMETERS, MEMBER(set), 0, 0, 0,
		NULL, SETTING_NONE,
	"server parameters for the statement, such as {\"work_mem\": \"256MB\"}, set with the owner's rights"},
	{"share_by", SETTING_EXPRESSION, MEMBER(share_by), 0, 0, 0,
		NULL, SETTING_FIXED | SETTING_NONE,
	"first column of the key, or expression, among whose values batches are handed out in turn, so that many rows of one do not hold up few of another"},
	{"share_rate_limit", SETTING_ROW_RATE, MEMBER(share_rate_limit), 0, 0, 0,
		NULL, SETTING_NONE,
	"most rows of each value of share_by that are processed in any window of a length, such as \"100 per min\""},
	{"share_target", SETTING_BOOL, MEMBER(share_target), 0, 0, 0,
		NULL, 0,
	"whether the run may be active beside another run on the same table"},
	{"sleep", SETTING_INTERVAL, MEMBER(sleep), 10, 0, MS_PER_DAY,
		NULL, SETTING_PACE,
	"pause of a worker after each batch"},
	{"soft_limit", SETTING_NUMBER, MEMBER(soft_limit), 700000, 10000, 1000000,
		NULL, SETTING_PACE,
	"share of each limit max_* from which on the run slows down in proportion; 1 for not at all"},
	{"statement_timeout", SETTING_INTERVAL, MEMBER(statement_timeout), 0, 0, MS_PER_DAY,
		NULL, 0,
	"longest duration of the statement of one batch; \"off\" for none"},
	{"synchronous_commit", SETTING_ENUM, MEMBER(synchronous_commit), 0, 0, 0,
		commit_modes, 0,
	"as the server's parameter; a lost commit loses the change together with its record, so \"off\" is safe"},
	{"target_batch_time", SETTING_INTERVAL, MEMBER(target_batch_time), 250, 0, 60000,
		NULL, SETTING_PACE,
	"duration of the statement of a batch that the batch size follows; \"off\" keeps to batch_size"},
	{"to", SETTING_KEY, MEMBER(to), 0, 0, 0,
		NULL, SETTING_FIXED | SETTING_NONE,
	"largest key of the walk, inclusive: a value, or an array of values of the first key columns"},
	{"verify", SETTING_BOOL, MEMBER(verify), 0, 0, 0,
		NULL, 0,
	"whether the rows still in scope are counted at the end; any fail the run"},
	{"wal_rate_limit", SETTING_BYTE_RATE, MEMBER(wal_rate_limit), 0, 0, 0,
		NULL, SETTING_PACE | SETTING_NONE,
	"WAL that the run writes in a window of a length, such as \"20MB per second\""},
	{"weights", SETTING_WEIGHTS, MEMBER(weights), 0, 0, 0,
		NULL, SETTING_NONE,
	"weights of values of share_by, such as {\"acme\": 2}: it has twice the rows of one that is not named"},
	{"windows", SETTING_WINDOWS, MEMBER(windows), 0, 0, 0,
		NULL, SETTING_NONE,
	"times of the day and week at which other settings apply, or the run is held; the first that matches counts"},
	{"workers", SETTING_WORKERS, MEMBER(workers), 1, 1, 1024,
		NULL, SETTING_PACE,
	"most workers that share the run, within backfill.max_workers; \"auto\" for as many as the server bears, up to max_workers"},
	{"yield_after", SETTING_INTERVAL, MEMBER(yield_after), 100, 0, 60000,
		NULL, SETTING_PACE,
	"wait of another session for a lock of a batch after which the batch is cancelled and tried again in halves; \"off\" for never"}
};

/* What a preset gives instead of the default. */
typedef struct PresetValue
{
	int			preset;
	const char *name;
	int64		value;
} PresetValue;

static const PresetValue preset_values[] = {
	{PRESET_POLITE, "target_batch_time", 1},
	{PRESET_POLITE, "nice", 9000000},
	{PRESET_POLITE, "sleep", 0},
	{PRESET_POLITE, "yield_after", 50},
	{PRESET_FAST, "target_batch_time", 1000},
	{PRESET_FAST, "sleep", 0}
};

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

/* Who gives the settings, which decides what may be among them. */
typedef enum SettingGiver
{
	GIVEN_ANEW,					/* backfill_define, backfill_start */
	GIVEN_TO_RUN,				/* backfill_alter: the ends of a walk cannot move */
	GIVEN_BY_WINDOW				/* what sets the pace only */
} SettingGiver;

static void
check_giver(const Setting *setting, SettingGiver giver)
{
	if (giver == GIVEN_TO_RUN && (setting->flags & SETTING_FIXED) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill setting \"%s\" cannot be changed once the run exists",
						setting->name),
				 errhint("Give it to backfill_start or backfill_define.")));
	if (giver == GIVEN_BY_WINDOW && (setting->flags & SETTING_PACE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"%s\" cannot be given by a window", setting->name),
				 errdetail("Only what sets the pace of a run may depend on the hour.")));
}

static void for_each_setting(Jsonb *object, RunSettings *result, SettingGiver giver);

static void
window_error_callback(void *arg)
{
	errcontext("window %d", *(int *) arg);
}

/* Check the settings that the windows give. */
static void
check_windows(List *windows)
{
	ErrorContextCallback callback;
	int			number = 0;
	ListCell   *lc;

	callback.callback = window_error_callback;
	callback.arg = &number;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	foreach(lc, windows)
	{
		Window	   *window = lfirst(lc);

		number++;
		if (window->settings)
			for_each_setting(window->settings, NULL, GIVEN_BY_WINDOW);
	}
	error_context_stack = callback.previous;
}

/*
 * Walk the object: check each value and, if given, apply it to the result.
 * A null is good for any setting and leaves the default.
 */
static void
for_each_setting(Jsonb *object, RunSettings *result, SettingGiver giver)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	const Setting *setting = NULL;
	RunSettings scratch;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill settings must be a JSON object"),
				 errhint("Write for example '{\"batch_size\": 5000, \"workers\": 2}'.")));

	if (result == NULL)
		result = &scratch;
	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			setting = find_setting(pnstrdup(v.val.string.val, v.val.string.len));
			check_giver(setting, giver);
			continue;
		}
		if (token != WJB_VALUE || v.type == jbvNull)
			continue;
		setting_apply(setting, &v, result);
		if (setting->type == SETTING_WINDOWS)
			check_windows(result->windows);
	}
}

static void
check_length(Jsonb *object)
{
	limit_check_bytes("the object of backfill settings", VARSIZE(object), LIMIT_SETTINGS);
}

/* Raises an error unless the object holds valid settings only. */
void
settings_check(Jsonb *object)
{
	check_length(object);
	for_each_setting(object, NULL, GIVEN_ANEW);
}

/* The same for backfill_alter, which cannot move the ends of a walk. */
void
settings_check_alterable(Jsonb *object)
{
	check_length(object);
	for_each_setting(object, NULL, GIVEN_TO_RUN);
}

/* Raises an error if the settings contradict one another. */
static void
check_sizes(const RunSettings *resolved)
{
	if (resolved->min_batch_size > resolved->max_batch_size)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"min_batch_size\" is larger than \"max_batch_size\""),
				 errdetail("They are " INT64_FORMAT " and " INT64_FORMAT ".",
						   resolved->min_batch_size, resolved->max_batch_size)));
}

/* The settings without the windows, which the settings of a window go on top of. */
static Jsonb *
without_windows(Jsonb *object)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(object),
											  CStringGetTextDatum("windows")));
}

/*
 * Raises an error if the settings contradict one another, also in a window, or
 * need a scope that there is not.
 */
void
settings_check_together(Jsonb *object, const char *scope)
{
	RunSettings resolved;
	RunSettings in_window;
	Jsonb	   *outside;
	ListCell   *lc;

	check_length(object);
	settings_resolve(object, &resolved);
	check_sizes(&resolved);
	outside = without_windows(object);
	foreach(lc, resolved.windows)
	{
		Window	   *window = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (window->settings == NULL)
			continue;
		settings_resolve(settings_merge(outside, window->settings), &in_window);
		check_sizes(&in_window);
	}
	if (resolved.repair && resolved.on_error != ON_ERROR_SKIP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"repair\" needs the setting \"on_error\": \"skip\""),
				 errdetail("Otherwise the first row that fails fails the run, and nothing is repaired.")));
	if (resolved.share_by == NULL && (resolved.weights != NIL || resolved.share_rate_limit.amount > 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"%s\" needs the setting \"share_by\"",
						resolved.weights != NIL ? "weights" : "share_rate_limit")));
	if (resolved.verify && scope == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"verify\" needs a scope"),
				 errdetail("Without a scope every row is in scope, however often it was processed."),
				 errhint("Give the condition that a row fulfils until it is processed as the \"scope\" of the definition.")));
}

/* The weight of a value of share_by: 1 if none is given. */
double
settings_weight(const RunSettings *resolved, const char *value)
{
	ListCell   *lc;

	foreach(lc, resolved->weights)
	{
		const Weight *weight = lfirst(lc);

		if (strcmp(weight->value, value) == 0)
			return weight->weight;
	}
	return 1;
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

/* Whether the object gives the setting a value. */
bool
settings_gives(Jsonb *object, const char *name)
{
	JsonbValue	value;

	return object != NULL && JB_ROOT_IS_OBJECT(object) &&
		getKeyJsonValueFromContainer(&object->root, name, strlen(name), &value) != NULL &&
		value.type != jbvNull;
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

/* Put the values of the preset that the object names, or of the default one. */
static void
apply_preset(Jsonb *object, RunSettings *result)
{
	JsonbValue	value;
	const Setting *setting = find_setting("preset");

	if (JB_ROOT_IS_OBJECT(object) &&
		getKeyJsonValueFromContainer(&object->root, "preset", strlen("preset"), &value) != NULL &&
		value.type != jbvNull)
		setting_apply(setting, &value, result);
	for (int i = 0; i < lengthof(preset_values); i++)
	{
		if (preset_values[i].preset == result->preset)
			*(int64 *) ((char *) result + find_setting(preset_values[i].name)->offset) =
				preset_values[i].value;
	}
}

/* Fill the result from the defaults and the object.  Texts are palloc'd. */
void
settings_resolve(Jsonb *object, RunSettings *result)
{
	for (int i = 0; i < lengthof(settings); i++)
		setting_set_default(&settings[i], result);
	apply_preset(object, result);
	for_each_setting(object, result, GIVEN_ANEW);
}

/*
 * The same for the hour: with the settings of the window that is in force, if
 * any, on top.
 */
void
settings_resolve_at(Jsonb *object, TimestampTz at, RunSettings *result, WindowMatch *match)
{
	List	   *windows;

	settings_resolve(object, result);
	windows = result->windows;
	window_match(windows, at, match);
	if (match->window == NULL || match->window->settings == NULL)
		return;
	settings_resolve(settings_merge(without_windows(object), match->window->settings), result);
	result->windows = windows;
}

/* The value for the server's parameter synchronous_commit. */
const char *
settings_synchronous_commit(const RunSettings *resolved)
{
	return commit_modes[resolved->synchronous_commit];
}

/* The whole vocabulary, for who lists it; the number of settings goes to *n. */
const Setting *
settings_all(int *n)
{
	*n = lengthof(settings);
	return settings;
}
