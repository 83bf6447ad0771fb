/*-------------------------------------------------------------------------
 *
 * route.c
 *	  Who answers which path.
 *
 *	  /assets/NAME			script, style, pictures: for everybody
 *	  /login, /logout
 *	  /metrics				see options.h
 *	  /PATH					a screen as a page
 *	  /api/PATH				the same as JSON
 *	  /events?path=PATH		the same as a stream of events
 *	  /api/do/ACTION		something is done (POST)
 *	  /api/preview			something is tried (POST)
 *
 * Whoever is not logged in gets the form, or 401.  A change needs the token of the
 * session in X-CSRF-Token or in the field csrf.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "action.h"
#include "assets.h"
#include "form.h"
#include "guard.h"
#include "login.h"
#include "memory.h"
#include "metrics.h"
#include "options.h"
#include "render.h"
#include "route.h"

/* The account of those who do not log in, and that of the metrics; or NULL. */
static Account *everybody = NULL;
static Account *watcher = NULL;

/* Makes the accounts that live as long as the program. */
void
route_init(void)
{
	if (options.read_only)
		everybody = account_enter(NULL, NULL);
	if (options.metrics)
		watcher = account_enter(options.metrics_role, NULL);
}

/* The program ends. */
void
route_stop(void)
{
	if (everybody != NULL)
		account_leave(everybody);
	if (watcher != NULL)
		account_leave(watcher);
}

/* The outcome of a job as JSON, or as the page that a form leads back to. */
static void
finish_job(PGresult *result, const Text *notices, const char *failure, void *closure)
{
	Request    *request = closure;
	const char *state;
	Text		error;

	request->job = NULL;
	if (failure != NULL)
	{
		request_refuse(request, 503, failure);
		return;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		const char *value = PQgetisnull(result, 0, 0) ? "null" : PQgetvalue(result, 0, 0);

		if (request->account != NULL)
			feed_hurry(request->account->feed);
		if (request->back != NULL)
		{
			request_redirect(request, request->back);
			return;
		}
		if (request->screen != NULL)
			render_value(request, value);
		else if (request->account == NULL)
			text_add(&request->reply, value);
		else
			text_format(&request->reply, "{\"ok\":true,\"result\":%s,\"notice\":[%s]}\n", value, notices->data);
		request_answer(request, 200, request->form == REQUEST_PAGE ? "text/html; charset=utf-8" : "application/json");
		return;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		request_refuse(request, 404, "there is no such thing, or you may not see it");
		return;
	}
	state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	state = state ? state : "";
	text_init(&error);
	text_add(&error, "{\"message\":");
	text_json(&error, PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
	text_add(&error, ",\"detail\":");
	text_json(&error, PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL));
	text_add(&error, ",\"hint\":");
	text_json(&error, PQresultErrorField(result, PG_DIAG_MESSAGE_HINT));
	text_add(&error, ",\"sqlstate\":");
	text_json(&error, state);
	text_add(&error, "}");
	request_error(request, strcmp(state, "42501") == 0 || strcmp(state, "25006") == 0 ? 403 :
				  strcmp(state, "42704") == 0 ? 404 : 422, error.data);
	text_free(&error);
}

/* What was looked at is there. */
static void
finish_look(Look *look, void *closure)
{
	Request    *request = closure;

	if (look->status != 200)
	{
		request_error(request, look->status, look->error);
		return;
	}
	if (request->form == REQUEST_METRICS)
	{
		metrics_write(look->data, &request->reply);
		request_answer(request, 200, "text/plain; version=0.0.4; charset=utf-8");
		return;
	}
	if (request->form == REQUEST_PAGE)
	{
		Text		json;

		text_init(&json);
		feed_write(look, true, &json);
		render_value(request, json.data);
		text_free(&json);
		request_answer(request, 200, "text/html; charset=utf-8");
		return;
	}
	feed_write(look, true, &request->reply);
	text_add(&request->reply, "\n");
	request_answer(request, 200, "application/json");
}

/* The account of whoever asks; NULL if nobody is logged in, who is told so. */
static Account *
enter(Request *request, Session **place)
{
	Session    *session;

	*place = NULL;
	if (everybody != NULL)
		return everybody;
	session = login_session(request);
	if (session == NULL)
	{
		if (request->form == REQUEST_PAGE && !request->posts)
			request_redirect(request, "/login");
		else
			request_refuse(request, 401, "nobody is logged in");
		return NULL;
	}
	*place = session;
	request->role = memory_copy(session->account->role);
	memcpy(request->csrf, session->csrf, SECRET_TOKEN);
	return session->account;
}

/* The arguments of a screen, with what every screen is told. */
static void
begin_args(Text *args)
{
	text_init(args);
	text_format(args, "{\"read_only\":%s", options.read_only ? "true" : "false");
}

/* A path with its query, as it is known by. */
static char *
whole_path(const char *path, const char *query)
{
	Text		text;

	text_init(&text);
	text_add(&text, path);
	if (*query != '\0')
		text_add(&text, "?");
	text_add(&text, query);
	return text.data;
}

/* GET of a screen, as a page or as JSON. */
static void
answer_screen(Request *request, const char *path)
{
	Session    *session;
	Account    *account;
	Text		args;
	char	   *whole;

	begin_args(&args);
	request->screen = screen_find(path, request->query, &args);
	text_add(&args, "}");
	if (request->screen == NULL)
		request_refuse(request, 404, "there is no such page");
	else if (request->form == REQUEST_JSON && !guard_is_own_fetch(request->connection))
		request_refuse(request, 403, "the request comes from a page of another server");
	else if ((account = enter(request, &session)) != NULL)
	{
		if (request->screen->is_live)
		{
			request->waiter.done = finish_look;
			request->waiter.closure = request;
			whole = whole_path(path, request->query);
			feed_ask(account->feed, request->screen, whole, args.data, &request->waiter);
			free(whole);
		}
		else
		{
			request->job = job_begin(account->jobs, request->screen->sql, args.data, finish_job, request);
			if (request->form == REQUEST_JSON)
				request->screen = NULL;
			if (request->job == NULL)
				request_refuse(request, 503, "too much is being done");
		}
	}
	text_free(&args);
}

/* GET /events */
static void
answer_events(Request *request)
{
	Form		form;
	Session    *session;
	Account    *account;
	Text		args;
	const char *path = NULL;
	char	   *screen_path = NULL;
	char	   *mark = NULL;

	request->form = REQUEST_JSON;
	begin_args(&args);
	if (form_parse(&form, request->query, strlen(request->query)))
		path = form_value(&form, "path");
	if (path != NULL)
	{
		screen_path = memory_copy(path);
		mark = strchr(screen_path, '?');
		if (mark != NULL)
			*mark++ = '\0';
		request->screen = screen_find(screen_path, mark ? mark : "", &args);
	}
	text_add(&args, "}");
	if (request->screen == NULL || !request->screen->is_live)
		request_refuse(request, 404, "there is no such page to be watched");
	else if (!guard_is_own_fetch(request->connection))
		request_refuse(request, 403, "the request comes from a page of another server");
	else if ((account = enter(request, &session)) != NULL)
	{
		if (stream_has_room())
			request->stream = stream_begin(request->connection, account, session, request->screen, path,
										   args.data, &request->viewer);
		if (request->stream == NULL)
		{
			request->retry_after = 5;
			request_refuse(request, 503, "too many are watching");
		}
		else
			request_answer(request, 200, "text/event-stream; charset=utf-8");
	}
	form_free(&form);
	free(screen_path);
	text_free(&args);
}

/* The fields of a form as a JSON object. */
static void
write_fields(const Form *form, Text *json)
{
	for (int i = 0; i < form->n; i++)
	{
		if (strcmp(form->names[i], "csrf") == 0)
			continue;
		text_add(json, ",");
		text_json(json, form->names[i]);
		text_add(json, ":");
		text_json(json, form->values[i]);
	}
}

/* Whether the request has the token of its session, in a header or in the form. */
static bool
has_token(const Request *request, const Form *form)
{
	const char *header = request_header(request, "X-CSRF-Token");

	return secret_equal(request->csrf, header ? header : form_value(form, "csrf"));
}

/* POST /api/do/ACTION and /api/preview */
static void
answer_action(Request *request, const Action *action)
{
	Form		form;
	Session    *session;
	Account    *account;
	const char *back;
	Text		args;

	text_init(&args);
	form.n = 0;
	if (action == NULL)
		request_refuse(request, 404, "there is no such action");
	else if (options.read_only)
		request_refuse(request, 403, "this console only reads");
	else if ((account = enter(request, &session)) == NULL)
		;
	else if (!form_parse(&form, request->body.data, request->body.length))
		request_refuse(request, 400, "the form cannot be read");
	else if (!has_token(request, &form))
		request_refuse(request, 403, "the token of the session is missing or wrong");
	else if (action->needs != NULL && (form_value(&form, action->needs) == NULL || *form_value(&form, action->needs) == '\0'))
		request_refuse(request, 400, "a field is missing");
	else
	{
		/* a form without script names the page that it stands on */
		back = form_value(&form, "back");
		if (back != NULL && request_header(request, "X-CSRF-Token") == NULL)
		{
			request->form = REQUEST_PAGE;
			if (screen_find(back, "", NULL) != NULL)
				request->back = memory_copy(back);
		}
		text_add(&args, "{\"console\":true");
		write_fields(&form, &args);
		text_add(&args, "}");
		request->account = action->changes ? account : NULL;
		request->job = job_begin(account->jobs, action->sql, args.data, finish_job, request);
		if (request->job == NULL)
			request_refuse(request, 503, "too much is being done");
	}
	form_free(&form);
	text_free(&args);
}

/* POST /logout */
static void
answer_logout(Request *request)
{
	Form		form;
	Session    *session;

	if (enter(request, &session) == NULL)
		return;
	if (!form_parse(&form, request->body.data, request->body.length) || !has_token(request, &form))
		request_refuse(request, 403, "the token of the session is missing or wrong");
	else if (session == NULL)
		request_redirect(request, "/runs");
	else
		login_leave(request);
	form_free(&form);
}

/* GET /metrics */
static void
answer_metrics(Request *request)
{
	const char *given = request_header(request, "Authorization");

	request->form = REQUEST_METRICS;
	if (watcher == NULL)
		request_refuse(request, 404, "there are no metrics; see --metrics");
	else if (options.metrics_token != NULL &&
			 (given == NULL || strncmp(given, "Bearer ", 7) != 0 || !secret_equal(options.metrics_token, given + 7)))
		request_refuse(request, 401, "the token is missing or wrong");
	else
	{
		request->waiter.done = finish_look;
		request->waiter.closure = request;
		feed_ask(watcher->feed, screen_metrics(), "/metrics", "{}", &request->waiter);
	}
}

/* GET /assets/NAME: looked up in a table, so there is no path to traverse. */
static void
answer_asset(Request *request, const char *name)
{
	const Asset *asset = asset_find(name);
	const char *known = request_header(request, "If-None-Match");

	if (asset == NULL)
	{
		request_refuse(request, 404, "there is no such file");
		return;
	}
	request->etag = asset->etag;
	if (known != NULL && strcmp(known, asset->etag) == 0)
	{
		request_answer(request, 304, asset->type);
		return;
	}
	request->static_body = (const char *) asset->bytes;
	request->static_length = asset->length;
	request_answer(request, 200, asset->type);
}

static void
route_post(Request *request)
{
	const char *path = request->path;

	if (strcmp(path, "/login") == 0 && !options.read_only)
		login_try(request);
	else if (strcmp(path, "/logout") == 0)
		answer_logout(request);
	else if (strncmp(path, "/api/do/", 8) == 0)
		answer_action(request, action_find(path + 8));
	else if (strcmp(path, "/api/preview") == 0)
		answer_action(request, action_preview());
	else
		request_refuse(request, 404, "there is no such page");
}

/* Answers a request that is there as a whole, now or later. */
void
route_request(Request *request)
{
	const char *path = request->path;

	if (request->posts)
		route_post(request);
	else if (strncmp(path, "/assets/", 8) == 0)
		answer_asset(request, path + 8);
	else if (strcmp(path, "/login") == 0 && !options.read_only)
		login_show(request);
	else if (strcmp(path, "/") == 0 || strcmp(path, "/login") == 0)
		request_redirect(request, "/runs");
	else if (strcmp(path, "/metrics") == 0)
		answer_metrics(request);
	else if (strcmp(path, "/events") == 0)
		answer_events(request);
	else if (strncmp(path, "/api/", 5) == 0)
		answer_screen(request, path + 4);
	else
		answer_screen(request, path);
}
