/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  Event streams: who looks at what, and is told.
 *
 * A viewer is sent what its path shows when that has changed, and otherwise, once
 * a second, that nothing has.  It is never sent what is old: one that reads slowly
 * misses versions and gets the whole of the last one.  There is no queue.
 *
 * Between two events the connection is suspended, and costs nothing.  That its
 * other end is gone shows with the next event, which is why there is one every
 * fifteen seconds at least.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "loop.h"
#include "memory.h"
#include "server.h"
#include "stream.h"

/* Streams at a time. */
#define STREAM_MOST 512

/* Milliseconds after which a viewer hears something, whatever happens. */
#define STREAM_BEAT 15000

/* Sizes of what libmicrohttpd asks for at a time. */
#define STREAM_BLOCK 16384

static Viewer *viewers = NULL;
static int	n_viewers = 0;

static void beat(void *closure);
static LoopTimer beat_timer = {.fire = beat};

bool
stream_has_room(void)
{
	return n_viewers < STREAM_MOST;
}

/* Wakes those who have not heard anything for long. */
static void
beat(void *closure)
{
	int64_t		now = clock_now();

	(void) closure;
	for (Viewer *viewer = viewers; viewer != NULL; viewer = viewer->next)
	{
		if (now - viewer->sent_at >= STREAM_BEAT)
			stream_wake(viewer);
	}
	if (viewers != NULL)
		loop_arm(&beat_timer, now + STREAM_BEAT / 3);
}

/* An event of its own for one viewer. */
static Message *
make_message(const char *event, const char *json)
{
	Message    *message = memory_get(sizeof(Message));

	message->users = 1;
	text_init(&message->text);
	text_format(&message->text, "event: %s\ndata: %s\n\n", event, json);
	return message;
}

/* That the database is away. */
static Message *
make_lost(const char *since, const char *reason)
{
	Text		json;
	Message    *message;

	text_init(&json);
	text_add(&json, "{\"since\":");
	text_json(&json, since);
	text_add(&json, ",\"message\":");
	text_json(&json, reason);
	text_add(&json, "}");
	message = make_message("lost", json.data);
	text_free(&json);
	return message;
}

/* What its path shows, if the viewer does not know that already. */
static Message *
news_of_look(Viewer *viewer)
{
	Look	   *look = viewer->look;
	bool		full = viewer->version == 0 || viewer->erred || viewer->version + 1 != look->version;

	if (look->reads == viewer->reads || look->got == 0)
		return NULL;
	viewer->reads = look->reads;
	if (look->status != 200)
	{
		Text		json;
		Message    *message;

		/* once for each version: an error does not change */
		if (viewer->version == look->version)
			return NULL;
		viewer->version = look->version;
		viewer->erred = true;
		text_init(&json);
		feed_write(look, true, &json);
		message = make_message("error", json.data);
		text_free(&json);
		return message;
	}
	if (viewer->version == look->version)
	{
		Text		json;
		Message    *message;

		text_init(&json);
		text_add(&json, "{\"at\":");
		text_json(&json, look->at);
		text_add(&json, "}");
		message = make_message("same", json.data);
		text_free(&json);
		return message;
	}
	viewer->version = look->version;
	viewer->erred = false;
	return feed_message(look, full);
}

/* The next event for a viewer, or NULL if there is none now. */
static Message *
next_message(Viewer *viewer)
{
	const char *since;
	const char *reason;
	Message    *message;

	if (!viewer->greeted)
	{
		viewer->greeted = true;
		message = make_message("hello", "{}");
		text_add(&message->text, "retry: 2000\n\n");
		return message;
	}
	if (feed_is_lost(viewer->look->feed, &since, &reason))
	{
		if (viewer->lost)
			return NULL;
		viewer->lost = true;
		return make_lost(since, reason);
	}
	if (viewer->lost)
	{
		viewer->lost = false;
		/* what comes next is to be whole */
		viewer->version = viewer->reads = 0;
		return make_message("back", "{}");
	}
	return news_of_look(viewer);
}

/* libmicrohttpd can send something: gives it the next bytes. */
static ssize_t
read_on(void *closure, uint64_t position, char *buffer, size_t most)
{
	Viewer	   *viewer = closure;
	size_t		n;

	(void) position;
	if (viewer->message == NULL)
	{
		if (viewer->look == NULL)
		{
			if (!viewer->logout)
				return MHD_CONTENT_READER_END_OF_STREAM;
			viewer->logout = false;
			viewer->message = make_message("logout", "{}");
		}
		else
			viewer->message = next_message(viewer);
		if (viewer->message == NULL && clock_now() - viewer->sent_at >= STREAM_BEAT)
		{
			viewer->message = make_message("beat", "{}");
			/* a comment: pages are not told */
			viewer->message->text.length = 0;
			text_add(&viewer->message->text, ": beat\n\n");
		}
		viewer->offset = 0;
	}
	if (viewer->message == NULL)
	{
		viewer->sleeps = true;
		MHD_suspend_connection(viewer->connection);
		return 0;
	}
	n = viewer->message->text.length - viewer->offset;
	n = n < most ? n : most;
	memcpy(buffer, viewer->message->text.data + viewer->offset, n);
	viewer->offset += n;
	viewer->sent_at = clock_now();
	if (viewer->offset == viewer->message->text.length)
	{
		feed_release(viewer->message);
		viewer->message = NULL;
	}
	return (ssize_t) n;
}

/*
 * Begins to send a viewer what a path shows.  Returns the response, or NULL if
 * there is no room for another path; stream_end has to be called when the
 * connection is done with it.
 */
struct MHD_Response *
stream_begin(struct MHD_Connection *connection, Account *account, struct Session *session,
			 const Screen *screen, const char *path, const char *args, Viewer **place)
{
	Viewer	   *viewer = memory_get(sizeof(Viewer));
	struct MHD_Response *response;

	viewer->connection = connection;
	viewer->session = session;
	viewer->sent_at = clock_now();
	if (feed_watch(account->feed, screen, path, args, viewer) == NULL)
	{
		free(viewer);
		return NULL;
	}
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_on, viewer, NULL);
	viewer->next = viewers;
	viewers = viewer;
	n_viewers++;
	if (!beat_timer.armed)
		loop_arm(&beat_timer, clock_now() + STREAM_BEAT / 3);
	*place = viewer;
	return response;
}

/* The connection of a viewer is gone. */
void
stream_end(Viewer *viewer)
{
	Viewer	  **place = &viewers;

	while (*place != viewer)
		place = &(*place)->next;
	*place = viewer->next;
	n_viewers--;
	feed_unwatch(viewer);
	feed_release(viewer->message);
	free(viewer);
	if (viewers == NULL)
		loop_disarm(&beat_timer);
}

/* There may be something to be sent. */
void
stream_wake(Viewer *viewer)
{
	if (viewer->sleeps)
	{
		viewer->sleeps = false;
		server_resume(viewer->connection);
	}
}

/* The session has ended: its viewers are told, and their streams end. */
void
stream_log_out(struct Session *session)
{
	for (Viewer *viewer = viewers; viewer != NULL; viewer = viewer->next)
	{
		if (viewer->session != session)
			continue;
		viewer->session = NULL;
		viewer->logout = true;
		feed_unwatch(viewer);
		stream_wake(viewer);
	}
}

/* The program ends: no connection may stay suspended. */
void
stream_stop(void)
{
	for (Viewer *viewer = viewers; viewer != NULL; viewer = viewer->next)
	{
		feed_unwatch(viewer);
		stream_wake(viewer);
	}
}
