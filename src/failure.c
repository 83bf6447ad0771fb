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

#include "common/pg_prng.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "compat.h"
#include "divide.h"
#include "failure.h"
#include "hook.h"
#include "transition.h"
#include "worker.h"

#define RETRY_DELAY_MAX_MS	60000
/* How often to look for a batch that is due, when there is nothing else. */
#define RETRY_POLL_MS		500
/* What a session needs to take what a batch has given way to. */
#define GIVE_WAY_MS			20
/* How often to prepare anew for one batch that meets a changed table. */
#define PREPARE_TRIES		3

/* Whether the error may go away by itself. */
bool
failure_is_retryable(ErrorData *error)
{
	switch (error->sqlerrcode)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_QUERY_CANCELED:
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_CANNOT_CONNECT_NOW:
		case ERRCODE_DATABASE_DROPPED:
		case ERRCODE_IDLE_SESSION_TIMEOUT:
			return true;
		default:
			return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES;
	}
}

/* What record_error has to record. */
static ErrorData *failure = NULL;

/* The batch in hand has failed. */
static void
fail_batch(Worker *worker)
{
	CatalogSession session;

	catalog_begin(&session);
	catalog_give_back_batch(&session, worker->slot.run_id, worker->batch,
							worker->slot.token, "failed", failure->message);
	catalog_end(&session);
}

/* Give the batch back as failed and ask for the run to fail. */
static void
record_failure(Worker *worker)
{
	CatalogSession session;
	RunError	error = {
		.sqlstate = unpack_sql_state(failure->sqlerrcode),
		.message = failure->message,
		.detail = failure->detail,
		.hint = failure->hint,
		.context = failure->context
	};

	EventInfo	event = {
		.kind = "error",
		.batch = worker->batch,
		.sqlstate = error.sqlstate,
		.reason = error.message
	};
	RunInfo    *run;

	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	if (worker->batch)
	{
		HookEvent	failed = hook_batch_event(worker, "failed", failure->message);

		hook_change(worker, &failed, fail_batch);
	}
	catalog_begin(&session);
	run = catalog_load_run(&session, worker->slot.run_id, true);
	if (run != NULL)
	{
		catalog_set_error(&session, run->id, &error);
		catalog_add_event(&session, run, &event);
		transition_request(&session, run, RUN_FAILED, false, NULL, NULL);
	}
	catalog_end(&session);
	shared_wake_at_commit();
	worker_commit(worker);
}

/*
 * The run cannot go on: record the error, in the server's log and in the run,
 * and leave.
 */
compat_noreturn void
failure_fail_run(Worker *worker, ErrorData *error)
{
	ErrorData  *second;

	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("backfill run " INT64_FORMAT " failed: %s",
					worker->slot.run_id, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->context ? errcontext("%s", error->context) : 0));
	failure = error;
	second = hook_try(worker, record_failure);
	if (second)
		ReThrowError(second);
	if (worker->batch)
	{
		HookEvent	event = hook_batch_event(worker, "failed", error->message);

		hook_after(worker, &event);
	}
	proc_exit(0);
}

/* Milliseconds to wait after so many tries, with up to a quarter off. */
int64
failure_retry_delay(Worker *worker, int tries)
{
	double		delay = worker->settings.retry_delay;

	for (int i = 1; i < tries && delay < RETRY_DELAY_MAX_MS; i++)
		delay *= 2;
	delay = Min(delay, RETRY_DELAY_MAX_MS);
	return (int64) (delay * (1.0 - pg_prng_double(&pg_global_prng_state) / 4));
}

static char *error_to_note = NULL;

/* What becomes of a batch that its worker lets go of. */
static const char *
status_given_back(Worker *worker)
{
	return worker->run->is_requested && worker->run->requested == RUN_STOPPED ?
		"stopped" : "pending";
}

static void
give_back(Worker *worker)
{
	batch_give_back(worker, status_given_back(worker), error_to_note);
}

/* Let go of the batch in hand, if any, and leave. */
compat_noreturn void
failure_leave(Worker *worker, const char *error)
{
	error_to_note = error ? pstrdup(error) : NULL;
	if (worker->batch && worker->run)
	{
		HookEvent	event = hook_batch_event(worker, status_given_back(worker), error);
		ErrorData  *second;

		/* nothing is left to be cancelled; what is to stop at once waits for no hook */
		shared_worker_state(WORKER_LEAVING, worker->batch->number, worker->batch->attempt);
		worker->hooks_off = worker->run->is_requested && worker->run->immediate;
		second = hook_try(worker, give_back);
		worker->hooks_off = false;
		if (second)
			ReThrowError(second);
		hook_after(worker, &event);
	}
	proc_exit(0);
}

static void
note_waiting(Worker *worker)
{
	CatalogSession session;

	worker_begin(worker);
	catalog_begin(&session);
	catalog_set_wait_reason(&session, worker->run->id, error_to_note);
	catalog_end(&session);
	worker_commit(worker);
}

/*
 * Do what has to be done before the first batch.  Nothing is lost by waiting
 * for a lock, or for resources, as long as it takes: the run says so.  Fails
 * the run with any other error.
 */
void
failure_insist(Worker *worker, void (*function) (Worker *))
{
	ErrorData  *error;
	int			tries = 0;

	while ((error = worker_try(worker, function)) != NULL)
	{
		if (!failure_is_retryable(error))
			failure_fail_run(worker, error);
		tries++;
		error_to_note = psprintf("tries again to begin: %s", error->message);
		(void) worker_try_uncancelled(worker, note_waiting);
		shared_worker_state(WORKER_RETRYING, 0, 0);
		if (!worker_nap(failure_retry_delay(worker, tries)) && !worker_reload(worker))
			failure_leave(worker, NULL);
	}
	if (tries > 0)
	{
		error_to_note = NULL;
		(void) worker_try_uncancelled(worker, note_waiting);
	}
}

/*
 * The target is known to the plans by its name: after it was renamed, or the
 * name given to another table, they have to be made anew.  Returns whether
 * that is worth a try with this error.
 */
bool
failure_prepare_again(Worker *worker, ErrorData *error)
{
	if (worker->prepared_again >= PREPARE_TRIES ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
		return false;
	worker->prepared_again++;
	failure_insist(worker, worker_prepare);
	return true;
}

/* Whether the error may be that of one row, which can be left out. */
static bool
is_skippable(Worker *worker, ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return worker->settings.on_error == ON_ERROR_SKIP &&
		category != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION &&
		category != ERRCODE_INTERNAL_ERROR &&
		category != ERRCODE_INSUFFICIENT_RESOURCES &&
		(category != ERRCODE_OPERATOR_INTERVENTION ||
		 error->sqlerrcode == ERRCODE_QUERY_CANCELED);
}

/* Divide the batch in hand.  Returns false if it is but one row. */
static bool
divide(Worker *worker, ErrorData *error, int parts)
{
	ErrorData  *second;

	worker->error = error;
	worker->parts = parts;
	second = worker_try(worker, divide_batch);
	if (second)
	{
		if (!failure_is_retryable(second))
			failure_fail_run(worker, second);
		return true;			/* whole as it is, the batch is tried again */
	}
	return worker->divided;
}

/* Leave the row out that the batch in hand is; fails the run at its limit. */
static void
skip(Worker *worker, ErrorData *error)
{
	ErrorData  *second;
	HookEvent	event;

	if (divide(worker, error, DIVIDE_PARTS))
		return;

	/* rows of several children with one key cannot be told apart */
	if (worker->batch->rows_scanned > 1)
		failure_fail_run(worker, error);
	worker->too_many_errors = false;
	event = hook_batch_event(worker, "failed", error->message);
	second = hook_try(worker, divide_skip);
	if (second)
	{
		if (!failure_is_retryable(second))
			failure_fail_run(worker, second);
		return;
	}
	hook_after(worker, &event);
	if (!worker->too_many_errors)
		return;
	error->detail = psprintf("The run has reached \"max_errors\" or \"max_error_rate\"; this is the error of the last row that was skipped.");
	failure_fail_run(worker, error);
}

static void
put_aside(Worker *worker)
{
	batch_put_aside(worker,
					TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												failure_retry_delay(worker, worker->batch->tries)));
}

/*
 * Put the batch in hand aside, to be tried again after a while: what is in its
 * way need not be in the way of others.
 */
static void
try_later(Worker *worker, ErrorData *error)
{
	HookEvent	event = hook_batch_event(worker, "pending", error->message);
	ErrorData  *second;

	/* once for all batches in a row that meet the same trouble */
	if (!worker->in_trouble && worker->batch->tries == 1)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("batch " INT64_FORMAT " of backfill run " INT64_FORMAT " will be tried again: %s",
						worker->batch->number, worker->run->id, error->message)));
	worker->in_trouble = true;
	worker->error = error;
	second = hook_try(worker, put_aside);
	if (second && !failure_is_retryable(second))
		failure_fail_run(worker, second);
	if (second == NULL)
		hook_after(worker, &event);
	else if (!worker_nap(failure_retry_delay(worker, worker->batch->tries)) &&
			 !worker_reload(worker))
		failure_leave(worker, error->message);
}

/* Put down that what is no batch is tried again. */
void
failure_note_retry(Worker *worker, ErrorData *error)
{
	EventInfo	event = {
		.kind = "retry",
		.sqlstate = unpack_sql_state(error->sqlerrcode),
		.reason = error->message
	};

	batch_note_event(worker, &event);
}

/*
 * Every batch that is left waits to be tried again: say so, and sleep a while,
 * at most until the first is due.
 */
void
failure_wait_for_retry(Worker *worker)
{
	int64		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), worker->next_due);

	if (worker->run->wait_reason == NULL)
	{
		error_to_note = "waits to try batches again that met an error; see backfill_batches";
		(void) worker_try_uncancelled(worker, note_waiting);
		worker->run->wait_reason = MemoryContextStrdup(worker->run_context, error_to_note);
	}
	shared_worker_state(WORKER_RETRYING, 0, 0);
	if (!worker_nap(Min(ms, RETRY_POLL_MS)) && !worker_reload(worker))
		failure_leave(worker, NULL);
}

/* Process for which the batch in hand was cancelled. */
static pid_t yield_to;

static void
add_yield_event(Worker *worker)
{
	CatalogSession session;
	EventInfo	event = {
		.kind = "yield",
		.batch = worker->batch
	};

	event.reason = psprintf("process %d waited for a lock of the batch", (int) yield_to);
	worker_begin(worker);
	catalog_begin(&session);
	catalog_note_yield(&session, worker->run->id);
	catalog_add_event(&session, worker->run, &event);
	catalog_end(&session);
	worker_commit(worker);
}

/*
 * The batch in hand was cancelled for another process: try it again in halves.
 * What is one row only waits a while, however often that takes.
 */
static void
give_way(Worker *worker, ErrorData *error)
{
	(void) worker_try_uncancelled(worker, add_yield_event);
	error->message = psprintf("process %d waited for a lock of the batch", (int) yield_to);
	if (divide(worker, error, 2))
	{
		/* who was waiting has been woken, but may not have the row yet */
		(void) worker_nap(GIVE_WAY_MS);
		return;
	}
	worker->batch->tries = 1;
	try_later(worker, error);
}

/* Let go of the batch in hand, which may not begin now. */
void
failure_give_back(Worker *worker)
{
	HookEvent	event = hook_batch_event(worker, status_given_back(worker), NULL);
	ErrorData  *second;

	error_to_note = NULL;
	second = hook_try(worker, give_back);
	if (second && !failure_is_retryable(second))
		failure_fail_run(worker, second);
	if (second == NULL)
		hook_after(worker, &event);
}

/*
 * The batch in hand has more rows than the limits leave: let go of it in two
 * parts, the first of which has so many.
 */
void
failure_divide_fitting(Worker *worker, int64 rows)
{
	worker->fitting = rows;

	/* what cannot be divided, rows of several children with one key, goes as one */
	worker->indivisible = !divide(worker, NULL, 2);
}

/*
 * The batch in hand has raised an error.  Returns when the worker is to go on,
 * with this batch or another; leaves the process otherwise.
 */
void
failure_handle(Worker *worker, ErrorData *error)
{
	bool		from_hook = worker->in_hook;

	/* the WAL is written, whatever became of the batch */
	if (worker->wal_before > 0)
		pace_wrote((int64) (pgWalUsage.wal_bytes - worker->wal_before));
	worker->wal_before = 0;

	/* nobody waits for the batch any more; what was to cancel it, must not cancel this */
	shared_worker_state(WORKER_RETRYING, worker->batch->number, worker->batch->attempt);
	yield_to = shared_worker_take_yield();
	QueryCancelPending = false;

	/* our own cancellation, which comes after a notice, is no error */
	if (shared_worker_noticed() && !worker_reload(worker))
	{
		if (!failure_is_retryable(error) && !is_skippable(worker, error))
			failure_fail_run(worker, error);
		failure_leave(worker, error->message);
	}
	if (yield_to != 0 && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
	{
		give_way(worker, error);
		return;
	}
	if (worker->over_limit)
	{
		worker->over_limit = false;
		worker->indivisible = !divide(worker, error, 2);
		return;
	}
	if (failure_prepare_again(worker, error))
		return;

	/* a hook has spoken about the batch, not about one of its rows */
	if (from_hook && !failure_is_retryable(error))
		failure_fail_run(worker, error);
	if (is_skippable(worker, error) && !failure_is_retryable(error))
	{
		skip(worker, error);
		return;
	}
	worker->batch->tries++;
	if (!failure_is_retryable(error) ||
		worker->batch->tries >= worker->settings.max_attempts)
	{
		/* what does not go away by itself is an error like any other */
		if (from_hook || !is_skippable(worker, error))
			failure_fail_run(worker, error);
		skip(worker, error);
		return;
	}

	/* half of it may be done in the time that the whole does not get */
	if ((error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		 error->sqlerrcode == ERRCODE_QUERY_CANCELED) &&
		divide(worker, error, 2))
		return;

	try_later(worker, error);
}
