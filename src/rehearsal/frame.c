/*-------------------------------------------------------------------------
 *
 * frame.c
 *	  The frame in which a definition is tried out, and undone.
 *
 * backfill_explain and backfill_preview run the code of a definition's owner
 * in the session of whoever calls them.  It runs as the owner, in a
 * security-restricted operation, so that it can do nothing that the owner
 * could not do himself, even if a superuser calls.
 *
 * Everything happens in one subtransaction, which is always rolled back.  That
 * takes back rows, locks, notifications, parameters and the current user all
 * together, also when an error ends it.  What the caller is to see has been
 * copied to memory that is the caller's.
 *
 * Statistics are not transactional, so they are not counted meanwhile.
 *
 * Deferred triggers cannot be queued in a security-restricted operation, and
 * nobody would fire them after the rollback.  So constraints are immediate
 * here, unless the caller's own transaction has deferred triggers waiting:
 * those would be fired then, as the wrong user.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/owner.h"
#include "base/writers.h"
#include "definition/definition.h"
#include "definition/names.h"
#include "definition/streamlist.h"
#include "rehearsal/frame.h"
#include "settings/parameters.h"
#include "settings/serverparams.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "store/definition.h"
#include "store/span.h"
#include "store/store.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

static void
set_parameter(const char *name, const char *value, GucContext context)
{
	(void) set_config_option(name, value, context, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* ---- deferred triggers ---- */

/* Whether triggers that the caller's transaction has deferred are waiting. */
static bool
has_deferred_triggers(void)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	Oid			last = InvalidOid;
	bool		found = false;
	HeapTuple	tuple;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (!form->tgdeferrable || form->tgrelid == last)
			continue;
		last = form->tgrelid;
		found = AfterTriggerPendingOnRel(form->tgrelid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static void
make_constraints_immediate(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->constraints = NIL;
	stmt->deferred = false;
	AfterTriggerSetState(stmt);
}

/* ---- the time that the owner's code may take ---- */

/*
 * The definition's statement_timeout holds from here on, unless that of the
 * session ends earlier.
 */
void
frame_limit_time(Rehearsal *rehearsal)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													rehearsal->settings.statement_timeout);

	if (rehearsal->settings.statement_timeout == 0)
		return;
	rehearsal->session_limit = get_timeout_active(STATEMENT_TIMEOUT) ?
		get_timeout_finish_time(STATEMENT_TIMEOUT) : 0;
	if (rehearsal->session_limit != 0 && rehearsal->session_limit <= until)
		return;
	rehearsal->is_limited = true;
	enable_timeout_at(STATEMENT_TIMEOUT, until);
}

/* That of the session holds again. */
void
frame_free_time(Rehearsal *rehearsal)
{
	if (!rehearsal->is_limited)
		return;
	rehearsal->is_limited = false;
	disable_timeout(STATEMENT_TIMEOUT, false);
	if (rehearsal->session_limit != 0)
		enable_timeout_at(STATEMENT_TIMEOUT, rehearsal->session_limit);
}

/* ---- the frame ---- */

/* The definition, if the caller may use it, with its target; as the caller. */
static void
load_definition(Rehearsal *rehearsal, const char *name, Oid target)
{
	StoreSession session;

	store_begin(&session);
	rehearsal->def = definition_get(&session, name);
	store_end(&session);
	definition_check_role(rehearsal->def->owner, "definition", quote_identifier(name));
	if (rehearsal->def->source.function)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot try out backfill definition \"%s\"", name),
				 errdetail("It has a source, which is not called to try something out: what a call does elsewhere cannot be rolled back."),
				 errhint("Call the function, and run the statement about a page of it in a transaction that you roll back.")));
	definition_take_target(rehearsal->def, target);
	settings_resolve(rehearsal->def->settings, &rehearsal->settings);
}

/* The parameters of a run that would be started now; it has no id yet. */
static Parameters *
make_parameters(Rehearsal *rehearsal, Jsonb *given)
{
	DefinitionInfo *def = rehearsal->def;
	RunFacts	facts = {0, def->name, GetCurrentTimestamp(), rehearsal->since,
		Min(writers_watermark(), rehearsal->settings.end_value),
	rehearsal->stream ? rehearsal->stream->name : NULL};

	return parameters_load(def->parameters, parameters_bind(def->parameters, given), &facts);
}

/* Statistics are not rolled back. */
static void
count_nothing(void)
{
	set_parameter("track_counts", "off", PGC_SUSET);
	set_parameter("track_functions", "none", PGC_SUSET);
}

/* Become the owner, under the settings that a batch would have. */
static void
become_owner(Rehearsal *rehearsal)
{
	DefinitionInfo *def = rehearsal->def;
	Oid			userid;
	int			context;

	GetUserIdAndSecContext(&userid, &context);
	SetUserIdAndSecContext(def->owner, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	set_parameter("search_path", owner_path(def->search_path), PGC_USERSET);
	set_parameter("jit", "off", PGC_USERSET);	/* as in a worker */
	set_parameter("lock_timeout", psprintf(INT64_FORMAT, rehearsal->settings.lock_timeout),
				  PGC_USERSET);
	serverparams_apply(rehearsal->settings.set);

	/* whatever they say */
	count_nothing();
}

/*
 * Of a definition with streams the first one is tried out, as if it were all: the definition
 * becomes its.
 */
static void
take_stream(Rehearsal *rehearsal)
{
	DefinitionInfo *def = rehearsal->def;
	List	   *streams;

	if (def->streams == NULL)
		return;
	streams = streamlist_read(def->streams, def->target);
	if (streams == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a run of backfill definition \"%s\" would have no streams", def->name)));
	rehearsal->streams = list_length(streams);
	rehearsal->stream = linitial(streams);
	if (rehearsal->stream->bounds)
		settings_resolve(settings_merge(def->settings, rehearsal->stream->bounds),
						 &rehearsal->settings);
	if (OidIsValid(rehearsal->stream->target))
	{
		def->key = unconstify(char *, streamlist_key(rehearsal->stream->target, def->target, def->key));
		def->target = rehearsal->stream->target;
	}
}

/* run.since, of the stream if there is one: from where the last one on the table has ended. */
static void
find_since(Rehearsal *rehearsal, Oid table)
{
	const RunSettings *settings = &rehearsal->settings;
	StoreSession session;
	TimestampTz last;

	store_begin(&session);
	last = rehearsal->stream ?
		span_last_of_stream(&session, rehearsal->def, table, rehearsal->stream->name) :
		store_last_started(&session, rehearsal->def);
	store_end(&session);
	rehearsal->since = TIMESTAMP_IS_NOBEGIN(last) ? settings->initial_value :
		TimestampTzPlusMilliseconds(last, -settings->lookback);
}

/* Inside of the subtransaction: prepare what a worker prepares, and go. */
static void
run(Rehearsal *rehearsal, const char *name, Oid target, Jsonb *parameters,
	RehearseFunction function, void *arg)
{
	DefinitionInfo *def;
	Oid			table;
	WalkEnds	ends;

	count_nothing();
	rehearsal->is_deferred = has_deferred_triggers();
	if (!rehearsal->is_deferred)
		make_constraints_immediate();

	load_definition(rehearsal, name, target);
	become_owner(rehearsal);
	def = rehearsal->def;
	table = def->target;
	if (def->generic)
		names_bind(def, make_parameters(rehearsal, parameters), true);
	take_stream(rehearsal);
	find_since(rehearsal, table);
	rehearsal->walk = walk_open(def->target, def->key, &rehearsal->settings);
	key_check_bounds(rehearsal->walk, rehearsal->settings.from, rehearsal->settings.to);
	rehearsal->parameters = make_parameters(rehearsal, parameters);
	rehearsal->statement = statement_prepare(definition_statement(def), rehearsal->walk,
											 def->scope, rehearsal->parameters, RANGE_FROM);
	frame_limit_time(rehearsal);
	(void) bounds_find_ends(rehearsal->walk, rehearsal->settings.from, rehearsal->settings.to,
							rehearsal->settings.limit, def->scope, rehearsal->parameters,
							&ends);
	rehearsal->has_rows = ends.values;
	rehearsal->has_nulls = ends.nulls;
	memcpy(rehearsal->start, ends.start, sizeof(ends.start));
	memcpy(rehearsal->end, ends.end, sizeof(ends.end));
	rehearsal->rows_total = ends.rows;
	frame_free_time(rehearsal);
	function(rehearsal, arg);
}

/* Roll back to where we were, and be who we were. */
static void
undo(Rehearsal *rehearsal, int level, ResourceOwner owner)
{
	while (GetCurrentTransactionNestLevel() > level)
		RollbackAndReleaseCurrentSubTransaction();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(rehearsal->caller);
	frame_free_time(rehearsal);
	if (rehearsal->bounds)
		bounds_drop(rehearsal->bounds);
	MemoryContextDelete(rehearsal->context);
}

/*
 * Try the definition out, on the target if it is generic: call the function with everything prepared, as the
 * owner of the definition, and undo all of it.  Raises an error if the current
 * user has not the owner's rights, and what the function raises.
 */
void
frame_rehearse(const char *function_name, const char *definition, Oid target,
		 Jsonb *parameters, RehearseFunction function, void *arg)
{
	Rehearsal	rehearsal = {.caller = CurrentMemoryContext};
	ResourceOwner owner = CurrentResourceOwner;
	int			level = GetCurrentTransactionNestLevel();
	ErrorData  *error;

	PreventCommandDuringRecovery(function_name);
	rehearsal.context = AllocSetContextCreate(CurrentMemoryContext, "backfill rehearsal",
											  ALLOCSET_DEFAULT_SIZES);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(rehearsal.context);
	PG_TRY();
	{
		run(&rehearsal, definition, target, parameters, function, arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(rehearsal.caller);
		error = CopyErrorData();
		FlushErrorState();
		undo(&rehearsal, level, owner);
		ReThrowError(error);
	}
	PG_END_TRY();
	undo(&rehearsal, level, owner);
}

/* The parameters of the run, and of a range from start to end if given. */
ParamListInfo
frame_params(Rehearsal *rehearsal, const Datum *start, const Datum *end)
{
	ParamListInfo params = statement_params(rehearsal->walk, rehearsal->parameters);

	if (start)
		walk_set_start(rehearsal->walk, params, start);
	if (end)
		walk_set_end(rehearsal->walk, params, end);
	return params;
}

/* The searches along the key. */
Bounds *
frame_bounds(Rehearsal *rehearsal)
{
	if (rehearsal->bounds == NULL)
		rehearsal->bounds = bounds_prepare(rehearsal->walk);
	return rehearsal->bounds;
}
