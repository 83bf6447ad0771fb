/*-------------------------------------------------------------------------
 *
 * server.c
 *	  The HTTP server: libmicrohttpd in our own loop, and its limits.
 *
 * A connection has fifteen seconds for its request, handshake and body included,
 * however slowly its bytes trickle in: libmicrohttpd itself only knows how long a
 * connection has been silent.  Those that have not said all by then are shut down.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "listen.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "options.h"
#include "request.h"
#include "server.h"
#include "stream.h"

/* Connections at a time, all together. */
#define SERVER_CONNECTIONS 800

/* Bytes of memory for the headers and the buffers of one. */
#define SERVER_HEADERS 32768

/* Seconds that one may be silent in the middle of something. */
#define SERVER_SILENCE 30

/* Milliseconds for a request. */
#define SERVER_PATIENCE 15000

/* A connection whose request is not there yet. */
typedef struct Caller
{
	struct MHD_Connection *connection;
	int64_t		until;
	bool		waits;
	struct Caller *next;
} Caller;

static struct MHD_Daemon *server = NULL;
static LoopWatch watch = {.fd = -1};
static bool resumed = false;		/* MHD_run has to be called before the next wait */
static Caller *callers = NULL;	/* in the order of their times, the last one first */

static void hang_up(void *closure);
static LoopTimer patience = {.fire = hang_up};

static void
forget(Caller *caller)
{
	Caller	  **place = &callers;

	if (!caller->waits)
		return;
	while (*place != caller)
		place = &(*place)->next;
	*place = caller->next;
	caller->waits = false;
	if (callers == NULL)
		loop_disarm(&patience);
}

/* Shuts down what has taken too long; libmicrohttpd sees the end and cleans up. */
static void
hang_up(void *closure)
{
	int64_t		now = clock_now();
	int64_t		next = INT64_MAX;

	(void) closure;
	for (Caller *caller = callers; caller != NULL; caller = caller->next)
	{
		const union MHD_ConnectionInfo *info;

		if (caller->until > now)
		{
			next = caller->until;
			continue;
		}
		info = MHD_get_connection_info(caller->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		if (info != NULL)
			(void) shutdown(info->connect_fd, SHUT_RDWR);
	}
	if (next != INT64_MAX)
		loop_arm(&patience, next);
	else if (callers != NULL)
		loop_arm(&patience, now + SERVER_PATIENCE);
}

/* A connection begins or ends. */
static void
note_connection(void *closure, struct MHD_Connection *connection, void **context,
				enum MHD_ConnectionNotificationCode what)
{
	Caller	   *caller = *context;

	(void) closure;
	if (what == MHD_CONNECTION_NOTIFY_STARTED)
	{
		caller = memory_get(sizeof(Caller));
		caller->connection = connection;
		caller->until = clock_now() + SERVER_PATIENCE;
		caller->waits = true;
		caller->next = callers;
		callers = caller;
		if (!patience.armed)
			loop_arm(&patience, caller->until);
		*context = caller;
	}
	else if (caller != NULL)
	{
		request_close(connection);
		forget(caller);
		free(caller);
		*context = NULL;
	}
}

/* The request of a connection is there as a whole. */
void
server_has_request(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	if (info != NULL && info->socket_context != NULL)
		forget(info->socket_context);
}

static void
go_on(void *closure)
{
	(void) closure;
	(void) MHD_run(server);
}

/* What libmicrohttpd complains of is about a client, who may make it up. */
static void __attribute__((format(printf, 2, 0)))
be_told(void *closure, const char *format, va_list args)
{
	(void) closure;
	(void) format;
	(void) args;
}

/* What to do with the escapes of an address: nothing, form.c reads them. */
static size_t
leave_escapes(void *closure, struct MHD_Connection *connection, char *text)
{
	(void) closure;
	(void) connection;
	return strlen(text);
}

/* The content of a file of at most 1 MB, for the caller to free. */
static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "r");
	char	   *content = memory_get(1 << 20);
	size_t		n;

	if (file == NULL)
		log_die("could not open \"%s\": %s", path, strerror(errno));
	n = fread(content, 1, (1 << 20) - 1, file);
	content[n] = '\0';
	fclose(file);
	return content;
}

/* Begins to listen. */
void
server_start(void)
{
	unsigned	flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[] = {{MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL},
	{MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}};
	const union MHD_DaemonInfo *info;

	if (options.tls_cert != NULL)
	{
		flags |= MHD_USE_TLS;
		tls[0] = (struct MHD_OptionItem) {MHD_OPTION_HTTPS_MEM_CERT, 0, read_file(options.tls_cert)};
		tls[1] = (struct MHD_OptionItem) {MHD_OPTION_HTTPS_MEM_KEY, 0, read_file(options.tls_key)};
		tls[2] = (struct MHD_OptionItem) {MHD_OPTION_HTTPS_PRIORITIES, 0,
			"SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"};
	}
	server = MHD_start_daemon(flags, 0, NULL, NULL, request_handle, NULL,
							  MHD_OPTION_EXTERNAL_LOGGER, be_told, NULL,
							  MHD_OPTION_LISTEN_SOCKET, listen_open(),
							  MHD_OPTION_URI_LOG_CALLBACK, request_new, NULL,
							  MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL,
							  MHD_OPTION_NOTIFY_COMPLETED, request_done, NULL,
							  MHD_OPTION_NOTIFY_CONNECTION, note_connection, NULL,
							  MHD_OPTION_CONNECTION_LIMIT, (unsigned) SERVER_CONNECTIONS,
							  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) SERVER_HEADERS,
							  MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) SERVER_SILENCE,
							  MHD_OPTION_STRICT_FOR_CLIENT, 1,
							  MHD_OPTION_ARRAY, tls,
							  MHD_OPTION_END);
	if (server == NULL)
		log_die("could not start the HTTP server%s",
				options.tls_cert ? "; the certificate and the key may be unfit" : "");
	for (int i = 0; i < 2; i++)
	{
		if (tls[i].ptr_value != NULL)
		{
			explicit_bzero(tls[i].ptr_value, 1 << 20);
			free(tls[i].ptr_value);
		}
	}
	info = MHD_get_daemon_info(server, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL)
		log_die("the HTTP server has no epoll instance");
	watch.ready = go_on;
	loop_watch(&watch, info->listen_fd, true, false);
}

/* Goes on with a connection that is suspended. */
void
server_resume(struct MHD_Connection *connection)
{
	MHD_resume_connection(connection);
	resumed = true;
}

/*
 * Does what libmicrohttpd has left to do, which its sockets do not tell of.  Returns
 * for how many milliseconds may be waited then, -1 for any.
 */
int64_t
server_before_wait(void)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (resumed)
	{
		resumed = false;
		(void) MHD_run(server);
	}
	if (MHD_get_timeout(server, &ms) != MHD_YES)
		return -1;
	if (ms == 0)
	{
		(void) MHD_run(server);
		return 0;
	}
	return (int64_t) ms;
}

/* Ends all connections.  Nothing may be suspended. */
void
server_stop(void)
{
	loop_unwatch(&watch);
	(void) MHD_run(server);
	MHD_stop_daemon(server);
	loop_disarm(&patience);
	listen_close();
}
