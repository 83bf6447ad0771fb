/*-------------------------------------------------------------------------
 *
 * feed.c
 *	  What is read from the database for all who look with the same role.
 *
 * A feed has one connection.  About once a second it reads, in ONE statement,
 * every path that somebody watches with an event stream; paths that are asked for
 * by a single request are read with the same statement, and what is younger than
 * a second is given without reading.  So however many look, with streams or by
 * asking again and again, a path is read once a second at most.  When nobody
 * looks nothing is read, and after a while the connection is closed.
 *
 * Each screen has one SQL text (queries.c), which returns one row at most: "data",
 * a JSON object; "steady", another one, of what rarely changes; "series", what
 * the charts begin with; and "sample", one more point of the charts.  The samples
 * are kept here, and nothing else is: no number on a screen is the console's own.
 *
 * When the database is away everybody is told since when, and it is tried again
 * every second for as long as somebody watches.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "feed.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "session.h"
#include "stream.h"

/* Milliseconds. */
#define FEED_PERIOD 1000
#define FEED_STEADY 10000		/* between two readings of what rarely changes */
#define FEED_REST 30000			/* with nobody looking, until the connection is closed */

/* Seconds that the statement may take. */
#define FEED_PATIENCE 10

/* Paths that are read with one statement, and that may be watched at a time. */
#define FEED_WIDTH 64

struct Feed
{
	Account    *account;
	Database   *database;
	Look	   *looks;
	LoopTimer	timer;			/* the next poll, the next try to connect, or the rest */
	int64_t		polled;			/* when the last statement was sent */
	int64_t		tried;			/* when the last connection failed, 0 if it stands */
	bool		lost;
	char	   *lost_message;
	char	   *last_at;		/* when the last good poll was, as the database has it */
	int			n_asked;		/* of the statement at work */
	Look	   *asked[FEED_WIDTH];
};

static void wake_up(void *closure);
static void go_on(Feed *feed);

/* ---- looks ---- */

static void
drop_messages(Look *look)
{
	feed_release(look->full);
	feed_release(look->change);
	look->full = look->change = NULL;
}

static void
free_samples(Samples *samples)
{
	if (samples == NULL)
		return;
	for (int i = 0; i < FEED_SAMPLES; i++)
		free(samples->texts[i]);
	free(samples);
}

static void
free_look(Look *look)
{
	drop_messages(look);
	free_samples(look->samples);
	free(look->path);
	free(look->args);
	free(look->quick_args);
	free(look->at);
	free(look->data);
	free(look->steady);
	free(look->series);
	free(look->error);
	free(look);
}

/* Forgets the paths that nobody looks at and that are not fresh. */
static void
sweep(Feed *feed)
{
	Look	  **place = &feed->looks;

	while (*place != NULL)
	{
		Look	   *look = *place;

		if (look->viewers == NULL && look->waiters == NULL && !look->asked &&
			clock_now() - look->got > (look->samples ? FEED_REST : FEED_PERIOD))
		{
			*place = look->next;
			free_look(look);
		}
		else
			place = &look->next;
	}
}

/* The arguments of a reading that leaves out what rarely changes. */
static char *
add_quick(const char *args)
{
	Text		text;

	text_init(&text);
	text_add(&text, strlen(args) > 2 ? "{\"quick\":true," : "{\"quick\":true");
	text_add(&text, args + 1);
	return text.data;
}

static Look *
find_look(Feed *feed, const Screen *screen, const char *path, const char *args)
{
	Look	   *look = feed->looks;

	while (look != NULL && strcmp(look->path, path) != 0)
		look = look->next;
	if (look == NULL)
	{
		look = memory_get(sizeof(Look));
		look->feed = feed;
		look->screen = screen;
		look->path = memory_copy(path);
		look->args = memory_copy(args);
		look->quick_args = add_quick(args);
		look->next = feed->looks;
		feed->looks = look;
	}
	return look;
}

/* Whether somebody has an event stream. */
static bool
is_watched(const Feed *feed)
{
	for (Look *look = feed->looks; look != NULL; look = look->next)
	{
		if (look->viewers != NULL)
			return true;
	}
	return false;
}

static void
call_waiters(Look *look)
{
	while (look->waiters != NULL)
	{
		Waiter	   *waiter = look->waiters;

		look->waiters = waiter->next;
		waiter->look = NULL;
		waiter->done(look, waiter->closure);
	}
}

static void
wake_viewers(Look *look)
{
	for (Viewer *viewer = look->viewers; viewer != NULL; viewer = viewer->next_of_look)
		stream_wake(viewer);
}

/* ---- what was read ---- */

/* Puts a new text in the place of another; whether it is another one. */
static bool
replace(char **place, const char *text)
{
	if (*place != NULL && text != NULL && strcmp(*place, text) == 0)
		return false;
	if (*place == NULL && text == NULL)
		return false;
	free(*place);
	*place = memory_copy(text);
	return true;
}

static void
keep_sample(Look *look, const char *text)
{
	Samples    *samples = look->samples;

	look->sample = NULL;
	if (text == NULL)
		return;
	if (samples == NULL)
		samples = look->samples = memory_get(sizeof(Samples));
	free(samples->texts[samples->next]);
	look->sample = samples->texts[samples->next] = memory_copy(text);
	samples->next = (samples->next + 1) % FEED_SAMPLES;
	if (samples->n < FEED_SAMPLES)
		samples->n++;
}

/* Something was read for a path, or could not be. */
static void
take_outcome(Look *look, int status, const char *error)
{
	look->status = status;
	look->got = clock_now();
	look->asked = look->wanted = false;
	look->reads++;
	if (error != NULL)
	{
		replace(&look->error, error);
		look->version++;
		drop_messages(look);
	}
	call_waiters(look);
	wake_viewers(look);
}

/* Takes one row: number, at, data, steady, series, sample. */
static void
take_row(Look *look, const PGresult *result, int row)
{
	const char *field[6];
	bool		changed;

	look->data_changed = look->status != 200;

	for (int i = 0; i < 6; i++)
		field[i] = PQgetisnull(result, row, i) ? NULL : PQgetvalue(result, row, i);
	look->data_changed |= replace(&look->data, field[2]);
	changed = look->data_changed;
	look->steady_changed = !look->quick && replace(&look->steady, field[3]);
	changed |= look->steady_changed;
	if (!look->quick)
		look->steady_got = clock_now();
	/* what was sampled goes on where these points end */
	if (!look->quick && look->samples == NULL)
		replace(&look->series, field[4]);
	replace(&look->at, field[1]);
	keep_sample(look, field[5]);
	look->alone = false;
	if (changed || look->sample != NULL)
	{
		look->version++;
		drop_messages(look);
	}
	take_outcome(look, field[2] == NULL ? 404 : 200,
				 field[2] == NULL ? "{\"message\":\"there is no such thing, or you may not see it\"}" : NULL);
}

/* The error of a result as a JSON object. */
static void
write_error(const PGresult *result, Text *json)
{
	static const struct
	{
		const char *name;
		int			field;
	}			fields[] = {{"message", PG_DIAG_MESSAGE_PRIMARY}, {"detail", PG_DIAG_MESSAGE_DETAIL},
	{"hint", PG_DIAG_MESSAGE_HINT}, {"sqlstate", PG_DIAG_SQLSTATE}};

	for (int i = 0; i < 4; i++)
	{
		text_format(json, "%c\"%s\":", i == 0 ? '{' : ',', fields[i].name);
		text_json(json, PQresultErrorField(result, fields[i].field));
	}
	text_add(json, "}");
}

/* The statement has raised an error: read each path by itself, or it is the one. */
static void
take_error(Feed *feed, const PGresult *result)
{
	if (feed->n_asked > 1)
	{
		for (int i = 0; i < feed->n_asked; i++)
		{
			feed->asked[i]->asked = false;
			feed->asked[i]->wanted = feed->asked[i]->alone = true;
		}
	}
	else
	{
		Text		error;

		text_init(&error);
		write_error(result, &error);
		log_note("reading %s failed: %s", feed->asked[0]->screen->name,
				 PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
		take_outcome(feed->asked[0], 500, error.data);
		text_free(&error);
	}
}

static void
take_answer(PGresult *result, const Text *notices, void *closure)
{
	Feed	   *feed = closure;

	(void) notices;
	if (result == NULL)
	{
		/* the owner's "failed" comes next */
		for (int i = 0; i < feed->n_asked; i++)
			feed->asked[i]->asked = false;
		feed->n_asked = 0;
		return;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		for (int row = 0; row < PQntuples(result); row++)
			take_row(feed->asked[atoi(PQgetvalue(result, row, 0))], result, row);
		if (PQntuples(result) > 0)
			replace(&feed->last_at, PQgetvalue(result, 0, 1));
		for (int i = 0; i < feed->n_asked; i++)
		{
			if (feed->asked[i]->asked)
				take_outcome(feed->asked[i], 404,
							 "{\"message\":\"there is no such thing, or you may not see it\"}");
		}
	}
	else
		take_error(feed, result);
	feed->n_asked = 0;
	PQclear(result);
	sweep(feed);
	go_on(feed);
}

/* ---- the statement ---- */

/* Adds the text of a screen, with its argument in the place of each @. */
static void
add_screen(Text *sql, const char *screen, int number)
{
	text_format(sql, "%sSELECT %d, to_jsonb(clock_timestamp()) #>> '{}', s.data::text, s.steady::text, "
				"s.series::text, s.sample::text FROM (", number > 0 ? " UNION ALL " : "", number);
	for (;;)
	{
		size_t		n = strcspn(screen, "@");

		text_add_n(sql, screen, n);
		if (screen[n] == '\0')
			break;
		text_format(sql, "$%d::jsonb", number + 1);
		screen += n + 1;
	}
	/* a screen need not use its argument, but the statement has to */
	text_format(sql, ") s(data, steady, series, sample) WHERE $%d::jsonb IS NOT NULL", number + 1);
}

/* Reads what is wanted. */
static void
send_statement(Feed *feed)
{
	const char *values[FEED_WIDTH];
	Text		sql;

	text_init(&sql);
	feed->n_asked = 0;
	for (Look *look = feed->looks; look != NULL && feed->n_asked < FEED_WIDTH; look = look->next)
	{
		if (!look->wanted || (look->alone && feed->n_asked > 0))
			continue;
		add_screen(&sql, look->screen->sql(database_facts(feed->database)), feed->n_asked);
		look->quick = look->status == 200 && look->steady_got != 0 &&
			clock_now() - look->steady_got < FEED_STEADY;
		values[feed->n_asked] = look->quick ? look->quick_args : look->args;
		feed->asked[feed->n_asked++] = look;
		look->asked = true;
		look->wanted = false;
		if (look->alone)
			break;
	}
	if (feed->n_asked > 0)
		database_send(feed->database, sql.data, feed->n_asked, values, take_answer, feed);
	text_free(&sql);
}

/* ---- the connection ---- */

static void
be_connected(Database *database, void *closure)
{
	Feed	   *feed = closure;

	(void) database;
	feed->tried = 0;
	if (feed->lost)
	{
		feed->lost = false;
		feed->polled = clock_now();
		for (Look *look = feed->looks; look != NULL; look = look->next)
		{
			look->wanted |= look->viewers != NULL;
			wake_viewers(look);
		}
	}
	go_on(feed);
}

static void
be_failed(Database *database, DatabaseFailure why, const char *message, void *closure)
{
	Feed	   *feed = closure;
	Text		error;

	(void) database;
	feed->tried = clock_now();
	if (!feed->lost)
		log_note("the database cannot be reached: %s", message);
	feed->lost = true;
	replace(&feed->lost_message, message);
	text_init(&error);
	text_add(&error, "{\"message\":\"the database cannot be reached\",\"since\":");
	text_json(&error, feed->last_at);
	text_add(&error, "}");
	for (Look *look = feed->looks; look != NULL; look = look->next)
	{
		look->wanted = look->asked = false;
		if (look->waiters != NULL)
			take_outcome(look, 503, error.data);
		/* what was read before is not shown as new when the server is back */
		look->got = look->steady_got = 0;
		look->status = 0;
		wake_viewers(look);
	}
	text_free(&error);
	if (why == DATABASE_REFUSED && feed->account->password != NULL)
		session_end_account(feed->account);	/* may free the feed, but from the loop */
	else
		loop_arm(&feed->timer, clock_now() + FEED_PERIOD);
}

/* Does what is to be done now, and sets the timer for what is to be done later. */
static void
go_on(Feed *feed)
{
	bool		wanted = false;
	bool		watched = is_watched(feed);
	int64_t		now = clock_now();

	for (Look *look = feed->looks; look != NULL; look = look->next)
		wanted |= look->wanted;
	switch (database_state(feed->database))
	{
		case DATABASE_CLOSED:
			if (!wanted && !watched)
				return;
			if (feed->tried != 0 && now - feed->tried < FEED_PERIOD)
				loop_arm(&feed->timer, feed->tried + FEED_PERIOD);
			else
				database_connect(feed->database, feed->account->role, feed->account->password,
								 FEED_PATIENCE);
			return;
		case DATABASE_CONNECTING:
		case DATABASE_BUSY:
			return;
		case DATABASE_READY:
			break;
	}
	if (wanted)
		send_statement(feed);
	else
		loop_arm(&feed->timer, watched ? feed->polled + FEED_PERIOD : now + FEED_REST);
}

/* The timer: it is time for a poll, to try again, or to close the connection. */
static void
wake_up(void *closure)
{
	Feed	   *feed = closure;

	if (!is_watched(feed) && database_state(feed->database) == DATABASE_READY)
	{
		sweep(feed);
		database_free(feed->database);
		feed->database = database_new(&(DatabaseOwner) {be_connected, be_failed, feed});
		return;
	}
	if (database_state(feed->database) == DATABASE_READY)
	{
		feed->polled = clock_now();
		for (Look *look = feed->looks; look != NULL; look = look->next)
			look->wanted |= look->viewers != NULL;
	}
	go_on(feed);
}

/* ---- for others ---- */

Feed *
feed_new(Account *account)
{
	Feed	   *feed = memory_get(sizeof(Feed));

	feed->account = account;
	feed->timer.fire = wake_up;
	feed->timer.closure = feed;
	feed->database = database_new(&(DatabaseOwner) {be_connected, be_failed, feed});
	return feed;
}

/* Whoever waits is told; nobody watches any more. */
void
feed_free(Feed *feed)
{
	loop_disarm(&feed->timer);
	database_free(feed->database);
	while (feed->looks != NULL)
	{
		Look	   *look = feed->looks;

		look->asked = false;
		if (look->waiters != NULL)
			take_outcome(look, 503, "{\"message\":\"the session has ended\"}");
		while (look->viewers != NULL)
			feed_unwatch(look->viewers);
		feed->looks = look->next;
		free_look(look);
	}
	free(feed->lost_message);
	free(feed->last_at);
	free(feed);
}

/*
 * Has a waiter called once with what the path shows: now, if it was read within
 * the last second, or when it has been read.
 */
void
feed_ask(Feed *feed, const Screen *screen, const char *path, const char *args, Waiter *waiter)
{
	Look	   *look = find_look(feed, screen, path, args);
	int64_t		now = clock_now();

	waiter->look = look;
	waiter->next = look->waiters;
	look->waiters = waiter;
	if ((look->got != 0 && now - look->got < FEED_PERIOD && !look->asked && !feed->lost))
	{
		call_waiters(look);
		return;
	}
	if (feed->lost && feed->tried != 0 && now - feed->tried < FEED_PERIOD &&
		database_state(feed->database) == DATABASE_CLOSED)
	{
		Text		error;

		text_init(&error);
		text_add(&error, "{\"message\":\"the database cannot be reached\",\"since\":");
		text_json(&error, feed->last_at);
		text_add(&error, "}");
		take_outcome(look, 503, error.data);
		look->got = 0;
		look->status = 0;
		text_free(&error);
		return;
	}
	look->wanted = !look->asked;
	go_on(feed);
}

/* The waiter is gone. */
void
feed_forget(Waiter *waiter)
{
	Waiter	  **place;

	if (waiter->look == NULL)
		return;
	for (place = &waiter->look->waiters; *place != waiter;)
		place = &(*place)->next;
	*place = waiter->next;
	waiter->look = NULL;
}

/* Watches a path; NULL if too many are watched already. */
Look *
feed_watch(Feed *feed, const Screen *screen, const char *path, const char *args, Viewer *viewer)
{
	Look	   *look = find_look(feed, screen, path, args);
	bool		first = !is_watched(feed);
	int			n = 0;

	for (Look *other = feed->looks; other != NULL; other = other->next)
		n += other->viewers != NULL;
	if (look->viewers == NULL && n >= FEED_WIDTH)
		return NULL;
	viewer->look = look;
	viewer->next_of_look = look->viewers;
	look->viewers = viewer;
	if (look->got == 0 || clock_now() - look->got >= FEED_PERIOD)
		look->wanted = !look->asked;
	if (first)
		feed->polled = clock_now();
	go_on(feed);
	return look;
}

void
feed_unwatch(Viewer *viewer)
{
	Viewer	  **place;

	if (viewer->look == NULL)
		return;
	for (place = &viewer->look->viewers; *place != viewer;)
		place = &(*place)->next_of_look;
	*place = viewer->next_of_look;
	viewer->look = NULL;
}

/* Something was changed: what is watched is read at once. */
void
feed_hurry(Feed *feed)
{
	for (Look *look = feed->looks; look != NULL; look = look->next)
	{
		look->got = look->steady_got = 0;
		look->wanted |= look->viewers != NULL && !look->asked;
	}
	go_on(feed);
}

/* Whether the database is away, since when (or NULL), and why. */
bool
feed_is_lost(const Feed *feed, const char **since, const char **message)
{
	*since = feed->last_at;
	*message = feed->lost_message;
	return feed->lost;
}

/* Adds the members of a JSON object, without its braces. */
static void
add_members(Text *json, const char *object)
{
	size_t		n = object ? strlen(object) : 0;

	if (n <= 2)
		return;
	text_add(json, ",");
	text_add_n(json, object + 1, n - 2);
}

/* Adds the points of the charts. */
static void
add_series(const Look *look, bool full, Text *json)
{
	const Samples *samples = look->samples;
	bool		first = true;

	if (look->series == NULL && samples == NULL)
		return;
	text_add(json, ",\"series\":[");
	if (full && look->series != NULL && strlen(look->series) > 2)
	{
		text_add_n(json, look->series + 1, strlen(look->series) - 2);
		first = false;
	}
	if (full && samples != NULL)
	{
		for (int i = 0; i < samples->n; i++)
		{
			int			at = (samples->next + FEED_SAMPLES - samples->n + i) % FEED_SAMPLES;

			text_add(json, first ? "" : ",");
			text_add(json, samples->texts[at]);
			first = false;
		}
	}
	else if (look->sample != NULL)
		text_add(json, look->sample);
	text_add(json, "]");
}

/* Adds what a path shows, or what has changed of it, as a JSON object. */
void
feed_write(const Look *look, bool full, Text *json)
{
	if (look->status != 200)
	{
		text_format(json, "{\"error\":%s}", look->error);
		return;
	}
	text_add(json, "{\"now\":");
	text_json(json, look->at);
	if (full || look->data_changed)
		add_members(json, look->data);
	if (full || look->steady_changed)
		add_members(json, look->steady);
	add_series(look, full, json);
	text_add(json, "}");
}

/* The event that tells of the last version; the caller has to release it. */
Message *
feed_message(Look *look, bool full)
{
	Message   **place = full ? &look->full : &look->change;

	if (*place == NULL)
	{
		*place = memory_get(sizeof(Message));
		(*place)->users = 1;
		text_init(&(*place)->text);
		text_add(&(*place)->text, "event: data\ndata: {\"at\":");
		text_json(&(*place)->text, look->at);
		text_add(&(*place)->text, ",\"path\":");
		text_json(&(*place)->text, look->path);
		text_add(&(*place)->text, full ? ",\"full\":true,\"data\":" : ",\"full\":false,\"data\":");
		feed_write(look, full, &(*place)->text);
		text_add(&(*place)->text, "}\n\n");
	}
	(*place)->users++;
	return *place;
}

void
feed_release(Message *message)
{
	if (message == NULL || --message->users > 0)
		return;
	text_free(&message->text);
	free(message);
}
