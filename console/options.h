/*-------------------------------------------------------------------------
 *
 * options.h
 *	  What the program was told at its start.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_OPTIONS_H
#define CONSOLE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_HOSTS 16

typedef struct Options
{
	const char *conninfo;		/* or NULL: the environment of libpq */
	const char *listen;			/* ADDRESS:PORT, or the path of a socket */
	const char *hosts[OPTIONS_HOSTS];	/* further names of this server */
	int			n_hosts;
	bool		read_only;		/* one role for all, and nothing is changed */
	bool		behind_proxy;
	const char *tls_cert;
	const char *tls_key;
	bool		metrics;
	const char *metrics_role;	/* or NULL: the role of conninfo */
	char	   *metrics_token;	/* or NULL: nobody is asked for one */
	int64_t		idle_timeout;	/* milliseconds */
} Options;

extern Options options;

extern void options_parse(int argc, char **argv);

#endif							/* CONSOLE_OPTIONS_H */
