/*-------------------------------------------------------------------------
 *
 * repair.c
 *	  The repair of a row that failed, as it is run.
 *
 * With the setting "repair", a row that has failed with an error of its own is not
 * left out at once.  Its batch, which is that row, stays in hand and is run again,
 * with the repair before the statement, in the transaction of the batch: repair,
 * change and record are committed together or not at all, so the repair is done
 * exactly once for a row that succeeds, and has left nothing of one that does not.
 * That row is then left out with the error that was to be repaired.
 *
 * In a walk by pages a row that its repair changes is somewhere else then, which the
 * range of its batch knows nothing of.  It is followed there.
 *
 * What the hand knows of a repair is forgotten with the batch.  Who takes the batch
 * up again, after a crash or a retry, meets the error anew and begins from there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/rowerror.h"
#include "definition/repair.h"
#include "engine/claim.h"
#include "engine/divide.h"
#include "engine/fetch.h"
#include "engine/repair.h"
#include "engine/work.h"
#include "store/batch.h"
#include "store/event.h"
#include "store/store.h"
#include "walk/key.h"
#include "walk/place.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* ---- the error ---- */

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* What is said of an error, in the memory context. */
static ErrorData *
copy_error(const ErrorData *error, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	ErrorData  *copy = palloc0(sizeof(ErrorData));

	copy->elevel = error->elevel;
	copy->sqlerrcode = error->sqlerrcode;
	copy->message = copy_text(error->message);
	copy->detail = copy_text(error->detail);
	copy->hint = copy_text(error->hint);
	copy->context = copy_text(error->context);
	copy->schema_name = copy_text(error->schema_name);
	copy->table_name = copy_text(error->table_name);
	copy->column_name = copy_text(error->column_name);
	copy->constraint_name = copy_text(error->constraint_name);
	copy->assoc_context = context;
	MemoryContextSwitchTo(old);
	return copy;
}

/*
 * Whether the batch in hand, the row which has met that error, is to be repaired:
 * once in each attempt, and not for what may go away by itself, nor for the rows with a null in
 * the key, which it could not be told.
 */
bool
repair_is_wanted(const Worker *worker, const ErrorData *error)
{
	return worker->session.settings.repair != NULL && worker->hand.repair == NULL &&
		!rowerror_is_retryable(error) && !ARR_HASNULL(worker->hand.batch->end_key);
}

/* The batch in hand is to be repaired when it is run again. */
void
repair_note(Worker *worker, const ErrorData *error)
{
	worker->hand.repair = copy_error(error, worker->hand.context);
}

/* The error that was to be repaired, in the loop context, where it outlives the batch. */
ErrorData *
repair_error(Worker *worker)
{
	return copy_error(worker->hand.repair, worker->session.loop_context);
}

/* ---- running ---- */

/* The repair as it is set now, prepared for the batch in hand. */
static Statement *
get_prepared(Worker *worker)
{
	Work	   *work = &worker->work;
	bool		inclusive = worker->hand.batch->start_inclusive;
	const char *text = worker->session.settings.repair;
	MemoryContext old;

	if (work->repair[inclusive] && strcmp(statement_text(work->repair[inclusive]), text) == 0)
		return work->repair[inclusive];
	if (work->repair[inclusive])
		statement_drop(work->repair[inclusive]);
	work->repair[inclusive] = NULL;
	old = MemoryContextSwitchTo(work->context);
	work->repair[inclusive] = repair_prepare(text, work->walk, worker->session.run->scope,
											 work->parameters, inclusive ? RANGE_FROM : RANGE_AFTER);
	statement_keep(work->repair[inclusive]);
	MemoryContextSwitchTo(old);
	return work->repair[inclusive];
}

static void
repair_error_callback(void *arg)
{
	errcontext("repair of a row with the error %s", unpack_sql_state(*(const int *) arg));
}

/* In a walk by pages: where the row that is to be repaired is.  Returns whether it is in scope. */
static bool
find_place(Worker *worker, const Datum *start, const Datum *end, ItemPointer place)
{
	Work	   *work = &worker->work;
	Datum		found;
	bool		result;

	PushActiveSnapshot(GetTransactionSnapshot());
	result = work_find_in_scope(&worker->session, work, start, worker->hand.batch->start_inclusive,
								end, 0, &found);
	if (result)
		ItemPointerCopy((ItemPointer) DatumGetPointer(found), place);
	PopActiveSnapshot();
	return result;
}

/*
 * Have the statement be about the place to which the row has been moved, if it has.
 * Returns whether it has; then that place is the first of the range, too.
 */
static bool
follow_place(Worker *worker, ItemPointerData place, ParamListInfo statement)
{
	Walk	   *walk = worker->work.walk;
	ItemPointer now = palloc(sizeof(ItemPointerData));
	Datum		key = PointerGetDatum(now);

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	*now = place_follow(walk->target, place, GetActiveSnapshot());
	PopActiveSnapshot();
	if (ItemPointerEquals(now, &place))
		return false;
	walk_set_start(walk, statement, &key);
	walk_set_end(walk, statement, &key);
	return true;
}

/*
 * Run the repair of the batch in hand, before its statement, in the transaction and
 * the nest level of that.  Returns whether the row is somewhere else now: the
 * parameters of the statement are a range that begins with its place then.
 */
bool
repair_run(Worker *worker, ParamListInfo statement)
{
	Work	   *work = &worker->work;
	BatchInfo  *batch = worker->hand.batch;
	ErrorData  *error = worker->hand.repair;
	ErrorContextCallback callback;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		key[INDEX_MAX_KEYS];
	ItemPointerData place;
	bool		may_move;
	ParamListInfo params;

	/* taken out of the settings in this moment: the row has only its statement */
	if (worker->session.settings.repair == NULL)
	{
		worker->hand.repair = NULL;
		return false;
	}
	worker->hand.repair_key = divide_find_row(worker);
	key_from_text(work->walk, worker->hand.repair_key, key);
	key_from_text(work->walk, batch->start_key, start);
	key_from_text(work->walk, batch->end_key, end);
	params = statement_params(work->walk,
							  repair_parameters(work->parameters, work->walk, key, error));
	walk_set_start(work->walk, params, start);
	walk_set_end(work->walk, params, end);
	if (work->walk->by_source)
		fetch_read(worker, params);
	may_move = work->walk->by_page && find_place(worker, start, end, &place);

	callback.callback = repair_error_callback;
	callback.arg = &error->sqlerrcode;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	(void) statement_execute(get_prepared(worker), params, NULL);
	error_context_stack = callback.previous;
	return may_move && follow_place(worker, place, statement);
}

/* ---- the record ---- */

/*
 * Put down, with the batch in hand, that it was repaired; and say so, unless the
 * row before had met the same.
 */
void
repair_record(Worker *worker, StoreSession *store)
{
	const Hand *hand = &worker->hand;
	RunInfo    *run = worker->session.run;
	const char *sqlstate = unpack_sql_state(hand->repair->sqlerrcode);
	EventInfo	event = {
		.kind = "repair",
		.batch = hand->batch,
		.sqlstate = sqlstate,
		.reason = hand->repair->message
	};

	store_repair_batch(store, worker->session.walk_id, hand->batch,
					   worker->work.walk->by_source ? fetch_error_key(hand->batch) : hand->repair_key,
					   hand->repair);
	if (strcmp(hand->last_repaired, sqlstate) != 0)
		store_add_event(store, run, &event);
}

/* That is committed: not before, or another try would have no event. */
void
repair_done(Worker *worker)
{
	strlcpy(worker->hand.last_repaired, unpack_sql_state(worker->hand.repair->sqlerrcode),
			sizeof(worker->hand.last_repaired));
}
