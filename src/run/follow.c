/*-------------------------------------------------------------------------
 *
 * follow.c
 *	  Runs that follow a run.
 *
 * When a run is completed, runs of the definitions that its own names in "followers" are
 * started, in the same transaction, in the session of the run's owner.  What cannot
 * be started is put down as an event, and does not undo the run.
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

#include "base/compat.h"
#include "base/limit.h"
#include "definition/followers.h"
#include "definition/names.h"
#include "run/follow.h"
#include "run/start.h"
#include "store/definition.h"
#include "store/event.h"
#include "store/run.h"
#include "store/store.h"
#include "store/stream.h"

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
	JsonbValue *from = followers_is_object(value) ? followers_member(value->val.binary.data, "from") : NULL;
	JsonbValue *result = NULL;
	char	   *source;

	if (from == NULL || from->type != jbvString ||
		JsonContainerSize(value->val.binary.data) != 1)
		return value;
	source = pnstrdup(from->val.string.val, from->val.string.len);
	if (strncmp(source, "params.", 7) == 0)
		result = followers_member(&run->parameters->root, source + 7);
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
	else if (strcmp(source, "run.until") == 0 && !(run->has_streams && run->stream == NULL))
		result = time_value(run->until);
	else if (strcmp(source, "run.stream") == 0 && run->stream)
	{
		result = palloc(sizeof(JsonbValue));
		result->type = jbvString;
		result->val.string.val = run->stream;
		result->val.string.len = strlen(run->stream);
	}
	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("run " INT64_FORMAT " has no \"%s\"", run->id, source)));
	return result;
}

/* The table that the follower is given, or InvalidOid. */
static Oid
map_target(RunInfo *run, JsonbContainer *follower)
{
	JsonbValue *target = followers_member(follower, "target");

	if (target == NULL)
		return InvalidOid;
	if (followers_is_same_target(target))
		return run->target;
	return names_table(pnstrdup(target->val.string.val, target->val.string.len));
}

/* The parameters of the follower, mapped; NULL if it is given none. */
static Jsonb *
map_parameters(RunInfo *run, JsonbContainer *follower)
{
	JsonbValue *given = followers_member(follower, "parameters");
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

/* A text of the follower's, NULL if there is none. */
static pg_noinline char *
text_member(JsonbContainer *follower, const char *key)
{
	JsonbValue *value = followers_member(follower, key);

	return value ? pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}

/*
 * Raises an error if a run of that definition would, as things are now, come to
 * start one of this definition again.  It was asked when they were defined, too;
 * but definitions of several owners may have been made at the same moment.
 */
static void
check_cycle(const RunInfo *run, const char *name)
{
	StoreSession session;
	DefinitionInfo *def;

	store_begin(&session);
	def = store_load_definition(&session, name);
	if (strcmp(name, run->name) == 0 ||
		(def && def->followers && store_followers_reach(&session, def->followers, run->name)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"followers\" of backfill definition \"%s\" leads back to \"%s\"",
						name, run->name)));
	store_end(&session);
}

/* Start a run of the definition that the follower names.  Returns its id. */
static int64
start(RunInfo *run, JsonbContainer *follower, const char *name)
{
	JsonbValue *settings = followers_member(follower, "settings");
	StartOptions options = {.start_at = DT_NOBEGIN};

	check_cycle(run, name);
	return start_run(name, text_member(follower, "owner"), map_target(run, follower),
					 map_parameters(run, follower),
					 settings ? JsonbValueToJsonb(settings) : NULL, &options,
					 psprintf("follows run " INT64_FORMAT, run->id), NULL);
}

/* Start one follower; puts down an event, also when it cannot be started. */
static void
start_follower(RunInfo *run, JsonbContainer *follower)
{
	StoreSession session;
	char	   *name = text_member(follower, "name");
	EventInfo	event = {.kind = "followers"};
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	PG_TRY();
	{
		int64		id = start(run, follower, name);

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

	store_begin(&session);
	store_add_event(&session, run, &event);
	store_end(&session);
}

/* Start the follower for the stream: what it is told of the run is so of the stream. */
static void
start_for_stream(const RunInfo *whole, const StreamInfo *stream, JsonbContainer *follower)
{
	RunInfo		run = *whole;

	run.stream = stream->name;
	run.since = stream->since;
	run.until = stream->until;
	start_follower(&run, follower);
}

/* Start the follower once for each stream of the run. */
static void
start_for_each(RunInfo *run, JsonbContainer *follower)
{
	StoreSession session;
	List	   *streams;
	ListCell   *lc;
	int			n = 0;

	store_begin(&session);
	streams = stream_completed(&session, run->id);
	store_end(&session);
	foreach(lc, streams)
	{
		CHECK_FOR_INTERRUPTS();
		if (++n > LIMIT_FOLLOWER_STREAMS)
			break;
		start_for_stream(run, lfirst(lc), follower);
	}
	if (n > LIMIT_FOLLOWER_STREAMS)
	{
		EventInfo	event = {
			.kind = "followers",
			.reason = psprintf("\"%s\" was started for the first %d of %d streams",
							   text_member(follower, "name"), LIMIT_FOLLOWER_STREAMS,
							   list_length(streams))
		};

		store_begin(&session);
		store_add_event(&session, run, &event);
		store_end(&session);
	}
}

/*
 * The run has been completed, in the current transaction, by its owner: start
 * what follows it.
 */
void
follow_start(RunInfo *run)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (run->followers == NULL)
		return;
	it = JsonbIteratorInit(&run->followers->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM && followers_is_for_each(v.val.binary.data))
			start_for_each(run, v.val.binary.data);
		else if (token == WJB_ELEM)
			start_follower(run, v.val.binary.data);
	}
}
