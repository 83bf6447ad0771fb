/*-------------------------------------------------------------------------
 *
 * transition.c
 *	  A run changes its status.
 *
 * Whoever changes the status of a run does it here: in one transaction the row
 * of the run, the event and the notification.  A change that workers have to
 * make room for, or that has hooks, is requested: the row says which status is
 * wanted and who wants it, and the scheduler sees to it that it is made, by
 * itself or by a worker in a session of the run's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "run/transition.h"
#include "settings/guc.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "store/copy.h"
#include "store/event.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

#define CHANNEL "backfill"

/* Share of the queue of notifications from which on there is no more of ours in it. */
#define QUEUE_FULL 0.9

/*
 * Whether there is little room left for notifications.  A session that listens and
 * does not end its transaction can fill the queue, and a transaction that has one
 * for a full queue fails when it commits, too late to do anything about it.
 */
static bool
is_queue_full(void)
{
	return DatumGetFloat8(OidFunctionCall0(F_PG_NOTIFICATION_QUEUE_USAGE)) >= QUEUE_FULL;
}

/* The notification is left out, for good; that is put down once for the run. */
static void
leave_out_notification(StoreSession *session, const RunInfo *run)
{
	EventInfo	event = {
		.kind = "notify",
		.status = status_name(run->status),
		.reason = "notifications are left out: the queue of the server is full"
	};

	if (!store_has_event(session, run->id, event.kind))
		store_add_event(session, run, &event);
}

/* Tell who listens. */
static void
notify(StoreSession *session, const RunInfo *run, const char *previous)
{
	StringInfoData payload;

	if (is_queue_full())
	{
		leave_out_notification(session, run);
		return;
	}

	initStringInfo(&payload);
	appendStringInfo(&payload, "{\"run\": " INT64_FORMAT ", \"name\": ", run->id);
	escape_json(&payload, run->name);
	appendStringInfo(&payload, ", \"status\": \"%s\", \"previous_status\": ",
					 status_name(run->status));
	if (previous)
		escape_json(&payload, previous);
	else
		appendStringInfoString(&payload, "null");
	appendStringInfoChar(&payload, '}');
	Async_Notify(CHANNEL, payload.data);
	pfree(payload.data);
}

/*
 * The reason with what the session says besides why it does this (backfill.note),
 * in the current memory context; workers and schedulers have nothing to say.
 */
static const char *
with_note(const char *role, const char *reason)
{
	if (role == NULL || reason == NULL || MyBgworkerEntry != NULL || guc_note[0] == '\0')
		return reason;
	/* what was asked for with it, and is carried out in the same session */
	if (strstr(reason, guc_note) != NULL)
		return reason;
	return psprintf("%s: %s", reason, guc_note);
}

/* The event and the notification of a change that has been made. */
static void
announce(StoreSession *session, const RunInfo *run, const char *previous,
		 const char *role, const char *reason)
{
	EventInfo	event = {
		.kind = "transition",
		.previous_status = previous,
		.status = status_name(run->status),
		.role = role,
		.sqlstate = run->status == RUN_FAILED ? run->sqlstate : NULL,
		.reason = with_note(role, reason)
	};

	store_add_event(session, run, &event);
	notify(session, run, previous);
}

/*
 * The status that the change comes from, as it is shown: a run that becomes
 * what it was inserted as comes from nowhere.
 */
const char *
transition_previous(RunStatus from, RunStatus to)
{
	return from == to ? NULL : status_name(from);
}

/*
 * Give the run the status, and drop any request.  The row is locked and the
 * change is legal.  "role" is who caused it, NULL for backfill itself.
 */
void
transition_make(StoreSession *session, RunInfo *run, RunStatus to,
				const char *role, const char *reason)
{
	const char *previous = transition_previous(run->status, to);

	store_set_status(session, run->id, to);
	run->status = to;
	run->is_requested = false;
	announce(session, run, previous, role, reason);
}

/*
 * The same for what was requested: whoever asked has caused it, for the reason
 * that he gave; a failure has its error.
 */
void
transition_carry_out(StoreSession *session, RunInfo *run, RunStatus to)
{
	transition_make(session, run, to, run->requested_by,
					to == RUN_FAILED ? run->error : run->request_reason);

	/* nobody has paused it: it says itself what it waits for */
	if (to == RUN_PAUSED && run->requested_by == NULL && run->request_reason)
		store_set_wait_reason(session, run->id,
							  psprintf("%s; backfill_resume lets it go on", run->request_reason));
}

/* The run is new: it has the status that it was inserted with. */
void
transition_begin(StoreSession *session, const RunInfo *run, const char *role,
				 const char *reason)
{
	announce(session, run, NULL, role, reason);
}

/*
 * Ask for the status.  The row is locked and the change is legal.  That a role
 * asks is an event; what backfill itself asks for is one when it is done.
 */
void
transition_request(StoreSession *session, RunInfo *run, RunStatus to,
				   bool immediate, const char *role, const char *reason)
{
	EventInfo	event = {
		.kind = "request",
		.status = status_name(to),
		.role = role,
		.reason = reason = with_note(role, reason)
	};

	store_request(session, run->id, to, immediate, role, reason);
	run->is_requested = true;
	run->requested = to;
	run->immediate = immediate;
	if (role)
		store_add_event(session, run, &event);
}

/* Whether the walk of the run may begin again when it has come to its end: only one by pages does. */
bool
transition_may_begin_again(const RunInfo *run)
{
	return run->key && strcmp(run->key, KEY_OF_PAGES) == 0;
}

/*
 * Whether something of the owner's has to run when the run takes the status: a
 * hook, or, at the end, the verification, another pass, the last step, and what follows.
 */
bool
transition_needs_worker(StoreSession *session, const RunInfo *run, RunStatus to)
{
	RunSettings settings;

	if (store_has_hook(session, run->name, run->owner, to))
		return true;
	if (to != RUN_COMPLETED)
		return false;
	settings_resolve(run->settings, &settings);
	return run->has_followers || (settings.verify && !run->verified) ||
		transition_may_begin_again(run) ||
		store_stage_is_left(run, STAGE_FINISH);
}

/* ---- waiting for other runs ---- */

/*
 * Why a run that is to start after those has to wait, or NULL if it does not.
 */
char *
transition_wait_reason(StoreSession *session, ArrayType *after)
{
	char	   *status;
	int64		id;

	if (after == NULL)
		return NULL;
	id = store_unmet_dependency(session, after, &status);
	if (id == 0)
		return NULL;
	if (status == NULL)
		return psprintf("waits for run " INT64_FORMAT ", which was deleted: stop this run", id);
	if (strcmp(status, "failed") == 0 || strcmp(status, "stopped") == 0)
		return psprintf("waits for run " INT64_FORMAT ", which is %s: resume that run, or stop this one",
						id, status);
	return psprintf("waits for run " INT64_FORMAT ", which is %s", id, status);
}
