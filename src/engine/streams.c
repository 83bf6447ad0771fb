/*-------------------------------------------------------------------------
 *
 * streams.c
 *	  A worker comes by a stream, and lets go of it.
 *
 * The first worker of a run with streams puts them down, in the order in which they are to
 * be begun.  From then on a worker takes one, works on it as on any walk until all of its
 * ranges are claimed, and takes the next.  Workers of a run choose one after the other,
 * under a lock, and shared memory tells who has which, so that:
 *
 * - one that a worker left when it died, or could not go on with, is found again;
 * - as long as there are streams that nobody has begun, each worker has one of its own;
 * - when there are none any more, the workers help each other out.
 *
 * The stream is completed by whoever finds all of it claimed and none of its batches open.
 * A partition that is attached while the run is under way is put down when the others have
 * begun; one that is detached ends where it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/locks.h"
#include "definition/streamlist.h"
#include "engine/claim.h"
#include "engine/ends.h"
#include "engine/failure.h"
#include "engine/session.h"
#include "engine/streams.h"
#include "engine/turn.h"
#include "engine/work.h"
#include "shared/worker_slot.h"
#include "store/batch.h"
#include "store/event.h"
#include "store/run.h"
#include "store/store.h"
#include "store/stream.h"
#include "walk/key.h"

/* ---- putting them down ---- */

/* The streams as the definition gives them now, read as the owner. */
static List *
read_streams(Session *session)
{
	int			nest = session_enter_statement(session);
	List	   *streams = streamlist_read(session->run->streams, session->table);

	AtEOXact_GUC(false, nest);
	return streams;
}

/* Put one down, behind that position. */
static void
put_down(StoreSession *store, const Session *session, StreamInfo *stream, int position)
{
	stream->run_id = session->slot.run_id;
	stream->position = position;
	(void) stream_insert(store, stream);
}

/*
 * In a transaction of its own: put down the streams of the run, which has none yet.  Its row
 * says from then on that they are known.
 */
void
streams_list(Session *session, void *arg)
{
	ArrayType  *none = construct_empty_array(TEXTOID);
	StoreSession store;
	List	   *streams;
	int			position = 0;
	ListCell   *lc;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	streams = read_streams(session);
	store_begin(&store);
	foreach(lc, streams)
	{
		CHECK_FOR_INTERRUPTS();
		put_down(&store, session, lfirst(lc), ++position);
	}
	store_set_ends(&store, session->slot.run_id, none, none, none, none, 0);
	store_end(&store);
	session_commit(session);
}

/* Whether the list has the partition. */
static bool
has_target(List *streams, Oid target)
{
	ListCell   *lc;

	foreach(lc, streams)
	{
		if (((StreamInfo *) lfirst(lc))->target == target)
			return true;
	}
	return false;
}

/* Put down those partitions that have come since.  Returns whether there are any. */
static bool
put_down_new(Session *session)
{
	StoreSession store;
	List	   *now;
	List	   *known;
	int			position;
	bool		any = false;
	ListCell   *lc;

	if (!streamlist_is_partitions(session->run->streams))
		return false;
	now = read_streams(session);
	store_begin(&store);
	known = stream_targets(&store, session->slot.run_id);
	position = stream_last_position(&store, session->slot.run_id);
	foreach(lc, now)
	{
		StreamInfo *stream = lfirst(lc);
		EventInfo	event = {.kind = "stream", .stream = stream->name,
		.reason = "is a new partition"};

		if (has_target(known, stream->target) ||
			stream_find(&store, session->slot.run_id, stream->name, false))
			continue;
		put_down(&store, session, stream, ++position);
		store_add_event(&store, session->run, &event);
		any = true;
	}
	store_end(&store);
	return any;
}

/* ---- choosing ---- */

/* What a worker has in mind when it chooses. */
typedef struct Choice
{
	Worker	   *worker;
	bool		unbegun;		/* only one that nobody has begun, or nobody has any more */
	int64		except;			/* not this one; or 0 */
	StreamInfo *stream;			/* result; or NULL */
	bool		is_new;			/* a pending one: to be begun */
} Choice;

/* How many other workers have the stream. */
static int
hands_on(int64 id, const int64 *streams, int n)
{
	int			hands = 0;

	for (int i = 0; i < n; i++)
	{
		if (streams[i] == id)
			hands++;
	}
	return hands;
}

/* Of the streams at work one that nobody has; or, if it may be shared, that with the fewest hands. */
static StreamInfo *
choose_running(StoreSession *store, const Choice *choice, bool shared)
{
	Session    *session = &choice->worker->session;
	StreamInfo *best = NULL;
	int			fewest = 0;
	int64	   *others;
	int			n = worker_slot_streams(MyDatabaseId, session->slot.run_id, &others);
	ListCell   *lc;

	foreach(lc, stream_running(store, session->slot.run_id))
	{
		StreamInfo *stream = lfirst(lc);
		int			hands = hands_on(stream->id, others, n);

		if (stream->id == choice->except || (hands > 0 && (!shared || stream->claimed)))
			continue;
		if (session->run->source.function && hands >= TURN_HANDS(&session->run->source))
			continue;
		if (best && hands >= fewest)
			continue;
		best = stream;
		fewest = hands;
	}
	return best;
}

/* The next one that has not begun, in their order, from where this worker has come to. */
static StreamInfo *
choose_pending(StoreSession *store, Worker *worker)
{
	int64		run_id = worker->session.slot.run_id;
	StreamInfo *stream = stream_next(store, run_id, worker->stream_position);

	if (stream == NULL && worker->stream_position > 0)
		stream = stream_next(store, run_id, 0);
	if (stream)
		worker->stream_position = stream->position;
	return stream;
}

/*
 * Choose.  A worker that has just come looks first for one that was left, the longest of
 * which have been begun first.
 */
static void
choose(StoreSession *store, Choice *choice)
{
	Worker	   *worker = choice->worker;

	if (!worker->streams_seen)
	{
		worker->streams_seen = true;
		choice->stream = choose_running(store, choice, false);
		if (choice->stream)
			return;
	}
	choice->stream = choose_pending(store, worker);
	choice->is_new = choice->stream != NULL;
	if (choice->stream == NULL)
		choice->stream = choose_running(store, choice, !choice->unbegun);
}

/*
 * In a transaction of its own: the argument is a Choice.  What is chosen is known to the other
 * workers before they choose.
 */
static void
take(Session *session, void *arg)
{
	Choice	   *choice = (Choice *) arg;
	LOCKTAG		tag = locks_tag(LOCK_CLASS_STREAM, session->slot.run_id);
	StoreSession store;

	choice->stream = NULL;
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	store_begin(&store);
	choose(&store, choice);
	store_end(&store);
	if (choice->stream == NULL && !choice->unbegun && put_down_new(session))
	{
		store_begin(&store);
		choose(&store, choice);
		store_end(&store);
	}
	if (choice->stream)
	{
		store_begin(&store);
		if (choice->is_new && !stream_begin(&store, choice->stream->id, GetCurrentTimestamp()))
			choice->stream = NULL;	/* somebody has paused it just now */
		store_end(&store);
		worker_slot_take_stream(choice->stream ? choice->stream->id : 0);
	}
	session_commit(session);
}

/* ---- having one in hand ---- */

/* The worker has none any more; what it had is what others find in shared memory. */
static void
drop(Worker *worker)
{
	Session    *session = &worker->session;

	worker_slot_take_stream(0);
	session_take_stream(session, NULL);
	worker->pending_changes = -1;
	worker->pending_due = DT_NOEND;
}

/*
 * For session_try and failure_insist: find the ends of the walk of the worker that is the argument,
 * of the run or of the stream in hand.  The worker leaves if the run is to stop meanwhile.
 */
void
streams_find_ends(Session *session, void *arg)
{
	Worker	   *worker = (Worker *) arg;

	if (!ends_find(session, &worker->work))
		failure_leave(worker, NULL);
}

/* Prepare what the stream in hand needs, and find the ends of its walk if nobody has. */
static void
set_up(Worker *worker)
{
	Session    *session = &worker->session;

	if (!work_serves(session, &worker->work))
		failure_prepare(worker);
	if (session->run->end_key != NULL)
		return;
	failure_insist(worker, streams_find_ends);

	/* the window is known only now */
	(void) work_serves(session, &worker->work);
}

/*
 * Whether the stream in hand is walked no further, because its partition is none of the
 * table's any more; it is then ended.
 */
static bool
is_detached(const Session *session)
{
	return session->stream && OidIsValid(session->stream->target) &&
		!streamlist_has(session->table, session->stream->target);
}

/* In a transaction of its own: the argument is a bool, whether it is detached. */
static void
look_whether_detached(Session *session, void *arg)
{
	session_begin(session);
	*(bool *) arg = is_detached(session);
	session_commit(session);
}

/* Take one, as the choice says.  Returns false when there is none to be had. */
static bool
take_one(Worker *worker, Choice *choice)
{
	Session    *session = &worker->session;
	bool		detached = false;
	int			tries = 0;
	ErrorData  *error;

	while ((error = session_try(session, take, choice)) != NULL)
	{
		worker_slot_take_stream(session->stream_id);
		if (++tries >= session->settings.max_attempts)
			failure_fail_run(worker, error);
		if (!session_nap(session_retry_delay(session, tries)) && !session_reload(session))
			failure_leave(worker, NULL);
	}
	if (choice->stream == NULL)
		return false;
	choice->stream->status = RUN_RUNNING;
	session_take_stream(session, choice->stream);
	worker->pending_changes = -1;
	worker->pending_due = DT_NOEND;
	if (OidIsValid(session->stream->target))
	{
		error = session_try(session, look_whether_detached, &detached);
		if (error)
			ReThrowError(error);
	}
	if (!detached)
		set_up(worker);
	MemoryContextReset(session->loop_context);
	if (detached || key_is_empty(session->run->end_key))
		streams_end(worker);
	return true;
}

/*
 * Have a stream in hand, or none: then the one that was taken had nothing to be done.
 * Returns false when there is none to be had.
 */
bool
streams_take(Worker *worker)
{
	Choice		choice = {worker};

	return take_one(worker, &choice);
}

/*
 * The stream in hand waits for something: go on with one that nobody has, if there is any.
 * Returns false, and keeps it, if there is none.
 */
bool
streams_switch(Worker *worker)
{
	Choice		choice = {worker, true, worker->session.stream_id};

	worker->streams_seen = true;
	return take_one(worker, &choice);
}

/* ---- its end ---- */

/* In a transaction of its own: every range of the stream in hand is claimed, or is to be no more. */
static void
end(Session *session, void *arg)
{
	LOCKTAG		tag = locks_tag(LOCK_CLASS_CLAIM, session->walk_id);
	StoreSession store;
	bool		detached;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	detached = is_detached(session);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	store_begin(&store);
	if (store_open_batches(&store, session->walk_id, NULL) > 0)
		stream_set_claimed(&store, session->walk_id);
	else
	{
		EventInfo	event = {.kind = "stream", .reason = "its partition was detached: it is walked no further"};

		store_rollup(&store, session->walk_id);
		stream_set_status(&store, session->walk_id, RUN_COMPLETED);
		if (detached)
			store_add_event(&store, session->run, &event);
	}
	store_end(&store);
	session_commit(session);
}

/*
 * Nothing is left to be claimed of the stream in hand: it is completed, unless others have
 * batches of it, who complete it then.  There is none in hand afterwards.
 */
void
streams_end(Worker *worker)
{
	Session    *session = &worker->session;
	ErrorData  *error = session_try_uncancelled(session, end, NULL);

	if (error)
		ReThrowError(error);
	drop(worker);
	MemoryContextReset(session->loop_context);
}

/*
 * At the end of the run: look at the stream, whatever its status, as if it were in hand.
 * With 0 at none.  Returns false if the stream is gone.
 */
bool
streams_show(Worker *worker, int64 id)
{
	Session    *session = &worker->session;

	session->stream_id = id;
	(void) session_reload(session);
	return session->run != NULL && (id == 0 || session->stream != NULL);
}
