/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  What a worker does about errors: again, smaller, without the row, or not.
 *
 * An error that may go away by itself is tried again, in two halves if it was
 * a timeout.  Any other error follows the setting on_error: the batch is
 * divided until the row that fails stands alone and is left out, or the run
 * fails.  Everything here happens after the batch was rolled back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/instrument.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/retryafter.h"
#include "base/rowerror.h"
#include "engine/batch.h"
#include "engine/claim.h"
#include "engine/divide.h"
#include "engine/failure.h"
#include "engine/fetch.h"
#include "engine/hook.h"
#include "engine/repair.h"
#include "engine/session.h"
#include "engine/work.h"
#include "run/transition.h"
#include "settings/setting.h"
#include "shared/allowance.h"
#include "shared/segment.h"
#include "shared/wake.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/event.h"
#include "store/pace.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"
#include "store/stream.h"

/* How often to look for a batch that is due, when there is nothing else. */
#define RETRY_POLL_MS		500
/* How often to look for a suspect batch that another worker may give free. */
#define SUSPECT_POLL_MS		100
/* So long that passes without a word. */
#define SUSPECT_SAY_MS		1000
/* What a session needs to take what a batch has given way to. */
#define GIVE_WAY_MS			20
/* How often to prepare anew for one batch that meets a changed table. */
#define PREPARE_TRIES		3

/* ---- the run fails ---- */

/* What failed, for the functions that record it. */
typedef struct Failure
{
	Worker	   *worker;
	const ErrorData *error;
} Failure;

/* The change that the failing of the batch in hand is, within its hooks. */
static void
fail_batch(Session *session, void *arg)
{
	const Failure *failure = (const Failure *) arg;
	StoreSession store;

	store_begin(&store);
	store_give_back_batch(&store, session->walk_id, failure->worker->hand.batch,
						  claim_claimant(failure->worker).token, "failed",
						  failure->error->message);
	store_end(&store);
}

/* Whether a stream that fails leaves the others of its run alone. */
static bool
fails_alone(const Session *session)
{
	return session->stream && session->settings.on_error == ON_ERROR_SKIP;
}

/* Give the batch back as failed, and ask for the run to fail, unless only its stream does. */
static void
record_failure(Session *session, void *arg)
{
	const Failure *failure = (const Failure *) arg;
	const ErrorData *error = failure->error;
	BatchInfo  *batch = failure->worker->hand.batch;
	StoreSession store;
	RunError	run_error = {
		.sqlstate = unpack_sql_state(error->sqlerrcode),
		.message = error->message,
		.detail = error->detail,
		.hint = error->hint,
		.context = error->context
	};
	EventInfo	event = {
		.kind = "error",
		.stream = session->stream ? session->stream->name : NULL,
		.batch = batch,
		.sqlstate = run_error.sqlstate,
		.reason = error->message
	};
	RunInfo    *run;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	if (batch)
	{
		HookEvent	failed = claim_event(failure->worker, "failed", error->message);

		hook_change(session, &failed, fail_batch, arg);
	}
	store_begin(&store);
	run = store_load_run(&store, session->slot.run_id, true);
	if (run != NULL)
		store_add_event(&store, run, &event);
	if (run != NULL && session->stream)
		stream_set_error(&store, session->walk_id, &run_error);
	if (run != NULL && !fails_alone(session))
	{
		store_set_error(&store, run->id, &run_error);
		transition_request(&store, run, RUN_FAILED, false, NULL, NULL);
	}
	store_end(&store);
	wake_at_commit((WakeTarget) {session->slot.owner, session->slot.run_id});
	session_commit(session);
}

/*
 * The run cannot go on: record the error in the run, then in the server's log,
 * and leave.  Returns only if that could not be recorded, with the reason: the
 * run then has not failed.
 */
static ErrorData *
try_to_fail(Worker *worker, const ErrorData *error)
{
	Session    *session = &worker->session;
	Failure		failure = {worker, error};
	ErrorData  *second = hook_try(session, record_failure, &failure, worker->hand.batch);

	if (second)
		return second;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 fails_alone(session) ?
			 errmsg("stream \"%s\" of backfill run " INT64_FORMAT " failed: %s",
					session->stream->name, session->slot.run_id, error->message) :
			 errmsg("backfill run " INT64_FORMAT " failed: %s",
					session->slot.run_id, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->context ? errcontext("%s", error->context) : 0));
	if (worker->hand.batch)
	{
		HookEvent	event = claim_event(worker, "failed", error->message);

		hook_after(session, &event);
	}
	proc_exit(0);
}

/*
 * The same.  If it cannot be recorded, this worker ends with the reason, and
 * another one tries.
 */
compat_noreturn void
failure_fail_run(Worker *worker, ErrorData *error)
{
	ReThrowError(try_to_fail(worker, error));
}

/* ---- letting go ---- */

/* What becomes of a batch that its worker lets go of. */
static const char *
status_given_back(const RunInfo *run)
{
	return run->is_requested && run->requested == RUN_STOPPED ? "stopped" : "pending";
}

/* Let go of the batch in hand, with its hooks.  Returns the error if that fails. */
static ErrorData *
let_go(Worker *worker, BatchRelease *release)
{
	Session    *session = &worker->session;
	HookEvent	event = claim_event(worker, release->status, release->message);
	ErrorData  *error = hook_try(session, batch_release, release, worker->hand.batch);

	if (error == NULL)
		hook_after(session, &event);
	return error;
}

/* Let go of the batch in hand, if any, and leave. */
compat_noreturn void
failure_leave(Worker *worker, const char *message)
{
	Session    *session = &worker->session;
	BatchInfo  *batch = worker->hand.batch;

	if (batch && session->run)
	{
		BatchRelease release = {worker, status_given_back(session->run), message, NULL, DT_NOBEGIN};
		ErrorData  *error;

		/* nothing is left to be cancelled; what is to stop at once waits for no hook */
		worker_slot_show(WORKER_LEAVING, batch->number, batch->attempt);
		session->hooks_off = session->run->is_requested && session->run->immediate;
		error = let_go(worker, &release);
		if (error)
			ReThrowError(error);
	}
	proc_exit(0);
}

/* Let go of the batch in hand, which may not begin now. */
void
failure_give_back(Worker *worker)
{
	BatchRelease release = {worker, status_given_back(worker->session.run), NULL, NULL, DT_NOBEGIN};
	ErrorData  *error = let_go(worker, &release);

	if (error && !rowerror_is_retryable(error))
		failure_fail_run(worker, error);
}

/* ---- what is no batch ---- */

/*
 * Do what has to be done before the first batch; the function is given the
 * worker.  Nothing is lost by waiting for a lock, or for resources, as long as it
 * takes: the run says so.  Fails the run with any other error.
 */
void
failure_insist(Worker *worker, SessionFunction function)
{
	Session    *session = &worker->session;
	ErrorData  *error;
	int			tries = 0;

	while ((error = session_try(session, function, worker)) != NULL)
	{
		if (!rowerror_is_retryable(error))
			failure_fail_run(worker, error);
		tries++;
		(void) session_try_uncancelled(session, session_note_waiting,
									   psprintf("tries again to begin: %s", error->message));
		worker_slot_show(WORKER_RETRYING, 0, 0);
		if (!session_nap(session_retry_delay(session, tries)) && !session_reload(session))
			failure_leave(worker, NULL);
	}
	if (tries > 0)
		(void) session_try_uncancelled(session, session_note_waiting, NULL);
}

static void
prepare(Session *session, void *arg)
{
	work_prepare(session, &((Worker *) arg)->work);
}

/* Prepare what the run needs, however long that has to wait. */
void
failure_prepare(Worker *worker)
{
	failure_insist(worker, prepare);
}

/*
 * The target is known to the plans by its name: after it was renamed, or the
 * name given to another table, they have to be made anew.  Returns whether
 * that is worth a try with this error.
 */
bool
failure_prepare_again(Worker *worker, const ErrorData *error)
{
	if (worker->hand.prepared_again >= PREPARE_TRIES ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
		return false;
	worker->hand.prepared_again++;
	failure_prepare(worker);
	return true;
}

/* Put down that what is no batch is tried again. */
void
failure_note_retry(Session *session, const ErrorData *error)
{
	EventInfo	event = {
		.kind = "retry",
		.sqlstate = unpack_sql_state(error->sqlerrcode),
		.reason = error->message
	};

	session_note_event(session, &event);
}

/* Say why the run waits, or, with NULL, that it does not any more; once. */
static void
say_waiting(Session *session, const char *reason)
{
	const char *before = session->run->wait_reason;

	if (before == reason || (before && reason && strcmp(before, reason) == 0))
		return;
	(void) session_try_uncancelled(session, session_note_waiting, unconstify(char *, reason));
	session->run->wait_reason = reason ? MemoryContextStrdup(session->run_context, reason) : NULL;
}

/* A batch has come into hand: nothing is waited for any more. */
void
failure_wait_is_over(Worker *worker)
{
	worker->hand.kept_since = 0;
	say_waiting(&worker->session, NULL);
}

/*
 * What is left may have brought down the server, as may what another worker has
 * in hand: wait until that is done.  After a crash everything is suspect for a
 * moment, and nothing is said of that.
 */
void
failure_wait_for_suspect(Worker *worker)
{
	Session    *session = &worker->session;
	Hand	   *hand = &worker->hand;
	TimestampTz now = GetCurrentTimestamp();

	if (hand->kept_since == 0)
		hand->kept_since = now;
	if (TimestampDifferenceExceeds(hand->kept_since, now, SUSPECT_SAY_MS))
		say_waiting(session, "waits until another batch that may have brought down the server is done");
	worker_slot_show(WORKER_WAITING, 0, 0);
	if (!session_nap(SUSPECT_POLL_MS) && !session_reload(session))
		failure_leave(worker, NULL);
}

/*
 * Every batch that is left waits to be tried again: say so, for that reason or, with NULL,
 * because of errors, and sleep a while, at most until the first is due.
 */
void
failure_wait_for_retry(Worker *worker, TimestampTz due, const char *reason)
{
	Session    *session = &worker->session;
	int64		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due);

	say_waiting(session, reason ? reason :
				"waits to try batches again that met an error; see backfill_batches");
	worker_slot_show(WORKER_RETRYING, 0, 0);
	if (!session_nap(Min(ms, RETRY_POLL_MS)) && !session_reload(session))
		failure_leave(worker, NULL);
}

/* ---- the batch in hand ---- */

/* Whether the error may be that of one row, and such rows are left out. */
static bool
is_skippable(const Worker *worker, const ErrorData *error)
{
	return worker->session.settings.on_error == ON_ERROR_SKIP &&
		(worker->hand.is_reported || rowerror_is_possible(error));
}

/*
 * Whether the error of the batch in hand may go away by itself; a client has said so.  DDL beside a statement
 * may show in it as an internal error: REINDEX CONCURRENTLY has no valid index of a TOAST table for a moment.
 */
static bool
may_go_away(const Worker *worker, const ErrorData *error)
{
	return worker->hand.is_reported ? worker->hand.is_retryable :
		rowerror_is_retryable(error) || error->sqlerrcode == ERRCODE_INTERNAL_ERROR;
}

/* "(7)", or "(a, 7)" for a key of two columns: that of the row which the batch is. */
static char *
row_key(const BatchInfo *batch)
{
	StringInfoData buf;
	Datum	   *values;
	bool	   *nulls;
	int			n;

	deconstruct_array(batch->end_key, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
		appendStringInfo(&buf, "%s%s", i == 0 ? "(" : ", ",
						 nulls[i] ? "null" : TextDatumGetCString(values[i]));
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/*
 * The batch in hand fails the run: say which row it is, if it is but one, and what
 * would have the run go on without the rows that fail.
 */
static void
advise(const Worker *worker, ErrorData *error)
{
	const BatchInfo *batch = worker->hand.batch;
	int64		id = worker->session.slot.run_id;

	if (batch->rows_scanned == 1)
		error->detail = psprintf("%s%sThe batch is the row with the key %s.",
								 error->detail ? error->detail : "", error->detail ? "\n" : "",
								 row_key(batch));
	if (error->hint == NULL && rowerror_is_possible(error) &&
		worker->session.settings.on_error != ON_ERROR_SKIP)
		error->hint = psprintf("The setting \"on_error\" can have rows that fail left out: SELECT backfill_alter(" INT64_FORMAT ", '{\"on_error\": \"skip\"}'); then backfill_resume(" INT64_FORMAT ") goes on.",
							   id, id);
}

/*
 * Divide the batch in hand: into so many parts because of the error, or, without
 * one, so that the first has that many rows.  Returns false if it is but one row.
 */
static bool
divide(Worker *worker, const ErrorData *error, int parts, int64 fitting)
{
	Division	division = {worker, error, parts, fitting};
	ErrorData  *second = session_try(&worker->session, divide_batch, &division);

	if (second == NULL)
		return division.divided;
	if (!rowerror_is_retryable(second))
		failure_fail_run(worker, second);
	return true;				/* whole as it is, the batch is tried again */
}

/* Whether rows of the batch in hand may share their key, or have none. */
static bool
is_group(const Worker *worker)
{
	return worker->work.walk->may_repeat || ARR_HASNULL(worker->hand.batch->end_key);
}

/*
 * Leave out the row, or the group of rows, that the batch in hand is, unless it is to be repaired
 * first; fails the run at its limit.
 */
static void
skip(Worker *worker, ErrorData *error)
{
	Session    *session = &worker->session;
	Skip		skip = {worker};
	HookEvent	event;
	ErrorData  *second;
	char	   *key;

	if (divide(worker, error, DIVIDE_PARTS, 0))
		return;

	/* rows that share a key are left out together */
	if (worker->hand.batch->rows_scanned > 1 && !is_group(worker))
		failure_fail_run(worker, error);
	if (repair_is_wanted(worker, error))
	{
		repair_note(worker, error);
		return;
	}

	/* what its repair has met says less of the row than what it was to repair */
	if (worker->hand.repair)
	{
		skip.repair_error = error->message;
		error = repair_error(worker);
	}
	skip.error = error;
	key = row_key(worker->hand.batch);
	event = claim_event(worker, "failed", error->message);
	second = hook_try(session, divide_skip, &skip, worker->hand.batch);
	if (second)
	{
		if (!rowerror_is_retryable(second))
			failure_fail_run(worker, second);
		return;
	}
	hook_after(session, &event);
	if (!skip.too_many)
		return;
	error->detail = psprintf("The run has reached \"max_errors\" or \"max_error_rate\"; this is the error of the last row that was skipped, the one with the key %s.",
							 key);
	failure_fail_run(worker, error);
}

/*
 * What became of the batch in hand could not be recorded, because the disk is full
 * for example.  It stays in hand, and is tried again after a while, however often
 * that takes: a run that fails is to say why.
 */
static void
try_in_hand(Worker *worker, const ErrorData *error)
{
	Session    *session = &worker->session;
	int64		delay = session_retry_delay(session, worker->hand.batch->tries);

	/* where else could it be said */
	if (!worker->hand.in_trouble)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("batch " INT64_FORMAT " of backfill run " INT64_FORMAT " is tried until something can be recorded of it: %s",
						worker->hand.batch->number, session->run->id, error->message)));
	worker->hand.in_trouble = true;
	if (!session_nap(delay) && !session_reload(session))
		failure_leave(worker, error->message);
}

/*
 * Fail the run because of the batch in hand.  Returns if that cannot be recorded
 * now: the batch is to be tried again.
 */
static void
fail_or_try(Worker *worker, ErrorData *error)
{
	ErrorData  *second = try_to_fail(worker, error);

	if (!rowerror_is_retryable(second))
		ReThrowError(second);
	try_in_hand(worker, second);
}

/*
 * Put the batch in hand aside, to be tried again at that time or, with DT_NOBEGIN, after a
 * while: what is in its way need not be in the way of others.
 */
static void
try_later(Worker *worker, const ErrorData *error, TimestampTz until)
{
	Session    *session = &worker->session;
	Hand	   *hand = &worker->hand;
	int			tries = hand->batch->tries;
	int64		number = hand->batch->number;
	BatchRelease release = {worker, "pending", error->message, error, until};
	ErrorData  *second;

	if (TIMESTAMP_IS_NOBEGIN(until))
		release.until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													session_retry_delay(session, tries));
	second = let_go(worker, &release);
	if (second)
	{
		if (!rowerror_is_retryable(second))
			failure_fail_run(worker, second);
		try_in_hand(worker, error);
		return;
	}

	/* once for all batches in a row that meet the same trouble */
	if (!hand->in_trouble && tries == 1)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("batch " INT64_FORMAT " of backfill run " INT64_FORMAT " will be tried again: %s",
						number, session->run->id, error->message)));
	hand->in_trouble = true;
}

/* A batch that was cancelled for another process. */
typedef struct GivenWay
{
	const BatchInfo *batch;
	const char *reason;
} GivenWay;

static void
add_yield_event(Session *session, void *arg)
{
	const GivenWay *given = (const GivenWay *) arg;
	StoreSession store;
	EventInfo	event = {
		.kind = "yield",
		.batch = given->batch,
		.reason = given->reason
	};

	session_begin(session);
	store_begin(&store);
	store_note_yield(&store, session->run->id);
	store_add_event(&store, session->run, &event);
	store_end(&store);
	session_commit(session);
}

/*
 * The batch in hand was cancelled for another process: try it again in halves, or in as many
 * parts as make it short, if it was for all of them.  What is one row only waits a while, however
 * often that takes.
 */
static void
give_way(Worker *worker, ErrorData *error, pid_t to)
{
	GivenWay	given = {worker->hand.batch};

	error->message = to == YIELD_TO_ALL ?
		pstrdup("sessions waited for WAL and pages beside the batch, which was long") :
		psprintf("process %d waited for a lock of the batch", (int) to);
	given.reason = error->message;
	(void) session_try_uncancelled(&worker->session, add_yield_event, &given);
	if (divide(worker, error, to == YIELD_TO_ALL ? DIVIDE_MANY : 2, 0))
	{
		/* who was waiting has been woken, but may not have the row yet */
		(void) session_nap(GIVE_WAY_MS);
		return;
	}
	worker->hand.batch->tries = 1;
	try_later(worker, error, DT_NOBEGIN);
}

/*
 * The batch in hand has more rows than the limits leave: let go of it in two
 * parts, the first of which has so many.
 */
void
failure_divide_fitting(Worker *worker, int64 rows)
{
	/* what cannot be divided, rows of several children with one key, goes as one */
	worker->hand.indivisible = !divide(worker, NULL, 2, rows);
}

/*
 * What the error of the batch in hand comes to, when nothing special is known of
 * it: again, without the row, or the end of the run.
 */
static void
judge(Worker *worker, ErrorData *error, bool from_hook)
{
	BatchInfo  *batch = worker->hand.batch;

	/* a hook has spoken about the batch, not about one of its rows */
	if (from_hook && !rowerror_is_retryable(error))
	{
		fail_or_try(worker, error);
		return;
	}
	if (is_skippable(worker, error) && !may_go_away(worker, error))
	{
		skip(worker, error);
		return;
	}
	batch->tries++;
	if (!may_go_away(worker, error) ||
		batch->tries >= worker->session.settings.max_attempts)
	{
		/* what does not go away by itself is an error like any other */
		if (from_hook || !is_skippable(worker, error))
		{
			if (!from_hook)
				advise(worker, error);
			fail_or_try(worker, error);
		}
		else
			skip(worker, error);
		return;
	}

	/* half of it may be done in the time that the whole does not get */
	if ((error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		 error->sqlerrcode == ERRCODE_QUERY_CANCELED) &&
		divide(worker, error, 2, 0))
		return;

	try_later(worker, error, DT_NOBEGIN);
}

/*
 * The source has raised the error, or what it has given is no page: again, or the end of the
 * run.  Where it says when to come back, that is no attempt that failed.
 */
static void
judge_fetch(Worker *worker, ErrorData *error)
{
	BatchInfo  *batch = worker->hand.batch;
	TimestampTz until;

	if (batch->report == NULL)
		fetch_settle(worker);
	if (batch->report || !fetch_may_come(error))
		fail_or_try(worker, error);
	else if (retryafter_read(error->hint, GetCurrentTimestamp(), &until))
		try_later(worker, error, until);
	else if (++batch->tries >= worker->session.settings.max_attempts)
		fail_or_try(worker, error);
	else
		try_later(worker, error, DT_NOBEGIN);
}

/*
 * The batch in hand has raised an error.  Returns when the worker is to go on,
 * with this batch or another; leaves the process otherwise.
 */
void
failure_handle(Worker *worker, ErrorData *error)
{
	Hand	   *hand = &worker->hand;
	bool		from_hook = worker->session.in_hook;
	pid_t		yield_to;

	/* the WAL is written, whatever became of the batch */
	if (hand->wal_before > 0)
		allowance_wrote((int64) (pgWalUsage.wal_bytes - hand->wal_before));
	hand->wal_before = 0;

	/* nobody waits for the batch any more; what was to cancel it, must not cancel this */
	worker_slot_show(WORKER_RETRYING, hand->batch->number, hand->batch->attempt);
	yield_to = worker_slot_take_yield();
	QueryCancelPending = false;

	/* our own cancellation, which comes after a notice, is no error */
	if (worker_slot_noticed() && !session_reload(&worker->session))
	{
		if (!may_go_away(worker, error) && !is_skippable(worker, error))
			failure_fail_run(worker, error);
		failure_leave(worker, error->message);
	}
	if (fetch_is_due(worker))
		judge_fetch(worker, error);
	else if (yield_to != 0 && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		give_way(worker, error, yield_to);
	else if (hand->over_limit)
	{
		hand->over_limit = false;
		hand->indivisible = !divide(worker, error, 2, 0);
	}
	else if (hand->is_reported || !failure_prepare_again(worker, error))
		judge(worker, error, from_hook);
}
