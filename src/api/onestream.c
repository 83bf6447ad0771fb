/*-------------------------------------------------------------------------
 *
 * onestream.c
 *	  Holding, stopping and resuming one stream of a run.
 *
 * The row of the run is locked by the caller, who may control it.  The status of a stream
 * is changed at once: no worker takes it any more, and those that have it let go of it after
 * the batch in hand.  The run goes on with its other streams.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "api/onestream.h"
#include "base/compat.h"
#include "shared/segment.h"
#include "shared/wake.h"
#include "shared/worker_slot.h"
#include "store/event.h"
#include "store/run.h"
#include "store/status.h"
#include "store/stream.h"

/* The stream, locked.  Raises an error if there is none of the name. */
static StreamInfo *
find_stream(StoreSession *session, const RunInfo *run, const char *name)
{
	StreamInfo *stream = run->has_streams ? stream_find(session, run->id, name, true) : NULL;

	if (stream == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("run " INT64_FORMAT " has no stream \"%s\"", run->id, name),
				 run->has_streams && run->end_key == NULL ?
				 errhint("Its streams are known when it has begun.") :
				 errhint("The view backfill_streams shows those that it has.")));
	return stream;
}

/* Put down who has changed the stream, and how. */
static void
note(StoreSession *session, const RunInfo *run, const StreamInfo *stream, RunStatus to,
	 Oid caller, const char *reason)
{
	EventInfo	event = {
		.kind = "stream",
		.stream = stream->name,
		.previous_status = status_name(stream->status),
		.status = status_name(to),
		.role = GetUserNameFromId(caller, false),
		.reason = reason
	};

	store_add_event(session, run, &event);
}

compat_noreturn static void
refuse(const RunInfo *run, const StreamInfo *stream, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot %s stream \"%s\" of run " INT64_FORMAT ", which is \"%s\"",
					what, stream->name, run->id, status_name(stream->status))));
}

/*
 * Bring the stream to paused or stopped.  With "immediate", the batches of it in hand are
 * cancelled.  Returns what comes of it, in the caller's memory.
 */
const char *
onestream_halt(StoreSession *session, const RunInfo *run, const char *name, RunStatus status,
			   bool immediate, Oid caller, const char *reason)
{
	StreamInfo *stream = find_stream(session, run, name);
	bool		at_work = stream->status == RUN_RUNNING;
	const char *word = status_name(status);

	if (stream->status == status)
		return MemoryContextStrdup(session->caller, psprintf(": stream \"%s\" is %s already", name, word));
	if (stream->status == RUN_COMPLETED || stream->status == RUN_STOPPED ||
		(status == RUN_PAUSED && stream->status == RUN_FAILED))
		refuse(run, stream, status == RUN_PAUSED ? "pause" : "stop");
	stream_set_status(session, stream->id, status);
	note(session, run, stream, status, caller, reason);
	if (immediate && at_work && segment_available())
		worker_slot_cancel(MyDatabaseId, run->id, stream->id);
	wake_at_commit((WakeTarget) {run->owner, run->id});
	return MemoryContextStrdup(session->caller,
							   psprintf(": stream \"%s\" is %s%s", name, word,
										at_work && !immediate ? " after the batch in hand" : ""));
}

/* Have the stream go on, which is held, was stopped, or has failed. */
void
onestream_resume(StoreSession *session, const RunInfo *run, const char *name, Oid caller,
				 const char *reason)
{
	StreamInfo *stream = find_stream(session, run, name);

	if (stream->status != RUN_PAUSED && stream->status != RUN_STOPPED &&
		stream->status != RUN_FAILED)
		refuse(run, stream, "resume");
	(void) stream_reopen(session, stream->id);
	note(session, run, stream, RUN_PENDING, caller, reason);
}

/* Have all streams go on that are held.  Returns whether there are any. */
bool
onestream_resume_paused(StoreSession *session, const RunInfo *run, Oid caller,
						const char *reason)
{
	List	   *streams = stream_paused(session, run->id);
	ListCell   *lc;

	foreach(lc, streams)
	{
		const StreamInfo *stream = (const StreamInfo *) lfirst(lc);

		(void) stream_reopen(session, stream->id);
		note(session, run, stream, RUN_PENDING, caller, reason);
	}
	return streams != NIL;
}
