/*-------------------------------------------------------------------------
 *
 * stream.h
 *	  Event streams: who looks at what, and is told.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_STREAM_H
#define CONSOLE_STREAM_H

#include <microhttpd.h>

#include "feed.h"

struct Session;

typedef struct Viewer
{
	Look	   *look;			/* NULL: is to be told no more */
	struct Viewer *next_of_look;
	struct Viewer *next;
	struct Session *session;	/* NULL: everybody */
	struct MHD_Connection *connection;
	bool		sleeps;			/* the connection is suspended */
	bool		lost;			/* has been told that the database is away */
	bool		erred;			/* was told of an error instead of data */
	bool		greeted;		/* has been told when to come again */
	bool		logout;			/* is to be told that the session has ended */
	uint64_t	version;		/* what it was sent last */
	uint64_t	reads;
	int64_t		sent_at;
	Message    *message;		/* being sent, from "offset" on */
	size_t		offset;
} Viewer;

extern bool stream_has_room(void);
extern struct MHD_Response *stream_begin(struct MHD_Connection *connection, Account *account,
										 struct Session *session, const Screen *screen,
										 const char *path, const char *args, Viewer **viewer);
extern void stream_end(Viewer *viewer);
extern void stream_wake(Viewer *viewer);
extern void stream_log_out(struct Session *session);
extern void stream_stop(void);

#endif							/* CONSOLE_STREAM_H */
