/*-------------------------------------------------------------------------
 *
 * listen.c
 *	  The socket that browsers connect to.
 *
 * It is on the loopback address or in the file system, where nobody can listen in,
 * unless what goes over it is encrypted: by this program, or by a proxy, of which
 * the user has to say that it is there.
 *
 *-------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "guard.h"
#include "listen.h"
#include "log.h"
#include "memory.h"
#include "options.h"

#define BACKLOG 128

/* The path of our socket, to be removed at the end, or NULL. */
static char *socket_path = NULL;

/* A server may be at the path, or have been: then its socket is in the way. */
static void
make_way(const struct sockaddr_un *address)
{
	struct stat what;
	int			probe;

	if (lstat(address->sun_path, &what) != 0)
		return;
	if (!S_ISSOCK(what.st_mode))
		log_die("\"%s\" is there, and is no socket", address->sun_path);
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (probe >= 0 && connect(probe, (const struct sockaddr *) address, sizeof(*address)) == 0)
		log_die("another server listens at \"%s\"", address->sun_path);
	if (probe >= 0)
		close(probe);
	(void) unlink(address->sun_path);
}

/* A socket in the file system, for its owner and group. */
static int
open_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	mode_t		mask;

	if (strlen(path) >= sizeof(address.sun_path))
		log_die("the path of the socket is too long");
	strcpy(address.sun_path, path);
	make_way(&address);
	mask = umask(0117);
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
		log_die("could not listen at \"%s\": %s", path, strerror(errno));
	umask(mask);
	socket_path = memory_copy(path);
	guard_allow("localhost");
	return fd;
}

static bool
is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr) >> 24 == 127;
	if (address->sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *) address)->sin6_addr);
	return false;
}

/* The names under which browsers reach an address and port. */
static void
allow_names(const struct sockaddr *address, const char *host, const char *port)
{
	const char *loopback[] = {"localhost", "127.0.0.1", "[::1]"};
	bool		standard = strcmp(port, options.tls_cert ? "443" : "80") == 0;
	char		name[300];

	for (int i = 0; i < 3 && is_loopback(address); i++)
	{
		snprintf(name, sizeof(name), "%s:%s", loopback[i], port);
		guard_allow(name);
		if (standard)
			guard_allow(loopback[i]);
	}
	snprintf(name, sizeof(name), address->sa_family == AF_INET6 ? "[%.250s]:%s" : "%.250s:%s", host, port);
	guard_allow(name);
	for (int i = 0; i < options.n_hosts; i++)
	{
		snprintf(name, sizeof(name), "%.250s:%s", options.hosts[i], port);
		guard_allow(name);
	}
}

/* A socket of TCP; WHERE is ADDRESS:PORT, [ADDRESS]:PORT or a name instead. */
static int
open_tcp(const char *where)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	const char *colon = strrchr(where, ':');
	char	   *host;
	int			fd;
	int			on = 1;

	if (colon == NULL || colon[1] == '\0' || colon == where)
		log_die("--listen must be ADDRESS:PORT or the path of a socket, and is \"%s\"", where);
	if (where[0] == '[' && colon[-1] == ']')
		host = memory_copy_n(where + 1, colon - where - 2);
	else
		host = memory_copy_n(where, colon - where);
	if (getaddrinfo(host, colon + 1, &hints, &found) != 0 || found == NULL)
		log_die("--listen: there is no address \"%s\"", where);
	if (!is_loopback(found->ai_addr) && options.tls_cert == NULL && !options.behind_proxy)
		log_die("\"%s\" can be reached from other machines: give --tls-cert and --tls-key, or --behind-proxy", where);
	if (options.metrics && options.metrics_token == NULL && (!is_loopback(found->ai_addr) || options.behind_proxy))
		log_die("--metrics needs --metrics-token-file where others can reach it");
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		log_die("could not listen at %s: %s", where, strerror(errno));
	allow_names(found->ai_addr, host, colon + 1);
	freeaddrinfo(found);
	free(host);
	return fd;
}

/* The socket that --listen asks for, listening; ends the program without. */
int
listen_open(void)
{
	for (int i = 0; i < options.n_hosts; i++)
		guard_allow(options.hosts[i]);
	return options.listen[0] == '/' ? open_unix(options.listen) : open_tcp(options.listen);
}

/* Removes the socket from the file system. */
void
listen_close(void)
{
	if (socket_path != NULL)
		(void) unlink(socket_path);
	free(socket_path);
	socket_path = NULL;
}
