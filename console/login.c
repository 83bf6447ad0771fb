/*-------------------------------------------------------------------------
 *
 * login.c
 *	  Letting a visitor in.
 *
 * A visitor gives a role and a password, and the server decides: a connection is
 * made with them, and closed again.  What the page says of a failure does not tell
 * whether there is such a role.
 *
 * The form has a token that belongs to a cookie set with the form, so that nobody
 * can have a visitor's browser log in as somebody else.  Neither is kept here.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "form.h"
#include "guard.h"
#include "log.h"
#include "login.h"
#include "loop.h"
#include "memory.h"
#include "options.h"
#include "render.h"
#include "throttle.h"

/* Attempts that the server is asked about at a time. */
#define LOGINS_MOST 8

/* Milliseconds that the answer to a failure takes at least. */
#define LOGIN_SLOW 1000

/* Bytes of the name of a role. */
#define LONGEST_ROLE 63

struct Login
{
	Request    *request;		/* NULL: the visitor is gone */
	char	   *role;
	char	   *password;		/* see secret.c */
	char		address[GUARD_ADDRESS];
	Database   *database;
	LoopTimer	slow;
	bool		refused;		/* the role or the password was wrong */
	int64_t		began;
	Login	   *next;
};

static Login *logins = NULL;
static int	n_logins = 0;

/* The names of the cookies: browsers take the long ones over TLS only. */
static const char *
session_cookie(void)
{
	return options.tls_cert || options.behind_proxy ? "__Host-backfill_console" : "backfill_console";
}

static const char *
form_cookie(void)
{
	return options.tls_cert || options.behind_proxy ? "__Host-backfill_login" : "backfill_login";
}

/* Sets a cookie with the response, or, with an empty value, has it forgotten. */
static void
set_cookie(Request *request, const char *name, const char *value)
{
	Text		cookie;

	text_init(&cookie);
	text_format(&cookie, "%s=%s; Path=/; HttpOnly; SameSite=Strict%s%s", name, value,
				options.tls_cert || options.behind_proxy ? "; Secure" : "", *value ? "" : "; Max-Age=0");
	free(request->cookie);
	request->cookie = cookie.data;
}

/* The page with the form, with a message or without. */
static void
show_form(Request *request, int status, const char *message)
{
	char		nonce[SECRET_TOKEN];
	char		token[SECRET_TOKEN];

	secret_token(nonce);
	secret_sign(nonce, token);
	set_cookie(request, form_cookie(), nonce);
	request->reply.length = 0;
	request->form = REQUEST_PAGE;
	render_login(request, token, message);
	request_answer(request, status, "text/html; charset=utf-8");
}

void
login_show(Request *request)
{
	show_form(request, 200, NULL);
}

static void
free_login(Login *login)
{
	Login	  **place = &logins;

	while (*place != login)
		place = &(*place)->next;
	*place = login->next;
	loop_disarm(&login->slow);
	database_free(login->database);
	secret_forget(login->password);
	free(login->role);
	free(login);
	n_logins--;
}

/* The visitor is gone: the attempt is carried out to its end, or it would cost nothing. */
void
login_abandon(Login *login)
{
	login->request = NULL;
}

/* A failure is answered after a while. */
static void
answer_failure(void *closure)
{
	Login	   *login = closure;
	Request    *request = login->request;

	if (request != NULL)
	{
		request->login = NULL;
		show_form(request, login->refused ? 403 : 503, login->refused ?
				  "This role and password are not accepted." :
				  "The database cannot be reached, or has no backfill in it.");
	}
	free_login(login);
}

static void
be_failed(Database *database, DatabaseFailure why, const char *message, void *closure)
{
	Login	   *login = closure;
	int64_t		soonest = login->began + LOGIN_SLOW;

	(void) database;
	log_note("login of role \"%s\" from %s failed: %s", login->role, login->address, message);
	login->refused = why == DATABASE_REFUSED;
	/* "unfit" comes after the password was right */
	if (why != DATABASE_UNFIT && login->refused)
		throttle_failed(login->role, login->address);
	login->slow.fire = answer_failure;
	loop_arm(&login->slow, soonest);
}

/* The connection stands: from the loop, since it is freed here. */
static void
let_in(void *closure)
{
	Login	   *login = closure;
	Request    *request = login->request;

	throttle_succeeded(login->role, login->address);
	if (request != NULL)
	{
		Session    *session = session_begin(login->role, login->password);

		request->login = NULL;
		if (session == NULL)
			show_form(request, 503, "Too many are logged in.");
		else
		{
			log_note("role \"%s\" has logged in from %s", login->role, login->address);
			set_cookie(request, session_cookie(), session->token);
			request_redirect(request, "/runs");
		}
	}
	free_login(login);
}

static void
be_connected(Database *database, void *closure)
{
	Login	   *login = closure;

	(void) database;
	login->slow.fire = let_in;
	loop_arm(&login->slow, clock_now());
}

/* Whether the form came from a page of ours to this browser. */
static bool
is_own_form(const Request *request, const Form *form)
{
	char	   *nonce = request_cookie(request, form_cookie());
	char		token[SECRET_TOKEN];
	bool		own = false;

	if (nonce != NULL && strlen(nonce) == SECRET_TOKEN - 1)
	{
		secret_sign(nonce, token);
		own = secret_equal(token, form_value(form, "csrf"));
	}
	free(nonce);
	return own;
}

/* Asks the server, if it may be asked. */
static void
begin_login(Request *request, const char *role, const char *password)
{
	Login	   *login;
	char		address[GUARD_ADDRESS];
	int64_t		wait;

	guard_address(request->connection, address);
	wait = throttle_wait(role, address);
	if (wait > 0 || n_logins >= LOGINS_MOST)
	{
		request->retry_after = wait > 0 ? (int) (wait / 1000) + 1 : 1;
		if (wait > 0)
			log_note("login of role \"%s\" from %s was not tried: too many have failed", role, address);
		show_form(request, 429, "Too many attempts. Wait a little, then try again.");
		return;
	}
	login = memory_get(sizeof(Login));
	login->next = logins;
	logins = login;
	n_logins++;
	login->request = request;
	login->role = memory_copy(role);
	login->password = secret_keep(password);
	login->began = clock_now();
	login->slow.closure = login;
	strcpy(login->address, address);
	login->database = database_new(&(DatabaseOwner) {be_connected, be_failed, login});
	request->login = login;
	database_connect(login->database, login->role, login->password, 10);
}

/* POST /login */
void
login_try(Request *request)
{
	Form		form;
	const char *role;
	const char *password;

	if (!form_parse(&form, request->body.data, request->body.length))
		request_refuse(request, 400, "the form cannot be read");
	else if (!is_own_form(request, &form))
		show_form(request, 403, "The form was too old. Try again.");
	else
	{
		role = form_value(&form, "user");
		password = form_value(&form, "password");
		if (role == NULL || *role == '\0' || strlen(role) > LONGEST_ROLE ||
			password == NULL || *password == '\0' || strlen(password) > 1000)
			show_form(request, 403, "This role and password are not accepted.");
		else
			begin_login(request, role, password);
	}
	form_free(&form);
}

/* The session of a request, or NULL. */
Session *
login_session(const Request *request)
{
	char	   *token = request_cookie(request, session_cookie());
	Session    *session = token ? session_find(token) : NULL;

	secret_wipe(token);
	free(token);
	return session;
}

/* Ends the session of a request, and shows the form again. */
void
login_leave(Request *request)
{
	Session    *session = login_session(request);

	if (session != NULL)
	{
		log_note("role \"%s\" has logged out", session->account->role);
		session_end(session);
	}
	set_cookie(request, session_cookie(), "");
	request_redirect(request, "/login");
}

/* The program ends. */
void
login_stop(void)
{
	while (logins != NULL)
	{
		Request    *request = logins->request;

		free_login(logins);
		if (request != NULL)
		{
			request->login = NULL;
			request_refuse(request, 503, "the console ends");
		}
	}
}
