/*-------------------------------------------------------------------------
 *
 * options.c
 *	  What the program was told at its start.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"
#include "options.h"

#define DEFAULT_LISTEN "127.0.0.1:8432"
#define DEFAULT_IDLE_MINUTES 30
#define LONGEST_IDLE_MINUTES 720
#define SHORTEST_TOKEN 16

Options		options;

static const char *const help =
"backfill-console shows and steers the backfills of a PostgreSQL database in a browser.\n"
"\n"
"Usage:\n"
"  backfill-console [OPTION]...\n"
"\n"
"The database:\n"
"  -d, --dbname=CONNINFO       the database, as for psql; the default is the\n"
"                              environment of libpq (PGHOST, PGDATABASE, ...)\n"
"      --read-only             no login: everybody sees what the role of the\n"
"                              connection sees, and nobody changes anything\n"
"\n"
"The browser:\n"
"      --listen=WHERE          ADDRESS:PORT, or the path of a Unix socket\n"
"                              (default: " DEFAULT_LISTEN ")\n"
"      --host=NAME[:PORT]      a name under which browsers reach this console,\n"
"                              besides its address; may be given several times\n"
"      --tls-cert=FILE         certificate chain, PEM\n"
"      --tls-key=FILE          its private key, PEM\n"
"      --behind-proxy          a proxy on this side speaks TLS with the browsers\n"
"      --idle-timeout=MINUTES  a session ends so long after its last request\n"
"                              (default: 30)\n"
"\n"
"Metrics:\n"
"      --metrics               answer /metrics, with what the role of the connection sees\n"
"      --metrics-role=ROLE     the role for that, if it is another one\n"
"      --metrics-token-file=FILE  ask for the token in this file (Authorization: Bearer)\n"
"\n"
"  -V, --version               show the version, then exit\n"
"  -?, --help                  show this help, then exit\n";

/* The first line of a file that holds a token. */
static char *
read_token(const char *path)
{
	FILE	   *file = fopen(path, "r");
	char		line[512];

	if (file == NULL)
		log_die("could not open \"%s\": %s", path, strerror(errno));
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	fclose(file);
	line[strcspn(line, "\r\n")] = '\0';
	if (strlen(line) < SHORTEST_TOKEN)
		log_die("the token in \"%s\" has less than %d characters", path, SHORTEST_TOKEN);
	return memory_copy(line);
}

static void
parse_idle(const char *text)
{
	char	   *end;
	long		minutes = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || minutes < 1 || minutes > LONGEST_IDLE_MINUTES)
		log_die("--idle-timeout must be between 1 and %d minutes", LONGEST_IDLE_MINUTES);
	options.idle_timeout = minutes * 60000;
}

/* Complains of options that do not go together. */
static void
check(void)
{
	if ((options.tls_cert == NULL) != (options.tls_key == NULL))
		log_die("--tls-cert and --tls-key belong together");
	if (options.tls_cert != NULL && options.behind_proxy)
		log_die("--behind-proxy and --tls-cert exclude each other");
	if (options.metrics_role != NULL || options.metrics_token != NULL)
		options.metrics = true;
}

enum
{
	OPTION_READ_ONLY = 1000, OPTION_LISTEN, OPTION_HOST, OPTION_CERT, OPTION_KEY, OPTION_PROXY,
	OPTION_HELP, OPTION_IDLE, OPTION_METRICS, OPTION_METRICS_ROLE, OPTION_METRICS_TOKEN
};

static const struct option long_options[] = {
	{"dbname", required_argument, NULL, 'd'},
	{"read-only", no_argument, NULL, OPTION_READ_ONLY},
	{"listen", required_argument, NULL, OPTION_LISTEN},
	{"host", required_argument, NULL, OPTION_HOST},
	{"tls-cert", required_argument, NULL, OPTION_CERT},
	{"tls-key", required_argument, NULL, OPTION_KEY},
	{"behind-proxy", no_argument, NULL, OPTION_PROXY},
	{"idle-timeout", required_argument, NULL, OPTION_IDLE},
	{"metrics", no_argument, NULL, OPTION_METRICS},
	{"metrics-role", required_argument, NULL, OPTION_METRICS_ROLE},
	{"metrics-token-file", required_argument, NULL, OPTION_METRICS_TOKEN},
	{"version", no_argument, NULL, 'V'},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}
};

/* Takes one option. */
static void
take(int option)
{
	switch (option)
	{
		case 'd':
			options.conninfo = optarg;
			break;
		case OPTION_READ_ONLY:
			options.read_only = true;
			break;
		case OPTION_LISTEN:
			options.listen = optarg;
			break;
		case OPTION_HOST:
			if (options.n_hosts == OPTIONS_HOSTS)
				log_die("--host can be given %d times", OPTIONS_HOSTS);
			options.hosts[options.n_hosts++] = optarg;
			break;
		case OPTION_CERT:
			options.tls_cert = optarg;
			break;
		case OPTION_KEY:
			options.tls_key = optarg;
			break;
		case OPTION_PROXY:
			options.behind_proxy = true;
			break;
		case OPTION_IDLE:
			parse_idle(optarg);
			break;
		case OPTION_METRICS:
			options.metrics = true;
			break;
		case OPTION_METRICS_ROLE:
			options.metrics_role = optarg;
			break;
		case OPTION_METRICS_TOKEN:
			options.metrics_token = read_token(optarg);
			break;
		case 'V':
			printf("backfill-console (backfill) %s\n", CONSOLE_VERSION);
			exit(0);
		case OPTION_HELP:
			fputs(help, stdout);
			exit(0);
		default:
			fputs("Try \"backfill-console --help\" for more information.\n", stderr);
			exit(2);
	}
}

/* Reads the command line into "options"; ends the program if it is wrong. */
void
options_parse(int argc, char **argv)
{
	int			option;

	options.listen = DEFAULT_LISTEN;
	options.idle_timeout = DEFAULT_IDLE_MINUTES * 60000;
	/* getopt says '?' of what it does not know, too */
	if (argc > 1 && strcmp(argv[1], "-?") == 0)
		take(OPTION_HELP);
	while ((option = getopt_long(argc, argv, "d:V", long_options, NULL)) >= 0)
		take(option);
	if (optind < argc)
		log_die("too many arguments, the first of them \"%s\"", argv[optind]);
	check();
}
