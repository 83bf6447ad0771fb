/*-------------------------------------------------------------------------
 *
 * loop.c
 *	  What the one thread waits for: sockets, and times.
 *
 * The program has one thread, so nothing in it needs a lock.  Nothing may block:
 * sockets are non-blocking, and whoever has to wait returns here.  When nothing
 * is watched that moves and no timer is armed, the thread sleeps without end:
 * an idle console costs nothing.
 *
 * One event is taken at a time, because what is done for it may close the socket
 * of the next one.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "loop.h"

static int	epoll_fd = -1;
static bool ending = false;
static LoopTimer *timers = NULL;

void
loop_init(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		log_die("could not create an epoll instance: %s", strerror(errno));
}

/* Watches a socket, or watches it for something else from now on. */
void
loop_watch(LoopWatch *watch, int fd, bool reading, bool writing)
{
	struct epoll_event event = {.events = (reading ? EPOLLIN : 0) | (writing ? EPOLLOUT : 0)};

	event.data.ptr = watch;
	loop_unwatch(watch);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		log_die("could not watch a socket: %s", strerror(errno));
	watch->fd = fd;
}

/* Watches it no longer; the socket may have been closed meanwhile. */
void
loop_unwatch(LoopWatch *watch)
{
	if (watch->fd >= 0)
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->fd = -1;
}

/* Has a timer fire once, at that time. */
void
loop_arm(LoopTimer *timer, int64_t due)
{
	LoopTimer **place = &timers;

	loop_disarm(timer);
	while (*place != NULL && (*place)->due <= due)
		place = &(*place)->next;
	timer->due = due;
	timer->armed = true;
	timer->next = *place;
	*place = timer;
}

void
loop_disarm(LoopTimer *timer)
{
	LoopTimer **place = &timers;

	if (!timer->armed)
		return;
	while (*place != timer)
		place = &(*place)->next;
	*place = timer->next;
	timer->armed = false;
}

/* Fires what is due. */
static void
fire_timers(void)
{
	int64_t		now = clock_now();

	while (timers != NULL && timers->due <= now)
	{
		LoopTimer  *timer = timers;

		loop_disarm(timer);
		timer->fire(timer->closure);
	}
}

/*
 * Waits and works until loop_end is called.  Before each wait "before" is called,
 * which returns for how many milliseconds of the wall it may last, -1 for any.
 */
void
loop_run(int64_t (*before) (void))
{
	while (!ending)
	{
		struct epoll_event event;
		int64_t		wait;
		int			n;

		fire_timers();
		if (ending)
			break;
		wait = before();
		if (timers != NULL)
		{
			int64_t		left = clock_real(timers->due - clock_now());

			left = left < 0 ? 0 : left;
			if (wait < 0 || left < wait)
				wait = left;
		}
		n = epoll_wait(epoll_fd, &event, 1, wait > 3600000 ? 3600000 : (int) wait);
		if (n < 0 && errno != EINTR)
			log_die("could not wait for events: %s", strerror(errno));
		if (n == 1)
		{
			LoopWatch  *watch = event.data.ptr;

			watch->ready(watch->closure);
		}
	}
}

/* Has loop_run return. */
void
loop_end(void)
{
	ending = true;
}
