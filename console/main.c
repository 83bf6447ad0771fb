/*-------------------------------------------------------------------------
 *
 * main.c
 *	  backfill-console: shows and steers the backfills of a database.
 *
 * A program beside the server, never in it: whatever becomes of it, the backfills
 * go on.  It reads the views of the extension and calls its functions as any psql
 * does, with the rights of whoever is logged in.  README.md tells what is where.
 *
 *-------------------------------------------------------------------------
 */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "login.h"
#include "loop.h"
#include "options.h"
#include "route.h"
#include "secret.h"
#include "server.h"
#include "session.h"
#include "stream.h"

static LoopWatch signals = {.fd = -1};

/* Somebody wants the program to end. */
static void
take_signal(void *closure)
{
	struct signalfd_siginfo info;

	(void) closure;
	if (read(signals.fd, &info, sizeof(info)) == sizeof(info))
		loop_end();
}

/* Signals are events like others, or are ignored. */
static void
watch_signals(void)
{
	sigset_t	set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signals.ready = take_signal;
	loop_watch(&signals, signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), true, false);
}

int
main(int argc, char **argv)
{
	/* no passwords in a core dump */
	struct rlimit none = {0, 0};

	options_parse(argc, argv);
	setvbuf(stderr, NULL, _IOLBF, 0);
	(void) setrlimit(RLIMIT_CORE, &none);
	clock_init();
	secret_init();
	loop_init();
	watch_signals();
	server_start();
	route_init();
	log_note("version %s listens at %s%s", CONSOLE_VERSION, options.listen,
			 options.read_only ? ", for reading only" : "");
	loop_run(server_before_wait);
	login_stop();
	session_stop();
	stream_stop();
	route_stop();
	server_stop();
	log_note("ends");
	return 0;
}
