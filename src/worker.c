/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that runs batches of one run.
 *
 * A worker is started by the scheduler for one run and lives until there is
 * nothing to claim, the run is to stop, or the run has failed.  Its session is
 * authenticated as the owner of the run: whatever the user's code does, there
 * is nobody else it can become.  It runs everything of the user's: the
 * statement, the scope, and the searches of the target that the walk needs.
 *
 * Between two batches nothing is held: no transaction, no snapshot, no lock.
 * A change of the run's row reaches the worker through a flag in shared memory
 * and its latch, so that it wakes from any sleep.
 *
 * The worker never decides how its run ends.  It records an error and asks for
 * "failed"; the scheduler changes the status when no worker is left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "backfill.h"
#include "batch.h"
#include "closing.h"
#include "compat.h"
#include "failure.h"
#include "hook.h"
#include "probe.h"
#include "worker.h"

/* How often to look whether the writers of the target have ended. */
#define WRITERS_POLL_MS		100
/* How often to look for a suspect batch that another worker may give free. */
#define SUSPECT_POLL_MS		100
/* How often, and after what delay, to try again to read the run's row. */
#define RELOAD_TRIES		20
#define RELOAD_DELAY_MS		200
/* How often the probe is run. */
#define PROBE_MS			1000
/* How often a worker that is held looks whether it still is, if nobody tells it. */
#define HELD_POLL_MS		1000
/* A pause from which on nothing is kept reserved. */
#define LONG_PAUSE_MS		100

/* ---- transactions and errors ---- */

/*
 * Start a transaction of the worker's.  Leaves the process when the extension
 * is gone.  The isolation level and the like do not depend on what the owner's
 * defaults are.
 */
void
worker_begin(Worker *worker)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	XactDeferrable = false;
	if (!catalog_lock_extension())
	{
		AbortCurrentTransaction();
		proc_exit(0);
	}
}

/* Commit, and let statistics know.  Ends in the worker's loop context. */
void
worker_commit(Worker *worker)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->loop_context);
	debug_query_string = NULL;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Run the function, which starts and ends its own transactions.  Returns NULL,
 * or its error, in the loop context, with everything rolled back.
 */
ErrorData *
worker_try(Worker *worker, void (*function) (Worker *))
{
	ErrorData  *volatile error = NULL;

	MemoryContextSwitchTo(worker->loop_context);
	worker->in_hook = false;
	PG_TRY();
	{
		function(worker);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(worker->loop_context);
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
	MemoryContextSwitchTo(worker->loop_context);
	return error;
}

/*
 * The same for our own bookkeeping, which must not fall to a cancellation that
 * was meant for a batch.
 */
ErrorData *
worker_try_uncancelled(Worker *worker, void (*function) (Worker *))
{
	ErrorData  *error;

	HOLD_CANCEL_INTERRUPTS();
	error = worker_try(worker, function);

	/* an error has released it */
	if (error == NULL)
		RESUME_CANCEL_INTERRUPTS();
	QueryCancelPending = false;
	return error;
}

/*
 * Between batches a cancellation has nothing to cancel.  A worker that never
 * sleeps must look for itself whether there still is a postmaster.
 */
static void
check_interrupts(void)
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
worker_nap(int64 ms)
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

		check_interrupts();
		if (shared_worker_noticed())
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

/* ---- the run ---- */

static void
set_parameter(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_USERSET, PGC_S_SESSION);
}

/*
 * Before anything that reads or writes the target, or runs the user's code:
 * the path of the definition, and the timeout that keeps us from standing in
 * the way.  Our own bookkeeping has neither.  Returns the nest level that
 * AtEOXact_GUC(false, ...) is to end.
 */
int
worker_enter_user_code(Worker *worker)
{
	int			nest = NewGUCNestLevel();

	(void) set_config_option("search_path", worker->run->search_path, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("lock_timeout", worker->lock_timeout, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

/*
 * The same for the whole session, on or off: for statements that end
 * transactions themselves.
 */
void
worker_user_parameters(Worker *worker, bool on)
{
	set_parameter("search_path", on ? worker->run->search_path : "pg_catalog, pg_temp");
	set_parameter("lock_timeout", on ? worker->lock_timeout : "0");
}

/* Put the settings of the run into force. */
static void
apply_settings(Worker *worker)
{
	settings_resolve(worker->run->settings, &worker->settings);
	set_parameter("synchronous_commit", settings_synchronous_commit(&worker->settings));
	worker->lock_timeout = psprintf(INT64_FORMAT, worker->settings.lock_timeout);
}

/* Read the row of the run, and its hooks. */
static void
load_run(Worker *worker)
{
	CatalogSession session;
	RunInfo    *run;
	MemoryContext old;

	worker_begin(worker);
	MemoryContextReset(worker->run_context);
	worker->run = NULL;
	worker->hooks = NIL;
	old = MemoryContextSwitchTo(worker->run_context);
	catalog_begin(&session);
	run = catalog_load_run(&session, worker->slot.run_id, false);
	worker->hooks = run ? catalog_load_hooks(&session, run->name, run->owner) : NIL;

	/* what it waited for is over when one of its workers works */
	if (run && run->status == RUN_RUNNING && run->end_key && run->wait_reason)
		catalog_set_wait_reason(&session, run->id, NULL);
	catalog_end(&session);
	MemoryContextSwitchTo(worker->run_context);
	worker->run = run;
	if (run)
		apply_settings(worker);
	MemoryContextSwitchTo(old);
	worker_commit(worker);
}

/* Whether the worker is one too many for the settings, or has to stop. */
static bool
must_leave(Worker *worker)
{
	return worker->run == NULL || worker->run->status != RUN_RUNNING ||
		worker->run->is_requested || !worker->run->is_local ||
		worker->run->owner != worker->slot.owner ||
		shared_worker_rank() >= worker->pace.workers;
}

/*
 * Read the run again.  Returns false when the worker has to leave.  Raises an
 * error when the row cannot be read.
 */
bool
worker_reload(Worker *worker)
{
	ErrorData  *error;
	int			tries = 0;

	shared_worker_take_notice();
	pace_get(&worker->pace);
	while ((error = worker_try_uncancelled(worker, load_run)) != NULL)
	{
		if (!failure_is_retryable(error) || ++tries >= RELOAD_TRIES)
			ReThrowError(error);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 RELOAD_DELAY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		check_interrupts();
	}
	return !must_leave(worker);
}

/* A walk without rows has ends without columns. */
static bool
key_is_empty(ArrayType *key)
{
	return ArrayGetNItems(ARR_NDIM(key), ARR_DIMS(key)) == 0;
}

/* Forget what prepare made. */
static void
unprepare(Worker *worker)
{
	if (!worker->prepared)
		return;
	worker->prepared = false;
	for (int inclusive = 0; inclusive < 2; inclusive++)
		statement_drop(worker->statements[inclusive]);
	bounds_drop(worker->bounds);
	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		if (worker->rows_in_scope[inclusive])
			statement_drop(worker->rows_in_scope[inclusive]);
		worker->rows_in_scope[inclusive] = NULL;
	}
	MemoryContextReset(worker->walk_context);
}

/*
 * Parse and analyse what the run does, and read the last key of the walk if it
 * is known.  Done again when the target was renamed.
 */
void
worker_prepare(Worker *worker)
{
	RunInfo    *run = worker->run;
	RunFacts	facts;
	int			nest;

	unprepare(worker);
	worker_begin(worker);
	MemoryContextSwitchTo(worker->walk_context);
	nest = worker_enter_user_code(worker);
	worker->walk = walk_open(run->target, run->key,
							 worker->settings.direction == WALK_DESCENDING);
	if (run->key_types)
		walk_check_key_types(worker->walk, run->key_types);
	facts.id = run->id;
	facts.name = run->name;
	facts.started_at = run->started_at;
	facts.since = run->since;
	worker->parameters = parameters_load(run->parameter_types, run->parameters, &facts);
	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		worker->statements[inclusive] = statement_prepare(run->statement, worker->walk,
														  run->scope, worker->parameters,
														  inclusive != 0);
		statement_keep(worker->statements[inclusive]);
	}
	AtEOXact_GUC(false, nest);
	worker->bounds = bounds_prepare(worker->walk);
	if (run->end_key && !key_is_empty(run->end_key))
		walk_key_from_text(worker->walk, run->end_key, worker->last_key);
	worker_commit(worker);
	worker->prepared = true;
}

/* ---- the ends of the walk ---- */

/* The transactions that hold a lock for writing on the target or a child. */
static List *
find_writers(Worker *worker)
{
	List	   *writers = NIL;
	List	   *relations = find_all_inheritors(worker->run->target, NoLock, NULL);
	ListCell   *lc;

	foreach(lc, relations)
	{
		LOCKTAG		tag;
		VirtualTransactionId *vxids;
		int			n;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(lc));
		vxids = GetLockConflicts(&tag, ShareLock, &n);
		for (int i = 0; i < n; i++)
		{
			VirtualTransactionId *vxid;

			/* a vacuum writes no rows, and may take hours */
			if (compat_vxid_in_vacuum(vxids[i]))
				continue;
			vxid = palloc(sizeof(VirtualTransactionId));
			*vxid = vxids[i];
			writers = lappend(writers, vxid);
		}
	}
	return writers;
}

/* Take those that have ended out of the list. */
static List *
still_writing(List *all)
{
	ListCell   *lc;

	foreach(lc, all)
	{
		VirtualTransactionId *vxid = lfirst(lc);

		if (!VirtualXactLock(*vxid, false))
			continue;
		all = foreach_delete_current(all, lc);
		pfree(vxid);
	}
	return all;
}

static char *
writers_reason(List *writers)
{
	StringInfoData buf;
	int			shown = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "waits for %d transaction%s that wrote to the table when the run began",
					 list_length(writers), list_length(writers) == 1 ? "" : "s");
	foreach(lc, writers)
	{
		int			pid = compat_vxid_pid(*(VirtualTransactionId *) lfirst(lc));

		if (shown++ >= 5)
			break;
		appendStringInfoString(&buf, shown == 1 ? ": " : ", ");
		if (pid != 0)
			appendStringInfo(&buf, "process %d", pid);
		else
			appendStringInfoString(&buf, "a prepared transaction");
	}
	return buf.data;
}

static List *writers = NIL;
static bool writers_said = false;

/* One look at the writers, in a transaction of its own. */
static void
look_at_writers(Worker *worker)
{
	CatalogSession session;
	MemoryContext old;

	worker_begin(worker);
	old = MemoryContextSwitchTo(worker->context);
	writers = writers_said || writers != NIL ? still_writing(writers) :
		still_writing(find_writers(worker));
	MemoryContextSwitchTo(old);
	if (writers != NIL && !writers_said)
	{
		char	   *reason = writers_reason(writers);

		catalog_begin(&session);
		catalog_set_wait_reason(&session, worker->run->id, reason);
		catalog_end(&session);
		writers_said = true;
	}
	worker_commit(worker);
}

/*
 * Wait until every transaction that holds a lock for writing on the target
 * has ended: what they write is then visible, and covered.  Returns false if
 * the run is to stop meanwhile.
 */
static bool
wait_for_writers(Worker *worker)
{
	for (;;)
	{
		ErrorData  *error = worker_try(worker, look_at_writers);

		if (error)
			ReThrowError(error);
		if (writers == NIL)
			return true;
		shared_worker_state(WORKER_WAITING, 0, 0);
		if (!worker_nap(WRITERS_POLL_MS) && !worker_reload(worker))
			return false;
		MemoryContextReset(worker->loop_context);
	}
}

/* Find the first and the last key and the estimate of the rows between. */
static void
find_ends(Worker *worker)
{
	CatalogSession session;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	double		rows_total = 0;
	bool		found;
	ArrayType  *start_text;
	ArrayType  *end_text;
	ArrayType  *names;
	int			nest;
	Datum		elements[INDEX_MAX_KEYS];

	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	nest = worker_enter_user_code(worker);
	found = bounds_find_ends(worker->walk, &worker->settings, worker->run->scope,
							 worker->parameters, start, end, &rows_total);
	AtEOXact_GUC(false, nest);

	start_text = found ? walk_key_to_text(worker->walk, start) :
		construct_empty_array(TEXTOID);
	end_text = found ? walk_key_to_text(worker->walk, end) :
		construct_empty_array(TEXTOID);
	for (int i = 0; i < worker->walk->nkeys; i++)
		elements[i] = CStringGetTextDatum(worker->walk->columns[i].name);
	names = construct_array(elements, worker->walk->nkeys, TEXTOID, -1, false,
							TYPALIGN_INT);
	catalog_begin(&session);
	catalog_set_ends(&session, worker->run->id, names,
					 walk_key_types(worker->walk), start_text, end_text, rows_total);
	catalog_end(&session);
	worker_commit(worker);
}

/* ---- the process ---- */

static void
initialize_session(Worker *worker)
{
	/* our own SQL is fully qualified; the user's has its own path */
	set_parameter("search_path", "pg_catalog, pg_temp");
	set_parameter("statement_timeout", "0");
	set_parameter("lock_timeout", "0");
	set_parameter("idle_in_transaction_session_timeout", "0");
	if (COMPAT_HAS_TRANSACTION_TIMEOUT)
		set_parameter("transaction_timeout", "0");
	worker->userid = GetUserId();
}

static void
name_session(Worker *worker)
{
	char	   *name = psprintf("backfill run " INT64_FORMAT " %s",
								worker->run->id, worker->run->name);
	int			length = pg_mbcliplen(name, strlen(name), NAMEDATALEN - 1);

	name[length] = '\0';
	set_parameter("application_name", name);
}

/*
 * Whether the worker is there, alone, to carry out what was requested of the
 * run, because something of the owner's has to run with it.
 */
static bool
is_to_carry_out(Worker *worker)
{
	RunInfo    *run = worker->run;

	return run->is_requested && run->is_local && run->owner == worker->slot.owner &&
		shared_run_workers(MyDatabaseId, run->id, NULL) == 1 &&
		(run->requested == RUN_COMPLETED ||
		 hook_wanted(worker, "run", status_name(run->requested)));
}

/* Prepare, and find the ends if nobody has.  Leaves when there is no work. */
static void
set_up(Worker *worker)
{
	bool		goes_on = worker_reload(worker);

	if (worker->run == NULL)
		proc_exit(0);
	name_session(worker);
	if (is_to_carry_out(worker))
		closing_carry_out(worker);
	if (!goes_on && (!closing_begin_run(worker) || !worker_reload(worker)))
		proc_exit(0);
	failure_insist(worker, worker_prepare);
	if (worker->run->end_key == NULL)
	{
		if (!wait_for_writers(worker))
			proc_exit(0);
		shared_worker_state(WORKER_PREPARING, 0, 0);
		failure_insist(worker, find_ends);
		shared_wake_database(MyDatabaseId);
		if (!worker_reload(worker))
			proc_exit(0);
		failure_insist(worker, worker_prepare);
	}
	shared_worker_ready();
}

/* Wait until the time, or until the run or its pace has changed. */
static void
throttle_until(Worker *worker, TimestampTz until)
{
	int64		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

	shared_worker_state(WORKER_THROTTLED, worker->batch ? worker->batch->number : 0,
						worker->batch ? worker->batch->attempt : 0);

	/* rounded down, it would be too early */
	if (!worker_nap(ms + 1) && !worker_reload(worker))
		failure_leave(worker, NULL);
}

/*
 * Whether no batch may begin, by the word of the scheduler or the probe, which is
 * run if it is time for that; *look_at is when to look again.
 */
static bool
is_held(Worker *worker, TimestampTz *look_at)
{
	*look_at = DT_NOEND;
	if (worker->settings.probe && pace_take_probe(PROBE_MS, look_at))
		probe_run(worker);
	if (!pace_is_held())
		return false;
	*look_at = Min(*look_at, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HELD_POLL_MS));
	return true;
}

/*
 * Wait until the batch in hand may begin: nothing holds the run, and its rows are
 * within the limits.  Returns false if it is no longer in hand, because only a
 * part of its rows is, or because the wait may be long.
 */
static bool
be_admitted(Worker *worker)
{
	for (;;)
	{
		TimestampTz look_at;
		int64		fitting = 0;
		bool		held = is_held(worker, &look_at);

		if (!held)
		{
			if (pace_reserve(worker->batch->rows_in_scope, worker->indivisible,
							 &fitting, &look_at))
				return true;
			if (fitting > 0)
			{
				failure_divide_fitting(worker, fitting);
				return false;
			}
		}
		pace_release();
		if (held || worker->in_quarantine)
			failure_give_back(worker);
		throttle_until(worker, look_at);
		if (worker->batch == NULL)
			return false;
		MemoryContextReset(worker->loop_context);
	}
}

/* Have a batch in hand, or leave when there is none to be had. */
static void
claim_or_leave(Worker *worker)
{
	while (worker->batch == NULL)
	{
		TimestampTz look_at;
		ErrorData  *error;

		if (is_held(worker, &look_at))
		{
			throttle_until(worker, look_at);
			MemoryContextReset(worker->loop_context);
			continue;
		}
		error = worker_try(worker, batch_claim);
		if (error)
		{
			if (failure_prepare_again(worker, error))
				continue;
			if (!failure_is_retryable(error) ||
				++worker->tries >= worker->settings.max_attempts)
				failure_fail_run(worker, error);
			if (!worker_nap(failure_retry_delay(worker, worker->tries)) &&
				!worker_reload(worker))
				failure_leave(worker, NULL);
		}
		else if (worker->batch == NULL && worker->throttled_until != 0)
		{
			throttle_until(worker, worker->throttled_until);
			MemoryContextReset(worker->loop_context);
		}
		else if (worker->batch == NULL && worker->next_due != 0)
		{
			/* what is left waits to be tried again; one is enough to wait for it */
			if (shared_worker_rank() > 0)
				failure_leave(worker, NULL);
			failure_wait_for_retry(worker);
			MemoryContextReset(worker->loop_context);
		}
		else if (worker->batch == NULL)
		{
			if (!worker->pending_elsewhere)
				failure_leave(worker, NULL);
			shared_worker_state(WORKER_WAITING, 0, 0);
			if (!worker_nap(SUSPECT_POLL_MS) && !worker_reload(worker))
				failure_leave(worker, NULL);
			MemoryContextReset(worker->loop_context);
		}
	}
}

/* The pause after a batch, in milliseconds. */
static int64
pause_after(Worker *worker)
{
	const Pace *pace = &worker->pace;
	double		duration = (worker->result.finished_at - worker->result.started_at) / 1000.0;
	double		pause = Max(pace->sleep, duration * pace->nice / 1000000);

	/* slowed to a share of the speed that it would have otherwise */
	if (pace->duty > 0)
		pause = (duration + pause) / pace->duty - duration;
	return (int64) pause;
}

static void
sleep_between(Worker *worker)
{
	TimestampTz began = GetCurrentTimestamp();
	int64		pause = pause_after(worker);

	if (pause == 0)
		return;

	/* meanwhile others may use what the next batch has reserved */
	if (pause >= LONG_PAUSE_MS)
		pace_release();
	shared_worker_state(WORKER_SLEEPING, worker->batch ? worker->batch->number : 0,
						worker->batch ? worker->batch->attempt : 0);
	for (;;)
	{
		int64		slept = (GetCurrentTimestamp() - began) / 1000;

		if (slept >= pause || worker_nap(pause - slept))
			return;
		if (!worker_reload(worker))
			failure_leave(worker, NULL);
		pause = pause_after(worker);
	}
}

void
backfill_worker_main(Datum arg)
{
	Worker	   *worker;
	int64		token;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	worker = MemoryContextAllocZero(TopMemoryContext, sizeof(Worker));
	memcpy(&token, MyBgworkerEntry->bgw_extra, sizeof(token));
	if (!shared_worker_attach(DatumGetInt32(arg), token, &worker->slot))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(worker->slot.database, worker->slot.owner,
											  COMPAT_CONNECT_AS_OWNER);
	initialize_session(worker);

	worker->context = AllocSetContextCreate(TopMemoryContext, "backfill worker",
											ALLOCSET_DEFAULT_SIZES);
	worker->loop_context = AllocSetContextCreate(worker->context, "backfill loop",
												 ALLOCSET_DEFAULT_SIZES);
	worker->walk_context = AllocSetContextCreate(worker->context, "backfill walk",
												 ALLOCSET_DEFAULT_SIZES);
	worker->run_context = AllocSetContextCreate(worker->context, "backfill run",
												ALLOCSET_SMALL_SIZES);
	worker->batch_context = AllocSetContextCreate(worker->context, "backfill batch",
												  ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(worker->loop_context);

	set_up(worker);
	if (key_is_empty(worker->run->end_key))
		proc_exit(0);

	for (;;)
	{
		ErrorData  *error;
		bool		retried;

		check_interrupts();
		if (shared_worker_noticed() && !worker_reload(worker))
			failure_leave(worker, NULL);
		MemoryContextReset(worker->loop_context);
		claim_or_leave(worker);
		if (!be_admitted(worker))
			continue;
		retried = worker->batch->tries > 0;
		error = !worker->batch->announced && hook_wanted(worker, "batch", "running") ?
			hook_announce_batch(worker) : NULL;
		if (error == NULL)
			error = worker_try(worker, batch_run);
		if (error)
		{
			failure_handle(worker, error);
			continue;
		}
		worker->prepared_again = 0;
		worker->in_trouble = worker->in_trouble && retried;
		if (worker->pinned != 0)
			batch_note_pinned(worker);
		sleep_between(worker);
	}
}
