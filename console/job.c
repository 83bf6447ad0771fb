/*-------------------------------------------------------------------------
 *
 * job.c
 *	  What a visitor has done in the database.
 *
 * Changes, previews and explanations may take long, so they run on connections of
 * their own, a few for each account, and never hold up the polls.  A job whose
 * visitor has gone is carried out to its end all the same.  A connection that
 * nobody has used for a while is closed.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "job.h"
#include "loop.h"
#include "memory.h"

/* Connections of an account, and jobs that may wait for one. */
#define HANDS 3
#define JOBS_WAITING 32

/* Seconds that a job may take. */
#define JOB_PATIENCE 600

/* Milliseconds after which an idle connection is closed. */
#define HAND_REST 30000

struct Job
{
	JobSql		sql;
	char	   *args;
	JobDone		done;			/* NULL: nobody waits for it any more */
	void	   *closure;
	Job		   *next;
};

/* A connection, and the job that it is at. */
typedef struct Hand
{
	JobQueue   *queue;
	Database   *database;
	Job		   *job;
	LoopTimer	rest;
} Hand;

struct JobQueue
{
	Account    *account;
	Hand		hands[HANDS];
	Job		   *waiting;
};

static void work(Hand *hand);

static void
free_job(Job *job)
{
	free(job->args);
	free(job);
}

/* The job is done, or cannot be. */
static void
end_job(Job *job, PGresult *result, const Text *notices, const char *failure)
{
	if (job->done != NULL)
		job->done(result, notices, failure, job->closure);
	PQclear(result);
	free_job(job);
}

static void
take_answer(PGresult *result, const Text *notices, void *closure)
{
	Hand	   *hand = closure;
	Job		   *job = hand->job;

	hand->job = NULL;
	if (result == NULL)
	{
		end_job(job, NULL, NULL, "the connection to the database was lost: it is not known whether this was done");
		return;
	}
	end_job(job, result, notices, NULL);
	work(hand);
}

static void
be_connected(Database *database, void *closure)
{
	(void) database;
	work(closure);
}

/* Without a connection nothing that waits can be done. */
static void
be_failed(Database *database, DatabaseFailure why, const char *message, void *closure)
{
	Hand	   *hand = closure;
	JobQueue   *queue = hand->queue;

	(void) database;
	(void) why;
	(void) message;
	loop_disarm(&hand->rest);
	while (queue->waiting != NULL)
	{
		Job		   *job = queue->waiting;

		queue->waiting = job->next;
		end_job(job, NULL, NULL, "the database cannot be reached");
	}
}

/* Nobody has used the connection for a while. */
static void
rest(void *closure)
{
	Hand	   *hand = closure;

	if (database_state(hand->database) != DATABASE_READY)
		return;
	database_free(hand->database);
	hand->database = database_new(&(DatabaseOwner) {be_connected, be_failed, hand});
}

/* Takes the next job, if the hand is free. */
static void
work(Hand *hand)
{
	Job		   *job = hand->queue->waiting;
	const char *sql;
	Text		text;

	if (database_state(hand->database) != DATABASE_READY)
		return;
	if (job == NULL)
	{
		loop_arm(&hand->rest, clock_now() + HAND_REST);
		return;
	}
	loop_disarm(&hand->rest);
	hand->queue->waiting = job->next;
	hand->job = job;
	text_init(&text);
	sql = job->sql(database_facts(hand->database));
	for (size_t n; n = strcspn(sql, "@"), text_add_n(&text, sql, n), sql[n] != '\0'; sql += n + 1)
		text_add(&text, "$1::jsonb");
	database_send(hand->database, text.data, 1, (const char *const[]) {job->args}, take_answer, hand);
	text_free(&text);
}

JobQueue *
job_queue_new(Account *account)
{
	JobQueue   *queue = memory_get(sizeof(JobQueue));

	queue->account = account;
	for (int i = 0; i < HANDS; i++)
	{
		Hand	   *hand = &queue->hands[i];

		hand->queue = queue;
		hand->rest.fire = rest;
		hand->rest.closure = hand;
		hand->database = database_new(&(DatabaseOwner) {be_connected, be_failed, hand});
	}
	return queue;
}

/* Who waits is told; what runs in the server is left to it. */
void
job_queue_free(JobQueue *queue)
{
	static const char *const ended = "the session has ended: it is not known whether this was done";

	for (int i = 0; i < HANDS; i++)
	{
		Hand	   *hand = &queue->hands[i];

		loop_disarm(&hand->rest);
		database_free(hand->database);
		if (hand->job != NULL)
			end_job(hand->job, NULL, NULL, ended);
	}
	while (queue->waiting != NULL)
	{
		Job		   *job = queue->waiting;

		queue->waiting = job->next;
		end_job(job, NULL, NULL, "the session has ended");
	}
	free(queue);
}

/*
 * Has a statement run with one argument, JSON.  "done" is called once, later,
 * unless the job is abandoned.  Returns NULL if too many wait.
 */
Job *
job_begin(JobQueue *queue, JobSql sql, const char *args, JobDone done, void *closure)
{
	Job		  **place = &queue->waiting;
	Job		   *job;
	int			n = 0;

	for (; *place != NULL; place = &(*place)->next)
		n++;
	if (n >= JOBS_WAITING)
		return NULL;
	job = memory_get(sizeof(Job));
	job->sql = sql;
	job->args = memory_copy(args);
	job->done = done;
	job->closure = closure;
	*place = job;

	for (int i = 0; i < HANDS; i++)
	{
		Hand	   *hand = &queue->hands[i];

		if (database_state(hand->database) == DATABASE_READY)
		{
			work(hand);
			return job;
		}
	}
	for (int i = 0; i < HANDS; i++)
	{
		Hand	   *hand = &queue->hands[i];

		if (database_state(hand->database) == DATABASE_CLOSED)
		{
			database_connect(hand->database, queue->account->role, queue->account->password, JOB_PATIENCE);
			break;
		}
	}
	return job;
}

/* Whoever began the job does not want to hear of it any more. */
void
job_abandon(Job *job)
{
	job->done = NULL;
}
