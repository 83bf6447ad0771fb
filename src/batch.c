/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  One batch: claim, run, record, give back.
 *
 * The life of a batch is two transactions of its worker.  In the first its
 * range is claimed: under the claim lock of the run the next bound is found
 * and the batch inserted as "running".  In the second the user's statement
 * runs for the range and the row becomes "completed".  The second transaction
 * of one batch is the first of the next, so that each batch costs one commit.
 *
 * Exactly once follows from the row of the batch: it is marked completed in
 * the transaction of the change, and only if it is still "running" and still
 * belongs to this worker.  Whoever took the batch away from a worker that
 * seemed dead has changed the row, and the late worker rolls back.
 *
 * The claim lock is held from the claim to the commit.  Nothing that can wait
 * for another worker happens in that time: deferred triggers are fired before.
 *
 * The user's code runs inside a nest level of parameters that is undone before
 * the bookkeeping: what it sets lasts for the batch and no longer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "compat.h"
#include "divide.h"
#include "hook.h"
#include "lockwait.h"

/*
 * Classes of our locks among the advisory ones; the server uses 1 and 2.  The
 * lock for suspects is one for the whole server.
 */
#define LOCK_CLASS_CLAIM		77
#define LOCK_CLASS_QUARANTINE	78

static void
claim_locktag(LOCKTAG *tag, int64 run_id)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (run_id >> 32),
						 (uint32) run_id, LOCK_CLASS_CLAIM);
}

static void
quarantine_locktag(LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, InvalidOid, 0, 0, LOCK_CLASS_QUARANTINE);
}

static bool
enter_quarantine(Worker *worker)
{
	LOCKTAG		tag;

	if (!worker->in_quarantine)
	{
		quarantine_locktag(&tag);
		worker->in_quarantine = LockAcquire(&tag, ExclusiveLock, true, true) !=
			LOCKACQUIRE_NOT_AVAIL;
	}
	return worker->in_quarantine;
}

/* No batch in hand is a suspect any more. */
void
batch_leave_quarantine(Worker *worker)
{
	LOCKTAG		tag;

	if (!worker->in_quarantine)
		return;
	quarantine_locktag(&tag);
	LockRelease(&tag, ExclusiveLock, true);
	worker->in_quarantine = false;
}

/* The columns of a key, as the view backfill_batches shows them. */
static char *
key_text(ArrayType *key)
{
	StringInfoData buf;
	Datum	   *texts;
	bool	   *nulls;
	int			n;

	deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? "," : "", TextDatumGetCString(texts[i]));
	return buf.data;
}

/* The range of the batch, likewise. */
char *
batch_range_text(const BatchInfo *batch)
{
	return psprintf("%c%s .. %s]", batch->start_inclusive ? '[' : '(',
					key_text(batch->start_key), key_text(batch->end_key));
}

/* Whether the key, as text, is the last one of the walk. */
bool
batch_is_last_key(ArrayType *key, ArrayType *last)
{
	return VARSIZE(key) == VARSIZE(last) && memcmp(key, last, VARSIZE(key)) == 0;
}

/*
 * Take up a batch that somebody let go of.  A batch that brought down its
 * workers is a suspect: those run one at a time in the whole server, so that
 * the guilty one is told from those that happened to run beside it.
 */
static BatchInfo *
claim_pending(Worker *worker, CatalogSession *session)
{
	int			changes;
	TimestampTz due;
	BatchInfo  *batch;

	worker->pending_elsewhere = false;
	worker->next_due = 0;
	if (!shared_run_has_pending(MyDatabaseId, worker->run->id, &changes, &due))
		return NULL;
	if (due > GetCurrentTimestamp())
	{
		worker->next_due = due;
		return NULL;
	}
	batch = catalog_take_pending(session, worker->run->id, worker->slot.token,
								 worker->slot.number, BATCH_CRASHES_SUSPECT);
	if (batch != NULL)
		return batch;
	due = catalog_pending_due(session, worker->run->id, BATCH_CRASHES_FATAL);
	if (due > GetCurrentTimestamp())
	{
		/* none at all, or none yet */
		shared_run_clear_pending(MyDatabaseId, worker->run->id, changes, due);
		worker->next_due = due == DT_NOEND ? 0 : due;
		return NULL;
	}
	if (!enter_quarantine(worker))
	{
		worker->pending_elsewhere = true;
		return NULL;
	}
	batch = catalog_take_pending(session, worker->run->id, worker->slot.token,
								 worker->slot.number, BATCH_CRASHES_FATAL);
	if (batch == NULL)
	{
		batch_leave_quarantine(worker);
		shared_run_clear_pending(MyDatabaseId, worker->run->id, changes, DT_NOEND);
	}
	return batch;
}

/*
 * A long step over rows that are not in scope must not run into many that are:
 * end it where it has as many of them as a batch should have.
 */
static void
shorten_stride(Worker *worker, BatchInfo *batch, const Datum *start, Datum *end,
			   int64 size, bool *at_end)
{
	Datum		row[INDEX_MAX_KEYS];

	if (!divide_find_in_scope(worker, start, batch->start_inclusive, end, size - 1, row))
		return;
	*at_end = false;
	memcpy(end, row, sizeof(Datum) * worker->walk->nkeys);
	batch->rows_scanned = bounds_count(worker->walk, worker->bounds, start,
									   batch->start_inclusive, end, GetActiveSnapshot());
}

/*
 * Claim the range after the last one claimed; NULL at the end of the walk, or,
 * with worker->throttled_until set, when no rows may be begun.
 */
static BatchInfo *
claim_next(Worker *worker, CatalogSession *session)
{
	RunInfo    *run = worker->run;
	BatchInfo  *batch = MemoryContextAllocZero(session->caller, sizeof(BatchInfo));
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	bool		at_end;
	int			nest;
	int64		size;
	int64		stride;
	TimestampTz retry_at;

	if (!catalog_last_batch(session, run->id, &batch->number, &batch->start_key))
	{
		/* or every row would be processed again */
		if (run->rollup_number > 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the batches of backfill run " INT64_FORMAT " are missing", run->id)));
		batch->start_key = run->start_key;
		batch->start_inclusive = true;
	}
	else if (batch_is_last_key(batch->start_key, run->end_key))
		return NULL;
	size = pace_ask(run->scope != NULL, &stride, &retry_at);
	if (size == 0)
	{
		worker->throttled_until = retry_at;
		return NULL;
	}
	catalog_end(session);

	/* without its index every search would sort the table */
	walk_check_index(worker->walk);

	/* the search for the bound runs with the owner's rights */
	batch->number++;
	batch->attempt = 1;
	nest = worker_enter_user_code(worker);
	PushActiveSnapshot(GetLatestSnapshot());
	walk_key_from_text(worker->walk, batch->start_key, start);
	batch->rows_scanned = bounds_next_end(worker->walk, worker->bounds, start,
										  batch->start_inclusive, worker->last_key,
										  Max(size, stride),
										  GetActiveSnapshot(), end, &at_end);
	if (stride > 0 && batch->rows_scanned > size)
		shorten_stride(worker, batch, start, end, size, &at_end);
	PopActiveSnapshot();
	AtEOXact_GUC(false, nest);
	batch->end_key = at_end ? run->end_key : walk_key_to_text(worker->walk, end);

	/* of a stride only the rows in scope are processed */
	batch->rows_in_scope = stride > 0 ? Min(batch->rows_scanned, size) : batch->rows_scanned;
	pace_keep(batch->rows_in_scope);
	catalog_begin(session);
	catalog_insert_batch(session, run->id, batch, worker->slot.token,
						 worker->slot.number);
	return batch;
}

/*
 * Whether the claim must not be lost in a crash, because the batch may be what
 * brings the server down, and would never be found out: one that somebody let
 * go of, and the first of a worker.  Parts of a batch that raised an error are
 * too many for that; the batch before them is found out first.
 */
static bool
must_outlive_crash(const BatchInfo *batch, bool pending, bool first)
{
	return pending ? batch->crashes > 0 || !batch->had_error : first;
}

/*
 * Claim a batch in the current transaction; NULL when there is none.  "first"
 * is whether the transaction does nothing else.  The result is in the current
 * memory context.
 */
static BatchInfo *
claim(Worker *worker, bool first)
{
	CatalogSession session;
	BatchInfo  *batch;
	bool		pending;
	LOCKTAG		tag;

	worker->throttled_until = 0;
	pace_drop_next();

	/* after a crash everything is suspect for a moment */
	if (shared_is_cautious() && !enter_quarantine(worker))
	{
		worker->pending_elsewhere = true;
		return NULL;
	}

	claim_locktag(&tag, worker->run->id);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);

	catalog_begin(&session);
	batch = claim_pending(worker, &session);
	pending = batch != NULL;
	if (pending)
		batch->rows_in_scope = batch->rows_scanned;
	else
		batch = claim_next(worker, &session);
	catalog_end(&session);
	if (batch && must_outlive_crash(batch, pending, first))
		ForceSyncCommit();
	if (batch == NULL)
		batch_leave_quarantine(worker);
	return batch;
}

/* Make a claimed batch the one in hand; it is committed. */
static void
take_in_hand(Worker *worker, BatchInfo *claimed)
{
	MemoryContext old;
	BatchInfo  *batch;

	batch_forget(worker);
	pace_advance();
	if (claimed == NULL)
		return;
	old = MemoryContextSwitchTo(worker->batch_context);
	batch = palloc(sizeof(BatchInfo));
	*batch = *claimed;
	batch->start_key = DatumGetArrayTypePCopy(PointerGetDatum(claimed->start_key));
	batch->end_key = DatumGetArrayTypePCopy(PointerGetDatum(claimed->end_key));
	MemoryContextSwitchTo(old);
	worker->batch = batch;
}

/* The batch in hand is somebody else's affair now. */
void
batch_forget(Worker *worker)
{
	worker->batch = NULL;
	worker->tries = 0;
	worker->indivisible = false;
	pace_release();
	MemoryContextReset(worker->batch_context);
}

/*
 * Lock the target before the claim lock, as a batch has done when it claims
 * the next one: whoever locked in the other order could wait in a circle with
 * another worker and a session that waits for the target.
 */
static void
lock_target(Worker *worker)
{
	int			nest = worker_enter_user_code(worker);

	LockRelationOid(worker->run->target, AccessShareLock);
	AtEOXact_GUC(false, nest);
}

/*
 * Take the claim lock of the run, until the end of the transaction, in which
 * nothing has happened yet.
 */
void
batch_lock_for_claim(Worker *worker)
{
	LOCKTAG		tag;

	lock_target(worker);
	claim_locktag(&tag, worker->run->id);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Claim a batch in a transaction of its own.  Leaves worker->batch NULL when
 * there is none.  Raises what the search for the bound raises.
 */
void
batch_claim(Worker *worker)
{
	BatchInfo  *batch;
	MemoryContext context = worker->loop_context;

	worker_begin(worker);
	MemoryContextSwitchTo(context);
	lock_target(worker);
	batch = claim(worker, true);
	worker_commit(worker);
	take_in_hand(worker, batch);
}

/* Name the batch in the context of an error, and see how far it got. */
static void
batch_error_callback(void *arg)
{
	Worker	   *worker = (Worker *) arg;

	worker->processed = statement_progress();
	errcontext("batch " INT64_FORMAT " of backfill run " INT64_FORMAT " \"%s\"",
			   worker->batch->number, worker->run->id, worker->run->name);
}

/*
 * Run the user's statement for the batch in hand and everything it deferred,
 * as the session's user.  Returns the rows processed.
 */
static uint64
run_statement(Worker *worker)
{
	ErrorContextCallback callback;
	BatchInfo  *batch = worker->batch;
	Statement  *statement = worker->statements[batch->start_inclusive];
	ParamListInfo params = parameters_list(worker->walk, worker->parameters);
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	uint64		rows;
	int			nest;

	walk_key_from_text(worker->walk, batch->start_key, start);
	walk_key_from_text(worker->walk, batch->end_key, end);
	walk_set_start(worker->walk, params, start);
	walk_set_end(worker->walk, params, end);

	worker->processed = -1;
	statement_watch();
	callback.callback = batch_error_callback;
	callback.arg = worker;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	nest = worker_enter_user_code(worker);
	if (worker->settings.statement_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, (int) worker->settings.statement_timeout);

	lock_wait_begin();
	rows = statement_execute(statement, params);
	AfterTriggerFireDeferred();
	worker->lock_wait = lock_wait_end();

	if (worker->settings.statement_timeout > 0)
		disable_timeout(STATEMENT_TIMEOUT, false);
	AtEOXact_GUC(false, nest);
	error_context_stack = callback.previous;

	if (GetUserId() != worker->userid)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the statement of the backfill changed the current user")));
	return rows;
}

/* Put down in the batch's row that it is done. */
static void
record(Worker *worker)
{
	CatalogSession session;

	catalog_begin(&session);
	if (!catalog_complete_batch(&session, worker->run->id, worker->batch,
								worker->slot.token, &worker->result))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("batch " INT64_FORMAT " of backfill run " INT64_FORMAT " was taken over by another worker",
						worker->batch->number, worker->run->id)));
	if (worker->batch->had_error)
		catalog_resolve_error(&session, worker->run->id, worker->batch);
	catalog_end(&session);
}

/*
 * Run the batch in hand and claim the next one, in one transaction.  Does not
 * claim when the row of the run has changed, which has to be read first, nor
 * when hooks come after the batch.  Raises what the user's statement raises.
 */
void
batch_run(Worker *worker)
{
	BatchResult *result = &worker->result;
	BatchInfo  *next = NULL;
	bool		hooked = hook_wanted(worker, "batch", "completed");
	HookEvent	event;
	uint64		wal = pgWalUsage.wal_bytes;
	int64		rows_scanned = worker->batch->rows_scanned;
	int64		duration;
	bool		multiple = statement_is_multiple(worker->statements[0]);

	(void) shared_worker_take_yield();
	shared_worker_state(WORKER_RUNNING, worker->batch->number, worker->batch->attempt);
	debug_query_string = worker->run->statement;
	pgstat_report_activity(STATE_RUNNING, debug_query_string);

	worker_begin(worker);
	if (multiple)
		XactIsoLevel = XACT_REPEATABLE_READ;
	MemoryContextSwitchTo(worker->loop_context);
	worker->wal_before = wal;
	result->started_at = GetCurrentTimestamp();
	result->rows_affected = (int64) run_statement(worker);
	result->finished_at = GetCurrentTimestamp();
	result->wal_bytes = (int64) (pgWalUsage.wal_bytes - wal);

	worker->over_limit = !pace_cover(worker->batch->rows_in_scope, result->rows_affected) &&
		rows_scanned > 1 && !worker->indivisible;
	if (worker->over_limit)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the batch processed " INT64_FORMAT " rows, more than the rate limit leaves",
						result->rows_affected)));

	/* its own time: waiting for locks says nothing about the size */
	duration = result->finished_at - result->started_at - worker->lock_wait;
	worker->wal_before = 0;
	worker->pinned = pace_measure(rows_scanned, result->rows_affected, result->wal_bytes,
								  duration, worker->run->scope != NULL);

#ifdef BACKFILL_NEGATIVE_CONTROL
	/* what not to do: the tests prove that they notice */
	worker_commit(worker);
	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
#endif

	event = hook_batch_event(worker, "completed", NULL);
	event.rows = result->rows_affected;
	hook_change(worker, &event, record);

	/*
	 * A batch under suspicion must not come back because its commit was lost,
	 * nor one that a hook has told the world of.
	 */
	if (worker->batch->crashes > 0 || hooked)
		ForceSyncCommit();
	if (!shared_worker_noticed() && !worker->in_quarantine && !hooked)
		next = claim(worker, false);
	worker_commit(worker);

	pace_settle(result->rows_affected);

	/* what was to cancel this batch must not cancel what follows it */
	QueryCancelPending = false;
	if (next == NULL || next->crashes < BATCH_CRASHES_SUSPECT)
		batch_leave_quarantine(worker);
	take_in_hand(worker, next);
	shared_worker_done(rows_scanned, result->rows_affected);
	if (hooked)
		hook_after(worker, &event);
}

/* What let_go gives the batch in hand. */
static const char *release_status;
static const char *release_error;
static TimestampTz release_until;

static void
let_go(Worker *worker)
{
	CatalogSession session;

	catalog_begin(&session);
	catalog_give_back_batch(&session, worker->run->id, worker->batch,
							worker->slot.token, release_status, release_error);
	catalog_end(&session);
}

/* Let go of the batch in hand until it is to be tried again. */
static void
let_go_until(Worker *worker)
{
	CatalogSession session;
	EventInfo	event = {
		.kind = "retry",
		.batch = worker->batch,
		.sqlstate = unpack_sql_state(worker->error->sqlerrcode),
		.reason = worker->error->message
	};

	catalog_begin(&session);
	catalog_retry_batch(&session, worker->run->id, worker->batch,
						worker->slot.token, release_until, release_error);
	catalog_add_event(&session, worker->run, &event);
	catalog_end(&session);
}

/* In a transaction of its own: make the change to the batch in hand. */
static void
release(Worker *worker, const char *status, const char *error, TimestampTz until,
		void (*change) (Worker *))
{
	HookEvent	event = hook_batch_event(worker, status, error);

	release_status = status;
	release_error = error;
	release_until = until;
	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	hook_change(worker, &event, change);
	worker_commit(worker);
	batch_leave_quarantine(worker);
	shared_run_set_pending(MyDatabaseId, worker->run->id, until);
	batch_forget(worker);
}

/* In a transaction of its own: let go of the batch in hand, undone. */
void
batch_give_back(Worker *worker, const char *status, const char *error)
{
	release(worker, status, error, DT_NOBEGIN, let_go);
}

/*
 * In a transaction of its own: put the batch in hand aside, because of
 * worker->error, to be tried again at that time.
 */
void
batch_put_aside(Worker *worker, TimestampTz until)
{
	release(worker, "pending", worker->error->message, until, let_go_until);
}

/* What add_event adds. */
static const EventInfo *event_to_add;

static void
add_event(Worker *worker)
{
	CatalogSession session;

	worker_begin(worker);
	catalog_begin(&session);
	catalog_add_event(&session, worker->run, event_to_add);
	catalog_end(&session);
	worker_commit(worker);
}

/* Add an event of the worker's run, in a transaction of its own. */
void
batch_note_event(Worker *worker, const EventInfo *event)
{
	event_to_add = event;
	(void) worker_try_uncancelled(worker, add_event);
}

/* Say that the batch size cannot follow the batch time any further. */
void
batch_note_pinned(Worker *worker)
{
	EventInfo	event = {.kind = "pace"};
	const SizeAim *aim = &worker->pace.aim;

	event.reason = worker->pinned < 0 ?
		psprintf("batches of min_batch_size, " INT64_FORMAT " rows, take longer than target_batch_time",
				 aim->min) :
		psprintf("batches of max_batch_size, " INT64_FORMAT " rows, take less than target_batch_time",
				 aim->max);
	batch_note_event(worker, &event);
}
