/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that runs batches of one run.
 *
 * A worker is started by the scheduler for one run and lives until there is
 * nothing to claim, the run is to stop, or the run has failed.  Its session is
 * authenticated as the owner of the run, and runs everything of the user's: the
 * statement, the scope, and the searches of the target that the walk needs.
 *
 * Here is the loop: a batch comes into hand, waits until it may begin, runs, and
 * is followed by a pause.  What happens to a batch stands in engine/.
 *
 * The worker never decides how its run ends.  It records an error and asks for
 * "failed"; the scheduler changes the status when no worker is left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/rowerror.h"
#include "engine/batch.h"
#include "engine/change.h"
#include "engine/claim.h"
#include "engine/cut.h"
#include "engine/ends.h"
#include "engine/failure.h"
#include "engine/fetch.h"
#include "engine/hook.h"
#include "engine/probe.h"
#include "engine/session.h"
#include "engine/streams.h"
#include "process/worker.h"
#include "shared/allowance.h"
#include "shared/pace.h"
#include "shared/segment.h"
#include "shared/share.h"
#include "shared/wake.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/copy.h"
#include "store/run.h"
#include "store/status.h"
#include "walk/key.h"

/* How often the probe is run. */
#define PROBE_MS			1000
/* How often a worker that is held looks whether it still is, if nobody tells it. */
#define HELD_POLL_MS		1000
/* How often to try to clear up after the last batches, and how long to wait before it is tried again. */
#define LAST_TRIES			5
#define LAST_TRY_MS			10
/* A pause from which on nothing is kept reserved. */
#define LONG_PAUSE_MS		100
/*
 * While sessions wait for what batches use, too, the pause is so many times a batch, up to so many
 * milliseconds; and in proportion to their number, up to so many times, from that one on.
 */
#define CROWDED_PAUSE		3
#define CROWDED_PAUSE_MS	50
#define CROWDED_MOST_PAUSE	9
#define CROWDED_FEW			0.5
/* How soon to look again for a batch that another worker is to cut. */
#define SOON_MS				20
/* How soon to look again for a page, when others fetch and apply; and into yet another stream. */
#define PAGE_POLL_MS		50
#define SWITCH_MS			20

/* ---- the beginning ---- */

/* Everybody sees it: the number of the run, and not the name of its definition. */
static void
name_session(const RunInfo *run)
{
	SetConfigOption("application_name", psprintf("backfill run " INT64_FORMAT, run->id),
					PGC_USERSET, PGC_S_SESSION);
}

/*
 * Whether the worker is there, alone, to carry out what was requested of the
 * run, because something of the owner's has to run with it.
 */
static bool
is_to_carry_out(Session *session)
{
	RunInfo    *run = session->run;

	return run->is_requested && run->is_local && run->owner == session->slot.owner &&
		worker_slot_count(MyDatabaseId, run->id, NULL) == 1 &&
		(run->requested == RUN_COMPLETED ||
		 hook_wanted(session, "run", status_name(run->requested)));
}

/* ---- may it begin? ---- */

/* Show what the worker does, and with which batch. */
static void
show(const Worker *worker, WorkerState state)
{
	const BatchInfo *batch = worker->hand.batch;

	worker_slot_show(state, batch ? batch->number : 0, batch ? batch->attempt : 0);
}

/*
 * Sleep, at most so many milliseconds, and read the run again when it has changed.  Returns false
 * if it has.
 */
static bool
nap(Worker *worker, int64 ms)
{
	if (session_nap(ms))
		return true;
	if (!session_reload(&worker->session))
		failure_leave(worker, NULL);
	return false;
}

/* Wait until the time, or until the run or its pace has changed. */
static void
throttle_until(Worker *worker, TimestampTz until)
{
	int64		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

	show(worker, WORKER_THROTTLED);
	reclaim_some(&worker->session, &worker->reclaim, true);

	/* rounded down, it would be too early */
	(void) nap(worker, ms + 1);
}

/*
 * Whether no batch may begin, by the word of the scheduler or the probe, which is
 * run if it is time for that; *look_at is when to look again.
 */
static bool
is_held(Session *session, TimestampTz *look_at)
{
	*look_at = DT_NOEND;
	if (session->settings.probe && pace_take_probe(PROBE_MS, look_at))
		probe_run(session);
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
	Hand	   *hand = &worker->hand;

	for (;;)
	{
		TimestampTz look_at;
		int64		fitting = 0;
		bool		held = is_held(&worker->session, &look_at);

		if (!held)
		{
			if (allowance_reserve(fetch_units(worker), hand->indivisible,
								  &fitting, &look_at))
				return true;
			if (fitting > 0)
			{
				failure_divide_fitting(worker, fitting);
				return false;
			}
		}
		allowance_release();
		if (held || hand->in_quarantine)
			failure_give_back(worker);
		throttle_until(worker, look_at);
		if (hand->batch == NULL)
			return false;
		MemoryContextReset(worker->session.loop_context);
	}
}

/* ---- a batch, and a pause ---- */

/* Whether clients take part in the run. */
static bool
is_outside(const Session *session)
{
	return session->run->by_clients || session->settings.outside;
}

/* Whether ranges are cut ahead of those who take them. */
static bool
is_cut_ahead(const Session *session)
{
	return is_outside(session) || session->run->has_shares;
}

/*
 * Others have batches out, which may come back: cut what is to be cut, and wait a while; one
 * worker is enough for that.  Unless there is something soon, the claim that was refused has
 * said that there is no range any more: the stock may be full of batches that workers have
 * done, and then nothing is cut that would say so.
 */
static void
nap_for_others(Worker *worker, bool soon)
{
	bool		more = cut_serve(worker);

	if (!more && worker_slot_rank() > 0)
		failure_leave(worker, NULL);
	if (more && soon)
		session_doze(SOON_MS);
	else
		cut_wait(worker, !more || !soon);
	if (worker_slot_noticed() && !session_reload(&worker->session))
		failure_leave(worker, NULL);
}

/*
 * Whether to look at another stream, or at this one again, instead of waiting for the one in
 * hand.  Who has found nothing in two of them sleeps a while before he looks at a third; if he is
 * told of something meanwhile, that may be in the one that he has.
 */
static bool
switch_stream(Worker *worker)
{
	if (worker->session.stream == NULL)
		return false;
	if (++worker->refusals > 1 && !nap(worker, SWITCH_MS))
		return true;
	return streams_switch(worker);
}

/*
 * Pages come one at a time, and others are at it: go on with another stream, or be there when
 * they have made room.  Who brings pages says so.
 */
static void
wait_for_page(Worker *worker)
{
	if (switch_stream(worker))
		return;
	show(worker, WORKER_WAITING);
	(void) nap(worker, source_is_client(&worker->session.run->source) ? HELD_POLL_MS : PAGE_POLL_MS);
}

/*
 * There was no batch to be had of the stream in hand: go on with another one when it waits,
 * or is all claimed.
 */
static void
leave_stream(Worker *worker, const ClaimRefusal *refusal)
{
	if (refusal->next_due == 0 && !refusal->pending_elsewhere)
		streams_end(worker);
	else if (switch_stream(worker))
		return;
	else if (refusal->next_due != 0)
		failure_wait_for_retry(worker, refusal->next_due, refusal->reason);
	else
		failure_wait_for_suspect(worker);
}

/*
 * The walk is at its end, or no stream is to be had.  Clear up after the last batches, too; a query
 * that sees what they have replaced may be over in a moment.
 */
static void
leave_at_end(Worker *worker)
{
	for (int i = 0; i < LAST_TRIES && worker->reclaim.queue != NIL; i++)
	{
		if (i > 0 && !session_nap(LAST_TRY_MS))
			break;
		reclaim_some(&worker->session, &worker->reclaim, true);
	}
	failure_leave(worker, NULL);
}

/* There was no batch to be had: wait for one, or leave. */
static void
wait_or_leave(Worker *worker, const ClaimRefusal *refusal)
{
	if (refusal->busy)
		wait_for_page(worker);
	else if (refusal->throttled_until != 0)
		throttle_until(worker, refusal->throttled_until);
	else if (worker->session.stream)
		leave_stream(worker, refusal);
	else if (refusal->next_due != 0)
	{
		/* what is left waits to be tried again; one is enough to wait for it */
		if (worker_slot_rank() > 0)
			failure_leave(worker, NULL);
		failure_wait_for_retry(worker, refusal->next_due, refusal->reason);
	}
	else if (refusal->pending_elsewhere)
		failure_wait_for_suspect(worker);
	else if (refusal->pending_soon || (is_outside(&worker->session) && worker_slot_rank() == 0))
		nap_for_others(worker, refusal->pending_soon);
	else
		leave_at_end(worker);
	MemoryContextReset(worker->session.loop_context);
}

/* What a claim is about, for session_try. */
typedef struct Claiming
{
	Worker	   *worker;
	ClaimRefusal refusal;
} Claiming;

static void
try_claim(Session *session, void *arg)
{
	Claiming   *claiming = (Claiming *) arg;

	claim_batch(claiming->worker, &claiming->refusal);
}

/* Have a batch in hand, or leave when there is none to be had. */
static void
claim_or_leave(Worker *worker)
{
	Session    *session = &worker->session;
	int			tries = 0;

	while (worker->hand.batch == NULL)
	{
		Claiming	claiming = {worker};
		TimestampTz look_at;
		ErrorData  *error;

		if (is_held(session, &look_at))
		{
			throttle_until(worker, look_at);
			MemoryContextReset(session->loop_context);
			continue;
		}
		if (session->run->has_streams && session->stream_id == 0)
		{
			if (!streams_take(worker))
				leave_at_end(worker);
			continue;
		}
		error = session_try(session, try_claim, &claiming);
		if (error == NULL)
		{
			tries = 0;
			if (worker->hand.batch == NULL)
				wait_or_leave(worker, &claiming.refusal);
			else
			{
				worker->refusals = 0;
				failure_wait_is_over(worker);
			}
			continue;
		}
		if (failure_prepare_again(worker, error))
			continue;
		if (!rowerror_is_retryable(error) || ++tries >= session->settings.max_attempts)
			failure_fail_run(worker, error);
		(void) nap(worker, session_retry_delay(session, tries));
	}
}

/*
 * How many times as long as a batch the pause after it is, where so many sessions wait for what
 * batches use, too: the more, the longer.
 */
static double
crowded_pause(double crowd)
{
	return Min(Max(crowd / CROWDED_FEW, 1) * CROWDED_PAUSE, CROWDED_MOST_PAUSE);
}

/* The pause after a batch, in milliseconds. */
static int64
pause_after(const Worker *worker)
{
	const Pace *pace = &worker->session.pace;
	const BatchResult *result = &worker->hand.result;
	double		duration = (result->finished_at - result->started_at) / 1000.0;
	double		pause = Max(pace->sleep, duration * pace->nice / 1000000);
	double		crowd = pace_crowd();

	if (crowd > 0)
		pause = Max(pause, Min(duration * crowded_pause(crowd), CROWDED_PAUSE_MS));

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
		allowance_release();
	show(worker, WORKER_SLEEPING);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		int64		slept = (now - began) / 1000;

		/* the clock was set back: the pause begins anew */
		if (slept < 0)
		{
			began = now;
			slept = 0;
		}
		share_sleep_until(TimestampTzPlusMilliseconds(began, pause));
		if (slept >= pause || session_nap(pause - slept))
			return;
		if (!session_reload(&worker->session))
			failure_leave(worker, NULL);
		pause = pause_after(worker);
	}
}

/* One turn of the loop for a run that clients work on alone. */
static void
serve_clients(Worker *worker)
{
	Session    *session = &worker->session;
	TimestampTz look_at;
	bool		more;

	session_check_interrupts();
	if (worker_slot_noticed() && !session_reload(session))
		failure_leave(worker, NULL);
	MemoryContextReset(session->loop_context);
	if (work_is_outdated(session, &worker->work))
		failure_prepare(worker);

	/* the probe has its turn */
	(void) is_held(session, &look_at);
	more = cut_serve(worker);
	cut_wait(worker, !more);
}

/* One turn of the loop. */
static void
work_on(Worker *worker)
{
	Session    *session = &worker->session;
	Hand	   *hand = &worker->hand;
	ErrorData  *error;
	bool		retried;
	bool		is_fetch;

	session_check_interrupts();
	if (worker_slot_noticed() && !session_reload(session))
		failure_leave(worker, NULL);
	MemoryContextReset(session->loop_context);
	if (is_cut_ahead(session))
		(void) cut_serve(worker);
	claim_or_leave(worker);
	if (!be_admitted(worker))
		return;
	if (work_is_outdated(session, &worker->work))
		failure_prepare(worker);
	retried = hand->batch->tries > 0;
	is_fetch = fetch_is_due(worker);
	error = !is_fetch && !hand->batch->announced && hook_wanted(session, "batch", "running") ?
		claim_announce(worker) : NULL;
	if (error == NULL)
		error = session_try(session, is_fetch ? fetch_run : batch_run, worker);
	if (error)
	{
		failure_handle(worker, error);
		return;
	}
	hand->prepared_again = 0;
	hand->in_trouble = hand->in_trouble && retried;
	if (is_fetch)
		return;
	if (hand->pinned != 0)
		batch_note_pinned(worker);
	reclaim_some(session, &worker->reclaim, false);
	sleep_between(worker);
}

/*
 * Run what is to be run before the first batch, and was not yet.  It waits for its
 * hour as batches do; the ends of the walk are looked for when it is done.
 */
static void
prepare_run(Worker *worker)
{
	Session    *session = &worker->session;
	TimestampTz look_at;

	while (store_stage_is_left(session->run, STAGE_PREPARE))
	{
		worker_slot_ready();
		if (is_held(session, &look_at))
			throttle_until(worker, look_at);
		else
			change_prepare_run(worker);
		MemoryContextReset(session->loop_context);
	}
}

/* Prepare, and find the ends if nobody has.  Leaves when there is no work. */
static void
set_up(Worker *worker)
{
	Session    *session = &worker->session;
	bool		goes_on = session_reload(session);

	if (session->run == NULL)
		proc_exit(0);
	name_session(session->run);
	if (is_to_carry_out(session))
		change_carry_out(worker);
	if (!goes_on && (!change_begin_run(worker) || !session_reload(session)))
		proc_exit(0);
	if (session->run->end_key == NULL)
		prepare_run(worker);
	if (!session->run->has_streams)
		failure_prepare(worker);
	if (session->run->end_key == NULL)
	{
		if (session->run->source.function)
			failure_insist(worker, fetch_check);
		else if (!ends_wait_for_writers(session))
			proc_exit(0);
		worker_slot_show(WORKER_PREPARING, 0, 0);
		failure_insist(worker, session->run->has_streams ? streams_list : streams_find_ends);
		wake_runs(MyDatabaseId, (WakeTarget) {session->run->owner, session->run->id});
		if (!session_reload(session))
			proc_exit(0);
		if (!session->run->has_streams)
			failure_prepare(worker);
	}
	worker_slot_ready();
}

/* All of the worker's life.  Raises only what our own bookkeeping raises. */
static void
work(Worker *worker)
{
	set_up(worker);
	if (!worker->session.run->has_streams && key_is_empty(worker->session.run->end_key))
		proc_exit(0);
	worker->pending_changes = worker->reported_changes = -1;
	worker->pending_due = DT_NOEND;
	if (is_cut_ahead(&worker->session))
		cut_begin(worker);
	for (;;)
	{
		if (worker->session.run->by_clients)
			serve_clients(worker);
		else
			work_on(worker);
	}
}

void
backfill_worker_main(Datum arg)
{
	Worker	   *worker;
	Session    *session;
	int64		token;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	worker = MemoryContextAllocZero(TopMemoryContext, sizeof(Worker));
	session = &worker->session;
	memcpy(&token, MyBgworkerEntry->bgw_extra, sizeof(token));
	if (!worker_slot_attach(DatumGetInt32(arg), token, &session->slot))
		proc_exit(0);
	allowance_attach();
	BackgroundWorkerInitializeConnectionByOid(session->slot.database, session->slot.owner,
											  COMPAT_CONNECT_AS_OWNER);
	session_open(session);
	worker->hand.context = AllocSetContextCreate(session->context, "backfill batch",
												 ALLOCSET_SMALL_SIZES);

	/*
	 * What the owner's code raises does not come here.  What goes away by itself
	 * says nothing about the batch in hand.
	 */
	PG_TRY();
	{
		work(worker);
	}
	PG_CATCH();
	{
		ErrorData	error = {.sqlerrcode = geterrcode()};

		if (rowerror_is_retryable(&error))
			worker_slot_pardon();
		PG_RE_THROW();
	}
	PG_END_TRY();
}
