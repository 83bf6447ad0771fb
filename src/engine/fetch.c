/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  The pages of a source: asked for, fetched, and read back.
 *
 * The batch of a page goes through two hands.  In the first the source is called for
 * its token: the records, and the token of the next page, are committed with the batch,
 * which is pending then.  In the second, maybe another worker's, the statement is run
 * about the records, as about any batch.  So a page that has been fetched is not fetched
 * again, and one that is applied is gone, whatever dies when.
 *
 * Whose turn it is to fetch or to apply is decided in turn.c.
 *
 * A source talks to the world: whatever it raises may be gone the next time, but for
 * errors of its own text and of rights.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "definition/source.h"
#include "engine/claim.h"
#include "engine/fetch.h"
#include "engine/hook.h"
#include "engine/session.h"
#include "engine/turn.h"
#include "settings/setting.h"
#include "shared/allowance.h"
#include "shared/segment.h"
#include "shared/worker_slot.h"
#include "store/page.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/records.h"

/* ---- the facts ---- */

static SourceFacts
make_facts(const Session *session, const BatchInfo *batch)
{
	const RunInfo *run = session->run;

	return (SourceFacts) {
		.run_id = run->id,
		.name = run->name,
		.stream = run->stream,
		.page = batch ? batch->number : 0,
		.attempt = batch ? batch->attempt : 0,
		.since = run->since,
		.until = run->until,
		.started_at = run->started_at,
		.parameters = run->parameters
	};
}

/* Start of the owner's code; returns the nest level for leave. */
static int
enter(Session *session)
{
	int			nest;

	session_carry_changes(session);
	nest = session_enter_statement(session);
	if (session->settings.statement_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, (int) session->settings.statement_timeout);
	PushActiveSnapshot(GetTransactionSnapshot());
	return nest;
}

static void
leave(Session *session, int nest)
{
	PopActiveSnapshot();
	AfterTriggerFireDeferred();
	if (session->settings.statement_timeout > 0)
		disable_timeout(STATEMENT_TIMEOUT, false);
	AtEOXact_GUC(false, nest);
	if (GetUserId() != session->userid)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the source of the backfill changed the current user")));
}

/*
 * In a transaction of its own, before the first page: have the source's check say whether
 * everything is there.  Raises what is missing.
 */
void
fetch_check(Session *session, void *arg)
{
	SourceFacts facts = make_facts(session, NULL);
	int			nest;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	nest = enter(session);
	source_check_ready(&session->run->source, session->userid, &facts);
	leave(session, nest);
	session_commit(session);
}

/* ---- what is in hand ---- */

/* Whether the batch in hand is a page that is to be fetched. */
bool
fetch_is_due(const Worker *worker)
{
	return worker->hand.batch && worker->session.run->source.function &&
		!worker->hand.batch->is_fetched;
}

/* What the rate limit has to leave for the batch in hand: rows, records or calls. */
int64
fetch_units(const Worker *worker)
{
	if (turn_counts_calls(&worker->session))
		return worker->hand.batch->is_fetched ? 0 : 1;
	return worker->hand.batch->rows_in_scope;
}

/* ---- fetching ---- */

/* The batch is not in our hand any more. */
compat_noreturn static void
taken_over(const Worker *worker)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("page " INT64_FORMAT " was taken over by another worker",
					worker->hand.batch->number)));
}

/*
 * Where calls are limited, a call counts from before it is made, whatever becomes of it and of
 * the server: in a transaction of its own.
 */
static void
note_call(Worker *worker)
{
	Session    *session = &worker->session;
	StoreSession store;
	bool		noted;

	session_begin(session);
	store_begin(&store);
	noted = page_note_call(&store, session->walk_id, worker->hand.batch,
						   claim_claimant(worker).token);
	store_end(&store);
	if (!noted)
		taken_over(worker);
	ForceSyncCommit();
	session_commit(session);
}

static void
page_error_callback(void *arg)
{
	const Worker *worker = (const Worker *) arg;

	errcontext("page " INT64_FORMAT " of backfill run " INT64_FORMAT " \"%s\"",
			   worker->hand.batch->number, worker->session.run->id, worker->session.run->name);
}

/* Call the source for the page in hand, and put down what it gives. */
static void
call_and_put(Worker *worker)
{
	Session    *session = &worker->session;
	BatchInfo  *batch = worker->hand.batch;
	SourceFacts facts = make_facts(session, batch);
	ErrorContextCallback callback;
	StoreSession store;
	SourcePage	page;
	bool		is_ours;
	int			nest;

	callback.callback = page_error_callback;
	callback.arg = worker;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	nest = enter(session);
	source_call(&session->run->source, session->userid, batch->source_token, &facts, &page);
	leave(session, nest);
	error_context_stack = callback.previous;

	store_begin(&store);
	is_ours = page_put(&store, session->walk_id, batch, claim_claimant(worker).token,
					   page.records, page.n, page.next_token);
	store_end(&store);
	if (!is_ours)
		taken_over(worker);
}

/* The client that was to bring the page has given it up: what it has said is the error. */
compat_noreturn static void
raise_report(const BatchInfo *batch)
{
	const char *state = batch->report_state;

	ereport(ERROR,
			(errcode(state ? MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]) :
					 ERRCODE_RAISE_EXCEPTION),
			 errmsg_internal("%s", batch->report)));
}

/*
 * Fetch the page in hand of the worker that is the argument, and claim what comes next, in one
 * transaction.  It does not claim when the row of the run has changed, which has to be read
 * first.  Raises what the source raises.
 */
void
fetch_run(Session *session, void *arg)
{
	Worker	   *worker = (Worker *) arg;
	Hand	   *hand = &worker->hand;
	BatchInfo  *next = NULL;

	if (hand->batch->report)
		raise_report(hand->batch);
	worker_slot_show(WORKER_FETCHING, hand->batch->number, hand->batch->attempt);
	pgstat_report_activity(STATE_RUNNING, session->run->source.function);
	if (turn_counts_calls(session))
		note_call(worker);
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	call_and_put(worker);

	/* a page that was fetched is not fetched again: a call costs more than a commit */
	ForceSyncCommit();
	if (!worker_slot_noticed() && !hand->in_quarantine)
		next = claim_next_batch(worker);
	session_commit(session);
	fetch_settle(worker);
	QueryCancelPending = false;
	claim_leave_quarantine(hand);
	claim_take_in_hand(worker, next);
}

/* The source has been called for the page in hand, with whatever result: it counts. */
void
fetch_settle(const Worker *worker)
{
	allowance_called(turn_counts_calls(&worker->session) ? 1 : 0);
}

/*
 * Whether what a call of the source has raised may be gone the next time.  What is wrong with
 * the text of the function, with what it gives or with rights is not.
 */
bool
fetch_may_come(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			return false;
		default:
			return true;
	}
}

/* ---- applying ---- */

/* Give the statement the records of the batch in hand. */
void
fetch_read(Worker *worker, ParamListInfo params)
{
	const BatchInfo *batch = worker->hand.batch;
	StoreSession store;

	store_begin(&store);
	records_set(worker->work.walk, params,
				page_records(&store, worker->session.walk_id, batch->number,
							 records_ordinal(batch->start_key), records_ordinal(batch->end_key)));
	store_end(&store);
}

/* What tells a record from others in backfill_errors: the token of its page, and its ordinal. */
ArrayType *
fetch_error_key(const BatchInfo *batch)
{
	Datum		texts[2];
	bool		nulls[2] = {batch->source_token == NULL, false};
	int			dim = 2;
	int			lbound = 1;

	texts[0] = nulls[0] ? (Datum) 0 :
		CStringGetTextDatum(JsonbToCString(NULL, &batch->source_token->root,
										   VARSIZE(batch->source_token)));
	texts[1] = CStringGetTextDatum(psprintf(INT64_FORMAT, records_ordinal(batch->end_key)));
	return construct_md_array(texts, nulls, 1, &dim, &lbound, TEXTOID, -1, false, TYPALIGN_INT);
}
