/*-------------------------------------------------------------------------
 *
 * request.c
 *	  One request, from its first line to the end of its response.
 *
 * libmicrohttpd calls request_new when it has the first line, request_handle when
 * it has the headers, with each piece of the body, and at its end, and request_done
 * when it is through with it, however that came about.
 *
 * A request is answered once, by one of the functions below, at once or later:
 * until then the connection is suspended.  Every connection but an event stream
 * ends with its response, so that nothing can hide behind a request.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "login.h"
#include "memory.h"
#include "options.h"
#include "render.h"
#include "request.h"
#include "route.h"
#include "server.h"

/* Bytes of a path with its query. */
#define URI_LONGEST 8192

static const char *const policy =
"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
"form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/* All requests. */
static Request *requests = NULL;

/* The first line of a request is there. */
void *
request_new(void *closure, const char *uri, struct MHD_Connection *connection)
{
	Request    *request = memory_get(sizeof(Request));
	const char *mark = strchr(uri, '?');

	(void) closure;
	/* a broken one before it may have been given up without a word */
	request_close(connection);
	request->connection = connection;
	request->next = requests;
	requests = request;
	if (strlen(uri) <= URI_LONGEST)
	{
		request->path = mark ? memory_copy_n(uri, mark - uri) : memory_copy(uri);
		request->query = memory_copy(mark ? mark + 1 : "");
	}
	text_init(&request->body);
	text_init(&request->reply);
	return request;
}

/* Lets go of everything that a request has. */
static void
free_request(Request *request)
{
	Request   **place = &requests;

	while (*place != request)
		place = &(*place)->next;
	*place = request->next;
	feed_forget(&request->waiter);
	if (request->job != NULL)
		job_abandon(request->job);
	if (request->login != NULL)
		login_abandon(request->login);
	if (request->viewer != NULL)
		stream_end(request->viewer);
	explicit_bzero(request->body.data, request->body.length);
	secret_wipe(request->csrf);
	secret_wipe(request->cookie);
	text_free(&request->body);
	text_free(&request->reply);
	free(request->path);
	free(request->query);
	free(request->role);
	free(request->back);
	free(request->location);
	free(request->cookie);
	free(request);
}

/* libmicrohttpd is through with the request. */
void
request_done(void *closure, struct MHD_Connection *connection, void **place,
			 enum MHD_RequestTerminationCode how)
{
	(void) closure;
	(void) connection;
	(void) how;
	if (*place != NULL)
		free_request(*place);
	*place = NULL;
}

/*
 * The connection has no request any more.  libmicrohttpd 0.9.75 does not always
 * call request_done for one whose headers are broken.
 */
void
request_close(struct MHD_Connection *connection)
{
	Request    *request = requests;

	while (request != NULL)
	{
		Request    *next = request->next;

		if (request->connection == connection)
			free_request(request);
		request = next;
	}
}

/* A header, or NULL. */
const char *
request_header(const Request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

/* The value of a cookie, for the caller to free, or NULL if it is not there once. */
char *
request_cookie(const Request *request, const char *name)
{
	const char *at = request_header(request, "Cookie");
	char	   *found = NULL;
	size_t		n = strlen(name);

	while (at != NULL && *at != '\0')
	{
		size_t		length;

		at += strspn(at, "; ");
		length = strcspn(at, ";");
		if (length > n && strncmp(at, name, n) == 0 && at[n] == '=')
		{
			if (found != NULL)
			{
				free(found);
				return NULL;
			}
			found = memory_copy_n(at + n + 1, length - n - 1);
		}
		at += length;
	}
	return found;
}

/* ---- answers ---- */

/* What is in "reply", or "static_body", is the response. */
void
request_answer(Request *request, int status, const char *type)
{
	request->status = status;
	request->type = type;
	request->ready = true;
	if (request->suspended)
	{
		request->suspended = false;
		server_resume(request->connection);
	}
}

/* Whether the browser is told to read the page again by itself: one that cannot be shown now. */
bool
request_comes_again(const Request *request, int status)
{
	return status == 503 && request->form == REQUEST_PAGE && !request->posts;
}

/* An error, given as a JSON object. */
void
request_error(Request *request, int status, const char *error)
{
	request->reply.length = 0;
	request->reply.data[0] = '\0';
	if (request->form == REQUEST_PAGE)
	{
		render_error(request, status, error);
		request_answer(request, status, "text/html; charset=utf-8");
	}
	else if (request->form == REQUEST_METRICS)
	{
		text_add(&request->reply, "# the metrics could not be read\n");
		request_answer(request, status, "text/plain; charset=utf-8");
	}
	else
	{
		text_format(&request->reply, "{\"error\":%s}\n", error);
		request_answer(request, status, "application/json");
	}
}

/* An error of the console's own. */
void
request_refuse(Request *request, int status, const char *message)
{
	Text		error;

	text_init(&error);
	text_add(&error, "{\"message\":");
	text_json(&error, message);
	text_add(&error, "}");
	request_error(request, status, error.data);
	text_free(&error);
}

/* Have the browser read another page of ours. */
void
request_redirect(Request *request, const char *location)
{
	free(request->location);
	request->location = memory_copy(location);
	request_answer(request, 303, "text/plain; charset=utf-8");
}

/* Headers that every response has. */
static void
add_headers(const Request *request, struct MHD_Response *response)
{
	char		seconds[16];

	MHD_add_response_header(response, "Content-Security-Policy", policy);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "X-Frame-Options", "DENY");
	MHD_add_response_header(response, "Referrer-Policy", "same-origin");
	MHD_add_response_header(response, "Cross-Origin-Opener-Policy", "same-origin");
	MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
	MHD_add_response_header(response, "Content-Type", request->type);
	MHD_add_response_header(response, "Cache-Control", request->etag ? "no-cache" : "no-store");
	if (request->etag != NULL)
		MHD_add_response_header(response, "ETag", request->etag);
	if (request->location != NULL)
		MHD_add_response_header(response, "Location", request->location);
	if (request->cookie != NULL)
		MHD_add_response_header(response, "Set-Cookie", request->cookie);
	if (request->retry_after > 0)
	{
		snprintf(seconds, sizeof(seconds), "%d", request->retry_after);
		MHD_add_response_header(response, "Retry-After", seconds);
	}
	if (request_comes_again(request, request->status))
	{
		snprintf(seconds, sizeof(seconds), "%d", REQUEST_AGAIN);
		MHD_add_response_header(response, "Refresh", seconds);
	}
	if (request->status == 405)
		MHD_add_response_header(response, "Allow", "GET, HEAD, POST");
	MHD_add_response_header(response, "Connection", "close");
}

/* Gives the response to libmicrohttpd. */
static enum MHD_Result
send_response(Request *request)
{
	struct MHD_Response *response = request->stream;
	enum MHD_Result result;

	if (response != NULL)
	{
		/* proxies that keep responses back until they are whole are told not to */
		MHD_add_response_header(response, "X-Accel-Buffering", "no");
	}
	else if (request->static_body != NULL)
		response = MHD_create_response_from_buffer(request->static_length, (void *) request->static_body,
												   MHD_RESPMEM_PERSISTENT);
	else
	{
		/* it lives as long as the request, and that as long as the response */
		response = MHD_create_response_from_buffer(request->reply.length, request->reply.data,
												   MHD_RESPMEM_MUST_COPY);
	}
	if (response == NULL)
		return MHD_NO;
	add_headers(request, response);
	result = MHD_queue_response(request->connection, request->status, response);
	MHD_destroy_response(response);
	request->stream = NULL;
	return result;
}

/* The headers are there: whether the request may go on. */
static void
begin(Request *request, const char *method)
{
	int			status;
	const char *why;
	size_t		length;

	request->begun = true;
	request->posts = strcmp(method, "POST") == 0;
	request->form = request->path != NULL && strncmp(request->path, "/api/", 5) == 0 ? REQUEST_JSON : REQUEST_PAGE;
	if (request->path == NULL)
		request_refuse(request, 414, "the address is too long");
	else if (request->path[0] != '/')
		request_refuse(request, 400, "the address is no path");
	else if (!request->posts && strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		request_refuse(request, 405, "there is no such method");
	else if (!guard_check(request->connection, request->posts, &status, &why, &length))
		request_refuse(request, status, why);
}

/* libmicrohttpd has got further with the request. */
enum MHD_Result
request_handle(void *closure, struct MHD_Connection *connection, const char *url, const char *method,
			   const char *version, const char *data, size_t *size, void **place)
{
	Request    *request = *place;

	(void) closure;
	(void) url;
	(void) version;
	if (request == NULL)
		return MHD_NO;
	if (!request->begun)
	{
		begin(request, method);
		return request->ready ? send_response(request) : MHD_YES;
	}
	if (*size > 0)
	{
		if (request->body.length + *size > GUARD_BODY)
			return MHD_NO;
		text_add_n(&request->body, data, *size);
		/* it may hold a password, and libmicrohttpd does not wipe it */
		explicit_bzero((char *) data, *size);
		*size = 0;
		return MHD_YES;
	}
	if (!request->ready)
	{
		server_has_request(connection);
		route_request(request);
		if (!request->ready)
		{
			request->suspended = true;
			MHD_suspend_connection(connection);
			return MHD_YES;
		}
	}
	return send_response(request);
}
