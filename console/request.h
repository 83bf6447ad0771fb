/*-------------------------------------------------------------------------
 *
 * request.h
 *	  One request, from its first line to the end of its response.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_REQUEST_H
#define CONSOLE_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>

#include "feed.h"
#include "job.h"
#include "secret.h"
#include "stream.h"
#include "text.h"


/* In which form what is asked for is wanted. */
typedef enum RequestForm
{
	REQUEST_PAGE,
	REQUEST_JSON,
	REQUEST_METRICS
} RequestForm;

typedef struct Request
{
	struct MHD_Connection *connection;
	char	   *path;			/* as it was sent, without the query */
	char	   *query;			/* as it was sent, without the "?"; may be empty */
	bool		posts;
	bool		begun;			/* the headers have been looked at */
	Text		body;

	/* who asks, copied: a session may end while the request waits */
	RequestForm form;
	char	   *role;			/* or NULL */
	char		csrf[SECRET_TOKEN];
	const Screen *screen;

	/* what it waits for */
	bool		suspended;
	Waiter		waiter;
	Job		   *job;
	struct Login *login;
	Account    *account;		/* of the job: to be told that something was changed */
	char	   *back;			/* where a form without script leads back to, or NULL */
	Viewer	   *viewer;

	/* the response */
	bool		ready;
	int			status;
	const char *type;
	const char *etag;			/* or NULL: is not to be kept */
	const char *static_body;	/* of so many bytes, or NULL: "reply" */
	size_t		static_length;
	Text		reply;
	char	   *location;
	char	   *cookie;
	int			retry_after;	/* seconds, 0 for none */
	struct MHD_Response *stream;

	struct Request *next;		/* of all that there are */
} Request;

/* Seconds after which a page that could not be shown is read again. */
#define REQUEST_AGAIN	5

extern void *request_new(void *closure, const char *uri, struct MHD_Connection *connection);
extern enum MHD_Result request_handle(void *closure, struct MHD_Connection *connection, const char *url,
									  const char *method, const char *version, const char *data,
									  size_t *size, void **request);
extern void request_done(void *closure, struct MHD_Connection *connection, void **request,
						 enum MHD_RequestTerminationCode how);
extern void request_close(struct MHD_Connection *connection);
extern const char *request_header(const Request *request, const char *name);
extern char *request_cookie(const Request *request, const char *name);
extern void request_answer(Request *request, int status, const char *type);
extern bool request_comes_again(const Request *request, int status);
extern void request_refuse(Request *request, int status, const char *message);
extern void request_error(Request *request, int status, const char *error);
extern void request_redirect(Request *request, const char *location);

#endif							/* CONSOLE_REQUEST_H */
