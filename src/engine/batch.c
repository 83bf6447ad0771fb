/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  One batch: run, record, let go.
 *
 * The life of a batch is two transactions of its worker.  In the first its
 * range is claimed: claim.c.  In the second the user's statement runs for the
 * range and the row becomes "completed".  The second transaction of one batch is
 * the first of the next, so that each batch costs one commit.
 *
 * Exactly once follows from the row of the batch: it is marked completed in
 * the transaction of the change, and only if it is still "running" and still
 * belongs to this worker.  Whoever took the batch away from a worker that
 * seemed dead has changed the row, and the late worker rolls back.
 *
 * Deferred triggers are fired before the claim lock is taken, which is held to
 * the commit.
 *
 * The user's code runs inside a nest level of parameters that is undone before
 * the bookkeeping: what it sets lasts for the batch and no longer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/lockwait.h"
#include "engine/batch.h"
#include "engine/claim.h"
#include "engine/fetch.h"
#include "engine/hook.h"
#include "engine/pass.h"
#include "engine/reclaim.h"
#include "engine/repair.h"
#include "engine/session.h"
#include "engine/toll.h"
#include "engine/turn.h"
#include "engine/waiters.h"
#include "engine/work.h"
#include "shared/allowance.h"
#include "shared/metrics.h"
#include "shared/run_slot.h"
#include "shared/segment.h"
#include "shared/size.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/event.h"
#include "store/page.h"
#include "store/store.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* ---- running ---- */

/* The batch whose statement is running, for its errors. */
typedef struct Running
{
	Worker	   *worker;
	StatementProgress progress;
} Running;

/* Name the batch in the context of an error, and see how far it got. */
static void
batch_error_callback(void *arg)
{
	Running    *running = (Running *) arg;
	Worker	   *worker = running->worker;

	worker->hand.processed = statement_progress(&running->progress);
	if (worker->session.stream)
		errcontext("batch " INT64_FORMAT " of stream \"%s\" of backfill run " INT64_FORMAT " \"%s\"",
				   worker->hand.batch->number, worker->session.stream->name,
				   worker->session.run->id, worker->session.run->name);
	else
		errcontext("batch " INT64_FORMAT " of backfill run " INT64_FORMAT " \"%s\"",
				   worker->hand.batch->number, worker->session.run->id,
				   worker->session.run->name);
}

/*
 * Run the user's statement for the batch in hand and everything it deferred,
 * as the session's user.  Returns the rows processed.
 */
static uint64
run_statement(Worker *worker)
{
	ErrorContextCallback callback;
	Running		running = {worker};
	Session    *session = &worker->session;
	Work	   *work = &worker->work;
	BatchInfo  *batch = worker->hand.batch;
	ParamListInfo params = statement_params(work->walk, work->parameters);
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	RangeShape	shape = key_range_shape(batch->start_inclusive, batch->end_key);
	uint64		rows;
	int			nest;

	key_from_text(work->walk, batch->start_key, start);
	key_from_text(work->walk, batch->end_key, end);
	walk_set_start(work->walk, params, start);
	walk_set_end(work->walk, params, end);
	if (work->walk->by_source)
		fetch_read(worker, params);

	worker->hand.processed = -1;
	callback.callback = batch_error_callback;
	callback.arg = &running;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	nest = session_enter_statement(session);
	if (session->settings.statement_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, (int) session->settings.statement_timeout);

	pass_choose_row(session, work, start, batch->start_inclusive, end);
	running.progress.trail = reclaim_watch(session, &worker->reclaim);
	lockwait_begin();
	if (worker->hand.repair && repair_run(worker, params))
		shape = RANGE_FROM;
	rows = statement_execute(work->statements[shape], params, &running.progress);
	AfterTriggerFireDeferred();
	worker->hand.lock_wait = lockwait_end();
	pass_check_row(session, work);

	if (session->settings.statement_timeout > 0)
		disable_timeout(STATEMENT_TIMEOUT, false);
	AtEOXact_GUC(false, nest);
	error_context_stack = callback.previous;

	/* what fails from here on is none of its rows */
	worker->hand.processed = -1;

	if (GetUserId() != session->userid)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the statement of the backfill changed the current user")));
	return rows;
}

/* Run the statement, and see what it took. */
static void
run_and_measure(Worker *worker)
{
	Hand	   *hand = &worker->hand;
	BatchResult *result = &hand->result;
	uint64		wal = pgWalUsage.wal_bytes;
	int64		rows_scanned = hand->batch->rows_scanned;
	BatchCost	cost;
	Toll		toll;

	hand->wal_before = wal;
	toll_begin(&toll, worker->work.tables);
	result->started_at = GetCurrentTimestamp();
	result->rows_affected = (int64) run_statement(worker);
	result->finished_at = GetCurrentTimestamp();
	result->lock_wait = hand->lock_wait;
	toll_end(&toll, worker->work.tables, result);
	result->wal_bytes = (int64) (pgWalUsage.wal_bytes - wal);
	result->pages_pruned = worker->reclaim.pruned;
	result->space_freed = worker->reclaim.freed;

	hand->over_limit = !turn_counts_calls(&worker->session) && !allowance_cover(hand->batch->rows_in_scope, result->rows_affected) &&
		rows_scanned > 1 && !hand->indivisible;
	if (hand->over_limit)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the batch processed " INT64_FORMAT " rows, more than the rate limit leaves",
						result->rows_affected)));

	hand->wal_before = 0;
	cost.rows_scanned = rows_scanned;
	cost.rows_affected = turn_counts_calls(&worker->session) ? rows_scanned : result->rows_affected;
	cost.wal_bytes = result->wal_bytes;
	cost.finished_at = result->finished_at;

	/* its own time: waiting for locks says nothing about the size */
	cost.duration = result->finished_at - result->started_at - hand->lock_wait;
	cost.waited = worker->session.settings.yield_after > 0 ? waiters_longest() : 0;
	hand->pinned = allowance_measure(&cost, worker->session.run->scope != NULL);
	if (worker->work.walk->by_source)
		hand->pinned = 0;		/* how many records come is the affair of the source */
}

/* Put down in the batch's row that it is done. */
static void
record(Session *session, void *arg)
{
	Worker	   *worker = (Worker *) arg;
	BatchInfo  *batch = worker->hand.batch;
	StoreSession store;

	store_begin(&store);
	if (!store_complete_batch(&store, session->walk_id, batch,
							  claim_claimant(worker).token, &worker->hand.result))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("batch " INT64_FORMAT " of backfill run " INT64_FORMAT " was taken over by another worker",
						batch->number, session->run->id)));
	if (worker->hand.repair)
		repair_record(worker, &store);
	else if (batch->had_error)
		store_resolve_error(&store, session->walk_id, batch);
	if (worker->work.walk->by_source)
		page_close(&store, session->walk_id, batch->number);
	store_end(&store);
}

/* The batch in hand, with that result, is committed: settle for it, and count it. */
static void
settle(const Session *session, const BatchResult *result)
{
	const RunInfo *run = session->run;

	allowance_settle(turn_counts_calls(session) ? 0 : result->rows_affected);
	metrics_count_batch(run->owner, run->name, result->rows_affected, result->wal_bytes,
						result->finished_at - result->started_at);
}

/*
 * Run the batch in hand of the worker that is the argument, and claim the next
 * one, in one transaction.  Does not claim when the row of the run has changed,
 * which has to be read first, nor when hooks come after the batch.  Raises what
 * the user's statement raises.
 */
void
batch_run(Session *session, void *arg)
{
	Worker	   *worker = (Worker *) arg;
	Hand	   *hand = &worker->hand;
	BatchInfo  *next = NULL;
	bool		hooked = hook_wanted(session, "batch", "completed");
	HookEvent	event;
	int64		rows_scanned = hand->batch->rows_scanned;
	int64		rows_affected;
	FullTransactionId xid;

	(void) worker_slot_take_yield();
	worker_slot_show(WORKER_RUNNING, hand->batch->number, hand->batch->attempt);
	debug_query_string = session->run->statement;
	pgstat_report_activity(STATE_RUNNING, debug_query_string);

	session_begin(session);
	session_carry_changes(session);
	if (statement_is_multiple(worker->work.statements[0]))
		XactIsoLevel = XACT_REPEATABLE_READ;
	MemoryContextSwitchTo(session->loop_context);
	run_and_measure(worker);
	rows_affected = hand->result.rows_affected;

#ifdef BACKFILL_NEGATIVE_CONTROL
	/* what not to do: the tests prove that they notice */
	session_commit(session);
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
#endif

	event = claim_event(worker, "completed", NULL);
	event.rows = rows_affected;
	hook_change(session, &event, record, worker);

	/*
	 * A batch under suspicion must not come back because its commit was lost,
	 * nor one that a hook has told the world of.
	 */
	if (hand->batch->crashes > 0 || hooked)
		ForceSyncCommit();
	if (!worker_slot_noticed() && !hand->in_quarantine && !hooked)
		next = claim_next_batch(worker);
	xid = GetTopFullTransactionIdIfAny();
	session_commit(session);
	worker->reclaim.pruned = worker->reclaim.freed = 0;
	reclaim_enqueue(session, &worker->reclaim, xid, rows_scanned);

	settle(session, &hand->result);

	/* what was to cancel this batch must not cancel what follows it */
	QueryCancelPending = false;
	if (hand->repair)
		repair_done(worker);
	if (next == NULL || next->crashes < BATCH_CRASHES_SUSPECT)
		claim_leave_quarantine(hand);
	claim_take_in_hand(worker, next);
	worker_slot_done(rows_scanned, rows_affected);
	if (hooked)
		hook_after(session, &event);
}

/* ---- letting go ---- */

/* The change that letting go is, within its hooks. */
static void
let_go(Session *session, void *arg)
{
	const BatchRelease *release = (const BatchRelease *) arg;
	BatchInfo  *batch = release->worker->hand.batch;
	int64		token = claim_claimant(release->worker).token;
	StoreSession store;

	store_begin(&store);
	if (release->retry)
	{
		EventInfo	event = {
			.kind = "retry",
			.batch = batch,
			.sqlstate = unpack_sql_state(release->retry->sqlerrcode),
			.reason = release->message
		};

		store_retry_batch(&store, session->walk_id, batch, token, release->until,
						  release->message);
		store_add_event(&store, session->run, &event);
	}
	else
		store_give_back_batch(&store, session->walk_id, batch, token, release->status,
							  release->message);
	store_end(&store);
}

/*
 * In a transaction of its own: let go of the batch in hand, as the argument, a
 * BatchRelease, says.
 */
void
batch_release(Session *session, void *arg)
{
	const BatchRelease *release = (const BatchRelease *) arg;
	Worker	   *worker = release->worker;
	HookEvent	event = claim_event(worker, release->status, release->message);

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	hook_change(session, &event, let_go, arg);
	session_commit(session);
	claim_leave_quarantine(&worker->hand);
	run_slot_set_pending(MyDatabaseId, session->slot.run_id, release->until);
	claim_forget(worker);
}

/* Say that the batch size cannot follow the batch time any further. */
void
batch_note_pinned(Worker *worker)
{
	EventInfo	event = {.kind = "pace"};
	const SizeAim *aim = &worker->session.pace.aim;

	event.reason = worker->hand.pinned < 0 ?
		psprintf("batches of min_batch_size, " INT64_FORMAT " rows, take longer than target_batch_time",
				 aim->min) :
		psprintf("batches of max_batch_size, " INT64_FORMAT " rows, take less than target_batch_time",
				 aim->max);
	session_note_event(&worker->session, &event);
}
