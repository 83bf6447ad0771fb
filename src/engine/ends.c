/*-------------------------------------------------------------------------
 *
 * ends.c
 *	  Where a walk begins and where it ends.
 *
 * The ends are fixed when a run begins, after waiting, as CREATE INDEX
 * CONCURRENTLY does, for the transactions that hold a lock for writing on the
 * target: what is committed then is between them.  Rows that are written later
 * are the affair of the application.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/writers.h"
#include "engine/ends.h"
#include "engine/session.h"
#include "engine/work.h"
#include "settings/setting.h"
#include "shared/segment.h"
#include "shared/worker_slot.h"
#include "store/run.h"
#include "store/span.h"
#include "store/store.h"
#include "store/stream.h"
#include "walk/bounds.h"
#include "walk/records.h"
#include "walk/walk.h"

/* How often to look whether the writers of the target have ended. */
#define WRITERS_POLL_MS		100

/* Those that have been found, and whether the run says that it waits for them. */
typedef struct Writers
{
	bool		prepared;		/* only such as are prepared */
	bool		looked;
	List	   *left;			/* VirtualTransactionId *, in the session's context */
	bool		said;
} Writers;

/* One look at the writers, in a transaction of its own. */
static void
look_at_writers(Session *session, void *arg)
{
	Writers    *writers = (Writers *) arg;
	MemoryContext old;

	session_begin(session);
	old = MemoryContextSwitchTo(session->context);
	if (!writers->looked)
		writers->left = writers_find(session->run->target);
	if (!writers->looked && writers->prepared)
		writers->left = writers_prepared(writers->left);
	writers->looked = true;
	writers->left = writers_still(writers->left);
	MemoryContextSwitchTo(old);
	if (writers->left != NIL && !writers->said)
	{
		StoreSession store;
		char	   *reason = writers_reason(writers->left, writers->prepared ? "walk" : "run");

		store_begin(&store);
		store_set_wait_reason(&store, session->run->id, reason);
		store_end(&store);
		writers->said = true;
	}
	session_commit(session);
}

/* Wait for writers of the kind. Returns false if the run is to stop meanwhile. */
static bool
wait_for(Session *session, bool prepared)
{
	Writers		writers = {.prepared = prepared};

	for (;;)
	{
		ErrorData  *error = session_try(session, look_at_writers, &writers);

		if (error)
			ReThrowError(error);
		if (writers.left == NIL)
			return true;
		worker_slot_show(WORKER_WAITING, 0, 0);
		if (!session_nap(WRITERS_POLL_MS) && !session_reload(session))
			return false;
		MemoryContextReset(session->loop_context);
	}
}

/*
 * Wait until every transaction that holds a lock for writing on the target
 * has ended: what they write is then visible, and covered.  Returns false if
 * the run is to stop meanwhile.
 */
bool
ends_wait_for_writers(Session *session)
{
	return wait_for(session, false);
}

/*
 * The first and the last key, as texts, and the estimate of the rows between.  In the current
 * transaction and memory context, with the server parameters of the statement in force.
 */
void
ends_of_walk(Session *session, Work *work, WalkTexts *texts)
{
	if (work->walk->by_source)
	{
		/* nobody knows how many pages there are, nor their records */
		texts->start = records_key(0);
		texts->end = records_key(PG_INT64_MAX);
		texts->rows = -1;
		return;
	}
	bounds_find_texts(work->walk, &session->settings, session->run->scope, work->parameters, texts);
}

/*
 * In a transaction of its own: what the run, or the stream in hand, has to look at, of what has a
 * time: from where the last one ended to what is committed.  It is known before the ends are
 * looked for, by a scope that says what of it is counted, and because what is added behind the
 * last key by a transaction that ends meanwhile has to be later than that.
 */
static void
open_window(Session *session, Work *work)
{
	const RunSettings *settings = &session->settings;
	StoreSession store;
	TimestampTz until;
	TimestampTz since;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	until = Min(writers_watermark(), settings->end_value);
	store_begin(&store);
	if (session->stream)
		span_open_stream(&store, session->whole, session->walk_id, settings->initial_value,
						 settings->lookback, until, &since, &until);
	else
		span_open_run(&store, session->run, settings->initial_value, settings->lookback,
					  until, &since, &until);
	store_end(&store);
	session_commit(session);
	session->run->since = since;
	session->run->until = until;
	(void) work_serves(session, work);
}

/* The stream in hand has these ends now. */
static void
take_ends(Session *session, ArrayType *key_types, const WalkTexts *texts)
{
	StreamInfo	stream = *session->stream;
	MemoryContext old = MemoryContextSwitchTo(session->loop_context);

	stream.name = pstrdup(stream.name);
	stream.key_types = key_types;
	stream.start_key = texts->start;
	stream.end_key = texts->end;
	stream.since = session->run->since;
	stream.until = session->run->until;
	stream.bounds = stream.cursor = NULL;	/* they have served */
	stream.wait_reason = NULL;
	session_take_stream(session, &stream);
	MemoryContextSwitchTo(old);
}

/*
 * In a transaction of its own: find the ends, and put them into the row of the run, or of
 * the stream in hand.
 */
static void
find(Session *session, Work *work)
{
	StoreSession store;
	WalkTexts	texts;
	ArrayType  *key_types;
	ErrorContextCallback callback;
	int			nest;

	callback.callback = session_error_callback;
	callback.arg = session;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	nest = session_enter_statement(session);
	ends_of_walk(session, work, &texts);
	AtEOXact_GUC(false, nest);

	key_types = walk_key_types(work->walk);
	store_begin(&store);
	if (session->stream)
		stream_set_ends(&store, session->walk_id, key_types, texts.start, texts.end, texts.rows);
	else
		store_set_ends(&store, session->run->id, walk_key_names(work->walk), key_types,
					   texts.start, texts.end, texts.rows);
	store_end(&store);
	session_commit(session);
	error_context_stack = callback.previous;
	if (session->stream)
		take_ends(session, key_types, &texts);
}

/*
 * In transactions of their own: open the window of the run, or of the stream in hand, and find
 * the ends of its walk, which nobody has yet.  Of a prepared transaction nobody knows when it
 * began, and what it wrote may have a time from before the end of the window: so those are waited
 * for.  Returns false if the run is to stop meanwhile.
 */
bool
ends_find(Session *session, Work *work)
{
	open_window(session, work);
	if (max_prepared_xacts > 0 && session->run->source.function == NULL && !wait_for(session, true))
		return false;
	find(session, work);
	return true;
}
