/*-------------------------------------------------------------------------
 *
 * governor.c
 *	  The pace of the runs of a database, as the scheduler sets it.
 *
 * Once in a round of about a second, for each run that is at work: which window
 * is open, how healthy the server is, what the probe said, which limits were
 * reached; from all that the pace, which goes to shared memory, where the
 * workers find it, and the reason why the run is throttled, which goes to the
 * row of the run, with an event when it changes.  What holds the run comes
 * before what only slows it down, and of several reasons the first is shown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/quantity.h"
#include "governor/governor.h"
#include "governor/health.h"
#include "governor/scale.h"
#include "settings/guc.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "settings/window.h"
#include "shared/metrics.h"
#include "shared/pace.h"
#include "shared/segment.h"
#include "store/event.h"
#include "store/pace.h"
#include "store/run.h"
#include "store/store.h"

/* At its slowest a run is at work for this share of the time. */
#define LEAST_DUTY		0.05
/* The duty changes in steps, so that workers are not told of every nuance. */
#define DUTY_STEPS		20
/* How often a reason that is the same gets its newest figures. */
#define FIGURES_MS		5000
/* The longest time between two rounds that is believed; else the clock was set. */
#define LONGEST_ROUND	USECS_PER_MINUTE

/* Why a run is throttled. */
typedef struct Throttle
{
	const char *what;			/* NULL if it is not */
	char	   *text;			/* the whole, beginning with what */
} Throttle;

/* At the beginning of a round. */
void
governor_round(void)
{
	health_new_round();
	pace_set_budgets(&guc_rate_limit, &guc_wal_rate_limit);
}

static void
throttle(Throttle *throttle, const char *what, const char *explanation)
{
	if (throttle->what != NULL)
		return;
	throttle->what = what;
	throttle->text = psprintf("%s: %s", what, explanation);
}

/* ---- the pace ---- */

static void
look_at_window(const WindowMatch *match, Pace *pace, Throttle *why)
{
	if (match->window == NULL || !match->window->closed)
		return;
	pace->workers = 0;
	pace->hold = true;
	throttle(why, "window", match->until == DT_NOEND ? "closed" :
			 psprintf("closed until %s", timestamptz_to_str(match->until)));
}

static void
look_at_probe(const RunInfo *run, const RunSettings *settings, const PaceView *view,
			  Pace *pace, Throttle *why)
{
	pace->probed = settings->probe != NULL;
	if (!pace->probed)
		return;
	if (view->probe == PROBE_WAIT)
		throttle(why, "probe", view->probe_reason);
	else if (view->probe == PROBE_UNKNOWN && run->throttled_by != NULL &&
			 strncmp(run->throttled_by, "probe: ", 7) == 0)
		throttle(why, "probe", run->throttled_by + 7);	/* until it is heard again */
}

/* What holds the run, or slows it down; the latter is said last. */
static void
look_at_health(const Health *health, const RunSettings *settings, Pace *pace,
			   Throttle *why, Throttle *softly)
{
	double		soft = settings->soft_limit / 1000000.0;
	double		duty;

	pace->watched = health->what != NULL || settings->windows != NIL;
	if (health->reason == NULL)
		return;
	if (health->load >= 1)
	{
		pace->hold = true;
		throttle(why, health->what, health->reason);
		return;
	}
	if (soft >= 1)
		return;
	duty = Max(LEAST_DUTY, (1 - health->load) / (1 - soft));
	pace->duty = Min(ceil(duty * DUTY_STEPS) / DUTY_STEPS, 1);
	if (pace->duty < 1)
		throttle(softly, health->what,
				 psprintf("slowed to %.0f %%: %s", pace->duty * 100, health->reason));
}

/* The target may not grow any further. */
static void
look_at_growth(StoreSession *session, const RunInfo *run, Governor *governor, int64 freed,
			   Throttle *why)
{
	char	   *reason = growth_look(session, run, &governor->settings, &governor->growth,
									 governor->keeper, freed);

	if (reason == NULL)
		return;
	governor->pace.hold = true;
	throttle(why, "max_growth", reason);
}

static void
look_at_limits(const PaceView *view, Throttle *why)
{
	static const char *const names[] = {
		[PACE_ROWS] = "rate_limit",
		[PACE_WAL] = "wal_rate_limit",
		[PACE_ALL_ROWS] = "backfill.rate_limit",
		[PACE_ALL_WAL] = "backfill.wal_rate_limit"
	};
	PaceLimit	by = view->limited_by;

	if (by != PACE_NO_LIMIT)
		throttle(why, names[by],
				 quantity_rate_text(&view->limit, by == PACE_WAL || by == PACE_ALL_WAL));
}

/* A batch costs more as such than it is to take, so that it is larger. */
static void
look_at_fixed_cost(const PaceView *view, Throttle *softly)
{
	if (view->fixed > 0)
		throttle(softly, "batch cost",
				 psprintf("a batch takes %.0f ms whatever its size; backfill_explain shows its plan",
						  view->fixed / 1000));
}

/* Sessions wait for rows of batches, so that these are shorter. */
static void
look_at_waits(const PaceView *view, Throttle *softly)
{
	if (view->eased > 0)
		throttle(softly, "foreground",
				 psprintf("sessions wait for %s, which are to take %.0f ms for that",
						  view->crowded ? "WAL and pages beside its batches" : "its batches",
						  Max(view->eased / 1000, 1)));
}

/* Say that the number of workers has changed. */
static void
note_scale(StoreSession *session, const RunInfo *run, int before, int after, double load)
{
	EventInfo	event = {.kind = "pace"};

	event.reason = psprintf("workers: %d instead of %d, at %.0f %% load", after, before,
							Min(load, 1) * 100);
	store_add_event(session, run, &event);
}

static int64
count_workers(StoreSession *session, const RunInfo *run, Governor *governor, double rate,
			  int living)
{
	const RunSettings *settings = &governor->settings;
	double		load = governor->load;
	int			before = governor->scale.workers;
	int			after;

	if (settings->workers != WORKERS_AUTO)
	{
		governor->scale.workers = 0;
		return settings->workers;
	}
	if (before == 0 && living > 0)
		before = governor->scale.workers = living;	/* of an earlier scheduler */
	after = scale_workers(&governor->scale, settings, load,
						  rate, (int) Min(settings->max_workers, guc_max_workers));
	if (before > 0 && after != before)
		note_scale(session, run, before, after, load);
	return after;
}

static void
fill_pace(const RunSettings *settings, Pace *pace)
{
	pace->aim.start = settings->batch_size;
	pace->aim.target = settings->target_batch_time * 1000;
	pace->aim.min = Min(settings->min_batch_size, settings->max_batch_size);
	pace->aim.max = settings->max_batch_size;
	pace->aim.longest = settings->max_batch_time * 1000;
	pace->sleep = settings->sleep;
	pace->nice = settings->nice;
	pace->duty = 1;
	pace->yield_after = settings->yield_after;
	pace->rows = settings->rate_limit;
	pace->wal = settings->wal_rate_limit;
}

/* ---- what is said about it ---- */

/* Whether the reason is another one, not the same with other figures. */
static bool
is_other_reason(const char *before, const char *after)
{
	static const char figures[] = "0123456789.";

	if (before == NULL || after == NULL)
		return before != after;
	for (;;)
	{
		before += strspn(before, figures);
		after += strspn(after, figures);
		if (*before != *after)
			return true;
		if (*before == '\0')
			return false;
		before++;
		after++;
	}
}

static void
say_why(StoreSession *session, RunInfo *run, Governor *governor, const Throttle *why)
{
	TimestampTz now = GetCurrentTimestamp();
	EventInfo	event = {.kind = "throttle"};

	if (is_other_reason(run->throttled_by, why->text))
	{
		event.reason = why->text ? why->text : "no longer throttled";
		store_add_event(session, run, &event);
	}
	else if (why->text == NULL || strcmp(run->throttled_by, why->text) == 0 ||
			 !clock_has_passed(governor->said_at, now, FIGURES_MS))
		return;
	governor->said_at = now;
	store_set_throttle(session, run->id, why->text);
}

/*
 * For monitoring: what throttled the run in the last round did so up to this one.
 */
static void
count_throttled(const RunInfo *run, Governor *governor, const Throttle *why)
{
	TimestampTz now = GetCurrentTimestamp();

	if (governor->counted_at == 0)
		metrics_open(run->owner, run->name);
	else if (governor->counted_by)
		metrics_count_throttled(run->owner, run->name, governor->counted_by,
								Min(now - governor->counted_at, LONGEST_ROUND));
	governor->counted_at = now;
	governor->counted_by = why->what;
}

/* ---- ledgers ---- */

/* Whether the run has limits that need to know what it did a moment ago. */
bool
governor_has_ledgers(const Governor *governor)
{
	return governor->pace.rows.amount > 0 || governor->pace.wal.amount > 0 ||
		guc_rate_limit.amount > 0;
}

static void
save_size(StoreSession *session, RunInfo *run, int64 size)
{
	if (size <= 0 || size == run->batch_size)
		return;
	store_set_batch_size(session, run->id, size);
	run->batch_size = size;
}

/* The run has no workers any more, and is about to end or to rest. */
void
governor_note_end(StoreSession *session, RunInfo *run, Governor *governor)
{
	governor_save_size(session, run);
	growth_note_end(session, run, &governor->growth);
}

/* Keep the batch size that was found, for the next time that workers start. */
void
governor_save_size(StoreSession *session, RunInfo *run)
{
	save_size(session, run, pace_size(MyDatabaseId, run->id));
}

/* Once a life of the server: the budget of all runs counts what was done before. */
void
governor_open_budget(StoreSession *session)
{
	TimestampTz since;
	TimestampTz until;
	Usage	   *usages;
	int			n;

	if (!pace_open_budget(MyDatabaseId, &since, &until))
		return;
	n = store_recent_batches(session, 0, since, until, &usages);
	pace_enter_budget(usages, n);
}

/* Whether the settings that were resolved are those of the run, and of this hour. */
static bool
is_resolved(const RunInfo *run, const Governor *governor, TimestampTz now)
{
	return governor->given != NULL && governor->zone == log_timezone &&
		now >= governor->resolved_at && now < governor->match.until &&
		now - governor->resolved_at < USECS_PER_DAY &&
		VARSIZE(governor->given) == VARSIZE(run->settings) &&
		memcmp(governor->given, run->settings, VARSIZE(run->settings)) == 0;
}

/*
 * Resolve the settings of the run at this hour.  Many windows take a while, so
 * that is done anew only when something has changed, or begins to hold.
 */
static void
resolve(const RunInfo *run, Governor *governor)
{
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext old;
	Jsonb	   *given;

	if (is_resolved(run, governor, now))
		return;
	governor->given = NULL;
	if (governor->context == NULL)
		governor->context = AllocSetContextCreate(TopMemoryContext, "backfill settings",
												  ALLOCSET_SMALL_SIZES);
	MemoryContextReset(governor->context);
	old = MemoryContextSwitchTo(governor->context);
	given = (Jsonb *) pg_detoast_datum_copy((struct varlena *) run->settings);
	settings_resolve_at(given, now, &governor->settings, &governor->match);
	MemoryContextSwitchTo(old);
	governor->zone = log_timezone;
	governor->resolved_at = now;
	governor->given = given;
}

/* The run is not looked after any more. */
void
governor_forget(Governor *governor)
{
	if (governor->context)
		MemoryContextDelete(governor->context);
	governor->context = NULL;
	governor->given = NULL;
}

/*
 * How things stand for a run: its settings at this hour, and the health of the
 * server, which is read with our own rights, outside of a store session.
 */
void
governor_judge(const RunInfo *run, Governor *governor)
{
	resolve(run, governor);
	health_judge(run, &governor->settings, &governor->health);
	governor->load = governor->health.load;
	governor->keeper = growth_keeper(MyDatabaseId, run->id);
	if (governor->settings.workers == WORKERS_AUTO &&
		governor->settings.max_active_sessions == 0)
		governor->load = Max(governor->load, health_foreground());
}

/*
 * Set the pace of a run that is enqueued or running and has been judged in this
 * round, whose row is locked, and say why it is throttled.  governor->pace is the
 * pace; its workers, how many there may be.
 */
void
governor_set_pace(StoreSession *session, RunInfo *run, Governor *governor, int living)
{
	const RunSettings *settings = &governor->settings;
	PaceView	view;
	Throttle	why = {NULL};
	Throttle	softly = {NULL};
	Pace	   *pace = &governor->pace;
	TimestampTz since;

	memset(pace, 0, sizeof(Pace));
	fill_pace(settings, pace);
	pace_look(MyDatabaseId, run->id, &view);

	/* the slot goes with the last worker */
	if (living == 0)
		save_size(session, run, view.size);
	pace->workers = count_workers(session, run, governor, view.rate, living);
	look_at_window(&governor->match, pace, &why);
	look_at_probe(run, settings, &view, pace, &why);
	look_at_health(&governor->health, settings, pace, &why, &softly);
	look_at_growth(session, run, governor, view.freed, &why);
	look_at_limits(&view, &why);
	look_at_waits(&view, &softly);
	look_at_fixed_cost(&view, &softly);

	governor->batch_size = run->batch_size;
	if (pace_set(MyDatabaseId, run->id, pace, run->batch_size, &since))
	{
		Usage	   *usages;
		int			n = store_recent_batches(session, run->id, since, DT_NOEND, &usages);
		pace_enter(MyDatabaseId, run->id, usages, n);
	}
	say_why(session, run, governor, why.text ? &why : &softly);
	count_throttled(run, governor, why.text ? &why : &softly);
}
