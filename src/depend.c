/*-------------------------------------------------------------------------
 *
 * depend.c
 *	  Runs that wait for other runs, and runs that follow others.
 *
 * A run may be started "after" others: it stays pending until all of them are
 * completed.  It can only name runs that exist, so that no cycle arises.
 *
 * A definition may name others in "then": when a run of it is completed, runs
 * of those are started, in the same transaction, in the session of the run's
 * owner.  What cannot be started is put down as an event, and does not undo the
 * run.  A definition cannot lead to itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "control.h"
#include "depend.h"
#include "settings.h"

/* ---- after ---- */

/*
 * Why a run that is to start after those has to wait, or NULL if it does not.
 */
char *
depend_wait_reason(CatalogSession *session, ArrayType *after)
{
	char	   *status;
	int64		id;

	if (after == NULL)
		return NULL;
	id = catalog_unmet_dependency(session, after, &status);
	if (id == 0)
		return NULL;
	if (status == NULL)
		return psprintf("waits for run " INT64_FORMAT ", which was deleted: stop this run", id);
	if (strcmp(status, "failed") == 0 || strcmp(status, "stopped") == 0)
		return psprintf("waits for run " INT64_FORMAT ", which is %s: resume that run, or stop this one",
						id, status);
	return psprintf("waits for run " INT64_FORMAT ", which is %s", id, status);
}

/* ---- then: the declaration ---- */

compat_noreturn static void
bad_then(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid \"then\" of a backfill definition"),
			 errdetail_internal("%s", detail),
			 errhint("Write for example '[{\"name\": \"second\", \"parameters\": {\"department\": {\"from\": \"params.department\"}}}]'.")));
}

/* A member of the object, or NULL. */
static JsonbValue *
member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

static bool
is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* Check one follower: its name, and the forms of what it is given. */
static void
check_follower(JsonbValue *follower)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	JsonbValue *name;
	char	   *key = NULL;

	if (!is_object(follower))
		bad_then("Each element must be an object.");
	name = member(follower->val.binary.data, "name");
	if (name == NULL || name->type != jbvString)
		bad_then("Each element must have a \"name\", that of a definition.");
	it = JsonbIteratorInit(follower->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			key = pnstrdup(v.val.string.val, v.val.string.len);
			if (strcmp(key, "name") != 0 && strcmp(key, "parameters") != 0 &&
				strcmp(key, "settings") != 0)
				bad_then(psprintf("There is no property \"%s\"; the properties are \"name\", \"parameters\" and \"settings\".",
								  key));
		}
		else if (token == WJB_VALUE && strcmp(key, "name") != 0)
		{
			if (!is_object(&v))
				bad_then(psprintf("\"%s\" must be an object.", key));
			if (strcmp(key, "settings") == 0)
				settings_check(JsonbValueToJsonb(&v));
		}
	}
}

/*
 * Raises an error unless "then" of the definition with that name is sound and
 * does not lead back to it.
 */
void
depend_check_then(Jsonb *then, const char *name)
{
	CatalogSession session;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (!JB_ROOT_IS_ARRAY(then) || JB_ROOT_IS_SCALAR(then))
		bad_then("It must be an array.");
	it = JsonbIteratorInit(&then->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			check_follower(&v);
	}
	catalog_begin(&session);
	if (catalog_then_reaches(&session, then, name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"then\" of backfill definition \"%s\" leads back to it", name),
				 errdetail("Its runs would start each other for ever.")));
	catalog_end(&session);
}

/* ---- then: the runs ---- */

static JsonbValue *
time_value(TimestampTz time)
{
	JsonbValue *value = palloc(sizeof(JsonbValue));

	value->type = jbvString;
	value->val.string.val = TIMESTAMP_IS_NOBEGIN(time) ? "-infinity" :
		pstrdup(timestamptz_to_str(time));
	value->val.string.len = strlen(value->val.string.val);
	return value;
}

/* What {"from": "params.x"} or {"from": "run.id"} stands for; anything else itself. */
static JsonbValue *
map_value(RunInfo *run, JsonbValue *value)
{
	JsonbValue *from = is_object(value) ? member(value->val.binary.data, "from") : NULL;
	JsonbValue *result = NULL;
	char	   *source;

	if (from == NULL || from->type != jbvString ||
		JsonContainerSize(value->val.binary.data) != 1)
		return value;
	source = pnstrdup(from->val.string.val, from->val.string.len);
	if (strncmp(source, "params.", 7) == 0)
		result = member(&run->parameters->root, source + 7);
	else if (strcmp(source, "run.id") == 0)
	{
		result = palloc(sizeof(JsonbValue));
		result->type = jbvNumeric;
		result->val.numeric = int64_to_numeric(run->id);
	}
	else if (strcmp(source, "run.started_at") == 0)
		result = time_value(run->started_at);
	else if (strcmp(source, "run.since") == 0)
		result = time_value(run->since);
	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("run " INT64_FORMAT " has no \"%s\"", run->id, source)));
	return result;
}

/* The parameters of the follower, mapped; NULL if it is given none. */
static Jsonb *
map_parameters(RunInfo *run, JsonbContainer *follower)
{
	JsonbValue *given = member(follower, "parameters");
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (given == NULL)
		return NULL;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	it = JsonbIteratorInit(given->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			pushJsonbValue(&state, WJB_KEY, &v);
		else if (token == WJB_VALUE)
			pushJsonbValue(&state, WJB_VALUE, map_value(run, &v));
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Start one follower; puts down an event, also when it cannot be started. */
static void
start_follower(RunInfo *run, JsonbContainer *follower)
{
	CatalogSession session;
	JsonbValue *name_value = member(follower, "name");
	JsonbValue *settings = member(follower, "settings");
	char	   *name = pnstrdup(name_value->val.string.val, name_value->val.string.len);
	EventInfo	event = {.kind = "then"};
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	PG_TRY();
	{
		int64		id = control_start(name, map_parameters(run, follower),
									   settings ? JsonbValueToJsonb(settings) : NULL,
									   DT_NOBEGIN, NULL,
									   psprintf("follows run " INT64_FORMAT, run->id), NULL);

		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
		event.reason = psprintf("run " INT64_FORMAT " of \"%s\" follows", id, name);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		event.sqlstate = unpack_sql_state(error->sqlerrcode);
		event.reason = psprintf("\"%s\" could not be started: %s", name, error->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	catalog_begin(&session);
	catalog_add_event(&session, run, &event);
	catalog_end(&session);
}

/*
 * The run of the worker has been completed, in the current transaction: start
 * what follows it.
 */
void
depend_start_followers(Worker *worker)
{
	RunInfo    *run = worker->run;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (run->then == NULL)
		return;
	it = JsonbIteratorInit(&run->then->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			start_follower(run, v.val.binary.data);
	}
}
