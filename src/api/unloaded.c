/*-------------------------------------------------------------------------
 *
 * unloaded.c
 *	  Claims on a server where the library is not preloaded.
 *
 * There is no launcher, no scheduler, no worker, and no shared memory.  A run without a
 * statement can be worked on all the same: whoever claims does what is due first, in his own
 * session and transaction.  He brings the run to "running", finds the ends of its walk, takes
 * back what leases that ran out were about, cuts ranges, and completes the run when nothing is left.
 *
 * Three things keep that right.
 *
 * The row of the run is locked while he does so, to the end of his transaction: claims go
 * one after the other.  Each sees what those before it have committed, for which the
 * transaction must be READ COMMITTED.  To complete a batch takes the row of the batch only.
 *
 * Code of the owner's, such as a function that the scope calls, runs in a session that was
 * authenticated as the owner and nowhere else: whoever claims has to be the owner.
 *
 * A run that has what nobody looks after here, such as a rate limit, is refused: at the start, and
 * at each claim, since it may have been started on a server that had the library.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/slice.h"
#include "api/unloaded.h"
#include "base/compat.h"
#include "base/rowerror.h"
#include "base/writers.h"
#include "definition/definition.h"
#include "run/access.h"
#include "run/lapse.h"
#include "run/transition.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "shared/segment.h"
#include "store/batch.h"
#include "store/copy.h"
#include "store/event.h"
#include "store/rowlease.h"
#include "store/span.h"
#include "store/status.h"
#include "walk/key.h"

/* When to ask again, in milliseconds. */
#define ASK_LATER_MS		1000
#define ASK_SOON_MS			100
#define ASK_AT_ONCE_MS		10
/* So many batches that have ended are added up in the row of the run. */
#define ROLLUP_BATCHES		200

/* ---- what is not to be had ---- */

/* What the run has that nobody looks after here, as a list, or NULL. */
static char *
find_obstacles(StoreSession *session, const RunInfo *run)
{
	RunSettings settings;
	StringInfoData buf;

	settings_resolve(run->settings, &settings);
	{
		const struct
		{
			bool		is_there;
			const char *name;
		}			obstacles[] = {
			{run->statement != NULL, "a statement"},
			{transition_may_begin_again(run), "a walk by pages"},
			{store_stage_is_left(run, STAGE_PREPARE), "\"prepare\""},
			{store_stage_is_left(run, STAGE_FINISH), "\"finish\""},
			{run->has_followers, "\"followers\""},
			{run->after != NULL && run->end_key == NULL, "runs that it starts after"},
			{run->start_at > GetCurrentTimestamp(), "a time to start at"},
			{store_load_hooks(session, run->name, run->owner) != NIL, "hooks"},
			{settings.ledger, "\"ledger\""},
			{settings.share_by != NULL, "\"share_by\""},
			{settings.on_error == ON_ERROR_SKIP, "\"on_error\": \"skip\""},
			{settings.rate_limit.amount > 0, "\"rate_limit\""},
			{settings.wal_rate_limit.amount > 0, "\"wal_rate_limit\""},
			{settings.windows != NIL, "\"windows\""},
			{settings.max_batches > 0, "\"max_batches\""},
			{settings.max_duration > 0, "\"max_duration\""},
			{settings.max_replica_lag > 0, "\"max_replica_lag\""},
			{settings.max_replica_lag_bytes > 0, "\"max_replica_lag_bytes\""},
			{settings.max_slot_retained > 0, "\"max_slot_retained\""},
			{settings.max_archive_backlog > 0, "\"max_archive_backlog\""},
			{settings.max_growth != 0, "\"max_growth\""},
			{settings.max_dead_rows > 0, "\"max_dead_rows\""},
			{settings.max_active_sessions > 0, "\"max_active_sessions\""},
			{settings.max_xmin_age > 0, "\"max_xmin_age\""},
			{settings.pause_for_maintenance, "\"pause_for_maintenance\""},
			{settings.probe != NULL, "\"probe\""}
		};

		initStringInfo(&buf);
		for (int i = 0; i < lengthof(obstacles); i++)
		{
			if (obstacles[i].is_there)
				appendStringInfo(&buf, "%s%s", buf.len == 0 ? "" : ", ", obstacles[i].name);
		}
	}
	return buf.len == 0 ? NULL : buf.data;
}

compat_noreturn static void
refuse(const char *obstacles)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("backfill must be loaded via \"shared_preload_libraries\""),
			 errdetail("Without it clients can work on a run all by themselves, but not on one that has %s.",
					   obstacles),
			 errhint("Add 'backfill' to \"shared_preload_libraries\" and restart the server.")));
}

/* Raises an error if a run of the definition, whatever it is given, is none for clients alone. */
void
unloaded_check_definition(const char *name)
{
	StoreSession store;
	DefinitionInfo *def;

	store_begin(&store);
	def = definition_get(&store, name);
	store_end(&store);
	definition_check_role(def->owner, "definition", quote_identifier(name));
	if (def->statement)
		refuse("a statement");
}

/* Raises an error unless clients can work on the run all by themselves. */
void
unloaded_check(StoreSession *session, const RunInfo *run)
{
	char	   *obstacles = find_obstacles(session, run);

	if (obstacles)
		refuse(obstacles);
}

/* ---- the run fails ---- */

/* Why: what the caller reads when the store is closed. */
static void
say(Unloaded *turn, const char *reason)
{
	turn->reason = MemoryContextStrdup(turn->context, reason);
}

static void
turn_ended(Unloaded *turn)
{
	const char *status = status_name(turn->run->status);

	turn->done = true;
	say(turn, turn->run->error ? psprintf("%s: %s", status, turn->run->error) : status);
}

/* The run, which is locked, fails with the error. */
static void
fail_run(StoreSession *session, RunInfo *run, const RunError *error, const BatchInfo *batch)
{
	EventInfo	event = {
		.kind = "error",
		.batch = batch,
		.sqlstate = error->sqlstate,
		.reason = error->message
	};

	store_set_error(session, run->id, error);
	store_add_event(session, run, &event);
	run->error = MemoryContextStrdup(session->caller, error->message);
	run->sqlstate = MemoryContextStrdup(session->caller, error->sqlstate);
	transition_make(session, run, RUN_FAILED, NULL, error->message);
}

/*
 * The owner's code has raised an error.  What may go away by itself is the client's, who asks
 * again; anything else fails the run.
 */
static void
fail_turn(Unloaded *turn, ErrorData *error)
{
	StoreSession store;
	RunError	run_error = {
		.sqlstate = unpack_sql_state(error->sqlerrcode),
		.message = error->message,
		.detail = error->detail,
		.hint = error->hint,
		.context = error->context
	};

	if (rowerror_is_retryable(error))
		ReThrowError(error);
	store_begin(&store);
	fail_run(&store, turn->run, &run_error, NULL);
	store_end(&store);
	turn_ended(turn);
}

/* ---- the beginning ---- */

static void
turn_later(Unloaded *turn, int64 ms, const char *reason)
{
	turn->ms = ms;
	say(turn, reason);
}

/* The run is as somebody has asked, while workers still were there to make room for that. */
static void
carry_out(StoreSession *session, RunInfo *run)
{
	if (run->requested == RUN_COMPLETED)
	{
		/* it will come to that again */
		store_cancel_request(session, run->id);
		run->is_requested = false;
		return;
	}
	if (run->immediate)
		lapse_rows(session, run, true);
	transition_carry_out(session, run, run->requested);
}

/*
 * Bring the run, which is locked, as near to running as it may come.  Returns whether there
 * are batches to be looked for.  "waited" is whether those who wrote when it began have ended.
 */
static bool
advance(StoreSession *session, Unloaded *turn, bool waited, const char *role, const char *client)
{
	RunInfo    *run = turn->run;

	if (run->is_requested)
		carry_out(session, run);
	if (status_has_ended(run->status))
	{
		turn_ended(turn);
		return false;
	}
	if (run->status == RUN_PAUSED)
	{
		turn_later(turn, ASK_LATER_MS, run->wait_reason ? psprintf("paused: %s", run->wait_reason) : "paused");
		return false;
	}
	if (run->status == RUN_PENDING)
		transition_make(session, run, RUN_ENQUEUED, NULL, NULL);
	if (run->status == RUN_ENQUEUED)
		transition_make(session, run, RUN_RUNNING, role, psprintf("backfill_claim of client \"%s\"", client));

	/* that is to be committed before anybody looks who writes: what is written later is not covered */
	if (run->end_key == NULL && !waited)
	{
		turn_later(turn, ASK_AT_ONCE_MS, "the run begins");
		return false;
	}
	return true;
}

/*
 * Whether the run is running, and its ends are to be found: then those have ended, now, who were
 * writing to the target when it began.  Nothing is locked meanwhile.
 */
static bool
wait_for_writers(int64 run_id, Oid caller)
{
	StoreSession store;
	RunInfo    *run;

	store_begin(&store);
	run = access_find_run(&store, run_id, caller, false);
	store_end(&store);
	if (run->status != RUN_RUNNING || run->is_requested || run->end_key != NULL)
		return false;
	writers_wait(writers_find(run->target));
	return true;
}

/* What the run has to look at, of what has a time; as engine/ends.c does. */
static void
open_window(RunInfo *run)
{
	RunSettings settings;
	StoreSession store;

	settings_resolve(run->settings, &settings);
	store_begin(&store);
	span_open_run(&store, run, settings.initial_value, settings.lookback,
				  Min(writers_watermark(), settings.end_value), &run->since, &run->until);
	store_end(&store);
}

/* Find the ends of the walk, and how conditions read, unless that is known.  Returns false if the run fails. */
static bool
find_ends(Unloaded *turn)
{
	RunInfo    *run = turn->run;
	Slice		slice = {.run = run};
	StoreSession store;
	ErrorData  *error;

	if (run->end_key && run->conditions)
		return true;
	if (run->end_key == NULL)
		open_window(run);
	error = slice_look(&slice, slice_find_ends);
	if (error)
	{
		fail_turn(turn, error);
		return false;
	}
	store_begin(&store);
	if (run->end_key == NULL)
	{
		store_set_ends(&store, run->id, slice.key_names, slice.key_types, slice.ends.start,
					   slice.ends.end, slice.ends.rows);
		run->key_types = slice.key_types;
		run->start_key = slice.ends.start;
		run->end_key = slice.ends.end;
	}
	store_set_conditions(&store, run->id, slice.conditions);
	run->conditions = slice.conditions;
	store_end(&store);
	return true;
}

/* ---- the batches ---- */

/* How it stands with the batches, once what is over was taken back. */
static void
review(StoreSession *session, const RunInfo *run, RowLeases *leases)
{
	rowlease_look(session, run->id, leases);
	if (leases->undated > 0)
		rowlease_date(session, run->id);
	if (leases->over > 0)
		lapse_rows(session, run, false);
	if (leases->ended >= ROLLUP_BATCHES)
		store_rollup(session, run->id);
	if (leases->over > 0)
		rowlease_look(session, run->id, leases);
}

/* Where the next range starts; returns false at the end of the walk. */
static bool
find_start(StoreSession *session, const RunInfo *run, BatchInfo *batch)
{
	if (key_is_empty(run->end_key))
		return false;
	batch->start_key = run->start_key;
	return !store_find_start(session, run->id, run->pass_after, run->rollup_number, batch) ||
		!key_is_last(batch->start_key, run->end_key);
}

/*
 * Cut ranges, until so many batches are missing no more.  Returns false if the run fails; whether
 * a range is left goes to *is_left.
 */
static bool
cut(Unloaded *turn, Slice *slice, bool *is_left)
{
	StoreSession store;
	ErrorData  *error = slice_look(slice, slice_cut);
	ListCell   *lc;

	if (error)
	{
		fail_turn(turn, error);
		return false;
	}
	store_begin(&store);
	foreach(lc, slice->batches)
		store_stock_batch(&store, turn->run->id, lfirst(lc));
	store_end(&store);
	*is_left = !slice->ended;
	return true;
}

/* The pending batches that are due, as many as are wanted. */
static List *
list_pending(const RunInfo *run, int wanted)
{
	StoreSession store;
	List	   *batches;

	store_begin(&store);
	batches = store_stocked_batches(&store, run->id, GetCurrentTimestamp(), wanted);
	store_end(&store);
	return batches;
}

/* Count what is left, if the settings ask for it.  Returns false if that fails the run. */
static bool
verify(Unloaded *turn, const RunSettings *settings)
{
	RunInfo    *run = turn->run;
	Slice		slice = {.run = run};
	EventInfo	event = {.kind = "verify"};
	RunError	failure = {
		.sqlstate = unpack_sql_state(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION),
		.detail = "They were counted by the setting \"verify\" when every batch was done.",
		.hint = "Look at the rows that are left, then call backfill_resume, which counts again."
	};
	StoreSession store;
	ErrorData  *error;

	if (!settings->verify || run->verified)
		return true;
	error = slice_look(&slice, slice_count);
	if (error)
	{
		fail_turn(turn, error);
		return false;
	}
	event.reason = psprintf("rows remaining: " INT64_FORMAT, slice.remaining);
	store_begin(&store);
	store_set_remaining(&store, run->id, slice.remaining, slice.remaining == 0);
	store_add_event(&store, run, &event);
	if (slice.remaining > 0)
	{
		failure.message = psprintf(INT64_FORMAT " row%s still in scope", slice.remaining,
								   slice.remaining == 1 ? " is" : "s are");
		fail_run(&store, run, &failure, NULL);
	}
	store_end(&store);
	if (slice.remaining > 0)
		turn_ended(turn);
	return slice.remaining == 0;
}

/* Every batch is done. */
static void
complete(Unloaded *turn, const RunSettings *settings)
{
	StoreSession store;

	if (!verify(turn, settings))
		return;
	store_begin(&store);
	store_rollup(&store, turn->run->id);
	transition_make(&store, turn->run, RUN_COMPLETED, NULL, NULL);
	store_end(&store);
	turn_ended(turn);
}

/* Find batches for the caller in a run that is running and has its ends. */
static void
find_batches(Unloaded *turn, int wanted)
{
	RunInfo    *run = turn->run;
	RunSettings settings;
	RowLeases	leases;
	Slice		slice = {.run = run};
	StoreSession store;
	bool		is_left;

	settings_resolve(run->settings, &settings);
	store_begin(&store);
	review(&store, run, &leases);
	is_left = find_start(&store, run, &slice.last);
	store_end(&store);
	if (settings.max_claims > 0)
		wanted = Min(wanted, settings.max_claims - leases.out);
	if (wanted <= 0)
	{
		turn_later(turn, ASK_LATER_MS, "as many batches are out as the setting \"max_claims\" allows");
		return;
	}
	turn->batches = list_pending(run, wanted);
	slice.wanted = wanted - list_length(turn->batches);
	if (slice.wanted > 0 && is_left)
	{
		if (!cut(turn, &slice, &is_left))
			return;
		turn->batches = list_pending(run, wanted);
	}
	if (turn->batches != NIL)
		return;
	if (is_left)
		turn_later(turn, ASK_AT_ONCE_MS, "ranges are being cut");
	else if (leases.open == 0)
		complete(turn, &settings);
	else if (leases.due != DT_NOEND)
		turn_later(turn, Min(Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), leases.due), ASK_AT_ONCE_MS),
							 ASK_LATER_MS),
				   "a batch waits to be tried again");
	else
		turn_later(turn, ASK_SOON_MS, "nothing is pending, but others are at work");
}

/* ---- what is called ---- */

/*
 * The caller, who owns the run and whose session was authenticated as he, wants so many batches:
 * do what is due, and find them.
 */
void
unloaded_look(int64 run_id, int batches, const char *client, Unloaded *turn)
{
	Oid			caller = GetUserId();
	bool		waited;
	bool		goes_on;
	StoreSession store;

	memset(turn, 0, sizeof(Unloaded));
	turn->context = CurrentMemoryContext;
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot claim in a transaction that is not READ COMMITTED"),
				 errdetail("Without backfill in \"shared_preload_libraries\" a claim has to see what others have committed meanwhile."),
				 errhint("Claim in a transaction of its own.")));
	waited = wait_for_writers(run_id, caller);
	store_begin(&store);
	turn->run = access_find_run(&store, run_id, caller, true);
	if (!status_has_ended(turn->run->status))
		unloaded_check(&store, turn->run);
	goes_on = advance(&store, turn, waited, GetUserNameFromId(caller, false), client);
	store_end(&store);
	if (goes_on && find_ends(turn))
		find_batches(turn, batches);
}

/* Whether the error that the client reports may go away by itself. */
static bool
may_go_away(const LeaseReport *report)
{
	const char *state = report->sqlstate;
	ErrorData	error = {.elevel = ERROR};

	if (report->retryable >= 0 || state == NULL)
		return report->retryable == 1;
	error.sqlerrcode = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	return rowerror_is_retryable(&error);
}

/*
 * The client has failed with the batch: it is tried again later, or fails the run.  Returns
 * false if it is not the client's.
 */
bool
unloaded_fail(const LeaseKey *key, const LeaseToken *token, Oid role, const LeaseReport *report)
{
	BatchInfo	batch = {.number = key->number, .part = key->part};
	RunSettings settings;
	RunError	error = {
		.sqlstate = report->sqlstate ? report->sqlstate : unpack_sql_state(ERRCODE_RAISE_EXCEPTION),
		.message = report->message ? report->message : "a client has failed"
	};
	StoreSession store;
	RunInfo    *run;
	TimestampTz retry_at = DT_NOBEGIN;
	bool		again;
	bool		held;

	store_begin(&store);

	/* in the order of a claim */
	run = store_load_run(&store, key->run_id, true);
	held = run && rowlease_hold(&store, key->run_id, key->number, key->part, token, role, &batch.tries);
	if (!held)
	{
		store_end(&store);
		return false;
	}
	settings_resolve(run->settings, &settings);
	batch.tries++;
	again = may_go_away(report) && batch.tries < settings.max_attempts;
	if (again)
		retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											   rowerror_retry_delay(settings.retry_delay, batch.tries,
																	STORE_RETRY_MAX_MS));
	rowlease_let_go(&store, key->run_id, &batch, again ? "pending" : "failed", retry_at, error.message);
	if (!again && run->status == RUN_RUNNING)
		fail_run(&store, run, &error, &batch);
	store_end(&store);
	return true;
}
