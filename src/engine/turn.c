/*-------------------------------------------------------------------------
 *
 * turn.c
 *	  Which page of a source is next, to be fetched or to be applied.
 *
 * Pages are applied in their order and one at a time, and fetched one at a time.  While one is
 * applied or waits, others may be fetched, as many as "prefetch" says: that takes a
 * second worker, or a page that waits to be tried again.  Who may do what is decided under
 * the claim lock, from the rows of batches alone; to apply a page goes first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/retryafter.h"
#include "engine/session.h"
#include "engine/turn.h"
#include "run/bound.h"
#include "settings/setting.h"
#include "store/page.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/records.h"

/* Whether the rate limit of the run is one on calls of its source. */
bool
turn_counts_calls(const Session *session)
{
	return session->run->source.function &&
		session->settings.rate_limit_counts == COUNT_CALLS;
}

/* What may be done now, as the rows of batches say. */
typedef struct Choice
{
	const PageInfo *apply;		/* the first page that is fetched, or NULL */
	const PageInfo *fetch;		/* the one that is to be fetched, or NULL */
	bool		applying;		/* somebody is at it */
	bool		fetching;
	int64		waiting;		/* pages that are fetched, applied ones included */
} Choice;

static void
look(List *pages, Choice *choice)
{
	int64		last = 0;
	ListCell   *lc;

	memset(choice, 0, sizeof(Choice));
	foreach(lc, pages)
	{
		const PageInfo *page = lfirst(lc);

		if (!page->is_fetched)
		{
			choice->fetch = page;
			choice->fetching = page->is_running;
			continue;
		}
		choice->applying = choice->applying || page->is_running;
		if (choice->apply == NULL)
			choice->apply = page;
		if (page->number != last)
			choice->waiting++;
		last = page->number;
	}
}

/*
 * Take the page if it is pending, and due.  Otherwise *refusal has when it is, or that others
 * are at it.
 */
static BatchInfo *
take(Session *session, const TurnClaimant *claimant, const PageInfo *page, TurnRefusal *refusal)
{
	StoreSession store;
	BatchInfo  *batch;

	if (!page->is_pending)
	{
		refusal->busy = true;
		return NULL;
	}
	if (page->crashes >= claimant->crashes_below)
	{
		refusal->suspect = true;
		return NULL;
	}
	if (clock_is_ahead(page->retry_at, GetCurrentTimestamp(), RETRYAFTER_MOST_MS))
	{
		if (refusal->next_due == 0 || page->retry_at < refusal->next_due)
		{
			refusal->next_due = page->retry_at;
			refusal->reason = page->is_fetched ? NULL :
				psprintf("waits until %s to call the source again: %s",
						 timestamptz_to_str(page->retry_at), page->error ? page->error : "");
		}
		return NULL;
	}
	store_begin(&store);
	batch = page_take(&store, session->walk_id, page->number, page->part,
					  claimant->token, claimant->number);
	store_end(&store);
	if (batch)
		batch->rows_in_scope = batch->rows_scanned;
	if (batch && page->is_reported)
	{
		batch->report = page->error ? page->error : "a client has failed";
		batch->report_state = page->sqlstate;
	}
	return batch;
}

/* Whether another page may be fetched beside those that are there. */
static bool
has_room(const Session *session, const Choice *choice)
{
	return choice->waiting == 0 || choice->waiting - 1 < session->settings.prefetch;
}

/* Ask for the page behind the last one; NULL at the end. */
static BatchInfo *
ask(Session *session, const TurnClaimant *claimant, TurnRefusal *refusal)
{
	BatchInfo  *batch = palloc0(sizeof(BatchInfo));
	StoreSession store;
	PageEnd		end;
	bool		goes_on;
	bool		by_client = source_is_client(&session->run->source);

	store_begin(&store);
	page_end(&store, session->walk_id, &end);
	goes_on = end.number == 0 || end.next_token != NULL;
	goes_on = goes_on && bound_allows_batch(session->run, &session->settings, end.number);
	batch->number = end.number + 1;
	batch->attempt = 1;
	batch->source_token = end.next_token;
	batch->start_key = batch->end_key = records_key(0);
	if (goes_on && by_client)
		page_want(&store, session->walk_id, batch->number, batch->source_token);
	else if (goes_on)
		page_ask(&store, session->walk_id, batch, claimant->token, claimant->number);
	store_end(&store);
	if (goes_on)
	{
		refusal->busy = by_client;
		return by_client ? NULL : batch;
	}

	/* who is at the last page does without us */
	refusal->busy = false;
	return NULL;
}

/*
 * Claim a page, to apply it or else to fetch it, in the current transaction, which holds the
 * claim lock.  NULL if there is none, with the reason in *refusal: all zero at the end of the
 * source.
 */
BatchInfo *
turn_claim(Session *session, const TurnClaimant *claimant, TurnRefusal *refusal)
{
	StoreSession store;
	List	   *pages;
	Choice		choice;
	BatchInfo  *batch = NULL;

	memset(refusal, 0, sizeof(TurnRefusal));
	store_begin(&store);
	pages = page_open(&store, session->walk_id);
	store_end(&store);
	look(pages, &choice);
	if (choice.applying)
		refusal->busy = true;
	else if (choice.apply)
		batch = take(session, claimant, choice.apply, refusal);
	if (batch)
		return batch;
	if (choice.fetching)
		refusal->busy = true;
	else if (!has_room(session, &choice) && !(choice.fetch && choice.fetch->is_reported))
		return NULL;			/* who applies, or is to, makes room */
	else if (choice.fetch && source_is_client(&session->run->source) && !choice.fetch->is_reported)
		refusal->busy = true;	/* a client is to fetch it */
	else if (choice.fetch)
		batch = take(session, claimant, choice.fetch, refusal);
	else
		batch = ask(session, claimant, refusal);
	return batch;
}
