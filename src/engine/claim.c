/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  A batch comes into hand.
 *
 * Under the claim lock of the run, or of its stream in hand, either a batch that somebody let go of is
 * taken up again, or the next bound is found from where the last range that was
 * claimed ends, and the batch inserted as "running".  Who claims is written into
 * its row: it is that claimant's as long as the row says so.
 *
 * The claim lock is held from the claim to the commit.  Nothing that can wait
 * for another worker happens in that time.
 *
 * A batch that brought down its workers is a suspect: those run one at a time,
 * in quarantine, so that the guilty one is told from those that happened to run
 * beside it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/locks.h"
#include "engine/claim.h"
#include "engine/hook.h"
#include "engine/session.h"
#include "engine/turn.h"
#include "engine/work.h"
#include "run/bound.h"
#include "shared/allowance.h"
#include "shared/quarantine.h"
#include "shared/run_slot.h"
#include "shared/stock.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/walk.h"

/* The worker itself, as one that claims. */
Claimant
claim_claimant(const Worker *worker)
{
	return (Claimant) {worker->session.slot.token, worker->session.slot.number};
}

/* ---- the quarantine ---- */

/*
 * The worker is about to take up a suspect.  Returns false when it has to wait for
 * another one; the run says so when that takes long.
 */
static bool
enter_quarantine(Hand *hand)
{
	hand->in_quarantine = hand->in_quarantine || quarantine_enter();
	return hand->in_quarantine;
}

/* No batch in hand is a suspect any more. */
void
claim_leave_quarantine(Hand *hand)
{
	if (!hand->in_quarantine)
		return;
	quarantine_leave();
	hand->in_quarantine = false;
}

/* ---- claiming ---- */

/*
 * Whether there may be batches to take up again; *changes and *due go with what is found.
 * Of those of a run with streams the worker remembers itself whether its stream has any.
 */
static bool
may_be_pending(Worker *worker, int *changes, TimestampTz *due)
{
	bool		pending = run_slot_has_pending(MyDatabaseId, worker->session.slot.run_id,
											   changes, due);

	if (worker->session.stream == NULL)
		return pending;
	*due = DT_NOBEGIN;
	if (worker->pending_changes != *changes)
		return true;
	*due = worker->pending_due;
	return *due != DT_NOEND;
}

/* There was none that is due before that time; DT_NOEND for none at all. */
static void
note_none_pending(Worker *worker, int changes, TimestampTz due)
{
	if (worker->session.stream == NULL)
		run_slot_clear_pending(MyDatabaseId, worker->session.slot.run_id, changes, due);
	else
	{
		worker->pending_changes = changes;
		worker->pending_due = due;
	}
}

/* Take up a batch that somebody let go of; NULL if there is none. */
static BatchInfo *
claim_pending(Worker *worker, const Claimant *claimant, ClaimRefusal *refusal)
{
	int64		walk_id = worker->session.walk_id;
	StoreSession store;
	int			changes;
	TimestampTz due;
	BatchInfo  *batch;

	if (!may_be_pending(worker, &changes, &due))
		return NULL;
	if (clock_is_ahead(due, GetCurrentTimestamp(), STORE_RETRY_MAX_MS))
	{
		refusal->next_due = due;
		return NULL;
	}
	store_begin(&store);
	batch = store_take_pending(&store, walk_id, claimant->token, claimant->number,
							   BATCH_CRASHES_SUSPECT);
	due = batch ? 0 : store_pending_due(&store, walk_id, BATCH_CRASHES_FATAL);
	if (batch == NULL && due > GetCurrentTimestamp())
	{
		/* none at all, or none yet */
		note_none_pending(worker, changes, due);
		refusal->next_due = due == DT_NOEND ? 0 : due;
	}
	else if (batch == NULL && !enter_quarantine(&worker->hand))
		refusal->pending_elsewhere = true;
	else if (batch == NULL)
	{
		batch = store_take_pending(&store, walk_id, claimant->token, claimant->number,
								   BATCH_CRASHES_FATAL);
		if (batch == NULL)
		{
			claim_leave_quarantine(&worker->hand);
			note_none_pending(worker, changes, DT_NOEND);
		}
	}
	store_end(&store);
	return batch;
}

/*
 * Where the range after the last one claimed starts.  Returns false at the end
 * of the walk.
 */
bool
claim_find_start(const Session *session, BatchInfo *batch)
{
	const RunInfo *run = session->run;
	StoreSession store;
	bool		goes_on;

	store_begin(&store);
	batch->start_key = run->start_key;
	goes_on = !store_find_start(&store, session->walk_id, run->pass_after, run->rollup_number, batch) ||
		!key_is_last(batch->start_key, run->end_key);
	store_end(&store);
	return goes_on;
}

/*
 * A long step over rows that are not in scope must not run into many that are:
 * end it where it has as many of them as a batch should have.
 */
static void
shorten_stride(Worker *worker, BatchInfo *batch, int64 size)
{
	Work	   *work = &worker->work;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		row[INDEX_MAX_KEYS];

	key_from_text(work->walk, batch->start_key, start);
	key_from_text(work->walk, batch->end_key, end);
	if (!work_find_in_scope(&worker->session, work, start, batch->start_inclusive, end,
							size - 1, row))
		return;
	batch->end_key = key_to_text(work->walk, row);
	batch->rows_scanned = bounds_count(work->walk, work->bounds, start,
									   key_range_shape(batch->start_inclusive, batch->end_key),
									   row, GetActiveSnapshot());
}

/*
 * Find where the range ends: at the last key, after so many rows, or, when the stride is not 0,
 * after so many in scope within the stride.  The search runs with the owner's
 * rights.
 */
void
claim_find_end(Worker *worker, BatchInfo *batch, ArrayType *last_key, int64 size, int64 stride)
{
	Work	   *work = &worker->work;
	int			nest;

	/* without its index every search would sort the table */
	walk_check_index(work->walk);

	nest = session_enter_statement(&worker->session);
	PushActiveSnapshot(GetLatestSnapshot());
	batch->rows_scanned = bounds_next_range(work->walk, work->bounds, batch->start_key,
											batch->start_inclusive,
											last_key, Max(size, stride),
											GetActiveSnapshot(), &batch->end_key);
	if (stride > 0 && batch->rows_scanned > size && !ARR_HASNULL(batch->end_key))
		shorten_stride(worker, batch, size);
	PopActiveSnapshot();
	AtEOXact_GUC(false, nest);
}

/* A partition that was detached is walked no further. */
static bool
is_walked_on(const Session *session)
{
	return session->stream == NULL || !OidIsValid(session->stream->target) ||
		get_rel_relispartition(session->stream->target);
}

/*
 * Claim the range after the last one claimed; NULL at the end of the walk, or
 * when no rows may be begun.
 */
static BatchInfo *
claim_range(Worker *worker, const Claimant *claimant, ClaimRefusal *refusal)
{
	RunInfo    *run = worker->session.run;
	BatchInfo  *batch = palloc0(sizeof(BatchInfo));
	StoreSession store;
	int64		size;
	int64		stride;
	TimestampTz retry_at;

	if (!is_walked_on(&worker->session) || !claim_find_start(&worker->session, batch) ||
		(worker->session.stream == NULL &&
		 !bound_allows_batch(run, &worker->session.settings, batch->number)))
		return NULL;
	size = allowance_ask(run->scope != NULL, &stride, &retry_at);
	if (size == 0)
	{
		refusal->throttled_until = retry_at;
		return NULL;
	}
	batch->number++;
	batch->attempt = 1;
	claim_find_end(worker, batch, run->end_key, size, stride);

	/* of a stride only the rows in scope are processed */
	batch->rows_in_scope = stride > 0 ? Min(batch->rows_scanned, size) : batch->rows_scanned;
	allowance_keep(batch->rows_in_scope);
	store_begin(&store);
	store_insert_batch(&store, worker->session.walk_id, batch, claimant->token, claimant->number);
	store_end(&store);
	return batch;
}

/* Claim a page of the source, to be fetched or applied. */
static BatchInfo *
claim_page(Worker *worker, const Claimant *claimant, ClaimRefusal *refusal)
{
	TurnClaimant turn = {claimant->token, claimant->number, BATCH_CRASHES_SUSPECT};
	TurnRefusal refused;
	BatchInfo  *batch = turn_claim(&worker->session, &turn, &refused);

	if (batch == NULL && refused.suspect)
	{
		if (!enter_quarantine(&worker->hand))
		{
			refusal->pending_elsewhere = true;
			return NULL;
		}
		turn.crashes_below = BATCH_CRASHES_FATAL;
		batch = turn_claim(&worker->session, &turn, &refused);
		if (batch == NULL)
			claim_leave_quarantine(&worker->hand);
	}
	refusal->busy = refused.busy;
	refusal->next_due = refused.next_due;
	refusal->reason = refused.reason;
	return batch;
}

/*
 * Whether the claim must not be lost in a crash, because the batch may be what
 * brings the server down, and would never be found out: one that somebody let
 * go of, and the first of a worker.  Parts of a batch that raised an error are
 * too many for that, unless the server has come down just now.
 */
static bool
must_outlive_crash(const BatchInfo *batch, bool pending, bool first, bool cautious)
{
	return cautious || (pending ? batch->crashes > 0 || !batch->had_error : first);
}

/*
 * Claim a batch in the current transaction; NULL when there is none, with the
 * reason in *refusal.  "first" is whether the transaction does nothing else.  The
 * result is in the current memory context.
 */
static BatchInfo *
claim(Worker *worker, const Claimant *claimant, bool first, ClaimRefusal *refusal)
{
	LOCKTAG		tag = locks_tag(LOCK_CLASS_CLAIM, worker->session.walk_id);
	BatchInfo  *batch;
	bool		by_source;
	bool		pending;
	bool		cautious;

	memset(refusal, 0, sizeof(ClaimRefusal));
	allowance_drop_next();

	/* after a crash everything is suspect for a moment */
	cautious = worker_slot_is_cautious();
	if (cautious && !enter_quarantine(&worker->hand))
	{
		refusal->pending_elsewhere = true;
		return NULL;
	}

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	by_source = worker->session.run->source.function != NULL;
	batch = by_source ? claim_page(worker, claimant, refusal) :
		claim_pending(worker, claimant, refusal);
	pending = batch != NULL && !by_source;
	if (by_source)
		first = first || (batch && batch->crashes > 0);
	else if (pending)
	{
		batch->rows_in_scope = batch->rows_scanned;
		stock_remove(batch->number, batch->part);
	}
	else if (worker->session.settings.share_by)
		refusal->pending_soon = true;
	else
		batch = claim_range(worker, claimant, refusal);
	if (batch && must_outlive_crash(batch, pending, first, cautious))
		ForceSyncCommit();
	if (batch == NULL)
		claim_leave_quarantine(&worker->hand);
	return batch;
}

/*
 * At the end of the transaction of a batch: claim the next one for this worker.
 * NULL when there is none; the reason is asked for again.
 */
BatchInfo *
claim_next_batch(Worker *worker)
{
	Claimant	me = claim_claimant(worker);
	ClaimRefusal refusal;

	return claim(worker, &me, false, &refusal);
}

/* ---- in hand ---- */

/* A copy of the batch in the current memory context. */
static BatchInfo *
copy_batch(const BatchInfo *batch)
{
	BatchInfo  *copy = palloc(sizeof(BatchInfo));

	*copy = *batch;
	copy->start_key = DatumGetArrayTypePCopy(PointerGetDatum(batch->start_key));
	copy->end_key = DatumGetArrayTypePCopy(PointerGetDatum(batch->end_key));
	if (batch->source_token)
		copy->source_token = DatumGetJsonbPCopy(PointerGetDatum(batch->source_token));
	copy->report = batch->report ? pstrdup(batch->report) : NULL;
	copy->report_state = batch->report_state ? pstrdup(batch->report_state) : NULL;
	return copy;
}

/* Make a claimed batch, which may be NULL, the one in hand; it is committed. */
void
claim_take_in_hand(Worker *worker, const BatchInfo *claimed)
{
	MemoryContext old;

	claim_forget(worker);
	allowance_advance();
	if (claimed == NULL)
		return;
	old = MemoryContextSwitchTo(worker->hand.context);
	worker->hand.batch = copy_batch(claimed);
	MemoryContextSwitchTo(old);
}

/* The batch in hand is somebody else's affair now. */
void
claim_forget(Worker *worker)
{
	worker->hand.batch = NULL;
	worker->hand.indivisible = false;
	worker->hand.repair = NULL;
	worker->hand.is_reported = worker->hand.is_named = false;
	allowance_release();
	MemoryContextReset(worker->hand.context);
}

/*
 * Lock the target before the claim lock, as a batch has done when it claims
 * the next one: whoever locked in the other order could wait in a circle with
 * another worker and a session that waits for the target.
 */
static void
lock_target(Session *session)
{
	int			nest = session_enter_user_code(session);

	LockRelationOid(session->run->target, AccessShareLock);
	AtEOXact_GUC(false, nest);
}

/*
 * Take the claim lock of the run, until the end of the transaction, in which
 * nothing has happened yet.
 */
void
claim_lock(Worker *worker)
{
	LOCKTAG		tag = locks_tag(LOCK_CLASS_CLAIM, worker->session.walk_id);

	lock_target(&worker->session);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Claim a batch in a transaction of its own, and take it in hand; or fill
 * *refusal when there is none.  Raises what the search for the bound raises.
 */
void
claim_batch(Worker *worker, ClaimRefusal *refusal)
{
	Session    *session = &worker->session;
	Claimant	me = claim_claimant(worker);
	BatchInfo  *batch;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	lock_target(session);
	batch = claim(worker, &me, session->stream == NULL || !worker->has_claimed, refusal);
	session_commit(session);
	worker->has_claimed = worker->has_claimed || batch != NULL;
	claim_take_in_hand(worker, batch);
}

/* ---- its hooks ---- */

/*
 * The event of the batch in hand changing to the status.  It outlives the batch
 * in the loop context.
 */
HookEvent
claim_event(Worker *worker, const char *status, const char *error)
{
	HookEvent	event = {
		.object = "batch",
		.status = status,
		.previous_status = strcmp(status, "running") == 0 ? "pending" : "running",
		.rows = worker->hand.batch->rows_scanned,
		.error = error
	};

	if (worker->session.hooks != NIL)
	{
		MemoryContext old = MemoryContextSwitchTo(worker->session.loop_context);

		event.batch = copy_batch(worker->hand.batch);
		MemoryContextSwitchTo(old);
	}
	return event;
}

static void
no_change(Session *session, void *arg)
{
}

/* In a transaction of its own: the hooks that may prevent the batch in hand. */
static void
announce(Session *session, void *arg)
{
	const HookEvent *event = (const HookEvent *) arg;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	hook_change(session, event, no_change, NULL);
	session_commit(session);
}

/*
 * The batch in hand has been claimed and is about to run: call its hooks.
 * Returns the error that prevents it, or NULL.
 */
ErrorData *
claim_announce(Worker *worker)
{
	HookEvent	event = claim_event(worker, "running", NULL);
	ErrorData  *error;

	worker->hand.processed = -1;
	error = session_try(&worker->session, announce, &event);
	if (error == NULL)
	{
		worker->hand.batch->announced = true;
		hook_after(&worker->session, &event);
	}
	return error;
}
