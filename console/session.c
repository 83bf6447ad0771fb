/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Who is logged in.
 *
 * A session begins with a login and a new token, whatever cookie the browser had
 * before; it lives in memory alone, and ends so many minutes after its last
 * request (--idle-timeout; an event stream is no request), twelve hours after its
 * beginning, with a logout, when the server does not take its password any more,
 * or with the program.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>

#include "clock.h"
#include "loop.h"
#include "memory.h"
#include "options.h"
#include "session.h"
#include "stream.h"

#define SESSIONS_MOST 1000
#define SESSION_LONGEST (12 * INT64_C(3600000))

static Session *sessions = NULL;
static int	n_sessions = 0;

static void expire(void *closure);
static LoopTimer expiry = {.fire = expire};

/* When a session is to end by itself. */
static int64_t
end_of(const Session *session)
{
	int64_t		idle = session->used + options.idle_timeout;
	int64_t		longest = session->began + SESSION_LONGEST;

	return idle < longest ? idle : longest;
}

/* Ends what is over, and comes again when the next one may be. */
static void
expire(void *closure)
{
	int64_t		now = clock_now();
	int64_t		next = INT64_MAX;
	Session    *session = sessions;

	(void) closure;
	while (session != NULL)
	{
		Session    *following = session->next;

		if (end_of(session) <= now)
			session_end(session);
		else if (end_of(session) < next)
			next = end_of(session);
		session = following;
	}
	if (next != INT64_MAX)
		loop_arm(&expiry, next);
}

/* A new session of a role; NULL if there are too many. */
Session *
session_begin(const char *role, const char *password)
{
	Session    *session;

	if (n_sessions >= SESSIONS_MOST)
		return NULL;
	session = memory_get(sizeof(Session));
	secret_token(session->token);
	secret_token(session->csrf);
	session->account = account_enter(role, password);
	session->began = session->used = clock_now();
	session->next = sessions;
	sessions = session;
	n_sessions++;
	if (!expiry.armed || expiry.due > end_of(session))
		loop_arm(&expiry, end_of(session));
	return session;
}

/* The session of a token, which is used now; NULL if there is none. */
Session *
session_find(const char *token)
{
	Session    *found = NULL;

	for (Session *session = sessions; session != NULL; session = session->next)
	{
		if (secret_equal(session->token, token))
			found = session;
	}
	if (found != NULL && end_of(found) <= clock_now())
	{
		session_end(found);
		return NULL;
	}
	if (found != NULL)
		found->used = clock_now();
	return found;
}

/* Ends a session: its streams end, its cookie and its token are worth nothing. */
void
session_end(Session *session)
{
	Session   **place = &sessions;

	while (*place != session)
		place = &(*place)->next;
	*place = session->next;
	n_sessions--;
	stream_log_out(session);
	account_leave(session->account);
	secret_wipe(session->token);
	secret_wipe(session->csrf);
	free(session);
}

/* Ends the sessions of an account. */
void
session_end_account(const Account *account)
{
	Session    *session = sessions;

	while (session != NULL)
	{
		Session    *following = session->next;

		if (session->account == account)
			session_end(session);
		session = following;
	}
}

/* The program ends. */
void
session_stop(void)
{
	loop_disarm(&expiry);
	while (sessions != NULL)
		session_end(sessions);
}
