/*-------------------------------------------------------------------------
 *
 * feed.h
 *	  What is read from the database for all who look with the same role.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_FEED_H
#define CONSOLE_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "account.h"
#include "screen.h"

struct Viewer;

/* A text that several viewers are being sent. */
typedef struct Message
{
	int			users;
	Text		text;
} Message;

/* The last samples of a run, oldest first once it is full. */
#define FEED_SAMPLES 1800

typedef struct Samples
{
	int			n;
	int			next;			/* where the next one goes */
	char	   *texts[FEED_SAMPLES];
} Samples;

struct Look;

/* Somebody who waits for what a path shows; "done" is called once. */
typedef struct Waiter
{
	void		(*done) (struct Look *look, void *closure);
	void	   *closure;
	struct Look *look;			/* NULL: does not wait */
	struct Waiter *next;
} Waiter;

/* One path as one role sees it. */
typedef struct Look
{
	struct Feed *feed;
	const Screen *screen;
	char	   *path;			/* with its query */
	char	   *args;			/* JSON */
	char	   *quick_args;		/* the same, without what rarely changes */
	bool		quick;			/* the last statement was sent with them */
	int64_t		steady_got;		/* when it was read with the others, 0 never */
	bool		wanted;			/* is to be read with the next statement */
	bool		asked;			/* is being read */
	bool		alone;			/* its statement has failed: read by itself */
	int64_t		got;			/* when it was read, 0 never */

	/* what was read last; "status" is that of HTTP */
	int			status;
	char	   *at;				/* time of the database */
	char	   *data;			/* JSON objects and arrays as texts, or NULL */
	char	   *steady;
	char	   *series;
	char	   *error;			/* JSON object, if the status is no success */
	Samples    *samples;
	bool		data_changed;	/* in the last version */
	bool		steady_changed;
	const char *sample;			/* the one of the last version, or NULL */
	uint64_t	version;		/* grows when something has changed */
	uint64_t	reads;			/* grows with each reading */
	Message    *full;			/* the event for this version, made on demand */
	Message    *change;

	struct Viewer *viewers;
	Waiter	   *waiters;
	struct Look *next;
} Look;

typedef struct Feed Feed;

extern Feed *feed_new(Account *account);
extern void feed_free(Feed *feed);
extern void feed_ask(Feed *feed, const Screen *screen, const char *path, const char *args, Waiter *waiter);
extern void feed_forget(Waiter *waiter);
extern Look *feed_watch(Feed *feed, const Screen *screen, const char *path, const char *args,
						struct Viewer *viewer);
extern void feed_unwatch(struct Viewer *viewer);
extern void feed_hurry(Feed *feed);
extern bool feed_is_lost(const Feed *feed, const char **since, const char **message);
extern void feed_write(const Look *look, bool full, Text *json);
extern Message *feed_message(Look *look, bool full);
extern void feed_release(Message *message);

#endif							/* CONSOLE_FEED_H */
