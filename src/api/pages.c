/*-------------------------------------------------------------------------
 *
 * pages.c
 *	  Pages of a source that clients bring.
 *
 * With SOURCE_CLIENT a client claims a page, by the token of the source that stands for it,
 * fetches its records wherever they are, and gives them to backfill_put.  That puts them down
 * in the client's transaction, together with the token of the next page, which may be claimed from then on.  A
 * worker, in the owner's session, runs the statement about them: nothing of the owner's runs
 * here, and the client needs no right on the target.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/outside.h"
#include "api/pages.h"
#include "api/token.h"
#include "base/limit.h"
#include "base/retryafter.h"
#include "base/rowerror.h"
#include "definition/source.h"
#include "run/access.h"
#include "run/lapse.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "shared/lease.h"
#include "shared/segment.h"
#include "shared/stock.h"
#include "shared/wake.h"
#include "store/event.h"
#include "store/page.h"
#include "store/pagelease.h"
#include "store/rowlease.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_put);

/* When to ask again, in milliseconds. */
#define ASK_LATER_MS	1000
#define ASK_SOON_MS		100

/* ---- claiming ---- */

static void
check_claim(const LeaseClaim *lease)
{
	if (lease->length == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the lease of a page cannot last as long as the session"),
				 errhint("Claim with the length of the lease, and extend it.")));
	if (!segment_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pages of a source need backfill in \"shared_preload_libraries\""),
				 errdetail("Workers apply them.")));
}

/* Why nothing may be fetched now. */
static const char *
held_reason(const LeaseRun *run, StockAnswer answer)
{
	if (run->throttled_by)
		return run->throttled_by;
	return answer == STOCK_LIMITED ? "rate limit" : answer == STOCK_HELD ? "the run is held" :
		"a worker of the run is to come";
}

/*
 * Put a page of the run, which is running, into the hands of a client.  Returns false if
 * there is none, with the reason.
 */
bool
pages_claim(const LeaseRun *run, LeaseClaim *lease, PageWanted *wanted, PagesRefusal *refusal)
{
	RunSettings settings;
	StoreSession store;
	RunInfo		head = {.id = run->id, .owner = run->owner, .name = run->name};
	StockAnswer answer = STOCK_TAKEN;
	TimestampTz retry_at;
	TimestampTz due = DT_NOEND;
	bool		counts;
	bool		found;

	check_claim(lease);
	settings_resolve(run->settings, &settings);
	counts = settings.rate_limit_counts == COUNT_CALLS;
	lease->in_row = true;
	store_begin(&store);
	(void) pagelease_lapse(&store, &head, false);
	found = pagelease_find(&store, run->id, settings.prefetch, wanted);
	if (found)
		answer = stock_call(MyDatabaseId, run->id, counts ? 1 : 0, &retry_at);
	else
		due = pagelease_due(&store, run->id);
	if (found && answer == STOCK_TAKEN)
	{
		BatchInfo  *batch = store_lease_batch(&store, wanted->walk_id, wanted->number, 0, lease);

		if (batch == NULL)
			elog(ERROR, "a page that was locked is not there");
		if (counts)
			(void) page_note_call(&store, wanted->walk_id, batch, lease->token.number);
	}
	store_end(&store);
	if (found && answer == STOCK_TAKEN)
		return true;
	refusal->ms = found ? TimestampDifferenceMilliseconds(GetCurrentTimestamp(), retry_at) : ASK_SOON_MS;
	refusal->reason = found ? held_reason(run, answer) : "no page is to be fetched at the moment";
	if (due != DT_NOEND)
	{
		refusal->ms = Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due), ASK_SOON_MS);
		refusal->reason = "a page waits to be tried again";
	}
	refusal->ms = Min(refusal->ms, ASK_LATER_MS);
	return false;
}

/* ---- extending and failing ---- */

/* Whether what is out with the token is a page. */
bool
pages_is_page(int64 run_id, int64 number, const LeaseToken *token)
{
	StoreSession store;
	int64		walk_id;
	bool		is_page;

	store_begin(&store);
	is_page = pagelease_is_page(&store, run_id, number, token, &walk_id);
	store_end(&store);
	return is_page;
}

/* The lease of the page lasts longer.  Returns false if it is over, or somebody else's. */
bool
pages_extend(int64 run_id, int64 number, const LeaseToken *token, Oid role, Interval *length,
			 TimestampTz *until)
{
	StoreSession store;
	int64		walk_id;
	bool		extended;

	if (length)
		(void) lapse_milliseconds(length);
	store_begin(&store);
	extended = pagelease_is_page(&store, run_id, number, token, &walk_id) &&
		rowlease_extend(&store, walk_id, number, 0, token, role, length, until);
	store_end(&store);
	return extended;
}

/* When a page that a client has failed with is tried again; DT_NOBEGIN if it is not. */
static TimestampTz
when_again(const PageHeld *held, const RunSettings *settings, const LeaseReport *report,
		   const Interval *retry_after, bool *counts)
{
	TimestampTz now = GetCurrentTimestamp();

	*counts = retry_after == NULL;
	if (report->retryable == 0)
		return DT_NOBEGIN;
	if (retry_after)
	{
		double		ms = retry_after->time / 1000.0 + (retry_after->day + retry_after->month * 30.0) * 86400000;

		return TimestampTzPlusMilliseconds(now, (int64) Max(Min(ms, (double) RETRYAFTER_MOST_MS), 0));
	}
	if (held->tries + 1 >= settings->max_attempts)
		return DT_NOBEGIN;
	return TimestampTzPlusMilliseconds(now, rowerror_retry_delay(settings->retry_delay, held->tries + 1,
																 STORE_RETRY_MAX_MS));
}

/*
 * The client has failed to fetch the page.  What it says is retryable unless it says that it
 * is not.  Returns false if the page is not the client's.
 */
bool
pages_fail(int64 run_id, int64 number, const LeaseToken *token, Oid role,
		   const LeaseReport *report, Interval *retry_after)
{
	StoreSession store;
	RunSettings settings;
	RunInfo    *run;
	PageHeld	held;
	BatchInfo	batch = {.number = number};
	EventInfo	event = {
		.kind = "retry",
		.batch = &batch,
		.sqlstate = report->sqlstate,
		.reason = report->message
	};
	TimestampTz retry_at;
	bool		counts;

	store_begin(&store);
	run = store_load_run(&store, run_id, false);
	if (run == NULL || !pagelease_hold(&store, run_id, number, token, role, &held))
	{
		store_end(&store);
		return false;
	}
	settings_resolve(run->settings, &settings);
	retry_at = when_again(&held, &settings, report, retry_after, &counts);
	pagelease_report(&store, &held, retry_at, counts, report);
	if (!TIMESTAMP_IS_NOBEGIN(retry_at))
		store_add_event(&store, run, &event);
	store_end(&store);
	wake_at_commit((WakeTarget) {run->owner, run->id});
	return true;
}

/* ---- bringing ---- */

/* The run, if the caller may work on it, and it has not ended. */
static LeaseRun *
load_run(int64 run_id, const LeaseKey *key)
{
	StoreSession store;
	LeaseRun   *run;

	store_begin(&store);
	run = store_lease_run(&store, run_id);
	store_end(&store);
	access_check_run(run_id, run ? run->owner : InvalidOid, GetUserId());
	if (!run->is_source)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill run " INT64_FORMAT " takes no pages from clients", run_id),
				 errhint("Define the backfill with the source \"" SOURCE_CLIENT "\".")));
	if (status_has_ended(run->status))
		outside_refuse(key, psprintf("The run is %s.", status_name(run->status)), NULL);
	return run;
}

/* Find the page that is out with the token, in the stream, NULL for a run without, and lock it. */
static bool
find_held(StoreSession *store, int64 run_id, const char *stream, const LeaseToken *token,
		  Oid role, PageHeld *held)
{
	int64		number;
	char	   *name;

	return pagelease_number(store, run_id, token, &number, &name) &&
		(stream ? name && strcmp(name, stream) == 0 : name == NULL) &&
		pagelease_hold(store, run_id, number, token, role, held);
}

/* backfill_put(run_id, stream, token, records, next_token) */
Datum
backfill_put(PG_FUNCTION_ARGS)
{
	int64		run_id;
	char	   *stream = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	LeaseKey	key;
	LeaseToken	token;
	LeaseRun   *run;
	StoreSession store;
	PageHeld	held;
	SourcePage	page = {
		.records = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3),
		.next_token = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4)
	};
	BatchInfo	batch = {0};
	Oid			role = GetUserId();
	bool		is_held;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("run and token cannot be null")));
	PreventCommandDuringRecovery("backfill_put()");
	run_id = PG_GETARG_INT64(0);
	key = lease_key(run_id, 0, 0);
	run = load_run(run_id, &key);
	if (!token_parse(text_to_cstring(PG_GETARG_TEXT_PP(2)), &token))
		outside_refuse(&key, "What was given is no token.", NULL);
	store_begin(&store);
	is_held = find_held(&store, run_id, stream, &token, role, &held);
	store_end(&store);
	if (!is_held)
		outside_refuse(&key, "The lease ran out, or no page of the stream is out with this token.",
					   "Claim again: whoever has the page now fetches it.");

	source_check_page("the client", held.token, &page);
	batch.number = held.number;
	store_begin(&store);
	if (!page_put(&store, held.walk_id, &batch, token.number, page.records, page.n, page.next_token))
		elog(ERROR, "a page that was locked is not there");
	if (page.next_token)
		page_want(&store, held.walk_id, held.number + 1, page.next_token);
	store_end(&store);

	/* what was fetched is not fetched again */
	ForceSyncCommit();
	wake_at_commit((WakeTarget) {run->owner, run_id});
	PG_RETURN_VOID();
}
