/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  Whether a request may come from where it comes.
 *
 * The headers are looked at before anything else, and what can be understood in two
 * ways is refused: two lengths, a length that is no plain number, any
 * Transfer-Encoding, two hosts.  The host has to be one of the names of this
 * server, so that a page of somebody else, whose name was made to lead here, gets
 * nothing; and a request that changes something has to come from a page of this
 * server, as the browser says in Origin and in Sec-Fetch-Site.
 *
 *-------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "guard.h"
#include "log.h"
#include "memory.h"
#include "options.h"

#define HOSTS 64

static char *hosts[HOSTS];
static int	n_hosts = 0;

/* What is looked at. */
typedef struct Headers
{
	int			n_odd;
	int			n_length;
	int			n_encoding;
	int			n_host;
	int			n_origin;
	int			n_type;
	const char *length;
	const char *host;
	const char *origin;
	const char *type;
	const char *fetch_site;
} Headers;

/* A name of this server, as a browser sends it. */
void
guard_allow(const char *host)
{
	if (n_hosts == HOSTS)
		log_die("this server has too many names");
	hosts[n_hosts++] = memory_copy(host);
}

static bool
is_ours(const char *host)
{
	for (int i = 0; i < n_hosts; i++)
	{
		if (strcasecmp(hosts[i], host) == 0)
			return true;
	}
	return false;
}

static enum MHD_Result
note_header(void *closure, enum MHD_ValueKind kind, const char *name, const char *value)
{
	Headers    *headers = closure;

	(void) kind;
	value = value ? value : "";
	/* libmicrohttpd takes a blank before the colon for a part of the name */
	if (name[strspn(name, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] != '\0')
		headers->n_odd++;
	if (strcasecmp(name, "Content-Length") == 0)
		headers->n_length++, headers->length = value;
	else if (strcasecmp(name, "Transfer-Encoding") == 0)
		headers->n_encoding++;
	else if (strcasecmp(name, "Host") == 0)
		headers->n_host++, headers->host = value;
	else if (strcasecmp(name, "Origin") == 0)
		headers->n_origin++, headers->origin = value;
	else if (strcasecmp(name, "Content-Type") == 0)
		headers->n_type++, headers->type = value;
	else if (strcasecmp(name, "Sec-Fetch-Site") == 0)
		headers->fetch_site = value;
	return MHD_YES;
}

/* Whether an origin is this server, over whatever it is reached. */
static bool
is_own_origin(const char *origin)
{
	const char *schemes[] = {"http://", "https://"};

	for (int i = 0; i < 2; i++)
	{
		size_t		n = strlen(schemes[i]);

		/* what is encrypted for the browser comes from an encrypted page */
		if (i == 0 && (options.tls_cert != NULL))
			continue;
		if (strncasecmp(origin, schemes[i], n) == 0)
			return is_ours(origin + n);
	}
	return false;
}

/* The length of the body; false if it is not written as one. */
static bool
read_length(const Headers *headers, size_t *length)
{
	*length = 0;
	if (headers->n_length == 0)
		return true;
	if (headers->length[0] == '\0' || strspn(headers->length, "0123456789") != strlen(headers->length) ||
		strlen(headers->length) > 10)
		return false;
	*length = strtoul(headers->length, NULL, 10);
	return true;
}

static bool
refuse(int status, const char *why, int *place, const char **why_place)
{
	*place = status;
	*why_place = why;
	return false;
}

/*
 * Looks at the headers of a request.  Returns whether it may go on, and else the
 * status and the reason; "length" is that of the body.
 */
bool
guard_check(struct MHD_Connection *connection, bool changes, int *status, const char **why, size_t *length)
{
	Headers		headers = {0};
	const char *form = "application/x-www-form-urlencoded";

	MHD_get_connection_values(connection, MHD_HEADER_KIND, note_header, &headers);
	if (headers.n_odd > 0 || headers.n_encoding > 0 || headers.n_length > 1 || !read_length(&headers, length))
		return refuse(400, "the length of the request is not clear", status, why);
	if (headers.n_host != 1 || headers.n_origin > 1 || headers.n_type > 1)
		return refuse(400, "a header is missing or comes twice", status, why);
	if (!is_ours(headers.host))
		return refuse(421, "this server has another name; see --host", status, why);
	if (headers.origin != NULL && !is_own_origin(headers.origin))
		return refuse(403, "the request comes from a page of another server", status, why);
	if (!changes)
		return *length == 0 ? true : refuse(400, "a request to read has no body", status, why);
	if (headers.fetch_site != NULL && strcasecmp(headers.fetch_site, "same-origin") != 0 &&
		strcasecmp(headers.fetch_site, "none") != 0)
		return refuse(403, "the request comes from a page of another server", status, why);
	if (headers.n_length != 1)
		return refuse(411, "the request has no length", status, why);
	if (*length > GUARD_BODY)
		return refuse(413, "the request is too large", status, why);
	if (headers.type == NULL || strncasecmp(headers.type, form, strlen(form)) != 0 ||
		strchr(";", headers.type[strlen(form)]) == NULL)
		return refuse(415, "the request is not a form", status, why);
	return true;
}

/* Whether data is not asked for by a page of another server. */
bool
guard_is_own_fetch(struct MHD_Connection *connection)
{
	const char *site = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Sec-Fetch-Site");

	return site == NULL || strcasecmp(site, "same-origin") == 0 || strcasecmp(site, "none") == 0;
}

/* Where the request comes from: what a proxy says of it, if there is one. */
void
guard_address(struct MHD_Connection *connection, char address[GUARD_ADDRESS])
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *client = info ? info->client_addr : NULL;

	strcpy(address, "local");
	if (options.behind_proxy)
	{
		const char *list = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "X-Forwarded-For");
		const char *last = list ? strrchr(list, ',') : NULL;

		/* the last one is what the nearest proxy has seen itself */
		last = last ? last + 1 : list;
		if (last != NULL)
		{
			last += strspn(last, " ");
			if (strlen(last) < GUARD_ADDRESS)
				strcpy(address, last);
		}
		return;
	}
	if (client != NULL && client->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *) client)->sin_addr, address, GUARD_ADDRESS);
	else if (client != NULL && client->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *) client)->sin6_addr, address, GUARD_ADDRESS);
}
