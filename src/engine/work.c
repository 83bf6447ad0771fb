/*-------------------------------------------------------------------------
 *
 * work.c
 *	  What a worker has prepared for its run.
 *
 * The walk, the parameters, the statement and the searches of a run are made
 * once, in a memory context of their own, and serve every batch.  When the target
 * was renamed they are made anew, and when the server parameters are others under
 * which statements are read and planned.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "definition/definition.h"
#include "definition/streamlist.h"
#include "engine/session.h"
#include "engine/toll.h"
#include "engine/work.h"
#include "settings/parameters.h"
#include "settings/serverparams.h"
#include "settings/setting.h"
#include "store/run.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

static void
drop(Statement **statement)
{
	if (*statement)
		statement_drop(*statement);
	*statement = NULL;
}

/* Forget what work_prepare made, be it complete or, after an error, not. */
static void
unprepare(Work *work)
{
	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		drop(&work->rows_in_scope[inclusive]);
		drop(&work->repair[inclusive]);
	}
	for (int shape = 0; shape < RANGE_SHAPES; shape++)
	{
		drop(&work->statements[shape]);
		drop(&work->count_in_scope[shape]);
		drop(&work->keys_in_scope[shape]);
	}
	if (work->bounds)
		bounds_drop(work->bounds);
	work->bounds = NULL;
	work->walk = NULL;
	work->set = NIL;
	work->tables = NIL;
	MemoryContextReset(work->context);
}

/* Whether it was prepared under other parameters than those of the settings now. */
bool
work_is_outdated(const Session *session, const Work *work)
{
	return !serverparams_equal(work->set, session->settings.set);
}

/* What the run says of itself, and of its stream in hand. */
static RunFacts
work_facts(const Session *session)
{
	const RunInfo *run = session->run;

	return (RunFacts) {run->id, run->name, run->started_at, run->since, run->until, run->stream};
}

/* The key of the run, or that index of a partition which belongs to it. */
static const char *
key_of_walk(const Session *session)
{
	const RunInfo *run = session->run;

	return run->target == session->table ? run->key :
		streamlist_key(run->target, session->table, run->key);
}

/*
 * Whether what is prepared serves the stream in hand, too: it has the table of the last one.
 * Then it knows what the run says of itself now.
 */
bool
work_serves(const Session *session, Work *work)
{
	RunFacts	facts = work_facts(session);
	MemoryContext old;

	if (work->walk == NULL || work->walk->target != session->run->target ||
		work_is_outdated(session, work))
		return false;
	old = MemoryContextSwitchTo(work->context);
	parameters_take_facts(work->parameters, &facts);
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * In a transaction of its own: parse and analyse what the run does.  Raises what is
 * wrong with it.
 */
void
work_prepare(Session *session, Work *work)
{
	RunInfo    *run = session->run;
	RunFacts	facts = work_facts(session);
	ErrorContextCallback callback;
	int			nest;

	if (work->context == NULL)
		work->context = AllocSetContextCreate(session->context, "backfill work",
											  ALLOCSET_DEFAULT_SIZES);

	/* functions of the user's may have plans that were made under others, too */
	if (work_is_outdated(session, work))
		ResetPlanCache();
	unprepare(work);
	callback.callback = session_error_callback;
	callback.arg = session;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	session_begin(session);
	MemoryContextSwitchTo(work->context);
	work->set = serverparams_copy(session->settings.set);
	nest = session_enter_statement(session);
	if (run->target != session->table)
		streamlist_check_partition(session->table, run->target);
	work->walk = definition_walk(run->target, key_of_walk(session), &run->source, &session->settings);
	if (run->statement)
		walk_check_is_here(work->walk);
	if (run->key_types)
		walk_check_key_types(work->walk, run->key_types);
	work->parameters = parameters_load(run->parameter_types, run->parameters, &facts);
	for (int shape = 0; run->statement && shape < RANGE_SHAPES; shape++)
	{
		if (shape == RANGE_NULLS && !work->walk->has_nulls &&
			(run->end_key == NULL || !ARR_HASNULL(run->end_key)))
			continue;
		work->statements[shape] = statement_prepare(run->statement, work->walk, run->scope,
													work->parameters, shape);
		statement_keep(work->statements[shape]);
	}
	AtEOXact_GUC(false, nest);
	if (!work->walk->by_source)
		work->bounds = bounds_prepare(work->walk);
	work->tables = run->statement ? toll_tables(run->target) : NIL;
	session_commit(session);
	error_context_stack = callback.previous;
}

/*
 * The key of a row in scope of the range, at that offset, read with the active
 * snapshot.  False if there is none.
 */
bool
work_find_in_scope(Session *session, Work *work, const Datum *start, bool start_inclusive,
				   const Datum *end, int64 offset, Datum *key)
{
	ParamListInfo params = statement_params(work->walk, work->parameters);
	Statement **query = &work->rows_in_scope[start_inclusive];

	if (*query == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(work->context);

		*query = bounds_prepare_row(work->walk, start_inclusive, session->run->scope,
									work->parameters);
		statement_keep(*query);
		MemoryContextSwitchTo(old);
	}
	walk_set_start(work->walk, params, start);
	walk_set_end(work->walk, params, end);
	walk_set_number(work->walk, params, offset);
	return statement_fetch(*query, params, GetActiveSnapshot(), work->walk->nkeys, key);
}

/* The rows in scope of the range, read with the active snapshot. */
int64
work_count_in_scope(Session *session, Work *work, const Datum *start, RangeShape shape,
					const Datum *end)
{
	ParamListInfo params = statement_params(work->walk, work->parameters);
	Statement **query = &work->count_in_scope[shape];
	Datum		count;

	if (*query == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(work->context);

		*query = bounds_prepare_count(work->walk, shape, session->run->scope, work->parameters);
		statement_keep(*query);
		MemoryContextSwitchTo(old);
	}
	walk_set_start(work->walk, params, start);
	walk_set_end(work->walk, params, end);
	return statement_fetch(*query, params, GetActiveSnapshot(), 1, &count) ? DatumGetInt64(count) : 0;
}

/* Keys as they are read, for statement_each_row. */
typedef struct KeyReader
{
	Walk	   *walk;
	ArrayBuildState *texts;
	MemoryContext context;		/* holds those */
	int64		rows;
} KeyReader;

static void
read_key(TupleTableSlot *slot, void *arg)
{
	KeyReader  *reader = (KeyReader *) arg;
	Datum		key[INDEX_MAX_KEYS];
	Datum	   *texts;
	int			n;

	for (int i = 0; i < reader->walk->nkeys; i++)
	{
		bool		isnull;

		key[i] = slot_getattr(slot, i + 1, &isnull);
		if (isnull)
			elog(ERROR, "null in a key that cannot be null");
	}
	deconstruct_array(key_to_text(reader->walk, key), TEXTOID, -1, false, TYPALIGN_INT,
					  &texts, NULL, &n);
	for (int i = 0; i < n; i++)
		reader->texts = accumArrayResult(reader->texts, texts[i], false, TEXTOID, reader->context);
	reader->rows++;
}

/*
 * The keys of the rows in scope of the range, column by column and row by row, and how many
 * rows those are; in the current memory context.
 */
ArrayType *
work_keys_in_scope(Session *session, Work *work, const Datum *start, RangeShape shape,
				   const Datum *end, int64 *rows)
{
	ParamListInfo params = statement_params(work->walk, work->parameters);
	Statement **query = &work->keys_in_scope[shape];
	KeyReader	reader = {.walk = work->walk, .context = CurrentMemoryContext};

	if (*query == NULL)
	{
		WalkRange	range = walk_range(work->walk, shape);
		MemoryContext old = MemoryContextSwitchTo(work->context);

		*query = bounds_prepare_query(work->walk, &range, session->run->scope, work->parameters,
									  "", work->walk->descending, "");
		statement_keep(*query);
		MemoryContextSwitchTo(old);
	}
	reader.texts = initArrayResult(TEXTOID, CurrentMemoryContext, true);
	walk_set_start(work->walk, params, start);
	walk_set_end(work->walk, params, end);
	statement_each_row(*query, params, GetActiveSnapshot(), read_key, &reader);
	*rows = reader.rows;
	return DatumGetArrayTypeP(makeArrayResult(reader.texts, CurrentMemoryContext));
}
