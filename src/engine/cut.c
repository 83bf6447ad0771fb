/*-------------------------------------------------------------------------
 *
 * cut.c
 *	  What a worker does for clients: ranges cut ahead, and reported errors.
 *
 * To find a range, and what is in scope in it, runs code of the owner's: operators of the
 * key, functions in the scope.  So it is done here, in the owner's session, ahead of the
 * claims, which then cost no more than the change of one row.  A range without a row in
 * scope is done by that, and never handed out.
 *
 * A batch with which a client has failed comes here, too: the worker takes it in hand,
 * and what comes of it is what would come of an error of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/rowerror.h"
#include "engine/claim.h"
#include "engine/cut.h"
#include "engine/failure.h"
#include "engine/hook.h"
#include "engine/share.h"
#include "run/bound.h"
#include "shared/pace.h"
#include "shared/run_slot.h"
#include "shared/stock.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/lease.h"
#include "store/ledger.h"
#include "walk/condition.h"
#include "walk/key.h"

/* So long ranges are cut in one transaction, which holds the claim lock. */
#define CUT_MS				50
/* A range is to be found in about this time, however few of its rows are in scope. */
#define LOOK_MS				20
/* A range has at most so many times the rows of a batch. */
#define STRIDE_MOST			4096
/* How many batches a rate limit is divided into at least, and that of a value. */
#define LIMIT_PARTS			32
#define SHARE_LIMIT_PARTS	4
/* With a ledger a batch has at most so many rows: their keys stand in its condition. */
#define LEDGER_MOST			1000
/* How often to look whether everything is done, and, the window in this, whether a value may go on. */
#define DONE_POLL_MS		1000
#define LIMIT_POLL_MS		50
#define LIMIT_POLL_PARTS	100

/* ---- the conditions ---- */

static void
store_conditions(Session *session, void *arg)
{
	Work	   *work = &((Worker *) arg)->work;
	StoreSession store;
	ArrayType  *conditions;
	int			nest;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	nest = session_enter_statement(session);
	conditions = condition_templates(work->walk, session->run->scope, work->parameters);
	AtEOXact_GUC(false, nest);
	store_begin(&store);
	store_set_conditions(&store, session->run->id, conditions);
	store_end(&store);
	session_commit(session);
}

/* Clients may take part from now on. */
void
cut_begin(Worker *worker)
{
	failure_insist(worker, store_conditions);
	if (worker->session.run->has_shares)
		share_find_all(worker);
}

/* ---- cutting ---- */

/* What a cut is about, for session_try. */
typedef struct Cutting
{
	Worker	   *worker;
	int			missing;		/* batches to be cut */
	int			n;				/* that there are */
	TimestampTz due;			/* when the first of those is that have to wait */
	bool		ended;			/* there is no range any more, or none may be claimed */
	bool		is_bound;		/* the latter, by "max_batches" */
	StockEntry	entries[STOCK_SIZE];
} Cutting;

/* How many rows in scope a batch is to have. */
static int64
wanted_rows(const Session *session)
{
	const Pace *pace = &session->pace;
	int64		size = session->run->statement ? pace_size(MyDatabaseId, session->run->id) :
		session->settings.batch_size;

	if (pace->rows.amount > 0)
		size = Min(size, Max(pace->rows.amount / LIMIT_PARTS, 1));
	if (session->settings.share_rate_limit.amount > 0)
		size = Min(size, Max(session->settings.share_rate_limit.amount / SHARE_LIMIT_PARTS, 1));
	if (session->settings.ledger)
		size = Min(size, LEDGER_MOST);
	return Max(size, 1);
}

/* The rows in scope of the range of the batch; with a ledger, their keys are put down. */
static int64
count_in_scope(Worker *worker, BatchInfo *batch)
{
	Work	   *work = &worker->work;
	bool		ledger = worker->session.settings.ledger;
	RangeShape	shape = key_range_shape(batch->start_inclusive, batch->end_key);
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	int64		rows;
	int			nest;

	if (worker->session.run->scope == NULL && !ledger)
		return batch->rows_scanned;
	nest = session_enter_statement(&worker->session);
	PushActiveSnapshot(GetLatestSnapshot());
	key_from_text(work->walk, batch->start_key, start);
	key_from_text(work->walk, batch->end_key, end);
	if (ledger)
		batch->keys = work_keys_in_scope(&worker->session, work, start, shape, end, &rows);
	else
		rows = work_count_in_scope(&worker->session, work, start, shape, end);
	PopActiveSnapshot();
	AtEOXact_GUC(false, nest);
	return rows;
}

/*
 * Find the range behind the last one.  The next is longer if this one took little time and
 * has few rows in scope, and shorter if it took long.
 */
static void
find_range(Worker *worker, BatchInfo *batch, ArrayType *last_key, int64 size)
{
	TimestampTz began = GetCurrentTimestamp();
	bool		has_scope = worker->session.run->scope != NULL;
	int64		stride = has_scope ? Max(worker->stride, size) : size;
	int64		ms;

	claim_find_end(worker, batch, last_key, size, has_scope ? stride : 0);
	batch->rows_in_scope = count_in_scope(worker, batch);
	if (!has_scope)
		return;
	ms = TimestampDifferenceMilliseconds(began, GetCurrentTimestamp());
	if (ms > LOOK_MS)
		stride = stride / 2;
	else if (batch->rows_in_scope < size / 2)
		stride = stride * 2;
	worker->stride = Min(Max(stride, size), size * STRIDE_MOST);
}

/* The range behind that of the batch, which has been cut, or the first; false at the end. */
static bool
step(const Worker *worker, BatchInfo *batch)
{
	const RunInfo *run = worker->session.run;

	if (batch->end_key == NULL)
		return claim_find_start(&worker->session, batch);
	if (key_is_last(batch->end_key, run->end_key))
		return false;
	batch->start_key = batch->end_key;
	batch->start_inclusive = false;
	return true;
}

/*
 * The same where values take turns, for the one that has it; false if that is none.
 * *last_key becomes that of the value.
 */
static bool
step_in_turn(Worker *worker, BatchInfo *batch, const ShareInfo *share, ArrayType **last_key)
{
	if (share == NULL)
		return false;
	if (batch->end_key == NULL)
		(void) claim_find_start(&worker->session, batch);
	batch->start_inclusive = share->last_key == NULL;
	batch->start_key = share->last_key ? share->last_key : share->start_key;
	batch->share = share->id;
	*last_key = share->end_key;
	return true;
}

/* Put the batch down that has been cut, and, where values take turns, how far this one is. */
static void
store_cut(Worker *worker, const BatchInfo *batch, const ShareInfo *share)
{
	StoreSession store;
	int64		run_id = worker->session.run->id;

	store_begin(&store);
	store_stock_batch(&store, run_id, batch);
	if (share && !share_advance(&store, run_id, share, batch->end_key, batch->rows_in_scope))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("another worker has cut batches of backfill run " INT64_FORMAT, run_id)));
	store_end(&store);
}

/* In a transaction of its own: cut ranges, at most for a while.  The argument is a Cutting. */
static void
cut(Session *session, void *arg)
{
	Cutting    *cutting = (Cutting *) arg;
	Worker	   *worker = cutting->worker;
	int64		size = wanted_rows(session);
	TimestampTz began = GetCurrentTimestamp();
	BatchInfo	batch = {0};

	cutting->n = 0;
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	claim_lock(worker);
	while (cutting->n < cutting->missing &&
		   !TimestampDifferenceExceeds(began, GetCurrentTimestamp(), CUT_MS))
	{
		ArrayType  *last_key = session->run->end_key;
		bool		in_turn = session->run->has_shares;
		const ShareInfo *share = in_turn ? share_next(worker, size) : NULL;

		CHECK_FOR_INTERRUPTS();
		cutting->ended = !(in_turn ? step_in_turn(worker, &batch, share, &last_key) : step(worker, &batch));
		cutting->is_bound = !cutting->ended &&
			!bound_allows_batch(session->run, &session->settings, batch.number);
		cutting->ended |= cutting->is_bound;
		if (cutting->ended)
			break;
		batch.number++;
		find_range(worker, &batch, last_key, size);
		store_cut(worker, &batch, share);
		if (in_turn)
			share_note_cut(worker, batch.end_key, batch.rows_in_scope);
		if (batch.rows_in_scope > 0)
			cutting->entries[cutting->n++] = (StockEntry) {batch.number, 0, batch.rows_in_scope};
	}
	session_commit(session);
}

/* Cut; where values take turns, those of this turn.  Returns the error, or NULL. */
static ErrorData *
cut_in_turn(Cutting *cutting)
{
	Worker	   *worker = cutting->worker;
	Session    *session = &worker->session;
	ErrorData  *error;

	if (!session->run->has_shares)
		return session_try(session, cut, cutting);
	if (!share_begin_turn(worker))
		return NULL;
	error = session_try(session, cut, cutting);
	if (error)
		share_forget(worker);
	else
	{
		share_end_turn(worker);

		/* those that have reached their limit will go on */
		cutting->ended = cutting->ended && (cutting->is_bound || !share_is_any_left(worker));
	}
	return error;
}

/* In a transaction of its own: look for pending batches in the table.  The argument as above. */
static void
look_for_pending(Session *session, void *arg)
{
	Cutting    *cutting = (Cutting *) arg;
	StoreSession store;
	TimestampTz now = GetCurrentTimestamp();
	List	   *batches;
	ListCell   *lc;

	cutting->n = 0;
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	store_begin(&store);
	batches = store_stocked_batches(&store, session->run->id, now, STOCK_SIZE);
	cutting->due = store_stocked_due(&store, session->run->id, now);
	store_end(&store);
	foreach(lc, batches)
	{
		const LeasedBatch *batch = lfirst(lc);

		cutting->entries[cutting->n++] = (StockEntry) {batch->number, batch->part, batch->rows};
	}
	session_commit(session);
}

/* Workers may take what has been cut; there is nothing in that for us to look for. */
static void
note_cut(Worker *worker)
{
	int			before = worker->pending_changes;

	worker->pending_changes = run_slot_note_cut(MyDatabaseId, worker->session.run->id, before);
	if (worker->reported_changes == before)
		worker->reported_changes = worker->pending_changes;
}

/* Put what is pending into the stock, and cut what is missing.  Returns whether ranges are left. */
static bool
fill_stock(Worker *worker)
{
	Session    *session = &worker->session;
	Cutting	   *cutting = MemoryContextAllocZero(session->loop_context, sizeof(Cutting));
	TimestampTz due;
	int			changes;
	ErrorData  *error = NULL;

	cutting->worker = worker;
	if ((run_slot_has_pending(MyDatabaseId, session->run->id, &changes, &due) &&
		 changes != worker->pending_changes && due <= GetCurrentTimestamp()) ||
		worker->pending_due <= GetCurrentTimestamp())
	{
		error = session_try(session, look_for_pending, cutting);
		if (error == NULL)
		{
			stock_add(cutting->entries, cutting->n);
			worker->pending_changes = cutting->n < STOCK_SIZE ? changes : -1;
			worker->pending_due = cutting->due;
		}
	}
	cutting->missing = stock_missing();
	if (error == NULL && cutting->missing > 0)
	{
		error = cut_in_turn(cutting);
		if (error == NULL)
			stock_add(cutting->entries, cutting->n);
		if (error == NULL && cutting->n > 0 && !session->run->by_clients)
			note_cut(worker);
	}

	/* there is no batch in hand whose completion would say so */
	if (error == NULL && session->run->by_clients)
		worker->hand.prepared_again = 0;
	if (error && !failure_prepare_again(worker, error))
	{
		if (!rowerror_is_retryable(error))
			failure_fail_run(worker, error);
		session_doze(session->settings.retry_delay);
	}
	return !cutting->ended;
}

/* ---- what clients have reported ---- */

/* A report, for session_try. */
typedef struct Judgement
{
	Worker	   *worker;
	LeaseReport report;
	BatchInfo  *batch;			/* NULL if there is none */
} Judgement;

static void
take_reported(Session *session, void *arg)
{
	Judgement  *judgement = (Judgement *) arg;
	Claimant	me = claim_claimant(judgement->worker);
	StoreSession store;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	claim_lock(judgement->worker);
	store_begin(&store);
	judgement->batch = store_take_reported(&store, session->run->id, me.token, me.number,
										   &judgement->report);
	store_end(&store);
	session_commit(session);
}

/*
 * Find out how many rows in scope of the batch in hand come before the one with the key that
 * the client has named, in a transaction of its own.  Raises what the key is worth.
 */
static void
find_named(Session *session, void *arg)
{
	Judgement  *judgement = (Judgement *) arg;
	Worker	   *worker = judgement->worker;
	Work	   *work = &worker->work;
	BatchInfo  *batch = worker->hand.batch;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		named[INDEX_MAX_KEYS];
	Datum		found[INDEX_MAX_KEYS];
	int64		rows;
	int			nest;

	if (ArrayGetNItems(ARR_NDIM(judgement->report.key), ARR_DIMS(judgement->report.key)) != work->walk->nkeys ||
		ARR_HASNULL(judgement->report.key) || ARR_HASNULL(batch->end_key))
		return;
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	nest = session_enter_statement(session);
	PushActiveSnapshot(GetLatestSnapshot());
	key_from_text(work->walk, batch->start_key, start);
	key_from_text(work->walk, batch->end_key, end);
	key_from_text(work->walk, judgement->report.key, named);
	rows = work_count_in_scope(session, work, start,
							   key_range_shape(batch->start_inclusive, batch->end_key), named);
	if (rows > 0 &&
		work_find_in_scope(session, work, start, batch->start_inclusive, end, rows - 1, found) &&
		key_is_last(key_to_text(work->walk, found), key_to_text(work->walk, named)))
	{
		worker->hand.processed = rows - 1;
		worker->hand.is_named = true;
	}
	PopActiveSnapshot();
	AtEOXact_GUC(false, nest);
	session_commit(session);
}

/* The error that the client has reported, as one of ours. */
static ErrorData *
reported_error(const LeaseReport *report)
{
	ErrorData  *error = palloc0(sizeof(ErrorData));
	const char *state = report->sqlstate;

	error->elevel = ERROR;
	error->sqlerrcode = state && strlen(state) == 5 ?
		MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]) : ERRCODE_RAISE_EXCEPTION;
	error->message = pstrdup(report->message ? report->message : "a client has failed");
	error->assoc_context = CurrentMemoryContext;
	return error;
}

/*
 * Judge one batch with which a client has failed.  Returns whether there was one; if not, that
 * is so as of those changes.
 */
static bool
judge_reported(Worker *worker, int changes)
{
	Session    *session = &worker->session;
	Judgement	judgement = {worker};
	Hand	   *hand = &worker->hand;
	ErrorData  *error = session_try(session, take_reported, &judgement);

	if (error)
	{
		if (!rowerror_is_retryable(error))
			failure_fail_run(worker, error);
		return false;
	}
	if (judgement.batch == NULL)
	{
		worker->reported_changes = changes;
		return false;
	}
	claim_take_in_hand(worker, judgement.batch);
	hand->processed = -1;
	if (judgement.report.key)
		(void) session_try(session, find_named, &judgement);
	error = reported_error(&judgement.report);
	hand->is_reported = true;
	hand->is_retryable = judgement.report.retryable < 0 ? rowerror_is_retryable(error) :
		judgement.report.retryable == 1;
	failure_handle(worker, error);
	if (hand->batch)
		failure_give_back(worker);
	worker_slot_show(WORKER_WAITING, 0, 0);
	return true;
}

/*
 * Whether a client may have reported something since the last look: that is not looked for
 * in vain, among all batches that are open.  *changes is read before the look, as for pending
 * batches, but apart from those: what is reported between the two looks is not to be missed.
 */
static bool
is_reported(Worker *worker, int *changes)
{
	TimestampTz due;

	(void) run_slot_has_pending(MyDatabaseId, worker->session.run->id, changes, &due);
	return *changes != worker->reported_changes;
}

/* A batch that a client has completed, for session_try. */
typedef struct Completed
{
	BatchInfo  *batch;			/* NULL if there is none */
	int64		rows;
} Completed;

static void
take_hooked(Session *session, void *arg)
{
	Completed  *completed = (Completed *) arg;
	StoreSession store;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	store_begin(&store);
	completed->batch = store_take_hooked(&store, session->run->id, &completed->rows);
	store_end(&store);
	session_commit(session);
}

/* Tell hooks of one batch that a client has completed.  Returns whether there was one. */
static bool
tell_hooks(Worker *worker)
{
	Session    *session = &worker->session;
	Completed	completed = {NULL};
	HookEvent	event = {.object = "batch", .status = "completed", .previous_status = "running"};

	if (session_try(session, take_hooked, &completed) != NULL || completed.batch == NULL)
		return false;
	event.batch = completed.batch;
	event.rows = completed.rows;
	hook_after(session, &event);
	return true;
}

/* ---- a turn ---- */

/*
 * Do for clients what there is to be done.  Returns whether there will be more: ranges are
 * left that may be claimed.
 */
bool
cut_serve(Worker *worker)
{
	Session    *session = &worker->session;
	int			changes;
	bool		told;
	bool		more;

	stock_open(session->settings.max_claims);
	told = is_reported(worker, &changes);
	while (is_reported(worker, &changes) && judge_reported(worker, changes))
	{
		if (worker_slot_noticed() && !session_reload(session))
			failure_leave(worker, NULL);
		MemoryContextReset(session->loop_context);
	}
	while (told)
	{
		told = tell_hooks(worker);
		if (worker_slot_noticed() && !session_reload(session))
			failure_leave(worker, NULL);
		MemoryContextReset(session->loop_context);
	}
	if (pace_is_held())
		return true;

	/* turns are the affair of one worker */
	if (session->run->has_shares && worker_slot_rank() > 0)
		return !stock_has_ended();
	more = fill_stock(worker);
	stock_end(!more);
	return more;
}

/* The batches that are not completed. */
typedef struct OpenBatches
{
	int64		n;
	int64		unconfirmed;	/* of them */
} OpenBatches;

/* In a transaction of its own: count them, and say if a person is waited for. */
static void
count_open(Session *session, void *arg)
{
	OpenBatches *open = (OpenBatches *) arg;
	const char *reason = NULL;
	const char *before = session->run->wait_reason;
	StoreSession store;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	store_begin(&store);
	open->n = store_open_batches(&store, session->run->id, NULL) +
		(store_is_hooked(&store, session->run->id) ? 1 : 0);
	open->unconfirmed = session->settings.ledger ? ledger_unconfirmed(&store, session->run->id) : 0;
	if (open->unconfirmed > 0 && open->unconfirmed == open->n)
		reason = "waits until somebody says of rows that were not confirmed whether they are done; see backfill_unconfirmed";
	if ((reason == NULL) != (before == NULL))
		store_set_wait_reason(&store, session->run->id, reason);
	store_end(&store);
	session_commit(session);
	session->run->wait_reason = reason ? MemoryContextStrdup(session->run_context, reason) : NULL;
}

/*
 * No range is left: wait for what clients have in their hands.  Leaves when nothing is out
 * any more.
 */
void
cut_wait(Worker *worker, bool ended)
{
	OpenBatches open = {1};
	int64		ms;

	worker_slot_show(WORKER_WAITING, 0, 0);
	if (ended && session_try(&worker->session, count_open, &open) == NULL && open.n == 0)
		failure_leave(worker, NULL);

	/* a value that has reached its limit may go on at any time */
	ms = DONE_POLL_MS;
	if (!ended && worker->session.settings.share_rate_limit.amount > 0)
		ms = Min(Max(worker->session.settings.share_rate_limit.window / LIMIT_POLL_PARTS,
					 LIMIT_POLL_MS), DONE_POLL_MS);
	if (worker->pending_due != DT_NOEND && !pace_is_held())
		ms = Min(ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), worker->pending_due));
	session_doze(Max(ms, 1));
}
