/*-------------------------------------------------------------------------
 *
 * session.c
 *	  The session of a worker: its transactions, its errors, its run.
 *
 * The session is authenticated as the owner of the run: whatever the user's code
 * does, there is nobody else it can become.  Our own bookkeeping has neither his
 * search_path nor his timeouts.
 *
 * What may raise an error runs within session_try, which rolls everything back
 * and returns the error.  Between two batches nothing is held: no transaction, no
 * snapshot, no lock.  A change of the run's row reaches the session through a flag
 * in shared memory and its latch, so that it wakes from any sleep.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/rowerror.h"
#include "engine/session.h"
#include "settings/serverparams.h"
#include "settings/settings.h"
#include "shared/pace.h"
#include "shared/share.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/event.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

/* How often, and after what delay, to try again to read the run's row. */
#define RELOAD_TRIES		20
#define RELOAD_DELAY_MS		200

/* What is compiled for a batch is thrown away after it. */
#define SESSION_JIT			"off"

static void
set_parameter(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_USERSET, PGC_S_SESSION);
}

/*
 * The session is connected: parameters that nothing of ours may depend on, and
 * the memory that it works in.  Ends in the loop context.
 */
void
session_open(Session *session)
{
	/* our own SQL is fully qualified; the user's has its own path */
	set_parameter("search_path", "pg_catalog, pg_temp");
	set_parameter("statement_timeout", "0");
	set_parameter("lock_timeout", "0");
	set_parameter("idle_in_transaction_session_timeout", "0");

	set_parameter("jit", SESSION_JIT);

	/* a statement that ends transactions itself begins others as these say */
	set_parameter("default_transaction_read_only", "off");
	set_parameter("default_transaction_isolation", "read committed");
	set_parameter("default_transaction_deferrable", "off");
	if (COMPAT_HAS_TRANSACTION_TIMEOUT)
		set_parameter("transaction_timeout", "0");
	session->userid = GetUserId();
	session->context = AllocSetContextCreate(TopMemoryContext, "backfill worker",
											 ALLOCSET_DEFAULT_SIZES);
	session->loop_context = AllocSetContextCreate(session->context, "backfill loop",
												  ALLOCSET_DEFAULT_SIZES);
	session->stream_context = AllocSetContextCreate(session->context, "backfill stream",
													ALLOCSET_SMALL_SIZES);
	session->run_context = AllocSetContextCreate(session->context, "backfill run",
												 ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(session->loop_context);
}

/* ---- transactions and errors ---- */

/*
 * Start a transaction of the session's.  Leaves the process when the extension
 * is gone.  The isolation level and the like do not depend on what the owner's
 * defaults are.
 */
void
session_begin(Session *session)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	XactDeferrable = false;
	if (!store_lock_extension())
	{
		AbortCurrentTransaction();
		proc_exit(0);
	}
}

/* Commit, and let statistics know.  Ends in the loop context. */
void
session_commit(Session *session)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(session->loop_context);
	debug_query_string = NULL;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * In a transaction of its own: say why the run does not move, or what its end is
 * about; the argument is the text, or NULL.
 */
void
session_note_waiting(Session *session, void *arg)
{
	StoreSession store;

	session_begin(session);
	store_begin(&store);
	store_set_wait_reason(&store, session->run->id, (const char *) arg);
	store_end(&store);
	session_commit(session);
}

/*
 * Run the function, which starts and ends its own transactions.  Returns NULL,
 * or its error, in the loop context, with everything rolled back.
 */
ErrorData *
session_try(Session *session, SessionFunction function, void *arg)
{
	ErrorData  *volatile error = NULL;

	MemoryContextSwitchTo(session->loop_context);
	session->in_hook = false;
	PG_TRY();
	{
		function(session, arg);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(session->loop_context);
		error = CopyErrorData();
		disable_all_timeouts(false);
		QueryCancelPending = false;
		AbortOutOfAnyTransaction();
		FlushErrorState();
		debug_query_string = NULL;
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(session->loop_context);
	return error;
}

/*
 * The same for our own bookkeeping, which must not fall to a cancellation that
 * was meant for a batch.
 */
ErrorData *
session_try_uncancelled(Session *session, SessionFunction function, void *arg)
{
	ErrorData  *error;

	HOLD_CANCEL_INTERRUPTS();
	error = session_try(session, function, arg);

	/* an error has released it */
	if (error == NULL)
		RESUME_CANCEL_INTERRUPTS();
	QueryCancelPending = false;
	return error;
}

/* Milliseconds to wait after so many tries. */
int64
session_retry_delay(const Session *session, int tries)
{
	return rowerror_retry_delay(session->settings.retry_delay, tries, STORE_RETRY_MAX_MS);
}

/* ---- sleeping ---- */

/*
 * Between batches a cancellation has nothing to cancel.  A worker that never
 * sleeps must look for itself whether there still is a postmaster.
 */
void
session_check_interrupts(void)
{
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (!PostmasterIsAlive())
		proc_exit(1);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/*
 * Sleep, at most so many milliseconds; wakes early when the run's row changes.
 * Returns false then.
 */
bool
session_nap(int64 ms)
{
	static uint32 wait_event = 0;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);

	if (wait_event == 0)
		wait_event = compat_wait_event("BackfillSleep");
	if (ms >= 1000)
		pgstat_report_stat(true);
	for (;;)
	{
		long		left;

		session_check_interrupts();
		if (worker_slot_noticed())
			return false;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (left <= 0)
			return true;
		if (left > ms)			/* the clock was set back */
			until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), left = ms);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left, wait_event);
		ResetLatch(MyLatch);
	}
}

/* The same, but until anybody wakes us, for whatever reason. */
void
session_doze(int64 ms)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = compat_wait_event("BackfillWaitForClients");
	session_check_interrupts();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event);
	ResetLatch(MyLatch);
	session_check_interrupts();
}

/* ---- the run ---- */

/* What the commits of our own bookkeeping wait for: the disk at most. */
static const char *
bookkeeping_commit(const Session *session)
{
	const char *commit = settings_synchronous_commit(&session->settings);

	return strcmp(commit, "off") == 0 ? commit : "local";
}

/*
 * Before anything that reads or writes the target, or runs the user's code:
 * the path of the definition, and the timeout that keeps us from standing in
 * the way.  Our own bookkeeping has neither.  Returns the nest level that
 * AtEOXact_GUC(false, ...) is to end.
 */
int
session_enter_user_code(Session *session)
{
	int			nest = NewGUCNestLevel();

	(void) set_config_option("search_path", session->run->search_path, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("lock_timeout", session->lock_timeout, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

/*
 * The same for the statement and the scope, which see the server parameters of the
 * setting "set" as well.  Hooks do not: our bookkeeping is made within them.
 */
int
session_enter_statement(Session *session)
{
	int			nest = session_enter_user_code(session);

	serverparams_apply(session->settings.set);
	return nest;
}

/* What "set" gave holds no longer, and what we have set for the session does. */
static void
reset_server_parameters(const Session *session)
{
	serverparams_reset(session->settings.set);
	if (serverparams_gives(session->settings.set, "jit"))
		set_parameter("jit", SESSION_JIT);
}

/*
 * The same for the whole session, on or off: for statements that end
 * transactions themselves.  Off also outside of a transaction.
 */
void
session_user_parameters(Session *session, bool on)
{
	if (on)
		serverparams_set(session->settings.set);
	else
		reset_server_parameters(session);
	set_parameter("search_path", on ? session->run->search_path : "pg_catalog, pg_temp");
	set_parameter("lock_timeout", on ? session->lock_timeout : "0");
	set_parameter("synchronous_commit", on ? settings_synchronous_commit(&session->settings) :
				  bookkeeping_commit(session));
}

/*
 * The current transaction carries changes of the owner's, and not only our
 * bookkeeping: its commit waits for what "synchronous_commit" of the run asks.
 * Not within a nest level of parameters.
 */
void
session_carry_changes(Session *session)
{
	(void) set_config_option("synchronous_commit",
							 settings_synchronous_commit(&session->settings), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Put the settings of the run into force.  Bookkeeping waits for no standby, or
 * a stop would not get through when one is lost.
 */
static void
apply_settings(Session *session)
{
	settings_resolve(session->run->settings, &session->settings);
	set_parameter("synchronous_commit", bookkeeping_commit(session));
	session->lock_timeout = psprintf(INT64_FORMAT, session->settings.lock_timeout);
}

/* A copy of the text or the array in the current memory context; NULL of none. */
static void *
copy_varlena(const void *value)
{
	Size		size;
	void	   *copy;

	if (value == NULL)
		return NULL;
	size = VARSIZE_ANY(value);
	copy = palloc(size);
	memcpy(copy, value, size);
	return copy;
}

/* A copy of the stream in the current memory context. */
static StreamInfo *
copy_stream(const StreamInfo *stream)
{
	StreamInfo *copy = palloc(sizeof(StreamInfo));

	*copy = *stream;
	copy->name = pstrdup(stream->name);
	copy->bounds = copy_varlena(stream->bounds);
	copy->key_types = copy_varlena(stream->key_types);
	copy->start_key = copy_varlena(stream->start_key);
	copy->end_key = copy_varlena(stream->end_key);
	copy->cursor = copy_varlena(stream->cursor);
	copy->wait_reason = stream->wait_reason ? pstrdup(stream->wait_reason) : NULL;
	return copy;
}

/*
 * The run becomes one with what its stream in hand has of its own: the ends of the walk, the
 * cursor, the table, if that is a partition.
 */
static void
overlay(Session *session)
{
	const StreamInfo *stream = session->stream;
	RunInfo    *run;

	session->run = session->whole;
	session->walk_id = session->whole->id;
	session->table = session->whole->target;
	if (stream == NULL)
		return;
	run = palloc(sizeof(RunInfo));
	*run = *session->whole;
	session->walk_id = stream->id;
	run->stream = stream->name;
	run->start_key = stream->start_key;
	run->end_key = stream->end_key;
	run->key_types = stream->key_types;
	run->pass_after = 0;
	run->rollup_number = stream->rollup_number;
	if (!TIMESTAMP_IS_NOBEGIN(stream->until))
	{
		run->since = stream->since;
		run->until = stream->until;
	}
	if (OidIsValid(stream->target))
		run->target = stream->target;
	if (stream->bounds)
		run->settings = settings_merge(run->settings, stream->bounds);
	session->run = run;
}

/*
 * Have the stream in hand, which is not in the context of the one before, or, with NULL, none.
 * Outside of a transaction, too.
 */
void
session_take_stream(Session *session, const StreamInfo *stream)
{
	MemoryContext old = MemoryContextSwitchTo(session->stream_context);
	StreamInfo *copy;

	MemoryContextReset(session->stream_context);
	copy = stream ? copy_stream(stream) : NULL;
	session->stream = copy;
	session->stream_id = copy ? copy->id : 0;
	if (session->whole)
	{
		overlay(session);
		apply_settings(session);
	}
	MemoryContextSwitchTo(old);
}

/* Read the row of the run, that of its stream in hand, and its hooks. */
static void
load_run(Session *session, void *arg)
{
	StoreSession store;
	RunInfo    *run;
	MemoryContext old;

	session_begin(session);
	MemoryContextReset(session->run_context);
	MemoryContextReset(session->stream_context);
	session->run = session->whole = NULL;
	session->stream = NULL;
	session->hooks = NIL;
	old = MemoryContextSwitchTo(session->run_context);
	store_begin(&store);
	run = store_load_run(&store, session->slot.run_id, false);
	session->hooks = run ? store_load_hooks(&store, run->name, run->owner) : NIL;

	/* what it waited for is over when one of its workers works; who ends it says how */
	if (run && run->status == RUN_RUNNING && run->end_key && run->wait_reason &&
		!(run->is_requested && run->requested == RUN_COMPLETED))
	{
		store_set_wait_reason(&store, run->id, NULL);
		run->wait_reason = NULL;
	}
	store_end(&store);
	if (run && session->stream_id != 0)
	{
		MemoryContextSwitchTo(session->stream_context);
		store_begin(&store);
		session->stream = stream_load(&store, session->stream_id);
		store_end(&store);
	}
	MemoryContextSwitchTo(session->run_context);
	session->whole = run;
	if (run)
	{
		MemoryContextSwitchTo(session->stream_context);
		overlay(session);
		apply_settings(session);
	}
	MemoryContextSwitchTo(old);
	session_commit(session);
}

/* Whether the worker is one too many for the settings, or has to stop. */
static bool
must_leave(Session *session)
{
	return session->run == NULL || session->run->status != RUN_RUNNING ||
		session->run->is_requested || !session->run->is_local ||
		session->run->owner != session->slot.owner ||
		(session->stream_id != 0 &&
		 (session->stream == NULL || session->stream->status != RUN_RUNNING)) ||
		worker_slot_rank() >= session->pace.workers || share_is_recalled();
}

/*
 * Read the run again.  Returns false when the worker has to leave.  Raises an
 * error when the row cannot be read.
 */
bool
session_reload(Session *session)
{
	ErrorData  *error;
	int			tries = 0;

	worker_slot_take_notice();
	pace_get(&session->pace);
	while ((error = session_try_uncancelled(session, load_run, NULL)) != NULL)
	{
		if (!rowerror_is_retryable(error) || ++tries >= RELOAD_TRIES)
			ReThrowError(error);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 RELOAD_DELAY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		session_check_interrupts();
	}
	return !must_leave(session);
}

/* ---- events ---- */

static void
add_event(Session *session, void *arg)
{
	StoreSession store;

	session_begin(session);
	store_begin(&store);
	store_add_event(&store, session->run, (const EventInfo *) arg);
	store_end(&store);
	session_commit(session);
}

/* Add an event of the session's run, in a transaction of its own. */
void
session_note_event(Session *session, const EventInfo *event)
{
	(void) session_try_uncancelled(session, add_event, unconstify(EventInfo *, event));
}
