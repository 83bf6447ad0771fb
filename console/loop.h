/*-------------------------------------------------------------------------
 *
 * loop.h
 *	  What the one thread waits for: sockets, and times.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_LOOP_H
#define CONSOLE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/* A socket that is watched. */
typedef struct LoopWatch
{
	int			fd;				/* -1: nothing is watched */
	void		(*ready) (void *closure);
	void	   *closure;
} LoopWatch;

/* Something that is due at a time of clock_now(). */
typedef struct LoopTimer
{
	int64_t		due;
	bool		armed;
	void		(*fire) (void *closure);
	void	   *closure;
	struct LoopTimer *next;		/* in the order of the times */
} LoopTimer;

extern void loop_init(void);
extern void loop_watch(LoopWatch *watch, int fd, bool reading, bool writing);
extern void loop_unwatch(LoopWatch *watch);
extern void loop_arm(LoopTimer *timer, int64_t due);
extern void loop_disarm(LoopTimer *timer);
extern void loop_run(int64_t (*before) (void));
extern void loop_end(void);

#endif							/* CONSOLE_LOOP_H */
